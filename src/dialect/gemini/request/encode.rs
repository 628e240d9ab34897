//! The canonical form as a `generateContent` request.

use super::decode::SETTINGS;
use crate::{
    Dialect,
    dialect::{
        canonical::{
            Call, Destination, Effort, Format, Losses, Part, Raw, Reasoning, Request, Role, Source, Text, Tool,
            ToolChoice, ToolResult, Turn,
        },
        gemini::{
            family::{Family, Thinking},
            names::{place, write_kept, write_own},
            part::{NO_SIGNATURE, write_arguments, write_media, write_output, write_own_part},
        },
        json_write::{Array, Object, array, object},
    },
};

/// How many stop sequences are taken.
const MOST_STOPS: usize = 5;

/// Writes a request; notes what has no place in it.
pub(crate) fn encode(request: &Request<'_>, destination: Destination<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
    let own = request.dialect == Dialect::Gemini;
    if !own {
        request.note_extras(losses);
    }
    let family = Family::of(destination.model);
    let mut encoder = Encoder { own, family, request, losses };
    object(out, |body| encoder.body(body));
}

struct Encoder<'r> {
    own: bool,
    family: Family,
    request: &'r Request<'r>,
    losses: &'r mut Losses,
}

/// What is written as one content.
struct Content<'t> {
    model: bool,
    /// Whether it holds results of tools, which stand apart from what the user says.
    results: bool,
    parts: Vec<&'t Part<'t>>,
}

