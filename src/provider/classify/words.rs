//! What a provider says in an error, whichever of the usual shapes it has.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use crate::retry_after;

/// How deep errors are looked for in errors: a gateway's may hold a provider's, and that one its cause.
const MAX_DEPTH: u8 = 5;

/// Everything in an error that tells what it means.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Words {
    /// Codes, types, statuses and reasons, the most telling first.
    pub(super) codes: Vec<String>,
    /// What it says to people.
    pub(super) message: String,
    /// All its texts, in lower case, a line each: phrases are looked for here.
    pub(super) texts: String,
    /// How long it asks to be left alone, by its body.
    pub(super) retry_after: Option<Duration>,
}

impl Words {
    pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Words {
        let mut words = Words::default();
        match serde_json::from_slice::<Value>(body) {
            Ok(root) => words.add(&root, 0),
            // A page of a proxy or CDN is for people with browsers; its status says all that it does.
            Err(_) if body.trim_ascii_start().starts_with(b"<") => {}
            Err(_) => words.add_message(&String::from_utf8_lossy(body)),
        }
        if let Some(Ok(kind)) = headers.get("x-amzn-errortype").map(HeaderValue::to_str) {
            words.add_code(kind);
        }
        words.retry_after = words.retry_after.or_else(|| retry_after::in_text(&words.texts));
        words
    }

    /// The first status of a failure among the codes.
    pub(super) fn status(&self) -> Option<StatusCode> {
        let mut statuses = self.codes.iter().filter_map(|code| code.parse::<StatusCode>().ok());
        statuses.find(|status| status.is_client_error() || status.is_server_error())
    }

    fn add(&mut self, value: &Value, depth: u8) {
        if depth > MAX_DEPTH {
            return;
        }
        match value {
            Value::Array(array) => array.iter().take(1).for_each(|first| self.add(first, depth)),
            Value::String(text) => self.add_text(text, depth),
            Value::Object(_) => self.add_object(value, depth),
            _ => {}
        }
    }

    /// Adds what an object wraps, then what it says.
    fn add_object(&mut self, object: &Value, depth: u8) {
        // OpenRouter: what it got from the provider tells more than its own "Provider returned error".
        if let Some(metadata) = object.get("metadata") {
            self.add_metadata(metadata, depth + 1);
        }
        let mut envelope = false;
        for key in ["error", "response", "innererror", "message", "Message", "detail", "msg"] {
            if let Some(value) = object.get(key) {
                envelope |= value.is_object() && matches!(key, "error" | "response");
                self.add(value, depth + 1);
            }
        }
        for key in ["code", "type", "__type", "status", "status_code", "error_type", "reason"] {
            match object.get(key) {
                // An envelope's own type is "error" or the like.
                Some(Value::String(code)) if !envelope => self.add_code(code),
                Some(Value::Number(code)) => self.add_code(&code.to_string()),
                _ => {}
            }
        }
        match object.get("details") {
            Some(Value::Array(details)) => details.iter().for_each(|detail| self.add_google_detail(detail)),
            Some(Value::String(text)) => self.add_line(text),
            _ => {}
        }
    }

    fn add_metadata(&mut self, metadata: &Value, depth: u8) {
        if let Some(raw) = metadata.get("raw") {
            self.add(raw, depth);
        }
        if let Some(Value::String(code)) = metadata.get("error_type") {
            self.add_code(code);
        }
        // Why its moderation declined.
        if metadata.get("reasons").and_then(Value::as_array).is_some_and(|reasons| !reasons.is_empty()) {
            self.add_code("metadata.reasons");
        }
        if let Some(Value::Object(headers)) = metadata.get("headers") {
            let headers: HeaderMap = headers
                .iter()
                .filter_map(|(name, value)| {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    Some((name.parse::<HeaderName>().ok()?, text.parse::<HeaderValue>().ok()?))
                })
                .collect();
            self.retry_after = self.retry_after.or_else(|| retry_after::from_headers(&headers));
        }
    }

    /// Adds one of the standard details of `google.rpc`: `ErrorInfo`, `QuotaFailure`, `RetryInfo`, `DebugInfo`.
    fn add_google_detail(&mut self, detail: &Value) {
        if let Some(Value::String(reason)) = detail.get("reason") {
            self.codes.insert(0, reason.clone());
        }
        for violation in detail.get("violations").and_then(Value::as_array).into_iter().flatten() {
            for key in ["quotaId", "description"] {
                if let Some(Value::String(text)) = violation.get(key) {
                    self.add_line(text);
                }
            }
        }
        if let Some(Value::String(text)) = detail.get("detail") {
            self.add_line(text);
        }
        if let Some(Value::String(delay)) = detail.get("retryDelay") {
            self.retry_after = self.retry_after.or_else(|| retry_after::duration(delay));
        }
    }

    /// Adds a text, which may be another error written as text.
    fn add_text(&mut self, text: &str, depth: u8) {
        let nested = text.trim_start().starts_with(['{', '[']).then(|| serde_json::from_str::<Value>(text));
        match nested {
            Some(Ok(error)) => self.add(&error, depth + 1),
            _ => self.add_message(text),
        }
    }

    fn add_message(&mut self, text: &str) {
        if self.message.is_empty() {
            text.trim().clone_into(&mut self.message);
        }
        self.add_line(text);
    }

