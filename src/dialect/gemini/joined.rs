//! An answer in one piece as the stream that says the same, and the other way about, with every signature where it was.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use serde_json::{Map, Value as Json};

use crate::dialect::json_scan::Value;

/// A whole answer as a stream of one event, for each event is an answer; an array as its elements. `None` where it is neither.
pub(crate) fn as_stream(body: &[u8]) -> Option<Bytes> {
    let whole = Value::whole(body).ok()?;
    let mut stream = Vec::with_capacity(body.len() + 16);
    match whole.is_object() {
        true => event(whole.json(), &mut stream),
        false => {
            for element in whole.elements() {
                event(element.ok()?.json(), &mut stream);
            }
        }
    }
    (!stream.is_empty()).then(|| stream.into())
}

fn event(json: &[u8], stream: &mut Vec<u8>) {
    stream.extend_from_slice(b"data: ");
    // A line end in JSON is white space between its tokens: inside a string it is escaped.
    stream.extend(json.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
    stream.extend_from_slice(b"\r\n\r\n");
}

/// A stream, by the data of its events, as the answer in one piece that says the same; `None` where it says something that no
/// rule puts together.
pub(crate) fn as_answer<'a>(events: impl IntoIterator<Item = Cow<'a, [u8]>>) -> Option<Bytes> {
    let mut answer = Map::new();
    let mut candidates: BTreeMap<u64, Map<String, Json>> = BTreeMap::new();
    for data in events {
        let Json::Object(mut chunk) = serde_json::from_slice(&data).ok()? else { return None };
        for piece in chunk.remove("candidates").and_then(list).unwrap_or_default() {
            let Json::Object(piece) = piece else { return None };
            let index = piece.get("index").and_then(Json::as_u64).unwrap_or(0);
            add_candidate(candidates.entry(index).or_default(), piece)?;
        }
        for (key, value) in chunk {
            match (answer.get_mut(&key), value) {
                // Vertex counts in the last event only, and says something of the traffic in all.
                (Some(Json::Object(known)), Json::Object(value)) if !value.contains_key("totalTokenCount") => {
                    known.extend(value);
                }
                (_, value) => _ = answer.insert(key, value),
            }
        }
    }
    if candidates.is_empty() && !answer.contains_key("promptFeedback") {
        return None;
    }
    if !candidates.is_empty() {
        let candidates = candidates.into_values().map(Json::Object).collect::<Vec<_>>();
        answer.insert("candidates".to_owned(), candidates.into());
    }
    Some(Json::Object(answer).to_string().into())
}

fn list(json: Json) -> Option<Vec<Json>> {
    match json {
        Json::Array(elements) => Some(elements),
        _ => None,
    }
}

fn add_candidate(candidate: &mut Map<String, Json>, piece: Map<String, Json>) -> Option<()> {
    for (key, value) in piece {
        match (&*key, candidate.get_mut(&key), value) {
            ("content", Some(Json::Object(content)), Json::Object(more)) => {
                for (key, value) in more {
                    match (&*key, content.get_mut(&key), value) {
                        ("parts", Some(Json::Array(parts)), Json::Array(more)) => {
                            more.into_iter().try_for_each(|part| add_part(parts, part))?;
                        }
                        (_, _, value) => _ = content.insert(key, value),
                    }
                }
            }
            // The first one may have several pieces of its own.
            ("content", _, Json::Object(mut content)) => {
                let mut parts = Vec::new();
                for part in content.remove("parts").and_then(list).unwrap_or_default() {
                    add_part(&mut parts, part)?;
                }
                content.insert("parts".to_owned(), parts.into());
                candidate.insert(key, content.into());
            }
            ("citationMetadata", Some(Json::Object(known)), Json::Object(more)) => {
                for (key, value) in more {
                    match (known.get_mut(&key), value) {
                        (Some(Json::Array(known)), Json::Array(more)) => known.extend(more),
                        (_, value) => _ = known.insert(key, value),
                    }
                }
            }
            (_, _, value) => _ = candidate.insert(key, value),
        }
    }
    Some(())
}

