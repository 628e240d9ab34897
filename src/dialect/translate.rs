//! From any dialect to any other, through the canonical form.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::{
    anthropic_messages,
    canonical::{Answer, Destination, Event, Losses, Request, Stops, collect::Collector},
    gemini, in_dialect,
    json_scan::Malformed,
    of_dialect, openai_chat, openai_responses,
};
use crate::Dialect;

/// Reads a request. Where the dialect says it in the path, the model and whether to stream are still to be filled in.
pub(crate) fn decode_request(dialect: Dialect, body: &str) -> Result<Request<'_>, Malformed> {
    in_dialect!(dialect, module => module::request::decode::decode(body))
}

/// Writes a request.
pub(crate) fn encode_request(
    dialect: Dialect,
    request: &Request<'_>,
    destination: Destination<'_>,
    losses: &mut Losses,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    in_dialect!(dialect, module => module::request::encode::encode(request, destination, losses, &mut out));
    out
}

/// Reads an answer in one piece.
pub(crate) fn decode_answer(dialect: Dialect, body: &str) -> Result<Answer<'_>, Malformed> {
    in_dialect!(dialect, module => module::response::decode::decode(body))
}

/// Writes an answer in one piece.
pub(crate) fn encode_answer(dialect: Dialect, answer: &Answer<'_>, losses: &mut Losses) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    in_dialect!(dialect, module => module::response::encode::encode(answer, losses, &mut out));
    out
}

/// Where such a request goes, behind the provider's base URL.
pub(crate) fn path(dialect: Dialect, model: &str, stream: bool) -> String {
    match dialect {
        Dialect::OpenAiChat => "/v1/chat/completions".to_owned(),
        Dialect::OpenAiResponses => "/v1/responses".to_owned(),
        Dialect::AnthropicMessages => "/v1/messages".to_owned(),
        Dialect::Gemini => gemini::request::path(model, stream),
    }
}

/// The model that a path names, in the dialect that names it there.
pub(crate) fn model_of_path(path: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(gemini::request::model_of_path(path)?).decode_utf8().ok()
}

/// Whether a path of Gemini's asks for a stream.
pub(crate) fn streams(path: &str) -> bool {
    gemini::request::streams(path)
}

/// Whether a request's URL asks for a stream that is an array.
pub(crate) fn wants_array(uri: &http::Uri) -> bool {
    streams(uri.path()) && !gemini::request::wants_events(uri.query().unwrap_or_default())
}

/// How many stop sequences a target of that dialect takes.
pub(crate) fn most_stops(dialect: Dialect) -> usize {
    match dialect {
        Dialect::OpenAiChat => 4,
        Dialect::OpenAiResponses => 0,
        Dialect::AnthropicMessages => usize::MAX,
        Dialect::Gemini => 5,
    }
}

/// Reads a stream's events.
#[derive(Debug)]
pub(crate) enum Decoder {
    OpenAiChat(openai_chat::stream::decode::Decoder),
    OpenAiResponses(openai_responses::stream::decode::Decoder),
    AnthropicMessages(anthropic_messages::stream::decode::Decoder),
    Gemini(gemini::stream::decode::Decoder),
}

impl Decoder {
    pub(crate) fn new(dialect: Dialect) -> Self {
        match dialect {
            Dialect::OpenAiChat => Decoder::OpenAiChat(openai_chat::stream::decode::Decoder::new()),
            Dialect::OpenAiResponses => Decoder::OpenAiResponses(openai_responses::stream::decode::Decoder::new()),
            Dialect::AnthropicMessages => {
                Decoder::AnthropicMessages(anthropic_messages::stream::decode::Decoder::new())
            }
            Dialect::Gemini => Decoder::Gemini(gemini::stream::decode::Decoder::new()),
        }
    }

