//! A response in the canonical form.

use crate::{
    Dialect,
    dialect::{
        canonical::{Answer, Finish, Part, Raw, Text},
        json_scan::{Malformed, Value, root_members},
        openai_responses::{request::decode::add_output, usage},
    },
};

/// What an answer says of itself beside what it answers, most of it what its request said: nobody elsewhere misses it.
const ECHOES: &[&str] = &[
    "access_programs",
    "background",
    "billing",
    "completed_at",
    "conversation",
    "error",
    "frequency_penalty",
    "incomplete_details",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "object",
    "output_text",
    "parallel_tool_calls",
    "presence_penalty",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "status",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tool_usage",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "usage",
    "user",
];

/// Reads an answer.
pub(crate) fn decode(body: &str) -> Result<Answer<'_>, Malformed> {
    let mut answer = Answer::new(Dialect::OpenAiResponses);
    let (mut status, mut why) = (None, None);
    for member in root_members(body.as_bytes())? {
        let (key, value) = member?;
        match &*key {
            "id" => answer.id = Text::of(&value),
            "model" => answer.model = Text::of(&value),
            "created_at" => {
                answer.created = seconds(&value);
                if value.as_u64().is_none() {
                    answer.extras.keep_aside(key, &value);
                }
            }
            "output" => {
                for item in value.elements() {
                    add_output(&mut answer.parts, &item?);
                }
            }
            "service_tier" if value.is_string() => answer.service_tier = Text::of(&value),
            _ => {
                match &*key {
                    "usage" => answer.usage = usage::read(&value),
                    "status" => status = Text::of(&value),
                    "incomplete_details" => why = value.member("reason").and_then(|reason| Text::of(&reason)),
                    _ => {}
                }
                if ECHOES.contains(&&*key) {
                    answer.extras.keep_aside(key, &value);
                } else {
                    answer.extras.keep(key, &value);
                }
            }
        }
    }
    answer.finish = finish(status, why, answer.parts.iter().any(is_call));
    Ok(answer)
}

/// Some servers send a fraction.
pub(crate) fn seconds(value: &Value<'_>) -> Option<u64> {
    Raw::of(value).and_then(|raw| Some(raw.as_str().parse::<f64>().ok()? as u64))
}

/// Whether the client's turn is to answer it.
fn is_call(part: &Part<'_>) -> bool {
    match part {
        Part::Call(_) => true,
        Part::Native(raw) => raw.value().is_some_and(|item| waits_for_the_client(&item)),
        _ => false,
    }
}

/// Whether an item of no common kind is a call that only the client can answer.
pub(crate) fn waits_for_the_client(item: &Value<'_>) -> bool {
    item.member("type").is_some_and(|kind| kind.json() == b"\"custom_tool_call\"")
}

/// How an answer ends that has this status and reason.
pub(crate) fn finish<'a>(status: Option<Text<'a>>, why: Option<Text<'a>>, calls: bool) -> Finish<'a> {
    let status_name = status.as_ref().map_or("completed", |status| status.as_escaped());
    match (status_name, why) {
        ("completed", _) if calls => Finish::ToolCalls,
        ("completed", _) => Finish::Stop,
        ("incomplete", Some(why)) => match why.as_escaped() {
            "max_output_tokens" | "max_messages" => Finish::Length,
            "content_filter" => Finish::ContentFilter,
            _ => Finish::Other(why),
        },
        _ => Finish::Other(status.unwrap_or_default()),
    }
}
