//! A provider's key: from the moment it is read until it is on the wire, never printable.

use std::{borrow::Cow, fmt, sync::Arc};

use http::{HeaderName, HeaderValue, header};
use secrecy::{ExposeSecret, SecretString};

use crate::{Dialect, KeyHeader};

/// What proves to a provider who we are. Cheap to clone; neither `Debug` nor any error shows the key.
#[derive(Clone, Default)]
pub struct Credentials {
    inner: Option<Arc<ApiKey>>,
}

struct ApiKey {
    key: SecretString,
    name: HeaderName,
    /// Marked sensitive, so that its `Debug` and HTTP/2's header tables leave it out.
    value: HeaderValue,
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
        Ok(Credentials { inner: Some(Arc::new(ApiKey { key, name, value })) })
    }

    /// An API key, sent in the header in which the dialect's providers expect it.
    ///
    /// # Errors
    ///
    /// When the key is empty or has characters that no HTTP header can carry (a line break at its end, most often).
    pub fn api_key(dialect: Dialect, key: SecretString) -> Result<Self, InvalidCredentials> {
        let header = match dialect {
            Dialect::OpenAiChat | Dialect::OpenAiResponses => KeyHeader::Bearer,
            Dialect::AnthropicMessages => KeyHeader::XApiKey,
            Dialect::Gemini => KeyHeader::XGoogApiKey,
        };
        Self::in_header(header, key)
    }

    /// The header that carries them.
    pub(crate) fn header(&self) -> Option<(&HeaderName, &HeaderValue)> {
        self.inner.as_ref().map(|inner| (&inner.name, &inner.value))
    }

    /// Whether the key stands in the bytes.
    pub(crate) fn are_in(&self, bytes: &[u8]) -> bool {
        let found = |inner: &ApiKey| memchr::memmem::find(bytes, inner.key.expose_secret().as_bytes()).is_some();
        self.inner.as_deref().is_some_and(found)
    }

    /// The text with every copy of the key taken out. Providers echo keys in their errors.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match &self.inner {
            Some(inner) if text.contains(inner.key.expose_secret()) => {
                Cow::Owned(text.replace(inner.key.expose_secret(), "[redacted]"))
            }
            _ => Cow::Borrowed(text),
        }
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
