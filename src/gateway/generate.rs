//! The endpoints that generate, of every dialect: find the route and hand over to its stack.

use std::{future::Future, pin::Pin, time::Duration};

use axum::{body::Body, extract::State, response::Response};
use bytes::Bytes;
use http::{HeaderMap, Request, request::Parts};
use http_body_util::Full;
use tower_layer::Layer;
use tower_service::Service;

use super::{Gateway, Live, Stack, Upstream, headers, terminated::TerminatedBody};
use crate::{
    BoxError, Dialect, FailoverService, Fault, FaultKind, RequestContext, RequestOutline, Requirements, ResponseBody,
    body::{Asker, Collect},
    dialect,
    recovery::RecoveryBody,
    telemetry::{Record, TelemetryBody},
};

/// How long a request's body may take to come. It also bounds how long one that never comes can hold up a stop.
const BODY_PATIENCE: Duration = Duration::from_secs(60);

/// The paths that are served, as axum writes them.
pub(super) const PATHS: [&str; 7] = [
    "/v1/chat/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    // The SDKs differ in which version they ask for.
    "/v1beta/models/{*call}",
    "/v1alpha/models/{*call}",
    "/v1/models/{*call}",
];

/// Whose endpoint that path is.
pub(super) fn dialect_of(path: &str) -> Option<Dialect> {
    match path {
        // Embeddings are OpenAI's too: errors look the same, and so does the model.
        "/v1/chat/completions" | "/v1/embeddings" => Some(Dialect::OpenAiChat),
        "/v1/responses" => Some(Dialect::OpenAiResponses),
        "/v1/messages" => Some(Dialect::AnthropicMessages),
        path => {
            let rest = ["/v1beta/", "/v1/", "/v1alpha/"].iter().find_map(|version| path.strip_prefix(version))?;
            rest.strip_prefix("models/")?;
            Dialect::from_path(path).filter(|dialect| *dialect == Dialect::Gemini)
        }
    }
}

/// Where it stands in an axum router.
pub(super) async fn route(State(gateway): State<Gateway>, request: Request<Body>) -> Response {
    match dialect_of(request.uri().path()) {
        Some(dialect) => generate(gateway, dialect, request).await.map(Body::new),
        None => super::unknown_path(request.uri().path()),
    }
}

pub(super) async fn generate<B>(gateway: Gateway, dialect: Dialect, request: Request<B>) -> http::Response<AnswerBody>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let (parts, body) = request.into_parts();
    let request_id = headers::request_id(&parts.headers);
    let live = gateway.live();
    let max_body = live.config.max_body;
    let collected = match tokio::time::timeout(BODY_PATIENCE, Collect::new(body, max_body)).await {
        Ok(collected) => collected.map_err(|error| error.into_fault(max_body)),
        Err(_) => {
            let late = Fault::new(FaultKind::BadRequest, "the request's body did not come in time");
            Err(late.with_status(http::StatusCode::REQUEST_TIMEOUT))
        }
    };
    let context = RequestContext::new().with_dialect(dialect).with_request_id(request_id.clone());
    let prepared = collected.and_then(|body| prepare(&live, dialect, parts, on_its_own(body), context.clone()));
    let (mut response, context) = match prepared {
        Ok(prepared) => prepared.answer().await,
        Err(fault) => {
            let record = Record::begin(&gateway.inner.unrouted, context.clone(), "");
            let failure: http::Response<ResponseBody<FailoverBody>> = Asker::speaking(dialect).failure(fault);
            let failure = record.attach(failure.map(RecoveryBody::passing));
            (failure.map(|body| answer_body(body, dialect, false)), context)
        }
    };
    headers::to_client(response.headers_mut(), &context, request_id);
    response
}

/// The body in memory of its own, if it is short: it came in its connection's read buffer, which would be kept as long as the
/// answer runs, with another one in its place.
fn on_its_own(body: Bytes) -> Bytes {
    const READ_BUFFER: usize = 8 << 10;
    if body.len() < READ_BUFFER { Bytes::copy_from_slice(&body) } else { body }
}

/// The body of an answer: what the stack gives, with a stream's unclean end made known.
pub(super) type AnswerBody = TerminatedBody<StackBody>;

type StackBody = TelemetryBody<RecoveryBody<FailoverService<Upstream>, FailoverBody>>;
type FailoverBody = <<FailoverService<Upstream> as Service<Request<Full<Bytes>>>>::Response as IntoBody>::Body;

fn answer_body(body: StackBody, dialect: Dialect, array: bool) -> AnswerBody {
    TerminatedBody::new(body, dialect, array)
}

/// Names the body of a response type.
pub(super) trait IntoBody {
    type Body;
}

impl<B> IntoBody for http::Response<B> {
    type Body = B;
}

/// A request whose route is known.
struct Prepared {
    stack: Stack,
    request: Request<Full<Bytes>>,
    context: RequestContext,
    dialect: Dialect,
    /// The model that the client asked for.
    model: String,
}

fn prepare(
    live: &Live,
    dialect: Dialect,
    mut parts: Parts,
    body: Bytes,
    context: RequestContext,
) -> Result<Prepared, Fault> {
    let outline = dialect::outline(dialect, parts.uri.path(), &body)
        .unwrap_or_else(|| Err(Fault::new(FaultKind::Unsupported, "this dialect is not served here")))?;
    let model = model(&outline)?;
    let index = live.config.routes.find_index(&model).ok_or_else(|| {
        Fault::new(FaultKind::BadRequest, format!("the model `{model}` is not served here"))
            .with_status(http::StatusCode::NOT_FOUND)
            .with_code("model_not_found")
    })?;
    let mut context = context.with_outline(outline);
    if let Some(asked) = asked(&parts.headers)? {
        context = context.with_requirements(asked);
    }
    // What axum and hyper keep there is of this connection's, and would be cloned for each attempt.
    parts.extensions.clear();
    parts.extensions.insert(context.clone());
    let request = Request::from_parts(parts, Full::new(body));
    Ok(Prepared { stack: live.stacks[index].clone(), request, context, dialect, model })
}

impl Prepared {
    async fn answer(self) -> (http::Response<AnswerBody>, RequestContext) {
        let Stack { mut service, recovery, telemetry } = self.stack;
        let record = Record::begin(&telemetry, self.context.clone(), self.request.uri().path());
        let array = dialect::translate::wants_array(self.request.uri());
        // Boxed, because it is the most of this future by far, and hyper moves that about while it is set up.
        // Both are always ready.
        let response = match recovery {
            None => within(&record, Box::pin(service.call(self.request)))
                .await
                .map(|response| response.map(|body| RecoveryBody::passing(ResponseBody::inner(body)))),
            Some(recovery) => within(&record, Box::pin(recovery.layer(service).call(self.request))).await,
        };
        let response = match response {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let response = record.attach(response);
        let mut response = response.map(|body| answer_body(body, self.dialect, array));
        headers::name_target(response.headers_mut(), &self.context, &self.model);
        (response, self.context)
    }
}

/// Waits within the span of the request.
async fn within<F: Future + Unpin>(record: &Record, mut call: F) -> F::Output {
    std::future::poll_fn(|cx| record.within(|| Pin::new(&mut call).poll(cx))).await
}

fn model(outline: &RequestOutline) -> Result<String, Fault> {
    outline.model().map(std::borrow::Cow::into_owned).ok_or_else(|| {
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
