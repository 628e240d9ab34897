//! The endpoints that generate, of every dialect: find the route and hand over to its stack.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{body::Body, extract::State, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header, request::Parts};
use http_body_util::Full;
use tokio::time::Instant;

use super::{
    Gateway, Live, Stack,
    access::{Client, Held, HeldBody, Slots},
    cut::CutBody,
    headers,
    keep_alive::{self, KeepAlive},
    stack::{Call, StackBody},
    terminated::TerminatedBody,
};
use crate::{
    BoxError, Dialect, Fault, FaultKind, RequestContext, RequestOutline, Requirements,
    body::{Asker, Collect},
    cache::CacheBody,
    config::Config,
    context::Accounts,
    dialect,
    rate_limit::Asking,
    telemetry::{Record, TelemetryBody},
};

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
    let context = RequestContext::new().with_dialect(dialect).with_request_id(request_id.clone());
    let prepared = match admit(&gateway, &live, &parts) {
        Ok(admitted) => match receive(&live, body).await {
            Ok(body) => prepare(&gateway, &live, admitted, parts, body, context.clone()),
            Err(fault) => Err(fault),
        },
        Err(fault) => Err(fault),
    };
    let mut response = match prepared {
        Ok(Prepared { answering, keep_alive, held }) => {
            let response = match keep_alive {
                None => answering.await.map(KeepAlive::off),
                Some(every) => keep_alive::answer(Box::pin(answering), dialect, every).await,
            };
            response.map(|body| HeldBody::new(body, Some(held)))
        }
        Err(fault) => refuse(&gateway, &context, dialect, fault),
    };
    if gateway.is_stopping() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    headers::to_client(response.headers_mut(), &context, request_id);
    response
}

/// What may be answered: who asks, if that matters, and the place that it takes.
type Admitted<'a> = (Option<&'a Arc<Client>>, Held);

/// Looks at all that can be known before a byte of the body is read.
fn admit<'a>(gateway: &Gateway, live: &'a Live, parts: &Parts) -> Result<Admitted<'a>, Fault> {
    let Config { limits, .. } = &live.config;
    if gateway.is_stopping() {
        return Err(stopping("the gateway is being stopped").unsent());
    }
    let client = live.access.client(parts)?;
    if headers::length(parts) > limits.max_headers {
        let message = format!("the request's head is longer than {} bytes", limits.max_headers);
        let long = Fault::new(FaultKind::BadRequest, message).with_code("headers_too_large");
        return Err(long.with_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE).unsent());
    }
    Ok((client, gateway.inner.slots.take(limits.max_requests)?))
}

/// The whole of a request's body, if it comes in time and is not too long.
async fn receive<B>(live: &Live, body: B) -> Result<Bytes, Fault>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let Config { limits, max_body, .. } = &live.config;
    match tokio::time::timeout(limits.body_timeout, Collect::new(body, *max_body)).await {
        Ok(collected) => collected.map(on_its_own).map_err(|error| error.into_fault(*max_body)),
        Err(_) => {
            let late = Fault::new(FaultKind::BadRequest, "the request's body did not come in time");
            Err(late.with_status(StatusCode::REQUEST_TIMEOUT).with_code("request_timeout").unsent())
        }
    }
}

