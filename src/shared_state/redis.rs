//! A shared state in Redis or Valkey.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult, Script, aio::MultiplexedConnection};
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{sleep, timeout},
};

use super::{Answer, CircuitWord, Opening, Portion, SharedState, SharedValue, Taken, Unavailable};

/// How long a connection may take to come about, and a value to be written.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long after a connection failed to come about the next one is tried.
const PAUSE: Duration = Duration::from_millis(100);
/// How many bytes may wait to be written; what comes then is dropped.
const MOST_WAITING: usize = 16 << 20;
/// No circuit is open for longer: who says so wrote something else.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A [`SharedState`] in Redis (6 or newer) or Valkey: a single server, or what looks like one.
///
/// It connects when it is asked for the first time, and anew in the background when a connection is lost: it needs a tokio
/// runtime. Small questions and kept answers go through a connection each. Time is the server's. Cheap to clone.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    prefix: Box<str>,
    /// For what somebody waits for.
    quick: Line,
    /// For values, which may be long.
    bulk: Line,
    waiting: AtomicUsize,
    failed_puts: AtomicU64,
    take: Script,
    tell: Script,
}

/// That a URL is none of a Redis server. It does not say which, for there may be a password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidRedisUrl;

impl fmt::Display for InvalidRedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is no URL of a Redis server, such as redis://127.0.0.1:6379/0 or rediss://user:password@host:6380")
    }
}

impl std::error::Error for InvalidRedisUrl {}

impl Redis {
    /// The server at `redis://…`, or over TLS `rediss://…` where the gateway's features are there. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// When the URL cannot be read.
    pub fn new(url: &str) -> Result<Self, InvalidRedisUrl> {
        let client = Client::open(url).map_err(|_| InvalidRedisUrl)?;
        let (take, tell) = (Script::new(include_str!("take.lua")), Script::new(include_str!("tell.lua")));
        let (quick, bulk, waiting, failed_puts) = Default::default();
        let inner = Inner { client, prefix: "failover".into(), quick, bulk, waiting, failed_puts, take, tell };
        Ok(Redis { inner: Arc::new(inner) })
    }

    /// What all keys begin with, before a colon: fleets with different ones share nothing. `failover` by default.
    #[must_use]
    pub fn with_prefix(self, prefix: impl Into<Box<str>>) -> Self {
        let Inner { client, take, tell, .. } = &*self.inner;
        let (client, take, tell) = (client.clone(), take.clone(), tell.clone());
        let (quick, bulk, waiting, failed_puts) = Default::default();
        Redis {
            inner: Arc::new(Inner { client, prefix: prefix.into(), quick, bulk, waiting, failed_puts, take, tell }),
        }
    }

    /// Asks the server whether it is there, and lets us in.
    ///
    /// # Errors
    ///
    /// When it does not answer within a second, or does not let us in.
    pub async fn ping(&self) -> Result<(), Unavailable> {
        let inner = self.inner.clone();
        let ask =
            inner.ask(|inner| &inner.quick, async |_, connection| redis::cmd("PING").query_async(connection).await);
        timeout(PATIENCE, ask).await.unwrap_or_else(|_| Err(Unavailable::new("it does not answer")))
    }
}

/// A connection, which is made when it is needed.
#[derive(Default)]
struct Line(watch::Sender<Stage>);

#[derive(Clone, Default)]
enum Stage {
    #[default]
    Down,
    Connecting,
    Failed(Unavailable),
    Up(MultiplexedConnection),
}

type Which = fn(&Inner) -> &Line;

impl Inner {
    fn key(&self, key: &str) -> String {
        format!("{}:{key}", self.prefix)
    }

