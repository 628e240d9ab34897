//! A new configuration while requests are served: nothing is dropped, what was learnt stays, and a bad one is refused.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

mod harness;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use harness::{QUICK, chat, text};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::net::TcpListener;
use tower_failover::{
    config::Config,
    gateway::Gateway,
    simulated::{SimulatedFault, SimulatedProvider},
};

/// A gateway that is served with a file of its own until it is dropped.
struct Reloadable {
    gateway: Gateway,
    address: SocketAddr,
    folder: PathBuf,
    client: Client<HttpConnector, Full<Bytes>>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Reloadable {
    async fn start(toml: &str) -> Self {
        Self::start_at("127.0.0.1:0", toml).await
    }

    async fn start_at(address: &str, toml: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tower-failover-reload-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("gateway.toml"), toml).unwrap();
        let gateway = Gateway::new(&Config::load(&folder.join("gateway.toml")).unwrap());
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = gateway.clone();
        let serve = tokio::spawn(async move { serving.serve(listener, std::future::pending()).await.unwrap() });
        let watch = tokio::spawn(gateway.watch());
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Reloadable { gateway, address, folder, client, tasks: [serve, watch] }
    }

    fn file(&self) -> PathBuf {
        self.folder.join("gateway.toml")
    }

    fn write(&self, toml: &str) {
        std::fs::write(self.file(), toml).unwrap();
    }

    /// The head of an answer, and its body to be read.
    async fn begin(&self, stream: bool) -> (http::response::Parts, hyper::body::Incoming) {
        let request = Request::post(format!("http://{}/v1/chat/completions", self.address))
            .header("content-type", "application/json")
            .body(Full::from(chat(stream)))
            .unwrap();
        self.client.request(request).await.unwrap().into_parts()
    }

    /// Who answers.
    async fn answerer(&self) -> String {
        let (parts, body) = self.begin(false).await;
        let body = body.collect().await.unwrap().to_bytes();
        if parts.status == 200 { text(&body) } else { parts.status.to_string() }
    }

    /// What `/metrics` says.
    async fn metrics(&self) -> String {
        self.get("/metrics").await
    }

