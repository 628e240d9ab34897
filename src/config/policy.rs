//! What a route does about failures and silence: `[defaults]`, and the same keys on a route.

use std::time::Duration;

use super::{cache::CacheSettings, reader::Table, strategy::Choice};
use crate::{FailoverAdvice, FaultKind, FaultKinds, provider::Commit};

/// What a route does when a target fails or is silent.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Policy {
    /// Whom a request tries first, and whom at the same time.
    pub choice: Choice,
    /// The failures that move on to the next target.
    pub failover_on: FaultKinds,
    /// Whether, when every circuit is open, the target that recovers soonest is tried all the same.
    pub last_resort: bool,
    /// Whether a fallback is given the requests of another little by little.
    pub ramp: bool,
    /// When a stream is let through to the client.
    pub commit: Commit,
    /// Whether streams are asked for their usage that would tell none.
    pub meter_streams: bool,
    /// What becomes of a stream that breaks off after it has reached the client.
    pub stream_recovery: StreamRecovery,
    /// How long an answer may take.
    pub timeout: TimeoutSettings,
    /// How often the same target is tried again.
    pub retry: RetrySettings,
    /// How long a client that reads a stream is left without a byte before it is sent a comment; `None` for ever.
    pub keep_alive: Option<Duration>,
    /// Whether answers are kept, to be given again.
    pub cache: Option<CacheSettings>,
}

impl Default for Policy {
    fn default() -> Self {
        // What the fault table moves on for without knowing more of the request than its size.
        let moves_on = |kind: &FaultKind| {
            matches!(kind.policy().failover, FailoverAdvice::Yes | FailoverAdvice::LargerContextWindow)
        };
        Policy {
            choice: Choice::default(),
            failover_on: FaultKind::ALL.iter().copied().filter(moves_on).collect(),
            last_resort: true,
            ramp: false,
            commit: Commit::FirstOutput,
            meter_streams: false,
            stream_recovery: StreamRecovery::default(),
            timeout: TimeoutSettings::default(),
            retry: RetrySettings::default(),
            keep_alive: None,
            cache: None,
        }
    }
}

impl Policy {
    /// Takes a policy's keys; what the table leaves out is as in `base`.
    pub(super) fn read(table: &mut Table<'_>, base: &Policy) -> Policy {
        Policy {
            choice: Choice::read(table, base.choice),
            failover_on: read_kinds(table).unwrap_or(base.failover_on),
            last_resort: table.take_bool("last_resort").unwrap_or(base.last_resort),
            ramp: table.take_bool("ramp").unwrap_or(base.ramp),
            commit: read_commit(table).unwrap_or(base.commit),
            meter_streams: table.take_bool("meter_streams").unwrap_or(base.meter_streams),
            stream_recovery: StreamRecovery::read(table).unwrap_or(base.stream_recovery),
            timeout: TimeoutSettings::read(table, base.timeout),
            retry: RetrySettings::read(table, base.retry),
            // None at all turns off what [defaults] turned on.
            keep_alive: match table.take_duration_or_zero("keep_alive") {
                Some(keep_alive) => Some(keep_alive).filter(|keep_alive| !keep_alive.is_zero()),
                None => base.keep_alive,
            },
            cache: CacheSettings::read(table, base.cache),
        }
    }
}

fn read_commit(table: &mut Table<'_>) -> Option<Commit> {
    match table.take("commit")?.choice(&["first_output", "complete"])? {
        "complete" => Some(Commit::Complete),
        _ => Some(Commit::FirstOutput),
    }
}

fn read_kinds(table: &mut Table<'_>) -> Option<FaultKinds> {
    let names = table.take_array("failover_on")?;
    let kinds = names.iter().filter_map(|value| {
        let name = value.string()?;
        FaultKind::from_name(name).or_else(|| {
            let known = FaultKind::ALL.iter().map(|kind| kind.name());
            value.spot().report_unknown(format_args!("unknown fault kind {name:?}"), name, known);
            None
        })
    });
    Some(kinds.collect())
}

