//! `TelemetryLayer` in a program of one's own: each request is told of once when it begins and once when it is over, however
//! that comes about.

#![allow(clippy::unwrap_used)] // what fails here fails the test

#[path = "harness/scripted.rs"]
mod scripted;

use std::{
    pin::pin,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::poll;
use http::Request;
use http_body_util::{BodyExt, Full};
use scripted::{Act, Scripted};
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_failover::{
    Dialect, Event, FailoverLayer, FailoverStack, FaultKind, Price, Provider, RequestOutcome, RequestSummary,
    RetryLayer, Route, Target, TelemetryLayer,
};

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Event>>>);

impl Heard {
    fn observer(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let heard = self.clone();
        move |event: &Event| heard.0.lock().unwrap().push(event.clone())
    }

    fn count(&self, is_one: fn(&Event) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|event| is_one(event)).count()
    }

    /// The only summary.
    fn summary(&self) -> RequestSummary {
        assert_eq!(self.count(|event| matches!(event, Event::RequestStarted { .. })), 1);
        assert_eq!(self.count(|event| matches!(event, Event::RequestEnded { .. })), 1);
        let heard = self.0.lock().unwrap();
        match heard.last().unwrap() {
            Event::RequestEnded { summary, .. } => summary.clone(),
            other => panic!("told after the end: {other:?}"),
        }
    }
}

fn request() -> Request<Full<Bytes>> {
    let body = r#"{"model":"any","stream":true,"messages":[{"role":"user","content":"Hello!"}]}"#;
    Request::post("/v1/chat/completions").body(Full::from(body)).unwrap()
}

/// How much of an answer its client takes.
#[derive(Clone, Copy, Debug)]
enum Takes {
    All,
    OneFrame,
    Head,
    Nothing,
}

async fn exchange<L>(layer: L, act: Act, takes: Takes)
where
    L: Layer<Scripted>,
    L::Service: tower::Service<Request<Full<Bytes>>, Error = std::convert::Infallible>,
    <L::Service as tower::Service<Request<Full<Bytes>>>>::Response: IntoTestBody,
{
    let mut call = pin!(layer.layer(Scripted::always(act)).oneshot(request()));
    if matches!(takes, Takes::Nothing) {
        assert!(poll!(call.as_mut()).is_pending());
        return;
    }
    let mut body = pin!(call.await.unwrap().into_test_body());
    match takes {
        Takes::All => while let Some(Ok(_)) = body.frame().await {},
        Takes::OneFrame => assert!(body.frame().await.unwrap().is_ok()),
        Takes::Head | Takes::Nothing => {}
    }
}

trait IntoTestBody {
    fn into_test_body(self) -> impl http_body::Body<Data = Bytes, Error = tower_failover::BoxError>;
}

impl<B: http_body::Body<Data = Bytes, Error = tower_failover::BoxError>> IntoTestBody for http::Response<B> {
    fn into_test_body(self) -> impl http_body::Body<Data = Bytes, Error = tower_failover::BoxError> {
        self.into_body()
    }
}

#[tokio::test(start_paused = true)]
async fn every_end_of_a_request_is_told_once_and_by_its_name() {
    use RequestOutcome::{Answered, Cancelled, Failed, Interrupted, Rejected};
    for (act, takes, outcome) in [
        (Act::Answer(200), Takes::All, Answered),
        (Act::Answer(200), Takes::Head, Cancelled),
        (Act::Empty, Takes::Head, Answered),
        (Act::Stream, Takes::All, Answered),
        (Act::Sized, Takes::All, Answered),
        (Act::Stream, Takes::OneFrame, Cancelled),
        (Act::Stall, Takes::OneFrame, Cancelled),
        (Act::Hang, Takes::Nothing, Cancelled),
        (Act::Break, Takes::All, Interrupted),
        (Act::Answer(400), Takes::All, Rejected),
        (Act::Answer(400), Takes::Head, Rejected),
        (Act::Answer(503), Takes::All, Failed),
        (Act::Answer(429), Takes::Head, Failed),
        (Act::Refuse, Takes::All, Failed),
    ] {
        let heard = Heard::default();
        let layer = TelemetryLayer::named("alone").with_observer(heard.observer());
        exchange(layer, act, takes).await;
        let summary = heard.summary();
        assert_eq!((summary.outcome(), &**summary.route()), (outcome, "alone"), "{act:?} {takes:?}");
        let began = matches!(outcome, Answered | Cancelled | Interrupted) && act != Act::Hang;
        assert_eq!(summary.time_to_first_output().is_some(), began, "{act:?} {takes:?}");
        let streams = matches!(act, Act::Stream | Act::Sized | Act::Stall | Act::Break);
        assert_eq!(summary.streaming(), streams, "{act:?}");
        let opened = heard.count(|event| matches!(event, Event::StreamStarted { .. }));
        assert_eq!(opened, usize::from(streams), "{act:?}");
    }
}

