use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use moka::{Expiry, sync};
use sha2::{Digest, Sha256};

use super::{entry::Entry, key::Key};
use crate::shared_state::Fleet;

/// What the other replicas of a fleet have kept, some time later.
pub(super) type Asking = Pin<Box<dyn Future<Output = Option<Arc<Entry>>> + Send>>;

/// What answers are kept in, in memory, up to a bound. Clones share it.
///
/// When it is full, what is asked for least goes ([moka](https://docs.rs/moka)'s TinyLFU); that may be the newcomer.
#[derive(Clone)]
pub struct CacheStore {
    entries: sync::Cache<Key, Arc<Entry>>,
    max_size: Arc<u64>,
    fleet: Option<Fleet>,
}

impl CacheStore {
    /// For so many bytes.
    #[must_use]
    pub fn new(max_size: u64) -> Self {
        let entries = sync::Cache::builder()
            .max_capacity(max_size)
            .weigher(|_, entry: &Arc<Entry>| u32::try_from(entry.weight()).unwrap_or(u32::MAX))
            .expire_after(Lifetime)
            .build();
        CacheStore { entries, max_size: Arc::new(max_size), fleet: None }
    }

    /// The same store, whose answers the replicas of a fleet share: what is not here is looked for there, for as long as the
    /// [fleet's timeout](Fleet::with_timeout) says at most, and what is kept here is kept there as well, which nobody waits for.
    #[must_use]
    pub fn with_fleet(&self, fleet: &Fleet) -> Self {
        CacheStore { fleet: Some(fleet.clone()), ..self.clone() }
    }

    /// The same store, whose answers nobody shares.
    #[cfg(feature = "config")]
    pub(crate) fn alone(&self) -> Self {
        CacheStore { fleet: None, ..self.clone() }
    }

    /// How many bytes it takes.
    #[must_use]
    pub fn max_size(&self) -> u64 {
        *self.max_size
    }

    /// Whether both are the same one.
    #[cfg(all(test, feature = "config"))]
    pub(crate) fn is(&self, other: &CacheStore) -> bool {
        Arc::ptr_eq(&self.max_size, &other.max_size)
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.entries.invalidate_all();
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.entries.get(key)
    }

    pub(super) fn insert(&self, key: Key, entry: Entry) {
        if let Some(fleet) = &self.fleet {
            fleet.put(&shared_key(&key), entry.encode(&key), entry.ttl.saturating_add(entry.stale));
        }
        self.entries.insert(key, Arc::new(entry));
    }

    pub(super) fn is_shared(&self) -> bool {
        self.fleet.is_some()
    }

    /// Looks for it where replicas share what they keep, if they do; an answer that is younger than what is here is then here, too.
    pub(super) fn ask(&self, key: Key) -> Option<Asking> {
        let fleet = self.fleet.clone()?;
        let entries = self.entries.clone();
        Some(Box::pin(async move {
            let shared = fleet.get(&shared_key(&key)).await?;
            let entry = Arc::new(Entry::decode(&key, &shared)?);
            if entries.get(&key).is_some_and(|own| own.stored >= entry.stored) {
                return None;
            }
            entries.insert(key, entry.clone());
            Some(entry)
        }))
    }
}

/// Not the key itself, which a kept answer's check is made of: whoever sees where an answer is kept cannot forge another.
fn shared_key(key: &Key) -> String {
    let digest = Sha256::new().chain_update(b"tower-failover cache name\0").chain_update(key.as_bytes()).finalize();
    let mut name = "cache/".to_owned();
    digest.iter().for_each(|byte| name.push_str(&format!("{byte:02x}")));
    name
}

impl fmt::Debug for CacheStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheStore")
            .field("entries", &self.entries.entry_count())
            .field("max_size", &self.max_size)
            .finish_non_exhaustive()
    }
}

/// Frees the memory of what nobody can be given any more. Whether an entry may be given is not left to it: that goes by
/// tokio's clock, which tests can stop.
struct Lifetime;

#[allow(clippy::disallowed_types)] // moka's own clock
impl Expiry<Key, Arc<Entry>> for Lifetime {
    fn expire_after_create(&self, _: &Key, entry: &Arc<Entry>, _: std::time::Instant) -> Option<Duration> {
        Some(entry.ttl.saturating_add(entry.stale))
    }

    fn expire_after_update(
        &self,
        _: &Key,
        entry: &Arc<Entry>,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.ttl.saturating_add(entry.stale))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::KeyBuilder;

    #[test]
    fn where_an_answer_is_shared_does_not_tell_its_key() {
        let key = |value: &[u8]| KeyBuilder::new().with("k", value).finish();
        let name = shared_key(&key(b"v"));
        assert_eq!((name.len(), &name), (6 + 64, &shared_key(&key(b"v"))));
        assert_ne!(name, shared_key(&key(b"w")));
        let digest: String = key(b"v").as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!name.contains(&digest[..8]), "{name}");
    }
}
