//! How many tokens a request has, by the tokenizer of the model that reads it.

use super::{
    canonical::{Part, Request, Source, Text, ToolResult},
    translate,
};
use crate::{Dialect, KnownModel};

/// A longer body is not counted: its estimate has to do. It bounds how long whoever asks is kept waiting: some tenth of a second.
const MOST_BYTES: usize = 1 << 20;

/// What stands around each message, its role included, and before the answer: so OpenAI's guide "How to count tokens" has it, and so
/// it bills `gpt-4o` and `gpt-4.1`. Its later models take one less in all for a single message, and of more than one it is not known.
const AROUND_MESSAGE: u64 = 4;
const AROUND_MESSAGE_AT_LEAST: u64 = 3;
const BEFORE_ANSWER: u64 = 3;

/// How many tokens were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    text: u64,
    messages: u64,
    /// Whether there is nothing but messages of text: nobody says how tools, schemas and pictures are put.
    is_plain: bool,
}

impl Counted {
    /// By `o200k_base`; `None` where a body is too long to be counted, or cannot be read.
    pub(crate) fn of(dialect: Dialect, body: &[u8]) -> Option<Counted> {
        if body.len() > MOST_BYTES {
            return None;
        }
        let request = translate::decode_request(dialect, std::str::from_utf8(body).ok()?).ok()?;
        let mut counted = Counted { text: 0, messages: request.turns.len() as u64, is_plain: is_plain(&request) };
        for turn in &request.turns {
            // A name, say.
            counted.is_plain &= turn.extras.is_empty();
            turn.parts.iter().for_each(|part| counted.add(part));
        }
        Some(counted)
    }

    /// How many tokens it has for that model, and whether that is all of them; else it has more.
    pub(crate) fn for_model(&self, model: &KnownModel) -> (u64, bool) {
        let is_all = self.is_plain && model.name().starts_with("gpt-4");
        let around = if is_all { AROUND_MESSAGE } else { AROUND_MESSAGE_AT_LEAST };
        (self.text + around * self.messages + BEFORE_ANSWER, is_all)
    }

    fn add(&mut self, part: &Part<'_>) {
        match part {
            Part::Text { text, .. } | Part::Refusal(text) => self.add_text(text),
            Part::Result(ToolResult { parts, .. }) => {
                self.is_plain = false;
                parts.iter().for_each(|part| self.add(part));
            }
            Part::Media(media) => {
                self.is_plain = false;
                if let Source::Text(text) = &media.source {
                    self.add_text(text);
                }
            }
            // A model's own thoughts may be left out, and calls are written in a way of its own.
            Part::Thought(_) | Part::Call(_) | Part::Native(_) => self.is_plain = false,
        }
    }

    fn add_text(&mut self, text: &Text<'_>) {
        self.text += bpe_openai::o200k_base().count(&*text.decoded()) as u64;
    }
}

/// Whether nothing is asked beside a talk.
fn is_plain(request: &Request<'_>) -> bool {
    request.tools.is_empty() && request.format.is_none() && request.dialect == Dialect::OpenAiChat
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use tokio::time::Instant;

    use super::*;
    use crate::{KnownModel, dialect::recorded};

    /// For a model of that name, in a chat.
    fn count_for(model: &str, body: &serde_json::Value) -> Option<(u64, bool)> {
        let counted = Counted::of(Dialect::OpenAiChat, body.to_string().as_bytes())?;
        Some(counted.for_model(KnownModel::find(model).unwrap()))
    }

    fn count(body: &serde_json::Value) -> Option<(u64, bool)> {
        count_for("gpt-4o", body)
    }

    fn said(text: &str) -> serde_json::Value {
        json!({"messages": [{"role": "user", "content": text}]})
    }

    #[test]
    fn a_talk_has_as_many_tokens_as_openai_says_it_has() {
        // The example of OpenAI's guide, which its API counts as 124 tokens for gpt-4o.
        let messages = json!([
            {"role": "system", "content": "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."},
            {"role": "system", "content": "New synergies will help drive top-line growth."},
            {"role": "system", "content": "Things working well together will increase revenue."},
            {"role": "system", "content": "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage."},
            {"role": "system", "content": "Let's talk later when we're less busy about how to do better."},
            {"role": "user", "content": "This late pivot means we don't have time to boil the ocean for the client deliverable."},
        ]);
        // There, four of them have names, and a name takes a token besides its own.
        let names = ["example_user", "example_assistant", "example_user", "example_assistant"];
        let names: u64 = names.iter().map(|name| 1 + bpe_openai::o200k_base().count(*name) as u64).sum();
        assert_eq!(count(&json!({"messages": messages})), Some((124 - names, true)));
    }

    #[test]
    fn a_talk_has_as_many_tokens_as_its_provider_said() {
        let (mut exact, mut at_least) = (0, 0);
        for exchange in recorded::exchanges("openai-chat") {
            let (Some(request), Some(answer)) = (&exchange.request, &exchange.answer) else { continue };
            let (Some(model), Some(told)) = (request["model"].as_str(), answer["usage"]["prompt_tokens"].as_u64())
            else {
                continue;
            };
            let is_known = KnownModel::find(model).is_some_and(KnownModel::uses_o200k_base);
            if !is_known || exchange.is_cut {
                continue;
            }
            match count_for(model, request) {
                Some((counted, true)) => {
                    assert_eq!(counted, told, "{}: {model}", exchange.file);
                    exact += 1;
                }
                Some((counted, false)) => {
                    assert!(counted <= told, "{}: {model}: {counted} of {told}", exchange.file);
                    at_least += 1;
                }
                None => {}
            }
        }
        eprintln!("of recorded requests, {exact} to the token, {at_least} at least as many");
    }

    #[test]
    fn what_the_estimate_was_measured_against_is_counted_to_the_token() {
        for (text, counted) in crate::dialect::tokens::SAMPLES {
            assert_eq!(count(&said(text)), Some((counted + AROUND_MESSAGE + BEFORE_ANSWER, true)), "{text}");
        }
    }

    #[test]
    fn what_is_not_text_is_left_out_and_said_to_be() {
        let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
        let mut body = said("Hello");
        assert_eq!((count(&body), count_for("gpt-5", &body)), (Some((8, true)), Some((7, false))));
        body["tools"] = tools;
        assert_eq!(count(&body), Some((7, false)));
        let anthropic = json!({"max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]}).to_string();
        let counted = Counted::of(Dialect::AnthropicMessages, anthropic.as_bytes()).unwrap();
        assert_eq!(counted.for_model(KnownModel::find("gpt-4o").unwrap()), (7, false));
    }

    #[test]
    fn a_hostile_text_keeps_nobody_waiting() {
        let longest = MOST_BYTES - 100;
        count(&said("warm up"));
        for text in
            ["a".repeat(longest), " ".repeat(longest), "\u{1f600}".repeat(longest / 4), "a1 ".repeat(longest / 3)]
        {
            let began = Instant::now();
            assert!(count(&said(&text)).is_some());
            // Without optimisation, and beside other tests: else it takes some tenth of a second.
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        }
        assert_eq!(count(&said(&"a".repeat(MOST_BYTES))), None, "an estimate has to do");
    }
}
