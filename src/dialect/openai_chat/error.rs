//! Faults as OpenAI's error bodies.

use bytes::Bytes;

use crate::{Fault, FaultKind};

/// `{"error":{"message","type","param","code"}}`: what OpenAI's SDKs read.
pub(crate) fn body(fault: &Fault) -> Bytes {
    let error = serde_json::json!({
        "error": { "message": fault.message(), "type": kind(fault), "param": null, "code": fault.response_code() }
    });
    error.to_string().into()
}

/// The same as the last event of a stream.
#[cfg(feature = "gateway")]
pub(crate) fn event(fault: &Fault) -> Bytes {
    [b"data: ", &*body(fault), b"\n\n"].concat().into()
}

/// OpenAI's own words for what went wrong, as far as it has one.
pub(crate) fn kind(fault: &Fault) -> &'static str {
    match fault.kind() {
        FaultKind::RateLimited => "rate_limit_error",
        FaultKind::QuotaExhausted => "insufficient_quota",
        _ if fault.response_status().is_client_error() => "invalid_request_error",
        _ => "server_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_the_shape_that_sdks_read() {
        let fault = Fault::new(FaultKind::ContextLengthExceeded, "too \"long\"").with_code("context_length_exceeded");
        let body: serde_json::Value = serde_json::from_slice(&body(&fault)).unwrap();
        assert_eq!(body["error"]["message"], "too \"long\"");
        assert_eq!(body["error"]["type"], "invalid_request_error");
        assert_eq!(body["error"]["code"], "context_length_exceeded");
        assert!(body["error"]["param"].is_null());
    }
}
