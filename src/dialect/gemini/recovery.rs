//! Completing a `streamGenerateContent` stream that broke off.

use std::ops::Range;

use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::{
    names::{camel, each, member, members},
    stream::is_blocked,
    usage,
};
use crate::dialect::{
    edit::edited,
    json_scan::{Malformed, Value, root_members},
    recovery::{INSTRUCTION, Piece, Remedy, RestRequest, Retelling, tokens_of},
};

pub(crate) fn piece(data: &[u8]) -> Option<Piece> {
    read(data).ok()
}

fn read(data: &[u8]) -> Result<Piece, Malformed> {
    let mut piece = Piece::default();
    for item in root_members(data)? {
        let (key, value) = item?;
        match &*camel(key) {
            "candidates" => {
                for candidate in value.elements() {
                    read_candidate(&candidate?, &mut piece);
                }
            }
            // It is in every event; what counts is the last one.
            "usageMetadata" => piece.usage |= usage::read(&value).is_some(),
            "promptFeedback" => piece.finish |= is_blocked(&value),
            _ => {}
        }
    }
    Ok(piece)
}

fn read_candidate(candidate: &Value<'_>, piece: &mut Piece) {
    for (key, value) in members(candidate) {
        match &*key {
            "index" if value.as_u64() != Some(0) => (piece.other, piece.second) = (true, true),
            "logprobsResult" => piece.other = true,
            "finishReason" => piece.finish |= super::response::ending(&value).is_some(),
            "content" => {
                for part in member(&value, "parts").iter().flat_map(each) {
                    read_part(&part, piece);
                }
            }
            _ => {}
        }
    }
}

fn read_part(part: &Value<'_>, piece: &mut Piece) {
    let thought = member(part, "thought").is_some_and(|thought| thought.is_true());
    for (key, value) in members(part) {
        match &*key {
            "thought" | "thoughtSignature" => {}
            "text" => match value.as_str() {
                Some(text) if text.is_empty() => {}
                Some(_) if thought => piece.reasoning = true,
                Some(text) => piece.text.push_str(&text),
                None => piece.other = true,
            },
            "functionCall" => piece.tool_call = true,
            _ => piece.other = true,
        }
    }
}

pub(crate) fn remedy(body: &[u8]) -> Remedy {
    let Ok(root) = root_members(body) else { return Remedy::None };
    let mut remedy = Remedy::Rest;
    for (key, value) in root.filter_map(Result::ok) {
        if camel(key) != "generationConfig" {
            continue;
        }
        for (key, value) in members(&value) {
            match &*key {
                "candidateCount" if value.as_u64().is_some_and(|count| count > 1) => return Remedy::None,
                "responseLogprobs" if value.is_true() => return Remedy::None,
                "responseModalities"
                    if value.elements().flatten().any(|kind| !kind.json().eq_ignore_ascii_case(b"\"text\"")) =>
                {
                    return Remedy::None;
                }
                "responseMimeType" if value.as_str().is_some_and(|mime| mime != "text/plain") => remedy = Remedy::Again,
                _ => {}
            }
        }
    }
    remedy
}

pub(crate) fn rest_request(body: &Bytes, delivered: &str) -> Option<RestRequest> {
    // White space at the end of a turn that is to be gone on with confuses.
    let delivered_text = delivered.trim_end();
    if delivered_text.is_empty() {
        return None;
    }
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    let mut contents = None;
    for item in root_members(body).ok()? {
        let (key, value) = item.ok()?;
        match &*camel(key) {
            "contents" => contents = Some(value),
            "generationConfig" => {
                let most = member(&value, "maxOutputTokens");
                if let Some((most, number)) = most.as_ref().and_then(|most| Some((most, most.as_u64()?))) {
                    edits.push((most.range(), number.saturating_sub(tokens_of(delivered)).max(1).to_string()));
                }
            }
            _ => {}
        }
    }
    let contents = contents.filter(|contents| contents.json().first() == Some(&b'['))?;
    let end = contents.range().end - 1;
    let last = contents.elements().last().and_then(Result::ok);
    let begun = last.as_ref().and_then(end_of_clients_prefill);
    let part = json!({"text": delivered_text});
    match begun {
        Some(end) => edits.push((end..end, format!(",{part}"))),
        None => {
            let comma = if last.is_some() { "," } else { "" };
            edits.push((end..end, format!("{comma}{}", json!({"role": "model", "parts": [part]}))));
        }
    }
    let prefill = edited(body, edits.clone());
    let instruction = json!({"role": "user", "parts": [{"text": INSTRUCTION}]});
    edits.push((end..end, format!(",{instruction}")));
    Some(RestRequest { prefill, instruction: edited(body, edits) })
}

