//! The canonical form as a chat completion stream.

use crate::{
    Usage,
    dialect::{
        canonical::{Block, Event, Finish, Head, Losses, Text, call_id, seconds_now},
        json_write::{self, Object},
        openai_chat::{response::encode::finish_reason, usage},
    },
};

/// Tells canonical events as chunks. Nothing is held but the usage, which stands at the end.
#[derive(Debug)]
pub(crate) struct Encoder {
    include_usage: bool,
    /// What every chunk begins with.
    opening: Vec<u8>,
    id: Option<Text<'static>>,
    open: Open,
    /// How many calls have begun.
    calls: usize,
    usage: Option<Usage>,
}

/// The block that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Text,
    Refusal,
    Thought,
    Call { any_arguments: bool },
    Native,
}

const DONE: &[u8] = b"data: [DONE]\n\n";

impl Encoder {
    /// For a client that did or did not ask for the usage.
    pub(crate) fn new(include_usage: bool) -> Self {
        Encoder { include_usage, opening: Vec::new(), id: None, open: Open::Text, calls: 0, usage: None }
    }

    /// Appends what tells the event.
    pub(crate) fn event(&mut self, event: &Event<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
        match event {
            Event::Start(head) => {
                self.opening = opening(head);
                self.id = head.id.as_ref().map(|id| id.borrowed().into_owned());
                self.delta(out, |delta| {
                    delta.string("role", "assistant");
                    delta.string("content", "");
                });
            }
            Event::Begin(block) => self.begin(block, losses, out),
            Event::Delta(text) => self.piece(text, out),
            Event::Signature(_) => losses.note("reasoning signature"),
            Event::Annotation(_) => losses.note("citations"),
            Event::End => {
                if self.open == (Open::Call { any_arguments: false }) {
                    self.arguments(&Text::escaped("{}"), out);
                }
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Finish(finish) => {
                losses.finish(finish, false);
                self.finish(finish, out);
            }
            Event::Done => {
                if let Some(usage) = self.usage.filter(|_| self.include_usage) {
                    out.extend_from_slice(&self.opening);
                    out.extend_from_slice(b"\"choices\":[],\"usage\":");
                    json_write::object(out, |object| usage::write(&usage, object));
                    out.extend_from_slice(b"}\n\n");
                }
                out.extend_from_slice(DONE);
            }
        }
    }

    fn begin(&mut self, block: &Block<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
        self.open = match block {
            Block::Text => Open::Text,
            Block::Refusal => Open::Refusal,
            Block::Thought => Open::Thought,
            Block::Call { .. } => Open::Call { any_arguments: false },
            Block::Native(_) => Open::Native,
        };
        match block {
            Block::Call { id, name } => {
                let number = self.calls;
                self.calls += 1;
                let made_up = call_id(self.id.as_ref(), number);
                self.delta(out, |delta| {
                    delta.array("tool_calls", |calls| {
                        calls.object(|call| {
                            call.number("index", number as u64);
                            call.text("id", if id.is_empty() { &made_up } else { id });
                            call.string("type", "function");
                            call.object("function", |function| {
                                function.text("name", name);
                                function.string("arguments", "");
                            });
                        });
                    });
                });
            }
            Block::Native(_) => losses.note("native content part"),
            Block::Text | Block::Refusal | Block::Thought => {}
        }
    }

    fn piece(&mut self, text: &Text<'_>, out: &mut Vec<u8>) {
        match &mut self.open {
            Open::Text => self.delta(out, |delta| delta.text("content", text)),
            Open::Refusal => self.delta(out, |delta| delta.text("refusal", text)),
            Open::Thought => self.delta(out, |delta| delta.text("reasoning_content", text)),
            Open::Call { any_arguments } => {
                *any_arguments = true;
                self.arguments(text, out);
            }
            Open::Native => {}
        }
    }

    fn arguments(&self, piece: &Text<'_>, out: &mut Vec<u8>) {
        let number = self.calls.saturating_sub(1) as u64;
        self.delta(out, |delta| {
            delta.array("tool_calls", |calls| {
                calls.object(|call| {
                    call.number("index", number);
                    call.object("function", |function| function.text("arguments", piece));
                });
            });
        });
    }

    fn delta(&self, out: &mut Vec<u8>, delta: impl FnOnce(&mut Object<'_>)) {
        out.extend_from_slice(&self.opening);
        out.extend_from_slice(b"\"choices\":[{\"index\":0,\"delta\":");
        json_write::object(out, delta);
        out.extend_from_slice(b",\"logprobs\":null,\"finish_reason\":null}]");
        self.close(out);
    }

    fn finish(&self, finish: &Finish<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.opening);
        out.extend_from_slice(b"\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"");
        out.extend_from_slice(finish_reason(finish).as_bytes());
        out.extend_from_slice(b"\"}]");
        self.close(out);
    }

    fn close(&self, out: &mut Vec<u8>) {
        if self.include_usage {
            out.extend_from_slice(b",\"usage\":null");
        }
        out.extend_from_slice(b"}\n\n");
    }
}

fn opening(head: &Head<'_>) -> Vec<u8> {
    let mut out = b"data: {\"id\":".to_vec();
    head.id.as_ref().unwrap_or(&Text::escaped("chatcmpl-unnamed")).write(&mut out);
    out.extend_from_slice(b",\"object\":\"chat.completion.chunk\",\"created\":");
    out.extend_from_slice(head.created.unwrap_or_else(seconds_now).to_string().as_bytes());
    out.extend_from_slice(b",\"model\":");
    head.model.as_ref().unwrap_or(&Text::default()).write(&mut out);
    out.push(b',');
    out
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        Dialect,
        body::EventStream,
        dialect::{
            canonical::{
                Answer,
                collect::{Collector, essence},
            },
            openai_chat::{response, stream::decode::Decoder},
            recorded,
        },
    };

    fn decode(stream: &str) -> Option<Answer<'static>> {
        let (mut decoder, mut collector) = (Decoder::new(), Collector::new(Dialect::OpenAiChat));
        let whole = Bytes::copy_from_slice(stream.as_bytes());
        for (data, _) in EventStream::default().events(&whole) {
            let data = std::str::from_utf8(&data).unwrap();
            decoder.event(data, &mut |event| collector.event(event)).ok()?;
        }
        decoder.end(&mut |event| collector.event(event));
        collector.done.then(|| collector.answer())
    }

