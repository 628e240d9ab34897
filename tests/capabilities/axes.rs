//! What a request can need, as each dialect says it.

use serde_json::{Value, json};
use tower_failover::{Ability, Capabilities, Dialect, Feature, Need, Requirements};

/// One thing that a request can need.
pub(crate) struct Axis {
    /// What the client asks beyond the body.
    pub(crate) asked: Requirements,
    /// A target without it. Where every model has it, it is the target's dialect that lacks the word.
    pub(crate) lacking: Capabilities,
    /// What the log has to say.
    pub(crate) need: Need,
    /// What a body says of it besides what every body does, in each dialect that can.
    pub(crate) said: Vec<(Dialect, Value)>,
    /// A path of its own, where it is the path that asks for it.
    pub(crate) path: Option<&'static str>,
}

impl Axis {
    /// In OpenAI's dialects, chat first, in Anthropic's and in Google's; null where it cannot be said.
    fn new(need: Need, lacking: Capabilities, said: [Value; 4]) -> Self {
        use Dialect::*;
        let dialects = [OpenAiChat, OpenAiResponses, AnthropicMessages, Gemini];
        let said = dialects.into_iter().zip(said).filter(|(_, said)| !said.is_null()).collect();
        Axis { asked: Requirements::default(), lacking, need, said, path: None }
    }

    fn ability(ability: Ability, said: [Value; 4]) -> Self {
        Self::new(Need::Ability(ability), Capabilities::new().without(ability), said)
    }

    fn feature(feature: Feature, said: [Value; 4]) -> Self {
        Self::new(Need::Feature(feature), Capabilities::new(), said)
    }

    fn asking(asked: Requirements, lacking: Capabilities, need: Need) -> Self {
        Axis { asked, ..Self::new(need, lacking, [json!({}), json!({}), json!({}), json!({})]) }
    }

    /// Whether it is a target of that dialect that lacks it, if the client speaks this one.
    pub(crate) fn is_lacked_by(&self, provider: Dialect, client: Dialect) -> bool {
        match self.need {
            Need::Feature(feature) => client != provider && !feature.survives_translation_to(provider),
            _ => true,
        }
    }

    /// Whether that may stand beside it: of a few things both the model's ability and the dialect's word are missed.
    pub(crate) fn may_lack_as_well(&self, need: &Need) -> bool {
        match (&self.need, need) {
            (Need::Ability(ability), Need::Feature(feature)) => ability.name() == feature.name(),
            _ => false,
        }
    }

    /// The path and body with which it is asked for.
    pub(crate) fn request(&self, client: Dialect, said: &Value) -> (&'static str, Value) {
        let streams = self.need == Need::Ability(Ability::Streaming);
        let (path, mut body) = match client {
            Dialect::OpenAiChat => (
                "/v1/chat/completions",
                json!({"model": "any", "messages": [{"role": "user", "content": "Say something."}]}),
            ),
            Dialect::OpenAiResponses => ("/v1/responses", json!({"model": "any", "input": "Say something."})),
            Dialect::AnthropicMessages => (
                "/v1/messages",
                json!({"model": "any", "max_tokens": 9, "messages": [{"role": "user", "content": "Say something."}]}),
            ),
            Dialect::Gemini => (
                match streams {
                    true => "/v1beta/models/any:streamGenerateContent?alt=sse",
                    false => "/v1beta/models/any:generateContent",
                },
                json!({"contents": [{"role": "user", "parts": [{"text": "Say something."}]}]}),
            ),
            other => panic!("no request is known of {other}"),
        };
        body.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
        (self.path.unwrap_or(path), body)
    }
}

fn chat_part(part: Value) -> Value {
    json!({"messages": [{"role": "user", "content": [part]}]})
}

fn responses_part(part: Value) -> Value {
    json!({"input": [{"role": "user", "content": [part]}]})
}

