//! The canonical form as a request for a response.

use std::collections::HashSet;

use super::decode::{BARE, EMPTY, INPUT, INSTRUCTIONS, ITEMS, KIND, MESSAGE, SAFETY_IDENTIFIER, SUMMARY};
use crate::{
    Ability, Dialect,
    dialect::{
        canonical::{
            Call, Destination, Extras, Format, Losses, Media, MediaKind, Part, Request, Role, Source, Text, Tool,
            ToolChoice, ToolResult, Turn,
        },
        json_write::{Array, Object, object},
        openai_chat::request::encode::{CACHE_OPTIONS, write_url},
    },
};

/// The least that OpenAI takes for `max_output_tokens`.
const LEAST_OUTPUT: u64 = 16;
/// The most characters of a call's id.
const LONGEST_ID: usize = 64;

/// Writes a request; notes what has no place in it.
pub(crate) fn encode(request: &Request<'_>, destination: Destination<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
    let own = request.dialect == Dialect::OpenAiResponses;
    let shares = request.dialect == Dialect::OpenAiChat;
    if !own {
        request.note_extras_but(|name| shares && (name == "detail" || CACHE_OPTIONS.contains(&name)), losses);
    }
    let mut encoder = Encoder { own, shares, request, losses, ids: Ids::default() };
    object(out, |body| encoder.body(body, destination));
}

struct Encoder<'r> {
    own: bool,
    /// Whether it comes from the other API of OpenAI's.
    shares: bool,
    request: &'r Request<'r>,
    losses: &'r mut Losses,
    ids: Ids<'r>,
}

impl<'r> Encoder<'r> {
    fn body(&mut self, body: &mut Object<'_>, destination: Destination<'_>) {
        let request = self.request;
        match (destination.model, &request.model) {
            (Some(model), _) => body.literal("model", model),
            (None, model) => body.maybe_text("model", model.as_ref()),
        }
        self.conversation(body);
        if !request.tools.is_empty() {
            body.array("tools", |tools| request.tools.iter().for_each(|tool| self.tool(tools, tool)));
        }
        request.tool_choice.iter().for_each(|choice| self.tool_choice(body, choice));
        if let Some(parallel) = request.parallel_tool_calls.filter(|_| self.own || !request.tools.is_empty()) {
            body.bool("parallel_tool_calls", parallel);
        }
        // Where more was said of it than is known here, it stands among the extras.
        let is_extra = |name| self.own && request.extras.get(name).is_some();
        if (request.format.is_some() || request.verbosity.is_some()) && !is_extra("text") {
            body.object("text", |text| {
                request.format.iter().for_each(|format| write_format(text, format));
                text.maybe_text("verbosity", request.verbosity.as_ref());
            });
        }
        let reasons = self.own || destination.capabilities.offers(Ability::Reasoning);
        if let Some(reasoning) = request.reasoning.filter(|_| reasons && !is_extra("reasoning")) {
            let summary = request.extras.aside(SUMMARY).filter(|_| self.own);
            let effort = reasoning.as_effort();
            if self.own || effort.is_some() || reasoning.told == Some(true) {
                body.object("reasoning", |object| {
                    effort.into_iter().for_each(|effort| object.string("effort", effort.name()));
                    match summary {
                        Some(summary) => object.raw("summary", summary),
                        None if reasoning.told == Some(true) => object.string("summary", "auto"),
                        None => {}
                    }
                });
            }
        }
        if let Some(most) = request.max_output_tokens {
            // More than was allowed, but the least that is taken.
            body.number("max_output_tokens", if self.own { most } else { most.max(LEAST_OUTPUT) });
        }
        body.maybe_raw("temperature", request.temperature.as_ref());
        body.maybe_raw("top_p", request.top_p.as_ref());
        let newer = self.own && request.extras.aside(SAFETY_IDENTIFIER).is_some();
        body.maybe_text(if newer { "safety_identifier" } else { "user" }, request.user.as_ref());
        body.maybe_text("service_tier", request.service_tier.as_ref());
        body.maybe_raw("metadata", request.metadata.as_ref());
        body.maybe_text("prompt_cache_key", request.prompt_cache_key.as_ref());
        if request.stream {
            body.bool("stream", true);
        }
        if self.own {
            return body.extras(&request.extras);
        }
        if self.shares {
            CACHE_OPTIONS.iter().for_each(|name| body.maybe_raw(name, request.extras.get(name)));
        }
        // Kept by default, for days: nothing is kept that the client did not ask for.
        body.bool("store", false);
        for (lost, name) in [
            (!request.stop.is_empty(), "stop"),
            (request.top_k.is_some(), "top_k"),
            (request.frequency_penalty.is_some(), "frequency_penalty"),
            (request.presence_penalty.is_some(), "presence_penalty"),
            (request.seed.is_some(), "seed"),
        ] {
            self.losses.note_if(lost, name);
        }
    }

