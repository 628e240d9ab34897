//! A closed loop of requests, and streams that stay open, on one thread.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use crate::upstream::{self, Manner};

const LENGTH: usize = 1024;
/// How much longer than a run an answer may take before there is no sense in going on.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Json,
    Stream,
    /// As `Stream`, with a pause between the chunks.
    Paced,
    /// As `Json`, with the first upstream failing.
    Failover,
    /// As `Json`, of a model whose answers the gateway keeps.
    Cached,
    /// As `Json`, from a client that speaks Anthropic's dialect.
    Translated,
    /// As `Stream`, from a client that speaks Anthropic's dialect.
    TranslatedStream,
}

impl Kind {
    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Kind::Stream | Kind::Paced | Kind::TranslatedStream)
    }

    fn path(self) -> &'static str {
        match self {
            Kind::Translated | Kind::TranslatedStream => "/v1/messages",
            _ => "/v1/chat/completions",
        }
    }

    /// How the first provider is to behave.
    pub(crate) fn manner(self) -> Manner {
        match self {
            Kind::Json | Kind::Stream | Kind::Cached | Kind::Translated | Kind::TranslatedStream => Manner::Prompt,
            Kind::Paced => Manner::Paced,
            Kind::Failover => Manner::Fails,
        }
    }
}

/// What a run of a scenario gave.
#[derive(Clone)]
pub(crate) struct Measured {
    /// Sorted, in microseconds.
    whole: Vec<f64>,
    /// Sorted, in microseconds.
    first_token: Vec<f64>,
    pub(crate) bad: usize,
    wall: Duration,
    pub(crate) cpu: Option<Duration>,
}

impl Measured {
    pub(crate) fn p50(&self) -> Option<f64> {
        quantile(&self.whole, 0.5)
    }

    pub(crate) fn p99(&self) -> Option<f64> {
        quantile(&self.whole, 0.99)
    }

    pub(crate) fn first_token_p50(&self) -> Option<f64> {
        quantile(&self.first_token, 0.5)
    }

    /// Microseconds for each request.
    pub(crate) fn cpu_each(&self) -> Option<f64> {
        let requests = self.whole.len() + self.bad;
        self.cpu.filter(|_| requests > 0).map(|cpu| cpu.as_secs_f64() * 1e6 / requests as f64)
    }

    /// Microseconds for each chunk of a stream.
    pub(crate) fn cpu_each_chunk(&self) -> Option<f64> {
        self.cpu_each().map(|cpu| cpu / upstream::CHUNKS as f64)
    }

    /// The share of one core that was used.
    pub(crate) fn busy(&self) -> Option<f64> {
        self.cpu.map(|cpu| cpu.as_secs_f64() / self.wall.as_secs_f64())
    }
}

fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    sorted.get((sorted.len() as f64 * share) as usize).copied()
}

/// Connections, and what is sent on them.
pub(crate) struct Load {
    address: SocketAddr,
    body: Bytes,
    kind: Kind,
    senders: Vec<SendRequest<Full<Bytes>>>,
}

impl Load {
    pub(crate) async fn open(address: SocketAddr, kind: Kind, connections: usize) -> Load {
        let mut senders = Vec::new();
        for _ in 0..connections {
            senders.push(connect(address).await);
        }
        Load { address, body: request_body(kind), kind, senders }
    }

    /// Returns when the requests that were under way at the end of `time` are answered: they count too.
    pub(crate) async fn drive(&mut self, time: Duration) -> Measured {
        let began = Instant::now();
        let mut connections = JoinSet::new();
        for mut sender in self.senders.drain(..) {
            let (address, body, kind) = (self.address, self.body.clone(), self.kind);
            connections.spawn(async move {
                let (mut timings, mut bad) = (Vec::new(), 0);
                while began.elapsed() < time {
                    match exchange(&mut sender, address, body.clone(), kind).await {
                        Some(timing) => timings.push(timing),
                        None => bad += 1,
                    }
                    if sender.ready().await.is_err() {
                        sender = connect(address).await;
                    }
                }
                (sender, timings, bad)
            });
        }
        let mut measured = Measured { whole: Vec::new(), first_token: Vec::new(), bad: 0, wall: time, cpu: None };
        let ended = timeout(time + PATIENCE, connections.join_all()).await.expect("every request is answered");
        for (sender, timings, bad) in ended {
            self.senders.push(sender);
            measured.bad += bad;
            measured.first_token.extend(timings.iter().map(|(first_token, _)| first_token.as_secs_f64() * 1e6));
            measured.whole.extend(timings.iter().map(|(_, whole)| whole.as_secs_f64() * 1e6));
        }
        measured.wall = began.elapsed();
        measured.whole.sort_by(f64::total_cmp);
        measured.first_token.sort_by(f64::total_cmp);
        measured
    }
}

