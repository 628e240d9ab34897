//! What Google says of an answer's tokens.

use super::names::{camel, members};
use crate::{
    Usage,
    dialect::{json_scan::Value, json_write::Object},
    usage::Written,
};

/// Reads a `usageMetadata`; `None` where it counts nothing, as in all but the last event of Vertex's streams.
pub(crate) fn read(value: &Value<'_>) -> Option<Usage> {
    let mut usage = Usage::default();
    let mut counts = false;
    for (key, value) in members(value) {
        let Some(number) = value.as_u64() else { continue };
        counts = true;
        match &*key {
            // Both are told apart from the other, and from the answer.
            "promptTokenCount" | "toolUsePromptTokenCount" => usage.input += number,
            "cachedContentTokenCount" => usage.cached_input = number,
            "candidatesTokenCount" => usage.output += number,
            "thoughtsTokenCount" => {
                usage.output += number;
                usage.reasoning = number;
            }
            _ => {}
        }
    }
    counts.then_some(usage)
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

/// Adds what a part of an answer says; says whether it says anything.
pub(super) fn add_written(written: &mut Written, part: &Value<'_>) -> bool {
    let length = |value: &Value<'_>| if value.is_string() { value.json().len() as u64 - 2 } else { 0 };
    let (mut text, mut thought, mut says) = (0, false, false);
    for (key, value) in part.members().filter_map(Result::ok) {
        match &*camel(key) {
            "text" => text = length(&value),
            "thought" => thought = value.is_true(),
            "thoughtSignature" => {}
            "functionCall" => {
                says = true;
                let parts = members(&value).filter(|(key, _)| matches!(&**key, "name" | "args" | "partialArgs"));
                written.all += parts.map(|(_, value)| value.json().len() as u64).sum::<u64>();
            }
            _ => says |= !value.is_null(),
        }
    }
    written.all += text;
    written.reasoning += if thought { text } else { 0 };
    says || text > 0
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
