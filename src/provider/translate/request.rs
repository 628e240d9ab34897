//! The client's request in the provider's dialect.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use http_body_util::Full;

use super::Pair;
use crate::{
    Dialect, Fault, FaultKind, Provider, RequestContext, Target,
    body::whole,
    dialect::{
        canonical::{Destination, Losses, Stops, Text, base64},
        foreign, translate,
    },
};

/// What has to be known when the answer comes.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) pair: Pair,
    pub(super) context: RequestContext,
    pub(super) streaming: bool,
    pub(super) include_usage: bool,
    /// Whether the client wants the stream as an array: Gemini's, unless events are asked for.
    pub(super) array: bool,
    /// The longest answer in one piece, in bytes.
    pub(super) max_answer: usize,
    /// Stop sequences that the target cannot look out for itself.
    pub(super) stops: Vec<Text<'static>>,
}

impl Exchange {
    /// What ends the answer, where the target does not.
    pub(super) fn stops(&self) -> Option<Stops> {
        (!self.stops.is_empty()).then(|| Stops::new(&self.stops))
    }
}

/// The request as it is, but for thoughts of other models that its provider would refuse.
pub(super) fn without_foreign(request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = whole(body);
    let kept = Dialect::from_path(parts.uri.path()).and_then(|dialect| foreign::without_thoughts(dialect, &body));
    Request::from_parts(parts, Full::new(kept.map_or(body, Bytes::from)))
}

/// The request as it is, but that its stream comes as events: those can be watched.
fn as_events(request: Request<Full<Bytes>>, pair: Pair, max_answer: usize) -> (Request<Full<Bytes>>, Exchange) {
    let (mut parts, body) = request.into_parts();
    let query = parts.uri.query().map(|query| format!("{query}&")).unwrap_or_default();
    if let Ok(uri) = Uri::try_from(format!("{}?{query}alt=sse", parts.uri.path())) {
        parts.uri = uri;
    }
    let context = RequestContext::of(&parts.extensions).cloned().unwrap_or_default();
    let exchange =
        Exchange { pair, context, streaming: true, include_usage: true, array: true, max_answer, stops: Vec::new() };
    (Request::from_parts(parts, body), exchange)
}

/// Headers that mean the same in every API, or nothing to any.
const COMMON: [HeaderName; 5] = [
    header::USER_AGENT,
    header::ACCEPT_LANGUAGE,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("idempotency-key"),
];

/// Which version of its API Anthropic is to speak: the one that all its SDKs name.
const ANTHROPIC_VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));

pub(super) fn translated(
    request: Request<Full<Bytes>>,
    pair: Pair,
    max_answer: usize,
) -> Result<(Request<Full<Bytes>>, Exchange), Fault> {
    let wants_array = translate::wants_array(request.uri());
    if pair.client == pair.provider {
        return Ok(as_events(request, pair, max_answer));
    }
    let (mut parts, body) = request.into_parts();
    let unsent = |kind, message| Fault::new(kind, message).unsent();
    let Some(context) = RequestContext::of(&parts.extensions).cloned() else {
        return Err(unsent(FaultKind::Unavailable, "the request has no context to say whom it is for"));
    };
    let (Some(target), body) = (context.target(), whole(body)) else {
        return Err(unsent(FaultKind::Unavailable, "the request is for no target"));
    };
    let malformed = |at| {
        let message = format!("the request body cannot be translated: malformed at byte {at}");
        Fault::new(FaultKind::BadRequest, message).with_code("invalid_json").unsent()
    };
    let text = std::str::from_utf8(&body).map_err(|error| malformed(error.valid_up_to()))?;
    let mut request = translate::decode_request(pair.client, text).map_err(|error| malformed(error.at))?;
    if !request.says_something() {
        // The other dialect would make something up, for it must have something.
        let nothing =
            unsent(FaultKind::BadRequest, "nothing in the request can be told to a provider of another dialect");
        return Err(nothing.with_code("invalid_request"));
    }
    base64::standardise(&mut request);
    // Gemini says these in its path.
    let named_in_path = translate::model_of_path(parts.uri.path());
    if request.model.is_none() {
        request.model = named_in_path.as_deref().map(Text::plain);
    }
    request.stream |= pair.client == Dialect::Gemini && translate::streams(parts.uri.path());
    let (streaming, include_usage) = (request.stream, request.include_usage);
    // Whoever counts wants it, whether the client does or not.
    request.include_usage = streaming;
    let most = translate::most_stops(pair.provider);
    let stops = match request.stop.len() > most {
        true => request.stop.iter().map(|stop| stop.borrowed().into_owned()).collect(),
        false => Vec::new(),
    };
    request.stop.truncate(most);
    let model = target.model_json().and_then(|json| std::str::from_utf8(json).ok());
    let mut losses = Losses::default();
    let variant = target.provider().map(Provider::variant).unwrap_or_default();
    let destination = Destination { model, capabilities: target.capabilities(), variant };
    let written = translate::encode_request(pair.provider, &request, destination, &mut losses);
    let name = match target.model() {
        Some(name) => Cow::Borrowed(name),
        None => request.model.as_ref().map(Text::decoded).unwrap_or_default(),
    };
    parts.uri = Uri::try_from(translate::path(pair.provider, &name, streaming)).map_err(|error| {
        unsent(FaultKind::BadRequest, "the model's name cannot stand in a URL").with_message(error.to_string())
    })?;
    parts.headers = common(&parts.headers, pair.provider);
    note(&losses, &context, target, pair);
    let exchange =
        Exchange { pair, context: context.clone(), streaming, include_usage, array: wants_array, max_answer, stops };
    Ok((Request::from_parts(parts, Full::new(written.into())), exchange))
}

fn common(headers: &HeaderMap, provider: Dialect) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(8);
    kept.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    kept.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    for name in COMMON {
        if let Some(value) = headers.get(&name) {
            kept.insert(name, value.clone());
        }
    }
    // What is asked of us, not of the provider, is taken out further down; the layers in between may read it.
    for (name, value) in headers.iter().filter(|(name, _)| name.as_str().starts_with("x-failover-")) {
        kept.append(name, value.clone());
    }
    if provider == Dialect::AnthropicMessages {
        let (name, value) = ANTHROPIC_VERSION;
        kept.insert(name, value);
    }
    kept
}

/// Says what of the request could not be said to the target.
fn note(losses: &Losses, context: &RequestContext, target: &Target, pair: Pair) {
    if let Some(names) = names(losses) {
        let (from, to, lost) = (pair.client, pair.provider, names.join(", "));
        tracing::info!(target = %target.id(), %from, %to, %lost, "the target is not told all that was asked");
        context.attempt().into_iter().for_each(|attempt| attempt.lost(&names));
    }
}

/// Says what of the answer could not be said to the client.
pub(super) fn note_of_answer(losses: &Losses, exchange: &Exchange) {
    if let Some(names) = names(losses) {
        let (from, to, lost) = (exchange.pair.provider, exchange.pair.client, names.join(", "));
        let target = exchange.context.target().map(Target::id);
        tracing::debug!(?target, %from, %to, %lost, "the client is not told all that was answered");
        exchange.context.attempt().into_iter().for_each(|attempt| attempt.lost(&names));
    }
}

fn names(losses: &Losses) -> Option<Vec<&'static str>> {
    (!losses.is_empty()).then(|| losses.iter().map(|loss| loss.0).collect())
}
