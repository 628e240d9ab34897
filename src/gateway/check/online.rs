//! Asks every target whether it works.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use super::super::upstream;
use crate::{Fault, Provider, Target, config::Config, fault_injection::FaultSwitch, health::Asked};

/// How many are asked at once.
const AT_ONCE: usize = 16;

/// How one target did when it was asked.
#[derive(Clone, Debug)]
pub struct Trial {
    target: Target,
    /// Which of so many keys it was asked with, where its provider has several.
    key: Option<(usize, usize)>,
    asked: Asked,
    latency: Duration,
    fault: Option<Fault>,
}

impl Trial {
    /// Who was asked.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// How long it took to answer or to fail.
    #[must_use]
    pub fn latency(&self) -> Duration {
        self.latency
    }

    /// How it failed, if it did. What a provider says is told without our key.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Whether it answered.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.fault.is_none()
    }

    /// Which key of its provider's list it was asked with, counted from 1, and how many there are; `None` where that has one
    /// key, or has had each tried with another target.
    #[must_use]
    pub fn key(&self) -> Option<(usize, usize)> {
        self.key
    }

    pub(super) fn asked(&self) -> Asked {
        self.asked
    }
}

/// Asks every target of the configuration once, however many routes it serves; the first of a provider that has several keys
/// once with each: with one that works, nobody would learn of the others.
pub(super) async fn try_all(config: &Config, patience: Duration) -> Vec<Trial> {
    let (mut all, mut providers) = (Vec::new(), BTreeSet::new());
    for target in config.targets() {
        match target.provider().filter(|provider| provider.credentials().rotate() && providers.insert(provider.name()))
        {
            Some(provider) => all.extend(with_each_key(target, provider)),
            None => all.push((target.clone(), target.clone(), None)),
        }
    }
    let client = upstream::client(&FaultSwitch::new());
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut trials = JoinSet::new();
    for (place, (target, asked, key)) in all.into_iter().enumerate() {
        let (client, places) = (client.clone(), places.clone());
        trials.spawn(async move {
            let _permit = places.acquire().await;
            (place, Trial { target, key, ..attempt(client, asked, patience).await })
        });
    }
    let mut trials = trials.join_all().await;
    trials.sort_by_key(|(place, _)| *place);
    trials.into_iter().map(|(_, trial)| trial).collect()
}

/// The target, itself as it is asked with one key, and which key that is; for each of its provider's keys.
fn with_each_key(
    target: &Target,
    provider: &Provider,
) -> impl Iterator<Item = (Target, Target, Option<(usize, usize)>)> {
    let count = provider.credentials().len();
    provider.credentials().each().enumerate().map(move |(index, key)| {
        let provider = provider.clone().with_credentials(key);
        let asked = match target.model() {
            Some(model) => Target::new(&provider, model),
            None => Target::passing_model_through(&provider),
        };
        (target.clone(), asked, Some((index + 1, count)))
    })
}

async fn attempt(client: upstream::Upstream, target: Target, patience: Duration) -> Trial {
    let (asked, began) = (Asked::of(&target), Instant::now());
    let fault = asked.ask(&target, client, patience).await;
    Trial { target, key: None, asked, latency: began.elapsed(), fault }
}
