//! What a chat completion says of its tokens.

use crate::{
    Usage,
    dialect::{
        json_scan::{Cursor, Malformed, Value},
        json_write::Object,
    },
    usage::Written,
};

/// Reads a `usage`; `None` where it counts nothing. What cannot be read of it is not counted.
pub(crate) fn read(value: &Value<'_>) -> Option<Usage> {
    let mut usage = Usage::default();
    let mut counts = false;
    let _ = value.cursor().members(|name, value| {
        match name {
            b"prompt_tokens_details" => {
                let [cached, written] = counts_of(value, [b"cached_tokens", b"cache_write_tokens"])?;
                usage.cached_input = cached.unwrap_or(usage.cached_input);
                usage.cache_write_input = written.unwrap_or(0);
            }
            b"completion_tokens_details" => {
                let [reasoning] = counts_of(value, [b"reasoning_tokens"])?;
                usage.reasoning = reasoning.unwrap_or(0);
            }
            _ => {
                let number = value.value()?.as_u64();
                counts |= number.is_some();
                match name {
                    b"prompt_tokens" => usage.input = number.unwrap_or(0),
                    b"completion_tokens" => usage.output = number.unwrap_or(0),
                    // DeepSeek's and Moonshot's names for it.
                    b"prompt_cache_hit_tokens" | b"cached_tokens" => {
                        usage.cached_input = number.unwrap_or(usage.cached_input);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    });
    counts.then_some(usage)
}

fn counts_of<const N: usize>(details: &mut Cursor<'_>, wanted: [&[u8]; N]) -> Result<[Option<u64>; N], Malformed> {
    let mut counts = [None; N];
    _ = details.members(|name, value| {
        if let Some(place) = wanted.iter().position(|wanted| *wanted == name) {
            counts[place] = value.value()?.as_u64();
        }
        Ok(())
    })?;
    Ok(counts)
}

/// Writes a `usage`.
pub(crate) fn write(usage: &Usage, object: &mut Object<'_>) {
    object.number("prompt_tokens", usage.input);
    object.number("completion_tokens", usage.output);
    object.number("total_tokens", usage.input.saturating_add(usage.output));
    object.object("prompt_tokens_details", |details| {
        details.number("cached_tokens", usage.cached_input);
        if usage.cache_write_input > 0 {
            details.number("cache_write_tokens", usage.cache_write_input);
        }
    });
    object.object("completion_tokens_details", |details| details.number("reasoning_tokens", usage.reasoning));
}

/// Reads what a message, or a piece of one, has under that name, and adds what it says.
pub(crate) fn add_written<'a>(
    written: &mut Written,
    name: &[u8],
    value: &mut Cursor<'a>,
) -> Result<Value<'a>, Malformed> {
    if name == b"tool_calls" {
        return value.elements(|call| {
            _ = call.members(|name, function| {
                if name == b"function" {
                    _ = function.members(|name, part| {
                        if matches!(name, b"name" | b"arguments") {
                            written.all += text_length(&part.value()?);
                        }
                        Ok(())
                    })?;
                }
                Ok(())
            })?;
            Ok(())
        });
    }
    let value = value.value()?;
    match name {
        b"content" | b"refusal" => written.all += text_length(&value),
        b"reasoning" | b"reasoning_content" => {
            written.all += text_length(&value);
            written.reasoning += text_length(&value);
        }
        _ => {}
    }
    Ok(value)
}

fn text_length(value: &Value<'_>) -> u64 {
    if value.is_string() { value.json().len() as u64 - 2 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(text: &str) -> Option<Usage> {
        read(&Value::whole(text.as_bytes()).unwrap())
    }

    #[test]
    fn openais_usage_and_its_details_are_read() {
        let openai = r#"{"prompt_tokens":20,"completion_tokens":9,"total_tokens":29,
            "prompt_tokens_details":{"cached_tokens":8,"audio_tokens":0},
            "completion_tokens_details":{"reasoning_tokens":4}}"#;
        let expected = Usage { input: 20, cached_input: 8, output: 9, reasoning: 4, ..Usage::default() };
        assert_eq!(usage(openai), Some(expected));
        let deepseek =
            r#"{"prompt_tokens":20,"completion_tokens":9,"prompt_cache_hit_tokens":8,"prompt_tokens_details":null}"#;
        assert_eq!(usage(deepseek), Some(Usage { reasoning: 0, ..expected }));
    }

    #[test]
    fn what_counts_nothing_is_no_usage() {
        for text in
            ["null", "{}", "7", r#"{"prompt_tokens":"many"}"#, r#"{"prompt_tokens_details":{"cached_tokens":8}}"#]
        {
            assert_eq!(usage(text), None, "{text}");
        }
    }
}
