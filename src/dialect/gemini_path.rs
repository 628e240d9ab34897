//! What Gemini says in a request's path: the model, and whether to stream.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What cannot stand in one segment of a path.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'/')
    .add(b'%');

/// What stands before the model, the model, and what is to be done with it.
fn split(path: &str) -> Option<(&str, &str, &str)> {
    let at = path.rfind("/models/")? + "/models/".len();
    let (model, call) = path[at..].rsplit_once(':')?;
    Some((&path[..at], model, call))
}

/// The model that the path names.
pub(crate) fn model(path: &str) -> Option<Cow<'_, str>> {
    let (_, model, _) = split(path)?;
    percent_decode_str(model).decode_utf8().ok()
}

/// Whether the path asks for a stream.
pub(crate) fn streams(path: &str) -> bool {
    path.ends_with(":streamGenerateContent")
}

/// The path with another model in it.
pub(crate) fn with_model<'a>(path: &'a str, name: &str) -> Cow<'a, str> {
    match split(path) {
        Some((before, _, call)) => Cow::Owned(format!("{before}{}:{call}", utf8_percent_encode(name, SEGMENT))),
        None => Cow::Borrowed(path),
    }
}

/// Where a request for that model goes, and the query that goes with it.
pub(crate) fn path(model: &str, stream: bool) -> String {
    let call = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
    format!("/v1beta/models/{}:{call}", utf8_percent_encode(model, SEGMENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_found_and_replaced() {
        let path = "/v1beta/models/gemini-2.5-pro:streamGenerateContent";
        assert_eq!(model(path).unwrap(), "gemini-2.5-pro");
        assert!(streams(path) && !streams("/v1beta/models/a:generateContent"));
        assert_eq!(with_model(path, "b/c d"), "/v1beta/models/b%2Fc%20d:streamGenerateContent");
        let tuned = "/v1/publishers/google/models/x%3Ay:generateContent";
        assert_eq!(model(tuned).unwrap(), "x:y");
        assert_eq!(with_model("/v1/models", "b"), "/v1/models");
        assert_eq!(super::path("m", true), "/v1beta/models/m:streamGenerateContent?alt=sse");
    }
}
