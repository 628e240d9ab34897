//! The canonical form as a message stream.

use super::super::{
    id,
    response::encode::{stop_reason, write_stop_sequence},
    usage,
};
use crate::{
    Usage,
    dialect::{
        canonical::{Block, Event, Finish, Head, Losses, Text, call_id},
        json_write::{Object, object},
    },
};

/// Tells another dialect's canonical events as Anthropic tells its own. Only what the grammar forces is held: why the answer
/// ends and what it cost, which are one event.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    id: Option<Text<'static>>,
    open: Open,
    /// How many blocks have been told, and how many of them were calls.
    blocks: u64,
    calls: usize,
    usage: Option<Usage>,
    finish: Option<Finish<'static>>,
}

/// The block that is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Open {
    /// None, or one that is not told.
    #[default]
    Nothing,
    Text {
        begun: bool,
    },
    Thought {
        begun: bool,
    },
    Call,
}

impl Encoder {
    /// Usage is told in any case.
    pub(crate) fn new(_include_usage: bool) -> Self {
        Self::default()
    }

    /// Appends what tells the event.
    pub(crate) fn event(&mut self, event: &Event<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
        match event {
            Event::Start(head) => self.start(head, out),
            Event::Begin(block) => self.begin(block, losses, out),
            Event::Delta(text) => self.piece(text, out),
            Event::Signature(_) => losses.note("reasoning signature"),
            Event::Annotation(_) => losses.note("citations"),
            Event::End => self.end(out),
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Finish(finish) => {
                losses.finish(finish, true);
                self.finish = Some(finish.clone().into_owned());
            }
            Event::Done => self.done(out),
        }
    }

    fn start(&mut self, head: &Head<'_>, out: &mut Vec<u8>) {
        self.id = head.id.as_ref().map(|id| id.borrowed().into_owned());
        event(out, "message_start", |event| {
            event.object("message", |message| {
                message.text("id", &id::of_answer(head.id.as_ref()));
                message.string("type", "message");
                message.string("role", "assistant");
                message.text("model", head.model.as_ref().unwrap_or(&Text::default()));
                message.literal("content", "[]");
                message.null("stop_reason");
                message.null("stop_sequence");
                // What is known of it comes with the end; the last word counts.
                message.object("usage", |object| usage::write(&self.usage.unwrap_or_default(), object));
            });
        });
    }

    fn begin(&mut self, block: &Block<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
        self.open = match block {
            // They begin with their first piece: a text of nothing would be refused as part of the next request.
            Block::Text | Block::Refusal => Open::Text { begun: false },
            Block::Thought => Open::Thought { begun: false },
            Block::Call { id, name } => {
                let number = self.calls;
                self.calls += 1;
                let unnamed = || call_id(self.id.as_ref(), number);
                self.start_block(out, |block| {
                    block.string("type", "tool_use");
                    block.text("id", &id::of_call(id, unnamed));
                    block.text("name", name);
                    block.literal("input", "{}");
                });
                Open::Call
            }
            Block::Native(_) => {
                losses.note("native content part");
                Open::Nothing
            }
        };
    }

    fn piece(&mut self, text: &Text<'_>, out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        match self.open {
            Open::Nothing => {}
            Open::Text { begun } => {
                if !begun {
                    self.open = Open::Text { begun: true };
                    self.start_block(out, |block| {
                        block.string("type", "text");
                        block.string("text", "");
                    });
                }
                self.delta(out, "text_delta", "text", text);
            }
            Open::Thought { begun } => {
                if !begun {
                    self.open = Open::Thought { begun: true };
                    self.start_block(out, |block| {
                        block.string("type", "thinking");
                        block.string("thinking", "");
                        // Nobody's: Anthropic would refuse another's.
                        block.string("signature", "");
                    });
                }
                self.delta(out, "thinking_delta", "thinking", text);
            }
            Open::Call => self.delta(out, "input_json_delta", "partial_json", text),
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        let open = std::mem::take(&mut self.open);
        if matches!(open, Open::Call | Open::Text { begun: true } | Open::Thought { begun: true }) {
            event(out, "content_block_stop", |event| event.number("index", self.blocks));
            self.blocks += 1;
        }
    }

    fn done(&mut self, out: &mut Vec<u8>) {
        let finish = self.finish.take().unwrap_or(Finish::Stop);
        event(out, "message_delta", |event| {
            event.object("delta", |delta| {
                delta.string("stop_reason", stop_reason(&finish));
                write_stop_sequence(delta, &finish);
            });
            event.object("usage", |object| usage::write(&self.usage.unwrap_or_default(), object));
        });
        event(out, "message_stop", |_| {});
    }

