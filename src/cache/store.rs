use std::{fmt, sync::Arc, time::Duration};

use moka::{Expiry, sync};

use super::{entry::Entry, key::Key};

/// What answers are kept in, in memory, up to a bound. Clones share it.
///
/// When it is full, what is asked for least goes ([moka](https://docs.rs/moka)'s TinyLFU); that may be the newcomer.
#[derive(Clone)]
pub struct CacheStore {
    entries: sync::Cache<Key, Arc<Entry>>,
    max_size: Arc<u64>,
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
        CacheStore { entries, max_size: Arc::new(max_size) }
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
        self.entries.insert(key, Arc::new(entry));
    }
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
