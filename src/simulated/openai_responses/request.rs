//! What a request for a response asks for, and what is wrong with it.
//!
//! A request is looked at more closely than a chat completion's: what was translated into it is to be what the API takes.

use serde_json::{Value, json};

use crate::simulated::answer::{Asked, Format, Tool, ToolChoice, tokens};
use crate::simulated::media::is_sound_url;
use crate::simulated::openai::conversation::{flag, is_prefilled, turn, wrong_type};
use crate::simulated::openai::error::ApiError;

/// The members that a request may have.
const KNOWN: &[&str] = &[
    "background",
    "context_management",
    "conversation",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "moderation",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];

/// The least that `max_output_tokens` may be.
const LEAST_OUTPUT: u64 = 16;
/// The most characters of a call's id.
const LONGEST_ID: usize = 64;

/// A request as it was asked, and what of it the answer repeats.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) asked: Asked,
    pub(super) body: Value,
    /// Whether what was thought is to be told.
    pub(super) summary: bool,
    /// Whether it is to be given to the client in a form that only the provider reads.
    pub(super) encrypted: bool,
}

/// Reads a request, or says what OpenAI says about it.
pub(super) fn parse(body: &[u8], refuses_prefill: bool) -> Result<Request, ApiError> {
    let request: Value = serde_json::from_slice(body).map_err(|_| ApiError::not_json())?;
    let Some(members) = request.as_object() else { return Err(ApiError::not_json()) };
    if let Some(unknown) = members.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        let message = format!("Unknown parameter: '{unknown}'.");
        return Err(ApiError::invalid(message).param(unknown.clone()).code("unknown_parameter"));
    }
    let model = match request.get("model") {
        Some(Value::String(model)) if !model.is_empty() => model.clone(),
        None | Some(Value::Null | Value::String(_)) => return Err(missing("model")),
        Some(other) => return Err(wrong_type("model", "a string", other)),
    };
    let most = request.get("max_output_tokens").and_then(Value::as_u64);
    if let Some(most) = most.filter(|most| *most < LEAST_OUTPUT) {
        let message = format!(
            "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= {LEAST_OUTPUT}, but got \
             {most} instead."
        );
        return Err(ApiError::invalid(message).param("max_output_tokens").code("integer_below_min_value"));
    }
    let messages = messages(&request)?;
    if refuses_prefill && is_prefilled(&messages) {
        return Err(ApiError::prefill_refused());
    }
    let effort = request.pointer("/reasoning/effort").and_then(Value::as_str);
    let include = request.get("include").and_then(Value::as_array);
    let said = |message: &Value| tokens(message["content"].as_str().unwrap_or_default());
    let asked = Asked {
        model,
        stream: flag(&request, "/stream").unwrap_or(false),
        stream_usage: true,
        turn: turn(&messages),
        tools: tools(&request)?,
        choice: choice(&request),
        parallel: flag(&request, "/parallel_tool_calls").unwrap_or(true),
        format: format(&request)?,
        reasons: effort.is_some_and(|effort| effort != "none"),
        most_tokens: most.and_then(|most| most.try_into().ok()),
        stop: Vec::new(),
        prompt_tokens: 3 + messages.iter().map(|message| 4 + said(message)).sum::<usize>(),
    };
    Ok(Request {
        asked,
        summary: request.pointer("/reasoning/summary").is_some_and(Value::is_string),
        encrypted: include.is_some_and(|include| include.iter().any(|name| name == "reasoning.encrypted_content")),
        body: request,
    })
}

