//! The table, the reader and the files that are made of the table say the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::Value;

use super::*;
use crate::config::{Config, Policy, reader::Reader};

/// Where the example file below has each table.
const PLACES: &[(&str, &str)] = &[
    ("", "the file"),
    ("limits", "[limits]"),
    ("auth", "[auth]"),
    ("auth.keys[0]", "[[auth.keys]]"),
    ("auth.admin_keys[0]", "[[auth.admin_keys]]"),
    ("tls", "[tls]"),
    ("log", "[log]"),
    ("shared_state", "[shared_state]"),
    ("shared_state.url", "url"),
    ("providers.p", "[providers.NAME]"),
    ("providers.p.api_key", "api_key"),
    ("providers.p.breaker", "breaker"),
    ("defaults.breaker", "breaker"),
    ("providers.p.health_check", "health_check"),
    ("defaults", "[defaults]"),
    ("defaults.timeout", "timeout"),
    ("defaults.retry", "retry"),
    ("defaults.hedge", "hedge"),
    ("defaults.cache", "cache"),
    ("routes.r", "[routes.\"MODEL\"]"),
    ("routes.r.targets[0]", "[[routes.\"MODEL\".targets]]"),
    ("routes.r.targets[0].capabilities", "capabilities"),
    ("routes.r.targets[0].price", "price"),
];

/// A file with that text in one of its tables.
fn file(path: &str, text: &str) -> String {
    let at = |place: &str| if place == path { text } else { "" };
    let inline = |place: &str, name: &str| match (place == path, text) {
        (true, text) => format!("{name} = {{ {text} }}"),
        (false, _) => String::new(),
    };
    let key = if path == "api_key" && text.contains("refresh") {
        "api_key = { command = ['echo', 'k'], refresh = '5m' }".into()
    } else if path == "api_key" {
        format!("api_key = {{ {text} }}")
    } else {
        String::new()
    };
    let (provider, route, target) =
        (at("[providers.NAME]"), at("[routes.\"MODEL\"]"), at("[[routes.\"MODEL\".targets]]"));
    // An inline table of ours has one line.
    let names =
        |text: &str, name: &str| text.starts_with(&format!("{name} =")) || text.contains(&format!(", {name} ="));
    let price = match path == "price" {
        true => {
            let required = ["input", "output"].into_iter().filter(|name| !names(text, name));
            let rest: Vec<_> = required.map(|name| format!("{name} = 1")).collect();
            let all: Vec<_> =
                rest.iter().map(String::as_str).chain(Some(text).filter(|text| !text.is_empty())).collect();
            format!("price = {{ {} }}", all.join(", "))
        }
        false => String::new(),
    };
    let client_key = |place: &str| {
        let source = ["env", "file", "sha256", "value"]
            .iter()
            .any(|name| names(text, name) || text.contains(&format!("\n{name} =")));
        match (place == path, source) {
            (false, _) => String::new(),
            (true, true) => format!("{place}\n{text}"),
            (true, false) => format!("{place}\nenv = 'A'\n{text}"),
        }
    };
    let some_file = concat!("'", env!("CARGO_MANIFEST_DIR"), "/rustfmt.toml'");
    let tls = match path == "[tls]" {
        true => {
            let rest = ["certificate", "key"]
                .into_iter()
                .filter(|name| !text.lines().any(|line| line.starts_with(&format!("{name} ="))));
            let rest: String = rest.map(|name| format!("{name} = {some_file}\n")).collect();
            format!("[tls]\n{rest}{text}")
        }
        false => String::new(),
    };
    let shared_state = match path {
        "[shared_state]" if text.starts_with("url =") => format!("[shared_state]\n{text}"),
        "[shared_state]" => format!("[shared_state]\nurl = 'redis://h'\n{text}"),
        "url" => format!("[shared_state]\nurl = {{ {text} }}"),
        _ => String::new(),
    };
    let table =
        |place: &str| if place == path && !text.is_empty() { format!("{place}\n{text}") } else { String::new() };
    let is_set = |table: &str, name: &str| table.lines().any(|line| line.starts_with(&format!("{name} =")));
    let usual = |table: &str, name: &str, text: &str| if is_set(table, name) { String::new() } else { text.to_owned() };
    [
        at("the file").to_owned(),
        table("[auth]"),
        client_key("[[auth.keys]]"),
        client_key("[[auth.admin_keys]]"),
        tls,
        table("[log]"),
        shared_state,
        "[limits]".into(),
        at("[limits]").into(),
        "[defaults]".into(),
        at("[defaults]").into(),
        inline("breaker", "breaker"),
        inline("timeout", "timeout"),
        inline("retry", "retry"),
        inline("hedge", "hedge"),
        inline("cache", "cache"),
        "[providers.p]".into(),
        usual(provider, "dialect", "dialect = 'openai-chat'"),
        usual(provider, "base_url", "base_url = 'http://h/v1'"),
        provider.into(),
        inline("health_check", "health_check"),
        key,
        "[routes.r]".into(),
        route.into(),
        "[[routes.r.targets]]".into(),
        usual(target, "provider", "provider = 'p'"),
        target.into(),
        inline("capabilities", "capabilities"),
        price,
    ]
    .join("\n")
}

