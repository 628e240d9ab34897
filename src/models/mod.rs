//! What is known of mainstream models.

mod maker;
#[cfg(test)]
mod markdown;
mod name;
mod table;

use self::name::Name;
use crate::{Ability, Capabilities, Price, Target};

/// What a kind of models can do. What is in neither list is not known.
#[derive(Clone, Copy, Debug)]
struct Profile {
    offers: &'static [Ability],
    lacks: &'static [Ability],
    /// Whether a request that asks for a longer answer than the longest is refused by the API, for certain.
    refuses_more_output: bool,
}

/// A model of the built-in table: see [`known_models`].
///
/// ```
/// use tower_failover::{Ability, KnownModel};
///
/// let model = KnownModel::find("claude-sonnet-4-5-20250929").unwrap();
/// assert_eq!((model.name(), model.context_window()), ("claude-sonnet-4-5", 200_000));
/// assert_eq!(model.offers(Ability::Tools), Some(true));
/// assert!(KnownModel::find("a-deployment-of-mine").is_none());
/// ```
#[derive(Clone, Debug)]
pub struct KnownModel {
    name: &'static str,
    /// The [variant](crate::Variant::name) of the host that serves it as this says; `None` for whoever does.
    host: Option<&'static str>,
    context_window: u64,
    max_output_tokens: u64,
    profile: Profile,
    /// Input, output, cached input, input that is put into the cache; not a number where that is not known.
    price: [f64; 4],
    dearer_above: Option<u64>,
    retires: Option<&'static str>,
}

/// The built-in table of models: published facts, of the day that [`KnownModel::as_of`] tells. `docs/models.md` shows it.
///
/// A gateway's configuration uses it by itself, and whatever the configuration says comes before it. In a program, a target
/// uses it when it is [asked to](Target::with_known_capabilities).
pub fn known_models() -> impl Iterator<Item = &'static KnownModel> {
    table::MODELS.iter()
}

impl KnownModel {
    /// The model of that name, however it is spelled: with the date of a snapshot (`gpt-4o-2024-08-06`), with what providers
    /// put before it (`models/gemini-2.5-pro`, `openai/gpt-4o`), or as clouds have it
    /// (`us.anthropic.claude-sonnet-4-5-20250929-v1:0`).
    #[must_use]
    pub fn find(name: &str) -> Option<&'static KnownModel> {
        Self::find_at(&Name::parse(name)?, None)
    }

    /// The same of a model that is served by that host.
    fn find_at(name: &Name, host: Option<&str>) -> Option<&'static KnownModel> {
        let named = || table::MODELS.iter().filter(|model| model.host.is_none() || model.host == host);
        // A snapshot that has a line of its own is not what the model is today. What a host says of itself comes first.
        let exact = named().filter(|model| name.is_exactly(model.name)).max_by_key(|model| model.host.is_some());
        exact.or_else(|| named().filter(|model| name.is(model.name)).max_by_key(|model| model.host.is_some()))
    }

    /// The day on which all of the table was true: `"2026-11-21"`.
    #[must_use]
    pub fn as_of() -> &'static str {
        table::AS_OF
    }

    /// Its name, without the date of a snapshot.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The only [variant](crate::Variant::name) of provider that serves it in this way, if there is one.
    #[must_use]
    pub fn host(&self) -> Option<&'static str> {
        self.host
    }

    /// The most tokens that input and output may have together or, of a model that bounds its input by itself, the input.
    #[must_use]
    pub fn context_window(&self) -> u64 {
        self.context_window
    }

    /// The most tokens that an answer may have.
    #[must_use]
    pub fn max_output_tokens(&self) -> u64 {
        self.max_output_tokens
    }

    /// Whether it has the ability; `None` where that is not known.
    #[must_use]
    pub fn offers(&self, ability: Ability) -> Option<bool> {
        if self.profile.lacks.contains(&ability) {
            return Some(false);
        }
        self.profile.offers.contains(&ability).then_some(true)
    }

    /// What it charges at its list price, where that is known.
    #[must_use]
    pub fn price(&self) -> Option<Price> {
        let [input, output, cached, written] = self.price;
        let price = Price::new(input, output).ok()?;
        let price = price.with_cached_input(cached).unwrap_or(price);
        Some(price.with_cache_write_input(written).unwrap_or(price))
    }

    /// Above how many tokens of input all of a request is dearer than [`price`](Self::price) says, if it is.
    #[must_use]
    pub fn dearer_above(&self) -> Option<u64> {
        self.dearer_above
    }

    /// The day on which it is, or was, switched off, where that was announced.
    #[must_use]
    pub fn retires(&self) -> Option<&'static str> {
        self.retires
    }

    /// Whether its tokens are those of OpenAI's `o200k_base`, as far as is known: its own library `tiktoken` says so of these.
    /// With the feature `tokenizer`, requests to it are counted and not estimated.
    #[must_use]
    pub fn uses_o200k_base(&self) -> bool {
        const NAMES: [&str; 13] = [
            "gpt-5",
            "gpt-5-mini",
            "gpt-5-nano",
            "gpt-4.1",
            "gpt-4.1-mini",
            "gpt-4.1-nano",
            "gpt-4o",
            "gpt-4o-2024-05-13",
            "gpt-4o-mini",
            "o3",
            "o4-mini",
            // Their tokenizer is called `o200k_harmony`, and splits text in the same way.
            "gpt-oss-120b",
            "gpt-oss-20b",
        ];
        NAMES.contains(&self.name)
    }

    /// Whether the name may stand for another model tomorrow: nothing but the price is taken as known of it.
    #[must_use]
    pub fn moves(&self) -> bool {
        self.name.ends_with("-latest")
    }

    /// What a target can do that is this model. Only what is certain to be missing counts as missing: see
    /// [`Capabilities`].
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities_at(true)
    }

    fn capabilities_at(&self, its_own_host: bool) -> Capabilities {
        if self.moves() {
            return Capabilities::new();
        }
        let capabilities = Capabilities::new().with_context_window(self.context_window);
        let capabilities = match its_own_host && self.profile.refuses_more_output {
            true => capabilities.with_max_output_tokens(self.max_output_tokens),
            false => capabilities,
        };
        self.profile.lacks.iter().fold(capabilities, |capabilities, ability| capabilities.without(*ability))
    }
}

