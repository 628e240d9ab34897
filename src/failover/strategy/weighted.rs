use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{Order, Strategy};
use crate::{RequestContext, Route, Target};

/// The longest cycle. Weights that would need a longer one are rounded: to a thousandth, at the least.
const LONGEST: u64 = 4_096;

/// Spreads requests over the targets by their [weights](crate::Target::with_weight), smoothly: with 5, 1 and 1 the
/// first gets `a a b a c a a` and not five in a row. Should the one whose turn it is fail, the others follow in an order drawn
/// by their weights, so that its share goes to them in proportion. A weight of 0 makes a target a fallback only.
///
/// The cycle is that of nginx's smooth weighted round robin, worked out once: a request takes the next turn, without a
/// lock. Clones share it.
#[derive(Clone, Debug)]
pub struct Weighted {
    cycle: Arc<[u16]>,
    turn: Arc<AtomicUsize>,
}

impl Weighted {
    /// For the targets of a route.
    #[must_use]
    pub fn new(route: &Route) -> Self {
        let weights: Vec<u64> = route.targets().iter().map(|target| u64::from(target.weight())).collect();
        Weighted { cycle: smooth_cycle(&reduced(&weights)).into(), turn: Arc::default() }
    }
}

impl Strategy for Weighted {
    fn order(&self, route: &Route, _: &RequestContext) -> Order {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let first = self.cycle.get(turn % self.cycle.len().max(1)).map(|place| usize::from(*place));
        let mut random = fastrand::Rng::with_seed(turn as u64);
        // A weighted draw without replacement: whoever's clock, which ticks as fast as it weighs, rings first
        // (Efraimidis and Spirakis, 2006).
        let rings = |weight: u32| -(1.0 - random.f64()).ln() / f64::from(weight);
        let mut others: Vec<_> = route.targets().iter().map(Target::weight).map(rings).enumerate().collect();
        others.sort_by(|(_, one), (_, other)| one.total_cmp(other));
        Order::of(route, first.into_iter().chain(others.into_iter().map(|(place, _)| place)))
    }
}

/// The same weights in smaller numbers.
fn reduced(weights: &[u64]) -> Vec<u64> {
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    let total = weights.iter().sum::<u64>() / divisor;
    let shrink = |weight: &u64| match weight / divisor {
        weight if total <= LONGEST || weight == 0 => weight,
        weight => (weight * LONGEST / total).max(1),
    };
    weights.iter().map(shrink).collect()
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

fn smooth_cycle(weights: &[u64]) -> Vec<u16> {
    let total = weights.iter().sum::<u64>() as i64;
    let mut current = vec![0_i64; weights.len()];
    let turn = |_| {
        current.iter_mut().zip(weights).for_each(|(current, weight)| *current += *weight as i64);
        // Of equals, the first.
        let chosen = (0..current.len()).rev().max_by_key(|place| current[*place])?;
        current[chosen] -= total;
        u16::try_from(chosen).ok()
    };
    (0..total).filter_map(turn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(weights: &[u32]) -> Route {
        let target = |(place, weight): (usize, &u32)| Target::named(&place.to_string()).with_weight(*weight);
        Route::new("r", weights.iter().enumerate().map(target)).unwrap()
    }

    fn orders(weights: &[u32], requests: usize) -> Vec<Vec<usize>> {
        let route = route(weights);
        let strategy = Weighted::new(&route);
        let order = |_| {
            let order = strategy.order(&route, &RequestContext::new());
            (0..).map_while(|rank| order.get(rank)).collect()
        };
        (0..requests).map(order).collect()
    }

    #[test]
    fn turns_are_taken_smoothly() {
        let firsts: Vec<_> = orders(&[5, 1, 1], 7).into_iter().map(|order| order[0]).collect();
        assert_eq!(firsts, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn the_share_of_one_that_fails_goes_to_the_others_by_their_weights() {
        let seconds = orders(&[6, 3, 1], 1_000).into_iter().filter(|order| order[0] == 0).map(|order| order[1]);
        let (mut one, mut two) = (0, 0);
        seconds.for_each(|second| if second == 1 { one += 1 } else { two += 1 });
        assert_eq!(one + two, 600);
        assert!((420..=480).contains(&one), "{one} and {two}");
    }

    #[test]
    fn one_without_weight_is_a_fallback_only() {
        for order in orders(&[0, 2, 1], 6) {
            assert_eq!(order[2], 0, "{order:?}");
        }
        assert_eq!(orders(&[0, 0], 2).iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn weights_in_the_millions_keep_their_shares() {
        let orders = orders(&[9_000_001, 3_000_000, 1], LONGEST as usize);
        let share = |place| orders.iter().filter(|order| order[0] == place).count() as f64 / orders.len() as f64;
        assert!((0.74..0.76).contains(&share(0)) && (0.24..0.26).contains(&share(1)) && share(2) > 0.0);
    }
}
