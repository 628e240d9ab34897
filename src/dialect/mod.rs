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

use std::borrow::Cow;

use bytes::Bytes;

use crate::{Dialect, Fault, FaultKind, RequestContext, RequestOutline, Usage, usage::Written};

pub(crate) mod canonical;
pub(crate) mod gemini_path;
pub(crate) mod json_scan;
pub(crate) mod json_write;
pub(crate) mod openai_chat;
pub(crate) mod openai_responses;
#[cfg(test)]
pub(crate) mod recorded;
pub(crate) mod recovery;
pub(crate) mod translate;

use json_scan::Malformed;

/// What one event of a stream means to whoever supervises it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamEvent {
    /// Roles, pings, empty deltas: says that the upstream is alive, and nothing to the reader yet.
    Preamble,
    /// What the answer cost, and nothing else.
    Usage,
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
    /// All there, with what it says it cost.
    Whole(Option<Usage>),
    /// An error in the place of an answer.
    Error,
    /// Truncated, or nothing of the dialect at all.
    Malformed,
}

/// Looks at an answer in one piece.
pub(crate) fn answer(dialect: Dialect, body: &[u8]) -> Answer {
    match dialect {
        Dialect::OpenAiChat => openai_chat::response::answer(body),
        _ => Answer::Whole(None),
    }
}

/// How much a whole answer says, where it does not count itself and its dialect is known.
pub(crate) fn written(dialect: Dialect, body: &[u8]) -> Option<Written> {
    match dialect {
        Dialect::OpenAiChat => Some(openai_chat::response::written(body)),
        _ => None,
    }
}

/// A whole answer as the stream that a client expects in its place; `None` where it cannot be one.
pub(crate) fn as_stream(dialect: Dialect, body: &[u8], with_usage: bool) -> Option<Bytes> {
    match dialect {
        // Byte for byte, as far as that goes.
        Dialect::OpenAiChat => openai_chat::response::as_stream(body, with_usage),
        _ => {
            let answer = translate::decode_answer(dialect, std::str::from_utf8(body).ok()?).ok()?;
            translate::as_stream(&answer, dialect, with_usage).map(Bytes::from)
        }
    }
}

/// A stream that is all there, by the data of its events, as the answer in one piece that a client expects in its place;
/// `None` where it cannot be one.
pub(crate) fn as_answer<'a>(dialect: Dialect, events: impl IntoIterator<Item = Cow<'a, [u8]>>) -> Option<Bytes> {
    match dialect {
        // With all that a chunk may have besides.
        Dialect::OpenAiChat => openai_chat::joined::as_answer(events),
        _ => translate::joined(dialect, events).map(Bytes::from),
    }
}

/// Scans a request for what every layer needs of it, its path for what its dialect says there; `None` where nothing is
/// known of the dialect's requests.
pub(crate) fn outline(dialect: Dialect, path: &str, body: &Bytes) -> Option<Result<RequestOutline, Fault>> {
    let outline = match dialect {
        Dialect::OpenAiChat => openai_chat::request::outline(body),
        _ => return None,
    };
    Some(outline.map_err(|Malformed { at }| {
        let message = format!("the request body is not a JSON object: malformed at byte {at}");
        Fault::new(FaultKind::BadRequest, message).with_code("invalid_json").unsent()
    }))
}

/// Fills in what is known of a request once its body is; a fault where the body is none of the dialect's.
pub(crate) fn describe(
    context: RequestContext,
    dialect: Dialect,
    path: &str,
    body: &Bytes,
) -> Result<RequestContext, Fault> {
    let context = context.with_dialect(dialect);
    if context.outline().is_some() {
        return Ok(context);
    }
    match outline(dialect, path, body) {
        None => Ok(context),
        Some(outline) => Ok(context.with_outline(outline?)),
    }
}

/// Reads the events of one stream.
#[derive(Debug)]
pub(crate) enum StreamReader {
    OpenAiChat(openai_chat::stream::Reader),
    /// Of a dialect whose events are not known here: whatever comes is output.
    Other,
}

impl StreamReader {
    /// For a stream in that dialect, of so many answers at once.
    pub(crate) fn new(dialect: Dialect, choices: u64) -> Self {
        match dialect {
            Dialect::OpenAiChat => StreamReader::OpenAiChat(openai_chat::stream::Reader::new(choices)),
            _ => StreamReader::Other,
        }
    }

    /// Reads the data of the next event.
    pub(crate) fn event(&mut self, data: &[u8]) -> StreamEvent {
        match self {
            StreamReader::OpenAiChat(reader) => reader.event(data),
            StreamReader::Other => StreamEvent::Output,
        }
    }

    /// What the provider says that the answer cost, once it has.
    pub(crate) fn usage(&self) -> Option<Usage> {
        match self {
            StreamReader::OpenAiChat(reader) => reader.usage(),
            StreamReader::Other => None,
        }
    }

    /// How much of the answer came, where that can be told.
    pub(crate) fn written(&self) -> Option<Written> {
        match self {
            StreamReader::OpenAiChat(reader) => Some(reader.written()),
            StreamReader::Other => None,
        }
    }
}

/// The path of a request for a provider of that dialect, which may be the one that names the model there.
pub(crate) fn path_for<'a>(dialect: Dialect, path: &'a str, model: Option<&str>) -> Cow<'a, str> {
    match (dialect, model) {
        (Dialect::Gemini, Some(model)) => gemini_path::with_model(path, model),
        _ => Cow::Borrowed(path),
    }
}

/// A fault as the body of an error response.
pub(crate) fn error_body(dialect: Dialect, fault: &Fault) -> Bytes {
    match dialect {
        Dialect::OpenAiChat => openai_chat::error::body(fault),
        _ => openai_chat::error::body(fault),
    }
}

/// A fault as the last event of a stream.
#[cfg(feature = "gateway")]
pub(crate) fn error_event(dialect: Dialect, fault: &Fault) -> Bytes {
    match dialect {
        Dialect::OpenAiChat => openai_chat::error::event(fault),
        _ => openai_chat::error::event(fault),
    }
}
