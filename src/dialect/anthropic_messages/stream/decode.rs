//! A message stream in the canonical form.

use std::mem;

use super::super::{response::decode::finish_of, usage::Counts};
use crate::dialect::{
    canonical::{Block, Event, Extras, Head, Raw, Text},
    json_scan::{Malformed, Value, root_members},
    json_write,
};

type Sink<'s> = dyn FnMut(Event<'_>) + 's;

/// Tells a stream's events in the canonical form. Nothing is held but blocks that only this dialect knows.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    started: bool,
    open: Option<Open>,
    counts: Counts,
    /// Why the answer ends, told with its beginning.
    reason: Option<Text<'static>>,
    finished: bool,
    done: bool,
}

/// The block that is open.
#[derive(Debug)]
enum Open {
    /// Text, or a thought.
    Plain,
    /// The input that it began with, as long as no other came.
    Call { input: Option<Raw<'static>> },
    /// As it began, and what came for one of its members.
    Native { block: Raw<'static>, member: &'static str, rest: String },
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Tells the data of one event.
    pub(crate) fn event(&mut self, data: &str, sink: &mut Sink<'_>) -> Result<(), Malformed> {
        let (mut kind, mut message, mut block, mut delta, mut usage) = Default::default();
        for member in root_members(data.as_bytes())? {
            let (key, value) = member?;
            let place: &mut Option<Value<'_>> = match &*key {
                "type" => &mut kind,
                "message" => &mut message,
                "content_block" => &mut block,
                "delta" => &mut delta,
                "usage" => &mut usage,
                _ => continue,
            };
            *place = Some(value);
        }
        let Some(kind) = kind else { return Err(Malformed { at: 0 }) };
        if self.done {
            return Ok(());
        }
        match (kind.json(), message, block, delta) {
            (b"\"message_start\"", Some(message), ..) => self.start(&message, sink)?,
            (b"\"content_block_start\"", _, Some(block), _) => self.begin(&block, sink),
            (b"\"content_block_delta\"", _, _, Some(delta)) => self.delta(&delta, sink),
            (b"\"content_block_stop\"", ..) => self.close(sink),
            (b"\"message_delta\"", _, _, Some(delta)) => {
                if let Some(usage) = usage {
                    self.count(&usage, sink)?;
                }
                self.message_delta(&delta, sink);
            }
            (b"\"message_stop\"", ..) => self.end(sink),
            // Pings, and whatever else may come.
            _ => {}
        }
        Ok(())
    }

    /// The stream has ended, and whoever watched it found its answer whole.
    pub(crate) fn end(&mut self, sink: &mut Sink<'_>) {
        if self.done || !self.started {
            return;
        }
        if !self.finished {
            let reason = self.reason.take().unwrap_or(Text::escaped("end_turn"));
            self.finish(reason, None, sink);
        }
        self.done = true;
        sink(Event::Done);
    }

    fn start(&mut self, message: &Value<'_>, sink: &mut Sink<'_>) -> Result<(), Malformed> {
        let mut head = Head::default();
        let (mut usage, mut content) = (None, None);
        for member in message.members() {
            let (key, value) = member?;
            match &*key {
                "id" => head.id = Text::of(&value).filter(|id| !id.is_empty()),
                "model" => head.model = Text::of(&value).filter(|model| !model.is_empty()),
                "usage" => usage = Some(value),
                "content" => content = Some(value),
                "stop_reason" => self.reason = Text::of(&value).map(Text::into_owned),
                _ => {}
            }
        }
        // Some send it twice.
        if !mem::replace(&mut self.started, true) {
            sink(Event::Start(head));
        }
        if let Some(usage) = usage {
            self.count(&usage, sink)?;
        }
        // An answer that goes on with what a tool of Anthropic's calls may come all at once.
        for block in content.iter().flat_map(Value::elements) {
            self.begin(&block?, sink);
            self.close(sink);
        }
        Ok(())
    }

    fn count(&mut self, usage: &Value<'_>, sink: &mut Sink<'_>) -> Result<(), Malformed> {
        self.counts.read(&mut usage.cursor())?;
        self.counts.usage().into_iter().for_each(|usage| sink(Event::Usage(usage)));
        Ok(())
    }

    fn begin(&mut self, block: &Value<'_>, sink: &mut Sink<'_>) {
        self.close(sink);
        if self.finished {
            return;
        }
        if !mem::replace(&mut self.started, true) {
            sink(Event::Start(Head::default()));
        }
        let text = |name| block.member(name).and_then(|text| Text::of(&text));
        let kind = block.member("type");
        let (kind, said) = match kind.as_ref().map(Value::json) {
            Some(b"\"text\"") => (Block::Text, text("text")),
            Some(b"\"thinking\"") => (Block::Thought, text("thinking")),
            Some(b"\"tool_use\"") => {
                let (id, name) = (text("id").unwrap_or_default(), text("name").unwrap_or_default());
                sink(Event::Begin(Block::Call { id, name }));
                let input = block.member("input").and_then(|input| Raw::of(&input)).map(Raw::into_owned);
                self.open = Some(Open::Call { input });
                return;
            }
            _ => {
                let block = Raw::of(block).map(Raw::into_owned).unwrap_or(Raw::new("{}"));
                self.open = Some(Open::Native { block, member: "input", rest: String::new() });
                return;
            }
        };
        sink(Event::Begin(kind));
        self.open = Some(Open::Plain);
        tell(said, sink);
        let signature = text("signature").filter(|signature| !signature.is_empty());
        signature.into_iter().for_each(|signature| sink(Event::Signature(signature)));
    }

