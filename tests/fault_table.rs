//! Each row of the fault table, from the wire: what the client saw, what each provider saw, and what the circuits recorded.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{Layer, ServiceExt};
use tower_failover::{
    Dialect, FailoverStack, FaultKind, Outcome, Provider, RequestContext, RetryLayer, Route, Target, TimeoutLayer,
    circuit_breaker::{CircuitRegistry, CircuitState},
    retry::Backoff,
    simulated::SimulatedProvider,
};

/// Who answers in the end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    Fallback,
    /// The provider's own error, with that status.
    Told(u16),
}

/// What the primary's circuits say afterwards.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Circuit {
    /// One failure for each try.
    TargetFailed,
    ProviderFailed,
    TargetOpen,
    ProviderOpen,
    Alive,
}

use Circuit::*;
use FaultKind::*;
use Seen::*;

/// The simulated fault; what it is; who answers; how often the primary is tried (retries on); what its circuits record.
const TABLE: &[(&str, FaultKind, Seen, u64, Circuit)] = &[
    ("down", Connect, Fallback, 0, ProviderFailed),
    ("reset", ConnectionLost, Fallback, 2, TargetFailed),
    ("rate-limited:1s", RateLimited, Fallback, 2, TargetFailed),
    ("rate-limited:30s", RateLimited, Fallback, 1, TargetOpen),
    ("quota-exhausted", QuotaExhausted, Fallback, 1, ProviderOpen),
    ("overloaded", Overloaded, Fallback, 2, TargetFailed),
    ("server-error", Unavailable, Fallback, 2, TargetFailed),
    ("bad-gateway-html", Unavailable, Fallback, 2, TargetFailed),
    ("silent", Timeout, Fallback, 1, TargetFailed),
    ("slow-first-token:9s", Timeout, Fallback, 1, TargetFailed),
    ("error-first-event", Overloaded, Fallback, 2, TargetFailed),
    ("empty-stream", MalformedResponse, Fallback, 1, TargetFailed),
    ("html-ok", MalformedResponse, Fallback, 1, TargetFailed),
    ("unauthorized", AuthFailed, Fallback, 1, ProviderOpen),
    ("forbidden", PermissionDenied, Fallback, 1, ProviderOpen),
    ("model-not-found", NotFound, Fallback, 1, TargetOpen),
    ("context-length-exceeded", ContextLengthExceeded, Fallback, 1, Alive),
    ("unsupported-parameter", Unsupported, Fallback, 1, Alive),
    ("bad-request", BadRequest, Told(400), 1, Alive),
    ("content-filtered", ContentFiltered, Told(400), 1, Alive),
];

#[tokio::test]
async fn each_row_holds_on_the_wire() {
    let [primary, fallback] = ["primary", "fallback"].map(SimulatedProvider::start);
    let (primary, fallback) = (primary.await.unwrap(), fallback.await.unwrap());
    let target = |simulated: &SimulatedProvider| {
        let provider = Provider::new(simulated.name(), Dialect::OpenAiChat, &simulated.base_url()).unwrap();
        Target::new(&provider, "m")
    };
    let route = Route::new("r", [target(&primary), target(&fallback)]).unwrap();
    for (fault, kind, client, tries, circuit) in TABLE {
        for stream in [false, true] {
            let circuits = CircuitRegistry::default();
            let patience = Duration::from_millis(200);
            let http = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build(HttpConnector::new());
            let service = FailoverStack::new(&route)
                .with_circuits(circuits.clone())
                .with_retry(RetryLayer::new().with_backoff(Backoff::new(Duration::ZERO, Duration::ZERO)))
                .with_timeout(TimeoutLayer::new().with_first_output(patience).with_response(patience))
                .layer(http);
            primary.set_fault(fault.parse().unwrap());
            [&primary, &fallback].iter().for_each(|provider| provider.clear());

            let body = format!(r#"{{"model":"x","stream":{stream},"messages":[{{"role":"user","content":"Hi"}}]}}"#);
            let mut request = Request::post("/v1/chat/completions").body(Full::new(Bytes::from(body))).unwrap();
            let context = RequestContext::new();
            request.extensions_mut().insert(context.clone());
            let response = service.oneshot(request).await.unwrap();
            let row = format!("{fault}, stream {stream}");

            let status = response.status().as_u16();
            let answer = response.into_body().collect().await.unwrap().to_bytes();
            let answer = String::from_utf8_lossy(&answer);
            let seen = if answer.contains("[fallback]") { Fallback } else { Told(status) };
            assert_eq!((seen, primary.request_count()), (*client, *tries), "{row}: {answer}");
            assert_eq!(fallback.request_count(), u64::from(*client == Fallback), "{row}");

            let first = context.attempts().iter().next().unwrap().outcome().unwrap().clone();
            assert!(matches!(&first, Outcome::Failed(failed) if failed.kind() == *kind), "{row}: {first:?}");

            let snapshot = circuits.snapshot();
            let of = |target: Option<&str>, provider: Option<&str>| {
                let found =
                    snapshot.iter().find(|it| it.target.as_deref() == target && it.provider.as_deref() == provider);
                let found = found.unwrap();
                (found.state, found.failures)
            };
            let (own, provider) = (of(Some("primary/m"), None), of(None, Some("primary")));
            // What never reached the primary was tried as often as what did.
            let failures = if *kind == Connect { 2 } else { *tries };
            use CircuitState::{Closed, Open};
            let expected = match circuit {
                TargetFailed => ((Closed, failures), (Closed, 0)),
                ProviderFailed => ((Closed, 0), (Closed, failures)),
                TargetOpen => ((Open, 1), (Closed, 0)),
                ProviderOpen => ((Closed, 0), (Open, 1)),
                Alive => ((Closed, 0), (Closed, 0)),
            };
            assert_eq!((own, provider), expected, "{row}");
            if *client == Fallback {
                assert_eq!(of(Some("fallback/m"), None), (Closed, 0), "{row}");
            }
        }
    }
}
