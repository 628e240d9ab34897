//! When a circuit opens, and for how long.

use std::{collections::HashMap, time::Duration};

use crate::{TargetId, window::Counts};

/// By which settings which circuit opens.
#[derive(Clone, Debug, Default)]
pub struct CircuitRules {
    default: CircuitSettings,
    targets: HashMap<Box<str>, CircuitSettings>,
    providers: HashMap<Box<str>, CircuitSettings>,
}

impl CircuitRules {
    /// Settings of a target's own, by its [`TargetId`].
    #[must_use]
    pub fn with_target(mut self, id: impl Into<Box<str>>, settings: CircuitSettings) -> Self {
        self.targets.insert(id.into(), settings);
        self
    }

    /// Settings of a provider's own, by its name. They are not its targets'.
    #[must_use]
    pub fn with_provider(mut self, name: impl Into<Box<str>>, settings: CircuitSettings) -> Self {
        self.providers.insert(name.into(), settings);
        self
    }

    pub(super) fn general(&self) -> &CircuitSettings {
        &self.default
    }

    pub(super) fn of_target(&self, id: &TargetId) -> &CircuitSettings {
        self.targets.get(id.as_str()).unwrap_or(&self.default)
    }

    pub(super) fn of_provider(&self, name: &str) -> &CircuitSettings {
        self.providers.get(name).unwrap_or(&self.default)
    }
}

impl From<CircuitSettings> for CircuitRules {
    fn from(default: CircuitSettings) -> Self {
        CircuitRules { default, ..Default::default() }
    }
}

/// When a circuit opens, and for how long. The defaults are good for an LLM provider.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct CircuitSettings {
    /// Opens after so many failures without a success between them. Default: 5.
    pub failures: u32,
    /// Opens when this share of the window's calls failed. Default: 0.5.
    pub failure_rate: f64,
    /// Shares are not looked at below so many calls in the window. Default: 10.
    pub min_calls: u32,
    /// How far back shares look. Default: 30 s.
    pub window: Duration,
    /// A call that takes so long to begin to answer is slow. Default: 30 s.
    pub slow_call: Duration,
    /// Opens when this share of the window's calls was slow. Default: 1.0.
    pub slow_rate: f64,
    /// How long it is open the first time; doubles each time that it opens again. Default: 5 s.
    pub open: Duration,
    /// The most that doubling leads to. Default: 30 s.
    pub max_open: Duration,
    /// How long it is open after a failure that waiting does not mend: a rejected key, an unknown model.
    /// Default: 10 min.
    pub long_open: Duration,
    /// A `Retry-After` above this opens the circuit at once, for that long. Default: 2 s.
    pub max_retry_after: Duration,
    /// How many calls at once find out whether the target has recovered; 0 is the same as 1. Default: 1.
    pub probes: u32,
    /// By which share, at most, an opening is made shorter or longer at random, so that replicas do not probe
    /// together. Default: 0.1.
    pub jitter: f64,
}

impl Default for CircuitSettings {
    fn default() -> Self {
        CircuitSettings {
            failures: 5,
            failure_rate: 0.5,
            min_calls: 10,
            window: Duration::from_secs(30),
            slow_call: Duration::from_secs(30),
            slow_rate: 1.0,
            open: Duration::from_secs(5),
            max_open: Duration::from_secs(30),
            long_open: Duration::from_secs(600),
            max_retry_after: Duration::from_secs(2),
            probes: 1,
            jitter: 0.1,
        }
    }
}

impl CircuitSettings {
    pub(crate) fn fails_too_often(&self, Counts([calls, failures, _]): Counts) -> bool {
        self.is_over(failures, calls, self.failure_rate)
    }

    pub(crate) fn is_too_slow(&self, Counts([calls, _, slow]): Counts) -> bool {
        self.is_over(slow, calls, self.slow_rate)
    }

    fn is_over(&self, part: u64, calls: u64, share: f64) -> bool {
        part > 0 && calls >= u64::from(self.min_calls) && part as f64 >= share * calls as f64
    }

    /// How long it stays open when it has opened so many times before without a good call since.
    pub(crate) fn open_for(&self, openings: u32) -> Duration {
        let doubled = self.open.saturating_mul(2_u32.saturating_pow(openings)).min(self.max_open.max(self.open));
        let jitter = self.jitter.clamp(0.0, 1.0);
        let seconds = doubled.as_secs_f64() * (1.0 + jitter * (2.0 * fastrand::f64() - 1.0));
        Duration::try_from_secs_f64(seconds).unwrap_or(doubled)
    }

    /// How long a probe may go without a word before another is sent: a call may take its time, but a permit that
    /// is lost must not keep the circuit from ever closing.
    pub(crate) fn probe_lease(&self) -> Duration {
        self.max_open.max(self.open).saturating_mul(2)
    }
}
