//! Before, during, after.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{
    Drill, DrillError, DrillReport, Phase, PhaseReport, Progress,
    load::{Answer, Load},
};
use crate::{
    CircuitAdvice, FaultKind,
    circuit_breaker::CircuitSettings,
    config::Config,
    fault_injection::{FaultSwitch, InjectedFault, Injection},
    gateway::Gateway,
};

/// What the client waits longer than the gateway.
const GRACE: Duration = Duration::from_secs(5);

impl Drill {
    /// Runs it, on a gateway of its own, and tells how far it is after each request.
    ///
    /// # Errors
    ///
    /// When no socket can be had.
    pub async fn run(&self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Result<DrillReport, DrillError> {
        let began = Instant::now();
        let faults = FaultSwitch::new();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.map_err(|error| DrillError::new(format!("no port to listen on: {error}")))?;
        let address = listener.local_addr().map_err(|error| DrillError::new(error.to_string()))?;
        // Dropped, by whatever ends this function, it stops the gateway.
        let (stop, stopped) = oneshot::channel::<()>();
        // The other replicas are not to hear of faults that are none.
        let mut config: Config = self.config.clone();
        config.shared_state = None;
        let serving = tokio::spawn(Gateway::with_faults(&config, &faults).serve(listener, async {
            let _ = stopped.await;
        }));

        let load = Load::new(self, address, self.total_timeout() + GRACE);
        let progress: Arc<dyn Fn(Progress) + Send + Sync> = Arc::new(progress);
        let before = self.phase(&load, Phase::Before, &progress).await;
        faults.inject(self.injection());
        let during = self.phase(&load, Phase::During, &progress).await;
        faults.clear();
        let restored = Instant::now();
        let mut after = self.phase(&load, Phase::After, &progress).await;
        let was_there = before.iter().any(|answer| self.is_primarys(answer));
        if was_there {
            self.wait_for_the_primary(&load, restored, &mut after).await;
        }
        let back = after.iter().filter(|answer| self.is_primarys(answer)).map(|answer| answer.ended).min();

        drop((stop, load));
        // What goes wrong with it has shown in the answers.
        let _ = serving.await;
        let primary = self.primary_name();
        let report = |phase, answers: &[Answer]| PhaseReport::of(phase, answers, &primary);
        Ok(DrillReport {
            route: self.route.clone(),
            model: self.model.clone(),
            fault: self.settings.fault.clone(),
            slo: self.settings.slo,
            concurrency: self.at_a_time(),
            streams: self.settings.streams,
            phases: [report(Phase::Before, &before), report(Phase::During, &during), report(Phase::After, &after)],
            tries: faults.injected(),
            was_there,
            long_opening: self.longest_opening().is_none().then(|| self.longest_long_opening()),
            primary_back: back.map(|back| back.saturating_duration_since(restored)),
            took: began.elapsed(),
            primary,
        })
    }

    async fn phase(&self, load: &Load, phase: Phase, progress: &Arc<dyn Fn(Progress) + Send + Sync>) -> Vec<Answer> {
        let (progress, done) = (progress.clone(), AtomicU64::new(0));
        let tell: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
            progress(Progress { phase, done: done.fetch_add(1, Ordering::Relaxed) + 1 });
        });
        load.phase(self.at_a_time(), self.settings.requests, self.settings.duration, &tell).await
    }

    /// Asks now and then until the primary answers again: its circuit may stay open for some time after it is back.
    async fn wait_for_the_primary(&self, load: &Load, restored: Instant, after: &mut Vec<Answer>) {
        let Some(patience) = self.longest_opening() else { return };
        let pause = (patience / 16).clamp(Duration::from_millis(50), Duration::from_secs(1));
        while !after.iter().any(|answer| self.is_primarys(answer)) && restored.elapsed() < patience {
            sleep(pause).await;
            after.push(load.ask(after.len() as u64).await);
        }
    }

    /// How long a circuit may stay open after the primary is back; `None` where that is too long to be waited for.
    fn longest_opening(&self) -> Option<Duration> {
        let asked = match &self.settings.fault {
            InjectedFault::RateLimited { retry_after } => retry_after.unwrap_or_default(),
            fault => {
                let kind = fault.status().and_then(FaultKind::from_status);
                if kind.is_some_and(|kind| kind.policy().circuit == CircuitAdvice::OpenLong) {
                    return None;
                }
                Duration::ZERO
            }
        };
        let longest = self.breakers().map(|settings| settings.max_open).max().unwrap_or_default().max(asked);
        // With its jitter, and a little for the probe.
        Some(longest.mul_f64(1.1) + Duration::from_secs(1))
    }

    /// How long a circuit stays open that was opened at once, by a refused key for one.
    fn longest_long_opening(&self) -> Duration {
        self.breakers().map(|settings| settings.long_open).max().unwrap_or_default()
    }

    /// The rules of the circuits that calls of the primary pass.
    fn breakers(&self) -> impl Iterator<Item = &CircuitSettings> {
        let config = &self.config;
        let own = config.breakers.get(self.primary.id().as_str()).unwrap_or(&config.default_breaker);
        let provider = self.primary.provider().and_then(|provider| config.provider_breakers.get(provider.name()));
        [own, provider.unwrap_or(&config.default_breaker)].into_iter()
    }

    /// An outage takes all of a provider's targets away.
    fn injection(&self) -> Injection {
        let injection = Injection::new(self.settings.fault.clone());
        match self.primary.provider() {
            Some(provider) => injection.of_provider(provider.name()),
            None => injection.of_target(self.primary.id().as_str()),
        }
    }

    fn is_primarys(&self, answer: &Answer) -> bool {
        answer.failure.is_none() && answer.target.as_deref() == Some(&*self.primary_name())
    }

    /// The primary as answers name it.
    fn primary_name(&self) -> String {
        match (self.primary.provider(), self.primary.model()) {
            (Some(provider), None) => format!("{}/{}", provider.name(), self.model),
            _ => self.primary.id().to_string(),
        }
    }

    fn at_a_time(&self) -> usize {
        self.settings.concurrency.unwrap_or(1)
    }

    fn total_timeout(&self) -> Duration {
        let route = self.config.routes.find(&self.model);
        route.map_or(Duration::from_secs(600), |route| route.policy.timeout.total)
    }
}

#[cfg(test)]
mod tests {
    use super::super::DrillSettings;
    use super::*;

    #[tokio::test]
    async fn a_key_that_is_refused_is_not_waited_for() {
        let with = async |fault: &str| {
            let settings = DrillSettings { fault: fault.parse().unwrap(), ..DrillSettings::default() };
            Drill::on_simulated_providers(settings).await.unwrap().longest_opening()
        };
        assert_eq!(with("unauthorized").await, None);
        assert_eq!(with("down").await, Some(Duration::from_millis(2100)));
        assert_eq!(with("rate-limited:10s").await, Some(Duration::from_secs(12)));
    }
}
