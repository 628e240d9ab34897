//! An outage of the primary under load, in paused time: what clients see, and how often the primary is bothered.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::{Instant, sleep};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_failover::{
    CircuitBreakerLayer, FailoverLayer, RequestContext, RetryLayer, Route, Target, TimeoutLayer,
    circuit_breaker::CircuitRegistry,
};

const SECOND: Duration = Duration::from_secs(1);
const CLIENTS: usize = 50;
const DOWN_FROM: Duration = Duration::from_secs(5);
const DOWN_UNTIL: Duration = Duration::from_secs(45);
/// The longest opening, with its jitter.
const LONGEST_OPENING: Duration = Duration::from_secs(33);

#[tokio::test(start_paused = true)]
async fn fifty_clients_notice_nothing_and_the_primary_is_probed_once_an_opening() {
    let began = Instant::now();
    // When the primary was called, and whether it answered.
    let primary_calls = Arc::new(Mutex::new(Vec::new()));
    let calls = primary_calls.clone();
    let providers = service_fn(move |request: Request<Full<Bytes>>| {
        let is_primary = RequestContext::of(request.extensions()).unwrap().target().unwrap().id().as_str() == "primary";
        let calls = calls.clone();
        async move {
            let now = began.elapsed();
            let down = is_primary && (DOWN_FROM..DOWN_UNTIL).contains(&now);
            if is_primary {
                calls.lock().unwrap().push((now, !down));
            }
            sleep(Duration::from_millis(if down { 20 } else { 50 })).await;
            let status = if down { 503 } else { 200 };
            Ok::<_, Infallible>(Response::builder().status(status).body(Full::<Bytes>::default()).unwrap())
        }
    });
    let route = Route::new("r", ["primary", "fallback"].map(Target::named)).unwrap();
    let service = ServiceBuilder::new()
        .layer(FailoverLayer::new(&route))
        .layer(RetryLayer::new().with_attempts(1))
        .layer(CircuitBreakerLayer::new(CircuitRegistry::default()))
        .layer(TimeoutLayer::new())
        .service(providers);

    let clients = (0..CLIENTS).map(|client| {
        let service = service.clone();
        tokio::spawn(async move {
            // Not all at the same moment.
            sleep(Duration::from_millis(2 * client as u64)).await;
            let mut answers = 0;
            while began.elapsed() < 120 * SECOND {
                let response = service.clone().oneshot(Request::new(Full::<Bytes>::default())).await.unwrap();
                assert_eq!(response.status(), 200, "at {:?}", began.elapsed());
                // Read to its end: that is when a closed circuit hears of it.
                http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
                answers += 1;
                sleep(Duration::from_millis(50)).await;
            }
            answers
        })
    });
    let mut answers = 0;
    for client in clients.collect::<Vec<_>>() {
        answers += client.await.unwrap();
    }
    assert!(answers > 40_000, "{answers}");

    let calls = primary_calls.lock().unwrap();
    let failed: Vec<_> = calls.iter().filter(|(_, answered)| !answered).map(|(at, _)| *at).collect();
    // Until the circuit opens, whoever is under way finds out for himself.
    let (opening, probes): (Vec<Duration>, Vec<Duration>) =
        failed.iter().copied().partition(|at| *at < DOWN_FROM + SECOND);
    assert!(opening.len() <= CLIENTS + 5, "{} calls failed before the circuit opened", opening.len());
    // Openings of 5, 10, 20 and 30 s, give or take a tenth: at most three probes fall into the 40 s.
    assert!((1..=3).contains(&probes.len()), "{probes:?}");
    assert!(probes.windows(2).all(|pair| pair[1] - pair[0] >= 9 * SECOND), "{probes:?}");
    let back = calls.iter().find(|(at, _)| *at >= DOWN_UNTIL).unwrap().0;
    assert!(back <= DOWN_UNTIL + LONGEST_OPENING, "back at {back:?}");
}
