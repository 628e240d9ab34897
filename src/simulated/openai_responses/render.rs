//! An answer as a response, whole or as its events.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::request::Request;
use crate::simulated::answer::{Answer, Events, Part, json_pieces, now, text_pieces, tokens};
use crate::simulated::server::Server;

const OVERLOADED: &str = "Our servers are currently overloaded. Please try again later.";

/// What all events of one answer have in common.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    id: String,
    created: u64,
    /// Whether the answer is cut where it may not say more.
    cut: bool,
}

impl Stamp {
    pub(super) fn new(server: &Server, cut: bool) -> Self {
        Self { id: format!("resp_{}", server.next_id()), created: now(), cut }
    }
}

/// What an answer says.
struct Output {
    items: Vec<Value>,
    /// What each item is a part of, and the pieces in which a stream gives it.
    pieces: Vec<(Part, Vec<String>)>,
    tokens: usize,
    reasoning_tokens: usize,
}

fn output(request: &Request, answer: &Answer, stamp: &Stamp, server: &Server) -> Output {
    let most_pieces = server.settings.chunks;
    let (mut items, mut pieces) = (Vec::new(), Vec::new());
    let reasoning = request.asked.reasoning();
    let reasoning_tokens = reasoning.as_deref().map_or(0, tokens);
    if let Some(reasoning) = reasoning {
        let mut item = json!({"id": format!("rs_{}", server.next_id()), "type": "reasoning", "summary": []});
        if request.summary {
            item["summary"] = json!([{"type": "summary_text", "text": reasoning}]);
        }
        if request.encrypted {
            item["encrypted_content"] = format!("gAAAAAB{}", server.next_id()).into();
        }
        items.push(item);
        let told = if request.summary { text_pieces(&reasoning, most_pieces) } else { Vec::new() };
        pieces.push((Part::Reasoning, told));
    }
    match answer {
        Answer::Text(text) | Answer::Json(text) => {
            let content = json!([{"type": "output_text", "annotations": [], "logprobs": [], "text": text}]);
            let id = format!("msg_{}", server.next_id());
            let status = if stamp.cut { "incomplete" } else { "completed" };
            items.push(json!({"id": id, "type": "message", "status": status, "content": content, "role": "assistant"}));
            let part = if matches!(answer, Answer::Json(_)) { Part::StructuredOutput } else { Part::Text };
            pieces.push((part, answer.text_pieces(most_pieces)));
        }
        Answer::Calls(calls) => {
            for call in calls {
                items.push(json!({
                    "id": format!("fc_{}", server.next_id()),
                    "type": "function_call",
                    "status": "completed",
                    "arguments": call.arguments,
                    "call_id": format!("call_{}", server.next_id()),
                    "name": call.name,
                }));
                pieces.push((Part::ToolCall, json_pieces(&call.arguments, most_pieces)));
            }
        }
    }
    Output { items, pieces, tokens: answer.tokens() + reasoning_tokens, reasoning_tokens }
}

pub(super) fn whole(request: &Request, answer: &Answer, stamp: &Stamp, server: &Server) -> Value {
    let output = output(request, answer, stamp, server);
    finished(request, stamp, &output)
}

fn finished(request: &Request, stamp: &Stamp, output: &Output) -> Value {
    let mut response = envelope(request, stamp, if stamp.cut { "incomplete" } else { "completed" });
    if stamp.cut {
        response["incomplete_details"] = json!({"reason": "max_output_tokens"});
    }
    response["output"] = Value::Array(output.items.clone());
    let (prompt, completion) = (request.asked.prompt_tokens, output.tokens);
    response["usage"] = json!({
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": output.reasoning_tokens},
        "total_tokens": prompt + completion,
    });
    response
}

/// A response that went wrong.
pub(super) fn failed(request: &Request, stamp: &Stamp) -> Value {
    let mut response = envelope(request, stamp, "failed");
    response["error"] = json!({"code": "server_error", "message": OVERLOADED});
    response
}

