//! Real answers of OpenAI-compatible providers, through the gateway: they come out as they went in.
//!
//! The recordings are not part of this repository; without a copy beside it these tests say so and pass.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

mod harness;

use std::path::PathBuf;

use harness::{QUICK, RawProvider, Served, post, raw_response, send};
use http_body_util::BodyExt;
use serde_json::Value;

struct Recording {
    name: String,
    request: Option<String>,
    status: u64,
    content_type: String,
    body: String,
}

fn recordings() -> Vec<Recording> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/recordings/openai-chat"));
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: no recordings in {}", folder.display());
        return Vec::new();
    };
    let mut recordings: Vec<_> = entries.filter_map(|entry| read(&entry.unwrap().path())).collect();
    recordings.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(recordings.len() > 50, "only {} recordings could be read", recordings.len());
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
        request @ Value::Object(members) if members["model"].is_string() => Some(request.to_string()),
        _ => None,
    };
    let name = path.file_name()?.to_string_lossy().into_owned();
    Some(Recording { name, request, status: response["status"].as_u64()?, content_type, body })
}

#[tokio::test]
async fn recorded_answers_come_out_byte_for_byte() {
    let (mut answers, mut streams, mut failures) = (0, 0, 0);
    for recording in recordings().iter().filter(|recording| recording.status == 200) {
        let provider = RawProvider::answering(raw_response(&recording.content_type, recording.body.as_bytes())).await;
        let served = Served::between(&provider.base_url, "http://127.0.0.1:9/v1", QUICK).await;
        let request = recording.request.as_deref().unwrap_or(r#"{"model":"m","messages":[]}"#);
        let mut asked: Value = serde_json::from_str(request).unwrap();
        asked["model"] = "pass-through".into();
        asked["stream"] = recording.body.starts_with(['d', ':', 'e']).into();
        let asked = asked.to_string();
        let response = send(post(&served, asked.clone())).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes());
        let says_error = ["\"error\":{", "\"error\": {", "\"finish_reason\":\"error\""];
        if head.status != 200 || body.is_err() {
            let says_error = says_error.iter().any(|error| recording.body.contains(error));
            assert!(says_error, "{}: taken for a failure: {body:?}", recording.name);
            failures += 1;
            continue;
        }
        let body = body.unwrap_or_default();
        // An error behind the finish reason is left out: nothing of the answer is missing.
        let is_error = |event: &str| says_error.iter().any(|error| event.contains(error));
        let expected: String = match recording.body.starts_with('{') {
            true => recording.body.clone(),
            false => recording.body.split_inclusive("\n\n").filter(|event| !is_error(event)).collect(),
        };
        assert_eq!(String::from_utf8_lossy(&body), expected, "{}", recording.name);
        assert_eq!(String::from_utf8(provider.request().await.1).unwrap(), asked, "{}", recording.name);
        *(if recording.content_type.starts_with("text/event-stream") { &mut streams } else { &mut answers }) += 1;
    }
    eprintln!("{answers} answers and {streams} streams came out as they went in, {failures} failures were told");
}