fn gemini_part(part: Value) -> Value {
    json!({"contents": [{"role": "user", "parts": [part]}]})
}

fn gemini_setting(setting: Value) -> Value {
    json!({"generationConfig": setting})
}

fn inline(mime: &str, data: &str) -> Value {
    gemini_part(json!({"inlineData": {"mimeType": mime, "data": data}}))
}

const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const PDF: &str = "JVBERg==";
const SOUND: &str = "UklGRg==";

/// Every axis.
pub(crate) fn all() -> Vec<Axis> {
    let mut axes = abilities();
    axes.extend(sizes());
    axes.extend(asked());
    axes.extend(features());
    axes
}

fn abilities() -> Vec<Axis> {
    let schema = json!({"type": "object", "properties": {}, "additionalProperties": false});
    let chat_tools = json!([{"type": "function", "function": {"name": "f", "parameters": schema}}]);
    let responses_tools = json!([{"type": "function", "name": "f", "parameters": schema}]);
    let anthropic_tools = json!([{"name": "f", "input_schema": schema}]);
    let stream = json!({"stream": true});
    let (image, document) = (format!("data:image/png;base64,{PIXEL}"), format!("data:application/pdf;base64,{PDF}"));
    let base64 = |mime: &str, data: &str| json!({"type": "base64", "media_type": mime, "data": data});
    let sound = json!({"type": "input_audio", "input_audio": {"data": SOUND, "format": "wav"}});
    vec![
        Axis::ability(Ability::Streaming, [stream.clone(), stream.clone(), stream, json!({})]),
        Axis::ability(
            Ability::Tools,
            [
                json!({"tools": chat_tools}),
                json!({"tools": responses_tools}),
                json!({"tools": anthropic_tools}),
                json!({"tools": [{"functionDeclarations": [{"name": "f"}]}]}),
            ],
        ),
        Axis::ability(
            Ability::ParallelTools,
            [
                json!({"tools": chat_tools, "parallel_tool_calls": true}),
                json!({"tools": responses_tools, "parallel_tool_calls": true}),
                json!({"tools": anthropic_tools, "tool_choice": {"type": "auto", "disable_parallel_tool_use": false}}),
                Value::Null,
            ],
        ),
        Axis::ability(
            Ability::StructuredOutput,
            [
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}}),
                json!({"text": {"format": {"type": "json_schema", "name": "s", "schema": schema}}}),
                json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}}),
                gemini_setting(json!({"responseMimeType": "application/json", "responseSchema": {"type": "OBJECT"}})),
            ],
        ),
        Axis::ability(
            Ability::ImageInput,
            [
                chat_part(json!({"type": "image_url", "image_url": {"url": image}})),
                responses_part(json!({"type": "input_image", "image_url": image})),
                chat_part(json!({"type": "image", "source": base64("image/png", PIXEL)})),
                inline("image/png", PIXEL),
            ],
        ),
        Axis::ability(
            Ability::AudioInput,
            [chat_part(sound.clone()), responses_part(sound), Value::Null, inline("audio/wav", SOUND)],
        ),
        Axis::ability(
            Ability::DocumentInput,
            [
                chat_part(json!({"type": "file", "file": {"filename": "a.pdf", "file_data": document}})),
                responses_part(json!({"type": "input_file", "filename": "a.pdf", "file_data": document})),
                chat_part(json!({"type": "document", "source": base64("application/pdf", PDF)})),
                inline("application/pdf", PDF),
            ],
        ),
        Axis::ability(
            Ability::Reasoning,
            [
                json!({"reasoning_effort": "low"}),
                json!({"reasoning": {"effort": "low"}}),
                json!({"max_tokens": 2_000, "thinking": {"type": "enabled", "budget_tokens": 1_024}}),
                gemini_setting(json!({"thinkingConfig": {"thinkingBudget": 1_024}})),
            ],
        ),
        Axis::ability(Ability::Prefill, [Value::Null, Value::Null, begun(), Value::Null]),
    ]
}

