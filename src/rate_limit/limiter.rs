//! The limits of one target or provider.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, Reference},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{Refusal, shared_state::Portion};

/// How much a target or provider may be asked. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Requests per minute.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Tokens per minute: of the input, and of the answer at the most.
    pub tokens_per_minute: Option<NonZeroU32>,
    /// Calls at a time, each until its body has ended.
    pub max_concurrency: Option<NonZeroU32>,
}

impl Limits {
    pub(super) fn is_none(&self) -> bool {
        *self == Limits::default()
    }
}

const MINUTE: Duration = Duration::from_secs(60);

type Rate = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Moment>>;

/// Keeps count of what was asked.
#[derive(Debug)]
pub(crate) struct Limiter {
    limits: Limits,
    requests: Option<Rate>,
    tokens: Option<(Rate, NonZeroU32)>,
    calls: Option<Arc<Semaphore>>,
}

impl Limiter {
    /// `None` where nothing is limited.
    pub(crate) fn new(limits: &Limits) -> Option<Self> {
        let rate = |per_minute| Rate::direct_with_clock(Quota::per_minute(per_minute), TokioClock);
        let calls = |most: NonZeroU32| {
            let most = usize::try_from(most.get()).unwrap_or(usize::MAX);
            Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))
        };
        (!limits.is_none()).then(|| Limiter {
            limits: *limits,
            requests: limits.requests_per_minute.map(rate),
            tokens: limits.tokens_per_minute.map(|most| (rate(most), most)),
            calls: limits.max_concurrency.map(calls),
        })
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes what a call needs, or says when it can be had. `tokens` is only asked for where they are limited.
    pub(crate) fn take(&self, tokens: impl Fn() -> u64) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        // First what is given back by itself when a rate then refuses.
        let call = self.calls.clone().map(Semaphore::try_acquire_owned).transpose();
        let call = call.map_err(|_| Refusal::LimitReached { retry_after: None })?;
        if let Some(requests) = &self.requests {
            requests.check().map_err(|until| refusal(until.wait_time_from(TokioClock.now())))?;
        }
        if let Some((rate, most)) = &self.tokens {
            // A call that needs more than a minute's worth can be had when the whole minute's is there.
            let tokens = u32::try_from(tokens()).unwrap_or(u32::MAX).min(most.get());
            if let Some(tokens) = NonZeroU32::new(tokens) {
                if let Ok(Err(until)) = rate.check_n(tokens) {
                    return Err(refusal(until.wait_time_from(TokioClock.now())));
                }
            }
        }
        Ok(call)
    }
}

impl Limits {
    /// What a call takes of the rates that replicas keep together, under that name.
    pub(crate) fn portions(&self, name: &str, tokens: impl Fn() -> u64, portions: &mut Vec<Portion>) {
        let mut add = |what: &str, most: NonZeroU32, amount: u64| {
            let (key, most) = (format!("limit/{name}/{what}").into(), u64::from(most.get()));
            portions.push(Portion { key, amount: amount.min(most), most, period: MINUTE });
        };
        if let Some(most) = self.requests_per_minute {
            add("requests", most, 1);
        }
        if let Some(most) = self.tokens_per_minute {
            add("tokens", most, tokens());
        }
    }
}

fn refusal(wait: Duration) -> Refusal {
    Refusal::LimitReached { retry_after: Some(wait) }
}

/// Tokio's time, so that tests can pause it.
#[derive(Clone, Copy, Debug, Default)]
struct TokioClock;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(Instant);

impl Clock for TokioClock {
    type Instant = Moment;

    fn now(&self) -> Moment {
        Moment(Instant::now())
    }
}

impl Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_duration_since(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Moment(self.0.checked_sub(duration.into()).unwrap_or(self.0))
    }
}

impl std::ops::Add<Nanos> for Moment {
    type Output = Moment;

    fn add(self, duration: Nanos) -> Moment {
        Moment(self.0 + Duration::from(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn limiter(limits: Limits) -> Limiter {
        Limiter::new(&limits).unwrap()
    }

    fn wait(result: Result<Option<OwnedSemaphorePermit>, Refusal>) -> Option<Duration> {
        result.unwrap_err().retry_after()
    }

    #[tokio::test(start_paused = true)]
    async fn requests_come_back_evenly() {
        let limiter = limiter(Limits { requests_per_minute: NonZeroU32::new(6), ..Limits::default() });
        (0..6).for_each(|_| assert!(limiter.take(|| 0).is_ok()));
        assert_eq!(wait(limiter.take(|| 0)), Some(Duration::from_secs(10)));
        advance(Duration::from_secs(10)).await;
        assert!(limiter.take(|| 0).is_ok());
        assert!(limiter.take(|| 0).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_taken_by_their_number() {
        let limiter = limiter(Limits { tokens_per_minute: NonZeroU32::new(600), ..Limits::default() });
        assert!(limiter.take(|| 590).is_ok());
        assert_eq!(wait(limiter.take(|| 20)), Some(Duration::from_secs(1)));
        assert!(limiter.take(|| 0).is_ok());
        assert!(limiter.take(|| u64::MAX).is_err());
        advance(Duration::from_secs(60)).await;
        assert!(limiter.take(|| u64::MAX).is_ok(), "a call that needs it all gets it when it is all there");
    }

    #[tokio::test]
    async fn calls_at_a_time_are_given_back_when_dropped() {
        let limiter = limiter(Limits { max_concurrency: NonZeroU32::new(1), ..Limits::default() });
        let call = limiter.take(|| 0).unwrap();
        assert_eq!(wait(limiter.take(|| 0)), None);
        drop(call);
        assert!(limiter.take(|| 0).is_ok());
        assert!(Limiter::new(&Limits::default()).is_none());
    }
}
