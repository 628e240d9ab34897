//! What an answer says.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{Block, Event, Extras, Head, Losses, Part, Raw, Text};
use crate::{Dialect, Usage};

/// An answer in one piece.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer<'a> {
    /// Whose extras and native parts it has.
    pub(crate) dialect: Dialect,
    pub(crate) id: Option<Text<'a>>,
    pub(crate) model: Option<Text<'a>>,
    /// Seconds since 1970.
    pub(crate) created: Option<u64>,
    pub(crate) parts: Vec<Part<'a>>,
    pub(crate) finish: Finish<'a>,
    pub(crate) usage: Option<Usage>,
    pub(crate) service_tier: Option<Text<'a>>,
    /// As a request's: members as its own dialect puts them, of what is said above.
    pub(crate) own: Extras<'a>,
    pub(crate) extras: Extras<'a>,
    /// Members of what stands around its message: OpenAI's choice, Gemini's candidate.
    pub(crate) candidate_extras: Extras<'a>,
    /// Members of its message, where that is apart from the answer.
    pub(crate) message_extras: Extras<'a>,
    /// Further answers to the same request, as their own dialect puts them.
    pub(crate) others: Vec<Raw<'a>>,
}

impl Answer<'_> {
    /// One that says nothing yet.
    pub(crate) fn new(dialect: Dialect) -> Self {
        Answer {
            dialect,
            id: None,
            model: None,
            created: None,
            parts: Vec::new(),
            finish: Finish::Stop,
            usage: None,
            service_tier: None,
            own: Extras::default(),
            extras: Extras::default(),
            candidate_extras: Extras::default(),
            message_extras: Extras::default(),
            others: Vec::new(),
        }
    }

    /// Notes whatever stands beside what all dialects know, for a dialect that is not the answer's own.
    pub(crate) fn note_extras(&self, losses: &mut Losses) {
        losses.extras(&self.extras);
        losses.extras(&self.candidate_extras);
        losses.extras(&self.message_extras);
        losses.note_if(!self.others.is_empty(), "further answers");
    }

    /// Tells it as a stream would: each part in one piece.
    pub(crate) fn replay(&self, sink: &mut dyn FnMut(Event<'_>)) {
        let borrowed =
            |text: &Option<Text<'_>>| text.as_ref().map(|text| text.as_escaped().to_owned()).map(Text::escaped);
        let head = Head { id: borrowed(&self.id), model: borrowed(&self.model), created: self.created };
        sink(Event::Start(head));
        let mut block = |block: Block<'_>, pieces: [Option<Event<'_>>; 2]| {
            sink(Event::Begin(block));
            pieces.into_iter().flatten().for_each(&mut *sink);
            sink(Event::End);
        };
        let delta =
            |text: &Text<'_>| (!text.is_empty()).then(|| Event::Delta(Text::escaped(text.as_escaped().to_owned())));
        let signed = |text: &Option<Text<'_>>| borrowed(text).map(Event::Signature);
        for part in &self.parts {
            match part {
                Part::Text { text, .. } if text.is_empty() => {}
                Part::Text { text, .. } => block(Block::Text, [delta(text), None]),
                Part::Refusal(text) => block(Block::Refusal, [delta(text), None]),
                Part::Thought(thought) => block(Block::Thought, [delta(&thought.text), signed(&thought.signature)]),
                Part::Call(call) => {
                    let named = Block::Call { id: call.id.borrowed(), name: call.name.borrowed() };
                    block(named, [delta(&call.arguments.quoted()), signed(&call.signature)]);
                }
                Part::Native(raw) => block(Block::Native(Raw::new(raw.as_str())), [None, None]),
                // What an answer does not have.
                Part::Media(_) | Part::Result(_) => {}
            }
        }
        self.usage.into_iter().for_each(|usage| sink(Event::Usage(usage)));
        sink(Event::Finish(self.finish.clone()));
        sink(Event::Done);
    }
}

/// An id for a call that has none: another one for each call of each answer, for a conversation may come to hold many.
pub(crate) fn call_id(answer: Option<&Text<'_>>, number: usize) -> Text<'static> {
    static UNNAMED: AtomicU64 = AtomicU64::new(0);
    let mut hasher = DefaultHasher::new();
    match answer {
        Some(id) => id.as_escaped().hash(&mut hasher),
        None => (seconds_now(), UNNAMED.fetch_add(1, Ordering::Relaxed)).hash(&mut hasher),
    }
    // The charset and length that all dialects take.
    Text::escaped(format!("call_{:016x}_{number}", hasher.finish()))
}

/// The time, for dialects that tell when an answer was made where the provider's does not.
pub(crate) fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Why an answer ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finish<'a> {
    /// The model had said all that it had to.
    Stop,
    /// It came upon a stop sequence; which one, where the dialect says so.
    StopSequence(Text<'a>),
    /// It waits for its tools.
    ToolCalls,
    /// It may not say more.
    Length,
    /// It may not say this.
    ContentFilter,
    /// A word that only its own dialect knows.
    Other(Text<'a>),
}

impl Finish<'_> {
    pub(crate) fn into_owned(self) -> Finish<'static> {
        match self {
            Finish::Stop => Finish::Stop,
            Finish::StopSequence(text) => Finish::StopSequence(text.into_owned()),
            Finish::ToolCalls => Finish::ToolCalls,
            Finish::Length => Finish::Length,
            Finish::ContentFilter => Finish::ContentFilter,
            Finish::Other(word) => Finish::Other(word.into_owned()),
        }
    }
}