    fn delta(&mut self, delta: &Value<'_>, sink: &mut Sink<'_>) {
        let Some(open) = &mut self.open else { return };
        for (key, value) in delta.members().filter_map(Result::ok) {
            match (&*key, &mut *open) {
                ("text" | "thinking", Open::Plain) => tell(Text::of(&value), sink),
                ("signature", Open::Plain) => {
                    Text::of(&value).into_iter().for_each(|signature| sink(Event::Signature(signature)));
                }
                ("citation", Open::Plain) => {
                    Raw::of(&value).into_iter().for_each(|citation| sink(Event::Annotation(citation)));
                }
                ("partial_json", Open::Call { input }) => {
                    if let Some(piece) = Text::of(&value).filter(|piece| !piece.is_empty()) {
                        *input = None;
                        sink(Event::Delta(piece));
                    }
                }
                ("partial_json", Open::Native { rest, .. }) => {
                    rest.push_str(Text::of(&value).unwrap_or_default().as_json().as_str());
                }
                ("content", Open::Native { member, rest, .. }) => {
                    *member = "content";
                    rest.push_str(std::str::from_utf8(value.json()).unwrap_or_default());
                }
                _ => {}
            }
        }
    }

    fn close(&mut self, sink: &mut Sink<'_>) {
        match self.open.take() {
            None => return,
            Some(Open::Plain) => {}
            // Without arguments nothing comes, or a piece of nothing.
            Some(Open::Call { input }) => tell(input.map(|input| input.quoted()), sink),
            Some(Open::Native { block, member, rest }) => {
                sink(Event::Begin(Block::Native(whole(block, member, &rest))))
            }
        }
        sink(Event::End);
    }

    fn message_delta(&mut self, delta: &Value<'_>, sink: &mut Sink<'_>) {
        let text = |name| delta.member(name).and_then(|text| Text::of(&text));
        if let Some(reason) = text("stop_reason") {
            self.finish(reason, text("stop_sequence"), sink);
        }
    }

    fn finish(&mut self, reason: Text<'_>, sequence: Option<Text<'_>>, sink: &mut Sink<'_>) {
        if self.started && !mem::replace(&mut self.finished, true) {
            self.close(sink);
            sink(Event::Finish(finish_of(reason, sequence)));
        }
    }
}

fn tell(text: Option<Text<'_>>, sink: &mut Sink<'_>) {
    text.filter(|text| !text.is_empty()).into_iter().for_each(|text| sink(Event::Delta(text)));
}