impl Encoder<'_> {
    fn body(&mut self, body: &mut Object<'_>) {
        let request = self.request;
        if self.own {
            body.maybe_text("model", request.model.as_ref());
        }
        self.system(body);
        body.array("contents", |contents| match self.own {
            true => {
                request.turns.iter().filter(|turn| turn.role != Role::System).for_each(|turn| own_turn(contents, turn))
            }
            false => self.contents(contents),
        });
        self.tools(body);
        self.tool_config(body);
        write_unless_empty(body, "generationConfig", |config| self.settings(config));
        if self.own {
            let elsewhere = [SETTINGS, &["functionCallingConfig"]].concat();
            write_own(body, &request.extras, &elsewhere);
            return;
        }
        let tier = request.service_tier.as_ref();
        self.losses.note_if(tier.is_some_and(|tier| !tier.is("auto") && !tier.is("default")), "service_tier");
        for (said, name) in [
            (request.user.is_some(), "user"),
            (request.metadata.is_some(), "metadata"),
            (request.verbosity.is_some(), "verbosity"),
            (request.prompt_cache_key.is_some(), "prompt_cache_key"),
            (request.parallel_tool_calls == Some(false) && !request.tools.is_empty(), "parallel_tool_calls"),
        ] {
            self.losses.note_if(said, name);
        }
    }

    /// What the system says, all of it ahead of the conversation.
    fn system(&mut self, body: &mut Object<'_>) {
        if self.own {
            for turn in self.request.turns.iter().filter(|turn| turn.role == Role::System) {
                body.object("systemInstruction", |content| {
                    content.array("parts", |parts| turn.parts.iter().for_each(|part| write_own_part(parts, part)));
                    write_own(content, &turn.extras, &[]);
                });
            }
            return;
        }
        let turns = &self.request.turns;
        let instruction = self.format_instruction();
        let conversation = turns.iter().position(|turn| !is_system(turn));
        if conversation.is_none() && instruction.is_none() {
            // It is said as the user's: see `contents`.
            return;
        }
        let behind = conversation.is_some_and(|start| turns[start..].iter().any(is_system));
        self.losses.note_if(behind, "place of a system message");
        let mut parts = Vec::new();
        array(&mut parts, |list| {
            for part in turns.iter().filter(|turn| is_system(turn)).flat_map(|turn| &turn.parts) {
                self.part(list, part);
            }
            instruction.iter().for_each(|text| list.object(|part| part.text("text", text)));
        });
        if parts != b"[]" {
            body.object("systemInstruction", |content| content.value("parts", |out| out.extend_from_slice(&parts)));
        }
    }

    /// The turns of another dialect as contents: calls made together stand together, and so do their results, in the order of
    /// the calls, with nothing else.
    fn contents(&mut self, contents: &mut Array<'_>) {
        let request = self.request;
        let mut grouped: Vec<Content<'_>> = Vec::new();
        let only_system = request.turns.iter().all(is_system);
        for turn in request.turns.iter().filter(|turn| only_system || !is_system(turn)) {
            let model = turn.role == Role::Assistant;
            let (results, rest): (Vec<_>, Vec<_>) =
                turn.parts.iter().partition(|part| matches!(part, Part::Result(_)) && !model);
            for (is_results, parts) in [(true, results), (false, rest)] {
                if parts.is_empty() {
                    continue;
                }
                match grouped.last_mut() {
                    Some(last) if last.model == model && last.results == is_results && (model || is_results) => {
                        last.parts.extend(parts);
                    }
                    _ => grouped.push(Content { model, results: is_results, parts }),
                }
            }
        }
        let mut calls: Vec<&Text<'_>> = Vec::new();
        for mut content in grouped {
            if content.results {
                let place_of = |part: &&Part<'_>| match part {
                    Part::Result(result) => calls.iter().position(|id| **id == result.id).unwrap_or(usize::MAX),
                    _ => usize::MAX,
                };
                content.parts.sort_by_key(place_of);
            }
            if content.model {
                let ids = content.parts.iter().filter_map(|part| match part {
                    Part::Call(call) => Some(&call.id),
                    _ => None,
                });
                calls = ids.collect();
            }
            let mut parts = Vec::new();
            array(&mut parts, |list| {
                content.parts.iter().for_each(|part| self.part(list, part));
                self.media_of_results(list, &content);
            });
            if parts != b"[]" {
                contents.object(|object| {
                    object.string("role", if content.model { "model" } else { "user" });
                    object.value("parts", |out| out.extend_from_slice(&parts));
                });
            }
        }
    }

    /// A part of another dialect's.
    fn part(&mut self, list: &mut Array<'_>, part: &Part<'_>) {
        match part {
            // Empty text is refused.
            Part::Text { text, .. } | Part::Refusal(text) if text.is_empty() => {}
            Part::Text { text, .. } | Part::Refusal(text) => list.object(|object| object.text("text", text)),
            Part::Media(media) => match media.source {
                Source::File(_) => self.losses.note("media"),
                ref source => {
                    self.losses.note_if(media.name.is_some(), "name");
                    list.object(|object| write_media(object, source, media.kind, None, &Default::default()));
                }
            },
            Part::Thought(_) => self.losses.note("reasoning of earlier turns"),
            Part::Call(call) => self.call(list, call),
            Part::Result(result) => self.result(list, result),
            Part::Native(_) => self.losses.note("native content part"),
        }
    }

    fn call(&mut self, list: &mut Array<'_>, call: &Call<'_>) {
        list.object(|object| {
            object.object("functionCall", |function| {
                if !call.id.is_empty() {
                    function.text("id", &call.id);
                }
                function.text("name", &call.name);
                let understood = write_arguments(function, &call.arguments);
                self.losses.note_if(!understood, "malformed arguments");
            });
            if self.family.wants_signatures() {
                object.string("thoughtSignature", NO_SIGNATURE);
            }
        });
    }

    fn result(&mut self, list: &mut Array<'_>, result: &ToolResult<'_>) {
        let called = self.request.call(&result.id).map(|call| &call.name);
        list.object(|object| {
            object.object("functionResponse", |function| {
                if !result.id.is_empty() {
                    function.text("id", &result.id);
                }
                match called.or(result.name.as_ref()) {
                    Some(name) => function.text("name", name),
                    None => function.string("name", "unknown"),
                }
                self.response(function, result);
                let media: Vec<_> = self.media_of(result).collect();
                if self.family.takes_media_in_results() && !media.is_empty() {
                    function.array("parts", |list| media.iter().for_each(|part| self.part(list, part)));
                }
            });
        });
    }

    fn response(&mut self, function: &mut Object<'_>, result: &ToolResult<'_>) {
        let mut whole: Option<Text<'_>> = None;
        for part in &result.parts {
            let text = match part {
                Part::Text { text, .. } | Part::Refusal(text) => text,
                Part::Media(_) => continue,
                _ => {
                    self.losses.note("native content part");
                    continue;
                }
            };
            match &mut whole {
                None => whole = Some(text.borrowed()),
                Some(whole) => {
                    whole.push(&Text::escaped("\\n"));
                    whole.push(text);
                }
            }
        }
        let text = whole.unwrap_or_default();
        // An object is one already; white space and escapes before its brace are nobody's habit.
        let said = if text.as_escaped().starts_with('{') && !result.is_error { Some(text.as_json()) } else { None };
        match said.filter(Raw::is_object) {
            Some(said) => function.raw("response", &said),
            None => write_output(function, &text, result.is_error),
        }
    }

    fn media_of<'t>(&self, result: &'t ToolResult<'t>) -> impl Iterator<Item = &'t Part<'t>> + use<'t> {
        result.parts.iter().filter(|part| matches!(part, Part::Media(_)))
    }

    /// For models that take no media in results: behind them.
    fn media_of_results(&mut self, list: &mut Array<'_>, content: &Content<'_>) {
        if self.family.takes_media_in_results() {
            return;
        }
        for part in &content.parts {
            if let Part::Result(result) = part {
                for part in self.media_of(result) {
                    self.part(list, part);
                }
            }
        }
    }

    fn tools(&mut self, body: &mut Object<'_>) {
        let request = self.request;
        // Only of the allowed ones may be chosen where none need be: the others are not shown.
        let allowed = match &request.tool_choice {
            Some(ToolChoice::Among { required: false, names }) if !self.own => Some(names),
            _ => None,
        };
        let mut functions = Vec::new();
        array(&mut functions, |list| {
            for tool in &request.tools {
                if let Tool::Function { name, description, parameters, strict, extras, .. } = tool {
                    if allowed.is_some_and(|names| !names.contains(name)) {
                        continue;
                    }
                    list.object(|function| {
                        function.text("name", name);
                        function.maybe_text("description", description.as_ref());
                        if !self.own || extras.get("parameters").is_none() {
                            function.maybe_raw("parametersJsonSchema", parameters.as_ref());
                        }
                        if self.own {
                            write_own(function, extras, &[]);
                        }
                    });
                    self.losses.note_if(!self.own && *strict == Some(true), "strict");
                }
            }
        });
        let native: Vec<_> = request.tools.iter().filter(|tool| matches!(tool, Tool::Native(_))).collect();
        self.losses.note_if(!self.own && !native.is_empty(), "native tool");
        let has_functions = functions != b"[]";
        if !has_functions && (native.is_empty() || !self.own) {
            return;
        }
        body.array("tools", |tools| {
            if has_functions {
                tools.object(|tool| tool.value("functionDeclarations", |out| out.extend_from_slice(&functions)));
            }
            for tool in native {
                match tool {
                    Tool::Native(raw) if self.own => tools.raw(raw),
                    _ => {}
                }
            }
        });
    }

    fn tool_config(&mut self, body: &mut Object<'_>) {
        let request = self.request;
        if self.own {
            write_unless_empty(body, "toolConfig", |config| {
                config.maybe_raw("functionCallingConfig", request.extras.get("functionCallingConfig"));
                write_kept(config, &request.extras, "toolConfig");
            });
            return;
        }
        let Some(choice) = request.tool_choice.as_ref().filter(|_| !request.tools.is_empty()) else { return };
        let (mode, names) = match choice {
            ToolChoice::Auto | ToolChoice::Among { required: false, .. } => ("AUTO", &[][..]),
            ToolChoice::None => ("NONE", &[][..]),
            ToolChoice::Required => ("ANY", &[][..]),
            ToolChoice::Tool(name) => ("ANY", std::slice::from_ref(name)),
            ToolChoice::Among { required: true, names } => ("ANY", &**names),
            ToolChoice::Native(_) => return self.losses.note("native tool choice"),
        };
        body.object("toolConfig", |config| {
            config.object("functionCallingConfig", |config| {
                config.string("mode", mode);
                if !names.is_empty() {
                    config.array("allowedFunctionNames", |list| names.iter().for_each(|name| list.text(name)));
                }
            });
        });
    }

    fn settings(&mut self, config: &mut Object<'_>) {
        let request = self.request;
        let sampling = [("temperature", &request.temperature), ("topP", &request.top_p), ("topK", &request.top_k)];
        for (name, value) in sampling {
            if self.own || self.family.takes_sampling() {
                config.maybe_raw(name, value.as_ref());
            } else {
                self.losses.note_if(value.is_some(), "sampling");
            }
        }
        config.maybe_raw("frequencyPenalty", request.frequency_penalty.as_ref());
        config.maybe_raw("presencePenalty", request.presence_penalty.as_ref());
        self.seed(config);
        if let Some(most) = request.max_output_tokens {
            config.number("maxOutputTokens", most);
        }
        let stops = if self.own { &*request.stop } else { &request.stop[..request.stop.len().min(MOST_STOPS)] };
        self.losses.note_if(stops.len() < request.stop.len(), "stop");
        if !stops.is_empty() {
            config.array("stopSequences", |list| stops.iter().for_each(|stop| list.text(stop)));
        }
        self.format(config);
        if self.own {
            for (key, value) in request.extras.iter().filter(|(key, _)| SETTINGS.iter().any(|known| key.is(known))) {
                if !(key.is("responseSchema") && matches!(request.format, Some(Format::Schema { .. }))) {
                    config.raw(place(key).1, value);
                }
            }
            write_kept(config, &request.extras, "generationConfig");
        } else if let Some(reasoning) = &request.reasoning {
            self.reasoning(config, reasoning);
        }
    }

    /// Of 32 bits here.
    fn seed(&mut self, config: &mut Object<'_>) {
        let Some(seed) = &self.request.seed else { return };
        if self.own || seed.as_str().parse::<i32>().is_ok() {
            config.raw("seed", seed);
        } else {
            self.losses.note("seed");
        }
    }

    fn format(&mut self, config: &mut Object<'_>) {
        let beside_tools = self.format_instruction().is_some();
        match &self.request.format {
            None => {}
            Some(Format::Text) if self.own => config.string("responseMimeType", "text/plain"),
            Some(Format::Text) => {}
            Some(_) if beside_tools => self.losses.note("response_format beside tools"),
            Some(Format::Json) => config.string("responseMimeType", "application/json"),
            Some(Format::Schema { schema, .. }) => {
                config.string("responseMimeType", "application/json");
                match self.request.extras.get("responseSchema").filter(|_| self.own) {
                    Some(own) => config.raw("responseSchema", own),
                    None => config.raw("responseJsonSchema", schema),
                }
            }
        }
    }

    /// What is told to a model that takes no format where there are tools.
    fn format_instruction(&self) -> Option<Text<'static>> {
        let has_tools = self.request.tools.iter().any(|tool| matches!(tool, Tool::Function { .. }));
        if self.own || self.family.takes_format_beside_tools() || !has_tools {
            return None;
        }
        match &self.request.format {
            None | Some(Format::Text) => None,
            Some(Format::Json) => Some(Text::escaped("Answer with a JSON object and nothing else.")),
            Some(Format::Schema { schema, .. }) => {
                let mut text =
                    Text::escaped("Unless you call a tool, answer with JSON of this schema and nothing else:\\n");
                text.push(&schema.quoted());
                Some(text.into_owned())
            }
        }
    }

    fn reasoning(&mut self, config: &mut Object<'_>, reasoning: &Reasoning) {
        let thinking = self.family.thinking();
        let asked = reasoning.as_effort().is_some_and(|effort| effort != Effort::None);
        if thinking == Thinking::None {
            return self.losses.note_if(asked, "reasoning");
        }
        write_unless_empty(config, "thinkingConfig", |config| {
            match thinking {
                Thinking::Level => {
                    if let Some(effort) = reasoning.as_effort() {
                        let (level, exact) = self.family.level(effort);
                        config.string("thinkingLevel", level);
                        self.losses.note_if(!exact, "reasoning_effort");
                    }
                }
                Thinking::Budget | Thinking::None => {
                    if let Some(budget) = reasoning.as_budget() {
                        config.number("thinkingBudget", self.family.budget(budget));
                    }
                }
            }
            if let Some(told) = reasoning.told {
                config.bool("includeThoughts", told);
            }
        });
    }
}

fn is_system(turn: &Turn<'_>) -> bool {
    matches!(turn.role, Role::System | Role::Developer)
}

/// A turn as it was.
fn own_turn(contents: &mut Array<'_>, turn: &Turn<'_>) {
    contents.object(|content| {
        if turn.extras.get("role").is_none() {
            content.string("role", if turn.role == Role::Assistant { "model" } else { "user" });
        }
        content.array("parts", |parts| turn.parts.iter().for_each(|part| write_own_part(parts, part)));
        write_own(content, &turn.extras, &[]);
    });
}

fn write_unless_empty(object: &mut Object<'_>, key: &str, members: impl FnOnce(&mut Object<'_>)) {
    let mut out = Vec::new();
    crate::dialect::json_write::object(&mut out, members);
    if out != b"{}" {
        object.value(key, |body| body.extend_from_slice(&out));
    }
}

#[cfg(test)]
mod tests;
