//! Turns the client's request into the provider's, and transport errors into faults.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::Full;
use percent_encoding::percent_decode_str;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    Fault, FaultKind, Provider, RequestContext, RequestOutline, ResponseBody, StatusClassifier, Target,
    body::{Asker, whole},
    catch_error::{self, CatchError},
    credentials::PickedKey,
    dialect,
    provider::idempotency,
};

/// Sends requests to the provider of their [`Target`]: the outgoing half of a [`ProviderLayer`](super::ProviderLayer).
///
/// Each distinct body that is sent for one request has an `Idempotency-Key` of its own, the same for every retry: the client's,
/// if it sent one and the body is as the client sent it; otherwise one that is derived from the client's, or made up.
#[derive(Clone, Copy, Debug, Default)]
pub struct DispatchLayer {
    meter_streams: bool,
}

impl DispatchLayer {
    /// The layer.
    #[must_use]
    pub const fn new() -> Self {
        DispatchLayer { meter_streams: false }
    }

    /// Whether streams are asked for their usage that would tell none. Default: no.
    ///
    /// The chunk that tells it is for a [`StreamGuard`](super::StreamGuard) around this, which takes it out again.
    #[must_use]
    pub const fn with_meter_streams(mut self, meter_streams: bool) -> Self {
        self.meter_streams = meter_streams;
        self
    }
}

impl<S> Layer<S> for DispatchLayer {
    type Service = Dispatch<S>;

    fn layer(&self, inner: S) -> Dispatch<S> {
        Dispatch { inner: CatchError::new(inner, StatusClassifier), meter_streams: self.meter_streams }
    }
}

/// A client that knows providers: see the [module](crate::provider).
#[derive(Clone, Debug)]
pub struct Dispatch<S> {
    inner: CatchError<S>,
    meter_streams: bool,
}

impl<S, B> Service<Request<Full<Bytes>>> for Dispatch<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    S::Error: 'static,
{
    type Response = Response<ResponseBody<B>>;
    type Error = Infallible;
    type Future = DispatchFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let asker = Asker::of(&request);
        let (inner, metered) = match upstream_request(request, self.meter_streams) {
            Ok((request, metered)) => (self.inner.call_for(asker, request), metered),
            Err(fault) => (catch_error::ResponseFuture::failed(fault, asker, StatusClassifier), false),
        };
        DispatchFuture { inner, metered }
    }
}

pin_project! {
    /// The response of a [`Dispatch`].
    #[derive(Debug)]
    pub struct DispatchFuture<F> {
        #[pin]
        inner: catch_error::ResponseFuture<F, StatusClassifier>,
        metered: bool,
    }
}

impl<F, B, E> Future for DispatchFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: 'static,
{
    type Output = Result<Response<ResponseBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        strip_response(response.headers_mut());
        if *this.metered {
            response.extensions_mut().insert(Metered);
        }
        Poll::Ready(Ok(response))
    }
}

/// The request as the provider is to see it, and whether its stream is asked for its usage by us.
fn upstream_request(request: Request<Full<Bytes>>, meter: bool) -> Result<(Request<Full<Bytes>>, bool), Fault> {
    let (mut parts, body) = request.into_parts();
    // It stays where it is, for whatever is around the client to see whom the request is for.
    let context = parts.extensions.get::<RequestContext>();
    let Some((target, provider)) = context.and_then(addressee) else {
        let message = "the request is for no provider: its RequestContext needs a Target that has one";
        return Err(Fault::new(FaultKind::Unavailable, message).unsent());
    };
    let asked = whole(body);
    let (body, metered) = rewritten(asked.clone(), target, provider, parts.uri.path(), context, meter)?;
    let query = parts.uri.query().and_then(without_key);
    let path = dialect::path_for(provider.dialect(), parts.uri.path(), target.model());
    parts.uri = provider.uri(&path, query.as_deref(), target.model()).map_err(|error| {
        let message = format!("the path cannot be put behind the provider's base URL: {error}");
        Fault::new(FaultKind::BadRequest, message).unsent()
    })?;
    parts.version = http::Version::HTTP_11;
    strip_request(&mut parts.headers);
    // A compressed stream could not be looked into without holding it back.
    parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if parts.method == http::Method::POST {
        let sent = idempotency::Sent { body: &body, asked: &asked, metered };
        idempotency::set(&mut parts.headers, context, target, sent);
    }
    let credentials = provider.credentials();
    let picked = credentials.rotate().then(|| parts.extensions.get::<PickedKey>()).flatten();
    if let Some((name, value)) = picked.map_or_else(|| credentials.header(), |picked| Some(picked.header())) {
        parts.headers.insert(name, value);
    }
    if let Some(context) = context {
        context.sent();
    }
    Ok((Request::from_parts(parts, Full::new(body)), metered))
}

fn addressee(context: &RequestContext) -> Option<(&Target, &Provider)> {
    let target = context.target()?;
    Some((target, target.provider()?))
}

/// Left in a response's extensions where its stream was asked for its usage by us, and not by the client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metered;

/// The body with the target's model in it, asked for its usage if it is to be metered, and every other byte as the client
/// sent it. Says whether it was asked.
fn rewritten(
    body: Bytes,
    target: &Target,
    provider: &Provider,
    path: &str,
    context: Option<&RequestContext>,
    meter: bool,
) -> Result<(Bytes, bool), Fault> {
    let rewrite = |outline: &RequestOutline| {
        (outline.rewritten(target.model_json().map(|json| &json[..]), meter), meter && outline.needs_metering())
    };
    if target.model_json().is_none() && !meter {
        return Ok((body, false));
    }
    if let Some(outline) = context.and_then(RequestContext::outline).filter(|outline| outline.is_of(&body)) {
        return Ok(rewrite(outline));
    }
    match dialect::outline(provider.dialect(), path, &body) {
        Some(outline) if !body.is_empty() => Ok(rewrite(&outline?)),
        _ => Ok((body, false)),
    }
}