    fn start_block(&self, out: &mut Vec<u8>, block: impl FnOnce(&mut Object<'_>)) {
        event(out, "content_block_start", |event| {
            event.number("index", self.blocks);
            event.object("content_block", block);
        });
    }

    fn delta(&self, out: &mut Vec<u8>, kind: &str, member: &str, text: &Text<'_>) {
        event(out, "content_block_delta", |event| {
            event.number("index", self.blocks);
            event.object("delta", |delta| {
                delta.string("type", kind);
                delta.text(member, text);
            });
        });
    }
}

/// Writes an event, whose data has its name too.
fn event(out: &mut Vec<u8>, name: &str, members: impl FnOnce(&mut Object<'_>)) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    object(out, |event| {
        event.string("type", name);
        members(event);
    });
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Dialect,
        dialect::{
            anthropic_messages::stream::{decode::Decoder, grammar},
            canonical::{
                Answer,
                collect::{Collector, essence},
            },
            openai_chat, recorded,
        },
    };

    fn encode(answer: &Answer<'_>) -> (String, Vec<String>) {
        let (mut encoder, mut losses, mut out) = (Encoder::new(false), Losses::default(), Vec::new());
        answer.replay(&mut |event| encoder.event(&event, &mut losses, &mut out));
        (String::from_utf8(out).unwrap(), losses.iter().map(|loss| loss.to_string()).collect())
    }

    fn decode(events: &[String]) -> Answer<'static> {
        let (mut decoder, mut collector) = (Decoder::new(), Collector::new(Dialect::AnthropicMessages));
        for data in events {
            decoder.event(data, &mut |event| collector.event(event)).unwrap();
        }
        assert!(collector.done);
        collector.answer()
    }

    /// It is always told, and no more can come from the cache than came in.
    fn told_here(usage: Option<(u64, u64, u64)>) -> (u64, u64, u64) {
        let (input, cached, output) = usage.unwrap_or_default();
        (input, cached.min(input), output)
    }

    /// Told event by event, as it comes.
    fn translated(events: &[String]) -> String {
        let (mut decoder, mut encoder) = (Decoder::new(), Encoder::new(false));
        let (mut losses, mut out) = (Losses::default(), Vec::new());
        for data in events {
            decoder.event(data, &mut |event| encoder.event(&event, &mut losses, &mut out)).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_recorded_stream_says_the_same_when_told_again() {
        let mut told = 0;
        for exchange in recorded::exchanges("anthropic-messages") {
            for events in grammar::streams(&exchange) {
                if exchange.file.contains("spliced") {
                    continue; // half of a call is in it
                }
                let again = grammar::data_of(&translated(&events));
                assert_eq!(grammar::check(&again), Ok(()), "{}", exchange.file);
                assert_eq!(essence(&decode(&again)), essence(&decode(&events)), "{}", exchange.file);
                told += 1;
            }
        }
        eprintln!("{told} streams told again");
    }

    #[test]
    fn every_recorded_chat_stream_becomes_one_of_anthropics() {
        let (mut told, mut broken) = (0, 0);
        for exchange in recorded::exchanges("openai-chat") {
            let Some(stream) = exchange.stream.filter(|_| exchange.status == 200) else { continue };
            let mut chat = openai_chat::stream::decode::Decoder::new();
            let mut collector = Collector::new(Dialect::OpenAiChat);
            let (mut encoder, mut losses, mut out) = (Encoder::new(false), Losses::default(), Vec::new());
            let mut tell = |event: Event<'_>| {
                encoder.event(&event, &mut losses, &mut out);
                collector.event(event);
            };
            let read = grammar::data_of(&stream).iter().all(|data| chat.event(data, &mut tell).is_ok());
            chat.end(&mut tell);
            if !read || !collector.done {
                broken += 1;
                continue;
            }
            let events = grammar::data_of(std::str::from_utf8(&out).unwrap());
            // A model may be cut off amid its arguments.
            let answer = collector.answer();
            if answer.finish != Finish::Length {
                assert_eq!(grammar::check(&events), Ok(()), "{}", exchange.file);
            }
            let mut expected = essence(&answer);
            expected.usage = Some(told_here(expected.usage));
            assert_eq!(essence(&decode(&events)), expected, "{}", exchange.file);
            told += 1;
        }
        eprintln!("{told} chat streams told, {broken} that are no whole answer");
    }

    #[test]
    fn a_stream_is_told_as_anthropic_tells_it() {
        use crate::dialect::canonical::{Call, Part, Raw, Thought};
        let mut answer = Answer::new(Dialect::OpenAiChat);
        answer.id = Some(Text::escaped("chatcmpl-1"));
        answer.model = Some(Text::escaped("m"));
        let arguments = Raw::new(r#"{"a":1}"#);
        answer.parts = vec![
            Part::Thought(Thought { text: Text::default(), signature: Some(Text::escaped("s")), native: None }),
            Part::text(Text::plain("Hi\n")),
            Part::Native(Raw::new("{}")),
            Part::Call(Call {
                id: Text::escaped("c"),
                name: Text::escaped("f"),
                arguments,
                signature: None,
                extras: Default::default(),
            }),
        ];
        answer.finish = Finish::ToolCalls;
        answer.usage = Some(Usage { input: 3, cached_input: 1, output: 2, ..Usage::default() });
        let (text, losses) = encode(&answer);
        let expected = [
            r#"{"type":"message_start","message":{"id":"msg_chatcmpl-1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi\n"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"c","name":"f","input":{}}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\":1}"}}"#,
            r#"{"type":"content_block_stop","index":1}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":2,"cache_creation_input_tokens":0,"cache_read_input_tokens":1,"output_tokens":2}}"#,
            r#"{"type":"message_stop"}"#,
        ];
        assert_eq!(grammar::data_of(&text), expected);
        assert!(text.starts_with("event: message_start\ndata: {"));
        assert_eq!(losses, ["native content part", "reasoning signature"]);
        assert_eq!(grammar::check(&grammar::data_of(&text)), Ok(()));
    }
}
