//! A messages request in the canonical form.

use std::borrow::Cow;

use crate::{
    Dialect,
    dialect::{
        canonical::{
            Call, Effort, Extras, Format, Media, MediaKind, Part, Raw, Reasoning, Request, Role, Source, Text, Thought,
            Tool, ToolChoice, ToolResult, Turn,
        },
        json_scan::{Malformed, Value, root_members},
    },
};

/// Reads a request. What is not as it should be is kept as it is: the provider knows best what to say of it.
pub(crate) fn decode(body: &str) -> Result<Request<'_>, Malformed> {
    let mut request = Request::new(Dialect::AnthropicMessages);
    // Every stream tells it.
    request.include_usage = true;
    let mut system = None;
    for member in root_members(body.as_bytes())? {
        let (key, value) = member?;
        match &*key {
            "system" if value.is_string() || is_list_of_objects(&value) => system = Some(system_turn(&value)),
            _ => read_member(&mut request, key, &value),
        }
    }
    if let Some(system) = system {
        request.turns.insert(0, system);
    }
    Ok(request)
}

fn read_member<'a>(request: &mut Request<'a>, key: Cow<'a, str>, value: &Value<'a>) {
    if value.is_null() {
        return request.extras.keep(key, value);
    }
    let read = match &*key {
        "model" => put(&mut request.model, Text::of(value)),
        "messages" if is_list_of_objects(value) => {
            request.turns = value.elements().filter_map(Result::ok).map(|message| turn(&message)).collect();
            true
        }
        "tools" if is_list_of_objects(value) => {
            request.tools = value.elements().filter_map(Result::ok).filter_map(|tool| read_tool(&tool)).collect();
            true
        }
        "max_tokens" => put(&mut request.max_output_tokens, value.as_u64()),
        "stop_sequences" => {
            let stops = value.elements().filter_map(Result::ok).map(|stop| Text::of(&stop)).collect::<Option<_>>();
            stops.map(|stops| request.stop = stops).is_some()
        }
        "temperature" => put(&mut request.temperature, Raw::of(value)),
        "top_p" => put(&mut request.top_p, Raw::of(value)),
        "top_k" => put(&mut request.top_k, Raw::of(value)),
        "stream" => {
            request.stream = value.is_true();
            true
        }
        _ => false,
    };
    if !read {
        read_own(request, key, value);
    }
}

fn put<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    let some = value.is_some();
    *place = value.or(place.take());
    some
}

/// Members that all dialects have, but no other one puts so: they are kept as they are, too.
fn read_own<'a>(request: &mut Request<'a>, key: Cow<'a, str>, value: &Value<'a>) {
    // What of them cannot be said in other words; whoever has none for it is to know.
    let rest = match &*key {
        "tool_choice" => {
            read_tool_choice(request, value);
            false
        }
        "thinking" => {
            read_thinking(request, value);
            false
        }
        "output_config" => read_output_config(request, value),
        // How the first versions put it.
        "output_format" => {
            request.format = format(value);
            request.format.is_none()
        }
        "metadata" => {
            request.user = value.member("user_id").and_then(|user| Text::of(&user));
            value.members().filter_map(Result::ok).any(|(key, _)| key != "user_id")
        }
        "service_tier" => {
            let tier = match value.as_str().as_deref() {
                Some("auto") => Some("auto"),
                Some("standard_only") => Some("default"),
                _ => None,
            };
            request.service_tier = tier.map(Text::escaped);
            tier.is_none()
        }
        _ => return request.extras.keep(key, value),
    };
    if rest {
        request.extras.keep(key.clone(), value);
    }
    request.own.keep(key, value);
}

fn is_list_of_objects(value: &Value<'_>) -> bool {
    value.json().first() == Some(&b'[')
        && value.elements().all(|element| element.is_ok_and(|element| element.is_object()))
}

fn system_turn<'a>(value: &Value<'a>) -> Turn<'a> {
    match Text::of(value) {
        Some(text) => Turn::text(Role::System, text),
        None => Turn { parts: parts(value), ..Turn::new(Role::System) },
    }
}

fn turn<'a>(message: &Value<'a>) -> Turn<'a> {
    let mut turn = Turn::new(Role::User);
    for (key, value) in message.members().filter_map(Result::ok) {
        match &*key {
            "role" => match value.json() {
                b"\"user\"" => {}
                b"\"assistant\"" => turn.role = Role::Assistant,
                b"\"system\"" => turn.role = Role::System,
                // The provider knows.
                _ => turn.extras.keep(key, &value),
            },
            "content" => match Text::of(&value) {
                Some(text) => {
                    turn.bare = true;
                    turn.parts = vec![Part::text(text)];
                }
                None => turn.parts = parts(&value),
            },
            _ => turn.extras.keep(key, &value),
        }
    }
    turn
}

