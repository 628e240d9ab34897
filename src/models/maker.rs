//! Who makes models, and where they are served on the maker's conditions: at its list price, and refused what it refuses.
//! Everywhere else whoever serves them decides.

use std::net::IpAddr;

use crate::{Provider, Variant};

struct Maker {
    /// What the names of its models begin with.
    models: &'static [&'static str],
    /// The [names](Variant::name) of the variants that it is: where their hosts are, and where a provider is said to be one,
    /// as one is that stands behind a proxy.
    variants: &'static [&'static str],
    /// Other hosts; a `*` stands for anything.
    hosts: &'static [&'static str],
    /// Whether nobody else can serve them: who does so on this machine stands before the maker.
    is_alone: bool,
}

static MAKERS: [Maker; 6] = [
    Maker { models: &["gpt-", "o3", "o4-"], variants: &["openai", "azure-openai"], hosts: &[], is_alone: true },
    Maker {
        models: &["claude-"],
        variants: &[],
        hosts: &[
            "api.anthropic.com",
            "*.services.ai.azure.com",
            "aiplatform.googleapis.com",
            "*-aiplatform.googleapis.com",
            "bedrock-runtime.*.amazonaws.com",
        ],
        is_alone: true,
    },
    Maker {
        models: &["gemini-"],
        variants: &["google"],
        hosts: &["aiplatform.googleapis.com", "*-aiplatform.googleapis.com"],
        is_alone: true,
    },
    Maker {
        models: &["mistral-", "codestral-", "magistral-", "ministral-"],
        variants: &["mistral"],
        hosts: &[],
        is_alone: false,
    },
    Maker { models: &["deepseek-"], variants: &["deepseek"], hosts: &[], is_alone: false },
    Maker { models: &["grok-"], variants: &["xai"], hosts: &[], is_alone: true },
];

/// Whether the provider serves the model of that name on its maker's conditions.
pub(super) fn sets_conditions(provider: &Provider, model: &str) -> bool {
    let host = provider.host().to_ascii_lowercase();
    let variants = [provider.variant(), Variant::of_host(&host)].map(Variant::name);
    of(model).is_some_and(|maker| {
        variants.iter().any(|name| maker.variants.contains(name))
            || maker.hosts.iter().any(|pattern| matches(pattern, &host))
            || maker.is_alone && is_this_machine(&host) && !model.starts_with(OPEN)
    })
}

/// The one family of models with such a name that anybody may serve.
const OPEN: &str = "gpt-oss";

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn of(model: &str) -> Option<&'static Maker> {
    MAKERS.iter().find(|maker| maker.models.iter().any(|start| model.starts_with(start)))
}

fn matches(pattern: &str, host: &str) -> bool {
    match pattern.split_once('*') {
        None => host == pattern,
        Some((start, end)) => {
            host.strip_prefix(start).is_some_and(|rest| rest.len() > end.len() && rest.ends_with(end))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dialect, known_models};

    fn sets(base_url: &str, model: &str) -> bool {
        sets_conditions(&Provider::new("p", Dialect::OpenAiChat, base_url).unwrap(), model)
    }

    #[test]
    fn every_model_with_conditions_of_its_own_has_a_maker() {
        for model in known_models().filter(|model| model.host().is_none()) {
            let has_conditions = model.price().is_some() || model.profile.refuses_more_output;
            assert!(!has_conditions || of(model.name()).is_some(), "{}", model.name());
        }
        let names: Vec<_> = MAKERS.iter().flat_map(|maker| maker.variants).collect();
        assert!(names.iter().all(|name| Variant::from_name(name).is_some()), "{names:?}");
    }

    #[test]
    fn a_maker_is_known_by_its_hosts_and_those_that_sell_for_it() {
        for (url, model) in [
            ("https://api.openai.com/v1", "gpt-4o"),
            ("https://API.OpenAI.com/v1", "o4-mini"),
            ("https://mine.openai.azure.com/openai/deployments/{model}", "gpt-4.1"),
            ("https://mine.services.ai.azure.com/openai/v1", "gpt-5"),
            ("https://mine.services.ai.azure.com/anthropic", "claude-opus-5"),
            ("https://api.anthropic.com", "claude-sonnet-4-5"),
            ("https://bedrock-runtime.us-east-1.amazonaws.com", "claude-sonnet-4-5"),
            ("https://aiplatform.googleapis.com/v1/projects/p", "claude-sonnet-4-5"),
            ("https://europe-west4-aiplatform.googleapis.com/v1/projects/p", "gemini-2.5-pro"),
            ("https://generativelanguage.googleapis.com", "gemini-2.5-pro"),
            ("https://api.mistral.ai/v1", "codestral-latest"),
            ("https://api.deepseek.com", "deepseek-v4-pro"),
            ("https://api.x.ai/v1", "grok-code-fast-1"),
            ("http://127.0.0.1:8000/v1", "gpt-4o"),
            ("http://[::1]:4000", "claude-sonnet-4-5"),
        ] {
            assert!(sets(url, model), "{model} at {url}");
        }
    }

    #[test]
    fn others_and_makers_of_other_models_set_no_conditions() {
        for (url, model) in [
            ("http://127.0.0.1:8000/v1", "deepseek-v4-pro"),
            ("http://localhost:11434/v1", "gpt-oss-120b"),
            ("http://10.0.0.7:8000/v1", "gpt-4o"),
            ("https://api.deepinfra.com/v1/openai", "deepseek-v4-pro"),
            ("https://openrouter.ai/api/v1", "claude-sonnet-4-5"),
            ("https://api.together.xyz/v1", "deepseek-v4-pro"),
            ("https://api.groq.com/openai/v1", "gpt-4o"),
            ("https://mine.services.ai.azure.com/openai/v1", "deepseek-v4-pro"),
            ("https://bedrock-runtime.us-east-1.amazonaws.com", "mistral-large-4"),
            ("https://api.openai.com.example/v1", "gpt-4o"),
            ("https://api.anthropic.com.example", "claude-sonnet-4-5"),
            ("https://api.openai.com/v1", "claude-sonnet-4-5"),
        ] {
            assert!(!sets(url, model), "{model} at {url}");
        }
    }

    #[test]
    fn who_is_said_to_be_a_maker_is_one_wherever_it_stands() {
        let proxy = Provider::new("p", Dialect::OpenAiChat, "http://proxy.example/v1").unwrap();
        let openai = proxy.clone().with_variant(Variant::from_name("openai").unwrap());
        assert!(sets_conditions(&openai, "gpt-4o") && !sets_conditions(&proxy, "gpt-4o"));
    }
}
