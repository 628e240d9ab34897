//! What the gateway says was spent, against what the providers say they served: by target, by route, by client.

#![allow(clippy::unwrap_used)] // what fails here fails the test

mod harness;

use std::{path::Path, time::Duration};

use bytes::Bytes;
use harness::{RawProvider, Served, ask, raw_response, send};
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_failover::{
    Dialect,
    config::Config,
    gateway::Gateway,
    simulated::{SimulatedFault, SimulatedProvider},
};

const KEYS: [&str; 2] = ["team-a-has-a-key-of-its-own", "team-b-has-a-key-of-its-own"];
/// In US dollars per million tokens: input and output.
const PRICES: [(&str, f64, f64); 2] = [("primary", 3.0, 15.0), ("fallback", 0.5, 2.0)];

fn auth() -> String {
    let keys = ["team-a", "team-b"].iter().zip(KEYS);
    let keys: Vec<_> = keys.map(|(name, key)| format!("{{ value = '{key}', name = '{name}' }}")).collect();
    format!("[auth]\nkeys = [{}]\n", keys.join(", "))
}

/// A provider's section, and one of a target of it.
fn provider(name: &str, dialect: Dialect, base_url: &str) -> String {
    let root = base_url.trim_end_matches("/v1");
    let base_url = match dialect {
        Dialect::OpenAiChat | Dialect::OpenAiResponses => base_url,
        _ => root,
    };
    format!("[providers.{name}]\ndialect = \"{dialect}\"\nbase_url = \"{base_url}\"\n")
}

fn route(name: &str, settings: &str, targets: &[String]) -> String {
    format!("[routes.\"{name}\"]\n{settings}\ntargets = [{}]\n", targets.join(", "))
}

/// One with the price that [`PRICES`] has for its name's beginning.
fn target(provider: &str, model: &str) -> String {
    let (_, input, output) = PRICES.iter().find(|(name, ..)| provider.starts_with(name)).unwrap();
    format!("{{ provider = '{provider}', model = '{model}', price = {{ input = {input}, output = {output} }} }}")
}

const ROUTES: [(&str, &str); 5] = [
    ("plain", ""),
    ("metered", "meter_streams = true"),
    ("hedged", "hedge = { after = '50ms', width = 2, budget = 1.0 }"),
    ("resumed", "stream_recovery = 'resume'"),
    ("kept", "cache = { ttl = '1h', stale_if_error = '1h' }"),
];

/// Routes with a primary and a fallback each, and two clients.
fn config(primary: &str, fallback: &str) -> String {
    let chain = [target("primary", "p"), target("fallback", "f")];
    let routes: Vec<_> = ROUTES.iter().map(|(name, settings)| route(name, settings, &chain)).collect();
    let claude = provider("primary-claude", Dialect::AnthropicMessages, primary);
    let claude_route = route("claude", "", &[target("primary-claude", "c"), target("fallback", "f")]);
    let [primary, fallback] = [("primary", primary), ("fallback", fallback)]
        .map(|(name, base_url)| provider(name, Dialect::OpenAiChat, base_url));
    let settings = "[defaults]\nretry = { attempts = 1 }\nbreaker = { failures = 1000, min_calls = 1000 }\n\
        timeout = { first_output = '5s', response = '5s', idle = '5s', total = '20s' }\n";
    [auth(), settings.to_owned(), primary, fallback, claude, routes.concat(), claude_route].concat()
}

fn with_key(request: http::request::Builder, client: usize) -> http::request::Builder {
    request.header("authorization", format!("Bearer {}", KEYS[client])).header("content-type", "application/json")
}

fn post(served: &Served, client: usize, path: &str, body: &Value) -> Request<Full<Bytes>> {
    let request = with_key(Request::post(served.url(path)), client);
    request.body(Full::new(body.to_string().into())).unwrap()
}

fn chat(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Say something of some length."}]})
}

/// A stream that tells its usage.
fn telling(model: &str) -> Value {
    let mut body = chat(model, true);
    body["stream_options"] = json!({"include_usage": true});
    body
}

