//! The canonical form as a messages request.

use super::translate;
use crate::{
    Dialect,
    dialect::{
        canonical::{Destination, Losses, MediaKind, Part, Request, Role, Source, Tool, ToolResult, Turn},
        json_write::{Array, Object, object},
    },
};

/// Writes a request; notes what has no place in it.
pub(crate) fn encode(request: &Request<'_>, destination: Destination<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
    if request.dialect == Dialect::AnthropicMessages {
        object(out, |body| again(request, destination, body));
    } else {
        request.note_extras(losses);
        object(out, |body| translate::write(request, destination, losses, body));
    }
}

/// Writes a request of this dialect as it was.
fn again(request: &Request<'_>, destination: Destination<'_>, body: &mut Object<'_>) {
    match (destination.model, &request.model) {
        (Some(model), _) => body.literal("model", model),
        (None, model) => body.maybe_text("model", model.as_ref()),
    }
    if let Some(most) = request.max_output_tokens {
        body.number("max_tokens", most);
    }
    let mut turns = &*request.turns;
    if let [system, rest @ ..] = turns {
        if system.role == Role::System && system.extras.is_empty() {
            content(body, "system", system);
            turns = rest;
        }
    }
    if request.extras.get("messages").is_none() {
        body.array("messages", |messages| turns.iter().for_each(|turn| messages.object(|item| message(item, turn))));
    }
    if !request.tools.is_empty() {
        body.array("tools", |tools| request.tools.iter().for_each(|tool| own_tool(tools, tool)));
    }
    if !request.stop.is_empty() {
        body.array("stop_sequences", |stops| request.stop.iter().for_each(|stop| stops.text(stop)));
    }
    body.maybe_raw("temperature", request.temperature.as_ref());
    body.maybe_raw("top_p", request.top_p.as_ref());
    body.maybe_raw("top_k", request.top_k.as_ref());
    if request.stream {
        body.bool("stream", true);
    }
    body.extras(&request.own);
    own_extras(body, request);
}

/// What stands among the members as they were is not written twice.
fn own_extras(body: &mut Object<'_>, request: &Request<'_>) {
    for (key, value) in request.extras.iter() {
        if request.own.get(key.as_escaped()).is_none() {
            body.raw(&key.decoded(), value);
        }
    }
}

fn message(message: &mut Object<'_>, turn: &Turn<'_>) {
    if turn.extras.get("role").is_none() {
        message.string(
            "role",
            match turn.role {
                Role::System | Role::Developer => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
            },
        );
    }
    if turn.extras.get("content").is_none() {
        content(message, "content", turn);
    }
    message.extras(&turn.extras);
}

fn content(object: &mut Object<'_>, key: &str, turn: &Turn<'_>) {
    match &*turn.parts {
        [Part::Text { text, .. }] if turn.bare => object.text(key, text),
        parts => object.array(key, |list| parts.iter().for_each(|part| own_part(list, part))),
    }
}

/// Writes a block of this dialect as it was.
pub(in crate::dialect::anthropic_messages) fn own_part(list: &mut Array<'_>, part: &Part<'_>) {
    match part {
        Part::Text { text, extras } => list.object(|block| {
            block.string("type", "text");
            block.text("text", text);
            block.extras(extras);
        }),
        Part::Media(media) => list.object(|block| {
            block.string("type", if media.kind == MediaKind::Image { "image" } else { "document" });
            block.object("source", |out| source(out, &media.source));
            block.maybe_text("title", media.name.as_ref());
            block.extras(&media.extras);
        }),
        Part::Call(call) => list.object(|block| {
            block.string("type", "tool_use");
            block.text("id", &call.id);
            block.text("name", &call.name);
            block.raw("input", &call.arguments);
            block.extras(&call.extras);
        }),
        Part::Result(result) => list.object(|block| own_result(block, result)),
        Part::Thought(thought) => match &thought.native {
            Some(raw) => list.raw(raw),
            None => list.object(|block| {
                block.string("type", "thinking");
                block.text("thinking", &thought.text);
                block.maybe_text("signature", thought.signature.as_ref());
            }),
        },
        Part::Native(raw) => list.raw(raw),
        // There are none in this dialect.
        Part::Refusal(text) => list.object(|block| {
            block.string("type", "text");
            block.text("text", text);
        }),
    }
}

