//! Faults as the error bodies and events of OpenAI's Responses.

use bytes::Bytes;

use crate::{Fault, dialect::openai_chat};

/// The same as anywhere in OpenAI's API.
pub(crate) fn body(fault: &Fault) -> Bytes {
    openai_chat::error::body(fault)
}

/// The last event of a stream. OpenAI's types say that the error's members stand in the event itself, and its API puts them
/// into an `error`, by which its SDKs know that they are to raise one: here they stand in both places. Which number the event
/// has is not known here.
#[cfg(any(feature = "gateway", test))]
pub(crate) fn event(fault: &Fault) -> Bytes {
    use crate::dialect::json_write::{Object, object};

    let (kind, code) = (openai_chat::error::kind(fault), fault.response_code());
    let members = |error: &mut Object<'_>| {
        error.string("code", code);
        error.string("message", fault.message());
        error.null("param");
    };
    let mut out = b"event: error\ndata: ".to_vec();
    object(&mut out, |event| {
        event.string("type", "error");
        event.number("sequence_number", 0);
        members(event);
        event.object("error", |error| {
            error.string("type", kind);
            members(error);
        });
    });
    out.extend_from_slice(b"\n\n");
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        FaultKind,
        body::EventStream,
        dialect::{StreamEvent, openai_responses::stream::Reader},
    };

    #[test]
    fn an_error_is_what_sdks_and_readers_take_for_one() {
        let fault = Fault::new(FaultKind::RateLimited, "too \"fast\"").with_code("rate_limit_exceeded");
        let whole: serde_json::Value = serde_json::from_slice(&body(&fault)).unwrap();
        assert_eq!(whole["error"]["code"], "rate_limit_exceeded");
        let event = event(&fault);
        assert!(event.starts_with(b"event: error\n"));
        let mut events = EventStream::default();
        let (data, _) = events.events(&event).next().unwrap();
        assert_eq!(Reader::new().event(&data), StreamEvent::Error);
        let data: serde_json::Value = serde_json::from_slice(&data).unwrap();
        assert_eq!((&data["message"], &data["code"]), (&data["error"]["message"], &data["error"]["code"]));
        assert_eq!((&data["error"]["type"], &data["type"]), (&"rate_limit_error".into(), &"error".into()));
        assert_eq!(whole["error"]["message"], data["message"]);
    }
}
