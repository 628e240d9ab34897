//! Requests written for Google, its own and others'.

use serde_json::{Value as Json, json};

use super::*;
use crate::{
    Capabilities,
    dialect::{
        canonical,
        gemini::{normalised, request::decode::decode},
        openai_chat, recorded,
    },
};

fn encoded(request: &Request<'_>, model: Option<&str>) -> (Json, Vec<String>) {
    let (mut losses, mut out) = (Losses::default(), Vec::new());
    let capabilities = Capabilities::new();
    encode(
        request,
        Destination { model, capabilities: &capabilities, variant: Default::default() },
        &mut losses,
        &mut out,
    );
    let json =
        serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)));
    (json, losses.iter().map(|loss| loss.to_string()).collect())
}

fn again(body: &Json) -> Json {
    let text = body.to_string();
    let (json, losses) = encoded(&decode(&text).unwrap(), None);
    assert_eq!(losses, [""; 0]);
    json
}

fn of_chat(body: &Json, model: &str) -> (Json, Vec<String>) {
    let text = body.to_string();
    encoded(&openai_chat::request::decode::decode(&text).unwrap(), Some(&format!("\"{model}\"")))
}

#[test]
fn every_recorded_request_comes_back_as_it_was() {
    let mut compared = 0;
    for exchange in recorded::exchanges("gemini-generate") {
        let Some(body) = exchange.request.filter(|body| body.get("contents").is_some()) else { continue };
        assert_eq!(normalised::normalised(&again(&body)), normalised::request(&body), "{}", exchange.file);
        compared += 1;
    }
    eprintln!("{compared} requests compared");
}