fn route() -> Route {
    let target = |name: &str| {
        let provider = Provider::new(name, Dialect::OpenAiChat, "http://provider.test/v1").unwrap();
        Target::new(&provider, "model").with_price(Price::new(1.0, 1.0).unwrap())
    };
    Route::new("route", ["a", "b"].map(target)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_when_it_has_all_of_its_answer_was_answered() {
    let heard = Heard::default();
    let route = route();
    let layers = ServiceBuilder::new()
        .layer(TelemetryLayer::new(&route).with_observer(heard.observer()))
        .layer(FailoverStack::new(&route));
    let response = layers.service(Scripted::always(Act::Stream)).oneshot(request()).await.unwrap();
    let mut body = response.into_body();
    // The first and the last event; that the connection has ended is not waited for.
    for _ in 0..2 {
        assert!(body.frame().await.unwrap().is_ok());
    }
    drop(body);
    let summary = heard.summary();
    assert_eq!((summary.outcome(), summary.attempts().sent()), (RequestOutcome::Answered, 1));
    assert!(
        summary.usage().unwrap().estimated && summary.cost().unwrap().usd() > 0.0,
        "what a dropped body cost is in it"
    );
}

#[tokio::test(start_paused = true)]
async fn observers_of_an_outer_and_an_inner_layer_hear_of_everything_once() {
    let (outer, inner) = (Heard::default(), Heard::default());
    let route = route();
    let stack = FailoverStack::new(&route)
        .with_failover(FailoverLayer::new(&route).with_observer(inner.observer()))
        .with_retry(RetryLayer::new().with_attempts(2));
    let layers = ServiceBuilder::new().layer(TelemetryLayer::new(&route).with_observer(outer.observer())).layer(stack);
    let client = Scripted::playing([Act::Answer(503), Act::Answer(503), Act::Stream]);
    let response = layers.service(client).oneshot(request()).await.unwrap();
    response.into_body().collect().await.unwrap();
    for (heard, started) in [(&outer, 1), (&inner, 0)] {
        let count = |is_one: fn(&Event) -> bool| heard.count(is_one);
        assert_eq!(count(|event| matches!(event, Event::RequestStarted { .. })), started);
        assert_eq!(count(|event| matches!(event, Event::AttemptStarted { .. })), 3);
        assert_eq!(count(|event| matches!(event, Event::AttemptEnded { .. })), 3);
        assert_eq!(count(|event| matches!(event, Event::Retried { .. })), 1);
        assert_eq!(count(|event| matches!(event, Event::FailedOver { .. })), 1);
        assert_eq!(count(|event| matches!(event, Event::Answered { .. })), 1);
        assert_eq!(count(|event| matches!(event, Event::RequestEnded { .. })), 1);
    }
    let summary = outer.summary();
    assert_eq!(summary.target().unwrap().id().as_str(), "b/model");
    let kinds: Vec<_> = summary.attempts().iter().map(|attempt| attempt.outcome().unwrap().name()).collect();
    assert_eq!(kinds, ["unavailable", "unavailable", "answered"]);
}

#[tokio::test(start_paused = true)]
async fn a_break_is_told_with_its_fault() {
    let heard = Heard::default();
    exchange(TelemetryLayer::named("alone").with_observer(heard.observer()), Act::Break, Takes::All).await;
    assert_eq!(heard.summary().fault().unwrap().kind(), FaultKind::StreamInterrupted);
}
