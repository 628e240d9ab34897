//! Another dialect's request as a messages request, such that Anthropic takes it.

use super::{
    conversation::{Answered, Block, Conversation, Said, is_blank},
    encode::source,
    schema,
    thinking::{Plan, Situation},
};
use crate::{
    Ability,
    dialect::{
        anthropic_messages::model::Family,
        canonical::{
            Call, Destination, Format, Losses, Media, MediaKind, Part, Raw, Request, Source, Text, Tool, ToolChoice,
        },
        json_write::{Array, Object},
    },
};

/// The most tokens of an answer, where neither the request says it nor the model's own bound is known: all models can.
const MAX_TOKENS: u64 = 4096;

/// What is asked of a model that knows no JSON mode.
const JSON_ONLY: &str =
    "Answer with one valid JSON object and nothing else: no text before or after it, and no code fence.";

pub(super) fn write(request: &Request<'_>, destination: Destination<'_>, losses: &mut Losses, body: &mut Object<'_>) {
    let name = destination.model.or(request.model.as_ref().map(Text::as_escaped)).unwrap_or_default();
    let family = Family::of(name.trim_matches('"'));
    let prefill = family.prefill && destination.capabilities.offers(Ability::Prefill);
    let conversation = Conversation::of(request, prefill, losses);
    let structured = family.structured_output && destination.capabilities.offers(Ability::StructuredOutput);
    let mut writer = Writer { request, family, structured, losses, plan: Plan::default() };
    match (destination.model, &request.model) {
        (Some(model), _) => body.literal("model", model),
        (None, model) => body.maybe_text("model", model.as_ref()),
    }
    let unasked = destination.capabilities.max_output_tokens().unwrap_or(MAX_TOKENS);
    // Nought is too few for an answer, and means something else here.
    let asked = request.max_output_tokens.filter(|most| *most > 0);
    let now = Situation {
        max_tokens: asked.unwrap_or(unasked),
        is_asked: asked.is_some() || destination.capabilities.max_output_tokens().is_some(),
        forced: writer.forces_a_tool() && family.forced_tools,
        is_amid_turn: conversation.is_begun() || conversation.is_amid_tools(),
    };
    writer.plan = Plan::of(request.reasoning, &family, now, writer.losses);
    body.number("max_tokens", asked.unwrap_or_else(|| writer.plan.most_tokens(unasked)));
    writer.system(body, &conversation);
    body.array("messages", |messages| {
        for said in &conversation.turns {
            messages.object(|message| writer.message(message, said));
        }
    });
    writer.tools(body, &conversation);
    writer.plan.write(body);
    writer.output_config(body);
    writer.sampling(body);
    if let Some(user) = &request.user {
        body.object("metadata", |metadata| metadata.text("user_id", user));
    }
    writer.service_tier(body);
    if request.stream {
        body.bool("stream", true);
    }
    for (lost, name) in [
        (request.frequency_penalty.is_some(), "frequency_penalty"),
        (request.presence_penalty.is_some(), "presence_penalty"),
        (request.seed.is_some(), "seed"),
        (request.verbosity.is_some(), "verbosity"),
        (request.metadata.is_some(), "metadata"),
        (request.prompt_cache_key.is_some(), "prompt_cache_key"),
    ] {
        losses.note_if(lost, name);
    }
}

struct Writer<'r> {
    request: &'r Request<'r>,
    family: Family,
    /// Whether the model keeps to schemas.
    structured: bool,
    losses: &'r mut Losses,
    plan: Plan,
}

