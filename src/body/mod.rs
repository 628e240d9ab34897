//! The bodies that the layers answer with, and how they read others.

pub(crate) mod collect;
mod event_stream;
mod grpc;
mod idle;
mod response;

pub(crate) use collect::{Collect, whole};
pub(crate) use event_stream::{EventStream, Oversized};
pub(crate) use idle::IdleTimer;
pub(crate) use response::Asker;
pub use response::ResponseBody;
