use crate::Route;

/// How many targets fit without an allocation: longer chains are rare.
const INLINE: usize = 12;

/// The order in which a route's targets are tried, by their places on the route. It names each exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order(Places);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Places {
    Listed { length: usize },
    Few { places: [u8; INLINE], length: u8 },
    Many(Vec<usize>),
}

impl Order {
    /// As the route lists them.
    #[must_use]
    pub fn as_listed(route: &Route) -> Self {
        Self::listed(route.targets().len())
    }

    fn listed(length: usize) -> Self {
        Order(Places::Listed { length })
    }

    /// In that order; targets that it does not name come behind, as listed. Places that are named twice or do not exist
    /// count once or not at all.
    #[must_use]
    pub fn of(route: &Route, places: impl IntoIterator<Item = usize>) -> Self {
        Self::of_length(route.targets().len(), places)
    }

    pub(super) fn of_length(length: usize, places: impl IntoIterator<Item = usize>) -> Self {
        let places = places.into_iter().chain(0..length).filter(|place| *place < length);
        if length > INLINE {
            let mut named = vec![false; length];
            return Order(Places::Many(places.filter(|place| !std::mem::replace(&mut named[*place], true)).collect()));
        }
        let (mut few, mut named, mut count) = ([0; INLINE], 0_u16, 0);
        for place in places {
            if named & 1 << place == 0 {
                named |= 1 << place;
                few[count] = place as u8;
                count += 1;
            }
        }
        Order(Places::Few { places: few, length: count as u8 })
    }

    /// By what `score` says of each place: the least first, and of equals as listed.
    #[must_use]
    pub fn by(route: &Route, mut score: impl FnMut(usize) -> f64) -> Self {
        let length = route.targets().len();
        if length > INLINE {
            let mut scored: Vec<_> = (0..length).map(|place| (score(place), place)).collect();
            scored.sort_by(|(one, _), (other, _)| one.total_cmp(other));
            return Order(Places::Many(scored.into_iter().map(|(_, place)| place).collect()));
        }
        let (mut scores, mut places) = ([0.0; INLINE], [0; INLINE]);
        for place in 0..length {
            let score = score(place);
            // There are few: each is moved before those that score more.
            let mut rank = place;
            while rank > 0 && score.total_cmp(&scores[rank - 1]).is_lt() {
                (scores[rank], places[rank]) = (scores[rank - 1], places[rank - 1]);
                rank -= 1;
            }
            (scores[rank], places[rank]) = (score, place as u8);
        }
        Order(Places::Few { places, length: length as u8 })
    }

    /// The same order, but those of which `is_last` says so behind the others.
    pub(in crate::failover) fn with_last(self, is_last: impl Fn(usize) -> bool) -> Self {
        let all = || (0..self.len()).filter_map(|rank| self.get(rank));
        if !all().any(&is_last) {
            return self;
        }
        let (first, last) = (all().filter(|place| !is_last(*place)), all().filter(|place| is_last(*place)));
        Self::of_length(self.len(), first.chain(last))
    }

    /// The same order with one target before all others.
    #[must_use]
    pub fn with_first(self, place: usize) -> Self {
        Self::of_length(self.len(), std::iter::once(place).chain((0..self.len()).filter_map(|rank| self.get(rank))))
    }

    pub(in crate::failover) fn len(&self) -> usize {
        match &self.0 {
            Places::Listed { length } => *length,
            Places::Few { length, .. } => usize::from(*length),
            Places::Many(places) => places.len(),
        }
    }

    /// The place of the target that comes so far behind the first.
    pub(in crate::failover) fn get(&self, rank: usize) -> Option<usize> {
        match &self.0 {
            Places::Listed { length } => (rank < *length).then_some(rank),
            Places::Few { places, length } => {
                places.get(..usize::from(*length))?.get(rank).map(|place| usize::from(*place))
            }
            Places::Many(places) => places.get(rank).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(order: &Order) -> Vec<usize> {
        (0..).map_while(|rank| order.get(rank)).collect()
    }

    #[test]
    fn every_target_is_named_once_whatever_a_strategy_says() {
        for length in [1, 4, INLINE, INLINE + 1, 300] {
            assert_eq!(places(&Order::listed(length)), (0..length).collect::<Vec<_>>());
            let odd = Order::of_length(length, [length - 1, length, length - 1, usize::MAX]);
            let mut sorted = places(&odd);
            assert_eq!(sorted[0], length - 1);
            sorted.sort_unstable();
            assert_eq!(sorted, (0..length).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_least_score_comes_first_and_equals_stay_as_listed() {
        for length in [1, 5, INLINE, INLINE + 3] {
            let route = Route::new("r", (0..length).map(|place| crate::Target::named(&place.to_string()))).unwrap();
            let order = places(&Order::by(&route, |place| (place % 3) as f64));
            let mut expected: Vec<_> = (0..length).collect();
            expected.sort_by_key(|place| place % 3);
            assert_eq!(order, expected);
            let strange = places(&Order::by(&route, |place| if place == 0 { f64::NAN } else { f64::INFINITY }));
            assert_eq!((strange.len(), *strange.last().unwrap()), (length, 0));
        }
    }

    #[test]
    fn some_may_be_put_last_and_keep_their_order() {
        for length in [4, INLINE + 1] {
            let order = places(&Order::listed(length).with_first(2).with_last(|place| place == 2 || place == 0));
            assert_eq!((order[0], &order[length - 2..]), (1, &[2, 0][..]));
            assert_eq!(places(&Order::listed(length).with_last(|_| true)), places(&Order::listed(length)));
        }
    }

    #[test]
    fn one_may_be_put_first() {
        assert_eq!(places(&Order::listed(4).with_first(2)), [2, 0, 1, 3]);
        assert_eq!(places(&Order::listed(2).with_first(7)), [0, 1]);
    }
}
