//! Streams read and told again.

use bytes::Bytes;

use super::*;
use crate::{
    Dialect,
    body::EventStream,
    dialect::{
        canonical::{
            Answer,
            collect::{Collector, essence},
        },
        gemini::{grammar::Grammar, response, stream::decode::Decoder},
        openai_chat, recorded,
    },
};

/// The data of every event of a stream that comes in those frames.
fn events<'a>(frames: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let (mut stream, mut events) = (EventStream::default(), Vec::new());
    let mut pieces: Vec<Bytes> =
        frames.into_iter().map(|frame| stream.push(Bytes::copy_from_slice(frame)).unwrap()).collect();
    pieces.push(stream.finish());
    for piece in &pieces {
        events.extend(stream.events(piece).map(|(data, _)| String::from_utf8(data.into_owned()).unwrap()));
    }
    events
}

fn decode(stream: &str) -> Answer<'static> {
    let (mut decoder, mut collector) = (Decoder::new(), Collector::new(Dialect::Gemini));
    for data in events([stream.as_bytes()]) {
        decoder.event(&data, &mut |event| collector.event(event)).unwrap_or_else(|error| panic!("{error:?}: {data}"));
    }
    decoder.end(&mut |event| collector.event(event));
    assert!(collector.done);
    collector.answer()
}

fn encode(answer: &Answer<'_>) -> (String, Losses) {
    let (mut encoder, mut losses, mut out) = (Encoder::new(false), Losses::default(), Vec::new());
    answer.replay(&mut |event| encoder.event(&event, &mut losses, &mut out));
    let stream = String::from_utf8(out).unwrap();
    let mut grammar = Grammar::default();
    events([stream.as_bytes()]).iter().for_each(|data| grammar.event(data));
    grammar.end();
    (stream, losses)
}

#[test]
fn every_recorded_stream_says_the_same_when_told_again() {
    let mut told = 0;
    for exchange in recorded::exchanges("gemini-generate") {
        let Some(stream) = exchange.stream.filter(|_| exchange.status == 200) else { continue };
        // Made by hand, each to be wrong in its own way.
        let odd = ["unknown", "invalid", "malformed"].iter().any(|word| exchange.file.contains(word));
        let mut grammar = Grammar::default();
        if !odd {
            let data = events([stream.as_bytes()]);
            data.iter().for_each(|data| grammar.event(data));
        }
        let answer = decode(&stream);
        let again = decode(&encode(&answer).0);
        assert_eq!(essence(&again), essence(&answer), "{}", exchange.file);
        told += 1;
    }
    eprintln!("{told} streams told again");
}

#[test]
fn a_recorded_array_says_the_same_as_its_elements() {
    for exchange in recorded::exchanges("gemini-generate") {
        let Some(elements) = exchange.answer.as_ref().and_then(|answer| answer.as_array()) else { continue };
        if elements[0].get("error").is_some() {
            continue;
        }
        let stream: String = elements.iter().map(|element| format!("data: {element}\r\n\r\n")).collect();
        let answer = decode(&stream);
        assert!(!answer.parts.is_empty(), "{}", exchange.file);
        assert_eq!(essence(&decode(&encode(&answer).0)), essence(&answer), "{}", exchange.file);
    }
}

#[test]
fn every_recorded_answer_says_the_same_as_a_stream() {
    for exchange in recorded::exchanges("gemini-generate") {
        let Some(body) = exchange.answer.filter(|body| body.get("candidates").is_some()) else { continue };
        let text = body.to_string();
        let answer = response::decode::decode(&text).unwrap();
        assert_eq!(essence(&decode(&encode(&answer).0)), essence(&answer), "{}", exchange.file);
    }
    for exchange in recorded::exchanges("openai-chat") {
        let Some(body) = exchange.answer.filter(|body| body["choices"][0]["message"].is_object()) else { continue };
        let text = body.to_string();
        let answer = openai_chat::response::decode::decode(&text).unwrap();
        let (stream, losses) = encode(&answer);
        let (mut again, was) = (essence(&decode(&stream)), essence(&answer));
        if losses.iter().any(|loss| ["malformed arguments", "native content part"].contains(&loss.0)) {
            // A call of a tool that is no function has no place here.
            again.finish.clone_from(&was.finish);
            again.calls.clone_from(&was.calls);
        }
        assert_eq!(again, was, "{}", exchange.file);
    }
}

