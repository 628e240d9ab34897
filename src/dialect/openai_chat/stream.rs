//! What the events of a chat completion stream mean.

pub(crate) mod decode;
pub(crate) mod encode;
#[cfg(test)]
pub(crate) mod grammar;

use super::usage;
use crate::{
    Usage,
    dialect::{
        StreamEvent,
        json_scan::{Cursor, Malformed},
    },
    usage::Written,
};

/// Reads the events of one stream. Of several answers at once, each has a finish reason of its own.
#[derive(Debug)]
pub(crate) struct Reader {
    choices: u64,
    /// Those that have begun and those that are whole, a bit for each index. Beyond 64 nobody asks.
    begun: u64,
    finished: u64,
    /// What the stream says it cost: the last word, for some servers count as they go.
    usage: Option<Usage>,
    written: Written,
}

impl Reader {
    /// For a stream of so many answers.
    pub(crate) fn new(choices: u64) -> Self {
        Reader { choices, begun: 0, finished: 0, usage: None, written: Written::default() }
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
        if data.trim_ascii() == b"[DONE]" {
            return StreamEvent::Terminal;
        }
        self.chunk(data).unwrap_or(StreamEvent::Malformed)
    }

    fn chunk(&mut self, data: &[u8]) -> Result<StreamEvent, Malformed> {
        let (mut output, mut error, mut choices) = (false, false, false);
        let (mut begun, mut finished, mut written) = (self.begun, self.finished, self.written);
        let mut usage = None;
        Cursor::read_object(data, |name, value| {
            match name {
                b"error" => error |= !value.value()?.is_null(),
                // vLLM once put its errors so.
                b"object" => error |= value.value()?.json() == b"\"error\"",
                b"usage" => usage = usage::read(&value.value()?),
                b"choices" => {
                    _ = value.elements(|choice| {
                        choices = true;
                        let choice = read_choice(choice, &mut written)?;
                        let bit = 1_u64.checked_shl(choice.index).unwrap_or(0);
                        begun |= bit;
                        finished |= if choice.finished { bit } else { 0 };
                        output |= choice.output;
                        error |= choice.error;
                        Ok(())
                    })?;
                }
                _ => {}
            }
            Ok(())
        })?;
        // Only now: what cannot be read to its end says nothing.
        let news = finished != self.finished;
        (self.begun, self.finished, self.written) = (begun, finished, written);
        self.usage = usage.or(self.usage);
        let all = finished == begun && u64::from(finished.count_ones()) >= self.choices.min(64);
        Ok(match (error, news && all, output || news) {
            (true, ..) => StreamEvent::Error,
            (_, true, _) => StreamEvent::Finish,
            (_, _, true) => StreamEvent::Output,
            _ if usage.is_some() && !choices => StreamEvent::Usage,
            (_, _, _) => StreamEvent::Preamble,
        })
    }
}

#[derive(Default)]
struct Choice {
    index: u32,
    output: bool,
    finished: bool,
    error: bool,
}

fn read_choice(cursor: &mut Cursor<'_>, written: &mut Written) -> Result<Choice, Malformed> {
    let mut choice = Choice::default();
    _ = cursor.members(|name, value| {
        match name {
            b"index" => {
                choice.index = value.value()?.as_u64().and_then(|index| index.try_into().ok()).unwrap_or(0);
            }
            b"delta" => choice.output = read_delta(value, written)?,
            b"finish_reason" => match value.value()?.json() {
                // OpenRouter's way to say that the provider behind it gave up.
                b"\"error\"" => choice.error = true,
                // Some servers send an empty one in every chunk.
                reason => choice.finished = reason.first() == Some(&b'"') && reason != b"\"\"",
            },
            _ => {}
        }
        Ok(())
    })?;
    Ok(choice)
}

