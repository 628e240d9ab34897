//! How a provider writes its answers, none of which is wrong.

use std::io::Write;

use bytes::Bytes;
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};

use super::script::{Step, Steps};

/// How the answers of a [`SimulatedProvider`](super::SimulatedProvider) are written: all of it is allowed, or happens all the
/// same.
///
/// ```
/// use tower_failover::simulated::{LineEnd, StreamStyle};
///
/// let style = StreamStyle::default().with_line_end(LineEnd::CrLf).with_comments().in_pieces_of(3);
/// # let _ = style;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamStyle {
    line_end: LineEnd,
    byte_order_mark: bool,
    comments: bool,
    multi_line: bool,
    piece: Option<usize>,
    compressed: Option<Compressed>,
    pub(super) json: bool,
    pub(super) events: bool,
    pub(super) unlabelled: bool,
}

/// How a line of an event stream ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineEnd {
    /// `"\n"`, or what is the API's own.
    #[default]
    Lf,
    /// `"\r\n"`.
    CrLf,
    /// `"\r"`.
    Cr,
}

/// How an answer is compressed, whatever was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compressed {
    /// `content-encoding: gzip`.
    Gzip,
    /// `content-encoding: deflate`.
    Deflate,
}

impl StreamStyle {
    /// Ends lines so.
    #[must_use]
    pub const fn with_line_end(mut self, line_end: LineEnd) -> Self {
        self.line_end = line_end;
        self
    }

    /// Begins a stream with a byte order mark.
    #[must_use]
    pub const fn with_byte_order_mark(mut self) -> Self {
        self.byte_order_mark = true;
        self
    }

    /// Puts a comment before each event.
    #[must_use]
    pub const fn with_comments(mut self) -> Self {
        self.comments = true;
        self
    }

    /// Puts each event's data in two lines.
    #[must_use]
    pub const fn with_multi_line_data(mut self) -> Self {
        self.multi_line = true;
        self
    }

    /// Sends everything in pieces of so many bytes (at least one), each in a write of its own.
    #[must_use]
    pub const fn in_pieces_of(mut self, bytes: usize) -> Self {
        self.piece = Some(if bytes == 0 { 1 } else { bytes });
        self
    }

    /// Compresses answers though nobody asked for that.
    #[must_use]
    pub const fn compressed(mut self, how: Compressed) -> Self {
        self.compressed = Some(how);
        self
    }

    /// Answers with JSON though a stream was asked for.
    #[must_use]
    pub const fn as_json(mut self) -> Self {
        self.json = true;
        self
    }

    /// Answers with a stream though JSON was asked for.
    #[must_use]
    pub const fn as_events(mut self) -> Self {
        self.events = true;
        self
    }

    /// Does not say what an answer is: no `content-type`.
    #[must_use]
    pub const fn unlabelled(mut self) -> Self {
        self.unlabelled = true;
        self
    }

    /// The `content-encoding`, where there is one.
    pub(super) fn encoding(&self) -> Option<&'static str> {
        self.compressed.map(|how| match how {
            Compressed::Gzip => "gzip",
            Compressed::Deflate => "deflate",
        })
    }

    /// The events of a stream written so.
    pub(super) fn of_stream(&self, mut steps: Steps) -> Steps {
        let mut first = true;
        for step in &mut steps.steps {
            if let Step::Send(event) = step {
                *event = self.event(event, first).into();
                first = false;
            }
        }
        self.of_body(steps)
    }

    /// A body written so, whatever it is.
    pub(super) fn of_body(&self, mut steps: Steps) -> Steps {
        if let Some(how) = self.compressed {
            compress(&mut steps, how);
        }
        if let Some(piece) = self.piece {
            let sends = |step| match step {
                Step::Send(data) => data.chunks(piece).map(|piece| Step::Send(data.slice_ref(piece))).collect(),
                other => vec![other],
            };
            steps.steps = steps.steps.into_iter().flat_map(sends).collect();
        }
        steps
    }

    fn event(&self, event: &[u8], first: bool) -> Vec<u8> {
        let mut text = String::from_utf8_lossy(event).into_owned();
        if self.multi_line {
            text = text.replacen("data: {", "data: {\ndata: ", 1);
        }
        if self.comments {
            text.insert_str(0, ": a comment\n\n");
        }
        if first && self.byte_order_mark {
            text.insert(0, '\u{feff}');
        }
        match self.line_end {
            LineEnd::Lf => text,
            LineEnd::CrLf => text.replace("\r\n", "\n").replace('\n', "\r\n"),
            LineEnd::Cr => text.replace("\r\n", "\n").replace('\n', "\r"),
        }
        .into_bytes()
    }
}

fn compress(steps: &mut Steps, how: Compressed) {
    fn each<W: Write>(steps: &mut Steps, mut encoder: W, take: fn(&mut W) -> Vec<u8>, finish: fn(W) -> Vec<u8>) {
        for step in &mut steps.steps {
            if let Step::Send(data) = step {
                // Writing to memory does not fail.
                let _ = encoder.write_all(data).and_then(|()| encoder.flush());
                *data = take(&mut encoder).into();
            }
        }
        if !matches!(steps.steps.back(), Some(Step::Reset | Step::Stall | Step::Repeat(..))) {
            steps.send(Bytes::from(finish(encoder)));
        }
    }
    let (sink, level) = (Vec::new(), Compression::fast());
    match how {
        Compressed::Gzip => each(
            steps,
            GzEncoder::new(sink, level),
            |encoder| std::mem::take(encoder.get_mut()),
            |encoder| encoder.finish().unwrap_or_default(),
        ),
        Compressed::Deflate => each(
            steps,
            ZlibEncoder::new(sink, level),
            |encoder| std::mem::take(encoder.get_mut()),
            |encoder| encoder.finish().unwrap_or_default(),
        ),
    }
    steps.length = None;
}
