//! An answer as a message, whole or as its events.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{event, rules::SIGNATURE};
use crate::simulated::answer::{Answer, Asked, Ending, Events, Part, json_pieces, text_pieces, tokens};
use crate::simulated::server::Server;

/// An answer in Anthropic's words.
#[derive(Clone, Debug)]
pub(super) struct Message<'a> {
    asked: &'a Asked,
    answer: &'a Answer,
    ending: &'a Ending,
    id: String,
    /// The calls' ids.
    call_ids: Vec<String>,
}

impl<'a> Message<'a> {
    pub(super) fn new(asked: &'a Asked, answer: &'a Answer, ending: &'a Ending, server: &Server) -> Self {
        let calls = if let Answer::Calls(calls) = answer { calls.len() } else { 0 };
        let call_ids = (0..calls).map(|_| format!("toolu_{}", server.next_id())).collect();
        Self { asked, answer, ending, id: format!("msg_{}", server.next_id()), call_ids }
    }

    pub(super) fn whole(&self) -> Value {
        let mut content: Vec<Value> = Vec::new();
        if let Some(reasoning) = self.asked.reasoning() {
            content.push(json!({"type": "thinking", "thinking": reasoning, "signature": SIGNATURE}));
        }
        match self.answer {
            Answer::Text(text) | Answer::Json(text) if text.is_empty() => {}
            Answer::Text(text) | Answer::Json(text) => content.push(json!({"type": "text", "text": text})),
            Answer::Calls(calls) => {
                for (call, id) in calls.iter().zip(&self.call_ids) {
                    let input: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
                    content.push(json!({"type": "tool_use", "id": id, "name": call.name, "input": input}));
                }
            }
        }
        let mut message = self.envelope(self.usage(self.output_tokens()));
        message["content"] = content.into();
        message["stop_reason"] = self.stop_reason().into();
        message["stop_sequence"] = self.stop_sequence();
        message
    }

    /// The events of a stream, with at most so many pieces of text.
    pub(super) fn events(&self, most: usize) -> Events {
        let mut stream = Stream::default();
        stream
            .silent(event("message_start", &json!({"type": "message_start", "message": self.envelope(self.usage(1))})));
        if let Some(reasoning) = self.asked.reasoning() {
            stream.begin(json!({"type": "thinking", "thinking": "", "signature": ""}));
            for piece in text_pieces(&reasoning, most) {
                stream.delta(Part::Reasoning, json!({"type": "thinking_delta", "thinking": piece}));
            }
            stream.silent_delta(json!({"type": "signature_delta", "signature": SIGNATURE}));
            stream.end();
        }
        match self.answer {
            Answer::Text(text) | Answer::Json(text) if text.is_empty() => {}
            Answer::Text(_) | Answer::Json(_) => {
                let part = if matches!(self.answer, Answer::Json(_)) { Part::StructuredOutput } else { Part::Text };
                stream.begin(json!({"type": "text", "text": ""}));
                for piece in self.answer.text_pieces(most) {
                    stream.delta(part, json!({"type": "text_delta", "text": piece}));
                }
                stream.end();
            }
            Answer::Calls(calls) => {
                for (call, id) in calls.iter().zip(&self.call_ids) {
                    stream.begin(json!({"type": "tool_use", "id": id, "name": call.name, "input": {}}));
                    // That it begins is the first that is seen of a call.
                    stream.delta(Part::ToolCall, json!({"type": "input_json_delta", "partial_json": ""}));
                    for piece in json_pieces(&call.arguments, most) {
                        stream.delta(Part::ToolCall, json!({"type": "input_json_delta", "partial_json": piece}));
                    }
                    stream.end();
                }
            }
        }
        let delta = json!({"stop_reason": self.stop_reason(), "stop_sequence": self.stop_sequence()});
        let usage = self.usage(self.output_tokens());
        let finish = event("message_delta", &json!({"type": "message_delta", "delta": delta, "usage": usage}));
        stream.finish(finish, event("message_stop", &json!({"type": "message_stop"})))
    }

    fn envelope(&self, usage: Value) -> Value {
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.asked.model, "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": usage,
        })
    }

    fn stop_reason(&self) -> &'static str {
        match (self.answer, self.ending) {
            (Answer::Calls(_), _) => "tool_use",
            (_, Ending::Whole) => "end_turn",
            (_, Ending::Length) => "max_tokens",
            (_, Ending::Stopped(_)) => "stop_sequence",
        }
    }

    fn stop_sequence(&self) -> Value {
        match self.ending {
            Ending::Stopped(sequence) => sequence.as_str().into(),
            _ => Value::Null,
        }
    }

    fn thinking_tokens(&self) -> usize {
        self.asked.reasoning().map_or(0, |reasoning| tokens(&reasoning))
    }

    fn output_tokens(&self) -> usize {
        self.answer.tokens() + self.thinking_tokens()
    }

    fn usage(&self, output_tokens: usize) -> Value {
        let mut usage = json!({
            "input_tokens": self.asked.prompt_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": output_tokens,
            "service_tier": "standard",
        });
        if self.asked.reasons {
            usage["output_tokens_details"] = json!({"thinking_tokens": self.thinking_tokens()});
        }
        usage
    }
}

/// A stream as it is written. What carries no output goes with what does: the faults count events that do.
#[derive(Default)]
struct Stream {
    events: Events,
    silent: Vec<u8>,
    index: usize,
}

impl Stream {
    fn silent(&mut self, event: Bytes) {
        self.silent.extend_from_slice(&event);
    }

    fn begin(&mut self, block: Value) {
        let data = json!({"type": "content_block_start", "index": self.index, "content_block": block});
        self.silent(event("content_block_start", &data));
        let is_first = self.events.output.is_empty();
        if is_first && data["content_block"]["type"] != "tool_use" {
            self.silent(event("ping", &json!({"type": "ping"})));
            self.open();
        }
    }

    /// All that was silent so far opens the turn.
    fn open(&mut self) {
        self.events.opening.push(std::mem::take(&mut self.silent).into());
    }

    fn delta_event(&self, delta: Value) -> Bytes {
        event("content_block_delta", &json!({"type": "content_block_delta", "index": self.index, "delta": delta}))
    }

    fn silent_delta(&mut self, delta: Value) {
        let event = self.delta_event(delta);
        self.silent(event);
    }

    fn delta(&mut self, part: Part, delta: Value) {
        let event = self.delta_event(delta);
        self.silent(event);
        self.events.output.push((part, std::mem::take(&mut self.silent).into()));
    }

    fn end(&mut self) {
        self.silent(event("content_block_stop", &json!({"type": "content_block_stop", "index": self.index})));
        self.index += 1;
    }

    fn finish(mut self, finish: Bytes, stop: Bytes) -> Events {
        if self.events.output.is_empty() {
            self.open();
        }
        self.silent(finish);
        self.events.ending = vec![self.silent.into(), stop];
        self.events
    }
}
