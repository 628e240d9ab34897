//! Gemini's paths of a simulated provider.

use super::*;
use crate::simulated::{StreamFault, StreamPoint};

const WHOLE: &str = "/v1beta/models/gemini-2.5-flash:generateContent";
const STREAM: &str = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse";
const ARRAY: &str = "/v1/models/gemini-2.5-flash:streamGenerateContent";

fn hello() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "Hello there"}]}]})
}

async fn ask(provider: &SimulatedProvider, path: &str, body: &Value) -> Seen {
    call(provider, "POST", path, &body.to_string()).await
}

async fn answering(text: &str) -> SimulatedProvider {
    SimulatedProvider::builder("primary").answer(text).start().await.unwrap()
}

/// The chunks of a stream in either form.
fn chunks(seen: &Seen) -> Vec<Value> {
    if seen.body.starts_with('[') {
        return seen.json().as_array().unwrap().clone();
    }
    let events = seen.body.split_terminator("\r\n\r\n");
    events.map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap()).collect()
}

fn text(chunks: &[Value]) -> String {
    chunks.iter().filter_map(|chunk| chunk["candidates"][0]["content"]["parts"][0]["text"].as_str()).collect()
}

#[tokio::test]
async fn whole_streamed_and_as_an_array_the_answer_is_the_same() {
    let provider = answering("one two three").await;
    let whole = ask(&provider, WHOLE, &hello()).await;
    assert_eq!((whole.status, whole.header("content-type")), (200, Some("application/json")));
    let whole = whole.json();
    let candidate =
        json!({"content": {"parts": [{"text": "one two three"}], "role": "model"}, "index": 0, "finishReason": "STOP"});
    assert_eq!(whole["candidates"], json!([candidate]));
    let usage = &whole["usageMetadata"];
    assert_eq!((&usage["candidatesTokenCount"], &usage["totalTokenCount"]), (&3.into(), &7.into()));
    assert_eq!(whole["modelVersion"], "gemini-2.5-flash");
    for (path, kind) in [(STREAM, "text/event-stream; charset=utf-8"), (ARRAY, "application/json")] {
        let seen = ask(&provider, path, &hello()).await;
        assert_eq!((seen.header("content-type"), seen.complete), (Some(kind), true));
        let chunks = chunks(&seen);
        assert_eq!((chunks.len(), text(&chunks).as_str()), (4, "one two three"));
        assert!(chunks[..3].iter().all(|chunk| chunk["candidates"][0].get("finishReason").is_none()));
        assert_eq!(chunks[3]["candidates"][0]["finishReason"], "STOP");
        assert_eq!(chunks[3]["usageMetadata"], *usage);
        assert!(chunks.iter().all(|chunk| chunk["responseId"] == chunks[0]["responseId"]));
    }
    // OpenAI's paths are there beside them.
    assert_eq!(call(&provider, "GET", "/v1/models", "").await.json()["object"], "list");
    assert_eq!(call(&provider, "GET", "/v1beta/models/gpt-4o", "").await.json()["name"], "models/gpt-4o");
}

#[tokio::test]
async fn tools_thoughts_and_formats() {
    let provider = SimulatedProvider::start("primary").await.unwrap();
    let mut request = hello();
    request["contents"][0]["parts"][0]["text"] = "Use first and second".into();
    let function = |name: &str| json!({"name": name, "parametersJsonSchema": {"type": "object", "properties": {"a": {"type": "integer"}}}});
    request["tools"] = json!([{"functionDeclarations": [function("first"), function("second")]}]);
    let parts = ask(&provider, WHOLE, &request).await.json()["candidates"][0]["content"]["parts"].clone();
    assert_eq!(parts[0]["functionCall"]["name"], "first");
    assert!(parts[1]["functionCall"]["args"]["a"].is_number() && parts[1]["functionCall"].get("id").is_none());
    let third = WHOLE.replace("2.5", "3");
    let signed = ask(&provider, &third, &request).await.json()["candidates"][0]["content"].clone();
    assert!(signed["parts"][0]["thoughtSignature"].is_string() && signed["parts"][1]["functionCall"]["id"].is_string());

    // And the results of both.
    let result = |name: &str| json!({"functionResponse": {"name": name, "response": {"output": "42"}}});
    request["contents"]
        .as_array_mut()
        .unwrap()
        .extend([signed, json!({"role": "user", "parts": [result("first"), result("second")]})]);
    let answer = ask(&provider, &third, &request).await.json();
    assert_eq!(answer["candidates"][0]["content"]["parts"][0]["text"], "[primary] The tool answered \"4242\".");

    let mut request = hello();
    request["generationConfig"] = json!({"responseMimeType": "application/json",
        "responseSchema": {"type": "OBJECT", "properties": {"a": {"type": "INTEGER"}}}, "thinkingConfig": {"includeThoughts": true}});
    let chunks = chunks(&ask(&provider, STREAM, &request).await);
    let thoughts =
        chunks.iter().filter(|chunk| chunk["candidates"][0]["content"]["parts"][0]["thought"] == true).count();
    let json = text(&chunks[thoughts..]);
    assert!(thoughts > 3 && serde_json::from_str::<Value>(&json).unwrap()["a"].is_number(), "{json}");
    assert!(chunks.last().unwrap()["usageMetadata"]["thoughtsTokenCount"].as_u64() > Some(1));
}

