//! The gateway on real sockets: what clients receive while providers fail.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

mod harness;

use std::time::Duration;

use bytes::Bytes;
use harness::{QUICK, RawProvider, Served, ask, chat, post, raw_response, send, simulated, text};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tower_failover::simulated::SimulatedFault;

fn json(body: &[u8]) -> serde_json::Value {
    serde_json::from_slice(body).unwrap()
}

fn fault(name: &str) -> SimulatedFault {
    name.parse().unwrap()
}

/// Waits for something that another task is about to do.
async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..200 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never happened: {what}");
}

#[tokio::test]
async fn whatever_happens_to_the_primary_the_fallback_answers() {
    let (primary, fallback) = simulated().await;
    for name in [
        "down",
        "reset",
        "silent",
        "rate-limited",
        "rate-limited:30s",
        "quota-exhausted",
        "overloaded",
        "server-error",
        "bad-gateway-html",
        "unauthorized",
        "forbidden",
        "model-not-found",
        "context-length-exceeded",
        "unsupported-parameter",
        "slow-first-token:3s",
        "error-first-event",
        "empty-stream",
        "html-ok",
        "cut:0",
        "end-early:0",
        "stall:0",
    ] {
        for stream in [false, true] {
            // A new gateway for each: no circuit remembers the one before.
            let served = Served::between(&primary.base_url(), &fallback.base_url(), QUICK).await;
            primary.set_fault(fault(name));
            primary.clear();
            let (head, body) = ask(post(&served, chat(stream))).await;
            assert_eq!(head.status, 200, "{name}, stream {stream}: {body:?}");
            assert_eq!(text(&body), "[fallback] A simulated answer to \"Say something.\".", "{name}, stream {stream}");
            assert_eq!(head.headers["x-failover-target"], "fallback/model-f");
            let on_the_wire = if name == "down" { "1" } else { "2" };
            assert_eq!(head.headers["x-failover-attempts"], on_the_wire, "{name}");
        }
    }
}

#[tokio::test]
async fn a_healthy_primary_answers_alone() {
    let (primary, fallback) = simulated().await;
    let served = Served::between(&primary.base_url(), &fallback.base_url(), QUICK).await;
    for stream in [false, true] {
        let (head, body) = ask(post(&served, chat(stream))).await;
        assert!(text(&body).starts_with("[primary]"));
        assert_eq!(
            (&head.headers["x-failover-target"], &head.headers["x-failover-attempts"]),
            (&"primary/model-p".parse().unwrap(), &"1".parse().unwrap())
        );
    }
    assert_eq!(fallback.request_count(), 0);
}

#[tokio::test]
async fn an_open_circuit_spares_the_primary_and_a_probe_finds_it_back() {
    let (primary, fallback) = simulated().await;
    let settings = format!("{QUICK}\n breaker = {{ failures = 3, open = \"2s\", max_open = \"2s\" }}");
    let served = Served::between(&primary.base_url(), &fallback.base_url(), &settings).await;
    primary.set_fault(SimulatedFault::ServerError);
    for _ in 0..20 {
        assert!(text(&ask(post(&served, chat(false))).await.1).starts_with("[fallback]"));
    }
    assert_eq!(primary.request_count(), 3);
    primary.set_fault(SimulatedFault::None);
    tokio::time::sleep(Duration::from_millis(2300)).await;
    assert!(text(&ask(post(&served, chat(false))).await.1).starts_with("[primary]"));
}

#[tokio::test]
async fn when_nobody_can_answer_the_status_and_code_say_why() {
    let (primary, fallback) = simulated().await;
    for (name, status, code) in [
        ("down", 502, "connect"),
        ("reset", 502, "connection_lost"),
        ("silent", 504, "timeout"),
        ("rate-limited:30s", 429, "rate_limit_exceeded"),
        ("quota-exhausted", 429, "insufficient_quota"),
        ("server-error", 503, "server_error"),
        ("unauthorized", 502, "invalid_api_key"),
        ("model-not-found", 502, "model_not_found"),
        ("bad-request", 400, ""),
        ("content-filtered", 400, "content_policy_violation"),
        ("html-ok", 503, "malformed_response"),
    ] {
        let served = Served::between(&primary.base_url(), &fallback.base_url(), QUICK).await;
        [&primary, &fallback].iter().for_each(|provider| provider.set_fault(fault(name)));
        let (head, body) = ask(post(&served, chat(true))).await;
        assert_eq!(head.status.as_u16(), status, "{name}: {body:?}");
        let error = &json(&body)["error"];
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{name}");
        if !code.is_empty() {
            assert_eq!(error["code"], code, "{name}: {error}");
        }
        let waits = head.headers.get("retry-after").map(|value| value.to_str().unwrap());
        assert_eq!(waits, (name == "rate-limited:30s").then_some("30"), "{name}");
    }
}

