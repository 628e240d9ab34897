//! A request for a response in the canonical form.
//!
//! A response is asked for with a list of items, one for each message, call and result; a canonical turn has all of them
//! that one side says before the other does. What stood between the items (their ids, whether they were messages of their
//! own) is kept [aside](Extras::keep_aside) on the first part of each.

use std::borrow::Cow;

use crate::{
    Dialect,
    dialect::{
        canonical::{
            Call, Effort, Extras, Format, Media, MediaKind, Part, Raw, Reasoning, Request, Role, Source, Text, Thought,
            Tool, ToolChoice, ToolResult, Turn,
        },
        json_scan::{Malformed, Value, root_members},
        openai_chat::request::decode::source,
    },
};

/// On a turn: it is the `instructions`.
pub(crate) const INSTRUCTIONS: &str = ".instructions";
/// On a turn: it is all of the input, as one string.
pub(crate) const INPUT: &str = ".input";
/// On a turn: it is made of items that are no messages.
pub(crate) const ITEMS: &str = ".items";
/// On the first text of an assistant's message, or on its turn: there the message begins.
pub(crate) const MESSAGE: &str = ".message";
/// Beside it: its content is one string.
pub(crate) const BARE: &str = ".bare";
/// Beside it: it has no content.
pub(crate) const EMPTY: &str = ".empty";
/// On a part: its `type`, where that is not the usual one.
pub(crate) const KIND: &str = ".kind";
/// On a request: it calls the user by the newer name.
pub(crate) const SAFETY_IDENTIFIER: &str = ".safety_identifier";
/// On a request: which summary of the reasoning it wants.
pub(crate) const SUMMARY: &str = ".summary";

/// Reads a request. What is not as it should be is kept as it is: the provider knows best what to say of it.
pub(crate) fn decode(body: &str) -> Result<Request<'_>, Malformed> {
    let mut request = Request::new(Dialect::OpenAiResponses);
    // Streams tell their usage, unasked.
    request.include_usage = true;
    let mut instructions = None;
    for member in root_members(body.as_bytes())? {
        let (key, value) = member?;
        if key == "instructions" && value.is_string() {
            instructions = Text::of(&value);
        } else {
            read_member(&mut request, key, &value);
        }
    }
    if let Some(text) = instructions {
        let mut turn = Turn::text(Role::System, text);
        turn.extras.mark(INSTRUCTIONS);
        request.turns.insert(0, turn);
    }
    Ok(request)
}

fn read_member<'a>(request: &mut Request<'a>, key: Cow<'a, str>, value: &Value<'a>) {
    if value.is_null() {
        return request.extras.keep(key, value);
    }
    match &*key {
        "model" => request.model = Text::of(value),
        "input" => match Text::of(value) {
            Some(text) => {
                let mut turn = Turn::text(Role::User, text);
                turn.extras.mark(INPUT);
                request.turns.push(turn);
            }
            None => value.elements().filter_map(Result::ok).for_each(|item| add_item(&mut request.turns, &item)),
        },
        "tools" => {
            request.tools = value.elements().filter_map(Result::ok).filter_map(|tool| read_tool(&tool)).collect()
        }
        "tool_choice" => request.tool_choice = tool_choice(value),
        "parallel_tool_calls" => request.parallel_tool_calls = Some(value.is_true()),
        "text" => read_text(request, key, value),
        "reasoning" => read_reasoning(request, key, value),
        "max_output_tokens" if value.as_u64().is_some() => request.max_output_tokens = value.as_u64(),
        "temperature" => request.temperature = Raw::of(value),
        "top_p" => request.top_p = Raw::of(value),
        "user" if request.user.is_none() && value.is_string() => request.user = Text::of(value),
        "safety_identifier" if request.user.is_none() && value.is_string() => {
            request.user = Text::of(value);
            request.extras.mark(SAFETY_IDENTIFIER);
        }
        "service_tier" => request.service_tier = Text::of(value),
        "metadata" => request.metadata = Raw::of(value),
        "prompt_cache_key" => request.prompt_cache_key = Text::of(value),
        "stream" => request.stream = value.is_true(),
        _ => request.extras.keep(key, value),
    }
}

/// `text`, which says what the answer's text is to be. Should it say more than is known here, it is kept whole besides.
fn read_text<'a>(request: &mut Request<'a>, key: Cow<'a, str>, value: &Value<'a>) {
    let mut known = value.is_object();
    for (name, member) in value.members().filter_map(Result::ok).filter(|(_, member)| !member.is_null()) {
        match &*name {
            "format" => {
                request.format = format(&member);
                let names = ["type", "name", "description", "schema", "strict"];
                let all_known = member.members().flatten().all(|(name, _)| names.contains(&&*name));
                known &= request.format.is_some() && all_known;
            }
            "verbosity" => request.verbosity = Text::of(&member),
            _ => known = false,
        }
    }
    if !known {
        request.extras.keep(key, value);
    }
}

