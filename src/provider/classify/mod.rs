//! What a provider's error means, by its own words.

use std::borrow::Cow;

use http::{HeaderMap, StatusCode};

use self::words::Words;
use crate::{Credentials, Fault, retry_after};

mod rules;
mod table;
#[cfg(test)]
mod tests;
mod words;

pub use rules::{FaultRule, FaultRules};

/// How much of a provider's message is kept.
const MAX_MESSAGE: usize = 1024;

/// The fault that a failed response means.
pub(super) fn response(
    rules: &FaultRules,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    credentials: &Credentials,
) -> Fault {
    let words = Words::read(headers, body);
    let asked = retry_after::asked(headers).or(words.retry_after).or_else(|| retry_after::reset(headers));
    let fault = fault(rules, Some(status), &words, credentials);
    fault.with_retry_after(asked).with_should_retry(retry_after::should_retry(headers))
}

/// The fault that an error inside a good response means: in an event, or instead of an answer.
pub(super) fn in_band(rules: &FaultRules, body: &[u8], credentials: &Credentials) -> Fault {
    // The headers belong to the good response.
    let words = Words::read(&HeaderMap::new(), body);
    fault(rules, words.status(), &words, credentials).with_retry_after(words.retry_after)
}

fn fault(rules: &FaultRules, status: Option<StatusCode>, words: &Words, credentials: &Credentials) -> Fault {
    let kind = rules::kind(rules, status, words);
    let message = match (&*words.message, status) {
        ("", Some(status)) => Cow::Owned(format!("the provider answered {status}")),
        ("", None) => Cow::Borrowed("the provider reported an error"),
        (message, _) => Cow::Owned(truncated(&credentials.redact(message)).to_owned()),
    };
    let mut fault = Fault::new(kind, message);
    if !words.message.is_empty() {
        fault = fault.quoted();
    }
    if let Some(status) = status.filter(|status| status.is_client_error() || status.is_server_error()) {
        fault = fault.with_status(status);
    }
    if let Some(code) = words.codes.iter().find(|code| code.parse::<u16>().is_err()) {
        fault = fault.with_code(truncated(&credentials.redact(code)));
    }
    fault
}

fn truncated(text: &str) -> &str {
    let end = (0..=MAX_MESSAGE.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}
