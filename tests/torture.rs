//! Ten thousand requests of every kind that a careless or hostile client can send, at the built program on real sockets: it
//! answers each as it should, tells no secret, keeps no memory, and serves the next one.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

mod harness;
#[path = "harness/process.rs"]
mod process;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use process::{Folder, Program};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tower_failover::simulated::{SimulatedFault, SimulatedProvider};

const SEED: u64 = 20261121;
const REQUESTS: usize = 10_000;
const CLIENTS: usize = 64;
/// What it may have more of at the end than after its first requests, in KiB: what allocators keep, and idle connections.
const MORE_MEMORY: u64 = 16 << 10;
/// Its connections to providers may stay open for a while; nothing else may.
const MORE_FILES: usize = 2 * CLIENTS + 16;

const TEAM_A: &str = "sk-gateway-team-a-0123456789";
const TEAM_B: &str = "sk-gateway-team-b-0123456789";
const ADMIN: &str = "sk-gateway-admin-0123456789";
const UPSTREAM: [&str; 2] = ["sk-upstream-primary-0123456789", "sk-upstream-fallback-0123456789"];
/// What begins every key that clients make up.
const MADE_UP: &str = "sk-made-up-";

fn secrets() -> [&'static str; 6] {
    [TEAM_A, TEAM_B, ADMIN, UPSTREAM[0], UPSTREAM[1], MADE_UP]
}

fn config(primary: &SimulatedProvider, fallback: &SimulatedProvider) -> String {
    format!(
        r#"
        [auth]
        keys = [{{ file = "team-a" }}, {{ value = "{TEAM_B}", name = "team-b", routes = ["chat"] }}]
        admin_keys = [{{ file = "admin" }}]
        [limits]
        max_body = "256KiB"
        max_headers = "16KiB"
        header_timeout = "800ms"
        body_timeout = "2s"
        write_timeout = "5s"
        [providers.primary]
        dialect = "openai-chat"
        base_url = "{}"
        api_key = {{ value = "{}" }}
        tags = ["eu"]
        [providers.fallback]
        dialect = "anthropic-messages"
        base_url = "{}"
        api_key = {{ value = "{}" }}
        tags = ["eu", "us"]
        [defaults]
        retry = {{ attempts = 1 }}
        timeout = {{ first_output = "1s", response = "2s" }}
        keep_alive = "50ms"
        breaker = {{ open = "200ms", max_open = "200ms", long_open = "200ms" }}
        [routes."chat"]
        targets = [{{ provider = "primary", model = "model-p" }}, {{ provider = "fallback", model = "model-f" }}]
        [routes."other-*"]
        targets = [{{ provider = "fallback" }}]
        "#,
        primary.base_url(),
        UPSTREAM[0],
        fallback.base_url().trim_end_matches("/v1"),
        UPSTREAM[1],
    )
}

/// What came of a request.
struct Answer {
    /// 0 where the connection was closed without one.
    status: u16,
    bytes: Vec<u8>,
}

impl Answer {
    fn of(bytes: Vec<u8>) -> Answer {
        let status = bytes.strip_prefix(b"HTTP/1.1 ").and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok());
        Answer { status: status.map_or(0, |status| status.parse().unwrap()), bytes }
    }
}

/// One client, and what it does.
struct Client<'a> {
    program: &'a Program,
    random: Rng,
}

const ENDPOINTS: [&str; 5] = [
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1beta/models/chat:generateContent",
    "/v1beta/models/chat:streamGenerateContent?alt=sse",
];