fn format<'a>(value: &Value<'a>) -> Option<Format<'a>> {
    match value.member("type")?.as_str()?.as_ref() {
        "text" => Some(Format::Text),
        "json_object" => Some(Format::Json),
        "json_schema" => {
            let text = |key| value.member(key).and_then(|value| Text::of(&value));
            Some(Format::Schema {
                name: text("name"),
                description: text("description"),
                schema: value.member("schema").and_then(|schema| Raw::of(&schema))?,
                strict: value.member("strict").filter(|value| !value.is_null()).map(|value| value.is_true()),
            })
        }
        _ => None,
    }
}

/// `reasoning`; should it say more than is known here, it is kept whole besides.
fn read_reasoning<'a>(request: &mut Request<'a>, key: Cow<'a, str>, value: &Value<'a>) {
    let (mut reasoning, mut known) = (Reasoning::default(), value.is_object());
    for (name, member) in value.members().filter_map(Result::ok).filter(|(_, member)| !member.is_null()) {
        match &*name {
            "effort" => {
                reasoning.effort = member.as_str().and_then(|name| Effort::from_name(&name));
                known &= reasoning.effort.is_some();
            }
            "summary" => {
                reasoning.told = Some(true);
                request.extras.keep_aside(SUMMARY.into(), &member);
            }
            _ => known = false,
        }
    }
    request.reasoning = Some(reasoning);
    if !known {
        request.extras.keep(key, value);
    }
}

/// Adds an item of the input to the turn that it belongs to.
fn add_item<'a>(turns: &mut Vec<Turn<'a>>, item: &Value<'a>) {
    let kind = item.member("type").and_then(|kind| kind.as_str());
    let read = match kind.as_deref() {
        None | Some("message") if add_message(turns, item).is_some() => return,
        Some("function_call") => call(item).map(Part::Call),
        Some("function_call_output") => result(item).map(Part::Result),
        Some("reasoning") => Some(Part::Thought(thought(item))),
        _ => None,
    };
    let Some(part) = read.or_else(|| Raw::of(item).map(Part::Native)) else { return };
    let of_the_user = match &part {
        Part::Result(_) => true,
        // What the client answers to a call of a built-in tool.
        Part::Native(_) => {
            let kind = kind.unwrap_or_default();
            kind.ends_with("_output") || kind.ends_with("_response") || item.member("role").is_some()
        }
        _ => false,
    };
    add_parts(turns, of_the_user, [part]);
}

/// Adds parts to the last turn, if they go there, or else to a turn of their own.
fn add_parts<'a>(turns: &mut Vec<Turn<'a>>, of_the_user: bool, parts: impl IntoIterator<Item = Part<'a>>) {
    let goes_there = |last: &&mut Turn<'a>| match of_the_user {
        true => last.extras.aside(ITEMS).is_some(),
        false => last.role == Role::Assistant,
    };
    if let Some(last) = turns.last_mut().filter(goes_there) {
        return last.parts.extend(parts);
    }
    let mut turn = Turn::new(if of_the_user { Role::User } else { Role::Assistant });
    if of_the_user {
        turn.extras.mark(ITEMS);
    }
    turn.parts.extend(parts);
    turns.push(turn);
}

/// Adds an item of an answer to its parts.
pub(crate) fn add_output<'a>(parts: &mut Vec<Part<'a>>, item: &Value<'a>) {
    let mut turns = vec![Turn { parts: std::mem::take(parts), ..Turn::new(Role::Assistant) }];
    add_item(&mut turns, item);
    // Whosever they would be in a request, here they are the model's.
    *parts = turns.into_iter().flat_map(|turn| turn.parts).collect();
}