fn read(text: &str) -> Result<Config, crate::config::ConfigErrors> {
    Config::from_toml(text, Path::new("test.toml"), &|_| {
        Some(if text.contains("[shared_state]") { "redis://h" } else { "k" }.into())
    })
}

/// Values that a key may have, as TOML.
fn examples(key: &Key) -> Vec<String> {
    let quoted = |names: Vec<&str>| names.into_iter().map(|name| format!("'{name}'")).collect::<Vec<_>>();
    let value = match key.kind {
        Kind::Text if key.name == "provider" => "'p'",
        Kind::Text if key.name == "sha256" => "'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'",
        Kind::Texts if key.name == "routes" => "['r']",
        Kind::Text | Kind::Texts if key.name == "command" => "['echo', 'k']",
        Kind::Text => "'x'",
        Kind::Address => "'127.0.0.1:1'",
        Kind::Url => "'https://h/v1'",
        Kind::UrlOr(_) => return quoted(vec!["redis://h:1/2", "rediss://u:p@h"]),
        Kind::File => concat!("'", env!("CARGO_MANIFEST_DIR"), "/rustfmt.toml'"),
        Kind::Size => "'1KiB'",
        Kind::Duration | Kind::DurationOrNone => "'5s'",
        Kind::DurationOr(word) => return quoted(vec![word, "2s"]),
        Kind::Count | Kind::CountOrNone => "3",
        Kind::Amount | Kind::Share | Kind::PositiveShare => "0.5",
        Kind::Flag => "false",
        Kind::Choice(names) => return quoted(names()),
        Kind::Texts => "['x']",
        Kind::Choices(names) => return vec![format!("[{}]", quoted(names()).join(", "))],
        Kind::Table(_) if matches!(key.name, "limits" | "defaults" | "auth" | "tls" | "shared_state") => {
            return Vec::new();
        } // so are these
        Kind::Table(_) if key.name == "hedge" => "{ after = '1s' }",
        Kind::Table(_) if key.name == "price" => "{ input = 1, output = 1 }",
        Kind::Table(_) => "{}",
        Kind::Tables(_) | Kind::OneOrMore(_) | Kind::Named(_) => return Vec::new(), // there in every file
    };
    vec![value.to_owned()]
}

#[test]
fn every_documented_key_is_read_with_every_kind_of_value_that_it_may_have() {
    for section in sections() {
        for key in section.keys() {
            for value in examples(key) {
                let with = match key.name {
                    "race" => "strategy = 'race'\n",
                    "budget" | "width" if section.path == "hedge" => "after = '1s', ",
                    // A pair that must be in order.
                    "open" => "max_open = '1m', ",
                    "base_delay" => "max_delay = '1m', ",
                    _ => "",
                };
                // What a file holds is no key, if there are line breaks in it.
                let is_this_file = matches!(key.kind, Kind::File);
                let text = file(section.path, &format!("{with}{} = {value}", key.name));
                match read(&text) {
                    Err(errors) if is_this_file => {
                        let said = errors.to_string();
                        assert!(said.contains("the key has") || said.contains("no URL of"), "{errors}\n{text}")
                    }
                    Err(errors) => panic!("{}: {}\n{errors}\n{text}", section.path, key.name),
                    Ok(_) => {}
                }
            }
        }
    }
}

