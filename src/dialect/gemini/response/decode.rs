//! A `generateContent` answer in the canonical form.

use std::borrow::Cow;

use crate::{
    Dialect,
    dialect::{
        canonical::{Answer, Finish, Part, Raw, Text},
        gemini::{
            names::{camel, each, members},
            part,
            stream::is_blocked,
            usage,
        },
        json_scan::{Malformed, Value, root_members},
    },
};

/// Reads an answer: its first candidate, for those who ask for several are sent to nobody who would have to translate them.
pub(crate) fn decode(body: &str) -> Result<Answer<'_>, Malformed> {
    let mut answer = Answer::new(Dialect::Gemini);
    let (mut blocked, mut candidates) = (false, 0);
    for member in root_members(body.as_bytes())? {
        let (key, value) = member?;
        let key = camel(key);
        match &*key {
            "responseId" => answer.id = Text::of(&value),
            "modelVersion" => answer.model = Text::of(&value),
            "createTime" => {
                answer.created = created(&value);
                answer.extras.keep(key, &value);
            }
            "usageMetadata" => {
                answer.usage = usage::read(&value);
                let tier = members(&value).find(|(key, _)| key == "serviceTier");
                answer.service_tier = tier.and_then(|(_, tier)| Text::of(&tier));
                answer.extras.keep(key, &value);
            }
            "candidates" => {
                for candidate in value.elements() {
                    let candidate = candidate?;
                    match candidates {
                        0 => read_candidate(&mut answer, &candidate),
                        _ => answer.others.extend(Raw::of(&candidate)),
                    }
                    candidates += 1;
                }
            }
            _ => {
                blocked |= key == "promptFeedback" && is_blocked(&value);
                answer.extras.keep(key, &value);
            }
        }
    }
    if blocked && candidates == 0 {
        answer.finish = Finish::ContentFilter;
    }
    Ok(answer)
}

/// When an answer was made: RFC 3339.
pub(crate) fn created(value: &Value<'_>) -> Option<u64> {
    let time = humantime::parse_rfc3339(&value.as_str()?).ok()?;
    Some(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs())
}

fn read_candidate<'a>(answer: &mut Answer<'a>, candidate: &Value<'a>) {
    let mut reason = None;
    for (key, value) in members(candidate) {
        match &*key {
            "index" => {}
            "content" => {
                for (key, value) in members(&value) {
                    match &*key {
                        "role" => {}
                        "parts" => answer.parts.extend(each(&value).map(|value| read_part(&value))),
                        _ => answer.message_extras.keep(key, &value),
                    }
                }
            }
            "finishReason" => reason = Some(value),
            _ => answer.candidate_extras.keep(key, &value),
        }
    }
    let calls = answer.parts.iter().any(|part| matches!(part, Part::Call(_)));
    answer.finish = reason.as_ref().map_or(finish_of("STOP", calls), |reason| finish(reason, calls));
    // What is said back otherwise than it was said.
    match reason {
        Some(reason) if reason.as_str().as_deref() == Some(word(&answer.finish)) => {}
        Some(reason) => answer.candidate_extras.keep(Cow::Borrowed("finishReason"), &reason),
        None => {
            let nothing = Value::whole(b"null");
            nothing.iter().for_each(|value| answer.candidate_extras.keep(Cow::Borrowed("finishReason"), value));
        }
    }
}

/// A part of an answer: of media only its own dialect knows what to do with them there.
pub(crate) fn read_part<'a>(value: &Value<'a>) -> Part<'a> {
    match part::decode(value) {
        Part::Media(_) | Part::Result(_) => Raw::of(value).map_or(Part::text(Text::default()), Part::Native),
        part => part,
    }
}

/// What a finish reason means, be it a word or, where a client asked for that, a number. There is none for calls.
pub(crate) fn finish<'a>(reason: &Value<'a>, calls: bool) -> Finish<'a> {
    match (reason.as_u64(), Text::of(reason)) {
        (Some(number), _) => match number {
            1 => finish_of("STOP", calls),
            2 => Finish::Length,
            3 | 4 | 6..=8 => Finish::ContentFilter,
            _ => Finish::Other(Text::escaped("OTHER")),
        },
        (None, Some(word)) => match finish_of(word.as_escaped(), calls) {
            Finish::Other(_) => Finish::Other(word),
            known => known,
        },
        (None, None) => finish_of("STOP", calls),
    }
}

fn finish_of(word: &str, calls: bool) -> Finish<'static> {
    match word {
        "STOP" | "FINISH_REASON_UNSPECIFIED" if calls => Finish::ToolCalls,
        "STOP" | "FINISH_REASON_UNSPECIFIED" => Finish::Stop,
        "MAX_TOKENS" | "CONTINUATION" => Finish::Length,
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "MODEL_ARMOR" => Finish::ContentFilter,
        _ => Finish::Other(Text::default()),
    }
}

/// Google's word for how an answer ended; for a word of another dialect that is in no other's, the one that says so.
pub(crate) fn word(finish: &Finish<'_>) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopSequence(_) | Finish::ToolCalls => "STOP",
        Finish::Length => "MAX_TOKENS",
        Finish::ContentFilter => "SAFETY",
        Finish::Other(_) => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Usage;

    #[test]
    fn an_answer_that_calls_waits_for_its_tools() {
        let answer = decode(
            r#"{"candidates":[{"content":{"parts":[{"text":"Hm","thought":true},{"text":"Hi"},{"functionCall":{"name":"f","args":{"a":1}},
                "thoughtSignature":"s"},{"inlineData":{"mimeType":"image/png","data":""}}],"role":"model"},"finishReason":"STOP","index":0}],
            "usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2,"serviceTier":"standard"},"modelVersion":"m",
            "createTime":"2026-04-07T16:49:58.333958Z","responseId":"r"}"#,
        )
        .unwrap();
        assert_eq!(answer.finish, Finish::ToolCalls);
        assert!(matches!(&*answer.parts, [Part::Thought(_), Part::Text { .. }, Part::Call(_), Part::Native(_)]));
        let Part::Call(call) = &answer.parts[2] else { unreachable!() };
        assert!(call.id.is_empty() && call.signature.as_ref().unwrap().is("s"));
        assert_eq!(answer.usage, Some(Usage { input: 3, output: 2, ..Usage::default() }));
        assert_eq!((answer.created, answer.service_tier.unwrap().as_escaped()), (Some(1_775_580_598), "standard"));
    }

    #[test]
    fn each_way_to_end() {
        for (reason, finish) in [
            ("\"STOP\"", Finish::Stop),
            ("1", Finish::Stop),
            ("\"MAX_TOKENS\"", Finish::Length),
            ("\"PROHIBITED_CONTENT\"", Finish::ContentFilter),
            ("3", Finish::ContentFilter),
            ("\"FAKE_NEW\"", Finish::Other(Text::escaped("FAKE_NEW"))),
            ("null", Finish::Stop),
        ] {
            let body = format!(r#"{{"candidates":[{{"finishReason":{reason}}}]}}"#);
            assert_eq!(decode(&body).unwrap().finish, finish, "{reason}");
        }
        let blocked = decode(r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#).unwrap();
        assert_eq!(blocked.finish, Finish::ContentFilter);
    }
}
