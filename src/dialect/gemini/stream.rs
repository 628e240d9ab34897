//! What the events of a `streamGenerateContent` stream mean.

pub(crate) mod decode;
pub(crate) mod encode;
mod partial;

use super::{
    names::members,
    response::{Ending, ending},
    usage,
};
use crate::{
    Usage,
    dialect::{
        StreamEvent,
        json_scan::{Cursor, Malformed, Value},
    },
    usage::Written,
};

/// Reads the events of one stream, be they events or the elements of an array. Of several answers at once, each has a finish
/// reason of its own. There is no last event: a stream ends when it ends.
#[derive(Debug)]
pub(crate) struct Reader {
    choices: u64,
    /// Those that have begun and those that are whole, a bit for each index. Beyond 64 nobody asks.
    begun: u64,
    finished: u64,
    /// What the stream says it cost: the last word, for it counts as it goes.
    usage: Option<Usage>,
    written: Written,
    /// Anything that a client sees has come.
    output: bool,
}

impl Reader {
    /// For a stream of so many answers.
    pub(crate) fn new(choices: u64) -> Self {
        Reader { choices, begun: 0, finished: 0, usage: None, written: Written::default(), output: false }
    }

    /// What the provider says that the answer cost, once it has.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// How much of the answer came.
    pub(crate) fn written(&self) -> Written {
        self.written
    }

    /// Whether an answer has begun, though it may not have said anything.
    pub(super) fn has_candidates(&self) -> bool {
        self.begun != 0
    }

    /// Reads the data of the next event.
    pub(crate) fn event(&mut self, data: &[u8]) -> StreamEvent {
        // An error may come as an array of one even here.
        if data.trim_ascii_start().first() == Some(&b'[') {
            let Ok(array) = Value::whole(data) else { return StreamEvent::Malformed };
            let mut meaning = StreamEvent::Malformed;
            for element in array.elements() {
                let event = element.map_or(StreamEvent::Malformed, |element| self.event(element.json()));
                if matches!(event, StreamEvent::Error | StreamEvent::Malformed) {
                    return event;
                }
                meaning = event;
            }
            return meaning;
        }
        self.chunk(data).unwrap_or(StreamEvent::Malformed)
    }

    fn chunk(&mut self, data: &[u8]) -> Result<StreamEvent, Malformed> {
        let (mut output, mut error, mut candidates, mut blocked, mut broken) = (false, false, false, false, false);
        let (mut begun, mut finished, mut written) = (self.begun, self.finished, self.written);
        let mut used = None;
        Cursor::read_object(data, |name, value| {
            match name {
                b"error" => error |= !value.value()?.is_null(),
                b"usageMetadata" | b"usage_metadata" => used = usage::read_next(value)?,
                b"promptFeedback" | b"prompt_feedback" => blocked |= is_blocked(&value.value()?),
                b"candidates" => {
                    _ = value.elements(|candidate| {
                        candidates = true;
                        let candidate = read_candidate(candidate, &mut written)?;
                        let bit = 1_u64.checked_shl(candidate.index).unwrap_or(0);
                        begun |= bit;
                        output |= candidate.output;
                        finished |= if candidate.ending.is_some() { bit } else { 0 };
                        broken |= candidate.ending == Some(Ending::Broken);
                        Ok(())
                    })?;
                }
                _ => {}
            }
            Ok(())
        })?;
        // Of an answer that is none, no word comes to the client: another may do better.
        if broken && !output && !self.output {
            return Ok(StreamEvent::Malformed);
        }
        // Only now: what cannot be read to its end says nothing.
        let news = finished != self.finished;
        (self.begun, self.finished, self.written) = (begun, finished, written);
        self.output |= output;
        self.usage = used.or(self.usage);
        let all = finished == begun && u64::from(finished.count_ones()) >= self.choices.min(64);
        Ok(match (error, news && all || blocked && !candidates, output || news) {
            (true, ..) => StreamEvent::Error,
            (_, true, _) => StreamEvent::Finish,
            (_, _, true) => StreamEvent::Output,
            _ if used.is_some() && !candidates => StreamEvent::Usage,
            (_, _, _) => StreamEvent::Preamble,
        })
    }
}

/// Whether a `promptFeedback` says that there is no answer.
pub(super) fn is_blocked(feedback: &Value<'_>) -> bool {
    members(feedback).any(|(key, value)| match &*key {
        "blockReason" => value.is_string() || value.as_u64() > Some(0),
        "blockReasonMessage" => value.is_string(),
        _ => false,
    })
}

#[derive(Default)]
struct Candidate {
    index: u32,
    output: bool,
    ending: Option<Ending>,
}