#[tokio::test]
async fn a_fault_of_the_request_is_told_as_the_provider_told_it_and_nobody_else_is_asked() {
    let (primary, fallback) = simulated().await;
    let served = Served::between(&primary.base_url(), &fallback.base_url(), QUICK).await;
    primary.set_fault(SimulatedFault::BadRequest);
    let direct = Request::post(format!("{}/chat/completions", primary.base_url())).body(Full::new(chat(false).into()));
    let (_, expected) = ask(direct.unwrap()).await;
    let (head, body) = ask(post(&served, chat(false))).await;
    assert_eq!((head.status, body), (StatusCode::BAD_REQUEST, expected));
    assert_eq!(fallback.request_count(), 0);
}

#[tokio::test]
async fn bytes_pass_unchanged_but_for_the_model() {
    let request = concat!(
        "{ \"model\" : \"chat\",\r\n\t\"temperature\":1.0e+00,\"seed\":123456789012345678901234567890,",
        "\"x_unknown\":{\"b\":[1E2,-0.0],\"a\":null},\"messages\":[{\"role\":\"user\",\"content\":\"\\u00e9 \\/ 😀\"}] }\n"
    );
    let answer = "{\"choices\" : [ {\"message\":{\"content\":\"\\u00e9\\/\"},\"n\":1.50} ],\n \"z\":1,\"a\":2}  \n";
    let stream = concat!(
        "\u{feff}: hello\r\n\r\nevent: x\r\ndata:{\"choices\":[{\"delta\":{\"content\":\"\"}}]}\r\n\r\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\\u00e9\"},\"f\":1.0e0}]}\n\n\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\r\rid: 7\ndata: [DONE]\n"
    );
    let asks_for_a_stream = request.replacen('{', "{\t\"stream\" :true,", 1);
    let events = "text/event-stream; charset=utf-8";
    for (request, content_type, response) in
        [(request, "application/json", answer), (&asks_for_a_stream, events, stream)]
    {
        let primary = RawProvider::answering(raw_response(content_type, response.as_bytes())).await;
        let served = Served::between(&primary.base_url, "http://127.0.0.1:9/v1", QUICK).await;
        let (head, body) = ask(post(&served, request.to_owned())).await;
        assert_eq!(body, response);
        assert_eq!(head.headers["content-type"], content_type);
        let (_, sent) = primary.request().await;
        assert_eq!(String::from_utf8(sent).unwrap(), request.replace("\"chat\"", "\"model-p\""));
    }
}

#[tokio::test]
async fn a_model_that_passes_through_changes_nothing_at_all() {
    let request = r#"{"messages":[],"model":"pass-\u0041/b"}"#;
    let primary = RawProvider::answering(raw_response("application/json", b"{\"choices\":[]}")).await;
    let served = Served::between(&primary.base_url, "http://127.0.0.1:9/v1", QUICK).await;
    let (head, _) = ask(post(&served, request)).await;
    assert_eq!(head.headers["x-failover-target"], "primary/pass-A/b");
    assert_eq!(primary.request().await.1, request.as_bytes());
}

