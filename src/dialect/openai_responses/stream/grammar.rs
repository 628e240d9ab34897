//! Whether a text is a response's stream: its events in the order and with the numbers that the API gives them.

use serde_json::Value as Json;

/// The streams that a recording holds: some hold several, one behind the other.
pub(crate) fn streams(text: &str) -> Vec<String> {
    let mut streams: Vec<String> = Vec::new();
    for (name, data) in events(text) {
        let begins = data.contains("\"type\":\"response.created\"") || data.contains("\"type\": \"response.created\"");
        if begins || streams.is_empty() {
            streams.push(String::new());
        }
        let name = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
        streams.last_mut().unwrap().push_str(&format!("{name}data: {data}\n\n"));
    }
    streams
}

/// The name and the data of each event.
fn events(text: &str) -> Vec<(Option<String>, String)> {
    let text = text.replace("\r\n", "\n");
    let field = |event: &str, name: &str| {
        let line = event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(|value| value.trim_start().to_owned())
    };
    text.split("\n\n").filter_map(|event| Some((field(event, "event"), field(event, "data")?))).collect()
}

/// What is wrong with a stream.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let mut grammar = Grammar::default();
    for (name, data) in events(text) {
        if data == "[DONE]" {
            continue;
        }
        let event: Json = serde_json::from_str(&data).map_err(|error| format!("{error}: {data}"))?;
        let kind = event["type"].as_str().ok_or("an event without a type")?;
        if name.as_deref().is_some_and(|name| name != kind) {
            return Err(format!("{name:?} is the name of a {kind}"));
        }
        grammar.event(kind, &event).map_err(|wrong| format!("{wrong}: {data}"))?;
    }
    if grammar.over { Ok(()) } else { Err("it has no end".to_owned()) }
}

#[derive(Default)]
struct Grammar {
    sequence: u64,
    started: bool,
    over: bool,
    failed: bool,
    done: Vec<Json>,
    item: Option<Json>,
    part: Option<(u64, String)>,
    /// Whether it was told what the open part says in all.
    text_over: bool,
    /// The texts of the parts, or the arguments, of the open item.
    texts: Vec<String>,
}

impl Grammar {
    fn event(&mut self, kind: &str, event: &Json) -> Result<(), String> {
        let wrong = |why: &str| Err(why.to_owned());
        if self.over {
            return wrong("it comes behind the end");
        }
        if event["sequence_number"].as_u64() != Some(self.sequence) {
            return wrong("its number is wrong");
        }
        self.sequence += 1;
        if !self.started && kind != "response.created" {
            return wrong("the stream begins with it");
        }
        match kind {
            "response.created" => {
                self.started = true;
                return self.response(&event["response"], false);
            }
            "response.in_progress" | "response.queued" => return self.response(&event["response"], false),
            "response.completed" | "response.incomplete" => {
                self.over = true;
                if kind.strip_prefix("response.") != event["response"]["status"].as_str() {
                    return wrong("its status is another");
                }
                return self.response(&event["response"], true);
            }
            "error" => self.failed = true,
            "response.failed" => self.over = true,
            "response.output_item.added" => {
                if self.item.is_some() || event["output_index"] != self.done.len() {
                    return wrong("it is not the turn of that item");
                }
                self.item = Some(event["item"].clone());
                self.texts.clear();
            }
            _ if event.get("output_index").is_some() => return self.of_item(kind, event),
            _ => {}
        }
        Ok(())
    }

