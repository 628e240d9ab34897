//! Completing a response's stream that broke off.
//!
//! Its events are numbered, name the item that they belong to, and end with all that was said. So the rest cannot be told
//! event by event by someone who knows nothing of what came before: [`Telling`] knows.

use std::ops::Range;

use bytes::Bytes;
use serde_json::{Map, Value as Json, json};

use super::request::asks_for_log_probabilities;
use crate::dialect::{
    edit::edited,
    json_scan::{Value, root_members},
    recovery::{INSTRUCTION, Piece, Remedy, RestRequest, Retelling, tokens_of},
};

/// The least that OpenAI takes for `max_output_tokens`.
const LEAST_OUTPUT: u64 = 16;

pub(crate) fn piece(data: &[u8]) -> Option<Piece> {
    let mut piece = Piece::default();
    if data.trim_ascii() == b"[DONE]" {
        piece.terminal = true;
        return Some(piece);
    }
    let (mut kind, mut delta, mut item, mut response) = (None, None, None, None);
    for member in root_members(data).ok()? {
        let (key, value) = member.ok()?;
        match &*key {
            "type" => kind = value.as_str(),
            "delta" => delta = value.as_str(),
            "item" => item = value.member("type").and_then(|kind| kind.as_str()),
            "response" => response = Some(value),
            _ => {}
        }
    }
    match kind?.strip_prefix("response.")? {
        "output_text.delta" => piece.text = delta?.into_owned(),
        "completed" | "incomplete" => {
            (piece.finish, piece.terminal) = (true, true);
            piece.usage = response.and_then(|response| response.member("usage")).is_some_and(|usage| !usage.is_null());
        }
        "output_item.added" | "output_item.done" => match item.as_deref() {
            Some("function_call" | "custom_tool_call") => piece.tool_call = true,
            // What it says has come, or is to come.
            Some("message" | "reasoning") => {}
            _ => piece.other = true,
        },
        kind if kind.starts_with("function_call_arguments") || kind.starts_with("custom_tool_call_input") => {
            piece.tool_call = true;
        }
        kind if kind.starts_with("reasoning") => piece.reasoning = true,
        "refusal.delta" | "output_text.annotation.added" => piece.other = true,
        // Progress, and the ends of what was told: an end is told again when the answer has one.
        _ => {}
    }
    Some(piece)
}

pub(crate) fn remedy(body: &[u8]) -> Remedy {
    let Ok(members) = root_members(body) else { return Remedy::None };
    let mut remedy = Remedy::Rest;
    for (key, value) in members.filter_map(Result::ok).filter(|(_, value)| !value.is_null()) {
        match &*key {
            "top_logprobs" if value.as_u64().is_some_and(|most| most > 0) => return Remedy::None,
            "include" if asks_for_log_probabilities(&value) => return Remedy::None,
            // What the provider keeps would hold the answer twice.
            "conversation" => return Remedy::None,
            "background" if value.is_true() => return Remedy::None,
            "text" => {
                let kind = value.member("format").and_then(|format| format.member("type"));
                if kind.is_some_and(|kind| kind.json() != b"\"text\"") {
                    remedy = Remedy::Again;
                }
            }
            _ => {}
        }
    }
    remedy
}

