//! The array that a Gemini stream is where a client does not ask for events: `[{…},\r\n{…}\r\n]`, an element at a time.

/// Makes an array of elements, as Google writes it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ArrayWriter {
    begun: bool,
}

impl ArrayWriter {
    /// Appends an element with what stands before it.
    pub(crate) fn element(&mut self, element: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(if self.begun { b",\r\n" } else { b"[" });
        self.begun = true;
        out.extend_from_slice(element);
    }

    /// Appends the end.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.begun { b"\r\n]" } else { b"[]" });
        self.begun = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_one_whatever_its_length() {
        for count in 0..3 {
            let (mut writer, mut out) = (ArrayWriter::default(), Vec::new());
            (0..count).for_each(|_| writer.element(b"{\"a\":1}", &mut out));
            writer.end(&mut out);
            let array: Vec<serde_json::Value> = serde_json::from_slice(&out).unwrap();
            assert_eq!(array, vec![serde_json::json!({"a": 1}); count]);
        }
    }
}
