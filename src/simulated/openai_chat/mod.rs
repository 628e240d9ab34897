//! OpenAI's chat completions: `POST /v1/chat/completions`, `GET /v1/models`.

mod error;
mod render;
mod request;

use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
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
    let path = parts.uri.path();
    let post = parts.method == Method::POST;
    let rendered = match path {
        "/v1/chat/completions" if post => {
            let manner = server.manner();
            let asked = request::parse(body, manner.refuses_prefill)?;
            let (answer, ending) = Answer::to(&asked, settings, manner.continuation).within(&asked);
            let stamp = render::Stamp::new(server, ending);
            if (asked.stream && !manner.style.json) || manner.style.events {
                Rendered::Stream(render::events(&asked, &answer, &stamp, server))
            } else {
                Rendered::Whole(text(&render::whole(&asked, &answer, &stamp, server)))
            }
        }
        "/v1/chat/completions" => return Err(ApiError::only_post()),
        "/v1/models" if parts.method == Method::GET => Rendered::Whole(text(&models(settings))),
        _ => {
            let known = path.strip_prefix("/v1/models/").filter(|_| parts.method == Method::GET);
            match known {
                Some(id) if settings.models.iter().any(|model| model == id) => Rendered::Whole(text(&model(id))),
                Some(id) => return Err(ApiError::no_such_model(id)),
                None => return Err(ApiError::unknown_path(&parts.method, path)),
            }
        }
    };
    let error = ApiError::overloaded().body();
    Ok(Outcome::Answer {
        rendered,
        error_event: event(&error),
        error_body: text(&error),
        end_event: Bytes::from_static(DONE),
    })
}

/// The answer to a fault that is an answer of its own, whatever was asked.
pub(super) fn fault(
    fault: &SimulatedFault,
    parts: &Parts,
    body: &Bytes,
    settings: &Settings,
) -> Option<Response<Steps>> {
    let error = match fault {
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
    };
    Some(error.response())
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

const DONE: &[u8] = b"data: [DONE]\n\n";

fn text(value: &Value) -> Bytes {
    value.to_string().into()
}

fn event(value: &Value) -> Bytes {
    format!("data: {value}\n\n").into()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

fn authorized(settings: &Settings, parts: &Parts) -> Result<(), ApiError> {
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
fn model_asked_for(body: &Bytes, settings: &Settings) -> String {
    let named =
        serde_json::from_slice::<Value>(body).ok().and_then(|request| Some(request.get("model")?.as_str()?.to_owned()));
    named.or_else(|| settings.models.first().cloned()).unwrap_or_default()
}

fn models(settings: &Settings) -> Value {
    let list: Vec<Value> = settings.models.iter().map(|id| model(id)).collect();
    json!({"object": "list", "data": list})
}

fn model(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": 1_715_367_049, "owned_by": "system"})
}

impl ApiError {
    fn response(&self) -> Response<Steps> {
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
