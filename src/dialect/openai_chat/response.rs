//! What a chat completion is.

use crate::dialect::{Answer, json_scan::root_members};

/// Whether the body is a whole answer. OpenRouter puts an `error` into a 200.
pub(crate) fn answer(body: &[u8]) -> Answer {
    let Ok(members) = root_members(body) else { return Answer::Malformed };
    let (mut error, mut choices) = (false, false);
    for member in members {
        match member {
            Ok((key, value)) => {
                error |= key == "error" && !value.is_null();
                choices |= key == "choices";
            }
            Err(_) => return Answer::Malformed,
        }
    }
    if error {
        return Answer::Error;
    }
    if choices { Answer::Whole } else { Answer::Malformed }
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
        for piece in ["", "{", &whole[..whole.len() - 1], "<html></html>", "[]", "{}", r#"{"choices":[}}"#, "\"text\""]
        {
            assert_eq!(answer(piece.as_bytes()), Answer::Malformed, "{piece}");
        }
    }
}
