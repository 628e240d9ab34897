//! Whether a text is a chat completion's stream: its chunks in the order and with the members that OpenAI gives them.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value as Json;

use crate::body::EventStream;

/// What is wrong with a stream.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let mut grammar = Grammar::default();
    let whole = Bytes::copy_from_slice(text.as_bytes());
    let mut events = EventStream::default();
    let mut whole = events.push(whole).map_err(|error| format!("{error:?}"))?.to_vec();
    whole.extend_from_slice(&events.finish());
    for (data, _) in EventStream::default().events(&whole) {
        let data = std::str::from_utf8(&data).map_err(|error| error.to_string())?;
        grammar.event(data).map_err(|wrong| format!("{wrong}: {data}"))?;
    }
    if grammar.over { Ok(()) } else { Err("it has no end".to_owned()) }
}

#[derive(Default)]
struct Grammar {
    id: Option<Json>,
    choices: BTreeMap<u64, Choice>,
    metered: bool,
    over: bool,
}

#[derive(Default)]
struct Choice {
    /// The arguments of each call.
    calls: Vec<String>,
    finished: bool,
}

impl Grammar {
    fn event(&mut self, data: &str) -> Result<(), String> {
        let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        must(!self.over, "behind the end")?;
        if data.trim_end() == "[DONE]" {
            self.over = true;
            must(!self.choices.is_empty(), "it says nothing")?;
            return must(self.choices.values().all(|choice| choice.finished), "over without a finish reason");
        }
        let chunk: Json = serde_json::from_str(data).map_err(|error| error.to_string())?;
        must(chunk["object"] == "chat.completion.chunk", "no chunk")?;
        must(chunk["id"].is_string() && chunk["model"].is_string(), "nobody's chunk")?;
        must(chunk["created"].is_u64(), "made at no time")?;
        let choices = chunk["choices"].as_array().ok_or("no choices")?;
        if choices.is_empty() {
            // Azure's word on the prompt comes first.
            let usage = chunk["usage"]["prompt_tokens"].is_u64() && chunk["usage"]["completion_tokens"].is_u64();
            must(usage || chunk.get("prompt_filter_results").is_some(), "a chunk that says nothing")?;
            must(!usage || self.choices.values().all(|choice| choice.finished), "usage before the end")?;
            self.metered |= usage;
            return Ok(());
        }
        must(!self.metered, "more behind the usage")?;
        must(self.id.get_or_insert_with(|| chunk["id"].clone()) == &chunk["id"], "another id")?;
        choices.iter().try_for_each(|choice| self.choice(choice))
    }

    fn choice(&mut self, said: &Json) -> Result<(), String> {
        let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        let index = said["index"].as_u64().ok_or("a choice without a number")?;
        let first = !self.choices.contains_key(&index);
        let choice = self.choices.entry(index).or_default();
        let delta = said["delta"].as_object().ok_or("no delta")?;
        must(!choice.finished, "behind the finish reason")?;
        must(!first || said["delta"]["role"] == "assistant", "a choice begins without a role")?;
        for name in ["content", "refusal", "reasoning_content"] {
            must(delta.get(name).is_none_or(|text| text.is_string() || text.is_null()), "text that is none")?;
        }
        for call in said["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let index = call["index"].as_u64().ok_or("a call without a number")? as usize;
            let head = call["id"].is_string() || call["function"]["name"].is_string();
            if index == choice.calls.len() {
                let whole = call["id"].as_str().is_some_and(|id| !id.is_empty())
                    && call["type"] == "function"
                    && call["function"]["name"].is_string();
                must(whole, "a call begins by half")?;
                choice.calls.push(String::new());
            } else {
                must(index < choice.calls.len(), "calls out of order")?;
                must(!head, "a call begins twice")?;
            }
            let arguments = call["function"]["arguments"].as_str().ok_or("a call without arguments")?;
            choice.calls[index].push_str(arguments);
        }
        match &said["finish_reason"] {
            Json::Null => return Ok(()),
            Json::String(reason) => {
                let known = ["stop", "length", "tool_calls", "content_filter", "function_call"];
                must(known.contains(&&**reason), "a finish reason that is none")?;
            }
            _ => return Err("a finish reason that is none".to_owned()),
        }
        choice.finished = true;
        Ok(())
    }
}

#[test]
fn the_grammar_is_that_of_the_recordings() {
    let (mut kept, mut broken) = (0, Vec::new());
    for exchange in crate::dialect::recorded::exchanges("openai-chat") {
        let Some(stream) = exchange.stream.filter(|_| exchange.status == 200) else { continue };
        match check(&stream) {
            Ok(()) => kept += 1,
            Err(why) => broken.push((exchange.file, why.chars().take(300).collect::<String>())),
        }
    }
    eprintln!("{kept} streams keep the grammar, {} do not", broken.len());
    // What servers that are compatible do otherwise: Azure, whose first chunk is nobody's; Mistral, which has lists of parts
    // and does not number calls; OpenRouter, with a chunk behind the last; Perplexity, without an end; Alibaba, whose calls
    // begin again with each piece.
    let known = [
        "no chunk",
        "a chunk that says nothing",
        "text that is none",
        "a call without a number",
        "a call begins by half",
        "a call begins twice",
        "a choice begins without a role",
        "behind the finish reason",
        "usage before the end",
        "it has no end",
    ];
    broken.retain(|(_, why)| !known.iter().any(|known| why.starts_with(known)));
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn what_breaks_the_grammar_is_found() {
    let chunk = |choices: &str, more: &str| {
        format!(
            "data: {{\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":{choices}{more}}}\n\n"
        )
    };
    let delta = |delta: &str| chunk(&format!(r#"[{{"index":0,"delta":{delta},"finish_reason":null}}]"#), "");
    let start = delta(r#"{"role":"assistant","content":""}"#);
    let text = delta(r#"{"content":"a"}"#);
    let head =
        delta(r#"{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":""}}]}"#);
    let tail = delta(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}"#);
    let finish = chunk(r#"[{"index":0,"delta":{},"finish_reason":"stop"}]"#, "");
    let usage = chunk("[]", r#","usage":{"prompt_tokens":1,"completion_tokens":1}"#);
    let done = "data: [DONE]\n\n".to_owned();
    for right in [
        vec![&start, &text, &finish, &done],
        vec![&start, &text, &head, &tail, &tail, &finish, &usage, &done],
        vec![&start, &finish, &done],
    ] {
        assert_eq!(check(&right.into_iter().map(String::as_str).collect::<String>()), Ok(()));
    }
    let other = text.replace("\"x\"", "\"y\"");
    for wrong in [
        vec![&start, &text, &finish],
        vec![&start, &text, &done],
        vec![&text, &finish, &done],
        vec![&start, &finish, &text, &done],
        vec![&start, &finish, &finish, &done],
        vec![&start, &finish, &done, &done],
        vec![&start, &tail, &finish, &done],
        vec![&start, &head, &head, &finish, &done],
        vec![&start, &usage, &finish, &done],
        vec![&start, &other, &finish, &done],
        vec![&done],
    ] {
        let wrong = wrong.into_iter().map(String::as_str).collect::<String>();
        assert!(check(&wrong).is_err(), "{wrong}");
    }
}
