//! Looks a configuration over without serving it: what is wrong, what is unwise and, when asked, whether every key and
//! model works.
//!
//! ```no_run
//! use std::{path::Path, time::Duration};
//! use tower_failover::gateway::{Paint, check::Check};
//!
//! # async fn example() {
//! let check = Check::of_file(Path::new("gateway.toml")).online(Duration::from_secs(30)).await;
//! print!("{}", check.describe(Paint::of_output()));
//! assert!(check.passed());
//! # }
//! ```

mod advice;
mod online;
mod report;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub use self::{
    advice::{Advice, AdviceKind},
    online::Trial,
};
use tokio::time::Instant;

use crate::{
    config::{Config, ConfigErrors, SharedStateSettings},
    shared_state::Unavailable,
};

/// What is known of a configuration file. No form of printing it shows a key.
#[derive(Debug)]
pub struct Check {
    file: PathBuf,
    config: Result<Config, ConfigErrors>,
    advice: Vec<Advice>,
    trials: Option<Vec<Trial>>,
    /// How long what replicas share took to answer, or why it did not, where it was asked.
    shared_state: Option<Result<Duration, Unavailable>>,
}

impl Check {
    /// Reads a file, and the variables and key files that it names. Nothing is sent.
    #[must_use]
    pub fn of_file(file: &Path) -> Self {
        let config = Config::load(file);
        let advice = config.as_ref().map(advice::of).unwrap_or_default();
        Check { file: file.to_owned(), config, advice, trials: None, shared_state: None }
    }

    /// Asks every target for a word or two, all at once: does its key work, is its model there? One that has not answered
    /// within `patience` has failed, and so has a `[shared_state]` that does not within a second. It costs what a word costs. Nobody is asked where the file is wrong.
    #[must_use]
    pub async fn online(mut self, patience: Duration) -> Self {
        if let Ok(config) = &self.config {
            self.trials = Some(online::try_all(config, patience).await);
            if let Some(redis) = config.shared_state.as_ref().and_then(SharedStateSettings::redis) {
                let began = Instant::now();
                self.shared_state = Some(redis.ping().await.map(|()| began.elapsed()));
            }
        }
        self
    }

    /// Whether the file can be used and, where they were asked, all targets answered. Advice does not count.
    #[must_use]
    pub fn passed(&self) -> bool {
        let is_shared = self.shared_state.as_ref().is_none_or(Result::is_ok);
        self.config.is_ok() && is_shared && self.trials.iter().flatten().all(Trial::passed)
    }

    /// The configuration, or everything that is wrong with it.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub fn config(&self) -> Result<&Config, &ConfigErrors> {
        self.config.as_ref()
    }

    /// What works and is unwise.
    #[must_use]
    pub fn advice(&self) -> &[Advice] {
        &self.advice
    }

    /// How the targets did, where they were asked.
    #[must_use]
    pub fn trials(&self) -> &[Trial] {
        self.trials.as_deref().unwrap_or_default()
    }
}