async fn say(served: &Served, client: usize, body: &Value) -> Bytes {
    let (parts, mut body) = send(post(served, client, "/v1/chat/completions", body)).await.into_parts();
    assert_eq!(parts.status, 200);
    let mut all = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        all.extend(frame.into_data().unwrap_or_default());
    }
    all.into()
}

/// The data of a stream's events.
fn events(stream: &[u8]) -> Vec<Value> {
    let lines = std::str::from_utf8(stream).unwrap().lines();
    lines.filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?.trim()).ok()).collect()
}

fn streamed_text(stream: &[u8]) -> String {
    events(stream)
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect()
}

/// What an answer is taken for in tokens whose provider tells none: a quarter of its text's bytes, as they stand in JSON.
fn estimated(stream: &[u8]) -> u64 {
    let written: usize = events(stream)
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .map(|text| serde_json::to_string(text).unwrap().len() - 2)
        .sum();
    (written as u64).div_ceil(4)
}

// === what was spent ===

/// Tokens in and out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Tokens(u64, u64);

impl Tokens {
    /// As OpenAI's chat completions tell it.
    fn told(usage: &Value) -> Tokens {
        Tokens(usage["prompt_tokens"].as_u64().unwrap(), usage["completion_tokens"].as_u64().unwrap())
    }

    fn of(tokens: &Value) -> Tokens {
        Tokens(tokens["input"].as_u64().unwrap(), tokens["output"].as_u64().unwrap())
    }

    fn cost(self, provider: &str) -> f64 {
        let (_, input, output) = PRICES.iter().find(|(name, ..)| provider.starts_with(name)).unwrap();
        (self.0 as f64 * input + self.1 as f64 * output) / 1e6
    }
}

async fn status(served: &Served, client: usize) -> Value {
    // Whoever asks within a quarter of a second is told the same.
    tokio::time::sleep(Duration::from_millis(260)).await;
    let request = with_key(Request::get(served.url("/status.json?window=1h")), client);
    let (parts, body) = ask(request.body(Full::default()).unwrap()).await;
    assert_eq!(parts.status, 200);
    serde_json::from_slice(&body).unwrap()
}

/// `usage.total` of one of a list.
fn usage<'a>(status: &'a Value, list: &str, name: &str) -> &'a Value {
    let key = if list == "targets" { "id" } else { "name" };
    let found = status[list].as_array().unwrap().iter().find(|it| it[key] == name);
    &found.unwrap_or_else(|| panic!("no {name}"))["usage"]["total"]
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-11
}

/// All numbers of a usage, by their paths.
fn numbers(value: &Value, at: &str, found: &mut Vec<(String, f64)>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, it)| numbers(it, &format!("{at}/{name}"), found)),
        Value::Number(number) => found.push((at.to_owned(), number.as_f64().unwrap())),
        other => panic!("{at}: {other}"),
    }
}

/// The same money and the same tokens, whoever they are counted for, since the start and lately.
fn check_sums(status: &Value) {
    for when in ["total", "window"] {
        let sums = ["targets", "routes", "clients"].map(|list| {
            let mut sums = std::collections::BTreeMap::new();
            for one in status[list].as_array().unwrap() {
                let mut found = Vec::new();
                numbers(&one["usage"][when], "", &mut found);
                found.into_iter().for_each(|(at, number)| *sums.entry(at).or_insert(0.0) += number);
            }
            sums
        });
        assert!(sums[0].len() > 20);
        for (at, by_route) in &sums[1] {
            assert!(close(*by_route, sums[2][at]), "{when}{at}: {by_route} by route, {} by client", sums[2][at]);
            // Of a target, no client asks, and no cache answers for one.
            let is_of_targets = !["/requests", "/cache", "/saved"].iter().any(|of| at.starts_with(of));
            assert!(
                !is_of_targets || close(*by_route, sums[0][at]),
                "{when}{at}: {by_route} by route, {} by target",
                sums[0][at]
            );
        }
    }
}

struct Scene {
    primary: SimulatedProvider,
    fallback: SimulatedProvider,
    served: Served,
    before: Value,
}

/// What changed of a usage.
struct Change {
    attempts: u64,
    tokens: Tokens,
    cost: f64,
    estimated: f64,
    wasted: Tokens,
    wasted_attempts: u64,
    wasted_cost: f64,
}

