//! The canonical form as a `streamGenerateContent` stream.

use crate::{
    Usage,
    dialect::{
        canonical::{Block, Event, Finish, Head, Losses, Raw, Text},
        gemini::{
            part::{NO_SIGNATURE, write_arguments, write_thought},
            response::decode::word,
            usage,
        },
        json_write::{self, Object},
    },
};

/// Tells canonical events as chunks, each an answer with what is new in it. A call is held until it is whole.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// What every chunk ends with: whose answer it is.
    closing: Vec<u8>,
    open: Open,
    usage: Option<Usage>,
    finish: Option<Finish<'static>>,
    /// Any content has been told.
    spoken: bool,
}

/// The block that is open.
#[derive(Debug)]
enum Open {
    Text,
    Thought,
    Call { id: Text<'static>, name: Text<'static>, arguments: Text<'static> },
    Native,
}

impl Encoder {
    /// Usage is told whether it is asked for or not.
    pub(crate) fn new(_include_usage: bool) -> Self {
        Encoder { closing: Vec::new(), open: Open::Native, usage: None, finish: None, spoken: false }
    }

    /// Appends what tells the event.
    pub(crate) fn event(&mut self, event: &Event<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
        match event {
            // Nothing opens an answer here but what it says.
            Event::Start(head) => self.closing = closing(head),
            Event::Begin(block) => self.begin(block, losses, out),
            Event::Delta(text) => match &mut self.open {
                Open::Text => self.part(out, |part| part.text("text", text)),
                Open::Thought => self.part(out, |part| write_thought(part, text)),
                Open::Call { arguments, .. } => arguments.push(text),
                Open::Native => {}
            },
            // Whose it is nobody says here, and another's would be refused when it comes back.
            Event::Signature(_) => losses.note("reasoning signature"),
            Event::Annotation(raw) => self.native(raw, "citations", losses, out),
            Event::End => {
                if let Open::Call { id, name, arguments } = std::mem::replace(&mut self.open, Open::Native) {
                    self.call(&id, &name, &arguments.as_json(), losses, out);
                }
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Finish(finish) => {
                losses.finish(finish, false);
                self.finish = Some(finish.clone().into_owned());
            }
            // Only now, for the last chunk has the usage too.
            Event::Done => self.last(out),
        }
    }

    fn begin(&mut self, block: &Block<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
        self.open = match block {
            Block::Text => Open::Text,
            Block::Refusal => {
                losses.note("refusal");
                Open::Text
            }
            Block::Thought => Open::Thought,
            Block::Call { id, name } => {
                let own = |text: &Text<'_>| text.borrowed().into_owned();
                Open::Call { id: own(id), name: own(name), arguments: Text::default() }
            }
            Block::Native(raw) => {
                self.native(raw, "native content part", losses, out);
                Open::Native
            }
        };
    }

    fn call(&mut self, id: &Text<'_>, name: &Text<'_>, arguments: &Raw<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
        self.part(out, |part| {
            part.object("functionCall", |function| {
                if !id.is_empty() {
                    function.text("id", id);
                }
                function.text("name", name);
                let understood = write_arguments(function, arguments);
                losses.note_if(!understood, "malformed arguments");
            });
            // So that Google's own models take the call, should the conversation go on with one of them.
            part.string("thoughtSignature", NO_SIGNATURE);
        });
    }

    /// What only its own dialect knows: Google's own things are told by their names, and have no `type` as others' do.
    fn native(&mut self, raw: &Raw<'_>, name: &'static str, losses: &mut Losses, out: &mut Vec<u8>) {
        let key = raw.value().and_then(|value| Some(value.members().next()?.ok()?.0.into_owned()));
        match key.as_deref() {
            Some("citationMetadata" | "groundingMetadata" | "urlContextMetadata" | "logprobsResult") => {
                let members = raw.as_str().trim().trim_start_matches('{').strip_suffix('}').unwrap_or_default();
                self.chunk(out, |out| {
                    Raw::new(members).write(out);
                    out.push(b',');
                });
            }
            Some(
                "inlineData" | "fileData" | "executableCode" | "codeExecutionResult" | "toolCall" | "toolResponse",
            ) => {
                self.content(out, |out| raw.write(out));
            }
            _ => losses.note(name),
        }
    }

    fn part(&mut self, out: &mut Vec<u8>, members: impl FnOnce(&mut Object<'_>)) {
        self.content(out, |out| json_write::object(out, members));
    }

    fn content(&mut self, out: &mut Vec<u8>, part: impl FnOnce(&mut Vec<u8>)) {
        self.spoken = true;
        self.chunk(out, |out| {
            out.extend_from_slice(b"\"content\":{\"parts\":[");
            part(out);
            out.extend_from_slice(b"],\"role\":\"model\"},");
        });
    }

    /// A chunk with a candidate that has these members, each with a comma behind it.
    fn chunk(&self, out: &mut Vec<u8>, members: impl FnOnce(&mut Vec<u8>)) {
        out.extend_from_slice(b"data: {\"candidates\":[{");
        members(out);
        out.extend_from_slice(b"\"index\":0}]");
        if let Some(usage) = &self.usage {
            out.extend_from_slice(b",\"usageMetadata\":");
            json_write::object(out, |object| usage::write(usage, object));
        }
        out.extend_from_slice(&self.closing);
        out.extend_from_slice(b"}\r\n\r\n");
    }

    fn last(&mut self, out: &mut Vec<u8>) {
        let finish = self.finish.take().unwrap_or(Finish::Stop);
        let says_nothing = !self.spoken && finish == Finish::ContentFilter;
        self.chunk(out, |out| {
            if !says_nothing {
                out.extend_from_slice(b"\"content\":{\"parts\":[{\"text\":\"\"}],\"role\":\"model\"},");
            }
            out.extend_from_slice(b"\"finishReason\":\"");
            out.extend_from_slice(word(&finish).as_bytes());
            out.extend_from_slice(b"\",");
        });
    }
}

fn closing(head: &Head<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, text) in [(",\"modelVersion\":", &head.model), (",\"responseId\":", &head.id)] {
        if let Some(text) = text {
            out.extend_from_slice(name.as_bytes());
            text.write(&mut out);
        }
    }
    out
}

#[cfg(test)]
mod tests;
