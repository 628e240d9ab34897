//! The rules by which a provider's words become a kind of fault: data, in the order in which they are asked.
//!
//! A status alone does not tell: a bad key may be a 400, an exhausted account a 429, an overload an event in a 200.
//! Sources: the providers' own error references, and error bodies as their users report them.

use http::StatusCode;

use super::{UNKNOWN, Words};
use crate::FaultKind;

/// Matches when the status is among `statuses` and either a code or a phrase is found.
struct Rule {
    kind: FaultKind,
    statuses: Statuses,
    /// Compared without regard to case.
    codes: &'static [&'static str],
    /// Looked for in the message, in lower case.
    phrases: &'static [&'static str],
}

#[derive(Clone, Copy)]
enum Statuses {
    /// Any, and none: an error inside a 200.
    Any,
    /// Not a 5xx: phrases there tell of the provider's own trouble, whatever they mention.
    NotServer,
    /// One of these, and none.
    Of(&'static [u16]),
}

impl Statuses {
    fn contain(self, status: Option<StatusCode>) -> bool {
        let Some(status) = status else { return true };
        match self {
            Statuses::Any => true,
            Statuses::NotServer => !status.is_server_error(),
            Statuses::Of(statuses) => statuses.contains(&status.as_u16()),
        }
    }
}

const RULES: &[Rule] = &[
    Rule {
        kind: FaultKind::QuotaExhausted,
        statuses: Statuses::NotServer,
        codes: &["insufficient_quota", "billing_error", "billing_hard_limit_reached", "billing_not_active"],
        phrases: &[
            "insufficient balance",
            "credit balance is too low",
            "requires more credits",
            "insufficient credits",
            "reached your specified api usage limits",
        ],
    },
    Rule {
        kind: FaultKind::AuthFailed,
        statuses: Statuses::Of(&[400, 401, 403]),
        codes: &["invalid_api_key", "authentication_error", "api_key_invalid", "unauthenticated", "missing_api_key"],
        phrases: &["incorrect api key", "invalid api key", "api key not valid", "invalid subscription key"],
    },
    Rule {
        kind: FaultKind::ContextLengthExceeded,
        statuses: Statuses::NotServer,
        codes: &["context_length_exceeded", "too_many_prompt_tokens", "context_window_exceeded"],
        phrases: &[
            "maximum context length",
            "max context length",
            "prompt is too long",
            "exceeds the maximum number of tokens allowed",
            "exceed context limit",
            "exceeds the context window",
        ],
    },
    Rule {
        kind: FaultKind::ContentFiltered,
        statuses: Statuses::NotServer,
        codes: &["content_filter", "content_policy_violation", "invalid_prompt"],
        phrases: &["content management policy", "blocked by content filtering policy"],
    },
    Rule {
        kind: FaultKind::Unsupported,
        statuses: Statuses::Of(&[400, 404, 422]),
        codes: &["unsupported_parameter", "unsupported_value"],
        phrases: &["not supported with this model", "does not support", "no endpoints found that support"],
    },
    Rule {
        kind: FaultKind::PermissionDenied,
        statuses: Statuses::Of(&[400, 403, 404]),
        codes: &["unsupported_country_region_territory", "permission_denied", "permission_error"],
        phrases: &["data policy"],
    },
    Rule {
        kind: FaultKind::NotFound,
        statuses: Statuses::Of(&[400, 404]),
        codes: &["model_not_found", "deploymentnotfound", "not_found_error", "not_found"],
        phrases: &[],
    },
    Rule {
        kind: FaultKind::RateLimited,
        statuses: Statuses::Of(&[413, 429, 503]),
        codes: &["rate_limit_exceeded", "rate_limit_error", "rate_limited", "ratelimitreached", "too_many_requests"],
        phrases: &["rate limit reached", "rate limit exceeded", "request too large for model"],
    },
    Rule {
        kind: FaultKind::Overloaded,
        statuses: Statuses::Any,
        codes: &["overloaded_error", "overloaded", "service_unavailable", "engine_overloaded"],
        phrases: &["overloaded", "capacity exceeded", "no capacity available"],
    },
    Rule {
        kind: FaultKind::PayloadTooLarge,
        statuses: Statuses::NotServer,
        codes: &["request_too_large"],
        phrases: &[],
    },
    Rule {
        kind: FaultKind::Timeout,
        statuses: Statuses::Any,
        codes: &["timeout_error", "deadline_exceeded"],
        phrases: &[],
    },
];

/// What stands in a 200 of itself: asked after all rules, and only without a status.
const WITHOUT_STATUS: &[(&str, FaultKind)] = &[
    ("invalid_request_error", FaultKind::BadRequest),
    ("server_error", FaultKind::Unavailable),
    ("api_error", FaultKind::Unavailable),
];

pub(super) fn kind(status: Option<StatusCode>, words: &Words) -> FaultKind {
    let message = words.message.to_lowercase();
    let said = |code: &&str| words.codes.iter().any(|said| said.eq_ignore_ascii_case(code));
    let matches = |rule: &&Rule| {
        rule.statuses.contain(status)
            && (rule.codes.iter().any(said) || rule.phrases.iter().any(|phrase| message.contains(phrase)))
    };
    let by_rule = RULES.iter().find(matches).map(|rule| rule.kind);
    by_rule.unwrap_or_else(|| match status {
        Some(status) => FaultKind::from_status(status).unwrap_or(UNKNOWN),
        None => WITHOUT_STATUS.iter().find(|(code, _)| said(code)).map_or(UNKNOWN, |(_, kind)| *kind),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_on_a_server_error_are_not_trusted() {
        let words = Words { message: "maximum context length of the queue".into(), ..Words::default() };
        assert_eq!(kind(Some(StatusCode::INTERNAL_SERVER_ERROR), &words), FaultKind::Unavailable);
        assert_eq!(kind(Some(StatusCode::BAD_REQUEST), &words), FaultKind::ContextLengthExceeded);
    }

    #[test]
    fn rules_are_spelt_so_that_they_can_match() {
        for rule in RULES {
            assert!(rule.phrases.iter().all(|phrase| *phrase == phrase.to_lowercase()));
        }
    }
}
