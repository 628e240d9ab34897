//! What operators see of an outage, and what they may do about it.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

mod harness;

use std::{collections::BTreeSet, path::Path, time::Duration};

use bytes::Bytes;
use harness::{QUICK, RawProvider, Served, ask, chat, post, raw_response, simulated, text};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tokio::time::Instant;
use tower::ServiceExt;
use tower_failover::{
    config::Config,
    gateway::Gateway,
    simulated::{SimulatedFault, SimulatedProvider},
};

const SECRETS: [&str; 2] = ["sk-upstream-primary", "sk-upstream-fallback"];

fn get(served: &Served, path: &str) -> Request<Full<Bytes>> {
    Request::get(served.url(path)).body(Full::default()).unwrap()
}

async fn status(served: &Served) -> Value {
    let (head, body) = ask(get(served, "/status.json")).await;
    assert_eq!((head.status, &head.headers["content-type"]), (StatusCode::OK, &"application/json".parse().unwrap()));
    assert!(SECRETS.iter().all(|secret| !String::from_utf8_lossy(&body).contains(secret)), "a key is in {body:?}");
    serde_json::from_slice(&body).unwrap()
}

fn target<'a>(status: &'a Value, id: &str) -> &'a Value {
    status["targets"].as_array().unwrap().iter().find(|target| target["id"] == id).unwrap()
}

fn route<'a>(status: &'a Value, name: &str) -> &'a Value {
    status["routes"].as_array().unwrap().iter().find(|route| route["name"] == name).unwrap()
}

fn events<'a>(status: &'a Value, kind: &str) -> Vec<&'a Value> {
    status["events"].as_array().unwrap().iter().filter(|event| event["kind"] == kind).collect()
}