/// What is known of a target by its model's name and its provider's host.
struct Known {
    model: &'static KnownModel,
    /// Whether the table speaks of this very host, or this one serves the model on its maker's conditions.
    its_own_host: bool,
    is_regional: bool,
}

impl Known {
    fn of(target: &Target) -> Option<Known> {
        let name = Name::parse(target.model()?)?;
        let provider = target.provider()?;
        let model = KnownModel::find_at(&name, Some(provider.variant().name()))?;
        let its_own_host = model.host.is_some() || maker::sets_conditions(provider, model.name);
        Some(Known { model, its_own_host, is_regional: name.is_regional })
    }

    fn price(&self) -> Option<Price> {
        self.model.price().filter(|_| self.its_own_host && !self.is_regional)
    }
}

impl Target {
    /// What the [built-in table](known_models) says of its model; `None` where that is unknown, or the client's passes
    /// through. A deployment with a name of its own is unknown.
    #[must_use]
    pub fn known_model(&self) -> Option<&'static KnownModel> {
        Known::of(self).map(|known| known.model)
    }

    /// Takes over what the [built-in table](known_models) says that its model can do, in the place of what was said before.
    /// A model that it does not know stays as it is. The longest answer is taken over only where the model's maker serves
    /// it, or who sells it on the same conditions: others bound it themselves.
    ///
    /// ```
    /// use tower_failover::{Ability, Dialect, Provider, Target};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let openai = Provider::new("openai", Dialect::OpenAiChat, "https://api.openai.com/v1")?;
    /// let target = Target::new(&openai, "gpt-4o-2024-08-06").with_known_capabilities().with_known_price();
    /// assert_eq!(target.capabilities().context_window(), Some(128_000));
    /// assert!(!target.capabilities().offers(Ability::AudioInput));
    /// assert_eq!(target.price().map(|price| price.input()), Some(2.5));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_known_capabilities(self) -> Self {
        match Known::of(&self) {
            Some(known) => self.with_capabilities(known.model.capabilities_at(known.its_own_host)),
            None => self,
        }
    }

    /// Takes over the list price that the [built-in table](known_models) has of its model, in the place of what was said
    /// before. It stays as it is where that is not known, or where somebody else than the model's maker serves it, and sets
    /// the price.
    #[must_use]
    pub fn with_known_price(self) -> Self {
        match Known::of(&self).and_then(|known| known.price()) {
            Some(price) => self.with_price(price),
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dialect, Provider};

    fn target(url: &str, model: &str) -> Target {
        let provider = Provider::new("p", Dialect::OpenAiChat, url).unwrap();
        Target::new(&provider, model).with_known_capabilities().with_known_price()
    }

    #[test]
    fn every_line_is_found_by_its_name_and_makes_sense() {
        for model in known_models() {
            let name = Name::parse(model.name()).unwrap();
            let found = KnownModel::find_at(&name, model.host()).unwrap();
            assert!(std::ptr::eq(found, model), "{} is there twice", model.name());
            assert!(model.max_output_tokens() <= model.context_window(), "{}", model.name());
            assert!(model.context_window() >= 32_000, "{}", model.name());
            let contradicts = |ability: &&Ability| model.profile.lacks.contains(ability);
            assert_eq!(model.profile.offers.iter().find(contradicts), None, "{}", model.name());
            if let Some(price) = model.price() {
                assert!(price.input() <= price.output() && price.cached_input() <= price.input(), "{}", model.name());
            }
        }
    }

    #[test]
    fn a_snapshot_is_its_model_unless_it_has_a_line_of_its_own() {
        let output = |name| KnownModel::find(name).unwrap().max_output_tokens();
        assert_eq!(
            (output("gpt-4o"), output("gpt-4o-2024-08-06"), output("gpt-4o-2024-05-13")),
            (16_384, 16_384, 4_096)
        );
    }

    #[test]
    fn a_host_that_serves_what_others_made_sets_its_own_price() {
        let groq = target("https://api.groq.com/openai/v1", "openai/gpt-oss-120b");
        assert_eq!(groq.price().unwrap().output(), 0.6);
        assert_eq!(groq.capabilities().max_output_tokens(), Some(65_536));
        let elsewhere = target("https://gpu.example/v1", "openai/gpt-oss-120b");
        assert!(elsewhere.price().is_none() && elsewhere.capabilities().max_output_tokens().is_none());
        assert_eq!(elsewhere.capabilities().context_window(), Some(131_072));
        let router = target("https://openrouter.ai/api/v1", "anthropic/claude-sonnet-4.5");
        assert!(router.price().is_none() && router.capabilities().max_output_tokens().is_none());
        assert_eq!(router.capabilities().context_window(), Some(200_000));
        for (url, model, window) in [
            ("https://api.deepinfra.com/v1/openai", "deepseek-ai/DeepSeek-V4-Pro", 1_000_000),
            ("http://10.0.0.7:8000/v1", "gpt-4o", 128_000),
        ] {
            let elsewhere = target(url, model);
            let capabilities = elsewhere.capabilities();
            assert!(elsewhere.price().is_none() && capabilities.max_output_tokens().is_none(), "{model} at {url}");
            assert_eq!(capabilities.context_window(), Some(window), "what it can do is known wherever it is");
            assert!(!capabilities.offers(Ability::AudioInput), "{model} at {url}");
        }
        let own = target("https://api.deepseek.com", "deepseek-v4-pro");
        assert_eq!(
            (own.price().map(|price| price.output()), own.capabilities().max_output_tokens()),
            (Some(3.96), Some(393_216))
        );
        let regional =
            target("https://bedrock-runtime.eu-west-1.amazonaws.com", "eu.anthropic.claude-sonnet-4-5-20250929-v1:0");
        assert!(regional.price().is_none() && regional.known_model().is_some());
    }

    #[test]
    fn what_is_not_known_is_capable_of_everything() {
        for model in ["my-deployment", "gpt-99", "mistral-large-latest", "ft:gpt-4o-2024-08-06:me::1"] {
            assert!(target("https://api.test/v1", model).capabilities().is_unrestricted(), "{model}");
        }
        let gemini = KnownModel::find("gemini-2.5-pro").unwrap();
        assert_eq!(gemini.capabilities().max_output_tokens(), None, "its API may take more than the model gives");
        let provider = Provider::new("p", Dialect::OpenAiChat, "https://api.openai.com/v1").unwrap();
        assert!(Target::passing_model_through(&provider).known_model().is_none());
    }
}