fn parts<'a>(list: &Value<'a>) -> Vec<Part<'a>> {
    list.elements().filter_map(Result::ok).map(|element| part(&element)).collect()
}

/// A block of a message, or of an answer.
pub(in crate::dialect::anthropic_messages) fn part<'a>(value: &Value<'a>) -> Part<'a> {
    read_part(value).or_else(|| Raw::of(value).map(Part::Native)).unwrap_or_else(|| Part::text(Text::default()))
}

fn read_part<'a>(value: &Value<'a>) -> Option<Part<'a>> {
    let kind = value.member("type")?;
    match kind.json() {
        b"\"text\"" => {
            let (mut text, mut extras) = (None, Extras::default());
            for (key, member) in value.members().filter_map(Result::ok) {
                match &*key {
                    "type" => {}
                    "text" => text = Text::of(&member),
                    _ => extras.keep(key, &member),
                }
            }
            Some(Part::Text { text: text?, extras })
        }
        b"\"image\"" => media(MediaKind::Image, value),
        b"\"document\"" => media(MediaKind::Document, value),
        b"\"tool_use\"" => call(value),
        b"\"tool_result\"" => result(value),
        b"\"thinking\"" => thought(value),
        b"\"redacted_thinking\"" => {
            Some(Part::Thought(Thought { native: Some(Raw::of(value)?), ..Thought::default() }))
        }
        _ => None,
    }
}

fn media<'a>(kind: MediaKind, value: &Value<'a>) -> Option<Part<'a>> {
    let mut media = Media { kind, source: Source::Text(Text::default()), name: None, extras: Extras::default() };
    let mut has_source = false;
    for (key, member) in value.members().filter_map(Result::ok) {
        match &*key {
            "type" => {}
            "source" => {
                media.source = source(&member)?;
                has_source = true;
            }
            "title" if member.is_string() => media.name = Text::of(&member),
            _ => media.extras.keep(key, &member),
        }
    }
    has_source.then_some(Part::Media(media))
}

/// Where a medium is; `None` if that says more than other dialects can.
fn source<'a>(value: &Value<'a>) -> Option<Source<'a>> {
    let kind = value.member("type")?;
    let text = |key| value.member(key).and_then(|member| Text::of(&member));
    let (source, members) = match kind.json() {
        b"\"base64\"" => (Source::Inline { media_type: text("media_type")?, data: text("data")? }, 3),
        b"\"url\"" => (Source::Url { url: text("url")?, media_type: None }, 2),
        b"\"text\"" if text("media_type")?.is("text/plain") => (Source::Text(text("data")?), 3),
        b"\"file\"" => (Source::File(Raw::of(&value.member("file_id")?)?), 2),
        _ => return None,
    };
    (value.members().count() == members).then_some(source)
}

fn call<'a>(value: &Value<'a>) -> Option<Part<'a>> {
    let (mut id, mut name, mut arguments, mut extras) = (None, None, None, Extras::default());
    for (key, member) in value.members().filter_map(Result::ok) {
        match &*key {
            "type" => {}
            "id" => id = Text::of(&member),
            "name" => name = Text::of(&member),
            "input" => arguments = Raw::of(&member),
            _ => extras.keep(key, &member),
        }
    }
    Some(Part::Call(Call { id: id?, name: name?, arguments: arguments?, signature: None, extras }))
}

fn result<'a>(value: &Value<'a>) -> Option<Part<'a>> {
    let (mut id, mut bare, mut is_error) = (None, false, false);
    let (mut content, mut extras) = (Vec::new(), Extras::default());
    for (key, member) in value.members().filter_map(Result::ok) {
        match &*key {
            "type" => {}
            "tool_use_id" => id = Text::of(&member),
            "content" => match Text::of(&member) {
                Some(text) => {
                    bare = true;
                    content = vec![Part::text(text)];
                }
                None if member.is_null() || is_list_of_objects(&member) => content = parts(&member),
                None => return None,
            },
            "is_error" => is_error = member.is_true(),
            _ => extras.keep(key, &member),
        }
    }
    Some(Part::Result(ToolResult { id: id?, name: None, parts: content, bare, is_error, extras }))
}

