//! A response's stream in the canonical form.

use crate::dialect::{
    canonical::{Block, Event, Finish, Head, Raw, Text},
    json_scan::{Malformed, Value, root_members},
    openai_responses::{
        request::decode::PARAGRAPH,
        response::{
            self,
            decode::{finish, seconds, waits_for_the_client},
        },
        usage,
    },
};

/// How many bytes are held of blocks that overlap: as many as one event may have.
const MOST_HELD: usize = crate::body::MAX_EVENT;

/// Which block a piece belongs to: which item of the output, and which part of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    item: u64,
    part: u64,
}

/// Reads the events of a stream.
///
/// Items are told one after the other; what comes for a later one is held until the open one is over, as the API tells it.
/// A thought is over when something else comes: OpenRouter closes it behind the text.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    started: bool,
    open: Option<Open>,
    held: Vec<Held>,
    held_bytes: usize,
    /// Items told to their end.
    over: Vec<Key>,
    any: bool,
    calls: bool,
    done: bool,
}

#[derive(Debug)]
struct Open {
    key: Key,
    thought: bool,
    written: bool,
    /// Which part of a reasoning summary came last.
    paragraph: u64,
}

/// A block whose turn has not come.
#[derive(Debug)]
struct Held {
    key: Key,
    block: Block<'static>,
    pieces: Vec<Piece<'static>>,
    over: bool,
}

