//! Keys: several in turn, one that rests alone, and one that changes while the program runs.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

mod harness;

use std::{
    collections::HashMap,
    convert::Infallible,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use harness::{QUICK, Served, ask, chat, post, text};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_failover::{
    CredentialSource, Credentials, Dialect, FailoverLayer, FailoverStack, Fault, FaultKind, FetchedKey, KeyHeader,
    Provider, ProviderLayer, RateLimitsRegistry, RequestContext, ResponseBody, Route, Target, retry::RetryLayer,
    simulated::SimulatedProvider,
};

const ANSWER: &str =
    r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}]}"#;

/// A status and a `Retry-After` for each key.
type Answers = Arc<Mutex<HashMap<&'static str, (u16, Option<u64>)>>>;

/// What a provider does with each key, and which it was shown.
#[derive(Clone, Default)]
struct Account {
    answers: Answers,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Account {
    /// From now on that key is answered with that status.
    fn answers(&self, key: &'static str, status: u16, retry_after: impl Into<Option<u64>>) {
        self.answers.lock().unwrap().insert(key, (status, retry_after.into()));
    }

    fn client(&self) -> BoxCloneSyncService<Request<Full<Bytes>>, Response<Full<Bytes>>, Infallible> {
        let account = self.clone();
        BoxCloneSyncService::new(service_fn(move |request: Request<Full<Bytes>>| {
            let key =
                request.headers()[header::AUTHORIZATION].to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
            let (status, retry_after) = account.answers.lock().unwrap().get(&*key).copied().unwrap_or((200, None));
            account.seen.lock().unwrap().push(key.clone());
            let body = match status {
                200 => ANSWER.to_owned(),
                402 => r#"{"error":{"code":"insufficient_quota","message":"nothing left"}}"#.to_owned(),
                _ => format!(r#"{{"error":{{"message":"not with {key}, nor with k-old"}}}}"#),
            };
            let status = if status == 402 { 429 } else { status };
            let mut response = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
            if let Some(seconds) = retry_after {
                response = response.header(header::RETRY_AFTER, seconds);
            }
            std::future::ready(Ok(response.body(Full::from(body)).unwrap()))
        }))
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

fn three() -> Credentials {
    Credentials::rotating(KeyHeader::Bearer, ["k-1", "k-2", "k-3"].map(Into::into)).unwrap()
}

/// The status, the fault and the body of one answer.
async fn call<S, B>(service: &mut S) -> (StatusCode, Option<FaultKind>, String)
where
    S: Service<Request<Full<Bytes>>, Response = Response<ResponseBody<B>>, Error = Infallible>,
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<tower_failover::BoxError>,
{
    let request = Request::post("/v1/chat/completions").body(Full::from(chat(false))).unwrap();
    let (parts, body) = service.ready().await.unwrap().call(request).await.unwrap().into_parts();
    let body = body.collect().await.map_err(|_| ()).unwrap().to_bytes();
    let fault = parts.extensions.get::<Fault>().map(Fault::kind);
    (parts.status, fault, String::from_utf8(body.to_vec()).unwrap())
}

macro_rules! stack {
    ($account:expr, $credentials:expr) => {{
        let provider = Provider::new("p", Dialect::OpenAiChat, "http://p/v1").unwrap().with_credentials($credentials);
        let route = Route::new("r", [Target::new(&provider, "m")]).unwrap();
        FailoverStack::new(&route).with_retry(RetryLayer::new().with_attempts(1)).layer($account.client())
    }};
}

#[tokio::test(start_paused = true)]
async fn keys_are_used_in_turn() {
    let account = Account::default();
    let mut service = stack!(account, three());
    for _ in 0..6 {
        assert_eq!(call(&mut service).await.0, 200);
    }
    assert_eq!(account.seen(), ["k-1", "k-2", "k-3", "k-1", "k-2", "k-3"]);
}

#[tokio::test(start_paused = true)]
async fn a_limited_key_rests_alone_for_as_long_as_it_is_told() {
    let account = Account::default();
    account.answers("k-1", 429, 30);
    let credentials = three();
    let mut service = stack!(account, credentials.clone());
    for _ in 0..5 {
        assert_eq!(call(&mut service).await.0, 200, "the client notices nothing");
    }
    let seen = account.seen();
    assert_eq!(seen.iter().filter(|key| *key == "k-1").count(), 1, "{seen:?}");
    assert_eq!(seen.len(), 6);
    assert_eq!(credentials.rests().iter().filter(|rest| !rest.is_zero()).count(), 1);
    account.answers("k-1", 200, None);
    tokio::time::advance(Duration::from_secs(29)).await;
    for _ in 0..3 {
        call(&mut service).await;
    }
    assert!(!account.seen().contains(&"k-1".into()));
    tokio::time::advance(Duration::from_secs(2)).await;
    for _ in 0..3 {
        call(&mut service).await;
    }
    assert_eq!(account.seen().iter().filter(|key| *key == "k-1").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn rejected_and_exhausted_keys_rest_for_long_and_the_circuit_stays_closed() {
    let account = Account::default();
    for (key, status) in [("k-1", 401), ("k-2", 402)] {
        account.answers(key, status, None);
    }
    let mut service = stack!(account, three());
    for _ in 0..20 {
        assert_eq!(call(&mut service).await.0, 200);
        tokio::time::advance(Duration::from_secs(25)).await;
    }
    let seen = account.seen();
    assert_eq!(seen.iter().filter(|key| *key != "k-3").count(), 2, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn when_all_keys_rest_the_failure_surfaces_and_the_soonest_is_tried_again() {
    let account = Account::default();
    for (key, status, wait) in [("k-1", 429, 20), ("k-2", 429, 60), ("k-3", 401, 0)] {
        account.answers(key, status, wait);
    }
    let mut service = stack!(account, three());
    let (status, fault, _) = call(&mut service).await;
    assert_eq!((status.as_u16(), fault), (429, Some(FaultKind::RateLimited)));
    assert_eq!(account.seen().len(), 3, "each key once");
    // The last to fail was the rejected one, and yet the circuit is not open for ten minutes.
    account.answers("k-1", 200, None);
    tokio::time::advance(Duration::from_secs(21)).await;
    assert_eq!(call(&mut service).await.0, 200);
    assert_eq!(account.seen(), ["k-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_target_is_tried_last_once_all_of_its_keys_that_are_fit_have_nearly_nothing_left() {
    let credentials = Credentials::rotating(KeyHeader::Bearer, ["k-1", "k-2"].map(Into::into)).unwrap();
    let p = Provider::new("p", Dialect::OpenAiChat, "http://p/v1").unwrap().with_credentials(credentials);
    let q = Provider::new("q", Dialect::OpenAiChat, "http://q/v1").unwrap();
    let route = Route::new("r", [p, q].map(|provider| Target::new(&provider, "m"))).unwrap();
    let registry = RateLimitsRegistry::default();
    let left = Arc::new(Mutex::new(HashMap::from([("Bearer k-1", 2), ("Bearer k-2", 60)])));
    let told = left.clone();
    let stack = FailoverStack::new(&route)
        .with_provider(ProviderLayer::new().with_rate_limits(registry.clone()))
        .with_failover(FailoverLayer::new(&route).with_rate_limits(&registry));
    let service = stack.layer(service_fn(move |request: Request<Full<Bytes>>| {
        let key = request.headers().get(header::AUTHORIZATION).map_or("", |key| key.to_str().unwrap());
        let mut response = Response::builder().header(header::CONTENT_TYPE, "application/json");
        if let Some(remaining) = told.lock().unwrap().get(key) {
            response = response.header("x-ratelimit-limit-requests", 100);
            response = response.header("x-ratelimit-remaining-requests", *remaining);
            response = response.header("x-ratelimit-reset-requests", "20s");
        } else if !key.is_empty() {
            response = response.status(401);
        }
        std::future::ready(Ok::<_, Infallible>(response.body(Full::from(ANSWER)).unwrap()))
    }));
    let answered_by = async || {
        let context = RequestContext::new();
        let mut request = Request::post("/v1/chat/completions").body(Full::from(chat(false))).unwrap();
        request.extensions_mut().insert(context.clone());
        assert_eq!(service.clone().oneshot(request).await.unwrap().status(), 200);
        context.attempts().answered().unwrap().target().unwrap().id().to_string()
    };
    let remaining = || registry.latest("p").unwrap().requests.unwrap().remaining;
    for _ in 0..6 {
        assert_eq!(answered_by().await, "p/m", "one key has enough");
    }
    assert_eq!(remaining(), 60);
    left.lock().unwrap().insert("Bearer k-2", 3);
    assert_eq!([answered_by().await, answered_by().await], ["p/m", "p/m"], "until it is said with that key");
    assert_eq!((answered_by().await, remaining()), ("q/m".into(), 3));
    tokio::time::advance(Duration::from_secs(21)).await;
    assert_eq!(answered_by().await, "p/m", "the limits are full again");
    // One key is rejected: what is left with the other is what is left.
    tokio::time::advance(Duration::from_secs(21)).await;
    left.lock().unwrap().remove("Bearer k-2");
    for _ in 0..3 {
        answered_by().await;
    }
    assert_eq!((answered_by().await, remaining()), ("q/m".into(), 2));
}

#[tokio::test(start_paused = true)]
async fn one_key_alone_fails_as_ever() {
    let account = Account::default();
    account.answers("k-1", 401, None);
    let credentials = Credentials::rotating(KeyHeader::Bearer, ["k-1".into()]).unwrap();
    let mut service = stack!(account, credentials);
    assert_eq!(call(&mut service).await.1, Some(FaultKind::AuthFailed));
    call(&mut service).await;
    assert_eq!(account.seen().len(), 1, "the circuit is open");
}

/// A source whose key a test sets.
#[derive(Clone)]
struct Vault(Arc<Mutex<Result<&'static str, &'static str>>>);

impl CredentialSource for Vault {
    fn fetch(&self) -> FetchedKey<'_> {
        let told = *self.0.lock().unwrap();
        Box::pin(async move { Ok(told?.into()) })
    }

    fn refresh(&self) -> Duration {
        Duration::from_secs(60)
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_key_ends_its_rest_and_the_circuit_that_the_old_one_opened() {
    let account = Account::default();
    account.answers("k-old", 401, None);
    account.answers("k-new", 200, None);
    let vault = Vault(Arc::new(Mutex::new(Ok("k-old"))));
    let sources = [Box::new(vault.clone()) as Box<dyn CredentialSource>];
    let credentials = Credentials::from_sources(KeyHeader::Bearer, sources).await.unwrap();
    let task = tokio::spawn(credentials.keep_fresh());
    let mut service = stack!(account, credentials.clone());
    let (_, fault, body) = call(&mut service).await;
    assert_eq!(fault, Some(FaultKind::AuthFailed));
    assert!(!body.contains("k-old"), "{body}");
    call(&mut service).await;
    assert_eq!(account.seen(), ["k-old"], "refused by the circuit");

    *vault.0.lock().unwrap() = Err("the vault is sealed");
    tokio::time::sleep(Duration::from_secs(61)).await;
    call(&mut service).await;
    assert!(account.seen().is_empty(), "a source that fails changes nothing");

    *vault.0.lock().unwrap() = Ok("k-new");
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(call(&mut service).await.0, 200);
    assert_eq!(account.seen(), ["k-new"]);

    // The provider still speaks of the old one.
    account.answers("k-new", 500, None);
    let (_, _, body) = call(&mut service).await;
    assert!(!body.contains("k-old") && !body.contains("k-new") && body.contains("[redacted]"), "{body}");

    drop((service, credentials));
    tokio::time::timeout(Duration::from_secs(120), task).await.unwrap().unwrap();
}

fn config(base_url: &str, api_key: &str) -> String {
    format!(
        r#"
        [providers.p]
        dialect = "openai-chat"
        base_url = "{base_url}"
        api_key = {api_key}
        [defaults]
        {QUICK}
        [routes."chat"]
        targets = [{{ provider = "p", model = "m" }}]
        "#
    )
}

#[tokio::test]
async fn a_bad_key_of_a_list_is_not_noticed_on_the_wire() {
    let provider = SimulatedProvider::builder("p").require_key("sk-good").start().await.unwrap();
    let keys = r#"[{ value = "sk-bad" }, { value = "sk-good" }]"#;
    let served = Served::with_config(&config(&provider.base_url(), keys)).await;
    let mut attempts = 0;
    for _ in 0..4 {
        let (head, body) = ask(post(&served, chat(true))).await;
        assert_eq!(head.status.as_u16(), 200);
        attempts += head.headers["x-failover-attempts"].to_str().unwrap().parse::<usize>().unwrap();
        assert!(text(&body).starts_with("[p]"));
    }
    let sent: Vec<_> =
        provider.received().iter().map(|it| it.headers["authorization"].to_str().unwrap().to_owned()).collect();
    assert_eq!(sent.iter().filter(|key| *key == "Bearer sk-bad").count(), 1, "{sent:?}");
    assert_eq!((sent.len(), attempts), (5, 5), "another key is another try");
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// As Kubernetes mounts a secret: a link to a link, of which the inner one is swapped.
#[cfg(unix)]
#[tokio::test]
async fn a_key_file_that_is_swapped_by_a_link_is_read_again_without_a_restart() {
    use std::os::unix::fs::symlink;
    let folder = Folder(std::env::temp_dir().join(format!("tower-failover-links-{}", std::process::id())));
    let at = |name: &str| folder.0.join(name);
    for (version, key) in [("v1", "sk-old\n"), ("v2", "sk-new\n")] {
        std::fs::create_dir_all(at(version)).unwrap();
        std::fs::write(at(version).join("key"), key).unwrap();
    }
    symlink("v1", at("..data")).unwrap();
    symlink("..data/key", at("key")).unwrap();

    let provider = SimulatedProvider::builder("p").require_key("sk-new").start().await.unwrap();
    let key = format!("{{ file = \"{}\" }}", at("key").display());
    let served = Served::with_config(&config(&provider.base_url(), &key)).await;
    assert_eq!(ask(post(&served, chat(false))).await.0.status, 502);
    symlink("v2", at("..next")).unwrap();
    std::fs::rename(at("..next"), at("..data")).unwrap();
    // The circuit was opened for ten minutes.
    let mut status = StatusCode::BAD_GATEWAY;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        status = ask(post(&served, chat(false))).await.0.status;
        if status == 200 {
            break;
        }
    }
    assert_eq!(status, 200);
    let sent: Vec<_> = provider.received().iter().map(|it| it.headers["authorization"].clone()).collect();
    assert_eq!(sent, ["Bearer sk-old", "Bearer sk-new"]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_command_tells_the_key_and_what_it_complains_of_is_not_repeated() {
    let provider = SimulatedProvider::builder("p").require_key("sk-printed").start().await.unwrap();
    let key = r#"{ command = ["sh", "-c", "echo sk-complaint >&2; echo '  sk-printed  '"], refresh = "1h" }"#;
    let served = Served::with_config(&config(&provider.base_url(), key)).await;
    assert_eq!(ask(post(&served, chat(false))).await.0.status, 200);
    assert_eq!(provider.received()[0].headers["authorization"], "Bearer sk-printed");

    for (command, message) in [
        (r#"["sh", "-c", "echo sk-complaint; echo sk-complaint >&2; exit 3"]"#, "the command failed: exit status: 3"),
        (r#"["no-such-program-anywhere"]"#, "the command cannot be run: "),
        (r#"["head", "-c", "70000", "/dev/zero"]"#, "the command printed more than a key"),
    ] {
        let text = config("http://p/v1", &format!("{{ command = {command} }}"));
        let errors = tower_failover::config::Config::from_toml(&text, "test.toml".as_ref(), &|_| None).unwrap_err();
        let error = errors.iter().next().unwrap();
        assert_eq!(error.key(), "providers.p.api_key.command");
        assert!(error.message().starts_with(message), "{error}");
        assert!(!format!("{errors} {errors:?}").contains("sk-complaint"), "{errors}");
    }
}
