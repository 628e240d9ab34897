//! The turns of another dialect's conversation, as Anthropic takes them: the user and the assistant by turns, the user
//! first, each tool's result in the turn right behind its call and before everything else, and nothing blank.

use std::borrow::Cow;

use super::super::id::CallIds;
use crate::dialect::canonical::{Call, Losses, Media, Part, Request, Role, Text, ToolResult, Turn};

/// What a user says where somebody must say something.
pub(super) const GO_ON: &str = "Please continue.";

/// A conversation.
#[derive(Debug, Default)]
pub(super) struct Conversation<'r> {
    /// What is told before it begins.
    pub(super) system: Vec<&'r Text<'r>>,
    pub(super) turns: Vec<Said<'r>>,
}

/// What one side says.
#[derive(Debug)]
pub(super) struct Said<'r> {
    pub(super) by_user: bool,
    /// Results of tools, which come first.
    pub(super) results: Vec<Answered<'r>>,
    pub(super) blocks: Vec<Block<'r>>,
}

#[derive(Debug)]
pub(super) enum Block<'r> {
    Text(Cow<'r, Text<'r>>),
    Media(&'r Media<'r>),
    Call { id: String, call: &'r Call<'r> },
}

/// A tool's result; there is always one, even where the conversation has none.
#[derive(Debug)]
pub(super) struct Answered<'r> {
    pub(super) id: String,
    pub(super) result: Option<&'r ToolResult<'r>>,
}

/// Whether it says nothing that can be seen.
pub(super) fn is_blank(text: &Text<'_>) -> bool {
    match text.as_escaped().as_bytes().first() {
        None => true,
        Some(byte) if *byte > b' ' && *byte != b'\\' && byte.is_ascii() => false,
        Some(_) => text.decoded().trim().is_empty(),
    }
}

impl<'r> Conversation<'r> {
    /// Reads the turns of a request. `prefill`: whether the model goes on with a turn that it has not begun itself.
    pub(super) fn of(request: &'r Request<'r>, prefill: bool, losses: &mut Losses) -> Self {
        let mut reader =
            Reader { conversation: Conversation::default(), ids: CallIds::default(), calls: 0, open: Vec::new() };
        for turn in &request.turns {
            reader.turn(turn, losses);
        }
        reader.answer_all(losses);
        let mut conversation = reader.conversation;
        if conversation.turns.is_empty() && !conversation.system.is_empty() {
            // All that is said is a system message: that is what is to be answered.
            let said = std::mem::take(&mut conversation.system).into_iter();
            let blocks = said.map(|text| Block::Text(Cow::Borrowed(text))).collect();
            conversation.turns.push(Said { blocks, ..Said::new(true) });
        }
        conversation.trim_end();
        if conversation.turns.first().is_none_or(|first| !first.by_user) {
            conversation.turns.insert(0, Said::go_on());
        }
        if !prefill && conversation.is_begun() {
            losses.note("prefill");
            conversation.turns.push(Said::go_on());
        }
        conversation
    }

    /// Whether it ends with what the assistant has begun to say.
    pub(super) fn is_begun(&self) -> bool {
        self.turns.last().is_some_and(|last| !last.by_user)
    }

    /// Whether it ends amid the use of tools.
    pub(super) fn is_amid_tools(&self) -> bool {
        self.turns.last().is_some_and(|last| !last.results.is_empty())
    }

    /// The names of the tools that were called.
    pub(super) fn called(&self) -> impl Iterator<Item = &'r Text<'r>> {
        self.turns.iter().flat_map(|said| &said.blocks).filter_map(|block| match block {
            Block::Call { call, .. } => Some(&call.name),
            _ => None,
        })
    }

    /// What the assistant has begun to say may not end with white space.
    fn trim_end(&mut self) {
        let Some(last) = self.turns.last_mut().filter(|last| !last.by_user) else { return };
        if let Some(Block::Text(text)) = last.blocks.last_mut() {
            let decoded = text.decoded();
            let trimmed = decoded.trim_end();
            if trimmed.len() < decoded.len() {
                // It is not blank, so something is left.
                *text = Cow::Owned(Text::plain(trimmed));
            }
        }
    }