    fn add_line(&mut self, text: &str) {
        // Apostrophes as a typographer sets them, too.
        self.texts.push_str(&text.to_lowercase().replace('’', "'"));
        self.texts.push('\n');
    }

    /// Adds a code; AWS writes `namespace#Code:link`.
    fn add_code(&mut self, code: &str) {
        let code = code.split_once('#').map_or(code, |(_, code)| code);
        let code = code.split_once(':').map_or(code, |(code, _)| code).trim();
        if !code.is_empty() {
            self.codes.push(code.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Words {
        Words::read(&HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn the_usual_shapes_are_read() {
        for (body, codes, message) in [
            (r#"{"error":{"message":"m","type":"t","param":null,"code":"c"}}"#, &["c", "t"][..], "m"),
            (r#"{"type":"error","error":{"type":"t","message":"m","details":null},"request_id":"r"}"#, &["t"], "m"),
            (r#"{"object":"error","message":"m","type":"t","code":1300}"#, &["1300", "t"], "m"),
            (
                r#"[{"error":{"code":400,"message":"m","status":"S","details":[{"reason":"R"}]}}]"#,
                &["R", "400", "S"],
                "m",
            ),
            (r#"{"detail":"m"}"#, &[], "m"),
            (r#"{"detail":[{"loc":["body"],"msg":"m","type":"missing"}]}"#, &["missing"], "m"),
            (
                r#"{"object":"error","message":{"detail":[{"msg":"m","type":"missing"}]},"type":"t"}"#,
                &["missing", "t"],
                "m",
            ),
            (r#"{"code":"c","error":"m"}"#, &["c"], "m"),
            (r#"{"error":"m","error_type":"overloaded"}"#, &["overloaded"], "m"),
            (r#"{"error":["m"]}"#, &[], "m"),
            (
                r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"c","message":"m"}}}"#,
                &["c"],
                "m",
            ),
            (
                r#"{"__type":"com.amazon.coral.service#ThrottlingException","Message":"m"}"#,
                &["ThrottlingException"],
                "m",
            ),
            (r#"{"error":{"code":"c","message":"m","innererror":{"code":"i"}}}"#, &["i", "c"], "m"),
            (
                r#"{"error":{"code":400,"message":"{\"error\":{\"type\":\"t\",\"message\":\"m\"}}"}}"#,
                &["t", "400"],
                "m",
            ),
            (
                r#"{"error":{"code":502,"message":"Provider returned error","metadata":{"raw":"{\"error\":{\"code\":\"c\",\"message\":\"m\"}}"}}}"#,
                &["c", "502"],
                "m",
            ),
            ("upstream connect error", &[], "upstream connect error"),
            ("<html>502</html>", &[], ""),
            ("{\"error\":", &[], "{\"error\":"),
            ("null", &[], ""),
            ("", &[], ""),
        ] {
            let words = read(body);
            assert_eq!(
                (words.codes, &*words.message),
                (codes.iter().map(|code| code.to_string()).collect(), message),
                "{body}"
            );
        }
    }

    #[test]
    fn a_header_may_say_what_a_body_does_not() {
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("x-amzn-errortype"),
            HeaderValue::from_static("ValidationException:http://internal.amazon.com/coral/"),
        )]);
        assert_eq!(Words::read(&headers, b"{}").codes, ["ValidationException"]);
    }

    #[test]
    fn bodies_say_how_long_to_wait() {
        for (body, milliseconds) in [
            (
                r#"{"error":{"code":429,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"47.5s"}]}}"#,
                47_500,
            ),
            (r#"{"error":{"message":"Limit 30000. Please try again in 644ms."}}"#, 644),
            (r#"{"error":{"metadata":{"raw":"busy, retry after 3 seconds"}}}"#, 3000),
            (r#"{"error":{"metadata":{"headers":{"Retry-After":"7"}}}}"#, 7000),
        ] {
            assert_eq!(read(body).retry_after, Some(Duration::from_millis(milliseconds)), "{body}");
        }
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let reset = now.as_millis() as u64 + 60_000;
        for reset in [serde_json::json!(reset), serde_json::json!(reset.to_string())] {
            let body =
                serde_json::json!({"error": {"code": 429, "metadata": {"headers": {"X-RateLimit-Reset": reset}}}});
            let wait = read(&body.to_string()).retry_after.unwrap();
            assert!((55..=60).contains(&wait.as_secs()), "{wait:?}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        const PIECES: &[&str] = &[
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "null",
            "429",
            "\"error\":",
            "\"message\":",
            "\"metadata\":",
            "\"raw\":",
            "\"details\":",
            "\"retryDelay\":",
            "\"headers\":",
            "\"9s\"",
            "\\u0000",
            "é",
            "retry in ",
            "{\"error\":{",
        ];
        let mut random = fastrand::Rng::with_seed(2);
        for _ in 0..20_000 {
            let mut bytes = Vec::new();
            for _ in 0..random.usize(..24) {
                match random.u8(..8) {
                    0 => bytes.push(random.u8(..)),
                    _ => bytes.extend_from_slice(PIECES[random.usize(..PIECES.len())].as_bytes()),
                }
            }
            _ = Words::read(&HeaderMap::new(), &bytes);
        }
        let nested = r#"{"error":"#.repeat(100) + "1" + &"}".repeat(100);
        assert_eq!(read(&nested), Words::default());
    }
}
