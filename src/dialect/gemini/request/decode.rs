//! A `generateContent` request in the canonical form.

use std::borrow::Cow;

use crate::{
    Dialect,
    dialect::{
        canonical::{Effort, Extras, Format, Part, Raw, Reasoning, Request, Role, Text, Tool, ToolChoice, Turn},
        gemini::{
            names::{camel, each, keep_in, members},
            part::{self, MADE_UP},
            schema::to_json_schema,
        },
        json_scan::{Malformed, Value, root_members},
        json_write,
    },
};

/// Members of `generationConfig` that are kept by their own names, which no other object has.
pub(super) const SETTINGS: &[&str] = &[
    "candidateCount",
    "imageConfig",
    "logprobs",
    "mediaResolution",
    "responseLogprobs",
    "responseMimeType",
    "responseModalities",
    "responseSchema",
    "speechConfig",
    "thinkingConfig",
];

/// Reads a request. What is not as it should be is kept as it is: the provider knows best what to say of it.
pub(crate) fn decode(body: &str) -> Result<Request<'_>, Malformed> {
    let mut request = Request::new(Dialect::Gemini);
    let mut system = None;
    for member in root_members(body.as_bytes())? {
        let (key, value) = member?;
        let key = camel(key);
        match &*key {
            _ if value.is_null() => request.extras.keep(key, &value),
            "model" => request.model = Text::of(&value),
            "contents" => request.turns = each(&value).map(|content| turn(&content, Role::User)).collect(),
            "systemInstruction" if value.is_object() => system = Some(turn(&value, Role::System)),
            "tools" => each(&value).for_each(|tool| read_tool(&mut request.tools, &tool)),
            "toolConfig" => read_tool_config(&mut request, &value),
            "generationConfig" => read_settings(&mut request, &value),
            "serviceTier" => {
                request.service_tier = value.as_str().map(|tier| Text::plain(service_tier(&tier.to_ascii_lowercase())));
                request.extras.keep(key, &value);
            }
            _ => request.extras.keep(key, &value),
        }
    }
    if let Some(system) = system {
        request.turns.insert(0, system);
    }
    name_calls(&mut request);
    Ok(request)
}

/// OpenAI's word for a service tier.
fn service_tier(tier: &str) -> &str {
    if tier == "standard" { "default" } else { tier }
}

/// A content; its role is that one unless it says another.
fn turn<'a>(content: &Value<'a>, role: Role) -> Turn<'a> {
    let mut turn = Turn::new(role);
    for (key, value) in members(content) {
        match &*key {
            "role" if role == Role::User => match value.as_str().as_deref() {
                Some("user") => {}
                Some("model") => turn.role = Role::Assistant,
                // `function`, and whatever may come: the provider knows.
                _ => turn.extras.keep(key, &value),
            },
            "parts" => turn.parts = each(&value).map(|value| part::decode(&value)).collect(),
            _ => turn.extras.keep(key, &value),
        }
    }
    turn
}

/// Gives ids to calls that have none, by their order, and to results those of the calls that they answer: of the turn before,
/// the first of that name that has none yet.
fn name_calls(request: &mut Request<'_>) {
    let mut open: Vec<(Text<'_>, Text<'_>)> = Vec::new();
    let mut calls = 0;
    for turn in &mut request.turns {
        if turn.parts.iter().any(|part| matches!(part, Part::Call(_))) {
            open.clear();
        }
        for part in &mut turn.parts {
            match part {
                Part::Call(call) => {
                    calls += 1;
                    if call.id.is_empty() {
                        call.id = Text::escaped(format!("{MADE_UP}{calls}"));
                    }
                    open.push((call.name.clone(), call.id.clone()));
                }
                Part::Result(result) => {
                    let of_name = |name: &Text<'_>| result.name.as_ref().is_some_and(|own| own == name);
                    let found = match result.id.is_empty() {
                        true => open.iter().position(|(name, _)| of_name(name)),
                        false => open.iter().position(|(_, id)| *id == result.id),
                    };
                    if let Some(found) = found {
                        result.id = open.remove(found).1;
                    }
                }
                _ => {}
            }
        }
    }
}

/// Adds what one object of `tools` holds: several functions, perhaps, and tools that only Google has.
fn read_tool<'a>(tools: &mut Vec<Tool<'a>>, value: &Value<'a>) {
    let mut rest = Vec::new();
    let mut functions = false;
    for (key, member) in members(value) {
        match &*key {
            "functionDeclarations" => {
                functions = true;
                tools.extend(each(&member).filter_map(|function| read_function(&function)));
            }
            _ => rest.push((key, member)),
        }
    }
    if !functions || !rest.is_empty() {
        tools.push(Tool::Native(object_of(&rest)));
    }
}

