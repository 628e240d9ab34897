//! Anthropic Messages.

pub(crate) mod id;
pub(crate) mod model;
pub(crate) mod request;
