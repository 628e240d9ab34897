//! No key reaches anybody but the provider that it is for: not another provider, not the client, not a log.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

mod harness;

use std::{
    io,
    sync::{Arc, Mutex},
};

use harness::{QUICK, RawProvider, Served, ask, chat, post, simulated};
use http_body_util::BodyExt;
use tower_failover::simulated::{SimulatedFault, SimulatedProvider};
use tracing_subscriber::fmt::MakeWriter;

const CLIENT: &str = "sk-client-secret";
const KEYS: [&str; 3] = [CLIENT, "sk-upstream-primary", "sk-upstream-fallback"];

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

fn with_the_clients_secrets(served: &Served, stream: bool) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    let mut request = post(served, chat(stream));
    let uri = format!("{}?key={CLIENT}&api-version=1", served.url("/v1/chat/completions"));
    *request.uri_mut() = uri.parse().unwrap();
    for name in ["authorization", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization", "cookie"] {
        request.headers_mut().insert(name, format!("Bearer {CLIENT}").parse().unwrap());
    }
    request
}

fn what_reached(provider: &SimulatedProvider) -> String {
    let received = provider.received();
    assert!(!received.is_empty(), "{} was asked nothing", provider.name());
    received.iter().map(|request| format!("{} {:?} {:?}\n", request.uri, request.headers, request.body)).collect()
}

// One test: the log is the whole process's.
#[tokio::test]
async fn keys_reach_only_whom_they_are_for() {
    let log = Log::default();
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).init();
    let (primary, fallback) = simulated().await;
    for name in SimulatedFault::all().iter().filter(|fault| !matches!(fault, SimulatedFault::SlowFirstToken { .. })) {
        let served = Served::between(&primary.base_url(), &fallback.base_url(), QUICK).await;
        primary.set_fault(name.clone());
        for stream in [false, true] {
            // Some of these streams break: what matters here is where the keys went.
            let response = harness::send(with_the_clients_secrets(&served, stream)).await;
            let (head, body) = response.into_parts();
            let told = format!("{head:?} {:?}", body.collect().await.map(|body| body.to_bytes()));
            KEYS.iter().for_each(|key| assert!(!told.contains(key), "{key} came back to the client: {told}"));
        }
    }

    for (provider, own) in [(&primary, KEYS[1]), (&fallback, KEYS[2])] {
        for request in provider.received() {
            let credentials: Vec<_> = request.headers.get_all("authorization").iter().collect();
            assert_eq!(credentials.len(), 1);
            assert_eq!(credentials[0].to_str().unwrap(), format!("Bearer {own}"));
            assert_eq!(request.uri.query(), Some("api-version=1"));
        }
        let reached = what_reached(provider);
        let foreign = KEYS.iter().filter(|key| **key != own);
        foreign.for_each(|key| assert!(!reached.contains(key), "{key} reached {}: {reached}", provider.name()));
    }

    // A provider that repeats our key in its error, in the head's place and in a stream's.
    let echo = r#"{"error":{"message":"Odd key provided: sk-upstream-primary.","code":"sk-upstream-primary"}}"#;
    let failing = |status| {
        let length = echo.len();
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{echo}").into_bytes()
    };
    let event = harness::raw_response("text/event-stream", format!("data: {echo}\n\n").as_bytes());
    for response in [failing("401 Unauthorized"), failing("400 Bad Request"), event] {
        let provider = RawProvider::answering(response).await;
        let served = Served::between(&provider.base_url, "http://127.0.0.1:9/v1", QUICK).await;
        let (head, body) = ask(with_the_clients_secrets(&served, true)).await;
        let told = format!("{head:?} {body:?}");
        assert!(told.contains("[redacted]"), "{told}");
        KEYS.iter().for_each(|key| assert!(!told.contains(key), "{key} came back to the client: {told}"));
    }

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("failover") && log.contains("TRACE"), "the log is not at trace level");
    for key in KEYS {
        let line = log.lines().find(|line| line.contains(key));
        assert_eq!(line, None, "{key} is in the log");
    }
}
