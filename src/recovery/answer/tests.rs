//! Answers of dialects whose events do not stand each for itself, broken off behind each of their events.

use serde_json::{Value as Json, json};

use super::*;
use crate::dialect::{
    anthropic_messages::stream::grammar,
    canonical::{Block, Event, Finish, Head, Losses, Text},
    openai_responses::stream::{encode::Encoder, grammar as responses_grammar},
};

fn event(data: &Json) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap())
}

/// A message stream with a thought, if there is to be one, that text in pieces, and a call, if there is to be one.
fn message(id: &str, thought: bool, text: &[&str], call: bool) -> Vec<String> {
    let envelope = json!({"id": id, "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": null,
        "usage": {"input_tokens": 50, "output_tokens": 1}});
    let mut events = vec![json!({"type": "message_start", "message": envelope}), json!({"type": "ping"})];
    let mut index = 0;
    let mut block = |start: Json, deltas: Vec<Json>| {
        events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
        for delta in deltas {
            events.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        events.push(json!({"type": "content_block_stop", "index": index}));
        index += 1;
    };
    if thought {
        let deltas = vec![
            json!({"type": "thinking_delta", "thinking": "hm"}),
            json!({"type": "signature_delta", "signature": "s"}),
        ];
        block(json!({"type": "thinking", "thinking": "", "signature": ""}), deltas);
    }
    let deltas = text.iter().map(|text| json!({"type": "text_delta", "text": text})).collect();
    block(json!({"type": "text", "text": ""}), deltas);
    if call {
        let pieces = ["", "{\"a\":", "1}"].map(|piece| json!({"type": "input_json_delta", "partial_json": piece}));
        block(json!({"type": "tool_use", "id": "t", "name": "f", "input": {}}), pieces.to_vec());
    }
    let reason = if call { "tool_use" } else { "end_turn" };
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 20}}));
    events.push(json!({"type": "message_stop"}));
    events.iter().map(event).collect()
}

