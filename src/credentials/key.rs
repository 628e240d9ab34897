//! One key: its header, and whether it rests.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use http::{HeaderName, HeaderValue, header};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::InvalidCredentials;
use crate::{KeyHeader, fault::Fault, fault::FaultKind};

/// How long a key rests that was limited, where the provider did not say how long.
const LIMITED: Duration = Duration::from_secs(5);
/// How long a key rests that was rejected, or has nothing left: time alone hardly mends that.
const UNFIT: Duration = Duration::from_secs(10 * 60);

/// A key that can be sent. What a provider made of it is kept with it, so that it ends with it: a new key is a new one of
/// these.
pub(crate) struct ApiKey {
    key: SecretString,
    name: HeaderName,
    /// Marked sensitive, so that its `Debug` and HTTP/2's header tables leave it out.
    value: HeaderValue,
    made: Instant,
    /// In milliseconds from when it was made; 0 where it does not rest.
    rests_until: AtomicU64,
}

impl ApiKey {
    pub(super) fn new(place: KeyHeader, key: SecretString) -> Result<Self, InvalidCredentials> {
        if key.expose_secret().is_empty() {
            return Err(InvalidCredentials::Empty);
        }
        let plain = || HeaderValue::from_str(key.expose_secret());
        let (name, value) = match place {
            KeyHeader::Bearer => {
                let bearer = SecretString::from(format!("Bearer {}", key.expose_secret()));
                (header::AUTHORIZATION, HeaderValue::from_str(bearer.expose_secret()))
            }
            KeyHeader::ApiKey => (HeaderName::from_static("api-key"), plain()),
            KeyHeader::XApiKey => (HeaderName::from_static("x-api-key"), plain()),
            KeyHeader::XGoogApiKey => (HeaderName::from_static("x-goog-api-key"), plain()),
        };
        let mut value = value.map_err(|_| InvalidCredentials::NotAHeaderValue)?;
        value.set_sensitive(true);
        Ok(ApiKey { key, name, value, made: Instant::now(), rests_until: AtomicU64::new(0) })
    }

    /// The header that carries it.
    pub(crate) fn header(&self) -> (HeaderName, HeaderValue) {
        (self.name.clone(), self.value.clone())
    }

    pub(super) fn text(&self) -> &str {
        self.key.expose_secret()
    }

    /// How much longer it rests; zero where it is fit.
    pub(super) fn rest(&self) -> Duration {
        let until = self.rests_until.load(Ordering::Relaxed);
        // While it is fit, which it nearly always is, nobody looks at the clock.
        if until == 0 {
            return Duration::ZERO;
        }
        Duration::from_millis(until).saturating_sub(self.made.elapsed())
    }

    /// Lets it rest, if the fault is the key's.
    pub(super) fn blame(&self, fault: &Fault) -> bool {
        let rest = match fault.kind() {
            FaultKind::RateLimited => fault.retry_after().unwrap_or(LIMITED),
            FaultKind::AuthFailed | FaultKind::PermissionDenied | FaultKind::QuotaExhausted => {
                fault.retry_after().max(Some(UNFIT)).unwrap_or(UNFIT)
            }
            _ => return false,
        };
        let until = self.made.elapsed().saturating_add(rest).as_millis();
        self.rests_until.fetch_max(u64::try_from(until).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
        true
    }

    /// It was accepted.
    pub(super) fn praise(&self) {
        if self.rests_until.load(Ordering::Relaxed) != 0 {
            self.rests_until.store(0, Ordering::Relaxed);
        }
    }
}
