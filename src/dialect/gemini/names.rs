//! How Google writes the names of members, and lists.

use std::borrow::Cow;

use crate::dialect::{
    canonical::{Extras, Raw, Text},
    json_scan::Value,
    json_write::Object,
};

/// A member's name in camel case: its servers take snake case too.
pub(super) fn camel(key: Cow<'_, str>) -> Cow<'_, str> {
    if !key.contains('_') {
        return key;
    }
    let mut name = String::with_capacity(key.len());
    let mut upper = false;
    for character in key.chars() {
        match character {
            '_' if !name.is_empty() => upper = true,
            character if upper => {
                name.extend(character.to_uppercase());
                upper = false;
            }
            character => name.push(character),
        }
    }
    Cow::Owned(name)
}

/// The last member of that name in either case.
pub(super) fn member<'a>(object: &Value<'a>, name: &str) -> Option<Value<'a>> {
    members(object).filter(|(key, _)| key == name).map(|(_, value)| value).last()
}

/// The members of an object, by their names in camel case.
pub(super) fn members<'a>(object: &Value<'a>) -> impl Iterator<Item = (Cow<'a, str>, Value<'a>)> + use<'a> {
    object.members().filter_map(Result::ok).map(|(key, value)| (camel(key), value))
}

/// The elements of a list. Where there is one element its servers take it without the list.
pub(super) fn each<'a>(list: &Value<'a>) -> impl Iterator<Item = Value<'a>> + use<'a> {
    let single = list.is_object().then(|| list.clone());
    list.elements().filter_map(Result::ok).chain(single)
}

/// Keeps a member of an object within that of which the extras are.
pub(super) fn keep_in<'a>(extras: &mut Extras<'a>, object: &str, key: &str, value: &Value<'a>) {
    extras.keep(Cow::Owned(format!("{object}.{key}")), value);
}

/// Whose member it is, where that stands before its name, and the name.
pub(super) fn place<'t>(key: &'t Text<'_>) -> (Option<&'t str>, &'t str) {
    match key.as_escaped().split_once('.') {
        Some((object, name)) => (Some(object), name),
        None => (None, key.as_escaped()),
    }
}

/// Writes the members that were kept of that object within that of which the extras are.
pub(super) fn write_kept(object: &mut Object<'_>, extras: &Extras<'_>, of: &str) {
    for (key, value) in extras.iter() {
        if let (Some(owner), name) = place(key) {
            if owner == of {
                write_member(object, name, value);
            }
        }
    }
}

/// Writes the members that were kept by their own name alone, but for those named.
pub(super) fn write_own(object: &mut Object<'_>, extras: &Extras<'_>, but: &[&str]) {
    for (key, value) in extras.iter() {
        if let (None, name) = place(key) {
            if !but.contains(&name) {
                write_member(object, name, value);
            }
        }
    }
}

fn write_member(object: &mut Object<'_>, name: &str, value: &Raw<'_>) {
    object.raw(&Text::escaped(name).decoded(), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_cases_are_read() {
        for (name, expected) in
            [("thought_signature", "thoughtSignature"), ("_x_y", "_xY"), ("role", "role"), ("a__b", "aB"), ("a_", "a")]
        {
            assert_eq!(camel(name.into()), expected);
        }
    }

    #[test]
    fn a_list_of_one_may_lack_its_brackets() {
        for (json, elements) in [("[{},{}]", 2), ("{\"a\":1}", 1), ("7", 0)] {
            assert_eq!(each(&Value::whole(json.as_bytes()).unwrap()).count(), elements, "{json}");
        }
    }
}
