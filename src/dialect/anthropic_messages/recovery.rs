//! Completing a message stream that broke off.

use std::ops::Range;

use bytes::Bytes;
use serde_json::{Value as Json, json};

use crate::dialect::{
    edit::edited,
    json_scan::{Malformed, Value, root_members},
    recovery::{INSTRUCTION, Piece, Remedy, RestRequest, Retelling, tokens_of},
};

/// What says that nothing comes behind it.
pub(crate) const TERMINAL: Bytes = Bytes::from_static(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");

pub(crate) fn piece(data: &[u8]) -> Option<Piece> {
    read(data).ok()
}

fn read(data: &[u8]) -> Result<Piece, Malformed> {
    let mut piece = Piece::default();
    let (mut kind, mut delta, mut block, mut message, mut usage) = Default::default();
    for member in root_members(data)? {
        let (key, value) = member?;
        let place: &mut Option<Value<'_>> = match &*key {
            "type" => &mut kind,
            "delta" => &mut delta,
            "content_block" => &mut block,
            "message" => &mut message,
            "usage" => &mut usage,
            _ => continue,
        };
        *place = Some(value);
    }
    let kind = kind.ok_or(Malformed { at: 0 })?;
    match (kind.json(), delta, block, message) {
        (b"\"content_block_delta\"", Some(delta), ..) => read_delta(&delta, &mut piece),
        (b"\"content_block_start\"", _, Some(block), _) => read_block(&block, &mut piece),
        (b"\"message_delta\"", Some(delta), ..) => {
            piece.finish = delta.member("stop_reason").is_some_and(|reason| reason.is_string());
            piece.usage = usage.is_some_and(|usage| usage.is_object());
        }
        (b"\"message_start\"", _, _, Some(message)) => {
            // All of an answer at once: what a tool of Anthropic's called.
            piece.other = message.member("content").is_some_and(|content| content.elements().next().is_some());
            piece.finish = message.member("stop_reason").is_some_and(|reason| reason.is_string());
        }
        (b"\"message_stop\"", ..) => piece.terminal = true,
        (b"\"error\"", ..) => piece.other = true,
        _ => {}
    }
    Ok(piece)
}

fn read_delta(delta: &Value<'_>, piece: &mut Piece) {
    for (key, value) in delta.members().filter_map(Result::ok) {
        match (&*key, value.as_str()) {
            ("type" | "estimated_tokens", _) => {}
            ("text", Some(text)) => piece.text.push_str(&text),
            ("thinking" | "signature", Some(text)) => piece.reasoning |= !text.is_empty(),
            ("partial_json", _) => piece.tool_call = true,
            // Citations, and whatever may come.
            _ => piece.other = true,
        }
    }
}

fn read_block(block: &Value<'_>, piece: &mut Piece) {
    let kind = block.member("type");
    let text = |name| block.member(name).and_then(|text| Some(text.as_str()?.into_owned())).unwrap_or_default();
    match kind.as_ref().map(Value::json) {
        Some(b"\"text\"") => piece.text = text("text"),
        Some(b"\"thinking\"") => piece.reasoning = !text("thinking").is_empty(),
        Some(b"\"redacted_thinking\"") => piece.reasoning = true,
        Some(b"\"tool_use\"") => piece.tool_call = true,
        _ => piece.other = true,
    }
}

pub(crate) fn remedy(body: &[u8]) -> Remedy {
    let Ok(members) = root_members(body) else { return Remedy::None };
    for (key, value) in members.filter_map(Result::ok) {
        let format = match &*key {
            "output_format" => Some(value),
            "output_config" => value.member("format"),
            _ => None,
        };
        if format.is_some_and(|format| format.is_object()) {
            return Remedy::Again;
        }
    }
    Remedy::Rest
}

