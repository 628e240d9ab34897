//! What a response is.

pub(crate) mod decode;
pub(crate) mod encode;
#[cfg(test)]
mod round_trip;

use super::usage;
use crate::{
    dialect::{
        Answer,
        json_scan::{Value, root_members},
    },
    usage::Written,
};

/// Whether the body is a whole answer. One that failed has an `error`, and may come with a 200.
pub(crate) fn answer(body: &[u8]) -> Answer {
    let Ok(members) = root_members(body) else { return Answer::Malformed };
    let (mut error, mut output, mut used) = (false, false, None);
    for member in members {
        match member {
            Ok((key, value)) => match &*key {
                "error" => error |= !value.is_null(),
                "status" => error |= matches!(value.json(), b"\"failed\"" | b"\"cancelled\""),
                "output" => output = true,
                "usage" => used = usage::read(&value),
                _ => {}
            },
            Err(_) => return Answer::Malformed,
        }
    }
    match (error, output) {
        (true, _) => Answer::Error,
        (false, true) => Answer::Whole(used),
        (false, false) => Answer::Malformed,
    }
}

/// How much a whole answer says: a second look, for those that do not count themselves.
pub(crate) fn written(body: &[u8]) -> Written {
    let mut written = Written::default();
    let members = root_members(body).into_iter().flatten().filter_map(Result::ok);
    for (_, output) in members.filter(|(key, _)| key == "output") {
        for item in output.elements().filter_map(Result::ok) {
            let reasoning = item.member("type").is_some_and(|kind| kind.json() == b"\"reasoning\"");
            let before = written.all;
            for (key, value) in item.members().filter_map(Result::ok) {
                match &*key {
                    "content" | "summary" => {
                        for part in value.elements().filter_map(Result::ok) {
                            let text = part.member("text").or_else(|| part.member("refusal"));
                            written.all += text.map_or(0, |text| length(&text));
                        }
                    }
                    "name" | "arguments" | "input" => written.all += length(&value),
                    _ => {}
                }
            }
            if reasoning {
                written.reasoning += written.all - before;
            }
        }
    }
    written
}

/// The bytes of a string.
pub(crate) fn length(value: &Value<'_>) -> u64 {
    if value.is_string() { value.json().len() as u64 - 2 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Usage, dialect::recorded};

    #[test]
    fn whole_answers_errors_and_pieces_are_told_apart() {
        let whole = r#"{"id":"x","error":null,"status":"completed","output":[{"text":"an \"error\": {"}]}"#;
        assert_eq!(answer(whole.as_bytes()), Answer::Whole(None));
        assert_eq!(answer(br#"{"output":[],"status":"failed","error":{"code":"server_error"}}"#), Answer::Error);
        assert_eq!(answer(br#"{"code":"invalid-argument","error":"Incorrect API key provided."}"#), Answer::Error);
        for piece in ["", "{", &whole[..whole.len() - 1], "<html></html>", "[]", "{}", "\"text\""] {
            assert_eq!(answer(piece.as_bytes()), Answer::Malformed, "{piece}");
        }
    }

    #[test]
    fn an_answer_says_what_it_cost_or_how_much_it_says() {
        let counted = br#"{"output":[],"usage":{"input_tokens":3,"output_tokens":2}}"#;
        assert_eq!(answer(counted), Answer::Whole(Some(Usage { input: 3, output: 2, ..Usage::default() })));
        let silent = br#"{"output":[{"type":"reasoning","summary":[{"type":"summary_text","text":"six..."}]},
            {"type":"message","content":[{"type":"output_text","text":"four"},{"type":"refusal","refusal":"no"}]},
            {"type":"function_call","name":"f","arguments":"{}"}]}"#;
        assert_eq!(written(silent), Written { all: 15, reasoning: 6 });
    }

    #[test]
    fn every_recorded_answer_is_whole_and_every_error_none() {
        for exchange in recorded::exchanges("openai-responses") {
            let Some(body) = exchange.answer else { continue };
            let found = answer(body.to_string().as_bytes());
            if exchange.status < 300 {
                assert!(matches!(found, Answer::Whole(_)), "{}: {found:?}", exchange.file);
            } else {
                assert_eq!(found, Answer::Error, "{}", exchange.file);
            }
        }
    }
}