impl Writer<'_> {
    fn forces_a_tool(&self) -> bool {
        let choice = self.request.tool_choice.as_ref();
        matches!(choice, Some(ToolChoice::Required | ToolChoice::Tool(_) | ToolChoice::Among { required: true, .. }))
            && !self.request.tools.is_empty()
    }

    fn system(&mut self, body: &mut Object<'_>, conversation: &Conversation<'_>) {
        let instruction = match &self.request.format {
            Some(Format::Json) => {
                self.losses.note("json_object format");
                Some(Text::escaped(JSON_ONLY))
            }
            Some(Format::Schema { schema, .. }) if !self.structured => {
                self.losses.note("json_schema format");
                Some(Text::plain(&format!("{JSON_ONLY} It must match this JSON schema: {}", schema.as_str())))
            }
            _ => None,
        };
        let texts: Vec<_> = conversation.system.iter().copied().chain(&instruction).collect();
        match &*texts {
            [] => {}
            [text] => body.text("system", text),
            texts => body.array("system", |list| texts.iter().for_each(|text| write_text(list, text))),
        }
    }

    fn message(&mut self, message: &mut Object<'_>, said: &Said<'_>) {
        message.string("role", if said.by_user { "user" } else { "assistant" });
        if let ([], [Block::Text(text)]) = (&*said.results, &*said.blocks) {
            return message.text("content", text);
        }
        message.array("content", |list| {
            for answered in &said.results {
                list.object(|block| self.result(block, answered));
            }
            for block in &said.blocks {
                match block {
                    Block::Text(text) => write_text(list, text),
                    Block::Media(media) => self.media(list, media, "media"),
                    Block::Call { id, call } => list.object(|block| self.call(block, id, call)),
                }
            }
        });
    }

    fn call(&mut self, block: &mut Object<'_>, id: &str, call: &Call<'_>) {
        block.string("type", "tool_use");
        block.string("id", id);
        block.text("name", &call.name);
        self.losses.note_if(call.signature.is_some(), "thoughtSignature");
        if call.arguments.is_object() {
            block.raw("input", &call.arguments);
        } else if matches!(call.arguments.as_str().trim(), "" | "null") {
            block.object("input", |_| {});
        } else {
            // A model got it wrong, and is to see what it wrote.
            self.losses.note("tool arguments that are no object");
            block.object("input", |input| input.text("arguments", &call.arguments.quoted()));
        }
    }

    fn result(&mut self, block: &mut Object<'_>, answered: &Answered<'_>) {
        block.string("type", "tool_result");
        block.string("tool_use_id", &answered.id);
        let Some(result) = answered.result else {
            block.string("content", "The tool gave no answer.");
            return block.bool("is_error", true);
        };
        match &*result.parts {
            [Part::Text { text, .. }] if is_blank(text) => {}
            [Part::Text { text, .. }] => block.text("content", text),
            [] => {}
            parts => block.array("content", |list| {
                for part in parts {
                    match part {
                        Part::Text { text, .. } if is_blank(text) => {}
                        Part::Text { text, .. } => write_text(list, text),
                        Part::Media(media) => self.media(list, media, "media in a tool result"),
                        _ => self.losses.note("native content part"),
                    }
                }
            }),
        }
        if result.is_error {
            block.bool("is_error", true);
        }
    }

    fn media(&mut self, list: &mut Array<'_>, media: &Media<'_>, loss: &'static str) {
        let text = match (media.kind, &media.source) {
            (MediaKind::Audio | MediaKind::Video, _) | (_, Source::File(_)) => return self.losses.note(loss),
            (MediaKind::Image, Source::Text(_)) => return self.losses.note(loss),
            (MediaKind::Document, Source::Inline { media_type, data }) if !media_type.is("application/pdf") => {
                // Of other kinds, only text is read, and not in base64.
                let is_text = media_type.as_escaped().starts_with("text/");
                match base64_text(data.as_escaped()).filter(|_| is_text) {
                    Some(text) => Some(Source::Text(Text::plain(&text))),
                    None => return self.losses.note(loss),
                }
            }
            _ => None,
        };
        list.object(|block| {
            block.string("type", if media.kind == MediaKind::Image { "image" } else { "document" });
            block.object("source", |out| source(out, text.as_ref().unwrap_or(&media.source)));
            if media.kind == MediaKind::Document {
                block.maybe_text("title", media.name.as_ref().filter(|name| !name.is_empty()));
            }
        });
    }

    fn tools(&mut self, body: &mut Object<'_>, conversation: &Conversation<'_>) {
        let request = self.request;
        let allowed = match &request.tool_choice {
            Some(ToolChoice::Among { names, .. }) => Some(names),
            _ => None,
        };
        let is_offered = |tool: &&Tool<'_>| match tool {
            Tool::Function { name, .. } => allowed.is_none_or(|allowed| allowed.contains(name)),
            Tool::Native(_) => true,
        };
        let mut offered = Vec::new();
        for tool in request.tools.iter().filter(is_offered) {
            match tool {
                Tool::Function { .. } => offered.push(tool),
                Tool::Native(_) => self.losses.note("native tool"),
            }
        }
        if offered.is_empty() {
            return described(body, conversation);
        }
        body.array("tools", |list| offered.iter().for_each(|tool| list.object(|item| self.tool(item, tool))));
        self.tool_choice(body);
    }

    fn tool(&mut self, item: &mut Object<'_>, tool: &Tool<'_>) {
        let Tool::Function { name, description, parameters, strict, .. } = tool else { return };
        let schema = parameters.as_ref().filter(|schema| schema.is_object());
        let asked = *strict == Some(true);
        let strict = asked && self.structured && schema.is_none_or(is_of_objects);
        self.losses.note_if(asked && !strict, "strict");
        item.text("name", name);
        item.maybe_text("description", description.as_ref().filter(|text| !text.is_empty()));
        match schema {
            Some(schema) if strict => item.value("input_schema", |out| schema::write(schema, self.losses, out)),
            Some(schema) => item.value("input_schema", |out| write_object_schema(schema, out)),
            None if strict => {
                item.literal("input_schema", r#"{"type":"object","properties":{},"additionalProperties":false}"#);
            }
            None => item.literal("input_schema", r#"{"type":"object","properties":{}}"#),
        }
        if strict {
            item.bool("strict", true);
        }
    }

    fn tool_choice(&mut self, body: &mut Object<'_>) {
        let choice = match &self.request.tool_choice {
            Some(ToolChoice::Native(_)) => {
                self.losses.note("native tool choice");
                None
            }
            Some(_) if self.forces_a_tool() && !self.family.forced_tools => {
                self.losses.note("tool_choice");
                Some(&ToolChoice::Auto)
            }
            choice => choice.as_ref(),
        };
        let sole = self.request.parallel_tool_calls == Some(false);
        let choice = match choice {
            None if !sole => return,
            None => &ToolChoice::Auto,
            Some(choice) => choice,
        };
        body.object("tool_choice", |out| {
            match choice {
                ToolChoice::None => return out.string("type", "none"),
                ToolChoice::Required | ToolChoice::Among { required: true, .. } => out.string("type", "any"),
                ToolChoice::Tool(name) => {
                    out.string("type", "tool");
                    out.text("name", name);
                }
                _ => out.string("type", "auto"),
            }
            if sole {
                out.bool("disable_parallel_tool_use", true);
            }
        });
    }

    fn output_config(&mut self, body: &mut Object<'_>) {
        let format = match &self.request.format {
            Some(Format::Schema { schema, description, .. }) if self.structured => {
                self.losses.note_if(description.is_some(), "description of a format");
                Some(schema)
            }
            _ => None,
        };
        let effort = self.plan.effort;
        if format.is_none() && effort.is_none() {
            return;
        }
        body.object("output_config", |config| {
            effort.iter().for_each(|effort| config.string("effort", effort.name()));
            if let Some(schema) = format {
                config.object("format", |format| {
                    format.string("type", "json_schema");
                    format.value("schema", |out| schema::write(schema, self.losses, out));
                });
            }
        });
    }

    fn sampling(&mut self, body: &mut Object<'_>) {
        let request = self.request;
        let stops: Vec<_> = request.stop.iter().filter(|stop| !is_blank(stop)).collect();
        self.losses.note_if(stops.len() < request.stop.len(), "stop of white space");
        if !stops.is_empty() {
            body.array("stop_sequences", |list| stops.iter().for_each(|stop| list.text(stop)));
        }
        let takes = self.family.sampling && !self.plan.has_budget();
        let number = |raw: &Raw<'_>| raw.as_str().parse::<f64>().ok();
        // What they have by default says nothing.
        let said = |raw: &&Raw<'_>| number(raw) != Some(1.0);
        match &request.temperature {
            Some(temperature) if !takes => self.losses.note_if(said(&temperature), "temperature"),
            Some(temperature) if number(temperature).is_some_and(|degrees| degrees > 1.0) => {
                self.losses.note("temperature above 1");
                body.literal("temperature", "1");
            }
            temperature => body.maybe_raw("temperature", temperature.as_ref()),
        }
        // Newer ones take either of the two, and not both.
        let has_temperature = request.temperature.as_ref().is_some_and(|temperature| said(&temperature));
        match request.top_p.as_ref().filter(said) {
            Some(_) if !takes || has_temperature => self.losses.note("top_p"),
            top_p => body.maybe_raw("top_p", top_p),
        }
        match &request.top_k {
            Some(_) if !takes => self.losses.note("top_k"),
            top_k => body.maybe_raw("top_k", top_k.as_ref()),
        }
    }

    fn service_tier(&mut self, body: &mut Object<'_>) {
        match self.request.service_tier.as_ref().map(Text::as_escaped) {
            None => {}
            // Anthropic's uses a priority that was paid for, if there is one.
            Some("auto" | "priority") => body.string("service_tier", "auto"),
            Some("default") => body.string("service_tier", "standard_only"),
            Some(_) => self.losses.note("service_tier"),
        }
    }
}

fn write_text(list: &mut Array<'_>, text: &Text<'_>) {
    list.object(|block| {
        block.string("type", "text");
        block.text("text", text);
    });
}

/// Tools that were called must be known, even where none may be called any more.
fn described(body: &mut Object<'_>, conversation: &Conversation<'_>) {
    let mut names: Vec<&Text<'_>> = Vec::new();
    for name in conversation.called() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return;
    }
    body.array("tools", |list| {
        for name in names {
            list.object(|item| {
                item.text("name", name);
                item.literal("input_schema", r#"{"type":"object","properties":{}}"#);
            });
        }
    });
    body.literal("tool_choice", r#"{"type":"none"}"#);
}

fn is_of_objects(schema: &Raw<'_>) -> bool {
    schema.value().and_then(|schema| schema.member("type")).is_some_and(|kind| kind.json() == b"\"object\"")
}

/// A schema, said to be one of objects: anything else is refused.
fn write_object_schema(schema: &Raw<'_>, out: &mut Vec<u8>) {
    let Some(value) = schema.value().filter(|_| !is_of_objects(schema)) else { return schema.write(out) };
    crate::dialect::json_write::object(out, |object| {
        object.string("type", "object");
        for (key, member) in value.members().filter_map(Result::ok).filter(|(key, _)| key != "type") {
            Raw::of(&member).iter().for_each(|raw| object.raw(&key, raw));
        }
    });
}

/// The text that stands in base64; `None` if it is none.
fn base64_text(data: &str) -> Option<String> {
    let (mut bytes, mut bits, mut held) = (Vec::with_capacity(data.len() / 4 * 3), 0_u32, 0);
    for byte in data.trim_end_matches('=').bytes() {
        let sextet = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(sextet);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8); // eight bits
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
