//! A chat completion request in the canonical form.

use std::borrow::Cow;

use crate::{
    Dialect,
    dialect::{
        canonical::{
            Call, Effort, Extras, Format, Media, MediaKind, Part, Raw, Reasoning, Request, Role, Source, Text, Tool,
            ToolChoice, ToolResult, Turn,
        },
        json_scan::{Malformed, Value, root_members},
    },
};

/// Reads a request. What is not as it should be is kept as it is: the provider knows best what to say of it.
pub(crate) fn decode(body: &str) -> Result<Request<'_>, Malformed> {
    let mut request = Request::new(Dialect::OpenAiChat);
    for member in root_members(body.as_bytes())? {
        let (key, value) = member?;
        read_member(&mut request, key, &value);
    }
    Ok(request)
}

fn read_member<'a>(request: &mut Request<'a>, key: Cow<'a, str>, value: &Value<'a>) {
    if value.is_null() {
        return request.extras.keep(key, value);
    }
    match &*key {
        "model" => request.model = Text::of(value),
        "messages" => {
            request.turns = value.elements().filter_map(Result::ok).map(|message| turn(&message)).collect();
        }
        "tools" => {
            request.tools = value.elements().filter_map(Result::ok).filter_map(|tool| read_tool(&tool)).collect()
        }
        "tool_choice" => request.tool_choice = tool_choice(value),
        "parallel_tool_calls" => request.parallel_tool_calls = Some(value.is_true()),
        "response_format" => request.format = format(value),
        "reasoning_effort" => {
            let effort = value.as_str().and_then(|name| Effort::from_name(&name));
            match effort {
                Some(_) => request.reasoning = Some(Reasoning { effort, ..Reasoning::default() }),
                None => request.extras.keep(key, value),
            }
        }
        // The old name is read too, and the new one is the one that counts.
        "max_completion_tokens" => request.max_output_tokens = value.as_u64().or(request.max_output_tokens),
        "max_tokens" => request.max_output_tokens = request.max_output_tokens.or(value.as_u64()),
        "stop" => {
            request.stop = match Text::of(value) {
                Some(one) => vec![one],
                None => value.elements().filter_map(Result::ok).filter_map(|stop| Text::of(&stop)).collect(),
            }
        }
        "temperature" => request.temperature = Raw::of(value),
        "top_p" => request.top_p = Raw::of(value),
        // Not OpenAI's own, but many compatible servers'.
        "top_k" => request.top_k = Raw::of(value),
        "frequency_penalty" => request.frequency_penalty = Raw::of(value),
        "presence_penalty" => request.presence_penalty = Raw::of(value),
        "seed" => request.seed = Raw::of(value),
        "user" | "safety_identifier" => request.user = Text::of(value),
        "service_tier" => request.service_tier = Text::of(value),
        "verbosity" => request.verbosity = Text::of(value),
        "metadata" => request.metadata = Raw::of(value),
        "prompt_cache_key" => request.prompt_cache_key = Text::of(value),
        "stream" => request.stream = value.is_true(),
        "stream_options" => {
            request.include_usage = value.member("include_usage").is_some_and(|value| value.is_true());
        }
        _ => request.extras.keep(key, value),
    }
}

fn turn<'a>(message: &Value<'a>) -> Turn<'a> {
    let mut turn = Turn::new(Role::User);
    let (mut call_id, mut name, mut is_tool) = (Text::default(), None, false);
    let mut calls = Vec::new();
    let mut thought = None;
    for (key, value) in message.members().filter_map(Result::ok) {
        match &*key {
            "role" => match value.as_str().as_deref() {
                Some("system") => turn.role = Role::System,
                Some("developer") => turn.role = Role::Developer,
                Some("assistant") => turn.role = Role::Assistant,
                Some("tool") => is_tool = true,
                Some("user") => {}
                // `function`, and whatever may come: the provider knows.
                _ => turn.extras.keep(key, &value),
            },
            "content" => match Text::of(&value) {
                Some(text) => {
                    turn.bare = true;
                    turn.parts.push(Part::text(text));
                }
                None => turn.parts.extend(value.elements().filter_map(Result::ok).map(|element| part(&element))),
            },
            "tool_calls" => calls.extend(value.elements().filter_map(Result::ok).map(|element| call(&element))),
            "tool_call_id" => call_id = Text::of(&value).unwrap_or_default(),
            "name" if !value.is_null() => name = Some((key, value)),
            "refusal" if value.is_string() => turn.parts.extend(Text::of(&value).map(Part::Refusal)),
            // What DeepSeek and those like it answer, sent back to them.
            "reasoning_content" | "reasoning" if value.is_string() => {
                thought = Text::of(&value).filter(|text| !text.is_empty());
            }
            _ if value.is_null() => {}
            _ => turn.extras.keep(key, &value),
        }
    }
    if is_tool {
        let (parts, bare) = (std::mem::take(&mut turn.parts), turn.bare);
        let name = name.and_then(|(_, value)| Text::of(&value));
        let result = ToolResult { id: call_id, name, parts, bare, is_error: false, extras: Extras::default() };
        turn.parts.push(Part::Result(result));
        return turn;
    }
    if let Some((key, value)) = name {
        turn.extras.keep(key, &value);
    }
    if let Some(text) = thought {
        turn.parts.insert(0, Part::Thought(crate::dialect::canonical::Thought { text, ..Default::default() }));
    }
    turn.parts.extend(calls);
    turn
}

/// A part of a message's content.
pub(crate) fn part<'a>(value: &Value<'a>) -> Part<'a> {
    read_part(value).or_else(|| Raw::of(value).map(Part::Native)).unwrap_or_else(|| Part::text(Text::default()))
}

