//! A shared state in one process.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Answer, CircuitWord, Opening, Portion, SharedState, SharedValue, Taken};
use crate::Deadline;

/// How long it is known that a circuit was closed.
const CLOSED_FOR: Duration = Duration::from_secs(60);

/// A [`SharedState`] in this process, by tokio's clock: for tests, and for simulations of a fleet. Clones share it.
///
/// What has expired is only forgotten when it is asked for: nothing bounds it.
#[derive(Clone, Default)]
pub struct InMemory(Arc<Mutex<Tables>>);

#[derive(Default)]
struct Tables {
    values: HashMap<Box<str>, (Bytes, Instant)>,
    /// When each limit is whole again.
    whole: HashMap<Arc<str>, Instant>,
    words: HashMap<Arc<str>, (CircuitWord, Instant)>,
    stamp: u64,
}

impl InMemory {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Nothing that can panic is done under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SharedState for InMemory {
    fn get(&self, key: &str) -> Answer<Option<SharedValue>> {
        let (now, mut tables) = (Instant::now(), self.tables());
        if tables.values.get(key).is_some_and(|(_, end)| *end <= now) {
            tables.values.remove(key);
        }
        let found = tables.values.get(key);
        answer(found.map(|(value, end)| SharedValue { value: value.clone(), remaining: *end - now }))
    }

    fn put(&self, key: &str, value: Bytes, time_to_live: Duration) {
        self.tables().values.insert(key.into(), (value, Deadline::after(time_to_live).instant()));
    }

    fn take(&self, portions: &[Portion]) -> Answer<Taken> {
        let (now, mut tables) = (Instant::now(), self.tables());
        let next = |portion: &Portion| {
            let whole = tables.whole.get(&portion.key).map_or(now, |whole| (*whole).max(now));
            whole + portion.period.mul_f64(portion.amount as f64 / portion.most.max(1) as f64)
        };
        let next: Vec<_> = portions.iter().map(next).collect();
        let waits = portions.iter().zip(&next).map(|(portion, next)| (*next - now).saturating_sub(portion.period));
        match waits.max().filter(|wait| !wait.is_zero()) {
            Some(retry_after) => answer(Taken::Nothing { retry_after }),
            None => {
                let keys = portions.iter().map(|portion| portion.key.clone());
                tables.whole.extend(keys.zip(next));
                answer(Taken::All)
            }
        }
    }

    fn tell(&self, word: CircuitWord) -> Answer<()> {
        let (now, mut tables) = (Instant::now(), self.tables());
        let end = Deadline::after(word.opening.map_or(CLOSED_FOR, |opening| opening.remaining)).instant();
        let is_word = match tables.words.get(&word.circuit) {
            Some((known, known_end)) if known.opening.is_some() => word.opening.is_none() || *known_end < end,
            Some((_, known_end)) => word.opening.is_some() || *known_end <= now,
            None => true,
        };
        if is_word {
            tables.stamp += 1;
            let stamp = tables.stamp;
            tables.words.insert(word.circuit.clone(), (CircuitWord { stamp, ..word }, end));
        }
        answer(())
    }

    fn learn(&self) -> Answer<Vec<CircuitWord>> {
        let (now, tables) = (Instant::now(), self.tables());
        let words = tables.words.values().filter(|(_, end)| *end > now).map(|(word, end)| CircuitWord {
            opening: word.opening.map(|opening| Opening { remaining: *end - now, ..opening }),
            ..word.clone()
        });
        answer(words.collect())
    }
}

fn answer<T: Send + 'static>(value: T) -> Answer<T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl fmt::Debug for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = self.tables();
        let (values, limits) = (tables.values.len(), tables.whole.len());
        f.debug_struct("InMemory").field("values", &values).field("limits", &limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const SECOND: Duration = Duration::from_secs(1);

    fn portion(key: &str, amount: u64) -> Portion {
        Portion { key: key.into(), amount, most: 6, period: 60 * SECOND }
    }

    #[tokio::test(start_paused = true)]
    async fn all_portions_are_taken_or_none() {
        let state = InMemory::new();
        assert_eq!(state.take(&[portion("a", 6), portion("b", 3)]).await.unwrap(), Taken::All);
        let nothing = Taken::Nothing { retry_after: 10 * SECOND };
        assert_eq!(state.take(&[portion("b", 3), portion("a", 1)]).await.unwrap(), nothing);
        assert_eq!(state.take(&[portion("b", 3)]).await.unwrap(), Taken::All);
        advance(10 * SECOND).await;
        assert_eq!(state.take(&[portion("a", 1)]).await.unwrap(), Taken::All);
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_is_kept_for_its_time() {
        let state = InMemory::new();
        state.put("k", Bytes::from_static(b"v"), 5 * SECOND);
        advance(2 * SECOND).await;
        let value = SharedValue { value: Bytes::from_static(b"v"), remaining: 3 * SECOND };
        assert_eq!(state.get("k").await.unwrap(), Some(value));
        advance(3 * SECOND).await;
        assert_eq!(state.get("k").await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_word_on_a_circuit_stands() {
        let state = InMemory::new();
        let word = |seconds: Option<u32>| CircuitWord {
            circuit: "target/a".into(),
            replica: 1,
            stamp: 0,
            opening: seconds.map(|seconds| Opening { remaining: seconds * SECOND, transient: true, openings: 1 }),
        };
        let tell = |seconds| state.tell(word(seconds));
        let learn = async || {
            let words = state.learn().await.unwrap();
            words
                .into_iter()
                .map(|word| (word.stamp, word.opening.map(|it| it.remaining.as_secs())))
                .collect::<Vec<_>>()
        };
        tell(Some(5)).await.unwrap();
        tell(Some(3)).await.unwrap();
        assert_eq!(learn().await, [(1, Some(5))]);
        tell(Some(8)).await.unwrap();
        assert_eq!(learn().await, [(2, Some(8))]);
        tell(None).await.unwrap();
        tell(None).await.unwrap();
        assert_eq!(learn().await, [(3, None)]);
        tell(Some(1)).await.unwrap();
        advance(SECOND).await;
        assert_eq!(learn().await, []);
        tell(None).await.unwrap();
        assert_eq!(learn().await, [(5, None)], "others may wait for it still");
    }
}
