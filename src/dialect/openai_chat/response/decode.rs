//! A chat completion in the canonical form.

use crate::{
    Dialect,
    dialect::{
        canonical::{Answer, Extras, Finish, Part, Raw, Text, Thought},
        json_scan::{Malformed, Value, root_members},
        openai_chat::{request::decode as message, usage},
    },
};

/// Reads an answer: its first choice, for those who ask for several are sent to nobody who would have to translate them.
pub(crate) fn decode(body: &str) -> Result<Answer<'_>, Malformed> {
    let mut answer = Answer::new(Dialect::OpenAiChat);
    for member in root_members(body.as_bytes())? {
        let (key, value) = member?;
        match &*key {
            "id" => answer.id = Text::of(&value),
            "model" => answer.model = Text::of(&value),
            // Some servers send a fraction.
            "created" => {
                answer.created = Raw::of(&value).and_then(|raw| Some(raw.as_str().parse::<f64>().ok()? as u64))
            }
            "object" => {}
            "service_tier" if !value.is_null() => answer.service_tier = Text::of(&value),
            "usage" => {
                answer.usage = usage::read(&value);
                answer.own.keep(key, &value);
            }
            "choices" => {
                for (place, choice) in value.elements().enumerate() {
                    let choice = choice?;
                    if place == 0 {
                        read_choice(&mut answer, &choice);
                    } else {
                        answer.others.extend(Raw::of(&choice));
                    }
                }
            }
            _ => answer.extras.keep(key, &value),
        }
    }
    Ok(answer)
}

fn read_choice<'a>(answer: &mut Answer<'a>, choice: &Value<'a>) {
    let mut finish = None;
    for (key, value) in choice.members().filter_map(Result::ok) {
        match &*key {
            "index" => {}
            "message" => read_message(&mut answer.parts, &mut answer.message_extras, &value),
            "finish_reason" => finish = Text::of(&value),
            _ => answer.candidate_extras.keep(key, &value),
        }
    }
    let calls = answer.parts.iter().any(|part| matches!(part, Part::Call(_)));
    answer.finish = finish_of(finish, calls);
}

/// What a finish reason means. Some servers say that they stop where they call.
pub(crate) fn finish_of(reason: Option<Text<'_>>, calls: bool) -> Finish<'_> {
    match reason {
        None if calls => Finish::ToolCalls,
        None => Finish::Stop,
        Some(reason) => match reason.as_escaped() {
            "stop" | "eos" | "eos_token" if calls => Finish::ToolCalls,
            "stop" => Finish::Stop,
            "tool_calls" => Finish::ToolCalls,
            "length" => Finish::Length,
            "content_filter" => Finish::ContentFilter,
            _ => Finish::Other(reason),
        },
    }
}

fn read_message<'a>(parts: &mut Vec<Part<'a>>, extras: &mut Extras<'a>, value: &Value<'a>) {
    let mut thought = None;
    for (key, value) in value.members().filter_map(Result::ok) {
        match &*key {
            "role" => {}
            "content" => match Text::of(&value) {
                Some(text) => parts.push(Part::text(text)),
                None => {
                    for element in value.elements().filter_map(Result::ok) {
                        match thinking(&element) {
                            Some(text) => {
                                let native = Raw::of(&element);
                                parts.push(Part::Thought(Thought { text, native, signature: None }));
                            }
                            None => parts.push(message::part(&element)),
                        }
                    }
                }
            },
            "refusal" if value.is_string() => parts.extend(Text::of(&value).map(Part::Refusal)),
            "reasoning_content" | "reasoning" if value.is_string() && thought.is_none() => thought = Text::of(&value),
            "tool_calls" => parts.extend(value.elements().filter_map(Result::ok).map(|call| message::call(&call))),
            _ => extras.keep(key, &value),
        }
    }
    if let Some(text) = thought.filter(|text| !text.is_empty()) {
        parts.insert(0, Part::Thought(Thought { text, ..Thought::default() }));
    }
}

/// Mistral's way to tell what it thought: a part of the content, with a list of texts.
pub(crate) fn thinking<'a>(part: &Value<'a>) -> Option<Text<'a>> {
    part.member("type").and_then(|kind| kind.as_str()).filter(|kind| kind == "thinking")?;
    let thinking = part.member("thinking")?;
    if thinking.is_string() {
        return Text::of(&thinking);
    }
    let mut whole = Text::default();
    for piece in thinking.elements().filter_map(Result::ok) {
        whole.push(&Text::of(&piece.member("text")?)?);
    }
    Some(whole)
}
