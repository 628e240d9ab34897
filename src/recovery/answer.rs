//! What the client has of an answer, and how the rest is told to it.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{Response, header};

use super::seam::{Asked, Joined, Seam};
use crate::{
    Dialect, Fault,
    body::EventStream,
    dialect::recovery::{self as telling, INSTRUCTION, Piece, Remedy, RestRequest, Retelling, Told, tokens_of},
};

/// How much of a tool call is held back, and how much text is remembered, in bytes: beyond that an answer is not completed.
const MOST: usize = 4 << 20;

/// Whether that is a stream of events, and no failure.
pub(super) fn is_stream<B>(response: &Response<B>) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes());
    let is_stream = kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with(b"text/event-stream"));
    is_stream && response.status().is_success() && response.extensions().get::<Fault>().is_none()
}

/// The rest does not fit to what the client has; why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misfit(pub(super) &'static str);

/// How to ask for the rest.
#[derive(Debug, PartialEq)]
pub(super) enum Plan {
    /// For the rest, in either way.
    Rest(RestRequest),
    /// For all of it.
    Again,
}

/// An answer as its bytes pass. It knows nothing of bodies and time.
#[derive(Debug)]
pub(super) struct Answer {
    dialect: Dialect,
    /// The data of its first event, by which the rest is told as the same answer.
    first: Option<Bytes>,
    /// What the client has of it, and what it had when the first event was held back.
    told: Told,
    told_unheld: Told,
    seam: Seam,
    /// Of the rest, not of the answer as it began.
    is_rest: bool,
    /// The client has some of the model's reasoning.
    reasoned: bool,
    /// The client has something that cannot be gone on with.
    closed: bool,
    finished: bool,
    /// There is more than one answer, of which each has an end of its own.
    several: bool,
    /// The client has the event behind which nothing comes.
    terminated: bool,
    /// Events from the first of a tool call on, until it is whole, and the text among them.
    held: Vec<Bytes>,
    held_bytes: usize,
    held_text: String,
    ready: VecDeque<Bytes>,
    usage: Retelling<'static>,
}

impl Answer {
    pub(super) fn new(dialect: Dialect) -> Self {
        Answer {
            dialect,
            first: None,
            told: Told::new(dialect),
            told_unheld: Told::new(dialect),
            seam: Seam::new(Asked::Again, String::new()),
            is_rest: false,
            reasoned: false,
            closed: false,
            finished: false,
            several: false,
            terminated: false,
            held: Vec::new(),
            held_bytes: 0,
            held_text: String::new(),
            ready: VecDeque::new(),
            usage: Retelling::default(),
        }
    }

    /// The next bytes for the client.
    pub(super) fn take_ready(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }

    /// Whether nothing of it is missing.
    pub(super) fn is_finished(&self) -> bool {
        self.finished && !self.several
    }

    /// Reads whole events.
    pub(super) fn read(&mut self, events: &mut EventStream, whole: &Bytes) -> Result<(), Misfit> {
        // Bytes from there on go to the client as they came.
        let mut from = 0;
        for (data, place) in events.events(whole) {
            let piece = telling::piece(self.dialect, &data);
            if self.is_rest {
                match piece {
                    Some(piece) => self.read_rest(&data, piece)?,
                    // It may have been a piece of the answer.
                    None if !self.finished && data.contains(&b'{') => return Err(UNREADABLE),
                    None => tracing::warn!("left out an event of a stream's rest that cannot be read"),
                }
                continue;
            }
            self.first.get_or_insert_with(|| Bytes::copy_from_slice(&data));
            if self.begun(whole.slice(place.clone()), piece) {
                self.forward(whole.slice(from..place.start));
                from = place.end;
            } else {
                self.told.passed(&data);
            }
        }
        if !self.is_rest {
            self.forward(whole.slice(from..));
        }
        Ok(())
    }

    /// Takes note of an event of the answer as it began. Whether it is held back.
    fn begun(&mut self, event: Bytes, piece: Option<Piece>) -> bool {
        let Some(piece) = piece else {
            self.closed = true;
            return false;
        };
        self.reasoned |= piece.reasoning;
        self.closed |= piece.other;
        self.several |= piece.second;
        self.terminated |= piece.terminal;
        if self.finished || (self.held.is_empty() && !piece.tool_call) {
            self.finished |= piece.finish;
            self.remember(&piece.text);
            return false;
        }
        self.hold(event, &piece);
        true
    }

    fn remember(&mut self, text: &str) {
        if !text.is_empty() {
            // It is joined from the beginning: all text is released.
            let _ = self.seam.push(text);
            self.closed |= self.seam.delivered().len() > MOST;
        }
    }

    /// Holds back an event from the first of a tool call on; all of them go together when the answer is whole.
    fn hold(&mut self, event: Bytes, piece: &Piece) {
        // Of the answer as it began, nothing that is held has been noted.
        if !self.is_rest && self.held.is_empty() {
            self.told_unheld.clone_from(&self.told);
        }
        self.held_bytes += event.len();
        self.held.push(event);
        self.held_text.push_str(&piece.text);
        self.finished |= piece.finish;
        if self.finished || self.held_bytes > MOST {
            // Beyond the bound it goes as it comes, and cannot be asked for again.
            self.release_held();
        }
    }