    fn of_item(&mut self, kind: &str, event: &Json) -> Result<(), String> {
        let wrong = |why: &str| Err(why.to_owned());
        let Some(item) = &self.item else { return wrong("no item is open") };
        if event["output_index"] != self.done.len() {
            return wrong("another item is open");
        }
        if event.get("item_id").is_some_and(|id| *id != item["id"]) {
            return wrong("the item's id is another");
        }
        let part = event.get("content_index").or(event.get("summary_index")).and_then(Json::as_u64);
        let text = ["text", "refusal", "arguments"].into_iter().find_map(|name| event[name].as_str());
        match kind {
            "response.output_item.done" => {
                if self.part.is_some() {
                    return wrong("a part of it is open");
                }
                let mut told = String::new();
                for part in ["content", "summary"].into_iter().flat_map(|name| event["item"][name].as_array()).flatten()
                {
                    told.push_str(part["text"].as_str().or(part["refusal"].as_str()).unwrap_or_default());
                }
                told.push_str(event["item"]["arguments"].as_str().unwrap_or_default());
                if matches!(item["type"].as_str(), Some("message" | "function_call" | "reasoning"))
                    && told != self.texts.concat()
                {
                    return wrong("it says something else than its pieces");
                }
                if item["id"] != event["item"]["id"] || item["type"] != event["item"]["type"] {
                    return wrong("it is another item");
                }
                self.done.push(event["item"].clone());
                self.item = None;
            }
            "response.content_part.added" | "response.reasoning_summary_part.added" => {
                if self.part.is_some() || part != Some(self.texts.len() as u64) {
                    return wrong("it is not the turn of that part");
                }
                self.part = Some((self.texts.len() as u64, String::new()));
                self.text_over = false;
            }
            "response.content_part.done" | "response.reasoning_summary_part.done" => {
                let Some((number, said)) = self.part.take() else { return wrong("no part is open") };
                let told = event["part"]["text"].as_str().or(event["part"]["refusal"].as_str());
                if part != Some(number) || told != Some(&said) {
                    return wrong("the part is another");
                }
                self.texts.push(said);
            }
            "response.output_text.delta"
            | "response.refusal.delta"
            | "response.reasoning_text.delta"
            | "response.reasoning_summary_text.delta" => {
                let Some((number, said)) = &mut self.part else { return wrong("no part is open") };
                if part != Some(*number) || self.text_over {
                    return wrong("another part is open, or none that says more");
                }
                said.push_str(event["delta"].as_str().ok_or("it has no text")?);
            }
            "response.output_text.done"
            | "response.refusal.done"
            | "response.reasoning_text.done"
            | "response.reasoning_summary_text.done" => {
                let again = std::mem::replace(&mut self.text_over, true);
                if again || text != self.part.as_ref().map(|(_, said)| &**said) {
                    return wrong("it says something else than its pieces");
                }
            }
            "response.function_call_arguments.delta" => {
                if self.texts.is_empty() {
                    self.texts.push(String::new());
                }
                self.texts[0].push_str(event["delta"].as_str().ok_or("it has no text")?);
            }
            // LM Studio tells them in one piece.
            "response.function_call_arguments.done" if self.texts.is_empty() => {
                self.texts.extend(text.map(str::to_owned))
            }
            "response.function_call_arguments.done" if text != Some(&self.texts.concat()) => {
                return wrong("it says something else than its pieces");
            }
            _ => {}
        }
        Ok(())
    }

    fn response(&self, response: &Json, whole: bool) -> Result<(), String> {
        for name in
            ["id", "object", "created_at", "status", "model", "output", "parallel_tool_calls", "tool_choice", "tools"]
        {
            if response[name].is_null() {
                return Err(format!("it has no {name}"));
            }
        }
        let told: Vec<_> = self.done.iter().map(essence).collect();
        let output = response["output"].as_array().map(|items| items.iter().map(essence).collect::<Vec<_>>());
        if whole && (self.item.is_some() || output != Some(told)) {
            return Err("its output is another than was told".to_owned());
        }
        Ok(())
    }
}

/// An item but for what OpenAI itself words otherwise each time: what it encrypts, and what its tools did.
fn essence(item: &Json) -> Json {
    let names = ["id", "type", "status", "role", "content", "summary", "arguments", "call_id", "name"];
    names.iter().map(|name| item[name].clone()).collect()
}
