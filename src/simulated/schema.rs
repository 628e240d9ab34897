//! An instance of a JSON schema.

use serde_json::{Map, Value};

/// How many values an instance may have before the rest of it is cut short; only schemas that fan out through
/// recursion come near.
const BUDGET: usize = 10_000;

/// The longest string and array that a minimum length can ask for.
const LONGEST: u64 = 10_000;

/// A value that the schema accepts, the same for the same schema.
///
/// Objects get their required properties, or all if none is required; arrays one element, or as many as they
/// need at least; the first of several alternatives is taken. A recursive schema is followed once and then
/// closed with the shortest alternative. A `pattern` is not looked at.
pub(super) fn instance(schema: &Value) -> Value {
    Instance { root: schema, open: Vec::new(), budget: BUDGET }.of(schema)
}

struct Instance<'a> {
    root: &'a Value,
    /// The references that are being followed, outermost first.
    open: Vec<&'a str>,
    budget: usize,
}

impl<'a> Instance<'a> {
    fn of(&mut self, schema: &'a Value) -> Value {
        let Some(left) = self.budget.checked_sub(1) else {
            return Value::Null;
        };
        self.budget = left;
        // `true`, and whatever else says nothing.
        let Some(map) = schema.as_object() else {
            return Value::Object(Map::new());
        };
        if let Some(value) = map.get("const") {
            return value.clone();
        }
        if let Some(first) = array(map, "enum").first() {
            return first.clone();
        }
        if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
            return self.follow(reference);
        }
        for key in ["anyOf", "oneOf"] {
            let choices = array(map, key);
            if let Some(choice) = self.choose(choices) {
                return merged(self.of(choice), self.properties(map));
            }
        }
        let parts = array(map, "allOf");
        if !parts.is_empty() {
            let mut whole = self.properties(map);
            for part in parts {
                whole = merged(self.of(part), whole);
            }
            return whole;
        }
        self.typed(map)
    }

    fn follow(&mut self, reference: &'a str) -> Value {
        let root = self.root;
        let target = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        let times = self.open.iter().filter(|open| **open == reference).count();
        match target {
            Some(target) if times < 2 => {
                self.open.push(reference);
                let value = self.of(target);
                self.open.pop();
                value
            }
            // Not to be found here, or without any end.
            _ => Value::Null,
        }
    }

    /// Whether a reference is being followed for the second time: then the way out is to be taken.
    fn closing(&self) -> bool {
        self.open.last().is_some_and(|last| self.open[..self.open.len() - 1].contains(last) || self.open.len() > 32)
    }

    fn choose(&self, choices: &'a [Value]) -> Option<&'a Value> {
        let ends = |choice: &&Value| {
            choice.get("$ref").is_none()
                && !matches!(choice.get("type").and_then(Value::as_str), Some("object" | "array"))
        };
        let way_out = if self.closing() { choices.iter().find(ends) } else { None };
        way_out.or(choices.first())
    }

    fn typed(&mut self, map: &'a Map<String, Value>) -> Value {
        let of_list = |list: &'a Vec<Value>| {
            let mut names = list.iter().filter_map(Value::as_str);
            let first = names.clone().find(|name| *name != "null");
            let null = names.find(|name| *name == "null");
            if self.closing() { null.or(first) } else { first.or(null) }
        };
        let name = match map.get("type") {
            Some(Value::String(name)) => Some(name.as_str()),
            Some(Value::Array(list)) => of_list(list),
            _ => None,
        };
        match name {
            Some("null") => Value::Null,
            Some("boolean") => Value::Bool(true),
            Some("integer") => number(map, true),
            Some("number") => number(map, false),
            Some("string") => Value::String(string(map)),
            Some("array") => self.elements(map),
            Some(_) => self.properties(map),
            None if map.contains_key("properties") => self.properties(map),
            None if map.contains_key("items") => self.elements(map),
            None if map.contains_key("minimum") || map.contains_key("maximum") => number(map, false),
            None if map.contains_key("minLength") || map.contains_key("format") => Value::String(string(map)),
            None => Value::Object(Map::new()),
        }
    }

    fn properties(&mut self, map: &'a Map<String, Value>) -> Value {
        let mut object = Map::new();
        let properties = map.get("properties").and_then(Value::as_object);
        let required = array(map, "required");
        for name in required.iter().filter_map(Value::as_str) {
            let schema = properties.and_then(|properties| properties.get(name));
            let value = schema.map_or_else(|| Value::from(WORD), |schema| self.of(schema));
            object.insert(name.to_owned(), value);
        }
        if required.is_empty() && !self.closing() {
            for (name, schema) in properties.into_iter().flatten() {
                object.insert(name.clone(), self.of(schema));
            }
        }
        Value::Object(object)
    }

    fn elements(&mut self, map: &'a Map<String, Value>) -> Value {
        let least = bound(map, "minItems").unwrap_or(0).min(LONGEST);
        let most = bound(map, "maxItems").unwrap_or(u64::MAX);
        let wanted = if self.closing() { least } else { least.max(1).min(most) };
        let prefix = array(map, "prefixItems");
        let mut list = Vec::new();
        for n in 0..wanted.max((prefix.len() as u64).min(most)) {
            let nth = usize::try_from(n).ok().and_then(|n| prefix.get(n));
            match nth.or_else(|| map.get("items")) {
                Some(schema) => list.push(self.of(schema)),
                None => list.push(Value::from(WORD)),
            }
        }
        Value::Array(list)
    }
}

