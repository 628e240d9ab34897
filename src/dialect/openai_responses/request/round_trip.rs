//! Requests through the canonical form and back, and from and to the other API of OpenAI's.

use serde_json::{Value as Json, json};

use super::{decode::decode, encode::encode};
use crate::{
    Ability, Capabilities, Dialect,
    dialect::{
        canonical::{Destination, Effort, Losses, Part, Role},
        openai_chat, recorded,
    },
};

fn written(request: &crate::dialect::canonical::Request<'_>) -> (Json, Vec<String>) {
    let (mut losses, mut out) = (Losses::default(), Vec::new());
    let capabilities = Capabilities::new();
    encode(
        request,
        Destination { model: None, capabilities: &capabilities, variant: Default::default() },
        &mut losses,
        &mut out,
    );
    let json = serde_json::from_slice(&out);
    let json = json.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)));
    (json, losses.iter().map(|loss| loss.to_string()).collect())
}

fn again(body: &Json) -> Json {
    let text = body.to_string();
    let (json, losses) = written(&decode(&text).unwrap());
    assert_eq!(losses, [""; 0]);
    json
}

/// A chat completion request as one for a response, and what was lost.
fn from_chat(body: &Json) -> (Json, Vec<String>) {
    let text = body.to_string();
    written(&openai_chat::request::decode::decode(&text).unwrap())
}

fn to_chat(body: &Json) -> (Json, Vec<String>) {
    let text = body.to_string();
    let (mut losses, mut out) = (Losses::default(), Vec::new());
    let capabilities = Capabilities::new();
    let destination = Destination { model: None, capabilities: &capabilities, variant: Default::default() };
    openai_chat::request::encode::encode(&decode(&text).unwrap(), destination, &mut losses, &mut out);
    (serde_json::from_slice(&out).unwrap(), losses.iter().map(|loss| loss.to_string()).collect())
}

/// What is said in two ways and comes back as one of them.
fn defaults(body: &Json) -> Json {
    let mut body = recorded::without_nothing(body);
    let members = body.as_object_mut().unwrap();
    if members.get("stream") == Some(&Json::Bool(false)) {
        members.remove("stream");
    }
    if members.get("text") == Some(&json!({})) {
        members.remove("text");
    }
    body
}

#[test]
fn every_recorded_request_comes_back_as_it_was() {
    let mut compared = 0;
    for exchange in recorded::exchanges("openai-responses") {
        let Some(body) = exchange.request.filter(|body| body.get("model").is_some()) else { continue };
        assert_eq!(defaults(&again(&body)), defaults(&body), "{}", exchange.file);
        compared += 1;
    }
    eprintln!("{compared} requests compared");
}

fn everything() -> Json {
    json!({
        "model": "gpt-5", "instructions": "Be \"brief\"\n", "max_output_tokens": 3, "temperature": 0.50, "top_p": 1,
        "input": [
            {"role": "system", "content": "one"},
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "two"}]},
            {"role": "user", "content": [
                {"type": "input_text", "text": "What is this?", "prompt_cache_breakpoint": {"mode": "explicit"}},
                {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "low"},
                {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="},
                {"type": "input_image", "file_id": "file-1", "detail": "auto"},
                {"type": "input_file", "file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"},
                {"type": "input_file", "file_data": "bare"},
                {"type": "input_file", "file_url": "https://example.org/a.pdf"},
                {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
                {"type": "future", "x": 1},
            ]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "x"},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "phase": "commentary", "content": [
                {"type": "output_text", "text": "a", "annotations": [{"type": "url_citation"}], "logprobs": []},
                {"type": "output_text", "text": "b", "annotations": []}]},
            {"role": "assistant", "content": "c"},
            {"role": "assistant", "content": [{"type": "output_text", "text": "d"}]},
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{\"a\": \"\\u00e9\"}", "status": "completed"},
            {"role": "assistant", "content": "between"},
            {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}},
            {"type": "function_call", "call_id": "call_2", "name": "g", "arguments": "", "namespace": "n"},
            {"type": "custom_tool_call", "call_id": "call_3", "name": "h", "input": "x"},
            {"type": "function_call_output", "call_id": "call_1", "output": "42", "id": "fco_1", "status": "completed"},
            {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "x"},
                {"type": "input_image", "image_url": "https://example.org/b.png"}]},
            {"type": "custom_tool_call_output", "call_id": "call_3", "output": "y"},
            {"role": "user", "content": "and?"},
            {"role": "user", "content": ""},
            {"role": "user", "content": []},
            {"type": "message", "id": "msg_2", "role": "assistant", "status": "incomplete", "content": [{"type": "refusal", "refusal": "no"}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "x"}, {"type": "future"}]},
            {"role": "assistant", "content": []},
            {"type": "item_reference", "id": "msg_9"},
            {"type": "function_call", "call_id": "call_4"},
            {"role": "critic", "content": "hm"},
        ],
        "tools": [
            {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true, "defer_loading": true},
            {"type": "function", "name": "g"},
            {"type": "web_search"},
        ],
        "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
        "parallel_tool_calls": false,
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true}, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "detailed"}, "include": ["reasoning.encrypted_content"],
        "previous_response_id": "resp_1", "store": true, "safety_identifier": "u", "metadata": {"a": "b"},
        "stream": true, "stream_options": {"include_obfuscation": false}, "x_unknown": {"y": [1]},
    })
}

