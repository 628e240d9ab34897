//! The page at `/`: one file, which asks for `/status.json` and shows it.

use std::sync::LazyLock;

use axum::{body::Body, response::Response};
use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use http::{HeaderValue, header};
use sha2::{Digest, Sha256};

const PAGE: &str = include_str!("page.html");

pub(super) fn answer() -> Response {
    let mut response = Response::new(Body::from(Bytes::from_static(PAGE.as_bytes())));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

/// Nothing runs but the page's own script, whatever a provider's message may hold; nobody frames its buttons.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        source(between("<script>", "</script>")),
        source(between("<style>", "</style>")),
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

fn between(begin: &str, end: &str) -> &'static str {
    let inside = PAGE.split_once(begin).and_then(|(_, rest)| rest.split_once(end));
    inside.map_or("", |(inside, _)| inside)
}

/// What stands for a text in a content security policy: its SHA-256.
fn source(text: &str) -> String {
    format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_names_the_pages_own_script_and_style_by_their_hash() {
        // Of the empty text and of "abc", as everybody has them.
        assert_eq!(source(""), "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='");
        assert_eq!(source("abc"), "'sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0='");
        let policy = POLICY.to_str().unwrap();
        assert_eq!(policy.matches("'sha256-").count(), 2);
        assert!(!policy.contains(&source("")) && !policy.contains("unsafe"), "{policy}");
    }

    #[test]
    fn it_needs_nothing_from_elsewhere_and_writes_no_markup_from_data() {
        assert_eq!((PAGE.matches("<script").count(), PAGE.matches("<style").count()), (1, 1));
        for foreign in
            ["src=", "@import", "url(", "innerHTML", "insertAdjacentHTML", "document.write", " style=", " onclick"]
        {
            assert!(!PAGE.contains(foreign), "{foreign}");
        }
        let links: Vec<_> = PAGE.match_indices("href=\"").map(|(at, _)| &PAGE[at + 6..at + 11]).collect();
        assert!(links.iter().all(|link| *link == "data:" || link.starts_with("statu")), "{links:?}");
    }
}
