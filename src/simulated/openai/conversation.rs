//! What the messages of a request come down to.

use serde_json::Value;

use super::error::ApiError;
use crate::simulated::answer::Turn;

pub(in crate::simulated) fn wrong_type(param: &'static str, expected: &str, got: &Value) -> ApiError {
    let got = match got {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    let message = format!("Invalid type for '{param}': expected {expected}, but got {got} instead.");
    ApiError::invalid(message).param(param).code("invalid_type")
}

pub(in crate::simulated) fn flag(request: &Value, pointer: &str) -> Option<bool> {
    request.pointer(pointer)?.as_bool()
}

pub(in crate::simulated) fn turn(messages: &[Value]) -> Turn {
    let role = |message: &Value| message.get("role").and_then(Value::as_str).map(str::to_owned);
    let is = |message: &Value, roles: &[&str]| role(message).is_some_and(|role| roles.contains(&&*role));
    // The answer that was begun, if one was, with the instruction to continue it or without.
    let begun = match messages {
        [.., begun] if is(begun, &["assistant"]) => Some((begun, 1)),
        [.., begun, instruction]
            if is(begun, &["assistant"])
                && is(instruction, &["user", "system", "developer"])
                && said(instruction).to_lowercase().contains("continu") =>
        {
            Some((begun, 2))
        }
        _ => None,
    };
    if let Some((begun, last)) = begun.filter(|(begun, _)| !said(begun).is_empty()) {
        return Turn::Begun { answer: said(begun), to: Box::new(turn(&messages[..messages.len() - last])) };
    }
    let last = messages.last();
    match last.and_then(role).as_deref() {
        Some("user") => Turn::User(last.map(said).unwrap_or_default()),
        Some("tool" | "function") => Turn::ToolResult(last.map(said).unwrap_or_default()),
        _ => {
            let user = messages.iter().rev().find(|message| is(message, &["user"]));
            Turn::Other(user.map(said).unwrap_or_default())
        }
    }
}

/// Whether the last message is the assistant's, and says something.
pub(in crate::simulated) fn is_prefilled(messages: &[Value]) -> bool {
    let last = messages.last();
    last.is_some_and(|last| last.get("role").and_then(Value::as_str) == Some("assistant") && !said(last).is_empty())
}

/// The text of a message, whose content is a string or a list of parts.
pub(in crate::simulated) fn said(message: &Value) -> String {
    match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
        _ => String::new(),
    }
}
