//! What the gateway tells of requests, by `tracing` and at `/metrics`: all that is documented, nothing else, and nothing that
//! anybody wrote.

#![allow(clippy::unwrap_used)] // what fails here fails the test

mod harness;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Debug,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use bytes::Bytes;
use harness::{RawProvider, Served, post, send};
use http_body_util::BodyExt;
use serde_json::json;
use tower_failover::simulated::{SimulatedFault, SimulatedProvider};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
    util::SubscriberInitExt,
};

// === what was told ===

/// A span or an event.
#[derive(Clone, Debug)]
struct Told {
    is_span: bool,
    /// The span's name, or the event's message.
    name: String,
    level: String,
    /// The name of the span that it is a part of.
    parent: Option<&'static str>,
    declared: Vec<&'static str>,
    fields: BTreeMap<&'static str, String>,
}

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Collected>>);

#[derive(Default)]
struct Collected {
    told: Vec<Told>,
    spans: HashMap<u64, usize>,
}

/// The whole process's: the tests of this file tell their requests apart by their ids.
static TOLD: LazyLock<Collector> = LazyLock::new(|| {
    let collector = Collector::default();
    tracing_subscriber::registry().with(collector.clone()).init();
    collector
});

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collector {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let parent = context.span(id).and_then(|span| span.parent()).map(|parent| parent.name());
        let mut fields = BTreeMap::new();
        attributes.record(&mut Fields(&mut fields));
        let metadata = attributes.metadata();
        let declared = metadata.fields().iter().map(|field| field.name()).collect();
        let (name, level) = (metadata.name().to_owned(), metadata.level().to_string().to_lowercase());
        let mut collected = self.0.lock().unwrap();
        let place = collected.told.len();
        collected.spans.insert(id.into_u64(), place);
        collected.told.push(Told { is_span: true, name, level, parent, declared, fields });
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, _: Context<'_, S>) {
        let mut collected = self.0.lock().unwrap();
        let Some(place) = collected.spans.get(&id.into_u64()).copied() else { return };
        values.record(&mut Fields(&mut collected.told[place].fields));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let parent = context.event_span(event).map(|span| span.name());
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        let metadata = event.metadata();
        let declared = metadata.fields().iter().map(|field| field.name()).filter(|name| *name != "message").collect();
        let name = fields.remove("message").unwrap_or_default();
        let level = metadata.level().to_string().to_lowercase();
        self.0.lock().unwrap().told.push(Told { is_span: false, name, level, parent, declared, fields });
    }
}

impl Collector {
    fn all(&self) -> Vec<Told> {
        self.0.lock().unwrap().told.clone()
    }

    /// The summaries of a request.
    fn summaries(&self, id: &str) -> Vec<BTreeMap<&'static str, String>> {
        let told = self.all().into_iter().filter(|told| !told.is_span && told.name == "request ended");
        told.map(|told| told.fields).filter(|fields| fields.get("request_id").is_some_and(|it| it == id)).collect()
    }

    /// The only summary of a request.
    async fn summary(&self, id: &str) -> BTreeMap<&'static str, String> {
        for _ in 0..400 {
            if !self.summaries(id).is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let summaries = self.summaries(id);
        assert_eq!(summaries.len(), 1, "{id}: {summaries:?}");
        summaries.into_iter().next().unwrap()
    }
}

// === what is documented ===

/// The rows of a table of the documentation, by the name in their first column, without it.
fn documented(section: &str) -> BTreeMap<String, Vec<String>> {
    let text = include_str!("../docs/telemetry.md");
    let section = text.split(&format!("\n## {section}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    rows.map(|row| {
        let mut cells = row.split(" | ").map(|cell| cell.trim().to_owned());
        (cells.next().unwrap().trim_matches('`').to_owned(), cells.collect())
    })
    .collect()
}

fn names(cell: &str) -> BTreeSet<String> {
    cell.split(", ").filter(|name| !name.is_empty()).map(|name| name.trim_matches('`').to_owned()).collect()
}

// === the gateway, and what it is asked ===

const SETTINGS: &str = r#"
    [defaults]
    timeout = { first_output = "1s", response = "1s", idle = "5s", total = "10s" }
    retry = { attempts = 1 }
    breaker = { failures = 100 }
