//! The canonical form as a `generateContent` answer.

use super::decode::word;
use crate::{
    Dialect,
    dialect::{
        canonical::{Answer, Finish, Losses, Part},
        gemini::{
            part::{NO_SIGNATURE, write_arguments, write_own_part, write_thought},
            usage,
        },
        json_write::{Array, Object, object},
    },
};

/// Writes an answer; notes what has no place in it.
pub(crate) fn encode(answer: &Answer<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
    let own = answer.dialect == Dialect::Gemini;
    // A prompt that was blocked has no candidate.
    let blocked = own
        && answer.finish == Finish::ContentFilter
        && answer.parts.is_empty()
        && answer.candidate_extras.is_empty()
        && answer.extras.get("promptFeedback").is_some();
    object(out, |body| {
        if !blocked {
            body.array("candidates", |candidates| {
                candidates.object(|object| candidate(object, answer, own, losses));
                if own {
                    answer.others.iter().for_each(|other| candidates.raw(other));
                }
            });
        }
        // One that was read from a stream has it nowhere else.
        if let Some(used) = answer.usage.filter(|_| answer.extras.get("usageMetadata").is_none()) {
            body.object("usageMetadata", |object| usage::write(&used, object));
        }
        body.maybe_text("modelVersion", answer.model.as_ref());
        body.maybe_text("responseId", answer.id.as_ref());
        if own {
            body.extras(&answer.extras);
        }
    });
    if !own {
        answer.note_extras(losses);
    }
}

fn candidate(candidate: &mut Object<'_>, answer: &Answer<'_>, own: bool, losses: &mut Losses) {
    if !answer.parts.is_empty() || answer.finish != Finish::ContentFilter || !answer.message_extras.is_empty() {
        candidate.object("content", |content| {
            if !answer.parts.is_empty() {
                content.array("parts", |parts| {
                    for part in &answer.parts {
                        match own {
                            true => write_own_part(parts, part),
                            false => self::part(parts, part, losses),
                        }
                    }
                });
            }
            content.string("role", "model");
            if own {
                content.extras(&answer.message_extras);
            }
        });
    }
    if !own || answer.candidate_extras.get("finishReason").is_none() {
        match &answer.finish {
            Finish::Other(word) if own => candidate.text("finishReason", word),
            finish => {
                losses.finish(finish, false);
                candidate.string("finishReason", word(finish));
            }
        }
    }
    candidate.number("index", 0);
    if own {
        candidate.extras(&answer.candidate_extras);
    }
}

