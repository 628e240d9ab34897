//! What a chat completion request asks for.

use serde_json::Value;

use super::{ApiError, rules};
use crate::simulated::answer::{Asked, Format, Tool, ToolChoice, tokens};
use crate::simulated::openai::conversation::{flag, is_prefilled, said, turn, wrong_type};

/// Reads a request, or says what OpenAI says about it.
pub(super) fn parse(body: &[u8], refuses_prefill: bool) -> Result<Asked, ApiError> {
    let request: Value = serde_json::from_slice(body).map_err(|_| ApiError::not_json())?;
    if !request.is_object() {
        return Err(ApiError::not_json());
    }
    let model = match request.get("model") {
        Some(Value::String(model)) if !model.is_empty() => model.clone(),
        None | Some(Value::Null | Value::String(_)) => {
            return Err(ApiError::invalid("you must provide a model parameter"));
        }
        Some(other) => return Err(wrong_type("model", "a string", other)),
    };
    let messages = messages(&request)?;
    rules::check(&request, messages)?;
    if refuses_prefill && is_prefilled(messages) {
        return Err(ApiError::prefill_refused());
    }
    Ok(Asked {
        model,
        stream: flag(&request, "/stream").unwrap_or(false),
        stream_usage: flag(&request, "/stream_options/include_usage").unwrap_or(false),
        turn: turn(messages),
        tools: tools(&request),
        choice: choice(&request),
        parallel: flag(&request, "/parallel_tool_calls").unwrap_or(true),
        format: format(&request),
        reasons: reasons(&request),
        most_tokens: most_tokens(&request),
        stop: stop(&request),
        prompt_tokens: 3 + messages.iter().map(|message| 4 + tokens(&said(message))).sum::<usize>(),
    })
}

fn messages(request: &Value) -> Result<&[Value], ApiError> {
    match request.get("messages") {
        Some(Value::Array(messages)) if messages.is_empty() => Err(ApiError::invalid(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty \
             array instead.",
        )
        .param("messages")
        .code("empty_array")),
        Some(Value::Array(messages)) => Ok(messages),
        None | Some(Value::Null) => Err(ApiError::invalid("Missing required parameter: 'messages'.")
            .param("messages")
            .code("missing_required_parameter")),
        Some(other) => Err(wrong_type("messages", "an array of objects", other)),
    }
}

fn tools(request: &Value) -> Vec<Tool> {
    let list = request.get("tools").and_then(Value::as_array);
    let function = |tool: &Value| {
        let function = tool.get("function")?;
        Some(Tool {
            name: function.get("name")?.as_str()?.to_owned(),
            schema: function.get("parameters").cloned().unwrap_or_default(),
        })
    };
    list.into_iter().flatten().filter_map(function).collect()
}

fn choice(request: &Value) -> ToolChoice {
    let choice = request.get("tool_choice");
    if choice.and_then(Value::as_str) == Some("none") {
        return ToolChoice::Never;
    }
    match request.pointer("/tool_choice/function/name").and_then(Value::as_str) {
        Some(name) => ToolChoice::Named(name.to_owned()),
        None => ToolChoice::Any,
    }
}

fn most_tokens(request: &Value) -> Option<usize> {
    let most = request.get("max_completion_tokens").or_else(|| request.get("max_tokens"));
    most.and_then(Value::as_u64).and_then(|most| most.try_into().ok())
}

fn stop(request: &Value) -> Vec<String> {
    let one_or_several = match request.get("stop") {
        Some(Value::Array(several)) => several.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    one_or_several.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn reasons(request: &Value) -> bool {
    // OpenAI's way to ask for it, and OpenRouter's.
    let effort = request.get("reasoning_effort").or_else(|| request.pointer("/reasoning/effort"));
    effort.and_then(Value::as_str).is_some_and(|effort| effort != "none")
}

fn format(request: &Value) -> Format {
    match request.pointer("/response_format/type").and_then(Value::as_str) {
        Some("json_object") => Format::JsonObject,
        Some("json_schema") => {
            let schema = request.pointer("/response_format/json_schema/schema");
            Format::JsonSchema(schema.cloned().unwrap_or_default())
        }
        _ => Format::Text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::simulated::answer::Turn;

    fn refused(body: &str) -> Value {
        parse(body.as_bytes(), false).unwrap_err().body()["error"].clone()
    }

    #[test]
    fn what_is_missing_is_named() {
        for body in ["{", "", "[]", "7"] {
            let error = refused(body);
            assert_eq!(error["code"], Value::Null);
            assert!(error["message"].as_str().unwrap().starts_with("We could not parse"));
        }
        let error = refused(r#"{"messages":[]}"#);
        assert_eq!(error["message"], "you must provide a model parameter");
        let error = refused(r#"{"model":"m"}"#);
        assert_eq!(error["code"], "missing_required_parameter");
        assert_eq!(error["param"], "messages");
        assert_eq!(refused(r#"{"model":"m","messages":[]}"#)["code"], "empty_array");
        let error = refused(r#"{"model":"m","messages":"hi"}"#);
        assert_eq!(error["code"], "invalid_type");
        assert!(error["message"].as_str().unwrap().ends_with("but got a string instead."));
        assert_eq!(refused(r#"{"model":7,"messages":[]}"#)["param"], "model");
    }

    #[test]
    fn parts_and_roles() {
        let asked = |messages: Value| {
            let body = json!({"model": "m", "messages": messages}).to_string();
            parse(body.as_bytes(), false).unwrap().turn
        };
        let parts = json!([{"role": "user", "content": [
            {"type": "text", "text": "one "},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "text", "text": "two"},
        ]}]);
        assert_eq!(asked(parts), Turn::User("one two".to_owned()));
        let prefilled = json!([
            {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"},
        ]);
        let begun = || Turn::Begun { answer: "ho".to_owned(), to: Box::new(Turn::User("hi".to_owned())) };
        assert_eq!(asked(prefilled), begun());
        let instructed = |last: &str| {
            json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"},
                   {"role": "user", "content": last}])
        };
        assert_eq!(asked(instructed("Please CONTINUE where it ends.")), begun());
        assert_eq!(asked(instructed("And now?")), Turn::User("And now?".to_owned()));
        let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let tool = json!([{"role": "assistant", "content": null, "tool_calls": [call]},
                          {"role": "tool", "tool_call_id": "c", "content": "42"}]);
        assert_eq!(asked(tool), Turn::ToolResult("42".to_owned()));
        assert_eq!(asked(json!([{"role": "system", "content": "be"}])), Turn::Other(String::new()));
    }
}
