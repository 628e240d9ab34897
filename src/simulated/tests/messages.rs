//! Anthropic's messages.

use super::*;
use crate::simulated::{Continuation, StreamFault, StreamPoint};

async fn answering(text: &str) -> SimulatedProvider {
    SimulatedProvider::builder("primary").answer(text).start().await.unwrap()
}

async fn ask(provider: &SimulatedProvider, members: Value) -> Seen {
    let mut body =
        json!({"model": "claude", "max_tokens": 1000, "messages": [{"role": "user", "content": "Hello there"}]});
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    call(provider, "POST", "/v1/messages", &body.to_string()).await
}

/// Name and data of each event.
fn events(seen: &Seen) -> Vec<(String, Value)> {
    let event = |event: &str| {
        let (name, data) = event.split_once('\n').unwrap();
        let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        (name.strip_prefix("event: ").unwrap().to_owned(), data)
    };
    seen.body.split_terminator("\n\n").map(event).collect()
}

/// What the deltas of that kind bring.
fn brought(events: &[(String, Value)], name: &str) -> String {
    events.iter().filter_map(|(_, data)| data["delta"][name].as_str()).collect()
}

#[tokio::test]
async fn whole() {
    let seen = ask(&SimulatedProvider::start("primary").await.unwrap(), json!({})).await;
    assert_eq!((seen.status, seen.complete), (200, true));
    assert!(seen.header("request-id").unwrap().starts_with("req_") && seen.header("openai-version").is_none());
    assert!(seen.header("anthropic-ratelimit-requests-reset").unwrap().ends_with('Z'));
    let message = seen.json();
    assert!(message["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!(
        (&message["type"], &message["role"], &message["model"]),
        (&json!("message"), &json!("assistant"), &json!("claude"))
    );
    let text = "[primary] A simulated answer to \"Hello there\".";
    assert_eq!(message["content"], json!([{"type": "text", "text": text}]));
    assert_eq!((&message["stop_reason"], &message["stop_sequence"]), (&json!("end_turn"), &Value::Null));
    assert!(message["usage"]["input_tokens"].as_u64().unwrap() > 0 && message["usage"]["output_tokens"] == 7);
}

#[tokio::test]
async fn a_stream_says_the_same() {
    let provider = answering("one two three").await;
    let events = events(&ask(&provider, json!({"stream": true, "thinking": {"type": "adaptive"}})).await);
    assert!(events.iter().all(|(name, data)| data["type"] == name.as_str()));
    let names: Vec<&str> =
        events.iter().map(|(name, _)| &**name).filter(|name| *name != "content_block_delta").collect();
    assert_eq!(
        names,
        [
            "message_start",
            "content_block_start",
            "ping",
            "content_block_stop",
            "content_block_start",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    assert_eq!(brought(&events, "thinking"), "What is said is \"Hello there\", so a simulated answer is due.");
    assert_eq!(brought(&events, "text"), "one two three");
    assert!(!brought(&events, "signature").is_empty());
    let end = &events[events.len() - 2].1;
    assert_eq!(end["delta"]["stop_reason"], "end_turn");
    assert_eq!(
        end["usage"]["output_tokens"],
        3 + end["usage"]["output_tokens_details"]["thinking_tokens"].as_u64().unwrap()
    );
}

#[tokio::test]
async fn tools_are_called() {
    let provider = SimulatedProvider::start("primary").await.unwrap();
    let tool = |name: &str| json!({"name": name, "input_schema": {"type": "object", "properties": {"x": {"type": "integer"}}}});
    let tools = json!([tool("f"), tool("g")]);
    let both = json!([{"role": "user", "content": "Use f and g."}]);
    let message = ask(&provider, json!({"tools": tools, "messages": both})).await.json();
    let called = |message: &Value| -> Vec<String> {
        let calls = message["content"].as_array().unwrap().iter().filter(|block| block["type"] == "tool_use");
        calls.map(|call| call["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((called(&message), &message["stop_reason"]), (vec!["f".to_owned(), "g".to_owned()], &json!("tool_use")));
    assert!(message["content"][0]["input"]["x"].is_u64());
    let one = json!({"type": "auto", "disable_parallel_tool_use": true});
    assert_eq!(
        called(&ask(&provider, json!({"tools": tools, "messages": both, "tool_choice": one})).await.json()),
        ["f"]
    );
    let named = json!({"type": "tool", "name": "g"});
    assert_eq!(called(&ask(&provider, json!({"tools": tools, "tool_choice": named})).await.json()), ["g"]);
    let streamed = events(&ask(&provider, json!({"tools": tools, "messages": both, "stream": true})).await);
    let arguments = brought(&streamed, "partial_json");
    assert_eq!(arguments, message["content"][0]["input"].to_string() + &message["content"][1]["input"].to_string());
    let id = &message["content"][0]["id"];
    let turns = json!([both[0], {"role": "assistant", "content": [message["content"][0]]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "42"}]}]);
    let answer = ask(&provider, json!({"tools": tools, "messages": turns})).await.json();
    assert_eq!(answer["content"][0]["text"], "[primary] The tool answered \"42\".");
}

#[tokio::test]
async fn an_answer_keeps_to_its_schema_and_its_bounds() {
    let provider = answering("one two three four").await;
    let schema = json!({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]});
    let format = json!({"format": {"type": "json_schema", "schema": schema}});
    let message = ask(&provider, json!({"output_config": format})).await.json();
    let text = message["content"][0]["text"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(text).unwrap()["a"].is_boolean());
    let message = ask(&provider, json!({"max_tokens": 2})).await.json();
    assert_eq!((&message["content"][0]["text"], &message["stop_reason"]), (&json!("one two"), &json!("max_tokens")));
    let message = ask(&provider, json!({"stop_sequences": ["four", " three"]})).await.json();
    assert_eq!(
        (&message["content"][0]["text"], &message["stop_reason"], &message["stop_sequence"]),
        (&json!("one two"), &json!("stop_sequence"), &json!(" three"))
    );
    let chat = chat(&provider, json!({"model": "m", "max_tokens": 2, "messages": [{"role": "user", "content": "x"}]}))
        .await
        .json();
    assert_eq!(
        (&chat["choices"][0]["message"]["content"], &chat["choices"][0]["finish_reason"]),
        (&json!("one two"), &json!("length"))
    );
}

#[tokio::test]
async fn an_answer_that_was_begun_is_continued() {
    let provider = answering("one two three four").await;
    let prefill = || json!([{"role": "user", "content": "Count."}, {"role": "assistant", "content": "one two"}]);
    let mut instruction = prefill();
    instruction.as_array_mut().unwrap().push(json!({"role": "user", "content": "Continue exactly there."}));
    let said = |seen: Seen| seen.json()["content"][0]["text"].as_str().unwrap().to_owned();
    assert_eq!(said(ask(&provider, json!({"messages": prefill()})).await), " three four");
    assert_eq!(said(ask(&provider, json!({"messages": instruction})).await), " three four");
    provider.set_continuation(Continuation::Restart);
    assert_eq!(said(ask(&provider, json!({"messages": prefill()})).await), "one two three four");
    provider.set_prefill_refused(true);
    let refused = ask(&provider, json!({"messages": prefill()})).await;
    assert_eq!((refused.status, refused.error()["type"].as_str()), (400, Some("invalid_request_error")));
}

#[tokio::test]
async fn each_fault_in_anthropics_words() {
    let provider = SimulatedProvider::start("primary").await.unwrap();
    for (fault, status, kind) in [
        (SimulatedFault::RateLimited { retry_after: Some(Duration::from_millis(1500)) }, 429, "rate_limit_error"),
        (SimulatedFault::QuotaExhausted, 400, "invalid_request_error"),
        (SimulatedFault::Overloaded, 529, "overloaded_error"),
        (SimulatedFault::ServerError, 500, "api_error"),
        (SimulatedFault::Unauthorized, 401, "authentication_error"),
        (SimulatedFault::Forbidden, 403, "permission_error"),
        (SimulatedFault::ModelNotFound, 404, "not_found_error"),
        (SimulatedFault::ContextLengthExceeded, 400, "invalid_request_error"),
        (SimulatedFault::UnsupportedParameter, 400, "invalid_request_error"),
        (SimulatedFault::BadRequest, 400, "invalid_request_error"),
        (SimulatedFault::ContentFiltered, 400, "invalid_request_error"),
    ] {
        provider.set_fault(fault.clone());
        let seen = ask(&provider, json!({})).await;
        assert_eq!((seen.status, seen.error()["type"].as_str()), (status, Some(kind)), "{fault}");
        assert_eq!(seen.json()["type"], "error");
        let limited = status == 429;
        assert_eq!(seen.header("retry-after"), limited.then_some("2"));
        assert_eq!(seen.header("x-should-retry"), Some(if limited || status >= 500 { "true" } else { "false" }));
    }
}

#[tokio::test]
async fn a_stream_breaks_where_it_is_told_to() {
    let provider = answering("one two three four").await;
    for (fault, at, end) in [
        (StreamFault::Cut, StreamPoint::InText, End::Reset),
        (StreamFault::EndEarly, StreamPoint::AfterFinishReason, End::Closed),
        (StreamFault::EndEarly, StreamPoint::BeforeOutput, End::Closed),
        (StreamFault::Error, StreamPoint::AtFirstOutput, End::Closed),
        (StreamFault::Malformed, StreamPoint::InText, End::Closed),
    ] {
        provider.set_fault(SimulatedFault::Stream { fault, at });
        let seen = ask(&provider, json!({"stream": true})).await;
        assert_eq!(seen.end, end, "{fault}@{at}");
        let (finished, output) = (seen.body.contains("message_delta"), seen.body.contains("text_delta"));
        let ended = seen.body.ends_with("\n\n");
        let expected = match fault {
            StreamFault::Cut => (false, true, false),
            StreamFault::Malformed => (true, true, true),
            StreamFault::Error => {
                assert!(seen.body.contains("event: error\ndata: {\"error\":"), "{}", seen.body);
                (false, true, true)
            }
            _ => (at == StreamPoint::AfterFinishReason, at == StreamPoint::AfterFinishReason, true),
        };
        assert_eq!((finished, output, ended), expected, "{fault}@{at}: {}", seen.body);
    }
    provider.set_fault(SimulatedFault::ErrorFirstEvent);
    let seen = ask(&provider, json!({"stream": true})).await;
    assert_eq!((seen.status, seen.complete, events(&seen).len()), (200, true, 1));
}

#[tokio::test]
async fn a_wrong_request_is_told_why() {
    let provider = SimulatedProvider::start("primary").await.unwrap();
    let said = |messages: Value| json!({"messages": messages});
    let user = |content: Value| json!({"role": "user", "content": content});
    let call = json!({"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]});
    let result = user(json!([{"type": "tool_result", "tool_use_id": "t", "content": ""}]));
    for (members, why) in [
        (json!({"max_tokens": null}), "max_tokens: Field required"),
        (json!({"temperature": 1.5}), "temperature: range"),
        (json!({"stop_sequences": ["\n"]}), "non-whitespace"),
        (json!({"tools": [{"name": "f", "input_schema": {}}]}), "input_schema.type"),
        (json!({"tools": [{"name": "f.g", "input_schema": {"type": "object"}}]}), "String should match"),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 2000}}), "must be greater than"),
        (json!({"thinking": {"type": "adaptive"}, "tool_choice": {"type": "any"}}), "forces tool use"),
        (said(json!([])), "at least one message"),
        (said(json!([{"role": "assistant", "content": "x"}])), "first message"),
        (said(json!([user("x".into()), {"role": "tool", "content": "x"}])), "Unexpected role"),
        (said(json!([user(json!([{"type": "text", "text": ""}]))])), "non-empty"),
        (said(json!([user(json!([{"type": "text", "text": " "}]))])), "non-whitespace"),
        (said(json!([user(json!([{"type": "image_url"}]))])), "does not match"),
        (said(json!([user("x".into()), call, user("x".into())])), "without `tool_result`"),
        (said(json!([user("x".into()), result])), "unexpected `tool_use_id`"),
        (said(json!([user("x".into()), {"role": "assistant", "content": "x "}])), "trailing whitespace"),
        (
            said(
                json!([user("x".into()), {"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": ""}]}]),
            ),
            "Invalid `signature`",
        ),
    ] {
        let seen = ask(&provider, members.clone()).await;
        let message = seen.error()["message"].as_str().unwrap().to_owned();
        assert!(seen.status == 400 && message.contains(why), "{members}: {message}");
    }
}

#[tokio::test]
async fn the_key_comes_in_either_header_and_the_models_to_those_who_name_a_version() {
    let provider = SimulatedProvider::builder("primary").require_key("sk-simulated-0123456789").start().await.unwrap();
    assert_eq!(ask(&provider, json!({})).await.status, 200);
    let raw = async |header: &str| {
        let mut stream = TcpStream::connect(provider.address()).await.unwrap();
        let request = format!(
            "GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\nanthropic-version: 2023-06-01\r\n{header}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        seen(read_to_end(&mut stream).await)
    };
    assert_eq!(raw("x-api-key: sk-simulated-0123456789").await.json()["data"][0]["type"], "model");
    assert_eq!(raw("x-api-key: other").await.error()["type"], "authentication_error");
    assert_eq!(raw("accept: */*").await.status, 401);
}
