//! An answer that is kept.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header};
use tokio::time::Instant;

use super::shape::Shape;
use crate::usage::Worth;

/// What an entry takes besides its bytes, about.
const OVERHEAD: usize = 512;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) shape: Shape,
    pub(super) body: Bytes,
    /// What it had cost.
    pub(super) worth: Worth,
    pub(super) stored: Instant,
    /// How long it is fresh.
    pub(super) ttl: Duration,
    /// How long it may be given after that, where nobody can answer.
    pub(super) stale: Duration,
}

impl Entry {
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.stored)
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.age(now) < self.ttl
    }

    /// Whether it may be given where nobody can answer.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        self.age(now) < self.ttl.saturating_add(self.stale)
    }

    /// How much memory it takes.
    pub(super) fn weight(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64);
        self.body.len() + headers.sum::<usize>() + OVERHEAD
    }
}

/// The headers that are said again with an answer: not those of a connection, of a client, or of how much the provider would
/// still take at that time.
pub(super) fn kept(headers: &HeaderMap) -> HeaderMap {
    const OF_ITS_TIME: [HeaderName; 12] = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::RETRY_AFTER,
        header::SET_COOKIE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    let kept = headers.iter().filter(|(name, _)| !OF_ITS_TIME.contains(name) && !name.as_str().contains("ratelimit"));
    let mut copy = HeaderMap::with_capacity(headers.len());
    kept.for_each(|(name, value)| _ = copy.append(name.clone(), value.clone()));
    copy
}
