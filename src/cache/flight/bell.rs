use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Wake, Waker},
};

/// Wakes everybody who waits for the same.
#[derive(Debug, Default)]
pub(super) struct Bell(Mutex<HashMap<u64, Waker>>);

impl Bell {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes that one too, the next time.
    pub(super) fn register(&self, number: u64, waker: &Waker) {
        let replaced = self.waiting().insert(number, waker.clone());
        // Outside of the lock: a waker may do anything.
        drop(replaced);
    }

    pub(super) fn forget(&self, number: u64) {
        let forgotten = self.waiting().remove(&number);
        drop(forgotten);
    }

    pub(super) fn ring(&self) {
        let waiting = std::mem::take(&mut *self.waiting());
        waiting.into_values().for_each(Waker::wake);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
