//! In which form an answer is told, and how it is put into another.

use std::borrow::Cow;

use bytes::Bytes;
use http::Uri;

use crate::{
    Dialect, RequestOutline,
    body::{ArrayWriter, EventStream},
    dialect::{self, json_scan::Value},
};

/// In which form an answer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    /// In one piece.
    Whole,
    /// As a stream of events, which may tell its usage.
    Stream { usage: bool },
    /// As an array of what would be events.
    Array,
}

impl Shape {
    /// The form that a request asks for.
    pub(super) fn asked(uri: &Uri, outline: &RequestOutline) -> Self {
        match outline.streaming() {
            false => Shape::Whole,
            true if dialect::translate::wants_array(uri) => Shape::Array,
            true => Shape::Stream { usage: outline.wants_usage() },
        }
    }

    /// What such an answer's content type begins with.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Shape::Stream { .. } => "text/event-stream",
            Shape::Whole | Shape::Array => "application/json",
        }
    }
}

/// An answer in one piece that says what this one does; `None` where there is none.
pub(super) fn joined(dialect: Dialect, shape: Shape, body: &Bytes) -> Option<Bytes> {
    match shape {
        Shape::Whole => Some(body.clone()),
        Shape::Stream { .. } => dialect::as_answer(dialect, data(body)),
        Shape::Array => {
            let array = Value::whole(body).ok()?;
            let elements: Option<Vec<_>> =
                array.elements().map(|element| element.ok().map(|it| Cow::Borrowed(it.json()))).collect();
            dialect::as_answer(dialect, elements?)
        }
    }
}

/// An answer in the form that is wanted; `None` where it cannot be put so. One that does not tell its usage stays what it
/// is: whoever asks for another form is used to be told.
pub(super) fn reshaped(dialect: Dialect, shape: Shape, body: &Bytes, wanted: Shape) -> Option<Bytes> {
    if shape == wanted {
        return Some(body.clone());
    }
    if shape == (Shape::Stream { usage: false }) {
        return None;
    }
    let answer = joined(dialect, shape, body)?;
    match wanted {
        Shape::Whole => Some(answer),
        Shape::Stream { usage } => dialect::as_stream(dialect, &answer, usage),
        Shape::Array => {
            let (mut writer, mut array) = (ArrayWriter::default(), Vec::with_capacity(answer.len() + 16));
            let events = dialect::as_stream(dialect, &answer, true)?;
            data(&events).iter().for_each(|element| writer.element(element, &mut array));
            writer.end(&mut array);
            Some(array.into())
        }
    }
}

/// The data of a stream's events. An end of the stream that is no more than a word is none of them.
fn data(stream: &[u8]) -> Vec<Cow<'_, [u8]>> {
    EventStream::default().events(stream).map(|(data, _)| data).filter(|data| **data != *b"[DONE]").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = br#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hello there"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#;

    fn json(bytes: &[u8]) -> serde_json::Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn an_answer_goes_from_one_form_into_the_other_and_back() {
        let (answer, dialect) = (Bytes::from_static(ANSWER), Dialect::OpenAiChat);
        let with = Shape::Stream { usage: true };
        let stream = reshaped(dialect, Shape::Whole, &answer, with).unwrap();
        assert!(stream.starts_with(b"data: ") && stream.ends_with(b"data: [DONE]\n\n"));
        let back = json(&reshaped(dialect, with, &stream, Shape::Whole).unwrap());
        let content = |answer: &serde_json::Value| answer["choices"][0]["message"]["content"].clone();
        assert_eq!(content(&back), content(&json(ANSWER)));
        assert_eq!(back["usage"]["total_tokens"], 3);
        let without = Shape::Stream { usage: false };
        let silent = reshaped(dialect, with, &stream, without).unwrap();
        assert!(!String::from_utf8_lossy(&silent).contains("total_tokens\":3"));
        // Nobody who asks for the usage is left without it.
        assert_eq!(reshaped(dialect, without, &silent, Shape::Whole), None);
        assert_eq!(reshaped(dialect, without, &silent, without), Some(silent));
    }

    #[test]
    fn an_array_is_as_good_as_a_stream() {
        let answer = Bytes::from_static(
            br#"{"candidates":[{"content":{"role":"model","parts":[{"text":"Hello"}]},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":1,"totalTokenCount":2},"modelVersion":"g"}"#,
        );
        let array = reshaped(Dialect::Gemini, Shape::Whole, &answer, Shape::Array).unwrap();
        assert!(json(&array).is_array());
        let back = reshaped(Dialect::Gemini, Shape::Array, &array, Shape::Whole).unwrap();
        assert_eq!(json(&back)["candidates"][0]["content"]["parts"][0]["text"], "Hello");
        assert_eq!(reshaped(Dialect::Gemini, Shape::Array, &Bytes::from_static(b"[{"), Shape::Whole), None);
    }

    #[test]
    fn a_stream_of_messages_is_an_answer_to_be_kept() {
        let stream = concat!(
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",",
            "\"model\":\"m\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":0,\"output_tokens\":0}}}\n\n",
            "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}\n\n",
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
            "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":6}}\n\n",
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        );
        let stream = Bytes::from_static(stream.as_bytes());
        let answer = joined(Dialect::AnthropicMessages, Shape::Stream { usage: true }, &stream).unwrap();
        let verdict = super::super::verdict::verdict(Dialect::AnthropicMessages, false, &answer);
        assert_eq!(verdict, super::super::verdict::Verdict::Whole, "{}", String::from_utf8_lossy(&answer));
    }
}
