//! JSON as bytes that are the same for texts which say the same.

use crate::dialect::json_scan::{Cursor, Malformed, unquote};

/// Deeper than any real request, and little enough for the stack.
const MAX_DEPTH: usize = 96;

/// Appends the object that the text holds, without the members at its top that are to be ignored.
///
/// Members stand in the order of their names, strings without escapes, everything with its kind and length before it, so
/// that no two values look alike. Of members with one name all are told, in their order, for parsers differ in which one
/// they take. Numbers are told as they are written: at worst that is another answer for `1.0` than for `1`.
pub(super) fn write(text: &[u8], is_ignored: impl Fn(&str) -> bool, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut members = Members::begin(out);
    Cursor::read_object(text, |name, cursor| {
        if std::str::from_utf8(name).is_ok_and(&is_ignored) {
            return Ok(());
        }
        members.add(name, cursor, MAX_DEPTH, out)
    })?;
    members.end(out);
    Ok(())
}

/// The members of an object, by the places where they were written.
struct Members {
    start: usize,
    written: Vec<(Vec<u8>, usize)>,
}

impl Members {
    fn begin(out: &mut Vec<u8>) -> Self {
        out.push(b'{');
        Members { start: out.len(), written: Vec::new() }
    }

    fn add(&mut self, name: &[u8], cursor: &mut Cursor<'_>, depth: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        self.written.push((name.to_vec(), out.len()));
        token(b'k', name, out);
        value(cursor, depth, out)
    }

    fn end(self, out: &mut Vec<u8>) {
        let Members { start, written } = self;
        if !written.is_sorted_by(|one, other| one.0 <= other.0) {
            let before = out.split_off(start);
            let ends = written.iter().skip(1).map(|(_, begin)| *begin).chain([start + before.len()]);
            let mut places: Vec<_> =
                written.iter().zip(ends).map(|((name, begin), end)| (name, begin - start..end - start)).collect();
            places.sort_by(|one, other| one.0.cmp(other.0));
            places.into_iter().for_each(|(_, place)| out.extend_from_slice(&before[place]));
        }
        out.push(b'}');
    }
}

fn value(cursor: &mut Cursor<'_>, depth: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let Some(deeper) = depth.checked_sub(1) else { return Err(Malformed { at: 0 }) };
    let before = out.len();
    let mut members = Members::begin(out);
    let read = cursor.members(|name, cursor| members.add(name, cursor, deeper, out))?;
    if read.is_object() {
        members.end(out);
        return Ok(());
    }
    out.truncate(before);
    let json = read.json();
    match json.first() {
        Some(b'[') => {
            out.push(b'[');
            read.cursor().elements(|cursor| value(cursor, deeper, out))?;
            out.push(b']');
        }
        Some(b'"') => match unquote(json) {
            Some(text) => token(b's', text.as_bytes(), out),
            None => token(b'r', json, out),
        },
        _ => token(b'n', json, out),
    }
    Ok(())
}

fn token(kind: u8, text: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        write(text.as_bytes(), |name| name == "user", &mut out).ok().map(|()| out)
    }

    #[test]
    fn order_white_space_and_escapes_do_not_matter() {
        let plain = canonical(r#"{"a":[1,{"c":"é","d":null}],"b":true}"#).unwrap();
        for same in [
            " { \"b\" : true,\n\"a\": [ 1, {\"d\":null ,\"c\":\"\\u00e9\"} ] } ",
            r#"{"user":"x","b":true,"a":[1,{"d":null,"c":"é"}]}"#,
            r#"{"\u0062":true,"a":[1,{"c":"é","d":null}]}"#,
        ] {
            assert_eq!(canonical(same).as_ref(), Some(&plain), "{same}");
        }
    }

    #[test]
    fn whatever_says_something_else_is_another_text() {
        let texts = [
            r#"{}"#,
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":[1]}"#,
            r#"{"a":[[1]]}"#,
            r#"{"a":[1,1]}"#,
            r#"{"a":{"user":1}}"#,
            r#"{"a":{}}"#,
            r#"{"a":null}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":2,"a":1}"#,
            r#"{"a":1,"b":2}"#,
            r#"{"a":2,"b":1}"#,
            r#"{"ab":1}"#,
            r#"{"a":"b"}"#,
            r#"{"a":["b","c"]}"#,
            r#"{"a":["c","b"]}"#,
            r#"{"a":"\ud800"}"#,
        ];
        let written: std::collections::HashSet<_> = texts.iter().map(|text| canonical(text).unwrap()).collect();
        assert_eq!(written.len(), texts.len());
    }

    #[test]
    fn what_is_malformed_or_too_deep_is_none() {
        for text in ["", "[]", "{", r#"{"a":}"#, "{} {}"] {
            assert_eq!(canonical(text), None, "{text}");
        }
        let deep = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(canonical(&deep(MAX_DEPTH - 1)).is_some());
        assert_eq!(canonical(&deep(100_000)), None);
    }
}
