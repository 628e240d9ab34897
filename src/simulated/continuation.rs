//! How a provider goes on with an answer that another began.

use std::{fmt, str::FromStr};

/// What a [`SimulatedProvider`](super::SimulatedProvider) does with a request whose messages end with an assistant's turn
/// (a prefill), or with one and an instruction to continue it.
///
/// What it would have said to the turn before, had it been asked, is the same each time: the *whole text*. What was said
/// already is taken to be as much of it as it has characters, whatever it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Continuation {
    /// The rest of the whole text.
    #[default]
    Exact,
    /// The whole text, from its beginning.
    Restart,
    /// The rest, and so many characters before it once more.
    Overlap(usize),
    /// The whole text from its beginning, its third word and every third after that another.
    Paraphrase,
    /// "Sure, continuing: ", and the rest.
    Preface,
    /// The whole text from its beginning, in capitals.
    ChangeCase,
}

impl Continuation {
    /// What it says, of that whole text, when that much was said.
    pub(super) fn of(self, whole: &str, said: &str) -> String {
        let said = said.chars().count();
        let from = |skipped| whole.chars().skip(skipped).collect::<String>();
        match self {
            Self::Exact => from(said),
            Self::Restart => whole.to_owned(),
            Self::Overlap(again) => from(said.saturating_sub(again)),
            Self::Paraphrase => {
                let other = |(n, word)| if n % 3 == 2 { format!("otherwise{n}") } else { String::from(word) };
                whole.split(' ').enumerate().map(other).collect::<Vec<_>>().join(" ")
            }
            Self::Preface => format!("Sure, continuing: {}", from(said)),
            Self::ChangeCase => whole.to_uppercase(),
        }
    }
}

/// `exact`, `restart`, `overlap:N`, `paraphrase`, `preface`, `change-case`.
impl fmt::Display for Continuation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("exact"),
            Self::Restart => f.write_str("restart"),
            Self::Overlap(characters) => write!(f, "overlap:{characters}"),
            Self::Paraphrase => f.write_str("paraphrase"),
            Self::Preface => f.write_str("preface"),
            Self::ChangeCase => f.write_str("change-case"),
        }
    }
}

/// The text is not a [`Continuation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseContinuationError;

impl fmt::Display for ParseContinuationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected exact, restart, overlap:N, paraphrase, preface or change-case")
    }
}

impl std::error::Error for ParseContinuationError {}

impl FromStr for Continuation {
    type Err = ParseContinuationError;

    fn from_str(text: &str) -> Result<Self, ParseContinuationError> {
        Ok(match text {
            "exact" => Self::Exact,
            "restart" => Self::Restart,
            "paraphrase" => Self::Paraphrase,
            "preface" => Self::Preface,
            "change-case" => Self::ChangeCase,
            _ => {
                let characters = text.strip_prefix("overlap:").and_then(|number| number.parse().ok());
                Self::Overlap(characters.ok_or(ParseContinuationError)?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_go_on() {
        let whole = "Größe ist nicht alles.";
        let said = "another fi"; // ten characters
        for (how, expected) in [
            ("exact", "nicht alles."),
            ("restart", whole),
            ("overlap:4", "ist nicht alles."),
            ("overlap:99", whole),
            ("paraphrase", "Größe ist otherwise2 alles."),
            ("preface", "Sure, continuing: nicht alles."),
            ("change-case", "GRÖSSE IST NICHT ALLES."),
        ] {
            let continuation: Continuation = how.parse().unwrap();
            assert_eq!(continuation.of(whole, said), expected, "{how}");
            assert_eq!(continuation.to_string(), how);
        }
        assert_eq!(Continuation::Exact.of("ab", "abc"), "");
        assert_eq!("overlap".parse::<Continuation>(), Err(ParseContinuationError));
    }
}
