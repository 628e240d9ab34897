//! What a `generateContent` request asks for.

use serde_json::{Map, Value};

use super::ApiError;
use crate::simulated::answer::{Asked, Format, Tool, ToolChoice, Turn, tokens};

const ROOT: [&str; 10] = [
    "model",
    "contents",
    "systemInstruction",
    "tools",
    "toolConfig",
    "generationConfig",
    "safetySettings",
    "cachedContent",
    "labels",
    "serviceTier",
];

const SETTINGS: [&str; 21] = [
    "temperature",
    "topP",
    "topK",
    "candidateCount",
    "maxOutputTokens",
    "stopSequences",
    "seed",
    "presencePenalty",
    "frequencyPenalty",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "thinkingConfig",
    "responseLogprobs",
    "logprobs",
    "responseModalities",
    "speechConfig",
    "imageConfig",
    "mediaResolution",
    "audioTimestamp",
    "enableEnhancedCivicAnswers",
];

/// The texts of schemas, arguments and results are nobody's business but the client's.
const OPAQUE: [&str; 8] = [
    "args",
    "response",
    "parameters",
    "parametersJsonSchema",
    "responseSchema",
    "responseJsonSchema",
    "labels",
    "data",
];

/// Reads a request, or says what Google says about it.
pub(super) fn parse(model: &str, stream: bool, body: &[u8], refuses_prefill: bool) -> Result<Asked, ApiError> {
    let request: Value = serde_json::from_slice(body).map_err(|_| ApiError::not_json())?;
    let request = camel_cased(request);
    let Value::Object(root) = &request else { return Err(ApiError::not_json()) };
    only(root, &ROOT, "")?;
    let empty = Map::new();
    let settings = root.get("generationConfig").and_then(Value::as_object).unwrap_or(&empty);
    only(settings, &SETTINGS, "generation_config")?;
    let contents = contents(&request)?;
    check_calls(model, contents)?;
    check_settings(model, settings, &request)?;
    if refuses_prefill && contents.last().is_some_and(|last| role(last) == "model" && !said(last).is_empty()) {
        return Err(ApiError::prefill_refused());
    }
    let system = request.get("systemInstruction").map(said).unwrap_or_default();
    let prompt_tokens = 1 + tokens(&system) + contents.iter().map(|content| tokens(&said(content))).sum::<usize>();
    let stops = settings.get("stopSequences").and_then(Value::as_array).into_iter().flatten();
    Ok(Asked {
        model: model.to_owned(),
        stream,
        stream_usage: true,
        turn: turn(contents),
        tools: tools(&request),
        choice: choice(&request),
        parallel: true,
        format: format(settings),
        reasons: settings.get("thinkingConfig").is_some_and(|config| config["includeThoughts"] == true),
        most_tokens: settings
            .get("maxOutputTokens")
            .and_then(Value::as_u64)
            .and_then(|most| usize::try_from(most).ok()),
        stop: stops.filter_map(|stop| Some(stop.as_str()?.to_owned())).collect(),
        prompt_tokens,
    })
}

/// Names in camel case, for both are taken.
fn camel_cased(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let renamed = members.into_iter().map(|(name, value)| {
                let mut words = name.split('_');
                let mut camel = words.next().unwrap_or_default().to_owned();
                for word in words {
                    let mut chars = word.chars();
                    camel.extend(chars.next().map(|first| first.to_ascii_uppercase()));
                    camel.push_str(chars.as_str());
                }
                let value = if OPAQUE.contains(&&*camel) { value } else { camel_cased(value) };
                (camel, value)
            });
            Value::Object(renamed.collect())
        }
        Value::Array(elements) => elements.into_iter().map(camel_cased).collect(),
        other => other,
    }
}

fn only(object: &Map<String, Value>, known: &[&str], place: &str) -> Result<(), ApiError> {
    match object.keys().find(|name| !known.contains(&&***name)) {
        Some(name) => Err(ApiError::unknown_name(name, place)),
        None => Ok(()),
    }
}

/// The elements of a list, which may lack its brackets where it has one.
fn each(list: Option<&Value>) -> &[Value] {
    match list {
        Some(Value::Array(elements)) => elements,
        Some(single @ Value::Object(_)) => std::slice::from_ref(single),
        _ => &[],
    }
}

fn parts(content: &Value) -> &[Value] {
    each(content.get("parts"))
}

fn role(content: &Value) -> &str {
    content.get("role").and_then(Value::as_str).unwrap_or("user")
}

fn contents(request: &Value) -> Result<&[Value], ApiError> {
    let contents = each(request.get("contents"));
    if contents.is_empty() {
        return Err(ApiError::invalid("* GenerateContentRequest.contents: contents is not specified\n"));
    }
    for content in contents {
        if !["user", "model", "function"].contains(&role(content)) {
            return Err(ApiError::invalid("Please use a valid role: user, model."));
        }
        if parts(content).is_empty() {
            return Err(ApiError::invalid(
                "Unable to submit request because it must include at least one parts field, which describes the prompt input.",
            ));
        }
    }
    Ok(contents)
}