#[test]
fn what_a_request_may_say_comes_back() {
    let body = json!({
        "model": "models/gemini-2.5-flash",
        "systemInstruction": {"role": "user", "parts": [{"text": "Be \"brief\"\n"}]},
        "contents": [
            {"role": "user", "parts": [
                {"text": "What is this?"},
                {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo=", "displayName": "a.png"}},
                {"fileData": {"mimeType": "image/png", "fileUri": "https://example.org/a.png"}, "mediaResolution": {"level": "x"}},
                {"fileData": {"mimeType": "video/mp4", "fileUri": "gs://bucket/a.mp4"}, "videoMetadata": {"fps": 1}},
            ]},
            {"role": "model", "parts": [
                {"text": "Hm", "thought": true},
                {"text": "Let me see", "thoughtSignature": "c2ln"},
                {"functionCall": {"name": "f", "args": {"a": "é"}}, "thoughtSignature": "c2ln"},
                {"functionCall": {"id": "own", "name": "f", "args": {}}},
                {"executableCode": {"language": "PYTHON", "code": "1"}},
                {"text": "", "thoughtSignature": "c2ln"},
            ]},
            {"role": "function", "parts": [
                {"functionResponse": {"name": "f", "response": {"output": "{\"a\": 1}"}}},
                {"functionResponse": {"id": "own", "name": "f", "response": {"b": [1]}, "scheduling": "SILENT",
                    "parts": [{"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}]}},
            ]},
        ],
        "tools": [
            {"functionDeclarations": [
                {"name": "f", "description": "d", "parameters": {"type": "OBJECT", "nullable": true}},
                {"name": "g", "parametersJsonSchema": {"type": "object"}, "behavior": "BLOCKING"},
            ]},
            {"googleSearch": {}},
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "VALIDATED", "allowedFunctionNames": ["f"]}, "retrievalConfig": {"x": 1}},
        "generationConfig": {
            "temperature": 0.50, "topP": 1, "topK": 40.0, "candidateCount": 1, "maxOutputTokens": 10, "seed": 7,
            "stopSequences": ["a", "b", "c", "d", "e", "f"], "presencePenalty": 0.1, "frequencyPenalty": -0.1,
            "responseMimeType": "application/json", "responseSchema": {"type": "OBJECT"},
            "thinkingConfig": {"thinkingBudget": -1, "includeThoughts": true}, "responseModalities": ["TEXT"], "xUnknown": 1,
        },
        "safetySettings": [{"category": "x", "threshold": "y"}],
        "cachedContent": "cachedContents/x",
        "serviceTier": "standard",
        "yUnknown": {"z": [1]},
    });
    assert_eq!(again(&body), body);
}

#[test]
fn a_chat_becomes_contents_with_calls_and_results_beside_each_other() {
    let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let body = json!({
        "model": "gpt-4o",
        "messages": [
            {"role": "developer", "content": "Be brief"},
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"}, {"type": "text", "text": ""},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                {"type": "image_url", "image_url": {"url": "data:image/webp;base64,UklGRg=="}},
            ]},
            {"role": "assistant", "content": null, "tool_calls": [call("c1", "f", "{\"a\":1}"), call("c2", "g", "")]},
            {"role": "tool", "tool_call_id": "c2", "content": "42"},
            {"role": "tool", "tool_call_id": "c1", "content": "{\"b\": 2}"},
            {"role": "user", "content": "Go on"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "max_tokens": 10, "stop": "x", "reasoning_effort": "low", "seed": 7,
    });
    let (json, losses) = of_chat(&body, "gemini-3-flash");
    assert_eq!(losses, [""; 0]);
    assert_eq!(
        json,
        json!({
            "systemInstruction": {"parts": [{"text": "Be brief"}]},
            "contents": [
                {"role": "user", "parts": [
                    {"text": "What is this?"},
                    {"fileData": {"mimeType": "image/png", "fileUri": "https://example.org/a.png"}},
                    {"inlineData": {"mimeType": "image/webp", "data": "UklGRg=="}},
                ]},
                {"role": "model", "parts": [
                    {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}, "thoughtSignature": NO_SIGNATURE},
                    {"functionCall": {"id": "c2", "name": "g", "args": {}}, "thoughtSignature": NO_SIGNATURE},
                ]},
                {"role": "user", "parts": [
                    {"functionResponse": {"id": "c1", "name": "f", "response": {"b": 2}}},
                    {"functionResponse": {"id": "c2", "name": "g", "response": {"output": "42"}}},
                ]},
                {"role": "user", "parts": [{"text": "Go on"}]},
            ],
            "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object"}}]}],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
            "generationConfig": {"seed": 7, "maxOutputTokens": 10, "stopSequences": ["x"], "thinkingConfig": {"thinkingLevel": "LOW"}},
        })
    );
    let (older, _) = of_chat(&body, "gemini-2.5-flash");
    assert!(!older.to_string().contains("thoughtSignature"));
    assert_eq!(older["generationConfig"]["thinkingConfig"], json!({"thinkingBudget": 1024}));
}

#[test]
fn what_google_has_no_word_for_is_noted() {
    let user = json!([{"role": "user", "content": "Hi"}]);
    for (members, loss) in [
        (json!({"user": "u"}), "user"),
        (json!({"metadata": {"a": "b"}}), "metadata"),
        (json!({"service_tier": "flex"}), "service_tier"),
        (json!({"service_tier": "auto"}), ""),
        (json!({"verbosity": "low"}), "verbosity"),
        (json!({"logit_bias": {"1": 2}}), "logit_bias"),
        (json!({"prompt_cache_key": "k"}), "prompt_cache_key"),
        (
            json!({"parallel_tool_calls": false, "tools": [{"type": "function", "function": {"name": "f"}}]}),
            "parallel_tool_calls",
        ),
        (json!({"parallel_tool_calls": false}), ""),
        (json!({"stop": ["a", "b", "c", "d", "e", "f"]}), "stop"),
        (json!({"seed": 14836394043272784000_u64}), "seed"),
        (json!({"reasoning_effort": "xhigh"}), "reasoning_effort"),
        (json!({"tools": [{"type": "custom", "custom": {"name": "g"}}]}), "native tool"),
        (json!({"temperature": 1}), ""),
        (json!({"n": 1}), ""),
    ] {
        let mut body = json!({"messages": user});
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let (_, losses) = of_chat(&body, "gemini-3-flash");
        assert_eq!(losses, if loss.is_empty() { vec![] } else { vec![loss] }, "{members}");
    }
    let (json, losses) = of_chat(&json!({"messages": user, "temperature": 1}), "gemini-3.6-flash");
    assert_eq!((json.get("generationConfig"), losses), (None, vec!["sampling".to_owned()]));
}

