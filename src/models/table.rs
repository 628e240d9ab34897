//! The table: what vendors and hosts publish of their models.
//!
//! The facts are those of litellm's `model_prices_and_context_window.json` (MIT, release 1.109.1), looked over on the day of
//! [`AS_OF`]. What was changed against it, and why:
//!
//! - OpenAI's models that see take documents too (its guide "File inputs"), whether or not the list says so.
//! - Gemini's models take documents and audio; so says its guide "Document understanding".
//! - DeepSeek's API refuses `json_schema`, though it has a JSON mode, and its reasoner has learnt to call tools since the list
//!   was made: neither is said here.
//! - Where the list knows a name that moves (`…-latest`), only the price is taken: the model behind it may be another
//!   tomorrow.
//! - What the list does not say is not said here either: a model is tried rather than refused.

use super::{KnownModel, Profile};
use crate::Ability::{
    self, AudioInput, DocumentInput, ImageInput, ParallelTools, Prefill, Reasoning, Streaming, StructuredOutput, Tools,
};

/// The day on which the table was true.
pub(super) const AS_OF: &str = "2026-11-21";

/// A price that is not known.
const NONE: f64 = f64::NAN;

const fn profile(offers: &'static [Ability], lacks: &'static [Ability], refuses_more_output: bool) -> Profile {
    Profile { offers, lacks, refuses_more_output }
}

const GPT: Profile = profile(
    &[Streaming, Tools, ParallelTools, StructuredOutput, ImageInput, DocumentInput, Reasoning],
    &[AudioInput],
    true,
);
const GPT_PRO: Profile =
    profile(&[Tools, ParallelTools, ImageInput, DocumentInput, Reasoning], &[AudioInput, StructuredOutput], true);
const GPT_PLAIN: Profile = profile(
    &[Streaming, Tools, ParallelTools, StructuredOutput, ImageInput, DocumentInput],
    &[AudioInput, Reasoning],
    true,
);
/// The first snapshot of GPT-4o is older than schemas.
const GPT_FIRST: Profile =
    profile(&[Streaming, Tools, ParallelTools, ImageInput], &[AudioInput, Reasoning, StructuredOutput], true);
const O_SERIES: Profile =
    profile(&[Streaming, Tools, StructuredOutput, ImageInput, DocumentInput, Reasoning], &[AudioInput], true);
const CLAUDE: Profile = profile(
    &[Streaming, Tools, ParallelTools, StructuredOutput, ImageInput, DocumentInput, Reasoning],
    &[AudioInput, Prefill],
    true,
);
const CLAUDE_PREFILLED: Profile = profile(
    &[Streaming, Tools, ParallelTools, StructuredOutput, ImageInput, DocumentInput, Reasoning, Prefill],
    &[AudioInput],
    true,
);
/// Google's APIs do not agree on whether they refuse a bound that is higher than the model's own.
const GEMINI: Profile = profile(
    &[Streaming, Tools, ParallelTools, StructuredOutput, ImageInput, AudioInput, DocumentInput, Reasoning],
    &[],
    false,
);
const GPT_OSS: Profile = profile(
    &[Streaming, Tools, ParallelTools, StructuredOutput, Reasoning],
    &[ImageInput, AudioInput, DocumentInput],
    true,
);
const OPEN: Profile = profile(GPT_OSS.offers, GPT_OSS.lacks, false);
const QWEN: Profile =
    profile(&[Streaming, Tools, StructuredOutput, ImageInput, Reasoning], &[AudioInput, DocumentInput], true);
const MISTRAL: Profile =
    profile(&[Streaming, Tools, StructuredOutput, ImageInput, Reasoning, Prefill], &[AudioInput], false);
const MOVES: Profile = profile(&[], &[], false);
const DEEPSEEK: Profile = profile(&[Streaming, Tools, Prefill], &[ImageInput, AudioInput, DocumentInput], true);
const DEEPSEEK_SEEING: Profile =
    profile(&[Streaming, Tools, ImageInput, Reasoning, Prefill], &[AudioInput, DocumentInput], true);
