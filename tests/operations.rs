//! The built program under its operator's hands: signals, logs, certificates, and where it will not listen.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

mod harness;
#[path = "harness/process.rs"]
mod process;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use harness::{ask, chat, send, text};
use http::Request;
use http_body_util::{BodyExt, Full};
use process::{Folder, Program};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tower_failover::simulated::{SimulatedFault, SimulatedProvider};

const SOON: Duration = Duration::from_secs(20);

fn config(provider: &SimulatedProvider, more: &str) -> String {
    format!(
        "{more}\n[providers.p]\ndialect = \"openai-chat\"\nbase_url = \"{}\"\n\
         [routes.\"*\"]\ntargets = [{{ provider = \"p\" }}]\n",
        provider.base_url()
    )
}

async fn program(provider: &SimulatedProvider, more: &str, arguments: &[&str]) -> Program {
    Program::start(Folder::new(), &config(provider, more), arguments, "info").await
}

fn post(program: &Program, stream: bool) -> Request<Full<Bytes>> {
    Request::post(program.url("/v1/chat/completions")).body(Full::new(chat(stream).into())).unwrap()
}

/// A stream of about so many seconds.
async fn paced(seconds: u64) -> SimulatedProvider {
    let pace = Duration::from_millis(100);
    let words = "word ".repeat(seconds as usize * 10);
    SimulatedProvider::builder("paced").answer(words).chunk_delay(pace).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_truncates_no_stream_and_refuses_whoever_comes() {
    const STREAMS: usize = 200;
    let provider = paced(4).await;
    let mut program = program(&provider, "", &[]).await;
    let mut idle = TcpStream::connect(program.address).await.unwrap();
    idle.write_all(b"GET /readyz HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    let mut buffer = [0; 1024];
    assert!(idle.read(&mut buffer).await.unwrap() > 0);

    let streams = join_all((0..STREAMS).map(|_| async {
        let mut body = send(post(&program, true)).await.into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        (body, first)
    }));
    let streams = streams.await;
    program.signal("TERM");
    assert_eq!(timeout(SOON, idle.read(&mut buffer)).await.unwrap().unwrap(), 0, "an idle connection is kept");

    // Whoever looks finds that it stops; it takes a moment until it knows itself.
    let ready = || Request::get(program.url("/readyz")).body(Full::default()).unwrap();
    let began = tokio::time::Instant::now();
    while ask(ready()).await.0.status != 503 {
        assert!(began.elapsed() < Duration::from_secs(2), "it is ready all the same");
    }
    let (refused, body) = ask(post(&program, false)).await;
    assert_eq!((refused.status.as_u16(), &refused.headers["retry-after"]), (503, &"1".parse().unwrap()));
    assert_eq!(refused.headers["connection"], "close");
    assert!(String::from_utf8_lossy(&body).contains("\"code\":\"stopping\""), "{body:?}");
    let alive = Request::get(program.url("/healthz")).body(Full::default()).unwrap();
    assert_eq!(ask(alive).await.0.status, 200);
    assert!(program.is_running());

    let ends = join_all(streams.into_iter().map(|(body, first)| async move {
        let rest = body.collect().await.expect("a stream was truncated").to_bytes();
        text(&[first, rest].concat())
    }));
    for said in ends.await {
        assert_eq!(said.split_whitespace().count(), 40, "{said}");
    }
    let (status, _) = program.ended(SOON).await;
    assert_eq!(status.code(), Some(0), "{}", program.output());
}

#[tokio::test]
async fn an_idle_program_stops_at_once() {
    let provider = paced(1).await;
    for signal in ["TERM", "INT"] {
        let mut program = program(&provider, "", &[]).await;
        let _untouched = TcpStream::connect(program.address).await.unwrap();
        assert_eq!(ask(post(&program, false)).await.0.status, 200);
        program.signal(signal);
        let (status, took) = program.ended(SOON).await;
        assert_eq!(status.code(), Some(0));
        assert!(took < Duration::from_secs(1), "{signal}: {took:?}");
    }
}

#[tokio::test]
async fn whoever_asks_twice_does_not_wait() {
    let provider = paced(60).await;
    let mut program = program(&provider, "", &[]).await;
    let mut body = send(post(&program, true)).await.into_body();
    body.frame().await.unwrap().unwrap();
    program.signal("TERM");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(program.is_running());
    program.signal("TERM");
    let (status, took) = program.ended(SOON).await;
    assert_eq!(status.code(), Some(130));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn streams_may_be_given_a_last_moment() {
    let provider = paced(60).await;
    let mut program = program(&provider, "[limits]\nshutdown_timeout = \"500ms\"", &[]).await;
    let mut body = send(post(&program, true)).await.into_body();
    let mut told = body.frame().await.unwrap().unwrap().into_data().unwrap().to_vec();
    program.signal("TERM");
    let end = loop {
        match body.frame().await {
            Some(Ok(frame)) => told.extend_from_slice(&frame.into_data().unwrap()),
            end => break end,
        }
    };
    assert!(end.is_some_and(|end| end.is_err()), "a stream that was cut looks whole");
    let told = String::from_utf8(told).unwrap();
    let last = told.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.contains("\"code\":\"stream_interrupted\"") && last.contains("the gateway was stopped"), "{told}");
    let (status, took) = program.ended(SOON).await;
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn whoever_still_waits_when_the_last_moment_is_over_is_told_so() {
    let provider = paced(1).await;
    provider.set_fault(SimulatedFault::Silent);
    let more = "[defaults]\nkeep_alive = \"200ms\"\n[limits]\nshutdown_timeout = \"1s\"";
    let mut program = program(&provider, more, &[]).await;
    let whole = tokio::spawn(ask(post(&program, false)));
    // It is sent comments, and its answer has not begun either.
    let response = timeout(SOON, send(post(&program, true))).await.unwrap();
    assert_eq!(response.status(), 200);
    program.signal("TERM");
    let mut body = response.into_body();
    let mut told = Vec::new();
    let end = loop {
        match timeout(SOON, body.frame()).await.unwrap() {
            Some(Ok(frame)) => told.extend_from_slice(&frame.into_data().unwrap()),
            end => break end,
        }
    };
    assert!(end.is_some_and(|end| end.is_err()), "a stream that was cut looks whole");
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains(": keep-alive\n\ndata: {\"error\":") && told.contains("\"code\":\"stopping\""), "{told}");
    let (parts, body) = timeout(SOON, whole).await.unwrap().unwrap();
    assert_eq!((parts.status.as_u16(), &parts.headers["retry-after"]), (503, &"1".parse().unwrap()));
    assert!(String::from_utf8_lossy(&body).contains("\"code\":\"stopping\""), "{body:?}");
    assert_eq!(program.ended(SOON).await.0.code(), Some(0));
}

#[tokio::test]
async fn the_log_is_for_people_or_for_machines() {
    let provider = paced(1).await;
    for (more, arguments, json) in [
        ("", &[][..], false),
        ("[log]\nformat = \"json\"", &[], true),
        ("", &["--log-format", "json"], true),
        ("[log]\nformat = \"json\"", &["--log-format", "human"], false),
    ] {
        let mut program = program(&provider, more, arguments).await;
        program.signal("TERM");
        program.ended(SOON).await;
        let log = program.folder.read("stderr");
        assert!(log.contains("stopping: new requests are refused"), "{log}");
        for line in log.lines() {
            let object = serde_json::from_str::<serde_json::Map<_, _>>(line);
            assert_eq!(object.is_ok(), json, "{more} {arguments:?}: {line}");
            assert!(object.map_or(true, |object| object["level"] == "INFO" && object.contains_key("timestamp")));
        }
    }
}

#[tokio::test]
async fn it_listens_beyond_loopback_only_for_those_with_a_key() {
    let provider = paced(1).await;
    let folder = Folder::new();
    let run = |config: &str| {
        folder.write("gateway.toml", config);
        let program = env!("CARGO_BIN_EXE_failover-gateway");
        let mut command = std::process::Command::new(program);
        // An address that is nobody's here: where it may listen, it cannot.
        command.args(["--config", "gateway.toml", "--listen", "192.0.2.1:0"]).current_dir(folder.path());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let refused = run(&config(&provider, ""));
    assert!(refused.contains("192.0.2.1:0 is not a loopback address: without `keys` under [auth]"), "{refused}");
    let keys = "[auth]\nkeys = [{ value = \"sk-0123456789abcdef\" }]";
    assert!(run(&config(&provider, keys)).contains("cannot listen on 192.0.2.1:0"));
}

#[tokio::test]
async fn tls_shows_its_certificate_and_after_sighup_the_new_one() {
    let provider = paced(1).await;
    let folder = Folder::new();
    let files = [
        (include_str!("tls/first.pem"), include_str!("tls/first.key")),
        (include_str!("tls/second.pem"), include_str!("tls/second.key")),
    ];
    let put = |folder: &Folder, (certificate, key): (&str, &str)| {
        folder.write("cert.pem", certificate);
        folder.write("key.pem", key);
    };
    put(&folder, files[0]);
    let config = config(&provider, "[tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"");
    let mut program = Program::start(folder, &config, &[], "info").await;
    assert!(program.folder.read("stdout").contains("listening on https://"));

    assert!(shaken(&program, files[0].0).await && !shaken(&program, files[1].0).await);
    // Without TLS there is nothing to be had.
    let mut plain = TcpStream::connect(program.address).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(SOON, plain.read_to_end(&mut answer)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");

    let changed_to = |file: &'static str| {
        let program = &program;
        async move {
            for _ in 0..200 {
                if shaken(program, file).await {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            false
        }
    };
    put(&program.folder, files[1]);
    program.signal("HUP");
    assert!(changed_to(files[1].0).await, "{}", program.output());
    program.folder.write("key.pem", "nothing of the kind");
    program.signal("HUP");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(shaken(&program, files[1].0).await, "a bad file took the good one away");
    assert!(program.output().contains("the certificate was not changed"));
    program.signal("TERM");
    assert_eq!(program.ended(SOON).await.0.code(), Some(0));
}

/// Whether it answers encrypted, with that certificate.
async fn shaken(program: &Program, certificate: &str) -> bool {
    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(program.address).await.unwrap();
    let Ok(mut stream) = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await else {
        return false;
    };
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap();
    answer.starts_with(b"HTTP/1.1 200 ")
}

#[tokio::test]
async fn a_stream_that_keeps_a_client_waiting_is_kept_alive_where_the_route_says_so() {
    let provider = SimulatedProvider::builder("slow")
        .answer("one two three")
        .first_output_delay(Duration::from_millis(700))
        .start()
        .await
        .unwrap();
    let with = "[defaults]\nkeep_alive = \"200ms\"\nretry = { attempts = 1 }";
    let kept = program(&provider, with, &[]).await;
    let plain = program(&provider, "[defaults]\nretry = { attempts = 1 }", &[]).await;
    let began = tokio::time::Instant::now();
    let response = send(post(&kept, true)).await;
    assert!(began.elapsed() < Duration::from_millis(600), "the head waited for the answer");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert!(response.headers().contains_key("x-request-id"));
    let all = response.into_body().collect().await.unwrap().to_bytes();
    let all = std::str::from_utf8(&all).unwrap();
    let comments = all.matches(": keep-alive\n\n").count();
    assert!(all.starts_with(": keep-alive\n\n") && (2..=4).contains(&comments), "{all}");
    assert_eq!(text(all.replace(": keep-alive\n\n", "").as_bytes()), "one two three");
    let (_, body) = ask(post(&plain, true)).await;
    assert!(!std::str::from_utf8(&body).unwrap().contains("keep-alive"));

    // JSON is left alone, and a stream that comes to nothing says so in the stream.
    let (head, body) = ask(post(&kept, false)).await;
    assert_eq!((head.status.as_u16(), text(&body)), (200, "one two three".into()));
    provider.set_fault(SimulatedFault::Silent);
    let quick = format!("{with}\ntimeout = {{ first_output = \"500ms\" }}");
    let failing = program(&provider, &quick, &[]).await;
    let mut body = send(post(&failing, true)).await.into_body();
    let (mut told, mut broke) = (String::new(), false);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => told.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap()),
            Err(_) => broke = true,
        }
    }
    assert!(broke && told.contains(": keep-alive\n\ndata: {\"error\":") && told.contains("\"timeout\""), "{told}");
}
