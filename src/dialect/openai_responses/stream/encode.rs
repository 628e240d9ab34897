//! The canonical form as a response's stream.

use crate::{
    Usage,
    dialect::{
        canonical::{Block, Event, Head, Losses, Raw, Text, seconds_now},
        foreign::TRANSLATED_ITEM,
        json_write::{Object, object},
        openai_responses::response::encode::{Envelope, Names, State},
    },
};

/// Items of the provider's own tools: a JSON answer in the same dialect may have come in the place of its stream.
const OWN_ITEMS: &[&str] = &[
    "apply_patch_call",
    "apply_patch_call_output",
    "code_interpreter_call",
    "compaction",
    "computer_call",
    "custom_tool_call",
    "file_search_call",
    "image_generation_call",
    "local_shell_call",
    "mcp_approval_request",
    "mcp_call",
    "mcp_list_tools",
    "program",
    "program_output",
    "shell_call",
    "shell_call_output",
    "tool_search_call",
    "tool_search_output",
    "web_search_call",
];
const OWN_ANNOTATIONS: &[&str] = &["container_file_citation", "file_citation", "file_path", "url_citation"];

/// Tells canonical events as a response's.
///
/// The API ends each text, each item and the stream itself with all that was said, so what was told is kept until the end:
/// no more than the client was sent.
#[derive(Debug)]
pub(crate) struct Encoder {
    names: Names,
    model: Option<Text<'static>>,
    created: u64,
    /// The number of the next event.
    sequence: u64,
    /// The items that are over, with commas between them.
    output: Vec<u8>,
    /// How many items have begun.
    items: usize,
    /// The parts of the message that is open, if one is, and how many there are.
    message: Option<(Vec<u8>, u64)>,
    open: Open,
    /// What the open block says.
    text: Text<'static>,
    /// What was noted about it, with commas between.
    annotations: (Vec<u8>, u64),
    usage: Option<Usage>,
    state: State,
}

/// The block that is open.
#[derive(Debug)]
enum Open {
    Nothing,
    Text,
    Refusal,
    /// It is told with its first word: some have none.
    Thought,
    Call {
        id: Text<'static>,
        name: Text<'static>,
    },
    Native,
}

impl Encoder {
    /// Every stream of this dialect tells its usage.
    pub(crate) fn new(_include_usage: bool) -> Self {
        Encoder {
            names: Names::new(None, false),
            model: None,
            created: 0,
            sequence: 0,
            output: Vec::new(),
            items: 0,
            message: None,
            open: Open::Nothing,
            text: Text::default(),
            annotations: (Vec::new(), 0),
            usage: None,
            state: State::InProgress,
        }
    }

    /// Appends what tells the event.
    pub(crate) fn event(&mut self, event: &Event<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
        match event {
            Event::Start(head) => self.start(head, out),
            Event::Begin(block) => self.begin(block, losses, out),
            Event::Delta(text) => self.delta(text, out),
            // What proves whose thought it is, is of no use to OpenAI, which would refuse it.
            Event::Signature(_) => losses.note("reasoning signature"),
            Event::Annotation(annotation) if is_one_of(OWN_ANNOTATIONS, annotation) => self.annotate(annotation, out),
            Event::Annotation(_) => losses.note("citations"),
            Event::End => self.end(out),
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Finish(finish) => {
                losses.finish(finish, false);
                self.state = State::of(finish);
                self.close_message(self.state.name(), out);
            }
            Event::Done => {
                let kind = match self.state {
                    State::Incomplete(_) => "response.incomplete",
                    _ => "response.completed",
                };
                self.response(kind, self.state, out);
            }
        }
    }

    fn start(&mut self, head: &Head<'_>, out: &mut Vec<u8>) {
        self.names = Names::new(head.id.as_ref(), false);
        self.model = head.model.clone().map(Text::into_owned);
        self.created = head.created.unwrap_or_else(seconds_now);
        self.response("response.created", State::InProgress, out);
        self.response("response.in_progress", State::InProgress, out);
    }

    /// An event that carries the whole response, as far as it is.
    fn response(&mut self, kind: &str, state: State, out: &mut Vec<u8>) {
        let done = state != State::InProgress;
        let envelope = Envelope {
            id: &self.names.response,
            model: self.model.as_ref(),
            created: self.created,
            state,
            usage: self.usage.as_ref().filter(|_| done),
            service_tier: None,
        };
        let output: &[u8] = if done { &self.output } else { &[] };
        write(&mut self.sequence, kind, out, |event| {
            event.object("response", |body| {
                envelope.write(body, |body| write_list(body, "output", output));
            });
        });
    }

