//! What the client is told of where its answer is from: `Cache-Status` (RFC 9211) and `Age`.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::time::Instant;

use super::entry::Entry;
use crate::CacheOutcome;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why a request was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forward {
    /// It is none that is kept.
    Bypass,
    /// The client wants a new answer.
    Request,
    /// There is no answer that fits.
    Miss,
    /// There is one, which is too old.
    Stale,
}

impl Forward {
    fn name(self) -> &'static str {
        match self {
            Forward::Bypass => "bypass",
            Forward::Request => "request",
            Forward::Miss => "miss",
            Forward::Stale => "stale",
        }
    }

    /// The same for who keeps count.
    pub(super) fn outcome(self) -> CacheOutcome {
        match self {
            Forward::Bypass => CacheOutcome::Bypass,
            Forward::Request => CacheOutcome::Unwanted,
            Forward::Miss | Forward::Stale => CacheOutcome::Miss,
        }
    }
}

/// The answer comes from where the request was passed on to.
pub(super) fn forwarded(headers: &mut HeaderMap, forward: Forward, status: StatusCode, collapsed: bool) {
    let collapsed = if collapsed { "; collapsed" } else { "" };
    let status = status.as_u16();
    add(headers, format_args!("fwd={}; fwd-status={status}{collapsed}", forward.name()));
}

/// The answer was kept.
pub(super) fn hit(headers: &mut HeaderMap, entry: &Entry) {
    add(headers, format_args!("hit; ttl={}", ttl(entry)));
    tell_age(headers, entry);
}

/// The answer was kept for too long, and nobody has a better one.
pub(super) fn stale(headers: &mut HeaderMap, entry: &Entry, failed: Option<StatusCode>) {
    let mut status = String::new();
    failed.into_iter().for_each(|failed| _ = write!(status, "; fwd-status={}", failed.as_u16()));
    add(headers, format_args!("fwd=stale{status}; ttl={}; detail=stale-if-error", ttl(entry)));
    tell_age(headers, entry);
}

/// Nothing is kept, and the client wants nothing else.
pub(super) fn only_if_cached(headers: &mut HeaderMap) {
    add(headers, format_args!("detail=only-if-cached"));
}

fn ttl(entry: &Entry) -> i64 {
    let seconds = |duration: std::time::Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    seconds(entry.ttl) - seconds(entry.age(Instant::now()))
}

fn tell_age(headers: &mut HeaderMap, entry: &Entry) {
    headers.insert(header::AGE, entry.age(Instant::now()).as_secs().into());
}

fn add(headers: &mut HeaderMap, what: std::fmt::Arguments<'_>) {
    // Those of caches further up stand before it.
    if let Ok(value) = HeaderValue::try_from(format!("tower-failover; {what}")) {
        headers.append(CACHE_STATUS, value);
    }
}
