use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::time::Instant;

use super::{Order, Strategy, is_streaming};
use crate::{RequestContext, Route, Statistics, statistics::Pulse};

/// Of two targets drawn at random, tries the one first that is expected to answer sooner; behind it the others, the fastest
/// first.
///
/// What is expected is the [peak](Pulse::peak_latency) of how long the target took lately, times the calls that it has under
/// way and this one, and more where some of its calls fail. That two are drawn keeps requests that come together from all
/// running to the one that looks best (power of two choices; Mitzenmacher, 2001); of two targets, the better one it is. One
/// that was slow is tried again when its peak has been forgotten, and one that nothing is known of before those that are known.
///
/// The failover layer must [count](crate::FailoverLayer::with_statistics) into the same statistics. Clones share everything.
#[derive(Clone, Debug)]
pub struct Latency {
    pulses: Arc<[Pulse]>,
    turn: Arc<AtomicU64>,
}

impl Latency {
    /// For the targets of a route, by what the statistics know of them.
    #[must_use]
    pub fn new(route: &Route, statistics: &Statistics) -> Self {
        Latency { pulses: statistics.pulses(route).into(), turn: Arc::new(AtomicU64::new(fastrand::u64(..))) }
    }

    /// Draws the same targets in each run.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        self.turn.store(seed, Ordering::Relaxed);
        self
    }
}

/// How long a target is expected to take, with what it has to do already, in seconds.
fn expected(pulse: &Pulse, streaming: bool, now: Instant) -> f64 {
    // Who is unknown is asked soon, and by one: a second request does not wait for what may be slow.
    const UNKNOWN_AND_IDLE: f32 = 1e-3;
    const UNKNOWN: f32 = 1.0;
    // A target that fails at once is not fast.
    const LEAST_SUCCESS: f32 = 0.02;
    if pulse.is_refused(now) {
        return f64::INFINITY;
    }
    let success = pulse.minute(now).success_rate().unwrap_or(1.0).max(LEAST_SUCCESS);
    let in_flight = pulse.in_flight();
    let unknown = if in_flight == 0 { UNKNOWN_AND_IDLE } else { UNKNOWN };
    let latency = pulse.peak(streaming, now).unwrap_or(unknown);
    f64::from(latency / success) * (in_flight + 1) as f64
}

impl Strategy for Latency {
    fn order(&self, route: &Route, request: &RequestContext) -> Order {
        let targets = self.pulses.len();
        if targets < 2 {
            return Order::as_listed(route);
        }
        let (now, streaming) = (Instant::now(), is_streaming(request));
        let order = Order::by(route, |place| {
            self.pulses.get(place).map_or(f64::INFINITY, |pulse| expected(pulse, streaming, now))
        });
        if targets == 2 {
            return order;
        }
        // By their ranks: the better of two is the one that stands before the other.
        let mut random = fastrand::Rng::with_seed(self.turn.fetch_add(1, Ordering::Relaxed));
        let (one, other) = (random.usize(..targets), random.usize(..targets - 1));
        let other = if other < one { other } else { other + 1 };
        match order.get(one.min(other)) {
            Some(place) => order.with_first(place),
            None => order,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Outcome, Target};

    fn route(targets: usize) -> Route {
        Route::new("r", (0..targets).map(|place| Target::named(&place.to_string()))).unwrap()
    }

    fn answered(statistics: &Statistics, route: &Route, place: usize, millis: u64) {
        let call = statistics.recorder(route).call(place, false).unwrap();
        call.ended(&Outcome::Answered, true, Instant::now(), Duration::from_millis(millis));
    }

    fn first(strategy: &Latency, route: &Route) -> usize {
        strategy.order(route, &RequestContext::new()).get(0).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_the_faster_one_is_first_until_it_has_more_to_do() {
        let (route, statistics) = (route(2), Statistics::default());
        let strategy = Latency::new(&route, &statistics);
        answered(&statistics, &route, 0, 300);
        answered(&statistics, &route, 1, 100);
        assert_eq!(first(&strategy, &route), 1);
        let recorder = statistics.recorder(&route);
        let busy: Vec<_> = (0..3).map(|_| recorder.call(1, false).unwrap()).collect();
        assert_eq!(first(&strategy, &route), 0, "300 ms, and 4 times 100 ms");
        drop(busy);
        assert_eq!(first(&strategy, &route), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_slow_once_is_tried_again() {
        let (route, statistics) = (route(2), Statistics::default());
        let strategy = Latency::new(&route, &statistics);
        for _ in 0..50 {
            answered(&statistics, &route, 0, 100);
            answered(&statistics, &route, 1, 150);
        }
        answered(&statistics, &route, 0, 4_000);
        assert_eq!(first(&strategy, &route), 1);
        tokio::time::advance(Duration::from_secs(120)).await;
        // Its bad moment is part of what is usual of it, and a small one.
        assert!(statistics.pulses(&route)[0].peak_latency(false, Instant::now()).unwrap() < Duration::from_millis(180));
    }

    #[tokio::test(start_paused = true)]
    async fn one_whose_circuit_refuses_is_no_unknown_that_is_tried_first() {
        let (route, statistics) = (route(2), Statistics::default());
        let strategy = Latency::new(&route, &statistics);
        answered(&statistics, &route, 1, 300);
        assert_eq!(first(&strategy, &route), 0, "nothing is known of it");
        let refused = Outcome::Refused(crate::Refusal::Drained.into());
        statistics.recorder(&route).call(0, false).unwrap().ended(&refused, false, Instant::now(), Duration::ZERO);
        assert_eq!(first(&strategy, &route), 1);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(first(&strategy, &route), 0, "it may have changed");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_at_once_is_not_fast() {
        let (route, statistics) = (route(2), Statistics::default());
        let strategy = Latency::new(&route, &statistics);
        answered(&statistics, &route, 0, 10);
        answered(&statistics, &route, 1, 100);
        for _ in 0..99 {
            let fault = crate::Fault::new(crate::FaultKind::Unavailable, "");
            let call = statistics.recorder(&route).call(0, false).unwrap();
            call.ended(&Outcome::Failed(fault), true, Instant::now(), Duration::from_millis(1));
        }
        assert_eq!(first(&strategy, &route), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_the_slowest_is_never_first_and_the_others_share() {
        let (route, statistics) = (route(5), Statistics::default());
        let strategy = Latency::new(&route, &statistics).with_seed(7);
        for (place, millis) in [300, 200, 500, 100, 400].into_iter().enumerate() {
            answered(&statistics, &route, place, millis);
        }
        let mut firsts = [0; 5];
        (0..1_000).for_each(|_| firsts[first(&strategy, &route)] += 1);
        // The chances of the better of two that are drawn are 4, 3, 2, 1 and 0 of 10.
        for (place, chance) in [200, 300, 0, 400, 100].into_iter().enumerate() {
            assert!((chance - 50..=chance + 50).contains(&firsts[place]), "{firsts:?}");
        }
        assert_eq!(firsts[2], 0);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_come_at_once_before_anything_is_known_are_spread() {
        let (route, statistics) = (route(4), Statistics::default());
        let (strategy, recorder) = (Latency::new(&route, &statistics).with_seed(1), statistics.recorder(&route));
        let running: Vec<_> = (0..40).map(|_| recorder.call(first(&strategy, &route), false).unwrap()).collect();
        let in_flight: Vec<_> = statistics.pulses(&route).iter().map(Pulse::in_flight).collect();
        assert!(in_flight.iter().all(|calls| (7..=13).contains(calls)), "{in_flight:?}");
        drop(running);
    }
}
