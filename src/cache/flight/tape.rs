use std::collections::VecDeque;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

/// What a piece takes besides its bytes, about.
const OVERHEAD: usize = 64;
/// Pieces below this length get memory of their own: as a slice of a read buffer they would keep all of that.
const SHORT: usize = 8 << 10;

/// A frame that several may have.
#[derive(Clone, Debug)]
pub(in crate::cache) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Piece {
    pub(super) fn of(frame: Frame<Bytes>) -> Option<Piece> {
        match frame.into_data() {
            Ok(data) if data.len() < SHORT => Some(Piece::Data(Bytes::copy_from_slice(&data))),
            Ok(data) => Some(Piece::Data(data)),
            Err(frame) => frame.into_trailers().ok().map(Piece::Trailers),
        }
    }

    fn size(&self) -> usize {
        OVERHEAD
            + match self {
                Piece::Data(data) => data.len(),
                Piece::Trailers(trailers) => trailers.len() * OVERHEAD,
            }
    }
}

/// The pieces of an answer: all of them while it is recorded, else those that somebody has not read.
#[derive(Debug)]
pub(super) struct Tape {
    pieces: VecDeque<Piece>,
    /// How many were there before the first of them.
    gone: usize,
    size: usize,
    most: usize,
    records: bool,
}

impl Tape {
    /// Records up to so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Tape { pieces: VecDeque::new(), gone: 0, size: 0, most, records: true }
    }

    /// Records no more.
    pub(super) fn stop(&mut self) {
        self.records = false;
    }

    pub(super) fn push(&mut self, piece: Piece) {
        self.size += piece.size();
        // Trailers are not told again.
        self.records &= self.size <= self.most && matches!(piece, Piece::Data(_));
        self.pieces.push_back(piece);
    }

    pub(super) fn get(&self, at: usize) -> Option<Piece> {
        self.pieces.get(at.checked_sub(self.gone)?).cloned()
    }

    /// Whether it still has its beginning.
    pub(super) fn is_whole(&self) -> bool {
        self.gone == 0
    }

    /// Whether there is no room for another piece.
    pub(super) fn is_full(&self) -> bool {
        !self.records && self.size > self.most
    }

    /// Lets go of what everybody has read, who have read so many pieces each. Of what is recorded it lets nothing go, and
    /// need not look.
    pub(super) fn forget(&mut self, read: impl Iterator<Item = usize>) {
        let before = if self.records { 0 } else { read.min().unwrap_or(0) };
        while self.gone < before {
            let Some(piece) = self.pieces.pop_front() else { return };
            self.gone += 1;
            self.size -= piece.size();
        }
    }

    /// All of it, if it was recorded.
    pub(super) fn recorded(&self) -> Option<Bytes> {
        if !self.records {
            return None;
        }
        let data = |piece: &Piece| match piece {
            Piece::Data(data) => data.clone(),
            Piece::Trailers(_) => Bytes::new(),
        };
        if let (1, Some(only)) = (self.pieces.len(), self.pieces.front()) {
            return Some(data(only));
        }
        Some(self.pieces.iter().map(data).collect::<Vec<_>>().concat().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(length: usize) -> Piece {
        Piece::Data(Bytes::from(vec![b'x'; length]))
    }

    #[test]
    fn what_is_recorded_is_all_there() {
        let mut tape = Tape::new(1000);
        tape.push(piece(10));
        tape.push(piece(20));
        tape.forget([2, 3].into_iter());
        assert!(tape.is_whole() && !tape.is_full());
        assert_eq!(tape.recorded().unwrap().len(), 30);
        assert!(tape.get(1).is_some() && tape.get(2).is_none());
    }

    #[test]
    fn what_is_too_long_is_kept_only_until_all_have_read_it() {
        let mut tape = Tape::new(1000);
        tape.push(piece(800));
        tape.push(piece(800));
        assert!(tape.is_full() && tape.is_whole());
        assert_eq!(tape.recorded(), None);
        tape.forget([1].into_iter());
        assert!(!tape.is_full() && !tape.is_whole());
        assert!(tape.get(0).is_none() && tape.get(1).is_some());
        tape.forget([2, 3].into_iter());
        assert_eq!(tape.size, 0);
    }

    #[test]
    fn trailers_are_passed_on_and_not_recorded() {
        let mut tape = Tape::new(1000);
        tape.push(piece(1));
        tape.push(Piece::Trailers(HeaderMap::new()));
        assert_eq!(tape.recorded(), None);
        assert!(matches!(tape.get(1), Some(Piece::Trailers(_))));
    }
}
