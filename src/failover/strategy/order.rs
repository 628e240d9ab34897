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
    fn one_may_be_put_first() {
        assert_eq!(places(&Order::listed(4).with_first(2)), [2, 0, 1, 3]);
        assert_eq!(places(&Order::listed(2).with_first(7)), [0, 1]);
    }
}
