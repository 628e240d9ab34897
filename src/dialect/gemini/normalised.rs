//! What comes back otherwise than it was, and means the same: the listed defaults of the tests with recordings.

use serde_json::{Map, Value as Json};

use super::names::camel;
use crate::dialect::recorded;

/// Members whose value is a client's or model's own text: names in it are left alone.
const OPAQUE: [&str; 9] = [
    "args",
    "response",
    "parameters",
    "parametersJsonSchema",
    "responseSchema",
    "responseJsonSchema",
    "labels",
    "properties",
    "details",
];

/// Names in camel case, lists with their brackets, no `null`s and no empty lists.
pub(super) fn normalised(json: &Json) -> Json {
    camel_cased(&recorded::without_nothing(json))
}

fn camel_cased(json: &Json) -> Json {
    match json {
        Json::Object(members) => {
            let renamed = members.iter().map(|(key, value)| {
                let key = camel(key.as_str().into()).into_owned();
                let value = if OPAQUE.contains(&&*key) { value.clone() } else { camel_cased(value) };
                let is_list = ["parts", "contents", "tools", "functionDeclarations"].contains(&&*key);
                let value = if is_list && value.is_object() { Json::Array(vec![value]) } else { value };
                (key, value)
            });
            renamed.collect()
        }
        Json::Array(elements) => elements.iter().map(camel_cased).collect(),
        other => other.clone(),
    }
}

/// A request as it comes back.
pub(super) fn request(body: &Json) -> Json {
    let mut body = normalised(body);
    let members = body.as_object_mut().unwrap();
    for content in members.get_mut("contents").and_then(Json::as_array_mut).into_iter().flatten() {
        content.as_object_mut().unwrap().entry("role").or_insert_with(|| "user".into());
    }
    for name in ["generationConfig", "toolConfig"] {
        if members.get(name).is_some_and(|object| *object == Json::Object(Map::new())) {
            members.remove(name);
        }
    }
    // All functions stand in one list, ahead of Google's own tools.
    if let Some(tools) = members.remove("tools") {
        let (mut functions, mut others) = (Vec::new(), Vec::new());
        for tool in tools.as_array().unwrap() {
            let mut rest = tool.as_object().unwrap().clone();
            functions.extend(
                rest.remove("functionDeclarations").into_iter().flat_map(|list| list.as_array().unwrap().clone()),
            );
            others.extend(Some(Json::Object(rest)).filter(|rest| *rest != Json::Object(Map::new())));
        }
        if !functions.is_empty() {
            others
                .insert(0, Json::Object([("functionDeclarations".to_owned(), functions.into())].into_iter().collect()));
        }
        members.insert("tools".to_owned(), others.into());
    }
    body
}

/// An answer as it comes back.
pub(super) fn answer(body: &Json) -> Json {
    let mut body = normalised(body);
    for candidate in body.get_mut("candidates").and_then(Json::as_array_mut).into_iter().flatten() {
        let candidate = candidate.as_object_mut().unwrap();
        candidate.entry("index").or_insert_with(|| 0.into());
        // Content without parts says nothing.
        let empty = |content: &Json| content.get("parts").is_none();
        if candidate.get("content").is_none_or(empty) {
            candidate.remove("content");
        } else {
            candidate["content"].as_object_mut().unwrap().entry("role").or_insert_with(|| "model".into());
        }
    }
    body
}
