//! Another model's thoughts that come back to a provider which never had them.
//!
//! What a target of another dialect thought is told to the client in its own, and the client sends it along with the next turn. A
//! provider takes back only what it signed itself, and refuses the whole request otherwise, so that it is taken out of what
//! would else pass byte for byte.

use super::json_scan::{Value, root_members};
use crate::Dialect;

/// How the ids of reasoning items begin that are told in the place of another model's.
pub(crate) const TRANSLATED_ITEM: &str = "rs_translated";

/// What is kept of an element of a list, if anything.
type Kept = fn(&Value<'_>) -> Option<Vec<u8>>;

/// The body of a request without thoughts that its provider cannot know; `None` where there are none, which is nearly always.
pub(crate) fn without_thoughts(dialect: Dialect, body: &[u8]) -> Option<Vec<u8>> {
    let found = |needle: &str| memchr::memmem::find(body, needle.as_bytes()).is_some();
    let (member, kept): (_, Kept) = match dialect {
        Dialect::AnthropicMessages if found(r#""signature":"""#) || found(r#""signature": """#) => {
            ("messages", without_unsigned)
        }
        Dialect::OpenAiResponses if found(TRANSLATED_ITEM) => ("input", unless_translated),
        _ => return None,
    };
    let members = root_members(body).ok()?.filter_map(Result::ok);
    let (_, list) = members.filter(|(key, value)| key == member && !value.is_string()).last()?;
    let elements: Vec<_> = list.elements().filter_map(Result::ok).filter_map(|element| kept(&element)).collect();
    let place = list.range();
    Some([&body[..place.start], b"[", &elements.join(&b','), b"]", &body[place.end..]].concat())
}

/// An item of OpenAI's, unless it is another model's.
fn unless_translated(item: &Value<'_>) -> Option<Vec<u8>> {
    let id = item.member("id").and_then(|id| id.as_str());
    let is_translated = id.is_some_and(|id| id.starts_with(TRANSLATED_ITEM));
    (!is_translated).then(|| item.json().to_vec())
}

/// A message of Anthropic's without thoughts that nobody signed; `None` where it has nothing else.
fn without_unsigned(message: &Value<'_>) -> Option<Vec<u8>> {
    let whole = message.json();
    let Some(content) = message.member("content").filter(|content| !content.is_string()) else {
        return Some(whole.to_vec());
    };
    let is_unsigned = |block: &Value<'_>| {
        let is = |key, json: &[u8]| block.member(key).is_some_and(|value| value.json() == json);
        is("type", b"\"thinking\"") && is("signature", b"\"\"")
    };
    let blocks: Vec<_> = content.elements().filter_map(Result::ok).collect();
    let kept: Vec<_> = blocks.iter().filter(|block| !is_unsigned(block)).map(Value::json).collect();
    if kept.len() == blocks.len() {
        return Some(whole.to_vec());
    }
    let (outer, inner) = (message.range(), content.range());
    let (before, after) = (&whole[..inner.start - outer.start], &whole[inner.end - outer.start..]);
    (!kept.is_empty()).then(|| [before, b"[", &kept.join(&b','), b"]", after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without(dialect: Dialect, body: &str) -> Option<String> {
        without_thoughts(dialect, body.as_bytes()).map(|body| String::from_utf8(body).unwrap())
    }

    #[test]
    fn anthropic_gets_no_thought_back_that_nobody_signed() {
        let body = r#"{"x":1.0, "messages":[{"role":"user","content":"a"},
            {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":""},{"type":"text","text":"b"}]},
            {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":""}]},
            {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"}]}],"model":"m"}"#;
        let expected = r#"{"x":1.0, "messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"text","text":"b"}]},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"}]}],"model":"m"}"#;
        assert_eq!(without(Dialect::AnthropicMessages, body).as_deref(), Some(expected));
        assert_eq!(without(Dialect::AnthropicMessages, expected), None);
        assert_eq!(without(Dialect::OpenAiChat, body), None);
    }

    #[test]
    fn openai_gets_no_reasoning_item_back_that_it_did_not_make() {
        let body = r#"{"input":[{"type":"reasoning","id":"rs_translated_1","summary":[]},{"id":"rs_2"},"x"]}"#;
        assert_eq!(without(Dialect::OpenAiResponses, body).as_deref(), Some(r#"{"input":[{"id":"rs_2"},"x"]}"#));
        let mentioned = r#"{"input":"what is rs_translated?"}"#;
        assert_eq!(without(Dialect::OpenAiResponses, mentioned), None);
    }
}
