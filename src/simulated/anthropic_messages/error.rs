//! The errors of Anthropic's API, word by word.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

/// An error with its kind and message.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    kind: &'static str,
    message: String,
}

/// Which Anthropic's servers use for having too much to do.
const OVERLOADED: u16 = 529;

impl ApiError {
    fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, retry_after: None, kind, message: message.into() }
    }

    /// A 400.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", message)
    }

    /// Whether the SDKs are told to try again.
    pub(super) fn is_worth_another_try(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS || self.status.is_server_error()
    }

    pub(super) fn body(&self, request_id: Option<&str>) -> Value {
        json!({"type": "error", "error": {"type": self.kind, "message": self.message}, "request_id": request_id})
    }

    /// As it stands in a stream.
    pub(super) fn event(&self) -> Value {
        json!({"type": "error", "error": {"details": null, "type": self.kind, "message": self.message}})
    }

    pub(super) fn rate_limited(retry_after: Option<Duration>) -> Self {
        let message = "Number of requests has exceeded your per-minute rate limit \
            (https://docs.anthropic.com/claude/reference/rate-limits); see the response headers for current usage. Please try \
            again later.";
        Self { retry_after, ..Self::new(429, "rate_limit_error", message) }
    }

    pub(super) fn quota_exhausted() -> Self {
        Self::invalid(
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase \
             credits.",
        )
    }

    pub(super) fn overloaded() -> Self {
        Self::new(OVERLOADED, "overloaded_error", "Overloaded")
    }

    pub(super) fn server_error() -> Self {
        Self::new(500, "api_error", "Internal server error")
    }

    pub(super) fn wrong_key() -> Self {
        Self::new(401, "authentication_error", "invalid x-api-key")
    }

    pub(super) fn missing_key() -> Self {
        Self::new(401, "authentication_error", "x-api-key header is required")
    }

    pub(super) fn forbidden() -> Self {
        let message = "Your API key does not have permission to use the specified resource.";
        Self::new(403, "permission_error", message)
    }

    pub(super) fn model_not_found(model: &str) -> Self {
        Self::new(404, "not_found_error", format!("model: {model}"))
    }

    pub(super) fn context_length_exceeded() -> Self {
        Self::invalid("prompt is too long: 208310 tokens > 200000 maximum")
    }

    pub(super) fn unsupported_parameter() -> Self {
        Self::invalid("`temperature` is deprecated for this model.")
    }

    pub(super) fn prefill_refused() -> Self {
        Self::invalid(
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        )
    }

    pub(super) fn bad_request() -> Self {
        Self::invalid("temperature: range: 0..1")
    }

    pub(super) fn content_filtered() -> Self {
        Self::invalid("Output blocked by content filtering policy")
    }

    pub(super) fn not_json() -> Self {
        Self::invalid("The request body is not valid JSON: expected value at line 1 column 1 (char 0)")
    }

    pub(super) fn unknown_path() -> Self {
        Self::new(404, "not_found_error", "Not Found")
    }

    pub(super) fn only_post() -> Self {
        Self::new(405, "invalid_request_error", "Method Not Allowed")
    }
}
