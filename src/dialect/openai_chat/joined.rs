//! The chunks of a stream as the chat completion that they tell.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use serde_json::{Map, Value as Json};

/// A stream, by the data of its events, as the answer in one piece that says the same; `None` where it says something that no
/// rule puts together.
pub(crate) fn as_answer<'a>(events: impl IntoIterator<Item = Cow<'a, [u8]>>) -> Option<Bytes> {
    let mut answer = Map::new();
    let mut choices = BTreeMap::new();
    let is_terminal = |data: &Cow<'_, [u8]>| data.trim_ascii() == b"[DONE]";
    for data in events.into_iter().filter(|data| !is_terminal(data)) {
        let Json::Object(mut chunk) = serde_json::from_slice(&data).ok()? else { return None };
        if let Some(Json::Array(pieces)) = chunk.remove("choices") {
            pieces.into_iter().try_for_each(|piece| add_choice(&mut choices, piece))?;
        }
        for (key, value) in chunk {
            // Of the usage the last word counts, of all else the first.
            if key == "usage" && !value.is_null() {
                answer.insert(key, value);
            } else if key != "usage" {
                answer.entry(key).or_insert(value);
            }
        }
    }
    if choices.is_empty() {
        return None;
    }
    answer.insert("object".to_owned(), "chat.completion".into());
    answer.insert("choices".to_owned(), choices.into_iter().map(|(index, choice)| whole(index, choice)).collect());
    Some(Json::Object(answer).to_string().into())
}

/// A choice with its message in the place of its deltas.
fn whole(index: u64, mut choice: Map<String, Json>) -> Json {
    let message = choice.entry("message").or_insert_with(|| Map::new().into());
    if let Json::Object(message) = message {
        message.entry("role").or_insert_with(|| "assistant".into());
        message.entry("content").or_insert(Json::Null);
        if let Some(Json::Array(calls)) = message.get_mut("tool_calls") {
            calls.iter_mut().filter_map(Json::as_object_mut).for_each(|call| _ = call.remove("index"));
        }
    }
    choice.insert("index".to_owned(), index.into());
    choice.entry("finish_reason").or_insert_with(|| "stop".into());
    choice.entry("logprobs").or_insert(Json::Null);
    Json::Object(choice)
}

fn add_choice(choices: &mut BTreeMap<u64, Map<String, Json>>, piece: Json) -> Option<()> {
    let Json::Object(piece) = piece else { return None };
    let index = piece.get("index").and_then(Json::as_u64).unwrap_or(0);
    let choice = choices.entry(index).or_default();
    for (key, value) in piece {
        match (&*key, value) {
            ("index", _) => {}
            ("delta", Json::Object(delta)) => {
                let message = choice.entry("message").or_insert_with(|| Map::new().into()).as_object_mut()?;
                delta.into_iter().try_for_each(|(key, value)| add(message, key, value))?;
            }
            // Some servers send an empty one in every chunk.
            ("finish_reason", Json::String(reason)) if reason.is_empty() => {}
            (_, Json::Null) => {}
            ("logprobs", Json::Object(more)) => {
                let logprobs = choice.entry(key).or_insert_with(|| Map::new().into()).as_object_mut()?;
                more.into_iter().try_for_each(|(key, value)| add(logprobs, key, value))?;
            }
            (_, value) => _ = choice.insert(key, value),
        }
    }
    Some(())
}

/// Adds a piece to what came before it under that name.
fn add(to: &mut Map<String, Json>, key: String, piece: Json) -> Option<()> {
    let Some(known) = to.get_mut(&key).filter(|known| !known.is_null()) else {
        return match piece {
            Json::Array(calls) if key == "tool_calls" => {
                to.insert(key.clone(), Json::Array(Vec::new()));
                let all = to.get_mut(&key)?.as_array_mut()?;
                calls.into_iter().try_for_each(|call| add_call(all, call))
            }
            piece => {
                to.insert(key, piece);
                Some(())
            }
        };
    };
    match (known, piece) {
        (_, Json::Null) => Some(()),
        // What a thing is and whose it is comes whole, and by some servers again and again.
        (Json::String(known), Json::String(piece)) if matches!(&*key, "role" | "id" | "type" | "name") => {
            if known.is_empty() {
                *known = piece;
            }
            Some(())
        }
        (Json::String(known), Json::String(piece)) => {
            known.push_str(&piece);
            Some(())
        }
        (Json::Array(known), Json::Array(calls)) if key == "tool_calls" => {
            calls.into_iter().try_for_each(|call| add_call(known, call))
        }
        (Json::Array(known), Json::Array(more)) => {
            known.extend(more);
            Some(())
        }
        (Json::Object(known), Json::Object(pieces)) if matches!(&*key, "function" | "function_call") => {
            pieces.into_iter().try_for_each(|(key, piece)| add(known, key, piece))
        }
        (known, piece) => (*known == piece).then_some(()),
    }
}

