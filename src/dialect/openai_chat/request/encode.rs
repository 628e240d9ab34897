//! The canonical form as a chat completion request.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::{
    Dialect, Variant,
    dialect::{
        canonical::{
            Call, Destination, Format, Losses, Media, MediaKind, Part, Raw, Request, Role, Source, Text, Tool,
            ToolChoice, ToolResult, Turn,
        },
        json_write::{Array, Object, object},
    },
};

/// How a prompt is cached, which both APIs of OpenAI's say alike.
pub(crate) const CACHE_OPTIONS: [&str; 2] = ["prompt_cache_options", "prompt_cache_retention"];

/// Writes a request; notes what has no place in it.
pub(crate) fn encode(request: &Request<'_>, destination: Destination<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
    let own = request.dialect == Dialect::OpenAiChat;
    let shares = request.dialect == Dialect::OpenAiResponses;
    let variant = if own { None } else { Some(destination.variant) };
    // A server that knows no key for the cache knows no more of it.
    let caches = !destination.variant.refuses("prompt_cache_key");
    let is_told = |name: &str| shares && (name == "detail" || caches && CACHE_OPTIONS.contains(&name));
    if !own {
        request.note_extras_but(is_told, losses);
    }
    let mut encoder = Encoder { own, shares, caches, request, variant, losses };
    object(out, |body| encoder.body(body, destination));
}

struct Encoder<'r> {
    own: bool,
    /// Whether it comes from the other API of OpenAI's.
    shares: bool,
    /// Whether the server can be told how to cache the prompt.
    caches: bool,
    request: &'r Request<'r>,
    /// What is particular about the server, where the request is not passed on as the client put it.
    variant: Option<&'r Variant>,
    losses: &'r mut Losses,
}