    fn release_held(&mut self) {
        self.closed |= !self.held.is_empty();
        self.held_bytes = 0;
        let text = std::mem::take(&mut self.held_text);
        if !self.is_rest {
            // Of the rest, the seam knows it already.
            self.remember(&text);
        }
        let held = std::mem::take(&mut self.held);
        held.into_iter().for_each(|event| self.forward(event));
    }

    fn read_rest(&mut self, data: &[u8], piece: Piece) -> Result<(), Misfit> {
        if self.finished {
            // The usage, the terminal event.
            self.terminated |= piece.terminal;
            return self.tell(data, Retelling { text: None, ..self.usage });
        }
        self.closed |= piece.other;
        let mut text = String::new();
        let mut take = |joined| match joined {
            Joined::Hold => Ok(()),
            Joined::Release(more) => {
                text.push_str(&more);
                Ok(())
            }
            Joined::Mismatch(why) => Err(Misfit(why)),
        };
        if !piece.text.is_empty() {
            take(self.seam.push(&piece.text))?;
        }
        if piece.finish || piece.tool_call {
            take(self.seam.finish())?;
        }
        if self.seam.began_anew() {
            self.usage.more_output = 0;
        }
        let reasoning = piece.reasoning && !self.reasoned && self.seam.delivered().is_empty();
        let brings = !text.is_empty() || reasoning || piece.tool_call || piece.finish || piece.other || piece.usage;
        if !brings && !piece.terminal {
            return Ok(());
        }
        let how = Retelling {
            text: (!piece.text.is_empty() || !text.is_empty()).then_some(&*text),
            without_reasoning: piece.reasoning && !reasoning,
            ..self.usage
        };
        // It may be large, so it is remembered only where something begins to be held.
        if self.held.is_empty() && piece.tool_call {
            self.told_unheld.clone_from(&self.told);
        }
        let event = self.retold(data, how)?;
        if piece.tool_call || !self.held.is_empty() {
            self.hold(event, &Piece { text, ..piece });
        } else {
            self.finished |= piece.finish;
            self.forward(event);
        }
        Ok(())
    }

    fn tell(&mut self, data: &[u8], how: Retelling<'_>) -> Result<(), Misfit> {
        let event = self.retold(data, how)?;
        self.forward(event);
        Ok(())
    }

    fn retold(&mut self, data: &[u8], how: Retelling<'_>) -> Result<Bytes, Misfit> {
        let first = self.first.as_deref().unwrap_or(b"{}");
        telling::retold(self.dialect, first, &mut self.told, data, how).ok_or(UNREADABLE)
    }

    /// The stream has ended cleanly; whether the answer is whole, as far as can be told.
    pub(super) fn ended(&mut self) -> bool {
        if self.is_rest && !self.finished {
            return false;
        }
        self.release_held();
        self.terminate();
        true
    }

    /// Sets the terminal event behind an answer that is whole, if nobody else did.
    pub(super) fn terminate(&mut self) {
        if self.is_finished() && !self.terminated {
            self.terminated = true;
            self.forward(telling::terminal(self.dialect));
        }
    }

    /// The stream broke. How to ask for the rest of the answer to that request; `None` if that cannot be.
    pub(super) fn broke(&mut self, request: &Bytes) -> Option<Plan> {
        // Nobody has seen what was held back. Of the rest, the seam takes it for seen.
        let is_uncertain = self.is_rest && !self.held_text.is_empty();
        if !self.held.is_empty() {
            self.told.clone_from(&self.told_unheld);
        }
        self.held.clear();
        self.held_text.clear();
        self.held_bytes = 0;
        if self.closed || is_uncertain {
            return None;
        }
        let delivered = self.seam.delivered();
        match telling::remedy(self.dialect, request) {
            Remedy::None => None,
            Remedy::Rest if !delivered.trim().is_empty() => {
                Some(Plan::Rest(telling::rest_request(self.dialect, request, delivered)?))
            }
            Remedy::Rest | Remedy::Again => Some(Plan::Again),
        }
    }

    /// What comes from now on is the rest, which was asked for in that way.
    pub(super) fn resume(&mut self, asked: Asked) {
        let delivered = self.seam.delivered().to_owned();
        let tokens = tokens_of(&delivered);
        let (less_input, more_output) = match asked {
            Asked::Again => (0, 0),
            Asked::Prefill => (tokens, tokens),
            Asked::Instruction => (tokens + tokens_of(INSTRUCTION), tokens),
        };
        self.usage = Retelling { less_input, more_output, ..Retelling::default() };
        self.seam = Seam::new(asked, delivered);
        self.is_rest = true;
    }

    fn forward(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.ready.push_back(bytes);
        }
    }
}

const UNREADABLE: Misfit = Misfit("an event of the rest cannot be told");

#[cfg(test)]
mod tests;
