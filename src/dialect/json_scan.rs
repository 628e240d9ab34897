//! Finds things in JSON text without building anything from it.
//!
//! The gateway forwards what it was sent byte for byte, so it needs to know where a value stands, not what it
//! deserializes to. A scan visits each byte once, skips strings at `memchr`'s speed and allocates nothing. It checks
//! structure (brackets, strings, separators), not the spelling of numbers: whoever receives the text parses it anyway.
//!
//! There are two ways to go about it. A [`Value`] is a place, found before anybody looks into it: right for what is looked
//! at once in a while. A [`Cursor`] goes into containers as it comes to them, so that no byte is looked at twice however
//! deep they are nested: right for every event of a stream.

mod cursor;
mod skip;

use std::{borrow::Cow, ops::Range};

pub(crate) use self::cursor::Cursor;
use self::skip::{skip_value, skip_whitespace, string_end};

/// The text is not the JSON that it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// The byte at which that shows; the text's length where it ends too early.
    pub(crate) at: usize,
}

/// A value in a text, by its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value<'a> {
    text: &'a [u8],
    range: Range<usize>,
}

impl<'a> Value<'a> {
    /// The single value that a text holds, whole and with nothing but white space around it.
    pub(crate) fn whole(text: &'a [u8]) -> Result<Self, Malformed> {
        let start = skip_whitespace(text, 0);
        let end = skip_value(text, start)?;
        match skip_whitespace(text, end) {
            rest if rest == text.len() => Ok(Value { text, range: start..end }),
            rest => Err(Malformed { at: rest }),
        }
    }

    /// Where it stands.
    pub(crate) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Its text.
    pub(crate) fn json(&self) -> &'a [u8] {
        &self.text[self.range.clone()]
    }

    pub(crate) fn is_string(&self) -> bool {
        self.json().first() == Some(&b'"')
    }

    pub(crate) fn is_object(&self) -> bool {
        self.json().first() == Some(&b'{')
    }

    pub(crate) fn is_null(&self) -> bool {
        self.json() == b"null"
    }

    pub(crate) fn is_true(&self) -> bool {
        self.json() == b"true"
    }

    /// Its value, if it is a string of valid UTF-8 and escapes.
    pub(crate) fn as_str(&self) -> Option<Cow<'a, str>> {
        unquote(self.json())
    }

    /// Its value, if it is a whole number that is not negative.
    pub(crate) fn as_u64(&self) -> Option<u64> {
        self.json().iter().try_fold(0_u64, |number, byte| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            number.checked_mul(10)?.checked_add(digit)
        })
    }

    /// A cursor before it, to go into it.
    pub(crate) fn cursor(&self) -> Cursor<'a> {
        Cursor { text: self.text, at: self.range.start }
    }

    /// The members of an object; none if it is something else.
    pub(crate) fn members(&self) -> Members<'a> {
        Members(Items::new(self, b'{', b'}'))
    }

    /// The elements of an array; none if it is something else.
    pub(crate) fn elements(&self) -> Elements<'a> {
        Elements(Items::new(self, b'[', b']'))
    }

    /// The last member of that name, as most parsers take it.
    pub(crate) fn member(&self, key: &str) -> Option<Value<'a>> {
        self.members().filter_map(Result::ok).filter(|(name, _)| name == key).map(|(_, value)| value).last()
    }
}

/// The members of the object that a text holds, in one pass: it must be whole, with nothing but white space around it, for
/// the last of them not to be an error.
pub(crate) fn root_members(text: &[u8]) -> Result<Members<'_>, Malformed> {
    let start = skip_whitespace(text, 0);
    if text.get(start) != Some(&b'{') {
        return Err(Malformed { at: start });
    }
    Ok(Members(Items { text, at: start + 1, close: b'}', first: true, done: false, root: true }))
}

/// Iterates over what stands between the brackets of a container.
struct Items<'a> {
    text: &'a [u8],
    at: usize,
    close: u8,
    first: bool,
    done: bool,
    /// Whether nothing may follow the container.
    root: bool,
}

