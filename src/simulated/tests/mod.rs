//! A simulated provider seen from outside, byte by byte.

mod answers;
mod connections;
mod faults;
mod gemini;
mod messages;
mod responses;
mod streams;

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{SimulatedFault, SimulatedProvider};

/// How long a silent connection is waited for: so many times so long, so that on a busy machine one late
/// wake-up does not pass for silence.
const SILENCES: usize = 5;
const SILENCE: Duration = Duration::from_millis(8);

/// How a connection was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Closed with a FIN.
    Closed,
    /// Closed with an RST.
    Reset,
    /// Still open, and silent.
    Open,
}

/// All that came back on one connection.
#[derive(Debug)]
struct Seen {
    status: u16,
    head: String,
    /// Without chunk framing.
    body: String,
    /// Whether the framing says that the body is all there.
    complete: bool,
    end: End,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn error(&self) -> Value {
        self.json()["error"].clone()
    }

    /// The data of every event, `[DONE]` included.
    fn events(&self) -> Vec<&str> {
        let events = self.body.split_terminator("\n\n");
        events.map(|event| event.strip_prefix("data: ").unwrap()).collect()
    }

    fn chunks(&self) -> Vec<Value> {
        let events = self.events().into_iter().filter(|data| *data != "[DONE]");
        events.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    fn text(&self) -> String {
        let chunks = self.chunks();
        let piece = |chunk: &Value| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned);
        chunks.iter().filter_map(piece).collect()
    }

    /// How many chunks carry output.
    fn outputs(&self) -> usize {
        let output = |chunk: &&Value| {
            let delta = &chunk["choices"][0]["delta"];
            delta["tool_calls"].is_array() || delta["content"].as_str().is_some_and(|text| !text.is_empty())
        };
        self.chunks().iter().filter(output).count()
    }
}

fn head(method: &str, path: &str, length: usize) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sk-simulated-0123456789\r\n\
         connection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

async fn send(provider: &SimulatedProvider, method: &str, path: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(provider.address()).await.unwrap();
    let request = head(method, path, body.len()) + body;
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, End) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let mut silences = 0;
    while silences < SILENCES {
        match tokio::time::timeout(SILENCE, stream.read(&mut buffer)).await {
            Ok(Ok(0)) => return (bytes, End::Closed),
            Ok(Ok(n)) => {
                bytes.extend_from_slice(&buffer[..n]);
                silences = 0;
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                return (bytes, End::Reset);
            }
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => silences += 1,
        }
    }
    (bytes, End::Open)
}

fn dechunked(mut rest: &str) -> (String, bool) {
    let mut body = String::new();
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (body, tail == "\r\n");
        }
        body.push_str(&tail[..size]);
        rest = tail[size..].strip_prefix("\r\n").unwrap();
    }
    (body, false)
}

fn seen((bytes, end): (Vec<u8>, End)) -> Seen {
    let text = String::from_utf8(bytes).unwrap();
    let (head, rest) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut seen = Seen {
        status: head.split(' ').nth(1).map_or(0, |status| status.parse().unwrap()),
        head: head.to_owned(),
        body: rest.to_owned(),
        complete: false,
        end,
    };
    if seen.header("transfer-encoding").is_some() {
        (seen.body, seen.complete) = dechunked(rest);
    } else {
        let length = seen.header("content-length").and_then(|length| length.parse().ok());
        seen.complete = length == Some(rest.len());
    }
    seen
}

async fn call(provider: &SimulatedProvider, method: &str, path: &str, body: &str) -> Seen {
    let mut stream = send(provider, method, path, body).await;
    seen(read_to_end(&mut stream).await)
}

async fn chat(provider: &SimulatedProvider, body: Value) -> Seen {
    call(provider, "POST", "/v1/chat/completions", &body.to_string()).await
}

fn hello(stream: bool) -> Value {
    json!({
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "Hello there"}],
        "stream": stream,
    })
}

/// What a provider with this fault answers.
async fn with(fault: SimulatedFault, stream: bool) -> Seen {
    let provider = SimulatedProvider::start("primary").await.unwrap();
    provider.set_fault(fault);
    chat(&provider, hello(stream)).await
}

/// Waits for what the server notices by itself.
async fn until(condition: impl Fn() -> bool) {
    for _ in 0..200 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not come to pass");
}
