//! What the gateway takes of its clients at the most, on real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

mod harness;

use std::time::Duration;

use harness::{Served, ask, chat, post, send, simulated};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use tower_failover::simulated::{SimulatedFault, SimulatedProvider};

const SOON: Duration = Duration::from_secs(60);

async fn served(base_url: &str, limits: &str) -> Served {
    Served::with_config(&format!(
        "[limits]\n{limits}\n[providers.p]\ndialect = \"openai-chat\"\nbase_url = \"{base_url}\"\n\
         [routes.\"*\"]\ntargets = [{{ provider = \"p\" }}]\n",
    ))
    .await
}

/// Sends these bytes and reads until the gateway closes the connection.
async fn raw(served: &Served, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    rest(&mut stream).await
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the connection is left open");
    String::from_utf8_lossy(&answer).into_owned()
}

fn head(path: &str, rest: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{rest}\r\n")
}

#[tokio::test]
async fn a_body_that_says_it_is_too_long_is_refused_before_it_comes() {
    let (primary, _) = simulated().await;
    let served = served(&primary.base_url(), "max_body = \"1KiB\"").await;
    for (path, code) in [
        ("/v1/chat/completions", "\"code\":\"payload_too_large\""),
        ("/v1/messages", "\"type\":\"request_too_large\""),
        ("/v1beta/models/m:generateContent", "\"status\":\"INVALID_ARGUMENT\""),
    ] {
        let answer = raw(&served, head(path, "content-length: 1025\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains(code), "{path}: {answer}");
    }
    // One that does not say, and is.
    let chunk = format!("401\r\n{}\r\n0\r\n\r\n", "x".repeat(1025));
    let answer = raw(&served, head("/v1/chat/completions", "transfer-encoding: chunked\r\n") + &chunk).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(primary.request_count(), 0);
}

#[tokio::test]
async fn whoever_sends_all_of_it_first_still_reads_why_it_was_refused() {
    let (primary, _) = simulated().await;
    let served = served(&primary.base_url(), "max_body = \"1KiB\"").await;
    let body = vec![b'x'; 20 << 20];
    for framing in [format!("content-length: {}\r\n", body.len()), "transfer-encoding: chunked\r\n".into()] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let head = format!("POST /v1/messages HTTP/1.1\r\nhost: h\r\n{framing}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        if framing.starts_with("transfer") {
            stream.write_all(format!("{:x}\r\n", body.len()).as_bytes()).await.unwrap();
        }
        stream.write_all(&body).await.expect("the connection was reset");
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{framing}: {answer}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let (primary, _) = simulated().await;
    let served = served(&primary.base_url(), "max_headers = \"16KiB\"").await;
    let body = chat(false);
    let with = |length: usize| {
        let padding = format!("x-long: {}\r\ncontent-length: {}\r\n", "x".repeat(length), body.len());
        head("/v1/chat/completions", &padding) + &body
    };
    assert!(raw(&served, with(15 << 10)).await.starts_with("HTTP/1.1 200 "));
    let answer = raw(&served, with(17 << 10)).await;
    assert!(answer.starts_with("HTTP/1.1 431 ") && answer.contains("\"code\":\"headers_too_large\""), "{answer}");
    let answer = raw(&served, with(40 << 10)).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let many: String = (0..1000).map(|index| format!("x-{index}: x\r\n")).collect();
    let answer = raw(&served, head("/v1/chat/completions", &many)).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(primary.request_count(), 1);
}

#[tokio::test]
async fn whoever_sends_too_slowly_is_given_up_on() {
    let (primary, _) = simulated().await;
    let served = served(&primary.base_url(), "header_timeout = \"200ms\"\nbody_timeout = \"300ms\"").await;
    let began = Instant::now();
    // A head, byte by byte, and never whole.
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let trickle = async {
        loop {
            if writer.write_all(b"x").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = trickle => {}
        read = timeout(SOON, reader.read_to_end(&mut answer)) => drop(read.expect("a head may come for ever")),
    }
    assert!(answer.is_empty(), "{answer:?}");
    // A body that stops.
    let answer = raw(&served, head("/v1/messages", "content-length: 100\r\n") + "{").await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"code\":\"request_timeout\""), "{answer}");
    assert!(began.elapsed() >= Duration::from_millis(500));
    assert_eq!(primary.request_count(), 0);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_and_its_call_with_it() {
    // Far more than sockets hold.
    let primary = SimulatedProvider::builder("primary").answer("word ".repeat(150_000)).start().await.unwrap();
    let served = served(&primary.base_url(), "write_timeout = \"300ms\"").await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let body = chat(true);
    let request = head("/v1/chat/completions", &format!("content-length: {}\r\n", body.len())) + &body;
    stream.write_all(request.as_bytes()).await.unwrap();
    let began = Instant::now();
    while primary.aborted_count() == 0 {
        assert!(began.elapsed() < SOON, "the call goes on for a client that reads nothing");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(!rest(&mut stream).await.ends_with("0\r\n\r\n"), "a stream that was cut looks whole");
}

#[tokio::test]
async fn only_so_many_requests_are_served_at_once() {
    let (primary, _) = simulated().await;
    let served = served(&primary.base_url(), "max_requests = 1").await;
    primary.set_fault("stall:2".parse::<SimulatedFault>().unwrap());
    let mut stream = send(post(&served, chat(true))).await.into_body();
    stream.frame().await.unwrap().unwrap();
    primary.set_fault(SimulatedFault::None);
    let (refused, body) = ask(post(&served, chat(false))).await;
    assert_eq!((refused.status.as_u16(), &refused.headers["retry-after"]), (503, &"1".parse().unwrap()));
    assert!(String::from_utf8_lossy(&body).contains("too_many_requests_at_once"));
    drop(stream);
    let began = Instant::now();
    while ask(post(&served, chat(false))).await.0.status != 200 {
        assert!(began.elapsed() < SOON, "the place of a client that left is not free");
    }
}

#[tokio::test]
async fn a_connection_too_many_waits_for_its_turn() {
    let (primary, _) = simulated().await;
    let served = served(&primary.base_url(), "max_connections = 1").await;
    let first = TcpStream::connect(served.address).await.unwrap();
    // Where it is accepted first is not said otherwise.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut second = TcpStream::connect(served.address).await.unwrap();
    second.write_all(b"GET /healthz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut byte = [0];
    assert!(timeout(Duration::from_millis(200), second.read(&mut byte)).await.is_err(), "it was served beside another");
    drop(first);
    assert!(rest(&mut second).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn garbage_is_answered_in_the_clients_dialect() {
    let (primary, _) = simulated().await;
    let served = served(&primary.base_url(), "").await;
    let deep = "[".repeat(200_000);
    let bodies: [&[u8]; 7] = [
        b"",
        b"{",
        b"\xff\xfe{}",
        b"{\"model\":\"m\",\"messages\":\"\xc3\x28\"}",
        b"{\"model\":\"m\"} trailing",
        deep.as_bytes(),
        b"{\"model\":\"m\",\"a\":01}",
    ];
    for (path, code) in [
        ("/v1/chat/completions", "invalid_request_error"),
        ("/v1/responses", "invalid_request_error"),
        ("/v1/messages", "invalid_request_error"),
        ("/v1beta/models/m:generateContent", "INVALID_ARGUMENT"),
    ] {
        for body in bodies {
            let head = head(path, &format!("content-length: {}\r\n", body.len()));
            let answer = raw(&served, [head.as_bytes(), body].concat()).await;
            let start = String::from_utf8_lossy(&body[..body.len().min(40)]);
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(code), "{path} {start}: {answer}");
        }
    }
    for garbage in ["\r\n\r\n\r\nnonsense\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\u{0}\u{1}\u{2}\r\n\r\n"] {
        let answer = raw(&served, garbage).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{garbage:?}: {answer}");
    }
    let twice = head("/v1/chat/completions", "content-length: 2\r\ncontent-length: 3\r\n") + "{}x";
    assert!(raw(&served, twice).await.starts_with("HTTP/1.1 400 "));
}
