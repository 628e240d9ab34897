//! What reached a simulated provider.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

use super::SimulatedFault;

/// Headers that carry a credential in one API or another.
const CREDENTIALS: &[&str] =
    &["authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"];

/// How many requests are kept, and how many bytes of their bodies.
const KEPT: usize = 1_000;
const KEPT_BYTES: usize = 64 << 20;

/// A request as it reached a [`SimulatedProvider`](super::SimulatedProvider).
///
/// Its `Debug` shows neither credentials nor the query nor what the body says.
#[derive(Clone)]
#[non_exhaustive]
pub struct ReceivedRequest {
    /// The method.
    pub method: Method,
    /// The request target as it was sent, in general a path and a query.
    pub uri: Uri,
    /// The headers; those with credentials are marked sensitive.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// The fault that it met.
    pub fault: SimulatedFault,
}

impl ReceivedRequest {
    pub(super) fn new(parts: http::request::Parts, body: Bytes, fault: SimulatedFault) -> Self {
        let mut headers = parts.headers;
        for name in CREDENTIALS {
            if let http::header::Entry::Occupied(mut entry) = headers.entry(*name) {
                for value in entry.iter_mut() {
                    value.set_sensitive(true);
                }
            }
        }
        Self { method: parts.method, uri: parts.uri, headers, body, fault }
    }

    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// If it is not JSON.
    pub fn json(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
    }

    /// The first value of a header, if there is one and it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl fmt::Debug for ReceivedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedRequest")
            .field("method", &self.method)
            .field("path", &self.uri.path())
            .field("headers", &self.headers)
            .field("body_len", &self.body.len())
            .field("fault", &self.fault)
            .finish()
    }
}

/// The last requests, oldest first.
#[derive(Debug, Default)]
pub(super) struct Record {
    requests: VecDeque<ReceivedRequest>,
    bytes: usize,
}

impl Record {
    pub(super) fn push(&mut self, request: ReceivedRequest) {
        self.bytes += request.body.len();
        self.requests.push_back(request);
        while self.requests.len() > KEPT || (self.bytes > KEPT_BYTES && self.requests.len() > 1) {
            match self.requests.pop_front() {
                Some(oldest) => self.bytes -= oldest.body.len(),
                None => break,
            }
        }
    }

    pub(super) fn to_vec(&self) -> Vec<ReceivedRequest> {
        self.requests.iter().cloned().collect()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, body: Bytes) -> ReceivedRequest {
        let (parts, ()) =
            http::Request::post(path).header("authorization", "Bearer hush").body(()).unwrap().into_parts();
        ReceivedRequest::new(parts, body, SimulatedFault::None)
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut record = Record::default();
        for n in 0..KEPT + 2 {
            record.push(request(&format!("/{n}"), Bytes::new()));
        }
        let kept = record.to_vec();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept[0].uri.path(), "/2");
    }

    #[test]
    fn large_bodies_make_room_sooner() {
        let mut record = Record::default();
        let large = Bytes::from(vec![0; KEPT_BYTES / 2 + 1]);
        for path in ["/a", "/b", "/c"] {
            record.push(request(path, large.clone()));
        }
        let kept = record.to_vec();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].uri.path(), "/c");
    }

    #[test]
    fn debug_keeps_secrets() {
        let shown = format!("{:?}", request("/v1/x?key=hush", Bytes::from_static(b"hush")));
        assert!(!shown.contains("hush"), "{shown}");
        assert!(shown.contains("/v1/x"));
    }
}
