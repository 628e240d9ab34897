//! What is left for a target whose provider has several keys: each has limits of its own, or all of them share an account's.

use std::time::Duration;

use tokio::time::Instant;

use super::RateLimits;

/// What was said last with each key, by its place.
#[derive(Debug)]
pub(super) struct Left {
    keys: Vec<(usize, RateLimits)>,
    /// From when on a key is fit with which nothing was said: its turn comes, and it may have all of its limits left.
    unknown_from: Option<Instant>,
}

impl Left {
    /// After an answer with that key said so. `rests` says of every key how much longer it rests. Of one that does, nothing that
    /// was said counts: it is not used, and when it is again, whatever it was may be over.
    pub(super) fn after(before: Option<&Left>, key: usize, limits: RateLimits, rests: &[Duration]) -> Self {
        let is_fit = |key: usize| rests.get(key).is_some_and(Duration::is_zero);
        let others = before.into_iter().flat_map(|before| &before.keys);
        let mut keys: Vec<_> = others.filter(|(other, _)| *other != key && is_fit(*other)).copied().collect();
        keys.push((key, limits));
        let unknown = (0..rests.len()).filter(|place| keys.iter().all(|(key, _)| key != place));
        let now = Instant::now();
        // A time beyond all bounds never comes.
        let unknown_from = unknown.filter_map(|place| now.checked_add(rests[place])).min();
        Left { keys, unknown_from }
    }

    /// Which share is left with the key that has most left, 0 to 1: all of it where that is not known.
    pub(super) fn headroom(&self) -> f64 {
        if self.unknown_from.is_some_and(|from| from <= Instant::now()) {
            return 1.0;
        }
        self.keys.iter().map(|(_, limits)| limits.headroom()).reduce(f64::max).unwrap_or(1.0)
    }

    /// What was said with the key that has most left, as far as that is known; of equals the latest.
    pub(super) fn best(&self) -> Option<RateLimits> {
        let limits = self.keys.iter().map(|(_, limits)| *limits);
        limits.max_by(|a, b| a.headroom().total_cmp(&b.headroom()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::{super::RateWindow, *};

    const FIT: Duration = Duration::ZERO;

    fn limits(remaining: u64, seconds: u64) -> RateLimits {
        let resets_at = Instant::now() + Duration::from_secs(seconds);
        RateLimits { requests: Some(RateWindow { limit: Some(100), remaining, resets_at }), tokens: None }
    }

    #[tokio::test(start_paused = true)]
    async fn the_key_that_has_most_left_counts_and_one_of_which_nothing_is_known_has_all_of_it() {
        let one = Left::after(None, 0, limits(1, 60), &[FIT, FIT]);
        assert_eq!((one.headroom(), one.best()), (1.0, Some(limits(1, 60))));
        let both = Left::after(Some(&one), 1, limits(30, 60), &[FIT, FIT]);
        assert_eq!((both.headroom(), both.best()), (0.3, Some(limits(30, 60))));
        let spent = Left::after(Some(&both), 1, limits(2, 20), &[FIT, FIT]);
        assert_eq!(spent.headroom(), 0.02, "what is less counts too, of the same key");
        advance(Duration::from_secs(20)).await;
        assert_eq!(spent.headroom(), 1.0, "it is full again before the other");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_rests_counts_again_when_it_is_fit() {
        let both =
            Left::after(Some(&Left::after(None, 0, limits(60, 3_600), &[FIT, FIT])), 1, limits(50, 60), &[FIT, FIT]);
        let rests = [Duration::from_secs(10), FIT];
        let rested = Left::after(Some(&both), 1, limits(2, 3_600), &rests);
        assert_eq!((rested.headroom(), rested.best()), (0.02, Some(limits(2, 3_600))));
        advance(Duration::from_secs(10)).await;
        assert_eq!(rested.headroom(), 1.0);
        let for_ever = Left::after(Some(&both), 1, limits(2, 3_600), &[Duration::MAX, FIT]);
        assert_eq!(for_ever.headroom(), 0.02);
    }

    #[tokio::test(start_paused = true)]
    async fn one_key_alone_has_what_it_said_last_and_keys_that_are_gone_count_no_more() {
        let other = Left::after(None, 1, limits(90, 60), &[FIT, FIT]);
        for rests in [&[][..], &[FIT]] {
            let only = Left::after(Some(&Left::after(Some(&other), 0, limits(90, 60), rests)), 0, limits(3, 60), rests);
            assert_eq!((only.headroom(), only.best()), (0.03, Some(limits(3, 60))));
        }
    }
}
