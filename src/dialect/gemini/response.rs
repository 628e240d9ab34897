//! What an answer of `generateContent` is.

pub(crate) mod decode;
pub(crate) mod encode;

use super::stream::Reader;
use crate::{
    dialect::{Answer, StreamEvent, json_scan::Value},
    usage::Written,
};

/// What a finish reason means to whoever supervises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The answer is as whole as it gets.
    Whole,
    /// The model made something that its own provider could not read.
    Broken,
}

/// What a finish reason means; `None` where it gives none. It is a number where a client asked for those.
pub(super) fn ending(reason: &Value<'_>) -> Option<Ending> {
    match reason.json() {
        b"null" | b"0" | b"\"\"" | b"\"FINISH_REASON_UNSPECIFIED\"" => None,
        b"\"MALFORMED_FUNCTION_CALL\"" | b"\"MALFORMED_RESPONSE\"" | b"\"UNEXPECTED_TOOL_CALL\"" => {
            Some(Ending::Broken)
        }
        _ => Some(Ending::Whole),
    }
}

/// Whether the body is a whole answer. A prompt that was blocked has one, though it says nothing: the provider declined, as
/// OpenAI's does by a finish reason. A call that the model got wrong has none, unless something was said beside it. A stream
/// that came as an array, with nobody to split it, is whole where its last answer is.
pub(crate) fn answer(body: &[u8]) -> Answer {
    let mut reader = Reader::new(1);
    match reader.event(body) {
        StreamEvent::Error => Answer::Error,
        StreamEvent::Finish => Answer::Whole(reader.usage()),
        StreamEvent::Output | StreamEvent::Preamble if reader.has_candidates() && !is_array(body) => {
            Answer::Whole(reader.usage())
        }
        _ => Answer::Malformed,
    }
}

fn is_array(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'[')
}

/// How much a whole answer says: a second look, for those that do not count themselves.
pub(crate) fn written(body: &[u8]) -> Written {
    let mut reader = Reader::new(1);
    reader.event(body);
    reader.written()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Usage, dialect::recorded};

    #[test]
    fn whole_answers_errors_and_pieces_are_told_apart() {
        let whole = r#"{"candidates":[{"content":{"parts":[{"text":"an \"error\": {"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3}}"#;
        let usage = Some(Usage { input: 3, ..Usage::default() });
        assert_eq!(answer(whole.as_bytes()), Answer::Whole(usage));
        assert_eq!(answer(br#"{"candidates":[{"content":{}}]}"#), Answer::Whole(None));
        assert_eq!(answer(br#"{"promptFeedback":{"blockReason":"SAFETY"}}"#), Answer::Whole(None));
        assert_eq!(answer(format!("[{{\"candidates\":[{{}}]}},\r\n{whole}]").as_bytes()), Answer::Whole(usage));
        for error in
            [r#"{"error":{"code":503}}"#, r#"[{"error":{"code":429}}]"#, r#"[{"candidates":[{}]},{"error":{}}]"#]
        {
            assert_eq!(answer(error.as_bytes()), Answer::Error, "{error}");
        }
        let wrong = r#"{"candidates":[{"content":{},"finishReason":"MALFORMED_FUNCTION_CALL"}]}"#;
        for piece in [
            "",
            "{",
            &whole[..whole.len() - 1],
            "<html></html>",
            "[]",
            "{}",
            r#"{"candidates":[]}"#,
            "[{\"candidates\":[{}]}]",
            wrong,
        ] {
            assert_eq!(answer(piece.as_bytes()), Answer::Malformed, "{piece}");
        }
        assert_eq!(written(whole.as_bytes()), Written { all: 15, reasoning: 0 });
    }

    #[test]
    fn every_recorded_answer_is_what_it_is() {
        for exchange in recorded::exchanges("gemini-generate") {
            let Some(body) = exchange.answer else { continue };
            let is = answer(body.to_string().as_bytes());
            let expected = match exchange.status {
                200 if body.is_array() || body.get("candidates").is_some() || body.get("promptFeedback").is_some() => {
                    matches!(is, Answer::Whole(_))
                        || is == Answer::Malformed && body.to_string().contains("UNEXPECTED_TOOL_CALL")
                }
                200 => is == Answer::Malformed,
                _ => is == Answer::Error,
            };
            assert!(expected, "{}: {is:?}", exchange.file);
        }
    }
}
