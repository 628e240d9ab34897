//! Clients of each dialect before targets of each dialect, on real sockets: who answers, and in whose words.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

mod harness;

use bytes::Bytes;
use harness::{QUICK, Served, ask, simulated};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value as Json, json};
use tower_failover::{
    Dialect,
    simulated::{SimulatedFault, SimulatedProvider},
};

/// What a client of that dialect sends for a route, and where to.
fn request(dialect: Dialect, route: &str, stream: bool) -> (String, Json) {
    let hello = "Say something.";
    match dialect {
        Dialect::OpenAiChat => {
            let body = json!({"model": route, "stream": stream, "messages": [{"role": "user", "content": hello}]});
            ("/v1/chat/completions".to_owned(), body)
        }
        Dialect::OpenAiResponses => {
            ("/v1/responses".to_owned(), json!({"model": route, "stream": stream, "input": hello}))
        }
        Dialect::AnthropicMessages => {
            let messages = json!([{"role": "user", "content": hello}]);
            let body = json!({"model": route, "stream": stream, "max_tokens": 100, "messages": messages});
            ("/v1/messages".to_owned(), body)
        }
        Dialect::Gemini => {
            let call = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
            let body = json!({"contents": [{"role": "user", "parts": [{"text": hello}]}]});
            (format!("/v1beta/models/{route}:{call}"), body)
        }
        other => panic!("no request is known for {other}"),
    }
}

async fn send(served: &Served, path: &str, body: &Json) -> (http::response::Parts, Bytes) {
    let request = Request::post(served.url(path))
        .header("content-type", "application/json")
        .header("anthropic-version", "2023-06-01")
        .body(Full::new(Bytes::from(body.to_string())));
    ask(request.unwrap()).await
}

/// What came of a stream, whether it ends well or breaks.
async fn until_it_ends(served: &Served, path: &str, body: &Json) -> String {
    let request = Request::post(served.url(path)).body(Full::new(Bytes::from(body.to_string()))).unwrap();
    let (mut body, mut all) = (harness::send(request).await.into_body(), Vec::new());
    while let Some(Ok(frame)) = body.frame().await {
        all.extend(frame.into_data().unwrap_or_default());
    }
    String::from_utf8(all).unwrap()
}

/// The text of an answer in one piece.
fn whole_text(dialect: Dialect, answer: &Json) -> &str {
    let place = match dialect {
        Dialect::OpenAiChat => "/choices/0/message/content",
        Dialect::OpenAiResponses => "/output/0/content/0/text",
        Dialect::AnthropicMessages => "/content/0/text",
        _ => "/candidates/0/content/parts/0/text",
    };
    answer.pointer(place).and_then(Json::as_str).unwrap_or_else(|| panic!("no text in {answer}"))
}

/// The text of a stream, and whether it ends as the dialect has it.
fn streamed_text(dialect: Dialect, stream: &str) -> (String, bool) {
    let data: Vec<_> = stream.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim).collect();
    let events: Vec<Json> = data.iter().filter_map(|data| serde_json::from_str(data).ok()).collect();
    let place = match dialect {
        Dialect::OpenAiChat => "/choices/0/delta/content",
        Dialect::OpenAiResponses => "/delta",
        Dialect::AnthropicMessages => "/delta/text",
        _ => "/candidates/0/content/parts/0/text",
    };
    let is_piece = |event: &&Json| dialect != Dialect::OpenAiResponses || event["type"] == "response.output_text.delta";
    let text = events.iter().filter(is_piece).filter_map(|event| event.pointer(place)?.as_str()).collect();
    let last = events.last().cloned().unwrap_or_default();
    let ended = match dialect {
        Dialect::OpenAiChat => data.last() == Some(&"[DONE]"),
        Dialect::OpenAiResponses => last["type"] == "response.completed",
        Dialect::AnthropicMessages => last["type"] == "message_stop",
        _ => last["candidates"][0]["finishReason"] == "STOP",
    };
    (text, ended)
}

/// A provider's section; OpenAI's base URLs end in their version.
fn provider(name: &str, dialect: Dialect, base_url: &str) -> String {
    let root = base_url.trim_end_matches("/v1");
    let base_url = match dialect {
        Dialect::OpenAiChat | Dialect::OpenAiResponses => base_url,
        _ => root,
    };
    format!("[providers.{name}]\ndialect = \"{dialect}\"\nbase_url = \"{base_url}\"\n")
}

