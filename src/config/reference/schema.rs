//! The table for editors.

use serde_json::{Map, Value, json};

use super::{Key, Kind, Presence, Section, keys, sections};

/// What a duration looks like: numbers with units, as the reader takes them.
const DURATION: &str = r"^\s*([0-9]+\s*(nsec|ns|usec|us|msec|ms|seconds?|secs?|s|minutes?|mins?|min|m|hours?|hrs?|hr|h|days?|d|weeks?|w|months?|M|years?|y)\s*)+$";
const SIZE: &str = r"^[0-9]+\s*(B|KiB|MiB|GiB|kB|KB|MB|GB)?$";

pub(super) fn written() -> String {
    let mut text = format!("{:#}", schema());
    text.push('\n');
    text
}

pub(super) fn schema() -> Value {
    let mut root = object(&keys::ROOT);
    let definitions: Map<_, _> =
        sections().into_iter().skip(1).map(|section| (name(section), object(section))).collect();
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("Configuration of failover-gateway");
    root["$defs"] = Value::Object(definitions);
    root
}

/// The name of a table's definition.
fn name(section: &Section) -> String {
    let parts = section.path.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

fn object(section: &Section) -> Value {
    let properties: Map<_, _> = section.keys().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<_> =
        section.keys().filter(|key| matches!(key.presence, Presence::Required)).map(|key| key.name).collect();
    let mut object = json!({
        "type": "object",
        "description": section.about,
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    if !section.one_of.is_empty() {
        object["oneOf"] = section.one_of.iter().map(|name| json!({ "required": [name] })).collect();
    }
    object
}

fn property(key: &Key) -> Value {
    let mut property = value(key.kind);
    property["description"] = json!(key.about);
    if let Presence::Default(text) = key.presence {
        // A default that TOML and JSON write alike; the others are in the description of the table.
        if let Ok(default) = serde_json::from_str::<Value>(text) {
            property["default"] = default;
        }
    }
    property
}

fn value(kind: Kind) -> Value {
    let text = || json!({ "type": "string", "minLength": 1 });
    let reference = |section: &Section| json!({ "$ref": format!("#/$defs/{}", name(section)) });
    match kind {
        Kind::Text | Kind::Address | Kind::File => text(),
        Kind::Url => json!({ "type": "string", "pattern": "^https?://" }),
        Kind::Size => json!({ "anyOf": [{ "type": "string", "pattern": SIZE }, { "type": "integer", "minimum": 1 }] }),
        Kind::Duration | Kind::DurationOrNone => json!({ "type": "string", "pattern": DURATION }),
        Kind::DurationOr(word) => json!({ "anyOf": [{ "type": "string", "pattern": DURATION }, { "const": word }] }),
        Kind::Count => json!({ "type": "integer", "minimum": 1 }),
        Kind::CountOrNone => json!({ "type": "integer", "minimum": 0 }),
        Kind::Amount => json!({ "type": "number", "minimum": 0 }),
        Kind::Share => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        Kind::PositiveShare => json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 1 }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Choice(names) => json!({ "enum": names() }),
        Kind::Texts => json!({ "type": "array", "items": text() }),
        Kind::Choices(names) => json!({ "type": "array", "items": { "enum": names() } }),
        Kind::Table(section) => reference(section),
        Kind::Tables(section) => json!({ "type": "array", "minItems": 1, "items": reference(section) }),
        Kind::UrlOr(section) => json!({ "anyOf": [{ "type": "string" }, reference(section)] }),
        Kind::OneOrMore(section) => json!({
            "anyOf": [reference(section), { "type": "array", "minItems": 1, "items": reference(section) }],
        }),
        Kind::Named(section) => {
            json!({ "type": "object", "minProperties": 1, "additionalProperties": reference(section) })
        }
    }
}
