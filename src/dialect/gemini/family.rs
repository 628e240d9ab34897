//! What is known of a model by its name.

use crate::dialect::canonical::Effort;

/// A generation of models that behave alike. Whatever is not known by its name is taken as the newest that takes both ways of
/// asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Family {
    /// `(2, 5)` for `gemini-2.5-flash`.
    generation: Option<(u32, u32)>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pro,
    Flash,
    FlashLite,
    Other,
}

/// How a model is told how much to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinking {
    /// `thinkingLevel`.
    Level,
    /// `thinkingBudget`.
    Budget,
    /// It does not think.
    None,
}

impl Family {
    /// That of a model by the JSON text of its name.
    pub(super) fn of(model: Option<&str>) -> Family {
        let name = model.unwrap_or_default().to_ascii_lowercase();
        let kind = match &name {
            name if name.contains("flash-lite") => Kind::FlashLite,
            name if name.contains("flash") => Kind::Flash,
            name if name.contains("pro") => Kind::Pro,
            _ => Kind::Other,
        };
        Family { generation: generation(&name), kind }
    }

    fn is_at_least(self, generation: (u32, u32)) -> bool {
        self.generation.is_some_and(|own| own >= generation)
    }

    /// Whether it is of those that want every call back with its signature.
    pub(super) fn wants_signatures(self) -> bool {
        self.is_at_least((3, 0))
    }

    /// Whether media may be part of a tool's result.
    pub(super) fn takes_media_in_results(self) -> bool {
        self.is_at_least((3, 0))
    }

    /// Whether an answer may be asked for in JSON where there are tools.
    pub(super) fn takes_format_beside_tools(self) -> bool {
        self.generation.is_none_or(|generation| generation >= (3, 0))
    }

    /// Whether `temperature` and its like are taken.
    pub(super) fn takes_sampling(self) -> bool {
        let refuses = match self.kind {
            Kind::FlashLite => self.is_at_least((3, 5)),
            Kind::Flash => self.is_at_least((3, 6)),
            Kind::Pro | Kind::Other => false,
        };
        !refuses
    }

    pub(super) fn thinking(self) -> Thinking {
        match self.generation {
            Some(generation) if generation >= (3, 0) => Thinking::Level,
            Some(generation) if generation < (2, 5) => Thinking::None,
            _ => Thinking::Budget,
        }
    }

    /// The level for an effort, and whether it says just that.
    pub(super) fn level(self, effort: Effort) -> (&'static str, bool) {
        let (first_pro, pro) = (self.kind == Kind::Pro && self.generation == Some((3, 0)), self.kind == Kind::Pro);
        match effort {
            Effort::None | Effort::Minimal if pro || self.is_at_least((3, 7)) => ("LOW", false),
            Effort::None => ("MINIMAL", false),
            Effort::Minimal => ("MINIMAL", true),
            Effort::Low => ("LOW", true),
            Effort::Medium if first_pro => ("HIGH", false),
            Effort::Medium => ("MEDIUM", true),
            Effort::High => ("HIGH", true),
            Effort::XHigh | Effort::Max => ("HIGH", false),
        }
    }

    /// The budget nearest to that which it takes.
    pub(super) fn budget(self, budget: u64) -> u64 {
        match self.kind {
            Kind::Pro => budget.clamp(128, 32_768),
            Kind::FlashLite if budget > 0 => budget.clamp(512, 24_576),
            Kind::Flash | Kind::FlashLite => budget.min(24_576),
            Kind::Other => budget,
        }
    }
}

/// The numbers behind `gemini-` in a name.
fn generation(name: &str) -> Option<(u32, u32)> {
    let rest = &name[name.find("gemini-")? + "gemini-".len()..];
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (major, rest) = rest.split_at(digits(rest));
    let minor = rest.strip_prefix('.').map_or("0", |rest| &rest[..digits(rest)]);
    Some((major.parse().ok()?, minor.parse().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_generation() {
        for (name, signatures, thinking) in [
            ("gemini-3-pro-preview", true, Thinking::Level),
            ("publishers/google/models/gemini-3.5-flash", true, Thinking::Level),
            ("gemini-10-ultra", true, Thinking::Level),
            ("models/gemini-2.5-flash", false, Thinking::Budget),
            ("gemini-2.0-flash", false, Thinking::None),
            ("gemini-flash-latest", false, Thinking::Budget),
            ("gemma-3", false, Thinking::Budget),
        ] {
            let family = Family::of(Some(&format!("\"{name}\"")));
            assert_eq!((family.wants_signatures(), family.thinking()), (signatures, thinking), "{name}");
        }
        assert!(Family::of(None).takes_sampling() && Family::of(None).takes_format_beside_tools());
        assert!(!Family::of(Some("\"gemini-3.6-flash\"")).takes_sampling());
        assert!(!Family::of(Some("\"gemini-2.5-pro\"")).takes_format_beside_tools());
    }

    #[test]
    fn efforts_become_what_the_model_knows() {
        let family = |name| Family::of(Some(name));
        assert_eq!(family("gemini-3-pro").level(Effort::Medium), ("HIGH", false));
        assert_eq!(family("gemini-3.1-pro").level(Effort::Medium), ("MEDIUM", true));
        assert_eq!(family("gemini-3-flash").level(Effort::Minimal), ("MINIMAL", true));
        assert_eq!(family("gemini-3.8-flash").level(Effort::Minimal), ("LOW", false));
        assert_eq!(family("gemini-2.5-pro").budget(0), 128);
        assert_eq!(family("gemini-2.5-flash-lite").budget(1), 512);
        assert_eq!(family("gemini-2.5-flash").budget(0), 0);
    }
}