"#;

async fn gateway(primary: &str, fallback: &str) -> Served {
    let route = |name: &str, keys: &str| {
        format!(
            r#"
            [routes."{name}"]
            {keys}
            targets = [
                {{ provider = "primary", model = "{name}-p", price = {{ input = 1, output = 10 }} }},
                {{ provider = "fallback", model = "{name}-f", price = {{ input = 2, output = 20 }} }},
            ]
            "#
        )
    };
    let routes = [
        route("chat", ""),
        route("again", "retry = { attempts = 2, base_delay = '1ms' }"),
        route("hedged", "hedge = { after = '20ms', width = 2, budget = 1.0 }"),
        route("resumed", "stream_recovery = 'resume'"),
        "[routes.\"pass-*\"]\ntargets = [{ provider = \"primary\" }]".to_owned(),
    ]
    .concat();
    Served::with_config(&format!(
        r#"
        [auth]
        keys = [{{ value = "{CLIENT}", name = "somebody" }}]
        [limits]
        shutdown_timeout = "100ms"
        [providers.primary]
        dialect = "openai-chat"
        base_url = "{primary}"
        api_key = {{ value = "sk-upstream-primary" }}
        [providers.fallback]
        dialect = "openai-chat"
        base_url = "{fallback}"
        api_key = {{ value = "sk-upstream-fallback" }}
        {SETTINGS}
        {routes}
        "#
    ))
    .await
}

const PROMPT: &str = "Tell-me-the-secret-of-Samarkand";
const SAID: &str = "Forty-two-camels and six more words, of which the last are these: left, right, out.";
const CLIENT: &str = "sk-client-secret";

fn request(served: &Served, id: &str, model: &str, stream: bool) -> http::Request<http_body_util::Full<Bytes>> {
    let body = json!({ "model": model, "stream": stream, "messages": [{ "role": "user", "content": PROMPT }] });
    let mut request = post(served, body.to_string());
    request.headers_mut().insert("x-request-id", id.parse().unwrap());
    request.headers_mut().insert("authorization", format!("Bearer {CLIENT}").parse().unwrap());
    request
}

/// What came of it, however it ended.
async fn ask(request: http::Request<http_body_util::Full<Bytes>>) -> (http::response::Parts, Bytes) {
    let (parts, mut body) = send(request).await.into_parts();
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    (parts, bytes.into())
}

async fn scrape(served: &Served) -> String {
    let request = http::Request::get(served.url("/metrics")).header("x-api-key", CLIENT);
    let (parts, body) = ask(request.body(http_body_util::Full::default()).unwrap()).await;
    assert_eq!((parts.status.as_u16(), &parts.headers["content-type"]), (200, &CONTENT_TYPE));
    String::from_utf8(body.to_vec()).unwrap()
}

const CONTENT_TYPE: http::HeaderValue = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// A series of a scrape, its labels sorted.
#[derive(Debug)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

fn series(scrape: &str) -> Vec<Series> {
    let lines = scrape.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.strip_suffix('}').unwrap().split("\",").filter_map(|label| label.split_once("=\""));
            let labels = labels.map(|(name, value)| (name.to_owned(), value.trim_end_matches('"').to_owned()));
            Series { name: name.to_owned(), labels: labels.collect(), value: value.parse().unwrap() }
        })
        .collect()
}

/// The value of the series that has these labels; 0 where there is none.
fn value(scrape: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let fits = |series: &Series| {
        series.name == name && labels.iter().all(|(name, value)| series.labels.get(*name).is_some_and(|it| it == value))
    };
    series(scrape).into_iter().filter(fits).map(|series| series.value).sum()
}

