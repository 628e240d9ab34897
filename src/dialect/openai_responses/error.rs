//! Faults as OpenAI's Responses API tells them.

use bytes::Bytes;

use crate::{Fault, dialect::openai_chat};

/// All of OpenAI's APIs have the same body for an error.
pub(crate) fn body(fault: &Fault) -> Bytes {
    openai_chat::error::body(fault)
}

/// The same as the last event of a stream.
#[cfg(any(feature = "gateway", test))]
pub(crate) fn event(fault: &Fault) -> Bytes {
    let event = serde_json::json!({
        "type": "error",
        "code": openai_chat::error::code(fault),
        "message": fault.message(),
        "param": null,
        "sequence_number": 0,
    });
    format!("event: error\ndata: {event}\n\n").into()
}
