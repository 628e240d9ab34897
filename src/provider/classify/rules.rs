//! How rules are asked: the user's, then those of the [table](super::table), then the status.

use std::sync::Arc;

use http::StatusCode;

use super::{
    table::{RULES, Rule},
    words::Words,
};
use crate::FaultKind;

/// Which statuses a rule of the table is for. A status that is missing, as in an error inside a 200, is in all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Statuses {
    Any,
    Of(&'static [u16]),
    Missing,
}

impl Statuses {
    fn contain(self, status: Option<StatusCode>) -> bool {
        match (self, status) {
            (Statuses::Any, _) | (_, None) => true,
            (Statuses::Of(statuses), Some(status)) => statuses.contains(&status.as_u16()),
            (Statuses::Missing, Some(_)) => false,
        }
    }
}

impl Rule {
    fn matches(&self, status: Option<StatusCode>, words: &Words) -> bool {
        self.statuses.contain(status)
            && (self.codes.iter().any(|code| words.has_code(code))
                || self.phrases.iter().any(|phrase| words.texts.contains(phrase)))
    }
}

impl Words {
    fn has_code(&self, code: &str) -> bool {
        self.codes.iter().any(|said| said.eq_ignore_ascii_case(code))
    }
}

/// The kind of an error: by the first rule that matches, else by its status.
pub(super) fn kind(own: &FaultRules, status: Option<StatusCode>, words: &Words) -> FaultKind {
    let own = own.iter().find(|rule| rule.matches(status, words)).map(|rule| rule.kind);
    let known = || RULES.iter().find(|rule| rule.matches(status, words)).map(|rule| rule.kind);
    let by_status = || FaultKind::from_status(status?);
    own.or_else(known).or_else(by_status).unwrap_or(FaultKind::Unavailable)
}

/// Rules of your own, asked before those that are built in: for a provider, or a gateway in front of one, that speaks of
/// its failures in its own way.
///
/// ```
/// use tower_failover::{FaultKind, ProviderLayer, provider::{FaultRule, FaultRules}};
///
/// let rules = FaultRules::from([
///     FaultRule::new(FaultKind::QuotaExhausted).with_status(429).with_phrase("team budget is spent"),
///     FaultRule::new(FaultKind::Overloaded).with_code("E_BUSY").with_code("E_QUEUE_FULL"),
/// ]);
/// let layer = ProviderLayer::new().with_rules(rules);
/// # let _ = layer;
/// ```
///
/// They are asked in their order, and the first that matches decides.
///
#[doc = include_str!("../../../docs/faults.md")]
#[derive(Clone, Debug, Default)]
pub struct FaultRules(Option<Arc<[FaultRule]>>);

impl FaultRules {
    /// None.
    pub(crate) const NONE: FaultRules = FaultRules(None);

    fn iter(&self) -> impl Iterator<Item = &FaultRule> {
        self.0.iter().flat_map(|rules| rules.iter())
    }
}

impl FromIterator<FaultRule> for FaultRules {
    fn from_iter<I: IntoIterator<Item = FaultRule>>(rules: I) -> Self {
        FaultRules(Some(rules.into_iter().collect()))
    }
}

impl<const N: usize> From<[FaultRule; N]> for FaultRules {
    fn from(rules: [FaultRule; N]) -> Self {
        FaultRules(Some(Arc::new(rules)))
    }
}

/// One of the [`FaultRules`]: what kind of failure an error with certain words is.
///
/// It matches an error that has one of its statuses (any, where it names none) and one of its codes or phrases (any
/// words, where it names none). A rule that names nothing matches nothing.
#[derive(Clone, Debug)]
pub struct FaultRule {
    kind: FaultKind,
    statuses: Vec<u16>,
    codes: Vec<Box<str>>,
    phrases: Vec<Box<str>>,
}

impl FaultRule {
    /// A rule for that kind of failure.
    #[must_use]
    pub fn new(kind: FaultKind) -> Self {
        FaultRule { kind, statuses: Vec::new(), codes: Vec::new(), phrases: Vec::new() }
    }

