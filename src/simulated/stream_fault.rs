//! What can go wrong within a stream, and where.

use std::fmt;

/// One way for a stream to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamFault {
    /// The connection is reset; within a part of the answer, with half of an event sent.
    Cut,
    /// The body ends cleanly, without what was still to come; within a part of the answer, with half of an event sent. Behind
    /// the finish reason that is a missing `[DONE]`.
    EndEarly,
    /// Nothing more comes, and the connection stays open; within a part of the answer, with half of an event sent.
    Stall,
    /// Nothing more comes but keep-alives, for ever.
    Pings,
    /// An error event, and the end without `[DONE]`.
    Error,
    /// An event that cannot be read; the others come all the same.
    Malformed,
    /// The event there cannot be read, for half of it is missing; the others come all the same.
    Garbled,
    /// An event without an end: 17 MiB of it, and then nothing.
    Oversized,
}

/// Where in a stream it happens. A fault whose place the answer does not have (a tool call, say) does not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamPoint {
    /// Behind what opens the turn.
    BeforeOutput,
    /// Behind the first event that carries output.
    AtFirstOutput,
    /// In the middle of the text.
    InText,
    /// In the middle of the tool calls.
    InToolCall,
    /// In the middle of structured output.
    InStructuredOutput,
    /// In the middle of the reasoning.
    InReasoning,
    /// Behind the finish reason, before the usage and `[DONE]`.
    AfterFinishReason,
}

impl StreamFault {
    /// Every one.
    pub const ALL: &'static [Self] = &[
        Self::Cut,
        Self::EndEarly,
        Self::Stall,
        Self::Pings,
        Self::Error,
        Self::Malformed,
        Self::Garbled,
        Self::Oversized,
    ];

    /// Its name, as in `stream:cut@in-text`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::EndEarly => "end-early",
            Self::Stall => "stall",
            Self::Pings => "pings",
            Self::Error => "error",
            Self::Malformed => "malformed",
            Self::Garbled => "garbled",
            Self::Oversized => "oversized",
        }
    }

    /// Whether half of an event is sent before it.
    pub(super) const fn breaks_an_event(self) -> bool {
        matches!(self, Self::Cut | Self::EndEarly | Self::Stall)
    }
}

impl StreamPoint {
    /// Every one, in the order of a stream.
    pub const ALL: &'static [Self] = &[
        Self::BeforeOutput,
        Self::AtFirstOutput,
        Self::InText,
        Self::InToolCall,
        Self::InStructuredOutput,
        Self::InReasoning,
        Self::AfterFinishReason,
    ];

    /// Its name, as in `stream:cut@in-text`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeforeOutput => "before-output",
            Self::AtFirstOutput => "at-first-output",
            Self::InText => "in-text",
            Self::InToolCall => "in-tool-call",
            Self::InStructuredOutput => "in-structured-output",
            Self::InReasoning => "in-reasoning",
            Self::AfterFinishReason => "after-finish-reason",
        }
    }
}

impl fmt::Display for StreamFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for StreamPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Reads `cut@in-text`.
pub(super) fn parse(text: &str) -> Option<(StreamFault, StreamPoint)> {
    let (fault, point) = text.split_once('@')?;
    let fault = StreamFault::ALL.iter().find(|known| known.name() == fault)?;
    let point = StreamPoint::ALL.iter().find(|known| known.name() == point)?;
    Some((*fault, *point))
}