/// Adds a part; text goes on with the text before it, unless one of the two is signed for itself.
fn add_part(parts: &mut Vec<Json>, part: Json) -> Option<()> {
    let function = part.get("functionCall");
    if function.is_some_and(|call| {
        call.get("partialArgs").is_some() || call.get("willContinue").is_some() || call.get("name").is_none()
    }) {
        return None;
    }
    let is_plain = |part: &Json| {
        let members = part.as_object().map(|part| part.keys().all(|key| key == "text" || key == "thought"));
        members == Some(true) && part["text"].is_string()
    };
    if part["text"] == "" && is_plain(&part) {
        return Some(());
    }
    match parts.last_mut() {
        Some(last) if is_plain(last) && is_plain(&part) && last.get("thought") == part.get("thought") => {
            let text = [last["text"].as_str(), part["text"].as_str()].into_iter().flatten().collect::<String>();
            last["text"] = text.into();
        }
        _ => parts.push(part),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        Dialect,
        body::EventStream,
        dialect::{
            canonical::collect::{Collector, essence},
            gemini::{response::decode::decode, stream::decode::Decoder},
            recorded,
        },
    };

    fn data_of(stream: &[u8]) -> Vec<Vec<u8>> {
        EventStream::default().events(stream).map(|(data, _)| data.into_owned()).collect()
    }

    #[test]
    fn pieces_become_one_answer_with_signatures_where_they_were() {
        let chunks = [
            json!({"candidates": [{"content": {"parts": [{"text": "Hm", "thought": true}], "role": "model"}, "index": 0}], "responseId": "r",
                "usageMetadata": {"trafficType": "ON_DEMAND"}}),
            json!({"candidates": [{"content": {"parts": [{"text": "a"}, {"text": "b"}], "role": "model"}, "index": 0}], "responseId": "r"}),
            json!({"candidates": [{"content": {"parts": [{"text": "c"}, {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "s"}]}}]}),
            json!({"candidates": [{"content": {"parts": [{"text": "", "thoughtSignature": "t"}]}, "finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3, "trafficType": "ON_DEMAND"}}),
        ];
        let events = chunks.iter().map(|chunk| Cow::Owned(chunk.to_string().into_bytes()));
        let answer: Json = serde_json::from_slice(&as_answer(events).unwrap()).unwrap();
        let expected = json!({
            "candidates": [{"content": {"parts": [
                {"text": "Hm", "thought": true}, {"text": "abc"},
                {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "s"}, {"text": "", "thoughtSignature": "t"},
            ], "role": "model"}, "index": 0, "finishReason": "STOP"}],
            "usageMetadata": {"trafficType": "ON_DEMAND", "promptTokenCount": 3, "totalTokenCount": 3}, "responseId": "r",
        });
        assert_eq!(answer, expected);
        let partial = br#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","willContinue":true}}]}}]}"#;
        assert_eq!(as_answer([Cow::Borrowed(&partial[..])]), None);
        assert_eq!(as_answer([]), None);
    }

    #[test]
    fn a_recorded_answer_is_a_stream_and_a_recorded_stream_an_answer() {
        let mut compared = 0;
        for exchange in recorded::exchanges("gemini-generate").into_iter().filter(|exchange| exchange.status == 200) {
            let whole = exchange.answer.as_ref().filter(|body| body.get("candidates").is_some());
            let stream = match (&exchange.stream, whole) {
                (Some(stream), _) => Bytes::copy_from_slice(stream.as_bytes()),
                (None, Some(body)) => as_stream(serde_json::to_string_pretty(body).unwrap().as_bytes()).unwrap(),
                (None, None) => continue,
            };
            let data = data_of(&stream);
            let (mut decoder, mut collector) = (Decoder::new(), Collector::new(Dialect::Gemini));
            for data in &data {
                decoder.event(std::str::from_utf8(data).unwrap(), &mut |event| collector.event(event)).unwrap();
            }
            decoder.end(&mut |event| collector.event(event));
            let Some(joined) = as_answer(data.iter().map(|data| Cow::Borrowed(&**data))) else { continue };
            let joined = String::from_utf8(joined.to_vec()).unwrap();
            assert_eq!(essence(&decode(&joined).unwrap()), essence(&collector.answer()), "{}", exchange.file);
            compared += 1;
        }
        eprintln!("{compared} compared");
    }
}
