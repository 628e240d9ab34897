//! What Google says of an answer's tokens.

use crate::{
    Usage,
    dialect::{
        json_scan::{Cursor, Malformed, Value},
        json_write::Object,
    },
    usage::Written,
};

/// Reads a `usageMetadata`; `None` where it counts nothing, as in all but the last event of Vertex's streams.
pub(crate) fn read(value: &Value<'_>) -> Option<Usage> {
    read_next(&mut value.cursor()).ok().flatten()
}

/// The same of the value that comes next.
pub(super) fn read_next(cursor: &mut Cursor<'_>) -> Result<Option<Usage>, Malformed> {
    let mut usage = Usage::default();
    let mut counts = false;
    _ = cursor.members(|name, value| {
        let Some(number) = value.value()?.as_u64() else { return Ok(()) };
        counts = true;
        match name {
            // Both are told apart from the other, and from the answer.
            b"promptTokenCount"
            | b"prompt_token_count"
            | b"toolUsePromptTokenCount"
            | b"tool_use_prompt_token_count" => {
                usage.input = usage.input.saturating_add(number);
            }
            b"cachedContentTokenCount" | b"cached_content_token_count" => usage.cached_input = number,
            b"candidatesTokenCount" | b"candidates_token_count" => usage.output = usage.output.saturating_add(number),
            b"thoughtsTokenCount" | b"thoughts_token_count" => {
                usage.output = usage.output.saturating_add(number);
                usage.reasoning = number;
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(counts.then_some(usage))
}

/// Writes a `usageMetadata`.
pub(crate) fn write(usage: &Usage, object: &mut Object<'_>) {
    // There are providers that count more thoughts than tokens.
    let reasoning = usage.reasoning.min(usage.output);
    object.number("promptTokenCount", usage.input);
    if usage.cached_input > 0 {
        object.number("cachedContentTokenCount", usage.cached_input);
    }
    object.number("candidatesTokenCount", usage.output - reasoning);
    if reasoning > 0 {
        object.number("thoughtsTokenCount", reasoning);
    }
    object.number("totalTokenCount", usage.input.saturating_add(usage.output));
}

/// Adds what the part of an answer that comes next says; tells whether it says anything.
pub(super) fn add_written(written: &mut Written, part: &mut Cursor<'_>) -> Result<bool, Malformed> {
    let (mut text, mut thought, mut says) = (0, false, false);
    _ = part.members(|name, value| {
        match name {
            b"text" => {
                let value = value.value()?;
                text = if value.is_string() { value.json().len() as u64 - 2 } else { 0 };
            }
            b"thought" => thought = value.value()?.is_true(),
            b"thoughtSignature" | b"thought_signature" => {}
            b"functionCall" | b"function_call" => {
                says = true;
                _ = value.members(|name, value| {
                    if matches!(name, b"name" | b"args" | b"partialArgs" | b"partial_args") {
                        written.all += value.value()?.json().len() as u64;
                    }
                    Ok(())
                })?;
            }
            _ => says |= !value.value()?.is_null(),
        }
        Ok(())
    })?;
    written.all += text;
    written.reasoning += if thought { text } else { 0 };
    Ok(says || text > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::json_write::object;

    fn usage(text: &str) -> Option<Usage> {
        read(&Value::whole(text.as_bytes()).unwrap())
    }

    #[test]
    fn thoughts_and_tools_are_counted_with_the_rest() {
        let text = r#"{"promptTokenCount":20,"toolUsePromptTokenCount":5,"cachedContentTokenCount":8,"candidatesTokenCount":9,
            "thoughtsTokenCount":4,"totalTokenCount":38,"promptTokensDetails":[{"tokenCount":1}],"trafficType":"ON_DEMAND"}"#;
        let expected = Usage { input: 25, cached_input: 8, output: 13, reasoning: 4, ..Usage::default() };
        assert_eq!(usage(text), Some(expected));
        let mut out = Vec::new();
        object(&mut out, |object| write(&expected, object));
        assert_eq!(usage(std::str::from_utf8(&out).unwrap()), Some(expected));
        for nothing in ["null", "{}", "7", r#"{"trafficType":"ON_DEMAND"}"#] {
            assert_eq!(usage(nothing), None, "{nothing}");
        }
    }
}
