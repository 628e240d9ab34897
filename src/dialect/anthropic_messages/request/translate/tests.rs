use serde_json::{Value as Json, json};

use crate::{
    Ability, Capabilities,
    dialect::{
        anthropic_messages::request::encode::encode,
        canonical::{Destination, Losses, Part, Request, Role, Text, ToolResult, Turn},
        openai_chat, recorded,
    },
};

fn losses_of(losses: &Losses) -> Vec<String> {
    losses.iter().map(|loss| loss.to_string()).collect()
}

fn written(request: &Request<'_>, model: &str, capabilities: &Capabilities) -> (Json, Vec<String>) {
    let (mut losses, mut out) = (Losses::default(), Vec::new());
    let model = format!("\"{model}\"");
    encode(
        request,
        Destination { model: Some(&model), capabilities, variant: Default::default() },
        &mut losses,
        &mut out,
    );
    let body =
        serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)));
    (body, losses_of(&losses))
}

/// A chat completion request for that model.
fn to(model: &str, chat: &Json) -> (Json, Vec<String>) {
    let text = chat.to_string();
    written(&openai_chat::request::decode::decode(&text).unwrap(), model, &Capabilities::new())
}

/// With no more than a word of the user's.
fn with(model: &str, members: Json) -> (Json, Vec<String>) {
    let mut chat = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]});
    chat.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    to(model, &chat)
}

fn turns(messages: Json) -> (Json, Vec<String>) {
    let (body, losses) = to("claude-haiku-4-5", &json!({"messages": messages}));
    (body["messages"].clone(), losses)
}

const OLD: &str = "claude-haiku-4-5";
const NEW: &str = "claude-opus-5";

fn none() -> Vec<String> {
    Vec::new()
}

#[test]
fn a_plain_request_is_put_plainly() {
    let (body, losses) = with(
        OLD,
        json!({"stream": true, "stop": ["\n", "END"], "temperature": 0.5, "user": "u1", "max_completion_tokens": 10}),
    );
    assert_eq!(
        body,
        json!({"model": OLD, "max_tokens": 10, "messages": [{"role": "user", "content": "Hi"}], "stop_sequences": ["END"],
            "temperature": 0.5, "metadata": {"user_id": "u1"}, "stream": true})
    );
    assert_eq!(losses, ["stop of white space"]);
}

#[test]
fn what_must_be_said_is_made_up() {
    assert_eq!(with(OLD, json!({})).0["max_tokens"], 4096);
    let capabilities = Capabilities::new().with_max_output_tokens(64_000);
    let request =
        Request { turns: vec![Turn::text(Role::User, Text::escaped("Hi"))], ..Request::new(crate::Dialect::Gemini) };
    assert_eq!(written(&request, OLD, &capabilities).0["max_tokens"], 64_000);
    let nothing = json!([{"role": "user", "content": "Please continue."}]);
    assert_eq!(turns(json!([])), (nothing.clone(), none()));
    assert_eq!(turns(json!([{"role": "user", "content": " \n"}])), (nothing, none()));
}

#[test]
fn systems_go_to_the_top() {
    let (body, losses) = to(
        OLD,
        &json!({"messages": [
            {"role": "system", "content": "A"}, {"role": "developer", "content": "B"}, {"role": "user", "content": "Hi"},
        ]}),
    );
    assert_eq!(body["system"], json!([{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]));
    assert_eq!(losses, none());
    let (body, losses) = to(OLD, &json!({"messages": [{"role": "system", "content": "A"}]}));
    assert_eq!((&body["messages"], body.get("system")), (&json!([{"role": "user", "content": "A"}]), None));
    assert_eq!(losses, none());
    let late = json!({"messages": [{"role": "user", "content": "Hi"}, {"role": "system", "content": "A"}]});
    let (body, losses) = to(OLD, &late);
    assert_eq!((&body["system"], losses), (&json!("A"), vec!["place of a system message".to_owned()]));
}

#[test]
fn turns_are_merged_and_results_come_first() {
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}});
    let (messages, losses) = turns(json!([
        {"role": "user", "content": "One"}, {"role": "user", "content": "two"},
        {"role": "assistant", "content": "", "tool_calls": [call("call_1"), call("call:2")]},
        {"role": "tool", "tool_call_id": "call:2", "content": "second"},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "first"}]},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "So. \n"},
    ]));
    let text = |text: &str| json!({"type": "text", "text": text});
    let made = messages[1]["content"][1]["id"].clone();
    let made_id = made.as_str().unwrap();
    assert!(made_id.starts_with("toolu_"), "{made_id}");
    assert_eq!(
        messages,
        json!([
            {"role": "user", "content": [text("One"), text("two")]},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": made, "name": "f", "input": {"a": 1}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": made, "content": "second"},
                {"type": "tool_result", "tool_use_id": "call_1", "content": "first"},
                text("And?"),
            ]},
            {"role": "assistant", "content": "So."},
        ])
    );
    assert_eq!(losses, none());
}

