//! Another target beside one that is slow: who answers, when, and what becomes of the others.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn};
use tower_failover::{
    Event, FailoverLayer, FaultKind, Outcome, RequestContext, Route, Target,
    failover::{Hedge, Weighted},
};

type Call = (String, Duration);

/// Targets that answer after a time with a status, and what was seen of them.
#[derive(Clone)]
struct Upstreams {
    answers: Arc<Vec<(&'static str, u64, u16)>>,
    started: Arc<Mutex<Vec<Call>>>,
    dropped: Arc<Mutex<Vec<Call>>>,
    began: Instant,
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

struct Watch {
    upstreams: Upstreams,
    name: String,
    over: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.upstreams.running.fetch_sub(1, Relaxed);
        if !self.over {
            let at = self.upstreams.began.elapsed();
            self.upstreams.dropped.lock().unwrap().push((self.name.clone(), at));
        }
    }
}

impl Upstreams {
    fn new(answers: &[(&'static str, u64, u16)]) -> Self {
        Upstreams {
            answers: Arc::new(answers.to_vec()),
            started: Arc::default(),
            dropped: Arc::default(),
            began: Instant::now(),
            running: Arc::default(),
            most: Arc::default(),
        }
    }

    fn route(&self) -> Route {
        Route::new("r", self.answers.iter().map(|(name, ..)| Target::named(name))).unwrap()
    }

    fn answer(&self, request: &Request<Full<Bytes>>) -> BoxFuture<'static, Result<Response<Full<Bytes>>, Infallible>> {
        let target = RequestContext::of(request.extensions()).unwrap().target().unwrap().clone();
        let name = target.id().to_string();
        let (_, millis, status) = *self.answers.iter().find(|(known, ..)| *known == name).unwrap();
        self.started.lock().unwrap().push((name.clone(), self.began.elapsed()));
        self.most.fetch_max(self.running.fetch_add(1, Relaxed) + 1, Relaxed);
        let watch = Watch { upstreams: self.clone(), name: name.clone(), over: false };
        Box::pin(async move {
            let mut watch = watch; // all of it, not just the field
            sleep(Duration::from_millis(millis)).await;
            watch.over = true;
            Ok(Response::builder().status(status).body(Full::from(name)).unwrap())
        })
    }

    async fn ask(&self, layer: &FailoverLayer, context: &RequestContext) -> (StatusCode, Duration) {
        let upstreams = self.clone();
        let service = layer.layer(service_fn(move |request| upstreams.answer(&request)));
        let mut request = Request::new(Full::<Bytes>::default());
        request.extensions_mut().insert(context.clone());
        let began = Instant::now();
        let response = service.oneshot(request).await.unwrap();
        (response.status(), began.elapsed())
    }

    fn started(&self) -> Vec<(String, u64)> {
        self.started.lock().unwrap().iter().map(|(name, at)| (name.clone(), at.as_millis() as u64)).collect()
    }

    fn dropped(&self) -> Vec<(String, u64)> {
        self.dropped.lock().unwrap().iter().map(|(name, at)| (name.clone(), at.as_millis() as u64)).collect()
    }
}

fn call(name: &str, at: u64) -> (String, u64) {
    (name.to_owned(), at)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_slow_target_is_overtaken_and_cancelled_at_once() {
    let upstreams = Upstreams::new(&[("slow", 20_000, 200), ("fast", 300, 200)]);
    let layer = FailoverLayer::new(&upstreams.route()).with_hedge(Hedge::after(seconds(2)));
    let context = RequestContext::new();
    assert_eq!(upstreams.ask(&layer, &context).await, (StatusCode::OK, Duration::from_millis(2_300)));
    assert_eq!(upstreams.started(), [call("slow", 0), call("fast", 2_000)]);
    assert_eq!(upstreams.dropped(), [call("slow", 2_300)]);
    let outcomes: Vec<_> = context.attempts().iter().map(|attempt| attempt.outcome().unwrap().clone()).collect();
    assert_eq!(outcomes, [Outcome::Cancelled, Outcome::Answered]);
    assert_eq!(context.attempts().answered().unwrap().target().unwrap().id().as_str(), "fast");
}

#[tokio::test(start_paused = true)]
async fn one_that_answers_in_time_is_alone() {
    let upstreams = Upstreams::new(&[("a", 1_999, 200), ("b", 1, 200)]);
    let layer = FailoverLayer::new(&upstreams.route()).with_hedge(Hedge::after(seconds(2)));
    assert_eq!(upstreams.ask(&layer, &RequestContext::new()).await.1, Duration::from_millis(1_999));
    assert_eq!(upstreams.started(), [call("a", 0)]);
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_never_wins_while_another_is_tried() {
    for status in [500, 400, 429] {
        let upstreams = Upstreams::new(&[("slow", 5_000, 200), ("fails", 100, status)]);
        let layer = FailoverLayer::new(&upstreams.route()).with_hedge(Hedge::after(seconds(2)));
        let (answered, after) = upstreams.ask(&layer, &RequestContext::new()).await;
        assert_eq!((answered, after), (StatusCode::OK, seconds(5)), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_is_the_answer_is_given_when_the_others_have_none() {
    let upstreams = Upstreams::new(&[("slow", 5_000, 503), ("fails", 100, 400)]);
    let layer = FailoverLayer::new(&upstreams.route()).with_hedge(Hedge::after(seconds(2)));
    assert_eq!(upstreams.ask(&layer, &RequestContext::new()).await, (StatusCode::BAD_REQUEST, seconds(5)));
}

#[tokio::test(start_paused = true)]
async fn when_one_fails_the_next_takes_its_place() {
    let upstreams = Upstreams::new(&[("slow", 60_000, 200), ("fails", 100, 500), ("fast", 100, 200)]);
    let layer = FailoverLayer::new(&upstreams.route()).with_hedge(Hedge::after(seconds(2)));
    assert_eq!(upstreams.ask(&layer, &RequestContext::new()).await.1, Duration::from_millis(2_200));
    assert_eq!(upstreams.started(), [call("slow", 0), call("fails", 2_000), call("fast", 2_100)]);
    assert_eq!(upstreams.most.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_race_starts_at_once_and_is_never_wider_than_asked() {
    let upstreams = Upstreams::new(&[("a", 900, 200), ("b", 300, 500), ("c", 200, 200), ("d", 1, 200)]);
    let layer = FailoverLayer::new(&upstreams.route()).with_hedge(Hedge::race(2));
    assert_eq!(upstreams.ask(&layer, &RequestContext::new()).await, (StatusCode::OK, Duration::from_millis(500)));
    assert_eq!(upstreams.started(), [call("a", 0), call("b", 0), call("c", 300)]);
    assert_eq!((upstreams.most.load(Relaxed), upstreams.dropped()), (2, vec![call("a", 500)]));
}

#[tokio::test(start_paused = true)]
async fn with_everything_slow_the_extra_load_keeps_within_the_budget() {
    let upstreams = Upstreams::new(&[("a", 9_000, 200), ("b", 9_000, 200)]);
    let layer = FailoverLayer::new(&upstreams.route()).with_hedge(Hedge::after(seconds(1)).with_budget(0.1));
    let requests = (0..400).map(|_| {
        let (upstreams, layer) = (upstreams.clone(), layer.clone());
        async move { upstreams.ask(&layer, &RequestContext::new()).await.0 }
    });
    let answers = futures_util::future::join_all(requests).await;
    assert!(answers.iter().all(|status| *status == StatusCode::OK));
    let hedges = upstreams.started().iter().filter(|(name, _)| name == "b").count();
    assert!((30..=41).contains(&hedges), "{hedges} hedges of 400 requests");
}

#[tokio::test(start_paused = true)]
async fn a_targets_own_95th_percentile_says_when() {
    let upstreams = Upstreams::new(&[("a", 100, 200), ("b", 100, 200)]);
    let hedge = Hedge::after_p95();
    let layer = FailoverLayer::new(&upstreams.route()).with_hedge(hedge.clone());
    for _ in 0..50 {
        upstreams.ask(&layer, &RequestContext::new()).await;
    }
    let slow = Upstreams::new(&[("a", 20_000, 200), ("b", 100, 200)]);
    let layer = FailoverLayer::new(&slow.route()).with_hedge(hedge);
    let (_, after) = slow.ask(&layer, &RequestContext::new()).await;
    assert!((Duration::from_millis(200)..Duration::from_millis(250)).contains(&after), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn while_little_is_known_of_a_target_it_is_given_eight_seconds() {
    let upstreams = Upstreams::new(&[("a", 20_000, 200), ("b", 0, 200)]);
    let layer = FailoverLayer::new(&upstreams.route()).with_hedge(Hedge::after_p95());
    let (_, after) = upstreams.ask(&layer, &RequestContext::new()).await;
    assert!((seconds(8)..Duration::from_millis(8_002)).contains(&after), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_all_of_them() {
    let upstreams = Upstreams::new(&[("a", 60_000, 200), ("b", 60_000, 200)]);
    let layer = FailoverLayer::new(&upstreams.route()).with_hedge(Hedge::after(seconds(1))).with_total(seconds(5));
    assert_eq!(upstreams.ask(&layer, &RequestContext::new()).await, (StatusCode::GATEWAY_TIMEOUT, seconds(5)));
    assert_eq!(upstreams.dropped().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_takes_all_of_them_with_it() {
    let upstreams = Upstreams::new(&[("a", 60_000, 200), ("b", 60_000, 200)]);
    let layer = FailoverLayer::new(&upstreams.route()).with_hedge(Hedge::after(seconds(1)));
    let context = RequestContext::new();
    assert!(tokio::time::timeout(seconds(3), upstreams.ask(&layer, &context)).await.is_err());
    assert_eq!(upstreams.dropped(), [call("a", 3_000), call("b", 3_000)]);
    assert!(context.attempts().iter().all(|attempt| attempt.outcome() == Some(&Outcome::Cancelled)));
}

#[tokio::test(start_paused = true)]
async fn observers_hear_the_whole_story_and_one_that_panics_disturbs_nobody() {
    let upstreams = Upstreams::new(&[("fails", 10, 503), ("slow", 9_000, 200), ("fast", 10, 200)]);
    let story = Arc::new(Mutex::new(Vec::new()));
    let heard = story.clone();
    let layer = FailoverLayer::new(&upstreams.route())
        .with_hedge(Hedge::after(seconds(1)))
        .with_observer(|_: &Event| panic!("a bug of theirs"))
        .with_observer(move |event: &Event| {
            let id = |target: &Option<Target>| target.as_ref().map(|target| target.id().to_string()).unwrap();
            heard.lock().unwrap().push(match event {
                Event::AttemptStarted { target, .. } => format!("{} started", id(target)),
                Event::AttemptEnded { target, outcome: Outcome::Failed(fault), .. } => {
                    format!("{} failed: {}", id(target), fault.kind())
                }
                Event::AttemptEnded { target, outcome, latency, .. } => {
                    format!("{} {outcome:?} after {latency:?}", id(target))
                }
                Event::FailedOver { from, to, .. } => format!("from {} to {}", from.id(), to.id()),
                Event::Hedged { slow, beside, .. } => format!("{} beside {}", beside.id(), slow.id()),
                Event::Answered { route, target, .. } => format!("{route} answered by {}", target.id()),
                other => format!("{other:?}"),
            });
        });
    upstreams.ask(&layer, &RequestContext::new()).await;
    let expected = [
        "fails started",
        "fails failed: unavailable",
        "from fails to slow",
        "slow started",
        "fast beside slow",
        "fast started",
        "fast Answered after 10ms",
        "r answered by fast",
        "slow Cancelled after 1.01s",
    ];
    assert_eq!(*story.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn observers_hear_of_failed_requests() {
    let upstreams = Upstreams::new(&[("a", 10, 503), ("b", 10, 500)]);
    let failures = Arc::new(Mutex::new(Vec::new()));
    let heard = failures.clone();
    let layer = FailoverLayer::new(&upstreams.route()).with_observer(move |event: &Event| {
        if let Event::Failed { fault, .. } = event {
            heard.lock().unwrap().push(fault.kind());
        }
    });
    upstreams.ask(&layer, &RequestContext::new()).await;
    assert_eq!(*failures.lock().unwrap(), [FaultKind::Unavailable]);
}

#[tokio::test(start_paused = true)]
async fn requests_are_spread_by_weight_and_excluded_targets_are_left_out() {
    let upstreams = Upstreams::new(&[("a", 0, 200), ("b", 0, 200), ("c", 0, 200)]);
    let weights = [3, 1, 0];
    let targets =
        ["a", "b", "c"].into_iter().zip(weights).map(|(name, weight)| Target::named(name).with_weight(weight));
    let route = Route::new("r", targets).unwrap();
    let layer = FailoverLayer::new(&route).with_strategy(Weighted::new(&route));
    for _ in 0..400 {
        upstreams.ask(&layer, &RequestContext::new()).await;
    }
    let count = |name: &str| upstreams.started().iter().filter(|(called, _)| called == name).count();
    assert_eq!((count("a"), count("b"), count("c")), (300, 100, 0));
    let excluding = RequestContext::new().excluding(["a", "b"].map(|name| Target::named(name).id().clone()));
    assert_eq!(upstreams.ask(&layer, &excluding).await.0, StatusCode::OK);
    assert_eq!(count("c"), 1);
    let all = excluding.excluding([Target::named("c").id().clone()]);
    assert_eq!(upstreams.ask(&layer, &all).await.0, StatusCode::SERVICE_UNAVAILABLE);
}