/// Calls and results must stand beside each other, one for one; the third generation wants its signatures back.
fn check_calls(model: &str, contents: &[Value]) -> Result<(), ApiError> {
    let count = |content: &Value, kind: &str| parts(content).iter().filter(|part| part.get(kind).is_some()).count();
    let mut before: Option<&Value> = None;
    for content in contents {
        let results = count(content, "functionResponse");
        let called = before.map_or(0, |before| count(before, "functionCall"));
        if results > 0 && called == 0 {
            return Err(ApiError::invalid(
                "Please ensure that function response turn comes immediately after a function call turn.",
            ));
        }
        if (results > 0 || called > 0) && results != called {
            return Err(ApiError::invalid(
                "Please ensure that the number of function response parts is equal to the number of function call parts \
                 of the function call turn.",
            ));
        }
        let first_call = parts(content).iter().find(|part| part.get("functionCall").is_some());
        if let Some(call) = first_call.filter(|_| model.contains("gemini-3")) {
            if call.get("thoughtSignature").is_none() {
                let name = call["functionCall"]["name"].as_str().unwrap_or_default();
                return Err(ApiError::invalid(format!(
                    "Function call is missing a thought_signature in functionCall parts. This is required for tools to \
                     work correctly, and missing thought_signature may lead to degraded model performance. Additional \
                     data, function call default_api:{name}. Please refer to \
                     https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
                )));
            }
        }
        before = Some(content);
    }
    Ok(())
}

fn check_settings(model: &str, settings: &Map<String, Value>, request: &Value) -> Result<(), ApiError> {
    if settings.get("temperature").and_then(Value::as_f64).is_some_and(|value| !(0.0..=2.0).contains(&value)) {
        return Err(ApiError::bad_request());
    }
    if settings.get("stopSequences").and_then(Value::as_array).is_some_and(|stops| stops.len() > 5) {
        return Err(ApiError::invalid("stop_sequences: at most 5 are allowed"));
    }
    let thinking = settings.get("thinkingConfig");
    if let Some(thinking) = thinking {
        let has = |name: &str| thinking.get(name).is_some();
        if has("thinkingBudget") && has("thinkingLevel") {
            return Err(ApiError::invalid("You can only set only one of thinking budget and thinking level."));
        }
        if has("thinkingLevel") && model.contains("gemini-2") {
            return Err(ApiError::unsupported_parameter());
        }
    }
    let json = settings.get("responseMimeType").is_some_and(|mime| mime == "application/json");
    let has_schema = settings.contains_key("responseSchema") || settings.contains_key("responseJsonSchema");
    if has_schema && !json {
        return Err(ApiError::invalid("Response schema is only supported with a JSON response mime type."));
    }
    if json && model.contains("gemini-2") && !tools(request).is_empty() {
        return Err(ApiError::invalid("Function calling with a response mime type: 'application/json' is unsupported"));
    }
    Ok(())
}

fn turn(contents: &[Value]) -> Turn {
    let is = |content: &Value, wanted: &str| role(content) == wanted && !said(content).is_empty();
    // The answer that was begun, if one was, with the instruction to continue it or without.
    let begun = match contents {
        [.., begun] if is(begun, "model") => Some((begun, 1)),
        [.., begun, instruction]
            if is(begun, "model")
                && is(instruction, "user")
                && said(instruction).to_lowercase().contains("continu") =>
        {
            Some((begun, 2))
        }
        _ => None,
    };
    if let Some((begun, last)) = begun {
        return Turn::Begun { answer: said(begun), to: Box::new(turn(&contents[..contents.len() - last])) };
    }
    let last = contents.last();
    let results = last.into_iter().flat_map(parts).filter_map(|part| part.get("functionResponse"));
    let results: Vec<String> = results.map(result).collect();
    match last {
        Some(_) if !results.is_empty() => Turn::ToolResult(results.concat()),
        Some(last) if role(last) == "user" => Turn::User(said(last)),
        _ => {
            let user = contents.iter().rev().find(|content| role(content) == "user");
            Turn::Other(user.map(said).unwrap_or_default())
        }
    }
}

/// What a tool said.
fn result(response: &Value) -> String {
    let response = &response["response"];
    let said = ["output", "error", "result"].iter().find_map(|name| response.get(*name)?.as_str());
    said.map_or_else(|| response.to_string(), str::to_owned)
}

/// The text of a content, but for what was only thought.
fn said(content: &Value) -> String {
    let spoken = parts(content).iter().filter(|part| part.get("thought") != Some(&Value::Bool(true)));
    spoken.filter_map(|part| part.get("text")?.as_str()).collect()
}

