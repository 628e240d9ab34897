//! Another configuration in the place of the one that is served, without a pause.

use std::{
    path::Path,
    sync::{Arc, PoisonError},
    time::Duration,
};

use super::{Gateway, Live, hangup::Hangup};
use crate::config::{self, Config, ConfigErrors};

/// How often the file is looked at.
const CHECK: Duration = Duration::from_secs(1);
/// A file that has changed must be the same for so long before it is read: whoever writes it may be in the middle.
const SETTLED: Duration = Duration::from_millis(100);

impl Gateway {
    /// Puts another configuration in the place of this one. Requests that come from now on are served by it; those that are
    /// being answered keep their routes to the end, streams too. Circuits, limits and what was learnt of latencies stay, by
    /// the names of targets and providers.
    ///
    /// Where and how the gateway listens cannot change while it runs: a warning says so.
    ///
    /// # Errors
    ///
    /// When it has no key for clients, and the gateway is [served](Self::serve) with keys where others than this machine can
    /// reach it: then the old configuration serves on.
    pub fn replace(&self, config: &Config) -> Result<(), ConfigErrors> {
        // What it guards is elsewhere, so that a panic while it was held says nothing of it.
        let _only_one = self.inner.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        self.noted(self.replace_locked(config.clone()))
    }

    /// Reads the configuration's file again, and puts it in the place of what is served. A gateway that came from no file
    /// stays as it is.
    ///
    /// It may block, for as long as the commands take that tell keys.
    ///
    /// # Errors
    ///
    /// When anything is wrong with the file: then the old configuration serves on.
    pub fn reload(&self) -> Result<(), ConfigErrors> {
        let _only_one = self.inner.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        match self.live().config.reload() {
            Some(config) => self.noted(config.and_then(|config| self.replace_locked(config))),
            None => Ok(()),
        }
    }

    /// Takes note of what became of a change.
    fn noted(&self, change: Result<(), ConfigErrors>) -> Result<(), ConfigErrors> {
        self.inner.status.changes.note(&change);
        self.inner.status.forget();
        change
    }

    fn replace_locked(&self, config: Config) -> Result<(), ConfigErrors> {
        let old = self.live();
        self.stays_closed(&old.config, &config)?;
        for key in fixed(&old.config, &config) {
            tracing::warn!("{key} has changed in the configuration, and takes effect only after a restart");
        }
        config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let _nobody_acts = self.inner.handing_on.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = config.shared_after(&old.shared);
        let live = Live::new(config, shared, &self.inner.client, &self.inner.telemetry, Some(&old.access));
        live.keep_keys_fresh();
        self.inner.telemetry.serve_only(live.config.routes.iter().map(|route| &route.route));
        if !self.is_stopping() {
            self.inner.health.begin(&live, &self.inner.client);
        }
        self.inner.live.store(Arc::new(live));
        Ok(())
    }

    /// Whether nobody is let in who was not: the address at which the gateway is served stays what it is, whatever the new
    /// configuration says of it.
    fn stays_closed(&self, old: &Config, new: &Config) -> Result<(), ConfigErrors> {
        let Some(address) = self.inner.exposed.get().copied() else { return Ok(()) };
        match (old.may_listen(address), new.may_listen(address)) {
            (Ok(()), Err(why)) => {
                let file = new.file().unwrap_or(Path::new("the configuration"));
                let message = format!("takes away all keys while the gateway listens on {address}, which {why}");
                Err(ConfigErrors::unusable(file, None, message))
            }
            _ => Ok(()),
        }
    }

    /// Reloads whenever the configuration's file changes, and at every SIGHUP, for as long as it is polled: spawn it. What is
    /// wrong with a new file is logged, and the old one serves on. For a gateway that came from no file it ends at once.
    pub fn watch(&self) -> impl Future<Output = ()> + Send + use<> {
        let gateway = self.clone();
        let live = gateway.live();
        let file = live.config.file().map(Into::into).zip(live.config.digest());
        // At once where that is possible: a SIGHUP that nobody waits for ends the process.
        let hangup = file.as_ref().and_then(|_| tokio::runtime::Handle::try_current().ok()).map(|_| Hangup::new());
        async move {
            if let Some((path, digest)) = file {
                gateway.watch_file(path, digest, hangup.unwrap_or_else(Hangup::new)).await;
            }
        }
    }

    async fn watch_file(&self, path: Box<Path>, mut seen: u64, mut hangup: Hangup) {
        // Compared by what is in it: a file that is swapped, as Kubernetes does it, may keep its time and its size.
        let read = || async { tokio::fs::read(&path).await.ok().map(|text| config::digest(&text)) };
        loop {
            let told = tokio::select! {
                () = hangup.next() => true,
                () = tokio::time::sleep(CHECK) => false,
            };
            let mut found = read().await;
            if !told {
                if found.is_none_or(|found| found == seen) {
                    continue;
                }
                tokio::time::sleep(SETTLED).await;
                let settled = read().await;
                if settled != found {
                    continue;
                }
                found = settled;
            }
            // One that is refused is not read again until it changes.
            seen = found.unwrap_or(seen);
            let gateway = self.clone();
            match tokio::task::spawn_blocking(move || {
                let reloaded = gateway.reload();
                reloaded.map(|()| gateway.live().config.digest())
            })
            .await
            {
                Ok(Ok(digest)) => {
                    tracing::info!(file = %path.display(), "the configuration has been reloaded");
                    seen = digest.unwrap_or(seen);
                }
                Ok(Err(errors)) => {
                    for error in &errors {
                        tracing::error!("{error}");
                    }
                    let count = errors.iter().count();
                    tracing::error!(count, "the new configuration is refused, and the old one serves on");
                }
                Err(error) => tracing::error!(%error, "the configuration could not be reloaded"),
            }
        }
    }
}

/// What differs of what cannot change while the gateway runs.
fn fixed(old: &Config, new: &Config) -> Vec<&'static str> {
    let (before, after) = (&old.limits, &new.limits);
    let differs = [
        ("listen", old.listen != new.listen),
        ("tls", old.tls != new.tls),
        ("log", old.log != new.log),
        ("limits.max_headers", before.max_headers != after.max_headers),
        ("limits.max_connections", before.max_connections != after.max_connections),
        ("limits.header_timeout", before.header_timeout != after.header_timeout),
        ("limits.write_timeout", before.write_timeout != after.write_timeout),
    ];
    differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
}
