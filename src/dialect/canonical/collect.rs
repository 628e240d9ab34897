//! The answer that a stream's events tell.

#[cfg(test)]
use super::Finish;
use super::{Answer, Block, Call, Event, Part, Raw, Text, Thought};
use crate::Dialect;

/// Puts an answer together from events. In tests and where it is fuzzed it panics where they break the grammar of [`Event`].
#[derive(Debug)]
pub(crate) struct Collector {
    answer: Answer<'static>,
    open: Option<Open>,
    started: bool,
    finished: bool,
    pub(crate) done: bool,
}

#[derive(Debug)]
struct Open {
    block: Block<'static>,
    text: Text<'static>,
    signature: Option<Text<'static>>,
}

impl Collector {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Collector { answer: Answer::new(dialect), open: None, started: false, finished: false, done: false }
    }

    pub(crate) fn event(&mut self, event: Event<'_>) {
        self.check(&event);
        match event {
            Event::Start(head) => {
                self.started = true;
                let head = head.into_owned();
                (self.answer.id, self.answer.model, self.answer.created) = (head.id, head.model, head.created);
            }
            Event::Begin(block) => {
                self.open = Some(Open { block: block.into_owned(), text: Text::default(), signature: None });
            }
            Event::Delta(text) => self.open.iter_mut().for_each(|open| open.text.push(&text)),
            Event::Signature(signature) => {
                self.open.iter_mut().for_each(|open| open.signature = Some(signature.borrowed().into_owned()));
            }
            Event::Annotation(_) => {}
            Event::End => self.answer.parts.extend(self.open.take().map(Open::part)),
            Event::Usage(usage) => self.answer.usage = Some(usage),
            Event::Finish(finish) => {
                self.finished = true;
                self.answer.finish = finish.into_owned();
            }
            Event::Done => self.done = true,
        }
    }

    /// Whether the event may come now.
    fn check(&self, event: &Event<'_>) {
        let open = self.open.is_some();
        let in_order = match event {
            _ if self.done => false,
            Event::Start(_) => !self.started,
            Event::Begin(_) => self.started && !self.finished && !open,
            Event::Delta(text) => open && !text.is_empty(),
            Event::Signature(_) | Event::Annotation(_) | Event::End => open,
            Event::Usage(_) => true,
            Event::Finish(_) => self.started && !open && !self.finished,
            Event::Done => self.finished,
        };
        assert!(in_order || cfg!(not(any(test, fuzzing))), "{event:?} in the wrong place, behind {self:?}");
    }

    /// The answer, whole or not.
    pub(crate) fn answer(self) -> Answer<'static> {
        self.answer
    }
}

impl Open {
    fn part(self) -> Part<'static> {
        let Open { block, text, signature } = self;
        match block {
            Block::Text => Part::text(text),
            Block::Refusal => Part::Refusal(text),
            Block::Thought => Part::Thought(Thought { text, signature, native: None }),
            Block::Call { id, name } => {
                let arguments = Raw::new(text.as_json().as_str().to_owned());
                Part::Call(Call { id, name, arguments, signature, extras: Default::default() })
            }
            Block::Native(raw) => Part::Native(raw),
        }
    }
}

/// What of an answer must survive any translation.
#[cfg(test)]
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
#[cfg(test)]
pub(crate) fn essence(answer: &Answer<'_>) -> Essence {
    let (mut text, mut thoughts, mut calls) = (String::new(), String::new(), Vec::new());
    for part in &answer.parts {
        match part {
            Part::Text { text: piece, .. } | Part::Refusal(piece) => text.push_str(&piece.decoded()),
            Part::Thought(thought) => thoughts.push_str(&thought.text.decoded()),
            Part::Call(call) => {
                let arguments = serde_json::from_str(call.arguments.as_str());
                let arguments = arguments.unwrap_or_else(|_| call.arguments.as_str().into());
                let none = arguments == "";
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