/// The two events by which a stream says that it went wrong. Which numbers they have depends on what came before them, which
/// is not known here.
pub(super) fn error_events(request: &Request, stamp: &Stamp) -> Bytes {
    let mut numbers = Numbers(0);
    let error = json!({"type": "server_error", "code": "server_error", "message": OVERLOADED, "param": null});
    let first = numbers.event("error", json!({"error": error}));
    let second = numbers.event("response.failed", json!({"response": failed(request, stamp)}));
    [first, second].concat().into()
}

/// A response before it says anything, with what it repeats of its request.
fn envelope(request: &Request, stamp: &Stamp, status: &str) -> Value {
    let body = &request.body;
    let echo = |name: &str, default: Value| body.get(name).filter(|value| !value.is_null()).cloned().unwrap_or(default);
    json!({
        "id": stamp.id,
        "object": "response",
        "created_at": stamp.created,
        "status": status,
        "background": false,
        "error": null,
        "incomplete_details": null,
        "instructions": echo("instructions", Value::Null),
        "max_output_tokens": echo("max_output_tokens", Value::Null),
        "max_tool_calls": null,
        "model": request.asked.model,
        "output": [],
        "parallel_tool_calls": echo("parallel_tool_calls", true.into()),
        "previous_response_id": echo("previous_response_id", Value::Null),
        "prompt_cache_key": echo("prompt_cache_key", Value::Null),
        "reasoning": {
            "effort": body.pointer("/reasoning/effort"),
            "summary": body.pointer("/reasoning/summary"),
        },
        "safety_identifier": echo("safety_identifier", Value::Null),
        "service_tier": "default",
        "store": echo("store", true.into()),
        "temperature": echo("temperature", 1.0.into()),
        "text": echo("text", json!({"format": {"type": "text"}, "verbosity": "medium"})),
        "tool_choice": echo("tool_choice", "auto".into()),
        "tools": echo("tools", json!([])),
        "top_logprobs": 0,
        "top_p": echo("top_p", 1.0.into()),
        "truncation": "disabled",
        "usage": null,
        "user": echo("user", Value::Null),
        "metadata": echo("metadata", json!({})),
    })
}

/// Numbers events one after the other.
struct Numbers(u64);

impl Numbers {
    fn event(&mut self, kind: &str, members: Value) -> Vec<u8> {
        let mut event =
            Map::from_iter([("type".to_owned(), kind.into()), ("sequence_number".to_owned(), self.0.into())]);
        self.0 += 1;
        if let Value::Object(members) = members {
            event.extend(members);
        }
        format!("event: {kind}\ndata: {}\n\n", Value::Object(event)).into_bytes()
    }
}

/// The events. What opens an item stands before its first piece and what closes it before what follows, in one write with
/// that: each piece is a write with output of its own.
pub(super) fn events(request: &Request, answer: &Answer, stamp: &Stamp, server: &Server) -> Events {
    let output = output(request, answer, stamp, server);
    let mut numbers = Numbers(0);
    let mut events = Events::default();
    for kind in ["response.created", "response.in_progress"] {
        let response = envelope(request, stamp, "in_progress");
        events.opening.push(numbers.event(kind, json!({"response": response})).into());
    }
    let mut waiting = Vec::new();
    for (index, (item, (part, pieces))) in output.items.iter().zip(&output.pieces).enumerate() {
        let teller = Item { item, index, part: *part };
        waiting.extend(teller.opening(&mut numbers, !pieces.is_empty()));
        if *part == Part::ToolCall {
            // The name is output before the arguments are.
            events.output.push((*part, std::mem::take(&mut waiting).into()));
        } else if index == 0 && !pieces.is_empty() {
            events.opening.push(std::mem::take(&mut waiting).into());
        }
        for piece in pieces {
            waiting.extend(teller.piece(&mut numbers, piece));
            events.output.push((*part, std::mem::take(&mut waiting).into()));
        }
        waiting.extend(teller.closing(&mut numbers, !pieces.is_empty()));
    }
    let kind = if stamp.cut { "response.incomplete" } else { "response.completed" };
    waiting.extend(numbers.event(kind, json!({"response": finished(request, stamp, &output)})));
    events.ending.push(waiting.into());
    events
}