impl Client<'_> {
    /// Makes one request, and says of which kind it was.
    async fn request(&mut self) -> (&'static str, Answer) {
        let stream = self.random.bool();
        match self.random.u8(..16) {
            0..=3 => self.healthy(stream).await,
            4 => ("aborted", self.aborted().await),
            5 => ("bad JSON", self.mangled(|_, body| body.truncate(body.len() / 2)).await),
            6 => ("bad UTF-8", self.mangled(|random, body| body.insert(random.usize(..body.len()), 0xff)).await),
            7 => ("deep", self.deep().await),
            8 => ("wrong key", self.wrong_key().await),
            9 => ("no such path", self.unknown().await),
            10 => ("huge head", self.huge_head().await),
            11 => ("duplicate headers", self.duplicates().await),
            12 => ("half a body", self.half().await),
            13 => ("slow head", self.slow().await),
            14 => ("too long", self.too_long().await),
            _ => ("noise", self.noise().await),
        }
    }

    fn body(&mut self, path: &str, stream: bool) -> Vec<u8> {
        let length = 1 << self.random.u32(..14);
        let said: String = std::iter::repeat_with(|| self.random.alphanumeric()).take(length).collect();
        let mut body = match path {
            "/v1/responses" => serde_json::json!({"model": "chat", "input": said}),
            path if path.starts_with("/v1beta") => {
                return serde_json::json!({"contents": [{"role": "user", "parts": [{"text": said}]}]})
                    .to_string()
                    .into();
            }
            _ => serde_json::json!({"model": "chat", "messages": [{"role": "user", "content": said}]}),
        };
        if path == "/v1/messages" {
            body["max_tokens"] = 100.into();
        }
        body["stream"] = stream.into();
        body.to_string().into()
    }

    fn key(&mut self) -> String {
        let key = if self.random.bool() { TEAM_A } else { TEAM_B };
        match self.random.u8(..4) {
            0 => format!("authorization: Bearer {key}\r\n"),
            1 => format!("x-api-key: {key}\r\n"),
            2 => format!("api-key: {key}\r\n"),
            _ => format!("authorization: Bearer {MADE_UP}beside\r\nx-goog-api-key: {key}\r\n"),
        }
    }

    fn head(&mut self, path: &str, length: usize, more: &str) -> Vec<u8> {
        let key = self.key();
        let content = format!("content-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n");
        format!("POST {path} HTTP/1.1\r\nhost: gateway\r\n{key}{content}{more}\r\n").into()
    }

    fn endpoint(&mut self) -> &'static str {
        ENDPOINTS[self.random.usize(..ENDPOINTS.len())]
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.program.address).await.unwrap()
    }

    /// Sends the bytes and reads all that comes.
    async fn exchange(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect().await;
        // It may be closed before it has read everything.
        let _ = stream.write_all(bytes).await;
        read(&mut stream).await
    }

    async fn healthy(&mut self, stream: bool) -> (&'static str, Answer) {
        let path = self.endpoint();
        let body = self.body(path, stream);
        let (kind, more) = match self.random.u8(..4) {
            0 => ("tagged", "x-failover-tags: eu\r\n"),
            1 => ("nobody's tag", "x-failover-tags: mars, eu\r\n"),
            _ => ("healthy", ""),
        };
        let head = self.head(path, body.len(), more);
        (kind, self.exchange(&[head, body].concat()).await)
    }

    async fn aborted(&mut self) -> Answer {
        let body = self.body(ENDPOINTS[0], true);
        let head = self.head(ENDPOINTS[0], body.len(), "");
        let mut stream = self.connect().await;
        stream.write_all(&[head, body].concat()).await.unwrap();
        let mut some = vec![0; self.random.usize(1..200)];
        let read = timeout(Duration::from_secs(10), stream.read(&mut some)).await.expect("nothing came").unwrap_or(0);
        some.truncate(read);
        Answer { status: 0, bytes: some }
    }

    async fn mangled(&mut self, mangle: impl FnOnce(&mut Rng, &mut Vec<u8>)) -> Answer {
        let path = self.endpoint();
        let mut body = self.body(path, false);
        mangle(&mut self.random, &mut body);
        let head = self.head(path, body.len(), "");
        self.exchange(&[head, body].concat()).await
    }

    async fn deep(&mut self) -> Answer {
        let path = self.endpoint();
        let levels = self.random.usize(1_000..100_000);
        let (open, close) = if self.random.bool() { ("[", "]") } else { ("{\"a\":", "}") };
        // Closed or not, within a request or alone.
        let inner = open.repeat(levels) + "1" + &close.repeat(if self.random.bool() { levels } else { 0 });
        let mut body = match self.random.bool() {
            true => format!("{{\"model\":\"chat\",\"{}\":{inner}}}", conversation(path)),
            false => inner,
        };
        body.truncate(250 << 10);
        let head = self.head(path, body.len(), "");
        self.exchange(&[&head, body.as_bytes()].concat()).await
    }

    async fn wrong_key(&mut self) -> Answer {
        let path = self.endpoint();
        let body = self.body(path, false);
        let random: String = std::iter::repeat_with(|| self.random.alphanumeric()).take(20).collect();
        let between = if path.contains('?') { '&' } else { '?' };
        let (query, header) = match self.random.u8(..4) {
            0 => (format!("{between}key={MADE_UP}{random}"), String::new()),
            1 => (String::new(), format!("authorization: Basic {random}\r\n")),
            2 => (String::new(), format!("x-api-key: {ADMIN}\r\n")),
            _ => (String::new(), format!("authorization: Bearer {MADE_UP}{random}\r\n")),
        };
        let length = body.len();
        let head = format!(
            "POST {path}{query} HTTP/1.1\r\nhost: g\r\n{header}content-length: {length}\r\nconnection: close\r\n\r\n"
        );
        self.exchange(&[head.as_bytes(), &body].concat()).await
    }

    async fn unknown(&mut self) -> Answer {
        let method = ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD", "BREW"][self.random.usize(..8)];
        let path = [
            "/v1/nothing",
            "/v1beta/models/chat:sing",
            "/v1/chat/completions",
            "/v1/models/%ff%00",
            "/v1/../admin",
            "/admin/targets/x/open",
            "/%2e%2e/etc/passwd",
            "/v1/models/nothing",
        ][self.random.usize(..8)];
        let key = self.key();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: g\r\n{key}connection: close\r\n\r\n");
        self.exchange(head.as_bytes()).await
    }

    async fn huge_head(&mut self) -> Answer {
        let length = self.random.usize(17 << 10..200 << 10);
        let more = format!("x-{}: {}\r\n", self.random.u32(..), "x".repeat(length));
        let head = self.head(ENDPOINTS[0], 0, &more);
        self.exchange(&head).await
    }

    async fn duplicates(&mut self) -> Answer {
        let path = self.endpoint();
        let body = self.body(path, false);
        let many = self.random.usize(1..60);
        let more = match self.random.bool() {
            true => format!("x-failover-tags: eu\r\nx-api-key: {MADE_UP}again\r\naccept: */*\r\n").repeat(many.min(20)),
            false => format!("content-length: {}\r\n", body.len() + many),
        };
        let head = self.head(path, body.len(), &more);
        self.exchange(&[head, body].concat()).await
    }

    async fn half(&mut self) -> Answer {
        let path = self.endpoint();
        let body = self.body(path, false);
        let head = self.head(path, body.len() + 1, "");
        let mut stream = self.connect().await;
        stream.write_all(&[head, body].concat()).await.unwrap();
        if self.random.bool() {
            stream.shutdown().await.unwrap();
        }
        read(&mut stream).await
    }

    async fn slow(&mut self) -> Answer {
        let mut head = self.head(ENDPOINTS[0], 0, "");
        head.truncate(self.random.usize(1..head.len() - 2));
        let mut stream = self.connect().await;
        stream.write_all(&head).await.unwrap();
        read(&mut stream).await
    }

    async fn too_long(&mut self) -> Answer {
        let head = self.head(ENDPOINTS[0], self.random.clone().usize(257 << 10..usize::MAX >> 4), "");
        self.exchange(&head).await
    }

    async fn noise(&mut self) -> Answer {
        let length = self.random.usize(1..4_000);
        let mut bytes: Vec<u8> = std::iter::repeat_with(|| self.random.u8(..)).take(length).collect();
        match self.random.u8(..3) {
            0 => bytes.extend_from_slice(b"\r\n\r\n"),
            1 => bytes = [&b"GET / HTTP/1.1\r\nhost: g\r\n"[..], &bytes, b"\r\n\r\n"].concat(),
            _ => {
                let key = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nx-api-key: {TEAM_A}\r\n");
                bytes = [key.as_bytes(), b"transfer-encoding: chunked\r\n\r\n", &bytes].concat();
            }
        }
        self.exchange(&bytes).await
    }
}

