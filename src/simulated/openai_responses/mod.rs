//! OpenAI's responses: `POST /v1/responses`.

mod render;
mod request;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response};

use self::render::Stamp;
use super::SimulatedFault;
use super::answer::{Answer, Ending, Rendered};
use super::builder::Settings;
use super::exchange::Outcome;
use super::openai::error::ApiError;
use super::openai::{self, authorized, model_asked_for, text};
use super::script::Steps;
use super::server::Server;

/// Where requests of this API go.
pub(super) const PATH: &str = "/v1/responses";

/// What one request is told while the provider is healthy.
pub(super) fn outcome(server: &Server, parts: &Parts, body: &Bytes) -> Outcome {
    healthy(server, parts, body).unwrap_or_else(|error| Outcome::Plain(error.response()))
}

fn healthy(server: &Server, parts: &Parts, body: &Bytes) -> Result<Outcome, ApiError> {
    let settings = &server.settings;
    authorized(settings, parts)?;
    if parts.method != Method::POST {
        return Err(ApiError::only_post());
    }
    let manner = server.manner();
    let request = request::parse(body, manner.refuses_prefill)?;
    let (answer, ending) = Answer::to(&request.asked, settings, manner.continuation).within(&request.asked);
    let stamp = Stamp::new(server, ending == Ending::Length);
    let rendered = if (request.asked.stream && !manner.style.json) || manner.style.events {
        Rendered::Stream(render::events(&request, &answer, &stamp, server))
    } else {
        Rendered::Whole(text(&render::whole(&request, &answer, &stamp, server)))
    };
    Ok(Outcome::Answer {
        rendered,
        error_event: render::error_events(&request, &stamp),
        error_body: text(&render::failed(&request, &stamp)),
        end_event: Bytes::new(),
    })
}

/// The answer to a fault that is an answer of its own, whatever was asked. Where this API words it otherwise than the
/// others of OpenAI's, it does so here.
pub(super) fn fault(
    fault: &SimulatedFault,
    parts: &Parts,
    body: &Bytes,
    settings: &Settings,
) -> Option<Response<Steps>> {
    let error = match fault {
        SimulatedFault::ModelNotFound => request::model_not_found(&model_asked_for(body, settings)),
        SimulatedFault::ContextLengthExceeded => request::context_length_exceeded(),
        SimulatedFault::UnsupportedParameter => request::unsupported_parameter(),
        fault => openai::error_of(fault, parts, body, settings)?,
    };
    Some(error.response())
}