fn own_result(block: &mut Object<'_>, result: &ToolResult<'_>) {
    block.string("type", "tool_result");
    block.text("tool_use_id", &result.id);
    match &*result.parts {
        [] => {}
        [Part::Text { text, .. }] if result.bare => block.text("content", text),
        parts => block.array("content", |list| parts.iter().for_each(|part| own_part(list, part))),
    }
    if result.is_error {
        block.bool("is_error", true);
    }
    block.extras(&result.extras);
}

/// Writes where a medium is.
pub(super) fn source(out: &mut Object<'_>, source: &Source<'_>) {
    match source {
        Source::Url { url, .. } => {
            out.string("type", "url");
            out.text("url", url);
        }
        Source::Inline { media_type, data } => {
            out.string("type", "base64");
            // The wrong name is common, and refused.
            match media_type.as_escaped() {
                "image/jpg" => out.string("media_type", "image/jpeg"),
                _ => out.text("media_type", media_type),
            }
            out.text("data", data);
        }
        Source::Text(text) => {
            out.string("type", "text");
            out.string("media_type", "text/plain");
            out.text("data", text);
        }
        Source::File(id) => {
            out.string("type", "file");
            out.raw("file_id", id);
        }
    }
}

fn own_tool(list: &mut Array<'_>, tool: &Tool<'_>) {
    match tool {
        Tool::Function { name, description, parameters, strict, extras, .. } => list.object(|item| {
            item.text("name", name);
            item.maybe_text("description", description.as_ref());
            item.maybe_raw("input_schema", parameters.as_ref());
            strict.iter().for_each(|strict| item.bool("strict", *strict));
            item.extras(extras);
        }),
        Tool::Native(raw) => list.raw(raw),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::{
        Capabilities,
        dialect::{anthropic_messages::request::decode::decode, openai_chat, recorded},
    };

    fn again(body: &Json) -> Json {
        let text = body.to_string();
        let request = decode(&text).unwrap();
        let (mut losses, mut out) = (Losses::default(), Vec::new());
        let capabilities = Capabilities::new();
        encode(
            &request,
            Destination { model: None, capabilities: &capabilities, variant: Default::default() },
            &mut losses,
            &mut out,
        );
        assert!(losses.is_empty(), "{losses:?}");
        serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)))
    }

    /// What is said in two ways and comes back as one of them.
    fn defaults(body: &Json) -> Json {
        let mut body = recorded::without_nothing(body);
        let members = body.as_object_mut().unwrap();
        if members.get("stream") == Some(&Json::Bool(false)) {
            members.remove("stream");
        }
        for tool in members.get_mut("tools").and_then(Json::as_array_mut).into_iter().flatten() {
            let tool = tool.as_object_mut().unwrap();
            if tool.get("type") == Some(&"custom".into()) {
                tool.remove("type");
            }
        }
        for message in members.get_mut("messages").and_then(Json::as_array_mut).into_iter().flatten() {
            let Some(message) = message.as_object_mut() else { continue };
            for block in message.get_mut("content").and_then(Json::as_array_mut).into_iter().flatten() {
                let Some(block) = block.as_object_mut() else { continue };
                if block.get("is_error") == Some(&Json::Bool(false)) {
                    block.remove("is_error");
                }
            }
        }
        body
    }

    #[test]
    fn every_recorded_request_comes_back_as_it_was() {
        let mut compared = 0;
        for exchange in recorded::exchanges("anthropic-messages") {
            let Some(body) = exchange.request else { continue };
            assert_eq!(defaults(&again(&body)), defaults(&body), "{}", exchange.file);
            compared += 1;
        }
        eprintln!("{compared} requests compared");
    }

    #[test]
    fn what_a_request_may_say_comes_back() {
        let body = json!({
            "model": "claude-opus-4-5", "max_tokens": 100,
            "system": [{"type": "text", "text": "Be \"brief\"\n", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
                    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}, "title": "t",
                        "context": "c", "citations": {"enabled": true}},
                    {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "y"}]}},
                    {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
                    {"type": "container_upload", "file_id": "file_2"},
                ]},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                    {"type": "redacted_thinking", "data": "ZGF0YQ=="},
                    {"type": "thinking", "thinking": "hm", "signature": "c2ln", "new": 1},
                    {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": "\u{e9}"}, "caller": {"type": "direct"}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "42", "is_error": true},
                    {"type": "tool_result", "tool_use_id": "toolu_2", "content": [{"type": "text", "text": "x"},
                        {"type": "search_result", "title": "t"}]},
                ]},
                {"role": "system", "content": "Later"},
                {"role": "assistant", "content": "So", "x": 1},
                {"role": "narrator", "content": "?"},
            ],
            "tools": [
                {"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": true, "cache_control": {"type": "ephemeral"}},
                {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
            ],
            "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true},
            "thinking": {"type": "enabled", "budget_tokens": 2000, "display": "omitted"},
            "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}, "task_budget": {"total": 1}},
            "metadata": {"user_id": "u", "x": 1}, "service_tier": "standard_only", "stop_sequences": ["a", "b"],
            "temperature": 0.50, "top_p": 1, "top_k": 7, "stream": true, "mcp_servers": [{"name": "m"}], "x_unknown": {"y": [1]},
        });
        assert_eq!(again(&body), body);
    }

    #[test]
    fn other_dialects_are_told_what_can_be_told() {
        let text = json!({
            "model": "claude-opus-4-5", "max_tokens": 100, "system": "S",
            "messages": [{"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": "42"}, {"type": "text", "text": "Hi"},
            ]}],
            "tools": [{"name": "f", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
            "thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}, "metadata": {"user_id": "u"},
            "stop_sequences": ["x"], "service_tier": "standard_only", "cache_control": {"type": "ephemeral"},
        })
        .to_string();
        let request = decode(&text).unwrap();
        let (mut losses, mut out) = (Losses::default(), Vec::new());
        let capabilities = Capabilities::new();
        let variant = crate::Variant::from_name("openai").unwrap();
        let destination = Destination { model: Some("\"gpt\""), capabilities: &capabilities, variant };
        openai_chat::request::encode::encode(&request, destination, &mut losses, &mut out);
        let body: Json = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            body,
            json!({
                "model": "gpt", "max_completion_tokens": 100, "stop": "x", "user": "u", "service_tier": "default",
                "messages": [{"role": "system", "content": "S"}, {"role": "tool", "tool_call_id": "t", "content": "42"},
                    {"role": "user", "content": "Hi"}],
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
                "tool_choice": "required", "parallel_tool_calls": false, "reasoning_effort": "low",
            })
        );
        assert_eq!(losses.iter().map(|loss| loss.to_string()).collect::<Vec<_>>(), ["cache_control"]);
    }

    #[test]
    fn thinking_that_is_off_stays_off_whatever_the_effort() {
        use crate::dialect::canonical::Effort;
        let effort = |body: &str| decode(body).unwrap().reasoning.unwrap().effort;
        assert_eq!(effort(r#"{"thinking":{"type":"disabled"},"output_config":{"effort":"low"}}"#), Some(Effort::None));
        assert_eq!(effort(r#"{"output_config":{"effort":"low"},"thinking":{"type":"disabled"}}"#), Some(Effort::None));
        assert_eq!(effort(r#"{"output_config":{"effort":"low"},"thinking":{"type":"adaptive"}}"#), Some(Effort::Low));
        assert_eq!(effort(r#"{"thinking":{"type":"adaptive"}}"#), Some(Effort::High));
        assert_eq!(effort(r#"{"thinking":{"type":"enabled","budget_tokens":2000}}"#), None);
    }
}