/// The input as messages, each with a role and a text; or what is wrong with it.
fn messages(request: &Value) -> Result<Vec<Value>, ApiError> {
    let items = match request.get("input") {
        Some(Value::String(text)) => return Ok(vec![json!({"role": "user", "content": text})]),
        Some(Value::Array(items)) if items.is_empty() => {
            let message = "Invalid 'input': empty array. Expected an array with minimum length 1, but got an empty array \
                           instead.";
            return Err(ApiError::invalid(message).param("input").code("empty_array"));
        }
        Some(Value::Array(items)) => items,
        None | Some(Value::Null) => return Err(missing("input")),
        Some(other) => return Err(wrong_type("input", "one of an array of objects or string", other)),
    };
    let mut calls: Vec<&str> = Vec::new();
    let mut messages = Vec::new();
    for (number, item) in items.iter().enumerate() {
        let place = format!("input[{number}]");
        let call_id = || -> Result<&str, ApiError> {
            let id = item["call_id"].as_str().ok_or_else(|| missing(&format!("{place}.call_id")))?;
            if id.is_empty() || id.len() > LONGEST_ID {
                let message = format!(
                    "Invalid '{place}.call_id': string too long. Expected a string with maximum length {LONGEST_ID}, but \
                     got a string with length {} instead.",
                    id.len()
                );
                return Err(ApiError::invalid(message)
                    .param(format!("{place}.call_id"))
                    .code("string_above_max_length"));
            }
            Ok(id)
        };
        match item["type"].as_str() {
            None | Some("message") => {
                let role = item["role"].as_str().ok_or_else(|| missing(&format!("{place}.role")))?;
                let own = if role == "assistant" { ["output_text", "refusal"] } else { ["input_text", "input_image"] };
                let text = said(item.get("content"), &own, &format!("{place}.content"))?;
                messages.push(json!({"role": role, "content": text}));
            }
            Some("function_call") => {
                calls.push(call_id()?);
                if !item["name"].is_string() || !item["arguments"].is_string() {
                    return Err(missing(&format!("{place}.arguments")));
                }
                messages.push(json!({"role": "assistant", "content": ""}));
            }
            Some("function_call_output") => {
                let id = call_id()?;
                let Some(found) = calls.iter().position(|call| *call == id) else {
                    let message = format!("No tool call found for function call output with call_id {id}.");
                    return Err(ApiError::invalid(message).param("input"));
                };
                calls.remove(found);
                let text = said(item.get("output"), &["input_text", "input_image"], &format!("{place}.output"))?;
                messages.push(json!({"role": "tool", "content": text}));
            }
            Some("reasoning" | "item_reference") => {}
            Some(kind) if kind.ends_with("_call") || kind.ends_with("_output") => {}
            Some(kind) => {
                let message = format!("Invalid value: '{kind}'.");
                return Err(ApiError::invalid(message).param(format!("{place}.type")).code("invalid_value"));
            }
        }
    }
    match calls.first() {
        Some(id) => Err(ApiError::invalid(format!("No tool output found for function call {id}.")).param("input")),
        None => Ok(messages),
    }
}

/// The text of a content, which is a string or a list of such parts, or of files.
fn said(content: Option<&Value>, own: &[&str], place: &str) -> Result<String, ApiError> {
    let parts = match content {
        Some(Value::String(text)) => return Ok(text.clone()),
        Some(Value::Array(parts)) => parts,
        _ => return Err(missing(place)),
    };
    let mut text = String::new();
    for (number, part) in parts.iter().enumerate() {
        let kind = part["type"].as_str().unwrap_or_default();
        let known = own.contains(&kind) || kind == "input_file" && own.contains(&"input_image");
        if part["image_url"].as_str().is_some_and(|url| kind == "input_image" && !is_sound_url(url)) {
            let message = "Invalid base64 image_url.";
            return Err(ApiError::invalid(message)
                .param(format!("{place}[{number}].image_url"))
                .code("invalid_base64"));
        }
        let image = kind != "input_image" || part["image_url"].is_string() || part["file_id"].is_string();
        if !known || !image {
            let names: Vec<_> = own.iter().map(|name| format!("'{name}'")).collect();
            let message = format!("Invalid value: '{kind}'. Supported values are: {}.", names.join(", "));
            return Err(ApiError::invalid(message).param(format!("{place}[{number}]")).code("invalid_value"));
        }
        text.push_str(part["text"].as_str().unwrap_or_default());
    }
    Ok(text)
}

fn tools(request: &Value) -> Result<Vec<Tool>, ApiError> {
    let list = request.get("tools").and_then(Value::as_array);
    let mut tools = Vec::new();
    for (number, tool) in list.into_iter().flatten().enumerate().filter(|(_, tool)| tool["type"] == "function") {
        let Some(name) = tool["name"].as_str() else { return Err(missing(&format!("tools[{number}].name"))) };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
            let message = format!(
                "Invalid 'tools[{number}].name': string does not match pattern. Expected a string that matches the \
                 pattern '^[a-zA-Z0-9_-]+$'."
            );
            return Err(ApiError::invalid(message).param(format!("tools[{number}].name")).code("invalid_value"));
        }
        tools.push(Tool { name: name.to_owned(), schema: tool.get("parameters").cloned().unwrap_or_default() });
    }
    Ok(tools)
}

