//! What Anthropic refuses although it is JSON, and what it says then.

use serde_json::Value;

use super::ApiError;
use crate::simulated::media::is_base64;

/// Signs every thought; one with another signature is nobody's.
pub(super) const SIGNATURE: &str = "EqQBCgIYAhIkc2ltdWxhdGVkLXNpZ25hdHVyZQ==";

/// How long the id of a call may be.
const LONGEST_ID: usize = 64;

/// Checks a whole request.
pub(super) fn check(request: &Value) -> Result<(), ApiError> {
    let invalid = |message: &str| Err(ApiError::invalid(message));
    let most = match &request["max_tokens"] {
        Value::Null => return invalid("max_tokens: Field required"),
        most => most.as_u64().ok_or_else(|| ApiError::invalid("max_tokens: Input should be a valid integer"))?,
    };
    if let Some(temperature) = request["temperature"].as_f64() {
        if !(0.0..=1.0).contains(&temperature) {
            return Err(ApiError::bad_request());
        }
    }
    for (index, stop) in request["stop_sequences"].as_array().into_iter().flatten().enumerate() {
        if stop.as_str().is_none_or(|stop| stop.trim().is_empty()) {
            return invalid(&format!("stop_sequences.{index}: each stop sequence must contain non-whitespace"));
        }
    }
    check_tools(request)?;
    let thinking = &request["thinking"];
    if thinking["type"] == "enabled" {
        let budget = thinking["budget_tokens"].as_u64().unwrap_or(0);
        if budget < 1024 {
            return invalid("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024");
        }
        if budget >= most {
            return invalid(
                "`max_tokens` must be greater than `thinking.budget_tokens`. Please consult our documentation at \
                 https://docs.claude.com/en/docs/build-with-claude/extended-thinking#max-tokens-and-context-window-size",
            );
        }
        if request["temperature"].as_f64().is_some_and(|temperature| temperature != 1.0) {
            return invalid("`temperature` may only be set to 1 when thinking is enabled.");
        }
    }
    let thinks = matches!(thinking["type"].as_str(), Some("enabled" | "adaptive"));
    if thinks && matches!(request["tool_choice"]["type"].as_str(), Some("any" | "tool")) {
        return invalid("Thinking may not be enabled when tool_choice forces tool use.");
    }
    check_messages(request, thinking["type"] == "enabled")
}

fn check_tools(request: &Value) -> Result<(), ApiError> {
    for (index, tool) in request["tools"].as_array().into_iter().flatten().enumerate() {
        if tool["type"].as_str().is_some_and(|kind| kind != "custom") {
            continue;
        }
        let is_named = |name: &str| {
            (1..=128).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        if !tool["name"].as_str().is_some_and(is_named) {
            let message = format!("tools.{index}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'");
            return Err(ApiError::invalid(message));
        }
        if tool["input_schema"]["type"] != "object" {
            return Err(ApiError::invalid(format!("tools.{index}.custom.input_schema.type: Input should be 'object'")));
        }
    }
    Ok(())
}

fn check_messages(request: &Value, thinks: bool) -> Result<(), ApiError> {
    let messages = match &request["messages"] {
        Value::Array(messages) if messages.is_empty() => {
            return Err(ApiError::invalid("messages: at least one message is required"));
        }
        Value::Array(messages) => messages,
        Value::Null => return Err(ApiError::invalid("messages: Field required")),
        _ => return Err(ApiError::invalid("messages: Input should be a valid list")),
    };
    if messages[0]["role"] != "user" {
        return Err(ApiError::invalid("messages: first message must use the \"user\" role"));
    }
    check_blocks("system", &request["system"])?;
    // Ids of calls that wait for the results in the next message.
    let mut open: Vec<&str> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        if !matches!(role, "user" | "assistant") {
            return Err(ApiError::invalid(format!(
                "messages: Unexpected role \"{role}\". The Messages API accepts a top-level `system` parameter, not \"system\" \
                 as an input message role."
            )));
        }
        let place = format!("messages.{index}.content");
        check_blocks(&place, &message["content"])?;
        let blocks = || message["content"].as_array().into_iter().flatten();
        for (block, result) in blocks().enumerate().filter(|(_, block)| block["type"] == "tool_result") {
            let id = result["tool_use_id"].as_str().unwrap_or_default();
            match open.iter().position(|open| *open == id) {
                Some(at) => _ = open.remove(at),
                None => {
                    return Err(ApiError::invalid(format!(
                        "{place}.{block}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` \
                         block must have a corresponding `tool_use` block in the previous message."
                    )));
                }
            }
        }
        if !open.is_empty() {
            return Err(ApiError::invalid(format!(
                "messages.{}: `tool_use` ids were found without `tool_result` blocks immediately after: {}. Each `tool_use` \
                 block must have a corresponding `tool_result` block in the next message.",
                index - 1,
                open.join(", ")
            )));
        }
        open.extend(blocks().filter(|block| block["type"] == "tool_use").filter_map(|block| block["id"].as_str()));
        if thinks && role == "assistant" && !open.is_empty() && messages.len() - index <= 2 {
            let first = blocks().next().and_then(|block| block["type"].as_str()).unwrap_or_default();
            if !matches!(first, "thinking" | "redacted_thinking") {
                return Err(ApiError::invalid(format!(
                    "{place}.0.type: Expected `thinking` or `redacted_thinking`, but found `{first}`. When `thinking` is \
                     enabled, a final `assistant` message must start with a thinking block."
                )));
            }
        }
    }
    check_ending(messages)
}

