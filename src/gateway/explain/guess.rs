//! Which API a request is for, by its members.

use serde_json::Value;

use crate::Dialect;

/// The dialect that has members of these names; OpenAI's chat completions where nothing tells.
pub(super) fn dialect(body: &str) -> Dialect {
    let Ok(Value::Object(request)) = serde_json::from_str::<Value>(body) else { return Dialect::OpenAiChat };
    let has = |names: &[&str]| names.iter().any(|name| request.contains_key(*name));
    let tool_has = |name: &str| {
        let mut tools = request.get("tools").and_then(Value::as_array).into_iter().flatten();
        tools.any(|tool| tool.get(name).is_some())
    };
    if has(&["contents", "systemInstruction", "generationConfig"]) {
        Dialect::Gemini
    } else if has(&["input", "instructions", "previous_response_id"]) {
        Dialect::OpenAiResponses
    } else if has(&["system", "stop_sequences", "thinking", "output_config", "anthropic_version"])
        || tool_has("input_schema")
    {
        Dialect::AnthropicMessages
    } else {
        Dialect::OpenAiChat
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::recorded;

    #[test]
    fn most_requests_tell_whose_they_are() {
        for of in Dialect::ALL {
            let requests = recorded::exchanges(of.name());
            let requests: Vec<_> = requests.into_iter().filter_map(|exchange| exchange.request).collect();
            let right = requests.iter().filter(|request| dialect(&request.to_string()) == *of).count();
            eprintln!("{of}: {right} of {}", requests.len());
            // A messages request without anything of its own looks like a chat completion.
            let least = if *of == Dialect::AnthropicMessages { requests.len() / 2 } else { requests.len() * 9 / 10 };
            assert!(right >= least, "{of}: {right} of {}", requests.len());
        }
        assert_eq!(dialect("not JSON"), Dialect::OpenAiChat);
    }
}
