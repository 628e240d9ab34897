//! What is asked for and what is answered, whatever the API.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Value, json};

use super::builder::Settings;
use super::continuation::Continuation;
use super::schema;

/// How much of a message an answer repeats, in characters.
const REPEATED: usize = 200;

/// How long a piece of JSON in a stream is, in characters.
const JSON_PIECE: usize = 8;

/// A request, as far as the answer depends on it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) model: String,
    pub(super) stream: bool,
    /// Whether a stream is to tell its usage.
    pub(super) stream_usage: bool,
    pub(super) turn: Turn,
    /// The functions that may be called.
    pub(super) tools: Vec<Tool>,
    pub(super) choice: ToolChoice,
    pub(super) parallel: bool,
    pub(super) format: Format,
    /// Whether the answer is to be thought about.
    pub(super) reasons: bool,
    /// How many tokens the answer may have.
    pub(super) most_tokens: Option<usize>,
    /// Where it ends should it come upon one of these.
    pub(super) stop: Vec<String>,
    pub(super) prompt_tokens: usize,
}

/// Why an answer ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ending {
    Whole,
    /// It may have no more tokens.
    Length,
    /// It came upon this.
    Stopped(String),
}

/// What the last message is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Turn {
    /// The user spoke.
    User(String),
    /// A tool has answered.
    ToolResult(String),
    /// Something else came last; this is what the user said before.
    Other(String),
    /// An answer to that turn was begun.
    Begun { answer: String, to: Box<Turn> },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tool {
    pub(super) name: String,
    pub(super) schema: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum ToolChoice {
    Any,
    Never,
    Named(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Format {
    Text,
    JsonObject,
    JsonSchema(Value),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Text(String),
    Json(String),
    Calls(Vec<Call>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    /// JSON text.
    pub(super) arguments: String,
}

/// An answer in the words of an API.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rendered {
    Whole(Bytes),
    Stream(Events),
}

/// A stream, in the parts that the faults tell apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Events {
    /// What opens the turn.
    pub(super) opening: Vec<Bytes>,
    /// Each of these carries output.
    pub(super) output: Vec<(Part, Bytes)>,
    /// The finish reason and all that follows it.
    pub(super) ending: Vec<Bytes>,
    /// Whether they are no events but the elements of an array.
    pub(super) array: bool,
}

/// What a piece of output is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Reasoning,
    Text,
    ToolCall,
    StructuredOutput,
}

impl Asked {
    /// What is thought before the answer, where that is asked for.
    pub(super) fn reasoning(&self) -> Option<String> {
        let said = match &self.turn {
            Turn::Begun { to, .. } => to.said(),
            turn => turn.said(),
        };
        self.reasons.then(|| format!("What is said is \"{}\", so a simulated answer is due.", bounded(said)))
    }
}

impl Turn {
    fn said(&self) -> &str {
        match self {
            Self::User(said) | Self::ToolResult(said) | Self::Other(said) => said,
            Self::Begun { answer, .. } => answer,
        }
    }
}

impl Answer {
    /// What is answered; of an answer that was begun, what it is continued with.
    pub(super) fn to(asked: &Asked, settings: &Settings, continuation: Continuation) -> Self {
        let Turn::Begun { answer, to } = &asked.turn else { return Self::whole(asked, &asked.turn, settings) };
        match Self::whole(asked, to, settings) {
            Self::Text(whole) => Self::Text(continuation.of(&whole, answer)),
            Self::Json(whole) => Self::Json(continuation.of(&whole, answer)),
            calls @ Self::Calls(_) => calls,
        }
    }

    fn whole(asked: &Asked, turn: &Turn, settings: &Settings) -> Self {
        let calls = calls(asked);
        if !calls.is_empty() {
            return Self::Calls(calls);
        }
        match &asked.format {
            Format::JsonSchema(schema) => return Self::Json(schema::instance(schema).to_string()),
            Format::JsonObject => {
                return Self::Json(json!({"provider": settings.name, "simulated": true}).to_string());
            }
            Format::Text => {}
        }
        if let Some(text) = &settings.answer {
            return Self::Text(text.clone());
        }
        let name = &settings.name;
        let said = bounded(turn.said());
        Self::Text(match turn {
            Turn::ToolResult(_) => format!("[{name}] The tool answered \"{said}\"."),
            _ => format!("[{name}] A simulated answer to \"{said}\"."),
        })
    }

    /// As much of it as is asked for, and why it ends there. Calls are made whole.
    pub(super) fn within(self, asked: &Asked) -> (Self, Ending) {
        let (text, is_json) = match self {
            Self::Text(text) => (text, false),
            Self::Json(text) => (text, true),
            calls @ Self::Calls(_) => return (calls, Ending::Whole),
        };
        let stops = asked.stop.iter().filter(|stop| !stop.is_empty());
        let stop = stops.filter_map(|stop| Some((text.find(stop.as_str())?, stop))).min_by_key(|(at, _)| *at);
        let said = &text[..stop.map_or(text.len(), |(at, _)| at)];
        let most = asked.most_tokens.unwrap_or(usize::MAX);
        let bounded: String = match is_json {
            true => said.chars().take(most.saturating_mul(4)).collect(),
            false => words(said).into_iter().take(most).collect(),
        };
        let ending = match stop {
            _ if bounded.len() < said.len() => Ending::Length,
            Some((_, stop)) => Ending::Stopped(stop.clone()),
            None => Ending::Whole,
        };
        (if is_json { Self::Json(bounded) } else { Self::Text(bounded) }, ending)
    }

    /// How many tokens the answer is said to have.
    pub(super) fn tokens(&self) -> usize {
        match self {
            Self::Text(text) => words(text).len(),
            Self::Json(text) => tokens(text),
            Self::Calls(calls) => calls.iter().map(|call| tokens(&call.name) + tokens(&call.arguments)).sum(),
        }
    }

    /// The pieces in which a stream gives a text, at most so many. Joined they are the text.
    pub(super) fn text_pieces(&self, most: usize) -> Vec<String> {
        match self {
            Self::Text(text) => text_pieces(text, most),
            Self::Json(text) => json_pieces(text, most),
            Self::Calls(_) => Vec::new(),
        }
    }
}

/// The calls to be made; none if the answer is to be a text.
fn calls(asked: &Asked) -> Vec<Call> {
    let Turn::User(said) = &asked.turn else {
        return Vec::new();
    };
    let tools = &asked.tools;
    let mentioned: Vec<&Tool> = tools.iter().filter(|tool| said.contains(&tool.name)).collect();
    let chosen = match &asked.choice {
        ToolChoice::Never => Vec::new(),
        ToolChoice::Named(name) => tools.iter().filter(|tool| tool.name == *name).take(1).collect(),
        ToolChoice::Any if asked.parallel && mentioned.len() > 1 => mentioned,
        ToolChoice::Any => tools.first().into_iter().collect(),
    };
    let call = |tool: &Tool| Call { name: tool.name.clone(), arguments: schema::instance(&tool.schema).to_string() };
    chosen.into_iter().map(call).collect()
}

/// The pieces in which a stream gives a text, at most so many.
pub(super) fn text_pieces(text: &str, most: usize) -> Vec<String> {
    grouped(&words(text), most)
}

/// The pieces in which a stream gives a JSON text, at most so many.
pub(super) fn json_pieces(text: &str, most: usize) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let pieces: Vec<String> = chars.chunks(JSON_PIECE).map(|piece| piece.iter().collect()).collect();
    grouped(&pieces, most)
}

