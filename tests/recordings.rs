//! Real answers of providers of every dialect, through the gateway: to a client of that dialect they come out as they went in.
//!
//! The recordings are not part of this repository; without a copy beside it these tests say so and pass.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

mod harness;

use std::path::PathBuf;

use bytes::Bytes;
use harness::{QUICK, RawProvider, Served, raw_response, send};
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::Value;

struct Recording {
    name: String,
    path: String,
    request: Option<String>,
    status: u64,
    content_type: String,
    body: String,
}

fn recordings(dialect: &str) -> Vec<Recording> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/recordings")).join(dialect);
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: no recordings in {}", folder.display());
        return Vec::new();
    };
    let mut recordings: Vec<_> = entries.filter_map(|entry| read(&entry.unwrap().path())).collect();
    recordings.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(recordings.len() > 40, "only {} recordings could be read", recordings.len());
    recordings
}

fn read(path: &std::path::Path) -> Option<Recording> {
    let recording: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let response = &recording["response"];
    let body = match (&response["body"], &response["body_text"]) {
        (Value::Null, Value::String(text)) => text.clone(),
        (Value::Null, _) => return None,
        (body, _) => body.to_string(),
    };
    let headers = response["headers"].as_object()?;
    let content_type = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let content_type = content_type.and_then(|(_, value)| value.as_str()).unwrap_or("text/plain").to_owned();
    let request = match &recording["request"]["body"] {
        request @ Value::Object(_) => Some(request.to_string()),
        _ => None,
    };
    let name = path.file_name()?.to_string_lossy().into_owned();
    let path = recording["request"]["path"].as_str().unwrap_or_default().to_owned();
    Some(Recording { name, path, request, status: response["status"].as_u64()?, content_type, body })
}

/// A gateway before one provider of that dialect, whose only route takes any model's name.
async fn served(dialect: &str, base_url: &str) -> Served {
    let root = base_url.trim_end_matches("/v1");
    let base_url = if dialect.starts_with("openai") { base_url } else { root };
    Served::with_config(&format!(
        "[defaults]\n{QUICK}\n[providers.p]\ndialect = \"{dialect}\"\nbase_url = \"{base_url}\"\n\
         [routes.\"*\"]\ntargets = [{{ provider = \"p\" }}]"
    ))
    .await
}

/// Where a client asks, and with what: as it was recorded, but for what is cut out of the recordings.
fn asked(dialect: &str, recording: &Recording) -> (String, String) {
    let mut body: Value = serde_json::from_str(recording.request.as_deref().unwrap_or("{}")).unwrap();
    let streams = recording.body.starts_with(['d', ':', 'e']);
    let path = match dialect {
        "openai-chat" => "/v1/chat/completions".to_owned(),
        "openai-responses" => "/v1/responses".to_owned(),
        "anthropic-messages" => "/v1/messages".to_owned(),
        _ => {
            let call = if streams { "streamGenerateContent?alt=sse" } else { "generateContent" };
            return (format!("/v1beta/models/any:{call}"), body.to_string());
        }
    };
    body["model"] = "any".into();
    body["stream"] = streams.into();
    (path, body.to_string())
}

async fn come_out_byte_for_byte(dialect: &str, folder: &str) {
    let (mut answers, mut streams, mut failures) = (0, 0, 0);
    // An array of Gemini's is asked for, and made, otherwise; Bedrock's answers are none of Anthropic's own.
    let is_its_own = |recording: &&Recording| {
        recording.status == 200 && !recording.body.starts_with('[') && !recording.path.contains("/model/")
    };
    for recording in recordings(folder).iter().filter(is_its_own) {
        let provider = RawProvider::answering(raw_response(&recording.content_type, recording.body.as_bytes())).await;
        let served = served(dialect, &provider.base_url).await;
        let (path, asked) = asked(dialect, recording);
        let request = Request::post(served.url(&path)).body(Full::new(Bytes::from(asked.clone()))).unwrap();
        let (head, body) = send(request).await.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes());
        let says_error = ["\"error\":{", "\"error\": {", "\"finish_reason\":\"error\"", "MALFORMED_"];
        if head.status != 200 || body.is_err() {
            let says_error = says_error.iter().any(|error| recording.body.contains(error));
            assert!(says_error, "{}: taken for a failure: {} {body:?}", recording.name, head.status);
            failures += 1;
            continue;
        }
        let body = body.unwrap_or_default();
        // An error behind the finish reason is left out: nothing of the answer is missing.
        let is_error = |event: &str| says_error.iter().any(|error| event.contains(error));
        let expected: String = match recording.body.starts_with('{') || dialect != "openai-chat" {
            true => recording.body.clone(),
            false => recording.body.split_inclusive("\n\n").filter(|event| !is_error(event)).collect(),
        };
        assert_eq!(String::from_utf8_lossy(&body), expected, "{}", recording.name);
        assert_eq!(String::from_utf8(provider.request().await.1).unwrap(), asked, "{}", recording.name);
        *(if recording.content_type.starts_with("text/event-stream") { &mut streams } else { &mut answers }) += 1;
    }
    eprintln!(
        "{dialect}: {answers} answers and {streams} streams came out as they went in, {failures} failures were told"
    );
}

#[tokio::test]
async fn recorded_chat_completions_come_out_byte_for_byte() {
    come_out_byte_for_byte("openai-chat", "openai-chat").await;
}

#[tokio::test]
async fn recorded_responses_come_out_byte_for_byte() {
    come_out_byte_for_byte("openai-responses", "openai-responses").await;
}

#[tokio::test]
async fn recorded_messages_come_out_byte_for_byte() {
    come_out_byte_for_byte("anthropic-messages", "anthropic-messages").await;
}

#[tokio::test]
async fn recorded_contents_come_out_byte_for_byte() {
    come_out_byte_for_byte("gemini", "gemini-generate").await;
}