    /// Adds an HTTP status. An error inside a good response has none, and then its words decide alone.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.statuses.push(status);
        self
    }

    /// Adds a code, type, status or reason as it stands in the error's body, without regard to case:
    /// `"insufficient_quota"`.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<Box<str>>) -> Self {
        self.codes.push(code.into());
        self
    }

    /// Adds a part of the error's message, without regard to case.
    #[must_use]
    pub fn with_phrase(mut self, phrase: impl AsRef<str>) -> Self {
        self.phrases.push(phrase.as_ref().to_lowercase().into());
        self
    }

    fn matches(&self, status: Option<StatusCode>, words: &Words) -> bool {
        let wordless = self.codes.is_empty() && self.phrases.is_empty();
        let said = self.codes.iter().any(|code| words.has_code(code))
            || self.phrases.iter().any(|phrase| words.texts.contains(&**phrase));
        match status {
            _ if self.statuses.is_empty() => said,
            Some(status) => self.statuses.contains(&status.as_u16()) && (wordless || said),
            None => said,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    fn words(code: &str, text: &str) -> Words {
        Words { codes: vec![code.into()], texts: text.into(), ..Words::default() }
    }

    #[test]
    fn phrases_about_the_request_are_not_trusted_on_a_server_error() {
        let kind = |status, text: &str| kind(&FaultRules::NONE, StatusCode::from_u16(status).ok(), &words("", text));
        for text in ["maximum context length of the queue", "does not support", "insufficient balance"] {
            assert_eq!(kind(500, text), FaultKind::Unavailable, "{text}");
            assert_ne!(kind(400, text), FaultKind::Unavailable, "{text}");
        }
    }

    #[test]
    fn rules_are_spelt_so_that_they_can_match() {
        for rule in RULES {
            assert!(rule.phrases.iter().all(|phrase| *phrase == phrase.to_lowercase()));
            assert!(rule.codes.iter().all(|code| *code == code.to_lowercase()));
            assert!(!rule.codes.is_empty() || !rule.phrases.is_empty());
        }
    }

    #[test]
    fn the_users_rules_are_asked_first_and_in_their_order() {
        let rules = FaultRules::from([
            FaultRule::new(FaultKind::Overloaded).with_status(400).with_code("E_BUSY").with_phrase("Come Back"),
            FaultRule::new(FaultKind::Timeout).with_code("e_busy"),
            FaultRule::new(FaultKind::NotFound).with_status(418),
            FaultRule::new(FaultKind::Cancelled),
        ]);
        for (status, code, text, expected) in [
            (Some(400), "e_busy", "", FaultKind::Overloaded),
            (Some(400), "", "please come back", FaultKind::Overloaded),
            (Some(400), "invalid_api_key", "please come back", FaultKind::Overloaded),
            (None, "", "please come back", FaultKind::Overloaded),
            (Some(500), "e_busy", "", FaultKind::Timeout),
            (Some(418), "", "", FaultKind::NotFound),
            (Some(400), "", "", FaultKind::BadRequest),
            (None, "", "", FaultKind::Unavailable),
        ] {
            let status = status.map(|status| StatusCode::from_u16(status).unwrap());
            assert_eq!(kind(&rules, status, &words(code, text)), expected, "{status:?} {code} {text}");
        }
    }

    /// The table for people. `UPDATE_DOCS=1 cargo test` writes it.
    #[test]
    fn the_documented_rules_are_the_rules() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/faults.md");
        let documented = documented();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &documented).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap().replace("\r\n", "\n");
        assert!(found == documented, "docs/faults.md is not what the rules are: UPDATE_DOCS=1 cargo test writes it");
    }

    fn documented() -> String {
        let mut text = String::from(
            "# The rules that are built in\n\n\
             What a provider's error means is decided by the first rule that matches. A rule matches when the status is \
             one of its own, and the error has one of its codes (a code, type, status or reason anywhere in the body, \
             as a whole, in any case) or one of its phrases (a part of any text in the body, in any case). An error \
             inside a good response has no status unless its body names one; to such an error every rule is open.\n\n",
        );
        for (at, rule) in RULES.iter().enumerate() {
            let statuses = match rule.statuses {
                Statuses::Any => "any status".to_owned(),
                Statuses::Missing => "no status".to_owned(),
                Statuses::Of(statuses) => statuses.iter().map(u16::to_string).collect::<Vec<_>>().join(", "),
            };
            writeln!(text, "{}. **`{}`** ({statuses})", at + 1, rule.kind.name()).unwrap();
            for (what, words) in [("Codes", rule.codes), ("Phrases", rule.phrases)] {
                let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
                if !words.is_empty() {
                    writeln!(text, "   - {what}: {}", words.join(", ")).unwrap();
                }
            }
        }
        text.push_str("\nWhere none matches, the status decides:\n\n| status | kind |\n|---|---|\n");
        let mut by_kind: Vec<(FaultKind, Vec<String>)> = Vec::new();
        for status in 400..600 {
            let kind = FaultKind::from_status(StatusCode::from_u16(status).unwrap()).unwrap();
            if matches!(kind, FaultKind::BadRequest | FaultKind::Unavailable) {
                continue;
            }
            match by_kind.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, statuses)) => statuses.push(status.to_string()),
                None => by_kind.push((kind, vec![status.to_string()])),
            }
        }
        for (kind, statuses) in by_kind {
            writeln!(text, "| {} | `{}` |", statuses.join(", "), kind.name()).unwrap();
        }
        text.push_str("| any other 4xx | `bad_request` |\n| any other 5xx, or none | `unavailable` |\n");
        text
    }

    fn quoted(word: &str) -> String {
        match word.contains('`') {
            true => format!("`` {word} ``"),
            false => format!("`{word}`"),
        }
    }
}
