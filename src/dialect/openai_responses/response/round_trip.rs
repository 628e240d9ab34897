//! Answers through the canonical form and back, and into the other API of OpenAI's.

use serde_json::{Value as Json, json};

use super::{decode::decode, encode::encode};
use crate::{
    Dialect, Usage,
    dialect::{
        canonical::{Answer, Call, Extras, Finish, Losses, Part, Raw, Text, Thought},
        recorded,
    },
};

fn written(answer: &Answer<'_>) -> (Json, Vec<String>) {
    let (mut losses, mut out) = (Losses::default(), Vec::new());
    encode(answer, &mut losses, &mut out);
    let json = serde_json::from_slice(&out);
    let json = json.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)));
    (json, losses.iter().map(|loss| loss.to_string()).collect())
}

/// Members that every response has, whoever made it, in the words of OpenAI's own SDK.
fn assert_is_a_response(json: &Json) {
    assert_eq!(json["object"], "response");
    assert!(json["id"].as_str().unwrap().starts_with("resp_"));
    assert!(json["created_at"].is_u64() && json["model"].is_string() && json["parallel_tool_calls"].is_boolean());
    assert!(json["tools"].is_array() && json["tool_choice"].is_string() && json["metadata"].is_object());
    for name in ["error", "incomplete_details", "instructions", "temperature", "top_p", "usage", "previous_response_id"]
    {
        assert!(json.get(name).is_some(), "{name}");
    }
    for item in json["output"].as_array().unwrap() {
        assert!(item["id"].is_string() && item["type"].is_string());
        match item["type"].as_str().unwrap() {
            "message" => {
                assert!(item["role"] == "assistant" && item["content"].is_array() && item["status"].is_string())
            }
            "function_call" => assert!(item["call_id"].is_string() && item["arguments"].is_string()),
            "reasoning" => assert!(item["summary"].is_array()),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn every_recorded_answer_comes_back_as_it_was() {
    let mut compared = 0;
    for exchange in recorded::exchanges("openai-responses") {
        let Some(body) = exchange.answer.filter(|body| body.get("output").is_some()) else { continue };
        let text = body.to_string();
        let answer = decode(&text).unwrap();
        let (json, losses) = written(&answer);
        assert_eq!((&json, losses), (&body, vec![]), "{}", exchange.file);
        compared += 1;
        // As if another dialect had said it.
        let foreign = Answer { dialect: Dialect::Gemini, ..answer.clone() };
        let (json, _) = written(&foreign);
        assert_is_a_response(&json);
        let text = json.to_string();
        let again = decode(&text).unwrap();
        assert_eq!(essence(&again), essence(&answer), "{}", exchange.file);
    }
    eprintln!("{compared} answers compared");
}

/// What must survive: text, thoughts, calls, usage.
fn essence(answer: &Answer<'_>) -> (String, String, Vec<String>, Option<Usage>) {
    let (mut text, mut thoughts, mut calls) = (String::new(), String::new(), Vec::new());
    for part in &answer.parts {
        match part {
            Part::Text { text: piece, .. } | Part::Refusal(piece) => text.push_str(&piece.decoded()),
            Part::Thought(thought) => thoughts.push_str(&thought.text.decoded()),
            Part::Call(call) => calls.push(format!("{}({})", call.name.as_escaped(), call.arguments.as_str())),
            _ => {}
        }
    }
    (text, thoughts, calls, answer.usage)
}

#[test]
fn an_answer_of_another_dialect_is_a_response() {
    let mut answer = Answer::new(Dialect::AnthropicMessages);
    answer.id = Some(Text::escaped("msg_01Ab"));
    answer.model = Some(Text::escaped("claude"));
    answer.usage = Some(Usage { input: 5, cached_input: 2, output: 3, reasoning: 1, ..Usage::default() });
    answer.finish = Finish::Length;
    let thought = |text| {
        let signature = Some(Text::escaped("sig"));
        Part::Thought(Thought { text: Text::escaped(text), signature, native: None })
    };
    let call = |id| {
        let (id, name) = (Text::escaped(id), Text::escaped("f"));
        Part::Call(Call { id, name, arguments: Raw::new(r#"{"a":1}"#), signature: None, extras: Extras::default() })
    };
    answer.parts = vec![
        thought("hm"),
        thought(""),
        Part::text(Text::escaped("a\\n")),
        Part::Refusal(Text::escaped("no")),
        call("toolu_1"),
        call(""),
        Part::Native(Raw::new(r#"{"type":"server_tool_use"}"#)),
        Part::text(Text::escaped("b")),
    ];
    let (json, losses) = written(&answer);
    assert_is_a_response(&json);
    assert_eq!(losses, ["native content part", "reasoning signature"]);
    assert_eq!((&json["id"], &json["status"]), (&json!("resp_01Ab"), &json!("incomplete")));
    assert_eq!(json["incomplete_details"], json!({"reason": "max_output_tokens"}));
    assert_eq!(json["usage"]["total_tokens"], 8);
    let text = |text: &str| json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
    let expected = json!([
        {"id": "rs_translated_01Ab_0", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"id": "msg_01Ab_1", "type": "message", "role": "assistant", "status": "completed",
         "content": [text("a\n"), {"type": "refusal", "refusal": "no"}]},
        {"id": "fc_01Ab_2", "type": "function_call", "call_id": "toolu_1", "name": "f", "arguments": "{\"a\":1}", "status": "completed"},
        {"id": "fc_01Ab_3", "type": "function_call", "call_id": json["output"][3]["call_id"], "name": "f", "arguments": "{\"a\":1}", "status": "completed"},
        {"id": "msg_01Ab_4", "type": "message", "role": "assistant", "status": "incomplete", "content": [text("b")]},
    ]);
    assert_eq!(json["output"], expected);
    assert_is_a_response(&written(&Answer::new(Dialect::Gemini)).0);
}

#[test]
fn the_status_tells_how_it_ended() {
    let finish = |rest: &str| decode(&format!(r#"{{"output":[],{rest}}}"#)).unwrap().finish.into_owned();
    assert_eq!(finish(r#""status":"completed""#), Finish::Stop);
    assert_eq!(finish(r#""incomplete_details":{"reason":"max_output_tokens"},"status":"incomplete""#), Finish::Length);
    assert_eq!(
        finish(r#""status":"incomplete","incomplete_details":{"reason":"content_filter"}"#),
        Finish::ContentFilter
    );
    assert_eq!(
        finish(r#""status":"incomplete","incomplete_details":{"reason":"steered"}"#),
        Finish::Other(Text::escaped("steered"))
    );
    let call = r#"{"output":[{"type":"function_call","call_id":"c","name":"f","arguments":""}],"status":"completed"}"#;
    assert_eq!(decode(call).unwrap().finish, Finish::ToolCalls);
    assert!(decode(r#"{"output":[}"#).is_err() && decode("").is_err());
}
