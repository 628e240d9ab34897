//! Pieces of JSON text.

use std::borrow::Cow;

use crate::dialect::{json_scan::Value, json_write::escape};

/// What stands between the quotes of a JSON string: text with its escapes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text<'a>(Cow<'a, str>);

impl<'a> Text<'a> {
    /// Text that is escaped already.
    pub(crate) fn escaped(inside: impl Into<Cow<'a, str>>) -> Self {
        Text(inside.into())
    }

    /// Text that is not escaped yet.
    pub(crate) fn plain(plain: &str) -> Text<'static> {
        let mut out = Vec::with_capacity(plain.len());
        escape(&mut out, plain);
        // Escaping puts ASCII in place of ASCII.
        Text(Cow::Owned(String::from_utf8(out).unwrap_or_default()))
    }

    /// The string that a value is; `None` if it is none, or not UTF-8.
    pub(crate) fn of(value: &Value<'a>) -> Option<Self> {
        let json = value.json();
        let inside = json.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        Some(Text(Cow::Borrowed(std::str::from_utf8(inside).ok()?)))
    }

    /// What it says; where an escape means nothing (half a surrogate pair), as it stands.
    pub(crate) fn decoded(&self) -> Cow<'_, str> {
        if memchr::memchr(b'\\', self.0.as_bytes()).is_none() {
            return Cow::Borrowed(&self.0);
        }
        let json = ["\"", &self.0, "\""].concat();
        serde_json::from_str::<String>(&json).map_or(Cow::Borrowed(&*self.0), Cow::Owned)
    }

    /// It as it stands between its quotes.
    pub(crate) fn as_escaped(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it says just that, which has no need of escapes.
    pub(crate) fn is(&self, plain: &str) -> bool {
        self.0 == plain
    }

    pub(crate) fn into_owned(self) -> Text<'static> {
        Text(Cow::Owned(self.0.into_owned()))
    }

    /// The same, for as long as this is there.
    pub(crate) fn borrowed(&self) -> Text<'_> {
        Text(Cow::Borrowed(&self.0))
    }

    /// Adds more behind it.
    pub(crate) fn push(&mut self, more: &Text<'_>) {
        self.0.to_mut().push_str(&more.0);
    }

    /// Writes it as a JSON string.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.0.len() + 2);
        out.push(b'"');
        out.extend_from_slice(self.0.as_bytes());
        out.push(b'"');
    }

    /// The value that the text spells, for JSON in a string (a call's arguments).
    pub(crate) fn as_json(&self) -> Raw<'_> {
        Raw(self.decoded())
    }
}

/// The JSON text of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raw<'a>(Cow<'a, str>);

impl<'a> Raw<'a> {
    /// That text, which must be JSON.
    pub(crate) fn new(json: impl Into<Cow<'a, str>>) -> Self {
        Raw(json.into())
    }

    /// The text of a value; `None` where it is not UTF-8.
    pub(crate) fn of(value: &Value<'a>) -> Option<Self> {
        std::str::from_utf8(value.json()).ok().map(|json| Raw(Cow::Borrowed(json)))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The value; `None` where it is no JSON after all.
    pub(crate) fn value(&self) -> Option<Value<'_>> {
        Value::whole(self.0.as_bytes()).ok()
    }

    /// Whether it is an object to its last byte. What was the text of a string (a call's arguments, which a model may have
    /// got wrong) is to be asked that before it stands where JSON must.
    pub(crate) fn is_object(&self) -> bool {
        self.0.trim_start().starts_with('{') && serde_json::from_str::<&serde_json::value::RawValue>(&self.0).is_ok()
    }

    pub(crate) fn into_owned(self) -> Raw<'static> {
        Raw(Cow::Owned(self.0.into_owned()))
    }

    /// It as the text of a string.
    pub(crate) fn quoted(&self) -> Text<'static> {
        Text::plain(&self.0)
    }

    /// Writes it in one line: in an event of a stream a line's end would be the end of its data, and in JSON it can only
    /// stand between tokens.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(self.0.as_bytes());
        if memchr::memchr2(b'\n', b'\r', &out[start..]).is_some() {
            out[start..].iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        }
    }
}

/// Members that only one dialect knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extras<'a> {
    members: Vec<(Text<'a>, Raw<'a>)>,
    /// How the dialect laid it out: an item's id, whether a text stood alone, what an answer repeats of its request. The
    /// same dialect writes it back; no other one loses anything by it, so it is never a loss.
    asides: Vec<(Text<'a>, Raw<'a>)>,
}