/// What becomes of a stream that breaks off after it has reached the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamRecovery {
    /// It ends with an explicit error.
    #[default]
    Terminate,
    /// Another target is asked to complete it: see [`recovery`](crate::recovery).
    Resume,
}

impl StreamRecovery {
    fn read(table: &mut Table<'_>) -> Option<Self> {
        match table.take("stream_recovery")?.choice(&["terminate", "resume"])? {
            "resume" => Some(StreamRecovery::Resume),
            _ => Some(StreamRecovery::Terminate),
        }
    }
}

/// How long an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimeoutSettings {
    /// Until the first output of a stream.
    pub first_output: Duration,
    /// Until the whole of an answer that is no stream, or is committed only when it is complete.
    pub response: Duration,
    /// From one sign of progress in a stream to the next.
    pub idle: Duration,
    /// For all of a request, whatever is tried for it.
    pub total: Duration,
}

impl Default for TimeoutSettings {
    fn default() -> Self {
        TimeoutSettings {
            first_output: Duration::from_secs(60),
            response: Duration::from_secs(5 * 60),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(10 * 60),
        }
    }
}

impl TimeoutSettings {
    fn read(parent: &mut Table<'_>, base: Self) -> Self {
        let Some(mut table) = parent.take_table("timeout") else { return base };
        let settings = TimeoutSettings {
            first_output: table.take_duration("first_output").unwrap_or(base.first_output),
            response: table.take_duration("response").unwrap_or(base.response),
            idle: table.take_duration("idle").unwrap_or(base.idle),
            total: table.take_duration("total").unwrap_or(base.total),
        };
        table.finish();
        settings
    }
}

/// How often, and after which pause, the same target is tried again.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetrySettings {
    /// Tries of one target, the first included: 1 means no retry.
    pub attempts: u32,
    /// The longest pause before the first retry; it doubles with each that follows.
    pub base_delay: Duration,
    /// What the pause never exceeds.
    pub max_delay: Duration,
    /// The longest `Retry-After` that is waited for; a longer one moves on.
    pub max_retry_after: Duration,
    /// Retries as a share of all requests: 0 to 1.
    pub budget: f64,
}

impl Default for RetrySettings {
    fn default() -> Self {
        RetrySettings {
            attempts: 2,
            base_delay: Duration::from_millis(250),
            max_delay: Duration::from_secs(5),
            max_retry_after: Duration::from_secs(2),
            budget: 0.2,
        }
    }
}

impl RetrySettings {
    fn read(parent: &mut Table<'_>, base: Self) -> Self {
        let Some(mut table) = parent.take_table("retry") else { return base };
        let settings = RetrySettings {
            attempts: table.take_u32("attempts").unwrap_or(base.attempts),
            base_delay: table.take_duration_or_zero("base_delay").unwrap_or(base.base_delay),
            max_delay: table.take_duration_or_zero("max_delay").unwrap_or(base.max_delay),
            max_retry_after: table.take_duration_or_zero("max_retry_after").unwrap_or(base.max_retry_after),
            budget: table.take("budget").and_then(|value| value.ratio()).unwrap_or(base.budget),
        };
        let RetrySettings { base_delay, max_delay, .. } = settings;
        table.check(&["base_delay", "max_delay"], base_delay <= max_delay, || {
            format!("base_delay ({base_delay:?}) is longer than max_delay ({max_delay:?})")
        });
        table.finish();
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_on_by_default() {
        use FaultKind::*;
        let listed = [
            Connect,
            ConnectionLost,
            RateLimited,
            QuotaExhausted,
            Overloaded,
            Unavailable,
            Timeout,
            StreamInterrupted,
            MalformedResponse,
            AuthFailed,
            PermissionDenied,
            NotFound,
            ContextLengthExceeded,
            Unsupported,
            Refused,
        ];
        assert_eq!(Policy::default().failover_on, listed.into_iter().collect());
    }
}