    fn push(&mut self, by_user: bool) -> &mut Said<'r> {
        if self.turns.last().is_none_or(|last| last.by_user != by_user) {
            self.turns.push(Said::new(by_user));
        }
        let last = self.turns.len() - 1;
        &mut self.turns[last]
    }
}

impl Said<'_> {
    fn new(by_user: bool) -> Self {
        Said { by_user, results: Vec::new(), blocks: Vec::new() }
    }

    fn go_on() -> Self {
        Said { blocks: vec![Block::Text(Cow::Owned(Text::escaped(GO_ON)))], ..Said::new(true) }
    }
}

struct Reader<'r> {
    conversation: Conversation<'r>,
    ids: CallIds<'r>,
    /// How many there were.
    calls: usize,
    /// The calls that wait for their results, by the ids that they have now, and the tools'.
    open: Vec<(String, &'r Text<'r>)>,
}

impl<'r> Reader<'r> {
    fn turn(&mut self, turn: &'r Turn<'r>, losses: &mut Losses) {
        match turn.role {
            Role::System | Role::Developer => self.system(turn, losses),
            Role::User => turn.parts.iter().for_each(|part| self.part(true, part, losses)),
            Role::Assistant => turn.parts.iter().for_each(|part| self.part(false, part, losses)),
        }
    }

    fn system(&mut self, turn: &'r Turn<'r>, losses: &mut Losses) {
        losses.note_if(!self.conversation.turns.is_empty(), "place of a system message");
        for part in &turn.parts {
            match part {
                Part::Text { text, .. } if is_blank(text) => {}
                Part::Text { text, .. } => self.conversation.system.push(text),
                Part::Media(_) => losses.note("media"),
                _ => losses.note("native content part"),
            }
        }
    }

    fn part(&mut self, by_user: bool, part: &'r Part<'r>, losses: &mut Losses) {
        match part {
            Part::Text { text, .. } | Part::Refusal(text) if is_blank(text) => {}
            Part::Text { text, .. } | Part::Refusal(text) => {
                self.block(by_user, Block::Text(Cow::Borrowed(text)), losses)
            }
            // What models say is text here.
            Part::Media(media) if by_user => self.block(true, Block::Media(media), losses),
            Part::Media(_) => losses.note("media"),
            Part::Thought(_) => losses.note("reasoning of earlier turns"),
            Part::Call(call) => {
                let id = self.ids.call(call.id.as_escaped(), self.calls);
                self.calls += 1;
                self.block(false, Block::Call { id: id.clone(), call }, losses);
                self.open.push((id, &call.name));
            }
            Part::Result(result) => self.result(result, losses),
            Part::Native(_) => losses.note("native content part"),
        }
    }

    fn block(&mut self, by_user: bool, block: Block<'r>, losses: &mut Losses) {
        if !by_user && self.conversation.turns.last().is_some_and(|last| last.by_user) {
            self.answer_all(losses);
        }
        self.conversation.push(by_user).blocks.push(block);
    }

    fn result(&mut self, result: &'r ToolResult<'r>, losses: &mut Losses) {
        let id = self.ids.result(result.id.as_escaped()).filter(|_| !result.id.is_empty());
        let by_id = id.and_then(|id| self.open.iter().position(|(open, _)| open == id));
        // Dialects without ids tell the tool's name.
        let by_name = || match &result.name {
            _ if !result.id.is_empty() => None,
            Some(name) => self.open.iter().position(|(_, called)| *called == name),
            None => (!self.open.is_empty()).then_some(0),
        };
        match by_id.or_else(by_name) {
            Some(at) => {
                let (id, _) = self.open.remove(at);
                self.conversation.push(true).results.push(Answered { id, result: Some(result) });
            }
            None => {
                // It would be refused: it is told as what it is, a text.
                losses.note("tool result without its call");
                for part in &result.parts {
                    if matches!(part, Part::Text { .. } | Part::Media(_)) {
                        self.part(true, part, losses);
                    }
                }
            }
        }
    }

    /// A call without a result would be refused.
    fn answer_all(&mut self, losses: &mut Losses) {
        for (id, _) in std::mem::take(&mut self.open) {
            losses.note("tool call without its result");
            self.conversation.push(true).results.push(Answered { id, result: None });
        }
    }
}
