//! The atomics and locks of what threads share, which model checking replaces with its own.
//!
//! `RUSTFLAGS="--cfg failover_loom" cargo test --profile loom --lib loom` runs the tests named `loom` in every order in which
//! threads can meet, and with every value that the memory model lets an atomic show. Whoever uses the library never gets
//! [`loom`](https://docs.rs/loom): it takes part in our own tests only. Their `cfg` has a name of its own, for under `loom`
//! tokio has no sockets, and what our tests are linked with does not compile.
//!
//! Not seen by it: `arc-swap`, inside [`Keyed`](crate::keyed::Keyed), and `std`'s `OnceLock`, of which
//! [`OnceLock`](self::OnceLock) here is then a model.

#[cfg(not(all(test, failover_loom)))]
pub(crate) use std::sync::{
    Mutex, MutexGuard, OnceLock,
    atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
};

#[cfg(all(test, failover_loom))]
pub(crate) use self::modelled::OnceLock;
#[cfg(all(test, failover_loom))]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
};

#[cfg(all(test, failover_loom))]
mod modelled {
    use super::{AtomicU8, Ordering};

    const EMPTY: u8 = 0;
    const TAKEN: u8 = 1;
    const FULL: u8 = 2;

    /// As much of `std`'s `OnceLock` as is used of it: one of those who set it wins, the others wait until its value
    /// stands there, and until then whoever looks sees none.
    #[derive(Debug)]
    pub(crate) struct OnceLock<T> {
        state: AtomicU8,
        // Loom's threads take turns on a single one: no two are ever in here together.
        value: std::sync::OnceLock<T>,
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            OnceLock { state: AtomicU8::new(EMPTY), value: std::sync::OnceLock::new() }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            if self.state.load(Ordering::Acquire) == FULL { self.value.get() } else { None }
        }

        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            match self.state.compare_exchange(EMPTY, TAKEN, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => {
                    let set = self.value.set(value);
                    self.state.store(FULL, Ordering::Release);
                    set
                }
                Err(_) => {
                    while self.state.load(Ordering::Acquire) != FULL {
                        loom::thread::yield_now();
                    }
                    Err(value)
                }
            }
        }
    }

    impl<T> Default for OnceLock<T> {
        fn default() -> Self {
            Self::new()
        }
    }
}
