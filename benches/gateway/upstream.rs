//! Two providers that answer as OpenAI's chat completions do, and in the manner that they are told.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Either, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use tokio::{
    net::TcpListener,
    time::{Sleep, sleep},
};

/// How a provider behaves from when one asks for its [`path`](Self::path).
#[derive(Clone, Copy)]
pub(crate) enum Manner {
    /// Answers at once, and sends a stream's chunks as fast as they are taken.
    Prompt,
    /// Fails every request.
    Fails,
    /// Answers at once, and sends a stream's chunks [some time](PACE) apart.
    Paced,
    /// Answers at once, and sends no more of a stream than its first words.
    Stalls,
}

impl Manner {
    const ALL: [Manner; 4] = [Manner::Prompt, Manner::Fails, Manner::Paced, Manner::Stalls];

    pub(crate) fn path(self) -> String {
        format!("/manner/{}", self as u8)
    }
}

/// Chunks of a stream.
pub(crate) const CHUNKS: usize = 50;
/// What every chunk says but the first and the last.
pub(crate) const WORD: &str = " word";
/// So long that each chunk is on its way before there is another.
const PACE: Duration = Duration::from_millis(2);
const ERROR: &str = r#"{"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}"#;

type Answer = Either<Full<Bytes>, OneByOne>;

struct Provider {
    manner: Mutex<Manner>,
    json: Bytes,
    chunks: Arc<[Bytes]>,
}

pub(crate) async fn serve() {
    let listeners = [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
    let [primary, fallback] = &listeners;
    println!("{} {}", primary.local_addr().unwrap(), fallback.local_addr().unwrap());
    let [primary, fallback] = listeners.map(listen);
    tokio::join!(primary, fallback);
}

async fn listen(listener: TcpListener) {
    let provider = Arc::new(Provider { manner: Mutex::new(Manner::Prompt), json: json(), chunks: chunks() });
    while let Ok((stream, _)) = listener.accept().await {
        _ = stream.set_nodelay(true);
        let provider = provider.clone();
        let service = service_fn(move |request| answer(provider.clone(), request));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(provider: Arc<Provider>, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let path = request.uri().path();
    if let Some(manner) = Manner::ALL.into_iter().find(|manner| manner.path() == path) {
        *provider.manner.lock().unwrap() = manner;
        return Ok(Response::new(Either::Left(Full::default())));
    }
    let Ok(body) = request.into_body().collect().await else {
        return Ok(whole(StatusCode::BAD_REQUEST, Bytes::from_static(ERROR.as_bytes())));
    };
    let manner = *provider.manner.lock().unwrap();
    Ok(if matches!(manner, Manner::Fails) {
        whole(StatusCode::INTERNAL_SERVER_ERROR, Bytes::from_static(ERROR.as_bytes()))
    } else if memmem::find(&body.to_bytes(), br#""stream":true"#).is_some() {
        let stream = OneByOne { chunks: provider.chunks.clone(), next: 0, manner, pause: None, is_written: true };
        typed(Response::new(Either::Right(stream)), "text/event-stream")
    } else {
        whole(StatusCode::OK, provider.json.clone())
    })
}

fn whole(status: StatusCode, body: Bytes) -> Response<Answer> {
    let mut response = Response::new(Either::Left(Full::new(body)));
    *response.status_mut() = status;
    typed(response, "application/json")
}

fn typed(mut response: Response<Answer>, media_type: &'static str) -> Response<Answer> {
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// 1 KiB.
fn json() -> Bytes {
    let head = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":""#;
    let tail = r#"","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":200,"completion_tokens":150,"total_tokens":350}}"#;
    crate::load::padded(head, tail)
}

fn chunks() -> Arc<[Bytes]> {
    let chunk = |delta: &str, reason: &str| {
        format!(
            r#"data: {{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o","choices":[{{"index":0,"delta":{delta},"finish_reason":{reason}}}]}}"#
        ) + "\n\n"
    };
    let mut chunks = vec![chunk(r#"{"role":"assistant","content":""}"#, "null")];
    chunks.resize_with(CHUNKS - 1, || chunk(&format!(r#"{{"content":"{WORD}"}}"#), "null"));
    chunks.push(chunk("{}", r#""stop""#) + "data: [DONE]\n\n");
    chunks.into_iter().map(Bytes::from).collect()
}

/// Each chunk is written to the socket before the next is to be had.
struct OneByOne {
    chunks: Arc<[Bytes]>,
    next: usize,
    manner: Manner,
    pause: Option<Pin<Box<Sleep>>>,
    is_written: bool,
}

impl Body for OneByOne {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // The server writes what it has when there is nothing more at once.
        if !std::mem::replace(&mut self.is_written, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match self.manner {
            Manner::Paced if self.next > 0 && self.next < self.chunks.len() => {
                ready!(self.pause.get_or_insert_with(|| Box::pin(sleep(PACE))).as_mut().poll(cx));
                self.pause = None;
            }
            Manner::Stalls if self.next == 2 => return Poll::Pending,
            _ => {}
        }
        let chunk = self.chunks.get(self.next).cloned();
        self.next += 1;
        self.is_written = false;
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.next >= self.chunks.len()
    }
}