impl Scene {
    async fn set() -> Scene {
        let primary = SimulatedProvider::builder("primary").chunks(8).start().await.unwrap();
        let fallback = SimulatedProvider::builder("fallback").chunks(8).start().await.unwrap();
        let served = Served::with_config(&config(&primary.base_url(), &fallback.base_url())).await;
        let before = status(&served, 0).await;
        Scene { primary, fallback, served, before }
    }

    /// Takes in how things are now, which has to add up.
    async fn look(&mut self) -> (Value, Value) {
        let now = status(&self.served, 0).await;
        check_sums(&now);
        (std::mem::replace(&mut self.before, now.clone()), now)
    }

    fn change((before, after): &(Value, Value), list: &str, name: &str) -> Change {
        let [before, after] = [before, after].map(|status| usage(status, list, name));
        let count =
            |at: &str| after.pointer(at).unwrap().as_u64().unwrap() - before.pointer(at).unwrap().as_u64().unwrap();
        let money =
            |at: &str| after.pointer(at).unwrap().as_f64().unwrap() - before.pointer(at).unwrap().as_f64().unwrap();
        let tokens = |at: &str| {
            let [before, after] = [before, after].map(|usage| Tokens::of(usage.pointer(at).unwrap()));
            Tokens(after.0 - before.0, after.1 - before.1)
        };
        Change {
            attempts: count("/attempts"),
            tokens: tokens("/tokens"),
            cost: money("/cost_usd"),
            estimated: money("/estimated_cost_usd"),
            wasted: tokens("/wasted/tokens"),
            wasted_attempts: count("/wasted/attempts"),
            wasted_cost: money("/wasted/cost_usd"),
        }
    }

    /// What the provider itself says of a request that it was sent, asked without a stream.
    async fn told_by(provider: &SimulatedProvider, received: &Value) -> Tokens {
        let mut body = received.clone();
        body["stream"] = false.into();
        body.as_object_mut().unwrap().remove("stream_options");
        let url = format!("{}/chat/completions", provider.base_url());
        let request = Request::post(url).header("content-type", "application/json");
        let (_, answer) = ask(request.body(Full::new(body.to_string().into())).unwrap()).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        Tokens::told(&answer["usage"])
    }
}

#[tokio::test]
async fn what_a_provider_tells_is_what_is_counted_in_one_piece_and_in_a_stream() {
    let mut scene = Scene::set().await;
    // In one piece; in a stream that tells; in one whose usage the gateway asks for and keeps from the client.
    for (client, body) in [(0, chat("plain", false)), (1, telling("plain")), (0, chat("metered", true))] {
        scene.primary.clear();
        let answer = say(&scene.served, client, &body).await;
        let received = scene.primary.received()[0].json().unwrap();
        let told = Scene::told_by(&scene.primary, &received).await;
        if body["model"] == "metered" {
            assert!(!String::from_utf8_lossy(&answer).contains("prompt_tokens"));
        } else {
            let usage = match body["stream"].as_bool().unwrap() {
                true => events(&answer).last().unwrap()["usage"].clone(),
                false => serde_json::from_slice::<Value>(&answer).unwrap()["usage"].clone(),
            };
            assert_eq!(Tokens::told(&usage), told);
        }
        let looks = scene.look().await;
        let (team, route) = (["team-a", "team-b"][client], body["model"].as_str().unwrap());
        for (list, name) in [("targets", "primary/p"), ("routes", route), ("clients", team)] {
            let change = Scene::change(&looks, list, name);
            assert_eq!((change.attempts, change.tokens, change.wasted_attempts), (1, told, 0), "{list} {body}");
            assert!(close(change.cost, told.cost("primary")) && change.estimated == 0.0, "{list} {}", change.cost);
        }
    }
    let clients = &scene.before["clients"];
    assert_eq!([0, 1].map(|place| &clients[place]["usage"]["total"]["requests"]), [2, 1]);
    assert!(KEYS.iter().all(|key| !scene.before.to_string().contains(key)));
}

