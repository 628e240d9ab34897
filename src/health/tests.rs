use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::task::AbortHandle;
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::{
    CircuitBreakerLayer, CircuitState, Credentials, Dialect, FaultKind, Provider, RequestContext,
    circuit_breaker::CircuitSettings, observer::channel,
};

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);

/// A provider that remembers what it was asked.
#[derive(Clone, Default)]
struct Simulated {
    /// Method, path, key and body.
    asked: Arc<Mutex<Vec<[String; 4]>>>,
    is_down: Arc<AtomicBool>,
    is_silent: Arc<AtomicBool>,
}

impl Simulated {
    fn client(
        &self,
    ) -> impl Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send> + Clone + use<>
    {
        let simulated = self.clone();
        service_fn(move |request: Request<Full<Bytes>>| {
            let simulated = simulated.clone();
            async move {
                let key = request.headers().get("authorization").map(|key| key.to_str().unwrap().to_owned());
                let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
                let body = crate::body::whole(request.into_body());
                let body = String::from_utf8(body.to_vec()).unwrap();
                simulated.asked.lock().unwrap().push([method, path, key.unwrap_or_default(), body]);
                if simulated.is_silent.load(Ordering::Relaxed) {
                    pending::<()>().await;
                }
                let (status, answer) = match simulated.is_down.load(Ordering::Relaxed) {
                    true => (503, r#"{"error":{"message":"down"}}"#),
                    false => (
                        200,
                        r#"{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"OK"},"finish_reason":"stop"}]}"#,
                    ),
                };
                let answer =
                    Response::builder().status(status).header("content-type", "application/json").body(answer.into());
                Ok(answer.unwrap())
            }
        })
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::Relaxed);
    }
}

fn target() -> Target {
    let key = Credentials::api_key(Dialect::OpenAiChat, "sk-ours".into()).unwrap();
    let provider = Provider::new("p", Dialect::OpenAiChat, "http://h/v1").unwrap().with_credentials(key);
    Target::new(&provider, "vendor/a model")
}

fn circuits() -> CircuitRegistry {
    let settings = CircuitSettings { failures: 1, open: 24 * HOUR, max_open: 24 * HOUR, ..CircuitSettings::default() };
    CircuitRegistry::new(settings)
}

/// Has a call of the target fail in that way.
async fn fail(circuits: &CircuitRegistry, kind: FaultKind) {
    let failing = CircuitBreakerLayer::new(circuits.clone()).layer(service_fn(move |_: Request<()>| async move {
        let mut answer = Response::new(Full::<Bytes>::default());
        answer.extensions_mut().insert(Fault::new(kind, "x"));
        Ok::<_, Infallible>(answer)
    }));
    let mut request = Request::new(());
    request.extensions_mut().insert(RequestContext::new().with_target(target()));
    failing.oneshot(request).await.unwrap();
    assert_eq!(circuits.state(&target()), CircuitState::Open, "{kind}");
}

/// Aborts what it holds.
struct Watching(AbortHandle);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn watch(check: HealthCheck, circuits: &CircuitRegistry, simulated: &Simulated) -> Watching {
    Watching(tokio::spawn(check.watch(target(), circuits.clone(), simulated.client())).abort_handle())
}