/// What the conversation is called in the requests for that endpoint.
fn conversation(path: &str) -> &'static str {
    match path {
        "/v1/responses" => "input",
        path if path.starts_with("/v1beta") => "contents",
        _ => "messages",
    }
}

async fn read(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // What was read before a reset counts.
    let read = timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes)).await;
    assert!(read.is_ok(), "a connection hangs: {}", String::from_utf8_lossy(&bytes));
    Answer::of(bytes)
}

/// What a request of that kind may be answered; 0 for a connection that is closed.
fn allowed(kind: &str) -> &'static [u16] {
    match kind {
        "healthy" | "tagged" => &[200],
        "nobody's tag" | "bad JSON" | "bad UTF-8" => &[400],
        "aborted" => &[0],
        // What a translation leaves out of a conversation may be all that was wrong with it; where it leaves nothing, only the
        // targets that need none are asked, and may fail.
        "deep" => &[200, 400, 429, 500, 502, 503, 504],
        "wrong key" => &[401],
        "no such path" => &[400, 403, 404, 405],
        // One that is reset while it still sends may not get to read why.
        "huge head" => &[431, 0],
        // So many keys that the right one is not looked at, lengths that contradict each other.
        "duplicate headers" => &[200, 400, 401, 431],
        "half a body" => &[400, 408],
        "slow head" => &[0, 400, 408],
        "too long" => &[413],
        "noise" => &[0, 400, 401, 408, 431],
        other => panic!("{other}"),
    }
}

