//! What of a request must survive any translation but for losses that are named.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::dialect::canonical::{
    Answer, Format, Media, Part, Raw, Request, Role, Source, Text, Tool, ToolChoice, collect,
};

/// What is said, by its name. What says nothing has no place here.
pub(super) type Essence = BTreeMap<&'static str, Json>;

/// What is not as it was, with a loss that is the reason for it.
const EXEMPTIONS: &[(&str, &[&str])] = &[
    ("system", &["json_object format", "json_schema format", "response_format beside tools"]),
    ("conversation", &["native content part", "native tool call"]),
    ("parallel_tool_calls", &["parallel_tool_calls"]),
    ("calls", &["native tool call", "malformed arguments", "tool arguments that are no object"]),
    ("results", &["tool result without its call", "tool call without its result", "native content part"]),
    ("errors", &["is_error", "tool result without its call", "tool call without its result"]),
    ("media", &["media", "media in a tool result"]),
    ("names", &["name", "media", "media in a tool result"]),
    ("tool_choice", &["native tool choice", "tool_choice", "native tool"]),
    (
        "format",
        &[
            "json_schema",
            "json_object format",
            "json_schema format",
            "response_format beside tools",
            "schema constraints",
            "description of a format",
        ],
    ),
    ("tools", &["schema constraints"]),
    ("strict", &["strict"]),
    ("reasoning", &["reasoning", "reasoning_effort"]),
    ("temperature", &["temperature", "temperature above 1", "sampling"]),
    ("top_p", &["top_p", "sampling"]),
    ("top_k", &["top_k", "sampling"]),
    ("stop", &["stop", "stop of white space"]),
    ("frequency_penalty", &["frequency_penalty"]),
    ("presence_penalty", &["presence_penalty"]),
    ("seed", &["seed"]),
    ("user", &["user"]),
    ("service_tier", &["service_tier"]),
    ("verbosity", &["verbosity"]),
    ("metadata", &["metadata"]),
    ("prompt_cache_key", &["prompt_cache_key"]),
];

/// The first thing that is not as it was and of which no loss says so.
pub(super) fn unexplained(was: &Essence, is: &Essence, losses: &[&str]) -> Option<String> {
    let names: std::collections::BTreeSet<_> = was.keys().chain(is.keys()).collect();
    names.into_iter().find_map(|name| {
        let (was, is) = (was.get(name).unwrap_or(&Json::Null), is.get(name).unwrap_or(&Json::Null));
        let reasons = EXEMPTIONS.iter().find(|(field, _)| field == name).map_or(&[][..], |(_, reasons)| *reasons);
        if was == is || means_the_same(name, was, is) || reasons.iter().any(|reason| losses.contains(reason)) {
            return None;
        }
        Some(format!("{name}: {was} became {is}, lost {losses:?}"))
    })
}

/// What another dialect puts in its own way.
fn means_the_same(name: &str, was: &Json, is: &Json) -> bool {
    match name {
        // Anthropic wants one, OpenAI's Responses no fewer than so many; a budget to think with must fit in.
        "max_output_tokens" => was.is_null() || was == 0 || (was.as_u64() < Some(16) && is.as_u64() == Some(16)),
        // A budget is told as the effort that it is enough for, and the other way round; Anthropic's do not think unless told.
        "reasoning" => was.is_object() && (is.is_object() || was["effort"] == "none"),
        // OpenAI wants one.
        "names" => {
            let kept = |names: &Json| -> Vec<Json> {
                names.as_array().into_iter().flatten().filter(|name| **name != "document.pdf").cloned().collect()
            };
            kept(was) == kept(is)
        }
        // Anthropic closes objects, and says nothing of what is not described.
        "format" | "tools" => closed(was) == closed(is),
        // Anthropic has no such promise to one request: it uses what was paid for, if there is something.
        "service_tier" => was == "priority" && is.is_null(),
        _ => false,
    }
}

/// A schema as Anthropic has it.
fn closed(schema: &Json) -> Json {
    match schema {
        Json::Object(members) => {
            let said = |(key, value): &(&String, &Json)| match &***key {
                "description" => value.as_str() != Some(""),
                "additionalProperties" => **value != json!(false),
                "properties" => **value != json!({}),
                "$schema" | "$id" => false,
                _ => true,
            };
            members.iter().filter(said).map(|(key, value)| (key.clone(), closed(value))).collect()
        }
        Json::Array(elements) => elements.iter().map(closed).collect(),
        other => other.clone(),
    }
}

fn number(raw: &Raw<'_>) -> Json {
    raw.as_str().parse::<f64>().map_or_else(|_| raw.as_str().into(), Json::from)
}

fn value(raw: &Raw<'_>) -> Json {
    serde_json::from_str(raw.as_str()).unwrap_or_else(|_| raw.as_str().into())
}

fn string(text: &Text<'_>) -> Json {
    text.decoded().into()
}

/// Arguments, or what a tool gave.
fn object_or_text(text: &str) -> Json {
    match serde_json::from_str::<Json>(text) {
        Ok(json) if json.is_object() => json,
        _ => text.into(),
    }
}