/// Only what holds something of its own: `[]` is an order here.
#[test]
fn what_a_request_may_say_comes_back() {
    assert_eq!(again(&everything()), everything());
    for body in [
        json!({"model": "m", "input": "hi", "user": "u", "safety_identifier": "s"}),
        json!({"model": "m", "instructions": "be brief", "input": "hi", "reasoning": {"effort": "odd", "context": "all"}}),
        json!({"model": "m", "input": "hi", "text": {"format": {"type": "grammar", "g": 1}}, "tool_choice": {"type": "mcp"}}),
        json!({"model": "m", "previous_response_id": "resp_1"}),
        json!({"prompt": {"id": "pmpt_1"}, "instructions": [{"role": "user", "content": "x"}], "tool_choice": "none"}),
    ] {
        assert_eq!(again(&body), body);
    }
}

#[test]
fn what_one_side_says_is_one_turn() {
    let body = json!({"instructions": "sys", "input": [
        {"role": "user", "content": "do"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}]},
        {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "call_2", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "1"},
        {"type": "function_call_output", "call_id": "call_2", "output": "2"},
        {"role": "user", "content": "go on"},
    ]})
    .to_string();
    let request = decode(&body).unwrap();
    assert_eq!(request.dialect, Dialect::OpenAiResponses);
    let kinds = |part: &Part<'_>| match part {
        Part::Text { .. } => 't',
        Part::Thought(thought) => {
            assert_eq!(thought.text.decoded(), "a\n\nb");
            'r'
        }
        Part::Call(_) => 'c',
        Part::Result(_) => 'o',
        _ => '?',
    };
    let turns = request.turns.iter().map(|turn| (turn.role, turn.parts.iter().map(kinds).collect::<String>()));
    let expected =
        [(Role::System, "t"), (Role::User, "t"), (Role::Assistant, "rtcc"), (Role::User, "oo"), (Role::User, "t")];
    assert_eq!(turns.collect::<Vec<_>>(), expected.map(|(role, parts)| (role, parts.to_owned())));
}

#[test]
fn a_chat_request_is_written_as_items() {
    let body = json!({
        "model": "gpt-4o", "max_completion_tokens": 5, "stop": ["x"], "seed": 1, "presence_penalty": 0.5, "n": 2,
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}, "reasoning_effort": "low",
        "messages": [
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": [{"type": "text", "text": "What?"},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}}]},
            {"role": "developer", "content": "Be kind"},
            {"role": "assistant", "content": "", "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "call_1", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                {"id": "not / allowed", "type": "function", "function": {"name": "h", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "1"},
            {"role": "tool", "tool_call_id": "not / allowed", "content": "3"},
            {"role": "tool", "tool_call_id": "call_1", "content": "2"},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": {"type": "function", "function": {"name": "f"}},
        "stream": true, "store": true,
    });
    let (json, losses) = from_chat(&body);
    assert_eq!(losses, ["n", "presence_penalty", "seed", "stop", "store"]);
    let expected = json!({
        "model": "gpt-4o", "instructions": "Be brief", "max_output_tokens": 16, "store": false, "stream": true,
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "What?"},
                {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "low"}]},
            {"type": "message", "role": "developer", "content": "Be kind"},
            {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "call_made_1", "name": "g", "arguments": "{}"},
            {"type": "function_call", "call_id": "call_made_2", "name": "h", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "1"},
            {"type": "function_call_output", "call_id": "call_made_2", "output": "3"},
            {"type": "function_call_output", "call_id": "call_made_1", "output": "2"},
        ],
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": false}],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}},
        "reasoning": {"effort": "low"},
    });
    assert_eq!(json, expected);
}

#[test]
fn a_model_that_cannot_reason_is_not_asked_to() {
    let mut request = crate::dialect::canonical::Request::new(Dialect::AnthropicMessages);
    request.reasoning =
        Some(crate::dialect::canonical::Reasoning { effort: None, budget: Some(2000), told: Some(true) });
    assert_eq!(written(&request).0["reasoning"], json!({"effort": Effort::Medium.name(), "summary": "auto"}));
    let (capabilities, mut out) = (Capabilities::new().without(Ability::Reasoning), Vec::new());
    encode(
        &request,
        Destination { model: Some("\"m\""), capabilities: &capabilities, variant: Default::default() },
        &mut Losses::default(),
        &mut out,
    );
    assert_eq!(out, br#"{"model":"m","input":[],"store":false}"#);
}

#[test]
fn every_recorded_chat_request_can_be_asked_here() {
    // What a conversation says, whatever the order of its members.
    let said = |body: &Json| {
        let mut said = Vec::new();
        for message in body["messages"].as_array().into_iter().flatten() {
            match &message["content"] {
                Json::String(text) => said.push(text.clone()),
                Json::Array(parts) => {
                    said.extend(parts.iter().filter_map(|part| part["text"].as_str()).map(str::to_owned))
                }
                _ => {}
            }
            for call in message["tool_calls"].as_array().into_iter().flatten() {
                said.push(format!("{}({})", call["function"]["name"], call["function"]["arguments"]));
            }
        }
        said.retain(|text| !text.is_empty());
        said
    };
    let (mut count, mut all) = (0, std::collections::BTreeSet::new());
    for exchange in recorded::exchanges("openai-chat") {
        let Some(body) = exchange.request.filter(|body| body.get("messages").is_some()) else { continue };
        let (there, losses) = from_chat(&body);
        all.extend(losses);
        let (back, more) = to_chat(&there);
        assert_eq!(said(&back), said(&body), "{}", exchange.file);
        all.extend(more);
        count += 1;
    }
    eprintln!("{count} requests; lost: {all:?}");
}
