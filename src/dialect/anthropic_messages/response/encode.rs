//! The canonical form as a message.

use super::super::{id, request::encode::own_part, usage};
use crate::{
    Dialect,
    dialect::{
        canonical::{Answer, Call, Finish, Losses, Part, Text, call_id},
        json_write::{Array, Object, object},
    },
};

/// Writes an answer; notes what has no place in it.
pub(crate) fn encode(answer: &Answer<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
    object(out, |body| match answer.dialect {
        Dialect::AnthropicMessages => again(answer, body),
        _ => translate(answer, losses, body),
    });
}

/// Writes an answer of this dialect as it was.
fn again(answer: &Answer<'_>, body: &mut Object<'_>) {
    body.maybe_text("id", answer.id.as_ref());
    body.string("type", "message");
    body.string("role", "assistant");
    body.maybe_text("model", answer.model.as_ref());
    body.array("content", |list| answer.parts.iter().for_each(|part| own_part(list, part)));
    if answer.own.is_empty() {
        // It was put together from a stream, which tells its end in events of its own.
        match &answer.finish {
            Finish::Other(reason) => body.text("stop_reason", reason),
            finish => body.string("stop_reason", stop_reason(finish)),
        }
        write_stop_sequence(body, &answer.finish);
        body.object("usage", |object| usage::write(&answer.usage.unwrap_or_default(), object));
    }
    body.extras(&answer.own);
    body.extras(&answer.extras);
}

fn translate(answer: &Answer<'_>, losses: &mut Losses, body: &mut Object<'_>) {
    body.text("id", &id::of_answer(answer.id.as_ref()));
    body.string("type", "message");
    body.string("role", "assistant");
    body.text("model", answer.model.as_ref().unwrap_or(&Text::default()));
    body.array("content", |list| {
        let mut calls = 0;
        for part in &answer.parts {
            write_part(list, part, answer, &mut calls, losses);
        }
    });
    body.string("stop_reason", stop_reason(&answer.finish));
    write_stop_sequence(body, &answer.finish);
    body.object("usage", |object| {
        usage::write(&answer.usage.unwrap_or_default(), object);
        match answer.service_tier.as_ref().map(Text::as_escaped) {
            None => {}
            Some("default") => object.string("service_tier", "standard"),
            Some("priority") => object.string("service_tier", "priority"),
            Some(_) => losses.note("service_tier"),
        }
    });
    answer.note_extras(losses);
    losses.finish(&answer.finish, true);
}

fn write_part(list: &mut Array<'_>, part: &Part<'_>, answer: &Answer<'_>, calls: &mut usize, losses: &mut Losses) {
    match part {
        // No answer of Anthropic's has a text of nothing, and as part of the next request it would be refused.
        Part::Text { text, .. } | Part::Refusal(text) if text.is_empty() => {}
        Part::Text { text, extras } => {
            losses.extras(extras);
            write_text(list, text);
        }
        Part::Refusal(text) => write_text(list, text),
        Part::Thought(thought) => {
            losses.note_if(thought.signature.is_some() || thought.native.is_some(), "reasoning signature");
            if !thought.text.is_empty() {
                list.object(|block| {
                    block.string("type", "thinking");
                    block.text("thinking", &thought.text);
                    // Nobody's: Anthropic would refuse another's.
                    block.string("signature", "");
                });
            }
        }
        Part::Call(call) => {
            let number = *calls;
            *calls += 1;
            losses.extras(&call.extras);
            losses.note_if(call.signature.is_some(), "reasoning signature");
            list.object(|block| write_call(block, call, answer, number, losses));
        }
        Part::Media(_) | Part::Result(_) => losses.note("media"),
        Part::Native(_) => losses.note("native content part"),
    }
}

