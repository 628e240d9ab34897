//! What a chat completion request says.

pub(crate) mod decode;
pub(crate) mod encode;

use std::borrow::Cow;

use bytes::Bytes;

use crate::{
    Ability, Feature, RequestOutline, Requirements,
    dialect::{
        json_scan::{Cursor, Malformed, Value, root_members},
        tokens,
    },
    outline::{Metering, Reading, says},
};

/// What an image costs at the least (OpenAI's price for one at low detail).
const TOKENS_PER_IMAGE: u64 = 85;

static READING: Reading = Reading { add_requirements, may_need };

fn may_need(body: &[u8], ability: Ability) -> bool {
    match ability {
        Ability::ImageInput => says(body, r#""image_url""#),
        Ability::AudioInput => says(body, r#""input_audio""#),
        Ability::DocumentInput => says(body, r#""file""#),
        _ => false,
    }
}

pub(crate) fn outline(body: &Bytes) -> Result<RequestOutline, Malformed> {
    let mut outline = RequestOutline::new(body.clone(), &READING);
    Cursor::read_object(body, |name, value| {
        match name {
            b"model" => {
                let model = value.value()?;
                if model.is_string() {
                    outline.add_model(model.range());
                }
            }
            b"stream" => outline.set_streaming(value.value()?.is_true()),
            b"stream_options" => outline.set_metering(metering(&value.value()?)),
            b"n" => outline.set_choices(value.value()?.as_u64().unwrap_or(1)),
            b"max_tokens" | b"max_completion_tokens" => outline.add_max_output(value.value()?.as_u64()),
            name => outline.mention(name),
        }
        Ok(())
    })?;
    Ok(outline)
}

/// How a stream with these options comes to tell its usage.
fn metering(options: &Value<'_>) -> Metering {
    if !options.is_object() {
        return Metering::Splice { place: options.range(), text: r#"{"include_usage":true}"# };
    }
    match options.member("include_usage") {
        Some(value) if value.is_true() => Metering::Asked,
        Some(value) => Metering::Splice { place: value.range(), text: "true" },
        None => {
            let at = options.range().start + 1;
            let text = match options.members().next() {
                None => r#""include_usage":true"#,
                Some(_) => r#""include_usage":true,"#,
            };
            Metering::Splice { place: at..at, text }
        }
    }
}

fn add_requirements(body: &[u8], needs: &mut Requirements) {
    let Ok(members) = root_members(body) else { return };
    let mut text_weight = 0;
    for (key, value) in members.filter_map(Result::ok) {
        match &*key {
            "stream" if value.is_true() => needs.abilities.insert(Ability::Streaming),
            "messages" => {
                for message in value.elements().filter_map(Result::ok) {
                    text_weight += add_message(&message, needs);
                }
            }
            "tools" | "functions" if value.elements().next().is_some() => {
                needs.abilities.insert(Ability::Tools);
                let is_own = |tool: Value<'_>| kind(&tool).is_some_and(|kind| kind != "function");
                if value.elements().filter_map(Result::ok).any(is_own) {
                    needs.features.insert(Feature::ProviderTools);
                }
                text_weight += tokens::weight(value.json());
            }
            // On by default, so only a request that asks for it in so many words is taken to need it.
            "parallel_tool_calls" if value.is_true() => needs.abilities.insert(Ability::ParallelTools),
            "response_format" if kind(&value).as_deref() == Some("json_schema") => {
                needs.abilities.insert(Ability::StructuredOutput);
            }
            "reasoning_effort" if value.as_str().is_some_and(|effort| effort != "none") => {
                needs.abilities.insert(Ability::Reasoning);
            }
            "n" if value.as_u64().is_some_and(|answers| answers > 1) => needs.features.insert(Feature::SeveralAnswers),
            "logprobs" if value.is_true() => needs.features.insert(Feature::LogProbabilities),
            "web_search_options" if value.is_object() => needs.features.insert(Feature::ProviderTools),
            "modalities" => {
                let silent = |kind: Value<'_>| kind.as_str().is_some_and(|kind| kind == "text");
                if !value.elements().filter_map(Result::ok).all(silent) {
                    needs.features.insert(Feature::MediaOutput);
                }
            }
            "max_tokens" | "max_completion_tokens" => {
                needs.max_output_tokens = needs.max_output_tokens.max(value.as_u64());
            }
            _ => {}
        }
    }
    needs.input_tokens += tokens::tokens(text_weight);
}

/// Adds what a message needs; returns what its text weighs.
fn add_message(message: &Value<'_>, needs: &mut Requirements) -> u64 {
    let mut text_weight = 0;
    for (key, value) in message.members().filter_map(Result::ok) {
        match &*key {
            "content" if value.is_string() => text_weight += tokens::weight(value.json()),
            "content" => {
                for part in value.elements().filter_map(Result::ok) {
                    text_weight += add_part(&part, needs);
                }
            }
            "tool_calls" => text_weight += tokens::weight(value.json()),
            _ => {}
        }
    }
    text_weight
}

/// What an object says that it is.
fn kind<'a>(value: &Value<'a>) -> Option<Cow<'a, str>> {
    value.member("type")?.as_str()
}

fn add_part(part: &Value<'_>, needs: &mut Requirements) -> u64 {
    match kind(part).as_deref() {
        Some("image_url") => {
            needs.abilities.insert(Ability::ImageInput);
            needs.input_tokens += TOKENS_PER_IMAGE;
            0
        }
        Some("input_audio") => {
            needs.abilities.insert(Ability::AudioInput);
            needs.features.insert(Feature::AudioInput);
            0
        }
        Some("file") => {
            needs.abilities.insert(Ability::DocumentInput);
            if part.member("file").is_some_and(|file| file.member("file_data").is_none()) {
                needs.features.insert(Feature::StoredAtProvider);
            }
            0
        }
        Some("video_url") => {
            needs.features.insert(Feature::VideoInput);
            0
        }
        _ => part.member("text").map_or(0, |text| tokens::weight(text.json())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Abilities;

    fn needs(body: &serde_json::Value) -> Requirements {
        let mut needs = Requirements::default();
        add_requirements(body.to_string().as_bytes(), &mut needs);
        needs
    }

    #[test]
    fn the_outline_finds_the_model_and_whether_to_stream() {
        let body = Bytes::from_static(br#"{"messages":[{"model":"no"}],"model": "gpt-4o" ,"stream":true}"#);
        let found = outline(&body).unwrap();
        assert_eq!(found.model_json(), Some(&b"\"gpt-4o\""[..]));
        assert!(found.streaming() && found.is_of(&body));
        let silent = outline(&Bytes::from_static(b"{\"stream\":null}")).unwrap();
        assert!(!silent.streaming() && silent.model_json().is_none());
    }

    #[test]
    fn a_stream_is_asked_to_tell_its_usage_in_whatever_way_it_was_not() {
        for (request, metered) in [
            (r#" {"stream":true}"#, Some(r#" {"stream_options":{"include_usage":true},"stream":true}"#)),
            (
                r#"{"stream":true,"stream_options":null}"#,
                Some(r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
            ),
            (
                r#"{"stream":true,"stream_options":{}}"#,
                Some(r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
            ),
            (
                r#"{"stream_options":{"x":1},"model":"a","stream":true}"#,
                Some(r#"{"stream_options":{"include_usage":true,"x":1},"model":"b","stream":true}"#),
            ),
            (
                r#"{"model":"a","stream":true,"stream_options":{"include_usage": false}}"#,
                Some(r#"{"model":"b","stream":true,"stream_options":{"include_usage": true}}"#),
            ),
            (r#"{"stream":true,"stream_options":{"include_usage":true}}"#, None),
            (r#"{"stream":false}"#, None),
        ] {
            let outline = outline(&Bytes::copy_from_slice(request.as_bytes())).unwrap();
            assert_eq!(outline.needs_metering(), metered.is_some(), "{request}");
            assert_eq!(outline.wants_usage(), request.contains("include_usage\":true"), "{request}");
            if let Some(metered) = metered {
                assert_eq!(outline.rewritten(Some(b"\"b\""), true), metered.as_bytes());
            }
        }
    }

    #[test]
    fn what_is_no_object_is_malformed() {
        for body in ["", "[]", "\"model\"", "{\"model\":\"a\"", "{\"model\" \"a\"}"] {
            assert!(outline(&Bytes::from_static(body.as_bytes())).is_err(), "{body}");
        }
    }

    #[test]
    fn each_feature_that_a_request_uses_is_needed() {
        use Ability::*;
        let text = |content| serde_json::json!({"messages": [{"role": "user", "content": content}]});
        let with = |key: &str, value: serde_json::Value| {
            let mut body = text(serde_json::json!("hi"));
            body[key] = value;
            needs(&body).abilities
        };
        let only = |ability| Abilities::from_iter([ability]);
        assert_eq!(with("stream", true.into()), only(Streaming));
        assert_eq!(with("tools", serde_json::json!([{"type": "function"}])), only(Tools));
        assert_eq!(with("tools", serde_json::json!([])), Abilities::NONE);
        assert_eq!(with("parallel_tool_calls", true.into()), only(ParallelTools));
        assert_eq!(with("response_format", serde_json::json!({"type": "json_schema"})), only(StructuredOutput));
        assert_eq!(with("response_format", serde_json::json!({"type": "text"})), Abilities::NONE);
        assert_eq!(with("reasoning_effort", "low".into()), only(Reasoning));
        assert_eq!(with("reasoning_effort", "none".into()), Abilities::NONE);
        for (kind, ability) in [("image_url", ImageInput), ("input_audio", AudioInput), ("file", DocumentInput)] {
            assert_eq!(needs(&text(serde_json::json!([{"type": kind}]))).abilities, only(ability));
        }
    }

    #[test]
    fn tokens_are_counted_from_text_and_not_from_images() {
        let body = serde_json::json!({
            "max_tokens": 7, "max_completion_tokens": 9,
            "messages": [
                {"role": "system", "content": "x".repeat(398)},
                {"role": "user", "content": [
                    {"type": "text", "text": "y".repeat(398)},
                    {"type": "image_url", "image_url": {"url": "data:".to_owned() + &"A".repeat(9000)}},
                ]},
            ],
        });
        let needs = needs(&body);
        assert_eq!((needs.input_tokens, needs.max_output_tokens), (185 + 85, Some(9)));
    }
}
