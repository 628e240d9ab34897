//! What a response says of its tokens.

use crate::{
    Usage,
    dialect::{json_scan::Value, json_write::Object},
};

/// Reads a `usage`; `None` where it counts nothing.
pub(crate) fn read(value: &Value<'_>) -> Option<Usage> {
    let mut usage = Usage::default();
    let mut counts = false;
    for (key, value) in value.members().filter_map(Result::ok) {
        let number = value.as_u64();
        counts |= number.is_some();
        match &*key {
            "input_tokens" => usage.input = number.unwrap_or(0),
            "output_tokens" => usage.output = number.unwrap_or(0),
            "input_tokens_details" => {
                usage.cached_input = count(&value, "cached_tokens");
                usage.cache_write_input = count(&value, "cache_write_tokens");
            }
            "output_tokens_details" => usage.reasoning = count(&value, "reasoning_tokens"),
            _ => {}
        }
    }
    counts.then_some(usage)
}

fn count(details: &Value<'_>, name: &str) -> u64 {
    details.member(name).and_then(|count| count.as_u64()).unwrap_or(0)
}

/// Writes what stands in a `usage`: all that OpenAI's SDKs take for granted.
pub(crate) fn write(usage: &Usage, object: &mut Object<'_>) {
    object.number("input_tokens", usage.input);
    object.object("input_tokens_details", |details| {
        details.number("cached_tokens", usage.cached_input);
        details.number("cache_write_tokens", usage.cache_write_input);
    });
    object.number("output_tokens", usage.output);
    object.object("output_tokens_details", |details| details.number("reasoning_tokens", usage.reasoning));
    object.number("total_tokens", usage.input.saturating_add(usage.output));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::json_write::object;

    #[test]
    fn what_is_written_is_what_was_read() {
        let text = r#"{"input_tokens":20,"input_tokens_details":{"cached_tokens":8,"cache_write_tokens":3},"output_tokens":9,"output_tokens_details":{"reasoning_tokens":4},"total_tokens":29}"#;
        let usage = read(&Value::whole(text.as_bytes()).unwrap()).unwrap();
        assert_eq!((usage.input, usage.cached_input, usage.cache_write_input), (20, 8, 3));
        assert_eq!((usage.output, usage.reasoning), (9, 4));
        let mut out = Vec::new();
        object(&mut out, |object| write(&usage, object));
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }

    #[test]
    fn what_counts_nothing_is_no_usage() {
        for text in ["null", "{}", "7", r#"{"input_tokens":"many"}"#, r#"{"input_tokens_details":{"cached_tokens":8}}"#]
        {
            assert_eq!(read(&Value::whole(text.as_bytes()).unwrap()), None, "{text}");
        }
    }
}
