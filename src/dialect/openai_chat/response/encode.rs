//! The canonical form as a chat completion.

use crate::{
    Dialect,
    dialect::{
        canonical::{Answer, Finish, Losses, Part, Text, Thought, call_id, seconds_now},
        json_write::{Object, object},
        openai_chat::usage,
    },
};

/// Writes an answer; notes what has no place in it.
pub(crate) fn encode(answer: &Answer<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
    let own = answer.dialect == Dialect::OpenAiChat;
    object(out, |body| {
        match &answer.id {
            Some(id) => body.text("id", id),
            None if own => {}
            None => body.string("id", "chatcmpl-unnamed"),
        }
        body.string("object", "chat.completion");
        body.number("created", answer.created.unwrap_or_else(seconds_now));
        match &answer.model {
            Some(model) => body.text("model", model),
            None if own => {}
            None => body.string("model", ""),
        }
        body.array("choices", |choices| {
            choices.object(|choice| {
                choice.number("index", 0);
                choice.object("message", |object| message(object, answer, own, losses));
                if !(own && answer.candidate_extras.get("logprobs").is_some()) {
                    choice.null("logprobs");
                }
                match &answer.finish {
                    Finish::Other(word) if own => choice.text("finish_reason", word),
                    finish => choice.string("finish_reason", finish_reason(finish)),
                }
                if own {
                    choice.extras(&answer.candidate_extras);
                }
            });
            if own {
                answer.others.iter().for_each(|other| choices.raw(other));
            }
        });
        body.maybe_text("service_tier", answer.service_tier.as_ref());
        match &answer.usage {
            _ if own => {}
            Some(usage) => body.object("usage", |object| usage::write(usage, object)),
            None => {}
        }
        if own {
            body.extras(&answer.own);
            body.extras(&answer.extras);
        }
    });
    if !own {
        answer.note_extras(losses);
        losses.finish(&answer.finish, false);
    }
}

fn message(message: &mut Object<'_>, answer: &Answer<'_>, own: bool, losses: &mut Losses) {
    message.string("role", "assistant");
    let (mut content, mut refusal, mut thoughts): (Option<Text<'_>>, Option<Text<'_>>, Option<Text<'_>>) =
        Default::default();
    for part in &answer.parts {
        match part {
            Part::Text { text, extras } => {
                content.get_or_insert_default().push(text);
                if !own {
                    losses.extras(extras);
                }
            }
            Part::Refusal(text) => refusal.get_or_insert_default().push(text),
            Part::Thought(thought) => {
                thoughts.get_or_insert_default().push(&thought.text);
                losses.note_if(thought.signature.is_some() || thought.native.is_some(), "reasoning signature");
            }
            Part::Call(_) => {}
            Part::Native(_) if own => {}
            _ => losses.note("native content part"),
        }
    }
    // Mistral's form: what was thought is a part of the content.
    let listed = own && answer.parts.iter().any(|part| matches!(part, Part::Thought(Thought { native: Some(_), .. })));
    match &content {
        _ if listed => message.array("content", |list| {
            for part in &answer.parts {
                match part {
                    Part::Thought(Thought { native: Some(raw), .. }) => list.raw(raw),
                    Part::Text { text, extras } => list.object(|part| {
                        part.string("type", "text");
                        part.text("text", text);
                        part.extras(extras);
                    }),
                    _ => {}
                }
            }
        }),
        Some(text) => message.text("content", text),
        None => message.null("content"),
    }
    match &refusal {
        Some(text) => message.text("refusal", text),
        None => message.null("refusal"),
    }
    // Not OpenAI's own, but what most compatible servers say and most clients look for.
    message.maybe_text("reasoning_content", thoughts.as_ref().filter(|text| !listed && !text.is_empty()));
    let is_call = |part: &&Part<'_>| matches!(part, Part::Call(_)) || own && matches!(part, Part::Native(_));
    if answer.parts.iter().any(|part| is_call(&part)) {
        message.array("tool_calls", |calls| {
            for (number, part) in answer.parts.iter().filter(is_call).enumerate() {
                match part {
                    Part::Call(call) => calls.object(|item| {
                        match call.id.is_empty() && !own {
                            true => item.text("id", &call_id(answer.id.as_ref(), number)),
                            false => item.text("id", &call.id),
                        }
                        item.string("type", "function");
                        item.object("function", |function| {
                            function.text("name", &call.name);
                            let arguments =
                                if call.arguments.as_str().is_empty() && !own { "{}" } else { call.arguments.as_str() };
                            function.string("arguments", arguments);
                        });
                        if own {
                            item.extras(&call.extras);
                        } else {
                            losses.note_if(call.signature.is_some(), "reasoning signature");
                            losses.extras(&call.extras);
                        }
                    }),
                    Part::Native(raw) => calls.raw(raw),
                    _ => {}
                }
            }
        });
    }
    if own {
        message.extras(&answer.message_extras);
    }
}

/// OpenAI's word for how an answer ended.
pub(crate) fn finish_reason(finish: &Finish<'_>) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopSequence(_) => "stop",
        Finish::ToolCalls => "tool_calls",
        Finish::Length => "length",
        Finish::ContentFilter => "content_filter",
        // Another dialect's word for something that no client of this one knows.
        Finish::Other(_) => "stop",
    }
}