#[test]
fn calls_and_results_that_lack_each_other_are_made_fit() {
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "oops"}});
    let (messages, losses) = turns(json!([
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "user", "content": "Well?"},
        {"role": "tool", "tool_call_id": "other", "content": "late"},
        {"role": "assistant", "content": "Hm"},
        {"role": "user", "content": "Yes"},
    ]));
    let text = |text: &str| json!({"type": "text", "text": text});
    assert_eq!(messages[0], json!({"role": "user", "content": "Please continue."}));
    assert_eq!(messages[1]["content"][0]["input"], json!({"arguments": "oops"}));
    let missing =
        json!({"type": "tool_result", "tool_use_id": "c", "content": "The tool gave no answer.", "is_error": true});
    assert_eq!(messages[2]["content"], json!([missing, text("Well?"), text("late")]));
    assert_eq!(
        losses,
        ["tool arguments that are no object", "tool call without its result", "tool result without its call"]
    );
}

#[test]
fn results_without_ids_are_found_by_their_tool() {
    let call = |name: &'static str| {
        Part::Call(crate::dialect::canonical::Call {
            id: Text::default(),
            name: Text::escaped(name),
            arguments: crate::dialect::canonical::Raw::new("{}"),
            signature: Some(Text::escaped("s")),
            extras: Default::default(),
        })
    };
    let result = |name: &'static str| {
        let parts = vec![Part::text(Text::escaped(name))];
        let (id, name) = (Text::default(), Some(Text::escaped(name)));
        Part::Result(ToolResult { id, name, parts, bare: false, is_error: false, extras: Default::default() })
    };
    let turn = |role, parts| Turn { parts, ..Turn::new(role) };
    let mut request = Request::new(crate::Dialect::Gemini);
    request.turns = vec![
        Turn::text(Role::User, Text::escaped("Hi")),
        turn(Role::Assistant, vec![call("f"), call("g"), call("f")]),
        turn(Role::User, vec![result("g"), result("f"), result("f")]),
    ];
    let (body, losses) = written(&request, NEW, &Capabilities::new());
    let ids: Vec<_> = (0..3).map(|n| body["messages"][1]["content"][n]["id"].as_str().unwrap()).collect();
    let answered: Vec<_> = (0..3).map(|n| body["messages"][2]["content"][n]["tool_use_id"].as_str().unwrap()).collect();
    assert_eq!(answered, [ids[1], ids[0], ids[2]]);
    assert_eq!(losses, ["thoughtSignature"]);
    // What was called must be known.
    assert_eq!(body["tools"][1]["name"], "g");
    assert_eq!((body["tools"].as_array().unwrap().len(), &body["tool_choice"]), (2, &json!({"type": "none"})));
}

#[test]
fn media_go_where_there_is_a_place_for_them() {
    let (messages, losses) = turns(json!([{"role": "user", "content": [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AAAA"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,w6kh", "filename": "a.txt"}},
        {"type": "file", "file": {"file_data": "data:application/zip;base64,AAAA", "filename": "a.zip"}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
    ]}]));
    assert_eq!(
        messages[0]["content"],
        json!([
            {"type": "text", "text": "See"},
            {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AAAA"}},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}, "title": "a.pdf"},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "é!"}, "title": "a.txt"},
        ])
    );
    assert_eq!(losses, ["detail", "media"]);
}

