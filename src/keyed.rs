//! State that layers keep by target or provider, found without a lock.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
    sync::Arc,
};

use arc_swap::ArcSwap;

/// A map that is read with every call and grows when a new key is called for the first time: readers never wait, and a new
/// key copies the map.
pub(crate) struct Keyed<K, V>(ArcSwap<Map<K, V>>);

type Map<K, V> = HashMap<K, V, BuildHasherDefault<NameHasher>>;

/// FNV-1a. The keys are names out of the configuration, never a client's, so nobody can make them collide; of texts as
/// short as they are the standard library's hash costs several times as much.
pub(crate) struct NameHasher(u64);

impl Default for NameHasher {
    fn default() -> Self {
        NameHasher(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Keyed<K, V> {
    /// Hands the value of the key to `read`, made by `make` if there is none.
    pub(crate) fn with<Q, T>(&self, key: &Q, make: impl FnOnce() -> V, read: impl FnOnce(&V) -> T) -> T
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        if let Some(value) = self.0.load().get(key) {
            return read(value);
        }
        read(&self.add(key.to_owned(), make()))
    }

    /// Everything that is kept now.
    pub(crate) fn all(&self) -> Arc<Map<K, V>> {
        self.0.load_full()
    }

    #[cold]
    fn add(&self, key: K, value: V) -> V {
        self.0.rcu(|map| {
            let mut map = Map::clone(map);
            map.entry(key.clone()).or_insert_with(|| value.clone());
            map
        });
        // Another thread may have been first: its value is the one that stands there.
        self.0.load().get(&key).cloned().unwrap_or(value)
    }
}

impl<K, V> std::fmt::Debug for Keyed<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyed({})", self.0.load().len())
    }
}

impl<K, V> Default for Keyed<K, V> {
    fn default() -> Self {
        Keyed(ArcSwap::from_pointee(Map::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_race_for_a_key_get_the_same_value() {
        let map = Keyed::<String, Arc<usize>>::default();
        let found: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|thread| {
                    scope.spawn({
                        let map = &map;
                        move || map.with("a", || Arc::new(thread), Arc::clone)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(found.iter().all(|value| Arc::ptr_eq(value, &map.all()["a"])));
        assert_eq!(map.all().len(), 1);
    }

    /// Not seen by a model checker, for it cannot look into `ArcSwap`: by threads, then, that race for the same keys in
    /// different orders.
    #[test]
    fn no_key_is_lost_to_another_that_is_added_meanwhile() {
        const KEYS: usize = 20;
        for _ in 0..50 {
            let (map, barrier) = (Keyed::<usize, Arc<usize>>::default(), std::sync::Barrier::new(4));
            let find = &|thread: usize| {
                barrier.wait();
                let keys = (0..KEYS).map(|step| if thread % 2 == 0 { step } else { KEYS - 1 - step });
                keys.map(|key| (key, map.with(&key, || Arc::new(thread), Arc::clone))).collect::<Vec<_>>()
            };
            let found: Vec<_> = std::thread::scope(|scope| {
                let threads = [0, 1, 2, 3].map(|thread| scope.spawn(move || find(thread)));
                threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!((found.len(), map.all().len()), (4 * KEYS, KEYS));
            assert!(found.iter().all(|(key, value)| Arc::ptr_eq(value, &map.all()[key])));
        }
    }
}