fn read_candidate(cursor: &mut Cursor<'_>, written: &mut Written) -> Result<Candidate, Malformed> {
    let mut candidate = Candidate::default();
    _ = cursor.members(|name, value| {
        match name {
            b"index" => {
                candidate.index = value.value()?.as_u64().and_then(|index| index.try_into().ok()).unwrap_or(0);
            }
            b"finishReason" | b"finish_reason" => candidate.ending = ending(&value.value()?),
            b"content" => {
                _ = value.members(|name, parts| {
                    if name == b"parts" {
                        _ = parts.elements(|part| {
                            candidate.output |= usage::add_written(written, part)?;
                            Ok(())
                        })?;
                    }
                    Ok(())
                })?;
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: &str) -> StreamEvent {
        Reader::new(1).event(data.as_bytes())
    }

    fn part(part: &str) -> StreamEvent {
        event(&format!(
            r#"{{"candidates":[{{"content":{{"parts":[{part}],"role":"model"}},"index":0}}],"usageMetadata":{{"promptTokenCount":1}}}}"#
        ))
    }

    #[test]
    fn text_thoughts_and_calls_are_output_and_signatures_alone_are_not() {
        for output in [
            r#"{"text":"a"}"#,
            r#"{"text":"a","thought":true}"#,
            r#"{"functionCall":{"name":"f"}}"#,
            r#"{"function_call":{"partial_args":[]}}"#,
            r#"{"inlineData":{"data":""}}"#,
        ] {
            assert_eq!(part(output), StreamEvent::Output, "{output}");
        }
        for silent in [r#"{"text":""}"#, r#"{"text":"","thoughtSignature":"s"}"#] {
            assert_eq!(part(silent), StreamEvent::Preamble, "{silent}");
        }
        assert_eq!(event(r#"{"candidates":[{"content":{}}]}"#), StreamEvent::Preamble);
        assert_eq!(event(r#"{"usageMetadata":{"promptTokenCount":1}}"#), StreamEvent::Usage);
    }

    #[test]
    fn ends_and_errors_are_told_apart_from_their_mention_in_text() {
        assert_eq!(part(r#"{"text":"\"finishReason\":\"STOP\" {\"error\":{}}"}"#), StreamEvent::Output);
        assert_eq!(
            event(r#"{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}]}"#),
            StreamEvent::Finish
        );
        assert_eq!(event(r#"{"candidates":[{"finishReason":2}]}"#), StreamEvent::Finish);
        assert_eq!(event(r#"{"candidates":[{"finishReason":"FINISH_REASON_UNSPECIFIED"}]}"#), StreamEvent::Preamble);
        assert_eq!(event(r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#), StreamEvent::Finish);
        assert_eq!(event(r#"{"promptFeedback":{"safetyRatings":[]}}"#), StreamEvent::Preamble);
        for error in
            [r#"{"error":{"code":503}}"#, "{\n  \"error\": {\n    \"code\": 503\n  }\n}", r#"[{"error":{"code":503}}]"#]
        {
            assert_eq!(event(error), StreamEvent::Error, "{error}");
        }
    }

    #[test]
    fn a_call_that_the_model_got_wrong_is_no_answer_unless_something_was_said() {
        let broken = br#"{"candidates":[{"content":{},"finishReason":"MALFORMED_FUNCTION_CALL"}]}"#;
        assert_eq!(Reader::new(1).event(broken), StreamEvent::Malformed);
        let mut reader = Reader::new(1);
        assert_eq!(reader.event(br#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#), StreamEvent::Output);
        assert_eq!(reader.event(broken), StreamEvent::Finish);
    }

    #[test]
    fn several_answers_are_whole_when_the_last_one_is() {
        let finish = |index| format!(r#"{{"candidates":[{{"index":{index},"finishReason":"STOP"}}]}}"#);
        let mut reader = Reader::new(2);
        assert_eq!(reader.event(finish(0).as_bytes()), StreamEvent::Output);
        assert_eq!(reader.event(finish(1).as_bytes()), StreamEvent::Finish);
        assert_eq!(reader.event(finish(1).as_bytes()), StreamEvent::Preamble);
    }

    #[test]
    fn usage_is_the_last_that_was_said() {
        let mut reader = Reader::new(1);
        for tokens in [1, 2] {
            let chunk = format!(
                r#"{{"candidates":[{{"content":{{"parts":[{{"text":"four"}},{{"text":"hm","thought":true}}]}}}}],
                "usageMetadata":{{"promptTokenCount":3,"candidatesTokenCount":{tokens}}}}}"#
            );
            assert_eq!(reader.event(chunk.as_bytes()), StreamEvent::Output);
        }
        reader.event(br#"{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"trafficType":"ON_DEMAND"}}"#);
        assert_eq!(reader.usage(), Some(Usage { input: 3, output: 2, ..Usage::default() }));
        assert_eq!(reader.written(), Written { all: 12, reasoning: 4 });
    }

    #[test]
    fn what_is_no_chunk_is_malformed() {
        for data in ["", "{", "[]", "<html>", "[{", r#"{"candidates":[{"content" "x"}]}"#] {
            assert_eq!(event(data), StreamEvent::Malformed, "{data}");
        }
    }
}