/// Asks everything of it that it has something to tell of.
async fn drive(served: &Served, primary: &SimulatedProvider, fallback: &SimulatedProvider, test: &str) {
    let id = |name: &str| format!("{test}-{name}");
    let asked = |name: &str, model: &str, stream| ask(request(served, &id(name), model, stream));
    asked("whole", "chat", false).await;
    asked("stream", "chat", true).await;
    primary.set_fault_times(SimulatedFault::Overloaded, 1);
    asked("failover", "chat", false).await;
    primary.set_fault_times(SimulatedFault::Cut { after_chunks: 1 }, 1);
    asked("cut", "chat", true).await;
    primary.set_fault_times(SimulatedFault::Stall { after_chunks: 1 }, 1);
    let mut response = send(request(served, &id("left"), "chat", true)).await;
    assert!(response.frame().await.unwrap().is_ok());
    drop(response);
    TOLD.summary(&id("left")).await;
    primary.set_fault_times(SimulatedFault::Overloaded, 1);
    asked("again", "again", false).await;
    primary.set_fault_times(SimulatedFault::SlowFirstToken { delay: Duration::from_secs(20) }, 1);
    asked("hedged", "hedged", true).await;
    primary.set_fault_times(SimulatedFault::Cut { after_chunks: 2 }, 1);
    asked("resumed", "resumed", true).await;
    let mut particular = request(served, &id("tags"), "chat", false);
    particular.headers_mut().insert("x-failover-tags", "mars".parse().unwrap());
    ask(particular).await;
    asked("unknown", "gpt-0", false).await;
    let mut garbage = post(served, "{");
    garbage.headers_mut().insert("x-request-id", id("garbage").parse().unwrap());
    garbage.headers_mut().insert("x-api-key", CLIENT.parse().unwrap());
    ask(garbage).await;
    // The circuit of the provider opens for long.
    primary.set_fault(SimulatedFault::Unauthorized);
    asked("rejected-key", "chat", false).await;
    asked("open", "chat", false).await;
    fallback.set_fault(SimulatedFault::Overloaded);
    asked("failed", "chat", false).await;
}

async fn simulated() -> (SimulatedProvider, SimulatedProvider) {
    let start = |name: &str| SimulatedProvider::builder(name).answer(SAID).chunks(8).start();
    (start("primary").await.unwrap(), start("fallback").await.unwrap())
}

// === the tests ===

#[tokio::test]
async fn what_is_told_is_what_is_documented() {
    LazyLock::force(&TOLD);
    let (primary, fallback) = simulated().await;
    let served = gateway(&primary.base_url(), &fallback.base_url()).await;
    drive(&served, &primary, &fallback, "documented").await;

    let told = TOLD.all();
    for (section, is_span) in [("Spans", true), ("Events", false)] {
        for (name, cells) in documented(section) {
            let found: Vec<_> = told.iter().filter(|told| told.is_span == is_span && told.name == name).collect();
            assert!(!found.is_empty(), "nobody told: {name}");
            for told in found {
                let declared: BTreeSet<_> = told.declared.iter().map(|name| (*name).to_owned()).collect();
                assert_eq!(declared, names(&cells[2]), "{name}");
                assert!(cells[0].split(" or ").any(|level| *level == told.level), "{name}: {}", told.level);
            }
        }
    }
    // A retry's span is beside that of the try before it, not in it; and every event knows its request.
    for told in told.iter().filter(|told| told.name == "failover.attempt") {
        assert_eq!(told.parent, Some("failover.request"), "{told:?}");
    }
    for told in told.iter().filter(|told| ["attempt ended", "retry", "a stream broke off"].contains(&&*told.name)) {
        assert!(told.parent.is_some_and(|parent| parent.starts_with("failover.")), "{told:?}");
    }
    let answered = told.iter().find(|told| told.name == "failover.attempt" && told.fields["outcome"] == "answered");
    let fields = &answered.unwrap().fields;
    assert_eq!((&*fields["otel.name"], &*fields["gen_ai.request.model"]), ("chat chat-p", "chat-p"));
    assert_eq!((&*fields["gen_ai.provider.name"], &*fields["otel.kind"]), ("primary", "client"));
    assert_eq!(fields["gen_ai.response.model"], "chat-p");
    assert!(fields.contains_key("gen_ai.usage.output_tokens") && fields.contains_key("cost_usd"), "{fields:?}");
    let spans = documented("Spans");
    for span in told.iter().filter(|told| told.is_span && told.name.starts_with("failover")) {
        assert!(spans.contains_key(&span.name), "{} is not documented", span.name);
    }

    let scrape = scrape(&served).await;
    let metrics = documented("Metrics");
    let mut found = BTreeSet::new();
    for series in series(&scrape) {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.name.strip_suffix(end));
        let name = base.filter(|base| metrics.contains_key(*base)).unwrap_or(&series.name);
        let cells = metrics.get(name).unwrap_or_else(|| panic!("{name} is not documented"));
        let labels: BTreeSet<_> = series.labels.keys().filter(|label| *label != "le").cloned().collect();
        assert_eq!(labels, names(&cells[1]), "{name}");
        assert!(scrape.contains(&format!("# TYPE {name} {}\n", cells[0])), "{name}");
        assert!(scrape.contains(&format!("# HELP {name} ")), "{name}");
        found.insert(name.to_owned());
    }
    // Told only where a target is checked, as in tests/health.rs, and where something is shared, as in tests/shared_state.rs.
    let elsewhere =
        ["failover_health_checks_total", "failover_shared_state_up", "failover_shared_state_questions_total"];
    found.extend(elsewhere.map(str::to_owned));
    assert_eq!(found, metrics.into_keys().collect());
}

