//! OpenAI's responses.

use super::*;

fn asked(input: Value, rest: Value) -> Value {
    let mut body = json!({"model": "gpt-4o", "input": input});
    body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    body
}

async fn respond(provider: &SimulatedProvider, body: &Value) -> Seen {
    call(provider, "POST", "/v1/responses", &body.to_string()).await
}

/// The data of every event, each under its own name.
fn told(seen: &Seen) -> Vec<Value> {
    let events = seen.body.split_terminator("\n\n").map(|event| {
        let (name, data) = event.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["type"], name);
        data
    });
    events.collect()
}

fn joined(events: &[Value], kind: &str) -> String {
    let pieces = events.iter().filter(|event| event["type"] == kind).map(|event| event["delta"].as_str().unwrap());
    pieces.collect()
}

fn tools() -> Value {
    let tool = |name: &str| json!({"type": "function", "name": name, "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}});
    json!([tool("get_weather"), tool("get_time")])
}

#[tokio::test]
async fn whole_and_as_a_stream_it_says_the_same() {
    let provider = SimulatedProvider::start("primary").await.unwrap();
    let parts = json!([{"type": "input_text", "text": "Hello"}, {"type": "input_image", "image_url": "https://example.org/a.png"}]);
    for (input, rest) in [
        (json!("Hello"), json!({})),
        (json!([{"role": "user", "content": parts}]), json!({"instructions": "Be brief"})),
        (
            json!("Hello"),
            json!({"reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"]}),
        ),
        (json!("Hello"), json!({"reasoning": {"effort": "low"}})),
        (
            json!("get_weather and get_time"),
            json!({"tools": tools(), "reasoning": {"effort": "low", "summary": "auto"}}),
        ),
        (
            json!("Hello"),
            json!({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "boolean"}}}}),
        ),
    ] {
        let whole = respond(&provider, &asked(input.clone(), rest.clone())).await;
        assert_eq!((whole.status, whole.complete), (200, true), "{whole:?}");
        let whole = whole.json();
        let mut body = asked(input, rest);
        body["stream"] = true.into();
        let seen = respond(&provider, &body).await;
        assert_eq!((seen.status, seen.complete), (200, true));
        let events = told(&seen);
        for (number, event) in events.iter().enumerate() {
            assert_eq!(event["sequence_number"], number);
        }
        assert_eq!(events[0]["type"], "response.created");
        let last = events.last().unwrap();
        assert_eq!((&last["type"], &last["response"]["status"]), (&json!("response.completed"), &json!("completed")));
        let said = |response: &Value| {
            let items = response["output"].as_array().unwrap().iter();
            items
                .map(|item| {
                    [&item["type"], &item["content"], &item["summary"], &item["name"], &item["arguments"]]
                        .map(Value::clone)
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(said(&last["response"]), said(&whole));
        assert_eq!(last["response"]["usage"], whole["usage"]);
        // What the events say is what they end with.
        let (mut text, mut arguments) = (String::new(), String::new());
        for item in whole["output"].as_array().unwrap() {
            text.push_str(item["content"][0]["text"].as_str().unwrap_or_default());
            arguments.push_str(item["arguments"].as_str().unwrap_or_default());
        }
        assert_eq!(joined(&events, "response.output_text.delta"), text);
        assert_eq!(joined(&events, "response.function_call_arguments.delta"), arguments);
        assert!(!text.is_empty() || !arguments.is_empty());
        let done: Vec<_> = events.iter().filter(|event| event["type"] == "response.output_item.done").collect();
        assert_eq!(done.iter().map(|event| event["item"].clone()).collect::<Value>(), last["response"]["output"]);
    }
}

#[tokio::test]
async fn an_answer_ends_where_it_may_not_say_more() {
    let text: Vec<_> = (0..40).map(|n| n.to_string()).collect();
    let provider = SimulatedProvider::builder("primary").answer(text.join(" ")).start().await.unwrap();
    let answer = respond(&provider, &asked(json!("Hello"), json!({"max_output_tokens": 16}))).await.json();
    assert_eq!(
        (&answer["status"], &answer["incomplete_details"]),
        (&json!("incomplete"), &json!({"reason": "max_output_tokens"}))
    );
    assert_eq!(answer["output"][0]["content"][0]["text"], text[..16].join(" "));
    assert_eq!(answer["usage"]["output_tokens"], 16);
    let stream = respond(&provider, &asked(json!("Hello"), json!({"max_output_tokens": 16, "stream": true}))).await;
    assert_eq!(told(&stream).last().unwrap()["type"], "response.incomplete");
}

#[tokio::test]
async fn results_prefill_and_calls_are_understood() {
    let provider = SimulatedProvider::builder("primary").answer("one two three").start().await.unwrap();
    let begun = json!([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "one two"}]);
    let answer = respond(&provider, &asked(begun, json!({}))).await.json();
    assert_eq!(answer["output"][0]["content"][0]["text"], " three");
    let named = json!({"tools": tools(), "tool_choice": {"type": "function", "name": "get_time"}});
    let call = respond(&provider, &asked(json!("Hello"), named)).await.json()["output"][0].clone();
    assert_eq!((&call["name"], &call["type"]), (&json!("get_time"), &json!("function_call")));
    let output = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "17"});
    let items = json!([{"role": "user", "content": "Hello"}, call, output]);
    let answer = respond(&provider, &asked(items, json!({"tools": tools()}))).await.json();
    assert_eq!(answer["output"][0]["type"], "message");
}