fn media(media: &Media<'_>) -> Option<Json> {
    let source = match &media.source {
        Source::Url { url, .. } => json!({"url": string(url)}),
        // The same by two names.
        Source::Inline { media_type, data } if media_type.is("audio/mp3") => {
            json!({"type": "audio/mpeg", "data": string(data)})
        }
        Source::Inline { media_type, data } => json!({"type": string(media_type), "data": string(data)}),
        // It is text to most.
        Source::Text(_) => return None,
        Source::File(raw) => json!({"file": value(raw)}),
    };
    Some(source)
}

/// One conversation, read turn by turn.
#[derive(Default)]
struct Reader {
    system: Vec<Json>,
    /// What each side says, in turn.
    said: Vec<(bool, String)>,
    /// Each call's id, with its name and arguments.
    calls: Vec<(String, Json)>,
    /// What each tool gave, by the number of its call, and whether that was an error.
    results: Vec<(Option<usize>, Json, bool)>,
    media: Vec<Json>,
    names: Vec<Json>,
}

impl Reader {
    fn say(&mut self, user: bool, text: &str) {
        // What is blank says nothing, and is refused by some; Anthropic's conversations begin with a user who says something.
        if text.trim().is_empty() || (user && text == "Please continue.") {
            return;
        }
        match self.said.last_mut().filter(|(last, _)| *last == user) {
            Some((_, said)) => said.push_str(text),
            None => self.said.push((user, text.to_owned())),
        }
    }

    fn part(&mut self, role: Role, part: &Part<'_>) {
        match part {
            Part::Text { text, .. } | Part::Refusal(text) => match role {
                Role::System | Role::Developer if text.decoded().trim().is_empty() => {}
                Role::System | Role::Developer => self.system.push(string(text)),
                Role::User | Role::Assistant => self.say(role == Role::User, &text.decoded()),
            },
            Part::Media(Media { source: Source::Text(text), .. }) => self.say(role == Role::User, &text.decoded()),
            Part::Media(one) => {
                self.names.extend(one.name.as_ref().map(string));
                self.media.extend(media(one));
            }
            Part::Call(call) => {
                let arguments = match call.arguments.as_str().trim() {
                    "" | "null" => json!({}),
                    text => object_or_text(text),
                };
                self.calls.push((call.id.decoded().into_owned(), json!([string(&call.name), arguments])));
            }
            Part::Result(result) => {
                let answered: Vec<_> = self.results.iter().filter_map(|(call, ..)| *call).collect();
                let open = |at: &usize| !answered.contains(at);
                let id = result.id.decoded();
                let name = result.name.as_ref().map(string);
                let mut numbers = 0..self.calls.len();
                let call = numbers.clone().filter(open).find(|at| !id.is_empty() && self.calls[*at].0 == *id);
                let call = call.or_else(|| {
                    numbers.find(|at| {
                        open(at) && id.is_empty() && name.as_ref().is_none_or(|name| self.calls[*at].1[0] == *name)
                    })
                });
                let mut texts = Vec::new();
                for part in &result.parts {
                    match part {
                        Part::Text { text, .. } if !text.decoded().trim().is_empty() => {
                            texts.push(text.decoded().into_owned());
                        }
                        Part::Media(_) => self.part(Role::User, part),
                        _ => {}
                    }
                }
                self.results.push((call, object_or_text(&texts.join("\n")), result.is_error));
            }
            // Bound to whoever made them.
            Part::Thought(_) | Part::Native(_) => {}
        }
    }
}

