//! Streams: what they can be of, how they are written, where they break, and how they are continued.

use super::*;
use crate::simulated::{Compressed, Continuation, LineEnd, StreamFault, StreamPoint, StreamStyle};

async fn answering(text: &str) -> SimulatedProvider {
    SimulatedProvider::builder("primary").answer(text).start().await.unwrap()
}

#[tokio::test]
async fn reasoning_comes_first_where_it_is_asked_for() {
    let provider = answering("Yes.").await;
    let mut request = hello(true);
    request["reasoning_effort"] = "low".into();
    request["stream_options"] = json!({"include_usage": true});
    let chunks = chat(&provider, request.clone()).await.chunks();
    let of = |key: &str| -> String {
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"][key].as_str().map(str::to_owned)).collect()
    };
    let reasoning = "What is said is \"Hello there\", so a simulated answer is due.";
    assert_eq!((of("reasoning_content").as_str(), of("content").as_str()), (reasoning, "Yes."));
    let usage = &chunks.last().unwrap()["usage"];
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], reasoning.len().div_ceil(4));
    request["stream"] = false.into();
    let message = chat(&provider, request).await.json()["choices"][0]["message"].clone();
    assert_eq!((&message["reasoning_content"], &message["content"]), (&reasoning.into(), &"Yes.".into()));
}

#[tokio::test]
async fn styles_change_bytes_and_nothing_else() {
    let provider = answering("one two three").await;
    let style = StreamStyle::default().with_byte_order_mark().with_comments().with_multi_line_data().in_pieces_of(7);
    for line_end in [LineEnd::Lf, LineEnd::CrLf, LineEnd::Cr] {
        provider.set_style(style.with_line_end(line_end));
        let seen = chat(&provider, hello(true)).await;
        let plain = seen.body.replace("\r\n", "\n").replace('\r', "\n");
        assert_eq!(plain == seen.body, line_end == LineEnd::Lf);
        let plain = plain.strip_prefix('\u{feff}').unwrap();
        let events = plain.split_terminator("\n\n").filter(|event| *event != ": a comment");
        let events: Vec<String> = events.map(|event| event.replace("data: ", "")).collect();
        assert_eq!((events.len(), events.last().unwrap().as_str()), (6, "[DONE]"));
        assert!(events[..5].iter().all(|event| serde_json::from_str::<Value>(event).is_ok() && event.contains('\n')));
    }
    provider.set_style(StreamStyle::default().as_json().unlabelled());
    let seen = chat(&provider, hello(true)).await;
    assert_eq!(seen.header("content-type"), None);
    assert_eq!(seen.json()["choices"][0]["message"]["content"], "one two three");
}

#[tokio::test]
async fn compressed_answers_say_so() {
    use std::io::Read;
    let provider = answering("one two three").await;
    provider.set_style(StreamStyle::default().compressed(Compressed::Gzip));
    let body = hello(false).to_string();
    let mut stream = send(&provider, "POST", "/v1/chat/completions", &body).await;
    let (bytes, _) = read_to_end(&mut stream).await;
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let chunked = &bytes[end + 4..];
    let start = chunked.windows(2).position(|window| window == b"\r\n").unwrap() + 2;
    let size = usize::from_str_radix(std::str::from_utf8(&chunked[..start - 2]).unwrap(), 16).unwrap();
    // All of the text is in the first chunk; the trailer that would end it is in the next.
    let mut text = [0; 10_000];
    let read = flate2::read::GzDecoder::new(&chunked[start..start + size]).read(&mut text).unwrap();
    assert!(String::from_utf8_lossy(&text[..read]).contains("one two three"));
}

#[tokio::test]
async fn a_stream_breaks_where_it_is_told_to() {
    let provider = answering("one two three four").await;
    let at = async |fault, at| {
        provider.set_fault(SimulatedFault::Stream { fault, at });
        chat(&provider, hello(true)).await
    };
    let whole = |seen: &Seen| seen.body.split_inclusive("\n\n").filter(|event| event.ends_with("\n\n")).count();
    for (point, events, ends_amid) in [
        (StreamPoint::BeforeOutput, 1, false),
        (StreamPoint::AtFirstOutput, 2, false),
        (StreamPoint::InText, 3, true),
        (StreamPoint::AfterFinishReason, 6, false),
    ] {
        for (fault, end) in
            [(StreamFault::Cut, End::Reset), (StreamFault::EndEarly, End::Closed), (StreamFault::Stall, End::Open)]
        {
            let seen = at(fault, point).await;
            assert_eq!((whole(&seen), seen.end), (events, end), "{fault}@{point}");
            assert_eq!(!seen.body.ends_with("\n\n"), ends_amid, "{fault}@{point}");
        }
        let seen = at(StreamFault::Error, point).await;
        assert_eq!((whole(&seen), seen.end), (events + 1, End::Closed), "{point}");
        assert!(seen.body.lines().rev().nth(1).unwrap().starts_with("data: {\"error\""), "{}", seen.body);
        let seen = at(StreamFault::Malformed, point).await;
        assert_eq!(whole(&seen), 8, "{point}");
        assert!(seen.body.ends_with("data: [DONE]\n\n"));
    }
    for elsewhere in [StreamPoint::InToolCall, StreamPoint::InStructuredOutput, StreamPoint::InReasoning] {
        assert_eq!(whole(&at(StreamFault::Cut, elsewhere).await), 7, "it has no {elsewhere}");
    }
}

#[tokio::test]
async fn an_answer_that_was_begun_is_continued() {
    let provider = answering("one two three four").await;
    let ask = async |messages: Value| chat(&provider, json!({"model": "m", "messages": messages})).await;
    let said = |seen: Seen| seen.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let prefill = || json!([{"role": "user", "content": "Count."}, {"role": "assistant", "content": "one two"}]);
    let mut instruction = prefill();
    instruction.as_array_mut().unwrap().push(json!({"role": "user", "content": "Continue exactly there."}));
    assert_eq!(said(ask(prefill()).await), " three four");
    assert_eq!(said(ask(instruction.clone()).await), " three four");
    provider.set_continuation(Continuation::Overlap(3));
    assert_eq!(said(ask(prefill()).await), "two three four");
    provider.set_prefill_refused(true);
    let refused = ask(prefill()).await;
    assert_eq!((refused.status, refused.error()["type"].as_str()), (400, Some("invalid_request_error")));
    assert_eq!(said(ask(instruction).await), "two three four");
}
