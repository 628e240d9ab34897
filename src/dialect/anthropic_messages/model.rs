//! What the families of models take and refuse. One table: whatever else depends on a model asks here.

use crate::dialect::canonical::Effort::{self, High, Low, Max, Medium, XHigh};

/// What a family of models takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Family {
    /// How its names go on behind `claude-`.
    name: &'static str,
    pub(super) thinking: Thinking,
    /// The efforts that it knows (`output_config.effort`), the least first.
    pub(super) efforts: &'static [Effort],
    /// Whether it takes `temperature`, `top_p` and `top_k`.
    pub(super) sampling: bool,
    /// Whether it can be made to call a tool. Those that always think cannot.
    pub(super) forced_tools: bool,
    /// Whether it goes on with an assistant's turn that the request begins.
    pub(super) prefill: bool,
    /// Whether it knows `output_config.format`, and `strict` tools.
    pub(super) structured_output: bool,
}

/// How a model is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinking {
    /// It does not.
    Never,
    /// `{"type":"enabled","budget_tokens":…}`.
    Budget,
    /// That, or `{"type":"adaptive"}`.
    Either,
    /// `{"type":"adaptive"}` only.
    Adaptive,
}

const TO_HIGH: &[Effort] = &[Low, Medium, High];
const WITH_MAX: &[Effort] = &[Low, Medium, High, Max];
const ALL: &[Effort] = &[Low, Medium, High, XHigh, Max];

#[rustfmt::skip]
const FAMILIES: &[Family] = &[
    //     name              thinking           efforts   sampling forced prefill structured
    family("",               Thinking::Adaptive, ALL,      false,  true,  false, true),
    family("2",              Thinking::Never,    &[],      true,   true,  true,  false),
    family("instant",        Thinking::Never,    &[],      true,   true,  true,  false),
    family("3",              Thinking::Never,    &[],      true,   true,  true,  false),
    family("3-7",            Thinking::Budget,   &[],      true,   true,  true,  false),
    family("opus-4",         Thinking::Budget,   &[],      true,   true,  true,  false),
    family("sonnet-4",       Thinking::Budget,   &[],      true,   true,  true,  false),
    family("opus-4-1",       Thinking::Budget,   &[],      true,   true,  true,  true),
    family("sonnet-4-5",     Thinking::Budget,   &[],      true,   true,  true,  true),
    family("haiku-4-5",      Thinking::Budget,   &[],      true,   true,  true,  true),
    family("opus-4-5",       Thinking::Budget,   TO_HIGH,  true,   true,  true,  true),
    family("opus-4-6",       Thinking::Either,   WITH_MAX, true,   true,  false, true),
    family("sonnet-4-6",     Thinking::Either,   WITH_MAX, true,   true,  false, true),
    family("opus-4-7",       Thinking::Adaptive, ALL,      false,  true,  false, true),
    family("opus-4-8",       Thinking::Adaptive, ALL,      false,  true,  false, true),
    family("opus-5",         Thinking::Adaptive, ALL,      false,  true,  false, true),
    family("opus-5-5",       Thinking::Adaptive, ALL,      false,  false, false, true),
    family("sonnet-5",       Thinking::Adaptive, ALL,      false,  true,  false, true),
    family("sonnet-5-5",     Thinking::Adaptive, ALL,      false,  false, false, true),
    family("haiku-5-5",      Thinking::Adaptive, ALL,      false,  true,  false, true),
    family("fable-5",        Thinking::Adaptive, ALL,      false,  true,  false, true),
    family("fable-5-1",      Thinking::Adaptive, ALL,      false,  false, false, true),
    family("mythos-5",       Thinking::Adaptive, ALL,      false,  true,  false, true),
    family("mythos-5-1",     Thinking::Adaptive, ALL,      false,  false, false, true),
    family("mythos-preview", Thinking::Adaptive, ALL,      false,  true,  false, true),
];

/// Other vendors' models behind this API: they take what it had from the beginning.
const FOREIGN: Family = family("", Thinking::Budget, &[], true, true, true, true);

const fn family(
    name: &'static str,
    thinking: Thinking,
    efforts: &'static [Effort],
    sampling: bool,
    forced_tools: bool,
    prefill: bool,
    structured_output: bool,
) -> Family {
    Family { name, thinking, efforts, sampling, forced_tools, prefill, structured_output }
}

impl Family {
    /// The one of the model with that name, however it is spelled by whoever serves it: the one with the longest name that
    /// fits. A Claude that is not known is taken for a newer one.
    pub(super) fn of(model: &str) -> Family {
        let model = model.to_ascii_lowercase().replace('.', "-");
        let Some((_, name)) = model.rsplit_once("claude-") else { return FOREIGN };
        let fits = |family: &&Family| {
            let rest = name.strip_prefix(family.name);
            rest.is_some_and(|rest| family.name.is_empty() || !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
        };
        FAMILIES.iter().filter(fits).max_by_key(|family| family.name.len()).copied().unwrap_or(FOREIGN)
    }

    /// The effort that it knows and that is nearest from below; the least that it knows, if there is none.
    pub(super) fn nearest(&self, effort: Effort) -> Option<Effort> {
        let below = self.efforts.iter().rev().find(|known| **known <= effort);
        below.or(self.efforts.first()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_of_the_family_with_the_longest_name_that_fits() {
        for (model, name) in [
            ("claude-3-5-haiku-20241022", "3"),
            ("claude-3-7-sonnet-latest", "3-7"),
            ("claude-sonnet-4-20250514", "sonnet-4"),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "sonnet-4-5"),
            ("claude-opus-4-1@20250805", "opus-4-1"),
            ("anthropic/claude-opus-4.7", "opus-4-7"),
            ("Claude-Opus-5", "opus-5"),
            ("claude-opus-5-5", "opus-5-5"),
            ("claude-opus-55", ""),
            ("claude-saga-7", ""),
        ] {
            assert_eq!(Family::of(model).name, name, "{model}");
        }
        assert_eq!(Family::of("kimi-k2"), FOREIGN);
        assert_eq!(Family::of("claude-saga-7").thinking, Thinking::Adaptive);
    }

    #[test]
    fn an_effort_that_a_model_lacks_is_the_next_below() {
        let nearest = |model, effort| Family::of(model).nearest(effort);
        assert_eq!(nearest("claude-opus-4-6", XHigh), Some(High));
        assert_eq!(nearest("claude-opus-4-6", Max), Some(Max));
        assert_eq!(nearest("claude-opus-5", Effort::Minimal), Some(Low));
        assert_eq!(nearest("claude-haiku-4-5", High), None);
    }
}