#[test]
fn tools_and_the_choice_among_them() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {"properties": {}}}});
    let tools = json!([tool("f"), {"type": "function", "function": {"name": "g", "description": "d", "strict": true,
        "parameters": {"type": "object", "properties": {"a": {"type": "string", "minLength": 1}}}}}, {"type": "function", "function": {"name": "h"}}]);
    let choose = |model: &str, choice: Json| with(model, json!({"tools": tools, "tool_choice": choice}));
    let (body, losses) = choose(OLD, json!("auto"));
    assert_eq!(
        body["tools"],
        json!([
            {"name": "f", "input_schema": {"type": "object", "properties": {}}},
            {"name": "g", "description": "d", "strict": true, "input_schema": {"type": "object", "additionalProperties": false,
                "properties": {"a": {"type": "string", "description": "{minLength: 1}"}}}},
            {"name": "h", "input_schema": {"type": "object", "properties": {}}},
        ])
    );
    assert_eq!(losses, ["schema constraints"]);
    let named = json!({"type": "function", "function": {"name": "f"}});
    let some = json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}});
    for (choice, expected) in [
        (json!("auto"), json!({"type": "auto"})),
        (json!("none"), json!({"type": "none"})),
        (json!("required"), json!({"type": "any"})),
        (named.clone(), json!({"type": "tool", "name": "f"})),
        (some.clone(), json!({"type": "any"})),
    ] {
        assert_eq!(choose(OLD, choice).0["tool_choice"], expected);
    }
    assert_eq!(choose(OLD, some).0["tools"].as_array().unwrap().len(), 1);
    let sole = |members: Json| with(OLD, members).0["tool_choice"].clone();
    let disabled = json!({"type": "auto", "disable_parallel_tool_use": true});
    assert_eq!(sole(json!({"tools": tools, "parallel_tool_calls": false})), disabled);
    assert_eq!(
        sole(json!({"tools": tools, "tool_choice": "none", "parallel_tool_calls": false})),
        json!({"type": "none"})
    );
    assert_eq!(sole(json!({"parallel_tool_calls": false})), Json::Null);
    let (body, losses) = choose("claude-opus-5-5", json!("required"));
    assert_eq!(
        (&body["tool_choice"], losses),
        (&json!({"type": "auto"}), vec!["schema constraints".to_owned(), "tool_choice".to_owned()])
    );
}

#[test]
fn thinking_and_tools_do_not_always_go_together() {
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let (body, losses) =
        with(OLD, json!({"reasoning_effort": "low", "tools": tools, "tool_choice": "required", "max_tokens": 9000}));
    assert_eq!((&body["thinking"], losses), (&Json::Null, vec!["reasoning_effort".to_owned()]));
    let (body, losses) =
        with(OLD, json!({"reasoning_effort": "low", "tools": tools, "max_tokens": 9000, "temperature": 0.2}));
    assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": 1024}));
    assert_eq!((&body["temperature"], losses), (&Json::Null, vec!["temperature".to_owned()]));
    let (body, losses) = with(NEW, json!({"reasoning_effort": "low", "temperature": 1, "top_p": 0.5}));
    assert_eq!((&body["thinking"], &body["output_config"]), (&json!({"type": "adaptive"}), &json!({"effort": "low"})));
    assert_eq!(losses, ["top_p"]);
    assert!(body.get("temperature").is_none() && body.get("top_p").is_none());
}

#[test]
fn formats_are_kept_where_the_model_can() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let format = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true}}});
    let (body, losses) = with(NEW, format.clone());
    let closed = json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false});
    assert_eq!(body["output_config"], json!({"format": {"type": "json_schema", "schema": closed}}));
    assert_eq!(losses, none());
    let (body, losses) = with("claude-sonnet-4-20250514", format.clone());
    assert!(body["system"].as_str().unwrap().contains("\"properties\"") && body.get("output_config").is_none());
    assert_eq!(losses, ["json_schema format"]);
    let (body, losses) = with(NEW, json!({"response_format": {"type": "json_object"}}));
    assert!(body["system"].as_str().unwrap().contains("JSON"));
    assert_eq!(losses, ["json_object format"]);
    let text = format.to_string().replacen('{', r#"{"messages":[],"#, 1);
    let request = openai_chat::request::decode::decode(&text).unwrap();
    let without = Capabilities::new().without(Ability::StructuredOutput);
    assert_eq!(written(&request, NEW, &without).1, ["json_schema format"]);
}

