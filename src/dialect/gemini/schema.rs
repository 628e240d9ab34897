//! Google's own schema language (a part of OpenAPI's) as JSON Schema.

use super::names::{each, members};
use crate::dialect::{
    canonical::Raw,
    json_scan::Value,
    json_write::{Object, array, object},
};

/// How deep schemas are looked into; what lies deeper is copied.
const DEEPEST: u32 = 64;

/// A schema of `parameters` or `responseSchema` as JSON Schema: types in lower case, `nullable` as a type.
pub(super) fn to_json_schema<'a>(schema: &Value<'a>) -> Option<Raw<'a>> {
    let mut out = Vec::with_capacity(schema.json().len());
    write(&mut out, schema, DEEPEST);
    match out == schema.json() {
        true => Raw::of(schema),
        // Made of pieces of a text, which are whole values and our own words.
        false => String::from_utf8(out).ok().map(Raw::new),
    }
}

fn write(out: &mut Vec<u8>, schema: &Value<'_>, depth: u32) {
    if !schema.is_object() || depth == 0 {
        return out.extend_from_slice(schema.json());
    }
    let has = |name| members(schema).any(|(key, _)| key == name);
    let nullable = members(schema).any(|(key, value)| key == "nullable" && value.is_true());
    let (typed, any_of) = (has("type"), has("anyOf"));
    object(out, |object| {
        for (key, value) in members(schema) {
            match &*key {
                "type" => write_type(object, &value, nullable),
                // `nullable` is said with the type; the others are hints for Google's models alone.
                "nullable" | "propertyOrdering" | "example" => {}
                "properties" | "$defs" | "defs" => object.object(&key, |properties| {
                    for (name, schema) in value.members().filter_map(Result::ok) {
                        properties.value(&name, |out| write(out, &schema, depth - 1));
                    }
                }),
                "items" | "additionalProperties" => object.value(&key, |out| write(out, &value, depth - 1)),
                "anyOf" | "oneOf" | "allOf" | "prefixItems" => object.value(&key, |out| {
                    array(out, |list| {
                        each(&value).for_each(|schema| list.value(|out| write(out, &schema, depth - 1)));
                        if nullable && !typed && key == "anyOf" {
                            list.object(|null| null.string("type", "null"));
                        }
                    });
                }),
                "enum" if nullable && (typed || !any_of) => object.value(&key, |out| {
                    array(out, |list| {
                        value
                            .elements()
                            .flatten()
                            .for_each(|word| list.value(|out| out.extend_from_slice(word.json())));
                        list.value(|out| out.extend_from_slice(b"null"));
                    });
                }),
                // 64-bit numbers are strings in Google's JSON.
                "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties" => {
                    let number = value.as_str().and_then(|text| text.parse().ok());
                    match number {
                        Some(number) => object.number(&key, number),
                        None => object.value(&key, |out| out.extend_from_slice(value.json())),
                    }
                }
                _ => object.value(&key, |out| out.extend_from_slice(value.json())),
            }
        }
    });
}

fn write_type(object: &mut Object<'_>, value: &Value<'_>, nullable: bool) {
    match value.as_str() {
        Some(name) if name == "TYPE_UNSPECIFIED" => {}
        Some(name) => {
            let name = name.to_ascii_lowercase();
            match nullable && name != "null" {
                true => object.literal("type", &format!(r#"["{}","null"]"#, name.replace(['"', '\\'], ""))),
                false => object.string("type", &name),
            }
        }
        None => object.value("type", |out| out.extend_from_slice(value.json())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn converted(schema: Json) -> Json {
        let text = schema.to_string();
        let raw = to_json_schema(&Value::whole(text.as_bytes()).unwrap()).unwrap();
        serde_json::from_str(raw.as_str()).unwrap()
    }

    #[test]
    fn types_and_null_are_json_schemas() {
        let schema = json!({"type": "OBJECT", "nullable": false, "property_ordering": ["type"], "required": ["type"],
        "properties": {
            "type": {"type": "STRING", "nullable": true, "enum": ["a"]},
            "list": {"type": "ARRAY", "min_items": "1", "items": {"type": "INTEGER"}},
            "any": {"anyOf": [{"type": "NUMBER"}, {"type": "BOOLEAN"}], "nullable": true},
            "nullable": {"type": "TYPE_UNSPECIFIED"},
        }});
        assert_eq!(
            converted(schema),
            json!({"type": "object", "required": ["type"], "properties": {
                "type": {"type": ["string", "null"], "enum": ["a", null]},
                "list": {"type": "array", "minItems": 1, "items": {"type": "integer"}},
                "any": {"anyOf": [{"type": "number"}, {"type": "boolean"}, {"type": "null"}]},
                "nullable": {},
            }})
        );
    }

    #[test]
    fn what_is_json_schema_already_is_left_alone() {
        let text = r#"{"type":"object","properties":{"a_b":{"type":"string"}},"additionalProperties":false}"#;
        let value = Value::whole(text.as_bytes()).unwrap();
        assert_eq!(to_json_schema(&value).unwrap().as_str(), text);
        let deep = ["{\"items\":".repeat(1000), "{}".into(), "}".repeat(1000)].concat();
        assert_eq!(to_json_schema(&Value::whole(deep.as_bytes()).unwrap()).unwrap().as_str(), deep);
    }
}