    /// The `instructions` and the `input`.
    fn conversation(&mut self, body: &mut Object<'_>) {
        let mut turns = &*self.request.turns;
        if let [first, rest @ ..] = turns {
            let text = match &*first.parts {
                [Part::Text { text, .. }] => Some(text),
                _ => None,
            };
            let may = match self.own {
                true => first.extras.aside(INSTRUCTIONS).is_some(),
                false => first.role == Role::System,
            };
            if let Some(text) = text.filter(|_| may) {
                body.text("instructions", text);
                turns = rest;
            }
        }
        match turns {
            [one] if self.own && one.extras.aside(INPUT).is_some() => {
                if let [Part::Text { text, .. }] = &*one.parts {
                    body.text("input", text);
                }
            }
            // One that names what it goes on with may say nothing of its own.
            [] if self.own => {}
            turns => body.array("input", |items| turns.iter().for_each(|turn| self.turn(items, turn))),
        }
    }

    /// One turn, which may be many items: messages, calls, results.
    fn turn(&mut self, items: &mut Array<'_>, turn: &'r Turn<'_>) {
        let parts = &*turn.parts;
        let of_items = turn.role == Role::Assistant || !self.own || turn.extras.aside(ITEMS).is_some();
        let in_message = |part: &Part<'_>| match part {
            Part::Text { .. } | Part::Refusal(_) | Part::Media(_) => true,
            Part::Native(_) => !of_items,
            _ => false,
        };
        if parts.is_empty() && turn.role != Role::Assistant && turn.extras.aside(ITEMS).is_none() {
            self.message(items, turn, &turn.extras, parts);
        }
        let (mut at, mut first) = (0, true);
        while let Some(part) = parts.get(at) {
            if !in_message(part) {
                self.item(items, part);
                at += 1;
                continue;
            }
            let begins = |part: &Part<'_>| match part {
                Part::Text { extras, .. } => extras.aside(MESSAGE).is_some(),
                _ => false,
            };
            let rest = &parts[at + 1..];
            let more = rest.iter().position(|part| !in_message(part) || begins(part)).unwrap_or(rest.len());
            let no_header = Extras::default();
            let header = match part {
                Part::Text { extras, .. } if begins(part) => extras,
                _ if std::mem::take(&mut first) => &turn.extras,
                _ => &no_header,
            };
            self.message(items, turn, header, &parts[at..at + 1 + more]);
            at += 1 + more;
        }
    }

    fn message(&mut self, items: &mut Array<'_>, turn: &Turn<'_>, header: &Extras<'_>, parts: &[Part<'_>]) {
        let role = match turn.role {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        let marked = |name| self.own && header.aside(name).is_some();
        // Nothing was said: some APIs do not take that.
        let is_empty = |part: &Part<'_>| matches!(part, Part::Text { text, .. } if text.is_empty());
        if !self.own && turn.role == Role::Assistant && parts.iter().all(is_empty) {
            return;
        }
        let bare = if turn.role == Role::Assistant { marked(BARE) } else { turn.bare };
        let (bare, empty) = (bare || !self.own, marked(EMPTY));
        items.object(|message| {
            if !self.own {
                message.string("type", "message");
            } else {
                let members = header.asides().filter(|(key, _)| !key.as_escaped().starts_with('.'));
                members.for_each(|(key, value)| message.raw(key.as_escaped(), value));
            }
            message.string("role", role);
            match parts {
                [Part::Text { text, .. }] if bare => message.text("content", text),
                _ if empty => message.array("content", |_| {}),
                parts => {
                    let kind = if turn.role == Role::Assistant { "output_text" } else { "input_text" };
                    message.array("content", |list| parts.iter().for_each(|part| self.part(list, part, kind)));
                }
            }
        });
    }

    fn part(&mut self, list: &mut Array<'_>, part: &Part<'_>, kind: &str) {
        match part {
            Part::Text { text, extras } => list.object(|part| {
                match extras.aside(KIND).filter(|_| self.own) {
                    Some(kind) => part.raw("type", kind),
                    None => part.string("type", kind),
                }
                part.text("text", text);
                if self.own {
                    // What is the message's stands there.
                    let own = extras.iter().filter(|(key, _)| extras.aside(key.as_escaped()).is_none());
                    own.for_each(|(key, value)| part.raw(&key.decoded(), value));
                }
            }),
            Part::Refusal(text) => list.object(|part| {
                part.string("type", "refusal");
                part.text("refusal", text);
            }),
            Part::Media(media) => self.media(list, media),
            Part::Native(raw) if self.own => list.raw(raw),
            Part::Native(_) => self.losses.note("native content part"),
            // They are items of their own.
            Part::Thought(_) | Part::Call(_) | Part::Result(_) => {}
        }
    }

    fn media(&mut self, list: &mut Array<'_>, media: &Media<'_>) {
        let own = self.own;
        let rest = |part: &mut Object<'_>| {
            if own {
                part.extras(&media.extras);
            }
        };
        match (media.kind, &media.source) {
            (MediaKind::Image, source @ (Source::Url { .. } | Source::Inline { .. })) => list.object(|part| {
                part.string("type", "input_image");
                part.value("image_url", |out| write_url(out, source));
                match media.extras.get("detail") {
                    Some(detail) if self.shares => part.raw("detail", detail),
                    // Here it is no choice to leave out, by the API's description.
                    _ if !own => part.string("detail", "auto"),
                    _ => {}
                }
                rest(part);
            }),
            (MediaKind::Image, Source::File(id)) if own => list.object(|part| {
                part.string("type", "input_image");
                part.raw("file_id", id);
                rest(part);
            }),
            (MediaKind::Document, Source::Text(text)) => list.object(|part| {
                part.string("type", "input_text");
                part.text("text", text);
            }),
            (MediaKind::Document, source) if own || !matches!(source, Source::File(_)) => list.object(|part| {
                part.string("type", "input_file");
                match source {
                    Source::Url { url, .. } => part.text("file_url", url),
                    Source::File(id) => part.raw("file_id", id),
                    source => part.value("file_data", |out| write_url(out, source)),
                }
                match &media.name {
                    // Beside a URL OpenAI takes none.
                    Some(name) if own || !matches!(source, Source::Url { .. }) => part.text("filename", name),
                    // Beside the data it wants one.
                    None if !own && matches!(source, Source::Inline { .. }) => {
                        part.string("filename", "document.pdf");
                    }
                    _ => {}
                }
                rest(part);
            }),
            (MediaKind::Audio, Source::Inline { media_type, data }) if own => list.object(|part| {
                part.string("type", "input_audio");
                part.object("input_audio", |audio| {
                    audio.text("data", data);
                    audio.string("format", media_type.as_escaped().rsplit('/').next().unwrap_or_default());
                });
                rest(part);
            }),
            // A filter ahead of this refuses such a request; should it be missing, this is told.
            _ => self.losses.note("media"),
        }
    }

    /// What is no message.
    fn item(&mut self, items: &mut Array<'_>, part: &'r Part<'_>) {
        match part {
            Part::Call(call) => self.call(items, call),
            Part::Result(result) => self.result(items, result),
            Part::Thought(thought) => match &thought.native {
                Some(raw) if self.own => items.raw(raw),
                // Only the model that thought it can read it again.
                _ => self.losses.note("reasoning of earlier turns"),
            },
            Part::Native(raw) if self.own => items.raw(raw),
            _ => self.losses.note("native content part"),
        }
    }

    fn call(&mut self, items: &mut Array<'_>, call: &'r Call<'_>) {
        let id = if self.own { call.id.borrowed() } else { self.ids.of_call(call) };
        items.object(|item| {
            item.string("type", "function_call");
            item.text("call_id", &id);
            item.text("name", &call.name);
            let arguments = call.arguments.as_str();
            item.string("arguments", if arguments.is_empty() && !self.own { "{}" } else { arguments });
            if self.own {
                write_extras(item, &call.extras);
            }
        });
    }

    fn result(&mut self, items: &mut Array<'_>, result: &ToolResult<'_>) {
        let id = if self.own { result.id.borrowed() } else { self.ids.of_result(result) };
        self.losses.note_if(result.is_error, "is_error");
        items.object(|item| {
            item.string("type", "function_call_output");
            item.text("call_id", &id);
            match &*result.parts {
                [] if !self.own => item.string("output", ""),
                [Part::Text { text, .. }] if result.bare || !self.own => item.text("output", text),
                parts => item.array("output", |list| {
                    for part in parts {
                        self.part(list, part, "input_text");
                    }
                }),
            }
            if self.own {
                write_extras(item, &result.extras);
            }
        });
    }

    fn tool(&mut self, list: &mut Array<'_>, tool: &Tool<'_>) {
        match tool {
            Tool::Function { name, description, parameters, strict, extras, .. } => list.object(|tool| {
                tool.string("type", "function");
                tool.text("name", name);
                tool.maybe_text("description", description.as_ref());
                match parameters {
                    Some(parameters) => tool.raw("parameters", parameters),
                    None if self.own => {}
                    None => tool.literal("parameters", r#"{"type":"object","properties":{}}"#),
                }
                match strict {
                    Some(strict) => tool.bool("strict", *strict),
                    None if self.own => {}
                    // Here it is the default, and nowhere else.
                    None => tool.bool("strict", false),
                }
                if self.own {
                    tool.extras(extras);
                }
            }),
            Tool::Native(raw) if self.own => list.raw(raw),
            Tool::Native(_) => self.losses.note("native tool"),
        }
    }

    fn tool_choice(&mut self, body: &mut Object<'_>, choice: &ToolChoice<'_>) {
        let named = |choice: &mut Object<'_>, name: &Text<'_>| {
            choice.string("type", "function");
            choice.text("name", name);
        };
        match choice {
            ToolChoice::Auto => body.string("tool_choice", "auto"),
            ToolChoice::None => body.string("tool_choice", "none"),
            ToolChoice::Required => body.string("tool_choice", "required"),
            ToolChoice::Tool(name) => body.object("tool_choice", |choice| named(choice, name)),
            ToolChoice::Among { required, names } => body.object("tool_choice", |choice| {
                choice.string("type", "allowed_tools");
                choice.string("mode", if *required { "required" } else { "auto" });
                choice.array("tools", |tools| {
                    names.iter().for_each(|name| tools.object(|tool| named(tool, name)));
                });
            }),
            ToolChoice::Native(raw) if self.own => body.raw("tool_choice", raw),
            ToolChoice::Native(_) => self.losses.note("native tool choice"),
        }
    }
}