#[test]
fn what_has_no_place_is_named() {
    let (body, losses) = with(
        OLD,
        json!({"temperature": 1.5, "top_p": 0.9, "frequency_penalty": 1, "presence_penalty": 1, "seed": 7, "n": 2, "logprobs": true,
            "logit_bias": {"1": 2}, "metadata": {"a": "b"}, "verbosity": "low", "prompt_cache_key": "k", "service_tier": "flex"}),
    );
    assert_eq!(body["temperature"], 1);
    assert_eq!(
        losses,
        [
            "frequency_penalty",
            "logit_bias",
            "logprobs",
            "metadata",
            "n",
            "presence_penalty",
            "prompt_cache_key",
            "seed",
            "service_tier",
            "temperature above 1",
            "top_p",
            "verbosity",
        ]
    );
}

#[test]
fn a_turn_that_is_begun_is_left_to_models_that_go_on_with_it() {
    let chat = json!({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Good "}]});
    let (body, losses) = to(OLD, &chat);
    assert_eq!((&body["messages"][1]["content"], losses), (&json!("Good"), none()));
    let (body, losses) = to(NEW, &chat);
    assert_eq!((&body["messages"][2]["role"], losses), (&json!("user"), vec!["prefill".to_owned()]));
}

#[test]
fn thoughts_of_other_models_stay_behind() {
    let (messages, losses) = turns(json!([
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho", "reasoning_content": "hm"},
        {"role": "assistant", "content": null, "refusal": "No."}, {"role": "user", "content": "So?"},
    ]));
    let text = |text: &str| json!({"type": "text", "text": text});
    assert_eq!(messages[1]["content"], json!([text("Ho"), text("No.")]));
    assert_eq!(losses, ["reasoning of earlier turns"]);
}

/// What Anthropic refuses although it is JSON (DIALECTS 2.3, 2.6).
pub(super) fn check(body: &Json, file: &str) {
    assert!(body["max_tokens"].as_u64().unwrap() > 0, "{file}");
    let messages = body["messages"].as_array().unwrap();
    assert_eq!(messages[0]["role"], "user", "{file}");
    let mut open: Vec<String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for pair in messages.windows(2) {
        assert_ne!(pair[0]["role"], pair[1]["role"], "{file}");
    }
    for message in messages {
        let blocks = match &message["content"] {
            Json::String(text) => vec![json!({"type": "text", "text": text})],
            blocks => blocks.as_array().unwrap().clone(),
        };
        assert!(!blocks.is_empty(), "{file}");
        let results: Vec<_> = blocks.iter().take_while(|block| block["type"] == "tool_result").collect();
        let mut answered: Vec<String> =
            results.iter().map(|block| block["tool_use_id"].as_str().unwrap().to_owned()).collect();
        answered.sort();
        open.sort();
        assert_eq!(answered, open, "{file}");
        open.clear();
        for block in &blocks[results.len()..] {
            match block["type"].as_str().unwrap() {
                "text" => assert!(!block["text"].as_str().unwrap().trim().is_empty(), "{file}"),
                "tool_use" => {
                    let id = block["id"].as_str().unwrap().to_owned();
                    assert!(seen.insert(id.clone()), "{file}: {id} twice");
                    assert!(block["input"].is_object(), "{file}");
                    open.push(id);
                }
                "image" | "document" => {}
                other => panic!("{file}: {other}"),
            }
        }
    }
    assert!(open.is_empty(), "{file}");
    for tool in body["tools"].as_array().into_iter().flatten() {
        assert_eq!(tool["input_schema"]["type"], "object", "{file}");
    }
}

#[test]
fn every_recorded_chat_request_becomes_one_that_anthropic_takes() {
    let mut known = 0;
    for exchange in recorded::exchanges("openai-chat") {
        let Some(body) = exchange.request.filter(|body| body["messages"].is_array()) else { continue };
        for model in [OLD, NEW, "claude-3-haiku-20240307", "claude-opus-4-6"] {
            let (body, losses) = to(model, &body);
            check(&body, &exchange.file);
            known += usize::from(losses.iter().all(|loss| loss != "unknown member"));
        }
    }
    eprintln!("{known} without a member that nothing is known of");
}
