//! Gemini: `POST /v1beta/models/{model}:generateContent` and `:streamGenerateContent`, `GET /v1beta/models`; under `/v1` and
//! `/v1alpha` too.

mod error;
mod render;
mod request;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use percent_encoding::percent_decode_str;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use self::error::ApiError;
use super::SimulatedFault;
use super::answer::{Answer, Rendered};
use super::builder::Settings;
use super::exchange::{self, Outcome};
use super::script::Steps;
use super::server::Server;

/// What a path asks for.
#[derive(Clone, Debug, PartialEq)]
struct Target {
    version: String,
    /// Behind `models/`.
    model: Option<String>,
    method: Option<String>,
}

impl Target {
    /// Of a path under one of the versions; of `/v1`, which is others' too, only what names a method.
    fn of(path: &str) -> Option<Self> {
        let (version, rest) = path.strip_prefix('/')?.split_once('/')?;
        let rest = if rest == "models" { "" } else { rest.strip_prefix("models/")? };
        let (model, method) = rest.rsplit_once(':').map_or((rest, None), |(model, method)| (model, Some(method)));
        let known = match version {
            "v1beta" | "v1alpha" => true,
            "v1" => method.is_some_and(|method| method.ends_with("Content") || method == "countTokens"),
            _ => false,
        };
        let model = percent_decode_str(model).decode_utf8_lossy().into_owned();
        known.then(|| Target {
            version: version.to_owned(),
            model: Some(model).filter(|model| !model.is_empty()),
            method: method.map(str::to_owned),
        })
    }
}

/// Whether a path is Google's.
pub(super) fn is_known(path: &str) -> bool {
    Target::of(path).is_some()
}

/// What one request is told while the provider is healthy.
pub(super) fn outcome(server: &Server, parts: &Parts, body: &Bytes) -> Outcome {
    healthy(server, parts, body).unwrap_or_else(|error| Outcome::Plain(error.response(wants_array(parts))))
}

fn healthy(server: &Server, parts: &Parts, body: &Bytes) -> Result<Outcome, ApiError> {
    let settings = &server.settings;
    authorized(settings, parts)?;
    let not_found = || ApiError::unknown_path(parts.uri.path());
    let asked = Target::of(parts.uri.path()).ok_or_else(not_found)?;
    let post = parts.method == Method::POST;
    let events = has_parameter(parts, "alt=sse");
    let rendered = match (asked.method.as_deref(), asked.model) {
        (Some(method @ ("generateContent" | "streamGenerateContent")), Some(model)) if post => {
            let manner = server.manner();
            let stream = method == "streamGenerateContent";
            let asked = request::parse(&model, stream, body, manner.refuses_prefill)?;
            let (answer, ending) = Answer::to(&asked, settings, manner.continuation).within(&asked);
            let answer = render::Answered::new(&asked, answer, &ending, server);
            if (stream && !manner.style.json) || manner.style.events {
                Rendered::Stream(answer.events(events || !stream, settings.chunks))
            } else {
                Rendered::Whole(text(&answer.whole()))
            }
        }
        (None, None) if parts.method == Method::GET => Rendered::Whole(text(&models(settings))),
        (None, Some(id)) if parts.method == Method::GET => match settings.models.contains(&id) {
            true => Rendered::Whole(text(&model(&id))),
            false => return Err(ApiError::model_not_found(&id, &asked.version)),
        },
        _ => return Err(not_found()),
    };
    let error = ApiError::overloaded().body();
    let array = matches!(&rendered, Rendered::Stream(events) if events.array);
    Ok(Outcome::Answer {
        rendered,
        error_event: if array { error.to_string().into() } else { event(&error) },
        error_body: text(&error),
        end_event: Bytes::new(),
    })
}