fn thought<'a>(value: &Value<'a>) -> Option<Part<'a>> {
    let mut thought = Thought::default();
    let mut has_text = false;
    for (key, member) in value.members().filter_map(Result::ok) {
        match &*key {
            "type" => {}
            "thinking" => {
                thought.text = Text::of(&member)?;
                has_text = true;
            }
            "signature" if member.is_string() => thought.signature = Text::of(&member),
            _ => thought.native = Raw::of(value),
        }
    }
    has_text.then_some(Part::Thought(thought))
}

fn read_tool<'a>(value: &Value<'a>) -> Option<Tool<'a>> {
    let (mut name, mut description, mut parameters, mut strict) = (None, None, None, None);
    let mut extras = Extras::default();
    for (key, member) in value.members().filter_map(Result::ok) {
        match &*key {
            "type" if member.json() == b"\"custom\"" || member.is_null() => {}
            // A tool of Anthropic's own.
            "type" => return Raw::of(value).map(Tool::Native),
            "name" => name = Text::of(&member),
            "description" if member.is_string() => description = Text::of(&member),
            "input_schema" => parameters = Raw::of(&member),
            "strict" if !member.is_null() => strict = Some(member.is_true()),
            _ => extras.keep(key, &member),
        }
    }
    match (name, &parameters) {
        (Some(name), Some(_)) => {
            Some(Tool::Function { name, description, parameters, strict, extras, outer: Extras::default() })
        }
        _ => Raw::of(value).map(Tool::Native),
    }
}

fn read_tool_choice<'a>(request: &mut Request<'a>, value: &Value<'a>) {
    let kind = value.member("type");
    let choice = match kind.as_ref().map(Value::json) {
        Some(b"\"auto\"") => Some(ToolChoice::Auto),
        Some(b"\"none\"") => Some(ToolChoice::None),
        Some(b"\"any\"") => Some(ToolChoice::Required),
        Some(b"\"tool\"") => value.member("name").and_then(|name| Text::of(&name)).map(ToolChoice::Tool),
        _ => None,
    };
    request.tool_choice = choice.or_else(|| Raw::of(value).map(ToolChoice::Native));
    if let Some(disabled) = value.member("disable_parallel_tool_use").filter(|disabled| !disabled.is_null()) {
        request.parallel_tool_calls = Some(!disabled.is_true());
    }
}

fn read_thinking<'a>(request: &mut Request<'a>, value: &Value<'a>) {
    let reasoning = request.reasoning.get_or_insert_with(Reasoning::default);
    let display = value.member("display");
    reasoning.told = match display.as_ref().map(Value::json) {
        Some(b"\"summarized\"") => Some(true),
        Some(b"\"omitted\"") => Some(false),
        _ => None,
    };
    let kind = value.member("type");
    match kind.as_ref().map(Value::json) {
        Some(b"\"enabled\"") => {
            reasoning.budget = value.member("budget_tokens").and_then(|budget| budget.as_u64());
            // So it is where nothing is said of it.
            reasoning.told = reasoning.told.or(Some(true));
        }
        Some(b"\"disabled\"") => reasoning.effort = Some(Effort::None),
        // What it is by default.
        _ => reasoning.effort = reasoning.effort.or(Some(Effort::High)),
    }
}

/// Returns whether it has more to say than other dialects can.
fn read_output_config<'a>(request: &mut Request<'a>, value: &Value<'a>) -> bool {
    let mut rest = false;
    for (key, member) in value.members().filter_map(Result::ok) {
        match &*key {
            _ if member.is_null() => {}
            "effort" => match member.as_str().and_then(|name| Effort::from_name(&name)) {
                Some(effort) => {
                    let reasoning = request.reasoning.get_or_insert_with(Reasoning::default);
                    // It is what counts of the two, but where nothing is to be thought.
                    if reasoning.effort != Some(Effort::None) {
                        reasoning.effort = Some(effort);
                    }
                }
                None => rest = true,
            },
            "format" => {
                request.format = format(&member);
                rest |= request.format.is_none();
            }
            _ => rest = true,
        }
    }
    rest
}

fn format<'a>(value: &Value<'a>) -> Option<Format<'a>> {
    if value.member("type")?.json() != b"\"json_schema\"" {
        return None;
    }
    let schema = Raw::of(&value.member("schema")?)?;
    Some(Format::Schema { name: None, description: None, schema, strict: Some(true) })
}
