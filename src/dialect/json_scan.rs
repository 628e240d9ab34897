//! Finds things in JSON text without building anything from it.
//!
//! The gateway forwards what it was sent byte for byte, so it needs to know where a value stands, not what it
//! deserializes to. A scan visits each byte once, skips strings at `memchr`'s speed and allocates nothing. It checks
//! structure (brackets, strings, separators), not the spelling of numbers: whoever receives the text parses it anyway.
//!
//! There are two ways to go about it. A [`Value`] is a place, found before anybody looks into it: right for what is looked
//! at once in a while. A [`Cursor`] goes into containers as it comes to them, so that no byte is looked at twice however
//! deep they are nested: right for every event of a stream.

use std::{borrow::Cow, ops::Range};

use memchr::memchr2;

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

/// Reads a text from its beginning to its end. It stands before a value, and each of its methods reads that value.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
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

fn skip_whitespace(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// The end of the string whose opening quote is at `at`.
fn skip_string(text: &[u8], at: usize) -> Result<usize, Malformed> {
    string_end(text, at).map(|(end, _)| end)
}

/// The end of the string whose opening quote is at `at`, and whether there are escapes in it.
#[inline]
fn string_end(text: &[u8], at: usize) -> Result<(usize, bool), Malformed> {
    // Most strings are keys and words: setting out to find their end costs more than finding it, word by word.
    const WORDS: usize = 4;
    let (mut from, mut escaped) = (at + 1, false);
    for _ in 0..WORDS {
        let Some(word) = text.get(from..).and_then(<[u8]>::first_chunk) else { break };
        match first_marked(quotes_and_escapes(u64::from_le_bytes(*word))) {
            None => from += word.len(),
            Some(found) if word[found] == b'"' => return Ok((from + found + 1, escaped)),
            Some(found) => (from, escaped) = (from + found + 2, true),
        }
    }
    loop {
        let rest = text.get(from..).unwrap_or_default();
        match memchr2(b'"', b'\\', rest) {
            Some(found) if rest[found] == b'"' => return Ok((from + found + 1, escaped)),
            Some(found) => (from, escaped) = (from + found + 2, true),
            None => return Err(Malformed { at: text.len() }),
        }
    }
}

/// The end of the string whose opening quote is at `at`, if it is short, ASCII and has no escapes, as nearly all names are.
#[inline]
fn plain_string_end(text: &[u8], at: usize) -> Option<usize> {
    const WORDS: usize = 3;
    let words = text.get(at + 1..)?.chunks_exact(8).take(WORDS);
    for (place, word) in words.enumerate() {
        let word = u64::from_le_bytes(word.try_into().ok()?);
        if let Some(found) = first_marked(quotes_and_escapes(word) | (word & HIGH_BITS)) {
            let end = at + 1 + place * 8 + found;
            return (text[end] == b'"').then_some(end + 1);
        }
    }
    None
}

const ONES: u64 = u64::from_le_bytes([1; 8]);
const HIGH_BITS: u64 = ONES << 7;

/// Marks, by its high bit, the first of eight bytes that is a quote or a backslash; perhaps others behind it.
#[inline]
fn quotes_and_escapes(word: u64) -> u64 {
    // A byte's high bit is set where the byte is zero; below the first of them, that is exact.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH_BITS;
    zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')))
}

/// The place of the first of eight bytes that is marked by its high bit.
#[inline]
fn first_marked(marks: u64) -> Option<usize> {
    (marks != 0).then(|| marks.trailing_zeros() as usize / 8)
}

/// The end of the value that begins at `at`.
fn skip_value(text: &[u8], at: usize) -> Result<usize, Malformed> {
    match text.get(at) {
        Some(b'"') => skip_string(text, at),
        Some(b'{' | b'[') => skip_container(text, at),
        Some(b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
            let rest = &text[at..];
            Ok(at + rest.iter().position(|byte| !SCALAR[usize::from(*byte)]).unwrap_or(rest.len()))
        }
        _ => Err(Malformed { at: at.min(text.len()) }),
    }
}

fn skip_container(text: &[u8], mut at: usize) -> Result<usize, Malformed> {
    /// How deep brackets are held against each other; deeper ones are only counted.
    const CHECKED: u32 = u64::BITS;
    let (mut depth, mut deepest, mut objects) = (0_u32, 0, 0_u64);
    while let Some(found) = text[at..].iter().position(|byte| STRUCTURAL[usize::from(*byte)]) {
        at += found;
        match text[at] {
            b'"' => {
                at = skip_string(text, at)?;
                continue;
            }
            open @ (b'{' | b'[') => {
                depth = depth.checked_add(1).ok_or(Malformed { at })?;
                deepest = deepest.max(depth);
                objects = objects << 1 | u64::from(open == b'{');
            }
            close => {
                if deepest <= CHECKED && (objects & 1 == 1) != (close == b'}') {
                    return Err(Malformed { at });
                }
                depth -= 1; // the text begins with an opening bracket, and ends when all are closed
                objects >>= 1;
            }
        }
        at += 1;
        if depth == 0 {
            return Ok(at);
        }
    }
    Err(Malformed { at: text.len() })
}

/// The bytes by which containers and strings begin and end.
static STRUCTURAL: [bool; 256] = table(b"{}[]\"");

/// The bytes of numbers, `true`, `false` and `null`.
static SCALAR: [bool; 256] = table(b"0123456789+-.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

const fn table(bytes: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut index = 0;
    while index < bytes.len() {
        table[bytes[index] as usize] = true;
        index += 1;
    }
    table
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
    fn strings_of_every_length_and_escape_end_where_they_end() {
        for length in 0..80 {
            for escape in 0..length {
                let mut string = vec![b'x'; length];
                string[escape] = b'\\';
                let text = [b"\"", &string[..], b"\"\"}"].concat();
                let expected = if escape + 1 == length { length + 3 } else { length + 2 };
                assert_eq!(skip_string(&text, 0), Ok(expected), "{length}, {escape}");
                assert!(skip_string(&text[..length + 1], 0).is_err());
            }
        }
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
