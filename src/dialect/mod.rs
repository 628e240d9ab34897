//! The wire APIs: what each dialect's requests, answers, streams and errors mean to the layers.
//!
//! Each dialect is a folder of the same shape. What the layers ask of one goes through the functions of this module,
//! so that they never name a dialect themselves.
//!
//! # Token estimate
//!
//! How many tokens a request has is estimated as one for four bytes of its text (OpenAI's own rule of thumb for
//! English). Code and most other languages have more tokens than that, so the estimate errs on the low side: a target
//! whose window is surely too small is left out, one that might do is tried.

use bytes::Bytes;

use crate::{Dialect, Fault, RequestContext, RequestOutline};

pub(crate) mod json_scan;
pub(crate) mod openai_chat;

pub(crate) use json_scan::Malformed;

/// What one event of a stream means to whoever supervises it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamEvent {
    /// Roles, pings, empty deltas: says that the upstream is alive, and nothing to the reader yet.
    Preamble,
    /// Something that the reader sees: text, a tool call, reasoning.
    Output,
    /// The answer is whole, perhaps with its last output.
    Finish,
    /// Nothing comes behind this one.
    Terminal,
    /// The provider gave up.
    Error,
    /// It cannot be read.
    Malformed,
}

/// What an answer in one piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// All there.
    Whole,
    /// An error in the place of an answer.
    Error,
    /// Truncated, or nothing of the dialect at all.
    Malformed,
}

/// Looks at an answer in one piece.
pub(crate) fn answer(dialect: Dialect, body: &[u8]) -> Answer {
    match dialect {
        Dialect::OpenAiChat => openai_chat::response::answer(body),
        _ => Answer::Whole,
    }
}

/// Scans a request's body for what every layer needs of it.
pub(crate) fn outline(dialect: Dialect, body: &Bytes) -> Option<Result<RequestOutline, Malformed>> {
    match dialect {
        Dialect::OpenAiChat => Some(openai_chat::request::outline(body)),
        _ => None,
    }
}

/// Fills in what is known of a request once its body is.
pub(crate) fn describe(context: RequestContext, dialect: Dialect, body: &Bytes) -> RequestContext {
    let context = context.with_dialect(dialect);
    if context.outline().is_some() {
        return context;
    }
    match outline(dialect, body) {
        Some(Ok(outline)) => context.with_outline(outline),
        _ => context,
    }
}

/// Reads the data of one event.
pub(crate) fn stream_event(dialect: Dialect, data: &[u8]) -> StreamEvent {
    match dialect {
        Dialect::OpenAiChat => openai_chat::stream::event(data),
        _ => StreamEvent::Output,
    }
}

/// A fault as the body of an error response.
pub(crate) fn error_body(dialect: Dialect, fault: &Fault) -> Bytes {
    let _ = dialect; // the others' own shapes come with their folders
    openai_chat::error::body(fault)
}