impl Encoder<'_> {
    fn body(&mut self, body: &mut Object<'_>, destination: Destination<'_>) {
        let request = self.request;
        match (destination.model, &request.model) {
            (Some(model), _) => body.literal("model", model),
            (None, model) => body.maybe_text("model", model.as_ref()),
        }
        body.array("messages", |messages| {
            for turn in &request.turns {
                self.turn(messages, turn);
            }
        });
        if !request.tools.is_empty() {
            body.array("tools", |tools| request.tools.iter().for_each(|tool| self.tool(tools, tool)));
        }
        request.tool_choice.iter().for_each(|choice| self.tool_choice(body, choice));
        // Without tools OpenAI refuses it.
        let parallel = request.parallel_tool_calls.filter(|_| self.own || !request.tools.is_empty());
        if self.takes("parallel_tool_calls", parallel.is_some()) {
            parallel.into_iter().for_each(|parallel| body.bool("parallel_tool_calls", parallel));
        }
        request.format.iter().for_each(|format| self.format(body, format));
        let effort = request.reasoning.and_then(|reasoning| reasoning.as_effort());
        if self.takes("reasoning_effort", effort.is_some()) {
            effort.into_iter().for_each(|effort| body.string("reasoning_effort", effort.name()));
        }
        if let Some(most) = request.max_output_tokens {
            let new = self.variant.is_none_or(|variant| variant.new_token_limit);
            body.number(if new { "max_completion_tokens" } else { "max_tokens" }, most);
        }
        match &*request.stop {
            [] => {}
            [one] => body.text("stop", one),
            several => body.array("stop", |stops| several.iter().for_each(|stop| stops.text(stop))),
        }
        body.maybe_raw("temperature", request.temperature.as_ref());
        body.maybe_raw("top_p", request.top_p.as_ref());
        if self.own {
            body.maybe_raw("top_k", request.top_k.as_ref());
        } else {
            self.losses.note_if(request.top_k.is_some(), "top_k");
        }
        body.maybe_raw("frequency_penalty", request.frequency_penalty.as_ref());
        body.maybe_raw("presence_penalty", request.presence_penalty.as_ref());
        if self.takes("seed", request.seed.is_some()) {
            body.maybe_raw(self.variant.map_or("seed", |variant| variant.seed), request.seed.as_ref());
        }
        for (name, text) in [
            ("user", &request.user),
            ("service_tier", &request.service_tier),
            ("verbosity", &request.verbosity),
            ("prompt_cache_key", &request.prompt_cache_key),
        ] {
            if self.takes(name, text.is_some()) {
                body.maybe_text(name, text.as_ref());
            }
        }
        if self.takes("metadata", request.metadata.is_some()) {
            body.maybe_raw("metadata", request.metadata.as_ref());
        }
        if request.stream {
            body.bool("stream", true);
        }
        let refuses_options = self.variant.is_some_and(|variant| variant.refuses("stream_options"));
        if request.stream && request.include_usage && !refuses_options {
            body.object("stream_options", |options| options.bool("include_usage", true));
        }
        if self.own {
            body.extras(&request.extras);
        } else if self.shares && self.caches {
            CACHE_OPTIONS.iter().for_each(|name| body.maybe_raw(name, request.extras.get(name)));
        }
    }

    /// Whether the server takes that member; notes it as lost if it does not.
    fn takes(&mut self, member: &'static str, is_said: bool) -> bool {
        let refuses = is_said && self.variant.is_some_and(|variant| variant.refuses(member));
        self.losses.note_if(refuses, member);
        is_said && !refuses
    }

    /// A call's id, in the form that the server wants.
    fn id<'i>(&self, id: &'i Text<'_>) -> Text<'i> {
        if self.variant.is_some_and(|variant| variant.short_call_ids) { short_id(id) } else { id.borrowed() }
    }

    /// One turn, which may be several messages here: each tool's result is one of its own.
    fn turn(&mut self, messages: &mut Array<'_>, turn: &Turn<'_>) {
        let mut rest = Vec::with_capacity(turn.parts.len());
        let mut has_result = false;
        for part in &turn.parts {
            match part {
                Part::Result(result) => {
                    has_result = true;
                    self.result(messages, result);
                }
                part => rest.push(part),
            }
        }
        if !(has_result && rest.is_empty()) {
            messages.object(|message| self.message(message, turn, &rest));
        }
    }

    fn message(&mut self, message: &mut Object<'_>, turn: &Turn<'_>, parts: &[&Part<'_>]) {
        let role = match turn.role {
            Role::System => "system",
            Role::Developer if self.variant.is_some_and(|variant| !variant.developer_role) => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        if turn.extras.get("role").is_none() || !self.own {
            message.string("role", role);
        }
        let is_content = |part: &&&Part<'_>| {
            let apart = matches!(part, Part::Thought(_)) || is_call(part);
            let beside = turn.bare && turn.role == Role::Assistant && matches!(part, Part::Refusal(_));
            !(apart || beside)
        };
        let content: Vec<_> = parts.iter().filter(is_content).collect();
        match &*content {
            [] => message.null("content"),
            [Part::Text { text, .. }] if turn.bare || !self.own => message.text("content", text),
            content => message.array("content", |list| content.iter().for_each(|part| self.part(list, part))),
        }
        if parts.iter().any(|part| is_call(part)) {
            message.array("tool_calls", |list| {
                for part in parts.iter().filter(|part| is_call(part)) {
                    match part {
                        Part::Call(call) => self.call(list, call),
                        Part::Native(raw) if self.own => list.raw(raw),
                        _ => self.losses.note("native tool call"),
                    }
                }
            });
        }
        for part in parts {
            match part {
                // What a model thought is no text of its answer; only those that say it in this dialect are told it again.
                Part::Thought(thought) if self.own => message.text("reasoning_content", &thought.text),
                Part::Thought(_) => self.losses.note("reasoning of earlier turns"),
                Part::Refusal(text) if !is_content(&part) => message.text("refusal", text),
                _ => {}
            }
        }
        if self.own {
            message.extras(&turn.extras);
        }
    }

    fn part(&mut self, list: &mut Array<'_>, part: &Part<'_>) {
        match part {
            Part::Text { text, extras } => list.object(|part| {
                part.string("type", "text");
                part.text("text", text);
                if self.own {
                    part.extras(extras);
                }
            }),
            Part::Refusal(text) => list.object(|part| {
                part.string("type", "refusal");
                part.text("refusal", text);
            }),
            Part::Media(media) => self.media(list, media),
            Part::Native(raw) if self.own => list.raw(raw),
            Part::Native(_) => self.losses.note("native content part"),
            // They stand elsewhere.
            Part::Thought(_) | Part::Call(_) | Part::Result(_) => {}
        }
    }

    fn media(&mut self, list: &mut Array<'_>, media: &Media<'_>) {
        match (media.kind, &media.source) {
            (MediaKind::Image, Source::Url { .. } | Source::Inline { .. }) => list.object(|part| {
                part.string("type", "image_url");
                part.object("image_url", |image| {
                    image.value("url", |out| write_url(out, &media.source));
                    if self.own {
                        image.extras(&media.extras);
                    } else if self.shares {
                        image.maybe_raw("detail", media.extras.get("detail"));
                    }
                });
            }),
            (MediaKind::Audio, Source::Inline { media_type, data }) => list.object(|part| {
                part.string("type", "input_audio");
                part.object("input_audio", |audio| {
                    audio.text("data", data);
                    let format = media_type.as_escaped().rsplit('/').next().unwrap_or_default();
                    audio.string("format", if format == "mpeg" { "mp3" } else { format });
                });
                if self.own {
                    part.extras(&media.extras);
                }
            }),
            (MediaKind::Document, Source::Text(text)) => list.object(|part| {
                part.string("type", "text");
                part.text("text", text);
            }),
            (MediaKind::Document, Source::Inline { .. }) => list.object(|part| {
                part.string("type", "file");
                part.object("file", |file| {
                    file.value("file_data", |out| write_url(out, &media.source));
                    match &media.name {
                        Some(name) => file.text("filename", name),
                        // OpenAI wants one.
                        None if !self.own => file.string("filename", "document.pdf"),
                        None => {}
                    }
                });
                if self.own {
                    part.extras(&media.extras);
                }
            }),
            (MediaKind::Document, Source::File(id)) if self.own => list.object(|part| {
                part.string("type", "file");
                part.object("file", |file| {
                    file.raw("file_id", id);
                    file.maybe_text("filename", media.name.as_ref());
                });
                part.extras(&media.extras);
            }),
            // A filter ahead of this refuses such a request; should it be missing, this is told.
            _ => self.losses.note("media"),
        }
    }

    fn call(&mut self, list: &mut Array<'_>, call: &Call<'_>) {
        list.object(|item| {
            item.text("id", &self.id(&call.id));
            item.string("type", "function");
            item.object("function", |function| {
                function.text("name", &call.name);
                function.text("arguments", &call.arguments.quoted());
            });
            if self.own {
                item.extras(&call.extras);
            }
        });
    }

    /// A tool's result, which is text here.
    fn result(&mut self, messages: &mut Array<'_>, result: &ToolResult<'_>) {
        messages.object(|message| {
            message.string("role", "tool");
            message.text("tool_call_id", &self.id(&result.id));
            if self.own {
                message.maybe_text("name", result.name.as_ref());
            }
            match &*result.parts {
                [] => message.string("content", ""),
                [Part::Text { text, .. }] if result.bare || !self.own => message.text("content", text),
                parts => message.array("content", |list| {
                    for part in parts {
                        match part {
                            Part::Text { .. } => self.part(list, part),
                            _ if self.own => self.part(list, part),
                            _ => self.losses.note("media in a tool result"),
                        }
                    }
                }),
            }
        });
        self.losses.note_if(result.is_error, "is_error");
    }

    fn tool(&mut self, list: &mut Array<'_>, tool: &Tool<'_>) {
        match tool {
            Tool::Function { name, description, parameters, strict, extras, outer } => list.object(|item| {
                item.string("type", "function");
                item.object("function", |function| {
                    function.text("name", name);
                    function.maybe_text("description", description.as_ref());
                    function.maybe_raw("parameters", parameters.as_ref());
                    strict.iter().for_each(|strict| function.bool("strict", *strict));
                    if self.own {
                        function.extras(extras);
                    }
                });
                if self.own {
                    item.extras(outer);
                }
            }),
            Tool::Native(raw) if self.own => list.raw(raw),
            Tool::Native(_) => self.losses.note("native tool"),
        }
    }

    fn format(&mut self, body: &mut Object<'_>, format: &Format<'_>) {
        let schemas = self.variant.is_none_or(|variant| variant.json_schema);
        body.object("response_format", |object| match format {
            Format::Text => object.string("type", "text"),
            Format::Json => object.string("type", "json_object"),
            Format::Schema { .. } if !schemas => {
                self.losses.note("json_schema");
                object.string("type", "json_object");
            }
            Format::Schema { name, description, schema, strict } => {
                object.string("type", "json_schema");
                object.object("json_schema", |inner| {
                    match name {
                        Some(name) => inner.text("name", name),
                        // OpenAI wants one.
                        None => inner.string("name", "answer"),
                    }
                    inner.maybe_text("description", description.as_ref());
                    inner.raw("schema", schema);
                    strict.iter().for_each(|strict| inner.bool("strict", *strict));
                });
            }
        });
    }

    fn tool_choice(&mut self, body: &mut Object<'_>, choice: &ToolChoice<'_>) {
        let named = |choice: &mut Object<'_>, name: &Text<'_>| {
            choice.string("type", "function");
            choice.object("function", |function| function.text("name", name));
        };
        match choice {
            ToolChoice::Auto => body.string("tool_choice", "auto"),
            ToolChoice::None => body.string("tool_choice", "none"),
            ToolChoice::Required => body.string("tool_choice", "required"),
            ToolChoice::Tool(name) => body.object("tool_choice", |choice| named(choice, name)),
            ToolChoice::Among { required, names } => body.object("tool_choice", |choice| {
                choice.string("type", "allowed_tools");
                choice.object("allowed_tools", |allowed| {
                    allowed.string("mode", if *required { "required" } else { "auto" });
                    allowed.array("tools", |tools| {
                        names.iter().for_each(|name| tools.object(|tool| named(tool, name)));
                    });
                });
            }),
            ToolChoice::Native(raw) if self.own => body.raw("tool_choice", raw),
            ToolChoice::Native(_) => self.losses.note("native tool choice"),
        }
    }
}

