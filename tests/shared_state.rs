//! Two gateways, each a process of its own, that share what they learn through a real Redis: one that is there, one that is gone,
//! one that hangs, and one that holds garbage.
//!
//! `REDIS_SERVER` names the program; without it, `redis-server` or `valkey-server` are looked for. Where there is none, these
//! tests say so and do nothing.

#![allow(clippy::unwrap_used)] // what fails here fails the test

#[path = "harness/mod.rs"]
mod harness;
#[path = "harness/process.rs"]
mod process;

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, response::Parts};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use process::{Folder, Program};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};
use tower_failover::{
    shared_state::{self, CircuitWord, Opening, SharedState},
    simulated::{SimulatedFault, SimulatedProvider},
};

const PASSWORD: &str = "hunter2-and-nobody-else";

fn server() -> Option<PathBuf> {
    let named = std::env::var_os("REDIS_SERVER").map(PathBuf::from);
    let programs = named.into_iter().chain(["redis-server", "valkey-server"].map(PathBuf::from));
    let is_there = |program: &PathBuf| Command::new(program).arg("--version").output().is_ok();
    let found = programs.into_iter().find(is_there);
    if found.is_none() {
        println!("SKIPPED: no redis-server; Debian has it in its package of that name");
    }
    found
}

/// A Redis that keeps nothing on disk.
struct Redis {
    program: PathBuf,
    address: SocketAddr,
    child: Option<Child>,
}

impl Redis {
    async fn start() -> Option<Redis> {
        let program = server()?;
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let mut redis = Redis { program, address, child: None };
        redis.revive().await;
        Some(redis)
    }