#[tokio::test]
async fn a_stream_that_tells_nothing_is_estimated_and_said_to_be() {
    let mut scene = Scene::set().await;
    let answer = say(&scene.served, 0, &chat("plain", true)).await;
    let told = Scene::told_by(&scene.primary, &scene.primary.received()[0].json().unwrap()).await;
    let change = Scene::change(&scene.look().await, "targets", "primary/p");
    assert_eq!(change.tokens.1, estimated(&answer));
    assert!(change.tokens.0 > 0 && change.tokens.0.abs_diff(told.0) <= 20, "{:?} {told:?}", change.tokens);
    assert!(close(change.cost, change.tokens.cost("primary")) && close(change.estimated, change.cost));
    assert_eq!(change.wasted_attempts, 0);
}

#[tokio::test]
async fn a_try_that_failed_costs_what_its_provider_told_and_is_wasted() {
    let mut scene = Scene::set().await;
    // One that was never served costs nothing.
    scene.primary.set_fault_times(SimulatedFault::Overloaded, 1);
    let answer: Value = serde_json::from_slice(&say(&scene.served, 0, &chat("plain", false)).await).unwrap();
    let looks = scene.look().await;
    let failed = Scene::change(&looks, "targets", "primary/p");
    assert_eq!((failed.attempts, failed.tokens, failed.wasted_attempts), (1, Tokens(0, 0), 0));
    let answered = Scene::change(&looks, "targets", "fallback/f");
    assert_eq!((answered.attempts, answered.tokens), (1, Tokens::told(&answer["usage"])));
    assert_eq!(Scene::change(&looks, "routes", "plain").attempts, 2);
    // One whose stream said what its input cost, and broke before any output.
    scene.primary.set_fault_times(SimulatedFault::Cut { after_chunks: 0 }, 1);
    say(&scene.served, 1, &chat("claude", true)).await;
    let looks = scene.look().await;
    let failed = Scene::change(&looks, "targets", "primary-claude/c");
    assert!(failed.tokens.0 > 0, "{:?}", failed.tokens);
    assert_eq!((failed.wasted, failed.wasted_attempts, failed.estimated), (failed.tokens, 1, 0.0));
    assert!(close(failed.wasted_cost, failed.tokens.cost("primary")));
    let route = Scene::change(&looks, "routes", "claude");
    assert_eq!((route.attempts, route.wasted, route.wasted_attempts), (2, failed.wasted, 1));
    assert!(route.cost > route.wasted_cost);
}

#[tokio::test]
async fn the_loser_of_a_hedge_is_paid_and_wasted() {
    let mut scene = Scene::set().await;
    scene.primary.set_fault_times(SimulatedFault::SlowFirstToken { delay: Duration::from_secs(4) }, 1);
    let answer: Value = serde_json::from_slice(&say(&scene.served, 1, &chat("hedged", false)).await).unwrap();
    let looks = scene.look().await;
    let lost = Scene::change(&looks, "targets", "primary/p");
    assert!(lost.tokens.0 > 0 && lost.tokens.1 == 0, "its input, as estimated: {:?}", lost.tokens);
    assert_eq!((lost.attempts, lost.wasted, lost.wasted_attempts), (1, lost.tokens, 1));
    assert!(close(lost.estimated, lost.cost) && close(lost.wasted_cost, lost.cost));
    let won = Scene::change(&looks, "targets", "fallback/f");
    assert_eq!((won.tokens, won.wasted_attempts), (Tokens::told(&answer["usage"]), 0));
    let client = Scene::change(&looks, "clients", "team-b");
    assert!(close(client.cost, lost.cost + won.cost) && close(client.wasted_cost, lost.cost));
}