fn feed(answer: &mut Answer, events: &[String]) -> Result<String, Misfit> {
    let mut told = String::new();
    let mut splitter = EventStream::default();
    for event in events {
        let whole = splitter.push(Bytes::copy_from_slice(event.as_bytes())).unwrap();
        answer.read(&mut splitter, &whole)?;
        while let Some(bytes) = answer.take_ready() {
            told.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }
    Ok(told)
}

fn data_of(stream: &str) -> Vec<String> {
    stream.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
}

const TEXT: [&str; 4] = ["That morning ", "it was quiet ", "in the harbour", " of the old town."];

/// The answer cut behind so many events and completed, as the client has it; `None` where it is not completed.
fn completed(thought: bool, call: bool, cut: usize) -> Option<Vec<String>> {
    let whole = message("first", thought, &TEXT, call);
    let mut answer = Answer::new(Dialect::AnthropicMessages);
    let mut told = feed(&mut answer, &whole[..cut]).unwrap();
    if answer.is_finished() {
        answer.terminate();
        while let Some(bytes) = answer.take_ready() {
            told.push_str(std::str::from_utf8(&bytes).unwrap());
        }
        return Some(data_of(&told));
    }
    let request =
        Bytes::from_static(br#"{"max_tokens":100,"messages":[{"role":"user","content":"Tell."}],"stream":true}"#);
    let plan = answer.broke(&request)?;
    let delivered = answer.seam.delivered().to_owned();
    let rest = match &plan {
        Plan::Again => {
            answer.resume(Asked::Again);
            message("second", thought, &TEXT, call)
        }
        Plan::Rest(_) => {
            answer.resume(Asked::Prefill);
            let all = TEXT.concat();
            // What was asked for lacks the white space at its end.
            let rest = &all[delivered.trim_end().len()..];
            let middle = rest.len() / 2;
            message("second", thought, &[&rest[..middle], &rest[middle..]], call)
        }
    };
    told.push_str(&feed(&mut answer, &rest).unwrap());
    assert!(answer.is_finished());
    Some(data_of(&told))
}

#[test]
fn a_message_that_breaks_anywhere_is_completed_in_anthropics_grammar() {
    for (thought, call) in [(false, false), (true, false), (false, true), (true, true)] {
        let count = message("first", thought, &TEXT, call).len();
        for cut in 1..=count {
            let at = format!("thought {thought}, call {call}, cut {cut}");
            let events = completed(thought, call, cut).unwrap_or_else(|| panic!("{at}"));
            assert_eq!(grammar::check(&events), Ok(()), "{at}: {events:#?}");
            let events: Vec<Json> = events.iter().map(|data| serde_json::from_str(data).unwrap()).collect();
            let brought =
                |name: &str| -> String { events.iter().filter_map(|event| event["delta"][name].as_str()).collect() };
            assert_eq!(brought("text"), TEXT.concat(), "{at}");
            assert_eq!(brought("partial_json"), if call { "{\"a\":1}" } else { "" }, "{at}");
            assert!(!brought("thinking").contains("hmhm"), "{at}");
            let starts = events.iter().filter(|event| event["type"] == "message_start");
            assert_eq!(
                starts.map(|event| event["message"]["id"].as_str().unwrap()).collect::<Vec<_>>(),
                ["first"],
                "{at}"
            );
        }
    }
}

/// The same as a response's stream.
fn response(id: &str, thought: bool, text: &[&str], call: bool) -> Vec<String> {
    let head = Head { id: Some(Text::plain(id)), model: Some(Text::plain("m")), created: Some(1) };
    let mut events = vec![Event::Start(head)];
    let mut block = |block: Block<'static>, pieces: &[&str]| {
        events.push(Event::Begin(block));
        events.extend(pieces.iter().map(|piece| Event::Delta(Text::plain(piece))));
        events.push(Event::End);
    };
    if thought {
        block(Block::Thought, &["h", "m"]);
    }
    block(Block::Text, text);
    if call {
        block(Block::Call { id: Text::plain("c"), name: Text::plain("f") }, &["{\"a\":", "1}"]);
    }
    let finish = if call { Finish::ToolCalls } else { Finish::Stop };
    events.extend([Event::Finish(finish), Event::Done]);
    let (mut encoder, mut out) = (Encoder::new(true), Vec::new());
    events.iter().for_each(|event| encoder.event(event, &mut Losses::default(), &mut out));
    let text = String::from_utf8(out).unwrap();
    text.split_inclusive("\n\n").map(str::to_owned).collect()
}

#[test]
fn a_response_that_breaks_anywhere_is_completed_in_openais_grammar() {
    for (thought, call) in [(false, false), (true, false), (false, true), (true, true)] {
        let whole = response("resp_first", thought, &TEXT, call);
        for cut in 1..whole.len() {
            let at = format!("thought {thought}, call {call}, cut {cut}");
            let mut answer = Answer::new(Dialect::OpenAiResponses);
            let mut told = feed(&mut answer, &whole[..cut]).unwrap();
            let request = Bytes::from_static(br#"{"input":"Tell.","stream":true}"#);
            let plan = answer.broke(&request).unwrap_or_else(|| panic!("{at}"));
            let all = TEXT.concat();
            let rest = match plan {
                Plan::Again => {
                    answer.resume(Asked::Again);
                    response("resp_second", thought, &TEXT, call)
                }
                Plan::Rest(_) => {
                    let said = answer.seam.delivered().trim_end().len();
                    answer.resume(Asked::Prefill);
                    let (rest, middle) = (&all[said..], (all.len() - said) / 2);
                    response("resp_second", thought, &[&rest[..middle], &rest[middle..]], call)
                }
            };
            told.push_str(&feed(&mut answer, &rest).unwrap());
            assert!(answer.is_finished(), "{at}");
            responses_grammar::check(&told).unwrap_or_else(|why| panic!("{at}: {why}\n{told}"));
            let last: Json = serde_json::from_str(data_of(&told).last().unwrap()).unwrap();
            assert_eq!(last["response"]["id"], "resp_first", "{at}");
            let (mut text, mut calls) = (String::new(), 0);
            for item in last["response"]["output"].as_array().unwrap() {
                let parts = item["content"].as_array().into_iter().flatten();
                text.extend(parts.filter_map(|part| part["text"].as_str()));
                calls += usize::from(item["arguments"] == "{\"a\":1}");
            }
            assert_eq!((&*text, calls), (&*all, usize::from(call)), "{at}");
        }
    }
}