/// The members that an item has besides, those among them that say nothing elsewhere.
pub(crate) fn write_extras(item: &mut Object<'_>, extras: &Extras<'_>) {
    item.extras(extras);
    let asides = extras.asides().filter(|(key, _)| !key.as_escaped().starts_with('.'));
    asides.for_each(|(key, value)| item.raw(&key.decoded(), value));
}

fn write_format(text: &mut Object<'_>, format: &Format<'_>) {
    text.object("format", |object| match format {
        Format::Text => object.string("type", "text"),
        Format::Json => object.string("type", "json_object"),
        Format::Schema { name, description, schema, strict } => {
            object.string("type", "json_schema");
            match name {
                Some(name) => object.text("name", name),
                // OpenAI wants one.
                None => object.string("name", "answer"),
            }
            object.maybe_text("description", description.as_ref());
            object.raw("schema", schema);
            strict.iter().for_each(|strict| object.bool("strict", *strict));
        }
    });
}

/// The ids of calls, where those of another dialect are not taken, are missing or are not the only ones of their name.
/// They depend on what comes before them and on nothing else, so a conversation that goes on keeps them.
#[derive(Debug, Default)]
struct Ids<'r> {
    used: HashSet<String>,
    made: usize,
    /// Calls that wait for their results.
    open: Vec<(&'r Text<'r>, &'r Text<'r>, Text<'r>)>,
}

impl<'r> Ids<'r> {
    fn of_call(&mut self, call: &'r Call<'_>) -> Text<'r> {
        let plain = call.id.as_escaped();
        let is_taken = plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        let fits = is_taken && (1..=LONGEST_ID).contains(&plain.len());
        let mut id = plain.to_owned();
        while !fits && id == plain || self.used.contains(&id) {
            self.made += 1;
            id = format!("call_made_{}", self.made);
        }
        self.used.insert(id.clone());
        let id: Text<'r> = Text::escaped(id);
        self.open.push((&call.id, &call.name, id.clone()));
        id
    }

    fn of_result(&mut self, result: &ToolResult<'_>) -> Text<'r> {
        let answers = |(id, name, _): &(&Text<'_>, &Text<'_>, Text<'_>)| match &result.name {
            Some(tool) if result.id.is_empty() => *name == tool,
            _ => **id == result.id,
        };
        match self.open.iter().position(answers) {
            Some(found) => self.open.remove(found).2,
            // The answer to nothing: the provider says so.
            None => result.id.clone().into_owned(),
        }
    }
}