    /// Reads the data of an event.
    pub(crate) fn event(&mut self, data: &str, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Malformed> {
        of_dialect!(Decoder, self, decoder => decoder.event(data, sink))
    }

    /// The stream ended, and its answer is whole.
    pub(crate) fn end(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        of_dialect!(Decoder, self, decoder => decoder.end(sink));
    }
}

/// Writes a stream's events.
#[derive(Debug)]
pub(crate) enum Encoder {
    OpenAiChat(openai_chat::stream::encode::Encoder),
    OpenAiResponses(openai_responses::stream::encode::Encoder),
    AnthropicMessages(anthropic_messages::stream::encode::Encoder),
    Gemini(gemini::stream::encode::Encoder),
}

impl Encoder {
    /// For a client that wants to know the usage, or does not, where its dialect leaves it the choice.
    pub(crate) fn new(dialect: Dialect, usage: bool) -> Self {
        match dialect {
            Dialect::OpenAiChat => Encoder::OpenAiChat(openai_chat::stream::encode::Encoder::new(usage)),
            Dialect::OpenAiResponses => Encoder::OpenAiResponses(openai_responses::stream::encode::Encoder::new(usage)),
            Dialect::AnthropicMessages => {
                Encoder::AnthropicMessages(anthropic_messages::stream::encode::Encoder::new(usage))
            }
            Dialect::Gemini => Encoder::Gemini(gemini::stream::encode::Encoder::new(usage)),
        }
    }

    pub(crate) fn event(&mut self, event: &Event<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
        of_dialect!(Encoder, self, encoder => encoder.event(event, losses, out));
    }
}

/// Turns the events of a stream into those of another dialect's, one by one.
#[derive(Debug)]
pub(crate) struct StreamTranslator {
    decoder: Decoder,
    encoder: Encoder,
    losses: Losses,
    /// Where the target knows no stop sequences, or not so many.
    stops: Option<Stops>,
    /// How many tokens the request probably has.
    input: u64,
    over: bool,
}

impl StreamTranslator {
    pub(crate) fn new(from: Dialect, to: Dialect, include_usage: bool) -> Self {
        let (decoder, encoder) = (Decoder::new(from), Encoder::new(to, include_usage));
        StreamTranslator { decoder, encoder, losses: Losses::default(), stops: None, input: 0, over: false }
    }

    /// Ends the answer at the first of these; it is to a request of about so many tokens.
    pub(crate) fn with_stops(mut self, stops: Option<Stops>, input: u64) -> Self {
        self.stops = stops;
        self.input = input;
        self
    }

    /// Whether nothing more is to be told, though the provider may go on.
    pub(crate) fn is_over(&self) -> bool {
        self.stops.as_ref().is_some_and(Stops::found)
    }

    /// Appends what tells the event with that data.
    pub(crate) fn event(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        let data = std::str::from_utf8(data).map_err(|error| Malformed { at: error.valid_up_to() })?;
        let (encoder, losses) = (&mut self.encoder, &mut self.losses);
        let mut tell = |event: Event<'_>| encoder.event(&event, losses, out);
        match &mut self.stops {
            None => self.decoder.event(data, &mut tell),
            Some(stops) => self.decoder.event(data, &mut |event| stops.event(event, &mut tell)),
        }
    }

    /// Appends what tells the end of a whole answer.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) {
        let (encoder, losses) = (&mut self.encoder, &mut self.losses);
        let mut tell = |event: Event<'_>| encoder.event(&event, losses, out);
        match &mut self.stops {
            None => self.decoder.end(&mut tell),
            Some(stops) if stops.found() && !self.over => {
                tell(Event::Usage(stops.usage(self.input)));
                tell(Event::Done);
            }
            Some(stops) => self.decoder.end(&mut |event| stops.event(event, &mut tell)),
        }
        self.over = true;
    }

    /// What could not be told.
    pub(crate) fn losses(&self) -> &Losses {
        &self.losses
    }
}

/// A whole answer as the stream that says the same, in the same dialect or another.
pub(crate) fn as_stream(answer: &Answer<'_>, dialect: Dialect, include_usage: bool) -> Vec<u8> {
    let (mut encoder, mut losses, mut out) = (Encoder::new(dialect, include_usage), Losses::default(), Vec::new());
    answer.replay(&mut |event| encoder.event(&event, &mut losses, &mut out));
    out
}

/// A stream that is all there as the answer in one piece that says the same.
pub(crate) fn joined<'a>(dialect: Dialect, events: impl IntoIterator<Item = Cow<'a, [u8]>>) -> Option<Vec<u8>> {
    let (mut decoder, mut collector) = (Decoder::new(dialect), Collector::new(dialect));
    let mut sink = |event: Event<'_>| collector.event(event);
    for data in events {
        decoder.event(std::str::from_utf8(&data).ok()?, &mut sink).ok()?;
    }
    decoder.end(&mut sink);
    let mut losses = Losses::default();
    collector.done.then(|| encode_answer(dialect, &collector.answer(), &mut losses))
}

#[cfg(test)]
mod tests;
