//! OpenAI's chat completions: `POST /v1/chat/completions`, `GET /v1/models`.

mod embeddings;
mod render;
mod request;
mod rules;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response};
use serde_json::{Value, json};

use super::SimulatedFault;
use super::answer::{Answer, Rendered};
use super::builder::Settings;
use super::exchange::Outcome;
use super::openai::error::ApiError;
use super::openai::{self, authorized, text};
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
        "/v1/embeddings" if post => Rendered::Whole(text(&embeddings::answer(body)?)),
        "/v1/chat/completions" | "/v1/embeddings" => return Err(ApiError::only_post()),
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
    openai::error_of(fault, parts, body, settings).map(|error| error.response())
}

const DONE: &[u8] = b"data: [DONE]\n\n";

fn event(value: &Value) -> Bytes {
    format!("data: {value}\n\n").into()
}

fn models(settings: &Settings) -> Value {
    let list: Vec<Value> = settings.models.iter().map(|id| model(id)).collect();
    json!({"object": "list", "data": list})
}

fn model(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": 1_715_367_049, "owned_by": "system"})
}
