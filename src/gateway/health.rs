//! Asks the targets of the configuration that is live how they are, where it says so.

use std::sync::{Mutex, PoisonError};

use tokio::{runtime::Handle, task::JoinSet};

use super::{Gateway, Live, upstream::Upstream};

/// The tasks that ask, one for each target. They end when this is dropped.
#[derive(Debug, Default)]
pub(super) struct HealthChecks(Mutex<JoinSet<()>>);

impl HealthChecks {
    /// Asks for that configuration, and for no other any more. Where there is no runtime, whoever serves the gateway does it.
    pub(super) fn begin(&self, live: &Live, client: &Upstream) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut tasks = JoinSet::new();
        for target in live.config.targets() {
            if let Some(check) = live.config.health_checks.get(target.id().as_str()) {
                let circuits = live.shared.circuits.clone();
                tasks.spawn_on(check.watch(target.clone(), circuits, client.clone()), &runtime);
            }
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
    }

    fn have_begun(&self) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = JoinSet::new();
    }
}

impl Gateway {
    /// Asks, if nobody does yet: the gateway may have been made where there was no runtime.
    pub(super) fn check_health(&self) {
        if !self.inner.health.have_begun() {
            self.inner.health.begin(&self.live(), &self.inner.client);
        }
    }

    /// Asks nobody any more.
    pub(super) fn end_health_checks(&self) {
        self.inner.health.end();
    }
}
