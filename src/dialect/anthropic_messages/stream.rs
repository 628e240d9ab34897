//! What the events of a message stream mean.

pub(crate) mod decode;
pub(crate) mod encode;
#[cfg(test)]
pub(crate) mod grammar;

use super::usage::{Counts, add_written};
use crate::{
    Usage,
    dialect::{
        StreamEvent,
        json_scan::{Cursor, Malformed},
    },
    usage::Written,
};

/// Reads the events of one stream.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// A block has begun, so another message cannot.
    begun: bool,
    counts: Counts,
    written: Written,
}

/// What stands in an event.
#[derive(Default)]
struct Seen<'a> {
    kind: Option<&'a [u8]>,
    /// Something of a block that the reader sees.
    output: bool,
    /// A reason why the answer ends.
    finished: bool,
    usage: bool,
    error: bool,
}

impl Reader {
    /// For one stream.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// What the provider says that the answer cost, once it has.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.counts.usage()
    }

    /// How much of the answer came.
    pub(crate) fn written(&self) -> Written {
        self.written
    }

    /// Reads the data of the next event.
    pub(crate) fn event(&mut self, data: &[u8]) -> StreamEvent {
        self.read(data).unwrap_or(StreamEvent::Malformed)
    }

    fn read(&mut self, data: &[u8]) -> Result<StreamEvent, Malformed> {
        let (mut seen, mut counts, mut written) = (Seen::default(), self.counts, self.written);
        Cursor::read_object(data, |name, value| {
            match name {
                b"type" => seen.kind = Some(value.value()?.json()),
                b"delta" => read_delta(value, &mut seen, &mut written)?,
                b"content_block" => read_block(value, &mut seen, &mut written)?,
                b"message" => {
                    _ = value.members(|name, value| {
                        match name {
                            b"usage" => counts.read(value)?,
                            b"content" => _ = value.elements(|block| read_block(block, &mut seen, &mut written))?,
                            b"stop_reason" => seen.finished = value.value()?.is_string(),
                            _ => {}
                        }
                        Ok(())
                    })?;
                }
                b"usage" => {
                    seen.usage = true;
                    counts.read(value)?;
                }
                b"error" => seen.error |= !value.value()?.is_null(),
                _ => {}
            }
            Ok(())
        })?;
        let event = match seen.kind {
            _ if seen.error => StreamEvent::Error,
            Some(b"\"error\"") => StreamEvent::Error,
            // Servers in front of others have been seen to begin anew: the half that came before is no answer's.
            Some(b"\"message_start\"") if self.begun => StreamEvent::Malformed,
            // An answer that goes on with what a tool of Anthropic's calls may come all at once.
            Some(b"\"message_delta\"" | b"\"message_start\"") if seen.finished => StreamEvent::Finish,
            Some(b"\"content_block_start\"" | b"\"content_block_delta\"" | b"\"message_start\"") if seen.output => {
                StreamEvent::Output
            }
            Some(b"\"message_delta\"") if seen.usage => StreamEvent::Usage,
            Some(b"\"message_stop\"") => StreamEvent::Terminal,
            // Pings, and whatever else may come.
            Some(_) => StreamEvent::Preamble,
            None => StreamEvent::Malformed,
        };
        // Only now: what cannot be read to its end says nothing.
        self.begun |= seen.kind == Some(b"\"content_block_start\"");
        (self.counts, self.written) = (counts, written);
        Ok(event)
    }
}

/// Reads a delta, of a block or of the message.
fn read_delta<'a>(delta: &mut Cursor<'a>, seen: &mut Seen<'a>, written: &mut Written) -> Result<(), Malformed> {
    _ = delta.members(|name, value| {
        let value = add_written(written, name, value)?;
        match name {
            b"stop_reason" => seen.finished |= value.is_string(),
            // They announce, or prove, what others bring.
            b"type" | b"signature" | b"stop_sequence" | b"stop_details" | b"container" | b"estimated_tokens" => {}
            _ => seen.output |= !matches!(value.json(), b"null" | b"\"\""),
        }
        Ok(())
    })?;
    Ok(())
}

