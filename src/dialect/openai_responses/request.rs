//! What a request for a response says.

pub(crate) mod decode;
pub(crate) mod encode;
#[cfg(test)]
mod round_trip;

use std::borrow::Cow;

use bytes::Bytes;

use crate::{
    Ability, Feature, RequestOutline, Requirements,
    dialect::{
        json_scan::{Malformed, Value, root_members},
        tokens,
    },
    outline::{Reading, says},
};

/// What an image costs at the least (OpenAI's price for one at low detail).
const TOKENS_PER_IMAGE: u64 = 85;

static READING: Reading = Reading { add_requirements, may_need };

fn may_need(body: &[u8], ability: Ability) -> bool {
    match ability {
        Ability::ImageInput => says(body, r#""input_image""#),
        Ability::AudioInput => says(body, r#""input_audio""#),
        Ability::DocumentInput => says(body, r#""input_file""#),
        _ => false,
    }
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
            "instructions" | "input" if value.is_string() => text_weight += tokens::weight(value.json()),
            "input" => {
                for item in value.elements().filter_map(Result::ok) {
                    text_weight += add_item(&item, needs);
                }
            }
            "tools" if value.elements().next().is_some() => {
                needs.abilities.insert(Ability::Tools);
                let is_own = |tool: Value<'_>| kind(&tool).is_some_and(|kind| kind != "function");
                if value.elements().filter_map(Result::ok).any(is_own) {
                    needs.features.insert(Feature::ProviderTools);
                }
                text_weight += tokens::weight(value.json());
            }
            // On by default, so only a request that asks for it in so many words is taken to need it.
            "parallel_tool_calls" if value.is_true() => needs.abilities.insert(Ability::ParallelTools),
            "text" if value.member("format").is_some_and(|format| kind(&format).as_deref() == Some("json_schema")) => {
                needs.abilities.insert(Ability::StructuredOutput);
            }
            "reasoning" => {
                let effort = value.member("effort");
                if effort.and_then(|effort| effort.as_str()).is_some_and(|effort| effort != "none") {
                    needs.abilities.insert(Ability::Reasoning);
                }
            }
            "previous_response_id" | "conversation" | "prompt" if !value.is_null() => {
                needs.features.insert(Feature::StoredAtProvider);
            }
            "background" if value.is_true() => needs.features.insert(Feature::StoredAtProvider),
            "top_logprobs" if value.as_u64().is_some_and(|most| most > 0) => {
                needs.features.insert(Feature::LogProbabilities);
            }
            "include" if asks_for_log_probabilities(&value) => {
                needs.features.insert(Feature::LogProbabilities);
            }
            "max_output_tokens" => needs.max_output_tokens = value.as_u64(),
            _ => {}
        }
    }
    needs.input_tokens += tokens::tokens(text_weight);
}

/// Whether an `include` asks how probable each token was.
pub(super) fn asks_for_log_probabilities(include: &Value<'_>) -> bool {
    include.elements().flatten().any(|name| name.as_str().as_deref() == Some("message.output_text.logprobs"))
}

/// What an object says that it is.
fn kind<'a>(value: &Value<'a>) -> Option<Cow<'a, str>> {
    value.member("type")?.as_str()
}

/// Adds what an item needs; returns what its text weighs.
fn add_item(item: &Value<'_>, needs: &mut Requirements) -> u64 {
    let mut text_weight = 0;
    if kind(item).as_deref() == Some("item_reference") {
        needs.features.insert(Feature::StoredAtProvider);
    }
    for (key, value) in item.members().filter_map(Result::ok) {
        match &*key {
            "content" | "output" | "summary" if !value.is_string() => {
                for part in value.elements().filter_map(Result::ok) {
                    text_weight += add_part(&part, needs);
                }
            }
            "content" | "output" | "arguments" | "name" | "input" => text_weight += tokens::weight(value.json()),
            _ => {}
        }
    }
    text_weight
}

fn add_part(part: &Value<'_>, needs: &mut Requirements) -> u64 {
    if part.member("file_id").is_some_and(|id| id.is_string()) {
        needs.features.insert(Feature::StoredAtProvider);
    }
    match kind(part).as_deref() {
        Some("input_image") => {
            needs.abilities.insert(Ability::ImageInput);
            needs.input_tokens += TOKENS_PER_IMAGE;
            0
        }
        Some("input_audio") => {
            needs.abilities.insert(Ability::AudioInput);
            needs.features.insert(Feature::AudioInput);
            0
        }
        Some("input_file") => {
            needs.abilities.insert(Ability::DocumentInput);
            0
        }
        _ => part.member("text").map_or(0, |text| tokens::weight(text.json())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::Abilities;

    fn needs(body: &Json) -> Requirements {
        let mut needs = Requirements::default();
        add_requirements(body.to_string().as_bytes(), &mut needs);
        needs
    }

    #[test]
    fn the_outline_finds_the_model_and_whether_to_stream() {
        let body = Bytes::from_static(br#"{"input":[{"model":"no"}],"model": "gpt-4o" ,"stream":true}"#);
        let found = outline(&body).unwrap();
        assert_eq!(found.model_json(), Some(&b"\"gpt-4o\""[..]));
        assert!(found.streaming() && found.is_of(&body));
        assert!(found.wants_usage() && !found.needs_metering());
        for body in ["", "[]", "{\"model\":\"a\""] {
            assert!(outline(&Bytes::from_static(body.as_bytes())).is_err(), "{body}");
        }
    }

    #[test]
    fn each_feature_that_a_request_uses_is_needed() {
        use Ability::*;
        let with = |key: &str, value: Json| {
            let mut body = json!({"input": "hi"});
            body[key] = value;
            needs(&body).abilities
        };
        let only = |ability| Abilities::from_iter([ability]);
        assert_eq!(with("stream", true.into()), only(Streaming));
        assert_eq!(with("tools", json!([{"type": "web_search"}])), only(Tools));
        assert_eq!(with("tools", json!([])), Abilities::NONE);
        assert_eq!(with("parallel_tool_calls", true.into()), only(ParallelTools));
        assert_eq!(with("text", json!({"format": {"type": "json_schema"}})), only(StructuredOutput));
        assert_eq!(with("text", json!({"format": {"type": "text"}})), Abilities::NONE);
        assert_eq!(with("reasoning", json!({"effort": "low"})), only(Reasoning));
        assert_eq!(with("reasoning", json!({"effort": "none", "summary": "auto"})), Abilities::NONE);
        for (kind, ability) in [("input_image", ImageInput), ("input_audio", AudioInput), ("input_file", DocumentInput)]
        {
            assert_eq!(with("input", json!([{"role": "user", "content": [{"type": kind}]}])), only(ability));
            let output = json!([{"type": "function_call_output", "call_id": "c", "output": [{"type": kind}]}]);
            assert_eq!(with("input", output), only(ability));
        }
    }

    #[test]
    fn tokens_are_counted_from_text_and_not_from_images() {
        let body = json!({
            "max_output_tokens": 9, "instructions": "x".repeat(398),
            "input": [
                {"role": "user", "content": "y".repeat(398)},
                {"role": "user", "content": [
                    {"type": "input_text", "text": "z".repeat(398)},
                    {"type": "input_image", "image_url": "data:".to_owned() + &"A".repeat(9000)},
                ]},
                {"type": "function_call_output", "call_id": "c", "output": "y".repeat(398)},
            ],
        });
        let needs = needs(&body);
        assert_eq!((needs.input_tokens, needs.max_output_tokens), (371 + 85, Some(9)));
        assert_eq!(self::needs(&json!({"input": "x".repeat(398)})).input_tokens, 92);
    }
}
