//! Anthropic Messages.

pub(crate) mod error;
mod id;
mod model;
pub(crate) mod recovery;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod stream;
pub(crate) mod usage;
