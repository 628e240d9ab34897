//! A gateway in this process, providers to put behind it, and a client to ask it with.

// Each test binary uses its part, and what fails here fails the test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{net::SocketAddr, path::Path, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::{Mutex, Notify},
    task::JoinHandle,
};
use tower_failover::{config::Config, gateway::Gateway, simulated::SimulatedProvider};

/// A gateway that is served from this process until it is stopped.
pub struct Served {
    pub address: SocketAddr,
    stop: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Served {
    pub async fn with_config(toml: &str) -> Served {
        let config = Config::from_toml(toml, Path::new("test.toml"), &|_| None).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(Notify::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            Gateway::new(&config).serve(listener, async move { stopped.notified().await }).await.unwrap();
        });
        Served { address, stop, task }
    }

    /// In front of a primary and a fallback, with keys of their own; `settings` go under `[defaults]`.
    pub async fn between(primary: &str, fallback: &str, settings: &str) -> Served {
        Self::with_config(&format!(
            r#"
            [providers.primary]
            dialect = "openai-chat"
            base_url = "{primary}"
            api_key = {{ value = "sk-upstream-primary" }}
            [providers.fallback]
            dialect = "openai-chat"
            base_url = "{fallback}"
            api_key = {{ value = "sk-upstream-fallback" }}
            [defaults]
            {settings}
            [routes."chat"]
            targets = [{{ provider = "primary", model = "model-p" }}, {{ provider = "fallback", model = "model-f" }}]
            [routes."pass-*"]
            targets = [{{ provider = "primary" }}, {{ provider = "fallback" }}]
            "#
        ))
        .await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn stop(&self) {
        self.stop.notify_one();
    }

    /// Waits until the last answer is finished.
    pub async fn stopped(self) {
        self.task.await.unwrap();
    }
}

/// Settings with which a test is not kept waiting.
pub const QUICK: &str = r#"
    timeout = { first_output = "150ms", response = "150ms", idle = "300ms", total = "5s" }
    retry = { attempts = 1 }
"#;

pub async fn simulated() -> (SimulatedProvider, SimulatedProvider) {
    (SimulatedProvider::start("primary").await.unwrap(), SimulatedProvider::start("fallback").await.unwrap())
}

pub fn chat(stream: bool) -> String {
    serde_json::json!({
        "model": "chat", "stream": stream, "messages": [{"role": "user", "content": "Say something."}],
    })
    .to_string()
}

pub fn post(served: &Served, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(served.url("/v1/chat/completions"))
        .header("content-type", "application/json")
        .body(Full::new(body.into()))
        .unwrap()
}

pub async fn send(request: Request<Full<Bytes>>) -> Response<hyper::body::Incoming> {
    Client::builder(TokioExecutor::new()).build(HttpConnector::new()).request(request).await.unwrap()
}

/// The head and the whole body of an answer.
pub async fn ask(request: Request<Full<Bytes>>) -> (http::response::Parts, Bytes) {
    let (parts, body) = send(request).await.into_parts();
    (parts, body.collect().await.unwrap().to_bytes())
}

/// The text that an answer says, streamed or not.
pub fn text(body: &[u8]) -> String {
    let body = std::str::from_utf8(body).unwrap();
    let said = |json: &str| {
        let chunk: serde_json::Value = serde_json::from_str(json).unwrap();
        let choice = &chunk["choices"][0];
        [&choice["message"]["content"], &choice["delta"]["content"]]
            .iter()
            .find_map(|content| content.as_str().map(str::to_owned))
            .unwrap_or_default()
    };
    if body.starts_with('{') {
        return said(body);
    }
    assert!(body.ends_with("data: [DONE]\n\n"), "the stream lacks its end: {body}");
    body.split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]")
        .map(said)
        .collect()
}

/// A server that keeps the bytes of each request and answers with bytes of its own choosing, then closes.
pub struct RawProvider {
    pub base_url: String,
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

impl RawProvider {
    pub async fn answering(response: Vec<u8>) -> RawProvider {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = requests.clone();
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !is_whole(&request) {
                    if stream.read_buf(&mut request).await.unwrap() == 0 {
                        break;
                    }
                }
                kept.lock().await.push(request);
                stream.write_all(&response).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        RawProvider { base_url, requests, task }
    }

    /// The head and body of the only request.
    pub async fn request(&self) -> (String, Vec<u8>) {
        let requests = self.requests.lock().await;
        assert_eq!(requests.len(), 1);
        let end = head_end(&requests[0]).unwrap();
        (String::from_utf8(requests[0][..end].to_vec()).unwrap(), requests[0][end..].to_vec())
    }
}

impl Drop for RawProvider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn head_end(request: &[u8]) -> Option<usize> {
    request.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| at + 4)
}

fn is_whole(request: &[u8]) -> bool {
    let Some(end) = head_end(request) else { return false };
    let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    request.len() >= end + length.map_or(0, |length| length.trim().parse().unwrap())
}

/// A response head for a body that ends with the connection.
pub fn raw_response(content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\nconnection: close\r\n");
    let length = format!("content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), length.as_bytes(), body].concat()
}
