//! A chat completion stream in the canonical form.

use crate::dialect::{
    canonical::{Block, Event, Head, Key, OutOfOrder, Raw, Sequence, Text},
    json_scan::{Malformed, Value, root_members},
    openai_chat::{
        response::decode::{finish_of, thinking},
        usage,
    },
};

type Sink<'s> = dyn FnMut(Event<'_>) + 's;

/// Tells a stream's events in the canonical form. Of several answers only the first is told: those who ask for more are
/// sent to nobody who would have to translate them.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    started: bool,
    sequence: Sequence,
    /// The number of the call that a piece without one belongs to.
    call: u64,
    calls: bool,
    /// Everything but the usage has been told.
    finished: bool,
    done: bool,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Tells the data of one event.
    pub(crate) fn event(&mut self, data: &str, sink: &mut Sink<'_>) -> Result<(), Malformed> {
        if self.done {
            // Behind the end nothing of the answer can come.
            return Ok(());
        }
        if data.trim_ascii() == "[DONE]" {
            self.end(sink);
            return Ok(());
        }
        let mut head = Head::default();
        let (mut choice, mut used) = (None, None);
        for member in root_members(data.as_bytes())? {
            let (key, value) = member?;
            match &*key {
                "id" => head.id = Text::of(&value).filter(|id| !id.is_empty()),
                "model" => head.model = Text::of(&value).filter(|model| !model.is_empty()),
                "created" => {
                    head.created = Raw::of(&value).and_then(|raw| Some(raw.as_str().parse::<f64>().ok()? as u64))
                }
                "usage" => used = usage::read(&value),
                "choices" => choice = choice.or(value.elements().find_map(first_choice)),
                _ => {}
            }
        }
        // Azure's first chunk tells what its filters think of the request, under no name.
        if !self.started && (choice.is_some() || head.id.is_some()) {
            self.started = true;
            sink(Event::Start(head));
        }
        if let Some(choice) = choice {
            self.choice(&choice, sink)?;
        }
        used.into_iter().for_each(|usage| sink(Event::Usage(usage)));
        Ok(())
    }

    /// The stream has ended, and whoever watched it found its answer whole.
    pub(crate) fn end(&mut self, sink: &mut Sink<'_>) {
        if self.done || !self.started {
            return;
        }
        // Snowflake, for one, never says why its answers end.
        self.finish(None, sink);
        self.done = true;
        sink(Event::Done);
    }

    fn choice(&mut self, choice: &Value<'_>, sink: &mut Sink<'_>) -> Result<(), Malformed> {
        let mut finish = None;
        for member in choice.members() {
            let (key, value) = member?;
            match &*key {
                "delta" => self.delta(&value, sink)?,
                "finish_reason" => finish = Text::of(&value).filter(|reason| !reason.is_empty()),
                _ => {}
            }
        }
        if finish.is_some() {
            self.finish(finish, sink);
        }
        Ok(())
    }

    fn finish(&mut self, reason: Option<Text<'_>>, sink: &mut Sink<'_>) {
        if !self.finished {
            self.sequence.finish(sink);
            self.finished = true;
            sink(Event::Finish(finish_of(reason, self.calls)));
        }
    }

    fn delta(&mut self, delta: &Value<'_>, sink: &mut Sink<'_>) -> Result<(), Malformed> {
        for member in delta.members() {
            let (key, value) = member?;
            match &*key {
                "content" if value.is_string() => self.text(Key::Text, &value, sink)?,
                "content" => {
                    for part in value.elements().filter_map(Result::ok) {
                        if let Some(text) = thinking(&part) {
                            self.piece(Key::Thought, || Block::Thought, &text, sink)?;
                        } else if let Some(text) = part.member("text") {
                            self.text(Key::Text, &text, sink)?;
                        }
                    }
                }
                "refusal" => self.text(Key::Refusal, &value, sink)?,
                "reasoning_content" | "reasoning" => self.text(Key::Thought, &value, sink)?,
                "tool_calls" => {
                    for call in value.elements() {
                        self.call(&call?, sink)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn text(&mut self, key: Key, value: &Value<'_>, sink: &mut Sink<'_>) -> Result<(), Malformed> {
        let Some(text) = Text::of(value).filter(|text| !text.is_empty()) else { return Ok(()) };
        let block = match key {
            Key::Refusal => Block::Refusal,
            Key::Thought => Block::Thought,
            Key::Text | Key::Call(_) => Block::Text,
        };
        self.piece(key, || block, &text, sink)
    }

    fn call(&mut self, call: &Value<'_>, sink: &mut Sink<'_>) -> Result<(), Malformed> {
        let (mut number, mut id, mut name, mut arguments) = (None, Text::default(), Text::default(), Text::default());
        for (key, value) in call.members().filter_map(Result::ok) {
            match &*key {
                "index" => number = value.as_u64(),
                "id" => id = Text::of(&value).unwrap_or_default(),
                "function" => {
                    for (key, value) in value.members().filter_map(Result::ok) {
                        match &*key {
                            "name" => name = Text::of(&value).unwrap_or_default(),
                            "arguments" => arguments = Text::of(&value).unwrap_or_default(),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        let number = number.unwrap_or_else(|| {
            // Without a number, a name begins another call.
            self.call + u64::from(!name.is_empty() && self.sequence.knows(Key::Call(self.call)))
        });
        self.call = number;
        self.calls = true;
        let block = || Block::Call { id: id.into_owned(), name: name.into_owned() };
        self.piece(Key::Call(number), block, &arguments, sink)
    }

    fn piece(
        &mut self,
        key: Key,
        block: impl FnOnce() -> Block<'static>,
        piece: &Text<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Malformed> {
        if self.finished {
            return Ok(());
        }
        self.sequence.piece(key, block, piece, sink).map_err(|OutOfOrder| Malformed { at: 0 })
    }
}

/// The choice, if it is the first one's.
fn first_choice(choice: Result<Value<'_>, Malformed>) -> Option<Value<'_>> {
    let choice = choice.ok()?;
    choice.member("index").and_then(|index| index.as_u64()).is_none_or(|index| index == 0).then_some(choice)
}
