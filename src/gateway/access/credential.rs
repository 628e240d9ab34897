//! Where clients put their keys.

use std::borrow::Cow;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderValue, header};
use percent_encoding::percent_decode_str;

/// How many keys of one request are looked at. Clients send one, some in two places.
const MOST: usize = 8;

/// The headers that hold nothing but a key.
const PLAIN: [&str; 3] = ["x-api-key", "api-key", "x-goog-api-key"];

/// Base64 as browsers write it, or others who leave its end out.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The keys that a client sent, wherever its SDK puts them.
pub(super) fn sent<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> impl Iterator<Item = Cow<'a, [u8]>> {
    in_headers(headers).chain(in_query(query.unwrap_or_default())).take(MOST)
}

/// The keys that an operator sent: in headers, as clients do, or as the password that a browser asked for. Not in the query,
/// which a browser would keep.
pub(super) fn sent_by_operator(headers: &HeaderMap) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let basic = headers.get_all(header::AUTHORIZATION).iter();
    let passwords = basic.filter_map(|value| password(of_scheme(value, b"basic")?)).map(Cow::Owned);
    in_headers(headers).chain(passwords).take(MOST)
}

fn in_headers(headers: &HeaderMap) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let bearer = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| of_scheme(value, b"bearer"));
    let plain = PLAIN.iter().flat_map(|name| headers.get_all(*name)).map(|value| value.as_bytes().trim_ascii());
    bearer.chain(plain).filter(|key| !key.is_empty()).map(Cow::Borrowed)
}

fn in_query(query: &str) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let decoded = |text| Cow::from(percent_decode_str(text));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(move |(name, value)| *decoded(name) == *b"key" && !value.is_empty()).map(move |(_, key)| decoded(key))
}

/// What stands behind the name of that scheme, however that is written.
fn of_scheme<'a>(value: &'a HeaderValue, scheme: &[u8]) -> Option<&'a [u8]> {
    let (name, rest) = value.as_bytes().split_at_checked(scheme.len())?;
    (name.eq_ignore_ascii_case(scheme) && rest.first() == Some(&b' ')).then(|| rest.trim_ascii())
}

/// The password of `Basic` credentials.
fn password(encoded: &[u8]) -> Option<Vec<u8>> {
    let decoded = LENIENT.decode(encoded).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some(decoded[colon + 1..].to_vec()).filter(|password| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let mut headers = HeaderMap::new();
        pairs.for_each(|(name, value): (http::HeaderName, _)| _ = headers.append(name, value));
        headers
    }

    fn keys(pairs: &[(&'static str, &str)], query: &str) -> Vec<String> {
        sent(&headers(pairs), Some(query)).map(|key| String::from_utf8_lossy(&key).into_owned()).collect()
    }

    #[test]
    fn a_key_is_found_wherever_a_client_puts_it() {
        for name in PLAIN {
            assert_eq!(keys(&[(name, " k ")], ""), ["k"]);
        }
        assert_eq!(keys(&[("authorization", "Bearer k")], ""), ["k"]);
        assert_eq!(keys(&[("authorization", "bEARER   k")], ""), ["k"]);
        assert_eq!(keys(&[], "alt=sse&key=k%2B1"), ["k+1"]);
        assert_eq!(keys(&[], "%6bey=k"), ["k"]);
        assert_eq!(
            keys(&[("x-api-key", "a"), ("authorization", "Bearer b"), ("x-api-key", "c")], "key=d"),
            ["b", "a", "c", "d"]
        );
    }

    #[test]
    fn what_is_no_key_is_none() {
        let none: [&[(&str, &str)]; 6] = [
            &[("authorization", "k")],
            &[("authorization", "Bearerk")],
            &[("authorization", "Bearer ")],
            &[("authorization", "Basic dTprZXk=")],
            &[("x-api-key", "")],
            &[("cookie", "key=k")],
        ];
        none.iter().for_each(|pairs| assert_eq!(keys(pairs, "key=&keys=k&akey=k&key"), [""; 0], "{pairs:?}"));
        let many: Vec<_> = (0..100).map(|_| ("x-api-key", "k")).collect();
        assert_eq!(keys(&many, "").len(), MOST);
    }

    #[test]
    fn an_operator_may_send_it_as_a_password() {
        let found = |value: &str| {
            let headers = headers(&[("authorization", value)]);
            sent_by_operator(&headers).map(|key| String::from_utf8_lossy(&key).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(found("Basic dTprZXk="), ["key"]); // u:key
        assert_eq!(found("basic OmE6Yg=="), ["a:b"]); // :a:b
        for wrong in ["Basic", "Basic ", "Basic dTo=", "Basic !!!!", "Basic dQ==", "Digest dTprZXk="] {
            assert_eq!(found(wrong), [""; 0], "{wrong}");
        }
    }
}