#[test]
fn every_recorded_chat_stream_says_the_same_here() {
    for exchange in recorded::exchanges("openai-chat") {
        let Some(stream) = exchange.stream.filter(|_| exchange.status == 200) else { continue };
        let (mut decoder, mut collector) =
            (openai_chat::stream::decode::Decoder::new(), Collector::new(Dialect::OpenAiChat));
        let (mut encoder, mut losses, mut out) = (Encoder::new(true), Losses::default(), Vec::new());
        let mut sink = |event: Event<'_>| {
            encoder.event(&event, &mut losses, &mut out);
            collector.event(event);
        };
        let mut whole = true;
        for data in events([stream.as_bytes()]) {
            whole &= decoder.event(&data, &mut sink).is_ok();
        }
        decoder.end(&mut sink);
        if !(whole && collector.done) {
            continue;
        }
        let told = String::from_utf8(out).unwrap();
        let mut grammar = Grammar::default();
        events([told.as_bytes()]).iter().for_each(|data| grammar.event(data));
        grammar.end();
        assert_eq!(essence(&decode(&told)), essence(&collector.answer()), "{}", exchange.file);
    }
}

#[test]
fn cut_anywhere_a_stream_tells_the_same_events() {
    let stream = concat!(
        "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"Hé\",\"thought\": true}]}}],\"responseId\": \"r\"}\r\n\r\n",
        "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"a\"},{\"functionCall\": {\"name\": \"f\"}}]},\"finishReason\": \"STOP\"}]}\r\n\r\n",
    );
    let whole = events([stream.as_bytes()]);
    for cut in 0..=stream.len() {
        let (first, second) = stream.as_bytes().split_at(cut);
        assert_eq!(events([first, second]), whole, "{cut}");
    }
    assert_eq!(decode(stream).finish, Finish::ToolCalls);
}

#[test]
fn arguments_that_come_in_pieces_are_told_whole() {
    let part = |part: &str| format!("data: {{\"candidates\":[{{\"content\":{{\"parts\":[{part}]}}}}]}}\r\n\r\n");
    let stream = [
        part(r#"{"functionCall":{"name":"f","willContinue":true},"thoughtSignature":"s"}"#),
        part(
            r#"{"functionCall":{"partialArgs":[{"jsonPath":"$.a","stringValue":"x","willContinue":true}],"willContinue":true}}"#,
        ),
        part(r#"{"functionCall":{"partialArgs":[{"jsonPath":"$.a","stringValue":"y"}],"willContinue":true}}"#),
        part(r#"{"functionCall":{}}"#),
        part(r#"{"functionCall":{"name":"g","args":{}}}"#),
        "data: {\"candidates\":[{\"finishReason\":\"STOP\"}]}\r\n\r\n".to_owned(),
    ];
    let answer = decode(&stream.concat());
    let calls = [("f".to_owned(), serde_json::json!({"a": "xy"})), ("g".to_owned(), serde_json::json!({}))];
    assert_eq!(essence(&answer).calls, calls);
    assert_eq!(answer.finish, Finish::ToolCalls);
}

#[test]
fn a_stream_is_told_as_google_tells_it() {
    let mut answer = Answer::new(Dialect::AnthropicMessages);
    answer.id = Some(Text::escaped("msg_1"));
    answer.model = Some(Text::escaped("m"));
    answer.parts = vec![
        crate::dialect::canonical::Part::text(Text::plain("Hi\n")),
        crate::dialect::canonical::Part::Call(crate::dialect::canonical::Call {
            id: Text::escaped("toolu_1"),
            name: Text::escaped("f"),
            arguments: Raw::new(""),
            signature: None,
            extras: Default::default(),
        }),
    ];
    answer.finish = Finish::ToolCalls;
    answer.usage = Some(Usage { input: 3, output: 2, ..Usage::default() });
    let chunk = |candidate: &str, usage: &str| {
        format!(
            "data: {{\"candidates\":[{{{candidate},\"index\":0}}]{usage},\"modelVersion\":\"m\",\"responseId\":\"msg_1\"}}\r\n\r\n"
        )
    };
    let content = |part: &str| format!("\"content\":{{\"parts\":[{part}],\"role\":\"model\"}}");
    let usage = r#","usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2,"totalTokenCount":5}"#;
    let call =
        format!(r#"{{"functionCall":{{"id":"toolu_1","name":"f","args":{{}}}},"thoughtSignature":"{NO_SIGNATURE}"}}"#);
    let expected = [
        chunk(&content(r#"{"text":"Hi\n"}"#), ""),
        chunk(&content(&call), ""),
        chunk(&format!("{},\"finishReason\":\"STOP\"", content(r#"{"text":""}"#)), usage),
    ];
    assert_eq!(encode(&answer).0, expected.concat());
}

#[test]
fn a_prompt_that_was_blocked_has_an_answer_without_content() {
    let answer = decode("data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\r\n\r\n");
    assert_eq!((answer.finish.clone(), answer.parts.len()), (Finish::ContentFilter, 0));
    assert_eq!(encode(&answer).0, "data: {\"candidates\":[{\"finishReason\":\"SAFETY\",\"index\":0}]}\r\n\r\n");
}
