//! Puts pieces of blocks that overlap into the order of one block after the other.

use super::{Block, Event, Text};

/// Which block of an answer a piece belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Text,
    Refusal,
    Thought,
    /// The call of that number.
    Call(u64),
}

/// A piece of a call came when the call had been told as whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfOrder;

/// Tells the pieces of blocks one block after another.
///
/// Text is over when something else comes. A call is over when its arguments are whole: as long as they are not, what
/// comes for other blocks is held. No provider is known to mix them, so hardly ever is anything held.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    open: Option<(Key, Balance)>,
    held: Vec<Held>,
    /// Calls that were told whole.
    closed: Vec<u64>,
}

#[derive(Debug)]
struct Held {
    key: Key,
    block: Block<'static>,
    text: Text<'static>,
    balance: Balance,
}

impl Sequence {
    /// Takes a piece; `block` is what it belongs to, should that begin with it.
    pub(crate) fn piece(
        &mut self,
        key: Key,
        block: impl FnOnce() -> Block<'static>,
        piece: &Text<'_>,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), OutOfOrder> {
        if let Some((_, balance)) = self.open.as_mut().filter(|(open, _)| *open == key) {
            balance.add(piece);
            tell(piece, sink);
        } else if let Some(held) = self.held.iter_mut().find(|held| held.key == key) {
            held.balance.add(piece);
            held.text.push(piece);
        } else if matches!(key, Key::Call(number) if self.closed.contains(&number)) {
            return if piece.is_empty() { Ok(()) } else { Err(OutOfOrder) };
        } else {
            let mut balance = Balance::default();
            balance.add(piece);
            self.held.push(Held { key, block: block(), text: piece.borrowed().into_owned(), balance });
        }
        while !self.held.is_empty() && self.may_close() {
            self.next(sink);
        }
        Ok(())
    }

    /// Tells all that is held, and that what is open is over.
    pub(crate) fn finish(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        while !self.held.is_empty() {
            self.next(sink);
        }
        self.close(sink);
    }

    /// Whether a block of that kind has begun.
    pub(crate) fn knows(&self, key: Key) -> bool {
        let closed = matches!(key, Key::Call(number) if self.closed.contains(&number));
        closed || self.open.is_some_and(|(open, _)| open == key) || self.held.iter().any(|held| held.key == key)
    }

    fn may_close(&self) -> bool {
        self.open.is_none_or(|(key, balance)| !matches!(key, Key::Call(_)) || balance.is_whole())
    }

    fn close(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let Some((key, _)) = self.open.take() else { return };
        if let Key::Call(number) = key {
            self.closed.push(number);
        }
        sink(Event::End);
    }

    /// Tells the first block that is held.
    fn next(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        self.close(sink);
        let held = self.held.remove(0);
        sink(Event::Begin(held.block));
        tell(&held.text, sink);
        self.open = Some((held.key, held.balance));
    }
}

fn tell(piece: &Text<'_>, sink: &mut dyn FnMut(Event<'_>)) {
    if !piece.is_empty() {
        sink(Event::Delta(piece.borrowed()));
    }
}

/// How deep the brackets of a JSON text are, of which piece after piece comes, each with the escapes of a string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Balance {
    depth: u32,
    begun: bool,
    in_string: bool,
    /// Behind a backslash of the JSON text itself.
    escaped: bool,
}

impl Balance {
    fn is_whole(self) -> bool {
        self.begun && self.depth == 0 && !self.in_string
    }

    fn add(&mut self, piece: &Text<'_>) {
        let mut bytes = piece.as_escaped().bytes();
        while let Some(byte) = bytes.next() {
            let meant = match byte {
                b'\\' => match bytes.next() {
                    Some(b'u') => {
                        let code =
                            (0..4).filter_map(|_| bytes.next()).filter_map(|digit| char::from(digit).to_digit(16));
                        // Of the characters that need so many digits none is one that matters.
                        u8::try_from(code.fold(0, |code, digit| code * 16 + digit)).unwrap_or(b'x')
                    }
                    Some(quoted @ (b'"' | b'\\')) => quoted,
                    _ => b' ',
                },
                byte => byte,
            };
            self.step(meant);
        }
    }

    fn step(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_string => self.escaped = true,
            b'"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            b'{' | b'[' => {
                self.depth += 1;
                self.begun = true;
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pieces: &[(Key, &'static str)]) -> Result<String, OutOfOrder> {
        let (mut sequence, mut told) = (Sequence::default(), String::new());
        let mut sink = |event: Event<'_>| match event {
            Event::Begin(Block::Call { name, .. }) => told.push_str(&format!("<{}:", name.as_escaped())),
            Event::Begin(_) => told.push('<'),
            Event::Delta(text) => told.push_str(&format!("{} ", text.decoded())),
            Event::End => told.push('>'),
            _ => unreachable!(),
        };
        for (key, piece) in pieces {
            let block = || match key {
                Key::Call(number) => Block::Call { id: Text::default(), name: Text::escaped(number.to_string()) },
                _ => Block::Text,
            };
            sequence.piece(*key, block, &Text::plain(piece), &mut sink)?;
        }
        sequence.finish(&mut sink);
        Ok(told)
    }

    #[test]
    fn blocks_in_order_are_told_as_they_come() {
        let pieces = [
            (Key::Thought, "hm"),
            (Key::Text, "a"),
            (Key::Text, "b"),
            (Key::Call(0), ""),
            (Key::Call(0), "{\"x\": \"}\\\""),
            (Key::Call(0), "\"}"),
            (Key::Call(1), "{}"),
        ];
        assert_eq!(told(&pieces).unwrap(), "<hm ><a b ><0:{\"x\": \"}\\\" \"} ><1:{} >");
    }

    #[test]
    fn calls_that_overlap_are_told_one_after_the_other() {
        let pieces =
            [(Key::Call(0), "{"), (Key::Call(1), "{"), (Key::Text, "t"), (Key::Call(0), "}"), (Key::Call(1), "}")];
        assert_eq!(told(&pieces).unwrap(), "<0:{ } ><1:{ } ><t >");
        let unfinished = [(Key::Call(0), "{"), (Key::Call(1), "{}")];
        assert_eq!(told(&unfinished).unwrap(), "<0:{ ><1:{} >");
    }

    #[test]
    fn more_of_a_call_that_was_whole_is_out_of_order() {
        assert_eq!(told(&[(Key::Call(0), "{}"), (Key::Call(1), "{}"), (Key::Call(0), "!")]), Err(OutOfOrder));
        assert_eq!(told(&[(Key::Call(0), "{}"), (Key::Call(1), "{}"), (Key::Call(0), "")]).unwrap(), "<0:{} ><1:{} >");
    }

    #[test]
    fn a_quote_by_its_number_is_a_quote() {
        let mut balance = Balance::default();
        balance.add(&Text::escaped(r"{\u0022}\u0022"));
        assert!(!balance.is_whole());
        balance.add(&Text::escaped("}"));
        assert!(balance.is_whole());
    }
}