    async fn revive(&mut self) {
        let port = self.address.port().to_string();
        let child = Command::new(&self.program)
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--requirepass", PASSWORD])
            .current_dir(std::env::temp_dir())
            .stdout(Stdio::null())
            .stdin(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap());
        let began = Instant::now();
        while TcpStream::connect(self.address).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "Redis does not listen");
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([format!("-{name}"), id]).status().unwrap().success());
    }

    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// What it answers to these commands.
    async fn tell(&self, commands: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let text = format!("AUTH {PASSWORD}\r\n{commands}\r\nQUIT\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn keys(&self) -> Vec<String> {
        let answer = self.tell("KEYS *").await;
        answer.lines().filter(|line| line.starts_with("failover:")).map(str::to_owned).collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

struct Fleet {
    redis: Redis,
    primary: SimulatedProvider,
    fallback: SimulatedProvider,
    replicas: [Program; 2],
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Fleet {
    /// `provider` goes to the primary, `rest` under `[defaults]`, and `shared` under `[shared_state]`.
    async fn start(provider: &str, rest: &str, shared: &str) -> Option<Fleet> {
        let redis = Redis::start().await?;
        let (primary, fallback) = harness::simulated().await;
        let config = format!(
            r#"
            [auth]
            keys = [{{ value = "team-a-key-of-some-length", requests_per_minute = 100000 }}]
            [shared_state]
            url = {{ file = "redis-url" }}
            {shared}
            [providers.primary]
            dialect = "openai-chat"
            base_url = "{}"
            {provider}
            [providers.fallback]
            dialect = "openai-chat"
            base_url = "{}"
            [defaults]
            retry = {{ attempts = 1 }}
            breaker = {{ failures = 3 }}
            {rest}
            [routes.chat]
            targets = [{{ provider = "primary", model = "p" }}, {{ provider = "fallback", model = "f" }}]
            "#,
            primary.base_url(),
            fallback.base_url()
        );
        let start = async || {
            let folder = Folder::new();
            folder.write("redis-url", &format!("redis://:{PASSWORD}@{}/0", redis.address));
            Program::start(folder, &config, &[], "debug").await
        };
        let replicas = [start().await, start().await];
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let fleet = Fleet { redis, primary, fallback, replicas, client };
        fleet.is_shared(true).await;
        Some(fleet)
    }

    async fn ask_saying(&self, replica: usize, words: &str) -> (Parts, Bytes) {
        let request = Request::post(self.replicas[replica].url("/v1/chat/completions"))
            .header("content-type", "application/json")
            .header("authorization", "Bearer team-a-key-of-some-length")
            .body(Full::new(harness::chat(false).replace("Say something.", words).into()));
        let (parts, body) = self.client.request(request.unwrap()).await.unwrap().into_parts();
        (parts, body.collect().await.unwrap().to_bytes())
    }

    /// Asks what nobody has asked before, and says who answered.
    async fn ask(&self, replica: usize) -> String {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let words = format!("Number {}", COUNT.fetch_add(1, Ordering::Relaxed));
        let (parts, body) = self.ask_saying(replica, &words).await;
        assert_eq!(parts.status, 200, "{body:?}");
        parts.headers["x-failover-target"].to_str().unwrap().to_owned()
    }

    async fn read(&self, replica: usize, path: &str) -> String {
        let request = Request::get(self.replicas[replica].url(path))
            .header("authorization", "Bearer team-a-key-of-some-length")
            .body(Full::default());
        let body = self.client.request(request.unwrap()).await.unwrap().into_body();
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    /// Waits until both replicas say that of the shared state.
    async fn is_shared(&self, answers: bool) {
        let began = Instant::now();
        loop {
            let mut as_said = true;
            for replica in [0, 1] {
                let status: serde_json::Value =
                    serde_json::from_str(&self.read(replica, "/status.json").await).unwrap();
                let health = &status["shared_state"];
                as_said &= health["answers"] == answers && health["answered"].as_u64().unwrap() > 0;
            }
            if as_said {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{}", self.read(0, "/status.json").await);
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The primary fails for the first replica; says how long it took until the second one skipped it.
    async fn open_at_one_and_skip_at_the_other(&self) -> Duration {
        self.primary.set_fault(SimulatedFault::ServerError);
        let before = self.primary.request_count();
        while self.primary.request_count() < before + 3 {
            assert_eq!(self.ask(0).await, "fallback/f");
        }
        let began = Instant::now();
        loop {
            let status: serde_json::Value = serde_json::from_str(&self.read(1, "/status.json").await).unwrap();
            let target = status["targets"].as_array().unwrap().iter().find(|it| it["id"] == "primary/p").cloned();
            if target.unwrap()["state"] == "open" {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(10), "it does not learn of it");
            sleep(Duration::from_millis(10)).await;
        }
        let learned = began.elapsed();
        let reached = self.primary.request_count();
        for _ in 0..10 {
            assert_eq!(self.ask(1).await, "fallback/f");
        }
        assert_eq!(self.primary.request_count(), reached, "the second one had to find out for itself");
        learned
    }

    /// Waits until both get their answers from the primary again.
    async fn back_to_the_primary(&self) {
        self.primary.set_fault(SimulatedFault::None);
        let began = Instant::now();
        while self.ask(0).await != "primary/p" || self.ask(1).await != "primary/p" {
            assert!(began.elapsed() < Duration::from_secs(60), "the primary is not asked again");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_that_one_opens_is_skipped_by_the_other_within_a_second() {
    let Some(fleet) = Fleet::start("", "", "").await else { return };
    for replica in [0, 1] {
        assert_eq!(fleet.ask(replica).await, "primary/p");
    }
    let learned = fleet.open_at_one_and_skip_at_the_other().await;
    println!("learned within {learned:?}");
    assert!(learned < Duration::from_secs(1), "{learned:?}");
    fleet.back_to_the_primary().await;
    let metrics = fleet.read(0, "/metrics").await;
    assert!(metrics.contains("failover_shared_state_up 1"), "{metrics}");
    assert!(metrics.contains("failover_shared_state_questions_total{outcome=\"answered\"}"), "{metrics}");
    // Neither the password, nor what a client sent, is anywhere that it has no business.
    for replica in [0, 1] {
        let said = fleet.replicas[replica].output() + &fleet.read(replica, "/status.json").await + &metrics;
        assert!(!said.contains(PASSWORD), "{said}");
    }
    for key in fleet.redis.keys().await {
        assert!(!key.contains("team-a") && !key.contains("key-1"), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_for_both_together() {
    const LIMIT: u64 = 600;
    let limit = format!("requests_per_minute = {LIMIT}");
    let Some(fleet) = Fleet::start(&limit, "", "timeout = \"2s\"").await else { return };
    let began = Instant::now();
    let asking = (0..16_usize).map(|client| {
        let fleet = &fleet;
        async move {
            // Three of four ask the first.
            let replica = usize::from(client % 4 == 0);
            while began.elapsed() < Duration::from_secs(15) {
                fleet.ask(replica).await;
            }
        }
    });
    join_all(asking).await;
    let may_be = LIMIT as f64 * (1.0 + began.elapsed().as_secs_f64() / 60.0);
    let (were, others) = (fleet.primary.request_count() as f64, fleet.fallback.request_count());
    println!("{were} of {may_be:.0} permitted, {others} more were asked for: {:+.2} %", 100.0 * (were / may_be - 1.0));
    assert!(others > 100, "too few were asked for to tell");
    assert!((were / may_be - 1.0).abs() < 0.05, "{were} of {may_be}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_dies_or_hangs_under_load_fails_no_request() {
    let provider = "requests_per_minute = 10000000\ntokens_per_minute = 1000000000";
    let Some(mut fleet) = Fleet::start(provider, "cache = { ttl = \"1m\" }", "timeout = \"100ms\"").await else {
        return;
    };
    let (over, asked, slowest) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let load: Vec<_> = (0..8_u64)
        .map(|client| {
            let (over, asked, slowest) = (over.clone(), asked.clone(), slowest.clone());
            let url = fleet.replicas[usize::from(client % 2 == 0)].url("/v1/chat/completions");
            let http = fleet.client.clone();
            tokio::spawn(async move {
                let mut failed = Vec::new();
                for turn in 0_u64.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    // Each third is one that was asked before.
                    let words = format!("{client} {}", turn - u64::from(turn % 3 == 2));
                    let request = Request::post(&url)
                        .header("content-type", "application/json")
                        .header("authorization", "Bearer team-a-key-of-some-length")
                        .body(Full::new(Bytes::from(harness::chat(false).replace("Say something.", &words))));
                    let began = Instant::now();
                    let response = http.request(request.unwrap()).await.unwrap();
                    let status = response.status();
                    let body = response.into_body().collect().await.unwrap().to_bytes();
                    slowest.fetch_max(began.elapsed().as_millis() as u64, Ordering::Relaxed);
                    asked.fetch_add(1, Ordering::Relaxed);
                    if status != 200 {
                        failed.push((status, body));
                    }
                    sleep(Duration::from_millis(5)).await;
                }
                failed
            })
        })
        .collect();
    let mut seen = 0;
    let mut phase = |name: &str| {
        let now = asked.load(Ordering::Relaxed);
        println!("{name}: {} requests, the slowest took {} ms", now - seen, slowest.swap(0, Ordering::Relaxed));
        assert!(now > seen, "nothing was answered");
        seen = now;
    };
    sleep(Duration::from_secs(2)).await;
    phase("there");
    fleet.redis.kill();
    sleep(Duration::from_secs(3)).await;
    fleet.is_shared(false).await;
    phase("killed");
    fleet.redis.revive().await;
    fleet.is_shared(true).await;
    sleep(Duration::from_secs(1)).await;
    phase("revived");
    fleet.redis.signal("STOP");
    sleep(Duration::from_secs(4)).await;
    fleet.is_shared(false).await;
    phase("stopped");
    fleet.redis.signal("CONT");
    fleet.is_shared(true).await;
    sleep(Duration::from_secs(1)).await;
    phase("continued");
    over.store(true, Ordering::Relaxed);
    for failed in join_all(load).await {
        assert_eq!(failed.unwrap(), []);
    }
    let learned = fleet.open_at_one_and_skip_at_the_other().await;
    assert!(learned < Duration::from_secs(1), "{learned:?}");
    for program in &fleet.replicas {
        let said = program.output();
        // One line each time; on a busy machine it may come and go once more.
        let went = said.matches("the shared state does not answer").count();
        assert!((2..=10).contains(&went), "{went}");
        assert_eq!(said.matches("the shared state answers again").count(), went);
        assert!(!said.contains(PASSWORD));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_one_kept_comes_from_the_other_and_stale_where_nobody_answers() {
    let cache = "cache = { ttl = \"2s\", stale_if_error = \"1m\" }";
    let Some(fleet) = Fleet::start("", cache, "timeout = \"2s\"").await else { return };
    let status = |parts: &Parts| parts.headers["cache-status"].to_str().unwrap().to_owned();
    let (parts, first) = fleet.ask_saying(0, "Hello").await;
    assert!(status(&parts).contains("fwd=miss"), "{}", status(&parts));
    // It is written behind the answer's back.
    let kept = async { while !fleet.redis.keys().await.iter().any(|key| key.starts_with("failover:cache/")) {} };
    timeout(Duration::from_secs(1), kept).await.unwrap();
    let (parts, second) = fleet.ask_saying(1, "Hello").await;
    assert!(status(&parts).contains("; hit; ttl="), "{}", status(&parts));
    assert_eq!(first, second);
    assert_eq!(fleet.primary.request_count(), 1);

    let (_, first) = fleet.ask_saying(0, "Bye").await;
    fleet.primary.set_fault(SimulatedFault::ServerError);
    fleet.fallback.set_fault(SimulatedFault::ServerError);
    sleep(Duration::from_secs(3)).await;
    let (parts, second) = fleet.ask_saying(1, "Bye").await;
    assert!(status(&parts).ends_with("detail=stale-if-error"), "{}", status(&parts));
    assert_eq!(first, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_redis_is_harmless() {
    let cache = "cache = { ttl = \"1m\" }";
    let Some(fleet) = Fleet::start("requests_per_minute = 120", cache, "timeout = \"2s\"").await else { return };
    for (turn, garbage) in
        ["SET {} garbage", "SET {} \"\"", "SET {} 99999999999999999999", "RPUSH {} a b"].iter().enumerate()
    {
        let words = format!("Hello {turn}");
        fleet.ask_saying(0, &words).await;
        sleep(Duration::from_millis(200)).await;
        let mut keys = fleet.redis.keys().await;
        keys.push("failover:circuits".into());
        assert!(keys.iter().any(|key| key.contains(":cache/")) && keys.iter().any(|key| key.contains(":limit/")));
        for key in keys {
            let answer = fleet.redis.tell(&format!("DEL {key}\r\n{}", garbage.replace("{}", &key))).await;
            assert!(!answer.contains("-ERR"), "{answer}");
        }
        let (parts, _) = fleet.ask_saying(1, &words).await;
        assert_eq!(parts.status, 200);
        assert!(parts.headers["cache-status"].to_str().unwrap().contains("fwd=miss"));
        fleet.ask_saying(0, &format!("{words} again")).await;
    }
    let words = ["x", "1 9999999999999999999 1 o 1 1 1", "1 99999999999999999 5 o 1 1 9999999999", "1 o"];
    let garbage = words.map(|word| format!("HSET failover:circuits target/primary/p \"{word}\""));
    fleet.redis.tell("DEL failover:circuits").await;
    for garbage in garbage {
        fleet.redis.tell(&garbage).await;
        sleep(Duration::from_millis(600)).await;
        for replica in [0, 1] {
            assert_eq!(
                fleet.ask_saying(replica, &format!("{garbage} {replica}")).await.0.headers["x-failover-target"],
                "primary/p"
            );
        }
    }
    fleet.is_shared(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_leaves_redis_and_what_it_refuses_is_counted() {
    let Some(redis) = Redis::start().await else { return };
    let store = shared_state::Redis::new(&format!("redis://:{PASSWORD}@{}", redis.address)).unwrap();
    let tell = async |name: String, remaining| {
        let opening = Some(Opening { remaining, transient: true, openings: 1 });
        store.tell(CircuitWord { circuit: name.into(), replica: 7, stamp: 0, opening }).await.unwrap();
    };
    let minute = Duration::from_secs(60);
    tell("target/open".into(), minute).await;
    for number in 0..200 {
        tell(format!("target/{number}"), Duration::from_millis(1)).await;
    }
    sleep(Duration::from_millis(20)).await;
    tell("target/late".into(), minute).await;
    let mut names: Vec<_> = store.learn().await.unwrap().into_iter().map(|word| word.circuit).collect();
    names.sort();
    assert_eq!(names, ["target/late", "target/open"].map(Arc::<str>::from));
    let count = redis.tell("HLEN failover:circuits").await;
    let count: usize = count.lines().find_map(|line| line.strip_prefix(':')).unwrap().parse().unwrap();
    assert!((2..=65).contains(&count), "{count}");

    let fleet = shared_state::Fleet::new(store);
    redis.tell("CONFIG SET maxmemory 1").await;
    fleet.put("k", Bytes::from_static(b"v"), minute);
    let began = Instant::now();
    while fleet.health().failed == 0 {
        assert!(began.elapsed() < Duration::from_secs(5), "{fleet:?}");
        sleep(Duration::from_millis(10)).await;
    }
}