    /// What `/status.json` says.
    async fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.get("/status.json").await).unwrap()
    }

    async fn get(&self, path: &str) -> String {
        let request = Request::get(format!("http://{}{path}", self.address)).body(Full::default()).unwrap();
        let body = self.client.request(request).await.unwrap().into_body().collect().await.unwrap();
        String::from_utf8(body.to_bytes().into()).unwrap()
    }

    /// Waits until somebody else answers.
    async fn answered_by(&self, provider: &str) {
        for _ in 0..100 {
            if self.answerer().await.starts_with(&format!("[{provider}]")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{provider} never answers");
    }
}

impl Drop for Reloadable {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Routes to these providers, in that order.
fn to(providers: &[&SimulatedProvider], more: &str) -> String {
    let mut toml = format!("[defaults]\n{QUICK}\n{more}\n");
    for provider in providers {
        let (name, url) = (provider.name(), provider.base_url());
        toml += &format!("[providers.{name}]\ndialect = \"openai-chat\"\nbase_url = \"{url}\"\n");
        toml += &format!("api_key = {{ value = \"sk-of-{name}\" }}\n");
    }
    let targets: Vec<_> = providers.iter().map(|it| format!("{{ provider = \"{}\" }}", it.name())).collect();
    toml + &format!("[routes.chat]\ntargets = [{}]\n", targets.join(", "))
}

#[tokio::test]
async fn two_hundred_open_streams_outlive_a_reload_and_new_requests_follow_the_new_routes() {
    const STREAMS: usize = 200;
    const WORDS: &str = "one two three four five six seven eight nine ten eleven twelve";
    let slow = SimulatedProvider::builder("slow")
        .answer(WORDS)
        .chunks(12)
        .chunk_delay(Duration::from_millis(400))
        .start()
        .await
        .unwrap();
    let other = SimulatedProvider::start("other").await.unwrap();
    let patient = |toml: String| toml.replace("150ms", "20s").replace("300ms", "20s").replace("5s", "1m");
    let served = Reloadable::start(&patient(to(&[&slow], ""))).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(served.begin(true));
    }
    let streams = futures_util::future::join_all(streams).await;
    assert!(streams.iter().all(|(parts, _)| parts.status == 200));
    let reading: Vec<_> = streams
        .into_iter()
        .map(|(_, body)| tokio::spawn(async { body.collect().await.map(|body| body.to_bytes()) }))
        .collect();

    served.write(&patient(to(&[&other], "")));
    served.gateway.reload().unwrap();
    assert!(served.answerer().await.starts_with("[other]"));
    let open = reading.iter().filter(|task| !task.is_finished()).count();
    assert_eq!(open, STREAMS, "all streams are open while the routes change");
    for task in reading {
        // `text` looks for the stream's end too.
        assert!(text(&task.await.unwrap().unwrap()).ends_with(WORDS));
    }
    assert_eq!((slow.request_count(), slow.aborted_count()), (STREAMS as u64, 0));
}

#[tokio::test]
async fn a_changed_file_is_reloaded_and_a_bad_one_refused() {
    let (a, b) = (SimulatedProvider::start("a").await.unwrap(), SimulatedProvider::start("b").await.unwrap());
    let served = Reloadable::start(&to(&[&a], "")).await;
    assert!(served.answerer().await.starts_with("[a]"));
    served.write(&to(&[&b], "retri = 1"));
    let errors = served.gateway.reload().unwrap_err();
    assert!(errors.to_string().contains("defaults.retri: unknown key"), "{errors}");
    // The watcher saw it too, and left it.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(served.answerer().await.starts_with("[a]"));
    let told = served.status().await["config"].clone();
    assert_eq!(told["reloads"], 0);
    assert!(told["refused"].as_u64().unwrap() >= 1 && told["last_error"]["at"].is_string(), "{told}");
    assert!(told["last_error"]["message"].as_str().unwrap().contains("defaults.retri: unknown key"), "{told}");
    assert!(!served.metrics().await.contains("failover_config_reloads_total{outcome=\"refused\"} 0"));
    // Swapped as a whole, as editors and configuration maps do it.
    std::fs::write(served.folder.join("next"), to(&[&b], "")).unwrap();
    std::fs::rename(served.folder.join("next"), served.file()).unwrap();
    served.answered_by("b").await;
    let told = served.status().await["config"].clone();
    assert_eq!((&told["reloads"], &told["last_error"]), (&1.into(), &serde_json::Value::Null));
    assert!(served.metrics().await.contains("failover_config_reloads_total{outcome=\"applied\"} 1\n"));
}

#[tokio::test]
async fn what_was_learnt_outlives_a_reload() {
    let (a, b) = (SimulatedProvider::start("a").await.unwrap(), SimulatedProvider::start("b").await.unwrap());
    let breaker = |failures| format!("breaker = {{ failures = {failures}, open = \"20s\" }}");
    let served = Reloadable::start(&to(&[&a, &b], &breaker(1))).await;
    a.set_fault(SimulatedFault::ServerError);
    assert!(served.answerer().await.starts_with("[b]"));
    let asked = a.request_count();
    a.set_fault(SimulatedFault::None);
    // The same circuits, and then others in the same state.
    for failures in [1, 2] {
        served.write(&to(&[&a, &b], &breaker(failures)));
        served.gateway.reload().unwrap();
        assert!(served.answerer().await.starts_with("[b]"), "the circuit of `a` is still open");
    }
    assert_eq!(a.request_count(), asked);
}

#[tokio::test]
async fn keys_that_stay_keep_their_rest_and_one_that_changes_is_tried_at_once() {
    let provider = SimulatedProvider::builder("a").require_key("sk-good").start().await.unwrap();
    let with = |keys: &str| to(&[&provider], "").replace("{ value = \"sk-of-a\" }", keys);
    let served = Reloadable::start(&with("[{ value = \"sk-bad\" }, { value = \"sk-worse\" }]")).await;
    assert_eq!(served.answerer().await, "502 Bad Gateway");
    assert_eq!(provider.request_count(), 2);
    let same = with("[{ value = \"sk-bad\" }, { value = \"sk-worse\" }]") + "# a remark\n";
    served.write(&same);
    served.gateway.reload().unwrap();
    assert_ne!(served.answerer().await, "200 OK");
    assert_eq!(provider.request_count(), 2, "the circuit is open");
    served.write(&with("[{ value = \"sk-bad\" }, { value = \"sk-good\" }]"));
    served.gateway.reload().unwrap();
    assert!(served.answerer().await.starts_with("[a]"));
}

#[test]
fn a_configuration_of_no_file_has_nothing_to_reload() {
    let toml = "[providers.p]\ndialect='openai-chat'\nbase_url='http://h'\n[routes.r]\ntargets=[{provider='p'}]";
    let config = Config::from_toml(toml, Path::new("x.toml"), &|_| None).unwrap();
    assert!(config.reload().is_none() && config.file().is_none());
    Gateway::new(&config).reload().unwrap();
}

/// The port is open to the world for as long as the gateway runs, whatever the new file says of `listen`.
#[tokio::test]
async fn a_file_without_keys_is_refused_where_others_can_reach_the_gateway() {
    let provider = SimulatedProvider::start("a").await.unwrap();
    let auth = "[auth]\nkeys = [{ value = \"sk-gateway-team-a-0123456789\" }]\n";
    let (with_keys, without) = (to(&[&provider], "") + auth, to(&[&provider], ""));
    let served = Reloadable::start_at("0.0.0.0:0", &with_keys).await;
    assert_eq!(served.answerer().await, "401 Unauthorized");
    served.write(&without);
    let reloaded = served.gateway.reload();
    assert_eq!(served.answerer().await, "401 Unauthorized", "whoever reaches the port has the providers' keys");
    let errors = reloaded.unwrap_err().to_string();
    assert!(errors.contains("without `keys` under [auth]"), "{errors}");
    assert!(served.gateway.replace(&Config::load(&served.file()).unwrap()).is_err());
    assert_eq!(served.answerer().await, "401 Unauthorized");
    assert_eq!(provider.request_count(), 0);
    // On a loopback address that is as good as at the start.
    let served = Reloadable::start(&with_keys).await;
    served.write(&without);
    served.gateway.reload().unwrap();
    assert!(served.answerer().await.starts_with("[a]"));
}

/// What is left of them would be alarming for ever, or keep an alarm of the others from sounding.
#[tokio::test]
async fn targets_that_are_gone_are_gone_from_the_metrics() {
    let (a, b) = (SimulatedProvider::start("a").await.unwrap(), SimulatedProvider::start("b").await.unwrap());
    let served = Reloadable::start(&to(&[&a, &b], "breaker = { failures = 1, open = \"20s\" }")).await;
    a.set_fault(SimulatedFault::ServerError);
    assert!(served.answerer().await.starts_with("[b]"));
    let lines = |metrics: &str, name: &str| {
        let mut lines: Vec<_> = metrics.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let state = |target: &str, state: u8| format!("failover_circuit_state{{target=\"{target}/*\"}} {state}");
    let place = |target: &str, place: u8| {
        format!("failover_route_target_info{{route=\"chat\",target=\"{target}/*\",position=\"{place}\"}} 1")
    };
    let metrics = served.metrics().await;
    assert_eq!(lines(&metrics, "failover_circuit_state{"), [state("a", 2), state("b", 0)]);
    assert_eq!(lines(&metrics, "failover_route_target_info{"), [place("a", 0), place("b", 1)]);

    served.write(&to(&[&b], ""));
    served.gateway.reload().unwrap();
    let metrics = served.metrics().await;
    assert_eq!(lines(&metrics, "failover_circuit_state{"), [state("b", 0)]);
    assert_eq!(lines(&metrics, "failover_route_target_info{"), [place("b", 0)]);
    assert!(!metrics.contains("failover_target_info{target=\"a/*\"") && !metrics.contains("headroom{provider=\"a\""));
    assert!(!metrics.contains("NaN"), "{metrics}");
    // What was counted stays.
    assert!(metrics.contains("failover_attempts_total{target=\"a/*\",outcome=\"unavailable\"} 1"), "{metrics}");

    served.write(&to(&[&b, &a], "breaker = { failures = 1, open = \"20s\" }"));
    served.gateway.reload().unwrap();
    let metrics = served.metrics().await;
    assert_eq!(lines(&metrics, "failover_circuit_state{"), [state("a", 2), state("b", 0)]);
    assert_eq!(lines(&metrics, "failover_route_target_info{"), [place("a", 1), place("b", 0)]);
    assert!(metrics.contains("failover_target_info{target=\"a/*\""), "{metrics}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_command_is_run_no_more_once_the_configuration_has_none() {
    let (a, b) = (SimulatedProvider::start("a").await.unwrap(), SimulatedProvider::start("b").await.unwrap());
    let plain = to(&[&a, &b], "breaker = { failures = 99 }");
    let served = Reloadable::start(&plain).await;
    let runs = served.folder.join("runs");
    let told = || std::fs::read(&runs).unwrap().len();
    let command = format!("echo >> {}; echo sk-of-the-vault", runs.display());
    let command = format!("{{ command = [\"sh\", \"-c\", \"{command}\"], refresh = \"100ms\" }}");
    served.write(&plain.replace("{ value = \"sk-of-a\" }", &command));
    served.gateway.reload().unwrap();
    // What is remembered of this, for operators to see, does not keep the key.
    a.set_fault(SimulatedFault::ServerError);
    assert!(served.answerer().await.starts_with("[b]"));
    let first = told();
    for _ in 0..100 {
        if told() > first + 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(told() > first + 1, "it is run again and again");
    served.write(&plain);
    served.gateway.reload().unwrap();
    tokio::time::sleep(Duration::from_millis(800)).await;
    let last = told();
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(told(), last);
}