#[test]
fn the_reader_knows_no_key_that_is_not_documented() {
    let whole = file("[defaults]", "breaker = {}\ntimeout = {}\nretry = {}\nhedge = { after = '1s' }\ncache = {}")
        .replace("[[routes.r.targets]]", "[[routes.r.targets]]\ncapabilities = {}\nprice = { input = 1, output = 1 }")
        .replace("[limits]", "[[auth.keys]]\nenv = 'A'\n[[auth.admin_keys]]\nenv = 'B'\n[tls]\n[log]\n[shared_state]\nurl = {}\n[limits]")
        .replace("[providers.p]", "[providers.p]\nbreaker = {}\nhealth_check = {}\napi_key = { value = 'k' }");
    let environment = |_: &str| None;
    let reader = Reader::new(&whole, Path::new("test.toml"), &environment);
    crate::config::read(reader.root().unwrap());
    let known: BTreeMap<String, BTreeSet<&str>> = reader.known();
    let sections = sections();
    let mut seen = BTreeSet::new();
    for (place, names) in known.iter().filter(|(place, _)| !["providers", "routes"].contains(&place.as_str())) {
        let path = PLACES.iter().find(|(known, _)| known == place).map(|(_, path)| *path);
        let path = path.unwrap_or_else(|| panic!("the table {place} is not documented"));
        let section = sections.iter().find(|section| section.path == path).unwrap();
        seen.insert(path);
        for name in names {
            assert!(section.keys().any(|key| key.name == *name), "{place}: {name} is not documented");
        }
        for key in section.keys() {
            assert!(names.contains(key.name), "{place}: {} is documented, and not read", key.name);
        }
    }
    let missing: Vec<_> = sections.iter().map(|section| section.path).filter(|path| !seen.contains(path)).collect();
    assert!(missing.is_empty(), "never read: {missing:?}");
}

#[test]
fn the_documented_defaults_are_what_is_so_without_them() {
    let plain = read(&file("", "")).unwrap();
    for section in sections() {
        let mut lines = Vec::new();
        for key in section.keys() {
            // A race has no place beside the other strategies.
            if let (Presence::Default(value), false) = (&key.presence, matches!(key.name, "race" | "refresh")) {
                lines.push(format!("{} = {value}", key.name));
            }
        }
        if section.path == "hedge" {
            lines.push("after = 'p95'".into());
        }
        let inline =
            ["breaker", "health_check", "timeout", "retry", "hedge", "cache", "capabilities", "api_key", "url"]
                .contains(&section.path);
        let text = file(section.path, &lines.join(if inline { ", " } else { "\n" }));
        let Ok(config) = read(&text) else { continue }; // its required keys are read above
        let (a, b) = (config.routes.find("r").unwrap(), plain.routes.find("r").unwrap());
        let policy = Policy { choice: a.policy.choice, cache: a.policy.cache, ..b.policy.clone() };
        assert_eq!(a.policy, policy, "{text}");
        let cache = (section.path == "cache").then(crate::config::CacheSettings::default);
        assert_eq!(a.policy.cache, cache, "{text}");
        match (section.path, a.policy.choice.hedge) {
            ("hedge", Some(hedge)) => assert_eq!((hedge.width, hedge.budget), (2, 0.1)),
            ("hedge", None) => panic!("{text}"),
            _ => assert_eq!(a.policy.choice, b.policy.choice),
        }
        assert_eq!((config.listen, config.max_body), (plain.listen, plain.max_body));
        assert_eq!((config.default_breaker, &config.breakers), (plain.default_breaker, &plain.breakers), "{text}");
        let (a, b) = (&a.route.targets()[0], &b.route.targets()[0]);
        assert_eq!((a.capabilities(), a.tags(), a.weight()), (b.capabilities(), b.tags(), b.weight()), "{text}");
    }
}