/// Whether it is a call of a tool: parts of a message's content have no id.
fn is_call(part: &Part<'_>) -> bool {
    match part {
        Part::Call(_) => true,
        Part::Native(raw) => raw.value().is_some_and(|value| value.member("id").is_some()),
        _ => false,
    }
}

/// Nine letters or digits, the same for the same id: what Mistral takes.
fn short_id(id: &Text<'_>) -> Text<'static> {
    let mut hasher = DefaultHasher::new();
    id.as_escaped().hash(&mut hasher);
    Text::escaped(format!("{:09x}", hasher.finish() & 0xf_ffff_ffff))
}

/// A URL, or a `data:` URL with what there is.
pub(crate) fn write_url(out: &mut Vec<u8>, source: &Source<'_>) {
    match source {
        Source::Url { url, .. } => url.write(out),
        Source::Inline { media_type, data } => {
            out.extend_from_slice(b"\"data:");
            out.extend_from_slice(media_type.as_escaped().as_bytes());
            out.extend_from_slice(b";base64,");
            out.extend_from_slice(data.as_escaped().as_bytes());
            out.push(b'"');
        }
        Source::Text(text) => text.write(out),
        Source::File(id) => Raw::write(id, out),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::{
        Capabilities,
        dialect::{openai_chat::request::decode::decode, recorded},
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
        if let Some(most) = members.remove("max_tokens") {
            members.entry("max_completion_tokens").or_insert(most);
        }
        if let Some(user) = members.remove("safety_identifier") {
            members.insert("user".to_owned(), user);
        }
        if members.get("stream") == Some(&Json::Bool(false)) {
            members.remove("stream");
        }
        if members.get("stream_options").is_some_and(|options| options["include_usage"] == false) {
            members.remove("stream_options");
        }
        if members.get("stop").and_then(Json::as_array).is_some_and(|stops| stops.len() == 1) {
            members["stop"] = members["stop"][0].clone();
        }
        for tool in members.get_mut("tools").and_then(Json::as_array_mut).into_iter().flatten() {
            tool.as_object_mut().unwrap().entry("type").or_insert_with(|| "function".into());
        }
        if let Some(messages) = members.get_mut("messages").and_then(Json::as_array_mut) {
            for message in messages {
                let message = message.as_object_mut().unwrap();
                for call in message.get_mut("tool_calls").and_then(Json::as_array_mut).into_iter().flatten() {
                    call.as_object_mut().unwrap().remove("index");
                }
                message.entry("role").or_insert_with(|| "user".into());
                if let Some(reasoning) = message.remove("reasoning") {
                    message.insert("reasoning_content".to_owned(), reasoning);
                }
            }
        }
        body
    }

    #[test]
    fn every_recorded_request_comes_back_as_it_was() {
        let mut compared = 0;
        for exchange in recorded::exchanges("openai-chat") {
            let Some(body) = exchange.request.filter(|body| body.get("messages").is_some()) else { continue };
            assert_eq!(defaults(&again(&body)), defaults(&body), "{}", exchange.file);
            compared += 1;
        }
        eprintln!("{compared} requests compared");
    }

    #[test]
    fn what_a_request_may_say_comes_back() {
        let body = json!({
            "model": "gpt-4o",
            "messages": [
                {"role": "developer", "content": "Be \"brief\"\n", "name": "boss"},
                {"role": "user", "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
                    {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
                    {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}},
                    {"type": "video_url", "video_url": {"url": "https://example.org/a.mp4"}},
                ]},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": \"\\u00e9\"}"}},
                    {"id": "call_2", "type": "custom", "custom": {"name": "g", "input": "x"}},
                ]},
                {"role": "tool", "tool_call_id": "call_1", "content": "42"},
                {"role": "assistant", "content": "Sorry", "refusal": "no"},
            ],
            "tools": [
                {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true}},
                {"type": "custom", "custom": {"name": "g"}},
            ],
            "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [
                {"type": "function", "function": {"name": "f"}}]}},
            "parallel_tool_calls": false,
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": true}},
            "reasoning_effort": "low", "max_completion_tokens": 10, "stop": ["a", "b"], "temperature": 0.50, "top_p": 1,
            "seed": 14836394043272784000_u64, "stream": true, "stream_options": {"include_usage": true},
            "logit_bias": {"50256": -100}, "x_unknown": {"y": [1]},
        });
        assert_eq!(again(&body), body);
    }
}
