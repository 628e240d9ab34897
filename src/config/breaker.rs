//! When a circuit opens, and for how long: `breaker` in `[defaults]`, on a provider or on a target.

use super::reader::Table;
use crate::circuit_breaker::CircuitSettings;

/// Takes the parent's `breaker`; what it leaves out is as in `base`.
pub(super) fn read(parent: &mut Table<'_>, base: CircuitSettings) -> CircuitSettings {
    let Some(mut table) = parent.take_table("breaker") else { return base };
    let mut rate = |name| table.take(name).and_then(|value| value.positive_ratio());
    let (failure_rate, slow_rate) = (rate("failure_rate"), rate("slow_rate"));
    let settings = CircuitSettings {
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
        ..base
    };
    let CircuitSettings { open, max_open, .. } = settings;
    table.check(&["open", "max_open"], open <= max_open, || {
        format!("open ({open:?}) is longer than max_open ({max_open:?})")
    });
    table.finish();
    settings
}