#[tokio::test]
async fn headers_go_where_they_belong() {
    let response = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nset-cookie: a=b\r\nx-request-id: theirs\r\n\
                    x-failover-target: nobody\r\nkeep-alive: timeout=5\r\nopenai-version: 1\r\nx-hop: 1\r\n\
                    connection: close, x-hop\r\ncontent-length: 14\r\n\r\n{\"choices\":[]}";
    let primary = RawProvider::answering(response.as_bytes().to_vec()).await;
    let served = Served::between(&primary.base_url, "http://127.0.0.1:9/v1", QUICK).await;
    let mut request = post(&served, chat(false));
    for (name, value) in [
        ("authorization", "Bearer sk-client"),
        ("x-api-key", "sk-client"),
        ("cookie", "session=sk-client"),
        ("x-failover-tags", ""),
        ("x-request-id", "mine"),
        ("openai-organization", "org-1"),
        ("accept-encoding", "gzip, br"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let (head, _) = ask(request).await;
    assert_eq!(head.headers["x-request-id"], "mine");
    assert_eq!(head.headers["x-failover-target"], "primary/model-p");
    assert_eq!(head.headers["openai-version"], "1");
    assert_eq!(head.headers["content-length"], "14");
    for name in ["set-cookie", "keep-alive", "x-hop"] {
        assert!(!head.headers.contains_key(name), "{name}");
    }
    let (sent, _) = primary.request().await;
    assert!(sent.contains("authorization: Bearer sk-upstream-primary\r\n"), "{sent}");
    assert!(sent.contains("openai-organization: org-1\r\n") && sent.contains("accept-encoding: identity\r\n"));
    assert!(sent.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"));
    for gone in ["sk-client", "x-failover", "cookie"] {
        assert!(!sent.contains(gone), "{gone} in {sent}");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_ends_with_an_error_event_and_not_cleanly() {
    let (primary, fallback) = simulated().await;
    let served = Served::between(&primary.base_url(), &fallback.base_url(), QUICK).await;
    for (name, code) in [
        ("cut:2", "stream_interrupted"),
        ("end-early:2", "stream_interrupted"),
        ("error-mid-stream:2", "server_error"),
        ("stall:2", "timeout"),
    ] {
        primary.set_fault(fault(name));
        let mut body = send(post(&served, chat(true))).await.into_body();
        let (mut received, mut broke) = (String::new(), false);
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => received.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap()),
                Err(_) => broke = true,
            }
        }
        assert!(broke, "{name} ended cleanly: {received}");
        assert!(received.contains("\"content\":\"[primary]\""), "{name}: {received}");
        let last = received.trim_end().rsplit("\n\n").next().unwrap().strip_prefix("data: ").unwrap();
        assert_eq!(json(last.as_bytes())["error"]["code"], code, "{name}");
        assert!(!received.contains("[DONE]"));
    }
    assert_eq!(fallback.request_count(), 0);
}

#[tokio::test]
async fn events_are_forwarded_as_they_come() {
    let primary =
        tower_failover::simulated::SimulatedProvider::builder("slow").chunk_delay(Duration::from_millis(40)).start();
    let primary = primary.await.unwrap();
    let served = Served::between(&primary.base_url(), "http://127.0.0.1:9/v1", QUICK).await;
    let mut body = send(post(&served, chat(true))).await.into_body();
    let mut frames = 0;
    while let Some(frame) = body.frame().await {
        frames += usize::from(
            frame.unwrap().data_ref().unwrap().windows(9).filter(|bytes| bytes == b"\"content\"").count() == 1,
        );
    }
    assert!(frames >= 4, "events were put together: {frames} came alone");
}

#[tokio::test]
async fn a_client_that_leaves_takes_the_upstream_call_with_it() {
    let (primary, fallback) = simulated().await;
    let patient = r#"retry = { attempts = 1 }"#;
    let served = Served::between(&primary.base_url(), &fallback.base_url(), patient).await;
    for name in ["silent", "slow-first-token:20s", "stall:2"] {
        primary.clear();
        primary.set_fault(fault(name));
        let call = tokio::spawn(ask(post(&served, chat(true))));
        eventually("the primary is asked", || primary.request_count() == 1).await;
        call.abort();
        eventually(name, || primary.aborted_count() == 1).await;
    }
    assert_eq!(fallback.request_count(), 0);
}

#[tokio::test]
async fn what_the_gateway_itself_refuses() {
    let (primary, fallback) = simulated().await;
    let settings = format!("{QUICK}\n");
    let served = Served::between(&primary.base_url(), &fallback.base_url(), &settings).await;
    let with = |body: &str, header: Option<(&'static str, &str)>| {
        let mut request = post(&served, body.to_owned());
        if let Some((name, value)) = header {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        request
    };
    let good = chat(false);
    for (request, status, code) in [
        (with("", None), 400, "invalid_json"),
        (with("[1]", None), 400, "invalid_json"),
        (with(&good[..good.len() - 1], None), 400, "invalid_json"),
        (with("{\"messages\":[]}", None), 400, "missing_required_parameter"),
        (with("{\"model\":7}", None), 400, "missing_required_parameter"),
        (with("{\"model\":\"unknown\"}", None), 404, "model_not_found"),
        (with(&good, Some(("x-failover-tags", "eu"))), 400, "no_capable_target"),
        (with(&good, Some(("x-failover-max-ttft", "soon"))), 400, "invalid_header"),
        (Request::get(served.url("/nothing")).body(Full::default()).unwrap(), 404, "unknown_url"),
        (Request::get(served.url("/v1/chat/completions")).body(Full::default()).unwrap(), 405, "bad_request"),
    ] {
        let (head, body) = ask(request).await;
        assert_eq!((head.status.as_u16(), &json(&body)["error"]["code"]), (status, &code.into()), "{body:?}");
    }
    assert_eq!(primary.request_count() + fallback.request_count(), 0);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_at_once() {
    let (primary, _) = simulated().await;
    let served = Served::with_config(&format!(
        "[limits]\nmax_body = \"1KiB\"\n[providers.p]\ndialect = \"openai-chat\"\nbase_url = \"{}\"\n\
         [routes.\"*\"]\ntargets = [{{ provider = \"p\" }}]\n",
        primary.base_url()
    ))
    .await;
    let (head, body) = ask(post(&served, vec![b'x'; 1025])).await;
    assert_eq!((head.status.as_u16(), &json(&body)["error"]["code"]), (413, &"payload_too_large".into()));
    assert_eq!(primary.request_count(), 0);
}

#[tokio::test]
async fn targets_are_chosen_by_what_the_request_needs() {
    let (primary, fallback) = simulated().await;
    let served = Served::with_config(&format!(
        r#"
        [providers.primary]
        dialect = "openai-chat"
        base_url = "{}"
        tags = ["us"]
        [providers.fallback]
        dialect = "openai-chat"
        base_url = "{}"
        tags = ["eu"]
        [routes."*"]
        targets = [
          {{ provider = "primary", capabilities = {{ tools = false, image_input = false, context_window = 1000 }} }},
          {{ provider = "fallback" }},
        ]
        "#,
        primary.base_url(),
        fallback.base_url()
    ))
    .await;
    let message = |content: serde_json::Value| serde_json::json!([{"role": "user", "content": content}]);
    let plain = serde_json::json!({"model": "m", "messages": message("hi".into())});
    let tools = serde_json::json!({"model": "m", "messages": message("hi".into()),
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]});
    let image = serde_json::json!({"model": "m",
        "messages": message(serde_json::json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]))});
    let long = serde_json::json!({"model": "m", "messages": message("word ".repeat(2000).into())});
    for (request, tags, expected) in [
        (&plain, "", "primary/m"),
        (&plain, "us", "primary/m"),
        (&plain, "eu", "fallback/m"),
        (&tools, "", "fallback/m"),
        (&image, "", "fallback/m"),
        (&long, "", "fallback/m"),
    ] {
        let mut request = post(&served, request.to_string());
        request.headers_mut().insert("x-failover-tags", tags.parse().unwrap());
        let (head, body) = ask(request).await;
        assert_eq!(head.headers["x-failover-target"], expected, "{tags}: {body:?}");
        assert_eq!(head.headers["x-failover-attempts"], "1");
    }
    let mut impossible = post(&served, tools.to_string());
    impossible.headers_mut().insert("x-failover-tags", "us".parse().unwrap());
    let (head, body) = ask(impossible).await;
    let error = &json(&body)["error"];
    assert_eq!((head.status.as_u16(), &error["code"]), (400, &"no_capable_target".into()));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("tools") && message.contains("tag \"us\""), "{message}");
}

#[tokio::test]
async fn a_provider_is_not_asked_for_more_than_its_limits() {
    let (primary, fallback) = simulated().await;
    let config = |limit: &str, others: &str| {
        format!(
            "[providers.p]\ndialect = \"openai-chat\"\nbase_url = \"{}\"\n{limit}\n\
             [providers.f]\ndialect = \"openai-chat\"\nbase_url = \"{}\"\n{others}\n\
             [routes.\"*\"]\ntargets = [{{ provider = \"p\" }}, {{ provider = \"f\" }}]\n",
            primary.base_url(),
            fallback.base_url()
        )
    };
    let gateway = Served::with_config(&config("requests_per_minute = 2", "requests_per_minute = 1")).await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        let (head, body) = ask(post(&gateway, chat(false))).await;
        let target = head.headers.get("x-failover-target").map(|target| target.to_str().unwrap().to_owned());
        answers.push((head.status.as_u16(), target, json(&body)["error"]["code"].clone()));
    }
    let answered = |by: &str| (200, Some(by.to_owned()), serde_json::Value::Null);
    let refused = (429, None, "limit_reached".into());
    assert_eq!(answers, [answered("p/chat"), answered("p/chat"), answered("f/chat"), refused]);

    // One call at a time: while a stream runs, others go elsewhere; when it has ended they come back.
    let gateway = Served::with_config(&config("max_concurrency = 1", "")).await;
    primary.set_fault(fault("stall:2"));
    let running = send(post(&gateway, chat(true))).await;
    assert!(text(&ask(post(&gateway, chat(false))).await.1).starts_with("[fallback]"));
    primary.set_fault(SimulatedFault::None);
    drop(running);
    eventually("the stream's end is noticed", || primary.aborted_count() == 1).await;
    assert!(text(&ask(post(&gateway, chat(false))).await.1).starts_with("[primary]"));
}