/// The end of the parts with which the client itself began the model's turn, if it did.
fn end_of_clients_prefill(last: &Value<'_>) -> Option<usize> {
    let is_model = member(last, "role")?.json() == b"\"model\"";
    let parts = member(last, "parts").filter(|parts| parts.elements().next().is_some())?;
    is_model.then_some(parts.range().end - 1)
}

pub(crate) fn retold(first: &[u8], data: &[u8], how: Retelling<'_>) -> Option<Bytes> {
    let mut chunk: Json = serde_json::from_slice(data).ok()?;
    let first: Json = serde_json::from_slice(first).ok()?;
    let root = chunk.as_object_mut()?;
    // Whose answer it is does not change on the way.
    for name in ["responseId", "modelVersion", "createTime"] {
        match first.get(name) {
            Some(value) => _ = root.insert(name.to_owned(), value.clone()),
            None => _ = root.remove(name),
        }
    }
    for candidate in root.get_mut("candidates").and_then(Json::as_array_mut).into_iter().flatten() {
        if let Some(parts) = candidate.pointer_mut("/content/parts").and_then(Json::as_array_mut) {
            retell_parts(parts, how);
        }
    }
    if let Some(usage) = root.get_mut("usageMetadata").and_then(Json::as_object_mut) {
        // The answer is one, so what was delivered before counts as output, once.
        let mut count = |name: &str, change: &dyn Fn(u64) -> u64| {
            if let Some(tokens) = usage.get(name).and_then(Json::as_u64) {
                usage.insert(name.to_owned(), change(tokens).into());
            }
        };
        count("promptTokenCount", &|tokens| tokens.saturating_sub(how.less_input));
        count("candidatesTokenCount", &|tokens| tokens + how.more_output);
        let counted = ["promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount"];
        if usage.contains_key("totalTokenCount") {
            let total: u64 = counted.iter().filter_map(|name| usage.get(*name)?.as_u64()).sum();
            usage.insert("totalTokenCount".to_owned(), total.into());
        }
    }
    Some(format!("data: {chunk}\r\n\r\n").into())
}

