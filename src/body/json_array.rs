//! Splits a JSON array that comes piece by piece into its elements, and makes one of elements.
//!
//! Gemini streams are one where a client does not ask for events: `[{…}\r\n,\r\n{…}\r\n]`, an element at a time. What comes
//! of this can be read as events can, each element being the data of one.

use bytes::{BufMut, Bytes, BytesMut};

use super::{MAX_EVENT, Oversized};

/// How deep brackets are held against each other; deeper ones are only counted.
const CHECKED: u32 = u64::BITS;

/// The bytes are no array of values: something else stands between, before or behind the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoArray;

/// Why an array cannot be split any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SplitError {
    NoArray(NoArray),
    Oversized(Oversized),
}

/// Cuts frames into whole elements and keeps the rest until the next frame.
#[derive(Debug)]
pub(crate) struct JsonArray {
    /// What was kept of an element that has begun; nothing else is.
    partial: BytesMut,
    place: Place,
    max_element: usize,
}

/// Where in the array the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before its bracket.
    Before,
    /// Where an element or, if there was none, the end is due.
    Start {
        first: bool,
    },
    Element(Element),
    /// Behind an element: a comma or the end.
    Between,
    Behind,
}

/// What is known of an element of which there are more bytes to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Element {
    depth: u32,
    /// Which of the open brackets are braces.
    braces: u64,
    in_string: bool,
    escaped: bool,
    /// Neither an object, an array nor a string: it ends where something else begins.
    bare: bool,
}

impl Default for JsonArray {
    fn default() -> Self {
        Self::with_max_element(MAX_EVENT)
    }
}

impl JsonArray {
    /// With elements of up to so many bytes: more than that is never kept.
    pub(crate) fn with_max_element(max_element: usize) -> Self {
        JsonArray { partial: BytesMut::new(), place: Place::Before, max_element }
    }

