//! What a messages request says.

mod conversation;
pub(crate) mod decode;
pub(crate) mod encode;
mod schema;
mod thinking;
mod translate;

use bytes::Bytes;

use crate::{
    Ability, Feature, RequestOutline, Requirements,
    dialect::{
        json_scan::{Malformed, Value, root_members},
        tokens,
    },
    outline::{Reading, says},
};

/// What an image costs at the least: Anthropic counts a token for 750 pixels, so this is one of 250 by 250.
const TOKENS_PER_IMAGE: u64 = 85;

static READING: Reading = Reading { add_requirements, may_need };

fn may_need(body: &[u8], ability: Ability) -> bool {
    match ability {
        Ability::ImageInput => says(body, r#""image""#),
        Ability::DocumentInput => says(body, r#""document""#),
        // An assistant has spoken in every longer talk.
        Ability::Prefill => says(body, ASSISTANT) && begins_answer(body),
        _ => false,
    }
}

const ASSISTANT: &str = r#""assistant""#;

fn is_of_assistant(message: &Value<'_>) -> bool {
    message.member("role").is_some_and(|role| role.json() == ASSISTANT.as_bytes())
}

/// Whether the last message is one that the model is to go on with.
fn begins_answer(body: &[u8]) -> bool {
    let messages = root_members(body).into_iter().flatten().flatten().filter(|(name, _)| name == "messages");
    messages.filter_map(|(_, messages)| messages.elements().flatten().last()).any(|last| is_of_assistant(&last))
}

pub(crate) fn outline(body: &Bytes) -> Result<RequestOutline, Malformed> {
    RequestOutline::telling_usage(body, &READING)
}

fn add_requirements(body: &[u8], needs: &mut Requirements) {
    let Ok(members) = root_members(body) else { return };
    let mut text_weight = 0;
    for (key, value) in members.filter_map(Result::ok) {
        match &*key {
            "stream" if value.is_true() => needs.abilities.insert(Ability::Streaming),
            "system" => text_weight += add_content(&value, needs),
            "messages" => {
                let mut begun = false;
                for message in value.elements().filter_map(Result::ok) {
                    begun = is_of_assistant(&message);
                    text_weight += message.member("content").map_or(0, |content| add_content(&content, needs));
                }
                if begun {
                    needs.abilities.insert(Ability::Prefill);
                    needs.features.insert(Feature::Prefill);
                }
            }
            "tools" if value.elements().next().is_some() => {
                needs.abilities.insert(Ability::Tools);
                let is_own = |tool: Value<'_>| kind(&tool).is_some_and(|kind| kind != b"\"custom\"" && kind != b"null");
                if value.elements().filter_map(Result::ok).any(is_own) {
                    needs.features.insert(Feature::ProviderTools);
                }
                text_weight += tokens::weight(value.json());
            }
            // On by default, so only a request that asks for it in so many words is taken to need it.
            "tool_choice" if value.member("disable_parallel_tool_use").is_some_and(|off| off.json() == b"false") => {
                needs.abilities.insert(Ability::ParallelTools);
            }
            "output_format" if value.is_object() => needs.abilities.insert(Ability::StructuredOutput),
            "output_config" => {
                if value.member("format").is_some_and(|format| format.is_object()) {
                    needs.abilities.insert(Ability::StructuredOutput);
                }
                if value.member("effort").is_some_and(|effort| effort.is_string()) {
                    needs.abilities.insert(Ability::Reasoning);
                }
            }
            "thinking" if value.is_object() && kind(&value) != Some(b"\"disabled\"") => {
                needs.abilities.insert(Ability::Reasoning);
            }
            "mcp_servers" if value.elements().next().is_some() => needs.features.insert(Feature::ProviderTools),
            "container" if !value.is_null() => needs.features.insert(Feature::StoredAtProvider),
            "max_tokens" => needs.max_output_tokens = needs.max_output_tokens.max(value.as_u64()),
            _ => {}
        }
    }
    needs.input_tokens += tokens::tokens(text_weight);
}

/// What an object says that it is: JSON text.
fn kind<'a>(value: &Value<'a>) -> Option<&'a [u8]> {
    Some(value.member("type")?.json())
}

