//! A provider's keys: from the moment they are read until they are on the wire, never printable.

mod key;
mod source;

use std::{
    borrow::Cow,
    fmt,
    hash::BuildHasher,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue};
use secrecy::SecretString;

pub(crate) use self::key::ApiKey;
pub use self::source::{CredentialSource, FetchedKey};
use crate::{BoxError, Dialect, Fault, KeyHeader};

/// How many of its former keys a provider may still echo.
const RETIRED: usize = 4;

/// What proves to a provider who we are. Cheap to clone; neither `Debug` nor any error shows a key.
///
/// Several keys of one account are used in turn. One that the provider rejects or limits, or that has nothing left, rests
/// alone, and the attempt goes on at once with another that is fit: see [`ProviderLayer`](crate::ProviderLayer).
#[derive(Clone, Default)]
pub struct Credentials {
    inner: Option<Arc<Ring>>,
}

/// The keys of one account.
struct Ring {
    place: KeyHeader,
    slots: Box<[Slot]>,
    /// Whose turn it is.
    next: AtomicUsize,
    /// Tells these keys from others, and changes when one of them does.
    fingerprint: AtomicU64,
    kept_fresh: AtomicBool,
}

/// The place of one key.
struct Slot {
    keys: ArcSwap<Keys>,
    source: Option<Arc<dyn CredentialSource>>,
    /// Where the key was said to come from, so that a configuration that is read again can tell.
    origin: Box<str>,
}

/// A key, and those that stood in its place before: a provider may still speak of them.
struct Keys {
    current: Arc<ApiKey>,
    retired: Vec<Arc<ApiKey>>,
}

/// A key, and where new ones for its place come from.
pub(crate) struct NewKey {
    pub(crate) key: SecretString,
    pub(crate) source: Option<Arc<dyn CredentialSource>>,
    pub(crate) origin: Box<str>,
}

impl From<SecretString> for NewKey {
    fn from(key: SecretString) -> Self {
        NewKey { key, source: None, origin: Box::default() }
    }
}

/// The key that one try is to be made with, in its request's extensions.
#[derive(Clone)]
pub(crate) struct PickedKey(Arc<ApiKey>);

impl fmt::Debug for PickedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PickedKey(redacted)")
    }
}

impl PickedKey {
    pub(crate) fn header(&self) -> (HeaderName, HeaderValue) {
        self.0.header()
    }

    /// Lets the key rest, if the fault is the key's own.
    pub(crate) fn blame(&self, fault: &Fault) -> bool {
        self.0.blame(fault)
    }

    /// Ends its rest.
    pub(crate) fn praise(&self) {
        self.0.praise();
    }

    pub(crate) fn rest(&self) -> Duration {
        self.0.rest()
    }
}

impl Ring {
    fn new(place: KeyHeader, keys: Vec<NewKey>) -> Result<Self, InvalidCredentials> {
        let slots = keys.into_iter().map(|NewKey { key, source, origin }| {
            let keys = Keys { current: Arc::new(ApiKey::new(place, key)?), retired: Vec::new() };
            Ok(Slot { keys: ArcSwap::from_pointee(keys), source, origin })
        });
        let slots: Box<[Slot]> = slots.collect::<Result<_, InvalidCredentials>>()?;
        if slots.is_empty() {
            return Err(InvalidCredentials::Empty);
        }
        let (next, kept_fresh) = Default::default();
        let ring = Ring { place, slots, next, fingerprint: AtomicU64::new(0), kept_fresh };
        ring.fingerprint.store(ring.compute_fingerprint(), Ordering::Relaxed);
        Ok(ring)
    }

    /// Of the same keys the same, in this process: what it is made with is told to nobody.
    fn compute_fingerprint(&self) -> u64 {
        static STATE: OnceLock<std::hash::RandomState> = OnceLock::new();
        let keys: Vec<_> = self.slots.iter().map(|slot| slot.keys.load().current.clone()).collect();
        let texts: Vec<_> = keys.iter().map(|key| key.text()).collect();
        STATE.get_or_init(Default::default).hash_one(texts).max(1)
    }

    /// Puts a new key in that place; says whether it is another one.
    fn replace(&self, index: usize, key: SecretString) -> Result<bool, InvalidCredentials> {
        let new = Arc::new(ApiKey::new(self.place, key)?);
        let old = self.slots[index].keys.load_full();
        if old.current.text() == new.text() {
            return Ok(false);
        }
        let retired = std::iter::once(&old.current).chain(&old.retired).take(RETIRED).cloned().collect();
        self.slots[index].keys.store(Arc::new(Keys { current: new, retired }));
        self.fingerprint.store(self.compute_fingerprint(), Ordering::Relaxed);
        Ok(true)
    }

