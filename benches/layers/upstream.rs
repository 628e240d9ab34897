//! The service below every layer, and the requests that it gets.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, header};
use http_body_util::Full;
use tower::Service;
use tower_failover::{Capabilities, Credentials, Dialect, Provider, RequestContext, Target};

pub(crate) type Request = http::Request<Full<Bytes>>;
pub(crate) type Response = http::Response<Full<Bytes>>;

/// Of the request's body, and of the answer's.
const LENGTH: usize = 1024;

/// Always ready, answers at once.
#[derive(Clone)]
pub(crate) struct Upstream {
    answer: Bytes,
}

impl Upstream {
    pub(crate) fn new() -> Self {
        let head = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1760000000,"model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":""#;
        let tail =
            r#""},"finish_reason":"stop"}],"usage":{"prompt_tokens":250,"completion_tokens":200,"total_tokens":450}}"#;
        Upstream { answer: filled(head, tail) }
    }
}

impl Service<Request> for Upstream {
    type Response = Response;
    type Error = Infallible;
    type Future = Ready<Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        black_box(&request);
        let mut response = Response::new(Full::new(self.answer.clone()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        ready(Ok(response))
    }
}

/// What requests are made from.
#[derive(Clone)]
pub(crate) struct Template {
    request: Request,
    target: Option<Target>,
}

impl Template {
    /// Requests as a client sends them.
    pub(crate) fn plain() -> Self {
        let head =
            r#"{"model":"gpt-4o","messages":[{"role":"system","content":"Answer briefly."},{"role":"user","content":""#;
        let body = filled(head, r#""}],"temperature":0.7}"#);
        let request = http::Request::post("http://localhost/v1/chat/completions")
            .header("authorization", "Bearer sk-abcdefghijklmnopqrstuvwxyz")
            .header("content-type", "application/json")
            .header("content-length", LENGTH)
            .header("accept", "application/json")
            .header("user-agent", "bench/1.0")
            .header("x-request-id", "01J8ZQ4W6Y5X7V3T2S1R0Q9P8N")
            .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
            .body(Full::new(body));
        Template { request: request.unwrap(), target: None }
    }

    /// Requests as failover sends them, each with a context that names its target.
    pub(crate) fn addressed(target: Target) -> Self {
        Template { target: Some(target), ..Template::plain() }
    }

    pub(crate) fn request(&self) -> Request {
        let mut request = self.request.clone();
        if let Some(target) = &self.target {
            request.extensions_mut().insert(RequestContext::new().with_target(target.clone()));
        }
        request
    }
}

/// Two of one dialect, with keys and models of their own.
pub(crate) fn targets() -> [Target; 2] {
    [("primary", "gpt-4o-2024-11-20"), ("fallback", "llama-3.3-70b")].map(|(name, model)| {
        let key = "sk-1234567890abcdefghijklmnop".into();
        let credentials = Credentials::api_key(Dialect::OpenAiChat, key).unwrap();
        let provider = Provider::new(name, Dialect::OpenAiChat, &format!("https://{name}.example/v1")).unwrap();
        Target::new(&provider.with_credentials(credentials), model)
    })
}

/// A target that is not capable of everything, so that a request has to be looked at.
pub(crate) fn restricted_target() -> Target {
    let [target, _] = targets();
    target.with_capabilities(Capabilities::new().without(tower_failover::Ability::ImageInput))
}

fn filled(head: &str, tail: &str) -> Bytes {
    let filling = "x".repeat(LENGTH - head.len() - tail.len());
    [head, &filling, tail].concat().into()
}
