//! Whether an answer is one to be kept.

use serde_json::Value as Json;

use crate::Dialect;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is whole, and only says something.
    Whole,
    /// It is whole, and wants something done.
    CallsTools,
    /// It failed, was cut short or declined, or cannot be read.
    Unfit,
}

/// Looks at an answer in one piece.
pub(super) fn verdict(dialect: Dialect, is_embeddings: bool, answer: &[u8]) -> Verdict {
    let Ok(answer) = serde_json::from_slice::<Json>(answer) else { return Verdict::Unfit };
    if !answer.is_object() || !answer["error"].is_null() {
        return Verdict::Unfit;
    }
    if is_embeddings {
        let some = answer["data"].as_array().is_some_and(|data| !data.is_empty());
        return if some { Verdict::Whole } else { Verdict::Unfit };
    }
    match dialect {
        Dialect::OpenAiChat => all(&answer["choices"], |choice| {
            let message = &choice["message"];
            let called = !is_nothing(&message["tool_calls"]) || !is_nothing(&message["function_call"]);
            of(&choice["finish_reason"], &["stop"], &["tool_calls", "function_call"], called)
        }),
        Dialect::OpenAiResponses => {
            // Also what asks for leave to make one.
            let is_call = |kind: &str| kind.ends_with("_call") || kind.ends_with("_approval_request");
            let is_call = |item: &Json| item["type"].as_str().is_some_and(is_call);
            of(&answer["status"], &["completed"], &[], items(&answer["output"]).iter().any(is_call))
        }
        Dialect::AnthropicMessages => {
            let is_use = |block: &Json| block["type"].as_str().is_some_and(|kind| kind.ends_with("tool_use"));
            let called = items(&answer["content"]).iter().any(is_use);
            of(&answer["stop_reason"], &["end_turn", "stop_sequence"], &["tool_use"], called)
        }
        Dialect::Gemini => all(&answer["candidates"], |candidate| {
            let is_call = |part: &Json| !part["functionCall"].is_null();
            let called = items(&candidate["content"]["parts"]).iter().any(is_call);
            of(&candidate["finishReason"], &["STOP"], &[], called)
        }),
    }
}

fn of(reason: &Json, whole: &[&str], calling: &[&str], called: bool) -> Verdict {
    match reason.as_str() {
        Some(reason) if calling.contains(&reason) => Verdict::CallsTools,
        Some(reason) if whole.contains(&reason) && called => Verdict::CallsTools,
        Some(reason) if whole.contains(&reason) => Verdict::Whole,
        _ => Verdict::Unfit,
    }
}

/// The worst of several answers; of none it is the worst there is.
fn all(answers: &Json, judge: impl Fn(&Json) -> Verdict) -> Verdict {
    let verdicts: Vec<_> = items(answers).iter().map(judge).collect();
    match verdicts.is_empty() || verdicts.contains(&Verdict::Unfit) {
        true => Verdict::Unfit,
        false if verdicts.contains(&Verdict::CallsTools) => Verdict::CallsTools,
        false => Verdict::Whole,
    }
}

fn items(value: &Json) -> &[Json] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn is_nothing(value: &Json) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_each(dialect: Dialect, answers: &[(&str, Verdict)]) {
        for (answer, expected) in answers {
            assert_eq!(verdict(dialect, false, answer.as_bytes()), *expected, "{answer}");
        }
    }

    use Verdict::{CallsTools, Unfit, Whole};

    #[test]
    fn of_chat_completions() {
        of_each(
            Dialect::OpenAiChat,
            &[
                (r#"{"choices":[{"message":{"content":"x","tool_calls":[]},"finish_reason":"stop"}]}"#, Whole),
                (r#"{"choices":[{"message":{"content":"x"},"finish_reason":"length"}]}"#, Unfit),
                (r#"{"choices":[{"message":{"content":"x"},"finish_reason":null}]}"#, Unfit),
                (r#"{"choices":[{"message":{"content":"x"},"finish_reason":"content_filter"}]}"#, Unfit),
                (r#"{"choices":[{"message":{"tool_calls":[{}]},"finish_reason":"tool_calls"}]}"#, CallsTools),
                (r#"{"choices":[{"message":{"tool_calls":[{}]},"finish_reason":"stop"}]}"#, CallsTools),
                (r#"{"choices":[{"finish_reason":"stop"},{"finish_reason":"length"}]}"#, Unfit),
                (r#"{"choices":[{"finish_reason":"stop"},{"finish_reason":"tool_calls"}]}"#, CallsTools),
                (r#"{"choices":[]}"#, Unfit),
                (r#"{"error":{"message":"x"},"choices":[{"finish_reason":"stop"}]}"#, Unfit),
                ("[]", Unfit),
                ("", Unfit),
            ],
        );
        assert_eq!(verdict(Dialect::OpenAiChat, true, br#"{"data":[{"embedding":[1]}]}"#), Whole);
        assert_eq!(verdict(Dialect::OpenAiChat, true, br#"{"data":[]}"#), Unfit);
    }

    #[test]
    fn of_the_other_dialects() {
        of_each(
            Dialect::OpenAiResponses,
            &[
                (r#"{"status":"completed","error":null,"output":[{"type":"message"}]}"#, Whole),
                (r#"{"status":"completed","output":[{"type":"function_call"}]}"#, CallsTools),
                (r#"{"status":"completed","output":[{"type":"mcp_approval_request"}]}"#, CallsTools),
                (r#"{"status":"incomplete","output":[{"type":"message"}]}"#, Unfit),
                (r#"{"status":"queued","output":[]}"#, Unfit),
            ],
        );
        of_each(
            Dialect::AnthropicMessages,
            &[
                (r#"{"content":[{"type":"text"}],"stop_reason":"end_turn"}"#, Whole),
                (r#"{"content":[{"type":"tool_use"}],"stop_reason":"tool_use"}"#, CallsTools),
                (r#"{"content":[{"type":"text"}],"stop_reason":"max_tokens"}"#, Unfit),
                (r#"{"content":[{"type":"text"}],"stop_reason":"refusal"}"#, Unfit),
            ],
        );
        of_each(
            Dialect::Gemini,
            &[
                (r#"{"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":"STOP"}]}"#, Whole),
                (r#"{"candidates":[{"content":{"parts":[{"functionCall":{}}]},"finishReason":"STOP"}]}"#, CallsTools),
                (r#"{"candidates":[{"content":{"parts":[]},"finishReason":"SAFETY"}]}"#, Unfit),
                (r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#, Unfit),
            ],
        );
    }
}
