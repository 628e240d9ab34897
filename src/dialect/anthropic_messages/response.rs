//! What a message is.

pub(crate) mod decode;
pub(crate) mod encode;

use bytes::Bytes;
use serde_json::{Map, Value as Json, json};

use super::usage;
use crate::{
    dialect::{Answer, json_scan::root_members},
    usage::Written,
};

/// Whether the body is a whole answer.
pub(crate) fn answer(body: &[u8]) -> Answer {
    let Ok(members) = root_members(body) else { return Answer::Malformed };
    let (mut error, mut content, mut used) = (false, false, None);
    for member in members {
        match member {
            Ok((key, value)) => match &*key {
                "error" => error |= !value.is_null(),
                "type" => error |= value.json() == b"\"error\"",
                "content" => content |= value.json().first() == Some(&b'['),
                "usage" => used = usage::read(&value),
                _ => {}
            },
            Err(_) => return Answer::Malformed,
        }
    }
    match (error, content) {
        (true, _) => Answer::Error,
        (false, true) => Answer::Whole(used),
        (false, false) => Answer::Malformed,
    }
}

/// How much a whole answer says: a second look, for those that do not count themselves.
pub(crate) fn written(body: &[u8]) -> Written {
    let mut written = Written::default();
    let members = root_members(body).into_iter().flatten().filter_map(Result::ok);
    for (_, blocks) in members.filter(|(key, _)| key == "content") {
        for block in blocks.elements().filter_map(Result::ok) {
            // What cannot be read adds nothing.
            let _ = block.cursor().members(|name, value| usage::add_written(&mut written, name, value).map(|_| ()));
        }
    }
    written
}

/// A whole answer as the stream that the client asked for, with all that it has: each block in one piece. `None` where it
/// cannot be one.
pub(crate) fn as_stream(body: &[u8]) -> Option<Bytes> {
    let Json::Object(mut message) = serde_json::from_slice(body).ok()? else { return None };
    let Some(Json::Array(blocks)) = message.insert("content".to_owned(), json!([])) else { return None };
    let usage = message.get("usage").cloned().unwrap_or_else(|| json!({"output_tokens": 0}));
    let mut delta = Map::new();
    for name in ["stop_reason", "stop_sequence", "stop_details", "container"] {
        delta.extend(message.remove(name).map(|value| (name.to_owned(), value)));
    }
    for name in ["stop_reason", "stop_sequence"] {
        message.insert(name.to_owned(), Json::Null);
    }
    let mut stream = String::new();
    let mut send = |event: Json| {
        let kind = event["type"].as_str().unwrap_or_default();
        stream.push_str(&format!("event: {kind}\ndata: {event}\n\n"));
    };
    send(json!({"type": "message_start", "message": message}));
    for (index, block) in blocks.into_iter().enumerate() {
        let (start, deltas) = in_pieces(block);
        send(json!({"type": "content_block_start", "index": index, "content_block": start}));
        for delta in deltas {
            send(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        send(json!({"type": "content_block_stop", "index": index}));
    }
    send(json!({"type": "message_delta", "delta": delta, "usage": usage}));
    send(json!({"type": "message_stop"}));
    Some(stream.into())
}

/// A block as it begins, and what comes behind that. Kinds that are not known come whole.
fn in_pieces(mut block: Json) -> (Json, Vec<Json>) {
    let mut deltas = Vec::new();
    let kind = block["type"].as_str().unwrap_or_default().to_owned();
    let Some(members) = block.as_object_mut() else { return (block, deltas) };
    let mut emptied = |member: &str, empty: Json| members.get_mut(member).map(|value| std::mem::replace(value, empty));
    match &*kind {
        "text" => {
            deltas.extend(emptied("text", "".into()).map(|text| json!({"type": "text_delta", "text": text})));
            if let Some(Json::Array(citations)) = emptied("citations", json!([])) {
                deltas.extend(
                    citations.into_iter().map(|citation| json!({"type": "citations_delta", "citation": citation})),
                );
            }
        }
        "thinking" => {
            let text = emptied("thinking", "".into()).unwrap_or_default();
            deltas.push(json!({"type": "thinking_delta", "thinking": text}));
            let signature = emptied("signature", "".into());
            deltas.extend(signature.map(|signature| json!({"type": "signature_delta", "signature": signature})));
        }
        "tool_use" | "server_tool_use" | "mcp_tool_use" => {
            if let Some(input) = emptied("input", json!({})) {
                deltas.push(json!({"type": "input_json_delta", "partial_json": input.to_string()}));
            }
        }
        _ => {}
    }
    (block, deltas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Usage;

    #[test]
    fn whole_answers_errors_and_pieces_are_told_apart() {
        let whole = r#"{"id":"msg_1","type":"message","content":[{"type":"text","text":"an \"error\": {"}],
            "usage":{"input_tokens":3,"output_tokens":2}}"#;
        let usage = Usage { input: 3, output: 2, ..Usage::default() };
        assert_eq!(answer(whole.as_bytes()), Answer::Whole(Some(usage)));
        assert_eq!(answer(br#"{"type":"message","content":[]}"#), Answer::Whole(None));
        assert_eq!(answer(br#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#), Answer::Error);
        assert_eq!(answer(br#"{"error":{"type":"request_too_large","message":"x"}}"#), Answer::Error);
        for piece in ["", "{", &whole[..whole.len() - 1], "<html></html>", "[]", "{}", r#"{"content":"x"}"#] {
            assert_eq!(answer(piece.as_bytes()), Answer::Malformed, "{piece}");
        }
    }

    #[test]
    fn how_much_an_answer_says_is_what_its_blocks_say() {
        let body =
            br#"{"content":[{"type":"thinking","thinking":"six...","signature":"long"},{"type":"text","text":"four"},
            {"type":"tool_use","id":"x","name":"f","input":{"a":1}},{"type":"tool_use","name":"g","input":{}}]}"#;
        assert_eq!(written(body), Written { all: 6 + 4 + 1 + 7 + 1, reasoning: 6 });
    }

    #[test]
    fn what_is_no_message_cannot_be_streamed() {
        for body in ["[]", "{}", r#"{"content":"x"}"#] {
            assert_eq!(as_stream(body.as_bytes()), None, "{body}");
        }
    }
}