    fn encode(answer: &Answer<'_>) -> String {
        let (mut encoder, mut losses, mut out) = (Encoder::new(true), Losses::default(), Vec::new());
        answer.replay(&mut |event| encoder.event(&event, &mut losses, &mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_recorded_stream_says_the_same_when_told_again() {
        let (mut told, mut broken) = (0, 0);
        for exchange in recorded::exchanges("openai-chat") {
            let Some(stream) = exchange.stream.filter(|_| exchange.status == 200) else { continue };
            let Some(answer) = decode(&stream) else {
                broken += 1;
                eprintln!("no whole answer: {}", exchange.file);
                continue;
            };
            let again = decode(&encode(&answer)).unwrap();
            assert_eq!(essence(&again), essence(&answer), "{}", exchange.file);
            told += 1;
        }
        eprintln!("{told} streams told again, {broken} that are no whole answer");
    }

    #[test]
    fn every_recorded_answer_comes_back_as_it_was() {
        let mut compared = 0;
        for exchange in recorded::exchanges("openai-chat") {
            let Some(body) =
                exchange.answer.filter(|body| body["choices"][0]["message"].is_object() && body.get("error").is_none())
            else {
                continue;
            };
            let text = body.to_string();
            let answer = response::decode::decode(&text).unwrap();
            let (mut losses, mut out) = (Losses::default(), Vec::new());
            response::encode::encode(&answer, &mut losses, &mut out);
            let again: serde_json::Value = serde_json::from_slice(&out).unwrap();
            let (mut again, mut body) = (recorded::without_nothing(&again), recorded::without_nothing(&body));
            for json in [&mut again, &mut body] {
                defaults(json);
            }
            assert_eq!(again, body, "{}", exchange.file);
            let whole = decode(&encode(&answer)).unwrap();
            assert_eq!(essence(&whole), essence(&answer), "{}", exchange.file);
            compared += 1;
        }
        eprintln!("{compared} answers compared");
    }

    /// What is said in two ways and comes back as one of them.
    fn defaults(answer: &mut serde_json::Value) {
        let root = answer.as_object_mut().unwrap();
        root.insert("object".into(), "chat.completion".into());
        let created = root.get("created").and_then(serde_json::Value::as_f64).map(|created| created as u64);
        root.insert("created".into(), created.into());
        for choice in root["choices"].as_array_mut().unwrap() {
            let choice = choice.as_object_mut().unwrap();
            choice.entry("index").or_insert_with(|| 0.into());
            choice.entry("finish_reason").or_insert_with(|| "stop".into());
            let message = choice["message"].as_object_mut().unwrap();
            message.entry("role").or_insert_with(|| "assistant".into());
            if message.get("content").is_some_and(|content| content == "") {
                message.remove("content");
            }
            if let Some(reasoning) = message.remove("reasoning") {
                message.insert("reasoning_content".into(), reasoning);
            }
            let mut calls = false;
            for call in message.get_mut("tool_calls").and_then(serde_json::Value::as_array_mut).into_iter().flatten() {
                call.as_object_mut().unwrap().remove("index");
                if call["function"]["arguments"].is_object() {
                    call["function"]["arguments"] = call["function"]["arguments"].to_string().into();
                }
                call.as_object_mut().unwrap().entry("type").or_insert_with(|| "function".into());
                calls = true;
            }
            if calls && matches!(choice["finish_reason"].as_str(), Some("stop" | "eos" | "eos_token")) {
                choice.insert("finish_reason".into(), "tool_calls".into());
            }
        }
    }

    #[test]
    fn a_stream_is_told_as_openai_tells_it() {
        let mut answer = Answer::new(Dialect::AnthropicMessages);
        answer.id = Some(Text::escaped("msg_1"));
        answer.model = Some(Text::escaped("m"));
        answer.created = Some(7);
        answer.parts = vec![crate::dialect::canonical::Part::text(Text::plain("Hi\n"))];
        answer.usage = Some(Usage { input: 3, output: 2, ..Usage::default() });
        let chunk = |rest: &str| {
            format!(
                "data: {{\"id\":\"msg_1\",\"object\":\"chat.completion.chunk\",\"created\":7,\"model\":\"m\",{rest}}}\n\n"
            )
        };
        let delta = |delta: &str, finish: &str| {
            chunk(&format!(
                "\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}],\"usage\":null"
            ))
        };
        let usage = r#""choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}"#;
        let expected = [
            delta(r#"{"role":"assistant","content":""}"#, "null"),
            delta(r#"{"content":"Hi\n"}"#, "null"),
            delta("{}", "\"stop\""),
            chunk(usage),
            "data: [DONE]\n\n".to_owned(),
        ];
        assert_eq!(encode(&answer), expected.concat());
    }

    #[test]
    fn nothing_is_told_behind_the_end() {
        let stream = "data: {\"id\":\"x\",\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n\
            data: [DONE]\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n";
        assert_eq!(decode(stream).unwrap().usage, None);
    }

    #[test]
    fn calls_without_numbers_are_told_apart_by_their_names() {
        let chunk =
            |calls: &str| format!("data: {{\"id\":\"x\",\"choices\":[{{\"delta\":{{\"tool_calls\":{calls}}}}}]}}\n\n");
        let stream = [
            chunk(
                r#"[{"id":"a","function":{"name":"f","arguments":"{}"}},{"id":"b","function":{"name":"g","arguments":""}}]"#,
            ),
            chunk(r#"[{"function":{"arguments":"{}"}}]"#),
            "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n".to_owned(),
        ];
        let essence = essence(&decode(&stream.concat()).unwrap());
        assert_eq!(essence.calls, [("f".to_owned(), serde_json::json!({})), ("g".to_owned(), serde_json::json!({}))]);
        assert_eq!(essence.finish, Finish::ToolCalls);
    }
}
