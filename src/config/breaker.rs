//! When a circuit opens, and for how long: `breaker` in `[defaults]`, on a provider or on a target.

use std::time::Duration;

use super::reader::Table;

/// When a circuit opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct BreakerSettings {
    /// Failures in a row that open it.
    pub failures: u32,
    /// The share of failures among the calls in the window that opens it: above 0, at most 1.
    pub failure_rate: f64,
    /// Calls that the window must hold before a rate says anything.
    pub min_calls: u32,
    /// How far back the rates look.
    pub window: Duration,
    /// From when on a call counts as slow.
    pub slow_call: Duration,
    /// The share of slow calls in the window that opens it: above 0, at most 1.
    pub slow_rate: f64,
    /// How long it stays open the first time; this doubles each time that a probe fails.
    pub open: Duration,
    /// What the doubling never exceeds.
    pub max_open: Duration,
    /// How long it stays open when waiting will hardly mend it, as for a rejected key. `max_open` does not cap it.
    pub long_open: Duration,
    /// Calls that a half-open circuit admits at once.
    pub probes: u32,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        BreakerSettings {
            failures: 5,
            failure_rate: 0.5,
            min_calls: 10,
            window: Duration::from_secs(30),
            slow_call: Duration::from_secs(30),
            slow_rate: 1.0,
            open: Duration::from_secs(5),
            max_open: Duration::from_secs(30),
            long_open: Duration::from_secs(10 * 60),
            probes: 1,
        }
    }
}

impl BreakerSettings {
    /// Takes the parent's `breaker`; what it leaves out is as in `base`.
    pub(super) fn read(parent: &mut Table<'_>, base: Self) -> Self {
        let Some(mut table) = parent.take_table("breaker") else { return base };
        let mut rate = |name| table.take(name).and_then(|value| value.positive_ratio());
        let (failure_rate, slow_rate) = (rate("failure_rate"), rate("slow_rate"));
        let settings = BreakerSettings {
            failures: table.take_u32("failures").unwrap_or(base.failures),
            failure_rate: failure_rate.unwrap_or(base.failure_rate),
            min_calls: table.take_u32("min_calls").unwrap_or(base.min_calls),
            window: table.take_duration("window").unwrap_or(base.window),
            slow_call: table.take_duration("slow_call").unwrap_or(base.slow_call),
            slow_rate: slow_rate.unwrap_or(base.slow_rate),
            open: table.take_duration("open").unwrap_or(base.open),
            max_open: table.take_duration("max_open").unwrap_or(base.max_open),
            long_open: table.take_duration("long_open").unwrap_or(base.long_open),
            probes: table.take_u32("probes").unwrap_or(base.probes),
        };
        let BreakerSettings { open, max_open, .. } = settings;
        table.check(&["open", "max_open"], open <= max_open, || {
            format!("open ({open:?}) is longer than max_open ({max_open:?})")
        });
        table.finish();
        settings
    }
}