fn refuse(gateway: &Gateway, context: &RequestContext, dialect: Dialect, fault: Fault) -> http::Response<AnswerBody> {
    let record = Record::begin(&gateway.inner.unrouted, context.clone(), "");
    let failure: http::Response<StackBody> = Asker::speaking(dialect).failure(fault).map(CacheBody::passing);
    let failure = failure.map(|body| CutBody::new(body, None));
    let mut response = record.attach(failure).map(|body| {
        let body = TerminatedBody::new(body, dialect, false);
        HeldBody::new(KeepAlive::off(body), None)
    });
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// The body in memory of its own, if it is short: it came in its connection's read buffer, which would be kept as long as the
/// answer runs, with another one in its place.
fn on_its_own(body: Bytes) -> Bytes {
    const READ_BUFFER: usize = 8 << 10;
    if body.len() < READ_BUFFER { Bytes::copy_from_slice(&body) } else { body }
}

/// The body of an answer: what the stack gives, with a stream's unclean end made known, its silences filled if the route says
/// so, and what the request holds.
pub(super) type AnswerBody = HeldBody<KeepAlive<TerminatedBody<TelemetryBody<CutBody<StackBody>>>>>;

/// A request whose route is known.
struct Prepared {
    answering: Answering,
    keep_alive: Option<Duration>,
    held: Held,
}

fn prepare(
    gateway: &Gateway,
    live: &Live,
    (client, held): Admitted<'_>,
    mut parts: Parts,
    body: Bytes,
    mut context: RequestContext,
) -> Result<Prepared, Fault> {
    let dialect = context.dialect().unwrap_or(Dialect::OpenAiChat);
    // Else the first provider that reads all of it would say so, and until then each of them might fail.
    if let Err(error) = std::str::from_utf8(&body) {
        let message = format!("the request body is not UTF-8 at byte {}", error.valid_up_to());
        return Err(Fault::new(FaultKind::BadRequest, message).with_code("invalid_json").unsent());
    }
    let outline = dialect::outline(dialect, parts.uri.path(), &body)
        .unwrap_or_else(|| Err(Fault::new(FaultKind::Unsupported, "this dialect is not served here")))?;
    let model = model(&outline)?;
    let index = live.config.routes.find_index(&model).ok_or_else(|| {
        Fault::new(FaultKind::BadRequest, format!("the model `{model}` is not served here"))
            .with_status(http::StatusCode::NOT_FOUND)
            .with_code("model_not_found")
    })?;
    let policy = live.config.routes.iter().nth(index).map(|route| &route.policy);
    let streams = outline.streaming() && !dialect::translate::wants_array(&parts.uri);
    let keep_alive = policy.and_then(|policy| policy.keep_alive).filter(|_| streams);
    context = context.with_outline(outline);
    if let Some(asked) = asked(&parts.headers)? {
        context = context.with_requirements(asked);
    }
    let (mut call, mut asking) = (None, None);
    if let Some(client) = client {
        if !client.may_ask(index) {
            return Err(Client::forbidden(&model));
        }
        call = client.take(&context)?;
        asking = client.ask(&context);
        context = context.with_client(client.name().clone()).with_tenant(client.tenant().clone());
    }
    let accounts = Accounts { route: live.accounts[index].clone(), client: client.map(|it| it.account().clone()) };
    if asking.is_none() {
        let_in(&accounts);
    }
    context = context.with_accounts(accounts.clone());
    // What axum and hyper keep there is of this connection's, and would be cloned for each attempt.
    parts.extensions.clear();
    parts.extensions.insert(context.clone());
    let request = Request::from_parts(parts, Full::new(body));
    let stack = &live.stacks[index];
    let mut answering = Answering::new(stack, request, context, model, gateway.inner.slots.clone());
    if let Some(asking) = asking {
        answering.call = permitted(asking, answering.call, accounts, dialect);
    }
    Ok(Prepared { answering, keep_alive, held: held.and(call) })
}

/// Counts a request that nothing of the gateway's stands against.
fn let_in(accounts: &Accounts) {
    let now = Instant::now();
    accounts.route.requested(now);
    accounts.client.iter().for_each(|account| account.requested(now));
}

/// Waits until all replicas have room for a request of that key, and only then calls.
fn permitted(asking: Asking, call: Call<StackBody>, accounts: Accounts, dialect: Dialect) -> Call<StackBody> {
    Box::pin(async move {
        match asking.await {
            Ok(()) => {
                let_in(&accounts);
                call.await
            }
            Err(refusal) => Ok(Asker::speaking(dialect).failure(Client::used_up(refusal)).map(CacheBody::passing)),
        }
    })
}

/// Waits for a route's answer, within the span of the request.
struct Answering {
    call: Call<StackBody>,
    /// `None` once it is answered.
    record: Option<Record>,
    context: RequestContext,
    /// The model that the client asked for.
    model: String,
    slots: Slots,
    dialect: Dialect,
    /// Whether a stream is an array instead of events.
    array: bool,
}

impl Answering {
    fn new(stack: &Stack, request: Request<Full<Bytes>>, context: RequestContext, model: String, slots: Slots) -> Self {
        let record = Record::begin(&stack.telemetry, context.clone(), request.uri().path());
        let array = dialect::translate::wants_array(request.uri());
        let dialect = context.dialect().unwrap_or(Dialect::OpenAiChat);
        Answering { call: stack.call(request), record: Some(record), context, model, slots, dialect, array }
    }
}

impl Future for Answering {
    type Output = http::Response<TerminatedBody<TelemetryBody<CutBody<StackBody>>>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(record) = &this.record else { return Poll::Pending };
        let response = if this.slots.are_cut() {
            let fault = stopping("the gateway was stopped before the answer began");
            Asker::speaking(this.dialect).failure(fault).map(CacheBody::passing)
        } else {
            match ready!(record.within(|| this.call.as_mut().poll(cx))) {
                Ok(response) => response,
                Err(never) => match never {},
            }
        };
        let Some(record) = this.record.take() else { return Poll::Pending };
        let slots = this.slots.clone();
        let response = record.attach(response.map(|body| CutBody::new(body, Some(slots))));
        let mut response = response.map(|body| TerminatedBody::new(body, this.dialect, this.array));
        headers::name_target(response.headers_mut(), &this.context, &this.model);
        Poll::Ready(response)
    }
}

/// That the gateway answers nobody any more.
fn stopping(message: &'static str) -> Fault {
    let fault = Fault::new(FaultKind::Overloaded, message).with_code("stopping");
    fault.with_retry_after(Duration::from_secs(1))
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
