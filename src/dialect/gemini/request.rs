//! What a `generateContent` request says, in its path and its body.

pub(crate) mod decode;
pub(crate) mod encode;

use std::borrow::Cow;

use bytes::Bytes;

use super::{
    names::{camel, each, member, members},
    part::{is_public, media_kind, mime_of, parts},
};
use crate::{
    Ability, Feature, RequestOutline, Requirements,
    dialect::{
        canonical::MediaKind,
        json_scan::{Malformed, Value, root_members},
        tokens,
    },
    outline::{Metering, Reading, says},
};

/// What an image costs at the least.
const TOKENS_PER_IMAGE: u64 = 258;

const WHOLE: &str = "generateContent";
const STREAM: &str = "streamGenerateContent";

/// The model in a path (percent-encoded as it is there) and the method; `None` for a path that asks for no content. A query
/// behind it is of no concern.
fn parse(path: &str) -> Option<(&str, &str)> {
    let path = path.split('?').next()?;
    let (name, method) = path.strip_prefix('/')?.rsplit_once(':')?;
    let (version, name) = name.split_once('/')?;
    let is_version = version.strip_prefix("v1").is_some_and(|rest| rest.chars().all(|c| c.is_ascii_alphanumeric()));
    if !is_version || ![WHOLE, STREAM].contains(&method) {
        return None;
    }
    let model = match (name.strip_prefix("models/"), name.split_once("/models/")) {
        (Some(model), _) => model,
        // Vertex: `projects/p/locations/l/publishers/google/models/m`.
        (None, Some((_, model))) => model,
        (None, None) if name.starts_with("tunedModels/") => name,
        (None, None) => return None,
    };
    (!model.is_empty()).then_some((model, method))
}

/// The model that a request's path names, percent-encoded as it is there.
pub(crate) fn model_of_path(path: &str) -> Option<&str> {
    parse(path).map(|(model, _)| model)
}

/// Whether a request's path asks for a stream.
pub(crate) fn streams(path: &str) -> bool {
    parse(path).is_some_and(|(_, method)| method == STREAM)
}

/// Whether a request's query asks for a stream of events: without that it is an array, told element by element.
pub(crate) fn wants_events(query: &str) -> bool {
    query.split('&').any(|parameter| matches!(parameter, "alt=sse" | "%24alt=sse" | "$alt=sse"))
}

/// The path, query included, by which a model is asked. Its name may be bare or, as the SDKs take it, begin with
/// `models/`, `tunedModels/`, `publishers/` or `projects/`.
pub(crate) fn path(model: &str, stream: bool) -> String {
    const KNOWN: [&str; 4] = ["models/", "tunedModels/", "publishers/", "projects/"];
    let mut path = String::from("/v1beta/");
    let is_resource = KNOWN.iter().any(|prefix| model.starts_with(prefix));
    if !is_resource {
        path.push_str("models/");
    }
    encode_model(&mut path, model, is_resource);
    path.push_str(if stream { ":streamGenerateContent?alt=sse" } else { ":generateContent" });
    path
}

fn encode_model(path: &mut String, model: &str, is_resource: bool) {
    for byte in model.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => path.push(char::from(byte)),
            b'/' if is_resource => path.push('/'),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// A request's path with another model in it.
pub(crate) fn with_model<'p>(path: &'p str, name: &str) -> Cow<'p, str> {
    let Some((model, method)) = parse(path).filter(|_| !path.contains('?')) else { return Cow::Borrowed(path) };
    let mut replaced = path[..path.len() - ":".len() - method.len() - model.len()].to_owned();
    encode_model(&mut replaced, name, false);
    replaced.push(':');
    replaced.push_str(method);
    Cow::Owned(replaced)
}

static READING: Reading = Reading { add_requirements, may_need };