/// An object with those members.
fn object_of<'a>(members: &[(Cow<'_, str>, Value<'_>)]) -> Raw<'a> {
    let mut out = Vec::new();
    json_write::object(&mut out, |object| {
        members.iter().for_each(|(key, value)| object.value(key, |out| out.extend_from_slice(value.json())));
    });
    // A body is UTF-8, and so are its pieces.
    Raw::new(String::from_utf8(out).unwrap_or_default())
}

fn read_function<'a>(value: &Value<'a>) -> Option<Tool<'a>> {
    let (mut name, mut description, mut parameters) = (None, None, None);
    let mut extras = Extras::default();
    for (key, member) in members(value) {
        match &*key {
            "name" => name = Text::of(&member),
            "description" => description = Text::of(&member),
            "parametersJsonSchema" if !member.is_null() => parameters = Raw::of(&member),
            "parameters" if !member.is_null() => {
                parameters = parameters.or_else(|| to_json_schema(&member));
                extras.keep(key, &member);
            }
            _ => extras.keep(key, &member),
        }
    }
    match name {
        Some(name) => {
            Some(Tool::Function { name, description, parameters, strict: None, extras, outer: Extras::default() })
        }
        None => Some(Tool::Native(object_of(&[("functionDeclarations".into(), value.clone())]))),
    }
}

fn read_tool_config<'a>(request: &mut Request<'a>, value: &Value<'a>) {
    for (key, member) in members(value) {
        match &*key {
            "functionCallingConfig" if member.is_object() => {
                request.tool_choice = tool_choice(&member);
                request.extras.keep(key, &member);
            }
            _ => keep_in(&mut request.extras, "toolConfig", &key, &member),
        }
    }
}

fn tool_choice<'a>(value: &Value<'a>) -> Option<ToolChoice<'a>> {
    let (mut mode, mut names) = (None, Vec::new());
    for (key, member) in members(value) {
        match &*key {
            "mode" => mode = member.as_str().map(|mode| mode.to_ascii_uppercase()),
            "allowedFunctionNames" => {
                names = member.elements().filter_map(Result::ok).filter_map(|name| Text::of(&name)).collect();
            }
            _ => {}
        }
    }
    let required = mode.as_deref() == Some("ANY");
    Some(match (mode.as_deref()?, names.len()) {
        ("NONE", _) => ToolChoice::None,
        ("ANY", 0) => ToolChoice::Required,
        ("ANY", 1) => ToolChoice::Tool(names.swap_remove(0)),
        ("ANY" | "AUTO" | "VALIDATED", 1..) => ToolChoice::Among { required, names },
        ("AUTO" | "VALIDATED", _) => ToolChoice::Auto,
        _ => return None,
    })
}

fn read_settings<'a>(request: &mut Request<'a>, value: &Value<'a>) {
    let (mut mime, mut json_schema, mut own_schema) = (None, None, None);
    for (key, member) in members(value) {
        let extras = &mut request.extras;
        match &*key {
            _ if member.is_null() => keep_in(extras, "generationConfig", &key, &member),
            "temperature" => request.temperature = Raw::of(&member),
            "topP" => request.top_p = Raw::of(&member),
            "topK" => request.top_k = Raw::of(&member),
            "frequencyPenalty" => request.frequency_penalty = Raw::of(&member),
            "presencePenalty" => request.presence_penalty = Raw::of(&member),
            "seed" => request.seed = Raw::of(&member),
            "maxOutputTokens" if member.as_u64().is_some() => request.max_output_tokens = member.as_u64(),
            "stopSequences" => {
                request.stop = member.elements().filter_map(Result::ok).filter_map(|stop| Text::of(&stop)).collect();
            }
            "responseMimeType" => mime = Some(member),
            "responseJsonSchema" => json_schema = Some(member),
            "responseSchema" => own_schema = Some(member),
            "thinkingConfig" => {
                request.reasoning = Some(reasoning(&member));
                extras.keep(key, &member);
            }
            name if SETTINGS.contains(&name) => extras.keep(key, &member),
            _ => keep_in(extras, "generationConfig", &key, &member),
        }
    }
    read_format(request, mime, json_schema, own_schema);
}

fn read_format<'a>(
    request: &mut Request<'a>,
    mime: Option<Value<'a>>,
    json_schema: Option<Value<'a>>,
    own_schema: Option<Value<'a>>,
) {
    let word = mime.as_ref().and_then(|mime| mime.as_str());
    let schema = match (&json_schema, &own_schema) {
        (Some(schema), _) => Raw::of(schema),
        (None, Some(schema)) => to_json_schema(schema),
        (None, None) => None,
    };
    let extras = &mut request.extras;
    match (word.as_deref(), schema) {
        (Some("application/json"), Some(schema)) => {
            request.format = Some(Format::Schema { name: None, description: None, schema, strict: None });
            own_schema.iter().for_each(|schema| extras.keep(Cow::Borrowed("responseSchema"), schema));
        }
        (Some("application/json"), None) => request.format = Some(Format::Json),
        (Some("text/plain"), None) => request.format = Some(Format::Text),
        // `text/x.enum`, and what the provider may say of the others.
        _ => {
            mime.iter().for_each(|mime| extras.keep(Cow::Borrowed("responseMimeType"), mime));
            for (name, schema) in [("responseJsonSchema", &json_schema), ("responseSchema", &own_schema)] {
                schema.iter().for_each(|schema| keep_in(extras, "generationConfig", name, schema));
            }
        }
    }
}