/// The kibibytes of memory that the program has.
fn memory(program: &Program) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn files(program: &Program) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", program.id())).unwrap().count()
}

fn find_secret(bytes: &[u8]) -> Option<&'static str> {
    let is_in = |secret: &&str| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
    secrets().into_iter().find(|secret| is_in(secret))
}

async fn attack(program: &Program, requests: usize, seed: u64) -> BTreeMap<(&'static str, u16), usize> {
    let (tally, wrong) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
    let left = AtomicUsize::new(requests);
    let clients = (0..CLIENTS as u64).map(|index| {
        let (tally, wrong, left) = (&tally, &wrong, &left);
        async move {
            let mut client = Client { program, random: Rng::with_seed(seed + index) };
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                let (kind, Answer { status, bytes }) = client.request().await;
                let told = || String::from_utf8_lossy(&bytes).into_owned();
                if !allowed(kind).contains(&status) {
                    wrong.lock().unwrap().push(format!("{kind}: {status}: {}", told()));
                }
                assert_eq!(find_secret(&bytes), None, "{kind}: {}", told());
                *tally.lock().unwrap().entry((kind, status)).or_default() += 1;
            }
        }
    });
    futures_util::future::join_all(clients).await;
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} answers are wrong: {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
    tally.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_clients_send_it_answers_tells_no_secret_and_lives_on() {
    let primary = SimulatedProvider::builder("primary").require_key(UPSTREAM[0]).start().await.unwrap();
    let fallback = SimulatedProvider::builder("fallback").require_key(UPSTREAM[1]).start().await.unwrap();
    let folder = Folder::new();
    folder.write("team-a", TEAM_A);
    folder.write("admin", ADMIN);
    let log = "debug,tower_failover=trace";
    let mut program = Program::start(folder, &config(&primary, &fallback), &[], log).await;

    attack(&program, 500, SEED - 1000).await;
    let (memory_before, files_before) = (memory(&program), files(&program));
    // The primary fails in changing ways meanwhile; the fallback stands in.
    let unruly = Arc::new(primary);
    let changes = tokio::spawn({
        let primary = unruly.clone();
        async move {
            for fault in ["server-error", "none", "reset", "rate-limited", "none", "cut:0", "html-ok"].iter().cycle() {
                primary.set_fault(fault.parse().unwrap_or(SimulatedFault::None));
                sleep(Duration::from_millis(150)).await;
            }
        }
    });
    let began = Instant::now();
    let tally = attack(&program, REQUESTS, SEED).await;
    changes.abort();
    println!("{REQUESTS} requests in {:?}: {tally:#?}", began.elapsed());

    assert!(program.is_running(), "{}", program.output());
    unruly.set_fault(SimulatedFault::None);
    let key = [("authorization", format!("Bearer {TEAM_A}"))];
    let mut request = http::Request::post(program.url("/v1/chat/completions"));
    for (name, value) in &key {
        request = request.header(*name, value);
    }
    let (head, body) = harness::ask(request.body(http_body_util::Full::new(harness::chat(true).into())).unwrap()).await;
    assert_eq!(head.status, 200);
    assert!(harness::text(&body).contains("A simulated answer"));

    // Nothing that operators see tells a secret either, whatever of it there is.
    for path in ["/metrics", "/status.json", "/"] {
        let request = http::Request::get(program.url(path)).header("x-api-key", ADMIN);
        let (_, body) = harness::ask(request.body(http_body_util::Full::default()).unwrap()).await;
        assert_eq!(find_secret(&body), None, "{path}");
    }

    let memory_allowed = memory_before + MORE_MEMORY;
    let began = Instant::now();
    while memory(&program) > memory_allowed || files(&program) > files_before + MORE_FILES {
        let (memory, files) = (memory(&program), files(&program));
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "it keeps {memory} KiB and {files} files, of {memory_before} and {files_before} before"
        );
        sleep(Duration::from_millis(100)).await;
    }
    println!(
        "memory: {memory_before} KiB before, {} after; files: {files_before}, {}",
        memory(&program),
        files(&program)
    );

    program.signal("TERM");
    assert_eq!(program.ended(Duration::from_secs(20)).await.0.code(), Some(0));
    let output = program.output();
    assert!(!output.contains("panicked"), "{output}");
    assert!(output.contains("DEBUG"), "the log says little");
    for secret in secrets() {
        assert_eq!(output.lines().find(|line| line.contains(secret)), None, "{secret} is in what the program says");
    }
}
