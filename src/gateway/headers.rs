//! The headers that clients read of the gateway, and those that they are not to see.

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::{Attempt, Phase, RequestContext};

const TARGET: HeaderName = HeaderName::from_static("x-failover-target");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-failover-attempts");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest name of a client's model that is repeated to it: a longer head is not read by every client.
const MAX_MODEL: usize = 256;

/// The longest id of a client's that is taken for the request's.
const MAX_REQUEST_ID: usize = 128;

/// The client's own id for the request, or a new one: ids stand in logs, so one that is long, or has anything but visible
/// ASCII in it, is not taken.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_sane = |id: &&HeaderValue| {
        id.len() <= MAX_REQUEST_ID && !id.is_empty() && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    if let Some(id) = headers.get(REQUEST_ID).filter(is_sane) {
        return id.clone();
    }
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let id = Uuid::now_v7().hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("none"))
}

/// Says who answered: the provider, and the model as it was asked for.
pub(super) fn name_target(headers: &mut HeaderMap, context: &RequestContext, asked: &str) {
    // What a provider sends under our names would be taken for ours.
    let foreign: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with("x-failover-")).cloned().collect();
    foreign.iter().for_each(|name| _ = headers.remove(name));
    let attempts = context.attempts();
    let on_the_wire = |attempt: &&Attempt| attempt.phase() > Phase::NeverSent;
    let attempt = attempts.answered().or_else(|| attempts.iter().filter(on_the_wire).last());
    let Some(target) = attempt.and_then(Attempt::target) else { return };
    let name = match (target.provider(), target.model()) {
        (Some(_), None) if asked.len() > MAX_MODEL => return,
        (Some(provider), None) => HeaderValue::from_str(&format!("{}/{asked}", provider.name())),
        _ => HeaderValue::from_str(target.id().as_str()),
    };
    // A model's name may have characters that no header can carry.
    name.into_iter().for_each(|name| _ = headers.insert(TARGET, name));
}

/// Puts the request's id into its answer.
pub(super) fn name_request(headers: &mut HeaderMap, request_id: HeaderValue) {
    headers.insert(REQUEST_ID, request_id);
}

/// What every answer of a route carries.
pub(super) fn to_client(headers: &mut HeaderMap, context: &RequestContext, request_id: HeaderValue) {
    headers.insert(ATTEMPTS, HeaderValue::from(context.attempts().sent()));
    name_request(headers, request_id);
}

/// How long the head of a request is, about as its client wrote it.
pub(super) fn length(parts: &http::request::Parts) -> usize {
    const BETWEEN: usize = ": \r\n".len();
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    parts.headers.iter().fold(target, |sum, (name, value)| sum + name.as_str().len() + value.len() + BETWEEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sane_id_is_taken_from_the_client() {
        let id = |bytes: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(bytes).unwrap());
            request_id(&headers)
        };
        assert_eq!(id(b"mine-1/2"), "mine-1/2");
        assert_eq!(id(&[b'a'; 128]).len(), 128);
        for strange in [&b""[..], b"a b", b"\xff", b"a\tb", &[b'a'; 129]] {
            assert_eq!(id(strange).len(), uuid::fmt::Hyphenated::LENGTH, "{strange:?}");
        }
    }
}
