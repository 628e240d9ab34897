//! A text read from its beginning to its end, into every container as it comes.

use std::borrow::Cow;

use super::{
    Malformed, Value,
    skip::{plain_string_end, skip_string, skip_value, skip_whitespace},
    unquote,
};

/// Reads a text from its beginning to its end. It stands before a value, and each of its methods reads that value.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    pub(super) text: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    /// Reads the object that a text holds: it must be whole, with nothing but white space around it. As in
    /// [`members`](Self::members).
    pub(crate) fn read_object(
        text: &'a [u8],
        member: impl FnMut(&[u8], &mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let start = skip_whitespace(text, 0);
        if text.get(start) != Some(&b'{') {
            return Err(Malformed { at: start });
        }
        let mut cursor = Cursor { text, at: start };
        cursor.members(member)?;
        match skip_whitespace(text, cursor.at) {
            rest if rest == text.len() => Ok(()),
            rest => Err(Malformed { at: rest }),
        }
    }

    /// Reads an object: `member` is told the name of each member, with the cursor before its value, which is skipped if it
    /// is not read. A value that is no object has none.
    pub(crate) fn members(
        &mut self,
        mut member: impl FnMut(&[u8], &mut Self) -> Result<(), Malformed>,
    ) -> Result<Value<'a>, Malformed> {
        self.items(b'{', b'}', |cursor| {
            let name = cursor.name()?;
            cursor.at = skip_whitespace(cursor.text, cursor.at);
            if cursor.text.get(cursor.at) != Some(&b':') {
                return Err(Malformed { at: cursor.at });
            }
            cursor.at = skip_whitespace(cursor.text, cursor.at + 1);
            cursor.item(|cursor| member(&name, cursor))
        })
    }

    /// Reads an array: `element` is called with the cursor before each element, which is skipped if it is not read. A value
    /// that is no array has none.
    pub(crate) fn elements(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<Value<'a>, Malformed> {
        self.items(b'[', b']', |cursor| cursor.item(&mut element))
    }

    /// Reads any value, without going into it.
    pub(crate) fn value(&mut self) -> Result<Value<'a>, Malformed> {
        let start = self.at;
        self.at = skip_value(self.text, start)?;
        Ok(Value { text: self.text, range: start..self.at })
    }

    fn items(
        &mut self,
        open: u8,
        close: u8,
        mut item: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<Value<'a>, Malformed> {
        let (text, start) = (self.text, self.at);
        if text.get(start) != Some(&open) {
            return self.value();
        }
        self.at = skip_whitespace(text, start + 1);
        let mut is_over = text.get(self.at) == Some(&close);
        while !is_over {
            item(self)?;
            self.at = skip_whitespace(text, self.at);
            match text.get(self.at) {
                Some(b',') => self.at = skip_whitespace(text, self.at + 1),
                Some(byte) if *byte == close => is_over = true,
                _ => return Err(Malformed { at: self.at }),
            }
        }
        self.at += 1;
        Ok(Value { text, range: start..self.at })
    }

    fn item(&mut self, mut read: impl FnMut(&mut Self) -> Result<(), Malformed>) -> Result<(), Malformed> {
        let start = self.at;
        read(self)?;
        if self.at == start {
            self.at = skip_value(self.text, start)?;
        }
        Ok(())
    }

    fn name(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        let start = self.at;
        if self.text.get(start) != Some(&b'"') {
            return Err(Malformed { at: start });
        }
        if let Some(end) = plain_string_end(self.text, start) {
            self.at = end;
            return Ok(Cow::Borrowed(&self.text[start + 1..end - 1]));
        }
        self.at = skip_string(self.text, start)?;
        match unquote(&self.text[start..self.at]) {
            Some(Cow::Borrowed(name)) => Ok(Cow::Borrowed(name.as_bytes())),
            Some(Cow::Owned(name)) => Ok(Cow::Owned(name.into_bytes())),
            None => Err(Malformed { at: start }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goes into everything.
    fn visit(cursor: &mut Cursor<'_>, found: &mut Vec<String>) -> Result<(), Malformed> {
        let value = match cursor.text.get(cursor.at) {
            Some(b'[') => cursor.elements(|element| visit(element, found))?,
            _ => cursor.members(|name, value| {
                found.push(String::from_utf8(name.to_vec()).unwrap());
                visit(value, found)
            })?,
        };
        found.push(String::from_utf8(value.json().to_vec()).unwrap());
        Ok(())
    }

    fn visited(text: &[u8]) -> Result<Vec<String>, Malformed> {
        let mut found = Vec::new();
        Cursor::read_object(text, |name, value| {
            found.push(String::from_utf8(name.to_vec()).unwrap());
            visit(value, &mut found)
        })
        .map(|()| found)
    }

    #[test]
    fn a_cursor_comes_by_every_name_and_value_once() {
        let text = " { \"a\" : 1.50 ,\n\"b\":{\"\u{e9}\":[\"}\", [ ], true ]}, \"c\\u0064\":null}\t";
        let inner = ["\"}\"", "[ ]", "true", "[\"}\", [ ], true ]"];
        let expected = [&["a", "1.50", "b", "\u{e9}"][..], &inner, &["{\"\u{e9}\":[\"}\", [ ], true ]}", "cd", "null"]];
        assert_eq!(visited(text.as_bytes()).unwrap(), expected.concat());
    }

    #[test]
    fn what_a_cursor_does_not_read_is_skipped_and_what_is_no_container_is_empty() {
        let mut names = Vec::new();
        let read = Cursor::read_object(br#"{"a":[{"x":1}],"b":{"x":2},"c":3}"#, |name, value| {
            names.push(name.to_vec());
            match name {
                b"a" => _ = value.members(|_, _| unreachable!())?,
                b"b" => {}
                _ => assert_eq!(value.elements(|_| unreachable!())?.as_u64(), Some(3)),
            }
            Ok(())
        });
        assert_eq!((read, names), (Ok(()), vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]));
    }

    #[test]
    fn a_cursor_stops_where_it_is_malformed_however_deep() {
        for (text, at) in [
            ("[]", 0),
            ("{\"a\" 1}", 5),
            ("{\"a\":1 \"b\":2}", 7),
            ("{a:1}", 1),
            ("{\"a\":}", 5),
            ("{\"a\":1,}", 7),
            ("{,}", 1),
            ("{\"a\":[1,]}", 8),
            ("{\"a\":[{\"b\" 1}]}", 11),
            ("{\"a\":[}]}", 6),
            ("{\"a\":[1}", 7),
            ("{\"a\":{\"b\":[]]}", 12),
            ("{} {}", 3),
            ("{\"a\":1}x", 7),
        ] {
            assert_eq!(visited(text.as_bytes()), Err(Malformed { at }), "{text}");
        }
        assert_eq!(visited(b"{\"a\":{\"\xff\":1}}"), Err(Malformed { at: 6 }), "a name that is no UTF-8");
        let text = br#"{"choices":[{"delta":{"content":"a \"quoted\" } word","x":[1,2]}}],"n":null}"#;
        assert!(visited(text).is_ok());
        for end in 0..text.len() {
            assert!(visited(&text[..end]).is_err(), "{end}");
        }
    }
}