/// The answer to a fault that is an answer of its own, whatever was asked.
pub(super) fn fault(fault: &SimulatedFault, parts: &Parts) -> Option<Response<Steps>> {
    let asked = Target::of(parts.uri.path());
    let model = asked.as_ref().and_then(|asked| asked.model.as_deref()).unwrap_or_default();
    let version = asked.as_ref().map_or("v1beta", |asked| &asked.version);
    let error = match fault {
        SimulatedFault::RateLimited { retry_after } => ApiError::rate_limited(model, *retry_after),
        SimulatedFault::QuotaExhausted => ApiError::quota_exhausted(model),
        SimulatedFault::Overloaded => ApiError::overloaded(),
        SimulatedFault::ServerError => ApiError::server_error(),
        SimulatedFault::Unauthorized => ApiError::wrong_key(),
        SimulatedFault::Forbidden => ApiError::forbidden(),
        SimulatedFault::ModelNotFound => ApiError::model_not_found(model, version),
        SimulatedFault::ContextLengthExceeded => ApiError::context_length_exceeded(),
        SimulatedFault::UnsupportedParameter => ApiError::unsupported_parameter(),
        SimulatedFault::BadRequest => ApiError::bad_request(),
        // No error here, but an answer without one.
        SimulatedFault::ContentFiltered => return Some(blocked(model, parts)),
        _ => return None,
    };
    Some(error.response(wants_array(parts)))
}

/// A prompt that its filters decline.
fn blocked(model: &str, parts: &Parts) -> Response<Steps> {
    let answer = json!({
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
        "usageMetadata": {"promptTokenCount": 7, "totalTokenCount": 7},
        "modelVersion": model,
    });
    let streams =
        Target::of(parts.uri.path()).is_some_and(|asked| asked.method.as_deref() == Some("streamGenerateContent"));
    match (streams, has_parameter(parts, "alt=sse")) {
        (true, true) => exchange::events(event(&answer)),
        (true, false) => exchange::json(StatusCode::OK, &json!([answer])),
        (false, _) => exchange::json(StatusCode::OK, &answer),
    }
}

/// The headers that come with every answer that does not bring its own.
pub(super) fn decorate(headers: &mut HeaderMap) {
    const ALWAYS: [(&str, &str); 5] = [
        ("server", "scaffolding on HTTPServer2"),
        ("server-timing", "gfet4t7; dur=12"),
        ("vary", "Origin"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "SAMEORIGIN"),
    ];
    if headers.contains_key(http::header::SERVER) {
        // A proxy's own page.
        return;
    }
    for (name, value) in ALWAYS {
        headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
}

fn text(value: &Value) -> Bytes {
    value.to_string().into()
}

fn event(value: &Value) -> Bytes {
    format!("data: {value}\r\n\r\n").into()
}

fn has_parameter(parts: &Parts, parameter: &str) -> bool {
    parts.uri.query().unwrap_or_default().split('&').any(|one| one == parameter)
}

/// Whether a stream is to come as an array.
fn wants_array(parts: &Parts) -> bool {
    parts.uri.path().ends_with(":streamGenerateContent") && !has_parameter(parts, "alt=sse")
}

/// The key, in any of the ways in which one is given.
fn key(parts: &Parts) -> Option<String> {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = header("authorization").and_then(|value| value.split_once(' '));
    let bearer =
        bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key.trim().to_owned());
    let in_query = parts.uri.query().unwrap_or_default().split('&').find_map(|one| one.strip_prefix("key="));
    let in_query = || in_query.map(|key| percent_decode_str(key).decode_utf8_lossy().into_owned());
    header("x-goog-api-key").map(str::to_owned).or_else(in_query).or(bearer)
}

fn authorized(settings: &Settings, parts: &Parts) -> Result<(), ApiError> {
    let Some(wanted) = &settings.key else {
        return Ok(());
    };
    match key(parts) {
        Some(given) if given == wanted.expose_secret() => Ok(()),
        Some(_) => Err(ApiError::wrong_key()),
        None => Err(ApiError::missing_key()),
    }
}

fn models(settings: &Settings) -> Value {
    let list: Vec<Value> = settings.models.iter().map(|id| model(id)).collect();
    json!({"models": list})
}

fn model(id: &str) -> Value {
    json!({
        "name": format!("models/{id}"),
        "version": "001",
        "displayName": id,
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    })
}
