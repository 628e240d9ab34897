//! Gemini `generateContent` and `streamGenerateContent`.
//!
//! The model, and whether it is to stream, stand in the path: see [`request`]. Members are read in camel case and in snake
//! case, as Google's servers do, and written in camel case.
//!
//! What the canonical form has no place for is kept as [`Extras`](super::canonical::Extras): by its own name where that says
//! enough, with its object's name before it (`"toolConfig.retrievalConfig"`) where it is one that nothing is known of.

pub(crate) mod error;
mod family;
#[cfg(test)]
pub(crate) mod grammar;
pub(crate) mod joined;
mod names;
#[cfg(test)]
mod normalised;
mod part;
pub(crate) mod recovery;
pub(crate) mod request;
pub(crate) mod response;
mod schema;
pub(crate) mod stream;
pub(crate) mod usage;
