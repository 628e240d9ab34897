//! What is asked of a dialect to complete an answer that broke off: what the client has of it, how to ask for the
//! rest, and how to tell the rest so that it reads as one answer.

use bytes::Bytes;

use super::{anthropic_messages, gemini, openai_chat, openai_responses};
use crate::{Dialect, usage::BYTES_PER_TOKEN};

/// What one event brings to an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Text of the answer.
    pub(crate) text: String,
    /// A piece of reasoning.
    pub(crate) reasoning: bool,
    /// A piece of a tool call.
    pub(crate) tool_call: bool,
    /// Something that could not be gone on with: a refusal, audio, a second answer.
    pub(crate) other: bool,
    /// A piece of a second answer, or of yet another: when one of several is whole, the others need not be.
    pub(crate) second: bool,
    /// The answer is whole.
    pub(crate) finish: bool,
    /// It tells how many tokens the answer has.
    pub(crate) usage: bool,
    /// Nothing comes behind it.
    pub(crate) terminal: bool,
}

/// What may be asked for when the answer to a request breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// The rest of it.
    Rest,
    /// All of it again, to be passed on only if it is the same as far as it was delivered: half of a JSON text
    /// is not glued to another model's.
    Again,
    /// Nothing: it has parts that cannot be told apart or gone on with.
    None,
}

/// Ways to ask for the rest of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RestRequest {
    /// With what was delivered as the beginning of the assistant's turn.
    pub(crate) prefill: Bytes,
    /// With what was delivered as the assistant's turn, and an instruction to go on behind it.
    pub(crate) instruction: Bytes,
}

/// The instruction to go on.
pub(crate) const INSTRUCTION: &str = "Your answer above was cut off by a technical fault. Continue it: write the rest, \
    beginning with the very next character after its last one. Do not repeat anything that you have already written, do not \
    start over, and do not comment on the interruption.";

/// How many tokens a text has, roughly: see the [module](crate::dialect#token-estimate).
pub(crate) fn tokens_of(text: &str) -> u64 {
    (text.len() as u64).div_ceil(BYTES_PER_TOKEN)
}

/// What the data of an event brings; `None` if it cannot be read.
pub(crate) fn piece(dialect: Dialect, data: &[u8]) -> Option<Piece> {
    match dialect {
        Dialect::OpenAiChat => openai_chat::recovery::piece(data),
        Dialect::AnthropicMessages => anthropic_messages::recovery::piece(data),
        Dialect::Gemini => gemini::recovery::piece(data),
        Dialect::OpenAiResponses => openai_responses::recovery::piece(data),
    }
}

/// What may be asked for when the answer to that request breaks off.
pub(crate) fn remedy(dialect: Dialect, body: &[u8]) -> Remedy {
    match dialect {
        Dialect::OpenAiChat => openai_chat::recovery::remedy(body),
        Dialect::AnthropicMessages => anthropic_messages::recovery::remedy(body),
        Dialect::Gemini => gemini::recovery::remedy(body),
        Dialect::OpenAiResponses => openai_responses::recovery::remedy(body),
    }
}

/// What says that nothing comes behind it.
pub(crate) fn terminal(dialect: Dialect) -> Bytes {
    match dialect {
        Dialect::OpenAiChat => openai_chat::recovery::TERMINAL,
        Dialect::AnthropicMessages => anthropic_messages::recovery::TERMINAL,
        // Gemini's last event is the one that says why the answer ends, and so is that of responses.
        Dialect::Gemini | Dialect::OpenAiResponses => Bytes::new(),
    }
}

/// The request for the rest of an answer of which that text was delivered.
pub(crate) fn rest_request(dialect: Dialect, body: &Bytes, delivered: &str) -> Option<RestRequest> {
    match dialect {
        Dialect::OpenAiChat => openai_chat::recovery::rest_request(body, delivered),
        Dialect::AnthropicMessages => anthropic_messages::recovery::rest_request(body, delivered),
        Dialect::Gemini => gemini::recovery::rest_request(body, delivered),
        Dialect::OpenAiResponses => openai_responses::recovery::rest_request(body, delivered),
    }
}

/// How an event of the rest is to be changed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Retelling<'a> {
    /// The text that it brings instead of its own.
    pub(crate) text: Option<&'a str>,
    /// Whether it loses its reasoning.
    pub(crate) without_reasoning: bool,
    /// How many tokens of its usage's input are of our making.
    pub(crate) less_input: u64,
    /// How many tokens of the answer its usage does not count.
    pub(crate) more_output: u64,
}

/// What the client has of an answer, as far as its dialect needs that to go on telling it.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// Each event stands for itself.
    Events,
    AnthropicMessages(anthropic_messages::recovery::Blocks),
    OpenAiResponses(Box<openai_responses::recovery::Telling>),
}

impl Told {
    /// Nothing yet.
    pub(crate) fn new(dialect: Dialect) -> Self {
        match dialect {
            Dialect::AnthropicMessages => Told::AnthropicMessages(Default::default()),
            Dialect::OpenAiResponses => Told::OpenAiResponses(Default::default()),
            Dialect::OpenAiChat | Dialect::Gemini => Told::Events,
        }
    }

    /// Takes note of an event that the client is given as it came.
    pub(crate) fn passed(&mut self, data: &[u8]) {
        match self {
            Told::Events => {}
            Told::AnthropicMessages(blocks) => blocks.passed(data),
            Told::OpenAiResponses(telling) => telling.seen(data),
        }
    }
}

/// An event of the rest as one of the answer that broke off, or as nothing where that has no need of it; `None` if it cannot
/// be. `first` is the data of the first event of that answer.
pub(crate) fn retold(
    dialect: Dialect,
    first: &[u8],
    told: &mut Told,
    data: &[u8],
    how: Retelling<'_>,
) -> Option<Bytes> {
    match (dialect, told) {
        (Dialect::OpenAiChat, _) => openai_chat::recovery::retold(first, data, how),
        (Dialect::Gemini, _) => gemini::recovery::retold(first, data, how),
        (Dialect::AnthropicMessages, Told::AnthropicMessages(blocks)) => blocks.retold(data, how),
        (Dialect::OpenAiResponses, Told::OpenAiResponses(telling)) => telling.retold(data, how),
        _ => None,
    }
}
