//! What a provider's error means, by its own words.

use std::borrow::Cow;

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::{Credentials, Fault, FaultKind, retry_after};

mod rules;

/// How much of a provider's message is kept.
const MAX_MESSAGE: usize = 1024;

/// The fault that a failed response means.
pub(super) fn response(status: StatusCode, headers: &HeaderMap, body: &[u8], credentials: &Credentials) -> Fault {
    fault(Some(status), body, credentials).with_retry_after(retry_after::from_headers(headers))
}

/// The fault that an error inside a good response means: in an event, or instead of an answer.
pub(super) fn in_band(body: &[u8], credentials: &Credentials) -> Fault {
    fault(None, body, credentials)
}

fn fault(status: Option<StatusCode>, body: &[u8], credentials: &Credentials) -> Fault {
    let words = Words::read(body);
    // In a 200, the status that was meant may stand in the body.
    let meant = status.or_else(|| words.codes.iter().find_map(|code| code.parse().ok()));
    let kind = rules::kind(meant, &words);
    let message = match (words.message.trim(), meant) {
        ("", Some(status)) => Cow::Owned(format!("the provider answered {status}")),
        ("", None) => Cow::Borrowed("the provider reported an error"),
        (message, _) => Cow::Owned(truncated(&credentials.redact(message)).to_owned()),
    };
    let mut fault = Fault::new(kind, message);
    if let Some(status) = meant.filter(|status| status.is_client_error() || status.is_server_error()) {
        fault = fault.with_status(status);
    }
    if let Some(code) = words.codes.iter().find(|code| code.parse::<u16>().is_err()) {
        fault = fault.with_code(truncated(&credentials.redact(code)));
    }
    fault
}

fn truncated(text: &str) -> &str {
    let end = (0..=MAX_MESSAGE.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// What a provider says in an error body, whichever of the usual shapes it has.
#[derive(Debug, Default, PartialEq)]
struct Words {
    /// Codes, types and statuses, the most telling first.
    codes: Vec<String>,
    message: String,
}

impl Words {
    fn read(body: &[u8]) -> Words {
        let mut words = Words::default();
        match serde_json::from_slice::<Value>(body) {
            Ok(root) => words.add(&root, 0),
            Err(_) if body.trim_ascii_start().starts_with(b"<") => {}
            Err(_) => words.message = String::from_utf8_lossy(body).into_owned(),
        }
        words
    }

    /// Adds what an object says and what it wraps: `error` (object or text), `response.error`, an array's first.
    fn add(&mut self, value: &Value, depth: u8) {
        let value = value.as_array().and_then(|array| array.first()).unwrap_or(value);
        if depth > 3 {
            return;
        }
        for wrapped in ["error", "response"] {
            match value.get(wrapped) {
                Some(Value::String(text)) => self.add_message(text),
                Some(inner @ (Value::Object(_) | Value::Array(_))) => self.add(inner, depth + 1),
                _ => {}
            }
        }
        for key in ["code", "type", "status", "status_code"] {
            match value.get(key) {
                Some(Value::String(code)) if !code.is_empty() => self.codes.push(code.clone()),
                Some(Value::Number(code)) => self.codes.push(code.to_string()),
                _ => {}
            }
        }
        for key in ["message", "detail"] {
            if let Some(Value::String(text)) = value.get(key) {
                self.add_message(text);
            }
        }
        for detail in value.get("details").and_then(Value::as_array).into_iter().flatten() {
            if let Some(Value::String(reason)) = detail.get("reason") {
                self.codes.insert(0, reason.clone());
            }
        }
    }

    fn add_message(&mut self, text: &str) {
        if self.message.is_empty() {
            text.clone_into(&mut self.message);
        }
    }
}

/// The kind that stands for an error of which nothing is known.
const UNKNOWN: FaultKind = FaultKind::Unavailable;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dialect;

    #[test]
    fn the_usual_shapes_are_read() {
        let read = |body: &str| Words::read(body.as_bytes());
        let words = |codes: &[&str], message: &str| Words {
            codes: codes.iter().map(|code| code.to_string()).collect(),
            message: message.into(),
        };
        for (body, expected) in [
            (r#"{"error":{"message":"m","type":"t","param":null,"code":"c"}}"#, words(&["c", "t"], "m")),
            (r#"{"object":"error","message":"m","type":"t","code":1300}"#, words(&["1300", "t"], "m")),
            (
                r#"[{"error":{"code":400,"message":"m","status":"S","details":[{"reason":"R"}]}}]"#,
                words(&["R", "400", "S"], "m"),
            ),
            (r#"{"detail":"m"}"#, words(&[], "m")),
            (r#"{"code":"c","error":"m"}"#, words(&["c"], "m")),
            (r#"{"response":{"error":{"code":"c","message":"m"}}}"#, words(&["c"], "m")),
            ("upstream connect error", words(&[], "upstream connect error")),
            ("<html>502</html>", words(&[], "")),
            ("", words(&[], "")),
        ] {
            assert_eq!(read(body), expected, "{body}");
        }
    }

    #[test]
    fn an_echoed_key_is_not_kept_and_a_long_message_is_cut() {
        let credentials = Credentials::api_key(Dialect::OpenAiChat, "sk-echo".into()).unwrap();
        for before in [0, MAX_MESSAGE - 3] {
            let message = format!("{}sk-echo {}", "x".repeat(before), "é".repeat(2000));
            let body = serde_json::json!({"error": {"message": message, "code": "sk-echo"}}).to_string();
            let fault = response(StatusCode::UNAUTHORIZED, &HeaderMap::new(), body.as_bytes(), &credentials);
            assert!(!format!("{fault:?}").contains("sk-"), "{fault:?}");
            assert!(fault.message().len() <= MAX_MESSAGE);
        }
    }

    /// Real bodies of OpenAI-compatible providers, where a copy of the recordings is at hand.
    #[test]
    fn recorded_errors_are_what_they_are_labelled() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/recordings/errors.jsonl");
        let Ok(recordings) = std::fs::read_to_string(path) else {
            return eprintln!("skipped: no recordings at {path}");
        };
        let mut wrong = Vec::new();
        for line in recordings.lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            if row["dialect"] != "openai-chat" {
                continue;
            }
            let status = row["status"].as_u64().unwrap() as u16;
            let body = match &row["body"] {
                Value::String(text) => text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or(text).into(),
                body => body.to_string(),
            };
            let status = (status >= 400).then(|| StatusCode::from_u16(status).unwrap());
            let found = fault(status, body.as_bytes(), &Credentials::none()).kind().name();
            let labels = row["also_ok"].as_array().unwrap().iter().chain([&row["class"]]);
            let mut labels =
                labels.map(|label| if label == "server_error" { "unavailable" } else { label.as_str().unwrap() });
            if !labels.any(|label| label == found) {
                wrong.push(format!("{}: {found} instead of {}: {body}", row["id"], row["class"]));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
