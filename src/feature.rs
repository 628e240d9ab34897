//! What a request uses that not every dialect has a word for.

use std::fmt;

use crate::Dialect;

/// Something that a request may use and that cannot be said to every provider.
///
/// A request with one of these goes only to targets that speak the client's dialect, or another one that has a word for it:
/// to leave it out would give another answer than was asked for. What can be left out is a loss: see
/// [`Attempt::losses`](crate::Attempt::losses).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Feature {
    /// Several answers to one request (`n`, `candidateCount`).
    SeveralAnswers,
    /// How probable each token was.
    LogProbabilities,
    /// Audio in the request.
    AudioInput,
    /// Video in the request.
    VideoInput,
    /// An answer that is heard or seen.
    MediaOutput,
    /// A tool that runs at the provider (web search, code execution), or one that takes no JSON.
    ProviderTools,
    /// Vectors instead of an answer: only OpenAI's APIs, and those that are compatible, give them in this way.
    Embeddings,
    /// An answer that the request begins and the model goes on writing: only Anthropic's API does so by its word.
    Prefill,
    /// Something that lies with the provider: an earlier answer, a conversation, a file, a cached text, a prompt template.
    StoredAtProvider,
}

impl Feature {
    /// Every feature.
    pub const ALL: &'static [Feature] = &[
        Feature::SeveralAnswers,
        Feature::LogProbabilities,
        Feature::AudioInput,
        Feature::VideoInput,
        Feature::MediaOutput,
        Feature::ProviderTools,
        Feature::Embeddings,
        Feature::Prefill,
        Feature::StoredAtProvider,
    ];

    /// Its stable name: `"provider_tools"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Feature::SeveralAnswers => "several_answers",
            Feature::LogProbabilities => "log_probabilities",
            Feature::AudioInput => "audio_input",
            Feature::VideoInput => "video_input",
            Feature::MediaOutput => "media_output",
            Feature::ProviderTools => "provider_tools",
            Feature::Embeddings => "embeddings",
            Feature::Prefill => "prefill",
            Feature::StoredAtProvider => "stored_at_provider",
        }
    }

    /// Whether a request with it can be told in that dialect when it was made in another one.
    #[must_use]
    pub const fn survives_translation_to(self, dialect: Dialect) -> bool {
        match self {
            Feature::AudioInput => matches!(dialect, Dialect::OpenAiChat | Dialect::Gemini),
            // They are the same at all of OpenAI's APIs.
            Feature::Embeddings => matches!(dialect, Dialect::OpenAiChat | Dialect::OpenAiResponses),
            Feature::Prefill => matches!(dialect, Dialect::AnthropicMessages),
            _ => false,
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of [`Feature`] values.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Features(u16);

impl Features {
    /// The set without any.
    pub const NONE: Features = Features(0);

    /// Adds one.
    pub fn insert(&mut self, feature: Feature) {
        self.0 |= 1 << feature as u16;
    }

    /// Whether the set holds it.
    #[must_use]
    pub fn contains(self, feature: Feature) -> bool {
        self.0 & (1 << feature as u16) != 0
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The features in the set.
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.iter().copied().filter(move |feature| self.contains(*feature))
    }
}

impl FromIterator<Feature> for Features {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        let mut set = Features::NONE;
        features.into_iter().for_each(|feature| set.insert(feature));
        set
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        for feature in Feature::ALL {
            let set = Features::from_iter([*feature]);
            assert_eq!(set.iter().collect::<Vec<_>>(), [*feature], "{feature}");
        }
        assert!(Features::NONE.is_empty() && !Features::from_iter(Feature::ALL.iter().copied()).is_empty());
    }
}