#[tokio::test]
async fn stops_limits_and_continuations() {
    let provider = answering("one two three four").await;
    let with = async |config: Value| {
        let mut request = hello();
        request["generationConfig"] = config;
        let answer = ask(&provider, WHOLE, &request).await.json()["candidates"][0].clone();
        (
            answer["content"]["parts"][0]["text"].as_str().unwrap().to_owned(),
            answer["finishReason"].as_str().unwrap().to_owned(),
        )
    };
    assert_eq!(with(json!({"stopSequences": ["four", " th"]})).await, ("one two".to_owned(), "STOP".to_owned()));
    assert_eq!(with(json!({"maxOutputTokens": 2})).await, ("one two".to_owned(), "MAX_TOKENS".to_owned()));
    let mut request = hello();
    request["contents"].as_array_mut().unwrap().push(json!({"role": "model", "parts": [{"text": "one two"}]}));
    assert_eq!(text(&chunks(&ask(&provider, STREAM, &request).await)), " three four");
    let instruction = json!({"role": "user", "parts": [{"text": "Please continue."}]});
    request["contents"].as_array_mut().unwrap().push(instruction);
    assert_eq!(text(&chunks(&ask(&provider, STREAM, &request).await)), " three four");
}

#[tokio::test]
async fn keys_in_every_place() {
    let provider = SimulatedProvider::builder("primary").require_key("hush").start().await.unwrap();
    // The tests' own bearer is another one.
    let wrong = ask(&provider, WHOLE, &hello()).await;
    assert_eq!((wrong.status, &wrong.error()["details"][0]["reason"]), (400, &"API_KEY_INVALID".into()));
    assert_eq!(ask(&provider, &format!("{WHOLE}?key=hush"), &hello()).await.status, 200);
    let body = hello().to_string();
    for (header, status) in [("x-goog-api-key: hush", 200), ("authorization: Bearer hush", 200), ("x-other: hush", 403)]
    {
        let mut stream = TcpStream::connect(provider.address()).await.unwrap();
        let head = format!(
            "POST {WHOLE} HTTP/1.1\r\nhost: x\r\n{header}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        assert_eq!(seen(read_to_end(&mut stream).await).status, status, "{header}");
    }
}

#[tokio::test]
async fn every_fault_in_googles_words() {
    let provider = SimulatedProvider::start("primary").await.unwrap();
    for (fault, status, word) in [
        ("rate-limited:3890ms", 429, "RESOURCE_EXHAUSTED"),
        ("quota-exhausted", 429, "RESOURCE_EXHAUSTED"),
        ("overloaded", 503, "UNAVAILABLE"),
        ("server-error", 500, "INTERNAL"),
        ("unauthorized", 400, "INVALID_ARGUMENT"),
        ("forbidden", 400, "FAILED_PRECONDITION"),
        ("model-not-found", 404, "NOT_FOUND"),
        ("context-length-exceeded", 400, "INVALID_ARGUMENT"),
        ("unsupported-parameter", 400, "INVALID_ARGUMENT"),
        ("bad-request", 400, "INVALID_ARGUMENT"),
    ] {
        provider.set_fault(fault.parse().unwrap());
        for path in [WHOLE, STREAM, ARRAY] {
            let seen = ask(&provider, path, &hello()).await;
            let body = if path == ARRAY { seen.json()[0].clone() } else { seen.json() };
            assert_eq!(
                (seen.status, &body["error"]["status"], &body["error"]["code"]),
                (status, &word.into(), &status.into()),
                "{fault}"
            );
        }
    }
    provider.set_fault("rate-limited:3890ms".parse().unwrap());
    let seen = ask(&provider, WHOLE, &hello()).await;
    assert_eq!((seen.error()["details"][1]["retryDelay"].as_str(), seen.header("retry-after")), (Some("3.89s"), None));
    provider.set_fault(SimulatedFault::ContentFiltered);
    for path in [WHOLE, STREAM, ARRAY] {
        let seen = ask(&provider, path, &hello()).await;
        let answer = if path == WHOLE { seen.json() } else { chunks(&seen)[0].clone() };
        assert_eq!((seen.status, &answer["promptFeedback"]["blockReason"]), (200, &"PROHIBITED_CONTENT".into()));
        assert!(answer.get("candidates").is_none());
    }
}

#[tokio::test]
async fn streams_break_where_they_are_told_to() {
    let provider = answering("one two three four").await;
    let at = async |path: &str, fault, at| {
        provider.set_fault(SimulatedFault::Stream { fault, at });
        ask(&provider, path, &hello()).await
    };
    let whole = |seen: &Seen| seen.body.matches("responseId").count();
    for path in [STREAM, ARRAY] {
        for (point, events) in
            [(StreamPoint::BeforeOutput, 0), (StreamPoint::AtFirstOutput, 1), (StreamPoint::AfterFinishReason, 5)]
        {
            for (fault, end) in
                [(StreamFault::Cut, End::Reset), (StreamFault::EndEarly, End::Closed), (StreamFault::Stall, End::Open)]
            {
                let seen = at(path, fault, point).await;
                assert_eq!((whole(&seen), seen.end), (events, end), "{fault}@{point}");
            }
            let seen = at(path, StreamFault::Error, point).await;
            let chunks = chunks(&seen);
            assert_eq!((whole(&seen), seen.end, chunks.len()), (events, End::Closed, events + 1), "{point}");
            assert_eq!(chunks.last().unwrap()["error"]["status"], "UNAVAILABLE");
        }
        provider.set_fault(SimulatedFault::ErrorFirstEvent);
        assert_eq!(chunks(&ask(&provider, path, &hello()).await)[0]["error"]["code"], 503);
        provider.set_fault(SimulatedFault::EmptyStream);
        assert_eq!(ask(&provider, path, &hello()).await.body, "");
    }
}
