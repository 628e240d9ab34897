//! The alerts of `deploy/alerts.yml` fire on what the gateway really tells, and not without cause.
//!
//! A gateway is driven into an outage, minute for minute as Prometheus would scrape it, and the scrapes are given to `promtool`,
//! which evaluates the rules over them. It is looked for in `PROMTOOL`, and then in the path; without it, only what needs none
//! is tested.

#![allow(clippy::unwrap_used)] // what fails here fails the test

mod harness;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::PathBuf,
    process::Command,
};

use harness::{Served, post, send, simulated};
use http_body_util::BodyExt;
use serde_json::json;
use tower_failover::simulated::SimulatedFault;

const RULES: &str = include_str!("../deploy/alerts.yml");
const MINUTES: usize = 30;
/// When things begin to go wrong.
const FROM: usize = 5;

fn promtool() -> Option<PathBuf> {
    let named = std::env::var_os("PROMTOOL").map(PathBuf::from);
    let tool = named.unwrap_or_else(|| "promtool".into());
    let found = Command::new(&tool).arg("--version").output().is_ok();
    if !found {
        println!("SKIPPED: no promtool; Debian has it in its package `prometheus`");
    }
    found.then_some(tool)
}

/// The lines of an alert, by its name.
fn alerts() -> BTreeMap<&'static str, &'static str> {
    let entries = RULES.split("      - alert: ").skip(1);
    entries.map(|entry| entry.split_once('\n').unwrap()).collect()
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_to_do() {
    let operations = include_str!("../docs/operations.md");
    assert!(alerts().len() >= 9);
    for (name, rule) in alerts() {
        for part in ["severity: ", "summary: ", "description: "] {
            assert!(rule.contains(part), "{name} has no {part}");
        }
        let anchor = name.to_lowercase();
        assert!(rule.contains(&format!("runbook: docs/operations.md#{anchor}\n")), "{name}");
        let section =
            operations.split(&format!("\n## {name}\n")).nth(1).unwrap_or_else(|| panic!("{name}: no runbook"));
        let section = section.split("\n## ").next().unwrap();
        for part in ["**Means**", "**Do**"] {
            assert!(section.contains(part), "the runbook of {name} lacks {part}");
        }
    }
    let sections = operations.lines().filter_map(|line| line.strip_prefix("## Failover"));
    sections.for_each(|name| assert!(alerts().contains_key(&*format!("Failover{name}")), "no alert {name}"));
}

#[test]
fn alerts_ask_for_metrics_that_there_are() {
    let documented = include_str!("../docs/telemetry.md");
    let words =
        RULES.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("failover_"));
    let mut seen = BTreeSet::new();
    for word in words {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
        assert!(documented.contains(&format!("| `{base}` |")), "{word}");
        seen.insert(base);
    }
    assert!(seen.len() >= 8, "{seen:?}");
}

// === outages ===

struct Outage {
    name: &'static str,
    /// Further keys of `[defaults]`.
    defaults: &'static str,
    primary: SimulatedFault,
    fallback: SimulatedFault,
    /// The minute to look at.
    at: usize,
    firing: &'static [&'static str],
}

const NEVER_OPENS: &str = "breaker = { failures = 1000000, failure_rate = 1.0, min_calls = 1000000 }";
const STAYS_OPEN: &str = "breaker = { failures = 3, open = '10m', max_open = '10m' }";