impl<'a> Items<'a> {
    fn new(value: &Value<'a>, open: u8, close: u8) -> Self {
        let done = value.json().first() != Some(&open);
        Items { text: value.text, at: value.range.start + 1, close, first: true, done, root: false }
    }

    /// Goes to where the next item begins; `None` behind the last one.
    fn advance(&mut self) -> Option<Result<(), Malformed>> {
        if self.done {
            return None;
        }
        self.at = skip_whitespace(self.text, self.at);
        match self.text.get(self.at) {
            Some(byte) if *byte == self.close => {
                self.done = true;
                let rest = skip_whitespace(self.text, self.at + 1);
                return (self.root && rest < self.text.len()).then_some(Err(Malformed { at: rest }));
            }
            Some(b',') if !self.first => self.at = skip_whitespace(self.text, self.at + 1),
            Some(_) if self.first => {}
            _ => return Some(self.fail(self.at)),
        }
        self.first = false;
        Some(Ok(()))
    }

    fn value(&mut self) -> Result<Value<'a>, Malformed> {
        let start = self.at;
        match skip_value(self.text, start) {
            Ok(end) => {
                self.at = end;
                Ok(Value { text: self.text, range: start..end })
            }
            Err(malformed) => self.fail(malformed.at),
        }
    }

    fn fail<T>(&mut self, at: usize) -> Result<T, Malformed> {
        self.done = true;
        Err(Malformed { at })
    }
}

/// The members of an object, as key and value.
pub(crate) struct Members<'a>(Items<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = Result<(Cow<'a, str>, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.0.advance()? {
            Ok(()) => Some(self.member()),
            Err(malformed) => Some(Err(malformed)),
        }
    }
}

impl<'a> Members<'a> {
    fn member(&mut self) -> Result<(Cow<'a, str>, Value<'a>), Malformed> {
        let items = &mut self.0;
        let key_at = items.at;
        let key = match items.text.get(key_at) {
            Some(b'"') => match string_end(items.text, key_at) {
                Ok((end, escaped)) => {
                    items.at = end;
                    let json = &items.text[key_at..end];
                    if escaped { unquote(json) } else { name(&json[1..json.len() - 1]) }
                }
                Err(malformed) => return items.fail(malformed.at),
            },
            // No key, but perhaps not even a value.
            _ => items.value().map(|_| None)?,
        };
        let Some(key) = key else { return items.fail(key_at) };
        items.at = skip_whitespace(items.text, items.at);
        if items.text.get(items.at) != Some(&b':') {
            return items.fail(items.at);
        }
        items.at = skip_whitespace(items.text, items.at + 1);
        Ok((key, items.value()?))
    }
}

/// The elements of an array.
pub(crate) struct Elements<'a>(Items<'a>);

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Value<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.0.advance()? {
            Ok(()) => Some(self.0.value()),
            Err(malformed) => Some(Err(malformed)),
        }
    }
}

/// A key without escapes. Those that stand in every answer, and in every event of a stream, are known by sight: to make
/// sure that a text is UTF-8 takes longer.
fn name(text: &[u8]) -> Option<Cow<'_, str>> {
    let known = match text {
        b"id" => "id",
        b"object" => "object",
        b"created" => "created",
        b"model" => "model",
        b"choices" => "choices",
        b"index" => "index",
        b"delta" => "delta",
        b"message" => "message",
        b"messages" => "messages",
        b"role" => "role",
        b"content" => "content",
        b"logprobs" => "logprobs",
        b"finish_reason" => "finish_reason",
        b"usage" => "usage",
        b"service_tier" => "service_tier",
        b"system_fingerprint" => "system_fingerprint",
        b"stream" => "stream",
        _ => std::str::from_utf8(text).ok()?,
    };
    Some(Cow::Borrowed(known))
}