    /// Asks over a connection, which is given up when it fails.
    async fn ask<T>(
        self: Arc<Self>,
        which: Which,
        question: impl AsyncFnOnce(&Inner, &mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, Unavailable> {
        let mut connection = self.connected(which).await?;
        match question(&self, &mut connection).await {
            Ok(answer) => Ok(answer),
            Err(error) => {
                if error.is_unrecoverable_error() || error.is_io_error() {
                    which(&self).0.send_replace(Stage::Down);
                }
                Err(unavailable(&error))
            }
        }
    }

    /// The connection, once it is there.
    async fn connected(self: &Arc<Self>, which: Which) -> Result<MultiplexedConnection, Unavailable> {
        let line = which(self);
        if let Stage::Up(connection) = &*line.0.borrow() {
            return Ok(connection.clone());
        }
        let runtime = Handle::try_current().map_err(|_| Unavailable::new("there is no runtime"))?;
        let mut stages = line.0.subscribe();
        let is_first = line.0.send_if_modified(|stage| {
            let is_down = matches!(stage, Stage::Down);
            if is_down {
                *stage = Stage::Connecting;
            }
            is_down
        });
        if is_first {
            // On its own: whoever asks may not wait for so long.
            runtime.spawn(self.clone().connect(which));
        }
        let is_settled = |stage: &Stage| matches!(stage, Stage::Up(_) | Stage::Failed(_));
        match stages.wait_for(is_settled).await.as_deref() {
            Ok(Stage::Up(connection)) => Ok(connection.clone()),
            Ok(Stage::Failed(why)) => Err(why.clone()),
            _ => Err(Unavailable::new("it is not connected")),
        }
    }

    async fn connect(self: Arc<Self>, which: Which) {
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        let why = match timeout(PATIENCE, connecting).await {
            Ok(Ok(connection)) => {
                which(&self).0.send_replace(Stage::Up(connection));
                return;
            }
            Ok(Err(error)) => unavailable(&error),
            Err(_) => Unavailable::new("it does not answer"),
        };
        which(&self).0.send_replace(Stage::Failed(why));
        sleep(PAUSE).await;
        which(&self).0.send_if_modified(|stage| {
            let has_failed = matches!(stage, Stage::Failed(_));
            if has_failed {
                *stage = Stage::Down;
            }
            has_failed
        });
    }
}

/// Without the details of an error, which may quote what was sent.
fn unavailable(error: &RedisError) -> Unavailable {
    match error.code() {
        Some(code) => Unavailable::new(format!("{} ({code})", error.category())),
        None => Unavailable::new(error.category()),
    }
}

/// Whether a key holds something else than what we write.
fn is_of_another_type(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}

impl SharedState for Redis {
    fn get(&self, key: &str) -> Answer<Option<SharedValue>> {
        let (inner, key) = (self.inner.clone(), self.inner.key(key));
        Box::pin(inner.ask(
            |inner| &inner.bulk,
            async move |_, connection| {
                let mut pipe = redis::pipe();
                pipe.cmd("GET").arg(&key).cmd("PTTL").arg(&key);
                match pipe.query_async::<(Option<Vec<u8>>, i64)>(connection).await {
                    Ok((value, remaining)) => {
                        let remaining = u64::try_from(remaining).ok().map(Duration::from_millis);
                        Ok(value
                            .zip(remaining)
                            .map(|(value, remaining)| SharedValue { value: value.into(), remaining }))
                    }
                    Err(error) if is_of_another_type(&error) => Ok(None),
                    Err(error) => Err(error),
                }
            },
        ))
    }

    fn put(&self, key: &str, value: Bytes, time_to_live: Duration) {
        let Ok(runtime) = Handle::try_current() else { return };
        let (inner, key) = (self.inner.clone(), self.inner.key(key));
        let length = value.len();
        if inner.waiting.fetch_add(length, Ordering::Relaxed) + length > MOST_WAITING {
            inner.waiting.fetch_sub(length, Ordering::Relaxed);
            inner.failed_puts.fetch_add(1, Ordering::Relaxed);
            tracing::debug!("too much waits for the shared state already: an answer is not shared");
            return;
        }
        let milliseconds = u64::try_from(time_to_live.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 48);
        runtime.spawn(async move {
            let write = inner.clone().ask(
                |inner| &inner.bulk,
                async move |_, connection| {
                    let mut set = redis::cmd("SET");
                    set.arg(&key).arg(&*value).arg("PX").arg(milliseconds);
                    set.query_async::<()>(connection).await
                },
            );
            if !matches!(timeout(PATIENCE, write).await, Ok(Ok(()))) {
                inner.failed_puts.fetch_add(1, Ordering::Relaxed);
            }
            inner.waiting.fetch_sub(length, Ordering::Relaxed);
        });
    }

    fn failed_puts(&self) -> u64 {
        self.inner.failed_puts.load(Ordering::Relaxed)
    }

    fn take(&self, portions: &[Portion]) -> Answer<Taken> {
        let (inner, portions) = (self.inner.clone(), portions.to_vec());
        Box::pin(inner.ask(
            |inner| &inner.quick,
            async move |inner, connection| {
                let mut script = inner.take.prepare_invoke();
                for portion in &portions {
                    let period = u64::try_from(portion.period.as_micros()).unwrap_or(u64::MAX);
                    let most = portion.most.max(1);
                    script.key(inner.key(&portion.key)).arg(portion.amount.min(most)).arg(most).arg(period);
                }
                let wait = script.invoke_async::<u64>(connection).await?;
                Ok(match wait {
                    0 => Taken::All,
                    wait => Taken::Nothing { retry_after: Duration::from_micros(wait) },
                })
            },
        ))
    }

    fn tell(&self, word: CircuitWord) -> Answer<()> {
        Box::pin(self.inner.clone().ask(
            |inner| &inner.quick,
            async move |inner, connection| {
                let kind = if word.opening.is_some() { "o" } else { "c" };
                let opening =
                    word.opening.unwrap_or(Opening { remaining: Duration::ZERO, transient: true, openings: 0 });
                let time = u64::try_from(opening.remaining.min(LONGEST).as_micros()).unwrap_or(u64::MAX);
                let rest = format!("{} {} {}", word.replica, u8::from(opening.transient), opening.openings);
                let mut script = inner.tell.key(inner.key("circuits"));
                script.arg(&*word.circuit).arg(kind).arg(time).arg(rest);
                script.invoke_async::<()>(connection).await
            },
        ))
    }

    fn learn(&self) -> Answer<Vec<CircuitWord>> {
        Box::pin(self.inner.clone().ask(
            |inner| &inner.quick,
            async |inner, connection| {
                let mut pipe = redis::pipe();
                pipe.cmd("TIME").cmd("HGETALL").arg(inner.key("circuits"));
                match pipe.query_async::<((u64, u64), Vec<(Vec<u8>, Vec<u8>)>)>(connection).await {
                    Ok(((seconds, micros), words)) => {
                        let now = seconds.saturating_mul(1_000_000).saturating_add(micros);
                        Ok(words.iter().filter_map(|(circuit, word)| parse(circuit, word, now)).collect())
                    }
                    Err(error) if is_of_another_type(&error) => Ok(Vec::new()),
                    Err(error) => Err(error),
                }
            },
        ))
    }

    fn reconnect(&self) {
        for line in [&self.inner.quick, &self.inner.bulk] {
            line.0.send_if_modified(|stage| {
                let is_up = matches!(stage, Stage::Up(_));
                if is_up {
                    *stage = Stage::Down;
                }
                is_up
            });
        }
    }
}

/// A word as `tell.lua` writes it; `None` for what is over, and for anything else that somebody may have written there.
fn parse(circuit: &[u8], word: &[u8], now: u64) -> Option<CircuitWord> {
    let circuit = std::str::from_utf8(circuit).ok()?;
    let mut fields = std::str::from_utf8(word).ok()?.split(' ');
    let version = fields.next()?;
    let mut number = || fields.next()?.parse::<u64>().ok();
    let (end, stamp) = (number()?, number()?);
    let kind = fields.next()?;
    let mut number = || fields.next()?.parse::<u64>().ok();
    let (replica, transient, openings) = (number()?, number()?, number()?);
    let remaining = Duration::from_micros(end.checked_sub(now).filter(|remaining| *remaining > 0)?);
    let openings = u32::try_from(openings).ok()?.min(64);
    let opening = match kind {
        "o" => Some(Opening { remaining, transient: transient == 1, openings }),
        "c" => None,
        _ => return None,
    };
    let is_ours = version == "1" && fields.next().is_none() && remaining <= LONGEST;
    is_ours.then(|| CircuitWord { circuit: circuit.into(), replica, stamp, opening })
}

/// Without the URL, in which there may be a password.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("prefix", &self.inner.prefix).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_word_is_none() {
        let parse = |word: &str| parse(b"target/a", word.as_bytes(), 1_000_000);
        let word = parse("1 3000000 77 o 5 1 2").unwrap();
        let opening = Opening { remaining: Duration::from_secs(2), transient: true, openings: 2 };
        assert_eq!((word.stamp, word.replica, word.opening), (77, 5, Some(opening)));
        assert_eq!(parse("1 3000000 78 c 5 1 0").unwrap().opening, None);
        for none in [
            "",
            "1",
            "garbage",
            "1 1000000 77 o 5 1 2",
            "2 3000000 77 o 5 1 2",
            "1 3000000 77 x 5 1 2",
            "1 3000000 77 o 5 1 2 9",
            "1 99999999999999999 77 o 5 1 2",
            "1 99999999999999999999999 77 o 5 1 2",
            "1 -3 77 o 5 1 2",
        ] {
            assert_eq!(parse(none), None, "{none}");
        }
    }

    #[test]
    fn a_url_is_told_to_nobody() {
        let redis = Redis::new("redis://user:hunter2@127.0.0.1:6379/3").unwrap().with_prefix("p");
        let invalid = Redis::new("http://user:hunter2@h").unwrap_err();
        assert!(!format!("{redis:?} {invalid:?} {invalid}").contains("hunter2"));
    }
}