/// Adds a message; `None` where it is not as messages are known here.
fn add_message<'a>(turns: &mut Vec<Turn<'a>>, item: &Value<'a>) -> Option<()> {
    let role = match item.member("role")?.as_str()?.as_ref() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => return None,
    };
    let content = item.member("content")?;
    let bare = Text::of(&content);
    let is_bare = bare.is_some();
    let usual = if role == Role::Assistant { "output_text" } else { "input_text" };
    let mut parts: Vec<_> = match bare {
        Some(text) => vec![Part::text(text)],
        None => content.elements().filter_map(Result::ok).map(|part| read_part(&part, usual)).collect(),
    };
    // Such a part could not be told from an item once it is in a turn with some.
    let is_native = |part: &Part<'_>| matches!(part, Part::Native(_));
    if role == Role::Assistant && parts.iter().any(is_native) || !parts.is_empty() && parts.iter().all(is_native) {
        return None;
    }
    let mut turn = Turn::new(role);
    if role == Role::Assistant {
        if parts.is_empty() {
            parts.push(Part::text(Text::default()));
            header(&mut parts, &mut turn.extras).mark(EMPTY);
        }
        let extras = header(&mut parts, &mut turn.extras);
        extras.mark(MESSAGE);
        if is_bare {
            extras.mark(BARE);
        }
        read_header(extras, item);
        if turns.last().is_some_and(|last| last.role == Role::Assistant) {
            // What could only stand on a turn of its own (a refusal's id) is let go.
            add_parts(turns, false, parts);
            return Some(());
        }
    } else {
        read_header(&mut turn.extras, item);
    }
    (turn.bare, turn.parts) = (is_bare, parts);
    turns.push(turn);
    Some(())
}

/// Where a message of an assistant's turn keeps what is its own.
fn header<'h, 'a>(parts: &'h mut [Part<'a>], of_the_turn: &'h mut Extras<'a>) -> &'h mut Extras<'a> {
    match parts.first_mut() {
        Some(Part::Text { extras, .. }) => extras,
        _ => of_the_turn,
    }
}

/// Keeps what a message says besides. What would be missed elsewhere is a member of the part as well.
fn read_header<'a>(extras: &mut Extras<'a>, item: &Value<'a>) {
    for (key, value) in item.members().filter_map(Result::ok) {
        if matches!(&*key, "role" | "content") {
            continue;
        }
        let says_nothing = matches!(&*key, "type" | "id") || value.json() == b"\"completed\"";
        if !says_nothing {
            extras.keep(key.clone(), &value);
        }
        extras.keep_aside(key, &value);
    }
}

/// A part of a message's content, or of a result's.
pub(crate) fn read_part<'a>(value: &Value<'a>, usual: &str) -> Part<'a> {
    let part = known_part(value, usual).or_else(|| Raw::of(value).map(Part::Native));
    part.unwrap_or_else(|| Part::text(Text::default()))
}

fn known_part<'a>(value: &Value<'a>, usual: &str) -> Option<Part<'a>> {
    let kind = value.member("type")?;
    let kind_name = kind.as_str()?;
    // Which members are the part itself; the others are its extras.
    let own: &[&str] = match &*kind_name {
        "input_text" | "output_text" | "text" => &["type", "text"],
        "refusal" => &["type", "refusal"],
        "input_image" => &["type", "image_url", "file_id"],
        "input_file" => &["type", "file_data", "file_url", "file_id", "filename"],
        "input_audio" => &["type", "input_audio"],
        _ => return None,
    };
    let mut extras = Extras::default();
    for (key, member) in value.members().filter_map(Result::ok) {
        if !own.contains(&&*key) || member.is_null() {
            extras.keep(key, &member);
        }
    }
    let member = |key: &str| value.member(key).filter(|value| !value.is_null());
    let text = |key: &str| member(key).and_then(|value| Text::of(&value));
    let file = || member("file_id").and_then(|id| Raw::of(&id)).map(Source::File);
    let media = |kind, source, name, extras| Some(Part::Media(Media { kind, source, name, extras }));
    match &*kind_name {
        "refusal" => text("refusal").map(Part::Refusal),
        "input_image" => media(MediaKind::Image, text("image_url").map(source).or_else(file)?, None, extras),
        "input_file" => {
            let source = match (text("file_url"), text("file_data")) {
                (Some(url), None) => Source::Url { url, media_type: None },
                // Without a media type nobody else could read it.
                (None, Some(data)) => Some(source(data)).filter(|source| matches!(source, Source::Inline { .. }))?,
                _ => file()?,
            };
            media(MediaKind::Document, source, text("filename"), extras)
        }
        "input_audio" => {
            let audio = member("input_audio")?;
            let media_type = Text::plain(&format!("audio/{}", audio.member("format")?.as_str()?));
            let data = Text::of(&audio.member("data")?)?;
            media(MediaKind::Audio, Source::Inline { media_type, data }, None, extras)
        }
        _ => {
            if kind_name != usual {
                extras.keep_aside(KIND.into(), &kind);
            }
            text("text").map(|text| Part::Text { text, extras })
        }
    }
}

