//! The key by which a provider knows a request again that it has had already.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{Dialect, Provider, RequestContext, Target};

const NAME: HeaderName = HeaderName::from_static("idempotency-key");

/// The body of an upstream request, and what it was made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent<'a> {
    pub(super) body: &'a [u8],
    /// What the client sent, or recovery in its name.
    pub(super) asked: &'a [u8],
    pub(super) metered: bool,
}

/// Sets `Idempotency-Key`: one for each distinct body that is sent in a client's name, and the same each time that body is sent.
///
/// A body that the client sent itself keeps the client's own key. Every other one (with another model in it, in another dialect,
/// or asking for the rest of an answer) has one that is derived from that: the same key with another body would be refused, or answered with
/// what another body was answered. Where the client sent no key, one is made up for its request.
pub(super) fn set(headers: &mut HeaderMap, context: Option<&RequestContext>, target: &Target, sent: Sent<'_>) {
    let Some(context) = context else { return };
    let own = headers.get(&NAME);
    let is_continuation = context.continuation().is_some();
    let dialect = target.provider().map(Provider::dialect);
    let is_translated = context.dialect().is_some() && context.dialect() != dialect;
    // There the model stands in the path.
    let has_another_path = dialect == Some(Dialect::Gemini) && target.model_json().is_some();
    let is_the_clients = !is_continuation && !is_translated && !has_another_path && sent.body == sent.asked;
    if own.is_some() && is_the_clients {
        return;
    }
    let mut distinct = Hash::default();
    match is_continuation {
        true => distinct.add(sent.body),
        // Within one request, these say which body it is.
        false => distinct.add(target.model_json().map_or(&[][..], |json| &json[..])),
    }
    distinct.add(&[u8::from(sent.metered)]);
    dialect.filter(|_| is_translated).into_iter().for_each(|dialect| distinct.add(dialect.name().as_bytes()));
    let key = match own {
        Some(own) => HeaderValue::from_bytes(&[own.as_bytes(), b"-", &hexadecimal(distinct.0)].concat()),
        None => {
            let [high, low] = context.nonce().map(hexadecimal);
            let mut text = [b'-'; 3 * DIGITS + 1];
            text[..DIGITS].copy_from_slice(&high);
            text[DIGITS..2 * DIGITS].copy_from_slice(&low);
            text[2 * DIGITS + 1..].copy_from_slice(&hexadecimal(distinct.0));
            HeaderValue::from_bytes(&text)
        }
    };
    // A header's value with hexadecimal digits behind it is one.
    if let Ok(key) = key {
        headers.insert(NAME, key);
    }
}

/// How many hexadecimal digits a number has.
const DIGITS: usize = 16;

/// The number's digits, without the machinery of `format!`: this is done for each request.
fn hexadecimal(number: u64) -> [u8; DIGITS] {
    std::array::from_fn(|place| b"0123456789abcdef"[(number >> (60 - 4 * place)) as usize & 15])
}

/// FNV-1a: the same in every process and version, so that a client that tries again meets the same key wherever.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Hash(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn add(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::continuation::Continuation;
    use bytes::Bytes;

    fn target(model: &str) -> Target {
        Target::new(&Provider::new("p", Dialect::OpenAiChat, "http://h/v1").unwrap(), model)
    }

    fn key(own: Option<&'static str>, context: &RequestContext, target: &Target, sent: &str, asked: &str) -> String {
        let mut headers = HeaderMap::new();
        own.into_iter().for_each(|own| _ = headers.insert(NAME, HeaderValue::from_static(own)));
        let sent = Sent { body: sent.as_bytes(), asked: asked.as_bytes(), metered: false };
        set(&mut headers, Some(context), target, sent);
        headers[NAME].to_str().unwrap().to_owned()
    }

    #[test]
    fn numbers_are_written_with_all_their_digits() {
        for number in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(hexadecimal(number), format!("{number:016x}").as_bytes());
        }
    }

    #[test]
    fn each_body_of_a_request_has_its_own_and_another_request_has_others() {
        let (context, [a, b]) = (RequestContext::new(), ["a", "b"].map(target));
        let first = key(None, &context, &a, "A", "C");
        assert_eq!(key(None, &context.clone(), &a, "A", "C"), first);
        assert_ne!(key(None, &context, &b, "B", "C"), first);
        assert_ne!(key(None, &RequestContext::new(), &a, "A", "C"), first);
        let continuing = |body: &'static str| {
            let continuation = Continuation::new((Bytes::from_static(body.as_bytes()), None), None);
            key(None, &context.clone().continuing(continuation), &a, body, body)
        };
        assert_eq!(continuing("A and"), continuing("A and"));
        assert_ne!(continuing("A and"), continuing("A or"));
        assert_ne!(continuing("A and"), first);
    }

    #[test]
    fn a_clients_own_is_kept_for_its_own_body_and_known_again_in_what_is_derived_from_it() {
        let [a, b] = ["a", "b"].map(target);
        let own = |target, sent| key(Some("mine"), &RequestContext::new(), target, sent, "C");
        assert_eq!(own(&a, "C"), "mine");
        let derived = own(&a, "A");
        assert!(derived.starts_with("mine-"), "{derived}");
        // Of another request with the same key, as when the client tries again.
        assert_eq!(own(&a, "A"), derived);
        assert_ne!(own(&b, "B"), derived);
        // Written down: what a client sent to another version or process.
        assert_eq!(derived, "mine-46013e83a7fca79e");
    }
}