#[derive(Debug)]
enum Piece<'p> {
    /// With the number of its paragraph.
    Text(Text<'p>, u64),
    Signature(Text<'p>),
    Annotation(Raw<'p>),
}

/// What an event says, as far as it matters here.
#[derive(Default)]
struct Said<'a> {
    kind: Option<Value<'a>>,
    item_number: u64,
    part_number: u64,
    summary_number: u64,
    delta: Option<Text<'a>>,
    /// The whole text, which some servers send without any piece of it.
    whole: Option<Text<'a>>,
    annotation: Option<Raw<'a>>,
    part: Option<Value<'a>>,
    item: Option<Value<'a>>,
    response: Option<Value<'a>>,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Reads the data of the next event.
    pub(crate) fn event(&mut self, data: &str, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Malformed> {
        if self.done || data.trim() == "[DONE]" {
            return Ok(());
        }
        let said = read(data)?;
        let Some(kind) = said.kind.as_ref().and_then(|kind| kind.as_str()) else { return Err(Malformed { at: 0 }) };
        let content = Key { item: said.item_number, part: said.part_number };
        let whole_item = Key { item: said.item_number, part: 0 };
        match &*kind {
            "response.created" | "response.in_progress" | "response.queued" => {
                self.start(said.response.as_ref(), sink);
            }
            "response.output_item.added" => self.item_begins(whole_item, &said, sink)?,
            "response.output_item.done" => self.item_ends(whole_item, &said, sink)?,
            "response.content_part.added" => {
                if let Some(block) = said.part.as_ref().and_then(block_of_part) {
                    self.begin(content, block, sink);
                }
            }
            "response.output_text.delta" => self.text(content, || Block::Text, said.delta, 0, sink)?,
            "response.refusal.delta" => self.text(content, || Block::Refusal, said.delta, 0, sink)?,
            "response.reasoning_summary_text.delta" => {
                self.text(whole_item, || Block::Thought, said.delta, said.summary_number, sink)?;
            }
            "response.reasoning_text.delta" => {
                self.text(whole_item, || Block::Thought, said.delta, said.part_number, sink)?;
            }
            "response.function_call_arguments.delta" if self.knows(whole_item) => {
                self.text(whole_item, || Block::Text, said.delta, 0, sink)?;
            }
            "response.output_text.done" => self.rest(content, || Block::Text, said.whole, sink)?,
            "response.refusal.done" => self.rest(content, || Block::Refusal, said.whole, sink)?,
            "response.function_call_arguments.done" if self.knows(whole_item) => {
                self.rest(whole_item, || Block::Text, said.whole, sink)?;
            }
            "response.content_part.done" if said.part.as_ref().and_then(block_of_part).is_some() => {
                self.end_block(content, sink);
            }
            "response.output_text.annotation.added" => {
                if let Some(annotation) = said.annotation {
                    self.begin(content, Block::Text, sink);
                    self.piece(content, Piece::Annotation(annotation), sink)?;
                }
            }
            "response.completed" | "response.incomplete" => self.finish(said.response.as_ref(), sink)?,
            // Progress of the provider's own tools, and what may come.
            _ => {}
        }
        Ok(())
    }

    /// Says that the body ended: all that was to be told has been.
    pub(crate) fn end(&mut self, _: &mut dyn FnMut(Event<'_>)) {}

    fn start(&mut self, response: Option<&Value<'_>>, sink: &mut dyn FnMut(Event<'_>)) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let mut head = Head::default();
        for (key, value) in response.iter().flat_map(|response| response.members()).filter_map(Result::ok) {
            match &*key {
                "id" => head.id = Text::of(&value),
                "model" => head.model = Text::of(&value),
                "created_at" => head.created = seconds(&value),
                _ => {}
            }
        }
        sink(Event::Start(head));
    }

    fn item_begins(&mut self, key: Key, said: &Said<'_>, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Malformed> {
        let Some(item) = &said.item else { return Ok(()) };
        match item.member("type").and_then(|kind| kind.as_str()).as_deref() {
            Some("function_call") => {
                let text = |name| item.member(name).and_then(|value| Text::of(&value)).map(Text::into_owned);
                let (Some(id), Some(name)) = (text("call_id"), text("name")) else { return Err(Malformed { at: 0 }) };
                self.calls = true;
                self.begin(key, Block::Call { id, name }, sink);
            }
            Some("reasoning") => self.begin(key, Block::Thought, sink),
            _ => {}
        }
        Ok(())
    }

    fn item_ends(&mut self, key: Key, said: &Said<'_>, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Malformed> {
        let Some(item) = &said.item else { return Ok(()) };
        let text = |name| item.member(name).and_then(|value| Text::of(&value));
        match item.member("type").and_then(|kind| kind.as_str()).as_deref() {
            Some("message") => {
                for (number, part) in item.member("content").iter().flat_map(|parts| parts.elements()).enumerate() {
                    let (part, key) = (part?, Key { part: number as u64, ..key });
                    let Some(block) = block_of_part(&part) else { continue };
                    let name = if matches!(block, Block::Refusal) { "refusal" } else { "text" };
                    let whole = part.member(name).and_then(|text| Text::of(&text));
                    self.rest(key, || block, whole, sink)?;
                    self.end_block(key, sink);
                }
            }
            Some("function_call") => {
                self.item_begins(key, said, sink)?;
                self.rest(key, || Block::Text, text("arguments"), sink)?;
                self.end_block(key, sink);
            }
            Some("reasoning") => {
                let thought = crate::dialect::openai_responses::request::decode::thought(item);
                self.rest(key, || Block::Thought, Some(thought.text), sink)?;
                if let Some(signature) = thought.signature.filter(|_| self.knows(key) && !self.over.contains(&key)) {
                    self.piece(key, Piece::Signature(signature), sink)?;
                }
                self.end_block(key, sink);
            }
            Some(_) => {
                self.calls |= waits_for_the_client(item);
                if let Some(raw) = Raw::of(item) {
                    self.begin(key, Block::Native(raw.into_owned()), sink);
                    self.end_block(key, sink);
                }
            }
            None => {}
        }
        Ok(())
    }

    fn finish(&mut self, response: Option<&Value<'_>>, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Malformed> {
        self.start(response, sink);
        self.close(sink);
        while !self.held.is_empty() {
            self.next(sink);
            self.close(sink);
        }
        let Some(response) = response else {
            sink(Event::Finish(finish(None, None, self.calls)));
            return self.finished(sink);
        };
        let member = |name: &str| response.member(name);
        if !self.any {
            // Some servers tell all of it at once.
            let json = std::str::from_utf8(response.json()).unwrap_or_default();
            let answer = response::decode::decode(json)?;
            for (number, part) in answer.parts.iter().enumerate() {
                self.whole_part(number as u64, part, sink)?;
            }
            self.calls |= matches!(answer.finish, Finish::ToolCalls);
        }
        if let Some(usage) = member("usage").and_then(|usage| usage::read(&usage)) {
            sink(Event::Usage(usage));
        }
        let status = member("status").and_then(|status| Text::of(&status));
        let why = member("incomplete_details").and_then(|details| details.member("reason"));
        sink(Event::Finish(finish(status, why.and_then(|why| Text::of(&why)), self.calls)));
        self.finished(sink)
    }

    fn finished(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Malformed> {
        self.done = true;
        sink(Event::Done);
        Ok(())
    }

    fn whole_part(
        &mut self,
        number: u64,
        part: &crate::dialect::canonical::Part<'_>,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Malformed> {
        use crate::dialect::canonical::Part;
        let key = Key { item: number, part: 0 };
        let (block, text, signature) = match part {
            Part::Text { text, .. } => (Block::Text, text.borrowed(), None),
            Part::Refusal(text) => (Block::Refusal, text.borrowed(), None),
            Part::Thought(thought) => (Block::Thought, thought.text.borrowed(), thought.signature.as_ref()),
            Part::Call(call) => {
                let (id, name) = (call.id.clone().into_owned(), call.name.clone().into_owned());
                (Block::Call { id, name }, call.arguments.quoted(), None)
            }
            Part::Native(raw) => (Block::Native(raw.clone().into_owned()), Text::default(), None),
            Part::Media(_) | Part::Result(_) => return Ok(()),
        };
        self.begin(key, block, sink);
        self.piece(key, Piece::Text(text, 0), sink)?;
        if let Some(signature) = signature {
            self.piece(key, Piece::Signature(signature.borrowed()), sink)?;
        }
        self.end_block(key, sink);
        Ok(())
    }

    /// Whether that block has begun, be it told or held.
    fn knows(&self, key: Key) -> bool {
        self.open.as_ref().is_some_and(|open| open.key == key)
            || self.held.iter().any(|held| held.key == key)
            || self.over.contains(&key)
    }

    /// Begins a block, unless it has begun.
    fn begin(&mut self, key: Key, block: Block<'static>, sink: &mut dyn FnMut(Event<'_>)) {
        if self.knows(key) {
            return;
        }
        // Not every server says that it begins.
        self.start(None, sink);
        self.any = true;
        if self.open.as_ref().is_some_and(|open| open.thought) {
            self.close(sink);
        }
        self.held.push(Held { key, block, pieces: Vec::new(), over: false });
        if self.open.is_none() {
            self.next(sink);
        }
    }

    /// A piece of text of a block, which begins with it if it has not.
    fn text(
        &mut self,
        key: Key,
        block: impl FnOnce() -> Block<'static>,
        text: Option<Text<'_>>,
        paragraph: u64,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Malformed> {
        let Some(text) = text else { return Ok(()) };
        self.begin(key, block(), sink);
        self.piece(key, Piece::Text(text, paragraph), sink)
    }

    /// The whole text of a block, if no piece of it has come.
    fn rest(
        &mut self,
        key: Key,
        block: impl FnOnce() -> Block<'static>,
        text: Option<Text<'_>>,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Malformed> {
        let is_text = |piece: &Piece<'_>| matches!(piece, Piece::Text(text, _) if !text.is_empty());
        let came = self.over.contains(&key)
            || self.open.as_ref().is_some_and(|open| open.key == key && open.written)
            || self.held.iter().any(|held| held.key == key && held.pieces.iter().any(is_text));
        if came { Ok(()) } else { self.text(key, block, text, 0, sink) }
    }

    fn piece(&mut self, key: Key, piece: Piece<'_>, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Malformed> {
        if let Some(open) = self.open.as_mut().filter(|open| open.key == key) {
            open.tell(piece, sink);
        } else if let Some(held) = self.held.iter_mut().find(|held| held.key == key && !held.over) {
            self.held_bytes += piece.len();
            if self.held_bytes > MOST_HELD {
                return Err(Malformed { at: 0 });
            }
            held.pieces.push(piece.into_owned());
        }
        // More of what was told as over: a repetition, in all likelihood.
        Ok(())
    }

    /// Says that a block is over.
    fn end_block(&mut self, key: Key, sink: &mut dyn FnMut(Event<'_>)) {
        if self.open.as_ref().is_some_and(|open| open.key == key) {
            self.close(sink);
            while self.open.is_none() && !self.held.is_empty() {
                self.next(sink);
            }
        } else if let Some(held) = self.held.iter_mut().find(|held| held.key == key) {
            held.over = true;
        }
    }

    fn close(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if let Some(open) = self.open.take() {
            self.over.push(open.key);
            sink(Event::End);
        }
    }

    /// Tells the first block that is held, as far as it has come.
    fn next(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let held = self.held.remove(0);
        let thought = matches!(held.block, Block::Thought);
        let mut open = Open { key: held.key, thought, written: false, paragraph: 0 };
        sink(Event::Begin(held.block));
        for piece in held.pieces {
            self.held_bytes -= piece.len();
            open.tell(piece, sink);
        }
        // A thought behind which something waits has no more to come that would be worth the wait.
        let over = held.over || thought && !self.held.is_empty();
        self.open = Some(open);
        if over {
            self.close(sink);
        }
    }
}

impl Open {
    fn tell(&mut self, piece: Piece<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        match piece {
            Piece::Text(text, _) if text.is_empty() => {}
            Piece::Text(text, paragraph) => {
                if self.thought && self.written && paragraph != self.paragraph {
                    sink(Event::Delta(Text::escaped(PARAGRAPH)));
                }
                (self.paragraph, self.written) = (paragraph, true);
                sink(Event::Delta(text));
            }
            Piece::Signature(signature) => sink(Event::Signature(signature)),
            Piece::Annotation(annotation) => sink(Event::Annotation(annotation)),
        }
    }
}

impl Piece<'_> {
    fn len(&self) -> usize {
        match self {
            Piece::Text(text, _) | Piece::Signature(text) => text.as_escaped().len(),
            Piece::Annotation(raw) => raw.as_str().len(),
        }
    }

    fn into_owned(self) -> Piece<'static> {
        match self {
            Piece::Text(text, paragraph) => Piece::Text(text.into_owned(), paragraph),
            Piece::Signature(text) => Piece::Signature(text.into_owned()),
            Piece::Annotation(raw) => Piece::Annotation(raw.into_owned()),
        }
    }
}

fn read(data: &str) -> Result<Said<'_>, Malformed> {
    let mut said = Said::default();
    for member in root_members(data.as_bytes())? {
        let (key, value) = member?;
        let number = || value.as_u64().unwrap_or(0);
        match &*key {
            "type" => said.kind = Some(value),
            "output_index" => said.item_number = number(),
            "content_index" => said.part_number = number(),
            "summary_index" => said.summary_number = number(),
            "delta" => said.delta = Text::of(&value),
            "text" | "refusal" | "arguments" => said.whole = Text::of(&value),
            "annotation" => said.annotation = Raw::of(&value),
            "part" => said.part = Some(value),
            "item" => said.item = Some(value),
            "response" => said.response = Some(value),
            _ => {}
        }
    }
    Ok(said)
}

/// The block that a part of a message is; `None` for a part of what was thought.
fn block_of_part(part: &Value<'_>) -> Option<Block<'static>> {
    match part.member("type")?.as_str()?.as_ref() {
        "output_text" | "text" => Some(Block::Text),
        "refusal" => Some(Block::Refusal),
        _ => None,
    }
}