/// What a JSON string says.
pub(crate) fn unquote(json: &[u8]) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', inner).is_none() {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    serde_json::from_slice::<String>(json).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> Vec<(String, String)> {
        let value = Value::whole(text.as_bytes()).unwrap();
        value
            .members()
            .map(|member| member.unwrap())
            .map(|(key, value)| (key.into_owned(), String::from_utf8(value.json().to_vec()).unwrap()))
            .collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn members_are_found_wherever_they_stand() {
        assert_eq!(
            members(" { \"a\" : 1.50 ,\n\"b\":{\"a\":[\"}\",\"\\\"\"]}, \"c\":\"x\\\\\",\"d\":null}\t"),
            pairs(&[("a", "1.50"), ("b", r#"{"a":["}","\""]}"#), ("c", r#""x\\""#), ("d", "null")])
        );
        assert_eq!(members("{}"), []);
        assert_eq!(members("[1]"), []);
    }

    #[test]
    fn escaped_keys_are_the_keys_that_they_spell() {
        assert_eq!(members(r#"{"mod\u0065l":"x"}"#), pairs(&[("model", "\"x\"")]));
    }

    #[test]
    fn whole_numbers_are_told_from_everything_else() {
        let most = u64::MAX.to_string();
        for (text, number) in [("0", Some(0)), ("1760000000", Some(1_760_000_000)), (&*most, Some(u64::MAX))] {
            assert_eq!(Value::whole(text.as_bytes()).unwrap().as_u64(), number);
        }
        for text in [&*format!("{most}0"), "18446744073709551616", "-1", "1.0", "1e3", "null", "\"1\"", "[]"] {
            assert_eq!(Value::whole(text.as_bytes()).unwrap().as_u64(), None, "{text}");
        }
    }

    #[test]
    fn elements_and_the_last_of_repeated_members() {
        let value = Value::whole(br#"{"a":1,"a":[true, "x"]}"#).unwrap();
        let elements: Vec<_> = value.member("a").unwrap().elements().map(|element| element.unwrap()).collect();
        assert!(elements[0].is_true());
        assert_eq!(elements[1].as_str().unwrap(), "x");
        assert_eq!(value.member("b"), None);
    }

    /// How many members the object has that the text holds.
    fn read_root(text: &[u8]) -> Result<usize, Malformed> {
        let found = root_members(text)?.try_fold(0, |count, member| member.map(|_| count + 1));
        let mut count = 0;
        let by_cursor = Cursor::read_object(text, |_, _| {
            count += 1;
            Ok(())
        });
        assert_eq!(by_cursor.map(|()| count), found, "both ways to read it agree");
        found
    }

    #[test]
    fn every_proper_beginning_of_an_object_is_malformed() {
        let text = br#"{"choices":[{"message":{"content":"a \"quoted\" } word","x":[1,2]}}],"n":null}"#;
        assert!(Value::whole(text).is_ok());
        for end in 0..text.len() {
            assert!(Value::whole(&text[..end]).is_err(), "{end}");
            assert!(read_root(&text[..end]).is_err(), "{end}");
        }
        assert_eq!(read_root(text), Ok(2));
        assert_eq!(read_root(b" {} \n"), Ok(0));
        for wrong in ["", "[]", "{]", "{} {}", "{\"a\":1}x", "{\"a\":1,}", "{,}"] {
            assert!(read_root(wrong.as_bytes()).is_err(), "{wrong}");
        }
        for crossed in ["[}", "{]", "[[]}", "{\"a\":[}}"] {
            assert!(Value::whole(crossed.as_bytes()).is_err(), "{crossed}");
        }
        let deep = ["[".repeat(100_000), "]".repeat(100_000)].concat();
        assert!(Value::whole(deep.as_bytes()).is_ok());
        assert!(Value::whole(b"<html></html>").is_err());
        assert!(Value::whole(b"{} {}").is_err());
    }

    #[test]
    fn wrong_separators_show_where_they_stand() {
        for (text, at) in [("{\"a\" 1}", 5), ("{\"a\":1 \"b\":2}", 7), ("{a:1}", 1), ("{\"a\":}", 5)] {
            let value = Value::whole(text.as_bytes()).unwrap();
            let wrong = value.members().find_map(Result::err).unwrap();
            assert_eq!(wrong.at, at, "{text}");
        }
    }
}
