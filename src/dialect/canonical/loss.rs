//! What a translation could not say.

use std::{collections::BTreeSet, fmt};

use super::{Extras, Finish};

/// A feature of a request or answer that the other dialect has no word for. The name is the one that the table of losses in
/// the documentation has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Loss(pub(crate) &'static str);

impl Loss {
    /// A member that nothing is known of.
    pub(crate) const UNKNOWN_MEMBER: Loss = Loss("unknown member");

    /// Whether a loss of that name is a member that only one dialect knows.
    #[cfg(test)]
    pub(crate) fn is_of_a_member(name: &str) -> bool {
        name == Self::UNKNOWN_MEMBER.0 || KNOWN_MEMBERS.contains(&name)
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Every loss of a translation, once each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses(BTreeSet<Loss>);

impl Losses {
    pub(crate) fn note(&mut self, name: &'static str) {
        #[cfg(test)]
        assert!(is_documented(name), "nobody knows what a loss of {name:?} is");
        self.0.insert(Loss(name));
    }

    /// Notes it, if there is one.
    pub(crate) fn note_if(&mut self, lost: bool, name: &'static str) {
        if lost {
            self.note(name);
        }
    }

    /// Notes what another dialect does not say of why an answer ended; some tell which stop sequence it came upon.
    pub(crate) fn finish(&mut self, finish: &Finish<'_>, tells_stop_sequence: bool) {
        self.note_if(matches!(finish, Finish::StopSequence(_)) && !tells_stop_sequence, "stop_sequence");
        self.note_if(matches!(finish, Finish::Other(_)), "finish reason");
    }

    /// Notes members that only one dialect knows, by their names where those are known. `null`, `false`, what is empty and
    /// what is so anyway asks for nothing.
    pub(crate) fn extras(&mut self, extras: &Extras<'_>) {
        for (key, value) in extras.iter() {
            if matches!(value.as_str(), "null" | "false" | "[]" | "{}" | "\"\"") {
                continue;
            }
            let usual = USUAL.iter().any(|(name, usual)| key.is(name) && value.as_str().eq_ignore_ascii_case(usual));
            if usual || TRANSLATED.iter().any(|known| key.is(known)) {
                continue;
            }
            let known = KNOWN_MEMBERS.iter().find(|known| key.is(known));
            self.0.insert(known.map_or(Loss::UNKNOWN_MEMBER, |name| Loss(name)));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Loss> {
        self.0.iter().copied()
    }
}

/// What is so whether it is asked for or not.
const USUAL: &[(&str, &str)] =
    &[("n", "1"), ("candidateCount", "1"), ("modalities", r#"["text"]"#), ("responseModalities", r#"["TEXT"]"#)];

/// Members whose meaning the canonical form has elsewhere, kept so that their own dialect gets them back word for word.
const TRANSLATED: &[&str] = &[
    "createTime",
    "finishReason",
    "functionCallingConfig",
    "parameters",
    "responseSchema",
    "role",
    "serviceTier",
    "thinkingConfig",
    "usage",
    "usageMetadata",
];

/// Members that have no place in the canonical form, by name. What a request names itself never becomes a loss's name: a
/// label of a metric must be one of a known few.
pub(crate) const KNOWN_MEMBERS: &[&str] = &[
    "annotations",
    "audio",
    "avgLogprobs",
    "background",
    "cache_control",
    "cachedContent",
    "caller",
    "candidateCount",
    "citationMetadata",
    "citations",
    "container",
    "context",
    "context_management",
    "conversation",
    "defer_loading",
    "detail",
    "finishMessage",
    "groundingMetadata",
    "imageConfig",
    "include",
    "inference_geo",
    "labels",
    "logit_bias",
    "logprobs",
    "logprobsResult",
    "max_tool_calls",
    "mcp_servers",
    "mediaResolution",
    "metadata",
    "modalities",
    "moderation",
    "n",
    "name",
    "namespace",
    "output_config",
    "partMetadata",
    "phase",
    "prediction",
    "previous_response_id",
    "prompt",
    "prompt_cache_breakpoint",
    "prompt_cache_options",
    "prompt_cache_retention",
    "promptFeedback",
    "reasoning",
    "responseLogprobs",
    "responseMimeType",
    "responseModalities",
    "safetyRatings",
    "safetySettings",
    "speechConfig",
    "speed",
    "status",
    "stop_details",
    "store",
    "stream_options",
    "system_fingerprint",
    "text",
    "thoughtSignature",
    "top_logprobs",
    "truncation",
    "urlContextMetadata",
    "videoMetadata",
    "web_search_options",
];

/// What each loss means, in the order of their names: the table in the documentation. In tests, only these are noted.
#[cfg(test)]
pub(crate) const MEANINGS: &[(&str, &str)] = &[
    ("citations", "What the text cites, in a stream: the other dialect has no such marks, or has them elsewhere."),
    ("description of a format", "What the answer's format is for."),
    ("finish reason", "Why the answer ended, in a word that only its own dialect has: it is told as the end."),
    ("frequency_penalty", "The penalty on what was said often."),
    ("further answers", "All answers but the first."),
    ("is_error", "That a tool's result is an error: its text is told."),
    ("json_object format", "That the answer be JSON: an instruction says so instead."),
    ("json_schema", "The schema of the answer, to a server that takes none: it is asked for JSON."),
    ("json_schema format", "The schema of the answer, to a model that keeps to none: an instruction says it instead."),
    ("malformed arguments", "That a call's arguments are no JSON object: they are told as a text in one."),
    (
        "media",
        "An image, audio, a video or a document of a kind or from a place that the other dialect has no word for.",
    ),
    ("media in a tool result", "An image or document in a tool's result, where results are text."),
    ("metadata", "What is stored with the answer."),
    ("name", "The name of a document."),
    ("native content part", "What only its own dialect has: a search's results, code that was run."),
    (
        "native tool",
        "A tool that runs at the provider. Such requests are refused before, unless that is left out of a stack of one's own.",
    ),
    ("native tool call", "A call of a tool that is no function."),
    ("native tool choice", "A choice among tools in words that only its own dialect has."),
    ("parallel_tool_calls", "That tools be called one at a time."),
    ("place of a system message", "Where in the conversation a system message stood: all are told at its beginning."),
    ("prefill", "That the model go on with what the request has begun of its answer: it is asked to go on instead."),
    ("presence_penalty", "The penalty on what was said at all."),
    ("prompt_cache_key", "The key under which the prompt is cached."),
    ("reasoning", "That the model reason, told to one that does not; or members of how it should."),
    ("reasoning of earlier turns", "What the model thought before: it is of use only to the provider that made it."),
    ("reasoning signature", "What proves to its provider whose thought it was."),
    ("reasoning_effort", "How much to reason, where the model knows fewer steps: the nearest is asked for."),
    ("refusal", "That a text is a refusal: it is told as text."),
    (
        "response_format beside tools",
        "The answer's format, to a model that takes none where there are tools: an instruction says it instead.",
    ),
    ("sampling", "Temperature, `top_p` and `top_k`, to a model that takes none."),
    ("schema constraints", "Bounds in a JSON schema that the provider refuses: they are told in its descriptions."),
    ("seed", "The seed."),
    ("service_tier", "The tier: how soon, and for what price."),
    ("stop", "Stop sequences. (Where a target takes fewer, the gateway ends the answer at the others.)"),
    ("stop of white space", "Stop sequences of nothing but white space, which Anthropic refuses."),
    ("stop_sequence", "Which stop sequence the answer came upon."),
    ("strict", "That a tool's arguments keep to its schema for certain."),
    ("temperature", "The temperature, to a model that takes none, or none while it reasons."),
    ("temperature above 1", "What the temperature is above 1: it is 1."),
    ("thoughtSignature", "What proves to Google whose call it was."),
    (
        "tool arguments that are no object",
        "That a call's arguments are no JSON object: they are told as a text in one.",
    ),
    (
        "tool call without its result",
        "That a call has no result: one is made up that says so, for the provider would refuse it.",
    ),
    (
        "tool result without its call",
        "That a result answers no call: it is told as text, for the provider would refuse it.",
    ),
    ("tool_choice", "That a tool must be called, to a model that cannot be made to."),
    ("top_k", "The bound of how many tokens to choose from."),
    ("top_p", "The bound of how probable tokens to choose from."),
    ("unknown member", "A member that nothing is known of."),
    ("user", "Who the end user is."),
    ("verbosity", "How verbose to be."),
];

#[cfg(test)]
fn is_documented(name: &str) -> bool {
    Loss::is_of_a_member(name) || MEANINGS.iter().any(|(known, _)| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::json_scan::Value;

    #[test]
    fn a_loss_is_noted_once_and_never_by_a_name_of_the_clients() {
        let value = Value::whole(br#"{"logit_bias":{"1":2},"my_secret":1,"store":false,"n":null,"n":2}"#).unwrap();
        let mut extras = Extras::default();
        value.members().for_each(|member| member.map(|(key, value)| extras.keep(key, &value)).unwrap());
        let mut losses = Losses::default();
        losses.extras(&extras);
        losses.extras(&extras);
        losses.note_if(false, "seed");
        let names: Vec<_> = losses.iter().map(|loss| loss.to_string()).collect();
        assert_eq!(names, ["logit_bias", "n", "unknown member"]);
    }

    #[test]
    fn what_is_said_elsewhere_or_is_so_anyway_is_no_loss() {
        let json = br#"{"n":1,"candidateCount":1,"responseModalities":["TEXT"],"thinkingConfig":{"thinkingBudget":0}}"#;
        let mut extras = Extras::default();
        let members = Value::whole(json).unwrap().members();
        members.for_each(|member| member.map(|(key, value)| extras.keep(key, &value)).unwrap());
        let mut losses = Losses::default();
        losses.extras(&extras);
        assert!(losses.is_empty(), "{losses:?}");
    }
}