#[tokio::test]
async fn alerts_fire_on_what_the_gateway_tells_of_an_outage_and_only_then() {
    let Some(promtool) = promtool() else { return };
    use SimulatedFault::{Cut, Down, ModelNotFound, None, Overloaded, QuotaExhausted, Unauthorized};
    let outage =
        |name, defaults, primary, fallback, at, firing| Outage { name, defaults, primary, fallback, at, firing };
    let outages = [
        outage("healthy", STAYS_OPEN, None, None, 30, &[][..]),
        outage("primary-down", STAYS_OPEN, Down, None, 30, &["FailoverCircuitOpen"]),
        outage(
            "all-down",
            STAYS_OPEN,
            Down,
            Down,
            30,
            &["FailoverCircuitOpen", "FailoverNoTargetLeft", "FailoverRequestsFailing"],
        ),
        outage("flapping", NEVER_OPENS, Overloaded, None, 30, &["FailoverOften"]),
        outage(
            "streams-cut",
            NEVER_OPENS,
            Cut { after_chunks: 1 },
            None,
            30,
            // The JSON that is cut fails over; of the streams, the client has begun to read.
            &["FailoverOften", "FailoverRequestsFailing", "FailoverStreamsBroken"],
        ),
        outage("key-rejected", NEVER_OPENS, Unauthorized, None, 7, &["FailoverKeyRejected"]),
        outage("quota-exhausted", NEVER_OPENS, QuotaExhausted, None, 7, &["FailoverQuotaExhausted"]),
        outage("model-gone", NEVER_OPENS, ModelNotFound, None, 7, &["FailoverModelNotFound"]),
    ];
    let mut tests = String::new();
    for outage in &outages {
        tests.push_str(&run(outage).await);
    }
    let folder = tempfile(&tests);
    let output = Command::new(promtool).args(["test", "rules"]).arg(folder.join("test.yml")).output().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    std::fs::remove_dir_all(folder).unwrap();
    assert!(output.status.success(), "{said}");
}

/// A folder with the rules and a test of them.
fn tempfile(tests: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("failover-alerts-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("alerts.yml"), RULES).unwrap();
    let tests = format!("rule_files: [alerts.yml]\nevaluation_interval: 30s\ntests:\n{tests}");
    std::fs::write(folder.join("test.yml"), tests).unwrap();
    folder
}

/// Goes through an outage, and puts it as a test for promtool.
async fn run(outage: &Outage) -> String {
    let (primary, fallback) = simulated().await;
    let settings = format!(
        "timeout = {{ first_output = '1s', response = '1s', idle = '1s', total = '5s' }}\nretry = {{ attempts = 1 }}\n{}",
        outage.defaults
    );
    let served = Served::between(&primary.base_url(), &fallback.base_url(), &settings).await;
    let mut scrapes = Vec::new();
    for minute in 0..=MINUTES {
        if minute == FROM {
            primary.set_fault(outage.primary.clone());
            fallback.set_fault(outage.fallback.clone());
        }
        scrapes.push(scrape(&served).await);
        for stream in [false, true, true, false] {
            ask(&served, stream).await;
        }
    }
    let mut test = format!("  - name: {}\n    interval: 1m\n    input_series:\n", outage.name);
    let up = vec!["1"; MINUTES + 1].join(" ");
    let _ = writeln!(test, "      - series: 'up{{job=\"failover-gateway\",instance=\"a\"}}'\n        values: '{up}'");
    let names: BTreeSet<_> = scrapes.iter().flat_map(BTreeMap::keys).collect();
    for name in names {
        let values: Vec<_> = scrapes.iter().map(|scrape| scrape.get(name).map_or("_", String::as_str)).collect();
        let _ = writeln!(test, "      - series: '{name}'\n        values: '{}'", values.join(" "));
    }
    let _ = write!(
        test,
        "    promql_expr_test:\n      - expr: group by (alertname) (ALERTS{{alertstate=\"firing\"}})\n        \
         eval_time: {}m\n        exp_samples:\n",
        outage.at
    );
    for alert in outage.firing {
        assert!(alerts().contains_key(alert), "{alert}");
        let _ = writeln!(test, "          - labels: '{{alertname=\"{alert}\"}}'\n            value: 1");
    }
    if outage.firing.is_empty() {
        test = test.replace("exp_samples:\n", "exp_samples: []\n");
    }
    test
}

/// What Prometheus would keep of a scrape: each series with the labels that it adds, and its value.
async fn scrape(served: &Served) -> BTreeMap<String, String> {
    let request = http::Request::get(served.url("/metrics")).body(http_body_util::Full::default()).unwrap();
    let body = send(request).await.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            assert!(!labels.contains('\''), "{labels}");
            (format!("{name}{{job=\"failover-gateway\",instance=\"a\",{labels}"), value.to_owned())
        })
        .collect()
}

async fn ask(served: &Served, stream: bool) {
    let body = json!({ "model": "chat", "stream": stream, "messages": [{ "role": "user", "content": "Hi" }] });
    let mut body = send(post(served, body.to_string())).await.into_body();
    // Some of them break off.
    while let Some(Ok(_)) = body.frame().await {}
}
