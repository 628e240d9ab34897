//! Keys that change while the program runs.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use secrecy::SecretString;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Credentials, Ring};
use crate::BoxError;

/// How long a source may take to tell its key.
const PATIENCE: Duration = Duration::from_secs(30);
/// The shortest pause between two questions, whatever a source says.
const SHORTEST: Duration = Duration::from_millis(100);

/// What a [`CredentialSource`] is about to tell.
pub type FetchedKey<'a> = Pin<Box<dyn Future<Output = Result<SecretString, BoxError>> + Send + 'a>>;

/// Where a key comes from that may change while the program runs: a vault, a file, a metadata server.
///
/// It is asked once when the [credentials](Credentials::from_sources) are made, and then as often as it says, by the task
/// that runs [`Credentials::keep_fresh`]; never by a request. When it cannot tell, the key that it told last is used on.
///
/// ```
/// use std::time::Duration;
/// use tower_failover::{CredentialSource, Credentials, FetchedKey, KeyHeader};
///
/// struct Vault;
///
/// impl CredentialSource for Vault {
///     fn fetch(&self) -> FetchedKey<'_> {
///         Box::pin(async { Ok("sk-from-the-vault".into()) })
///     }
///
///     fn refresh(&self) -> Duration {
///         Duration::from_secs(5 * 60)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_failover::BoxError> {
/// let credentials = Credentials::from_sources(KeyHeader::Bearer, [Box::new(Vault) as Box<dyn CredentialSource>]).await?;
/// tokio::spawn(credentials.keep_fresh());
/// # Ok(()) }
/// ```
pub trait CredentialSource: Send + Sync + 'static {
    /// Asks for the key as it is now. An error must not tell the key: it is logged.
    fn fetch(&self) -> FetchedKey<'_>;

    /// How long after one question the next is asked.
    fn refresh(&self) -> Duration;

    /// What a log may call it.
    fn describe(&self) -> String {
        "a key's source".to_owned()
    }
}

/// Asks a source, for no longer than is good.
pub(super) async fn ask(source: &dyn CredentialSource) -> Result<SecretString, BoxError> {
    match timeout(PATIENCE, source.fetch()).await {
        Ok(told) => told,
        Err(_) => Err(format!("{} did not answer within {PATIENCE:?}", source.describe()).into()),
    }
}

impl Credentials {
    /// Asks the sources of these credentials for their keys from now on, each as often as it says. Nobody need wait for it:
    /// spawn it. It ends when the credentials are dropped everywhere else; a second one, and one of credentials whose keys
    /// never change, ends at once.
    pub fn keep_fresh(&self) -> impl Future<Output = ()> + Send + use<> {
        let ring = self.ring().filter(|ring| ring.slots.iter().any(|slot| slot.source.is_some()));
        let ring = ring.filter(|ring| !ring.kept_fresh.swap(true, Ordering::Relaxed)).map(Arc::downgrade);
        async move {
            if let Some(ring) = ring {
                keep_fresh(&ring).await;
            }
        }
    }
}

/// When each slot's source is asked next, and whether the last answer was none.
struct Due {
    at: Instant,
    told: Option<String>,
}

async fn keep_fresh(ring: &Weak<Ring>) {
    let Some(slots) = ring.upgrade().map(|ring| ring.slots.iter().map(due).collect()) else { return };
    let mut slots: Vec<Option<Due>> = slots;
    loop {
        let soonest = slots.iter().enumerate().filter_map(|(index, due)| Some((due.as_ref()?.at, index))).min();
        let Some((at, index)) = soonest else { return };
        sleep_until(at).await;
        let Some(ring) = ring.upgrade() else { return };
        let Some(source) = ring.slots[index].source.clone() else { return };
        // Not held while the source is asked: the credentials may be dropped meanwhile.
        let weak = Arc::downgrade(&ring);
        drop(ring);
        let told = ask(&*source).await;
        let Some(ring) = weak.upgrade() else { return };
        let problem = match told {
            Ok(key) => ring.replace(index, key).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let Some(due) = &mut slots[index] else { return };
        match problem {
            Ok(changed) => {
                if changed {
                    tracing::info!(source = source.describe(), "a key has changed");
                }
                due.told = None;
            }
            Err(problem) => {
                // Once: a source that is asked every few seconds would otherwise fill the log.
                if due.told.as_ref() != Some(&problem) {
                    tracing::warn!(
                        source = source.describe(),
                        problem,
                        "a key cannot be renewed; the old one is used on"
                    );
                    due.told = Some(problem);
                }
            }
        }
        due.at = Instant::now() + source.refresh().max(SHORTEST);
    }
}

fn due(slot: &super::Slot) -> Option<Due> {
    let source = slot.source.as_ref()?;
    Some(Due { at: Instant::now() + source.refresh().max(SHORTEST), told: None })
}

impl fmt::Debug for dyn CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}
