//! What OpenAI's APIs have in common: keys, headers, errors, and what a conversation comes down to.

pub(super) mod conversation;
pub(super) mod error;

use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use secrecy::ExposeSecret;
use serde_json::Value;

use self::error::ApiError;
use super::SimulatedFault;
use super::builder::Settings;
use super::exchange;
use super::script::Steps;
use super::server::Server;

/// The error that a fault is, where it is one whatever was asked.
pub(super) fn error_of(fault: &SimulatedFault, parts: &Parts, body: &Bytes, settings: &Settings) -> Option<ApiError> {
    Some(match fault {
        SimulatedFault::RateLimited { retry_after } => {
            ApiError::rate_limited(&model_asked_for(body, settings), *retry_after)
        }
        SimulatedFault::QuotaExhausted => ApiError::quota_exhausted(),
        SimulatedFault::Overloaded => ApiError::overloaded(),
        SimulatedFault::ServerError => ApiError::server_error(),
        SimulatedFault::Unauthorized => ApiError::wrong_key(bearer(&parts.headers).unwrap_or("sk-")),
        SimulatedFault::Forbidden => ApiError::forbidden(),
        SimulatedFault::ModelNotFound => ApiError::model_not_found(&model_asked_for(body, settings)),
        SimulatedFault::ContextLengthExceeded => ApiError::context_length_exceeded(),
        SimulatedFault::UnsupportedParameter => ApiError::unsupported_parameter(),
        SimulatedFault::BadRequest => ApiError::bad_request(),
        SimulatedFault::ContentFiltered => ApiError::content_filtered(),
        _ => return None,
    })
}

/// The headers that come with every answer that does not bring its own.
pub(super) fn decorate(headers: &mut HeaderMap, server: &Server) {
    const ALWAYS: [(&str, &str); 8] = [
        ("openai-processing-ms", "12"),
        ("openai-version", "2020-10-01"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-limit-tokens", "2000000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-remaining-tokens", "1999900"),
        ("x-ratelimit-reset-requests", "6ms"),
        ("x-ratelimit-reset-tokens", "2ms"),
    ];
    if headers.contains_key(http::header::SERVER) {
        // A proxy's own page.
        return;
    }
    for (name, value) in ALWAYS {
        headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::try_from(format!("req_{}", server.next_id())) {
        headers.insert("x-request-id", id);
    }
}

pub(super) fn text(value: &Value) -> Bytes {
    value.to_string().into()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

pub(super) fn authorized(settings: &Settings, parts: &Parts) -> Result<(), ApiError> {
    let Some(key) = &settings.key else {
        return Ok(());
    };
    match bearer(&parts.headers) {
        Some(given) if given == key.expose_secret() => Ok(()),
        Some(given) => Err(ApiError::wrong_key(given)),
        None => Err(ApiError::missing_key()),
    }
}

/// The model that a request names, which need not be right in anything else.
pub(super) fn model_asked_for(body: &Bytes, settings: &Settings) -> String {
    let named =
        serde_json::from_slice::<Value>(body).ok().and_then(|request| Some(request.get("model")?.as_str()?.to_owned()));
    named.or_else(|| settings.models.first().cloned()).unwrap_or_default()
}

impl ApiError {
    pub(super) fn response(&self) -> Response<Steps> {
        let mut response = exchange::json(self.status, &self.body());
        if self.status == StatusCode::TOO_MANY_REQUESTS && self.is_rate_limit() {
            let headers = response.headers_mut();
            headers.insert("x-ratelimit-limit-requests", HeaderValue::from_static("500"));
            headers.insert("x-ratelimit-remaining-requests", HeaderValue::from_static("0"));
            if let Some(wait) = self.retry_after {
                let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                let seconds = millis.div_ceil(1000);
                headers.insert("retry-after", seconds.into());
                headers.insert("retry-after-ms", millis.into());
                let reset = HeaderValue::try_from(error::go_duration(wait));
                if let Ok(reset) = reset {
                    headers.insert("x-ratelimit-reset-requests", reset);
                }
            }
        }
        response
    }
}

/// OpenAI tells how long to wait in whole milliseconds, never in less.
fn whole_millis(wait: Duration) -> Duration {
    Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}
