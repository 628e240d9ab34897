//! Faults as Anthropic's error bodies.

use bytes::Bytes;

use crate::{Fault, FaultKind};

/// `{"type":"error","error":{"type","message"}}`: what Anthropic's SDKs read. The code, which is ours, stands beside the
/// message.
pub(crate) fn body(fault: &Fault) -> Bytes {
    let error = serde_json::json!({
        "type": "error",
        "error": { "type": kind(fault), "message": fault.message(), "code": fault.response_code() },
    });
    error.to_string().into()
}

/// The same as the last event of a stream.
#[cfg(any(feature = "gateway", test))]
pub(crate) fn event(fault: &Fault) -> Bytes {
    [b"event: error\ndata: ", &*body(fault), b"\n\n"].concat().into()
}

/// Anthropic's own words for what went wrong. What becomes a 4xx is the client's fault, but for limits.
fn kind(fault: &Fault) -> &'static str {
    let status = fault.response_status().as_u16();
    match fault.kind() {
        FaultKind::RateLimited => "rate_limit_error",
        FaultKind::QuotaExhausted => "billing_error",
        FaultKind::Overloaded => "overloaded_error",
        FaultKind::Timeout => "timeout_error",
        FaultKind::PayloadTooLarge => "request_too_large",
        _ => match status {
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            400..500 => "invalid_request_error",
            503 => "overloaded_error",
            504 => "timeout_error",
            _ => "api_error",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(fault: &Fault) -> serde_json::Value {
        serde_json::from_slice(&body(fault)).unwrap()
    }

    #[test]
    fn the_body_has_the_shape_that_sdks_read() {
        let fault = Fault::new(FaultKind::ContextLengthExceeded, "too \"long\"").with_code("context_length_exceeded");
        let expected = serde_json::json!({"type": "error", "error": {
            "type": "invalid_request_error", "message": "too \"long\"", "code": "context_length_exceeded"}});
        assert_eq!(json(&fault), expected);
        let event = String::from_utf8(event(&fault).to_vec()).unwrap();
        let data = event.strip_prefix("event: error\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(data).unwrap(), expected);
    }

    #[test]
    fn every_fault_has_a_word_of_anthropics_that_goes_with_its_status() {
        for kind in FaultKind::ALL {
            let fault = Fault::new(*kind, "x");
            let (word, status) = (json(&fault)["error"]["type"].clone(), fault.response_status().as_u16());
            let expected: &[u16] = match word.as_str().unwrap() {
                "invalid_request_error" => &[400, 422],
                "rate_limit_error" | "billing_error" => &[429],
                "request_too_large" => &[413],
                "overloaded_error" => &[503, 529],
                "timeout_error" => &[504],
                "api_error" => &[500, 502],
                other => panic!("{other}"),
            };
            assert!(expected.contains(&status), "{kind}: {word} with {status}");
        }
    }

    #[test]
    fn the_sdks_stream_decoder_finds_the_error() {
        // Its reader knows an error by the name of the event.
        assert!(event(&Fault::new(FaultKind::StreamInterrupted, "x")).starts_with(b"event: error\n"));
    }
}
