//! The canonical form as a response.

use crate::{
    Dialect, Usage,
    dialect::{
        canonical::{Answer, Call, Extras, Finish, Losses, Part, Text, Thought, call_id, seconds_now},
        foreign::TRANSLATED_ITEM,
        json_write::{Array, Object, object},
        openai_responses::{
            request::{
                decode::{EMPTY, KIND, MESSAGE},
                encode::write_extras,
            },
            usage,
        },
    },
};

/// Writes an answer; notes what has no place in it.
pub(crate) fn encode(answer: &Answer<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
    let own = answer.dialect == Dialect::OpenAiResponses;
    let names = Names::new(answer.id.as_ref(), own);
    let mut items = Items { own, names: &names, losses, last: State::of(&answer.finish).name() };
    object(out, |body| {
        // One that was put together from a stream has nothing of what stands around the output.
        if own && answer.extras.aside("status").is_some() {
            body.maybe_text("id", answer.id.as_ref());
            body.maybe_text("model", answer.model.as_ref());
            answer.created.iter().filter(|_| answer.extras.aside("created_at").is_none()).for_each(|created| {
                body.number("created_at", *created);
            });
            body.array("output", |list| items.write(list, &answer.parts));
            body.maybe_text("service_tier", answer.service_tier.as_ref());
            return write_extras(body, &answer.extras);
        }
        let envelope = Envelope {
            id: &names.response,
            model: answer.model.as_ref(),
            created: answer.created.unwrap_or_else(seconds_now),
            state: State::of(&answer.finish),
            usage: answer.usage.as_ref(),
            service_tier: answer.service_tier.as_ref(),
        };
        envelope.write(body, |body| body.array("output", |list| items.write(list, &answer.parts)));
    });
    if !own {
        answer.note_extras(losses);
        losses.finish(&answer.finish, false);
    }
}

/// The names of a response and its items: made from the id that there is, so that they are the same each time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Names {
    pub(crate) response: Text<'static>,
    stem: String,
}

impl Names {
    pub(crate) fn new(id: Option<&Text<'_>>, own: bool) -> Self {
        let made_up = call_id(None, 0);
        let id = id.unwrap_or(&made_up).as_escaped();
        let known = ["resp_", "chatcmpl-", "msg_", "gen-", "call_"].iter().find_map(|prefix| id.strip_prefix(prefix));
        let kept = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let stem: String = known.unwrap_or(id).chars().filter(kept).collect();
        let response = if own { id.to_owned() } else { format!("resp_{stem}") };
        Names { response: Text::escaped(response), stem }
    }

    /// Of the item of that number; the prefix tells its kind.
    pub(crate) fn item(&self, prefix: &str, number: usize) -> String {
        format!("{prefix}_{}_{number}", self.stem)
    }

    /// Of a call whose dialect has none.
    pub(crate) fn call<'a>(&self, id: &'a Text<'_>, number: usize) -> Text<'a> {
        if id.is_empty() { call_id(Some(&self.response), number) } else { id.borrowed() }
    }
}

/// How far a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    InProgress,
    Completed,
    Incomplete(&'static str),
}

impl State {
    pub(crate) fn of(finish: &Finish<'_>) -> Self {
        match finish {
            Finish::Length => State::Incomplete("max_output_tokens"),
            Finish::ContentFilter => State::Incomplete("content_filter"),
            _ => State::Completed,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            State::InProgress => "in_progress",
            State::Completed => "completed",
            State::Incomplete(_) => "incomplete",
        }
    }
}

/// A response but for what it says: every member that OpenAI's SDKs take for granted. What the request asked for is not known
/// here, so where the provider repeats it there stand the API's defaults.
pub(crate) struct Envelope<'e> {
    pub(crate) id: &'e Text<'e>,
    pub(crate) model: Option<&'e Text<'e>>,
    pub(crate) created: u64,
    pub(crate) state: State,
    pub(crate) usage: Option<&'e Usage>,
    pub(crate) service_tier: Option<&'e Text<'e>>,
}

impl Envelope<'_> {
    pub(crate) fn write(&self, body: &mut Object<'_>, output: impl FnOnce(&mut Object<'_>)) {
        body.text("id", self.id);
        body.string("object", "response");
        body.number("created_at", self.created);
        body.string("status", self.state.name());
        body.bool("background", false);
        body.null("error");
        match self.state {
            State::Incomplete(why) => body.object("incomplete_details", |details| details.string("reason", why)),
            _ => body.null("incomplete_details"),
        }
        body.null("instructions");
        body.null("max_output_tokens");
        body.literal("metadata", "{}");
        body.text("model", self.model.unwrap_or(&Text::default()));
        output(body);
        body.bool("parallel_tool_calls", true);
        body.null("previous_response_id");
        body.literal("reasoning", r#"{"effort":null,"summary":null}"#);
        match self.service_tier {
            Some(tier) => body.text("service_tier", tier),
            None => body.string("service_tier", "default"),
        }
        body.bool("store", false);
        body.null("temperature");
        body.literal("text", r#"{"format":{"type":"text"}}"#);
        body.string("tool_choice", "auto");
        body.literal("tools", "[]");
        body.null("top_p");
        body.string("truncation", "disabled");
        match self.usage {
            Some(counts) => body.object("usage", |object| usage::write(counts, object)),
            None => body.null("usage"),
        }
        body.null("user");
    }
}

/// Writes what a response says.
struct Items<'i> {
    own: bool,
    names: &'i Names,
    losses: &'i mut Losses,
    /// The status of the last item: it is what was cut short, if anything was.
    last: &'static str,
}