/// An item of the output as its events.
struct Item<'i> {
    item: &'i Value,
    index: usize,
    part: Part,
}

impl Item<'_> {
    fn event(&self, numbers: &mut Numbers, kind: &str, mut members: Value) -> Vec<u8> {
        members["output_index"] = self.index.into();
        if !kind.starts_with("response.output_item") {
            members["item_id"] = self.item["id"].clone();
        }
        match self.part {
            Part::Reasoning if kind.contains("summary") => members["summary_index"] = 0.into(),
            Part::Text | Part::StructuredOutput if members.get("item").is_none() => members["content_index"] = 0.into(),
            _ => {}
        }
        numbers.event(kind, members)
    }

    /// What the item says.
    fn text(&self) -> &Value {
        match self.part {
            Part::Reasoning => &self.item["summary"][0]["text"],
            Part::ToolCall => &self.item["arguments"],
            Part::Text | Part::StructuredOutput => &self.item["content"][0]["text"],
        }
    }

    fn opening(&self, numbers: &mut Numbers, says: bool) -> Vec<u8> {
        let mut item = self.item.clone();
        if self.part != Part::Reasoning {
            item["status"] = "in_progress".into();
        }
        let (emptied, empty) = match self.part {
            Part::Reasoning => ("summary", json!([])),
            Part::ToolCall => ("arguments", "".into()),
            Part::Text | Part::StructuredOutput => ("content", json!([])),
        };
        item[emptied] = empty;
        let mut opening = self.event(numbers, "response.output_item.added", json!({"item": item}));
        match self.part {
            Part::Reasoning if says => {
                let part = json!({"part": {"type": "summary_text", "text": ""}});
                opening.extend(self.event(numbers, "response.reasoning_summary_part.added", part));
            }
            Part::Text | Part::StructuredOutput => {
                let part = json!({"part": {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}});
                opening.extend(self.event(numbers, "response.content_part.added", part));
            }
            _ => {}
        }
        opening
    }

    fn piece(&self, numbers: &mut Numbers, piece: &str) -> Vec<u8> {
        match self.part {
            Part::Reasoning => self.event(numbers, "response.reasoning_summary_text.delta", json!({"delta": piece})),
            Part::ToolCall => self.event(numbers, "response.function_call_arguments.delta", json!({"delta": piece})),
            Part::Text | Part::StructuredOutput => {
                let members = json!({"delta": piece, "logprobs": [], "obfuscation": "x7Yb"});
                self.event(numbers, "response.output_text.delta", members)
            }
        }
    }

    fn closing(&self, numbers: &mut Numbers, says: bool) -> Vec<u8> {
        let mut closing = Vec::new();
        match self.part {
            Part::Reasoning if says => {
                let text = json!({"text": self.text()});
                closing.extend(self.event(numbers, "response.reasoning_summary_text.done", text));
                let part = json!({"part": self.item["summary"][0]});
                closing.extend(self.event(numbers, "response.reasoning_summary_part.done", part));
            }
            Part::Reasoning => {}
            Part::ToolCall => {
                let members = json!({"arguments": self.text(), "name": self.item["name"]});
                closing.extend(self.event(numbers, "response.function_call_arguments.done", members));
            }
            Part::Text | Part::StructuredOutput => {
                let text = json!({"text": self.text(), "logprobs": []});
                closing.extend(self.event(numbers, "response.output_text.done", text));
                let part = json!({"part": self.item["content"][0]});
                closing.extend(self.event(numbers, "response.content_part.done", part));
            }
        }
        closing.extend(self.event(numbers, "response.output_item.done", json!({"item": self.item})));
        closing
    }
}