    fn begin(&mut self, block: &Block<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
        self.text = Text::default();
        self.open = match block {
            Block::Text | Block::Refusal => {
                let is_text = *block == Block::Text;
                self.open_message(out);
                self.in_part("response.content_part.added", out, |event| {
                    event.object("part", |part| write_part(part, is_text, &Text::default(), &[]));
                });
                if is_text { Open::Text } else { Open::Refusal }
            }
            Block::Thought => Open::Thought,
            Block::Call { id, name } => {
                self.close_message("completed", out);
                let id = self.names.call(id, self.items).into_owned();
                let name = name.clone().into_owned();
                self.items += 1;
                let item_id = self.names.item("fc", self.items - 1);
                self.in_output("response.output_item.added", out, |event| {
                    event.object("item", |item| {
                        write_call(item, &item_id, &id, &name, &Text::default(), "in_progress");
                    });
                });
                Open::Call { id, name }
            }
            Block::Native(raw) => {
                if is_one_of(OWN_ITEMS, raw) {
                    self.close_message("completed", out);
                    self.items += 1;
                    self.in_output("response.output_item.added", out, |event| event.raw("item", raw));
                    self.in_output("response.output_item.done", out, |event| event.raw("item", raw));
                    self.keep_item(|out| raw.write(out));
                } else {
                    losses.note("native content part");
                }
                Open::Native
            }
        };
    }

    fn annotate(&mut self, annotation: &Raw<'_>, out: &mut Vec<u8>) {
        let number = self.annotations.1;
        self.in_part("response.output_text.annotation.added", out, |event| {
            event.number("annotation_index", number);
            event.raw("annotation", annotation);
        });
        let (annotations, count) = &mut self.annotations;
        if *count > 0 {
            annotations.push(b',');
        }
        annotation.write(annotations);
        *count += 1;
    }

