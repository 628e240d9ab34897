//! How servers that speak one dialect differ: as data.

use std::fmt;

use crate::Dialect;

/// In which header a server wants its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyHeader {
    /// `authorization: Bearer KEY`.
    Bearer,
    /// `api-key: KEY`, as Azure has it.
    ApiKey,
    /// `x-api-key: KEY`, as Anthropic has it.
    XApiKey,
    /// `x-goog-api-key: KEY`, as Google has it.
    XGoogApiKey,
}

impl KeyHeader {
    /// Where the dialect's providers expect it.
    pub(crate) fn of(dialect: Dialect) -> Self {
        match dialect {
            Dialect::OpenAiChat | Dialect::OpenAiResponses => KeyHeader::Bearer,
            Dialect::AnthropicMessages => KeyHeader::XApiKey,
            Dialect::Gemini => KeyHeader::XGoogApiKey,
        }
    }
}

/// What is particular about a server that speaks OpenAI's chat completions, beyond what the dialect says.
///
/// It counts where a request is translated for it: one that came in the same dialect is passed on as the client put it. The
/// facts are those of the providers' documentation in the autumn of 2026; whoever knows better can name another
/// [variant](Variant::from_name) for a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Variant {
    name: &'static str,
    /// Ends of the host names by which it is known.
    hosts: &'static [&'static str],
    pub(crate) key_header: Option<KeyHeader>,
    /// Whether the most tokens of an answer are said as `max_completion_tokens`, OpenAI's newer name; else as `max_tokens`.
    pub(crate) new_token_limit: bool,
    /// Whether it knows the role `developer`; else that is `system`.
    pub(crate) developer_role: bool,
    /// Whether an answer can be asked for in a JSON schema; else only as some JSON.
    pub(crate) json_schema: bool,
    /// Whether the ids of calls must be nine letters or digits.
    pub(crate) short_call_ids: bool,
    /// Its name for `seed`.
    pub(crate) seed: &'static str,
    /// Members that it refuses.
    pub(crate) refuses: &'static [&'static str],
}

/// What most compatible servers take.
const COMPATIBLE: Variant = Variant {
    name: "compatible",
    hosts: &[],
    key_header: None,
    new_token_limit: false,
    developer_role: false,
    json_schema: true,
    short_call_ids: false,
    seed: "seed",
    refuses: &["verbosity", "prompt_cache_key", "service_tier", "metadata"],
};

const OPENAI: Variant = Variant {
    name: "openai",
    hosts: &["api.openai.com"],
    new_token_limit: true,
    developer_role: true,
    refuses: &[],
    ..COMPATIBLE
};

static VARIANTS: [Variant; 12] = [
    COMPATIBLE,
    OPENAI,
    Variant {
        name: "azure-openai",
        hosts: &[".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com"],
        key_header: Some(KeyHeader::ApiKey),
        refuses: &["service_tier", "prompt_cache_key"],
        ..OPENAI
    },
    Variant {
        name: "groq",
        hosts: &["api.groq.com"],
        new_token_limit: true,
        refuses: &["verbosity", "prompt_cache_key", "metadata", "logit_bias", "logprobs"],
        ..COMPATIBLE
    },
    Variant { name: "together", hosts: &["api.together.xyz", "api.together.ai"], ..COMPATIBLE },
    Variant {
        name: "mistral",
        hosts: &["api.mistral.ai"],
        short_call_ids: true,
        seed: "random_seed",
        refuses: &[
            "stream_options",
            "user",
            "verbosity",
            "prompt_cache_key",
            "service_tier",
            "metadata",
            "reasoning_effort",
            "logit_bias",
        ],
        ..COMPATIBLE
    },
    Variant {
        name: "deepseek",
        hosts: &["api.deepseek.com"],
        json_schema: false,
        refuses: &["verbosity", "prompt_cache_key", "service_tier", "metadata", "user", "parallel_tool_calls", "seed"],
        ..COMPATIBLE
    },
    Variant { name: "openrouter", hosts: &["openrouter.ai"], ..COMPATIBLE },
    Variant {
        name: "xai",
        hosts: &["api.x.ai"],
        new_token_limit: true,
        refuses: &["verbosity", "prompt_cache_key", "service_tier", "metadata", "logit_bias"],
        ..COMPATIBLE
    },
    Variant { name: "ollama", ..COMPATIBLE },
    Variant { name: "vllm", ..COMPATIBLE },
    // OpenAI's own API in front of Google's models.
    Variant { name: "google", hosts: &["generativelanguage.googleapis.com"], ..COMPATIBLE },
];

impl Variant {
    /// Every variant's name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        VARIANTS.iter().map(|variant| variant.name)
    }

    /// The variant of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<&'static Variant> {
        VARIANTS.iter().find(|variant| variant.name == name)
    }

    /// The variant that a host is known to be; `compatible` where it is not known.
    #[must_use]
    pub fn of_host(host: &str) -> &'static Variant {
        let known = |variant: &&Variant| variant.hosts.iter().any(|end| host.ends_with(end));
        VARIANTS.iter().find(known).unwrap_or(&VARIANTS[0])
    }

    /// Its name, as in configuration files: `"azure-openai"`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The header in which it wants its key, where that is not the dialect's.
    #[must_use]
    pub fn key_header(&self) -> Option<KeyHeader> {
        self.key_header
    }

    /// Whether it refuses a member of that name.
    #[must_use]
    pub fn refuses(&self, member: &str) -> bool {
        self.refuses.contains(&member)
    }
}

impl Default for &'static Variant {
    fn default() -> Self {
        &VARIANTS[0]
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_names_find_their_variant() {
        for (host, name) in [
            ("api.openai.com", "openai"),
            ("my-resource.openai.azure.com", "azure-openai"),
            ("api.mistral.ai", "mistral"),
            ("127.0.0.1", "compatible"),
        ] {
            assert_eq!(Variant::of_host(host).name(), name);
            assert_eq!(Variant::from_name(name), Some(Variant::of_host(host)));
        }
        assert_eq!(Variant::names().collect::<std::collections::BTreeSet<_>>().len(), VARIANTS.len());
    }
}