/// The query without the parameter in which Gemini's clients send their key, however it is spelt; `None` where nothing is
/// left.
fn without_key(query: &str) -> Option<String> {
    let is_key = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        percent_decode_str(name).eq(*b"key")
    };
    let kept: Vec<_> = query.split('&').filter(|pair| !pair.is_empty() && !is_key(pair)).collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

/// What belongs to one connection and does not go on to the next: RFC 9110, section 7.6.1.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// What is between the client and us: our address, its framing, what proves who it is, and what it asks of us.
fn is_the_clients_own(name: &str) -> bool {
    matches!(
        name,
        "host" | "content-length" | "expect" | "authorization" | "cookie" | "x-api-key" | "api-key" | "x-goog-api-key"
    ) || name.starts_with("x-failover-")
}

fn strip_request(headers: &mut HeaderMap) {
    strip(headers, is_the_clients_own);
}

fn strip_response(headers: &mut HeaderMap) {
    strip(headers, |name| name == "set-cookie");
}

/// Takes out what is hop by hop, by its nature or because `connection` names it, and what is unwanted besides.
fn strip(headers: &mut HeaderMap, unwanted: fn(&str) -> bool) {
    let mut stripped: Vec<HeaderName> = Vec::new();
    for name in headers.keys() {
        if is_hop_by_hop(name.as_str()) || unwanted(name.as_str()) {
            stripped.push(name.clone());
        }
    }
    // `connection` is hop by hop itself, so where it is not among them, it names none.
    if stripped.contains(&header::CONNECTION) {
        let connection = headers.get_all(header::CONNECTION).iter().map(HeaderValue::as_bytes);
        let named = connection.flat_map(|value| value.split(|byte| *byte == b','));
        stripped.extend(named.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()));
    }
    stripped.iter().for_each(|name| _ = headers.remove(name));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Credentials, Dialect};

    fn target(model: Option<&str>) -> Target {
        let key = Credentials::api_key(Dialect::OpenAiChat, "sk-ours".into()).unwrap();
        let provider = Provider::new("p", Dialect::OpenAiChat, "http://h/v1").unwrap().with_credentials(key);
        model.map_or_else(|| Target::passing_model_through(&provider), |model| Target::new(&provider, model))
    }

    fn upstream(target: Target, mut request: Request<Full<Bytes>>) -> Result<(http::request::Parts, Bytes), Fault> {
        request.extensions_mut().insert(RequestContext::new().with_target(target));
        upstream_request(request, false).map(|(request, _)| {
            let (parts, body) = request.into_parts();
            (parts, whole(body))
        })
    }

    fn body(text: &'static str) -> Full<Bytes> {
        Full::new(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn only_the_model_changes_in_the_body() {
        let request = || {
            Request::post("/v1/chat/completions").body(body(r#"{"x":1.0e+02,"model":"a", "u":"\u00e9","model" : "b"}"#))
        };
        let (parts, sent) = upstream(target(Some("m/\"1\"")), request().unwrap()).unwrap();
        assert_eq!(parts.uri, "http://h/v1/chat/completions");
        assert_eq!(sent, r#"{"x":1.0e+02,"model":"m/\"1\"", "u":"\u00e9","model" : "m/\"1\""}"#);
        let (_, sent) = upstream(target(None), request().unwrap()).unwrap();
        assert_eq!(sent, r#"{"x":1.0e+02,"model":"a", "u":"\u00e9","model" : "b"}"#);
    }

    #[test]
    fn whatever_proves_who_the_client_is_stays_here() {
        let mut request = Request::post("/v1/chat/completions?a=1&key=AIza&b=2").body(body("{}")).unwrap();
        let secrets =
            ["authorization", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization", "cookie", "x-hop"];
        for name in secrets {
            request.headers_mut().append(name, HeaderValue::from_static("client-secret"));
            request.headers_mut().append(name, HeaderValue::from_static("client-secret-2"));
        }
        for (name, value) in [("connection", "close, X-Hop"), ("x-failover-tags", "eu"), ("openai-beta", "kept")] {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        request.headers_mut().append("connection", HeaderValue::from_bytes(b"x-other, \xff").unwrap());
        request.headers_mut().append("x-other", HeaderValue::from_static("client-secret"));
        let (parts, _) = upstream(target(None), request).unwrap();
        assert_eq!(parts.uri, "http://h/v1/chat/completions?a=1&b=2");
        assert_eq!(parts.headers.get_all("authorization").iter().collect::<Vec<_>>(), ["Bearer sk-ours"]);
        assert!(parts.headers["authorization"].is_sensitive());
        assert_eq!(parts.headers["openai-beta"], "kept");
        let mut left: Vec<_> = parts.headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept-encoding", "authorization", "idempotency-key", "openai-beta"]);
        assert_eq!(without_key("key=AIza"), None);
        assert_eq!(without_key("k%65y=AIza&a=1&%6B%65%79&keys=2").as_deref(), Some("a=1&keys=2"));
    }

    #[test]
    fn what_cannot_be_sent_says_why() {
        let fault = upstream(target(Some("m")), Request::post("/x").body(body("[1]")).unwrap()).unwrap_err();
        assert_eq!((fault.kind(), fault.code()), (FaultKind::BadRequest, Some("invalid_json")));
        let fault = upstream(Target::named("only-a-name"), Request::post("/x").body(body("{}")).unwrap()).unwrap_err();
        assert!(fault.message().contains("no provider"), "{fault}");
    }
}