/// A call of a function.
pub(crate) fn call<'a>(item: &Value<'a>) -> Option<Call<'a>> {
    let mut extras = Extras::default();
    let (mut id, mut name, mut arguments) = (None, None, None);
    for (key, member) in item.members().filter_map(Result::ok) {
        match &*key {
            "type" => {}
            "call_id" => id = Text::of(&member),
            "name" => name = Text::of(&member),
            "arguments" => arguments = Text::of(&member),
            _ => keep_of_item(&mut extras, key, &member),
        }
    }
    let arguments = Raw::new(arguments?.as_json().as_str().to_owned());
    Some(Call { id: id?, name: name?, arguments, signature: None, extras })
}

fn keep_of_item<'a>(extras: &mut Extras<'a>, key: Cow<'a, str>, value: &Value<'a>) {
    if key == "id" || value.json() == b"\"completed\"" {
        extras.keep_aside(key, value);
    } else {
        extras.keep(key, value);
    }
}

fn result<'a>(item: &Value<'a>) -> Option<ToolResult<'a>> {
    let mut extras = Extras::default();
    let (mut id, mut output) = (None, None);
    for (key, member) in item.members().filter_map(Result::ok) {
        match &*key {
            "type" => {}
            "call_id" => id = Text::of(&member),
            "output" => output = Some(member),
            _ => keep_of_item(&mut extras, key, &member),
        }
    }
    let output = output?;
    let (parts, bare) = match Text::of(&output) {
        Some(text) => (vec![Part::text(text)], true),
        None => {
            let parts = output.elements().filter_map(Result::ok);
            (parts.map(|part| read_part(&part, "input_text")).collect(), false)
        }
    };
    Some(ToolResult { id: id?, name: None, parts, bare, is_error: false, extras })
}

/// A reasoning item: its summary, or where it has none what was thought itself.
pub(crate) fn thought<'a>(item: &Value<'a>) -> Thought<'a> {
    let mut summary = paragraphs(item.member("summary"));
    if summary.is_empty() {
        summary = paragraphs(item.member("content"));
    }
    let signature = item.member("encrypted_content").and_then(|value| Text::of(&value));
    Thought { text: summary, signature, native: Raw::of(item) }
}

/// The texts of a list of parts, with a blank line between them.
fn paragraphs<'a>(parts: Option<Value<'a>>) -> Text<'a> {
    let mut whole = Text::default();
    for part in parts.iter().flat_map(|parts| parts.elements()).filter_map(Result::ok) {
        let Some(text) = part.member("text").and_then(|text| Text::of(&text)) else { continue };
        if whole.is_empty() {
            whole = text;
        } else {
            whole.push(&Text::escaped(PARAGRAPH));
            whole.push(&text);
        }
    }
    whole
}

/// What stands between two parts of a summary where it is one text.
pub(crate) const PARAGRAPH: &str = r"\n\n";

fn read_tool<'a>(value: &Value<'a>) -> Option<Tool<'a>> {
    let native = || Raw::of(value).map(Tool::Native);
    if value.member("type").and_then(|kind| kind.as_str()).is_none_or(|kind| kind != "function") {
        return native();
    }
    let mut extras = Extras::default();
    let (mut name, mut description, mut parameters, mut strict) = (None, None, None, None);
    for (key, member) in value.members().filter_map(Result::ok).filter(|(_, member)| !member.is_null()) {
        match &*key {
            "type" => {}
            "name" => name = Text::of(&member),
            "description" => description = Text::of(&member),
            "parameters" => parameters = Raw::of(&member),
            "strict" => strict = Some(member.is_true()),
            _ => extras.keep(key, &member),
        }
    }
    match name {
        Some(name) => Some(Tool::Function { name, description, parameters, strict, extras, outer: Extras::default() }),
        None => native(),
    }
}

fn tool_choice<'a>(value: &Value<'a>) -> Option<ToolChoice<'a>> {
    let is_function = |tool: &Value<'a>| tool.member("type").is_some_and(|kind| kind.json() == b"\"function\"");
    let name_of = |tool: &Value<'a>| Text::of(&tool.member("name")?);
    let read = || match value.as_str().as_deref() {
        Some("auto") => Some(ToolChoice::Auto),
        Some("none") => Some(ToolChoice::None),
        Some("required") => Some(ToolChoice::Required),
        Some(_) => None,
        None if is_function(value) => name_of(value).map(ToolChoice::Tool),
        None if value.member("type")?.as_str()? == "allowed_tools" => {
            let tools = value.member("tools")?;
            let names = tools.elements().filter_map(Result::ok);
            let names = names.map(|tool| name_of(&tool).filter(|_| is_function(&tool))).collect::<Option<_>>()?;
            Some(ToolChoice::Among { required: value.member("mode")?.as_str()? == "required", names })
        }
        None => None,
    };
    read().or_else(|| Raw::of(value).map(ToolChoice::Native))
}