/// A part of another dialect's answer.
fn part(parts: &mut Array<'_>, part: &Part<'_>, losses: &mut Losses) {
    match part {
        Part::Text { text, extras } => {
            losses.extras(extras);
            parts.object(|object| object.text("text", text));
        }
        Part::Refusal(text) => {
            losses.note("refusal");
            parts.object(|object| object.text("text", text));
        }
        Part::Thought(thought) => {
            losses.note_if(thought.signature.is_some() || thought.native.is_some(), "reasoning signature");
            if !thought.text.is_empty() {
                parts.object(|object| write_thought(object, &thought.text));
            }
        }
        Part::Call(call) => {
            losses.note_if(call.signature.is_some(), "reasoning signature");
            losses.extras(&call.extras);
            parts.object(|object| {
                object.object("functionCall", |function| {
                    if !call.id.is_empty() {
                        function.text("id", &call.id);
                    }
                    function.text("name", &call.name);
                    let understood = write_arguments(function, &call.arguments);
                    losses.note_if(!understood, "malformed arguments");
                });
                // So that Google's own models take the call, should the conversation go on with one of them.
                object.string("thoughtSignature", NO_SIGNATURE);
            });
        }
        Part::Media(_) | Part::Result(_) | Part::Native(_) => losses.note("native content part"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::dialect::{
        canonical::collect::essence,
        gemini::{normalised, response::decode::decode},
        openai_chat, recorded,
    };

    fn encoded(answer: &Answer<'_>) -> (Json, Vec<String>) {
        let (mut losses, mut out) = (Losses::default(), Vec::new());
        encode(answer, &mut losses, &mut out);
        let json =
            serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)));
        (json, losses.iter().map(|loss| loss.to_string()).collect())
    }

    #[test]
    fn every_recorded_answer_comes_back_as_it_was() {
        let mut compared = 0;
        for exchange in recorded::exchanges("gemini-generate") {
            let is_answer = |body: &Json| body.get("candidates").is_some() || body.get("promptFeedback").is_some();
            let Some(body) = exchange.answer.filter(is_answer) else { continue };
            let text = body.to_string();
            let (json, losses) = encoded(&decode(&text).unwrap());
            assert_eq!(normalised::answer(&json), normalised::answer(&body), "{}", exchange.file);
            assert_eq!(losses, [""; 0]);
            compared += 1;
        }
        eprintln!("{compared} answers compared");
    }

    #[test]
    fn every_recorded_answer_says_the_same_in_a_chat_and_back() {
        let (mut there, mut back) = (0, 0);
        for exchange in recorded::exchanges("gemini-generate") {
            let Some(body) = exchange.answer.filter(|body| body.get("candidates").is_some()) else { continue };
            let text = body.to_string();
            let answer = decode(&text).unwrap();
            let (mut losses, mut out) = (Losses::default(), Vec::new());
            openai_chat::response::encode::encode(&answer, &mut losses, &mut out);
            let chat = String::from_utf8(out).unwrap();
            let chat = openai_chat::response::decode::decode(&chat).unwrap();
            let (said, mut is) = (essence(&chat), essence(&answer));
            if !is.calls.is_empty() {
                // `UNEXPECTED_TOOL_CALL` is a call all the same.
                is.finish = Finish::ToolCalls;
            }
            assert_eq!(said, is, "{}", exchange.file);
            there += 1;
        }
        for exchange in recorded::exchanges("openai-chat") {
            let is_answer = |body: &Json| body["choices"][0]["message"].is_object() && body.get("error").is_none();
            let Some(body) = exchange.answer.filter(is_answer) else { continue };
            let text = body.to_string();
            let answer = openai_chat::response::decode::decode(&text).unwrap();
            let (json, losses) = encoded(&answer);
            let json = json.to_string();
            let mut again = essence(&decode(&json).unwrap());
            let was = essence(&answer);
            if losses.iter().any(|loss| loss == "malformed arguments" || loss == "native content part") {
                // A call of a tool that is no function has no place here.
                again.finish.clone_from(&was.finish);
                again.calls.clone_from(&was.calls);
            }
            assert_eq!(again, was, "{}", exchange.file);
            back += 1;
        }
        eprintln!("{there} answers there, {back} back");
    }

    #[test]
    fn an_answer_of_another_dialect_in_googles_words() {
        let chat = r#"{"id":"x","model":"m","choices":[{"message":{"content":"Hi","reasoning_content":"Hm","tool_calls":[
            {"id":"c","type":"function","function":{"name":"f","arguments":"{a: 1}"}}]},"finish_reason":"tool_calls"}],
            "usage":{"prompt_tokens":3,"completion_tokens":5,"completion_tokens_details":{"reasoning_tokens":2}}}"#;
        let (json, losses) = encoded(&openai_chat::response::decode::decode(chat).unwrap());
        assert_eq!(losses, ["malformed arguments"]);
        let expected = json!({
            "candidates": [{"content": {"role": "model", "parts": [
                {"text": "Hm", "thought": true}, {"text": "Hi"},
                {"functionCall": {"id": "c", "name": "f", "args": {"arguments": "{a: 1}"}}, "thoughtSignature": NO_SIGNATURE},
            ]}, "finishReason": "STOP", "index": 0}],
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 3, "thoughtsTokenCount": 2, "totalTokenCount": 8},
            "modelVersion": "m", "responseId": "x",
        });
        assert_eq!(json, expected);
        let filtered = r#"{"choices":[{"message":{"content":null},"finish_reason":"content_filter"}]}"#;
        let (json, _) = encoded(&openai_chat::response::decode::decode(filtered).unwrap());
        assert_eq!(json, json!({"candidates": [{"finishReason": "SAFETY", "index": 0}]}));
    }
}