const GROK: Profile = profile(&[Streaming, Tools, StructuredOutput, ImageInput, Reasoning], &[AudioInput], false);
const GROK_PLAIN: Profile = profile(&[Streaming, Tools, StructuredOutput, ImageInput], &[AudioInput, Reasoning], false);
const SONAR: Profile = profile(&[Streaming], &[Tools, AudioInput], false);

const fn model(
    name: &'static str,
    context_window: u64,
    max_output_tokens: u64,
    profile: Profile,
    price: [f64; 4],
) -> KnownModel {
    KnownModel {
        name,
        host: None,
        context_window,
        max_output_tokens,
        profile,
        price,
        dearer_above: None,
        retires: None,
    }
}

impl KnownModel {
    /// As that host serves it, and no other.
    const fn at(mut self, host: &'static str) -> Self {
        self.host = Some(host);
        self
    }

    const fn with_surcharge_above(mut self, tokens: u64) -> Self {
        self.dearer_above = Some(tokens);
        self
    }

    const fn retiring(mut self, day: &'static str) -> Self {
        self.retires = Some(day);
        self
    }
}

/// Every model: its name, its window, its longest answer, what it can do, and what a million tokens cost in US dollars: input,
/// output, input out of the cache, input into the cache.
#[rustfmt::skip]
pub(super) static MODELS: &[KnownModel] = &[
    // OpenAI
    model("gpt-6.1-sol", 922_000, 128_000, GPT, [2.0, 10.0, 0.1, 2.5]).with_surcharge_above(272_000),
    model("gpt-6.1-terra", 922_000, 128_000, GPT, [1.0, 5.0, 0.05, 1.25]).with_surcharge_above(272_000),
    model("gpt-6-astra", 922_000, 128_000, GPT, [10.0, 50.0, 1.0, 12.5]).with_surcharge_above(272_000),
    model("gpt-6-sol", 922_000, 128_000, GPT, [2.0, 10.0, 0.2, 2.5]).with_surcharge_above(272_000),
    model("gpt-6-luna", 922_000, 128_000, GPT, [0.1, 0.5, 0.01, 0.125]).with_surcharge_above(272_000),
    model("gpt-5.6-sol", 922_000, 128_000, GPT, [4.0, 20.0, 0.4, 5.0]).with_surcharge_above(272_000),
    model("gpt-5.6-terra", 922_000, 128_000, GPT, [2.0, 12.0, 0.2, 2.5]).with_surcharge_above(272_000),
    model("gpt-5.6-luna", 922_000, 128_000, GPT, [0.2, 1.2, 0.02, 0.25]).with_surcharge_above(272_000),
    model("gpt-5.5", 1_050_000, 128_000, GPT, [5.0, 30.0, 0.5, NONE]).with_surcharge_above(272_000),
    model("gpt-5.5-pro", 1_050_000, 128_000, GPT_PRO, [30.0, 180.0, NONE, NONE]).with_surcharge_above(272_000),
    model("gpt-5.4", 1_050_000, 128_000, GPT, [2.5, 15.0, 0.25, NONE]).with_surcharge_above(272_000),
    model("gpt-5.4-mini", 272_000, 128_000, GPT, [0.75, 4.5, 0.075, NONE]),
    model("gpt-5.4-nano", 272_000, 128_000, GPT, [0.2, 1.25, 0.02, NONE]).retiring("2027-04-01"),
    model("gpt-5.2", 272_000, 128_000, GPT, [1.75, 14.0, 0.175, NONE]),
    model("gpt-5.1", 272_000, 128_000, GPT, [1.25, 10.0, 0.125, NONE]).retiring("2027-04-01"),
    model("gpt-5", 272_000, 128_000, GPT, [1.25, 10.0, 0.125, NONE]).retiring("2026-12-11"),
    model("gpt-5-mini", 272_000, 128_000, GPT, [0.25, 2.0, 0.025, NONE]).retiring("2026-12-11"),
    model("gpt-5-nano", 272_000, 128_000, GPT, [0.05, 0.4, 0.005, NONE]).retiring("2026-12-11"),
    model("gpt-4.1", 1_047_576, 32_768, GPT_PLAIN, [2.0, 8.0, 0.5, NONE]),
    model("gpt-4.1-mini", 1_047_576, 32_768, GPT_PLAIN, [0.4, 1.6, 0.1, NONE]),
    model("gpt-4.1-nano", 1_047_576, 32_768, GPT_PLAIN, [0.1, 0.4, 0.025, NONE]).retiring("2026-10-23"),
    model("gpt-4o", 128_000, 16_384, GPT_PLAIN, [2.5, 10.0, 1.25, NONE]),
    model("gpt-4o-2024-05-13", 128_000, 4_096, GPT_FIRST, [5.0, 15.0, NONE, NONE]),
    model("gpt-4o-mini", 128_000, 16_384, GPT_PLAIN, [0.15, 0.6, 0.075, NONE]),
    model("o3", 200_000, 100_000, O_SERIES, [2.0, 8.0, 0.5, NONE]).retiring("2026-12-11"),
    model("o4-mini", 200_000, 100_000, O_SERIES, [1.1, 4.4, 0.275, NONE]).retiring("2026-10-23"),
    // Anthropic
    model("claude-fable-5-1", 1_000_000, 128_000, CLAUDE, [10.0, 50.0, 0.25, 12.5]),
    model("claude-fable-5", 1_000_000, 128_000, CLAUDE, [10.0, 50.0, 1.0, 12.5]),
    model("claude-mythos-5-1", 1_000_000, 128_000, CLAUDE, [10.0, 50.0, 0.25, 12.5]),
    model("claude-opus-5-5", 1_000_000, 128_000, CLAUDE, [4.0, 20.0, 0.2, 5.0]),
    model("claude-opus-5", 1_000_000, 128_000, CLAUDE, [5.0, 25.0, 0.5, 6.25]),
    model("claude-opus-4-8", 1_000_000, 128_000, CLAUDE, [5.0, 25.0, 0.5, 6.25]),
    model("claude-opus-4-7", 1_000_000, 128_000, CLAUDE, [5.0, 25.0, 0.5, 6.25]),
    model("claude-opus-4-6", 1_000_000, 128_000, CLAUDE, [5.0, 25.0, 0.5, 6.25]),
    model("claude-opus-4-5", 200_000, 64_000, CLAUDE_PREFILLED, [5.0, 25.0, 0.5, 6.25]),
    model("claude-sonnet-5-5", 1_000_000, 128_000, CLAUDE, [2.0, 10.0, 0.1, 2.5]),
    model("claude-sonnet-5", 1_000_000, 128_000, CLAUDE, [2.0, 10.0, 0.2, 2.5]),
    model("claude-sonnet-4-6", 1_000_000, 128_000, CLAUDE, [3.0, 15.0, 0.3, 3.75]),
    model("claude-sonnet-4-5", 200_000, 64_000, CLAUDE_PREFILLED, [3.0, 15.0, 0.3, 3.75]).retiring("2026-11-30"),
    model("claude-haiku-5-5", 1_000_000, 128_000, CLAUDE, [0.1, 0.5, 0.01, 0.125]).with_surcharge_above(100_000),
    model("claude-haiku-4-5", 200_000, 64_000, CLAUDE_PREFILLED, [1.0, 5.0, 0.1, 1.25]),
    // Google
    model("gemini-3.8-flash", 1_048_576, 65_536, GEMINI, [0.75, 3.75, 0.075, NONE]),
    model("gemini-3.7-flash", 1_048_576, 65_536, GEMINI, [0.75, 3.75, 0.075, NONE]),
    model("gemini-3.6-flash", 1_048_576, 65_536, GEMINI, [0.75, 3.75, 0.075, NONE]),
    model("gemini-3.5-flash", 1_048_576, 65_536, GEMINI, [1.5, 9.0, 0.15, NONE]),
    model("gemini-3.5-flash-lite", 1_048_576, 65_536, GEMINI, [0.3, 2.5, 0.03, NONE]),
    model("gemini-3.1-pro-preview", 1_048_576, 65_536, GEMINI, [2.0, 12.0, 0.2, NONE]).with_surcharge_above(200_000),
    model("gemini-3.1-flash-lite", 1_048_576, 65_536, GEMINI, [0.25, 1.5, 0.025, NONE]).retiring("2027-05-07"),
    model("gemini-3-flash-preview", 1_048_576, 65_536, GEMINI, [0.5, 3.0, 0.05, NONE]),
    model("gemini-2.5-pro", 1_048_576, 65_536, GEMINI, [1.25, 10.0, 0.125, NONE]).with_surcharge_above(200_000),
    model("gemini-2.5-flash", 1_048_576, 65_536, GEMINI, [0.3, 2.5, 0.03, NONE]),
    model("gemini-2.5-flash-lite", 1_048_576, 65_536, GEMINI, [0.1, 0.4, 0.01, NONE]),
    // Groq
    model("gpt-oss-120b", 131_072, 65_536, GPT_OSS, [0.15, 0.6, 0.075, NONE]).at("groq"),
    model("gpt-oss-20b", 131_072, 65_536, GPT_OSS, [0.075, 0.3, 0.0375, NONE]).at("groq"),
    model("qwen3.8-27b", 131_072, 16_384, QWEN, [0.8, 4.0, NONE, NONE]).at("groq"),
    // Mistral
    model("mistral-large-latest", 262_144, 262_144, MOVES, [0.5, 1.5, 0.05, NONE]),
    model("mistral-large-4", 1_048_576, 1_048_576, MISTRAL, [1.36, 4.18, 0.14, NONE]),
    model("mistral-medium-latest", 262_144, 262_144, MOVES, [1.5, 7.5, 0.15, NONE]),
    model("mistral-small-latest", 262_144, 262_144, MOVES, [0.15, 0.6, 0.015, NONE]),
    model("codestral-latest", 128_000, 128_000, MOVES, [0.3, 0.9, 0.03, NONE]),
    model("magistral-medium-latest", 262_144, 262_144, MOVES, [1.5, 7.5, 0.15, NONE]),
    model("ministral-8b-latest", 262_144, 262_144, MOVES, [0.15, 0.15, 0.015, NONE]),
    // DeepSeek
    model("deepseek-chat", 131_072, 8_192, DEEPSEEK, [0.28, 0.42, 0.028, NONE]).retiring("2026-07-24"),
    model("deepseek-reasoner", 131_072, 65_536, DEEPSEEK, [0.28, 0.42, 0.028, NONE]).retiring("2026-07-24"),
    model("deepseek-v4-flash", 1_000_000, 393_216, DEEPSEEK_SEEING, [0.3, 1.2, 0.006, NONE]),
    model("deepseek-v4-pro", 1_000_000, 393_216, DEEPSEEK, [1.32, 3.96, 0.044, NONE]),
    // xAI
    model("grok-4.20-non-reasoning-gv2", 1_000_000, 1_000_000, GROK_PLAIN, [1.25, 2.5, 0.2, NONE]).with_surcharge_above(200_000),
    model("grok-4.20-reasoning-gv2", 1_000_000, 1_000_000, GROK, [1.25, 2.5, 0.2, NONE]).with_surcharge_above(200_000),
    model("grok-code-fast-1", 256_000, 256_000, GROK, [1.0, 2.0, 0.2, NONE]).with_surcharge_above(200_000).retiring("2026-05-15"),
    // Perplexity
    model("sonar", 128_000, 128_000, SONAR, [NONE, NONE, NONE, NONE]),
    model("sonar-pro", 200_000, 8_000, SONAR, [NONE, NONE, NONE, NONE]),
    // Together
    model("gpt-oss-120b", 131_072, 131_072, GPT_OSS, [0.15, 0.6, NONE, NONE]).at("together"),
    // Open weights: what they can do wherever they are served. The longest answer and the price are the host's.
    model("gpt-oss-120b", 131_072, 131_072, OPEN, [NONE, NONE, NONE, NONE]),
    model("gpt-oss-20b", 131_072, 131_072, OPEN, [NONE, NONE, NONE, NONE]),
];