/// A block with what came for a member.
fn whole(block: Raw<'static>, name: &'static str, rest: &str) -> Raw<'static> {
    let Some(value) = block.value().filter(|_| !rest.is_empty() && Value::whole(rest.as_bytes()).is_ok()) else {
        return block;
    };
    let mut others = Extras::default();
    for (key, value) in value.members().filter_map(Result::ok).filter(|(key, _)| key != name) {
        others.keep(key, &value);
    }
    let mut out = Vec::new();
    json_write::object(&mut out, |object| {
        object.extras(&others);
        object.literal(name, rest);
    });
    Raw::new(String::from_utf8(out).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Dialect,
        body::EventStream,
        dialect::{
            anthropic_messages::{response, stream::grammar},
            canonical::{
                Answer, Finish, Part,
                collect::{Collector, essence},
            },
            recorded,
        },
    };

    pub(in super::super) fn collected<'d>(events: impl IntoIterator<Item = &'d str>) -> Answer<'static> {
        let (mut decoder, mut collector) = (Decoder::new(), Collector::new(Dialect::AnthropicMessages));
        for data in events {
            decoder.event(data, &mut |event| collector.event(event)).unwrap();
        }
        decoder.end(&mut |event| collector.event(event));
        assert!(collector.done);
        collector.answer()
    }

    #[test]
    fn every_recorded_stream_obeys_the_canonical_grammar() {
        let mut told = 0;
        for exchange in recorded::exchanges("anthropic-messages") {
            for events in grammar::streams(&exchange) {
                let answer = collected(events.iter().map(|data| &**data));
                assert!(!answer.parts.is_empty(), "{}", exchange.file);
                assert!(answer.usage.is_some() && answer.id.is_some(), "{}", exchange.file);
                told += 1;
            }
        }
        eprintln!("{told} streams told");
    }

    #[test]
    fn every_split_of_a_stream_tells_the_same() {
        for exchange in recorded::exchanges("anthropic-messages") {
            let Some(events) = grammar::streams(&exchange).into_iter().next() else { continue };
            let expected = collected(events.iter().map(|data| &**data));
            let stream = exchange.stream.unwrap();
            if stream.len() > 20_000 {
                continue;
            }
            for size in [1, 2, 3, 7, 64, 1000] {
                let mut splitter = EventStream::default();
                let mut data = Vec::new();
                for frame in stream.as_bytes().chunks(size) {
                    let whole = splitter.push(bytes::Bytes::copy_from_slice(frame)).unwrap();
                    data.extend(splitter.events(&whole).map(|(data, _)| String::from_utf8(data.to_vec()).unwrap()));
                }
                let rest = splitter.finish();
                data.extend(splitter.events(&rest).map(|(data, _)| String::from_utf8(data.to_vec()).unwrap()));
                assert_eq!(collected(data.iter().map(|data| &**data)), expected, "{} by {size}", exchange.file);
            }
        }
    }

    #[test]
    fn a_whole_answer_as_a_stream_says_the_same() {
        let mut compared = 0;
        for exchange in recorded::exchanges("anthropic-messages") {
            let Some(body) = exchange.answer.filter(|body| body["content"].is_array()) else { continue };
            let text = body.to_string();
            let stream = response::as_stream(text.as_bytes()).unwrap();
            let events = grammar::data_of(std::str::from_utf8(&stream).unwrap());
            if body["stop_reason"].is_string() {
                assert_eq!(grammar::check(&events), Ok(()), "{}", exchange.file);
            }
            let told = collected(events.iter().map(|data| &**data));
            let answer = response::decode::decode(&text).unwrap();
            assert_eq!(essence(&told), essence(&answer), "{}", exchange.file);
            let native = |answer: &Answer<'_>| -> Vec<serde_json::Value> {
                let raws = answer.parts.iter().filter_map(|part| match part {
                    Part::Native(raw) => Some(serde_json::from_str(raw.as_str()).unwrap()),
                    _ => None,
                });
                raws.collect()
            };
            assert_eq!(native(&told), native(&answer), "{}", exchange.file);
            compared += 1;
        }
        eprintln!("{compared} answers told as streams");
    }

    fn events(blocks: &[&str]) -> Answer<'static> {
        let mut events =
            vec![r#"{"type":"message_start","message":{"id":"m","usage":{"input_tokens":2,"output_tokens":1}}}"#];
        events.extend(blocks);
        events.push(r#"{"type":"ping"}"#);
        events.push(r#"{"type":"message_delta","delta":{"stop_reason":"pause_turn"},"usage":{"output_tokens":7}}"#);
        events.push(r#"{"type":"message_stop"}"#);
        collected(events)
    }

    #[test]
    fn a_call_without_arguments_has_none() {
        let answer = events(&[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":""}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
        ]);
        let Part::Call(call) = &answer.parts[0] else { panic!("{answer:?}") };
        assert_eq!(call.arguments.as_str(), "{}");
        assert_eq!(answer.finish, Finish::Other(Text::escaped("pause_turn")));
        let usage = answer.usage.unwrap();
        assert_eq!((usage.input, usage.output), (2, 7));
    }

    #[test]
    fn an_answer_may_begin_with_all_it_has() {
        let answer = collected([
            r#"{"type":"message_start","message":{"id":"m","content":[{"type":"tool_use","id":"t","name":"f","input":{"a":1}}],
            "stop_reason":"tool_use","usage":{"input_tokens":0,"output_tokens":0}}}"#,
            r#"{"type":"message_stop"}"#,
        ]);
        let Part::Call(call) = &answer.parts[0] else { panic!("{answer:?}") };
        assert_eq!((call.arguments.as_str(), &answer.finish), (r#"{"a":1}"#, &Finish::ToolCalls));
    }

    #[test]
    fn blocks_that_others_do_not_know_come_whole() {
        let answer = events(&[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"s","name":"g","input":{}}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"q\":"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"\"a\"}"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"compaction","content":null}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"compaction_delta","content":"short"}}"#,
            r#"{"type":"content_block_stop","index":1}"#,
        ]);
        let expected = [
            r#"{"type":"server_tool_use","id":"s","name":"g","input":{"q":"a"}}"#,
            r#"{"type":"compaction","content":"short"}"#,
        ];
        assert_eq!(answer.parts, expected.map(|raw| Part::Native(Raw::new(raw))));
    }

    #[test]
    fn what_has_no_type_is_malformed() {
        for data in ["", "{", "[]", r#"{"delta":{}}"#] {
            assert!(Decoder::new().event(data, &mut |_| {}).is_err(), "{data}");
        }
        let mut told = 0;
        Decoder::new().end(&mut |_| told += 1);
        assert_eq!(told, 0, "nothing began");
    }
}