/// Whether a delta brings anything to the reader: text, a tool call, reasoning in any server's spelling. The role
/// and Groq's channel only announce it.
fn read_delta(delta: &mut Cursor<'_>, written: &mut Written) -> Result<bool, Malformed> {
    let mut output = false;
    _ = delta.members(|name, value| {
        let announces = matches!(name, b"role" | b"channel");
        let value = usage::add_written(written, name, value)?;
        output |= !announces && !matches!(value.json(), b"null" | b"\"\"" | b"[]" | b"{}");
        Ok(())
    })?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: &[u8]) -> StreamEvent {
        Reader::new(1).event(data)
    }

    fn delta(delta: &str) -> StreamEvent {
        event(format!(r#"{{"id":"x","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#).as_bytes())
    }

    #[test]
    fn announcements_are_preamble() {
        for silent in [r#"{"role":"assistant","content":""}"#, r#"{"role":"assistant","content":null}"#, "{}"] {
            assert_eq!(delta(silent), StreamEvent::Preamble, "{silent}");
        }
        assert_eq!(event(br#"{"choices":[],"prompt_filter_results":[{}]}"#), StreamEvent::Preamble);
    }

    #[test]
    fn text_tools_and_reasoning_are_output() {
        for output in [
            r#"{"content":"a"}"#,
            r#"{"tool_calls":[{"index":0}]}"#,
            r#"{"reasoning_content":"hm"}"#,
            r#"{"reasoning":"hm","channel":"analysis"}"#,
            r#"{"refusal":"no"}"#,
            r#"{"content":[{"type":"thinking"}]}"#,
        ] {
            assert_eq!(delta(output), StreamEvent::Output, "{output}");
        }
    }

    #[test]
    fn ends_and_errors_are_told_apart_from_their_mention_in_text() {
        assert_eq!(event(b"[DONE]"), StreamEvent::Terminal);
        assert_eq!(delta(r#"{"content":"\"finish_reason\":\"stop\" \"error\":{}"}"#), StreamEvent::Output);
        let finish = br#"{"choices":[{"delta":{"content":"all"},"finish_reason":"stop"}]}"#;
        assert_eq!(event(finish), StreamEvent::Finish);
        assert_eq!(event(br#"{"error":{"message":"Overloaded"}}"#), StreamEvent::Error);
        assert_eq!(event(br#"{"object":"error","message":"busy","code":503}"#), StreamEvent::Error);
        assert_eq!(event(br#"{"error":null,"choices":[]}"#), StreamEvent::Preamble);
        assert_eq!(event(br#"{"choices":[{"delta":{},"finish_reason":"error"}]}"#), StreamEvent::Error);
    }

    #[test]
    fn an_empty_finish_reason_is_none() {
        let chunk = |content| format!(r#"{{"choices":[{{"delta":{{"content":"{content}"}},"finish_reason":""}}]}}"#);
        assert_eq!(event(chunk("").as_bytes()), StreamEvent::Preamble);
        assert_eq!(event(chunk("Hel").as_bytes()), StreamEvent::Output);
    }

    #[test]
    fn several_answers_are_whole_when_the_last_one_is() {
        let finish = |index| format!(r#"{{"choices":[{{"index":{index},"delta":{{}},"finish_reason":"stop"}}]}}"#);
        let mut asked_for_two = Reader::new(2);
        assert_eq!(asked_for_two.event(finish(0).as_bytes()), StreamEvent::Output);
        assert_eq!(asked_for_two.event(finish(1).as_bytes()), StreamEvent::Finish);
        let mut unasked = Reader::new(1);
        let second = br#"{"choices":[{"index":1,"delta":{"content":"b"},"finish_reason":null}]}"#;
        assert_eq!(unasked.event(second), StreamEvent::Output);
        assert_eq!(unasked.event(finish(0).as_bytes()), StreamEvent::Output);
        assert_eq!(unasked.event(finish(1).as_bytes()), StreamEvent::Finish);
        // OpenRouter repeats it: that changes nothing.
        assert_eq!(unasked.event(finish(1).as_bytes()), StreamEvent::Preamble);
        assert_eq!(unasked.event(finish(u64::MAX).as_bytes()), StreamEvent::Preamble);
    }

    #[test]
    fn usage_is_read_wherever_it_stands_and_alone_it_is_its_own_event() {
        let mut reader = Reader::new(1);
        let with = |choices: &str, tokens: u32| {
            format!(r#"{{"choices":{choices},"usage":{{"prompt_tokens":3,"completion_tokens":{tokens}}}}}"#)
        };
        let text = r#"[{"index":0,"delta":{"content":"Hell","reasoning":"hm"}}]"#;
        assert_eq!(reader.event(with(text, 1).as_bytes()), StreamEvent::Output);
        assert_eq!(reader.event(with("[]", 2).as_bytes()), StreamEvent::Usage);
        assert_eq!(reader.event(br#"{"choices":[],"usage":null}"#), StreamEvent::Preamble);
        assert_eq!(reader.usage(), Some(Usage { input: 3, output: 2, ..Usage::default() }));
        assert_eq!(reader.written(), Written { all: 6, reasoning: 2 });
    }

    #[test]
    fn what_is_no_chunk_is_malformed() {
        for data in ["", "{", "[]", "<html>", r#"{"choices":[{"delta":{"content" "x"}}]}"#] {
            assert_eq!(event(data.as_bytes()), StreamEvent::Malformed, "{data}");
        }
    }
}
