//! The spans and events of attempts. What they are called and carry is in the [documentation](crate::telemetry) of telemetry,
//! in one table.
//!
//! Nothing here says what a user wrote: no text of a request or an answer, no query, no key.

use std::time::Duration;

use tracing::{Level, Span, field::Empty};

use crate::{Attempt, Cost, Dialect, Fault, Outcome, Provider, Target, Usage};

/// The most of a name that a client chose.
const MAX_NAME: usize = 128;

/// Whether anybody may listen to attempts: one load, where nobody does.
#[inline]
pub(crate) fn listens() -> bool {
    tracing::level_enabled!(Level::DEBUG)
}

/// What an attempt's span begins with.
pub(crate) struct Beginning<'a> {
    pub(crate) number: usize,
    pub(crate) target: Option<&'a Target>,
    pub(crate) operation: Option<&'static str>,
    /// The model that the client asked for.
    pub(crate) asked: Option<&'a str>,
    pub(crate) streaming: bool,
    pub(crate) last_resort: bool,
    pub(crate) parent: Option<tracing::span::Id>,
}

/// The span of an attempt.
#[cold]
pub(crate) fn attempt(beginning: &Beginning<'_>) -> Span {
    let Beginning { number, target, operation, asked, streaming, last_resort, parent } = beginning;
    let span = tracing::debug_span!(
        parent: parent.clone(),
        "failover.attempt",
        otel.kind = "client",
        otel.name = Empty,
        otel.status_code = Empty,
        attempt = number,
        target = Empty,
        provider = Empty,
        last_resort,
        gen_ai.operation.name = operation,
        gen_ai.provider.name = Empty,
        gen_ai.request.model = Empty,
        gen_ai.request.stream = streaming,
        gen_ai.response.model = Empty,
        outcome = Empty,
        error.type = Empty,
        http.response.status_code = Empty,
        provider_code = Empty,
        latency = Empty,
        gen_ai.response.time_to_first_chunk = Empty,
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.cache_read.input_tokens = Empty,
        gen_ai.usage.cache_creation.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
        gen_ai.usage.reasoning.output_tokens = Empty,
        usage_estimated = Empty,
        cost_usd = Empty,
    );
    if span.is_disabled() {
        return span;
    }
    if let Some(target) = target {
        span.record("target", target.id().as_str());
        if let Some(provider) = target.provider() {
            span.record("provider", provider.name());
            span.record("gen_ai.provider.name", provider_name(provider));
        }
    }
    if let Some(model) = target.and_then(Target::model).or(*asked) {
        let model = shortened(model);
        span.record("gen_ai.request.model", model);
        span.record("otel.name", format_args!("{} {model}", operation.unwrap_or("chat")).to_string());
    }
    span
}

/// How an attempt ended, in its span and as an event. `before` is how long the one before it took.
#[cold]
pub(crate) fn ended(number: usize, attempt: &Attempt, before: Option<Duration>) {
    let (Some(outcome), Some(latency)) = (attempt.outcome(), attempt.latency()) else { return };
    let (span, latency) = (attempt.span(), latency.as_secs_f64());
    let fault = outcome.fault();
    let kind = fault.map(|fault| fault.kind().name());
    let status = fault.and_then(|fault| fault.status()).map(|status| status.as_u16());
    let code = fault.and_then(|fault| fault.code()).map(shortened);
    let time_to_first_chunk = matches!(outcome, Outcome::Answered).then_some(latency);
    span.record("outcome", outcome.name());
    span.record("latency", latency);
    span.record("error.type", kind);
    span.record("otel.status_code", fault.map(|_| "ERROR"));
    span.record("http.response.status_code", status);
    span.record("provider_code", code);
    span.record("gen_ai.response.time_to_first_chunk", time_to_first_chunk);
    tracing::debug!(
        parent: span,
        attempt = number,
        target = attempt.target().map(|target| target.id().as_str()),
        provider = attempt.target().and_then(Target::provider).map(Provider::name),
        outcome = outcome.name(),
        kind,
        http.response.status_code = status,
        provider_code = code,
        latency,
        latency_delta = before.map(|before| latency - before.as_secs_f64()),
        gen_ai.response.time_to_first_chunk = time_to_first_chunk,
        reason = fault.and_then(|fault| fault.reason()),
        "attempt ended"
    );
}

/// Which model answers, in an attempt's span, if these bytes of the answer say so; whether they do.
#[cold]
pub(crate) fn answered_by(span: &Span, answer: &[u8]) -> bool {
    let model = answer_model(answer);
    model.into_iter().for_each(|model| _ = span.record("gen_ai.response.model", model));
    model.is_some()
}

/// The first `"model":"…"` (Gemini: `modelVersion`) of an answer. Within a text, its quotation marks would be escaped.
fn answer_model(answer: &[u8]) -> Option<&str> {
    let value_of = |key: &[u8]| {
        let behind = answer[memchr::memmem::find(answer, key)? + key.len()..].trim_ascii_start().strip_prefix(b":")?;
        let value = behind.trim_ascii_start().strip_prefix(b"\"")?;
        let value = &value[..memchr::memchr(b'"', value)?];
        std::str::from_utf8(value).ok().filter(|model| model.len() <= MAX_NAME && !model.contains('\\'))
    };
    value_of(b"\"model\"").or_else(|| value_of(b"\"modelVersion\""))
}

