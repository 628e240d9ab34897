//! OpenAI Responses, and whatever is compatible with it.

pub(crate) mod error;
pub(crate) mod recovery;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod stream;
pub(crate) mod usage;
