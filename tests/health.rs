//! Targets are asked how they are where the configuration says so, and an outage ends when one answers.

#![allow(clippy::unwrap_used)] // what fails here fails the test

mod harness;

use std::{path::Path, time::Duration};

use http_body_util::Full;
use tokio::{net::TcpListener, sync::oneshot, time::sleep};
use tower_failover::{
    config::Config,
    gateway::{Gateway, check::Check},
    simulated::{SimulatedFault, SimulatedProvider},
};

use harness::{ask, chat};

fn config(primary: &SimulatedProvider, fallback: &SimulatedProvider, health_check: &str) -> String {
    let (primary, fallback) = (primary.base_url(), fallback.base_url());
    format!(
        r#"
        [defaults]
        retry = {{ attempts = 1 }}
        breaker = {{ failures = 1, open = "10m", max_open = "10m" }}
        [providers.primary]
        dialect = "openai-chat"
        base_url = "{primary}"
        api_key = {{ value = "sk-primary" }}
        {health_check}
        [providers.fallback]
        dialect = "openai-chat"
        base_url = "{fallback}"
        [routes.chat]
        targets = [{{ provider = "primary", model = "gpt-4o" }}, {{ provider = "fallback", model = "gpt-4o" }}]
        "#
    )
}

fn read(text: &str) -> Config {
    Config::from_toml(text, Path::new("test.toml"), &|_| None).unwrap()
}

async fn answered_by(url: &str) -> String {
    let request =
        http::Request::post(format!("{url}/v1/chat/completions")).body(Full::new(chat(false).into())).unwrap();
    let (head, _) = ask(request).await;
    head.headers["x-failover-target"].to_str().unwrap().to_owned()
}

/// The number that a metric has.
async fn metric(url: &str, series: &str) -> Option<f64> {
    let (_, body) = ask(http::Request::get(format!("{url}/metrics")).body(Full::default()).unwrap()).await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[tokio::test]
async fn an_outage_ends_when_a_check_is_answered_and_checks_end_with_the_gateway() {
    let (primary, fallback) = harness::simulated().await;
    let with_checks = config(&primary, &fallback, r#"health_check = { kind = "completion", interval = "1s" }"#);
    let gateway = Gateway::new(&read(&with_checks));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(gateway.clone().serve(listener, async move { _ = stopped.await }));

    assert_eq!(answered_by(&url).await, "primary/gpt-4o");
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(primary.request_count(), 1, "who is well is not asked");
    primary.set_fault(SimulatedFault::ServerError);
    assert_eq!(answered_by(&url).await, "fallback/gpt-4o");
    primary.set_fault(SimulatedFault::None);
    // The configuration is read again meanwhile.
    gateway.replace(&read(&with_checks)).unwrap();
    let mut waited = 0;
    while answered_by(&url).await != "primary/gpt-4o" {
        waited += 1;
        assert!(waited < 100, "the circuit stays open");
        sleep(Duration::from_millis(100)).await;
    }
    let checks =
        primary.received().iter().filter(|request| String::from_utf8_lossy(&request.body).contains("Say OK.")).count();
    assert_eq!(checks, 1);
    let checked = r#"failover_health_checks_total{target="primary/gpt-4o",outcome="answered"}"#;
    assert_eq!(metric(&url, checked).await, Some(1.0));
    let attempts = r#"failover_attempts_total{target="primary/gpt-4o",outcome="answered"}"#;
    assert_eq!(metric(&url, attempts).await, Some(2.0), "a check is no try");

    primary.set_fault(SimulatedFault::ServerError);
    assert_eq!(answered_by(&url).await, "fallback/gpt-4o");
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
    primary.clear();
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(primary.request_count(), 0, "nobody is asked any more");
}

#[tokio::test]
async fn a_provider_that_is_there_again_is_tried_again_though_nobody_pays_for_asking() {
    let (primary, fallback) = harness::simulated().await;
    let without = read(&config(&primary, &fallback, ""));
    assert!(without.health_checks.is_empty(), "off by default");
    let served =
        harness::Served::with_config(&config(&primary, &fallback, r#"health_check = { interval = "1s" }"#)).await;
    let url = served.url("");
    primary.set_fault(SimulatedFault::Down);
    assert_eq!(answered_by(&url).await, "fallback/gpt-4o");
    primary.set_fault(SimulatedFault::None);
    let mut waited = 0;
    while answered_by(&url).await != "primary/gpt-4o" {
        waited += 1;
        assert!(waited < 100, "the circuit stays open");
        sleep(Duration::from_millis(100)).await;
    }
    let asked: Vec<_> = primary.received().iter().map(|request| request.uri.path().to_owned()).collect();
    assert_eq!(asked, ["/v1/models/gpt-4o", "/v1/chat/completions"]);

    primary.set_fault(SimulatedFault::ServerError);
    assert_eq!(answered_by(&url).await, "fallback/gpt-4o");
    primary.set_fault(SimulatedFault::None);
    sleep(Duration::from_millis(2_500)).await;
    assert_eq!(answered_by(&url).await, "fallback/gpt-4o", "a list says nothing of a model that failed");
    assert_eq!(primary.request_count(), 3);
}

#[tokio::test]
async fn a_check_of_the_configuration_says_who_will_be_asked_what() {
    let (primary, fallback) = harness::simulated().await;
    let folder = std::env::temp_dir().join(format!("failover-health-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("gateway.toml");
    let health_check = r#"health_check = { kind = "completion", open_after = 3 }"#;
    std::fs::write(&file, config(&primary, &fallback, health_check)).unwrap();
    let check = Check::of_file(&file);
    let said = check.describe(tower_failover::gateway::Paint::of_output());
    let json = check.to_json();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(said.contains("primary/gpt-4o") && said.contains("a few words") && said.contains("every 30s"), "{said}");
    assert_eq!(json["health_checks"][0]["target"], "primary/gpt-4o");
    assert_eq!(json["health_checks"][0]["open_after"], 3);
}