/// What a request says.
pub(super) fn of_request(request: &Request<'_>) -> Essence {
    let mut reader = Reader::default();
    for turn in &request.turns {
        turn.parts.iter().for_each(|part| reader.part(turn.role, part));
    }
    reader.results.sort_by_key(|(call, ..)| call.unwrap_or(usize::MAX));
    // To Gemini, somebody must say something.
    if reader.said.is_empty() && reader.calls.is_empty() && reader.media.is_empty() {
        let said: String = reader.system.drain(..).filter_map(|text| text.as_str().map(str::to_owned)).collect();
        reader.say(true, &said);
    }
    let mut essence = Essence::new();
    let mut say = |name: &'static str, value: Json| {
        if !value.is_null() && value != json!([]) && value != json!("") {
            essence.insert(name, value);
        }
    };
    say("system", reader.system.into());
    say("conversation", json!(reader.said));
    say("calls", reader.calls.into_iter().map(|(_, call)| call).collect());
    say("results", reader.results.iter().map(|(call, text, _)| json!([call, text])).collect());
    say("errors", reader.results.iter().enumerate().filter(|(_, (.., error))| *error).map(|(at, _)| at).collect());
    // Media of results may stand beside them instead.
    reader.media.sort_by_key(Json::to_string);
    say("media", reader.media.into());
    say("names", reader.names.into());
    let (mut tools, mut strict) = (Vec::new(), Vec::new());
    for tool in &request.tools {
        if let Tool::Function { name, description, parameters, strict: kept, .. } = tool {
            let description = description.as_ref().map(string).filter(|text| *text != json!(""));
            let nothing = json!({"type": "object", "properties": {}});
            let parameters = parameters.as_ref().map(value).filter(|schema| *schema != json!({}) && !schema.is_null());
            tools.push(json!([string(name), description, parameters.unwrap_or(nothing)]));
            strict.extend((*kept == Some(true)).then(|| string(name)));
        }
    }
    // Tools that may not be chosen need not be shown.
    let (choice, among) = match &request.tool_choice {
        None | Some(ToolChoice::Auto | ToolChoice::Native(_)) => (Json::Null, None),
        Some(ToolChoice::None) => (json!("none"), None),
        Some(ToolChoice::Required) => (json!("required"), None),
        Some(ToolChoice::Tool(name)) => (json!("required"), Some(vec![string(name)])),
        Some(ToolChoice::Among { required, names }) => {
            let choice = if *required { json!("required") } else { Json::Null };
            (choice, Some(names.iter().map(string).collect()))
        }
    };
    if let Some(among) = among {
        tools.retain(|tool: &Json| among.contains(&tool[0]));
        strict.retain(|name| among.contains(name));
    }
    // To Anthropic, what was called once must be known.
    if choice == "none" {
        tools.retain(|tool| tool[1] != Json::Null || closed(&tool[2]) != json!({"type": "object"}));
        strict.retain(|name| tools.iter().any(|tool| tool[0] == *name));
    }
    // Where none may be called, nothing is said of how.
    if choice == "none" && !tools.is_empty() {
        say("tool_choice", choice);
    } else if !tools.is_empty() {
        say("tool_choice", choice);
        say("parallel_tool_calls", request.parallel_tool_calls.filter(|parallel| !parallel).into());
    }
    say("tools", tools.into());
    say("strict", strict.into());
    say(
        "format",
        match &request.format {
            None | Some(Format::Text) => Json::Null,
            Some(Format::Json) => json!("json"),
            Some(Format::Schema { schema, .. }) => value(schema),
        },
    );
    let reasoning = request.reasoning.and_then(|reasoning| reasoning.as_effort());
    say("reasoning", reasoning.map_or(Json::Null, |effort| json!({"effort": effort.name()})));
    say("max_output_tokens", request.max_output_tokens.into());
    say("stop", request.stop.iter().map(string).collect());
    for (name, raw) in [
        ("temperature", &request.temperature),
        ("top_p", &request.top_p),
        ("top_k", &request.top_k),
        ("frequency_penalty", &request.frequency_penalty),
        ("presence_penalty", &request.presence_penalty),
        ("seed", &request.seed),
    ] {
        let usual = match name {
            "temperature" | "top_p" => 1.0,
            "seed" | "top_k" => f64::NAN,
            _ => 0.0,
        };
        say(name, raw.as_ref().map(number).filter(|value| *value != json!(usual)).into());
    }
    for (name, text) in [
        ("user", &request.user),
        ("service_tier", &request.service_tier),
        ("verbosity", &request.verbosity),
        ("prompt_cache_key", &request.prompt_cache_key),
    ] {
        // The tier that it has anyway.
        let usual = |value: &Json| name == "service_tier" && (value == "auto" || value == "default");
        say(name, text.as_ref().map(string).filter(|value| !usual(value)).into());
    }
    say("metadata", request.metadata.as_ref().map(value).filter(|map| *map != json!({})).into());
    say("stream", request.stream.then_some(true).into());
    essence
}

/// What an answer says: its text, its thoughts, its calls, why it ends and what it cost.
pub(super) fn of_answer(answer: &Answer<'_>) -> collect::Essence {
    collect::essence(answer)
}

/// What an answer says that came back otherwise than it was, where no loss says why.
pub(super) fn differs(was: &collect::Essence, is: &collect::Essence, losses: &[&str]) -> Option<String> {
    let lost = |names: &[&str]| names.iter().any(|name| losses.contains(name));
    // What a tool of the provider's own did has no place elsewhere.
    let calls = was.calls == is.calls
        || lost(&["native content part", "malformed arguments", "tool arguments that are no object"]);
    let same = [
        ("text", was.text == is.text),
        ("thoughts", was.thoughts == is.thoughts || lost(&["native content part"])),
        ("calls", calls),
        ("finish", was.finish == is.finish || lost(&["finish reason", "native content part"])),
        ("usage", usage(was) == usage(is) || was.usage.is_none()),
    ];
    let (what, _) = same.into_iter().find(|(_, same)| !same)?;
    Some(format!("{what}, lost {losses:?}:\n{was:?}\n{is:?}"))
}

/// xAI is known to say that more came from its cache than was sent.
fn usage(essence: &collect::Essence) -> Option<(u64, u64, u64)> {
    essence.usage.map(|(input, cached, output)| (input, cached.min(input), output))
}

/// Whether all calls have arguments that are an object, as those have not that were cut short.
pub(super) fn is_sound(essence: &collect::Essence) -> bool {
    essence.calls.iter().all(|(_, arguments)| arguments.is_object())
}
