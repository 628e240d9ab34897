//! Whether the events of a stream are such as Google sends.

use serde_json::Value as Json;

/// Panics where a stream breaks the grammar: each event is an answer that holds what is new, the finish reason stands in the last
/// one that has a candidate and in no other (of the first models, in every one), one id and one model are told throughout, and
/// calls are whole.
#[derive(Debug, Default)]
pub(crate) struct Grammar {
    id: Option<Json>,
    model: Option<Json>,
    finished: bool,
    events: usize,
    reasons: u32,
}

impl Grammar {
    pub(crate) fn event(&mut self, data: &str) {
        let event: Json = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"));
        self.events += 1;
        for (name, known) in [("responseId", &mut self.id), ("modelVersion", &mut self.model)] {
            let told = event.get(name).cloned();
            assert!(self.events == 1 || told == *known, "another {name}: {data}");
            *known = told;
        }
        if event["promptFeedback"].get("blockReason").is_some() {
            assert!(event.get("candidates").is_none(), "an answer to what was blocked: {data}");
            self.finished = true;
            return;
        }
        for candidate in event["candidates"].as_array().into_iter().flatten() {
            for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
                let kinds =
                    part.as_object().unwrap().keys().filter(|key| !["thought", "thoughtSignature"].contains(&&***key));
                assert_eq!(kinds.count(), 1, "a part is one thing: {data}");
                if let Some(function) = part.get("functionCall") {
                    let partial = function.get("partialArgs").is_some() || function.get("willContinue").is_some();
                    let whole = function["name"].is_string() && function["args"].is_object();
                    assert!(whole || partial || function.as_object().unwrap().is_empty(), "half a call: {data}");
                }
            }
            let finished = candidate.get("finishReason").is_some_and(|reason| !reason.is_null());
            assert!(finished || !self.finished, "behind the finish reason: {data}");
            self.reasons += u32::from(finished);
            self.finished = finished;
        }
    }

    /// The stream is over, and was one of ours.
    pub(crate) fn end(&self) {
        assert!(self.finished, "no finish reason");
        assert!(self.reasons <= 1, "more than one finish reason");
    }
}
