//! The service below every layer, and the requests that it gets.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, header};
use http_body::{Body, Frame};
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

/// Always ready, answers with a stream whose events are all there, each in a frame of its own.
#[derive(Clone)]
pub(crate) struct Streaming {
    events: Arc<[Bytes]>,
}

impl Streaming {
    /// How many events a stream has, the last of them `[DONE]`.
    pub(crate) const EVENTS: usize = 100;

    pub(crate) fn new() -> Self {
        let event = |delta: &str, reason: &str| {
            Bytes::from(format!(
                "data: {{\"id\":\"chatcmpl-CQ3yvMrYdGJx5wQ2PZs4NfWbK8HtU\",\"object\":\"chat.completion.chunk\",\
                 \"created\":1760000000,\"model\":\"gpt-4o-2024-08-06\",\"service_tier\":\"default\",\
                 \"system_fingerprint\":\"fp_f33640a400\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\
                 \"finish_reason\":{reason}}}]}}\n\n"
            ))
        };
        let mut events = vec![event(r#"{"role":"assistant","content":"","refusal":null}"#, "null")];
        events.resize_with(Self::EVENTS - 2, || event(r#"{"content":" word"}"#, "null"));
        events.extend([event("{}", r#""stop""#), Bytes::from_static(b"data: [DONE]\n\n")]);
        Streaming { events: events.into() }
    }
}

impl Service<Request> for Streaming {
    type Response = http::Response<Events>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        black_box(&request);
        let mut response = http::Response::new(Events { events: self.events.clone(), next: 0 });
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        ready(Ok(response))
    }
}

pub(crate) struct Events {
    events: Arc<[Bytes]>,
    next: usize,
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let event = self.events.get(self.next).cloned();
        self.next += 1;
        Poll::Ready(event.map(|event| Ok(Frame::data(event))))
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

    /// As [`plain`](Self::plain), for a stream.
    pub(crate) fn streamed() -> Self {
        let mut template = Template::plain();
        let head = r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":""#;
        *template.request.body_mut() = Full::new(filled(head, r#""}],"temperature":0.7}"#));
        template
    }

    /// As [`plain`](Self::plain), with a body of so many bytes that is a talk of three turns, in words.
    pub(crate) fn talk(length: usize) -> Self {
        let mut template = Template::plain();
        let head = r#"{"model":"gpt-4o","max_tokens":500,"messages":[{"role":"system","content":"Answer briefly."},{"role":"user","content":"Who?"},{"role":"assistant","content":"She."},{"role":"user","content":""#;
        let tail = r#""}],"temperature":0.7}"#;
        let words = "All of these words are to be read, one (1) after the other. ".repeat(length / 60 + 1);
        *template.request.body_mut() =
            Full::new([head, &words[..length - head.len() - tail.len()], tail].concat().into());
        template
    }

    /// The same requests, each with a context that names that target.
    pub(crate) fn to(self, target: Target) -> Self {
        Template { target: Some(target), ..self }
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