const WORD: &str = "simulated";

fn array<'a>(map: &'a Map<String, Value>, key: &str) -> &'a [Value] {
    map.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn bound(map: &Map<String, Value>, key: &str) -> Option<u64> {
    map.get(key).and_then(Value::as_u64)
}

/// The properties of both, where both are objects; those of the first win.
fn merged(first: Value, second: Value) -> Value {
    match (first, second) {
        (Value::Object(mut first), Value::Object(second)) => {
            for (name, value) in second {
                first.entry(name).or_insert(value);
            }
            Value::Object(first)
        }
        (Value::Object(first), _) => Value::Object(first),
        (first, Value::Object(second)) if second.is_empty() => first,
        (_, second) => second,
    }
}

/// The smallest fitting number that is not below 1, where that fits.
fn number(map: &Map<String, Value>, integer: bool) -> Value {
    let limit = |key| map.get(key).and_then(Value::as_f64);
    let step = limit("multipleOf").filter(|step| *step > 0.0);
    let grain = step.unwrap_or(1.0);
    let mut low = limit("minimum").unwrap_or(f64::NEG_INFINITY);
    if let Some(above) = limit("exclusiveMinimum") {
        low = low.max(if integer { above.floor() + 1.0 } else { above + grain.min(0.5) });
    }
    let mut high = limit("maximum").unwrap_or(f64::INFINITY);
    if let Some(below) = limit("exclusiveMaximum") {
        high = high.min(if integer { below.ceil() - 1.0 } else { below - grain.min(0.5) });
    }
    let mut value = 1.0_f64.min(high).max(low);
    if let Some(step) = step {
        value = (value / step).ceil() * step;
        if value > high {
            value = (high / step).floor() * step;
        }
    }
    if integer {
        value = if value.ceil() <= high { value.ceil() } else { value.floor() };
    } else if value > high {
        // Exclusive bounds closer together than the grain.
        value = f64::midpoint(low, high);
    }
    if value.fract() == 0.0 && value.abs() < 9e15 {
        // Whole and small enough, so nothing is lost.
        Value::from(value as i64)
    } else {
        Value::from(value)
    }
}

