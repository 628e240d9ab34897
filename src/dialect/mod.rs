//! The wire APIs: what each dialect's requests, answers, streams and errors mean to the layers.
//!
//! Each dialect is a folder of the same shape. What the layers ask of one goes through the functions of this module,
//! so that they never name a dialect themselves.
//!
//! # Token estimate
//!
//! How many tokens a request has is estimated by what its text is written in: each kind of character weighs what it does on
//! average with OpenAI's `o200k_base`, the most frugal of the well-known tokenizers. That is about a token for 4.4 bytes of English
//! prose or of code, for 3.7 of JSON, for 7 of Russian, 5 of Arabic, 9 of Hindi, 4 of Chinese.
//!
//! The error: for prose, code and JSON the estimate is within a quarter of what `o200k_base` counts nine times of ten. Other
//! tokenizers count more: Anthropic's newer ones about a third, older ones up to three times as much in scripts that are not
//! Latin. What stands in a text as Base64 or hexadecimal digits has up to three times as many. So it rather says too few; and
//! where a window is compared, a quarter is taken off for good measure: a target whose window is surely too small is left out, one
//! that might do is tried.
//!
//! With the feature `tokenizer`, what goes to a model whose tokenizer is known to be `o200k_base`
//! ([`KnownModel::uses_o200k_base`](crate::KnownModel::uses_o200k_base)) is counted where an estimate would leave a doubt whether its
//! window holds it: to the token, of a chat with `gpt-4o` or `gpt-4.1` that is nothing but text; of any other, at least so many. A body
//! of more than 1 MiB is not counted, so that nobody is kept waiting for more than some tenth of a second: its estimate has to do. The
//! tokenizer is loaded when it is first needed; it adds 34 MB to a program and, once it is loaded, 67 MB to its memory.
//!
//! What is not text counts as little as it can (an image as the smallest), and what providers add themselves is not counted:
//! some tokens for each message, some hundred where there are tools. Where an answer does not tell its own usage, four bytes of
//! it are a token.

use std::borrow::Cow;

use bytes::Bytes;

use crate::{Dialect, Fault, FaultKind, RequestContext, RequestOutline, Usage, usage::Written};

pub(crate) mod anthropic_messages;
pub(crate) mod canonical;
#[cfg(feature = "tokenizer")]
mod counted;
pub(crate) mod edit;
pub(crate) mod foreign;
pub(crate) mod gemini;
pub(crate) mod json_scan;
pub(crate) mod json_write;
pub(crate) mod openai_chat;
pub(crate) mod openai_responses;
#[cfg(test)]
pub(crate) mod recorded;
pub(crate) mod recovery;
mod tokens;
pub(crate) mod translate;

/// Does something with the module of a dialect: they all have the same functions.
macro_rules! in_dialect {
    ($dialect:expr, $module:ident => $call:expr) => {
        match $dialect {
            crate::Dialect::OpenAiChat => {
                use crate::dialect::openai_chat as $module;
                $call
            }
            crate::Dialect::OpenAiResponses => {
                use crate::dialect::openai_responses as $module;
                $call
            }
            crate::Dialect::AnthropicMessages => {
                use crate::dialect::anthropic_messages as $module;
                $call
            }
            crate::Dialect::Gemini => {
                use crate::dialect::gemini as $module;
                $call
            }
        }
    };
}

/// Does something with what an enum of dialects holds, whichever it is.
macro_rules! of_dialect {
    ($enum:ident, $self:expr, $held:ident => $call:expr) => {
        match $self {
            $enum::OpenAiChat($held) => $call,
            $enum::OpenAiResponses($held) => $call,
            $enum::AnthropicMessages($held) => $call,
            $enum::Gemini($held) => $call,
        }
    };
}
pub(crate) use in_dialect;
pub(crate) use of_dialect;

#[cfg(feature = "tokenizer")]
pub(crate) use counted::Counted;
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
    in_dialect!(dialect, module => module::response::answer(body))
}

/// How much a whole answer says, for one that does not count itself.
pub(crate) fn written(dialect: Dialect, body: &[u8]) -> Written {
    in_dialect!(dialect, module => module::response::written(body))
}

