//! What a messages request asks for.

use serde_json::Value;

use super::{ApiError, rules};
use crate::simulated::answer::{Asked, Format, Tool, ToolChoice, Turn, tokens};

/// Reads a request, or says what Anthropic says about it.
pub(super) fn parse(body: &[u8], refuses_prefill: bool) -> Result<Asked, ApiError> {
    let request: Value = serde_json::from_slice(body).map_err(|_| ApiError::not_json())?;
    if !request.is_object() {
        return Err(ApiError::not_json());
    }
    let model = match &request["model"] {
        Value::String(model) if !model.is_empty() => model.clone(),
        Value::Null => return Err(ApiError::invalid("model: Field required")),
        Value::String(_) => return Err(ApiError::invalid("model: String should have at least 1 character")),
        _ => return Err(ApiError::invalid("model: Input should be a valid string")),
    };
    rules::check(&request)?;
    let messages = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    if refuses_prefill && messages.last().is_some_and(|last| last["role"] == "assistant") {
        return Err(ApiError::prefill_refused());
    }
    let heard = 4 + tokens(&said(&request["system"]));
    Ok(Asked {
        model,
        stream: request["stream"].as_bool().unwrap_or(false),
        stream_usage: true,
        turn: turn(messages),
        tools: tools(&request),
        choice: choice(&request),
        parallel: request["tool_choice"]["disable_parallel_tool_use"] != true,
        format: format(&request),
        reasons: matches!(request["thinking"]["type"].as_str(), Some("enabled" | "adaptive")),
        most_tokens: request["max_tokens"].as_u64().and_then(|most| most.try_into().ok()),
        stop: strings(&request["stop_sequences"]),
        prompt_tokens: heard + messages.iter().map(|message| 4 + tokens(&said(&message["content"]))).sum::<usize>(),
    })
}

fn turn(messages: &[Value]) -> Turn {
    // The answer that was begun, if one was, with the instruction to continue it or without.
    let begun = match messages {
        [.., begun] if begun["role"] == "assistant" => Some((begun, 1)),
        [.., begun, instruction]
            if begun["role"] == "assistant"
                && instruction["role"] == "user"
                && said(&instruction["content"]).to_lowercase().contains("continu") =>
        {
            Some((begun, 2))
        }
        _ => None,
    };
    if let Some((begun, last)) = begun.filter(|(begun, _)| !said(&begun["content"]).is_empty()) {
        let to = Box::new(turn(&messages[..messages.len() - last]));
        return Turn::Begun { answer: said(&begun["content"]), to };
    }
    let user = messages.iter().rev().find(|message| message["role"] == "user");
    let content = user.map(|user| &user["content"]).unwrap_or(&Value::Null);
    let text = said(content);
    let results: Vec<&Value> = blocks(content).filter(|block| block["type"] == "tool_result").collect();
    if results.is_empty() || !text.is_empty() {
        return Turn::User(text);
    }
    Turn::ToolResult(results.into_iter().map(|result| said(&result["content"])).collect::<Vec<_>>().join(" "))
}

fn blocks(content: &Value) -> impl Iterator<Item = &Value> {
    content.as_array().into_iter().flatten()
}

/// The text of a content, which is a string or a list of blocks.
fn said(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        content => {
            blocks(content).filter(|block| block["type"] == "text").filter_map(|block| block["text"].as_str()).collect()
        }
    }
}

fn tools(request: &Value) -> Vec<Tool> {
    let read = |tool: &Value| {
        let schema = tool.get("input_schema")?.clone();
        Some(Tool { name: tool["name"].as_str()?.to_owned(), schema })
    };
    request["tools"].as_array().into_iter().flatten().filter_map(read).collect()
}

fn choice(request: &Value) -> ToolChoice {
    let choice = &request["tool_choice"];
    match (choice["type"].as_str(), choice["name"].as_str()) {
        (Some("none"), _) => ToolChoice::Never,
        (Some("tool"), Some(name)) => ToolChoice::Named(name.to_owned()),
        _ => ToolChoice::Any,
    }
}

fn format(request: &Value) -> Format {
    let format = match &request["output_config"]["format"] {
        Value::Null => &request["output_format"],
        format => format,
    };
    match format["type"].as_str() {
        Some("json_schema") => Format::JsonSchema(format["schema"].clone()),
        _ => Format::Text,
    }
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
