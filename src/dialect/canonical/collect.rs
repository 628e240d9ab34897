//! The answer that a stream's events tell, for tests; and whether they are in the order that they are to have.

use super::{Answer, Block, Call, Event, Finish, Part, Raw, Text, Thought};
use crate::Dialect;

/// Puts an answer together from events, and panics where they break the grammar of [`Event`].
#[derive(Debug)]
pub(crate) struct Collector {
    answer: Answer<'static>,
    open: Option<(Block<'static>, Text<'static>, Option<Text<'static>>)>,
    started: bool,
    finished: bool,
    pub(crate) done: bool,
}

impl Collector {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Collector { answer: Answer::new(dialect), open: None, started: false, finished: false, done: false }
    }

    pub(crate) fn event(&mut self, event: Event<'_>) {
        assert!(!self.done, "{event:?} behind the end");
        match event {
            Event::Start(head) => {
                assert!(!self.started, "started twice");
                self.started = true;
                let head = head.into_owned();
                (self.answer.id, self.answer.model, self.answer.created) = (head.id, head.model, head.created);
            }
            Event::Begin(block) => {
                assert!(self.started && !self.finished && self.open.is_none(), "{block:?} begins in the wrong place");
                self.open = Some((owned(block), Text::default(), None));
            }
            Event::Delta(text) => {
                assert!(!text.is_empty(), "a piece without anything");
                self.open.as_mut().expect("a piece of no block").1.push(&text);
            }
            Event::Signature(signature) => {
                self.open.as_mut().expect("a signature of no block").2 = Some(signature.into_owned());
            }
            Event::Annotation(_) => assert!(self.open.is_some(), "an annotation of no block"),
            Event::End => {
                let (block, text, signature) = self.open.take().expect("the end of no block");
                self.answer.parts.push(match block {
                    Block::Text => Part::text(text),
                    Block::Refusal => Part::Refusal(text),
                    Block::Thought => Part::Thought(Thought { text, signature, native: None }),
                    Block::Call { id, name } => Part::Call(Call {
                        id,
                        name,
                        arguments: Raw::new(text.as_json().as_str().to_owned()),
                        signature,
                        extras: Default::default(),
                    }),
                    Block::Native(raw) => Part::Native(raw),
                });
            }
            Event::Usage(usage) => self.answer.usage = Some(usage),
            Event::Finish(finish) => {
                assert!(self.started && self.open.is_none() && !self.finished, "finished in the wrong place");
                self.finished = true;
                self.answer.finish = finish.into_owned();
            }
            Event::Done => {
                assert!(self.finished, "done before it was finished");
                self.done = true;
            }
        }
    }

    /// The answer, whole or not.
    pub(crate) fn answer(self) -> Answer<'static> {
        self.answer
    }
}

fn owned(block: Block<'_>) -> Block<'static> {
    match block {
        Block::Text => Block::Text,
        Block::Refusal => Block::Refusal,
        Block::Thought => Block::Thought,
        Block::Call { id, name } => Block::Call { id: id.into_owned(), name: name.into_owned() },
        Block::Native(raw) => Block::Native(raw.into_owned()),
    }
}

/// What of an answer must survive any translation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Essence {
    pub(crate) text: String,
    pub(crate) thoughts: String,
    /// Name and arguments.
    pub(crate) calls: Vec<(String, serde_json::Value)>,
    pub(crate) finish: Finish<'static>,
    /// Input, cached input and output.
    pub(crate) usage: Option<(u64, u64, u64)>,
}

/// What of an answer must survive any translation. A stop sequence's name need not: not all dialects tell it. A refusal is
/// text where a dialect has no word for it.
pub(crate) fn essence(answer: &Answer<'_>) -> Essence {
    let (mut text, mut thoughts, mut calls) = (String::new(), String::new(), Vec::new());
    for part in &answer.parts {
        match part {
            Part::Text { text: piece, .. } | Part::Refusal(piece) => text.push_str(&piece.decoded()),
            Part::Thought(thought) => thoughts.push_str(&thought.text.decoded()),
            Part::Call(call) => {
                let arguments = serde_json::from_str(call.arguments.as_str());
                let arguments = arguments.unwrap_or_else(|_| call.arguments.as_str().into());
                let none = arguments == serde_json::Value::from("");
                calls.push((call.name.decoded().into_owned(), if none { serde_json::json!({}) } else { arguments }));
            }
            _ => {}
        }
    }
    let finish = match answer.finish.clone().into_owned() {
        Finish::StopSequence(_) | Finish::Other(_) => Finish::Stop,
        finish => finish,
    };
    let usage = answer.usage.map(|usage| (usage.input, usage.cached_input, usage.output));
    Essence { text, thoughts, calls, finish, usage }
}
