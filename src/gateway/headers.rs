//! The headers that clients read of the gateway, and those that they are not to see.

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::{Attempt, Phase, RequestContext};

const TARGET: HeaderName = HeaderName::from_static("x-failover-target");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-failover-attempts");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest name of a client's model that is repeated to it: a longer head is not read by every client.
const MAX_MODEL: usize = 256;

/// The client's own id for the request, or a new one.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    if let Some(id) = headers.get(REQUEST_ID) {
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
