//! What a stream says, piece by piece.

use super::{Finish, Raw, Text};
use crate::Usage;

/// One step of an answer. In this order:
///
/// ```text
/// Start · ( Begin · ( Delta | Signature | Annotation )* · End )* · Usage* (anywhere) · Finish · Done
/// ```
///
/// One block is open at a time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event<'a> {
    Start(Head<'a>),
    Begin(Block<'a>),
    /// More of the open block: text, or of a call the JSON text of its arguments.
    Delta(Text<'a>),
    /// What proves whose thought, or whose call, the open block is.
    Signature(Text<'a>),
    /// Something about the open block's text that only its own dialect knows, such as a citation.
    Annotation(Raw<'a>),
    End,
    /// What the answer costs so far: each word replaces the one before.
    Usage(Usage),
    Finish(Finish<'a>),
    /// Nothing comes behind this.
    Done,
}

/// What is known of an answer when it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    pub(crate) id: Option<Text<'a>>,
    pub(crate) model: Option<Text<'a>>,
    /// Seconds since 1970.
    pub(crate) created: Option<u64>,
}

impl Head<'_> {
    pub(crate) fn into_owned(self) -> Head<'static> {
        Head { id: self.id.map(Text::into_owned), model: self.model.map(Text::into_owned), created: self.created }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Block<'a> {
    Text,
    Refusal,
    Thought,
    /// `id` is empty where the dialect has none.
    Call {
        id: Text<'a>,
        name: Text<'a>,
    },
    /// What only its own dialect knows, whole.
    Native(Raw<'a>),
}

impl Block<'_> {
    pub(crate) fn into_owned(self) -> Block<'static> {
        match self {
            Block::Text => Block::Text,
            Block::Refusal => Block::Refusal,
            Block::Thought => Block::Thought,
            Block::Call { id, name } => Block::Call { id: id.into_owned(), name: name.into_owned() },
            Block::Native(raw) => Block::Native(raw.into_owned()),
        }
    }
}
