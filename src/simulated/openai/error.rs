//! The errors of OpenAI's API, word by word.

use std::borrow::Cow;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::whole_millis;

const INVALID: &str = "invalid_request_error";

/// An error with OpenAI's four fields.
#[derive(Clone, Debug)]
pub(in crate::simulated) struct ApiError {
    pub(in crate::simulated) status: StatusCode,
    pub(in crate::simulated) retry_after: Option<Duration>,
    message: String,
    kind: &'static str,
    param: Option<Cow<'static, str>>,
    code: Option<&'static str>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, retry_after: None, message: message.into(), kind, param: None, code: None }
    }

    /// A 400.
    pub(in crate::simulated) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, message)
    }

    pub(in crate::simulated) fn param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    pub(in crate::simulated) fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    pub(in crate::simulated) fn is_rate_limit(&self) -> bool {
        self.code == Some("rate_limit_exceeded")
    }

    pub(in crate::simulated) fn body(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }

    pub(in crate::simulated) fn rate_limited(model: &str, retry_after: Option<Duration>) -> Self {
        let hint = retry_after.map_or_else(String::new, |wait| format!(" Please try again in {}.", go_duration(wait)));
        let message = format!(
            "Rate limit reached for {model} in organization org-simulated on requests per min (RPM): \
             Limit 500, Used 500, Requested 1.{hint} Visit \
             https://platform.openai.com/account/rate-limits to learn more."
        );
        Self { retry_after, ..Self::new(StatusCode::TOO_MANY_REQUESTS, "requests", message) }
            .code("rate_limit_exceeded")
    }

    pub(in crate::simulated) fn quota_exhausted() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "insufficient_quota",
            "You exceeded your current quota, please check your plan and billing details. For more \
             information on this error, read the docs: \
             https://platform.openai.com/docs/guides/error-codes/api-errors.",
        )
        .code("insufficient_quota")
    }

    pub(in crate::simulated) fn overloaded() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "server_error",
            "That model is currently overloaded with other requests. You can retry your request, or \
             contact us through our help center at help.openai.com if the error persists.",
        )
    }

    pub(in crate::simulated) fn server_error() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            "The server had an error while processing your request. Sorry about that!",
        )
    }

    pub(in crate::simulated) fn wrong_key(given: &str) -> Self {
        let message = format!(
            "Incorrect API key provided: {}. You can find your API key at \
             https://platform.openai.com/account/api-keys.",
            masked(given)
        );
        Self::new(StatusCode::UNAUTHORIZED, INVALID, message).code("invalid_api_key")
    }

    pub(in crate::simulated) fn missing_key() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            INVALID,
            "You didn't provide an API key. You need to provide your API key in an Authorization header \
             using Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank \
             username) if you're accessing the API from your browser and are prompted for a username and \
             password. You can obtain an API key from https://platform.openai.com/account/api-keys.",
        )
    }

    pub(in crate::simulated) fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "request_forbidden", "Country, region, or territory not supported")
            .code("unsupported_country_region_territory")
    }

    pub(in crate::simulated) fn model_not_found(model: &str) -> Self {
        let message = format!("The model `{model}` does not exist or you do not have access to it.");
        Self::new(StatusCode::NOT_FOUND, INVALID, message).code("model_not_found")
    }

    /// As `GET /v1/models/{id}` says it.
    pub(in crate::simulated) fn no_such_model(model: &str) -> Self {
        let message = format!("The model '{model}' does not exist");
        Self::new(StatusCode::NOT_FOUND, INVALID, message).param("model").code("model_not_found")
    }

    pub(in crate::simulated) fn context_length_exceeded() -> Self {
        Self::invalid(
            "This model's maximum context length is 128000 tokens. However, your messages resulted in \
             131072 tokens. Please reduce the length of the messages.",
        )
        .param("messages")
        .code("context_length_exceeded")
    }

    pub(in crate::simulated) fn unsupported_parameter() -> Self {
        Self::invalid(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use \
             'max_completion_tokens' instead.",
        )
        .param("max_tokens")
        .code("unsupported_parameter")
    }

    /// As Anthropic words it; OpenAI takes what it is given.
    pub(in crate::simulated) fn prefill_refused() -> Self {
        Self::invalid(
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        )
        .param("messages")
    }

    pub(in crate::simulated) fn bad_request() -> Self {
        Self::invalid(
            "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3.0 \
             instead.",
        )
        .param("temperature")
        .code("decimal_above_max_value")
    }

    pub(in crate::simulated) fn content_filtered() -> Self {
        Self::invalid(
            "Your request was rejected as a result of our safety system. Your prompt may contain text \
             that is not allowed by our safety system.",
        )
        .code("content_policy_violation")
    }

    pub(in crate::simulated) fn not_json() -> Self {
        Self::invalid(
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't using \
             your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not \
             valid JSON. If you have trouble figuring out how to fix this, please contact us through our \
             help center at help.openai.com.)",
        )
    }

    pub(in crate::simulated) fn unknown_path(method: &Method, path: &str) -> Self {
        let message = format!("Invalid URL ({method} {path})");
        Self::new(StatusCode::NOT_FOUND, INVALID, message)
    }

    pub(in crate::simulated) fn only_post() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, "Only POST requests are accepted.")
            .code("method_not_supported")
    }
}

/// A key as OpenAI repeats it: hardly.
fn masked(key: &str) -> String {
    let chars: Vec<char> = key.chars().collect();
    if chars.len() < 16 {
        // Of a short key the ends would be most of it.
        return if key == "sk-" { key.to_owned() } else { "*".repeat(chars.len()) };
    }
    let end: String = chars[chars.len() - 4..].iter().collect();
    let start: String = chars[..4].iter().collect();
    format!("{start}{}{end}", "*".repeat(chars.len() - 8))
}

/// As Go prints a duration: `644ms`, `3.89s`, `1m47.5s`, `1h0m0s`.
pub(in crate::simulated) fn go_duration(wait: Duration) -> String {
    let wait = whole_millis(wait);
    if wait.is_zero() {
        return "0s".to_owned();
    }
    if wait < Duration::from_secs(1) {
        return format!("{}ms", wait.as_millis());
    }
    let (minutes, seconds) = (wait.as_secs() / 60, wait.as_secs() % 60);
    let fraction = format!(".{:03}", wait.subsec_millis());
    let seconds = format!("{seconds}{}s", fraction.trim_end_matches('0').trim_end_matches('.'));
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_prints_them() {
        for (millis, text) in [
            (0, "0s"),
            (644, "644ms"),
            (3_890, "3.89s"),
            (20_000, "20s"),
            (107_585, "1m47.585s"),
            (360_000, "6m0s"),
            (3_723_000, "1h2m3s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn keys_are_masked() {
        assert_eq!(masked("sk-short"), "********");
        assert_eq!(masked("sk-abcdefghijklmnopqrst"), "sk-a***************qrst");
        assert_eq!(masked(""), "");
    }
}