    /// Takes a frame; gives out each element that now is whole.
    pub(crate) fn push(&mut self, frame: &[u8], mut element: impl FnMut(Bytes)) -> Result<(), SplitError> {
        // White space and separators are not kept, so what is kept begins with the element.
        let mut rest = frame;
        while !rest.is_empty() {
            match self.place {
                Place::Element(state) => {
                    let (read, state, whole) = state.read(rest).map_err(SplitError::NoArray)?;
                    if self.partial.len() + read > self.max_element {
                        return Err(SplitError::Oversized(Oversized));
                    }
                    self.partial.put_slice(&rest[..read]);
                    rest = &rest[read..];
                    self.place = Place::Element(state);
                    if whole {
                        self.place = Place::Between;
                        element(self.partial.split().freeze());
                    }
                }
                _ => {
                    self.place = self.separator(rest[0]).map_err(SplitError::NoArray)?;
                    if !matches!(self.place, Place::Element(_)) {
                        rest = &rest[1..];
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the array's bracket is closed.
    pub(crate) fn is_whole(&self) -> bool {
        self.place == Place::Behind
    }

    /// Where a byte that is no element's leads; that of an element is not read by this.
    fn separator(&self, byte: u8) -> Result<Place, NoArray> {
        Ok(match (self.place, byte) {
            (place, b' ' | b'\t' | b'\r' | b'\n') => place,
            (Place::Before, b'[') => Place::Start { first: true },
            (Place::Between, b',') => Place::Start { first: false },
            (Place::Start { first: true } | Place::Between, b']') => Place::Behind,
            (Place::Start { .. }, b'{' | b'[' | b'"') => Place::Element(Element::default()),
            (Place::Start { .. }, b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                Place::Element(Element { bare: true, ..Element::default() })
            }
            _ => return Err(NoArray),
        })
    }
}

impl Element {
    /// Reads on; says how many bytes are the element's, and whether that is all of it.
    fn read(mut self, bytes: &[u8]) -> Result<(usize, Self, bool), NoArray> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if self.bare {
                if !byte.is_ascii_alphanumeric() && !matches!(byte, b'.' | b'+' | b'-') {
                    return Ok((at, self, true));
                }
            } else if self.escaped {
                self.escaped = false;
            } else if self.in_string {
                // Most bytes are text: on to the next that is not.
                match memchr::memchr2(b'"', b'\\', &bytes[at..]) {
                    None => return Ok((bytes.len(), self, false)),
                    Some(found) => at += found,
                }
                if bytes[at] == b'\\' {
                    self.escaped = true;
                } else {
                    self.in_string = false;
                    if self.depth == 0 {
                        return Ok((at + 1, self, true));
                    }
                }
            } else {
                match byte {
                    b'"' => self.in_string = true,
                    open @ (b'{' | b'[') => {
                        self.depth = self.depth.checked_add(1).ok_or(NoArray)?;
                        if self.depth <= CHECKED {
                            self.braces = self.braces << 1 | u64::from(*open == b'{');
                        }
                    }
                    close @ (b'}' | b']') => {
                        if self.depth <= CHECKED {
                            if (self.braces & 1 == 1) != (*close == b'}') {
                                return Err(NoArray);
                            }
                            self.braces >>= 1;
                        }
                        // Elements that are no string or word begin with a bracket.
                        self.depth -= 1;
                        if self.depth == 0 {
                            return Ok((at + 1, self, true));
                        }
                    }
                    _ => {}
                }
            }
            at += 1;
        }
        Ok((at, self, false))
    }
}

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

    fn split<'a>(frames: impl IntoIterator<Item = &'a [u8]>) -> Result<(Vec<String>, bool), SplitError> {
        let (mut array, mut elements) = (JsonArray::default(), Vec::new());
        for frame in frames {
            array.push(frame, |element| elements.push(String::from_utf8(element.to_vec()).unwrap()))?;
        }
        Ok((elements, array.is_whole()))
    }

    const ARRAY: &str =
        "\r\n[{\"a\": \"]},\\\"é\\\\\",\"b\":[1,{}]}\r\n,\r\n{ }, \"text\\\"]\" ,-1.5e3,null,[[\"}\"],{}],true\r\n]\n";
    const ELEMENTS: [&str; 7] =
        ["{\"a\": \"]},\\\"é\\\\\",\"b\":[1,{}]}", "{ }", "\"text\\\"]\"", "-1.5e3", "null", "[[\"}\"],{}]", "true"];

    #[test]
    fn cut_anywhere_the_elements_are_the_same() {
        let bytes = ARRAY.as_bytes();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let (elements, whole) = split([&bytes[..first], &bytes[first..second], &bytes[second..]]).unwrap();
                assert_eq!((elements, whole), (ELEMENTS.map(str::to_owned).to_vec(), true), "{first} and {second}");
            }
        }
        let single: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(split(single).unwrap().0, ELEMENTS);
    }

    #[test]
    fn an_element_comes_as_soon_as_it_is_whole_and_only_the_bracket_ends_the_array() {
        for (text, elements, whole) in [
            ("", 0, false),
            ("[", 0, false),
            ("[]", 0, true),
            ("[{}", 1, false),
            ("[{},", 1, false),
            ("[{},{", 1, false),
            ("[1", 0, false),
        ] {
            let (found, is_whole) = split([text.as_bytes()]).unwrap();
            assert_eq!((found.len(), is_whole), (elements, whole), "{text}");
        }
    }

    #[test]
    fn what_is_no_array_is_told() {
        for text in ["{", "<html>", "x", "[,", "[{}{}", "[{},]", "[}", "[{]", "[{\"a\":[}", "[] x", "[]]", "data: {}"] {
            assert_eq!(split([text.as_bytes()]), Err(SplitError::NoArray(NoArray)), "{text}");
        }
        let deep = ["[".repeat(1000), "]".repeat(1000)].concat();
        assert_eq!(split([deep.as_bytes()]).unwrap(), (vec![deep[1..1999].to_owned()], true));
    }

    #[test]
    fn an_element_without_end_is_oversized() {
        let mut array = JsonArray::with_max_element(1000);
        let mut push = |bytes: &[u8]| array.push(bytes, |_| {});
        assert_eq!(push(b"[\""), Ok(()));
        assert_eq!(push(&[b'x'; 999]), Ok(()));
        assert_eq!(push(b"x"), Err(SplitError::Oversized(Oversized)));
        // Space between elements is nothing that is kept.
        let mut array = JsonArray::with_max_element(10);
        assert_eq!(array.push(&[b"[".as_slice(), &[b' '; 5000], b"{}"].concat(), |_| {}), Ok(()));
    }

    #[test]
    fn what_is_written_is_split_again() {
        for count in 0..3 {
            let (mut writer, mut out) = (ArrayWriter::default(), Vec::new());
            ELEMENTS[..count].iter().for_each(|element| writer.element(element.as_bytes(), &mut out));
            writer.end(&mut out);
            assert_eq!(split([&*out]).unwrap(), (ELEMENTS[..count].iter().map(|e| e.to_string()).collect(), true));
        }
    }
}
