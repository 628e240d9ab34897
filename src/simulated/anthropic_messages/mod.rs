//! Anthropic's messages: `POST /v1/messages`, and `GET /v1/models` for those who name a version of that API.

mod error;
mod render;
mod request;
mod rules;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use self::error::ApiError;
use super::SimulatedFault;
use super::answer::{Answer, Rendered};
use super::builder::Settings;
use super::exchange::{self, Outcome};
use super::script::Steps;
use super::server::Server;

/// What one request is told while the provider is healthy.
pub(super) fn outcome(server: &Server, parts: &Parts, body: &Bytes) -> Outcome {
    healthy(server, parts, body).unwrap_or_else(|error| Outcome::Plain(error.response()))
}

fn healthy(server: &Server, parts: &Parts, body: &Bytes) -> Result<Outcome, ApiError> {
    let settings = &server.settings;
    authorized(settings, parts)?;
    let post = parts.method == Method::POST;
    let rendered = match parts.uri.path() {
        "/v1/messages" if post => {
            let manner = server.manner();
            let asked = request::parse(body, manner.refuses_prefill)?;
            let (answer, ending) = Answer::to(&asked, settings, manner.continuation).within(&asked);
            let message = render::Message::new(&asked, &answer, &ending, server);
            if (asked.stream && !manner.style.json) || manner.style.events {
                Rendered::Stream(message.events(server.settings.chunks))
            } else {
                Rendered::Whole(text(&message.whole()))
            }
        }
        "/v1/messages" => return Err(ApiError::only_post()),
        "/v1/models" if !post => Rendered::Whole(text(&models(settings))),
        _ => return Err(ApiError::unknown_path()),
    };
    let error = ApiError::overloaded();
    Ok(Outcome::Answer {
        rendered,
        error_event: event("error", &error.event()),
        error_body: text(&error.body(None)),
        end_event: Bytes::new(),
    })
}

/// The answer to a fault that is an answer of its own, whatever was asked.
pub(super) fn fault(fault: &SimulatedFault, body: &Bytes, settings: &Settings) -> Option<Response<Steps>> {
    let error = match fault {
        SimulatedFault::RateLimited { retry_after } => ApiError::rate_limited(*retry_after),
        SimulatedFault::QuotaExhausted => ApiError::quota_exhausted(),
        SimulatedFault::Overloaded => ApiError::overloaded(),
        SimulatedFault::ServerError => ApiError::server_error(),
        SimulatedFault::Unauthorized => ApiError::wrong_key(),
        SimulatedFault::Forbidden => ApiError::forbidden(),
        SimulatedFault::ModelNotFound => ApiError::model_not_found(&model_asked_for(body, settings)),
        SimulatedFault::ContextLengthExceeded => ApiError::context_length_exceeded(),
        SimulatedFault::UnsupportedParameter => ApiError::unsupported_parameter(),
        SimulatedFault::BadRequest => ApiError::bad_request(),
        SimulatedFault::ContentFiltered => ApiError::content_filtered(),
        _ => return None,
    };
    Some(error.response())
}

/// The headers that come with every answer that does not bring its own.
pub(super) fn decorate(headers: &mut HeaderMap, server: &Server) {
    const ALWAYS: [(&str, &str); 5] = [
        ("anthropic-organization-id", "org-simulated"),
        ("anthropic-ratelimit-requests-limit", "4000"),
        ("anthropic-ratelimit-requests-remaining", "3999"),
        ("anthropic-ratelimit-tokens-limit", "400000"),
        ("anthropic-ratelimit-tokens-remaining", "399000"),
    ];
    if headers.contains_key(http::header::SERVER) {
        // A proxy's own page.
        return;
    }
    for (name, value) in ALWAYS {
        headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
    let reset = instant(Duration::from_secs(1));
    for name in ["anthropic-ratelimit-requests-reset", "anthropic-ratelimit-tokens-reset"] {
        if let Some(reset) = &reset {
            headers.entry(HeaderName::from_static(name)).or_insert(reset.clone());
        }
    }
    if let Ok(id) = HeaderValue::try_from(format!("req_{}", server.next_id())) {
        headers.insert("request-id", id);
    }
}

/// A time from now, as it stands in headers.
fn instant(from_now: Duration) -> Option<HeaderValue> {
    HeaderValue::try_from(humantime::format_rfc3339_seconds(SystemTime::now() + from_now).to_string()).ok()
}

fn text(value: &Value) -> Bytes {
    value.to_string().into()
}

fn event(name: &str, data: &Value) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}

fn authorized(settings: &Settings, parts: &Parts) -> Result<(), ApiError> {
    let Some(key) = &settings.key else {
        return Ok(());
    };
    let header = |name: &str| parts.headers.get(name)?.to_str().ok();
    // The way of its SDK, and that of those who log in as a user.
    let bearer = || header("authorization")?.split_once(' ').map(|(_, key)| key.trim());
    match header("x-api-key").or_else(bearer) {
        Some(given) if given == key.expose_secret() => Ok(()),
        Some(_) => Err(ApiError::wrong_key()),
        None => Err(ApiError::missing_key()),
    }
}

/// The model that a request names, which need not be right in anything else.
fn model_asked_for(body: &Bytes, settings: &Settings) -> String {
    let named =
        serde_json::from_slice::<Value>(body).ok().and_then(|request| Some(request.get("model")?.as_str()?.to_owned()));
    named.or_else(|| settings.models.first().cloned()).unwrap_or_default()
}

fn models(settings: &Settings) -> Value {
    let model =
        |id: &String| json!({"type": "model", "id": id, "display_name": id, "created_at": "2025-02-19T00:00:00Z"});
    let list: Vec<Value> = settings.models.iter().map(model).collect();
    json!({"data": list, "has_more": false, "first_id": settings.models.first(), "last_id": settings.models.last()})
}

impl ApiError {
    fn response(&self) -> Response<Steps> {
        let mut response = exchange::json(self.status, &self.body(Some("req_simulated")));
        let headers = response.headers_mut();
        let again = if self.is_worth_another_try() { "true" } else { "false" };
        headers.insert("x-should-retry", HeaderValue::from_static(again));
        if self.status == http::StatusCode::TOO_MANY_REQUESTS {
            headers.insert("anthropic-ratelimit-requests-remaining", HeaderValue::from_static("0"));
            if let Some(wait) = self.retry_after {
                let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                headers.insert("retry-after", millis.div_ceil(1000).into());
                instant(wait)
                    .into_iter()
                    .for_each(|reset| _ = headers.insert("anthropic-ratelimit-requests-reset", reset));
            }
        }
        response
    }
}
