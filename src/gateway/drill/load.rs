//! The client: asks the gateway over real sockets, and notes what came.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::Drill;
use crate::{
    Dialect,
    body::EventStream,
    dialect::{StreamEvent, StreamReader},
};

/// What every request asks. What it says does not matter, but that it is short.
const QUESTION: &str = "Answer with one short sentence: is anybody there?";

/// How one request went.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Why it failed, if it did.
    pub(super) failure: Option<String>,
    /// Whether an answer had begun that then broke off.
    pub(super) broke: bool,
    /// Who answered or failed last, as the gateway says.
    pub(super) target: Option<String>,
    pub(super) latency: Duration,
    /// Of a stream: how long it took to say something.
    pub(super) first_output: Option<Duration>,
    pub(super) ended: Instant,
}

/// A client of one gateway. Cheap to clone.
#[derive(Clone)]
pub(super) struct Load {
    client: Client<HttpConnector, Full<Bytes>>,
    uri: String,
    /// What is asked, in one piece and as a stream.
    bodies: [Bytes; 2],
    streams: u64,
    /// After how long nobody waits any longer.
    patience: Duration,
}

impl Load {
    pub(super) fn new(drill: &Drill, gateway: SocketAddr, patience: Duration) -> Self {
        let new_limit = drill.primary.provider().is_some_and(|provider| provider.variant().new_token_limit);
        let limit = if new_limit { "max_completion_tokens" } else { "max_tokens" };
        let body = |stream: bool| {
            let body = json!({
                "model": drill.model,
                "messages": [{ "role": "user", "content": QUESTION }],
                limit: drill.settings.max_tokens,
                "stream": stream,
            });
            Bytes::from(body.to_string())
        };
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        Load {
            client: Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(http),
            uri: format!("http://{gateway}/v1/chat/completions"),
            bodies: [body(false), body(true)],
            streams: u64::from(drill.settings.streams.min(100)),
            patience,
        }
    }

    /// Asks again and again, `at_a_time` at a time, until there were so many requests or that time is over.
    pub(super) async fn phase(
        &self,
        at_a_time: usize,
        requests: Option<u64>,
        duration: Option<Duration>,
        progress: &Arc<dyn Fn() + Send + Sync>,
    ) -> Vec<Answer> {
        let began = Instant::now();
        let next = Arc::new(AtomicU64::new(0));
        let mut workers = JoinSet::new();
        for _ in 0..at_a_time.max(1) {
            let (load, next, progress) = (self.clone(), next.clone(), progress.clone());
            workers.spawn(async move {
                let mut answers = Vec::new();
                while duration.is_none_or(|duration| began.elapsed() < duration) {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    if requests.is_some_and(|requests| place >= requests) {
                        break;
                    }
                    answers.push(load.ask(place).await);
                    progress();
                }
                answers
            });
        }
        workers.join_all().await.into_iter().flatten().collect()
    }

    /// Asks the request at that place of the phase.
    pub(super) async fn ask(&self, place: u64) -> Answer {
        // Evenly spread: where the whole part of the share grows.
        let stream = place * self.streams / 100 != (place + 1) * self.streams / 100;
        let began = Instant::now();
        let mut answer = Answer {
            failure: None,
            broke: false,
            target: None,
            latency: Duration::ZERO,
            first_output: None,
            ended: began,
        };
        let failure = match timeout(self.patience, self.exchange(stream, began, &mut answer)).await {
            Ok(result) => result.err(),
            Err(_) => Some("no answer before the client gave up".to_owned()),
        };
        answer.failure = failure;
        answer.ended = Instant::now();
        answer.latency = answer.ended - began;
        answer
    }

    async fn exchange(&self, stream: bool, began: Instant, answer: &mut Answer) -> Result<(), String> {
        let request = Request::post(&self.uri)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(self.bodies[usize::from(stream)].clone()))
            .map_err(|error| error.to_string())?;
        let response = self.client.request(request).await.map_err(|error| format!("the gateway failed: {error}"))?;
        let (parts, body) = response.into_parts();
        answer.target = named_target(&parts.headers);
        if !parts.status.is_success() {
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let error: Value = serde_json::from_slice(&body).unwrap_or_default();
            let code = error["error"]["code"].as_str().or(error["error"]["type"].as_str()).unwrap_or("no code");
            return Err(format!("{} {code}", parts.status.as_u16()));
        }
        let result = if stream { read_stream(body, began, answer).await } else { read_answer(body).await };
        answer.broke = result.is_err();
        result
    }
}

fn named_target(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("x-failover-target")?.to_str().ok()?.to_owned())
}

async fn read_answer(body: Incoming) -> Result<(), String> {
    let body = body.collect().await.map_err(|_| "the answer was cut".to_owned())?.to_bytes();
    match crate::dialect::answer(Dialect::OpenAiChat, &body) {
        crate::dialect::Answer::Whole(_) => Ok(()),
        _ => Err("the answer is none".to_owned()),
    }
}

async fn read_stream(mut body: Incoming, began: Instant, answer: &mut Answer) -> Result<(), String> {
    let mut events = EventStream::default();
    let mut reader = StreamReader::new(Dialect::OpenAiChat, 1);
    let mut finished = false;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err("the stream was cut".to_owned()) };
        let Ok(data) = frame.into_data() else { continue };
        let whole = events.push(data).map_err(|_| "an event is too large".to_owned())?;
        for (data, _) in events.events(&whole) {
            match reader.event(&data) {
                StreamEvent::Output => {
                    answer.first_output.get_or_insert_with(|| began.elapsed());
                }
                StreamEvent::Finish => {
                    answer.first_output.get_or_insert_with(|| began.elapsed());
                    finished = true;
                }
                StreamEvent::Terminal => finished = true,
                StreamEvent::Error => return Err("the stream ended with an error".to_owned()),
                StreamEvent::Malformed => return Err("the stream has an event that cannot be read".to_owned()),
                StreamEvent::Preamble | StreamEvent::Usage => {}
            }
        }
    }
    if finished { Ok(()) } else { Err("the stream ended early".to_owned()) }
}
