//! What the events of a chat completion stream mean.

use crate::dialect::{
    StreamEvent,
    json_scan::{Malformed, Value, root_members},
};

/// Reads the data of one event.
pub(crate) fn event(data: &[u8]) -> StreamEvent {
    if data.trim_ascii() == b"[DONE]" {
        return StreamEvent::Terminal;
    }
    chunk(data).unwrap_or(StreamEvent::Malformed)
}

fn chunk(data: &[u8]) -> Result<StreamEvent, Malformed> {
    let (mut output, mut finished, mut error) = (false, false, false);
    for member in root_members(data)? {
        let (key, value) = member?;
        match &*key {
            "error" => error |= !value.is_null(),
            "choices" => {
                for choice in value.elements() {
                    for member in choice?.members() {
                        let (key, value) = member?;
                        match &*key {
                            "delta" => output |= has_output(&value)?,
                            // OpenRouter's way to say that the provider behind it gave up.
                            "finish_reason" if value.json() == b"\"error\"" => error = true,
                            "finish_reason" => finished |= value.is_string(),
                            _ => {}
                        }
                    }
                }
            }
            _ => {}
        }
    }
    Ok(match (error, finished, output) {
        (true, ..) => StreamEvent::Error,
        (_, true, _) => StreamEvent::Finish,
        (_, _, true) => StreamEvent::Output,
        (_, _, _) => StreamEvent::Preamble,
    })
}

/// Whether a delta brings anything to the reader: text, a tool call, reasoning in any server's spelling. The role
/// and Groq's channel only announce it.
fn has_output(delta: &Value<'_>) -> Result<bool, Malformed> {
    for member in delta.members() {
        let (key, value) = member?;
        let announces = matches!(&*key, "role" | "channel");
        if !announces && !matches!(value.json(), b"null" | b"\"\"" | b"[]" | b"{}") {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(delta: &str) -> StreamEvent {
        event(format!(r#"{{"id":"x","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#).as_bytes())
    }

    #[test]
    fn announcements_are_preamble() {
        for silent in [r#"{"role":"assistant","content":""}"#, r#"{"role":"assistant","content":null}"#, "{}"] {
            assert_eq!(delta(silent), StreamEvent::Preamble, "{silent}");
        }
        assert_eq!(event(br#"{"choices":[],"prompt_filter_results":[{}]}"#), StreamEvent::Preamble);
    }

    #[test]
    fn text_tools_and_reasoning_are_output() {
        for output in [
            r#"{"content":"a"}"#,
            r#"{"tool_calls":[{"index":0}]}"#,
            r#"{"reasoning_content":"hm"}"#,
            r#"{"reasoning":"hm","channel":"analysis"}"#,
            r#"{"refusal":"no"}"#,
            r#"{"content":[{"type":"thinking"}]}"#,
        ] {
            assert_eq!(delta(output), StreamEvent::Output, "{output}");
        }
    }

    #[test]
    fn ends_and_errors_are_told_apart_from_their_mention_in_text() {
        assert_eq!(event(b"[DONE]"), StreamEvent::Terminal);
        assert_eq!(delta(r#"{"content":"\"finish_reason\":\"stop\" \"error\":{}"}"#), StreamEvent::Output);
        let finish = br#"{"choices":[{"delta":{"content":"all"},"finish_reason":"stop"}]}"#;
        assert_eq!(event(finish), StreamEvent::Finish);
        assert_eq!(event(br#"{"error":{"message":"Overloaded"}}"#), StreamEvent::Error);
        assert_eq!(event(br#"{"error":null,"choices":[]}"#), StreamEvent::Preamble);
        assert_eq!(event(br#"{"choices":[{"delta":{},"finish_reason":"error"}]}"#), StreamEvent::Error);
    }

    #[test]
    fn what_is_no_chunk_is_malformed() {
        for data in ["", "{", "[]", "<html>", r#"{"choices":[{"delta":{"content" "x"}}]}"#] {
            assert_eq!(event(data.as_bytes()), StreamEvent::Malformed, "{data}");
        }
    }
}