impl<'a> Extras<'a> {
    /// Keeps a member. `null` says nothing in any dialect, but it is kept: the same dialect gets it back.
    pub(crate) fn keep(&mut self, key: Cow<'a, str>, value: &Value<'a>) {
        let Some(value) = Raw::of(value) else { return };
        self.members.push((key_text(key), value));
    }

    /// Keeps a member that says nothing outside of its dialect.
    pub(crate) fn keep_aside(&mut self, key: Cow<'a, str>, value: &Value<'a>) {
        let Some(value) = Raw::of(value) else { return };
        self.asides.push((key_text(key), value));
    }

    /// Remembers something of the layout that is no member.
    pub(crate) fn mark(&mut self, name: &'static str) {
        self.asides.push((Text::escaped(name), Raw::new("true")));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Text<'a>, &Raw<'a>)> {
        self.members.iter().map(|(key, value)| (key, value))
    }

    /// What says nothing outside of its dialect, marks included.
    pub(crate) fn asides(&self) -> impl Iterator<Item = (&Text<'a>, &Raw<'a>)> {
        self.asides.iter().map(|(key, value)| (key, value))
    }

    /// What was kept aside by that name, or marked.
    pub(crate) fn aside(&self, name: &str) -> Option<&Raw<'a>> {
        self.asides.iter().rev().find(|(key, _)| key.is(name)).map(|(_, value)| value)
    }

    /// The last one of that name.
    pub(crate) fn get(&self, key: &str) -> Option<&Raw<'a>> {
        self.members.iter().rev().find(|(name, _)| name.is(key)).map(|(_, value)| value)
    }
}

fn key_text(key: Cow<'_, str>) -> Text<'_> {
    match key {
        Cow::Borrowed(key) if !key.contains(['"', '\\']) && !key.contains(char::is_control) => Text::escaped(key),
        key => Text::plain(&key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_stands_between_the_quotes() {
        let json = br#""a \"b\" \u00e9\n""#;
        let text = Text::of(&Value::whole(json).unwrap()).unwrap();
        assert_eq!(text.as_escaped(), r#"a \"b\" \u00e9\n"#);
        assert_eq!(text.decoded(), "a \"b\" é\n");
        assert_eq!(Text::plain("a \"b\" é\n").decoded(), "a \"b\" é\n");
        assert_eq!(Text::of(&Value::whole(b"7").unwrap()), None);
        assert_eq!(Text::escaped(r"\ud800").decoded(), r"\ud800");
    }

    #[test]
    fn arguments_are_json_in_a_string_and_out_of_it() {
        let text = Text::escaped(r#"{\"a\": \"\\n\"}"#);
        assert_eq!(text.as_json().as_str(), r#"{"a": "\n"}"#);
        assert_eq!(Raw::new(r#"{"a": "\n"}"#).quoted(), text);
    }

    #[test]
    fn json_is_written_in_one_line() {
        let mut out = Vec::new();
        Raw::new("{\n\t\"a\": [\r\n1]\n}").write(&mut out);
        assert_eq!(out, b"{ \t\"a\": [  1] }");
    }

    #[test]
    fn an_object_is_json_all_through() {
        for (text, is) in
            [("{}", true), (r#" {"a":[{"b":1}]}"#, true), ("{a: 1}", false), (r#"{"a":{b}}"#, false), ("[]", false)]
        {
            assert_eq!(Raw::new(text).is_object(), is, "{text}");
        }
    }

    #[test]
    fn extras_are_found_by_their_last_name() {
        let value = Value::whole(br#"{"a":1,"b\n":2,"a":3}"#).unwrap();
        let mut extras = Extras::default();
        value.members().for_each(|member| member.map(|(key, value)| extras.keep(key, &value)).unwrap());
        assert_eq!(extras.get("a").unwrap().as_str(), "3");
        assert_eq!(extras.iter().map(|(key, _)| key.decoded().into_owned()).collect::<Vec<_>>(), ["a", "b\n", "a"]);
        extras.keep_aside("id".into(), &Value::whole(b"7").unwrap());
        extras.mark(".bare");
        assert_eq!((extras.aside("id").unwrap().as_str(), extras.get("id")), ("7", None));
        assert!(extras.aside(".bare").is_some() && extras.iter().count() == 3 && extras.asides().count() == 2);
    }
}
