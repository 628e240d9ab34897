//! Writes JSON text straight into a buffer.
//!
//! What is translated is mostly text that stays as it is, escapes included, so it is copied from the one JSON text into the
//! other and never decoded: see [`Text`].

use super::canonical::{Raw, Text};

/// An object that is being written.
pub(crate) struct Object<'o>(&'o mut Vec<u8>);

/// An array that is being written.
pub(crate) struct Array<'o>(&'o mut Vec<u8>);

/// Writes an object.
pub(crate) fn object(out: &mut Vec<u8>, members: impl FnOnce(&mut Object<'_>)) {
    out.push(b'{');
    members(&mut Object(out));
    out.push(b'}');
}

/// Writes an array.
pub(crate) fn array(out: &mut Vec<u8>, elements: impl FnOnce(&mut Array<'_>)) {
    out.push(b'[');
    elements(&mut Array(out));
    out.push(b']');
}

/// Writes text as a JSON string.
pub(crate) fn string(out: &mut Vec<u8>, plain: &str) {
    out.push(b'"');
    escape(out, plain);
    out.push(b'"');
}

/// Writes what stands between the quotes of a JSON string.
pub(crate) fn escape(out: &mut Vec<u8>, plain: &str) {
    let bytes = plain.as_bytes();
    let mut copied = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if !matches!(byte, b'"' | b'\\' | 0..=0x1f) {
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        copied = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(other >> 4)], HEX[usize::from(other & 15)]]);
            }
        }
    }
    out.extend_from_slice(&bytes[copied..]);
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8; // less than ten
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn separate(out: &mut Vec<u8>) {
    // Between brackets, so there is a last byte; whatever ends in an opening one inside a string ends in its quote.
    if !matches!(out.last(), Some(b'{' | b'[') | None) {
        out.push(b',');
    }
}

impl Object<'_> {
    fn key(&mut self, key: &str) -> &mut Vec<u8> {
        separate(self.0);
        string(self.0, key);
        self.0.push(b':');
        self.0
    }

    /// A member whose key stands as it is in another JSON text.
    fn key_text(&mut self, key: &Text<'_>) -> &mut Vec<u8> {
        separate(self.0);
        key.write(self.0);
        self.0.push(b':');
        self.0
    }

    pub(crate) fn string(&mut self, key: &str, plain: &str) {
        string(self.key(key), plain);
    }

    pub(crate) fn text(&mut self, key: &str, text: &Text<'_>) {
        text.write(self.key(key));
    }

    /// Nothing where there is none.
    pub(crate) fn maybe_text(&mut self, key: &str, text: Option<&Text<'_>>) {
        text.into_iter().for_each(|text| self.text(key, text));
    }

    pub(crate) fn raw(&mut self, key: &str, json: &Raw<'_>) {
        json.write(self.key(key));
    }

    /// Nothing where there is none.
    pub(crate) fn maybe_raw(&mut self, key: &str, json: Option<&Raw<'_>>) {
        json.into_iter().for_each(|json| self.raw(key, json));
    }

    /// JSON text of our own.
    pub(crate) fn literal(&mut self, key: &str, json: &str) {
        self.key(key).extend_from_slice(json.as_bytes());
    }

    pub(crate) fn number(&mut self, key: &str, value: u64) {
        number(self.key(key), value);
    }

    pub(crate) fn bool(&mut self, key: &str, value: bool) {
        self.literal(key, if value { "true" } else { "false" });
    }

    pub(crate) fn null(&mut self, key: &str) {
        self.literal(key, "null");
    }

    pub(crate) fn object(&mut self, key: &str, members: impl FnOnce(&mut Object<'_>)) {
        object(self.key(key), members);
    }

    pub(crate) fn array(&mut self, key: &str, elements: impl FnOnce(&mut Array<'_>)) {
        array(self.key(key), elements);
    }

    /// A value that something else writes.
    pub(crate) fn value(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        write(self.key(key));
    }

    /// The members that a dialect keeps for itself.
    pub(crate) fn extras(&mut self, extras: &super::canonical::Extras<'_>) {
        for (key, value) in extras.iter() {
            value.write(self.key_text(key));
        }
    }
}

impl Array<'_> {
    fn next(&mut self) -> &mut Vec<u8> {
        separate(self.0);
        self.0
    }

    pub(crate) fn text(&mut self, text: &Text<'_>) {
        text.write(self.next());
    }

    pub(crate) fn raw(&mut self, json: &Raw<'_>) {
        json.write(self.next());
    }

    pub(crate) fn object(&mut self, members: impl FnOnce(&mut Object<'_>)) {
        object(self.next(), members);
    }

    /// An element that something else writes.
    pub(crate) fn value(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(self.next());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_the_json_that_was_meant() {
        let mut out = Vec::new();
        object(&mut out, |object| {
            object.string("plain", "a\"\\\n\u{1}\u{7f}é{");
            object.text("copied", &Text::escaped("x\\u00e9\\n"));
            object.maybe_text("absent", None);
            object.number("most", u64::MAX);
            object.number("zero", 0);
            object.bool("yes", true);
            object.array("list", |list| {
                list.object(|_| {});
                list.text(&Text::escaped("["));
                list.raw(&Raw::new("1.50"));
            });
            object.null("nothing");
        });
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "{\"plain\":\"a\\\"\\\\\\n\\u0001\u{7f}é{\",\"copied\":\"x\\u00e9\\n\",\"most\":18446744073709551615,\
             \"zero\":0,\"yes\":true,\"list\":[{},\"[\",1.50],\"nothing\":null}"
        );
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["copied"], "xé\n");
    }
}
