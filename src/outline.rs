//! What of a request's body every layer may ask for, found in one scan.

use std::ops::Range;

use bytes::Bytes;

use crate::Requirements;

/// What a request's JSON body says at its top: where its model stands, and whether it asks for a stream.
#[derive(Clone, Debug)]
pub struct RequestOutline {
    body: Bytes,
    model: Option<Range<usize>>,
    /// A repeated key is legal JSON. Most parsers take the last one; all of them are replaced.
    earlier_models: Vec<Range<usize>>,
    streaming: bool,
    /// How many answers the client asks for at once.
    choices: u64,
    /// Adds what a body of its dialect says to what the request needs.
    add_requirements: fn(&[u8], &mut Requirements),
}

impl RequestOutline {
    pub(crate) fn new(body: Bytes, add_requirements: fn(&[u8], &mut Requirements)) -> Self {
        RequestOutline { body, model: None, earlier_models: Vec::new(), streaming: false, choices: 1, add_requirements }
    }

    /// Adds what the body says to what the request needs. Unlike the rest of the outline this takes a second look at it.
    pub(crate) fn add_requirements(&self, needs: &mut Requirements) {
        (self.add_requirements)(&self.body, needs);
    }

    /// Adds a place where the value of `model` stands, quotes included.
    pub(crate) fn add_model(&mut self, range: Range<usize>) {
        self.earlier_models.extend(self.model.replace(range));
    }

    pub(crate) fn set_streaming(&mut self, streaming: bool) {
        self.streaming = streaming;
    }

    pub(crate) fn set_choices(&mut self, choices: u64) {
        self.choices = choices;
    }

    /// How many answers the client asks for at once.
    #[must_use]
    pub fn choices(&self) -> u64 {
        self.choices
    }

    /// Whether the client asks for a stream.
    #[must_use]
    pub fn streaming(&self) -> bool {
        self.streaming
    }

    /// The JSON text of the model that the client asks for, quotes included.
    #[must_use]
    pub fn model_json(&self) -> Option<&[u8]> {
        self.model.clone().map(|range| &self.body[range])
    }

    /// Whether this is the outline of that very body: a layer in between may have put another in its place.
    #[must_use]
    pub fn is_of(&self, body: &Bytes) -> bool {
        // The body held here keeps its memory from being used again.
        std::ptr::eq(self.body.as_ptr(), body.as_ptr()) && self.body.len() == body.len()
    }

    /// The body with the model replaced and every other byte as it was.
    pub(crate) fn with_model(&self, model_json: &[u8]) -> Bytes {
        if self.earlier_models.is_empty() && self.model_json() == Some(model_json) {
            return self.body.clone();
        }
        let mut spliced = Vec::with_capacity(self.body.len() + model_json.len());
        let mut copied = 0;
        for range in self.earlier_models.iter().chain(&self.model) {
            spliced.extend_from_slice(&self.body[copied..range.start]);
            spliced.extend_from_slice(model_json);
            copied = range.end;
        }
        spliced.extend_from_slice(&self.body[copied..]);
        spliced.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(body: &'static str) -> RequestOutline {
        let mut outline = RequestOutline::new(Bytes::from_static(body.as_bytes()), |_, _| {});
        let mut from = 0;
        while let Some(at) = body[from..].find("\"old\"") {
            outline.add_model(from + at..from + at + 5);
            from += at + 5;
        }
        outline
    }

    #[test]
    fn only_the_model_changes() {
        let outline = outline(r#"{ "model" :"old","n":1.0e0,"x":"old"#);
        assert_eq!(outline.with_model(b"\"newer\""), &br#"{ "model" :"newer","n":1.0e0,"x":"old"#[..]);
    }

    #[test]
    fn a_repeated_model_is_replaced_everywhere() {
        let outline = outline(r#"{"model":"old","model":"old"}"#);
        assert_eq!(outline.with_model(b"\"n\""), &br#"{"model":"n","model":"n"}"#[..]);
        assert_eq!(outline.model_json(), Some(&b"\"old\""[..]));
    }

    #[test]
    fn the_same_model_costs_no_copy() {
        let outline = outline(r#"{"model":"old"}"#);
        assert!(outline.is_of(&outline.with_model(b"\"old\"")));
        assert!(!outline.is_of(&Bytes::copy_from_slice(br#"{"model":"old"}"#)));
    }
}