fn retell_parts(parts: &mut Vec<Json>, how: Retelling<'_>) {
    if how.without_reasoning {
        parts.retain(|part| part["thought"] != true);
    }
    let Some(text) = how.text else { return };
    // The whole of the new text stands where the first of the old did.
    let mut text = Some(text);
    parts.retain_mut(|part| {
        let is_text = part.get("text").is_some() && part["thought"] != true;
        match text.take_if(|_| is_text) {
            Some(text) => {
                part["text"] = text.into();
                true
            }
            None => !is_text || part.get("thoughtSignature").is_some_and(|_| part["text"] == ""),
        }
    });
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        parts.push(json!({"text": text}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(part: &str) -> Piece {
        piece(format!(r#"{{"candidates":[{{"content":{{"parts":[{part}]}},"index":0}}]}}"#).as_bytes()).unwrap()
    }

    #[test]
    fn a_piece_is_told_by_what_it_brings() {
        assert_eq!(part(r#"{"text":"","thoughtSignature":"s"}"#), Piece::default());
        assert_eq!(part(r#"{"text":"a\"b"},{"text":"c"}"#).text, "a\"bc");
        assert!(part(r#"{"text":"hm","thought":true}"#).reasoning);
        assert!(part(r#"{"functionCall":{"name":"f"}}"#).tool_call);
        assert!(part(r#"{"inlineData":{}}"#).other);
        let second = piece(br#"{"candidates":[{"index":1}]}"#).unwrap();
        assert!(second.other && second.second);
        assert!(piece(br#"{"candidates":[{"finishReason":"STOP"}]}"#).unwrap().finish);
        assert!(piece(br#"{"promptFeedback":{"blockReason":"OTHER"}}"#).unwrap().finish);
        assert!(piece(br#"{"usageMetadata":{"promptTokenCount":1}}"#).unwrap().usage && piece(b"{").is_none());
    }

    #[test]
    fn what_may_be_asked_for_is_in_the_request() {
        for (config, expected) in [
            ("{}", Remedy::Rest),
            (r#"{"candidateCount":1,"responseModalities":["TEXT"],"responseMimeType":"text/plain"}"#, Remedy::Rest),
            (r#"{"candidateCount":2}"#, Remedy::None),
            (r#"{"responseLogprobs":true}"#, Remedy::None),
            (r#"{"response_modalities":["AUDIO"]}"#, Remedy::None),
            (r#"{"response_mime_type":"application/json"}"#, Remedy::Again),
        ] {
            let body = format!(r#"{{"contents":[],"generationConfig":{config}}}"#);
            assert_eq!(remedy(body.as_bytes()), expected, "{config}");
        }
    }

    fn rest(body: &'static str, delivered: &str) -> (String, String) {
        let RestRequest { prefill, instruction } =
            rest_request(&Bytes::from_static(body.as_bytes()), delivered).unwrap();
        (String::from_utf8(prefill.to_vec()).unwrap(), String::from_utf8(instruction.to_vec()).unwrap())
    }

    #[test]
    fn the_rest_is_asked_for_with_every_other_byte_as_it_was() {
        let body = r#"{ "contents": [{"role":"user","parts":[{"text":"Hi"}]} ],"generationConfig":{ "maxOutputTokens" : 100},"x":1.0e0}"#;
        let (prefill, instruction) = rest(body, "Hello \"wor ");
        assert_eq!(
            prefill,
            r#"{ "contents": [{"role":"user","parts":[{"text":"Hi"}]} ,{"parts":[{"text":"Hello \"wor"}],"role":"model"}],"generationConfig":{ "maxOutputTokens" : 97},"x":1.0e0}"#
        );
        let asked: Json = serde_json::from_str(&instruction).unwrap();
        assert_eq!(asked["contents"][2], json!({"role": "user", "parts": [{"text": INSTRUCTION}]}));
        assert!(rest_request(&Bytes::from_static(body.as_bytes()), " \n").is_none());
    }

    #[test]
    fn a_turn_that_the_client_began_stays_one() {
        let body = r#"{"contents":[{"role":"model","parts":[{"text":"{\"a\":"}]}]}"#;
        let (prefill, instruction) = rest(body, " 1");
        assert_eq!(prefill, r#"{"contents":[{"role":"model","parts":[{"text":"{\"a\":"},{"text":" 1"}]}]}"#);
        assert_eq!(serde_json::from_str::<Json>(&instruction).unwrap()["contents"].as_array().unwrap().len(), 2);
        assert_eq!(rest(r#"{"contents":[]}"#, "x").0, r#"{"contents":[{"parts":[{"text":"x"}],"role":"model"}]}"#);
    }

    #[test]
    fn the_rest_reads_as_one_answer() {
        let first = br#"{"candidates":[],"modelVersion":"m1","responseId":"a"}"#;
        let data = br#"{"candidates":[{"content":{"parts":[{"text":"hm","thought":true},{"text":"x "},{"text":"y"},{"text":"","thoughtSignature":"s"}],
            "role":"model"},"index":0}],"modelVersion":"m2","responseId":"b","createTime":"z",
            "usageMetadata":{"promptTokenCount":30,"candidatesTokenCount":5,"thoughtsTokenCount":2,"totalTokenCount":37}}"#;
        let how = Retelling { text: Some("y"), without_reasoning: true, less_input: 10, more_output: 10 };
        let retold = retold(first, data, how).unwrap();
        let event = String::from_utf8(retold.to_vec()).unwrap();
        let chunk: Json = serde_json::from_str(event.strip_prefix("data: ").unwrap().trim_end()).unwrap();
        let expected = json!({
            "candidates": [{"content": {"parts": [{"text": "y"}, {"text": "", "thoughtSignature": "s"}], "role": "model"}, "index": 0}],
            "modelVersion": "m1", "responseId": "a",
            "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 15, "thoughtsTokenCount": 2, "totalTokenCount": 37},
        });
        assert_eq!(chunk, expected);
    }
}
