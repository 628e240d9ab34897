use std::sync::Arc;

use tokio::time::Instant;

use super::{Order, Strategy};
use crate::{RequestContext, Requirements, Route, Statistics, Target, Usage, statistics::Pulse};

/// How long an answer is taken to be of which neither the request nor the past says anything.
const UNKNOWN_OUTPUT: u64 = 500;

/// Tries the target first that is expected to answer this request at the least cost; behind it the others, the cheapest first.
///
/// The input is what the request is [estimated](crate::dialect#token-estimate) to have. The output is what the target's answers
/// had in the last minute on average, or else what those of the route's others had, and not more than the request asks
/// for at most; of a request and targets that say nothing, 500 tokens. So a long prompt with a short answer may go elsewhere than
/// a short prompt with a long answer. Targets [without a price](crate::Target::with_price) come behind those that have
/// one, as listed, and equals as listed.
///
/// The failover layer must [count](crate::FailoverLayer::with_statistics) into the same statistics. Clones share everything.
#[derive(Clone, Debug)]
pub struct Cost {
    pulses: Arc<[Pulse]>,
}

impl Cost {
    /// For the targets of a route, by what the statistics know of them.
    #[must_use]
    pub fn new(route: &Route, statistics: &Statistics) -> Self {
        Cost { pulses: statistics.pulses(route).into() }
    }
}

impl Strategy for Cost {
    fn order(&self, route: &Route, request: &RequestContext) -> Order {
        let expected = Expected::new(request, &self.pulses, Instant::now());
        Order::by(route, |place| {
            let (target, pulse) = (route.targets().get(place), self.pulses.get(place));
            target.and_then(|target| expected.cost(target, pulse)).unwrap_or(f64::INFINITY)
        })
    }
}

/// What an answer to a request will probably be made of.
pub(super) struct Expected {
    input: u64,
    most: Option<u64>,
    /// Where nothing is known of a target.
    output: u64,
    now: Instant,
}

impl Expected {
    pub(super) fn new(request: &RequestContext, pulses: &[Pulse], now: Instant) -> Self {
        let needs = request.requirements();
        let known = pulses.iter().filter_map(|pulse| pulse.minute(now).output_tokens());
        let (sum, count) = known.fold((0.0, 0_u32), |(sum, count), tokens| (sum + tokens, count + 1));
        let output = if count == 0 { UNKNOWN_OUTPUT } else { (sum / count as f32) as u64 };
        Expected {
            input: needs.map_or(0, |needs| needs.input_tokens),
            most: needs.and_then(|needs: &Requirements| needs.max_output_tokens),
            output,
            now,
        }
    }

    /// In US dollars; `None` of a target without a price.
    pub(super) fn cost(&self, target: &Target, pulse: Option<&Pulse>) -> Option<f64> {
        let own = pulse.and_then(|pulse| pulse.minute(self.now).output_tokens()).map(|tokens| tokens as u64);
        let output = own.unwrap_or(self.output).min(self.most.unwrap_or(u64::MAX));
        Some(target.price()?.cost(&Usage { input: self.input, output, ..Usage::default() }).usd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Price;

    fn priced(prices: &[Option<(f64, f64)>]) -> (Route, Statistics) {
        let targets = prices.iter().enumerate().map(|(place, price)| {
            let target = Target::named(&place.to_string());
            match price {
                Some((input, output)) => target.with_price(Price::new(*input, *output).unwrap()),
                None => target,
            }
        });
        (Route::new("r", targets).unwrap(), Statistics::default())
    }

    fn asking(input_tokens: u64, max_output_tokens: Option<u64>) -> RequestContext {
        let needs = Requirements { input_tokens, max_output_tokens, ..Requirements::default() };
        RequestContext::new().with_requirements(needs)
    }

    fn order(strategy: &Cost, route: &Route, request: &RequestContext) -> Vec<usize> {
        let order = strategy.order(route, request);
        (0..).map_while(|rank| order.get(rank)).collect()
    }

    fn wrote(statistics: &Statistics, route: &Route, place: usize, tokens: u64) {
        let usage = Usage { output: tokens, ..Usage::default() };
        statistics.recorder(route).call(place, false).unwrap().spent(&usage);
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_targets_stand_in_another_order_for_another_request() {
        // The first is cheap to ask and dear to answer, the second the other way round.
        let (route, statistics) = priced(&[Some((1.0, 10.0)), Some((3.0, 3.0))]);
        let strategy = Cost::new(&route, &statistics);
        assert_eq!(order(&strategy, &route, &asking(100_000, Some(100))), [0, 1]);
        assert_eq!(order(&strategy, &route, &asking(100, Some(4_000))), [1, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_without_a_price_comes_behind_and_equals_stay_as_listed() {
        let (route, statistics) = priced(&[None, Some((2.0, 2.0)), Some((1.0, 1.0)), Some((1.0, 1.0)), None]);
        let strategy = Cost::new(&route, &statistics);
        assert_eq!(order(&strategy, &route, &asking(1_000, None)), [2, 3, 1, 0, 4]);
        assert_eq!(
            order(&strategy, &route, &RequestContext::new()),
            [2, 3, 1, 0, 4],
            "nothing is known of the request"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_writes_much_is_dear_however_low_its_price() {
        let (route, statistics) = priced(&[Some((1.0, 5.0)), Some((1.0, 10.0))]);
        let strategy = Cost::new(&route, &statistics);
        let request = asking(100, None);
        assert_eq!(order(&strategy, &route, &request), [0, 1]);
        wrote(&statistics, &route, 0, 3_000);
        wrote(&statistics, &route, 1, 400);
        tokio::time::advance(std::time::Duration::from_millis(200)).await;
        assert_eq!(order(&strategy, &route, &request), [1, 0]);
        assert_eq!(order(&strategy, &route, &asking(100, Some(300))), [0, 1], "neither may write more than that");
        tokio::time::advance(std::time::Duration::from_secs(70)).await;
        assert_eq!(order(&strategy, &route, &request), [0, 1], "it is forgotten after a minute");
    }
}