fn tools(request: &Value) -> Vec<Tool> {
    let functions = each(request.get("tools")).iter().flat_map(|tool| each(tool.get("functionDeclarations")));
    let function = |function: &Value| {
        let schema = function.get("parametersJsonSchema").cloned();
        let schema = schema.or_else(|| function.get("parameters").cloned().map(lower_case)).unwrap_or_default();
        Some(Tool { name: function.get("name")?.as_str()?.to_owned(), schema })
    };
    functions.filter_map(function).collect()
}

/// Google's own schema language has its types in upper case.
fn lower_case(schema: Value) -> Value {
    match schema {
        Value::Object(members) => {
            let lower = |(name, value): (String, Value)| {
                let value = match value {
                    Value::String(kind) if name == "type" => kind.to_lowercase().into(),
                    value => lower_case(value),
                };
                (name, value)
            };
            Value::Object(members.into_iter().map(lower).collect())
        }
        Value::Array(elements) => elements.into_iter().map(lower_case).collect(),
        other => other,
    }
}

fn choice(request: &Value) -> ToolChoice {
    let config = request.pointer("/toolConfig/functionCallingConfig");
    let mode = config.and_then(|config| config.get("mode")?.as_str()).unwrap_or("AUTO");
    let named = config.and_then(|config| config.get("allowedFunctionNames")?.get(0)?.as_str());
    match (mode, named) {
        ("NONE", _) => ToolChoice::Never,
        ("ANY", Some(name)) => ToolChoice::Named(name.to_owned()),
        _ => ToolChoice::Any,
    }
}

fn format(settings: &Map<String, Value>) -> Format {
    if settings.get("responseMimeType").is_none_or(|mime| mime != "application/json") {
        return Format::Text;
    }
    match (settings.get("responseJsonSchema"), settings.get("responseSchema")) {
        (Some(schema), _) => Format::JsonSchema(schema.clone()),
        (None, Some(schema)) => Format::JsonSchema(lower_case(schema.clone())),
        (None, None) => Format::JsonObject,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(model: &str, body: Value) -> String {
        let error = parse(model, false, body.to_string().as_bytes(), false).unwrap_err().body();
        error["error"]["message"].as_str().unwrap().to_owned()
    }

    #[test]
    fn what_is_wrong_is_named() {
        let user = json!({"role": "user", "parts": [{"text": "Hi"}]});
        let call = json!({"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]});
        let result = json!({"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]});
        for (model, body, expected) in [
            ("m", json!([]), "Expected an object"),
            ("m", json!({}), "contents is not specified"),
            ("m", json!({"contents": [{"role": "system", "parts": [{"text": "x"}]}]}), "valid role"),
            ("m", json!({"contents": [{"parts": []}]}), "at least one parts field"),
            ("m", json!({"contents": [user], "stream": true}), "Unknown name \"stream\": Cannot find field"),
            ("m", json!({"contents": [user], "generationConfig": {"n": 1}}), "\"n\" at 'generation_config'"),
            ("m", json!({"contents": [user], "generation_config": {"temperature": 3}}), "temperature value"),
            ("m", json!({"contents": [user, call, user]}), "number of function response parts"),
            ("m", json!({"contents": [user, result]}), "immediately after a function call turn"),
            ("gemini-3-pro", json!({"contents": [user, call, result]}), "missing a thought_signature"),
            (
                "gemini-2.5-pro",
                json!({"contents": [user], "tools": [{"functionDeclarations": [{"name": "f"}]}],
                    "generationConfig": {"responseMimeType": "application/json"}}),
                "is unsupported",
            ),
        ] {
            let message = refused(model, body);
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn turns_and_settings_in_either_case() {
        let body = json!({
            "system_instruction": {"parts": {"text": "Be brief"}},
            "contents": [
                {"parts": [{"text": "one "}, {"inline_data": {"mime_type": "image/png", "data": "x"}}, {"text": "two"}]},
                {"role": "model", "parts": [{"text": "Hm", "thought": true}, {"text": "ho"}]},
            ],
            "tools": {"function_declarations": [{"name": "f", "parameters": {"type": "OBJECT", "properties": {"a_b": {"type": "STRING"}}}}]},
            "tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["f"]}},
            "generation_config": {"max_output_tokens": 7, "stop_sequences": ["x"], "thinking_config": {"include_thoughts": true}},
        });
        let request = parse("m", true, body.to_string().as_bytes(), false).unwrap();
        let begun = Turn::Begun { answer: "ho".to_owned(), to: Box::new(Turn::User("one two".to_owned())) };
        assert_eq!(request.turn, begun);
        assert_eq!(request.choice, ToolChoice::Named("f".to_owned()));
        assert_eq!(request.tools[0].schema["properties"]["a_b"]["type"], "string");
        assert!(request.reasons && request.stream);
        assert_eq!((request.most_tokens, &*request.stop), (Some(7), &["x".to_owned()][..]));
        let refused = parse("m", true, body.to_string().as_bytes(), true).unwrap_err().body();
        assert!(refused["error"]["message"].as_str().unwrap().contains("does not support prefill"));
    }
}