pub(crate) fn rest_request(body: &Bytes, delivered: &str) -> Option<RestRequest> {
    // What is begun may not end with white space.
    let delivered_text = delivered.trim_end();
    if delivered_text.is_empty() {
        return None;
    }
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    let (mut messages, mut most, mut thinking) = (None, None, None);
    for member in root_members(body).ok()? {
        let (key, value) = member.ok()?;
        match &*key {
            "messages" => messages = Some(value),
            "max_tokens" => most = Some(value),
            "thinking" => thinking = Some(value),
            _ => {}
        }
    }
    let budget = thinking.as_ref().and_then(|thinking| thinking.member("budget_tokens")?.as_u64());
    if let Some((place, number)) = most.and_then(|most| Some((most.range(), most.as_u64()?))) {
        // There must be more of them than of those to think with.
        let least = budget.map_or(1, |budget| budget + 1);
        let left = number.saturating_sub(tokens_of(delivered)).max(least).min(number);
        edits.push((place, left.to_string()));
    }
    let messages = messages.filter(|messages| messages.json().first() == Some(&b'['))?;
    let end = messages.range().end - 1;
    let last = messages.elements().last().and_then(Result::ok);
    match last.as_ref().and_then(clients_prefill) {
        Some((place, text)) => edits.push((place, Json::from(format!("{text}{delivered_text}")).to_string())),
        None => {
            let comma = if last.is_some() { "," } else { "" };
            edits.push((end..end, format!("{comma}{}", json!({"role": "assistant", "content": delivered_text}))));
        }
    }
    let mut prefill = edits.clone();
    if let Some(thinking) = thinking.filter(|_| budget.is_some()) {
        // A turn that is begun cannot be thought about.
        prefill.push((thinking.range(), json!({"type": "disabled"}).to_string()));
    }
    edits.push((end..end, format!(",{}", json!({"role": "user", "content": INSTRUCTION}))));
    Some(RestRequest { prefill: edited(body, prefill), instruction: edited(body, edits) })
}

/// The text with which the client itself began the assistant's turn, if it did, and where it stands.
fn clients_prefill(last: &Value<'_>) -> Option<(Range<usize>, String)> {
    let is_assistant = last.member("role")?.json() == b"\"assistant\"";
    let content = last.member("content")?;
    let text = match content.is_string() {
        true => content,
        false => content.elements().last()?.ok()?.member("text")?,
    };
    is_assistant.then_some((text.range(), text.as_str()?.into_owned()))
}

/// The blocks of an answer that the client has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blocks {
    /// What is open, the last of them.
    open: Option<Kind>,
    /// How many have begun.
    begun: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thought,
    Call,
    Other,
}

impl Blocks {
    /// Takes note of an event that the client is given as it came.
    pub(crate) fn passed(&mut self, data: &[u8]) {
        let members = root_members(data).into_iter().flatten().filter_map(Result::ok);
        let (mut kind, mut block) = (None, None);
        for (key, value) in members {
            match &*key {
                "type" => kind = Some(value),
                "content_block" => block = value.member("type"),
                _ => {}
            }
        }
        match kind.as_ref().map(Value::json) {
            Some(b"\"content_block_start\"") => {
                self.begun += 1;
                self.open = Some(match block.as_ref().map(Value::json) {
                    Some(b"\"text\"") => Kind::Text,
                    Some(b"\"thinking\"") => Kind::Thought,
                    Some(b"\"tool_use\"") => Kind::Call,
                    _ => Kind::Other,
                });
            }
            Some(b"\"content_block_stop\"") => self.open = None,
            _ => {}
        }
    }