    fn delta(&mut self, text: &Text<'_>, out: &mut Vec<u8>) {
        match self.open {
            Open::Text => self.in_part("response.output_text.delta", out, |event| {
                event.text("delta", text);
                event.literal("logprobs", "[]");
            }),
            Open::Refusal => self.in_part("response.refusal.delta", out, |event| event.text("delta", text)),
            Open::Thought => {
                if self.text.is_empty() {
                    self.open_thought(out);
                }
                self.in_summary("response.reasoning_summary_text.delta", out, |event| event.text("delta", text));
            }
            Open::Call { .. } => {
                self.in_item("fc", "response.function_call_arguments.delta", out, |event| event.text("delta", text));
            }
            Open::Native | Open::Nothing => return,
        }
        self.text.push(text);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if matches!(self.open, Open::Call { .. }) && self.text.is_empty() {
            self.delta(&Text::escaped("{}"), out);
        }
        let text = std::mem::take(&mut self.text);
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Text => self.end_part(true, &text, out),
            Open::Refusal => self.end_part(false, &text, out),
            Open::Thought if text.is_empty() => {}
            Open::Thought => self.end_thought(&text, out),
            Open::Call { id, name } => {
                self.in_item("fc", "response.function_call_arguments.done", out, |event| {
                    event.text("name", &name);
                    event.text("arguments", &text);
                });
                let item_id = self.names.item("fc", self.items - 1);
                self.end_item(out, |item| write_call(item, &item_id, &id, &name, &text, "completed"));
            }
            Open::Native | Open::Nothing => {}
        }
    }

    fn open_message(&mut self, out: &mut Vec<u8>) {
        if self.message.is_some() {
            return;
        }
        self.message = Some((Vec::new(), 0));
        self.items += 1;
        let id = self.names.item("msg", self.items - 1);
        self.in_output("response.output_item.added", out, |event| {
            event.object("item", |item| write_message(item, &id, "in_progress", &[]));
        });
    }

    fn close_message(&mut self, status: &str, out: &mut Vec<u8>) {
        if let Some((content, _)) = self.message.take() {
            let id = self.names.item("msg", self.items - 1);
            self.end_item(out, |item| write_message(item, &id, status, &content));
        }
    }

    fn end_part(&mut self, is_text: bool, text: &Text<'_>, out: &mut Vec<u8>) {
        if is_text {
            self.in_part("response.output_text.done", out, |event| {
                event.text("text", text);
                event.literal("logprobs", "[]");
            });
        } else {
            self.in_part("response.refusal.done", out, |event| event.text("refusal", text));
        }
        let (annotations, _) = std::mem::take(&mut self.annotations);
        self.in_part("response.content_part.done", out, |event| {
            event.object("part", |part| write_part(part, is_text, text, &annotations));
        });
        if let Some((content, parts)) = &mut self.message {
            if *parts > 0 {
                content.push(b',');
            }
            *parts += 1;
            object(content, |part| write_part(part, is_text, text, &annotations));
        }
    }

    fn open_thought(&mut self, out: &mut Vec<u8>) {
        self.close_message("completed", out);
        self.items += 1;
        let id = self.names.item(TRANSLATED_ITEM, self.items - 1);
        self.in_output("response.output_item.added", out, |event| {
            event.object("item", |item| write_thought(item, &id, None));
        });
        self.in_summary("response.reasoning_summary_part.added", out, |event| {
            event.object("part", |part| write_summary(part, &Text::default()));
        });
    }

    fn end_thought(&mut self, text: &Text<'_>, out: &mut Vec<u8>) {
        self.in_summary("response.reasoning_summary_text.done", out, |event| event.text("text", text));
        self.in_summary("response.reasoning_summary_part.done", out, |event| {
            event.object("part", |part| write_summary(part, text));
        });
        let id = self.names.item(TRANSLATED_ITEM, self.items - 1);
        self.end_item(out, |item| write_thought(item, &id, Some(text)));
    }

    /// Tells that the last item is over, and keeps it for the end.
    fn end_item(&mut self, out: &mut Vec<u8>, item: impl Fn(&mut Object<'_>)) {
        self.in_output("response.output_item.done", out, |event| event.object("item", &item));
        self.keep_item(|out| object(out, &item));
    }

    fn keep_item(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.output.is_empty() {
            self.output.push(b',');
        }
        write(&mut self.output);
    }

    /// An event about the last item's place in the output.
    fn in_output(&mut self, kind: &str, out: &mut Vec<u8>, members: impl FnOnce(&mut Object<'_>)) {
        let number = self.items.saturating_sub(1) as u64;
        write(&mut self.sequence, kind, out, |event| {
            event.number("output_index", number);
            members(event);
        });
    }

    /// An event about the last item, whose id has that prefix.
    fn in_item(&mut self, prefix: &str, kind: &str, out: &mut Vec<u8>, members: impl FnOnce(&mut Object<'_>)) {
        let id = self.names.item(prefix, self.items.saturating_sub(1));
        self.in_output(kind, out, |event| {
            event.string("item_id", &id);
            members(event);
        });
    }

    /// An event about the open part of the open message.
    fn in_part(&mut self, kind: &str, out: &mut Vec<u8>, members: impl FnOnce(&mut Object<'_>)) {
        let part = self.message.as_ref().map_or(0, |(_, parts)| *parts);
        self.in_item("msg", kind, out, |event| {
            event.number("content_index", part);
            members(event);
        });
    }

    fn in_summary(&mut self, kind: &str, out: &mut Vec<u8>, members: impl FnOnce(&mut Object<'_>)) {
        self.in_item(TRANSLATED_ITEM, kind, out, |event| {
            event.number("summary_index", 0);
            members(event);
        });
    }
}

/// A list of which the elements are written already.
fn write_list(object: &mut Object<'_>, key: &str, elements: &[u8]) {
    object.value(key, |out| {
        out.push(b'[');
        out.extend_from_slice(elements);
        out.push(b']');
    });
}

/// Whether that is one of the things that this dialect alone has; nothing of another dialect's is called so.
fn is_one_of(known: &[&str], raw: &Raw<'_>) -> bool {
    let kind = raw.value().and_then(|value| Some(value.member("type")?.as_str()?.into_owned()));
    kind.is_some_and(|kind| known.contains(&&*kind))
}

/// Writes an event.
fn write(sequence: &mut u64, kind: &str, out: &mut Vec<u8>, members: impl FnOnce(&mut Object<'_>)) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    object(out, |event| {
        event.string("type", kind);
        event.number("sequence_number", *sequence);
        members(event);
    });
    out.extend_from_slice(b"\n\n");
    *sequence += 1;
}

fn write_part(part: &mut Object<'_>, is_text: bool, text: &Text<'_>, annotations: &[u8]) {
    if is_text {
        part.string("type", "output_text");
        write_list(part, "annotations", annotations);
        part.literal("logprobs", "[]");
        part.text("text", text);
    } else {
        part.string("type", "refusal");
        part.text("refusal", text);
    }
}

fn write_message(item: &mut Object<'_>, id: &str, status: &str, content: &[u8]) {
    item.string("id", id);
    item.string("type", "message");
    item.string("status", status);
    write_list(item, "content", content);
    item.string("role", "assistant");
}

fn write_call(item: &mut Object<'_>, id: &str, call: &Text<'_>, name: &Text<'_>, arguments: &Text<'_>, status: &str) {
    item.string("id", id);
    item.string("type", "function_call");
    item.string("status", status);
    item.text("arguments", arguments);
    item.text("call_id", call);
    item.text("name", name);
}

fn write_thought(item: &mut Object<'_>, id: &str, text: Option<&Text<'_>>) {
    item.string("id", id);
    item.string("type", "reasoning");
    item.array("summary", |parts| {
        text.into_iter().for_each(|text| parts.object(|part| write_summary(part, text)));
    });
}

fn write_summary(part: &mut Object<'_>, text: &Text<'_>) {
    part.string("type", "summary_text");
    part.text("text", text);
}