async fn connect(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.expect("the proxy listens");
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A stream that is open until this is dropped.
pub(crate) struct Stalled {
    _sender: SendRequest<Full<Bytes>>,
    _answer: Incoming,
}

/// Opens so many streams, each on a connection of its own, that stall behind their first words.
pub(crate) async fn open_stalled(address: SocketAddr, count: usize) -> Vec<Stalled> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut sender = connect(address).await;
        let response =
            sender.send_request(request(address, Kind::Stream, request_body(Kind::Stream))).await.expect("an answer");
        let mut answer = response.into_body();
        while !answer.frame().await.unwrap().unwrap().into_data().is_ok_and(|data| has_token(&data)) {}
        streams.push(Stalled { _sender: sender, _answer: answer });
    }
    streams
}

fn request_body(kind: Kind) -> Bytes {
    let (model, is_stream) = (if matches!(kind, Kind::Cached) { "kept" } else { "gpt-4o" }, kind.is_stream());
    let head = format!(
        r#"{{"model":"{model}","stream":{is_stream},"max_tokens":500,"messages":[{{"role":"user","content":"Hello!"}},{{"role":"assistant","content":"Good day. How can I help?"}},{{"role":"user","content":""#
    );
    padded(&head, r#""}]}"#)
}

fn request(address: SocketAddr, kind: Kind, body: Bytes) -> Request<Full<Bytes>> {
    let request = Request::post(kind.path())
        .header(header::HOST, address.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, "Bearer sk-client");
    request.body(Full::new(body)).unwrap()
}

fn has_token(data: &[u8]) -> bool {
    memmem::find(data, upstream::WORD.as_bytes()).is_some()
}

/// Until the first word of the answer, and until its end; nothing if the answer is not as it should be.
async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    address: SocketAddr,
    body: Bytes,
    kind: Kind,
) -> Option<(Duration, Duration)> {
    let (request, is_stream) = (request(address, kind, body), kind.is_stream());
    let began = Instant::now();
    let mut response = sender.send_request(request).await.ok()?;
    let (mut first_token, mut length, mut last) = (None, 0, Bytes::new());
    while let Some(frame) = response.body_mut().frame().await {
        last = frame.ok()?.into_data().unwrap_or_default();
        length += last.len();
        if first_token.is_none() && (!is_stream || has_token(&last)) {
            first_token = Some(began.elapsed());
        }
    }
    let whole = began.elapsed();
    let is_done = last.ends_with(b"data: [DONE]\n\n") || last.ends_with(b"\"message_stop\"}\n\n");
    let is_whole =
        length == LENGTH || matches!(kind, Kind::Translated) && last.starts_with(b"{") && last.ends_with(b"}");
    let is_complete = if is_stream { is_done } else { is_whole };
    (response.status() == StatusCode::OK && is_complete).then_some((first_token?, whole))
}

/// Has a provider behave in that manner.
pub(crate) async fn switch(provider: SocketAddr, manner: Manner) {
    let request = Request::post(manner.path()).header(header::HOST, provider.to_string()).body(Full::default());
    connect(provider).await.send_request(request.unwrap()).await.expect("the mock answers");
}

/// 1 KiB of JSON: text between what comes before and after it.
pub(crate) fn padded(head: &str, tail: &str) -> Bytes {
    let text = "It is a truth universally acknowledged, that providers are down now and then. ".chars().cycle();
    let text: String = text.take(LENGTH - head.len() - tail.len()).collect();
    [head, &text, tail].concat().into()
}