    /// All keys, those just replaced too.
    fn all(&self) -> impl Iterator<Item = Arc<ApiKey>> + '_ {
        self.slots.iter().flat_map(|slot| {
            let keys = slot.keys.load();
            std::iter::once(keys.current.clone()).chain(keys.retired.iter().cloned()).collect::<Vec<_>>()
        })
    }
}

impl Credentials {
    /// For a server that wants none.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// An API key, sent in that header.
    ///
    /// # Errors
    ///
    /// As [`api_key`](Self::api_key).
    pub fn in_header(place: KeyHeader, key: SecretString) -> Result<Self, InvalidCredentials> {
        Self::rotating(place, [key])
    }

    /// An API key, sent in the header in which the dialect's providers expect it.
    ///
    /// # Errors
    ///
    /// When the key is empty or has characters that no HTTP header can carry (a line break at its end, most often).
    pub fn api_key(dialect: Dialect, key: SecretString) -> Result<Self, InvalidCredentials> {
        Self::in_header(KeyHeader::of(dialect), key)
    }

    /// Several API keys of one account, used in turn, sent in that header.
    ///
    /// # Errors
    ///
    /// When there is none, and as [`api_key`](Self::api_key) for each.
    pub fn rotating(
        place: KeyHeader,
        keys: impl IntoIterator<Item = SecretString>,
    ) -> Result<Self, InvalidCredentials> {
        Self::from_keys(place, keys.into_iter().map(NewKey::from).collect())
    }

    /// Keys that change while the program runs, sent in that header. Each source is asked once here, and again only while
    /// [`keep_fresh`](Self::keep_fresh) runs.
    ///
    /// # Errors
    ///
    /// When a source cannot tell its key, and as [`rotating`](Self::rotating).
    pub async fn from_sources(
        place: KeyHeader,
        sources: impl IntoIterator<Item = Box<dyn CredentialSource>>,
    ) -> Result<Self, BoxError> {
        let mut keys = Vec::new();
        for source in sources.into_iter().collect::<Vec<_>>() {
            let source = Arc::<dyn CredentialSource>::from(source);
            let (key, origin) = (source::ask(&*source).await?, source.describe().into());
            keys.push(NewKey { key, source: Some(source), origin });
        }
        Ok(Self::from_keys(place, keys)?)
    }

    pub(crate) fn from_keys(place: KeyHeader, keys: Vec<NewKey>) -> Result<Self, InvalidCredentials> {
        Ok(Credentials { inner: Some(Arc::new(Ring::new(place, keys)?)) })
    }

    fn ring(&self) -> Option<&Arc<Ring>> {
        self.inner.as_ref()
    }

    /// Each of the keys, as it is now, by itself: nothing that becomes of it changes anything of these.
    #[cfg(feature = "gateway")]
    pub(crate) fn each(&self) -> impl Iterator<Item = Credentials> {
        let slots = self.inner.iter().flat_map(|ring| ring.slots.iter().map(|slot| (ring.place, slot)));
        // They were keys before.
        slots.filter_map(|(place, slot)| Self::in_header(place, slot.keys.load().current.text().into()).ok())
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.as_ref().map_or(0, |ring| ring.slots.len())
    }

