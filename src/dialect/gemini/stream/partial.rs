//! A call whose arguments come piece by piece, as Vertex tells them where a client asks for that
//! (`streamFunctionCallArguments`).

use serde_json::{Map, Value as Json};

use crate::dialect::{
    canonical::Text,
    gemini::names::members,
    json_scan::{Malformed, Value},
};

/// How deep arguments may be, and how many bytes they may have.
const DEEPEST: usize = 128;
const MOST_BYTES: usize = 16 << 20;

#[derive(Debug)]
pub(super) struct PartialCall {
    pub(super) id: Text<'static>,
    pub(super) name: Text<'static>,
    pub(super) signature: Option<Text<'static>>,
    arguments: Json,
    bytes: usize,
}

impl PartialCall {
    pub(super) fn new(id: Text<'static>, name: Text<'static>) -> Self {
        PartialCall { id, name, signature: None, arguments: Json::Object(Map::new()), bytes: 0 }
    }

    /// Takes what one part brings: `[{"jsonPath":"$.a[0].b","stringValue":"piece"}]`.
    pub(super) fn add(&mut self, partial_args: &Value<'_>) -> Result<(), Malformed> {
        let malformed = || Malformed { at: partial_args.range().start };
        for piece in partial_args.elements() {
            let piece = piece?;
            self.bytes += piece.json().len();
            let (mut path, mut value) = (None, None);
            for (key, member) in members(&piece) {
                match &*key {
                    "jsonPath" => path = member.as_str(),
                    "stringValue" | "numberValue" | "boolValue" => value = serde_json::from_slice(member.json()).ok(),
                    "nullValue" => value = Some(Json::Null),
                    _ => {}
                }
            }
            if self.bytes > MOST_BYTES {
                return Err(malformed());
            }
            // A value may be there to say only that it is over.
            let Some(path) = path else { continue };
            let steps = steps(&path).ok_or_else(malformed)?;
            let place = place(&mut self.arguments, &steps).ok_or_else(malformed)?;
            match (place, value) {
                (Json::String(text), Some(Json::String(more))) => text.push_str(&more),
                (place, Some(value)) => *place = value,
                (_, None) => {}
            }
        }
        Ok(())
    }

    /// The arguments, as the text of a string.
    pub(super) fn arguments(&self) -> Text<'static> {
        Text::plain(&self.arguments.to_string())
    }
}

enum Step<'p> {
    Member(&'p str),
    Element(usize),
}

/// The steps of `$.a[0]['b']`.
fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if steps.len() == DEEPEST {
            return None;
        }
        if let Some(quoted) = ["['", "[\""].into_iter().find_map(|open| rest.strip_prefix(open)) {
            let close = if rest.starts_with("['") { "']" } else { "\"]" };
            let (name, behind) = quoted.split_once(close)?;
            steps.push(Step::Member(name));
            rest = behind;
        } else if let Some(index) = rest.strip_prefix('[') {
            let (index, behind) = index.split_once(']')?;
            steps.push(Step::Element(index.parse().ok()?));
            rest = behind;
        } else {
            let name = rest.strip_prefix('.')?;
            let end = name.find(['.', '[']).unwrap_or(name.len());
            steps.push(Step::Member(&name[..end]));
            rest = &name[end..];
        }
    }
    Some(steps)
}

/// The place that steps lead to, made on the way. Elements of a list come one after the other.
fn place<'j>(mut json: &'j mut Json, steps: &[Step<'_>]) -> Option<&'j mut Json> {
    for step in steps {
        json = match step {
            Step::Member(name) => {
                if json.is_null() {
                    *json = Json::Object(Map::new());
                }
                json.as_object_mut()?.entry(*name).or_insert(Json::Null)
            }
            Step::Element(index) => {
                if json.is_null() {
                    *json = Json::Array(Vec::new());
                }
                let list = json.as_array_mut()?;
                if *index == list.len() {
                    list.push(Json::Null);
                }
                list.get_mut(*index)?
            }
        };
    }
    Some(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pieces: &[&str]) -> Result<String, Malformed> {
        let mut call = PartialCall::new(Text::default(), Text::default());
        for piece in pieces {
            call.add(&Value::whole(piece.as_bytes()).unwrap())?;
        }
        Ok(call.arguments().decoded().into_owned())
    }

    #[test]
    fn pieces_become_the_arguments() {
        let pieces = [
            r#"[{"jsonPath":"$.list[0].name","stringValue":"16 ","willContinue":true}]"#,
            r#"[{"jsonPath":"$.list[0].name","stringValue":"oz\n"},{"jsonPath":"$.list[0].amount","numberValue":0.5}]"#,
            r#"[{"jsonPath":"$.list[1]['a.b']","boolValue":true},{"jsonPath":"$.none","nullValue":"NULL_VALUE"}]"#,
        ];
        let expected = r#"{"list":[{"amount":0.5,"name":"16 oz\n"},{"a.b":true}],"none":null}"#;
        assert_eq!(of(&pieces).unwrap(), expected);
        assert_eq!(of(&[]).unwrap(), "{}");
    }

    #[test]
    fn paths_that_lead_nowhere_are_malformed() {
        for path in ["a", "$x", "$.a[", "$.a[9]", "$.a[x]", "$[0]", "$.a['b"] {
            let piece = format!(r#"[{{"jsonPath":"{path}","stringValue":"x"}}]"#);
            assert!(of(&[&piece]).is_err(), "{path}");
        }
        assert!(of(&[&format!(r#"[{{"jsonPath":"${}"}}]"#, "[0]".repeat(1000))]).is_err());
    }
}
