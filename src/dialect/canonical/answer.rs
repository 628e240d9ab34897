//! What an answer says.

use super::{Extras, Part, Text};
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
    pub(crate) extras: Extras<'a>,
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
            extras: Extras::default(),
        }
    }
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