/// A route `from-to` for each pair of a primary's dialect and a fallback's.
async fn between_all(primary: &str, fallback: &str, settings: &str) -> Served {
    let mut toml = format!("[defaults]\n{settings}\nbreaker = {{ failures = 100000, min_calls = 100000 }}\n");
    for dialect in Dialect::ALL {
        toml += &provider(&format!("primary-{dialect}"), *dialect, primary);
        toml += &provider(&format!("fallback-{dialect}"), *dialect, fallback);
    }
    for first in Dialect::ALL {
        for second in Dialect::ALL {
            toml += &format!(
                "[routes.\"{first}-{second}\"]\ntargets = [{{ provider = \"primary-{first}\", model = \"p\" }}, \
                 {{ provider = \"fallback-{second}\", model = \"f\" }}]\n"
            );
        }
    }
    Served::with_config(&toml).await
}

const ANSWER: &str = "A simulated answer to \"Say something.\".";

#[tokio::test]
async fn every_client_is_answered_by_every_target_in_its_own_dialect() {
    let (primary, fallback) = simulated().await;
    let served = between_all(&primary.base_url(), &fallback.base_url(), QUICK).await;
    for client in Dialect::ALL {
        for target in Dialect::ALL {
            let route = format!("{target}-{target}");
            for (fault, who) in [(SimulatedFault::None, "primary"), (SimulatedFault::Overloaded, "fallback")] {
                primary.set_fault(fault);
                let expected = format!("[{who}] {ANSWER}");
                let (path, body) = request(*client, &route, false);
                let (head, answer) = send(&served, &path, &body).await;
                assert_eq!(head.status, StatusCode::OK, "{client} of {target}: {answer:?}");
                let answer: Json = serde_json::from_slice(&answer).unwrap();
                assert_eq!(whole_text(*client, &answer), expected, "{client} of {target}");
                let (path, body) = request(*client, &route, true);
                let (head, stream) = send(&served, &path, &body).await;
                assert_eq!(head.headers["content-type"].to_str().unwrap().split(';').next(), Some("text/event-stream"));
                let told = streamed_text(*client, std::str::from_utf8(&stream).unwrap());
                assert_eq!(told, (expected, true), "{client} of {target}: {stream:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_stream_that_breaks_is_completed_by_a_target_of_another_dialect() {
    // Both would say the same; the simulated fallback goes on by the number of characters.
    let long = "One two three four, five six seven eight; nine ten eleven twelve. Größe 数字 and so on to the end.";
    let named = |name| SimulatedProvider::builder(name).answer(long).start();
    let (primary, fallback) = (named("primary").await.unwrap(), named("fallback").await.unwrap());
    let settings = format!("{QUICK}\nstream_recovery = \"resume\"");
    let served = between_all(&primary.base_url(), &fallback.base_url(), &settings).await;
    primary.set_fault("cut:3".parse().unwrap());
    for (place, client) in Dialect::ALL.iter().enumerate() {
        for (shift, first) in Dialect::ALL.iter().enumerate() {
            let second = Dialect::ALL[(place + shift + 1) % Dialect::ALL.len()];
            let (path, body) = request(*client, &format!("{first}-{second}"), true);
            let stream = until_it_ends(&served, &path, &body).await;
            let (text, ended) = streamed_text(*client, &stream);
            assert!(ended, "{client}: {first}, then {second}: {stream}");
            assert_eq!(text, long, "{client}: {first}, then {second}");
        }
    }
}

#[tokio::test]
async fn a_failure_is_told_in_the_clients_words() {
    let (primary, fallback) = simulated().await;
    let served = between_all(&primary.base_url(), &fallback.base_url(), QUICK).await;
    [&primary, &fallback].iter().for_each(|provider| provider.set_fault(SimulatedFault::Overloaded));
    for client in Dialect::ALL {
        for target in Dialect::ALL {
            let (path, body) = request(*client, &format!("{target}-{target}"), false);
            let (head, error) = send(&served, &path, &body).await;
            assert_eq!(head.status, StatusCode::SERVICE_UNAVAILABLE, "{client} of {target}");
            let error: Json = serde_json::from_slice(&error).unwrap();
            let error = error.get(0).unwrap_or(&error);
            assert!(error["error"]["message"].is_string(), "{client} of {target}: {error}");
            match client {
                Dialect::AnthropicMessages => assert_eq!(error["type"], "error"),
                Dialect::Gemini => assert_eq!(error["error"]["status"], "UNAVAILABLE"),
                _ => assert_eq!(error["error"]["type"], "server_error"),
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_said_in_another_dialect_goes_to_nobody_who_speaks_it() {
    let (primary, fallback) = simulated().await;
    let served = between_all(&primary.base_url(), &fallback.base_url(), QUICK).await;
    let (path, mut body) = request(Dialect::OpenAiChat, "anthropic-messages-openai-chat", false);
    body["n"] = 2.into();
    let (head, answer) = send(&served, &path, &body).await;
    assert_eq!((head.status, primary.request_count()), (StatusCode::OK, 0), "{answer:?}");
    body["model"] = "anthropic-messages-gemini".into();
    let (head, answer) = send(&served, &path, &body).await;
    let error: Json = serde_json::from_slice(&answer).unwrap();
    assert_eq!((head.status, &error["error"]["code"]), (StatusCode::BAD_REQUEST, &"no_capable_target".into()));
    assert!(error["error"]["message"].as_str().unwrap().contains("several_answers"), "{error}");
}

#[tokio::test]
async fn a_request_that_says_nothing_is_not_made_up_for() {
    let (primary, fallback) = simulated().await;
    let served = between_all(&primary.base_url(), &fallback.base_url(), QUICK).await;
    for (path, body) in [
        ("/v1/responses", json!({"model": "anthropic-messages-gemini", "input": [[[["x"]]]]})),
        ("/v1/responses", json!({"model": "anthropic-messages-gemini"})),
        ("/v1/chat/completions", json!({"model": "anthropic-messages-gemini", "messages": []})),
        ("/v1/messages", json!({"model": "openai-chat-gemini", "max_tokens": 9, "messages": []})),
    ] {
        let (head, answer) = send(&served, path, &body).await;
        assert_eq!((head.status, primary.request_count()), (StatusCode::BAD_REQUEST, 0), "{body}: {answer:?}");
    }
}

#[tokio::test]
async fn geminis_clients_may_have_their_stream_as_an_array() {
    let (primary, fallback) = simulated().await;
    let served = between_all(&primary.base_url(), &fallback.base_url(), QUICK).await;
    for target in Dialect::ALL {
        let (path, body) = request(Dialect::Gemini, &format!("{target}-{target}"), true);
        let (head, answer) = send(&served, path.trim_end_matches("?alt=sse"), &body).await;
        assert_eq!(head.headers["content-type"], "application/json", "{target}");
        let answer: Vec<Json> = serde_json::from_slice(&answer).unwrap();
        let pieces = answer.iter().filter_map(|piece| piece.pointer("/candidates/0/content/parts/0/text")?.as_str());
        assert_eq!(pieces.collect::<String>(), format!("[primary] {ANSWER}"), "{target}");
    }
}

#[tokio::test]
async fn embeddings_fail_over_between_those_who_speak_openais_apis() {
    let (primary, fallback) = simulated().await;
    let served = between_all(&primary.base_url(), &fallback.base_url(), QUICK).await;
    primary.set_fault(SimulatedFault::Overloaded);
    let ask = async |route: &str| {
        let body = json!({"model": route, "input": ["one", "two"]});
        let (head, answer) = send(&served, "/v1/embeddings", &body).await;
        (head.status, serde_json::from_slice::<Json>(&answer).unwrap())
    };
    for route in ["openai-chat-openai-chat", "openai-responses-openai-chat", "gemini-openai-responses"] {
        let (status, answer) = ask(route).await;
        assert_eq!((status, &answer["model"]), (StatusCode::OK, &"f".into()), "{route}: {answer}");
        assert_eq!(answer["data"].as_array().unwrap().len(), 2);
    }
    let (status, answer) = ask("gemini-anthropic-messages").await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::BAD_REQUEST, &"no_capable_target".into()), "{answer}");
}

#[tokio::test]
async fn an_error_in_the_place_of_an_array_passes_as_its_provider_put_it() {
    let (primary, fallback) = simulated().await;
    let served = between_all(&primary.base_url(), &fallback.base_url(), QUICK).await;
    [&primary, &fallback].iter().for_each(|provider| provider.set_fault(SimulatedFault::BadRequest));
    let (path, body) = request(Dialect::Gemini, "gemini-gemini", true);
    let (events, as_events) = send(&served, &path, &body).await;
    let (array, as_array) = send(&served, path.trim_end_matches("?alt=sse"), &body).await;
    assert_eq!((array.status, &as_array), (events.status, &as_events));
    assert!(as_array.windows(16).any(|word| word == b"INVALID_ARGUMENT"), "{as_array:?}");
}
