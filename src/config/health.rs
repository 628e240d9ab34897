//! Whether a target is asked how it is: `health_check` on a provider or on a target.

use std::time::Duration;

use super::reader::Table;
use crate::health::{HealthCheck, HealthCheckKind};

/// More often is an attack.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);

/// Takes the parent's `health_check`; what it leaves out is as in `base`.
pub(super) fn read(parent: &mut Table<'_>, base: Option<HealthCheck>) -> Option<HealthCheck> {
    let Some(mut table) = parent.take_table("health_check") else { return base };
    let inherited = base.unwrap_or_default();
    let kind = table.take("kind").and_then(|value| value.choice(&["model", "completion", "none"]));
    let check = inherited
        .with_kind(match kind {
            Some("model") => HealthCheckKind::Model,
            Some("completion") => HealthCheckKind::Completion,
            _ => inherited.kind(),
        })
        .with_interval(table.take_duration("interval").unwrap_or(inherited.interval()))
        .with_timeout(table.take_duration("timeout").unwrap_or(inherited.timeout()))
        .with_open_after(table.take_u32("open_after").or(inherited.open_after()));
    table.check(&["interval"], check.interval() >= LEAST_INTERVAL, || {
        format!("interval ({:?}) is shorter than {LEAST_INTERVAL:?}", check.interval())
    });
    table.finish();
    (kind != Some("none")).then_some(check)
}
