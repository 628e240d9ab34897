//! The errors of Google's API, word by word.

use std::time::Duration;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::simulated::exchange;
use crate::simulated::script::Steps;

/// An error as `google.rpc.Status` has it.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    word: &'static str,
    message: String,
    details: Vec<Value>,
}

impl ApiError {
    fn new(status: StatusCode, word: &'static str, message: impl Into<String>) -> Self {
        Self { status, word, message: message.into(), details: Vec::new() }
    }

    /// A 400.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message)
    }

    fn detail(mut self, kind: &str, mut detail: Value) -> Self {
        detail["@type"] = format!("type.googleapis.com/google.rpc.{kind}").into();
        self.details.push(detail);
        self
    }

    fn reason(self, reason: &str) -> Self {
        let metadata = json!({"service": "generativelanguage.googleapis.com"});
        self.detail("ErrorInfo", json!({"reason": reason, "domain": "googleapis.com", "metadata": metadata}))
    }

    pub(super) fn body(&self) -> Value {
        let mut error = json!({"code": self.status.as_u16(), "message": self.message, "status": self.word});
        if !self.details.is_empty() {
            error["details"] = self.details.clone().into();
        }
        json!({"error": error})
    }

    /// Where a stream was to come as an array, the error is its one element.
    pub(super) fn response(&self, array: bool) -> Response<Steps> {
        let body = self.body();
        exchange::json(self.status, &if array { json!([body]) } else { body })
    }

    fn exhausted(model: &str, metric: &str, quota: &str, limit: u32) -> Self {
        let message = format!(
            "You exceeded your current quota, please check your plan and billing details. For more information on this \
             error, head to: https://ai.google.dev/gemini-api/docs/rate-limits. \n* Quota exceeded for metric: \
             generativelanguage.googleapis.com/{metric}, limit: {limit}, model: {model}"
        );
        let violation = json!({
            "quotaMetric": format!("generativelanguage.googleapis.com/{metric}"),
            "quotaId": quota,
            "quotaDimensions": {"location": "global", "model": model},
            "quotaValue": limit.to_string(),
        });
        Self::new(StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED", message)
            .detail("QuotaFailure", json!({"violations": [violation]}))
    }

    pub(super) fn rate_limited(model: &str, retry_after: Option<Duration>) -> Self {
        let metric = "generate_content_paid_tier_requests";
        let mut error = Self::exhausted(model, metric, "GenerateRequestsPerMinutePerProjectPerModel-PaidTier", 1000);
        if let Some(wait) = retry_after {
            error.message += &format!("\nPlease retry in {}s.", wait.as_secs_f64());
            error = error.detail("RetryInfo", json!({"retryDelay": format!("{}s", wait.as_secs_f64())}));
        }
        error
    }

    pub(super) fn quota_exhausted(model: &str) -> Self {
        let metric = "generate_content_free_tier_requests";
        Self::exhausted(model, metric, "GenerateRequestsPerDayPerProjectPerModel-FreeTier", 250)
    }

    pub(super) fn overloaded() -> Self {
        let message = "The model is overloaded. Please try again later.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message)
    }

    pub(super) fn server_error() -> Self {
        let message = "An internal error has occurred. Please retry or report in \
                       https://developers.generativeai.google/guide/troubleshooting";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", message)
    }

    /// A 400, though it is the key that is wrong.
    pub(super) fn wrong_key() -> Self {
        Self::invalid("API key not valid. Please pass a valid API key.").reason("API_KEY_INVALID")
    }

    pub(super) fn missing_key() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "PERMISSION_DENIED",
            "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or \
             other form of API consumer identity to call this API.",
        )
    }

    pub(super) fn forbidden() -> Self {
        let message = "User location is not supported for the API use.";
        Self::new(StatusCode::BAD_REQUEST, "FAILED_PRECONDITION", message)
    }

    pub(super) fn model_not_found(model: &str, version: &str) -> Self {
        let message = format!(
            "models/{model} is not found for API version {version}, or is not supported for generateContent. Call \
             ListModels to see the list of available models and their supported methods."
        );
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    pub(super) fn context_length_exceeded() -> Self {
        Self::invalid("The input token count (1250074) exceeds the maximum number of tokens allowed (1048576).")
    }

    pub(super) fn unsupported_parameter() -> Self {
        Self::invalid("Thinking level is not supported for this model.")
    }

    pub(super) fn bad_request() -> Self {
        Self::invalid(
            "Unable to submit request because it has a temperature value of 3 but the supported range is from 0 \
             (inclusive) to 2.0001 (exclusive). Update the value and try again.",
        )
    }

    /// Google's own go on with whatever is the last turn; others that speak its API do not.
    pub(super) fn prefill_refused() -> Self {
        Self::invalid("Please ensure that the conversation ends with a user turn: this model does not support prefill.")
    }

    pub(super) fn not_json() -> Self {
        Self::invalid("Invalid JSON payload received. Expected an object.")
    }

    pub(super) fn unknown_name(name: &str, place: &str) -> Self {
        let at = if place.is_empty() { String::new() } else { format!(" at '{place}'") };
        let description = format!("Invalid JSON payload received. Unknown name \"{name}\"{at}: Cannot find field.");
        let violation = json!({"field": place, "description": description});
        Self::invalid(description).detail("BadRequest", json!({"fieldViolations": [violation]}))
    }

    pub(super) fn unknown_path(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", format!("The requested URL {path} was not found on this server."))
    }
}
