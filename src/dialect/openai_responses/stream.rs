//! What the events of a response's stream mean.

pub(crate) mod decode;
pub(crate) mod encode;
#[cfg(test)]
pub(crate) mod grammar;
#[cfg(test)]
mod round_trip;

use super::{response::length, usage};
use crate::{
    Usage,
    dialect::{
        StreamEvent,
        json_scan::{Malformed, Value, root_members},
    },
    usage::Written,
};

/// Reads the events of one stream.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    usage: Option<Usage>,
    written: Written,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// What the provider says that the answer cost, once it has.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// How much of the answer came.
    pub(crate) fn written(&self) -> Written {
        self.written
    }

    /// Reads the data of the next event.
    pub(crate) fn event(&mut self, data: &[u8]) -> StreamEvent {
        // OpenRouter's addition.
        if data.trim_ascii() == b"[DONE]" {
            return StreamEvent::Terminal;
        }
        self.read(data).unwrap_or(StreamEvent::Malformed)
    }

    fn read(&mut self, data: &[u8]) -> Result<StreamEvent, Malformed> {
        let (mut kind, mut piece, mut item, mut response, mut error) = (None, None, None, None, false);
        for member in root_members(data)? {
            let (key, value) = member?;
            match &*key {
                "type" => kind = Some(value),
                "delta" => piece = Some(value),
                "item" => item = Some(value),
                "response" => response = Some(value),
                "error" => error = !value.is_null(),
                _ => {}
            }
        }
        let kind = kind.as_ref().map_or(&b""[..], Value::json);
        if error || matches!(kind, b"\"error\"" | b"\"response.failed\"" | b"\"response.cancelled\"") {
            return Ok(StreamEvent::Error);
        }
        Ok(match kind {
            b"\"response.completed\"" | b"\"response.incomplete\"" => {
                let usage = response.and_then(|response| response.member("usage"));
                self.usage = usage.and_then(|usage| usage::read(&usage)).or(self.usage);
                StreamEvent::Finish
            }
            b"\"response.output_item.added\"" | b"\"response.output_item.done\"" => {
                let is_call = item.is_some_and(|item| is_call(&item, &mut self.written, kind));
                if is_call { StreamEvent::Output } else { StreamEvent::Preamble }
            }
            // Without a type it is an event of no such stream.
            b"" => StreamEvent::Malformed,
            kind => match piece.map_or(0, |piece| length(&piece)) {
                0 => StreamEvent::Preamble,
                bytes => {
                    self.written.all += bytes;
                    if kind.starts_with(b"\"response.reasoning") {
                        self.written.reasoning += bytes;
                    }
                    StreamEvent::Output
                }
            },
        })
    }
}

/// Whether an item is a call of a tool: that is output before its arguments are.
fn is_call(item: &Value<'_>, written: &mut Written, event: &[u8]) -> bool {
    let Some(kind) = item.member("type") else { return false };
    let is_call = kind.json().ends_with(b"_call\"");
    if is_call && event == b"\"response.output_item.added\"" {
        written.all += item.member("name").map_or(0, |name| length(&name));
    }
    is_call
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{body::EventStream, dialect::recorded};

    fn event(data: &str) -> StreamEvent {
        Reader::new().event(data.as_bytes())
    }

    #[test]
    fn what_opens_an_answer_is_preamble_and_what_is_read_is_output() {
        for (data, expected) in [
            (r#"{"type":"response.created","response":{"status":"in_progress","error":null}}"#, StreamEvent::Preamble),
            (r#"{"type":"response.output_item.added","item":{"type":"message","content":[]}}"#, StreamEvent::Preamble),
            (
                r#"{"type":"response.output_item.added","item":{"type":"reasoning","summary":[]}}"#,
                StreamEvent::Preamble,
            ),
            (
                r#"{"type":"response.content_part.added","part":{"type":"output_text","text":""}}"#,
                StreamEvent::Preamble,
            ),
            (r#"{"type":"response.output_text.delta","delta":""}"#, StreamEvent::Preamble),
            (r#"{"type":"response.some.future","x":1}"#, StreamEvent::Preamble),
            (r#"{"type":"response.output_text.delta","delta":"a"}"#, StreamEvent::Output),
            (r#"{"delta":"a","type":"response.refusal.delta"}"#, StreamEvent::Output),
            (r#"{"type":"response.reasoning_summary_text.delta","delta":"a"}"#, StreamEvent::Output),
            (
                r#"{"type":"response.output_item.added","item":{"type":"function_call","name":"f"}}"#,
                StreamEvent::Output,
            ),
            (r#"{"type":"response.completed","response":{}}"#, StreamEvent::Finish),
            ("[DONE]", StreamEvent::Terminal),
            (r#"{"id":"x"}"#, StreamEvent::Malformed),
            (r#"{"type":"response.output_text.delta","delta":"#, StreamEvent::Malformed),
        ] {
            assert_eq!(event(data), expected, "{data}");
        }
    }

    #[test]
    fn giving_up_is_said_twice_and_neither_is_a_piece_of_an_answer() {
        let mut reader = Reader::new();
        let nested = br#"{"type":"error","error":{"type":"insufficient_quota","message":"x"}}"#;
        assert_eq!(reader.event(nested), StreamEvent::Error);
        assert_eq!(reader.event(br#"{"type":"response.failed","response":{}}"#), StreamEvent::Error);
        assert_eq!(event(r#"{"type":"response.failed","response":{"error":{"code":"x"}}}"#), StreamEvent::Error);
        assert_eq!(event(r#"{"type":"error","code":"server_error","message":"x"}"#), StreamEvent::Error);
        assert_eq!(event(r#"{"error":{"message":"x"}}"#), StreamEvent::Error);
    }

    #[test]
    fn what_was_written_and_what_it_cost_is_counted() {
        let mut reader = Reader::new();
        for data in [
            r#"{"type":"response.reasoning_summary_text.delta","delta":"six..."}"#,
            r#"{"type":"response.output_text.delta","delta":"four"}"#,
            r#"{"type":"response.output_item.added","item":{"type":"function_call","name":"f"}}"#,
            r#"{"type":"response.function_call_arguments.delta","delta":"{}"}"#,
            r#"{"type":"response.output_item.done","item":{"type":"function_call","name":"f"}}"#,
            r#"{"type":"response.completed","response":{"usage":{"input_tokens":3,"output_tokens":2}}}"#,
        ] {
            reader.event(data.as_bytes());
        }
        assert_eq!(reader.written(), Written { all: 13, reasoning: 6 });
        assert_eq!(reader.usage(), Some(Usage { input: 3, output: 2, ..Usage::default() }));
    }

    #[test]
    fn every_recorded_stream_either_finishes_or_fails() {
        for exchange in recorded::exchanges("openai-responses") {
            for stream in exchange.stream.iter().flat_map(|stream| grammar::streams(stream)) {
                let (mut reader, mut events) = (Reader::new(), EventStream::default());
                let told: Vec<_> = events.events(stream.as_bytes()).map(|(data, _)| reader.event(&data)).collect();
                let count = |kind| told.iter().filter(|event| **event == kind).count();
                // Giving up is said once or twice.
                let ends = (count(StreamEvent::Finish), count(StreamEvent::Error));
                assert!(matches!(ends, (1, 0) | (0, 1..=2)), "{}: {ends:?}", exchange.file);
                assert_eq!(count(StreamEvent::Malformed), 0, "{}", exchange.file);
            }
        }
    }
}
