//! What a target offers, what a request needs, and the difference.

use std::{collections::BTreeSet, fmt, time::Duration};

use crate::{Dialect, Feature, Features, Target};

macro_rules! abilities {
    ($( $(#[$doc:meta])* $variant:ident $name:literal, )*) => {
        /// Something that a model either can do or cannot.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Ability { $( $(#[$doc])* $variant, )* }

        impl Ability {
            /// Every ability.
            pub const ALL: &'static [Ability] = &[ $( Ability::$variant, )* ];

            /// The ability's stable name, as in configuration files: `"structured_output"`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Ability::$variant => $name, )* }
            }
        }
    };
}

abilities! {
    /// Answers as a stream of events.
    Streaming "streaming",
    /// Calls tools.
    Tools "tools",
    /// Calls several tools in one turn.
    ParallelTools "parallel_tools",
    /// Answers in a given JSON schema.
    StructuredOutput "structured_output",
    /// Reads images.
    ImageInput "image_input",
    /// Hears audio.
    AudioInput "audio_input",
    /// Reads documents.
    DocumentInput "document_input",
    /// Reasons at an effort that the request sets.
    Reasoning "reasoning",
    /// Continues an assistant turn that the request begins.
    Prefill "prefill",
}

/// A set of [`Ability`] values.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Abilities(u16);

impl Abilities {
    /// The set without any.
    pub const NONE: Abilities = Abilities(0);

    /// Adds one.
    pub fn insert(&mut self, ability: Ability) {
        self.0 |= 1 << ability as u16;
    }

    /// Whether the set holds it.
    #[must_use]
    pub fn contains(self, ability: Ability) -> bool {
        self.0 & (1 << ability as u16) != 0
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that both sets hold.
    #[must_use]
    pub fn intersection(self, other: Abilities) -> Abilities {
        Abilities(self.0 & other.0)
    }

    /// The abilities in the set.
    pub fn iter(self) -> impl Iterator<Item = Ability> {
        Ability::ALL.iter().copied().filter(move |ability| self.contains(*ability))
    }
}

impl FromIterator<Ability> for Abilities {
    fn from_iter<I: IntoIterator<Item = Ability>>(abilities: I) -> Self {
        let mut set = Abilities::NONE;
        abilities.into_iter().for_each(|ability| set.insert(ability));
        set
    }
}

impl fmt::Debug for Abilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What a target offers. What nothing is said of is taken as offered: a wrong refusal loses an answer, a wrong
/// try only costs one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    context_window: Option<u64>,
    max_output_tokens: Option<u64>,
    lacks: Abilities,
    languages: Option<BTreeSet<Box<str>>>,
}

impl Capabilities {
    /// Capable of everything, as far as is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The most tokens that input and output may have together or, of a model that bounds its input by itself, the input.
    #[must_use]
    pub fn with_context_window(mut self, tokens: u64) -> Self {
        self.context_window = Some(tokens);
        self
    }

    /// The most tokens that an answer may have.
    #[must_use]
    pub fn with_max_output_tokens(mut self, tokens: u64) -> Self {
        self.max_output_tokens = Some(tokens);
        self
    }

    /// Says that the ability is missing.
    #[must_use]
    pub fn without(mut self, ability: Ability) -> Self {
        self.lacks.insert(ability);
        self
    }

    /// Says that the ability is there, though it was said to be missing.
    #[must_use]
    pub fn with(mut self, ability: Ability) -> Self {
        self.lacks.0 &= !(1 << ability as u16);
        self
    }

    /// The only languages that it speaks (BCP 47 tags, compared without regard to case).
    #[must_use]
    pub fn with_languages<I: IntoIterator<Item = S>, S: AsRef<str>>(mut self, languages: I) -> Self {
        self.languages = Some(languages.into_iter().map(|tag| tag.as_ref().to_ascii_lowercase().into()).collect());
        self
    }

    /// The context window in tokens, where known.
    #[must_use]
    pub fn context_window(&self) -> Option<u64> {
        self.context_window
    }

    /// The most tokens that an answer may have, where known.
    #[must_use]
    pub fn max_output_tokens(&self) -> Option<u64> {
        self.max_output_tokens
    }

    /// Whether it has the ability, as far as is known.
    #[must_use]
    pub fn offers(&self, ability: Ability) -> bool {
        !self.lacks.contains(ability)
    }

    /// What is known to be missing.
    pub(crate) fn lacks(&self) -> Abilities {
        self.lacks
    }

    /// Whether nothing is known to be missing, so that nothing needs comparing.
    #[must_use]
    pub fn is_unrestricted(&self) -> bool {
        *self == Self::default()
    }
}

/// What a request needs of the target that answers it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    /// The abilities that it uses.
    pub abilities: Abilities,
    /// What it uses that not every dialect has a word for.
    pub features: Features,
    /// How many tokens its input has: an estimate, where it comes from the request's body; see
    /// [`dialect`](crate::dialect#token-estimate).
    pub input_tokens: u64,
    /// How many tokens its input has at the least, where [`input_tokens`](Self::input_tokens) is an estimate: a window that
    /// holds these is not taken for too small.
    pub least_input_tokens: Option<u64>,
    /// The most tokens it wants to have answered, where it says.
    pub max_output_tokens: Option<u64>,
    /// Tags that every target tried must carry (residency, compliance).
    pub tags: BTreeSet<Box<str>>,
    /// Languages that the target must speak (BCP 47 tags in lower case).
    pub languages: BTreeSet<Box<str>>,
    /// How long the first output may take.
    pub max_time_to_first_output: Option<Duration>,
}