#[tokio::test]
async fn every_fault_is_in_this_apis_own_words() {
    let provider = SimulatedProvider::builder("primary").require_key("sk-simulated-0123456789").start().await.unwrap();
    for (fault, status, code) in [
        (SimulatedFault::RateLimited { retry_after: Some(Duration::from_secs(1)) }, 429, "rate_limit_exceeded"),
        (SimulatedFault::QuotaExhausted, 429, "insufficient_quota"),
        (SimulatedFault::Unauthorized, 401, "invalid_api_key"),
        (SimulatedFault::ModelNotFound, 400, "model_not_found"),
        (SimulatedFault::ContextLengthExceeded, 400, "context_length_exceeded"),
        (SimulatedFault::UnsupportedParameter, 400, "unsupported_parameter"),
        (SimulatedFault::ContentFiltered, 400, "content_policy_violation"),
    ] {
        provider.set_fault(fault.clone());
        let seen = respond(&provider, &asked(json!("Hello"), json!({}))).await;
        assert_eq!((seen.status, seen.error()["code"].as_str()), (status, Some(code)), "{fault}");
    }
    provider.set_fault(SimulatedFault::ErrorFirstEvent);
    let whole = respond(&provider, &asked(json!("Hello"), json!({}))).await.json();
    assert_eq!((&whole["status"], &whole["error"]["code"]), (&json!("failed"), &json!("server_error")));
    let stream = respond(&provider, &asked(json!("Hello"), json!({"stream": true}))).await;
    let kinds: Vec<_> = told(&stream).iter().map(|event| event["type"].clone()).collect();
    assert_eq!(kinds, ["error", "response.failed"]);
    provider.set_fault("error-mid-stream:2".parse().unwrap());
    let stream = respond(&provider, &asked(json!("Hello"), json!({"stream": true}))).await;
    let events = told(&stream);
    assert_eq!(joined(&events, "response.output_text.delta"), "[primary] A");
    assert_eq!(events.last().unwrap()["type"], "response.failed");
    provider.set_fault("cut:2".parse().unwrap());
    let stream = respond(&provider, &asked(json!("Hello"), json!({"stream": true}))).await;
    assert_eq!(stream.end, End::Reset);
    provider.set_fault(SimulatedFault::None);
    assert_eq!(call(&provider, "GET", "/v1/responses", "").await.status, 405);
    assert_eq!(chat(&provider, hello(false)).await.status, 200);
}