/// It was the gateway that ended it, and not its client.
#[tokio::test]
async fn a_stream_that_a_stopping_gateway_cuts_is_told_as_that() {
    LazyLock::force(&TOLD);
    let (primary, fallback) = simulated().await;
    let served = gateway(&primary.base_url(), &fallback.base_url()).await;
    primary.set_fault(SimulatedFault::Stall { after_chunks: 1 });
    let mut response = send(request(&served, "cut-by-us", "chat", true)).await;
    assert!(response.frame().await.unwrap().is_ok());
    served.stop();
    let mut told = Vec::new();
    while let Some(Ok(frame)) = response.frame().await {
        told.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    assert!(String::from_utf8_lossy(&told).contains("the gateway was stopped"), "{told:?}");
    let summary = TOLD.summary("cut-by-us").await;
    let of = |field| summary.get(field).map_or("", String::as_str);
    assert_eq!([of("outcome"), of("kind")], ["interrupted", "stream_interrupted"]);
    assert!(of("reason").contains("the gateway was stopped"), "{summary:?}");
    assert_eq!(of("usage_estimated"), "true", "what came is paid: {summary:?}");
    served.stopped().await;
}

#[tokio::test]
async fn each_request_is_counted_once_by_how_it_ended_and_summed_up_in_one_event() {
    LazyLock::force(&TOLD);
    let (primary, fallback) = simulated().await;
    let served = gateway(&primary.base_url(), &fallback.base_url()).await;
    let before = scrape(&served).await;
    for (name, label) in [("failover_circuit_state", "chat-p"), ("failover_attempts_total", "chat-f")] {
        assert!(before.lines().any(|line| line.starts_with(name) && line.contains(label)), "from the start: {name}");
    }
    drive(&served, &primary, &fallback, "counted").await;

    let (p, f) = ("primary/chat-p", "fallback/chat-f");
    let mut summaries = BTreeMap::new();
    for (name, outcome, target, attempts) in [
        ("whole", "answered", p, "1"),
        ("stream", "answered", p, "1"),
        ("failover", "answered", f, "2"),
        ("cut", "interrupted", p, "1"),
        ("left", "cancelled", p, "1"),
        ("again", "answered", "primary/again-p", "2"),
        ("hedged", "answered", "fallback/hedged-f", "2"),
        ("resumed", "answered", "fallback/resumed-f", "2"),
        ("tags", "rejected", "", "0"),
        ("unknown", "rejected", "", "0"),
        ("garbage", "rejected", "", "0"),
        ("rejected-key", "answered", f, "2"),
        ("open", "answered", f, "1"),
        ("failed", "failed", f, "1"),
    ] {
        let summary = TOLD.summary(&format!("counted-{name}")).await;
        let of = |field| summary.get(field).map_or("", String::as_str);
        assert_eq!([of("outcome"), of("target"), of("attempts")], [outcome, target, attempts], "{name}: {summary:?}");
        assert!(of("latency").parse::<f64>().unwrap() > 0.0, "{name}");
        let answered = matches!(outcome, "answered" | "interrupted" | "cancelled");
        assert_eq!(summary.contains_key("gen_ai.response.time_to_first_chunk"), answered, "{name}");
        assert_eq!(summary.contains_key("cost_usd"), answered, "{name}: {summary:?}");
        summaries.insert(name, summary);
    }
    assert_eq!((&*summaries["unknown"]["route"], &*summaries["whole"]["route"]), ("none", "chat"));
    assert_eq!(summaries["cut"]["kind"], "stream_interrupted");

    let scrape = scrape(&served).await;
    let total = |name: &str, labels: &[(&str, &str)]| value(&scrape, name, labels) as u64;
    let requests = |route, outcome| total("failover_requests_total", &[("route", route), ("outcome", outcome)]);
    let outcomes = ["answered", "rejected", "failed", "interrupted", "cancelled"];
    assert_eq!(outcomes.map(|outcome| requests("chat", outcome)), [5, 1, 1, 1, 1]);
    assert_eq!(outcomes.map(|outcome| requests("none", outcome)), [0, 2, 0, 0, 0]);
    let attempts = |target, outcome| total("failover_attempts_total", &[("target", target), ("outcome", outcome)]);
    let kinds = ["answered", "overloaded", "auth_failed", "refused", "cancelled"];
    assert_eq!(kinds.map(|kind| attempts(p, kind)), [4, 1, 1, 3, 0]);
    assert_eq!(kinds.map(|kind| attempts("primary/hedged-p", kind)), [0, 0, 0, 0, 1]);
    let failovers = |kind| total("failover_failovers_total", &[("from", p), ("to", f), ("kind", kind)]);
    assert_eq!(["overloaded", "auth_failed", "refused"].map(failovers), [1, 1, 3]);
    let refused = |reason| total("failover_refusals_total", &[("target", p), ("reason", reason)]);
    assert_eq!(["circuit_open", "unmet", "limit_reached"].map(refused), [2, 1, 0]);
    assert_eq!(total("failover_retries_total", &[("target", "primary/again-p")]), 1);
    assert_eq!(total("failover_hedges_total", &[("target", "fallback/hedged-f")]), 1);
    assert_eq!(total("failover_recoveries_total", &[("target", "fallback/resumed-f")]), 1);
    assert_eq!(total("failover_stream_interruptions_total", &[("target", p), ("kind", "stream_interrupted")]), 1);
    assert_eq!(total("failover_time_to_first_token_seconds_count", &[("target", p)]), 4);
    assert_eq!(total("failover_requests_in_flight", &[]), 0);
    assert_eq!(total("failover_streams_open", &[]), 0);
    // The key is the provider's: all of its targets are refused.
    assert_eq!(total("failover_circuit_state", &[("target", p)]), 2);
    assert_eq!(total("failover_circuit_state", &[("target", "primary/again-p")]), 2);
    assert_eq!(total("failover_circuit_state", &[("target", f)]), 0);
}

#[tokio::test]
async fn what_an_answer_cost_is_told_and_what_losers_cost_too() {
    LazyLock::force(&TOLD);
    let (primary, fallback) = simulated().await;
    let served = gateway(&primary.base_url(), &fallback.base_url()).await;
    let (_, body) = ask(request(&served, "cost-whole", "chat", false)).await;
    let usage = &serde_json::from_slice::<serde_json::Value>(&body).unwrap()["usage"];
    let (input, output) = (usage["prompt_tokens"].as_u64().unwrap(), usage["completion_tokens"].as_u64().unwrap());
    let summary = TOLD.summary("cost-whole").await;
    let expected = (input as f64 + 10.0 * output as f64) / 1e6;
    assert!((summary["cost_usd"].parse::<f64>().unwrap() - expected).abs() < 1e-12, "{summary:?}");
    assert_eq!(summary["gen_ai.usage.input_tokens"], input.to_string());
    assert_eq!(summary["gen_ai.usage.output_tokens"], output.to_string());
    assert_eq!(summary["usage_estimated"], "false");

    primary.set_fault_times(SimulatedFault::SlowFirstToken { delay: Duration::from_secs(20) }, 1);
    ask(request(&served, "cost-hedged", "hedged", false)).await;
    assert_eq!(TOLD.summary("cost-hedged").await["usage_estimated"], "true");
    let scrape = scrape(&served).await;
    let of = |name, target| value(&scrape, name, &[("route", "hedged"), ("target", target)]);
    for target in ["primary/hedged-p", "fallback/hedged-f"] {
        assert_eq!(of("failover_cost_usd_count", target), 1.0, "{target}");
        assert!(of("failover_cost_usd_sum", target) > 0.0, "{target}");
    }
    let tokens = |kind| value(&scrape, "failover_tokens_total", &[("target", "primary/chat-p"), ("kind", kind)]) as u64;
    assert_eq!((tokens("input"), tokens("output")), (input, output));
}

#[tokio::test]
async fn gateways_in_one_process_count_for_themselves() {
    let (primary, fallback) = simulated().await;
    let one = gateway(&primary.base_url(), &fallback.base_url()).await;
    let other = gateway(&primary.base_url(), &fallback.base_url()).await;
    ask(request(&one, "one", "chat", false)).await;
    let answered = [("route", "chat"), ("outcome", "answered")];
    assert_eq!(value(&scrape(&one).await, "failover_requests_total", &answered), 1.0);
    assert_eq!(value(&scrape(&other).await, "failover_requests_total", &answered), 0.0);
}

#[tokio::test]
async fn nothing_that_anybody_wrote_and_no_key_is_told() {
    LazyLock::force(&TOLD);
    const QUERY: &str = "query-of-the-client";
    const MODEL: &str = "pass-model-of-the-client";
    let secrets = [PROMPT, "Forty-two-camels", CLIENT, "sk-upstream-primary", "sk-upstream-fallback", QUERY];
    let (primary, fallback) = simulated().await;
    let served = gateway(&primary.base_url(), &fallback.base_url()).await;
    let asked = |served: &Served, model: &str, stream| {
        let mut request = request(served, "secret", model, stream);
        let uri = format!("{}?key={CLIENT}&note={QUERY}", served.url("/v1/chat/completions"));
        *request.uri_mut() = uri.parse().unwrap();
        ask(request)
    };
    asked(&served, MODEL, false).await;
    for fault in SimulatedFault::all().iter().filter(|fault| {
        !matches!(fault, SimulatedFault::SlowFirstToken { .. } | SimulatedFault::Silent | SimulatedFault::Stall { .. })
    }) {
        primary.set_fault(fault.clone());
        for (model, stream) in [("chat", false), ("chat", true), ("resumed", true)] {
            asked(&served, model, stream).await;
        }
    }
    let metrics = scrape(&served).await;
    assert!(!metrics.contains(MODEL), "a client's name became a label");
    secrets.iter().for_each(|secret| assert!(!metrics.contains(secret), "{secret} is in the metrics"));

    // A provider that repeats the request and our key in its errors.
    let echo = format!(r#"{{"error":{{"message":"I cannot do {PROMPT} with sk-upstream-primary","type":"odd"}}}}"#);
    let failing = |status: &str| {
        let length = echo.len();
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{echo}").into_bytes()
    };
    let chunk = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
    let events = [format!("data: {echo}\n\n"), format!("{chunk}data: {echo}\n\n")];
    let streams = events.map(|events| harness::raw_response("text/event-stream", events.as_bytes()));
    let whole = ["400 Bad Request", "422 Odd", "429 Slow Down", "500 Oh", "529 Busy"].map(failing);
    for response in whole.into_iter().chain(streams) {
        let provider = RawProvider::answering(response).await;
        let served = gateway(&provider.base_url, &fallback.base_url()).await;
        for (model, stream) in [("chat", true), ("again", false), ("resumed", true)] {
            asked(&served, model, stream).await;
        }
        let metrics = scrape(&served).await;
        secrets.iter().for_each(|secret| assert!(!metrics.contains(secret), "{secret} is in the metrics"));
    }

    let told = TOLD.all();
    assert!(told.iter().any(|told| told.level == "trace"), "not everything was listened to");
    for told in told {
        let text = format!("{told:?}");
        let found = secrets.iter().find(|secret| text.contains(**secret));
        assert_eq!(found, None, "{text}");
    }
}