/// Adds what a message's content needs; returns what its text weighs.
fn add_content(content: &Value<'_>, needs: &mut Requirements) -> u64 {
    if content.is_string() {
        return tokens::weight(content.json());
    }
    let mut text_weight = 0;
    for block in content.elements().filter_map(Result::ok) {
        if block.member("source").is_some_and(|source| kind(&source) == Some(b"\"file\"")) {
            needs.features.insert(Feature::StoredAtProvider);
        }
        match kind(&block) {
            Some(b"\"image\"") => {
                needs.abilities.insert(Ability::ImageInput);
                needs.input_tokens += TOKENS_PER_IMAGE;
            }
            Some(b"\"document\"") => match block.member("source").map(|source| (kind(&source), source)) {
                // That any model can read.
                Some((Some(b"\"text\"" | b"\"content\""), source)) => text_weight += tokens::weight(source.json()),
                _ => needs.abilities.insert(Ability::DocumentInput),
            },
            Some(b"\"tool_result\"") => {
                text_weight += block.member("content").map_or(0, |content| add_content(&content, needs));
            }
            Some(b"\"tool_use\"") => {
                text_weight += block.member("input").map_or(0, |input| tokens::weight(input.json()))
            }
            _ => text_weight += block.member("text").map_or(0, |text| tokens::weight(text.json())),
        }
    }
    text_weight
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Abilities;

    fn needs(body: &serde_json::Value) -> Requirements {
        let mut needs = Requirements::default();
        add_requirements(body.to_string().as_bytes(), &mut needs);
        needs
    }

    #[test]
    fn the_outline_finds_the_model_and_whether_to_stream() {
        let body = Bytes::from_static(br#"{"messages":[{"model":"no"}],"model": "claude" ,"stream":true}"#);
        let found = outline(&body).unwrap();
        assert_eq!(found.model_json(), Some(&b"\"claude\""[..]));
        assert!(found.streaming() && found.wants_usage() && !found.needs_metering());
        for body in ["", "[]", "{\"model\":\"a\""] {
            assert!(outline(&Bytes::from_static(body.as_bytes())).is_err(), "{body}");
        }
    }

    #[test]
    fn each_feature_that_a_request_uses_is_needed() {
        use Ability::*;
        let of = |key: &str, value: serde_json::Value| needs(&json!({ key: value })).abilities;
        let only = |ability| Abilities::from_iter([ability]);
        let said = |block: serde_json::Value| of("messages", json!([{"role": "user", "content": [block]}]));
        assert_eq!(of("stream", true.into()), only(Streaming));
        assert_eq!(of("tools", json!([{"name": "f"}])), only(Tools));
        assert_eq!(of("tools", json!([])), Abilities::NONE);
        assert_eq!(of("tool_choice", json!({"type": "auto", "disable_parallel_tool_use": false})), only(ParallelTools));
        assert_eq!(of("tool_choice", json!({"type": "auto", "disable_parallel_tool_use": true})), Abilities::NONE);
        assert_eq!(of("output_config", json!({"format": {"type": "json_schema"}})), only(StructuredOutput));
        assert_eq!(of("output_format", json!({"type": "json_schema"})), only(StructuredOutput));
        assert_eq!(of("output_config", json!({"effort": "low"})), only(Reasoning));
        assert_eq!(of("thinking", json!({"type": "enabled", "budget_tokens": 1024})), only(Reasoning));
        assert_eq!(of("thinking", json!({"type": "disabled"})), Abilities::NONE);
        assert_eq!(said(json!({"type": "image", "source": {"type": "url"}})), only(ImageInput));
        assert_eq!(said(json!({"type": "document", "source": {"type": "base64"}})), only(DocumentInput));
        assert_eq!(said(json!({"type": "document", "source": {"type": "text", "data": "x"}})), Abilities::NONE);
        let in_result = json!({"type": "tool_result", "content": [{"type": "image"}]});
        assert_eq!(said(in_result), only(ImageInput));
        let begun = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
        assert_eq!(of("messages", begun), only(Prefill));
    }

    #[test]
    fn tokens_are_counted_from_text_and_not_from_images() {
        let body = json!({
            "max_tokens": 9, "system": "x".repeat(398),
            "messages": [{"role": "user", "content": [
                {"type": "text", "text": "y".repeat(398)},
                {"type": "image", "source": {"type": "base64", "data": "A".repeat(9000)}},
            ]}],
        });
        let needs = needs(&body);
        assert_eq!((needs.input_tokens, needs.max_output_tokens), (185 + 85, Some(9)));
    }
}
