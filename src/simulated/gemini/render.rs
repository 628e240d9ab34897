//! An answer as Google gives it, whole or as its chunks.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::event;
use crate::simulated::answer::{Answer, Asked, Ending, Events, Part, text_pieces, tokens};
use crate::simulated::server::Server;

/// What proves to nobody but a test whose call it was.
const SIGNATURE: &str = "c2ltdWxhdGVk";

/// An answer and all that is told with it.
#[derive(Debug)]
pub(super) struct Answered<'r> {
    asked: &'r Asked,
    answer: Answer,
    finish: &'static str,
    id: String,
}

impl<'r> Answered<'r> {
    /// An answer that ends so.
    pub(super) fn new(asked: &'r Asked, answer: Answer, ending: &Ending, server: &Server) -> Self {
        let finish = if *ending == Ending::Length { "MAX_TOKENS" } else { "STOP" };
        Self { asked, answer, finish, id: server.next_id() }
    }

    pub(super) fn whole(&self) -> Value {
        let mut parts: Vec<Value> = self.asked.reasoning().iter().map(|text| thought(text)).collect();
        match &self.answer {
            Answer::Text(text) | Answer::Json(text) if text.is_empty() => {}
            Answer::Text(text) | Answer::Json(text) => parts.push(json!({"text": text})),
            Answer::Calls(_) => parts.extend(self.calls()),
        }
        self.chunk(parts, true)
    }

    /// As events, or as the elements of an array.
    pub(super) fn events(&self, as_events: bool, most: usize) -> Events {
        let mut events = Events { array: !as_events, ..Events::default() };
        let write = |chunk: &Value| if as_events { event(chunk) } else { Bytes::from(chunk.to_string()) };
        let mut send =
            |part: Part, content: Value| events.output.push((part, write(&self.chunk(vec![content], false))));
        for piece in self.asked.reasoning().iter().flat_map(|text| text_pieces(text, most)) {
            send(Part::Reasoning, thought(&piece));
        }
        match &self.answer {
            Answer::Text(_) | Answer::Json(_) => {
                let part = if matches!(self.answer, Answer::Json(_)) { Part::StructuredOutput } else { Part::Text };
                for piece in self.answer.text_pieces(most) {
                    send(part, json!({"text": piece}));
                }
            }
            // Each whole, as they are here.
            Answer::Calls(_) => self.calls().for_each(|call| send(Part::ToolCall, call)),
        }
        let last = match self.signs() && !matches!(self.answer, Answer::Calls(_)) {
            true => json!({"text": "", "thoughtSignature": SIGNATURE}),
            false => json!({"text": ""}),
        };
        events.ending.push(write(&self.chunk(vec![last], true)));
        events
    }

    fn calls(&self) -> impl Iterator<Item = Value> + '_ {
        let calls = if let Answer::Calls(calls) = &self.answer { &calls[..] } else { &[] };
        calls.iter().enumerate().map(|(n, call)| {
            let args: Value = serde_json::from_str(&call.arguments).unwrap_or_default();
            let mut part = json!({"functionCall": {"name": call.name, "args": args}});
            if self.signs() {
                part["functionCall"]["id"] = format!("{}{n}", self.id).into();
                // Of calls made together the first is signed.
                if n == 0 {
                    part["thoughtSignature"] = SIGNATURE.into();
                }
            }
            part
        })
    }

    /// Whether the model is of those that sign, and name their calls.
    fn signs(&self) -> bool {
        self.asked.model.contains("gemini-3")
    }

    fn chunk(&self, parts: Vec<Value>, last: bool) -> Value {
        let mut content = json!({"role": "model"});
        if !parts.is_empty() {
            content["parts"] = parts.into();
        }
        let mut candidate = Map::from_iter([("content".to_owned(), content), ("index".to_owned(), 0.into())]);
        if last {
            candidate.insert("finishReason".to_owned(), self.finish.into());
        }
        json!({
            "candidates": [candidate],
            "usageMetadata": self.usage(last),
            "modelVersion": self.asked.model,
            "responseId": self.id,
        })
    }

    /// What it costs; until the last chunk not all of it.
    fn usage(&self, last: bool) -> Value {
        let prompt = self.asked.prompt_tokens;
        let answer = if last { self.answer.tokens() } else { 0 };
        let thoughts = self.asked.reasoning().map_or(0, |reasoning| tokens(&reasoning));
        let mut usage = json!({
            "promptTokenCount": prompt,
            "totalTokenCount": prompt + answer + thoughts,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
        });
        if last {
            usage["candidatesTokenCount"] = answer.into();
        }
        if thoughts > 0 {
            usage["thoughtsTokenCount"] = thoughts.into();
        }
        usage
    }
}

fn thought(text: &str) -> Value {
    json!({"text": text, "thought": true})
}