#[tokio::test]
async fn both_halves_of_a_recovered_stream_are_paid_and_the_first_is_wasted() {
    let mut scene = Scene::set().await;
    scene.primary.set_fault_times(SimulatedFault::Cut { after_chunks: 3 }, 1);
    let answer = say(&scene.served, 0, &telling("resumed")).await;
    assert!(String::from_utf8_lossy(&answer).ends_with("data: [DONE]\n\n"));
    let looks = scene.look().await;
    let attempts = ["primary/p", "fallback/f"].map(|id| Scene::change(&looks, "targets", id));
    let route = Scene::change(&looks, "routes", "resumed");
    assert_eq!(route.attempts, 2);
    assert_eq!(route.tokens.0, attempts[0].tokens.0 + attempts[1].tokens.0);
    assert!(attempts[0].tokens.1 > 0 && attempts[0].wasted == attempts[0].tokens && attempts[0].wasted_attempts == 1);
    let rest = Scene::told_by(&scene.fallback, &scene.fallback.received()[0].json().unwrap()).await;
    assert_eq!((attempts[1].tokens, attempts[1].wasted_attempts), (rest, 0), "the rest is as its provider tells");
    assert!(close(route.cost, attempts[0].cost + rest.cost("fallback")));
}

#[tokio::test]
async fn what_a_client_that_goes_away_has_read_is_paid_and_not_wasted() {
    let mut scene = Scene::set().await;
    scene.primary.set_fault_times(SimulatedFault::Stall { after_chunks: 3 }, 1);
    let mut response = send(post(&scene.served, 0, "/v1/chat/completions", &chat("plain", true))).await;
    let mut text = String::new();
    while streamed_text(text.as_bytes()).split_whitespace().count() < 3 {
        let data = response.frame().await.unwrap().unwrap().into_data().unwrap();
        text.push_str(std::str::from_utf8(&data).unwrap());
    }
    drop(response);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let change = Scene::change(&scene.look().await, "clients", "team-a");
    assert_eq!((change.attempts, change.wasted_attempts), (1, 0));
    assert_eq!(change.tokens.1, estimated(text.as_bytes()));
    assert!(close(change.estimated, change.tokens.cost("primary")));
}

#[tokio::test]
async fn an_answer_that_was_kept_costs_nothing_and_says_what_it_saved() {
    let mut scene = Scene::set().await;
    let first: Value = serde_json::from_slice(&say(&scene.served, 0, &chat("kept", false)).await).unwrap();
    let told = Tokens::told(&first["usage"]);
    for _ in 0..3 {
        say(&scene.served, 0, &chat("kept", false)).await;
    }
    // Another client shares nothing with the first.
    say(&scene.served, 1, &chat("kept", false)).await;
    // And of those that come at once, one is paid.
    scene.primary.set_fault_times(SimulatedFault::SlowFirstToken { delay: Duration::from_millis(300) }, 1);
    let body = telling("kept");
    futures_util::future::join_all((0..5).map(|_| say(&scene.served, 1, &body))).await;
    let looks = scene.look().await;
    let now = &looks.1;
    let client = usage(now, "clients", "team-a");
    assert_eq!(client["cache"], json!({"hits": 3, "stale": 0, "collapsed": 0, "misses": 1}));
    assert_eq!((&client["requests"], &client["attempts"]), (&4.into(), &1.into()));
    assert_eq!(Tokens::of(&client["tokens"]), told);
    assert_eq!(Tokens::of(&client["saved"]["tokens"]), Tokens(told.0 * 3, told.1 * 3));
    assert!(close(client["saved"]["cost_usd"].as_f64().unwrap(), told.cost("primary") * 3.0));
    let other = usage(now, "clients", "team-b");
    let asked = scene.primary.received().last().unwrap().json().unwrap();
    let streamed = Scene::told_by(&scene.primary, &asked).await;
    // One in JSON is told in the form of a stream only where it says its usage, so all of them may have been hits.
    let collapsed = other["cache"]["collapsed"].as_u64().unwrap() + other["cache"]["hits"].as_u64().unwrap();
    let misses = other["cache"]["misses"].as_u64().unwrap();
    assert_eq!(collapsed + misses, 6);
    let saved = Tokens::of(&other["saved"]["tokens"]);
    assert_eq!(saved, Tokens(streamed.0 * collapsed, streamed.1 * collapsed));
    // Where nobody can answer, one that is too old is no cheaper.
    let (_, metrics) =
        ask(with_key(Request::get(scene.served.url("/metrics")), 0).body(Full::default()).unwrap()).await;
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    let line = |line: &str| assert!(metrics.lines().any(|it| it == line), "{line}\n{metrics}");
    line(&format!(
        "failover_cache_requests_total{{route=\"kept\",outcome=\"hit\"}} {}",
        3 + other["cache"]["hits"].as_u64().unwrap()
    ));
    line(&format!("failover_client_saved_cost_usd_total{{client=\"team-a\"}} {}", client["saved"]["cost_usd"]));
    line(&format!("failover_client_cost_usd_total{{client=\"team-a\"}} {}", client["cost_usd"]));
    line(&format!("failover_client_tokens_total{{client=\"team-a\",kind=\"input\"}} {}", told.0));
    line("failover_client_requests_total{client=\"team-a\"} 4");
    line("failover_config_reloads_total{outcome=\"refused\"} 0");
}

