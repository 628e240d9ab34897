//! What a chat completion is.

use crate::dialect::{Answer, json_scan::Value};

/// Whether the body is a whole answer. OpenRouter puts an `error` into a 200.
pub(crate) fn answer(body: &[u8]) -> Answer {
    let Ok(root) = Value::whole(body) else { return Answer::Malformed };
    if !root.is_object() {
        return Answer::Malformed;
    }
    for member in root.members() {
        match member {
            Ok((key, value)) if key == "error" && !value.is_null() => return Answer::Error,
            Ok(_) => {}
            Err(_) => return Answer::Malformed,
        }
    }
    Answer::Whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_errors_and_pieces_are_told_apart() {
        let whole =
            r#"{"id":"x","choices":[{"message":{"content":"an \"error\": {"},"finish_reason":"stop"}],"error":null}"#;
        assert_eq!(answer(whole.as_bytes()), Answer::Whole);
        assert_eq!(answer(br#"{"choices":[],"error":{"message":"busy","code":502}}"#), Answer::Error);
        for piece in ["", "{", &whole[..whole.len() - 1], "<html></html>", "[]", "\"text\""] {
            assert_eq!(answer(piece.as_bytes()), Answer::Malformed, "{piece}");
        }
    }
}