fn string(map: &Map<String, Value>) -> String {
    let known = match map.get("format").and_then(Value::as_str) {
        Some("date-time") => "2025-01-01T12:00:00Z",
        Some("date") => "2025-01-01",
        Some("time") => "12:00:00Z",
        Some("duration") => "PT1H",
        Some("email") => "someone@example.com",
        Some("hostname") => "example.com",
        Some("uri" | "url") => "https://example.com/",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        Some("ipv4") => "127.0.0.1",
        Some("ipv6") => "::1",
        _ => {
            let least = bound(map, "minLength").unwrap_or(0).min(LONGEST);
            let most = bound(map, "maxLength").unwrap_or(u64::MAX);
            let length = (WORD.len() as u64).max(least).min(most);
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            return WORD.chars().cycle().take(length).collect();
        }
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_have_what_is_required() {
        let schema = json!({
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                "days": {"type": "integer", "minimum": 3, "maximum": 5},
                "note": {"type": "string"},
            },
            "required": ["city", "unit", "days"],
        });
        assert_eq!(instance(&schema), json!({"city": "simulated", "unit": "celsius", "days": 3}));
    }

    #[test]
    fn without_required_all_are_given() {
        let schema = json!({"type": "object", "properties": {
            "a": {"const": 7}, "b": {"type": "array", "items": {"type": "boolean"}}, "c": {"type": "null"},
        }});
        assert_eq!(instance(&schema), json!({"a": 7, "b": [true], "c": null}));
    }

    #[test]
    fn numbers_keep_their_bounds() {
        for (schema, expected) in [
            (json!({"type": "integer"}), json!(1)),
            (json!({"type": "integer", "exclusiveMinimum": 10}), json!(11)),
            (json!({"type": "integer", "maximum": -3}), json!(-3)),
            (json!({"type": "integer", "minimum": 1.5}), json!(2)),
            (json!({"type": "integer", "minimum": 7, "multipleOf": 5}), json!(10)),
            (json!({"type": "number", "maximum": 0.25}), json!(0.25)),
            (json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}), json!(0.5)),
        ] {
            assert_eq!(instance(&schema), expected, "{schema}");
        }
    }

    #[test]
    fn strings_and_arrays_keep_their_lengths() {
        assert_eq!(instance(&json!({"type": "string", "maxLength": 3})), "sim");
        let long = instance(&json!({"type": "string", "minLength": 20}));
        assert_eq!(long.as_str().map(str::len), Some(20));
        let three = json!({"type": "array", "items": {"type": "integer"}, "minItems": 3});
        assert_eq!(instance(&three), json!([1, 1, 1]));
        let none = json!({"type": "array", "items": {"type": "integer"}, "maxItems": 0});
        assert_eq!(instance(&none), json!([]));
        let pair = json!({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "boolean"}]});
        assert_eq!(instance(&pair), json!([1, true]));
    }

    #[test]
    fn references_alternatives_and_parts() {
        let schema = json!({
            "type": "object",
            "properties": {
                "step": {"$ref": "#/$defs/step"},
                "either": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "maybe": {"type": ["null", "integer"]},
                "both": {"allOf": [
                    {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
                    {"type": "object", "properties": {"y": {"type": "boolean"}}, "required": ["y"]},
                ]},
            },
            "required": ["step", "either", "maybe", "both"],
            "$defs": {"step": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
        });
        assert_eq!(
            instance(&schema),
            json!({"step": {"n": 1}, "either": "simulated", "maybe": 1, "both": {"x": 1, "y": true}})
        );
    }

    #[test]
    fn recursion_ends_where_the_schema_allows_it() {
        let list = json!({
            "$ref": "#/$defs/node",
            "$defs": {"node": {
                "type": "object",
                "properties": {
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                },
                "required": ["next", "children"],
            }},
        });
        let leaf = json!({"next": null, "children": []});
        assert_eq!(instance(&list), json!({"next": leaf, "children": [leaf]}));
    }

    #[test]
    fn a_schema_without_end_ends_all_the_same() {
        assert_eq!(instance(&json!({"$ref": "#"})), Value::Null);
        assert_eq!(instance(&json!({"$ref": "#/nowhere"})), Value::Null);
        let mut defs = Map::new();
        for n in 0..20 {
            let next = json!({"$ref": format!("#/$defs/d{}", (n + 1) % 20)});
            let node = json!({
                "type": "object",
                "properties": {"a": next, "b": next, "c": next},
                "required": ["a", "b", "c"],
            });
            defs.insert(format!("d{n}"), node);
        }
        let wide = instance(&json!({"$ref": "#/$defs/d0", "$defs": defs}));
        assert!(wide.is_object());
    }

    #[test]
    fn what_says_nothing_is_an_object() {
        for schema in [json!(true), json!({}), json!({"type": "object"}), json!(3)] {
            assert_eq!(instance(&schema), json!({}));
        }
    }
}
