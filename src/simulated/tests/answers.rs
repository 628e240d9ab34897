//! What a healthy provider answers.

use super::*;

async fn healthy() -> SimulatedProvider {
    SimulatedProvider::start("primary").await.unwrap()
}

#[tokio::test]
async fn whole() {
    let provider = healthy().await;
    let seen = chat(&provider, hello(false)).await;
    assert_eq!((seen.status, seen.end, seen.complete), (200, End::Closed, true));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("openai-version"), Some("2020-10-01"));
    assert!(seen.header("x-request-id").unwrap().starts_with("req_"));
    assert!(seen.header("x-ratelimit-remaining-requests").is_some());
    let answer = seen.json();
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], "gpt-4o");
    assert_eq!(answer["id"].as_str().unwrap().len(), "chatcmpl-".len() + 29);
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "stop");
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["message"]["content"], "[primary] A simulated answer to \"Hello there\".");
    assert!(choice["message"]["refusal"].is_null());
    let usage = &answer["usage"];
    let count = |key: &str| usage[key].as_u64().unwrap();
    assert_eq!(count("total_tokens"), count("prompt_tokens") + count("completion_tokens"));
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 0);
    assert_eq!(answer["service_tier"], "default");
}

#[tokio::test]
async fn a_stream_says_the_same() {
    let provider = healthy().await;
    let whole = chat(&provider, hello(false)).await.json();
    let seen = chat(&provider, hello(true)).await;
    assert_eq!((seen.status, seen.end, seen.complete), (200, End::Closed, true));
    assert_eq!(seen.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(seen.header("content-length"), None);
    assert_eq!(seen.text(), whole["choices"][0]["message"]["content"]);
    assert_eq!(seen.outputs(), 7);
    assert_eq!(seen.events().last(), Some(&"[DONE]"));
    let chunks = seen.chunks();
    let first = &chunks[0]["choices"][0]["delta"];
    assert_eq!(*first, json!({"role": "assistant", "content": "", "refusal": null}));
    let last = chunks.last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!(last["choices"][0]["delta"], json!({}));
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"] && chunk.get("usage").is_none()));
    assert_ne!(chunks[0]["id"], whole["id"]);
}

#[tokio::test]
async fn usage_of_a_stream() {
    let provider = healthy().await;
    let mut request = hello(true);
    request["stream_options"] = json!({"include_usage": true});
    let seen = chat(&provider, request).await;
    let mut chunks = seen.chunks();
    let last = chunks.pop().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 7);
    assert!(chunks.iter().all(|chunk| chunk["usage"] == Value::Null && chunk.get("usage").is_some()));
    assert_eq!(seen.events().last(), Some(&"[DONE]"));
}

#[tokio::test]
async fn every_event_is_a_write_of_its_own() {
    let provider = SimulatedProvider::builder("slow")
        .first_output_delay(Duration::from_millis(20))
        .chunk_delay(Duration::from_millis(10))
        .answer("one two three")
        .start()
        .await
        .unwrap();
    let mut stream = send(&provider, "POST", "/v1/chat/completions", &hello(true).to_string()).await;
    let mut reads = Vec::new();
    let mut buffer = [0; 4096];
    while reads.len() < 4 {
        let n = stream.read(&mut buffer).await.unwrap();
        let text = String::from_utf8(buffer[..n].to_vec()).unwrap();
        if text.contains("data: ") {
            reads.push(text);
        }
    }
    // What follows the last piece follows at once, and may be read together with it.
    let alone = |read: &String| read.matches("data: ").count() == 1;
    assert!(reads[..3].iter().all(alone), "{reads:#?}");
    assert!(reads[3].contains(" three"));
}

#[tokio::test]
async fn answer_and_chunks_are_settings() {
    let builder = SimulatedProvider::builder("fixed").answer("a b c d e f").chunks(3);
    let provider = builder.start().await.unwrap();
    let seen = chat(&provider, hello(true)).await;
    assert_eq!((seen.text().as_str(), seen.outputs()), ("a b c d e f", 3));
    let whole = chat(&provider, hello(false)).await.json();
    assert_eq!(whole["choices"][0]["message"]["content"], "a b c d e f");
}

fn with_tools(said: &str) -> Value {
    let tool = |name: &str, properties: Value| {
        json!({"type": "function", "function": {
            "name": name,
            "parameters": {"type": "object", "properties": properties},
        }})
    };
    json!({
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": said}],
        "tools": [
            tool("get_weather", json!({"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}})),
            tool("get_time", json!({"zone": {"type": "string", "enum": ["UTC"]}})),
        ],
    })
}

const WEATHER: &str = r#"{"city":"simulated","days":2}"#;
const TIME: &str = r#"{"zone":"UTC"}"#;

#[tokio::test]
async fn the_first_tool_is_called() {
    let provider = healthy().await;
    let answer = chat(&provider, with_tools("How is it outside?")).await.json();
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], Value::Null);
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 1);
    assert!(calls[0]["id"].as_str().unwrap().starts_with("call_"));
    assert_eq!(calls[0]["type"], "function");
    assert_eq!(calls[0]["function"], json!({"name": "get_weather", "arguments": WEATHER}));
}

