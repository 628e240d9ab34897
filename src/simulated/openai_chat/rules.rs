//! What OpenAI refuses although it is JSON, and what it says then.

use serde_json::Value;

use super::ApiError;
use crate::simulated::media::is_sound_url;

const ROLES: [&str; 6] = ["system", "assistant", "user", "function", "tool", "developer"];

/// Checks a whole request, whose messages are these.
pub(super) fn check(request: &Value, messages: &[Value]) -> Result<(), ApiError> {
    if !request["max_tokens"].is_null() && !request["max_completion_tokens"].is_null() {
        let message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.";
        return Err(ApiError::invalid(message).code("invalid_parameter_combination"));
    }
    if let Some(stops) = request["stop"].as_array().filter(|stops| stops.len() > 4) {
        let message = format!(
            "Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length {} instead.",
            stops.len()
        );
        return Err(ApiError::invalid(message).param("stop").code("array_above_max_length"));
    }
    for (number, tool) in request["tools"].as_array().into_iter().flatten().enumerate() {
        if tool["type"] == "function" && !tool["function"]["name"].as_str().is_some_and(is_name) {
            let param = format!("tools[{number}].function.name");
            let message = format!(
                "Invalid '{param}': string does not match pattern. Expected a string that matches the pattern \
                 '^[a-zA-Z0-9_-]+$'."
            );
            return Err(ApiError::invalid(message).param(param).code("invalid_value"));
        }
    }
    let format = &request["response_format"];
    if format["type"] == "json_schema" && !format["json_schema"]["name"].as_str().is_some_and(is_name) {
        return Err(missing("response_format.json_schema.name".to_owned()));
    }
    check_messages(messages)
}

fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(is_allowed)
}

fn missing(param: String) -> ApiError {
    ApiError::invalid(format!("Missing required parameter: '{param}'.")).param(param).code("missing_required_parameter")
}

fn check_messages(messages: &[Value]) -> Result<(), ApiError> {
    // Ids of calls that wait for their results.
    let mut open: Vec<&str> = Vec::new();
    for (number, message) in messages.iter().enumerate() {
        let place = format!("messages[{number}]");
        let role = message["role"].as_str().ok_or_else(|| missing(format!("{place}.role")))?;
        if !ROLES.contains(&role) {
            let message = format!("Invalid value: '{role}'. Supported values are: {}.", listed(&ROLES));
            return Err(ApiError::invalid(message).param(format!("{place}.role")).code("invalid_value"));
        }
        if role == "tool" {
            let id = message["tool_call_id"].as_str().ok_or_else(|| missing(format!("{place}.tool_call_id")))?;
            let Some(found) = open.iter().position(|open| *open == id) else {
                let message = "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with \
                               'tool_calls'.";
                return Err(ApiError::invalid(message).param(format!("{place}.role")));
            };
            open.remove(found);
        } else {
            check_answered(&open)?;
        }
        for (call, asked) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
            let place = format!("{place}.tool_calls[{call}]");
            open.push(asked["id"].as_str().ok_or_else(|| missing(format!("{place}.id")))?);
            let function = &asked["function"];
            if asked["type"] == "function" && !(function["name"].is_string() && function["arguments"].is_string()) {
                return Err(missing(format!("{place}.function.arguments")));
            }
        }
        check_content(&message["content"], role, &place)?;
        if message["content"].is_null() && role != "assistant" {
            return Err(missing(format!("{place}.content")));
        }
    }
    check_answered(&open)
}

fn check_answered(open: &[&str]) -> Result<(), ApiError> {
    if open.is_empty() {
        return Ok(());
    }
    let message = format!(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The \
         following tool_call_ids did not have response messages: {}",
        open.join(", ")
    );
    Err(ApiError::invalid(message).param("messages"))
}

fn check_content(content: &Value, role: &str, place: &str) -> Result<(), ApiError> {
    let known: &[&str] = match role {
        "user" => &["text", "image_url", "input_audio", "file"],
        "assistant" => &["text", "refusal"],
        _ => &["text"],
    };
    for (number, part) in content.as_array().into_iter().flatten().enumerate() {
        let kind = part["type"].as_str().unwrap_or_default();
        let place = format!("{place}.content[{number}]");
        if !known.contains(&kind) {
            let message = format!("Invalid value: '{kind}'. Supported values are: {}.", listed(known));
            return Err(ApiError::invalid(message).param(place).code("invalid_value"));
        }
        if kind == "image_url" && !part["image_url"]["url"].as_str().is_some_and(is_sound_url) {
            let message = "Invalid base64 image_url.";
            return Err(ApiError::invalid(message).param(format!("{place}.image_url.url")).code("invalid_base64"));
        }
    }
    Ok(())
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(request: &Value) -> Option<String> {
        let messages = request["messages"].as_array().unwrap();
        check(request, messages).err().map(|error| error.body()["error"]["message"].as_str().unwrap().to_owned())
    }

    #[test]
    fn calls_and_their_results_belong_together() {
        let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "42"});
        let asked = json!({"role": "assistant", "content": null, "tool_calls": [call("a"), call("b")]});
        let user = json!({"role": "user", "content": "hi"});
        let of = |messages: &[&Value]| refusal(&json!({"messages": messages}));
        assert_eq!(of(&[&user, &asked, &result("b"), &result("a"), &user]), None);
        assert!(of(&[&user, &result("a")]).unwrap().contains("preceeding"));
        assert!(of(&[&user, &asked, &result("a")]).unwrap().ends_with("response messages: b"));
        assert!(of(&[&user, &asked, &user]).unwrap().ends_with("response messages: a, b"));
        assert!(of(&[&user, &asked, &result("a"), &result("a")]).unwrap().contains("preceeding"));
    }

    #[test]
    fn what_is_unsound_is_named() {
        let of = |members: Value| {
            let mut request = json!({"messages": [{"role": "user", "content": "hi"}]});
            request.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            refusal(&request)
        };
        assert_eq!(of(json!({"stop": ["a", "b", "c", "d"], "max_tokens": 1})), None);
        for (members, expected) in [
            (json!({"stop": ["a", "b", "c", "d", "e"]}), "array too long"),
            (json!({"max_tokens": 1, "max_completion_tokens": 1}), "at the same time"),
            (json!({"tools": [{"type": "function", "function": {"name": "a b"}}]}), "tools[0].function.name"),
            (json!({"response_format": {"type": "json_schema", "json_schema": {}}}), "json_schema.name"),
            (json!({"messages": [{"role": "model", "content": "hi"}]}), "Supported values are: 'system'"),
            (json!({"messages": [{"role": "user", "content": [{"type": "input_text"}]}]}), "'input_text'"),
            (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
        ] {
            let said = of(members).unwrap();
            assert!(said.contains(expected), "{said}");
        }
        let image = |url: &str| {
            of(json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}))
        };
        assert_eq!(image("data:image/png;base64,AAAA"), None);
        assert_eq!(image("data:image/png;base64,-_8=").unwrap(), "Invalid base64 image_url.");
    }
}