/// All five kinds of tokens in each dialect's words: 100 in, of which 40 out of the cache and 8 into it, 30 out, of which 12
/// reasoning. OpenAI and Gemini do not tell what went into their cache.
fn in_its_words(dialect: Dialect) -> (Value, [u64; 5]) {
    match dialect {
        Dialect::OpenAiChat => (
            json!({"id": "1", "object": "chat.completion", "model": "m", "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 30, "total_tokens": 130,
                    "prompt_tokens_details": {"cached_tokens": 40}, "completion_tokens_details": {"reasoning_tokens": 12}}}),
            [100, 40, 0, 30, 12],
        ),
        Dialect::OpenAiResponses => (
            json!({"id": "1", "object": "response", "status": "completed", "model": "m", "output": [
                {"type": "message", "id": "2", "role": "assistant", "status": "completed",
                    "content": [{"type": "output_text", "text": "Yes.", "annotations": []}]}],
                "usage": {"input_tokens": 100, "output_tokens": 30, "total_tokens": 130,
                    "input_tokens_details": {"cached_tokens": 40}, "output_tokens_details": {"reasoning_tokens": 12}}}),
            [100, 40, 0, 30, 12],
        ),
        Dialect::AnthropicMessages => (
            // What comes from the cache and goes there stands beside the rest.
            json!({"id": "1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
                "stop_sequence": null, "content": [{"type": "text", "text": "Yes."}],
                "usage": {"input_tokens": 52, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 8,
                    "output_tokens": 30, "output_tokens_details": {"thinking_tokens": 12}}}),
            [100, 40, 8, 30, 12],
        ),
        _ => (
            // Thoughts stand beside the rest.
            json!({"candidates": [{"content": {"role": "model", "parts": [{"text": "Yes."}]}, "finishReason": "STOP", "index": 0}],
                "modelVersion": "m", "usageMetadata": {"promptTokenCount": 100, "cachedContentTokenCount": 40,
                    "candidatesTokenCount": 18, "thoughtsTokenCount": 12, "totalTokenCount": 130}}),
            [100, 40, 0, 30, 12],
        ),
    }
}

#[tokio::test]
async fn every_dialects_words_for_usage_are_counted_alike() {
    for dialect in Dialect::ALL {
        let (answer, expected) = in_its_words(*dialect);
        let raw = RawProvider::answering(raw_response("application/json", answer.to_string().as_bytes())).await;
        let price = "price = { input = 10, output = 100, cached_input = 1, cache_write_input = 20 }";
        let targets = [format!("{{ provider = 'only', model = 'm', {price} }}")];
        let toml = [auth(), provider("only", *dialect, &raw.base_url), route("r", "", &targets)].concat();
        let served = Served::with_config(&toml).await;
        // The client speaks another dialect than most of these.
        say(&served, 1, &chat("r", false)).await;
        let status = status(&served, 0).await;
        check_sums(&status);
        let total = usage(&status, "clients", "team-b");
        let kinds = ["input", "cached_input", "cache_write_input", "output", "reasoning"];
        assert_eq!(kinds.map(|kind| total["tokens"][kind].as_u64().unwrap()), expected, "{dialect}");
        let [input, cached, written, output, _] = expected.map(|tokens| tokens as f64);
        let cost = ((input - cached - written) * 10.0 + cached + written * 20.0 + output * 100.0) / 1e6;
        assert!(close(total["cost_usd"].as_f64().unwrap(), cost), "{dialect}: {} {cost}", total["cost_usd"]);
        assert_eq!(total["estimated_cost_usd"], 0.0, "{dialect}");
    }
}