fn choice(request: &Value) -> ToolChoice {
    match (&request["tool_choice"], request.pointer("/tool_choice/name").and_then(Value::as_str)) {
        (Value::String(choice), _) if choice == "none" => ToolChoice::Never,
        (_, Some(name)) => ToolChoice::Named(name.to_owned()),
        _ => ToolChoice::Any,
    }
}

fn format(request: &Value) -> Result<Format, ApiError> {
    let format = request.pointer("/text/format");
    match format.and_then(|format| format["type"].as_str()) {
        Some("json_object") => Ok(Format::JsonObject),
        Some("json_schema") => match format.map(|format| (&format["name"], &format["schema"])) {
            Some((Value::String(_), schema)) if schema.is_object() => Ok(Format::JsonSchema(schema.clone())),
            Some((Value::String(_), _)) => Err(missing("text.format.schema")),
            _ => Err(missing("text.format.name")),
        },
        _ => Ok(Format::Text),
    }
}

fn missing(param: &str) -> ApiError {
    let message = format!("Missing required parameter: '{param}'.");
    ApiError::invalid(message).param(param.to_owned()).code("missing_required_parameter")
}

/// Here it is a 400.
pub(super) fn model_not_found(model: &str) -> ApiError {
    ApiError::invalid(format!("The requested model '{model}' does not exist.")).param("model").code("model_not_found")
}

pub(super) fn context_length_exceeded() -> ApiError {
    ApiError::invalid("Your input exceeds the context window of this model. Please adjust your input and try again.")
        .param("input")
        .code("context_length_exceeded")
}

pub(super) fn unsupported_parameter() -> ApiError {
    ApiError::invalid("Unsupported parameter: 'temperature' is not supported with this model.")
        .param("temperature")
        .code("unsupported_parameter")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::answer::Turn;

    fn refused(body: &Value) -> Value {
        parse(body.to_string().as_bytes(), false).unwrap_err().body()["error"].clone()
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(refused(&json!({"input": "x"}))["param"], "model");
        assert_eq!(refused(&json!({"model": "m"}))["param"], "input");
        assert_eq!(refused(&json!({"model": "m", "input": []}))["code"], "empty_array");
        assert_eq!(refused(&json!({"model": "m", "input": "x", "stop": ["y"]}))["code"], "unknown_parameter");
        assert_eq!(
            refused(&json!({"model": "m", "input": "x", "max_output_tokens": 5}))["code"],
            "integer_below_min_value"
        );
        let with = |items: Value| refused(&json!({"model": "m", "input": items}));
        assert_eq!(
            with(json!([{"role": "user", "content": [{"type": "text", "text": "x"}]}]))["param"],
            "input[0].content[0]"
        );
        assert_eq!(with(json!([{"role": "assistant", "content": [{"type": "input_text"}]}]))["code"], "invalid_value");
        let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
        assert_eq!(with(json!([call]))["message"], "No tool output found for function call c.");
        let output = json!({"type": "function_call_output", "call_id": "c", "output": "x"});
        assert!(with(json!([output]))["message"].as_str().unwrap().starts_with("No tool call found"));
        let tools = json!([{"type": "function", "function": {"name": "f"}}]);
        assert_eq!(refused(&json!({"model": "m", "input": "x", "tools": tools}))["param"], "tools[0].name");
        let format = json!({"format": {"type": "json_schema", "schema": {}}});
        assert_eq!(refused(&json!({"model": "m", "input": "x", "text": format}))["param"], "text.format.name");
    }

    #[test]
    fn items_come_down_to_a_turn() {
        let turn = |input: Value| {
            let body = json!({"model": "m", "input": input}).to_string();
            parse(body.as_bytes(), false).unwrap().asked.turn
        };
        let user = || Turn::User("hi".to_owned());
        assert_eq!(turn(json!("hi")), user());
        let parts = json!([{"type": "input_text", "text": "hi"}, {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]);
        assert_eq!(turn(json!([{"role": "user", "content": parts}])), user());
        let begun = json!([{"role": "user", "content": "hi"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ho"}]}]);
        assert_eq!(turn(begun), Turn::Begun { answer: "ho".to_owned(), to: Box::new(user()) });
        let result = json!([{"role": "user", "content": "hi"}, {"type": "reasoning", "summary": []},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "42"}]);
        assert_eq!(turn(result), Turn::ToolResult("42".to_owned()));
    }
}