#[test]
fn the_documents_are_what_the_table_says() {
    for (name, text) in [("config.md", reference()), ("config.schema.json", json_schema())] {
        let path = format!("{}/docs/{name}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
        assert!(found == text, "docs/{name} is not what the keys are: UPDATE_DOCS=1 cargo test writes it");
    }
}

/// Whether a value is as a schema says, by the words that ours uses.
fn accepts(root: &Value, schema: &Value, value: &Value) -> bool {
    if let Some(name) = schema["$ref"].as_str() {
        if !accepts(root, root.pointer(name.trim_start_matches('#')).unwrap(), value) {
            return false;
        }
    }
    let all = |list: &Value, check: &dyn Fn(&Value) -> bool| list.as_array().is_none_or(|list| list.iter().all(check));
    let matching = |list: &Value| list.as_array().unwrap().iter().filter(|it| accepts(root, it, value)).count();
    let is_type = match schema["type"].as_str() {
        None => true,
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64(),
        Some("number") => value.is_number(),
        Some(other) => panic!("{other}"),
    };
    let members = |value: &serde_json::Map<String, Value>| {
        value.iter().all(|(name, value)| match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => false,
            (Value::Null, Value::Null) => true,
            (Value::Null, other) => accepts(root, other, value),
            (property, _) => accepts(root, property, value),
        })
    };
    is_type
        && schema.get("enum").is_none_or(|names| names.as_array().unwrap().contains(value))
        && schema.get("const").is_none_or(|only| only == value)
        && schema.get("anyOf").is_none_or(|list| matching(list) > 0)
        && schema.get("oneOf").is_none_or(|list| matching(list) == 1)
        && schema["minimum"].as_f64().is_none_or(|least| value.as_f64().is_none_or(|number| number >= least))
        && schema["maximum"].as_f64().is_none_or(|most| value.as_f64().is_none_or(|number| number <= most))
        && all(&schema["required"], &|name| value.get(name.as_str().unwrap()).is_some())
        && value.as_object().is_none_or(members)
        && value
            .as_array()
            .is_none_or(|list| schema.get("items").is_none_or(|it| list.iter().all(|v| accepts(root, it, v))))
}

/// A TOML text as JSON, as editors see it.
fn as_json(text: &str) -> Value {
    fn convert(value: &toml::de::DeValue<'_>) -> Value {
        use toml::de::DeValue;
        match value {
            DeValue::String(text) => text.as_ref().into(),
            DeValue::Integer(number) => number.as_str().parse::<i64>().unwrap().into(),
            DeValue::Float(number) => number.as_str().parse::<f64>().unwrap().into(),
            DeValue::Boolean(flag) => (*flag).into(),
            DeValue::Datetime(_) => Value::Null,
            DeValue::Array(list) => list.iter().map(|value| convert(value.get_ref())).collect(),
            DeValue::Table(table) => {
                let members = table.iter().map(|(name, value)| (name.get_ref().to_string(), convert(value.get_ref())));
                Value::Object(members.collect())
            }
        }
    }
    convert(&toml::de::DeValue::Table(toml::de::DeTable::parse(text).unwrap().into_inner()))
}

#[test]
fn the_schema_accepts_what_the_reader_accepts_and_refuses_what_it_refuses() {
    let schema = schema::schema();
    let example = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/gateway.toml")).unwrap();
    assert!(accepts(&schema, &schema, &as_json(&example)));
    for section in sections() {
        for key in section.keys() {
            for value in examples(key) {
                let with = if section.path == "hedge" && key.name != "after" { "after = '1s', " } else { "" };
                let text = file(section.path, &format!("{with}{} = {value}", key.name));
                let is_part = section.path == "api_key" && key.name == "refresh";
                assert!(is_part || accepts(&schema, &schema, &as_json(&text)), "{text}");
            }
        }
    }
    for (section, wrong) in [
        ("the file", "lisen = 'x'"),
        ("[limits]", "max_body = -1"),
        ("[providers.NAME]", "dialect = 'openai'"),
        ("[providers.NAME]", "api_key = 'sk'"),
        ("[providers.NAME]", "api_key = { env = 'A', file = 'b' }"),
        ("[defaults]", "failover_on = ['conect']"),
        ("[defaults]", "retry = { attempts = 0 }"),
        ("[defaults]", "retry = { budget = 1.5 }"),
        ("[routes.\"MODEL\"]", "breaker = {}"),
        ("[[routes.\"MODEL\".targets]]", "weight = 'x'"),
    ] {
        let text = file(section, wrong);
        assert!(read(&text).is_err() && !accepts(&schema, &schema, &as_json(&text)), "{text}");
    }
}

#[test]
fn the_example_loads() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/gateway.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let config = Config::from_toml(&text, Path::new(path), &|name| Some(format!("the key in {name}"))).unwrap();
    assert_eq!((config.warnings, config.providers.len()), (Vec::new(), 3));
    assert!(config.routes.find("anything else").is_some());
}