/// Whichever kind of data there is: what it is may have to be guessed.
fn may_need(body: &[u8], ability: Ability) -> bool {
    let is_media = matches!(ability, Ability::ImageInput | Ability::AudioInput | Ability::DocumentInput);
    let words = [r#""inlineData""#, r#""inline_data""#, r#""fileData""#, r#""file_data""#];
    is_media && words.iter().any(|word| says(body, word))
}

pub(crate) fn outline(body: &Bytes) -> Result<RequestOutline, Malformed> {
    let mut outline = RequestOutline::new(body.clone(), &READING);
    // Every stream tells its usage.
    outline.set_metering(Metering::Asked);
    for item in root_members(body)? {
        let (key, value) = item?;
        let name = camel(key);
        outline.mention(name.as_bytes());
        if name == "generationConfig" {
            let setting = |name| member(&value, name).and_then(|number| number.as_u64());
            outline.set_choices(setting("candidateCount").unwrap_or(1).max(1));
            outline.add_max_output(setting("maxOutputTokens"));
        }
    }
    Ok(outline)
}

fn add_requirements(body: &[u8], needs: &mut Requirements) {
    let Ok(root) = root_members(body) else { return };
    let mut text_weight = 0;
    for (key, value) in root.filter_map(Result::ok) {
        match &*camel(key) {
            "contents" => {
                for content in each(&value) {
                    text_weight += parts(&content).map(|part| add_part(&part, needs)).sum::<u64>();
                }
            }
            "systemInstruction" => text_weight += parts(&value).map(|part| add_part(&part, needs)).sum::<u64>(),
            "tools" => {
                for tool in each(&value) {
                    let functions = member(&tool, "functionDeclarations").filter(|list| each(list).next().is_some());
                    if let Some(functions) = functions {
                        needs.abilities.insert(Ability::Tools);
                        text_weight += tokens::weight(functions.json());
                    }
                    if members(&tool).any(|(key, _)| key != "functionDeclarations") {
                        needs.features.insert(Feature::ProviderTools);
                    }
                }
            }
            "cachedContent" if value.is_string() => needs.features.insert(Feature::StoredAtProvider),
            "generationConfig" => members(&value).for_each(|(key, value)| add_setting(&key, &value, needs)),
            _ => {}
        }
    }
    needs.input_tokens += tokens::tokens(text_weight);
}

fn add_setting(key: &str, value: &Value<'_>, needs: &mut Requirements) {
    match key {
        "responseSchema" | "responseJsonSchema" if value.is_object() => {
            needs.abilities.insert(Ability::StructuredOutput);
        }
        "thinkingConfig" => {
            let budget = member(value, "thinkingBudget").is_some_and(|budget| budget.json() != b"0");
            if budget || member(value, "thinkingLevel").is_some_and(|level| level.is_string()) {
                needs.abilities.insert(Ability::Reasoning);
            }
        }
        "maxOutputTokens" => needs.max_output_tokens = value.as_u64(),
        "candidateCount" if value.as_u64() > Some(1) => needs.features.insert(Feature::SeveralAnswers),
        "responseLogprobs" if value.is_true() => needs.features.insert(Feature::LogProbabilities),
        "responseModalities" => {
            let silent = |kind: Value<'_>| kind.json().eq_ignore_ascii_case(b"\"text\"");
            if !value.elements().flatten().all(silent) {
                needs.features.insert(Feature::MediaOutput);
            }
        }
        _ => {}
    }
}

/// Adds what a part needs; returns what its text weighs.
fn add_part(part: &Value<'_>, needs: &mut Requirements) -> u64 {
    let mut text_weight = 0;
    for (key, value) in members(part) {
        match &*key {
            "text" | "functionCall" => text_weight += tokens::weight(value.json()),
            "functionResponse" => {
                text_weight += member(&value, "response").map_or(0, |response| tokens::weight(response.json()));
                text_weight += parts(&value).map(|part| add_part(&part, needs)).sum::<u64>();
            }
            "inlineData" | "fileData" => {
                let mime = member(&value, "mimeType").and_then(|mime| mime.as_str());
                let guessed = || mime_of(&member(&value, "fileUri")?.as_str()?);
                let kind = mime.as_deref().or_else(guessed).map(media_kind);
                match kind {
                    Some(MediaKind::Image) => {
                        needs.abilities.insert(Ability::ImageInput);
                        needs.input_tokens += TOKENS_PER_IMAGE;
                    }
                    Some(MediaKind::Audio) => {
                        needs.abilities.insert(Ability::AudioInput);
                        needs.features.insert(Feature::AudioInput);
                    }
                    Some(MediaKind::Document) => needs.abilities.insert(Ability::DocumentInput),
                    Some(MediaKind::Video) => needs.features.insert(Feature::VideoInput),
                    None => {}
                }
                let stored = |uri: Value<'_>| uri.as_str().is_some_and(|uri| !is_public(&uri));
                if member(&value, "fileUri").is_some_and(stored) {
                    needs.features.insert(Feature::StoredAtProvider);
                }
            }
            _ => {}
        }
    }
    text_weight
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Abilities, dialect::recorded};

    #[test]
    fn the_path_names_the_model_and_whether_to_stream() {
        for (path, model, stream) in [
            ("/v1beta/models/gemini-2.5-flash:generateContent", Some("gemini-2.5-flash"), false),
            ("/v1/models/gpt-4o:streamGenerateContent?alt=sse", Some("gpt-4o"), true),
            ("/v1alpha/models/a%2Fb:c:streamGenerateContent", Some("a%2Fb:c"), true),
            ("/v1beta/models/meta/llama:generateContent", Some("meta/llama"), false),
            ("/v1beta/tunedModels/mine:generateContent", Some("tunedModels/mine"), false),
            ("/v1beta1/projects/p/locations/l/publishers/google/models/m:streamGenerateContent", Some("m"), true),
            ("/v1beta/models/m:countTokens", None, false),
            ("/v1beta/models/:generateContent", None, false),
            ("/v1beta/models/m", None, false),
            ("/v1/chat/completions", None, false),
            ("/v2/models/m:generateContent", None, false),
            ("", None, false),
        ] {
            assert_eq!((model_of_path(path), streams(path)), (model, stream), "{path}");
        }
        assert!(wants_events("key=x&alt=sse") && !wants_events("alt=json") && !wants_events(""));
    }

    #[test]
    fn a_model_is_replaced_where_it_stands() {
        assert_eq!(with_model("/v1beta/models/a%2Fb:c:generateContent", "x y"), "/v1beta/models/x%20y:generateContent");
        assert_eq!(with_model("/v1beta/models", "x"), "/v1beta/models");
    }

    #[test]
    fn a_model_becomes_a_path() {
        for (model, expected) in [
            ("gemini-2.5-flash", "models/gemini-2.5-flash"),
            ("models/gemini-2.5-flash", "models/gemini-2.5-flash"),
            ("publishers/google/models/x", "publishers/google/models/x"),
            ("a/b c:d", "models/a%2Fb%20c%3Ad"),
        ] {
            assert_eq!(path(model, false), format!("/v1beta/{expected}:generateContent"));
            assert_eq!(path(model, true), format!("/v1beta/{expected}:streamGenerateContent?alt=sse"));
        }
        assert_eq!(model_of_path(&path("a/b", true)), Some("a%2Fb"));
    }

    #[test]
    fn every_recorded_path_is_understood() {
        for exchange in recorded::exchanges("gemini-generate").iter().filter(|exchange| !exchange.path.is_empty()) {
            assert!(model_of_path(&exchange.path).is_some(), "{}", exchange.path);
            assert_eq!(streams(&exchange.path), exchange.path.contains("stream"));
        }
    }

    fn needs(body: serde_json::Value) -> Requirements {
        let mut needs = Requirements::default();
        add_requirements(body.to_string().as_bytes(), &mut needs);
        needs
    }

    #[test]
    fn each_feature_that_a_request_uses_is_needed() {
        use Ability::*;
        let only = |ability| Abilities::from_iter([ability]);
        let config = |config| needs(json!({"generationConfig": config})).abilities;
        let part = |part| needs(json!({"contents": [{"parts": [part]}]})).abilities;
        assert_eq!(needs(json!({"tools": [{"function_declarations": [{"name": "f"}]}]})).abilities, only(Tools));
        assert_eq!(needs(json!({"tools": [{"googleSearch": {}}]})).abilities, Abilities::NONE);
        assert_eq!(config(json!({"responseSchema": {"type": "OBJECT"}})), only(StructuredOutput));
        assert_eq!(config(json!({"responseMimeType": "application/json"})), Abilities::NONE);
        assert_eq!(config(json!({"thinkingConfig": {"thinkingBudget": 0, "includeThoughts": true}})), Abilities::NONE);
        assert_eq!(config(json!({"thinking_config": {"thinking_level": "low"}})), only(Reasoning));
        assert_eq!(part(json!({"inlineData": {"mimeType": "image/png", "data": ""}})), only(ImageInput));
        assert_eq!(part(json!({"fileData": {"fileUri": "https://x/a.pdf"}})), only(DocumentInput));
        assert_eq!(
            part(json!({"functionResponse": {"parts": [{"inline_data": {"mime_type": "audio/wav"}}]}})),
            only(AudioInput)
        );
    }

    #[test]
    fn what_not_every_dialect_has_a_word_for_is_told() {
        use Feature::*;
        let file = |uri: &str| json!({"contents": [{"parts": [{"fileData": {"fileUri": uri}}]}]});
        for (body, features) in [
            (json!({"tools": [{"googleSearch": {}}]}), vec![ProviderTools]),
            (json!({"tools": [{"functionDeclarations": []}]}), vec![]),
            (json!({"cachedContent": "cachedContents/x"}), vec![StoredAtProvider]),
            (
                json!({"generationConfig": {"candidateCount": 2, "responseLogprobs": true}}),
                vec![SeveralAnswers, LogProbabilities],
            ),
            (json!({"generationConfig": {"candidateCount": 1, "responseModalities": ["TEXT"]}}), vec![]),
            (json!({"generationConfig": {"responseModalities": ["AUDIO"]}}), vec![MediaOutput]),
            (file("https://example.org/a.mp4"), vec![VideoInput]),
            (file("gs://bucket/a.wav"), vec![AudioInput, StoredAtProvider]),
        ] {
            assert_eq!(needs(body.clone()).features.iter().collect::<Vec<_>>(), features, "{body}");
        }
    }

    #[test]
    fn tokens_are_counted_from_text_and_not_from_images() {
        let needs = needs(json!({
            "systemInstruction": {"parts": {"text": "x".repeat(398)}},
            "contents": [{"parts": [{"text": "y".repeat(398)}, {"inlineData": {"mimeType": "image/png", "data": "A".repeat(9000)}}]}],
            "generationConfig": {"maxOutputTokens": 9},
        }));
        assert_eq!((needs.input_tokens, needs.max_output_tokens), (185 + TOKENS_PER_IMAGE, Some(9)));
    }

    #[test]
    fn the_outline_counts_candidates_and_refuses_what_is_no_object() {
        let body = Bytes::from_static(br#"{"contents":[],"generationConfig":{"candidateCount":2}}"#);
        let found = outline(&body).unwrap();
        assert_eq!((found.choices(), found.streaming(), found.model_json()), (2, false, None));
        assert!(found.wants_usage());
        assert!(outline(&Bytes::from_static(b"[]")).is_err());
    }
}