/// Reads a block as it begins: text and thoughts have nothing yet.
fn read_block<'a>(block: &mut Cursor<'a>, seen: &mut Seen<'a>, written: &mut Written) -> Result<(), Malformed> {
    let (mut plain, mut empty) = (false, true);
    _ = block.members(|name, value| {
        let value = add_written(written, name, value)?;
        match name {
            b"type" => plain = matches!(value.json(), b"\"text\"" | b"\"thinking\""),
            b"text" | b"thinking" => empty &= value.json() == b"\"\"",
            _ => {}
        }
        Ok(())
    })?;
    seen.output |= !(plain && empty);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::recorded;

    fn event(data: &str) -> StreamEvent {
        Reader::new().event(data.as_bytes())
    }

    fn delta(delta: &str) -> StreamEvent {
        event(&format!(r#"{{"type":"content_block_delta","index":0,"delta":{delta}}}"#))
    }

    fn block(block: &str) -> StreamEvent {
        event(&format!(r#"{{"type":"content_block_start","index":0,"content_block":{block}   }}"#))
    }

    #[test]
    fn announcements_are_preamble() {
        use StreamEvent::Preamble;
        assert_eq!(
            event(r#"{"type":"message_start","message":{"usage":{"input_tokens":3,"output_tokens":1}}}"#),
            Preamble
        );
        assert_eq!(event(r#"{"type": "ping"}"#), Preamble);
        assert_eq!(event(r#"{"type":"content_block_stop","index":0}"#), Preamble);
        assert_eq!(event(r#"{"type":"something_new","delta":{"text":"x"}}"#), Preamble);
        assert_eq!(block(r#"{"type":"text","text":""}"#), Preamble);
        assert_eq!(block(r#"{"type":"thinking","thinking":"","signature":""}"#), Preamble);
        assert_eq!(delta(r#"{"type":"text_delta","text":""}"#), Preamble);
        assert_eq!(delta(r#"{"type":"signature_delta","signature":"abc"}"#), Preamble);
    }

    #[test]
    fn text_tools_and_reasoning_are_output() {
        for output in [
            r#"{"type":"text_delta","text":"a"}"#,
            r#"{"type":"thinking_delta","thinking":"hm"}"#,
            r#"{"type":"input_json_delta","partial_json":"{"}"#,
            r#"{"type":"citations_delta","citation":{"type":"x"}}"#,
            r#"{"type":"new_delta","news":"x"}"#,
        ] {
            assert_eq!(delta(output), StreamEvent::Output, "{output}");
        }
        for output in [
            r#"{"type":"tool_use","id":"x","name":"f","input":{}}"#,
            r#"{"type":"redacted_thinking","data":"x"}"#,
            r#"{"type":"text","text":"a"}"#,
        ] {
            assert_eq!(block(output), StreamEvent::Output, "{output}");
        }
    }

    #[test]
    fn ends_and_errors_are_told_apart_from_their_mention_in_text() {
        assert_eq!(event(r#"{"type":"message_stop"}"#), StreamEvent::Terminal);
        let finish = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":3}}"#;
        assert_eq!(event(finish), StreamEvent::Finish);
        let usage = r#"{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":3}}"#;
        assert_eq!(event(usage), StreamEvent::Usage);
        let error = r#"{"type":"error","error":{"details":null,"type":"overloaded_error","message":"Overloaded"}}"#;
        assert_eq!(event(error), StreamEvent::Error);
        assert_eq!(event(r#"{"error":{"type":"request_too_large"}}"#), StreamEvent::Error);
        let text = r#"{"type":"text_delta","text":"\"type\":\"error\" \"stop_reason\":\"end_turn\""}"#;
        assert_eq!(delta(text), StreamEvent::Output);
    }

    #[test]
    fn an_answer_may_begin_with_all_it_has() {
        let whole = r#"{"type":"message_start","message":{"content":[{"type":"tool_use","id":"t","name":"f","input":{}}],
            "stop_reason":"tool_use","usage":{"input_tokens":0,"output_tokens":0}}}"#;
        assert_eq!(event(whole), StreamEvent::Finish);
        assert_eq!(event(&whole.replace("\"tool_use\",\"usage", "null,\"usage")), StreamEvent::Output);
    }

    #[test]
    fn of_the_usage_the_last_word_counts() {
        let mut reader = Reader::new();
        let mut tell = |data: &str| reader.event(data.as_bytes());
        tell(
            r#"{"type":"message_start","message":{"usage":{"input_tokens":3,"cache_read_input_tokens":4,"output_tokens":1}}}"#,
        );
        tell(r#"{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"hm"}}"#);
        tell(r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"four"}}"#);
        tell(r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}"#);
        assert_eq!(reader.usage(), Some(Usage { input: 7, cached_input: 4, output: 9, ..Usage::default() }));
        assert_eq!(reader.written(), Written { all: 6, reasoning: 2 });
    }

    #[test]
    fn what_is_no_event_is_malformed() {
        for data in ["", "{", "[]", "<html>", "{}", r#"{"type":"ping""#, r#"{"delta":{"text":"x"}}"#] {
            assert_eq!(event(data), StreamEvent::Malformed, "{data}");
        }
        let mut reader = Reader::new();
        let start = br#"{"type":"message_start","message":{}}"#;
        assert_eq!([reader.event(start), reader.event(start)], [StreamEvent::Preamble; 2]);
        reader.event(br#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#);
        assert_eq!(reader.event(start), StreamEvent::Malformed);
    }

    #[test]
    fn recorded_streams_have_output_and_end() {
        let mut read = 0;
        for exchange in recorded::exchanges("anthropic-messages") {
            for events in grammar::streams(&exchange) {
                let mut reader = Reader::new();
                let seen: Vec<_> = events.iter().map(|data| reader.event(data.as_bytes())).collect();
                let spliced = exchange.file.contains("spliced");
                assert_eq!(seen.contains(&StreamEvent::Malformed), spliced, "{}", exchange.file);
                assert_eq!(seen.last(), Some(&StreamEvent::Terminal), "{}", exchange.file);
                assert!(seen.contains(&StreamEvent::Finish), "{}", exchange.file);
                assert!(seen.contains(&StreamEvent::Output) || seen.len() < 4, "{}", exchange.file);
                assert!(reader.usage().is_some());
                read += 1;
            }
        }
        eprintln!("{read} streams read");
    }
}
