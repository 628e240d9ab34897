//! What a chat completion is.

pub(crate) mod decode;
pub(crate) mod encode;

use bytes::Bytes;
use serde_json::{Map, Value as Json, json};

use super::usage;
use crate::{
    dialect::{Answer, json_scan::Cursor},
    usage::Written,
};

/// Whether the body is a whole answer. OpenRouter puts an `error` into a 200.
pub(crate) fn answer(body: &[u8]) -> Answer {
    let (mut error, mut choices, mut used) = (false, false, None);
    let read = Cursor::read_object(body, |name, value| {
        match name {
            b"error" => error |= !value.value()?.is_null(),
            // vLLM once put its errors so.
            b"object" => error |= value.value()?.json() == b"\"error\"",
            b"choices" => choices = true,
            b"usage" => used = usage::read(&value.value()?),
            _ => {}
        }
        Ok(())
    });
    if read.is_err() {
        return Answer::Malformed;
    }
    if error {
        return Answer::Error;
    }
    if choices { Answer::Whole(used) } else { Answer::Malformed }
}

/// How much a whole answer says: a second look, for those that do not count themselves.
pub(crate) fn written(body: &[u8]) -> Written {
    let mut written = Written::default();
    // What cannot be read adds nothing.
    let _ = Cursor::read_object(body, |name, choices| {
        if name == b"choices" {
            _ = choices.elements(|choice| {
                _ = choice.members(|name, message| {
                    if name == b"message" {
                        _ = message.members(|name, value| usage::add_written(&mut written, name, value).map(drop))?;
                    }
                    Ok(())
                })?;
                Ok(())
            })?;
        }
        Ok(())
    });
    written
}

/// A whole answer as the stream that the client asked for: for each choice its message in one chunk and its finish
/// reason in another, then the usage if that was asked for. What the message has besides stands in its chunk as it
/// was; `None` where it has no message to be streamed.
pub(crate) fn as_stream(body: &[u8], with_usage: bool) -> Option<Bytes> {
    let Json::Object(mut answer) = serde_json::from_slice(body).ok()? else { return None };
    let Some(Json::Array(choices)) = answer.remove("choices") else { return None };
    let usage = answer.remove("usage").filter(|usage| with_usage && !usage.is_null());
    answer.insert("object".to_owned(), "chat.completion.chunk".into());
    let mut stream = String::new();
    let mut send = |choices: Json, usage: Option<Json>| {
        let mut chunk = answer.clone();
        chunk.insert("choices".to_owned(), choices);
        chunk.extend(usage.map(|usage| ("usage".to_owned(), usage)));
        stream.push_str("data: ");
        stream.push_str(&Json::Object(chunk).to_string());
        stream.push_str("\n\n");
    };
    if choices.is_empty() {
        return None;
    }
    for (place, choice) in choices.into_iter().enumerate() {
        let Json::Object(mut choice) = choice else { return None };
        let Some(Json::Object(mut message)) = choice.remove("message") else { return None };
        number_calls(&mut message);
        let index = choice.remove("index").unwrap_or_else(|| place.into());
        let logprobs = choice.remove("logprobs").unwrap_or_default();
        let finish = choice.remove("finish_reason").filter(|reason| !reason.is_null()).unwrap_or_else(|| "stop".into());
        send(json!([{"index": index, "delta": message, "logprobs": logprobs, "finish_reason": null}]), None);
        choice.extend(Map::from_iter([
            ("index".to_owned(), index),
            ("delta".to_owned(), json!({})),
            ("finish_reason".to_owned(), finish),
        ]));
        send(json!([choice]), None);
    }
    if let Some(usage) = usage {
        send(json!([]), Some(usage));
    }
    stream.push_str("data: [DONE]\n\n");
    Some(stream.into())
}

/// In a stream each tool call says which one it is.
fn number_calls(message: &mut Map<String, Json>) {
    let Some(Json::Array(calls)) = message.get_mut("tool_calls") else { return };
    for (index, call) in calls.iter_mut().enumerate() {
        if let Json::Object(call) = call {
            call.entry("index").or_insert_with(|| index.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Usage;

    #[test]
    fn whole_answers_errors_and_pieces_are_told_apart() {
        let whole =
            r#"{"id":"x","choices":[{"message":{"content":"an \"error\": {"},"finish_reason":"stop"}],"error":null}"#;
        assert_eq!(answer(whole.as_bytes()), Answer::Whole(None));
        assert_eq!(answer(br#"{"choices":[],"error":{"message":"busy","code":502}}"#), Answer::Error);
        assert_eq!(answer(br#"{"object":"error","message":"busy","code":503}"#), Answer::Error);
        for piece in ["", "{", &whole[..whole.len() - 1], "<html></html>", "[]", "{}", r#"{"choices":[}}"#, "\"text\""]
        {
            assert_eq!(answer(piece.as_bytes()), Answer::Malformed, "{piece}");
        }
    }

    #[test]
    fn an_answer_says_what_it_cost_or_how_much_it_says() {
        let counted = br#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
        assert_eq!(answer(counted), Answer::Whole(Some(Usage { input: 3, output: 2, ..Usage::default() })));
        let silent = br#"{"choices":[{"message":{"role":"assistant","content":"four","reasoning":"six..."}},
            {"message":{"content":null,"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}]}"#;
        assert_eq!(written(silent), Written { all: 13, reasoning: 6 });
    }

    #[test]
    fn a_whole_answer_becomes_the_stream_that_says_the_same() {
        let body = br#"{"id":"x","object":"chat.completion","model":"m","choices":[
            {"index":0,"message":{"role":"assistant","content":"Hi","tool_calls":[{"id":"c","type":"function",
             "function":{"name":"f","arguments":"{}"}}]},"logprobs":null,"finish_reason":"tool_calls"},
            {"message":{"content":"Ho"},"finish_reason":"length","native_finish_reason":"max"}],
            "usage":{"prompt_tokens":3}}"#;
        let stream = as_stream(body, true).unwrap();
        let text = std::str::from_utf8(&stream).unwrap();
        let mut events: Vec<_> =
            text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect();
        assert_eq!(events.pop(), Some("[DONE]"));
        let chunks: Vec<Json> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        assert!(chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == "x"));
        let choices: Vec<_> = chunks.iter().map(|chunk| chunk["choices"].clone()).collect();
        assert_eq!(
            choices,
            [
                json!([{"index": 0, "delta": {"role": "assistant", "content": "Hi", "tool_calls": [{"index": 0, "id": "c",
                    "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, "logprobs": null,
                    "finish_reason": null}]),
                json!([{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]),
                json!([{"index": 1, "delta": {"content": "Ho"}, "logprobs": null, "finish_reason": null}]),
                json!([{"index": 1, "delta": {}, "finish_reason": "length", "native_finish_reason": "max"}]),
                json!([]),
            ]
        );
        assert_eq!(chunks[4]["usage"], json!({"prompt_tokens": 3}));
        let unasked = as_stream(body, false).unwrap();
        assert!(!std::str::from_utf8(&unasked).unwrap().contains("usage"));
    }

    #[test]
    fn what_has_no_message_cannot_be_streamed() {
        for body in [r#"{"choices":[]}"#, r#"{"choices":[{"text":"old"}]}"#, r#"{"choices":7}"#, "[]"] {
            assert_eq!(as_stream(body.as_bytes(), false), None, "{body}");
        }
    }
}
