//! JSON Schema as Anthropic's structured outputs take it: objects are closed, and what bounds a value beyond its type is
//! told to the model in words. (Their SDKs do the same.)

use crate::dialect::{
    canonical::{Losses, Raw},
    json_scan::Value,
    json_write::{Object, object},
};

/// The formats of strings that are kept to.
const FORMATS: &[&str] = &["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// Writes a schema; as it is where it cannot be read.
pub(super) fn write(schema: &Raw<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
    match schema.value().filter(Value::is_object) {
        Some(value) => object(out, |out| members(&value, losses, out)),
        None => schema.write(out),
    }
}

fn members(schema: &Value<'_>, losses: &mut Losses, out: &mut Object<'_>) {
    let members: Vec<_> = schema.members().filter_map(Result::ok).collect();
    let get = |name: &str| members.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    let is_reference = get("$ref").is_some();
    let is_object = !is_reference
        && match get("type") {
            Some(kind) if kind.is_string() => kind.json() == b"\"object\"",
            Some(kinds) => kinds.elements().filter_map(Result::ok).any(|kind| kind.json() == b"\"object\""),
            None => get("properties").is_some(),
        };
    let mut description = get("description").and_then(Value::as_str).map(String::from).unwrap_or_default();
    let mut bounds = Vec::new();
    for (key, value) in &members {
        match &**key {
            "$defs" | "definitions" => out.object(key, |out| each(value, losses, out)),
            "$ref" => copy(out, key, value),
            // Nothing may stand beside a reference.
            _ if is_reference => {}
            "properties" => out.object(key, |out| each(value, losses, out)),
            "anyOf" | "oneOf" | "allOf" => out.array(if key == "allOf" { key } else { "anyOf" }, |list| {
                for element in value.elements().filter_map(Result::ok) {
                    list.object(|out| self::members(&element, losses, out));
                }
            }),
            "items" if value.is_object() => out.object(key, |out| self::members(value, losses, out)),
            "type" | "enum" | "const" | "title" | "required" => copy(out, key, value),
            "format" if value.as_str().is_some_and(|format| FORMATS.contains(&&*format)) => copy(out, key, value),
            "minItems" if value.as_u64().is_some_and(|least| least < 2) => copy(out, key, value),
            "additionalProperties" => losses.note_if(value.json() != b"false", "schema constraints"),
            "description" | "$schema" | "$id" => {}
            _ => bounds.push(format!("{key}: {}", String::from_utf8_lossy(value.json()))),
        }
    }
    if !bounds.is_empty() {
        losses.note("schema constraints");
        let gap = if description.is_empty() { "" } else { "\n\n" };
        description.push_str(&format!("{gap}{{{}}}", bounds.join(", ")));
    }
    if is_object {
        if get("properties").is_none() {
            out.object("properties", |_| {});
        }
        out.bool("additionalProperties", false);
    }
    if !description.is_empty() && !is_reference {
        out.string("description", &description);
    }
}

/// Schemas by name.
fn each(schemas: &Value<'_>, losses: &mut Losses, out: &mut Object<'_>) {
    for (name, schema) in schemas.members().filter_map(Result::ok) {
        if schema.is_object() {
            out.object(&name, |out| members(&schema, losses, out));
        } else {
            copy(out, &name, &schema);
        }
    }
}

fn copy(out: &mut Object<'_>, key: &str, value: &Value<'_>) {
    if let Some(raw) = Raw::of(value) {
        out.raw(key, &raw);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(schema: &str) -> (String, bool) {
        let (mut losses, mut out) = (Losses::default(), Vec::new());
        write(&Raw::new(schema), &mut losses, &mut out);
        (String::from_utf8(out).unwrap(), !losses.is_empty())
    }

    #[test]
    fn objects_are_closed_in_the_order_that_they_have() {
        let schema = r#"{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"array","items":{"properties":{}}},
            "n":{"type":["object","null"]}},"required":["z"],"$defs":{"x":{"type":"object"}}}"#;
        let (closed, lossy) = closed(schema);
        assert_eq!(
            closed,
            r#"{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"array","items":{"properties":{},"additionalProperties":false}},"n":{"type":["object","null"],"properties":{},"additionalProperties":false}},"required":["z"],"$defs":{"x":{"type":"object","properties":{},"additionalProperties":false}},"additionalProperties":false}"#
        );
        assert!(!lossy);
        assert_eq!(self::closed("true"), ("true".to_owned(), false));
    }

    #[test]
    fn bounds_are_told_in_words() {
        for (schema, expected) in [
            (
                r#"{"type":"integer","minimum":1,"maximum":10,"description":"A \"number\""}"#,
                r#"{"type":"integer","description":"A \"number\"\n\n{minimum: 1, maximum: 10}"}"#,
            ),
            (r#"{"type":"string","format":"regex"}"#, r#"{"type":"string","description":"{format: \"regex\"}"}"#),
            (
                r#"{"type":"object","additionalProperties":true}"#,
                r#"{"type":"object","properties":{},"additionalProperties":false}"#,
            ),
        ] {
            assert_eq!(closed(schema), (expected.to_owned(), true), "{schema}");
        }
        for (schema, expected) in [
            (r##"{"$ref":"#/$defs/x","description":"y"}"##, r##"{"$ref":"#/$defs/x"}"##),
            (r#"{"oneOf":[{"const":1},{"type":"null"}]}"#, r#"{"anyOf":[{"const":1},{"type":"null"}]}"#),
            (r#"{"type":"string","format":"date"}"#, r#"{"type":"string","format":"date"}"#),
        ] {
            assert_eq!(closed(schema), (expected.to_owned(), false), "{schema}");
        }
    }
}