#[test]
fn tool_choices_and_formats_in_googles_words() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let body = |key: &str, value: Json| {
        let mut body = json!({"messages": [{"role": "user", "content": "Hi"}], "tools": [tool("f"), tool("g")]});
        body[key] = value;
        body
    };
    for (choice, config) in [
        (json!("auto"), json!({"mode": "AUTO"})),
        (json!("none"), json!({"mode": "NONE"})),
        (json!("required"), json!({"mode": "ANY"})),
        (
            json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tool("f")]}}),
            json!({"mode": "ANY", "allowedFunctionNames": ["f"]}),
        ),
    ] {
        let (json, _) = of_chat(&body("tool_choice", choice), "gemini-2.5-pro");
        assert_eq!(json["toolConfig"]["functionCallingConfig"], config);
    }
    let some = json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool("g")]}});
    let (json, _) = of_chat(&body("tool_choice", some), "gemini-2.5-pro");
    assert_eq!(json["tools"], json!([{"functionDeclarations": [{"name": "g"}]}]));

    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}});
    let (json, losses) = of_chat(&body("response_format", format.clone()), "gemini-3-pro");
    assert_eq!(losses, [""; 0]);
    let expected = json!({"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}});
    assert_eq!(json["generationConfig"], expected);
    let (json, losses) = of_chat(&body("response_format", format), "gemini-2.5-pro");
    assert_eq!((losses, json.get("generationConfig")), (vec!["response_format beside tools".to_owned()], None));
    assert!(json["systemInstruction"]["parts"][0]["text"].as_str().unwrap().ends_with("{\"type\":\"object\"}"));
}

#[test]
fn system_messages_stand_ahead_or_are_the_users_where_nobody_else_speaks() {
    let messages = |roles: &[&str]| {
        let message = |role: &&str| json!({"role": role, "content": role});
        json!({"messages": roles.iter().map(message).collect::<Vec<_>>()})
    };
    let (json, losses) = of_chat(&messages(&["system", "user", "developer", "user"]), "gemini-3-pro");
    assert_eq!(json["systemInstruction"]["parts"], json!([{"text": "system"}, {"text": "developer"}]));
    assert_eq!((json["contents"].as_array().unwrap().len(), losses), (2, vec!["place of a system message".to_owned()]));
    let (json, _) = of_chat(&messages(&["system"]), "gemini-3-pro");
    assert_eq!(json, json!({"contents": [{"role": "user", "parts": [{"text": "system"}]}]}));
}

#[test]
fn every_recorded_chat_can_be_put_so() {
    for exchange in recorded::exchanges("openai-chat") {
        let Some(body) = exchange.request.filter(|body| body.get("messages").is_some()) else { continue };
        for model in ["gemini-2.5-flash", "gemini-3-pro"] {
            let (json, losses) = of_chat(&body, model);
            let says_something = !json["contents"].as_array().unwrap().is_empty();
            assert!(says_something || exchange.status == 400, "{}", exchange.file);
            for name in losses {
                let known = NAMED.contains(&&*name);
                assert!(known || canonical::Loss::is_of_a_member(&name), "{}: {name}", exchange.file);
            }
        }
    }
}

/// The losses that there may be of a chat, besides members that only it knows.
const NAMED: &[&str] = &[
    "malformed arguments",
    "media",
    "metadata",
    "native content part",
    "native tool",
    "native tool choice",
    "parallel_tool_calls",
    "place of a system message",
    "prompt_cache_key",
    "reasoning",
    "reasoning of earlier turns",
    "reasoning_effort",
    "response_format beside tools",
    "seed",
    "service_tier",
    "stop",
    "strict",
    "user",
    "verbosity",
];