fn pass_through(base_url: &str, settings: &str) -> String {
    format!(
        "[providers.p]\ndialect = \"openai-chat\"\nbase_url = \"{base_url}\"\n[defaults]\n{settings}\n\
         [routes.\"*\"]\ntargets = [{{ provider = \"p\" }}]\n"
    )
}

#[tokio::test]
async fn what_one_client_chooses_opens_no_circuit_for_others() {
    let (primary, _) = simulated().await;
    let served = Served::with_config(&pass_through(&primary.base_url(), QUICK)).await;
    let with = |header: Option<(&'static str, &str)>, stream| {
        let mut request = post(&served, chat(stream));
        if let Some((name, value)) = header {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        request
    };
    for (name, header, times) in [
        ("model-not-found", None, 2),
        ("forbidden", None, 2),
        ("unauthorized", Some(("openai-organization", "org-x")), 2),
        ("slow-first-token:100ms", Some(("x-failover-max-ttft", "10ms")), 6),
    ] {
        primary.set_fault(fault(name));
        for _ in 0..times {
            assert_ne!(ask(with(header, true)).await.0.status, 200, "{name}");
        }
        primary.set_fault(SimulatedFault::None);
        assert_eq!(ask(with(None, true)).await.0.status, 200, "{name}");
    }
    // A bound on the first output is none on an answer in one piece.
    let served = Served::with_config(&pass_through(&primary.base_url(), "")).await;
    primary.set_fault(fault("slow-first-token:50ms"));
    let mut request = post(&served, chat(false));
    request.headers_mut().insert("x-failover-max-ttft", "10ms".parse().unwrap());
    assert_eq!(ask(request).await.0.status, 200);
}

#[tokio::test]
async fn the_last_resort_is_tried_though_another_target_failed() {
    let (primary, fallback) = simulated().await;
    let settings = format!("{QUICK}\n breaker = {{ failures = 1 }}");
    let served = Served::between(&primary.base_url(), &fallback.base_url(), &settings).await;
    primary.set_fault(SimulatedFault::ServerError);
    assert!(text(&ask(post(&served, chat(false))).await.1).starts_with("[fallback]"));
    primary.set_fault(SimulatedFault::None);
    fallback.set_fault(SimulatedFault::ServerError);
    assert!(text(&ask(post(&served, chat(false))).await.1).starts_with("[primary]"));
}

#[tokio::test]
async fn several_answers_in_one_stream_are_whole_only_together() {
    let chunk = |index: u32, end: bool| {
        let finish = if end { "\"stop\"" } else { "null" };
        format!(
            "data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"x\"}},\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    for (events, whole) in [
        ([chunk(0, false), chunk(1, false), chunk(0, true)].concat(), false),
        ([chunk(0, false), chunk(1, false), chunk(0, true), chunk(1, true)].concat(), true),
    ] {
        let primary = RawProvider::answering(raw_response("text/event-stream", events.as_bytes())).await;
        let served = Served::between(&primary.base_url, "http://127.0.0.1:9/v1", QUICK).await;
        let asked = r#"{"model":"chat","stream":true,"n":2,"messages":[]}"#;
        let body = send(post(&served, asked)).await.into_body().collect().await;
        assert_eq!(body.is_ok(), whole, "{events}");
    }
}

#[tokio::test]
async fn output_and_error_that_come_together_are_an_error_that_nobody_saw() {
    let events = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n\
                  data: {\"error\":{\"message\":\"Overloaded\",\"code\":\"overloaded\"}}\n\n";
    let primary = RawProvider::answering(raw_response("text/event-stream", events.as_bytes())).await;
    let (_, fallback) = simulated().await;
    let served = Served::between(&primary.base_url, &fallback.base_url(), QUICK).await;
    assert!(text(&ask(post(&served, chat(true))).await.1).starts_with("[fallback]"));
}

#[tokio::test]
async fn keep_alives_are_no_progress_and_a_connection_that_stays_open_no_failure() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let text_event = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n";
    let done = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    for (then, whole) in [("", false), (done, true)] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let provider = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.read(&mut [0; 4096]).await.unwrap();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            socket.write_all(format!("{head}{text_event}{then}").as_bytes()).await.unwrap();
            // The socket stays open, and alive, until we are hung up on.
            while socket.write_all(b": keep-alive\n\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let served = Served::between(&base_url, "http://127.0.0.1:9/v1", QUICK).await;
        let ended = send(post(&served, chat(true))).await.into_body().collect();
        let ended = tokio::time::timeout(Duration::from_secs(2), ended).await.expect("it ends");
        assert_eq!(ended.is_ok(), whole);
        tokio::time::timeout(Duration::from_secs(2), provider).await.expect("and so does the upstream call").unwrap();
    }
}

#[tokio::test]
async fn models_and_health_are_told() {
    let (primary, fallback) = simulated().await;
    let served = Served::between(&primary.base_url(), &fallback.base_url(), QUICK).await;
    let get = |path: &str| Request::get(served.url(path)).body(Full::<Bytes>::default()).unwrap();
    let (head, body) = ask(get("/v1/models")).await;
    assert_eq!((head.status.as_u16(), &json(&body)["data"][0]["id"]), (200, &"chat".into()));
    assert_eq!(ask(get("/v1/models/pass-x/y")).await.0.status, 200);
    assert_eq!(ask(get("/v1/models/other")).await.0.status, 404);
    // To the SDKs of others in their own words.
    let gemini = json(&ask(get("/v1beta/models")).await.1);
    assert_eq!(gemini["models"][0]["name"], "models/chat", "{gemini}");
    let (head, gemini) = ask(get("/v1beta/models/other")).await;
    assert_eq!((head.status.as_u16(), &json(&gemini)["error"]["status"]), (404, &"NOT_FOUND".into()));
    let (mut request, key) = (get("/v1/models"), "2023-06-01".parse().unwrap());
    request.headers_mut().insert("anthropic-version", key);
    let anthropic = json(&ask(request).await.1);
    assert_eq!((&anthropic["data"][0]["type"], &anthropic["has_more"]), (&"model".into(), &false.into()));
    // An SDK whose base URL has a version too few, or too many.
    for (path, hint) in [("/chat/completions", "must end in /v1"), ("/v1/v1/messages", "ends before /v1")] {
        let (head, body) = ask(get(path)).await;
        let told = json(&body)["error"]["message"].as_str().unwrap().to_owned();
        assert!(head.status.as_u16() == 404 && told.contains(hint), "{path}: {told}");
    }
    for path in ["/healthz", "/readyz"] {
        let (head, _) = ask(get(path)).await;
        assert!(head.status == 200 && head.headers.contains_key("x-request-id"), "{path}");
    }
}

#[tokio::test]
async fn when_stopped_it_refuses_new_calls_and_finishes_the_old() {
    let primary =
        tower_failover::simulated::SimulatedProvider::builder("slow").chunk_delay(Duration::from_millis(60)).start();
    let primary = primary.await.unwrap();
    let served = Served::between(&primary.base_url(), "http://127.0.0.1:9/v1", QUICK).await;
    let mut body = send(post(&served, chat(true))).await.into_body();
    let first = body.frame().await.unwrap().unwrap();
    served.stop();
    let refused = async {
        while ask(post(&served, chat(false))).await.0.status != 503 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_millis(500), refused).await.expect("new requests are refused");
    let rest = body.collect().await.unwrap().to_bytes();
    assert!(text(&[first.data_ref().unwrap(), &rest[..]].concat()).ends_with("\"Say something.\"."));
    tokio::time::timeout(Duration::from_secs(2), served.stopped()).await.expect("it is done when the stream is");
}

#[tokio::test]
async fn an_idle_gateway_stops_at_once() {
    let (primary, fallback) = simulated().await;
    let served = Served::between(&primary.base_url(), &fallback.base_url(), QUICK).await;
    // A kept-alive connection without a request must not hold it.
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build(hyper_util::client::legacy::connect::HttpConnector::new());
    client.request(post(&served, chat(false))).await.unwrap().into_body().collect().await.unwrap();
    served.stop();
    tokio::time::timeout(Duration::from_millis(500), served.stopped()).await.expect("it stops at once");
}