/// The first status that is as it should be, which has to be there within a second.
async fn within_a_second(served: &Served, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let status = status(served).await;
        if holds(&status) {
            return status;
        }
        assert!(began.elapsed() < Duration::from_secs(1), "not within a second: {what}: {status:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn act(served: &Served, path: &str, headers: &[(&str, &str)]) -> (StatusCode, Value) {
    let mut request = Request::post(served.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, body) = ask(request.body(Full::default()).unwrap()).await;
    (head.status, serde_json::from_slice(&body).unwrap())
}

async fn with_settings(settings: &str) -> (SimulatedProvider, SimulatedProvider, Served) {
    let (primary, fallback) = simulated().await;
    let served = Served::between(&primary.base_url(), &fallback.base_url(), &format!("{QUICK}\n{settings}")).await;
    (primary, fallback, served)
}

async fn say(served: &Served) -> String {
    let body = ask(post(served, chat(false))).await.1;
    text(&body)
}

#[tokio::test]
async fn an_outage_and_its_end_are_seen_within_a_second() {
    let breaker = "breaker = { failures = 3, open = \"300ms\", max_open = \"300ms\" }";
    let (primary, _fallback, served) = with_settings(breaker).await;
    let before = status(&served).await;
    assert_eq!((&before["state"], &target(&before, "primary/model-p")["state"]), (&"ok".into(), &"closed".into()));
    assert!(events(&before, "failover").is_empty());

    primary.set_fault(SimulatedFault::ServerError);
    for _ in 0..5 {
        assert!(say(&served).await.starts_with("[fallback]"));
    }
    let during = within_a_second(&served, "the circuit is open", |status| {
        target(status, "primary/model-p")["state"] == "open" && !events(status, "circuit").is_empty()
    })
    .await;
    let (primary_now, fallback_now) = (target(&during, "primary/model-p"), target(&during, "fallback/model-f"));
    assert_eq!(primary_now["last_fault"]["kind"], "unavailable");
    assert_eq!(primary_now["last_fault"]["status"], 500);
    assert_eq!((&primary_now["requests"], &primary_now["refusals"]), (&3.into(), &2.into()));
    assert_eq!((&primary_now["success_rate"], &fallback_now["success_rate"]), (&0.0.into(), &1.0.into()));
    assert_eq!(primary_now["faults"], serde_json::json!({"unavailable": 3}));
    assert!(primary_now["reopens_in_seconds"].as_u64().unwrap() <= 1);
    assert!(fallback_now["response_time"]["p50"].as_f64().unwrap() < 0.15);
    assert!(fallback_now["remaining"]["requests"].as_u64().unwrap() > 0);
    let chat_now = route(&during, "chat");
    assert_eq!((&chat_now["state"], &chat_now["available"]), (&"degraded".into(), &1.into()));
    assert_eq!((&chat_now["failovers"], &chat_now["success_rate"]), (&5.into(), &1.0.into()));
    let failovers = events(&during, "failover");
    assert_eq!(failovers.len(), 2, "failed, then refused: {failovers:?}");
    assert_eq!((&failovers[1]["count"], &failovers[1]["from"]), (&3.into(), &"primary/model-p".into()));

    primary.set_fault(SimulatedFault::None);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(say(&served).await.starts_with("[primary]"));
    let after = within_a_second(&served, "the circuit is closed", |status| {
        target(status, "primary/model-p")["state"] == "closed"
    })
    .await;
    let changes: Vec<_> = events(&after, "circuit").iter().map(|event| event["state"].clone()).collect();
    assert_eq!(changes, ["closed", "half_open", "open"]);
    assert_eq!(route(&after, "chat")["state"], "ok");
}

#[tokio::test]
async fn a_drained_target_gets_nothing_until_it_is_closed() {
    let (primary, fallback, served) = with_settings("").await;
    let (code, told) = act(&served, "/admin/targets/primary%2Fmodel-p/drain", &[]).await;
    assert_eq!((code, &told["drained"], &told["reopens_in_seconds"]), (StatusCode::OK, &true.into(), &Value::Null));
    assert!(say(&served).await.starts_with("[fallback]"));
    assert_eq!(act(&served, "/admin/targets/fallback/model-f/drain", &[]).await.0, StatusCode::OK);
    let asked = [primary.request_count(), fallback.request_count()];
    let (head, body) = ask(post(&served, chat(true))).await;
    let error: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((head.status, &error["error"]["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"target_drained".into()));
    assert_eq!([primary.request_count(), fallback.request_count()], asked, "not even as a last resort");
    let now = status(&served).await;
    assert_eq!((&now["state"], &route(&now, "chat")["state"]), (&"down".into(), &"down".into()));
    assert_eq!(route(&now, "pass-*")["state"], "ok", "another target of the same provider");
    assert_eq!(events(&now, "drain").len(), 2);

    let (_, told) = act(&served, "/admin/targets/primary%2Fmodel-p/close", &[]).await;
    assert_eq!((&told["drained"], &told["state"]), (&false.into(), &"closed".into()));
    assert!(say(&served).await.starts_with("[primary]"));
    assert_eq!(events(&status(&served).await, "drain")[0]["drained"], false);
}

#[tokio::test]
async fn a_stream_that_runs_is_in_flight_and_a_drain_lets_it_finish() {
    let (primary, fallback) = (
        SimulatedProvider::builder("primary").chunk_delay(Duration::from_millis(60)).start().await.unwrap(),
        SimulatedProvider::start("fallback").await.unwrap(),
    );
    let served = Served::between(&primary.base_url(), &fallback.base_url(), QUICK).await;
    let mut body = harness::send(post(&served, chat(true))).await.into_body();
    let mut whole = body.frame().await.unwrap().unwrap().into_data().unwrap().to_vec();
    let (_, told) = act(&served, "/admin/targets/primary%2Fmodel-p/drain", &[]).await;
    assert_eq!(told["in_flight"], 1);
    whole.extend(body.collect().await.unwrap().to_bytes());
    assert!(text(&whole).starts_with("[primary]"));
    let now =
        within_a_second(&served, "it is over", |status| target(status, "primary/model-p")["in_flight"] == 0).await;
    let primary_now = target(&now, "primary/model-p");
    assert_eq!((&primary_now["drained"], &primary_now["success_rate"]), (&true.into(), &1.0.into()));
    assert!(primary_now["time_to_first_token"]["p50"].is_number() && primary_now["response_time"]["p50"].is_null());
}

#[tokio::test]
async fn a_stream_that_breaks_off_fails_its_route_unless_another_target_goes_on_with_it() {
    for (settings, success_rate) in [("stream_recovery = \"resume\"", 1.0), ("", 0.0)] {
        let (primary, _fallback, served) = with_settings(settings).await;
        primary.set_fault("cut:3".parse().unwrap());
        let _ = harness::send(post(&served, chat(true))).await.into_body().collect().await;
        let now = status(&served).await;
        let [primary_now, chat_now] = [target(&now, "primary/model-p"), route(&now, "chat")];
        assert_eq!((&primary_now["success_rate"], &primary_now["in_flight"]), (&0.0.into(), &0.into()), "{settings}");
        assert_eq!((&chat_now["requests"], &chat_now["success_rate"]), (&1.into(), &success_rate.into()), "{settings}");
        assert_eq!(events(&now, "interrupted")[0]["target"], "primary/model-p");
    }
}

#[tokio::test]
async fn a_circuit_opened_by_hand_is_open_for_long_and_may_be_a_last_resort() {
    let (_primary, fallback, served) = with_settings("").await;
    let (_, told) = act(&served, "/admin/targets/primary%2Fmodel-p/open", &[]).await;
    assert_eq!((&told["state"], &told["drained"]), (&"open".into(), &false.into()));
    assert!((590..=600).contains(&told["reopens_in_seconds"].as_u64().unwrap()));
    assert!(say(&served).await.starts_with("[fallback]"));
    fallback.set_fault(SimulatedFault::ServerError);
    assert!(say(&served).await.starts_with("[primary]"));
    assert_eq!(target(&status(&served).await, "primary/model-p")["state"], "closed", "it has answered");
}

#[tokio::test]
async fn what_is_not_there_is_404_and_pages_of_other_sites_are_refused() {
    let (_primary, _fallback, served) = with_settings("").await;
    for (path, code) in [
        ("/admin/targets/nobody%2Fx/drain", "target_not_found"),
        ("/admin/targets/primary%2Fmodel-p/delete", "unknown_url"),
        ("/admin/targets/drain", "unknown_url"),
        ("/admin", "unknown_url"),
    ] {
        let (status, told) = act(&served, path, &[]).await;
        assert_eq!((status, &told["error"]["code"]), (StatusCode::NOT_FOUND, &code.into()), "{path}");
    }
    let (head, _) = ask(get(&served, "/admin/targets/primary%2Fmodel-p/drain")).await;
    assert_eq!(head.status, StatusCode::METHOD_NOT_ALLOWED, "a link must not act");
    for headers in [("sec-fetch-site", "cross-site"), ("origin", "http://evil.example")] {
        let (status, told) = act(&served, "/admin/targets/primary%2Fmodel-p/drain", &[headers]).await;
        assert_eq!((status, &told["error"]["code"]), (StatusCode::FORBIDDEN, &"forbidden".into()));
    }
    assert_eq!(target(&status(&served).await, "primary/model-p")["drained"], false);
    let own = ("sec-fetch-site", "same-origin");
    assert_eq!(act(&served, "/admin/targets/primary%2F*/drain", &[own]).await.0, StatusCode::OK);
    assert_eq!(target(&status(&served).await, "primary/*")["drained"], true);
}

#[tokio::test]
async fn what_a_provider_says_is_told_without_keys_and_the_page_runs_no_script_but_its_own() {
    let hostile = r#"{"error":{"message":"<script>alert(1)</script> key sk-upstream-primary","code":"x"}}"#;
    let length = hostile.len();
    let answer = format!("HTTP/1.1 500 Oh\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{hostile}");
    let primary = RawProvider::answering(answer.into_bytes()).await;
    let fallback = SimulatedProvider::start("fallback").await.unwrap();
    let served = Served::between(&primary.base_url, &fallback.base_url(), QUICK).await;
    assert!(say(&served).await.starts_with("[fallback]"));
    let now = status(&served).await;
    let message = target(&now, "primary/model-p")["last_fault"]["message"].as_str().unwrap();
    assert_eq!(message, "<script>alert(1)</script> key [redacted]");
    let (head, body) = ask(get(&served, "/")).await;
    assert_eq!(head.headers["content-type"], "text/html; charset=utf-8");
    let policy = head.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(head.headers["x-frame-options"], "DENY");
    let page = std::str::from_utf8(&body).unwrap();
    assert!(!page.contains("alert(1)") && !page.contains("model-p"), "the page holds no data");
}

#[tokio::test]
async fn a_drain_outlives_a_change_of_the_configuration() {
    let config = |failures: u32| {
        let toml = format!(
            r#"
            [providers.p]
            dialect = "openai-chat"
            base_url = "http://127.0.0.1:9/v1"
            [routes."chat"]
            targets = [{{ provider = "p", model = "m", breaker = {{ failures = {failures} }} }}]
            "#
        );
        Config::from_toml(&toml, Path::new("test.toml"), &|_| None).unwrap()
    };
    let gateway = Gateway::new(&config(2));
    let drain = Request::post("/admin/targets/p%2Fm/drain").body(axum::body::Body::empty()).unwrap();
    assert_eq!(gateway.router().oneshot(drain).await.unwrap().status(), StatusCode::OK);
    for failures in [2, 3] {
        gateway.replace(&config(failures)).unwrap();
        // Whoever asks within a quarter of a second is told the same.
        tokio::time::sleep(Duration::from_millis(260)).await;
        let ask = Request::get("/status.json").body(axum::body::Body::empty()).unwrap();
        let body = gateway.router().oneshot(ask).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        let status: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(target(&status, "p/m")["drained"], true);
    }
}

/// The paths of all members; those of an object whose names are data are left out.
fn paths(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        // The same everywhere, and twice: it is listed once.
        Value::Object(members) if at.ends_with(".usage") => {
            members.values().for_each(|value| paths(value, "usage", found));
        }
        Value::Object(members) if !(at.ends_with(".faults") || at.starts_with("usage") && at.ends_with(".tokens")) => {
            for (name, value) in members {
                paths(value, &format!("{at}{}{name}", if at.is_empty() { "" } else { "." }), found);
            }
            return;
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            found.insert(format!("{at}[]"));
            return items.iter().for_each(|item| paths(item, &format!("{at}[]"), found));
        }
        _ => {}
    }
    found.insert(at.to_owned());
}

#[tokio::test]
async fn every_field_is_documented_and_every_documented_one_is_there() {
    let settings = "hedge = { after = \"50ms\", budget = 1.0 }\nbreaker = { failures = 2 }";
    let (primary, fallback, served) = with_settings(settings).await;
    let mut found = BTreeSet::new();
    let mut kinds = BTreeSet::new();
    let faults = ["none", "slow-first-token:100ms", "unauthorized"];
    for name in faults {
        primary.set_fault(name.parse().unwrap());
        ask(post(&served, chat(true))).await;
    }
    let event = raw_response("text/event-stream", b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n");
    let broken = RawProvider::answering(event).await;
    // Nobody is at that port.
    let settings = format!("{QUICK}\n[shared_state]\nurl = \"redis://127.0.0.1:1\"");
    let other = Served::between(&broken.base_url, &fallback.base_url(), &settings).await;
    let _ = harness::send(post(&other, chat(true))).await.into_body().collect().await;
    act(&served, "/admin/targets/fallback%2Fmodel-f/drain", &[]).await;
    ask(post(&served, chat(true))).await;
    let key = "a-key-that-is-long-enough";
    let keys = format!(
        "[auth]\nkeys = [{{ value = '{key}' }}]\n[providers.p]\ndialect = 'openai-chat'\nbase_url = 'http://h'\n"
    );
    let keyed = Served::with_config(&format!("{keys}[routes.r]\ntargets = [{{ provider = 'p' }}]")).await;
    let mut asked = get(&keyed, "/status.json");
    asked.headers_mut().insert("x-api-key", key.parse().unwrap());
    let of_a_client: Value = serde_json::from_slice(&ask(asked).await.1).unwrap();
    for status in [status(&served).await, status(&other).await, of_a_client] {
        paths(&status, "", &mut found);
        let events = status["events"].as_array().unwrap().iter();
        kinds.extend(events.map(|event| event["kind"].as_str().unwrap().to_owned()));
    }
    let documented = include_str!("../docs/status.md");
    let rows = |heading: &str| {
        let table = documented.split_once(heading).unwrap().1.lines().skip(2);
        let rows = table.take_while(|line| line.starts_with('|'));
        rows.map(|row| row.split('`').nth(1).unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    // Objects that may be missing as a whole have a row of their own.
    let optional =
        ["shared_state", "targets[].remaining", "targets[].last_fault", "config.last_error"].map(str::to_owned);
    found.extend(optional);
    // Of a refused configuration another test tells; and a gateway without keys has no clients.
    found.extend(["config.last_error.at", "config.last_error.message"].map(str::to_owned));
    assert!(found.remove("clients") && found.remove("events"), "where there are none of them");
    assert_eq!(found, rows("| Field | What it says |"));
    assert_eq!(kinds, rows("| Event | What happened |"));
}