fn completion() -> HealthCheck {
    HealthCheck::new(HealthCheckKind::Completion)
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_who_is_well_or_drained() {
    let (circuits, simulated) = (circuits(), Simulated::default());
    let _watching = watch(completion(), &circuits, &simulated);
    sleep(HOUR).await;
    circuits.drain(&target());
    sleep(HOUR).await;
    let _watching_always = watch(completion().with_open_after(Some(1)), &circuits, &simulated);
    sleep(HOUR).await;
    assert_eq!(simulated.count(), 0);
    circuits.close(&target());
    sleep(HOUR).await;
    assert!((100..140).contains(&simulated.count()), "every half minute: {}", simulated.count());
}

#[tokio::test(start_paused = true)]
async fn a_model_that_answers_ends_an_outage_early_whatever_began_it() {
    for kind in [FaultKind::Unavailable, FaultKind::Connect, FaultKind::QuotaExhausted, FaultKind::NotFound] {
        let (circuits, simulated) = (circuits(), Simulated::default());
        let (observer, mut events) = channel(16);
        let circuits = circuits.with_observer(observer);
        fail(&circuits, kind).await;
        simulated.down(true);
        let _watching = watch(completion(), &circuits, &simulated);
        sleep(10 * MINUTE).await;
        assert_eq!(circuits.state(&target()), CircuitState::Open, "a check that fails changes nothing");
        let failed = simulated.count();
        assert!((16..25).contains(&failed), "{failed}");
        simulated.down(false);
        sleep(MINUTE).await;
        assert_eq!((circuits.state(&target()), simulated.count()), (CircuitState::Closed, failed + 1), "{kind}");
        let [method, path, key, body] = simulated.asked.lock().unwrap()[0].clone();
        assert_eq!((&*method, &*path, &*key), ("POST", "/v1/chat/completions", "Bearer sk-ours"));
        assert!(body.contains(r#""model":"vendor/a model""#) && body.contains("16"), "{body}");
        let mut told = Vec::new();
        while let Ok(event) = events.try_recv() {
            if let Event::HealthChecked { target, fault, .. } = event {
                told.push((target.to_string(), fault.map(|fault| fault.kind())));
            }
        }
        assert_eq!(told[0], ("p/vendor/a model".to_owned(), Some(FaultKind::Unavailable)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_of_models_says_nothing_of_one_that_is_overloaded() {
    for (kind, expected, asks) in [
        (FaultKind::Connect, CircuitState::HalfOpen, 1),
        (FaultKind::Overloaded, CircuitState::Open, 0),
        (FaultKind::QuotaExhausted, CircuitState::Open, 0),
    ] {
        let (circuits, simulated) = (circuits(), Simulated::default());
        fail(&circuits, kind).await;
        let _watching = watch(HealthCheck::default(), &circuits, &simulated);
        sleep(10 * MINUTE).await;
        assert_eq!((circuits.state(&target()), simulated.count()), (expected, asks), "{kind}");
        if asks > 0 {
            let [method, path, key, body] = simulated.asked.lock().unwrap()[0].clone();
            assert_eq!((&*method, &*path), ("GET", "/v1/models/vendor/a%20model"));
            assert_eq!((&*key, &*body), ("Bearer sk-ours", ""));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_healthy_circuit_opens_after_so_many_failures_in_a_row_only_where_that_was_asked() {
    let (circuits, simulated) = (circuits(), Simulated::default());
    let _watching = watch(completion().with_open_after(Some(3)), &circuits, &simulated);
    sleep(10 * MINUTE).await;
    assert_eq!(circuits.state(&target()), CircuitState::Closed);
    let well = simulated.count();
    simulated.down(true);
    while simulated.count() < well + 2 {
        sleep(Duration::from_secs(1)).await;
    }
    simulated.down(false);
    sleep(2 * MINUTE).await;
    simulated.down(true);
    let well = simulated.count();
    while simulated.count() < well + 2 {
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(circuits.state(&target()), CircuitState::Closed, "two and two are not three in a row");
    sleep(MINUTE).await;
    assert_eq!(circuits.state(&target()), CircuitState::Open);
    simulated.down(false);
    sleep(MINUTE).await;
    assert_eq!(circuits.state(&target()), CircuitState::Closed);
    let snapshot = circuits.snapshot();
    assert!(snapshot.iter().all(|circuit| circuit.calls == 0), "checks are no calls: {snapshot:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_says_nothing_is_asked_once_at_a_time_and_only_for_so_long() {
    let (circuits, simulated) = (circuits(), Simulated::default());
    simulated.is_silent.store(true, Ordering::Relaxed);
    let check = completion().with_interval(Duration::from_secs(1)).with_timeout(MINUTE).with_open_after(Some(2));
    let watching = watch(check, &circuits, &simulated);
    sleep(Duration::from_secs(59)).await;
    assert_eq!(simulated.count(), 1);
    sleep(Duration::from_secs(70)).await;
    assert_eq!(circuits.state(&target()), CircuitState::Open);
    let asked = simulated.count();
    drop(watching);
    sleep(HOUR).await;
    assert_eq!(simulated.count(), asked, "it ends with whoever watches");
}