    /// An event of the rest as one, or several, of the answer that broke off: what it brings goes into the block that is
    /// open, or into one of its own. Where the rest's own blocks begin and end does not matter.
    pub(crate) fn retold(&mut self, data: &[u8], how: Retelling<'_>) -> Option<Bytes> {
        let mut event: Json = serde_json::from_slice(data).ok()?;
        let mut out = String::new();
        let delta = std::mem::take(&mut event["delta"]);
        let text = match how.text {
            Some(text) => Some(text),
            None => delta["text"].as_str(),
        };
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.continue_in(Kind::Text, || json!({"type": "text", "text": ""}), &mut out);
            self.delta(json!({"type": "text_delta", "text": text}), &mut out);
        }
        match event["type"].as_str()? {
            "content_block_start" => self.begin(std::mem::take(&mut event["content_block"]), how, &mut out),
            "content_block_delta" => match delta["type"].as_str()? {
                "text_delta" => {}
                "thinking_delta" | "signature_delta" if how.without_reasoning => {}
                "thinking_delta" | "signature_delta" => {
                    self.continue_in(
                        Kind::Thought,
                        || json!({"type": "thinking", "thinking": "", "signature": ""}),
                        &mut out,
                    );
                    self.delta(delta, &mut out);
                }
                "input_json_delta" if self.open == Some(Kind::Call) => self.delta(delta, &mut out),
                _ => return None,
            },
            "message_delta" => {
                self.end(&mut out);
                if let Some(usage) = event["usage"].as_object_mut() {
                    // The answer is one, so what was delivered before counts as output, once.
                    let mut count = |name: &str, change: &dyn Fn(u64) -> u64| {
                        if let Some(tokens) = usage.get(name).and_then(Json::as_u64) {
                            usage.insert(name.to_owned(), change(tokens).into());
                        }
                    };
                    count("input_tokens", &|tokens| tokens.saturating_sub(how.less_input));
                    count("output_tokens", &|tokens| tokens + how.more_output);
                }
                event["delta"] = delta;
                write(&event, &mut out);
            }
            "message_stop" => out.push_str(std::str::from_utf8(&TERMINAL).unwrap_or_default()),
            _ => {}
        }
        Some(out.into())
    }

    fn begin(&mut self, block: Json, how: Retelling<'_>, out: &mut String) {
        let kind = match block["type"].as_str() {
            // They begin with what they bring.
            Some("text" | "thinking") => return,
            Some("redacted_thinking") if how.without_reasoning => return,
            Some("tool_use") => Kind::Call,
            _ => Kind::Other,
        };
        self.end(out);
        self.start(kind, block, out);
    }

    /// Makes sure that such a block is open.
    fn continue_in(&mut self, kind: Kind, block: impl FnOnce() -> Json, out: &mut String) {
        if self.open != Some(kind) {
            self.end(out);
            self.start(kind, block(), out);
        }
    }

    fn start(&mut self, kind: Kind, block: Json, out: &mut String) {
        write(&json!({"type": "content_block_start", "index": self.begun, "content_block": block}), out);
        self.begun += 1;
        self.open = Some(kind);
    }

    fn delta(&self, delta: Json, out: &mut String) {
        write(&json!({"type": "content_block_delta", "index": self.begun.saturating_sub(1), "delta": delta}), out);
    }

    fn end(&mut self, out: &mut String) {
        if self.open.take().is_some() {
            write(&json!({"type": "content_block_stop", "index": self.begun.saturating_sub(1)}), out);
        }
    }
}

