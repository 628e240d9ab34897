//! Whom a request had better not try first, whatever the strategy says.

use std::sync::Arc;

use super::strategy::Order;
use crate::{
    Need, RateLimitsRegistry, RequestContext, RequestOutline, Route, Statistics, rate_limits::Watch, statistics::Pulse,
};

/// A target with less of its limits left is about to be refused.
const NEARLY_NOTHING: f64 = 0.05;

/// What is known of a route's targets before they are tried. It only puts some behind the others: they are still there when
/// nobody else is left.
#[derive(Clone, Debug, Default)]
pub(super) struct Outlook {
    /// In the order of the route's targets; empty where nobody looks. `None` of those without a provider.
    limits: Arc<[Option<Watch>]>,
    latencies: Arc<[Pulse]>,
}

impl Outlook {
    pub(super) fn watch_limits(&mut self, route: &Route, limits: &RateLimitsRegistry) {
        if route.targets().len() > 1 {
            self.limits = route.targets().iter().map(|target| limits.watch(target)).collect();
        }
    }

    pub(super) fn watch_latencies(&mut self, route: &Route, statistics: &Statistics) {
        if route.targets().len() > 1 {
            self.latencies = statistics.latencies(route).into();
        }
    }

    /// The order, but those behind the others that will probably refuse the request or be too slow for it. Of the latter,
    /// `passed_over` is told those before which another one comes that is not.
    pub(super) fn look(
        &self,
        order: Order,
        request: &RequestContext,
        mut passed_over: impl FnMut(usize, Need),
    ) -> Order {
        let order = match request.asked().and_then(|asked| asked.max_time_to_first_output) {
            // The bound is on streams only.
            Some(allowed) if request.outline().is_some_and(RequestOutline::streaming) => {
                let missed = |place: usize| {
                    let recent = self.latencies.get(place)?.p95_latency(true)?;
                    (recent > allowed).then_some(Need::TimeToFirstOutput { allowed, recent })
                };
                let in_turn = || (0..order.len()).filter_map(|rank| order.get(rank));
                let behind = in_turn().rfind(|place| missed(*place).is_none());
                let early = in_turn().take_while(|place| Some(*place) != behind).filter(|_| behind.is_some());
                early.for_each(|place| missed(place).into_iter().for_each(|need| passed_over(place, need)));
                order.with_last(|place| missed(place).is_some())
            }
            _ => order,
        };
        if self.limits.is_empty() {
            return order;
        }
        order.with_last(|place| {
            let watch = self.limits.get(place).and_then(Option::as_ref);
            watch.is_some_and(|watch| watch.headroom() < NEARLY_NOTHING)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use bytes::Bytes;
    use http::{HeaderMap, Request, Response};
    use http_body_util::Full;
    use tokio::time::{Instant, advance, sleep};
    use tower::{Layer, ServiceExt, service_fn};

    use crate::{
        Dialect, FailoverLayer, Fault, FaultKind, Outcome, Provider, RateLimits, RateLimitsRegistry, RequestContext,
        Requirements, Route, Statistics, Target,
        failover::{Order, Strategy},
    };

    fn route(names: &[&str]) -> Route {
        let target =
            |name: &&str| Target::new(&Provider::new(name.to_string(), Dialect::OpenAiChat, "http://h").unwrap(), "m");
        Route::new("r", names.iter().map(target)).unwrap()
    }

    fn limits(remaining: u32) -> RateLimits {
        let mut headers = HeaderMap::new();
        headers.insert("x-ratelimit-limit-requests", 100.into());
        headers.insert("x-ratelimit-remaining-requests", remaining.into());
        headers.insert("x-ratelimit-reset-requests", "20s".parse().unwrap());
        RateLimits::from_headers(&headers).unwrap()
    }

    fn left(registry: &RateLimitsRegistry, provider: &str, remaining: u32) {
        registry.record(provider, limits(remaining));
    }

    /// Who answers a request, if whoever `fails` does not.
    async fn answered_by(layer: &FailoverLayer, most: Option<Duration>, fails: &str) -> String {
        let log = log_of(layer, most, fails).await;
        log.attempts().answered().unwrap().target().unwrap().id().to_string()
    }

    /// What the log says of each attempt.
    fn said(request: &RequestContext) -> Vec<String> {
        let said = request.attempts().iter().map(|attempt| {
            let outcome = attempt.outcome().unwrap();
            let why = outcome.fault().and_then(|fault| fault.refusal()).map(|refusal| format!(": {refusal}"));
            format!("{} {}{}", attempt.target().unwrap().id(), outcome.name(), why.unwrap_or_default())
        });
        said.collect()
    }

    /// The context of a request that was answered.
    async fn log_of(layer: &FailoverLayer, most: Option<Duration>, fails: &str) -> RequestContext {
        let service = layer.layer(service_fn(|request: Request<Full<Bytes>>| {
            let target = RequestContext::of(request.extensions()).unwrap().target().unwrap().id().to_string();
            let fails = target.starts_with(fails) && !fails.is_empty();
            async move {
                sleep(Duration::from_millis(if target == "slow/m" { 900 } else { 100 })).await;
                let answer = Response::builder().status(if fails { 500 } else { 200 });
                Ok::<_, Infallible>(answer.body(Full::<Bytes>::default()).unwrap())
            }
        }));
        let needs = Requirements { max_time_to_first_output: most, ..Requirements::default() };
        let context = RequestContext::new().with_requirements(needs);
        let body = Full::from(r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"?"}]}"#);
        let mut request = Request::post("/v1/chat/completions").body(body).unwrap();
        request.extensions_mut().insert(context.clone());
        assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
        context
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_has_nearly_nothing_left_is_tried_last_until_it_has() {
        let (route, registry) = (route(&["a", "b", "c"]), RateLimitsRegistry::default());
        let layer = FailoverLayer::new(&route).with_rate_limits(&registry);
        assert_eq!(answered_by(&layer, None, "").await, "a/m");
        left(&registry, "a", 5);
        assert_eq!(answered_by(&layer, None, "").await, "a/m", "a twentieth is enough");
        left(&registry, "a", 4);
        assert_eq!(answered_by(&layer, None, "").await, "b/m");
        assert_eq!(answered_by(&layer, None, "b").await, "c/m");
        left(&registry, "b", 0);
        left(&registry, "c", 0);
        assert_eq!(answered_by(&layer, None, "").await, "a/m", "all are at their end: as listed");
        left(&registry, "b", 50);
        assert_eq!(answered_by(&layer, None, "b").await, "a/m", "it is still there");
        advance(Duration::from_secs(21)).await;
        assert_eq!(answered_by(&layer, None, "").await, "a/m");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_given_the_traffic_of_another_is_ramped_though_it_is_first() {
        let (route, registry) = (route(&["a", "b", "c"]), RateLimitsRegistry::default());
        let layer = FailoverLayer::new(&route).with_rate_limits(&registry).with_statistics(&Statistics::default());
        let layer = layer.with_ramp(true);
        left(&registry, "a", 2);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..40 {
            *counts.entry(answered_by(&layer, None, "").await).or_insert(0) += 1;
        }
        assert_eq!((counts["b/m"], counts["c/m"], counts["a/m"]), (10, 10, 20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_that_is_always_missed_is_learnt_from_the_requests_that_have_it() {
        let (route, statistics) = (route(&["slow", "fast"]), Statistics::default());
        let layer = FailoverLayer::new(&route).with_statistics(&statistics);
        let most = Duration::from_millis(500);
        for _ in 0..20 {
            let late = Outcome::Failed(Fault::new(FaultKind::Timeout, "no output in time"));
            statistics.recorder(&route).call(0, true).unwrap().ended(&late, true, Instant::now(), most);
        }
        assert_eq!(answered_by(&layer, Some(most), "").await, "fast/m");
        assert_eq!(answered_by(&layer, Some(2 * most), "").await, "slow/m", "of that nothing is known");
    }

    #[tokio::test(start_paused = true)]
    async fn a_model_that_has_nearly_nothing_left_takes_no_other_of_its_provider_along() {
        let e = Provider::new("e", Dialect::OpenAiChat, "http://h").unwrap();
        let [big, small] = ["big", "small"].map(|model| Target::new(&e, model));
        let route = Route::new("r", [big.clone(), small.clone(), route(&["c"]).targets()[0].clone()]).unwrap();
        let registry = RateLimitsRegistry::default();
        let layer = FailoverLayer::new(&route).with_rate_limits(&registry);
        registry.record_of(&big, 0, limits(2));
        assert_eq!(answered_by(&layer, None, "").await, "e/small");
        registry.record_of(&small, 0, limits(90));
        assert_eq!(answered_by(&layer, None, "").await, "e/small", "what is left of one hides no other's end");
        assert_eq!(answered_by(&layer, None, "e/small").await, "c/m");
        left(&registry, "e", 1);
        assert_eq!(answered_by(&layer, None, "").await, "c/m", "that was said of all of its models");
        advance(Duration::from_secs(21)).await;
        assert_eq!(answered_by(&layer, None, "").await, "e/big");
    }

    #[derive(Debug)]
    struct Backwards;

    impl Strategy for Backwards {
        fn order(&self, route: &Route, _: &RequestContext) -> Order {
            Order::by(route, |place| -(place as f64))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn so_it_is_with_every_strategy() {
        let (route, registry) = (route(&["a", "b", "c"]), RateLimitsRegistry::default());
        let layer = FailoverLayer::new(&route).with_strategy(Backwards).with_rate_limits(&registry);
        assert_eq!(answered_by(&layer, None, "").await, "c/m");
        left(&registry, "c", 1);
        assert_eq!(answered_by(&layer, None, "").await, "b/m");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_lately_missed_what_a_request_allows_is_tried_last_by_such_a_request() {
        let (route, statistics) = (route(&["slow", "fast"]), Statistics::default());
        let layer = FailoverLayer::new(&route).with_statistics(&statistics);
        let most = Some(Duration::from_millis(500));
        assert_eq!(answered_by(&layer, most, "").await, "slow/m", "nothing is known of it");
        for _ in 0..20 {
            assert_eq!(answered_by(&layer, None, "").await, "slow/m");
        }
        let log = log_of(&layer, most, "").await;
        let why = "slow/m refused: the target does not offer max_ttft (500ms allowed, 5 of 100 lately took more than ";
        assert!(said(&log)[0].starts_with(why) && said(&log)[1..] == ["fast/m answered"], "{:?}", said(&log));
        assert_eq!(log.attempts().sent(), 1, "whoever is passed over was not asked");
        let log = log_of(&layer, most, "fast").await;
        assert_eq!(said(&log)[1..], ["fast/m unavailable", "slow/m answered"], "better than nobody");
        assert_eq!(answered_by(&layer, Some(Duration::from_secs(2)), "").await, "slow/m");
        advance(Duration::from_secs(301)).await;
        assert_eq!(answered_by(&layer, most, "").await, "slow/m", "it is forgotten after five minutes");
    }
}