impl Items<'_> {
    fn write(&mut self, list: &mut Array<'_>, parts: &[Part<'_>]) {
        let (mut at, mut number) = (0, 0);
        while let Some(part) = parts.get(at) {
            let mut end = at + 1;
            if is_said(part) {
                end += parts[end..].iter().position(|part| !is_said(part) || begins(part)).unwrap_or(parts.len() - end);
            }
            let status = if end == parts.len() { self.last } else { "completed" };
            number += usize::from(self.item(list, &parts[at..end], number, status));
            at = end;
        }
    }

    /// Writes the item that these parts are; says whether they are one.
    fn item(&mut self, list: &mut Array<'_>, parts: &[Part<'_>], number: usize, status: &str) -> bool {
        match parts {
            [Part::Call(call)] => list.object(|item| self.call(item, call, number, status)),
            [Part::Thought(thought)] => match &thought.native {
                Some(raw) if self.own => list.raw(raw),
                native => {
                    let signed = thought.signature.is_some();
                    self.losses.note_if(!self.own && (signed || native.is_some()), "reasoning signature");
                    if thought.text.is_empty() && !(self.own && signed) {
                        return false;
                    }
                    let signature = thought.signature.as_ref().filter(|_| self.own);
                    list.object(|item| {
                        reasoning(item, thought, &self.names.item(TRANSLATED_ITEM, number));
                        item.maybe_text("encrypted_content", signature);
                    });
                }
            },
            [Part::Native(raw)] if self.own => list.raw(raw),
            [Part::Native(_) | Part::Media(_) | Part::Result(_)] => {
                self.losses.note("native content part");
                return false;
            }
            said if !self.own && said.iter().all(is_nothing) => return false,
            said => list.object(|item| self.message(item, said, number, status)),
        }
        true
    }

    fn message(&mut self, item: &mut Object<'_>, parts: &[Part<'_>], number: usize, status: &str) {
        let no_header = Extras::default();
        let header = match parts.first() {
            Some(Part::Text { extras, .. }) if self.own => extras,
            _ => &no_header,
        };
        let members = header.asides().filter(|(key, _)| !key.as_escaped().starts_with('.'));
        members.for_each(|(key, value)| item.raw(&key.decoded(), value));
        for (key, value) in [("id", &*self.names.item("msg", number)), ("type", "message"), ("status", status)] {
            if header.aside(key).is_none() {
                item.string(key, value);
            }
        }
        item.string("role", "assistant");
        item.array("content", |list| {
            for part in parts {
                match part {
                    Part::Text { extras, .. } if self.own && extras.aside(EMPTY).is_some() => {}
                    Part::Text { text, extras } => list.object(|part| {
                        match extras.aside(KIND).filter(|_| self.own) {
                            Some(kind) => part.raw("type", kind),
                            None => part.string("type", "output_text"),
                        }
                        part.text("text", text);
                        if self.own {
                            let own = extras.iter().filter(|(key, _)| extras.aside(key.as_escaped()).is_none());
                            own.for_each(|(key, value)| part.raw(&key.decoded(), value));
                            if extras.get("annotations").is_none() {
                                part.literal("annotations", "[]");
                            }
                        } else {
                            self.losses.extras(extras);
                            part.literal("annotations", "[]");
                            part.literal("logprobs", "[]");
                        }
                    }),
                    Part::Refusal(text) => list.object(|part| {
                        part.string("type", "refusal");
                        part.text("refusal", text);
                    }),
                    _ => {}
                }
            }
        });
    }

    fn call(&mut self, item: &mut Object<'_>, call: &Call<'_>, number: usize, status: &str) {
        item.string("type", "function_call");
        item.text("call_id", &self.names.call(&call.id, number));
        item.text("name", &call.name);
        let arguments = call.arguments.as_str();
        item.string("arguments", if arguments.is_empty() && !self.own { "{}" } else { arguments });
        if self.own {
            write_extras(item, &call.extras);
        }
        for (key, value) in [("id", &*self.names.item("fc", number)), ("status", status)] {
            let known = call.extras.aside(key).or(call.extras.get(key));
            if !self.own || known.is_none() {
                item.string(key, value);
            }
        }
        if self.own {
            return;
        }
        self.losses.note_if(call.signature.is_some(), "reasoning signature");
        self.losses.extras(&call.extras);
    }
}

/// A reasoning item of ours. What proves whose thought another provider's is, is of no use to OpenAI, which would refuse it.
fn reasoning(item: &mut Object<'_>, thought: &Thought<'_>, id: &str) {
    item.string("id", id);
    item.string("type", "reasoning");
    item.array("summary", |parts| {
        if thought.text.is_empty() {
            return;
        }
        parts.object(|part| {
            part.string("type", "summary_text");
            part.text("text", &thought.text);
        });
    });
}

/// Whether it is part of a message.
fn is_said(part: &Part<'_>) -> bool {
    matches!(part, Part::Text { .. } | Part::Refusal(_))
}

fn is_nothing(part: &Part<'_>) -> bool {
    matches!(part, Part::Text { text, .. } if text.is_empty())
}

/// Whether a message begins with it.
fn begins(part: &Part<'_>) -> bool {
    matches!(part, Part::Text { extras, .. } if extras.aside(MESSAGE).is_some())
}