fn read_part<'a>(value: &Value<'a>) -> Option<Part<'a>> {
    let kind = value.member("type")?.as_str()?;
    let mut extras = Extras::default();
    let mut content = None;
    for (key, member) in value.members().filter_map(Result::ok) {
        match &*key {
            "type" => {}
            key if key == kind => content = Some(member),
            _ => extras.keep(key, &member),
        }
    }
    let content = content?;
    let media = |kind, source, name, extras| Some(Part::Media(Media { kind, source, name, extras }));
    match &*kind {
        "text" => Some(Part::Text { text: Text::of(&content)?, extras }),
        "refusal" => Some(Part::Refusal(Text::of(&content)?)),
        "image_url" => {
            let mut url = None;
            for (key, member) in content.members().filter_map(Result::ok) {
                match &*key {
                    "url" => url = Text::of(&member),
                    _ => extras.keep(key, &member),
                }
            }
            media(MediaKind::Image, source(url?), None, extras)
        }
        "input_audio" => {
            let format = content.member("format")?.as_str()?;
            let media_type = Text::plain(&format!("audio/{format}"));
            let data = Text::of(&content.member("data")?)?;
            media(MediaKind::Audio, Source::Inline { media_type, data }, None, extras)
        }
        "file" => {
            let name = content.member("filename").and_then(|name| Text::of(&name));
            let source = match content.member("file_data") {
                Some(data) => source(Text::of(&data)?),
                None => Source::File(Raw::of(&content.member("file_id")?)?),
            };
            media(MediaKind::Document, source, name, extras)
        }
        _ => None,
    }
}

/// A URL, or what a `data:` URL holds.
pub(crate) fn source(url: Text<'_>) -> Source<'_> {
    let inline = url.as_escaped().strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    match inline {
        Some((media_type, data)) => {
            Source::Inline { media_type: Text::escaped(media_type.to_owned()), data: Text::escaped(data.to_owned()) }
        }
        None => Source::Url { url, media_type: None },
    }
}

pub(crate) fn call<'a>(value: &Value<'a>) -> Part<'a> {
    let read = || {
        let function = value.member("function")?;
        let mut extras = Extras::default();
        let mut id = Text::default();
        for (key, member) in value.members().filter_map(Result::ok) {
            match &*key {
                "id" => id = Text::of(&member)?,
                "type" if member.json() == b"\"function\"" => {}
                "function" | "index" => {}
                _ => extras.keep(key, &member),
            }
        }
        let arguments = function.member("arguments").and_then(|value| Text::of(&value)).unwrap_or_default();
        let arguments = Raw::new(arguments.as_json().as_str().to_owned());
        Some(Part::Call(Call { id, name: Text::of(&function.member("name")?)?, arguments, signature: None, extras }))
    };
    read().or_else(|| Raw::of(value).map(Part::Native)).unwrap_or_else(|| Part::text(Text::default()))
}

fn read_tool<'a>(value: &Value<'a>) -> Option<Tool<'a>> {
    let native = || Raw::of(value).map(Tool::Native);
    if value.member("type").and_then(|kind| kind.as_str()).is_some_and(|kind| kind != "function") {
        return native();
    }
    let Some(function) = value.member("function") else { return native() };
    let (mut extras, mut outer) = (Extras::default(), Extras::default());
    for (key, member) in value.members().filter_map(Result::ok).filter(|(key, _)| key != "type" && key != "function") {
        outer.keep(key, &member);
    }
    let (mut name, mut description, mut parameters, mut strict) = (None, None, None, None);
    for (key, member) in function.members().filter_map(Result::ok) {
        match &*key {
            "name" => name = Text::of(&member),
            "description" => description = Text::of(&member),
            "parameters" if !member.is_null() => parameters = Raw::of(&member),
            "strict" if !member.is_null() => strict = Some(member.is_true()),
            _ => extras.keep(key, &member),
        }
    }
    match name {
        Some(name) => Some(Tool::Function { name, description, parameters, strict, extras, outer }),
        None => native(),
    }
}

fn tool_choice<'a>(value: &Value<'a>) -> Option<ToolChoice<'a>> {
    let name_of = |tool: &Value<'a>| Text::of(&tool.member("function")?.member("name")?);
    let read = || match value.as_str().as_deref() {
        Some("auto") => Some(ToolChoice::Auto),
        Some("none") => Some(ToolChoice::None),
        Some("required") => Some(ToolChoice::Required),
        Some(_) => None,
        None => match value.member("type")?.as_str()?.as_ref() {
            "function" => name_of(value).map(ToolChoice::Tool),
            "allowed_tools" => {
                let allowed = value.member("allowed_tools")?;
                let names = allowed.member("tools")?.elements().filter_map(Result::ok);
                let names = names.map(|tool| name_of(&tool)).collect::<Option<_>>()?;
                Some(ToolChoice::Among { required: allowed.member("mode")?.as_str()? == "required", names })
            }
            _ => None,
        },
    };
    read().or_else(|| Raw::of(value).map(ToolChoice::Native))
}

fn format<'a>(value: &Value<'a>) -> Option<Format<'a>> {
    match value.member("type")?.as_str()?.as_ref() {
        "text" => Some(Format::Text),
        "json_object" => Some(Format::Json),
        "json_schema" => {
            let inner = value.member("json_schema")?;
            let text = |key| inner.member(key).and_then(|value| Text::of(&value));
            Some(Format::Schema {
                name: text("name"),
                description: text("description"),
                schema: inner.member("schema").and_then(|schema| Raw::of(&schema)).unwrap_or(Raw::new("{}")),
                strict: inner.member("strict").filter(|value| !value.is_null()).map(|value| value.is_true()),
            })
        }
        _ => None,
    }
}