/// A rough count of tokens, for usage that looks right.
pub(super) fn tokens(text: &str) -> usize {
    text.len().div_ceil(4)
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

fn bounded(text: &str) -> String {
    let mut chars = text.chars();
    let mut start: String = chars.by_ref().take(REPEATED).collect();
    if chars.next().is_some() {
        start.push('…');
    }
    start
}

/// Words, each with the white space before it.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = 0;
    let mut in_word = false;
    for (at, c) in text.char_indices() {
        if c.is_whitespace() && in_word {
            words.push(&text[start..at]);
            start = at;
        }
        in_word = !c.is_whitespace();
    }
    if start < text.len() {
        words.push(&text[start..]);
    }
    words
}

/// The same pieces joined to at most so many, of about the same size.
fn grouped(pieces: &[impl AsRef<str>], most: usize) -> Vec<String> {
    let (all, groups) = (pieces.len(), pieces.len().min(most));
    (0..groups).map(|n| pieces[all * n / groups..all * (n + 1) / groups].iter().map(AsRef::as_ref).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_to_the_text() {
        for text in ["", "one", " two  words ", "a\nb c\t", "größe ist – egal", "   "] {
            for most in [1, 2, 3, usize::MAX] {
                let pieces = Answer::Text(text.to_owned()).text_pieces(most);
                assert_eq!(pieces.concat(), text);
                assert!(pieces.len() <= most);
                let pieces = Answer::Json(text.to_owned()).text_pieces(most);
                assert_eq!(pieces.concat(), text);
                assert!(pieces.len() <= most);
            }
        }
        assert_eq!(words("I am  here"), ["I", " am", "  here"]);
        assert_eq!(grouped(&["a", "b", "c", "d", "e"], 2), ["ab", "cde"]);
    }

    #[test]
    fn a_long_message_is_not_repeated_whole() {
        let text = bounded(&"ä".repeat(REPEATED + 1));
        assert_eq!(text.chars().count(), REPEATED + 1);
        assert!(text.ends_with('…'));
        assert_eq!(bounded("short"), "short");
    }
}