fn write(event: &Json, out: &mut String) {
    let name = event["type"].as_str().unwrap_or_default();
    out.push_str(&format!("event: {name}\ndata: {event}\n\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(delta: &str) -> Piece {
        piece(format!(r#"{{"type":"content_block_delta","index":0,"delta":{delta}}}"#).as_bytes()).unwrap()
    }

    fn block(block: &str) -> Piece {
        piece(format!(r#"{{"type":"content_block_start","index":0,"content_block":{block}}}"#).as_bytes()).unwrap()
    }

    #[test]
    fn a_piece_is_told_by_what_it_brings() {
        assert_eq!(delta(r#"{"type":"text_delta","text":"a\"b"}"#).text, "a\"b");
        assert!(delta(r#"{"type":"thinking_delta","thinking":"hm"}"#).reasoning);
        assert!(delta(r#"{"type":"signature_delta","signature":"s"}"#).reasoning);
        assert!(delta(r#"{"type":"input_json_delta","partial_json":""}"#).tool_call);
        assert!(delta(r#"{"type":"citations_delta","citation":{}}"#).other);
        assert_eq!(block(r#"{"type":"text","text":""}"#), Piece::default());
        assert_eq!(block(r#"{"type":"thinking","thinking":"","signature":""}"#), Piece::default());
        assert!(block(r#"{"type":"tool_use","id":"t","name":"f","input":{}}"#).tool_call);
        assert!(block(r#"{"type":"server_tool_use","id":"t"}"#).other);
        let finish =
            piece(br#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}"#)
                .unwrap();
        assert!(finish.finish && finish.usage);
        assert!(
            piece(br#"{"type":"message_stop"}"#).unwrap().terminal && piece(b"{").is_none() && piece(b"{}").is_none()
        );
        for silent in [
            r#"{"type":"ping"}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"message_start","message":{"content":[]}}"#,
        ] {
            assert_eq!(piece(silent.as_bytes()), Some(Piece::default()), "{silent}");
        }
    }

    #[test]
    fn what_may_be_asked_for_is_in_the_request() {
        for (body, expected) in [
            (r#"{"stream":true}"#, Remedy::Rest),
            (r#"{"output_config":{"effort":"low"}}"#, Remedy::Rest),
            (r#"{"output_config":{"format":{"type":"json_schema"}}}"#, Remedy::Again),
            (r#"{"output_format":{"type":"json_schema"}}"#, Remedy::Again),
        ] {
            assert_eq!(remedy(body.as_bytes()), expected, "{body}");
        }
    }

    fn rest(body: &'static str, delivered: &str) -> (String, Json) {
        let RestRequest { prefill, instruction } =
            rest_request(&Bytes::from_static(body.as_bytes()), delivered).unwrap();
        (String::from_utf8(prefill.to_vec()).unwrap(), serde_json::from_slice(&instruction).unwrap())
    }

    #[test]
    fn the_rest_is_asked_for_with_every_other_byte_as_it_was() {
        let body = r#"{ "messages": [{"role":"user","content":"Hi"} ], "max_tokens" : 100,"x":1.0e0}"#;
        let (prefill, instruction) = rest(body, "Hello \"wor ");
        assert_eq!(
            prefill,
            r#"{ "messages": [{"role":"user","content":"Hi"} ,{"content":"Hello \"wor","role":"assistant"}], "max_tokens" : 97,"x":1.0e0}"#
        );
        assert_eq!(instruction["messages"][1]["content"], "Hello \"wor");
        assert_eq!(instruction["messages"][2], json!({"role": "user", "content": INSTRUCTION}));
        assert!(rest_request(&Bytes::from_static(body.as_bytes()), " \n").is_none());
    }

    #[test]
    fn a_turn_that_the_client_began_stays_one() {
        let (prefill, _) = rest(r#"{"messages":[{"role":"assistant","content":"{\"a\":"}]}"#, " 1");
        assert_eq!(prefill, r#"{"messages":[{"role":"assistant","content":"{\"a\": 1"}]}"#);
        let (prefill, _) = rest(r#"{"messages":[{"role":"assistant","content":[{"type":"text","text":"a"}]}]}"#, "b");
        assert_eq!(prefill, r#"{"messages":[{"role":"assistant","content":[{"type":"text","text":"ab"}]}]}"#);
    }

    #[test]
    fn what_is_begun_is_not_thought_about_to_a_budget() {
        let body = r#"{"max_tokens":2049,"thinking":{"type":"enabled","budget_tokens":2048},"messages":[{"role":"user","content":"a"}]}"#;
        let (prefill, instruction) = rest(body, "some text");
        assert!(prefill.starts_with(r#"{"max_tokens":2049,"thinking":{"type":"disabled"},"#), "{prefill}");
        assert_eq!(
            (&instruction["max_tokens"], &instruction["thinking"]["budget_tokens"]),
            (&json!(2049), &json!(2048))
        );
    }

    #[test]
    fn the_rest_goes_into_the_block_that_is_open() {
        let mut blocks = Blocks::default();
        blocks.passed(br#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}"#);
        blocks.passed(br#"{"type":"content_block_stop","index":0}"#);
        blocks.passed(br#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#);
        let how = Retelling { text: Some("y"), less_input: 10, more_output: 10, ..Retelling::default() };
        let mut tell = |data: &str, how: Retelling<'_>| {
            let told = blocks.retold(data.as_bytes(), how).unwrap();
            let text = String::from_utf8(told.to_vec()).unwrap();
            let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
            data.map(|data| serde_json::from_str::<Json>(data).unwrap()).collect::<Vec<_>>()
        };
        assert!(tell(r#"{"type":"message_start","message":{}}"#, Retelling::default()).is_empty());
        assert!(
            tell(
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
                Retelling::default()
            )
            .is_empty()
        );
        assert_eq!(
            tell(r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x y"}}"#, how),
            [json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "y"}})]
        );
        let call = r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#;
        let told = tell(call, Retelling::default());
        assert_eq!((&told[0]["type"], &told[1]["index"]), (&json!("content_block_stop"), &json!(2)));
        let finish = r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"input_tokens":30,"output_tokens":5}}"#;
        assert_eq!(
            tell(finish, Retelling { text: None, ..how }),
            [
                json!({"type": "content_block_stop", "index": 2}),
                json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"input_tokens": 20, "output_tokens": 15}}),
            ]
        );
        assert_eq!(tell(r#"{"type":"message_stop"}"#, Retelling::default()), [json!({"type": "message_stop"})]);
    }
}
