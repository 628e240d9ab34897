//! The bodies that the layers answer with, and how they read others.

pub(crate) mod collect;
mod decoded;
mod event_stream;
mod grpc;
mod idle;
mod json_array;
mod response;

pub(crate) use collect::{Collect, whole};
pub(crate) use decoded::{Coding, Decoded, UnknownCoding};
pub(crate) use event_stream::{EventStream, MAX_EVENT, Oversized};
pub(crate) use idle::IdleTimer;
pub(crate) use json_array::ArrayWriter;
pub(crate) use response::Asker;
pub use response::ResponseBody;
