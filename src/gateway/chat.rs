//! `POST /v1/chat/completions`: finds the route and hands over to its stack.

use axum::{body::Body, extract::State, response::Response};
use bytes::Bytes;
use http::{HeaderMap, Request, request::Parts};
use http_body_util::Full;
use tower_service::Service;

use super::{Gateway, failure, headers, terminated::TerminatedBody};
use crate::{
    Dialect, Fault, FaultKind, RequestContext, RequestOutline, Requirements,
    body::{Collect, collect::CollectError},
    dialect,
};

const DIALECT: Dialect = Dialect::OpenAiChat;

pub(super) async fn completions(State(gateway): State<Gateway>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let request_id = headers::request_id(&parts.headers);
    let collected = Collect::new(body, gateway.inner.config.max_body).await;
    let (mut response, context) = match prepare(&gateway, parts, collected) {
        Ok(prepared) => prepared.answer().await,
        Err(fault) => (failure::response(DIALECT, &fault), RequestContext::new()),
    };
    headers::to_client(response.headers_mut(), &context, request_id);
    response
}

/// A request whose route is known.
struct Prepared<S> {
    service: S,
    request: Request<Full<Bytes>>,
    context: RequestContext,
    /// The model that the client asked for.
    model: String,
}

fn prepare(
    gateway: &Gateway,
    mut parts: Parts,
    body: Result<Bytes, CollectError>,
) -> Result<Prepared<crate::FailoverService<super::Upstream>>, Fault> {
    let body = body.map_err(|error| unreadable(error, gateway.inner.config.max_body))?;
    let outline = match dialect::outline(DIALECT, &body) {
        Some(Ok(outline)) => outline,
        Some(Err(malformed)) => {
            let message = format!("the request body is not a JSON object: malformed at byte {}", malformed.at);
            return Err(Fault::new(FaultKind::BadRequest, message).with_code("invalid_json"));
        }
        None => return Err(Fault::new(FaultKind::Unsupported, "this dialect is not served here")),
    };
    let model = model(&outline)?;
    let index = gateway.inner.config.routes.find_index(&model).ok_or_else(|| {
        Fault::new(FaultKind::BadRequest, format!("the model `{model}` is not served here"))
            .with_status(http::StatusCode::NOT_FOUND)
            .with_code("model_not_found")
    })?;
    let mut context = RequestContext::new().with_dialect(DIALECT).with_outline(outline);
    if let Some(asked) = asked(&parts.headers)? {
        context = context.with_requirements(asked);
    }
    // What axum and hyper keep there is of this connection's, and would be cloned for each attempt.
    parts.extensions.clear();
    parts.extensions.insert(context.clone());
    let request = Request::from_parts(parts, Full::new(body));
    Ok(Prepared { service: gateway.inner.services[index].clone(), request, context, model })
}

impl Prepared<crate::FailoverService<super::Upstream>> {
    async fn answer(mut self) -> (Response, RequestContext) {
        // Failover is always ready; its error cannot occur.
        let response = match self.service.call(self.request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let mut response = response.map(|body| Body::new(TerminatedBody::new(body, DIALECT)));
        headers::name_target(response.headers_mut(), &self.context, &self.model);
        (response, self.context)
    }
}

fn model(outline: &RequestOutline) -> Result<String, Fault> {
    let model = outline.model_json().and_then(|json| serde_json::from_slice::<String>(json).ok());
    model.ok_or_else(|| {
        Fault::new(FaultKind::BadRequest, "the request names no model: `model` must be a string")
            .with_code("missing_required_parameter")
    })
}

/// What the client asks for in headers of ours.
fn asked(headers: &HeaderMap) -> Result<Option<Requirements>, Fault> {
    let tags: Vec<_> = headers.get_all("x-failover-tags").iter().collect();
    let most = headers.get("x-failover-max-ttft");
    if tags.is_empty() && most.is_none() {
        return Ok(None);
    }
    let mut needs = Requirements::default();
    let unreadable = |header| {
        let message = format!("the header {header} cannot be read");
        Fault::new(FaultKind::BadRequest, message).with_code("invalid_header")
    };
    for value in tags {
        let list = value.to_str().map_err(|_| unreadable("x-failover-tags"))?;
        needs.tags.extend(list.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(Into::into));
    }
    if let Some(value) = most {
        let text = value.to_str().ok().and_then(|text| humantime::parse_duration(text).ok());
        needs.max_time_to_first_output =
            Some(text.filter(|most| !most.is_zero()).ok_or_else(|| unreadable("x-failover-max-ttft"))?);
    }
    Ok(Some(needs))
}

fn unreadable(error: CollectError, max_body: usize) -> Fault {
    match error {
        CollectError::TooLong => {
            Fault::new(FaultKind::PayloadTooLarge, format!("the request is longer than {max_body} bytes"))
        }
        CollectError::Body(_) => Fault::new(FaultKind::BadRequest, "the request's body broke off"),
    }
}