#[tokio::test]
async fn streams_of_every_dialect_are_counted_as_the_same_in_one_piece() {
    let (primary, fallback) = harness::simulated().await;
    let mut toml = auth();
    for dialect in Dialect::ALL {
        toml += &provider(&format!("primary-{dialect}"), *dialect, &primary.base_url());
        toml += &route(&format!("{dialect}"), "meter_streams = true", &[target(&format!("primary-{dialect}"), "m")]);
    }
    drop(fallback);
    let served = Served::with_config(&toml).await;
    for dialect in Dialect::ALL {
        let name = dialect.to_string();
        let mut counted = Vec::new();
        for stream in [false, true] {
            let before = Tokens::of(&usage(&status(&served, 0).await, "routes", &name)["tokens"]);
            let mut body = chat(&name, stream);
            if stream {
                body["stream_options"] = json!({"include_usage": true});
            }
            let answer = say(&served, 0, &body).await;
            let now = status(&served, 0).await;
            check_sums(&now);
            let after = Tokens::of(&usage(&now, "routes", &name)["tokens"]);
            let spent = Tokens(after.0 - before.0, after.1 - before.1);
            let told = match stream {
                false => serde_json::from_slice::<Value>(&answer).unwrap()["usage"].clone(),
                true => events(&answer)
                    .into_iter()
                    .rev()
                    .find_map(|it| it.get("usage").cloned().filter(Value::is_object))
                    .unwrap(),
            };
            assert_eq!(spent, Tokens::told(&told), "{dialect}, what the client reads");
            counted.push(spent);
        }
        assert_eq!(counted[0], counted[1], "{dialect}");
        assert_eq!(usage(&status(&served, 0).await, "routes", &name)["estimated_cost_usd"], 0.0, "{dialect}");
    }
}

#[tokio::test]
async fn counts_outlive_a_change_of_the_configuration_and_a_refused_one_is_told() {
    let (primary, fallback) = harness::simulated().await;
    let toml = config(&primary.base_url(), &fallback.base_url());
    let parse = |toml: &str| Config::from_toml(toml, Path::new("test.toml"), &|_| None);
    let gateway = Gateway::new(&parse(&toml).unwrap());
    let ask = async |request: http::request::Builder, body: String| {
        let response = gateway.router().oneshot(request.body(axum::body::Body::from(body)).unwrap()).await.unwrap();
        serde_json::from_slice::<Value>(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    };
    let say = async |client| {
        let answer =
            ask(with_key(Request::post("/v1/chat/completions"), client), chat("plain", false).to_string()).await;
        Tokens::told(&answer["usage"])
    };
    let look = async |client| {
        tokio::time::sleep(Duration::from_millis(260)).await;
        ask(with_key(Request::get("/status.json?window=24h"), client), String::new()).await
    };
    let told = say(0).await;
    let first = look(0).await;
    assert_eq!((&first["config"]["reloads"], &first["config"]["last_error"]), (&0.into(), &Value::Null));
    assert_eq!(first["usage_window_seconds"], 86_400);
    // Another key under the same name, other limits, another route: those that stay count on.
    let other = toml
        .replace(KEYS[1], "team-b-has-another-key-from-now-on")
        .replace("'team-a' }", "'team-a', requests_per_minute = 9 }");
    gateway.replace(&parse(&format!("{other}{}", route("new", "", &[target("primary", "p")]))).unwrap()).unwrap();
    assert_eq!(say(0).await, told);
    let second = look(0).await;
    for (list, name) in [("targets", "primary/p"), ("routes", "plain"), ("clients", "team-a")] {
        let counted = usage(&second, list, name);
        assert_eq!(Tokens::of(&counted["tokens"]), Tokens(told.0 * 2, told.1 * 2), "{list}");
    }
    assert_eq!(usage(&second, "routes", "new")["requests"], 0);
    assert_eq!(second["config"]["reloads"], 1);
    check_sums(&second);
    let wrong = ask(with_key(Request::get("/status.json?window=2h"), 0), String::new()).await;
    assert_eq!(wrong["error"]["code"], "invalid_window");
}