    /// Whether there is no key at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inner.is_none()
    }

    /// How much longer each key rests, in their order; zero for one that is fit.
    #[must_use]
    pub fn rests(&self) -> Vec<Duration> {
        let slots = self.inner.iter().flat_map(|ring| ring.slots.iter());
        slots.map(|slot| slot.keys.load().current.rest()).collect()
    }

    /// Tells these keys from others, and changes when one of them does; 0 where there is none. It says nothing of the keys
    /// to whoever reads it, nor to another process.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.inner.as_ref().map_or(0, |ring| ring.fingerprint.load(Ordering::Relaxed))
    }

    /// Whether these are the same keys, from the same places, in the same header: a configuration that is read again may then
    /// keep the old ones, and what is known of them.
    #[must_use]
    pub fn is_same_as(&self, other: &Credentials) -> bool {
        match (&self.inner, &other.inner) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                let refresh = |slot: &Slot| slot.source.as_ref().map(|source| source.refresh());
                let same = |(a, b): (&Slot, &Slot)| a.origin == b.origin && refresh(a) == refresh(b);
                Arc::ptr_eq(a, b)
                    || (a.place == b.place
                        && a.slots.len() == b.slots.len()
                        && self.fingerprint() == other.fingerprint()
                        && a.slots.iter().zip(&b.slots).all(same))
            }
            _ => false,
        }
    }

    /// The header that carries the key whose turn it is.
    pub(crate) fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        let ring = self.inner.as_ref()?;
        match &*ring.slots {
            [only] => Some(only.keys.load().current.header()),
            _ => self.pick(&[]).map(|key| key.header()),
        }
    }

    /// Whether there are several keys to choose from.
    pub(crate) fn rotate(&self) -> bool {
        self.inner.as_ref().is_some_and(|ring| ring.slots.len() > 1)
    }

    /// The key whose turn it is, of those that do not rest. Where all of them do: the one that is fit again soonest, if none
    /// was tried; `None` otherwise.
    pub(crate) fn pick(&self, tried: &[PickedKey]) -> Option<PickedKey> {
        let ring = self.inner.as_ref()?;
        let count = ring.slots.len();
        let first = ring.next.fetch_add(1, Ordering::Relaxed);
        let mut soonest: Option<(Duration, Arc<ApiKey>)> = None;
        for turn in 0..count {
            let keys = ring.slots[first.wrapping_add(turn) % count].keys.load();
            if tried.iter().any(|tried| Arc::ptr_eq(&tried.0, &keys.current)) {
                continue;
            }
            let rest = keys.current.rest();
            if rest.is_zero() {
                return Some(PickedKey(keys.current.clone()));
            }
            if soonest.as_ref().is_none_or(|(shortest, _)| rest < *shortest) {
                soonest = Some((rest, keys.current.clone()));
            }
        }
        soonest.filter(|_| tried.is_empty()).map(|(_, key)| PickedKey(key))
    }

    /// Where that key stands among these; `None` once another one has taken its place.
    pub(crate) fn place_of(&self, picked: &PickedKey) -> Option<usize> {
        let mut slots = self.inner.as_ref()?.slots.iter();
        slots.position(|slot| Arc::ptr_eq(&slot.keys.load().current, &picked.0))
    }

    /// How long until one of the keys is fit.
    pub(crate) fn shortest_rest(&self) -> Duration {
        self.rests().into_iter().min().unwrap_or_default()
    }

    /// Whether one of the keys stands in the bytes.
    pub(crate) fn are_in(&self, bytes: &[u8]) -> bool {
        let found = |key: Arc<ApiKey>| memchr::memmem::find(bytes, key.text().as_bytes()).is_some();
        self.inner.as_ref().is_some_and(|ring| ring.all().any(found))
    }

    /// The text with every copy of a key taken out, those just replaced too. Providers echo keys in their errors.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some(ring) = &self.inner else { return Cow::Borrowed(text) };
        let mut found: Vec<_> = ring.all().filter(|key| text.contains(key.text())).collect();
        // One key may begin as another does: the longer one goes first, or its end would be left.
        found.sort_by_key(|key| std::cmp::Reverse(key.text().len()));
        let redact = |text: Cow<'a, str>, key: Arc<ApiKey>| Cow::Owned(text.replace(key.text(), "[redacted]"));
        found.into_iter().fold(Cow::Borrowed(text), redact)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.inner.is_some() { "Credentials(redacted)" } else { "Credentials(none)" })
    }
}

/// Why a key cannot be used. It does not tell the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidCredentials {
    /// The key is empty.
    Empty,
    /// The key has characters that no HTTP header can carry.
    NotAHeaderValue,
}

impl fmt::Display for InvalidCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvalidCredentials::Empty => "the key is empty",
            InvalidCredentials::NotAHeaderValue => "the key has characters that no HTTP header can carry",
        })
    }
}

impl std::error::Error for InvalidCredentials {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_of_printing_shows_the_key() {
        let credentials = Credentials::api_key(Dialect::OpenAiChat, "sk-very-secret".into()).unwrap();
        assert!(!format!("{credentials:?} {:#?} {:?}", credentials, credentials.header()).contains("very-secret"));
        let bad = Credentials::api_key(Dialect::OpenAiChat, "sk-very-secret\n".into()).unwrap_err();
        assert!(!format!("{bad:?} {bad}").contains("very-secret"));
    }

    #[test]
    fn an_echoed_key_is_redacted() {
        let credentials = Credentials::api_key(Dialect::Gemini, "AIza-1".into()).unwrap();
        assert_eq!(credentials.redact("key AIza-1, again AIza-1."), "key [redacted], again [redacted].");
        assert!(matches!(credentials.redact("nothing"), Cow::Borrowed(_)));
        assert_eq!(Credentials::none().redact("AIza-1"), "AIza-1");
        assert!(
            credentials.are_in(b"Bearer AIza-1") && !credentials.are_in(b"AIza") && !Credentials::none().are_in(b"")
        );
    }

    #[test]
    fn each_dialect_has_its_header() {
        for (dialect, name, value) in [
            (Dialect::OpenAiChat, "authorization", "Bearer k"),
            (Dialect::AnthropicMessages, "x-api-key", "k"),
            (Dialect::Gemini, "x-goog-api-key", "k"),
        ] {
            let credentials = Credentials::api_key(dialect, "k".into()).unwrap();
            let (found_name, found_value) = credentials.header().unwrap();
            assert_eq!((found_name.as_str(), found_value.as_bytes()), (name, value.as_bytes()));
        }
    }
}