/// An answer that the request begins.
fn begun() -> Value {
    json!({"messages": [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "One, two,"}]})
}

fn sizes() -> Vec<Axis> {
    let long = "All of these words are to be read. ".repeat(10_000);
    let messages = json!({"messages": [{"role": "user", "content": long}]});
    // How many are needed is an estimate: the test compares the rest.
    let window = Need::ContextWindow { needed: 0, offered: 32_000 };
    let output = Need::MaxOutputTokens { needed: 1_001, offered: 1_000 };
    vec![
        Axis::new(
            window,
            Capabilities::new().with_context_window(32_000),
            [messages.clone(), json!({"input": long}), messages, gemini_part(json!({"text": long}))],
        ),
        Axis::new(
            output,
            Capabilities::new().with_max_output_tokens(1_000),
            [
                json!({"max_tokens": 1_001}),
                json!({"max_output_tokens": 1_001}),
                json!({"max_tokens": 1_001}),
                gemini_setting(json!({"maxOutputTokens": 1_001})),
            ],
        ),
    ]
}

fn asked() -> [Axis; 2] {
    let tagged = Requirements { tags: ["eu".into()].into(), ..Requirements::default() };
    let spoken = Requirements { languages: ["fi".into()].into(), ..Requirements::default() };
    [
        Axis::asking(tagged, Capabilities::new(), Need::Tag("eu".into())),
        Axis::asking(spoken, Capabilities::new().with_languages(["en"]), Need::Language("fi".into())),
    ]
}

/// What only some dialects have a word for.
fn features() -> Vec<Axis> {
    let no = Value::Null;
    let sound = json!({"type": "input_audio", "input_audio": {"data": SOUND, "format": "wav"}});
    let film = "https://example.org/a.mp4";
    vec![
        Axis::feature(
            Feature::SeveralAnswers,
            [json!({"n": 2}), no.clone(), no.clone(), gemini_setting(json!({"candidateCount": 2}))],
        ),
        Axis::feature(
            Feature::LogProbabilities,
            [
                json!({"logprobs": true}),
                json!({"top_logprobs": 2}),
                no.clone(),
                gemini_setting(json!({"responseLogprobs": true})),
            ],
        ),
        Axis::feature(
            Feature::AudioInput,
            [chat_part(sound.clone()), responses_part(sound), no.clone(), inline("audio/wav", SOUND)],
        ),
        Axis::feature(
            Feature::VideoInput,
            [
                chat_part(json!({"type": "video_url", "video_url": {"url": film}})),
                no.clone(),
                no.clone(),
                gemini_part(json!({"fileData": {"mimeType": "video/mp4", "fileUri": film}})),
            ],
        ),
        Axis::feature(
            Feature::MediaOutput,
            [
                json!({"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}),
                no.clone(),
                no.clone(),
                gemini_setting(json!({"responseModalities": ["AUDIO"]})),
            ],
        ),
        Axis::feature(
            Feature::ProviderTools,
            [
                json!({"web_search_options": {}}),
                json!({"tools": [{"type": "web_search"}]}),
                json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
                json!({"tools": [{"googleSearch": {}}]}),
            ],
        ),
        Axis {
            path: Some("/v1/embeddings"),
            ..Axis::feature(Feature::Embeddings, [json!({"input": "a"}), no.clone(), no.clone(), no.clone()])
        },
        Axis::feature(Feature::Prefill, [no.clone(), no.clone(), begun(), no]),
        Axis::feature(
            Feature::StoredAtProvider,
            [
                chat_part(json!({"type": "file", "file": {"file_id": "file-1"}})),
                json!({"previous_response_id": "resp_1"}),
                chat_part(json!({"type": "document", "source": {"type": "file", "file_id": "file_1"}})),
                json!({"cachedContent": "cachedContents/1"}),
            ],
        ),
    ]
}