/// A whole answer as the stream that a client expects in its place; `None` where it cannot be one.
pub(crate) fn as_stream(dialect: Dialect, body: &[u8], with_usage: bool) -> Option<Bytes> {
    match dialect {
        // With all that an answer may have besides what every dialect knows.
        Dialect::OpenAiChat => openai_chat::response::as_stream(body, with_usage),
        Dialect::AnthropicMessages => anthropic_messages::response::as_stream(body),
        Dialect::Gemini => gemini::joined::as_stream(body),
        Dialect::OpenAiResponses => {
            let answer = translate::decode_answer(dialect, std::str::from_utf8(body).ok()?).ok()?;
            Some(translate::as_stream(&answer, dialect, with_usage).into())
        }
    }
}

/// A stream that is all there, by the data of its events, as the answer in one piece that a client expects in its place;
/// `None` where it cannot be one.
pub(crate) fn as_answer<'a>(dialect: Dialect, events: impl IntoIterator<Item = Cow<'a, [u8]>>) -> Option<Bytes> {
    match dialect {
        // With all that a chunk may have besides.
        Dialect::OpenAiChat => openai_chat::joined::as_answer(events),
        Dialect::Gemini => gemini::joined::as_answer(events),
        Dialect::AnthropicMessages | Dialect::OpenAiResponses => translate::joined(dialect, events).map(Bytes::from),
    }
}

/// What a client speaks that calls this path, where what it asks for can be read. Embeddings are OpenAI's.
pub(crate) fn of_path(path: &str) -> Option<Dialect> {
    Dialect::from_path(path).or_else(|| path.ends_with("/embeddings").then_some(Dialect::OpenAiChat))
}

/// Scans a request for what every layer needs of it, its path for what its dialect says there; `None` where nothing is
/// known of the dialect's requests.
pub(crate) fn outline(dialect: Dialect, path: &str, body: &Bytes) -> Option<Result<RequestOutline, Fault>> {
    let outline = match dialect {
        Dialect::OpenAiChat if path.ends_with("/embeddings") => openai_chat::embeddings::outline(body),
        Dialect::Gemini => gemini::request::outline(body).map(|mut outline| {
            outline.set_streaming(gemini::request::streams(path));
            translate::model_of_path(path).into_iter().for_each(|model| outline.set_named(&model));
            outline
        }),
        dialect => in_dialect!(dialect, module => module::request::outline(body)),
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
    OpenAiResponses(openai_responses::stream::Reader),
    AnthropicMessages(anthropic_messages::stream::Reader),
    Gemini(gemini::stream::Reader),
}

impl StreamReader {
    /// For a stream in that dialect, of so many answers at once.
    pub(crate) fn new(dialect: Dialect, choices: u64) -> Self {
        match dialect {
            Dialect::OpenAiChat => StreamReader::OpenAiChat(openai_chat::stream::Reader::new(choices)),
            Dialect::OpenAiResponses => StreamReader::OpenAiResponses(openai_responses::stream::Reader::new()),
            Dialect::AnthropicMessages => StreamReader::AnthropicMessages(anthropic_messages::stream::Reader::new()),
            Dialect::Gemini => StreamReader::Gemini(gemini::stream::Reader::new(choices)),
        }
    }

    /// Reads the data of the next event.
    pub(crate) fn event(&mut self, data: &[u8]) -> StreamEvent {
        of_dialect!(StreamReader, self, reader => reader.event(data))
    }

    /// What the provider says that the answer cost, once it has.
    pub(crate) fn usage(&self) -> Option<Usage> {
        of_dialect!(StreamReader, self, reader => reader.usage())
    }

    /// How much of the answer came.
    pub(crate) fn written(&self) -> Written {
        of_dialect!(StreamReader, self, reader => reader.written())
    }
}

/// The path of a request for a provider of that dialect, which may be the one that names the model there.
pub(crate) fn path_for<'a>(dialect: Dialect, path: &'a str, model: Option<&str>) -> Cow<'a, str> {
    match (dialect, model) {
        (Dialect::Gemini, Some(model)) => gemini::request::with_model(path, model),
        _ => Cow::Borrowed(path),
    }
}

/// A fault as the body of an error response.
pub(crate) fn error_body(dialect: Dialect, fault: &Fault) -> Bytes {
    in_dialect!(dialect, module => module::error::body(fault))
}

/// A fault as the last event of a stream.
#[cfg(feature = "gateway")]
pub(crate) fn error_event(dialect: Dialect, fault: &Fault) -> Bytes {
    in_dialect!(dialect, module => module::error::event(fault))
}
