//! Whether a stream's events are in the order that Anthropic's are in, and have what its SDKs look for.

use bytes::Bytes;
use serde_json::Value as Json;

use crate::{body::EventStream, dialect::recorded::Exchange};

/// The data of a text's events.
pub(crate) fn data_of(stream: &str) -> Vec<String> {
    let whole = Bytes::copy_from_slice(stream.as_bytes());
    let mut events = EventStream::default();
    let mut whole = events.push(whole).unwrap().to_vec();
    whole.extend_from_slice(&events.finish());
    let mut splitter = EventStream::default();
    splitter.events(&whole).map(|(data, _)| String::from_utf8(data.to_vec()).unwrap()).collect()
}

/// The data of the events of each whole and unharmed stream of this dialect that was recorded together.
pub(crate) fn streams(exchange: &Exchange) -> Vec<Vec<String>> {
    let Some(stream) = exchange.stream.as_ref().filter(|_| exchange.status == 200) else { return Vec::new() };
    let events = data_of(stream);
    let is_event = |data: &String| serde_json::from_str::<Json>(data).is_ok_and(|json| json["type"].is_string());
    let is_last = |data: &String| data.contains("\"type\":\"message_stop\"");
    if !events.iter().all(is_event) || !events.last().is_some_and(is_last) {
        eprintln!("no whole stream of events: {}", exchange.file);
        return Vec::new();
    }
    events.split_inclusive(is_last).map(<[String]>::to_vec).collect()
}

/// Checks the events of a whole stream.
pub(crate) fn check(events: &[String]) -> Result<(), String> {
    let mut state = State::default();
    for data in events {
        let event: Json = serde_json::from_str(data).map_err(|error| format!("{error}: {data}"))?;
        state.event(&event).map_err(|what| format!("{what}: {data}"))?;
    }
    if state.stopped { Ok(()) } else { Err("it does not end".to_owned()) }
}

#[derive(Default)]
struct State {
    started: bool,
    /// The kind of the block that is open.
    open: Option<String>,
    blocks: u64,
    input: String,
    finished: bool,
    stopped: bool,
}

impl State {
    fn event(&mut self, event: &Json) -> Result<(), String> {
        let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        must(!self.stopped, "behind the end")?;
        match event["type"].as_str().unwrap_or_default() {
            "message_start" => {
                must(!self.started, "started twice")?;
                self.started = true;
                let message = &event["message"];
                must(message["type"] == "message" && message["role"] == "assistant", "no message of an assistant")?;
                must(message["id"].is_string() && message["model"].is_string(), "nobody's message")?;
                // An answer that goes on with what a tool of Anthropic's calls may come all at once.
                self.finished = message["stop_reason"].is_string();
                must(
                    message["content"].as_array().is_some_and(|blocks| self.finished != blocks.is_empty()),
                    "half begun",
                )?;
                must(
                    message["usage"]["input_tokens"].is_u64() && message["usage"]["output_tokens"].is_u64(),
                    "no usage",
                )
            }
            "content_block_start" => {
                must(self.started && !self.finished && self.open.is_none(), "a block in the wrong place")?;
                must(event["index"] == self.blocks, "blocks out of order")?;
                self.open = event["content_block"]["type"].as_str().map(str::to_owned);
                self.input.clear();
                must(self.open.is_some(), "a block of no kind")
            }
            "content_block_delta" => {
                must(self.open.is_some() && event["index"] == self.blocks, "a delta of no block")?;
                let delta = &event["delta"];
                let kind = self.open.as_deref().unwrap_or_default();
                let (allowed, member) = match delta["type"].as_str().unwrap_or_default() {
                    "text_delta" => (kind == "text", "text"),
                    "citations_delta" => (kind == "text", "citation"),
                    "thinking_delta" => (kind == "thinking", "thinking"),
                    "signature_delta" => (kind == "thinking", "signature"),
                    "input_json_delta" => (kind.ends_with("tool_use"), "partial_json"),
                    "compaction_delta" => (kind == "compaction", "content"),
                    other => return Err(format!("a delta of another kind: {other}")),
                };
                self.input.push_str(delta["partial_json"].as_str().unwrap_or_default());
                must(allowed && !delta[member].is_null(), "a delta of the wrong kind")
            }
            "content_block_stop" => {
                must(self.open.take().is_some() && event["index"] == self.blocks, "the end of no block")?;
                self.blocks += 1;
                let whole = self.input.is_empty() || serde_json::from_str::<Json>(&self.input).is_ok();
                must(whole, "half of an input")
            }
            "message_delta" => {
                must(self.started && self.open.is_none() && !self.finished, "over in the wrong place")?;
                self.finished = true;
                must(
                    event["delta"]["stop_reason"].is_string() && event["usage"]["output_tokens"].is_u64(),
                    "no reason to end",
                )
            }
            "message_stop" => {
                must(self.finished, "stopped before it was over")?;
                self.stopped = true;
                Ok(())
            }
            "ping" => Ok(()),
            other => Err(format!("an event of another kind: {other}")),
        }
    }
}

#[test]
fn recorded_streams_are_grammatical() {
    let mut checked = 0;
    for exchange in crate::dialect::recorded::exchanges("anthropic-messages") {
        for events in streams(&exchange) {
            // Written so by the authors of an SDK, to see what it makes of them.
            let odd = exchange.file.contains("spliced") || exchange.file.contains("duplicate");
            assert_eq!(check(&events).is_err(), odd, "{}: {:?}", exchange.file, check(&events));
            checked += 1;
        }
    }
    eprintln!("{checked} streams checked");
}

#[test]
fn what_is_out_of_order_is_found() {
    let start = r#"{"type":"message_start","message":{"type":"message","role":"assistant","id":"x","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":1,"output_tokens":1}}}"#;
    let begin = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    let text = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#;
    let input = r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"a"}}"#;
    let end = r#"{"type":"content_block_stop","index":0}"#;
    let finish = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}"#;
    let stop = r#"{"type":"message_stop"}"#;
    let checked = |events: &[&str]| check(&events.iter().map(|event| (*event).to_owned()).collect::<Vec<_>>());
    assert_eq!(checked(&[start, begin, text, end, finish, stop]), Ok(()));
    assert_eq!(checked(&[start, finish, stop]), Ok(()));
    for wrong in [
        &[start, begin, text, end, finish][..],
        &[start, begin, text, finish, stop],
        &[start, begin, begin, end, finish, stop],
        &[start, text, finish, stop],
        &[start, begin, input, end, finish, stop],
        &[start, start, finish, stop],
        &[begin, end, finish, stop],
        &[start, finish, stop, stop],
        &[start, finish, finish, stop],
        &[start, stop],
    ] {
        assert!(checked(wrong).is_err(), "{wrong:?}");
    }
}