/// What broke off the answer of an attempt.
#[cold]
pub(crate) fn interrupted(span: Option<&Span>, target: Option<&Target>, fault: &Fault) {
    let kind = fault.kind().name();
    if let Some(span) = span {
        span.record("error.type", kind);
        span.record("otel.status_code", "ERROR");
    }
    tracing::info!(
        target = target.map(|target| target.id().as_str()),
        provider = target.and_then(Target::provider).map(Provider::name),
        kind,
        provider_code = fault.code().map(shortened),
        reason = fault.reason(),
        "a stream broke off"
    );
}

/// What an attempt cost, in its span and as an event.
#[cold]
pub(crate) fn spent(attempt: &Attempt, usage: &Usage) {
    let (span, cost) = (attempt.span(), attempt.cost());
    let target = attempt.target();
    tracing::debug!(
        parent: span,
        target = target.map(|target| target.id().as_str()),
        provider = target.and_then(Target::provider).map(Provider::name),
        gen_ai.usage.input_tokens = usage.input,
        gen_ai.usage.cache_read.input_tokens = usage.cached_input,
        gen_ai.usage.cache_creation.input_tokens = usage.cache_write_input,
        gen_ai.usage.output_tokens = usage.output,
        gen_ai.usage.reasoning.output_tokens = usage.reasoning,
        usage_estimated = usage.estimated,
        cost_usd = cost.map(Cost::usd),
        "attempt spent"
    );
    span.record("gen_ai.usage.input_tokens", usage.input);
    span.record("gen_ai.usage.cache_read.input_tokens", usage.cached_input);
    span.record("gen_ai.usage.cache_creation.input_tokens", usage.cache_write_input);
    span.record("gen_ai.usage.output_tokens", usage.output);
    span.record("gen_ai.usage.reasoning.output_tokens", usage.reasoning);
    span.record("usage_estimated", usage.estimated);
    span.record("cost_usd", cost.map(Cost::usd));
}

/// What a request is for, in OpenTelemetry's words.
pub(crate) fn operation(dialect: Option<Dialect>, path: &str) -> Option<&'static str> {
    let embeds = ["/embeddings", ":embedContent", ":batchEmbedContents"];
    match dialect? {
        _ if embeds.iter().any(|end| path.ends_with(end)) => Some("embeddings"),
        Dialect::Gemini => Some("generate_content"),
        _ => Some("chat"),
    }
}

/// The provider in OpenTelemetry's words, where it has one for it; else as the user calls it.
fn provider_name(provider: &Provider) -> &str {
    match (provider.dialect(), provider.variant().name()) {
        (Dialect::AnthropicMessages, _) => "anthropic",
        (Dialect::Gemini, _) => "gcp.gemini",
        (_, "openai") => "openai",
        (_, "azure-openai") => "azure.ai.openai",
        (_, "groq") => "groq",
        (_, "mistral") => "mistral_ai",
        (_, "deepseek") => "deepseek",
        (_, "xai") => "x_ai",
        (_, "google") => "gcp.gemini",
        _ => provider.name(),
    }
}

/// The beginning of a name that others chose.
pub(crate) fn shortened(name: &str) -> &str {
    let end = (0..=MAX_NAME.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    &name[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_and_providers_have_opentelemetrys_names() {
        use Dialect::*;
        let of = |dialect, path| operation(Some(dialect), path);
        assert_eq!(of(OpenAiChat, "/v1/chat/completions"), Some("chat"));
        assert_eq!(of(OpenAiChat, "/v1/embeddings"), Some("embeddings"));
        assert_eq!(of(AnthropicMessages, "/v1/messages"), Some("chat"));
        assert_eq!(of(Gemini, "/v1beta/models/m:streamGenerateContent"), Some("generate_content"));
        assert_eq!(operation(None, "/v1/models"), None);
        let provider = |dialect, url| Provider::new("mine", dialect, url).unwrap();
        for (dialect, url, name) in [
            (OpenAiChat, "https://api.openai.com/v1", "openai"),
            (OpenAiChat, "https://x.openai.azure.com/openai", "azure.ai.openai"),
            (OpenAiChat, "http://10.0.0.7/v1", "mine"),
            (AnthropicMessages, "https://api.anthropic.com", "anthropic"),
            (Gemini, "https://generativelanguage.googleapis.com", "gcp.gemini"),
        ] {
            assert_eq!(provider_name(&provider(dialect, url)), name);
        }
    }

    #[test]
    fn the_model_of_an_answer_is_found_but_not_in_its_text() {
        let found = |answer: &'static str| answer_model(answer.as_bytes());
        assert_eq!(found(r#"{"id":"1","model":"gpt-4o-2024-08-06","choices":[]}"#), Some("gpt-4o-2024-08-06"));
        assert_eq!(
            found("data: {\"type\":\"message_start\",\"message\":{\"model\" : \"claude\"}}\n\n"),
            Some("claude")
        );
        assert_eq!(found(r#"{"candidates":[],"modelVersion":"gemini-2.5-pro"}"#), Some("gemini-2.5-pro"));
        assert_eq!(found(r#"{"content":"{\"model\":\"secret\"}"}"#), None);
        assert_eq!(found(r#"{"model":{"type":"string"}}"#), None);
        assert_eq!(found(r#"{"model":"cut"#), None);
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(shortened("gpt-4o"), "gpt-4o");
        assert_eq!(shortened(&"é".repeat(100)).len(), 128);
        assert_eq!(shortened(&format!("x{}", "é".repeat(100))).len(), 127);
    }
}
