//! Whatever the bytes: nothing panics, and what can be read comes out as JSON that can be read again.

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::Value as Json;

use super::*;
use crate::{
    dialect::recorded,
    fuzzing::{translate_answer, translate_request, translate_stream},
};

/// Names and words that decoders look for, in places where they do not expect them.
const WORDS: &[&str] = &[
    "annotations",
    "args",
    "arguments",
    "assistant",
    "call_id",
    "candidates",
    "choices",
    "citations",
    "content",
    "content_block",
    "content_block_delta",
    "content_block_start",
    "content_block_stop",
    "contents",
    "data",
    "delta",
    "developer",
    "document",
    "error",
    "fileData",
    "finishReason",
    "finish_reason",
    "format",
    "function",
    "functionCall",
    "functionDeclarations",
    "functionResponse",
    "function_call",
    "function_call_output",
    "generationConfig",
    "id",
    "image",
    "image_url",
    "incomplete_details",
    "index",
    "inlineData",
    "input",
    "input_image",
    "input_json_delta",
    "input_schema",
    "input_text",
    "instructions",
    "is_error",
    "item",
    "json_schema",
    "max_tokens",
    "message",
    "message_delta",
    "message_start",
    "message_stop",
    "messages",
    "mimeType",
    "model",
    "name",
    "output",
    "output_index",
    "output_text",
    "parameters",
    "partialArgs",
    "parts",
    "promptFeedback",
    "reasoning",
    "reasoning_content",
    "refusal",
    "response",
    "response.completed",
    "response.created",
    "response.function_call_arguments.delta",
    "response.output_item.added",
    "response.output_item.done",
    "response.output_text.delta",
    "responseSchema",
    "response_format",
    "role",
    "schema",
    "signature",
    "source",
    "stop",
    "stop_reason",
    "stop_sequences",
    "stream",
    "strict",
    "summary",
    "system",
    "systemInstruction",
    "text",
    "text_delta",
    "thinking",
    "thinking_delta",
    "thought",
    "thoughtSignature",
    "tool",
    "tool_calls",
    "tool_choice",
    "tool_result",
    "tool_use",
    "tool_use_id",
    "tools",
    "type",
    "url",
    "usage",
    "usageMetadata",
    "user",
    "willContinue",
];

fn any_json() -> impl Strategy<Value = Json> {
    let word = || select(WORDS).prop_map(str::to_owned);
    let leaf = prop_oneof![
        1 => Just(Json::Null),
        1 => any::<bool>().prop_map(Json::from),
        1 => any::<i64>().prop_map(Json::from),
        1 => any::<f64>().prop_map(Json::from),
        4 => word().prop_map(Json::from),
        1 => any::<String>().prop_map(Json::from),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        let key = prop_oneof![9 => word(), 1 => any::<String>()];
        prop_oneof![
            1 => vec(inner.clone(), 0..5).prop_map(Json::from),
            2 => vec((key, inner), 0..7).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_json_is_malformed_or_comes_out_as_json(first in any::<u8>(), events in vec(any_json(), 1..5)) {
        let body = [&[first], events[0].to_string().as_bytes()].concat();
        translate_request(&body);
        translate_answer(&body);
        let stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        translate_stream(&[&[first], stream.as_bytes()].concat());
    }

    #[test]
    fn any_bytes_are_malformed_or_come_out_as_json(bytes in vec(any::<u8>(), 0..200)) {
        translate_request(&bytes);
        translate_answer(&bytes);
        translate_stream(&bytes);
    }
}

/// Changes a text here and there.
fn mutated(text: &str, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..random.usize(1..5) {
        let at = random.usize(..bytes.len().max(1)).min(bytes.len());
        let end = (at + random.usize(..20)).min(bytes.len());
        match random.u8(..6) {
            0 => drop(bytes.drain(at..end)),
            1 => bytes.truncate(at),
            2 => drop(bytes.splice(at..at, format!("\"{}\":", random.choice(WORDS).unwrap()).into_bytes())),
            3 => drop(
                bytes.splice(at..end, random.choice(["null", "[]", "{}", "\"\"", "7", "\\ud800"]).unwrap().bytes()),
            ),
            4 => {
                let copied = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, copied));
            }
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.u8(..)),
        }
    }
    bytes
}

/// A value of it replaced by another.
fn disordered(json: &Json, random: &mut fastrand::Rng) -> Json {
    if random.u8(..24) == 0 {
        let word = Json::from(*random.choice(WORDS).unwrap());
        return random
            .choice([Json::Null, Json::from(-1), Json::from(""), word, serde_json::json!([]), serde_json::json!({})])
            .unwrap();
    }
    match json {
        Json::Object(members) => members.iter().map(|(key, value)| (key.clone(), disordered(value, random))).collect(),
        Json::Array(elements) => elements.iter().map(|element| disordered(element, random)).collect(),
        other => other.clone(),
    }
}

#[test]
fn recordings_that_were_changed_are_malformed_or_come_out_as_json() {
    let mut random = fastrand::Rng::with_seed(3);
    for (number, dialect) in (0..).zip(DIALECTS) {
        let mut tried = 0;
        for exchange in recorded::exchanges(folder(dialect)) {
            let mut run = |target: fn(&[u8]), body: Vec<u8>| {
                tried += 1;
                // A few are megabytes of an image.
                if body.len() < 100_000 {
                    target(&[&[number], &*body].concat());
                }
            };
            for _ in 0..2 {
                if let Some(request) = &exchange.request {
                    run(translate_request, mutated(&request.to_string(), &mut random));
                    run(translate_request, disordered(request, &mut random).to_string().into_bytes());
                }
                if let Some(answer) = &exchange.answer {
                    run(translate_answer, mutated(&answer.to_string(), &mut random));
                    run(translate_answer, disordered(answer, &mut random).to_string().into_bytes());
                }
                if let Some(stream) = &exchange.stream {
                    run(translate_stream, mutated(stream, &mut random));
                    let events = data_of([stream.as_bytes()]);
                    let events = events.iter().map(|data| match serde_json::from_str::<Json>(data) {
                        Ok(json) => format!("data: {}\n\n", disordered(&json, &mut random)),
                        Err(_) => format!("data: {data}\n\n"),
                    });
                    let events = events.collect::<String>();
                    run(translate_stream, events.into_bytes());
                }
            }
        }
        eprintln!("{dialect:?}: {tried} changed recordings");
    }
}
