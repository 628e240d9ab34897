//! A message in the canonical form.

use super::super::{request::decode::part, usage};
use crate::{
    Dialect,
    dialect::{
        canonical::{Answer, Finish, Text},
        json_scan::{Malformed, root_members},
    },
};

/// Reads an answer.
pub(crate) fn decode(body: &str) -> Result<Answer<'_>, Malformed> {
    let mut answer = Answer::new(Dialect::AnthropicMessages);
    let (mut reason, mut sequence) = (None, None);
    for member in root_members(body.as_bytes())? {
        let (key, value) = member?;
        match &*key {
            "id" => answer.id = Text::of(&value),
            "model" => answer.model = Text::of(&value),
            "type" | "role" => {}
            "content" => {
                for block in value.elements() {
                    answer.parts.push(part(&block?));
                }
            }
            "stop_reason" => {
                reason = Text::of(&value);
                answer.own.keep(key, &value);
            }
            "stop_sequence" => {
                sequence = Text::of(&value);
                answer.own.keep(key, &value);
            }
            "usage" => {
                answer.usage = usage::read(&value);
                answer.service_tier = match value.member("service_tier").and_then(|tier| tier.as_str()).as_deref() {
                    Some("standard") => Some(Text::escaped("default")),
                    Some("priority") => Some(Text::escaped("priority")),
                    _ => None,
                };
                answer.own.keep(key, &value);
            }
            _ => answer.extras.keep(key, &value),
        }
    }
    answer.finish = reason.map_or(Finish::Stop, |reason| finish_of(reason, sequence));
    Ok(answer)
}

/// What a stop reason means.
pub(in crate::dialect::anthropic_messages) fn finish_of<'a>(
    reason: Text<'a>,
    sequence: Option<Text<'a>>,
) -> Finish<'a> {
    match reason.as_escaped() {
        "end_turn" => Finish::Stop,
        "stop_sequence" => Finish::StopSequence(sequence.unwrap_or_default()),
        "tool_use" => Finish::ToolCalls,
        "max_tokens" | "model_context_window_exceeded" => Finish::Length,
        "refusal" => Finish::ContentFilter,
        // `pause_turn` and `compaction`, which only those who know this API can go on from, and whatever may come.
        _ => Finish::Other(reason),
    }
}
