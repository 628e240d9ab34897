//! Completing a chat completion stream that broke off.

use std::{borrow::Cow, ops::Range};

use bytes::Bytes;
use serde_json::{Value as Json, json};

use crate::dialect::{
    edit::edited,
    json_scan::{Malformed, Value, root_members},
    recovery::{INSTRUCTION, Piece, Remedy, RestRequest, Retelling, tokens_of},
};

/// Where the servers put reasoning.
const REASONING: [&str; 3] = ["reasoning_content", "reasoning", "reasoning_details"];

pub(crate) const TERMINAL: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

pub(crate) fn piece(data: &[u8]) -> Option<Piece> {
    if data.trim_ascii() == b"[DONE]" {
        return Some(Piece { terminal: true, ..Piece::default() });
    }
    read(data).ok()
}

fn read(data: &[u8]) -> Result<Piece, Malformed> {
    let mut piece = Piece::default();
    for member in root_members(data)? {
        let (key, value) = member?;
        match &*key {
            "choices" => {
                for choice in value.elements() {
                    read_choice(&choice?, &mut piece)?;
                }
            }
            "usage" => piece.usage |= !value.is_null(),
            _ => {}
        }
    }
    piece.other |= piece.second;
    Ok(piece)
}

fn read_choice(choice: &Value<'_>, piece: &mut Piece) -> Result<(), Malformed> {
    for member in choice.members() {
        let (key, value) = member?;
        match &*key {
            "index" => piece.second |= value.as_u64() != Some(0),
            "logprobs" => piece.other |= !value.is_null(),
            "finish_reason" => piece.finish |= value.is_string() && !is_nothing(&value),
            "delta" => {
                for member in value.members() {
                    let (key, value) = member?;
                    read_delta(&key, &value, piece);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_delta(key: &str, value: &Value<'_>, piece: &mut Piece) {
    if is_nothing(value) {
        return;
    }
    match (key, value.as_str()) {
        ("role" | "channel", _) => {}
        ("content", Some(text)) => piece.text.push_str(&text),
        (name, _) if REASONING.contains(&name) => piece.reasoning = true,
        ("tool_calls" | "function_call", _) => piece.tool_call = true,
        _ => piece.other = true,
    }
}

fn is_nothing(value: &Value<'_>) -> bool {
    matches!(value.json(), b"null" | b"\"\"" | b"[]" | b"{}")
}

pub(crate) fn remedy(body: &[u8]) -> Remedy {
    let Ok(members) = root_members(body) else { return Remedy::None };
    let mut remedy = Remedy::Rest;
    for (key, value) in members.filter_map(Result::ok) {
        match &*key {
            "n" if value.as_u64().is_some_and(|n| n > 1) => return Remedy::None,
            "logprobs" if value.is_true() => return Remedy::None,
            "audio" if !is_nothing(&value) => return Remedy::None,
            "modalities" if value.elements().flatten().any(|kind| kind.json() == b"\"audio\"") => return Remedy::None,
            "response_format" => {
                let kind = value.member("type");
                let kind = kind.as_ref().and_then(Value::as_str);
                if kind.is_some_and(|kind| kind != "text") {
                    remedy = Remedy::Again;
                }
            }
            _ => {}
        }
    }
    remedy
}

pub(crate) fn rest_request(body: &Bytes, delivered: &str) -> Option<RestRequest> {
    // Some APIs take no white space at the end of a prefill.
    let delivered_text = delivered.trim_end();
    if delivered_text.is_empty() {
        return None;
    }
    let mut edits = Vec::new();
    let mut messages = None;
    for member in root_members(body).ok()? {
        let (key, value) = member.ok()?;
        match &*key {
            "messages" => messages = Some(value),
            "max_tokens" | "max_completion_tokens" => {
                if let Some(most) = value.as_u64() {
                    let left = most.saturating_sub(tokens_of(delivered)).max(1);
                    edits.push((value.range(), left.to_string()));
                }
            }
            _ => {}
        }
    }
    let messages = messages.filter(|messages| messages.json().first() == Some(&b'['))?;
    let end = messages.range().end - 1;
    let last = messages.elements().last().and_then(Result::ok);
    let begun = last.as_ref().and_then(clients_prefill);
    match &begun {
        Some((range, text)) => edits.push((range.clone(), Json::from(format!("{text}{delivered_text}")).to_string())),
        None => {
            let comma = if last.is_some() { "," } else { "" };
            let turn = json!({"role": "assistant", "content": delivered_text});
            edits.push((end..end, format!("{comma}{turn}")));
        }
    }
    let prefill = edited(body, edits.clone());
    edits.push((end..end, format!(",{}", json!({"role": "user", "content": INSTRUCTION}))));
    Some(RestRequest { prefill, instruction: edited(body, edits) })
}

/// The text with which the client itself began the assistant's turn, if it did, and where it stands.
fn clients_prefill<'a>(last: &Value<'a>) -> Option<(Range<usize>, Cow<'a, str>)> {
    let is_assistant = last.member("role")?.json() == b"\"assistant\"";
    let content = last.member("content")?;
    let text = content.as_str()?;
    is_assistant.then_some((content.range(), text))
}

pub(crate) fn retold(first: &[u8], data: &[u8], how: Retelling<'_>) -> Option<Bytes> {
    if data.trim_ascii() == b"[DONE]" {
        return Some(TERMINAL);
    }
    let mut chunk: Json = serde_json::from_slice(data).ok()?;
    let first: Json = serde_json::from_slice(first).ok()?;
    let root = chunk.as_object_mut()?;
    // Whose answer it is does not change on the way.
    for name in ["id", "created", "model", "object", "system_fingerprint", "service_tier", "provider"] {
        match first.get(name) {
            Some(value) => _ = root.insert(name.to_owned(), value.clone()),
            None => _ = root.remove(name),
        }
    }
    for choice in root.get_mut("choices").and_then(Json::as_array_mut).into_iter().flatten() {
        if let Some(delta) = choice.get_mut("delta").and_then(Json::as_object_mut) {
            delta.remove("role");
            if how.without_reasoning {
                REASONING.iter().for_each(|name| _ = delta.remove(*name));
            }
            if let Some(text) = how.text {
                delta.insert("content".to_owned(), text.into());
            }
        }
    }
    if let Some(usage) = root.get_mut("usage").and_then(Json::as_object_mut) {
        // The answer is one, so what was delivered before counts as output, once.
        let mut count = |name: &str, change: &dyn Fn(u64) -> u64| {
            if let Some(tokens) = usage.get(name).and_then(Json::as_u64) {
                usage.insert(name.to_owned(), change(tokens).into());
            }
        };
        count("prompt_tokens", &|tokens| tokens.saturating_sub(how.less_input));
        count("completion_tokens", &|tokens| tokens + how.more_output);
        let sum = ["prompt_tokens", "completion_tokens"].map(|name| usage.get(name).and_then(Json::as_u64));
        if let [Some(prompt), Some(completion)] = sum {
            usage.insert("total_tokens".to_owned(), (prompt + completion).into());
        }
    }
    Some([b"data: ", chunk.to_string().as_bytes(), b"\n\n"].concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(delta: &str) -> Piece {
        piece(format!(r#"{{"choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#).as_bytes()).unwrap()
    }

    #[test]
    fn a_piece_is_told_by_what_it_brings() {
        assert_eq!(delta(r#"{"role":"assistant","content":""}"#), Piece::default());
        assert_eq!(delta(r#"{"content":"a\"b"}"#).text, "a\"b");
        assert!(delta(r#"{"reasoning_content":"hm"}"#).reasoning);
        assert!(delta(r#"{"tool_calls":[{"index":0}]}"#).tool_call);
        assert!(delta(r#"{"refusal":"no"}"#).other && delta(r#"{"content":[{"type":"x"}]}"#).other);
        let second = piece(br#"{"choices":[{"index":1,"delta":{"content":"b"}}]}"#).unwrap();
        assert!(second.other && second.second);
        assert!(piece(br#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#).unwrap().finish);
        assert!(piece(br#"{"choices":[],"usage":{"prompt_tokens":1}}"#).unwrap().usage);
        assert!(piece(b"[DONE]").unwrap().terminal && piece(b"{").is_none());
    }

    #[test]
    fn what_may_be_asked_for_is_in_the_request() {
        for (body, expected) in [
            (r#"{"stream":true}"#, Remedy::Rest),
            (r#"{"n":1,"logprobs":false,"response_format":{"type":"text"}}"#, Remedy::Rest),
            (r#"{"n":2}"#, Remedy::None),
            (r#"{"logprobs":true}"#, Remedy::None),
            (r#"{"modalities":["text","audio"]}"#, Remedy::None),
            (r#"{"response_format":{"type":"json_schema","json_schema":{}}}"#, Remedy::Again),
            (r#"{"response_format":{"type":"json_object"}}"#, Remedy::Again),
        ] {
            assert_eq!(remedy(body.as_bytes()), expected, "{body}");
        }
    }

    fn rest(body: &'static str, delivered: &str) -> (String, String) {
        let RestRequest { prefill, instruction } =
            rest_request(&Bytes::from_static(body.as_bytes()), delivered).unwrap();
        (String::from_utf8(prefill.to_vec()).unwrap(), String::from_utf8(instruction.to_vec()).unwrap())
    }

    #[test]
    fn the_rest_is_asked_for_with_every_other_byte_as_it_was() {
        let body = r#"{ "messages": [{"role":"user","content":"Hi"} ], "max_tokens" : 100,"x":1.0e0}"#;
        let (prefill, instruction) = rest(body, "Hello \"wor ");
        assert_eq!(
            prefill,
            r#"{ "messages": [{"role":"user","content":"Hi"} ,{"content":"Hello \"wor","role":"assistant"}], "max_tokens" : 97,"x":1.0e0}"#
        );
        let asked: Json = serde_json::from_str(&instruction).unwrap();
        assert_eq!(asked["messages"][1]["content"], "Hello \"wor");
        assert_eq!(asked["messages"][2], json!({"role": "user", "content": INSTRUCTION}));
        assert!(rest_request(&Bytes::from_static(body.as_bytes()), " \n").is_none());
    }

    #[test]
    fn a_turn_that_the_client_began_stays_one() {
        let body = r#"{"messages":[{"role":"assistant","content":"{\"a\":"}]}"#;
        let (prefill, instruction) = rest(body, " 1");
        assert_eq!(prefill, r#"{"messages":[{"role":"assistant","content":"{\"a\": 1"}]}"#);
        assert_eq!(serde_json::from_str::<Json>(&instruction).unwrap()["messages"].as_array().unwrap().len(), 2);
        assert_eq!(rest(r#"{"messages":[]}"#, "x").0, r#"{"messages":[{"content":"x","role":"assistant"}]}"#);
    }

    #[test]
    fn the_rest_reads_as_one_answer() {
        let first = br#"{"id":"a","model":"m1","created":1,"object":"chat.completion.chunk","choices":[]}"#;
        let data = br#"{"id":"b","model":"m2","created":2,"system_fingerprint":"f","choices":[{"index":0,"delta":{"role":"assistant","content":"x y"}}],
            "usage":{"prompt_tokens":30,"completion_tokens":5,"total_tokens":35}}"#;
        let how = Retelling { text: Some("y"), less_input: 10, more_output: 10, ..Retelling::default() };
        let retold = retold(first, data, how).unwrap();
        let event = String::from_utf8(retold.to_vec()).unwrap();
        let chunk: Json = serde_json::from_str(event.strip_prefix("data: ").unwrap().trim_end()).unwrap();
        let expected = json!({
            "id": "a", "model": "m1", "created": 1, "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": {"content": "y"}}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 15, "total_tokens": 35},
        });
        assert_eq!(chunk, expected);
    }
}