/// Adds a piece of a tool call to the one that it belongs to, by its index.
fn add_call(calls: &mut Vec<Json>, piece: Json) -> Option<()> {
    let Json::Object(piece) = piece else { return None };
    let index = |call: &Map<String, Json>| call.get("index").and_then(Json::as_u64);
    let place = calls.iter().position(|call| call.as_object().is_some_and(|call| index(call) == index(&piece)));
    let place = place.unwrap_or_else(|| {
        calls.push(Map::new().into());
        calls.len() - 1
    });
    let call = calls.get_mut(place)?.as_object_mut()?;
    piece.into_iter().try_for_each(|(key, value)| add(call, key, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn joined(chunks: &[Json]) -> Option<Json> {
        let done = Cow::Borrowed(&b"[DONE]"[..]);
        let data = chunks.iter().map(|chunk| Cow::Owned(chunk.to_string().into_bytes()));
        Some(serde_json::from_slice(&as_answer(data.chain([done]))?).unwrap())
    }

    fn chunk(delta: Json) -> Json {
        json!({"id": "x", "object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
    }

    #[test]
    fn text_reasoning_and_calls_are_put_together_and_the_last_usage_counts() {
        let end = json!({"id": "y", "choices": [{"index": 0, "delta": {}, "logprobs": null, "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 1}});
        let usage = json!({"choices": [], "usage": {"prompt_tokens": 3}});
        let answer = joined(&[
            chunk(json!({"role": "assistant", "content": "", "refusal": null})),
            chunk(json!({"reasoning_content": "h"})),
            chunk(json!({"reasoning_content": "m", "content": null})),
            chunk(json!({"role": "assistant", "content": "H"})),
            chunk(json!({"content": "i"})),
            chunk(
                json!({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
            ),
            chunk(
                json!({"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}}]}),
            ),
            chunk(json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "", "arguments": "{\"x\":"}}]})),
            chunk(json!({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]})),
            end,
            usage,
            json!({"choices": [], "usage": null}),
        ]);
        let call = |id, name, arguments| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        let message = json!({"role": "assistant", "content": "Hi", "refusal": null, "reasoning_content": "hm",
            "tool_calls": [call("a", "f", "{\"x\":1}"), call("b", "g", "{}")]});
        let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": "tool_calls"});
        let expected = json!({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": {"prompt_tokens": 3}});
        assert_eq!(answer, Some(expected));
    }

    #[test]
    fn several_answers_and_their_probabilities_keep_apart() {
        let piece = |index: u64, text: &str| json!({"choices": [{"index": index, "delta": {"content": text}, "logprobs": {"content": [{"token": text}]}}]});
        let answer = joined(&[piece(1, "b"), piece(0, "a"), piece(1, "c")]).unwrap();
        let texts =
            |pointer: &str| (0..2).map(|n| answer["choices"][n].pointer(pointer).unwrap().clone()).collect::<Vec<_>>();
        assert_eq!(texts("/message/content"), ["a", "bc"]);
        assert_eq!(texts("/logprobs/content"), [json!([{"token": "a"}]), json!([{"token": "b"}, {"token": "c"}])]);
    }

    #[test]
    fn what_no_rule_puts_together_is_no_answer() {
        let audio = |data: &str| chunk(json!({"audio": {"id": "a", "data": data}}));
        assert_eq!(joined(&[audio("AA"), audio("BB")]), None);
        assert_eq!(joined(&[chunk(json!({"content": "a"})), chunk(json!({"content": [{"type": "text"}]}))]), None);
        assert_eq!(joined(&[json!({"choices": []})]), None);
        assert_eq!(joined(&[json!({"choices": [7]})]), None);
    }
}
