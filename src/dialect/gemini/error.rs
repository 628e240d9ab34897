//! Faults as Google's error bodies.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value as Json, json};

use crate::{Fault, FaultKind, Refusal};

/// `{"error":{"code","message","status","details"}}`: what Google's SDKs read.
pub(crate) fn body(fault: &Fault) -> Bytes {
    envelope(fault).to_string().into()
}

/// The same as an event. The SDKs know an error in a stream by its first member.
#[cfg(any(feature = "gateway", test))]
pub(crate) fn event(fault: &Fault) -> Bytes {
    format!("data: {}\r\n\r\n", envelope(fault)).into()
}

fn envelope(fault: &Fault) -> Json {
    let status = fault.response_status();
    let mut details = vec![json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": fault.response_code(),
        "domain": "tower-failover",
    })];
    if let Some(wait) = fault.retry_after() {
        details.push(json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": duration(wait)}));
    }
    json!({"error": {
        "code": status.as_u16(),
        "message": fault.message(),
        "status": word(fault, status),
        "details": details,
    }})
}

/// As protobuf's JSON writes one.
fn duration(wait: Duration) -> String {
    match wait.subsec_millis() {
        0 => format!("{}s", wait.as_secs()),
        millis => format!("{}.{millis:03}s", wait.as_secs()),
    }
}

/// Google's own word for what went wrong, of those that belong to the status.
fn word(fault: &Fault, status: StatusCode) -> &'static str {
    match status.as_u16() {
        _ if fault.kind() == FaultKind::Cancelled => "CANCELLED",
        400 if matches!(fault.refusal(), Some(Refusal::Unmet(_))) => "FAILED_PRECONDITION",
        400 | 413 | 422 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        500 => "INTERNAL",
        504 => "DEADLINE_EXCEEDED",
        other if other < 500 => "INVALID_ARGUMENT",
        _ => "UNAVAILABLE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(fault: &Fault) -> Json {
        serde_json::from_slice::<Json>(&body(fault)).unwrap()["error"].clone()
    }

    #[test]
    fn the_body_has_the_shape_that_sdks_read() {
        let limited = Fault::new(FaultKind::RateLimited, "too \"many\"").with_retry_after(Duration::from_millis(1500));
        let expected = json!({
            "code": 429, "message": "too \"many\"", "status": "RESOURCE_EXHAUSTED",
            "details": [
                {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "rate_limited", "domain": "tower-failover"},
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.500s"},
            ],
        });
        assert_eq!(error(&limited), expected);
        let event = event(&limited);
        let text = std::str::from_utf8(&event).unwrap();
        assert!(text.starts_with("data: {\"error\":{") && text.ends_with("}\r\n\r\n"), "{text}");
    }

    #[test]
    fn every_fault_has_the_word_of_its_status() {
        for kind in FaultKind::ALL {
            let error = error(&Fault::new(*kind, "x"));
            let expected = match error["code"].as_u64().unwrap() {
                _ if *kind == FaultKind::Cancelled => "CANCELLED",
                400 | 413 => "INVALID_ARGUMENT",
                429 => "RESOURCE_EXHAUSTED",
                504 => "DEADLINE_EXCEEDED",
                502 | 503 => "UNAVAILABLE",
                other => panic!("{kind}: {other}"),
            };
            assert_eq!(error["status"], expected, "{kind}");
            assert_eq!(error["details"][0]["reason"], kind.name());
        }
    }
}