#[tokio::test]
async fn which_tools_are_called() {
    let provider = healthy().await;
    for (said, choice, parallel, expected) in [
        ("Use get_time and get_weather", json!("auto"), true, &["get_weather", "get_time"][..]),
        ("Use get_time and get_weather", json!("auto"), false, &["get_weather"]),
        ("Use anything", json!("required"), true, &["get_weather"]),
        ("Use anything", json!({"type": "function", "function": {"name": "get_time"}}), true, &["get_time"]),
        ("Use get_time and get_weather", json!("none"), true, &[]),
    ] {
        let mut request = with_tools(said);
        request["tool_choice"] = choice;
        request["parallel_tool_calls"] = json!(parallel);
        let answer = chat(&provider, request).await.json();
        let calls = answer["choices"][0]["message"]["tool_calls"].as_array().cloned();
        let names: Vec<_> = calls.iter().flatten().map(|call| call["function"]["name"].clone()).collect();
        assert_eq!(names, expected, "{said}");
    }
}

#[tokio::test]
async fn calls_are_streamed_by_index() {
    let provider = healthy().await;
    let mut request = with_tools("get_weather and get_time, please");
    request["stream"] = json!(true);
    let seen = chat(&provider, request).await;
    let mut names = Vec::new();
    let mut arguments = [String::new(), String::new()];
    for chunk in seen.chunks() {
        let call = &chunk["choices"][0]["delta"]["tool_calls"][0];
        let Some(index) = call["index"].as_u64() else {
            continue;
        };
        let piece = call["function"]["arguments"].as_str().unwrap();
        if let Some(name) = call["function"]["name"].as_str() {
            names.push(name.to_owned());
            assert!(call["id"].is_string());
            assert_eq!((call["type"].as_str(), piece), (Some("function"), ""));
        } else {
            assert!(call.get("id").is_none());
        }
        arguments[usize::try_from(index).unwrap()] += piece;
    }
    assert_eq!(names, ["get_weather", "get_time"]);
    assert_eq!(arguments, [WEATHER, TIME]);
    let chunks = seen.chunks();
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": null}));
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    assert!(seen.outputs() > 6);
}

#[tokio::test]
async fn a_tool_result_is_answered_in_words() {
    let provider = healthy().await;
    let mut request = with_tools("How is it outside?");
    let messages = request["messages"].as_array_mut().unwrap();
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}});
    messages.push(json!({"role": "assistant", "tool_calls": [call]}));
    messages.push(json!({"role": "tool", "tool_call_id": "call_1", "content": "17 degrees"}));
    let answer = chat(&provider, request).await.json();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(text, "[primary] The tool answered \"17 degrees\".");
}

#[tokio::test]
async fn structured_output() {
    let provider = healthy().await;
    let mut request = hello(false);
    request["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {
        "type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
    }}});
    let whole = chat(&provider, request.clone()).await.json();
    assert_eq!(whole["choices"][0]["message"]["content"], r#"{"ok":true}"#);
    request["stream"] = json!(true);
    let seen = chat(&provider, request.clone()).await;
    assert_eq!((seen.text().as_str(), seen.outputs()), (r#"{"ok":true}"#, 2));
    request["response_format"] = json!({"type": "json_object"});
    let text = chat(&provider, request).await.text();
    assert!(serde_json::from_str::<Value>(&text).unwrap().is_object());
}

#[tokio::test]
async fn models_are_listed() {
    let provider = SimulatedProvider::builder("m").models(["one", "two"]).start().await.unwrap();
    let list = call(&provider, "GET", "/v1/models", "").await.json();
    assert_eq!(list["object"], "list");
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|model| model["id"].clone()).collect();
    assert_eq!(ids, ["one", "two"]);
    let one = call(&provider, "GET", "/v1/models/one", "").await;
    assert_eq!((one.status, one.json()["id"].as_str()), (200, Some("one")));
    let three = call(&provider, "GET", "/v1/models/three", "").await;
    assert_eq!((three.status, three.error()["code"].as_str()), (404, Some("model_not_found")));
}

#[tokio::test]
async fn wrong_requests() {
    let provider = healthy().await;
    let seen = call(&provider, "POST", "/v1/chat/completions", "{nonsense").await;
    assert_eq!((seen.status, seen.end, seen.complete), (400, End::Closed, true));
    let expected = ["code", "message", "param", "type"];
    let error = seen.error();
    assert_eq!(error.as_object().unwrap().keys().collect::<Vec<_>>(), expected);
    let seen = call(&provider, "POST", "/v1/nowhere", "{}").await;
    assert_eq!(seen.status, 404);
    assert_eq!(seen.error()["message"], "Invalid URL (POST /v1/nowhere)");
    let seen = call(&provider, "GET", "/v1/chat/completions", "").await;
    assert_eq!(seen.status, 405);
}

#[tokio::test]
async fn a_key_may_be_required() {
    let builder = SimulatedProvider::builder("locked").require_key("sk-simulated-0123456789");
    assert!(!format!("{builder:?}").contains("0123456789"));
    let right = builder.start().await.unwrap();
    assert_eq!(chat(&right, hello(false)).await.status, 200);
    assert!(!format!("{right:?} {:?}", right.received()).contains("0123456789"));

    let wrong = SimulatedProvider::builder("locked").require_key("another").start().await.unwrap();
    for (method, path) in [("POST", "/v1/chat/completions"), ("GET", "/v1/models")] {
        let seen = call(&wrong, method, path, "").await;
        assert_eq!(seen.status, 401);
        assert_eq!(seen.error()["code"], "invalid_api_key");
        let message = seen.error()["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("Incorrect API key provided: sk-s***"), "{message}");
    }

    let mut stream = TcpStream::connect(wrong.address()).await.unwrap();
    let request = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let seen = seen(read_to_end(&mut stream).await);
    assert_eq!(seen.status, 401);
    assert!(seen.error()["message"].as_str().unwrap().starts_with("You didn't provide an API key."));
}
