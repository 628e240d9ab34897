//! What a message says of its tokens.

use crate::{
    Usage,
    dialect::{
        json_scan::{Cursor, Malformed, Value},
        json_write::Object,
    },
    usage::Written,
};

/// The counts of a `usage`, or of several: in a stream the beginning tells some and the end others, and what is told twice
/// is meant to replace, not to add.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Neither from the cache nor into it.
    input: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    output: Option<u64>,
    thinking: Option<u64>,
}

impl Counts {
    /// Takes in what a `usage` says. What is no number says nothing.
    pub(super) fn read(&mut self, usage: &mut Cursor<'_>) -> Result<(), Malformed> {
        _ = usage.members(|name, value| {
            let count = match name {
                b"input_tokens" => &mut self.input,
                b"cache_read_input_tokens" => &mut self.cache_read,
                b"cache_creation_input_tokens" => &mut self.cache_write,
                b"output_tokens" => &mut self.output,
                b"output_tokens_details" => {
                    let thinking = &mut self.thinking;
                    _ = value.members(|name, value| {
                        if name == b"thinking_tokens" {
                            *thinking = value.value()?.as_u64().or(*thinking);
                        }
                        Ok(())
                    })?;
                    return Ok(());
                }
                _ => return Ok(()),
            };
            *count = value.value()?.as_u64().or(*count);
            Ok(())
        })?;
        Ok(())
    }

    /// What they come to, if they count anything.
    pub(super) fn usage(&self) -> Option<Usage> {
        if self.input.is_none() && self.output.is_none() {
            return None;
        }
        let (cached_input, cache_write_input) = (self.cache_read.unwrap_or(0), self.cache_write.unwrap_or(0));
        Some(Usage {
            input: self.input.unwrap_or(0).saturating_add(cached_input).saturating_add(cache_write_input),
            cached_input,
            cache_write_input,
            output: self.output.unwrap_or(0),
            reasoning: self.thinking.unwrap_or(0),
            estimated: false,
        })
    }
}

/// Reads a `usage`; `None` where it counts nothing.
pub(super) fn read(value: &Value<'_>) -> Option<Usage> {
    let mut counts = Counts::default();
    // What cannot be read of it is not counted.
    let _ = counts.read(&mut value.cursor());
    counts.usage()
}

/// Writes the counts of a `usage`.
pub(super) fn write(usage: &Usage, object: &mut Object<'_>) {
    // Some servers count more from the cache than came in at all; the whole is what is billed.
    let cached = usage.cached_input.min(usage.input);
    let written = usage.cache_write_input.min(usage.input - cached);
    object.number("input_tokens", usage.input - cached - written);
    object.number("cache_creation_input_tokens", written);
    object.number("cache_read_input_tokens", cached);
    object.number("output_tokens", usage.output);
    if usage.reasoning > 0 {
        object.object("output_tokens_details", |details| details.number("thinking_tokens", usage.reasoning));
    }
}

/// Reads what a block, or a delta of one, has under that name, and adds what it says.
pub(super) fn add_written<'a>(
    written: &mut Written,
    name: &[u8],
    value: &mut Cursor<'a>,
) -> Result<Value<'a>, Malformed> {
    let value = value.value()?;
    let text = if value.is_string() { value.json().len() as u64 - 2 } else { 0 };
    match name {
        b"text" | b"partial_json" | b"name" => written.all += text,
        b"thinking" => {
            written.all += text;
            written.reasoning += text;
        }
        b"input" if value.json() != b"{}" => written.all += value.json().len() as u64,
        _ => {}
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::json_write;

    #[test]
    fn input_is_what_was_cached_too() {
        let text =
            br#"{"input_tokens":20,"cache_read_input_tokens":8,"cache_creation_input_tokens":5,"output_tokens":9,
            "cache_creation":{"ephemeral_5m_input_tokens":5},"output_tokens_details":{"thinking_tokens":4}}"#;
        let usage = read(&Value::whole(text).unwrap()).unwrap();
        let expected =
            Usage { input: 33, cached_input: 8, cache_write_input: 5, output: 9, reasoning: 4, estimated: false };
        assert_eq!(usage, expected);
        let mut out = Vec::new();
        json_write::object(&mut out, |object| write(&usage, object));
        assert_eq!(read(&Value::whole(&out).unwrap()), Some(expected));
    }

    #[test]
    fn of_what_is_told_twice_the_last_word_counts() {
        let mut counts = Counts::default();
        let mut tell = |text: &str| counts.read(&mut Value::whole(text.as_bytes()).unwrap().cursor()).unwrap();
        tell(r#"{"input_tokens":20,"cache_read_input_tokens":8,"output_tokens":1}"#);
        tell(r#"{"output_tokens":30,"input_tokens":null}"#);
        assert_eq!(counts.usage(), Some(Usage { input: 28, cached_input: 8, output: 30, ..Usage::default() }));
    }

    #[test]
    fn what_counts_nothing_is_no_usage() {
        for text in ["null", "{}", "7", r#"{"input_tokens":"many"}"#, r#"{"cache_read_input_tokens":8}"#] {
            assert_eq!(read(&Value::whole(text.as_bytes()).unwrap()), None, "{text}");
        }
    }
}