pub(crate) fn rest_request(body: &Bytes, delivered: &str) -> Option<RestRequest> {
    let delivered_text = delivered.trim_end();
    if delivered_text.is_empty() {
        return None;
    }
    let (mut edits, mut input) = (Vec::new(), None);
    for member in root_members(body).ok()? {
        let (key, value) = member.ok()?;
        match &*key {
            "input" => input = Some(value),
            "max_output_tokens" => {
                if let Some(most) = value.as_u64() {
                    let left = most.saturating_sub(tokens_of(delivered)).max(LEAST_OUTPUT);
                    edits.push((value.range(), left.to_string()));
                }
            }
            _ => {}
        }
    }
    let input = input?;
    let turn = json!({"role": "assistant", "content": delivered_text});
    let last = input.elements().last().and_then(Result::ok);
    let end = input.range().end;
    // Where the instruction goes, and what stands behind it there.
    let (place, close) = if input.is_string() {
        // One string is the user's message.
        let start = input.range().start;
        edits.push((start..start, r#"[{"role":"user","content":"#.to_owned()));
        edits.push((end..end, format!("}},{turn}")));
        (end..end, "]")
    } else {
        match last.as_ref().and_then(clients_prefill) {
            Some((range, text)) => edits.push((range, Json::from(format!("{text}{delivered_text}")).to_string())),
            None => {
                let comma = if last.is_some() { "," } else { "" };
                edits.push((end - 1..end - 1, format!("{comma}{turn}")));
            }
        }
        (end - 1..end - 1, "")
    };
    let with = |more: String| {
        let mut edits = edits.clone();
        edits.push((place.clone(), more + close));
        edited(body, edits)
    };
    let instruction = json!({"role": "user", "content": INSTRUCTION});
    Some(RestRequest { prefill: with(String::new()), instruction: with(format!(",{instruction}")) })
}

/// The text with which the client itself began the assistant's turn, if it did, and where it stands.
fn clients_prefill(last: &Value<'_>) -> Option<(Range<usize>, String)> {
    let is_assistant = last.member("role")?.json() == b"\"assistant\"";
    let content = last.member("content")?;
    let text = content.as_str()?.into_owned();
    is_assistant.then_some((content.range(), text))
}

/// What the client was told of an answer, as far as the rest of it depends on that.
#[derive(Clone, Debug, Default)]
pub(crate) struct Telling {
    /// The number of the next event.
    sequence: u64,
    /// The response as it was announced.
    response: Map<String, Json>,
    /// The items that are over.
    done: Vec<Json>,
    /// The item that is open, with what was said of its content; the part that is open is its last.
    open: Option<Json>,
    part_open: bool,
    /// Whether it was told what the open part says in all, so that no more can be said in it.
    text_over: bool,
}

impl Telling {
    /// Takes note of an event that the client is told.
    pub(crate) fn seen(&mut self, data: &[u8]) {
        let Ok(event) = serde_json::from_slice::<Json>(data) else { return };
        self.sequence = event["sequence_number"].as_u64().map_or(self.sequence, |number| number) + 1;
        match event["type"].as_str().and_then(|kind| kind.strip_prefix("response.")).unwrap_or_default() {
            "created" => self.response = event["response"].as_object().cloned().unwrap_or_default(),
            "output_item.added" => self.open = Some(event["item"].clone()),
            "output_item.done" => {
                self.open = None;
                (self.part_open, self.text_over) = (false, false);
                self.done.push(event["item"].clone());
            }
            "content_part.added" => self.add_part("content", &event),
            "reasoning_summary_part.added" => self.add_part("summary", &event),
            "content_part.done" => self.end_part("content", &event),
            "reasoning_summary_part.done" => self.end_part("summary", &event),
            "output_text.done" | "reasoning_text.done" | "reasoning_summary_text.done" => self.text_over = true,
            "output_text.delta" | "reasoning_text.delta" => self.push("content", &event),
            "reasoning_summary_text.delta" => self.push("summary", &event),
            _ => {}
        }
    }

    fn parts(&mut self, name: &str) -> Option<&mut Vec<Json>> {
        self.open.as_mut()?.get_mut(name)?.as_array_mut()
    }

    fn add_part(&mut self, name: &str, event: &Json) {
        let part = event["part"].clone();
        (self.part_open, self.text_over) = (true, false);
        self.parts(name).into_iter().for_each(|parts| parts.push(part.clone()));
    }

    fn end_part(&mut self, name: &str, event: &Json) {
        self.part_open = false;
        if let Some(last) = self.parts(name).and_then(|parts| parts.last_mut()) {
            *last = event["part"].clone();
        }
    }

    fn push(&mut self, name: &str, event: &Json) {
        let more = event["delta"].as_str().unwrap_or_default();
        if let Some(Json::String(text)) = self.parts(name).and_then(|parts| parts.last_mut()?.get_mut("text")) {
            text.push_str(more);
        }
    }

    /// An event of the rest as events of the answer that broke off, which are none where what it brings was told or is told
    /// later; `None` if it cannot be told.
    pub(crate) fn retold(&mut self, data: &[u8], how: Retelling<'_>) -> Option<Bytes> {
        let mut out = Vec::new();
        if data.trim_ascii() == b"[DONE]" {
            return Some(Bytes::new());
        }
        let mut event: Json = serde_json::from_slice(data).ok()?;
        if let Some(text) = how.text.filter(|text| !text.is_empty()) {
            self.say(text, &mut out);
        }
        let kind = event["type"].as_str()?.strip_prefix("response.")?.to_owned();
        match &*kind {
            "completed" | "incomplete" => self.end(&kind, event["response"].take(), how, &mut out)?,
            "output_item.added" | "output_item.done" if is_call(&event["item"]) => {
                if kind == "output_item.added" {
                    self.close("completed", &mut out);
                }
                self.tell(&kind, event, &mut out);
            }
            kind if kind.starts_with("function_call_arguments") || kind.starts_with("custom_tool_call_input") => {
                self.tell(kind, event, &mut out);
            }
            // What the model thought the second time is not what it thought; and the ends of items come with the next one.
            _ => {}
        }
        Some(out.into())
    }

    /// Tells an event about the item whose turn it is.
    fn tell(&mut self, kind: &str, mut event: Json, out: &mut Vec<u8>) {
        let kind = format!("response.{kind}");
        event["type"] = kind.clone().into();
        event["sequence_number"] = self.sequence.into();
        if !kind.ends_with(".completed") && !kind.ends_with(".incomplete") {
            event["output_index"] = self.done.len().into();
        }
        let data = event.to_string();
        out.extend_from_slice(format!("event: {kind}\ndata: {data}\n\n").as_bytes());
        self.seen(data.as_bytes());
    }

    /// Tells more of the text, in the message that is open or in one of its own.
    fn say(&mut self, text: &str, out: &mut Vec<u8>) {
        let is_message = self.open.as_ref().is_some_and(|item| item["type"] == "message");
        if !is_message || self.text_over {
            self.close("completed", out);
            let stem = self.response.get("id").and_then(Json::as_str).unwrap_or("resp").replace("resp_", "");
            let id = format!("msg_{stem}_{}", self.done.len());
            let item =
                json!({"id": id, "type": "message", "status": "in_progress", "content": [], "role": "assistant"});
            self.tell("output_item.added", json!({"item": item}), out);
        }
        if !self.part_open {
            let part = json!({"type": "output_text", "annotations": [], "logprobs": [], "text": ""});
            let index = self.parts("content").map_or(0, |parts| parts.len());
            self.tell("content_part.added", self.of_item(json!({"content_index": index, "part": part})), out);
        }
        let index = self.parts("content").map_or(0, |parts| parts.len().saturating_sub(1));
        let delta = self.of_item(json!({"content_index": index, "delta": text, "logprobs": []}));
        self.tell("output_text.delta", delta, out);
    }

    fn of_item(&self, mut event: Json) -> Json {
        event["item_id"] = self.open.as_ref().map_or(Json::Null, |item| item["id"].clone());
        event
    }

    /// Tells that the open item is over.
    fn close(&mut self, status: &str, out: &mut Vec<u8>) {
        let Some(item) = self.open.clone() else { return };
        let is_message = item["type"] == "message";
        if self.part_open {
            let name =
                if item["summary"].as_array().is_some_and(|parts| !parts.is_empty()) { "summary" } else { "content" };
            let index = item[name].as_array().map_or(0, |parts| parts.len().saturating_sub(1));
            let part = item[name][index].clone();
            let (place, text, ended) = match name {
                "summary" => ("summary_index", "reasoning_summary_text.done", "reasoning_summary_part.done"),
                _ if is_message => ("content_index", "output_text.done", "content_part.done"),
                _ => ("content_index", "reasoning_text.done", "content_part.done"),
            };
            let mut done = self.of_item(json!({place: index, "text": part["text"]}));
            if is_message {
                done["logprobs"] = json!([]);
            }
            if !self.text_over {
                self.tell(text, done, out);
            }
            self.tell(ended, self.of_item(json!({place: index, "part": part})), out);
        }
        let mut item = self.open.clone().unwrap_or_default();
        if is_message {
            item["status"] = status.into();
        }
        self.tell("output_item.done", json!({"item": item}), out);
    }

    /// Tells the end: it carries all that was told, whoever said it, under the name under which the answer began.
    fn end(&mut self, kind: &str, mut response: Json, how: Retelling<'_>, out: &mut Vec<u8>) -> Option<()> {
        self.close(kind, out);
        let whole = response.as_object_mut()?;
        for name in ["id", "created_at", "model"] {
            if let Some(value) = self.response.get(name) {
                whole.insert(name.to_owned(), value.clone());
            }
        }
        whole.insert("output".to_owned(), Json::Array(self.done.clone()));
        if let Some(usage) = whole.get_mut("usage").and_then(Json::as_object_mut) {
            let count = |name: &str| usage.get(name).and_then(Json::as_u64);
            if let (Some(input), Some(output)) = (count("input_tokens"), count("output_tokens")) {
                // The answer is one, so what was delivered before counts as output, once.
                let (input, output) = (input.saturating_sub(how.less_input), output + how.more_output);
                for (name, tokens) in
                    [("input_tokens", input), ("output_tokens", output), ("total_tokens", input + output)]
                {
                    usage.insert(name.to_owned(), tokens.into());
                }
            }
        }
        self.tell(kind, json!({"response": response}), out);
        Some(())
    }
}

fn is_call(item: &Json) -> bool {
    matches!(item["type"].as_str(), Some("function_call" | "custom_tool_call"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        body::EventStream,
        dialect::{
            canonical::{Block, Event, Finish, Head, Losses, Text},
            openai_responses::stream::{encode::Encoder, grammar},
        },
    };

    fn stream(id: &str, blocks: &[(Block<'static>, &[&str])]) -> Vec<String> {
        let (mut encoder, mut out) = (Encoder::new(true), Vec::new());
        let head = Head { id: Some(Text::plain(id)), model: Some(Text::plain(id)), created: Some(1) };
        let mut events = vec![Event::Start(head)];
        for (block, pieces) in blocks {
            events.push(Event::Begin(block.clone()));
            events.extend(pieces.iter().map(|piece| Event::Delta(Text::plain(piece))));
            events.push(Event::End);
        }
        let usage = crate::Usage { input: 30, output: 5, ..crate::Usage::default() };
        events.extend([Event::Usage(usage), Event::Finish(Finish::Stop), Event::Done]);
        events.iter().for_each(|event| encoder.event(event, &mut Losses::default(), &mut out));
        let mut splitter = EventStream::default();
        splitter.events(&out).map(|(data, _)| String::from_utf8(data.into_owned()).unwrap()).collect()
    }

    /// The first events of one stream, and the rest as the other tells it; each piece of text as the function says.
    fn joined(first: &[String], rest: &[String], text: impl Fn(&str) -> String) -> String {
        let (mut telling, mut whole) = (Telling::default(), String::new());
        for data in first {
            telling.seen(data.as_bytes());
            whole.push_str(&format!("data: {data}\n\n"));
        }
        for data in rest {
            let piece = piece(data.as_bytes()).unwrap();
            let text = text(&piece.text);
            let how = Retelling { text: Some(&text), less_input: 10, more_output: 10, ..Retelling::default() };
            whole.push_str(std::str::from_utf8(&telling.retold(data.as_bytes(), how).unwrap()).unwrap());
        }
        whole
    }

    #[test]
    fn wherever_a_stream_breaks_the_rest_makes_it_one() {
        let call = || Block::Call { id: Text::plain("c"), name: Text::plain("f") };
        let first = stream("resp_a", &[(Block::Thought, &["h", "m"]), (Block::Text, &["one", " two", " three"])]);
        let rest: [&[(Block<'static>, &[&str])]; 3] = [
            &[(Block::Text, &[" and", " so on"])],
            &[
                (Block::Thought, &["hm"]),
                (Block::Text, &[" and", " so on"]),
                (call(), &["{}"]),
                (call(), &["{\"a\":1}"]),
            ],
            &[(call(), &["{}"]), (Block::Text, &["x"])],
        ];
        for rest in rest {
            let rest = stream("resp_b", rest);
            for cut in 1..first.len() {
                let whole = joined(&first[..cut], &rest, str::to_owned);
                grammar::check(&whole).unwrap_or_else(|why| panic!("cut at {cut}: {why}\n{whole}"));
                let last: Json = serde_json::from_str(whole.trim_end().rsplit("data: ").next().unwrap()).unwrap();
                assert_eq!((&last["response"]["id"], &last["response"]["model"]), (&json!("resp_a"), &json!("resp_a")));
                assert_eq!(last["response"]["usage"]["total_tokens"], 35);
            }
        }
        // As much as was delivered of "one two three" ends before " three".
        let at = first.iter().position(|data| data.contains("\"delta\":\" three\"")).unwrap();
        let whole = joined(&first[..at], &stream("resp_b", &[(Block::Text, &["one two three", "!"])]), |text| {
            text.strip_prefix("one two").unwrap_or(text).to_owned()
        });
        let last: Json = serde_json::from_str(whole.trim_end().rsplit("data: ").next().unwrap()).unwrap();
        assert_eq!(last["response"]["output"][1]["content"][0]["text"], "one two three!");
    }

    #[test]
    fn a_piece_is_told_by_what_it_brings() {
        let of = |data: &str| piece(data.as_bytes()).unwrap();
        assert_eq!(of(r#"{"type":"response.output_text.delta","delta":"a\"b"}"#).text, "a\"b");
        assert_eq!(of(r#"{"type":"response.output_item.added","item":{"type":"message"}}"#), Piece::default());
        assert!(of(r#"{"type":"response.output_item.added","item":{"type":"function_call"}}"#).tool_call);
        assert!(of(r#"{"type":"response.output_item.added","item":{"type":"web_search_call"}}"#).other);
        assert!(of(r#"{"type":"response.function_call_arguments.delta","delta":"{"}"#).tool_call);
        assert!(of(r#"{"type":"response.reasoning_summary_text.delta","delta":"hm"}"#).reasoning);
        assert!(of(r#"{"type":"response.refusal.delta","delta":"no"}"#).other);
        let end = of(r#"{"type":"response.completed","response":{"usage":{"input_tokens":1}}}"#);
        assert!(end.finish && end.terminal && end.usage);
        assert!(piece(b"{").is_none());
    }

    #[test]
    fn what_may_be_asked_for_is_in_the_request() {
        for (body, expected) in [
            (r#"{"stream":true,"text":{"format":{"type":"text"}},"conversation":null}"#, Remedy::Rest),
            (r#"{"text":{"format":{"type":"json_schema"}}}"#, Remedy::Again),
            (r#"{"conversation":"conv_1"}"#, Remedy::None),
            (r#"{"background":true}"#, Remedy::None),
            (r#"{"top_logprobs":2}"#, Remedy::None),
            (r#"{"include":["message.output_text.logprobs"]}"#, Remedy::None),
            (r#"{"include":["reasoning.encrypted_content"]}"#, Remedy::Rest),
        ] {
            assert_eq!(remedy(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn the_rest_is_asked_for_with_every_other_byte_as_it_was() {
        let rest = |body: &'static str, delivered: &str| {
            let rest = rest_request(&Bytes::from_static(body.as_bytes()), delivered).unwrap();
            [rest.prefill, rest.instruction].map(|body| String::from_utf8(body.to_vec()).unwrap())
        };
        let [prefill, instruction] = rest(r#"{ "input": "Hi" , "max_output_tokens" : 100,"x":1.0e0}"#, "Hello \"wor ");
        assert_eq!(
            prefill,
            r#"{ "input": [{"role":"user","content":"Hi"},{"content":"Hello \"wor","role":"assistant"}] , "max_output_tokens" : 97,"x":1.0e0}"#
        );
        let asked: Json = serde_json::from_str(&instruction).unwrap();
        assert_eq!(asked["input"][2], json!({"role": "user", "content": INSTRUCTION}));
        let [prefill, instruction] = rest(r#"{"input":[{"role":"user","content":"Hi"} ]}"#, "x");
        assert_eq!(prefill, r#"{"input":[{"role":"user","content":"Hi"} ,{"content":"x","role":"assistant"}]}"#);
        assert_eq!(serde_json::from_str::<Json>(&instruction).unwrap()["input"].as_array().unwrap().len(), 3);
        let [prefill, _] = rest(r#"{"input":[{"role":"assistant","content":"a"}]}"#, " b");
        assert_eq!(prefill, r#"{"input":[{"role":"assistant","content":"a b"}]}"#);
        assert!(rest_request(&Bytes::from_static(b"{\"input\":\"x\"}"), " \n").is_none());
    }
}