impl Requirements {
    /// What of these a target does not offer to a client of that dialect, if anything.
    ///
    /// # Errors
    ///
    /// Every unmet need, so that whoever reads it can mend all at once.
    pub fn check_target(&self, target: &Target, client: Option<Dialect>) -> Result<(), Unmet> {
        let mut unmet = match self.check(target.capabilities(), target.tags()) {
            Ok(()) => Vec::new(),
            Err(unmet) => unmet.0.into_vec(),
        };
        let provider = target.provider().map(|provider| provider.dialect());
        if let (Some(client), Some(provider)) = (client, provider) {
            let lost = |feature: &Feature| client != provider && !feature.survives_translation_to(provider);
            unmet.extend(self.features.iter().filter(lost).map(Need::Feature));
        }
        Unmet::new(unmet).map_or(Ok(()), Err)
    }

    /// What of these the capabilities and tags do not offer, if anything.
    ///
    /// # Errors
    ///
    /// Every unmet need, so that whoever reads it can mend all at once.
    pub fn check(&self, offered: &Capabilities, tags: &BTreeSet<Box<str>>) -> Result<(), Unmet> {
        let mut unmet = Vec::new();
        unmet.extend(self.abilities.intersection(offered.lacks).iter().map(Need::Ability));
        if let Some(window) = offered.context_window {
            let needed = self.input_tokens.saturating_add(self.max_output_tokens.unwrap_or(0));
            // A request may ask for more output than fits behind its input; and an estimate may be too high: only an
            // input that fills the window for certain is refused.
            if self.least_input_tokens.unwrap_or(self.input_tokens) >= window {
                unmet.push(Need::ContextWindow { needed, offered: window });
            }
        }
        if let (Some(needed), Some(most)) = (self.max_output_tokens, offered.max_output_tokens) {
            if needed > most {
                unmet.push(Need::MaxOutputTokens { needed, offered: most });
            }
        }
        unmet.extend(self.tags.difference(tags).cloned().map(Need::Tag));
        if let Some(spoken) = &offered.languages {
            unmet.extend(self.languages.difference(spoken).cloned().map(Need::Language));
        }
        Unmet::new(unmet).map_or(Ok(()), Err)
    }
}

/// One thing that a request needs and a target does not offer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// An ability.
    Ability(Ability),
    /// A feature that the target's dialect has no word for.
    Feature(Feature),
    /// A context window of so many tokens.
    ContextWindow {
        /// The request's estimated input, and the output that it asks for.
        needed: u64,
        /// The target's window.
        offered: u64,
    },
    /// An answer of so many tokens.
    MaxOutputTokens {
        /// What the request asks for.
        needed: u64,
        /// The most that the target gives.
        offered: u64,
    },
    /// A tag.
    Tag(Box<str>),
    /// A language.
    Language(Box<str>),
    /// A first output within so long. A target that lately was slower is passed over while there are others.
    TimeToFirstOutput {
        /// How long it may take.
        allowed: Duration,
        /// Within how long 95 of 100 streams lately began.
        recent: Duration,
    },
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Need::Ability(ability) => f.write_str(ability.name()),
            Need::Feature(feature) => write!(f, "{feature} (not in the target's dialect)"),
            Need::ContextWindow { needed, offered } => {
                write!(f, "context_window ({needed} tokens needed, {offered} offered)")
            }
            Need::MaxOutputTokens { needed, offered } => {
                write!(f, "max_output_tokens ({needed} asked for, {offered} offered)")
            }
            Need::Tag(tag) => write!(f, "tag {tag:?}"),
            Need::Language(language) => write!(f, "language {language:?}"),
            Need::TimeToFirstOutput { allowed, recent } => {
                write!(f, "max_ttft ({allowed:?} allowed, 5 of 100 lately took more than {recent:?})")
            }
        }
    }
}

/// Everything that a request needs and a target does not offer; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet(Box<[Need]>);

impl Unmet {
    /// These needs; `None` when there are none.
    pub(crate) fn new(needs: Vec<Need>) -> Option<Self> {
        (!needs.is_empty()).then(|| Unmet(needs.into()))
    }

    /// The needs.
    #[must_use]
    pub fn needs(&self) -> &[Need] {
        &self.0
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, need) in self.0.iter().enumerate() {
            write!(f, "{}{need}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nothing_is_said_of_is_offered() {
        let needs = Requirements {
            abilities: Ability::ALL.iter().copied().collect(),
            input_tokens: 1 << 40,
            max_output_tokens: Some(1 << 40),
            languages: ["fi".into()].into(),
            ..Requirements::default()
        };
        assert_eq!(needs.check(&Capabilities::new(), &BTreeSet::new()), Ok(()));
        assert!(Capabilities::new().is_unrestricted());
    }

    #[test]
    fn every_unmet_need_is_named() {
        let needs = Requirements {
            abilities: [Ability::Tools, Ability::Streaming].into_iter().collect(),
            input_tokens: 40_000,
            max_output_tokens: Some(9_000),
            tags: ["eu".into(), "zdr".into()].into(),
            languages: ["de".into()].into(),
            ..Requirements::default()
        };
        let offered = Capabilities::new()
            .with_context_window(32_000)
            .with_max_output_tokens(8_000)
            .without(Ability::Tools)
            .with_languages(["EN"]);
        let unmet = needs.check(&offered, &["zdr".into()].into()).unwrap_err();
        assert_eq!(
            unmet.to_string(),
            "tools, context_window (49000 tokens needed, 32000 offered), \
             max_output_tokens (9000 asked for, 8000 offered), tag \"eu\", language \"de\""
        );
    }
}
