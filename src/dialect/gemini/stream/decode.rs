//! A `streamGenerateContent` stream in the canonical form.

use super::{is_blocked, partial::PartialCall};
use crate::dialect::{
    canonical::{Block, Event, Finish, Head, Part, Raw, Text},
    gemini::{
        names::{camel, each, member, members},
        response::{
            self,
            decode::{created, read_part},
        },
        usage,
    },
    json_scan::{Malformed, Value, root_members},
    json_write,
};

type Sink<'s> = dyn FnMut(Event<'_>) + 's;

/// Tells a stream's events in the canonical form. Of several answers only the first is told: those who ask for more are
/// sent to nobody who would have to translate them.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    started: bool,
    open: Option<Open>,
    /// A call whose arguments have not all come.
    partial: Option<PartialCall>,
    calls: bool,
    /// The last reason to end that was told: the first models told one in every event.
    finish: Option<Finish<'static>>,
    done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Text,
    Thought,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Tells the data of one event, or one element of the array.
    pub(crate) fn event(&mut self, data: &str, sink: &mut Sink<'_>) -> Result<(), Malformed> {
        let mut head = Head::default();
        let (mut candidate, mut used, mut blocked) = (None, None, false);
        for member in root_members(data.as_bytes())? {
            let (key, value) = member?;
            match &*camel(key) {
                "responseId" => head.id = Text::of(&value).filter(|id| !id.is_empty()),
                "modelVersion" => head.model = Text::of(&value).filter(|model| !model.is_empty()),
                "createTime" => head.created = created(&value),
                "usageMetadata" => used = usage::read(&value),
                "promptFeedback" => blocked = is_blocked(&value),
                "candidates" => candidate = candidate.or(value.elements().find_map(first_candidate)),
                _ => {}
            }
        }
        if !self.started {
            self.started = true;
            sink(Event::Start(head));
        }
        used.into_iter().for_each(|usage| sink(Event::Usage(usage)));
        match candidate {
            Some(candidate) => self.candidate(&candidate, sink)?,
            None if blocked => self.finish = Some(Finish::ContentFilter),
            None => {}
        }
        Ok(())
    }

    /// The stream has ended, and whoever watched it found its answer whole.
    pub(crate) fn end(&mut self, sink: &mut Sink<'_>) {
        if self.done || !self.started {
            return;
        }
        self.close(sink);
        let calls = self.calls;
        sink(Event::Finish(match self.finish.take() {
            Some(Finish::Stop) | None if calls => Finish::ToolCalls,
            Some(finish) => finish,
            None => Finish::Stop,
        }));
        self.done = true;
        sink(Event::Done);
    }

    fn candidate(&mut self, candidate: &Value<'_>, sink: &mut Sink<'_>) -> Result<(), Malformed> {
        let mut reason = None;
        let mut notes = Vec::new();
        for (key, value) in members(candidate) {
            match &*key {
                "content" => {
                    for part in member(&value, "parts").iter().flat_map(each) {
                        self.part(&part, sink)?;
                    }
                }
                "finishReason" => reason = Some(value),
                "citationMetadata" | "groundingMetadata" | "urlContextMetadata" | "logprobsResult" => {
                    notes.push((key, value));
                }
                _ => {}
            }
        }
        for (key, value) in notes {
            self.note(&key, &value, sink);
        }
        if let Some(reason) = reason.filter(|reason| response::ending(reason).is_some()) {
            self.finish = Some(response::decode::finish(&reason, self.calls).into_owned());
        }
        Ok(())
    }

    fn part(&mut self, value: &Value<'_>, sink: &mut Sink<'_>) -> Result<(), Malformed> {
        if let Some(function) = member(value, "functionCall") {
            let signature = member(value, "thoughtSignature").and_then(|signature| Text::of(&signature));
            return self.call(value, &function, signature, sink);
        }
        match read_part(value) {
            Part::Thought(thought) => {
                // A signature by itself belongs to what was said last.
                if thought.text.is_empty() && self.open.is_none() || !thought.text.is_empty() {
                    self.begin(Open::Thought, sink);
                }
                self.piece(&thought.text, sink);
                thought.signature.into_iter().for_each(|signature| sink(Event::Signature(signature)));
            }
            Part::Text { text, .. } if text.is_empty() => {}
            Part::Text { text, extras } => {
                self.begin(Open::Text, sink);
                self.piece(&text, sink);
                let signature =
                    extras.get("thoughtSignature").and_then(|raw| Text::of(&raw.value()?).map(Text::into_owned));
                signature.into_iter().for_each(|signature| sink(Event::Signature(signature)));
            }
            Part::Native(raw) => {
                self.close(sink);
                sink(Event::Begin(Block::Native(raw)));
                sink(Event::End);
            }
            // They come here as native ones.
            Part::Call(_) | Part::Media(_) | Part::Refusal(_) | Part::Result(_) => {}
        }
        Ok(())
    }

    fn begin(&mut self, open: Open, sink: &mut Sink<'_>) {
        if self.open == Some(open) && self.partial.is_none() {
            return;
        }
        self.close(sink);
        self.open = Some(open);
        sink(Event::Begin(match open {
            Open::Text => Block::Text,
            Open::Thought => Block::Thought,
        }));
    }

    fn piece(&mut self, text: &Text<'_>, sink: &mut Sink<'_>) {
        if !text.is_empty() {
            sink(Event::Delta(text.borrowed()));
        }
    }

    /// Tells that what is open is over.
    fn close(&mut self, sink: &mut Sink<'_>) {
        if self.open.take().is_some() {
            sink(Event::End);
        }
        if let Some(call) = self.partial.take() {
            self.whole_call(
                Block::Call { id: call.id.borrowed(), name: call.name.borrowed() },
                call.arguments(),
                call.signature,
                sink,
            );
        }
    }

    fn whole_call(&mut self, block: Block<'_>, arguments: Text<'_>, signature: Option<Text<'_>>, sink: &mut Sink<'_>) {
        self.calls = true;
        sink(Event::Begin(block));
        sink(Event::Delta(arguments));
        signature.into_iter().for_each(|signature| sink(Event::Signature(signature)));
        sink(Event::End);
    }

    fn call(
        &mut self,
        part: &Value<'_>,
        function: &Value<'_>,
        signature: Option<Text<'_>>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Malformed> {
        let (mut id, mut name, mut arguments, mut pieces, mut continues) = (Text::default(), None, None, None, false);
        for (key, value) in members(function) {
            match &*key {
                "id" if value.is_string() => id = Text::of(&value).unwrap_or_default(),
                "name" => name = Text::of(&value).filter(|name| !name.is_empty()),
                "args" if !value.is_null() => arguments = Raw::of(&value),
                "partialArgs" => pieces = Some(value),
                "willContinue" => continues = value.is_true(),
                _ => {}
            }
        }
        match name {
            Some(name) if !continues && pieces.is_none() => {
                self.close(sink);
                let arguments = arguments.unwrap_or_else(|| Raw::new("{}")).quoted();
                self.whole_call(Block::Call { id, name }, arguments, signature, sink);
                return Ok(());
            }
            Some(name) => {
                self.close(sink);
                self.partial = Some(PartialCall::new(id.into_owned(), name.into_owned()));
            }
            None => {}
        }
        let Some(call) = &mut self.partial else {
            // The end of a call that was whole without it.
            return if pieces.is_none() { Ok(()) } else { Err(Malformed { at: part.range().start }) };
        };
        call.signature = signature.map(Text::into_owned).or(call.signature.take());
        pieces.iter().try_for_each(|pieces| call.add(pieces))?;
        if !continues {
            self.close(sink);
        }
        Ok(())
    }

    /// Tells something about the text that was said last; where none is open, by itself.
    fn note(&mut self, key: &str, value: &Value<'_>, sink: &mut Sink<'_>) {
        let mut out = Vec::new();
        json_write::object(&mut out, |object| object.value(key, |out| out.extend_from_slice(value.json())));
        // Pieces of a text are text.
        let raw = Raw::new(String::from_utf8(out).unwrap_or_default());
        if self.open.is_some() {
            sink(Event::Annotation(raw));
        } else {
            self.close(sink);
            sink(Event::Begin(Block::Native(raw)));
            sink(Event::End);
        }
    }
}

/// The candidate, if it is the first one.
fn first_candidate(candidate: Result<Value<'_>, Malformed>) -> Option<Value<'_>> {
    let candidate = candidate.ok()?;
    member(&candidate, "index").and_then(|index| index.as_u64()).is_none_or(|index| index == 0).then_some(candidate)
}
