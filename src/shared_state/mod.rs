//! What the replicas of a fleet share: open circuits, limits and kept answers.
//!
//! Each process has its own circuits, limits and cache, and needs nobody else. Where several serve the same traffic, a
//! [`Fleet`] lets them share what they learn through one store, a [`SharedState`]: Redis or Valkey with the feature `redis`,
//! [`InMemory`] for tests and simulations, or one of your own.
//!
//! ```
//! use tower_failover::{FailoverStack, Route, Target, circuit_breaker::CircuitRegistry, shared_state::{Fleet, InMemory}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = InMemory::new();
//! // In each replica:
//! let fleet = Fleet::new(store.clone());
//! let circuits = CircuitRegistry::default();
//! tokio::spawn(circuits.share(&fleet));
//! let route = Route::new("chat", [Target::named("primary"), Target::named("fallback")])?;
//! let stack = FailoverStack::new(&route).with_circuits(circuits);
//! # let _ = stack;
//! # Ok(()) }
//! ```
//!
//! What is local stays authoritative. The store is asked with a bounded [wait](Fleet::with_timeout), and not at all for a
//! while when it does not answer; no call fails because of it, and what is heard from others opens or closes a circuit
//! early, but wipes no evidence of one's own.

mod fleet;
mod in_memory;
#[cfg(feature = "redis")]
mod redis;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;

#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use self::redis::{InvalidRedisUrl, Redis};
pub use self::{
    fleet::{Fleet, FleetHealth},
    in_memory::InMemory,
};

/// An answer of a [`SharedState`], some time later. Whoever asks may drop it before.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Unavailable>> + Send>>;

/// What replicas share, wherever it is kept.
///
/// It is asked through a [`Fleet`], which waits only so long and gives up on one that does not answer; so it need not bound
/// its answers itself. Keys are short texts that hold no secret and nothing that a client wrote.
pub trait SharedState: Send + Sync + 'static {
    /// The value of a key, if there is one.
    fn get(&self, key: &str) -> Answer<Option<SharedValue>>;

    /// Keeps a value for so long. It returns at once, and drops what it has no room for: whoever keeps something here can do
    /// without it.
    fn put(&self, key: &str, value: Bytes, time_to_live: Duration);

    /// How many values could not be kept until now; none, where nobody counts them.
    fn failed_puts(&self) -> u64 {
        0
    }

    /// Takes all of these portions, or none of them.
    fn take(&self, portions: &[Portion]) -> Answer<Taken>;

    /// Tells all replicas something of a circuit. The last word on a circuit stands, but that it is open for less long than was
    /// told before, or that it is closed where that was the last word, is none. Each word gets a stamp that no word on that
    /// circuit had before.
    fn tell(&self, word: CircuitWord) -> Answer<()>;

    /// The words that stand, with what is left of their time: that circuits are open, and for some seconds at least that they
    /// are closed.
    fn learn(&self) -> Answer<Vec<CircuitWord>>;

    /// Its answers failed or were late several times in a row: what holds a connection may want a new one.
    fn reconnect(&self) {}
}

/// A value, and how much longer it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedValue {
    /// The value.
    pub value: Bytes,
    /// How much longer it is kept.
    pub remaining: Duration,
}

/// A part of a limit: so much of what may be had in each period, which is given back evenly
/// ([GCRA](https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portion {
    /// The limit's name.
    pub key: Arc<str>,
    /// How much is taken: no more than `most`.
    pub amount: u64,
    /// How much there is in each period, all of which may be taken in one go.
    pub most: u64,
    /// The period.
    pub period: Duration,
}

/// What became of taking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All was there, and is taken.
    All,
    /// Something was not there, and nothing is taken.
    Nothing {
        /// When there will be enough, from now on, if nobody else takes it.
        retry_after: Duration,
    },
}

/// What a replica says of a circuit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitWord {
    /// Whose circuit it is: `target/` or `provider/`, and the name.
    pub circuit: Arc<str>,
    /// Who says it.
    pub replica: u64,
    /// Tells words on the same circuit apart. The store sets it.
    pub stamp: u64,
    /// How it is open; `None` where it is closed.
    pub opening: Option<Opening>,
}

/// How a circuit is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// For how much longer.
    pub remaining: Duration,
    /// Whether waiting mends it (a target that failed), or not (a rejected key, an unknown model).
    pub transient: bool,
    /// How often it opened without a good call in between.
    pub openings: u32,
}

/// That a shared state cannot answer. It goes into the log, and holds no secret.
#[derive(Clone, Debug)]
pub struct Unavailable(Arc<str>);

impl Unavailable {
    /// For that reason.
    pub fn new(reason: impl Into<Arc<str>>) -> Self {
        Unavailable(reason.into())
    }
}

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}
