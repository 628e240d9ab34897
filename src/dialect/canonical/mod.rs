//! What a conversation says, whatever the dialect: the hub through which any dialect becomes any other.
//!
//! A dialect reads its own requests, answers and stream events into these, and writes these as its own. Where both ends
//! speak the same, nothing comes here: their bytes pass.
//!
//! Three rules make it safe to go through:
//!
//! - **Text is copied, not decoded.** A JSON string means the same in every dialect, so [`Text`] is what stands between its
//!   quotes, escapes and all.
//! - **Nothing is dropped silently.** What only one dialect knows is kept beside what all know ([`Extras`],
//!   [`Part::Native`], [`Tool::Native`]): the same dialect writes it back, another one [notes it](Losses).
//! - **Blocks are told one after another.** [`Event`]s of a stream are in the strictest grammar of all (Anthropic's): one
//!   block is open at a time. Whoever reads a dialect that lets them overlap puts them in order.

mod answer;
pub(crate) mod base64;
pub(crate) mod collect;
mod event;
mod loss;
mod request;
mod sequence;
mod stops;
mod text;

pub(crate) use answer::{Answer, Finish, call_id, seconds_now};
pub(crate) use event::{Block, Event, Head};
pub(crate) use loss::Losses;
#[cfg(test)]
pub(crate) use loss::{KNOWN_MEMBERS, Loss, MEANINGS};
pub(crate) use request::{
    Call, Destination, Effort, Format, Media, MediaKind, Part, Reasoning, Request, Role, Source, Thought, Tool,
    ToolChoice, ToolResult, Turn,
};
pub(crate) use sequence::{Key, OutOfOrder, Sequence};
pub(crate) use stops::Stops;
pub(crate) use text::{Extras, Raw, Text};