fn check_ending(messages: &[Value]) -> Result<(), ApiError> {
    let Some(last) = messages.last().filter(|last| last["role"] == "assistant") else { return Ok(()) };
    let text = match &last["content"] {
        Value::String(text) => Some(&**text),
        content => content.as_array().and_then(|blocks| blocks.last()?["text"].as_str()),
    };
    if text.is_some_and(|text| text.trim_end().len() < text.len()) {
        return Err(ApiError::invalid("messages: final assistant content cannot end with trailing whitespace"));
    }
    Ok(())
}

fn check_blocks(place: &str, content: &Value) -> Result<(), ApiError> {
    if content.as_str().is_some_and(|text| text.trim().is_empty()) && place != "system" {
        return Err(ApiError::invalid(format!("{place}: text content blocks must be non-empty")));
    }
    for (index, block) in content.as_array().into_iter().flatten().enumerate() {
        check_block(&format!("{place}.{index}"), block)?;
    }
    Ok(())
}

fn check_block(place: &str, block: &Value) -> Result<(), ApiError> {
    let invalid = |message: String| Err(ApiError::invalid(message));
    match block["type"].as_str().unwrap_or_default() {
        "text" => match block["text"].as_str() {
            None => invalid(format!("{place}.text.text: Field required")),
            Some("") => invalid(format!("{place}: text content blocks must be non-empty")),
            Some(text) if text.trim().is_empty() => {
                invalid(format!("{place}: text content blocks must contain non-whitespace text"))
            }
            Some(_) => Ok(()),
        },
        "image" => {
            let source = &block["source"];
            let known = ["image/jpeg", "image/png", "image/gif", "image/webp"];
            match source["type"].as_str() {
                Some("base64") if !source["media_type"].as_str().is_some_and(|kind| known.contains(&kind)) => {
                    invalid(format!(
                        "{place}.image.source.base64.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or \
                         'image/webp'"
                    ))
                }
                Some("base64") if source["data"].as_str().is_none_or(str::is_empty) => {
                    invalid(format!("{place}.image.source.base64.data: Field required"))
                }
                Some("base64") if !source["data"].as_str().is_some_and(is_base64) => {
                    invalid(format!("{place}.image.source.base64: invalid base64 data"))
                }
                Some("base64" | "url" | "file") => Ok(()),
                _ => invalid(format!("{place}.image.source: Field required")),
            }
        }
        "tool_use" => {
            let is_valid = |id: &str| {
                let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
                (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(allowed)
            };
            if !block["id"].as_str().is_some_and(is_valid) {
                return invalid(format!("{place}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"));
            }
            if !block["input"].is_object() {
                return invalid(format!("{place}.tool_use.input: Input should be a valid dictionary"));
            }
            Ok(())
        }
        "tool_result" => check_blocks(
            &format!("{place}.tool_result.content"),
            match &block["content"] {
                // A tool may say nothing.
                Value::String(_) => &Value::Null,
                content => content,
            },
        ),
        "thinking" if block["signature"] != SIGNATURE => {
            invalid(format!("{place}: Invalid `signature` in `thinking` block"))
        }
        "" => invalid(format!("{place}.type: Field required")),
        "thinking" | "redacted_thinking" | "document" => Ok(()),
        other if other.ends_with("_tool_result") || other == "server_tool_use" || other == "search_result" => Ok(()),
        other => {
            invalid(format!("{place}: Input tag '{other}' found using 'type' does not match any of the expected tags"))
        }
    }
}