fn write_call(block: &mut Object<'_>, call: &Call<'_>, answer: &Answer<'_>, number: usize, losses: &mut Losses) {
    block.string("type", "tool_use");
    block.text("id", &id::of_call(&call.id, || call_id(answer.id.as_ref(), number)));
    block.text("name", &call.name);
    if call.arguments.is_object() {
        block.raw("input", &call.arguments);
    } else if matches!(call.arguments.as_str().trim(), "" | "null") {
        block.object("input", |_| {});
    } else {
        losses.note("tool arguments that are no object");
        block.object("input", |input| input.text("arguments", &call.arguments.quoted()));
    }
}

fn write_text(list: &mut Array<'_>, text: &Text<'_>) {
    list.object(|block| {
        block.string("type", "text");
        block.text("text", text);
    });
}

/// Anthropic's word for how an answer ended.
pub(in crate::dialect::anthropic_messages) fn stop_reason(finish: &Finish<'_>) -> &'static str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::StopSequence(_) => "stop_sequence",
        Finish::ToolCalls => "tool_use",
        Finish::Length => "max_tokens",
        Finish::ContentFilter => "refusal",
        // Another dialect's word for something that no client of this one knows.
        Finish::Other(_) => "end_turn",
    }
}

pub(in crate::dialect::anthropic_messages) fn write_stop_sequence(object: &mut Object<'_>, finish: &Finish<'_>) {
    match finish {
        Finish::StopSequence(sequence) if !sequence.is_empty() => object.text("stop_sequence", sequence),
        _ => object.null("stop_sequence"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::dialect::{
        anthropic_messages::response::decode::decode,
        canonical::{Raw, Thought, collect::essence},
        openai_chat, recorded,
    };

    fn written(answer: &Answer<'_>) -> (Json, Vec<String>) {
        let (mut losses, mut out) = (Losses::default(), Vec::new());
        encode(answer, &mut losses, &mut out);
        let text = String::from_utf8(out).unwrap();
        let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        (json, losses.iter().map(|loss| loss.to_string()).collect())
    }

    #[test]
    fn every_recorded_answer_comes_back_as_it_was() {
        let mut compared = 0;
        for exchange in recorded::exchanges("anthropic-messages") {
            let Some(body) = exchange.answer.filter(|body| body["content"].is_array()) else { continue };
            let text = body.to_string();
            let (again, losses) = written(&decode(&text).unwrap());
            assert_eq!(recorded::without_nothing(&again), recorded::without_nothing(&body), "{}", exchange.file);
            assert_eq!(losses, Vec::<String>::new());
            compared += 1;
        }
        eprintln!("{compared} answers compared");
    }

    #[test]
    fn answers_survive_the_way_to_chat_completions_and_back() {
        let mut compared = 0;
        for exchange in recorded::exchanges("anthropic-messages") {
            let Some(body) = exchange.answer.filter(|body| body["content"].is_array()) else { continue };
            let text = body.to_string();
            let answer = decode(&text).unwrap();
            let (mut losses, mut out) = (Losses::default(), Vec::new());
            openai_chat::response::encode::encode(&answer, &mut losses, &mut out);
            let chat = String::from_utf8(out).unwrap();
            let (back, _) = written(&openai_chat::response::decode::decode(&chat).unwrap());
            let back = back.to_string();
            let mut expected = essence(&answer);
            // Calls that a tool of Anthropic's made, and went on from.
            if expected.finish == Finish::Stop && !expected.calls.is_empty() {
                expected.finish = Finish::ToolCalls;
            }
            assert_eq!(essence(&decode(&back).unwrap()), expected, "{}", exchange.file);
            compared += 1;
        }
        eprintln!("{compared} answers told and told back");
    }

    #[test]
    fn chat_completions_survive_the_way_here_and_back() {
        let mut compared = 0;
        for exchange in recorded::exchanges("openai-chat") {
            let Some(body) = exchange.answer.filter(|body| body["choices"][0]["message"].is_object()) else { continue };
            let text = body.to_string();
            let answer = openai_chat::response::decode::decode(&text).unwrap();
            let (message, _) = written(&answer);
            let message = message.to_string();
            let mut expected = essence(&answer);
            // Here it is always told, and no more can come from the cache than came in.
            let (input, cached, output) = expected.usage.unwrap_or_default();
            expected.usage = Some((input, cached.min(input), output));
            assert_eq!(essence(&decode(&message).unwrap()), expected, "{}", exchange.file);
            compared += 1;
        }
        eprintln!("{compared} chat completions told");
    }

    #[test]
    fn another_dialects_answer_is_put_as_anthropic_puts_its_own() {
        let mut answer = Answer::new(Dialect::Gemini);
        answer.id = Some(Text::escaped("resp/1"));
        answer.model = Some(Text::escaped("gemini"));
        let call = |id: &'static str, arguments: &'static str| {
            let (id, name) = (Text::escaped(id), Text::escaped("f"));
            Part::Call(Call { id, name, arguments: Raw::new(arguments), signature: None, extras: Default::default() })
        };
        answer.parts = vec![
            Part::Thought(Thought { text: Text::escaped("hm"), signature: Some(Text::escaped("s")), native: None }),
            Part::text(Text::default()),
            Part::text(Text::plain("Hi \"you\"")),
            Part::Refusal(Text::escaped("No.")),
            call("call_1", r#"{"a":1}"#),
            call("", ""),
            call("", "[1]"),
        ];
        answer.finish = Finish::ToolCalls;
        answer.service_tier = Some(Text::escaped("default"));
        answer.usage = Some(crate::Usage {
            input: 10,
            cached_input: 4,
            cache_write_input: 1,
            output: 5,
            reasoning: 2,
            ..crate::Usage::default()
        });
        let (mut json, losses) = written(&answer);
        let blocks = json["content"].as_array_mut().unwrap();
        let made: Vec<String> = (4..6).map(|n| blocks[n]["id"].as_str().unwrap().to_owned()).collect();
        assert_ne!(made[0], made[1]);
        assert!(json["id"].as_str().unwrap().starts_with("msg_"));
        assert_eq!(
            json["content"],
            json!([
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "text", "text": "Hi \"you\""},
                {"type": "text", "text": "No."},
                {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": made[0], "name": "f", "input": {}},
                {"type": "tool_use", "id": made[1], "name": "f", "input": {"arguments": "[1]"}},
            ])
        );
        assert_eq!(
            json["usage"],
            json!({"input_tokens": 5, "cache_creation_input_tokens": 1, "cache_read_input_tokens": 4, "output_tokens": 5,
                "output_tokens_details": {"thinking_tokens": 2}, "service_tier": "standard"})
        );
        assert_eq!(
            (&json["stop_reason"], &json["stop_sequence"], &json["model"]),
            (&json!("tool_use"), &Json::Null, &json!("gemini"))
        );
        assert_eq!(losses, ["reasoning signature", "tool arguments that are no object"]);
    }

    #[test]
    fn every_finish_has_a_word() {
        for (finish, word) in [
            (Finish::Stop, "end_turn"),
            (Finish::ToolCalls, "tool_use"),
            (Finish::Length, "max_tokens"),
            (Finish::ContentFilter, "refusal"),
            (Finish::StopSequence(Text::escaped("X")), "stop_sequence"),
            (Finish::Other(Text::escaped("eos")), "end_turn"),
        ] {
            let (json, _) = written(&Answer { finish: finish.clone(), ..Answer::new(Dialect::OpenAiChat) });
            assert_eq!(json["stop_reason"], word);
            assert_eq!(json["stop_sequence"], if word == "stop_sequence" { json!("X") } else { Json::Null });
        }
        let of =
            |word: &str| decode(&format!(r#"{{"content":[],"stop_reason":"{word}"}}"#)).unwrap().finish.into_owned();
        assert_eq!(of("model_context_window_exceeded"), Finish::Length);
        assert_eq!(of("pause_turn"), Finish::Other(Text::escaped("pause_turn")));
    }
}
