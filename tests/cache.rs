//! Answers that are kept, seen from outside: by clients on sockets, and by providers that count what reaches them.

#![allow(clippy::unwrap_used)] // what fails here fails the test

mod harness;

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use harness::{Served, ask, chat, post, send, simulated, text};
use http::{Request, response::Parts};
use http_body_util::{BodyExt, Full};
use tower::ServiceExt;
use tower_failover::{
    config::Config,
    gateway::Gateway,
    simulated::{SimulatedFault, SimulatedProvider},
};

async fn kept(primary: &SimulatedProvider, fallback: &SimulatedProvider, settings: &str) -> Served {
    let quick = "retry = { attempts = 1 }";
    Served::between(&primary.base_url(), &fallback.base_url(), &format!("{quick}\n{settings}")).await
}

fn cache_status(parts: &Parts) -> &str {
    parts.headers.get("cache-status").map_or("", |value| value.to_str().unwrap())
}

fn with_header(mut request: Request<Full<Bytes>>, name: &'static str, value: &str) -> Request<Full<Bytes>> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

#[tokio::test]
async fn it_is_off_unless_it_is_asked_for() {
    let (primary, fallback) = simulated().await;
    let served = kept(&primary, &fallback, "").await;
    for _ in 0..2 {
        let (parts, _) = ask(post(&served, chat(false))).await;
        assert!(!parts.headers.contains_key("cache-status") && !parts.headers.contains_key("age"));
    }
    assert_eq!(primary.request_count(), 2);
}

#[tokio::test]
async fn an_answer_comes_again_byte_for_byte() {
    let (primary, fallback) = simulated().await;
    let served = kept(&primary, &fallback, "cache = {}").await;
    for stream in [true, false] {
        // Each form of it is asked for first once, under another name.
        let body = chat(stream).replace("Say something.", if stream { "One." } else { "Two." });
        let (parts, first) = ask(post(&served, body.clone())).await;
        assert_eq!(cache_status(&parts), "tower-failover; fwd=miss; fwd-status=200");
        let (again, second) = ask(post(&served, body.clone())).await;
        assert!(cache_status(&again).starts_with("tower-failover; hit; ttl="), "{}", cache_status(&again));
        assert_eq!(first, second);
        assert_eq!(parts.headers["content-type"], again.headers["content-type"]);
        assert_eq!(
            (&again.headers["x-failover-attempts"], again.headers["age"].to_str().unwrap()),
            (&"0".parse().unwrap(), "0")
        );
        // White space and the order of members are nothing that is asked for.
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        let spread = serde_json::to_string_pretty(&value).unwrap();
        assert_eq!(ask(post(&served, spread)).await.1, first);
    }
    assert_eq!(primary.request_count(), 2);
    // Whoever asked for JSON has a stream now.
    let other = chat(true).replace("Say something.", "Two.");
    let (parts, streamed) = ask(post(&served, other)).await;
    assert!(cache_status(&parts).contains("hit"), "{}", cache_status(&parts));
    assert!(!text(&streamed).is_empty());
    assert_eq!(primary.request_count(), 2);
}

#[tokio::test]
async fn a_thousand_requests_at_once_reach_the_provider_once() {
    let primary = SimulatedProvider::builder("primary").first_output_delay(Duration::from_millis(500));
    let primary = primary.start().await.unwrap();
    let config = format!(
        "[providers.p]\ndialect = 'openai-chat'\nbase_url = '{}'\n[routes.chat]\ncache = {{}}\ntargets = [{{ provider = 'p' }}]",
        primary.base_url()
    );
    let config = Config::from_toml(&config, std::path::Path::new("test.toml"), &|_| None).unwrap();
    let router = Gateway::new(&config).router();
    let asking = (0..1000).map(|_| {
        let request = Request::post("/v1/chat/completions").body(axum::body::Body::from(chat(true))).unwrap();
        let asking = router.clone().oneshot(request);
        tokio::spawn(async move {
            let response = asking.await.unwrap();
            assert_eq!(response.status(), 200);
            response.into_body().collect().await.unwrap().to_bytes()
        })
    });
    let answers: Vec<_> = join_all(asking).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(primary.request_count(), 1);
    assert!(!text(&answers[0]).is_empty());
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}

#[tokio::test]
async fn whoever_asked_first_is_killed_within_the_stream_and_all_others_have_their_answer() {
    let primary = SimulatedProvider::builder("primary").chunk_delay(Duration::from_millis(100)).start().await.unwrap();
    let fallback = SimulatedProvider::start("fallback").await.unwrap();
    let served = kept(&primary, &fallback, "cache = {}").await;
    let mut first = send(post(&served, chat(true))).await.into_body();
    first.frame().await.unwrap().unwrap();
    let others: Vec<_> = (0..20).map(|_| tokio::spawn(ask(post(&served, chat(true))))).collect();
    tokio::time::sleep(Duration::from_millis(150)).await;
    drop(first);
    let answers = join_all(others).await;
    let (_, whole) = answers[0].as_ref().unwrap();
    for answer in &answers {
        let (parts, body) = answer.as_ref().unwrap();
        assert_eq!((parts.status.as_u16(), body), (200, whole));
        assert!(cache_status(parts).ends_with("; collapsed"), "{}", cache_status(parts));
    }
    assert!(!text(whole).is_empty());
    assert_eq!((primary.request_count(), primary.aborted_count(), fallback.request_count()), (1, 0, 0));
}

#[tokio::test]
async fn with_all_providers_down_a_stale_answer_is_given_and_marked() {
    let (primary, fallback) = simulated().await;
    let settings = "cache = { ttl = \"100ms\", stale_if_error = \"1h\" }";
    let served = kept(&primary, &fallback, settings).await;
    let (_, first) = ask(post(&served, chat(true))).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    primary.set_fault(SimulatedFault::Down);
    fallback.set_fault(SimulatedFault::Overloaded);
    for _ in 0..10 {
        let (parts, body) = ask(post(&served, chat(true))).await;
        assert_eq!((parts.status.as_u16(), &body), (200, &first));
        let status = cache_status(&parts);
        assert!(status.contains("fwd=stale; fwd-status=5") && status.ends_with("detail=stale-if-error"), "{status}");
        assert!(parts.headers.contains_key("age"));
    }
    let (parts, _) = ask(post(&served, chat(true).replace("Say", "Shout"))).await;
    assert!(parts.status.is_server_error());
    let (parts, _) = ask(with_header(post(&served, chat(true)), "cache-control", "no-cache")).await;
    assert!(parts.status.is_server_error());
}

#[tokio::test]
async fn clients_with_different_keys_do_not_share() {
    let primary = SimulatedProvider::start("primary").await.unwrap();
    let (one, two) = ("sk-gateway-team-a-0123456789", "sk-gateway-team-b-0123456789");
    let served = Served::with_config(&format!(
        r#"
        [auth]
        keys = [{{ value = "{one}", name = "a" }}, {{ value = "{two}", name = "b" }}]
        [providers.p]
        dialect = "openai-chat"
        base_url = "{}"
        [defaults]
        cache = {{}}
        [routes.chat]
        targets = [{{ provider = "p" }}]
        [routes."*"]
        targets = [{{ provider = "p" }}]
        "#,
        primary.base_url()
    ))
    .await;
    let with_key = |key: &str| with_header(post(&served, chat(false)), "authorization", &format!("Bearer {key}"));
    let (_, first) = ask(with_key(one)).await;
    let (parts, second) = ask(with_key(two)).await;
    assert!(cache_status(&parts).contains("fwd=miss"));
    assert_ne!(first, second);
    // The same key, sent in another way, is the same client.
    let (parts, again) = ask(with_header(post(&served, chat(false)), "x-api-key", one)).await;
    assert!(cache_status(&parts).contains("hit"));
    assert_eq!((again, primary.request_count()), (first, 2));
    // Another model is another answer.
    let request = post(&served, chat(false).replace("\"chat\"", "\"other\""));
    let (parts, _) = ask(with_header(request, "x-api-key", one)).await;
    assert!(cache_status(&parts).contains("fwd=miss"));
}

#[tokio::test]
async fn a_key_without_a_name_has_nothing_that_was_kept_for_another_in_its_place() {
    let primary = SimulatedProvider::start("primary").await.unwrap();
    let config = |keys: &str| {
        let toml = format!(
            r#"
            auth = {{ keys = [{keys}] }}
            [providers.p]
            dialect = "openai-chat"
            base_url = "{}"
            [routes."*"]
            cache = {{}}
            targets = [{{ provider = "p" }}]
            "#,
            primary.base_url()
        );
        Config::from_toml(&toml, std::path::Path::new("test.toml"), &|_| None).unwrap()
    };
    let (one, two) = (r#"{ value = "sk-gateway-one-0123456789" }"#, r#"{ value = "sk-gateway-two-0123456789" }"#);
    let gateway = Gateway::new(&config(&format!("{one}, {two}")));
    let asked = async |key: &str| {
        let request = Request::post("/v1/chat/completions").header("authorization", format!("Bearer {key}"));
        let request = request.body(axum::body::Body::from(chat(false))).unwrap();
        let (parts, body) = gateway.router().oneshot(request).await.unwrap().into_parts();
        body.collect().await.unwrap();
        cache_status(&parts).to_owned()
    };
    assert!(asked("sk-gateway-one-0123456789").await.contains("fwd=miss"));
    assert!(asked("sk-gateway-two-0123456789").await.contains("fwd=miss"));
    // The second is the first of the list now.
    gateway.replace(&config(two)).unwrap();
    assert!(asked("sk-gateway-two-0123456789").await.contains("hit"), "its own is still there");
    gateway.replace(&config(r#"{ value = "sk-gateway-new-0123456789" }"#)).unwrap();
    assert!(asked("sk-gateway-new-0123456789").await.contains("fwd=miss"));
}

#[tokio::test]
async fn answers_that_call_tools_are_kept_only_where_that_is_asked_for() {
    let body = serde_json::json!({
        "model": "chat", "messages": [{"role": "user", "content": "What is the weather?"}], "tool_choice": "required",
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}],
    });
    for (settings, requests) in [("cache = {}", 4), ("cache = { tool_calls = true }", 2)] {
        let (primary, fallback) = simulated().await;
        let served = kept(&primary, &fallback, settings).await;
        for (at, stream) in [(0, false), (1, false), (2, true), (3, true)] {
            let mut body = body.clone();
            body["stream"] = stream.into();
            // Not for one form to be made of the other.
            body["seed"] = u8::from(stream).into();
            let (parts, answer) = ask(post(&served, body.to_string())).await;
            assert!(String::from_utf8_lossy(&answer).contains("\"tool_calls\""), "{at}");
            assert_eq!(cache_status(&parts).contains("hit"), requests == 2 && at % 2 == 1, "{at}");
        }
        assert_eq!(primary.request_count(), requests);
    }
}

#[tokio::test]
async fn every_dialect_and_embeddings_are_kept() {
    let primary = SimulatedProvider::start("primary").await.unwrap();
    let served = Served::with_config(&format!(
        r#"
        [providers.p]
        dialect = "openai-chat"
        base_url = "{}"
        [routes."*"]
        cache = {{}}
        targets = [{{ provider = "p" }}]
        "#,
        primary.base_url()
    ))
    .await;
    let asked = [
        ("/v1/responses", r#"{"model":"m","input":"Hello!"}"#),
        ("/v1/responses", r#"{"model":"m","input":"Hello there!","stream":true}"#),
        ("/v1/messages", r#"{"model":"m","max_tokens":1000,"messages":[{"role":"user","content":"Hello!"}]}"#),
        (
            "/v1/messages",
            r#"{"model":"m","max_tokens":1001,"stream":true,"messages":[{"role":"user","content":"Hello!"}]}"#,
        ),
        ("/v1beta/models/m:generateContent", r#"{"contents":[{"role":"user","parts":[{"text":"Hello!"}]}]}"#),
        (
            "/v1beta/models/n:streamGenerateContent?alt=sse",
            r#"{"contents":[{"role":"user","parts":[{"text":"Hello!"}]}]}"#,
        ),
        ("/v1beta/models/o:streamGenerateContent", r#"{"contents":[{"role":"user","parts":[{"text":"Hello!"}]}]}"#),
        ("/v1/embeddings", r#"{"model":"m","input":"Hello!"}"#),
    ];
    for (at, (path, body)) in asked.iter().enumerate() {
        let request = || {
            let request = Request::post(served.url(path)).header("content-type", "application/json");
            request.body(Full::from(*body)).unwrap()
        };
        let (parts, first) = ask(request()).await;
        assert_eq!(parts.status, 200, "{path}: {first:?}");
        let (parts, second) = ask(request()).await;
        assert!(cache_status(&parts).contains("hit"), "{path} {body}: {first:?}");
        assert_eq!(first, second, "{path}");
        assert_eq!(primary.request_count(), at as u64 + 1, "{path}");
    }
    // In each dialect the other form is made of what is kept.
    let (parts, json) = ask(Request::post(served.url("/v1/responses"))
        .header("content-type", "application/json")
        .body(Full::from(r#"{"model":"m","input":"Hello there!"}"#))
        .unwrap())
    .await;
    assert!(cache_status(&parts).contains("hit") && json.starts_with(b"{"), "{json:?}");
}