fn reasoning(value: &Value<'_>) -> Reasoning {
    let mut reasoning = Reasoning::default();
    for (key, member) in members(value) {
        match &*key {
            "includeThoughts" => reasoning.told = Some(member.is_true()),
            // Minus one leaves it to the model.
            "thinkingBudget" => reasoning.budget = member.as_u64(),
            "thinkingLevel" => reasoning.effort = member.as_str().and_then(|level| Effort::from_name(&level)),
            _ => {}
        }
    }
    reasoning
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::canonical::Losses;

    #[test]
    fn calls_without_ids_get_some_and_their_results_the_same() {
        let call = |name| format!(r#"{{"functionCall":{{"name":"{name}","args":{{}}}}}}"#);
        let result = |name| format!(r#"{{"functionResponse":{{"name":"{name}","response":{{}}}}}}"#);
        let body = format!(
            r#"{{"contents":[{{"role":"model","parts":[{},{},{},{{"functionCall":{{"name":"f","id":"x"}}}}]}},
                {{"role":"function","parts":[{},{},{{"functionResponse":{{"name":"f","id":"x"}}}},{},{}]}},
                {{"role":"model","parts":[{}]}},{{"parts":[{}]}}]}}"#,
            call("f"),
            call("g"),
            call("f"),
            result("g"),
            result("f"),
            result("f"),
            result("h"),
            call("f"),
            result("f"),
        );
        let request = decode(&body).unwrap();
        let ids = request.turns.iter().flat_map(|turn| &turn.parts).map(|part| match part {
            Part::Call(call) => call.id.as_escaped(),
            Part::Result(result) => result.id.as_escaped(),
            other => panic!("{other:?}"),
        });
        let made_up = |n: u32| format!("gemini_call_{n}");
        let (one, two, three, five) = (made_up(1), made_up(2), made_up(3), made_up(5));
        assert_eq!(ids.collect::<Vec<_>>(), [&one, &two, &three, "x", &two, &one, "x", &three, "", &five, &five]);
    }

    #[test]
    fn settings_are_read_in_either_case() {
        let request = decode(
            r#"{"system_instruction":{"parts":{"text":"Be brief"}},"contents":{"parts":[{"text":"Hi"}]},
            "tools":{"function_declarations":[{"name":"f","parameters":{"type":"OBJECT"}}],"google_search":{}},
            "tool_config":{"function_calling_config":{"mode":"ANY","allowed_function_names":["f"]}},
            "generation_config":{"max_output_tokens":7,"top_k":40.0,"stop_sequences":["x"],"response_mime_type":"application/json",
              "response_schema":{"type":"OBJECT"},"thinking_config":{"thinking_budget":-1,"include_thoughts":true}},
            "service_tier":"standard"}"#,
        )
        .unwrap();
        assert_eq!((request.turns[0].role, request.turns.len()), (Role::System, 2));
        let Tool::Function { parameters: Some(parameters), .. } = &request.tools[0] else { panic!() };
        assert_eq!(parameters.as_str(), r#"{"type":"object"}"#);
        assert_eq!(request.tools[1], Tool::Native(Raw::new(r#"{"googleSearch":{}}"#)));
        assert_eq!(request.tool_choice, Some(ToolChoice::Tool(Text::plain("f"))));
        assert_eq!((request.max_output_tokens, request.top_k.as_ref().unwrap().as_str()), (Some(7), "40.0"));
        let Some(Format::Schema { schema, .. }) = &request.format else { panic!() };
        assert_eq!(schema.as_str(), r#"{"type":"object"}"#);
        assert_eq!(request.reasoning, Some(Reasoning { told: Some(true), ..Reasoning::default() }));
        assert!(request.service_tier.as_ref().unwrap().is("default"));
        let mut losses = Losses::default();
        request.note_extras(&mut losses);
        assert!(losses.is_empty(), "{losses:?}");
    }

    #[test]
    fn what_nobody_else_knows_is_a_loss_by_its_name() {
        let request = decode(
            r#"{"safety_settings":[{"category":"x"}],"cachedContent":"c","toolConfig":{"retrievalConfig":{"x":1}},
            "generationConfig":{"responseModalities":["AUDIO"],"xyz":1,"responseMimeType":"text/x.enum"}}"#,
        )
        .unwrap();
        let mut losses = Losses::default();
        request.note_extras(&mut losses);
        let names: Vec<_> = losses.iter().map(|loss| loss.to_string()).collect();
        assert_eq!(
            names,
            ["cachedContent", "responseMimeType", "responseModalities", "safetySettings", "unknown member"]
        );
    }
}
