//! Ids as Anthropic takes them.

use std::collections::{HashMap, HashSet};

use crate::dialect::canonical::Text;

/// How long the id of a call may be.
const MOST: usize = 64;

/// The id of a call in an answer: as it was where that may be, else made from it, or that one where it has none.
pub(super) fn of_call<'a>(id: &'a Text<'_>, unnamed: impl FnOnce() -> Text<'static>) -> Text<'a> {
    match id.as_escaped() {
        "" => unnamed(),
        id if is_valid(id) => Text::escaped(id),
        id => Text::escaped(made_from(id)),
    }
}

/// The id of an answer: Anthropic's begin like this.
pub(super) fn of_answer(id: Option<&Text<'_>>) -> Text<'static> {
    match id.map(Text::as_escaped) {
        Some(id) if id.starts_with("msg_") => Text::escaped(id.to_owned()),
        Some(id) if is_valid(id) => Text::escaped(format!("msg_{id}")),
        id => Text::escaped(format!("msg_{:016x}", hash(id.unwrap_or_default()))),
    }
}

/// The ids of a conversation's calls: each has one that no other has, and its result the same.
#[derive(Debug, Default)]
pub(super) struct CallIds<'r> {
    /// Of the last call that had an id, the one that it has now.
    now: HashMap<&'r str, String>,
    taken: HashSet<String>,
}

impl<'r> CallIds<'r> {
    /// The id for a call; `place` tells it from the others where it has none.
    pub(super) fn call(&mut self, id: &'r str, place: usize) -> String {
        let wanted = match id {
            "" => format!("toolu_{place:04}"),
            id if is_valid(id) => id.to_owned(),
            id => made_from(id),
        };
        let mut given = wanted.clone();
        let mut again = 2;
        while !self.taken.insert(given.clone()) {
            let cut = wanted.len().min(MOST - 8);
            given = format!("{}_{again}", &wanted[..cut]);
            again += 1;
        }
        self.now.insert(id, given.clone());
        given
    }

    /// The id that the last call with that one was given.
    pub(super) fn result(&self, id: &str) -> Option<&str> {
        self.now.get(id).map(String::as_str)
    }
}

fn is_valid(id: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !id.is_empty() && id.len() <= MOST && id.bytes().all(is_allowed)
}

fn made_from(id: &str) -> String {
    format!("toolu_{:016x}", hash(id))
}

/// FNV-1a: the same in every process, which is all that is asked of it.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept_where_they_may_be() {
        for id in ["call_1", "a-B_9", &"x".repeat(64)] {
            assert_eq!(of_call(&Text::escaped(id), || unreachable!()).as_escaped(), id);
        }
        for id in ["call.1", "é", "a b", "\\u0041", &"x".repeat(65)] {
            let id = Text::escaped(id);
            let made = of_call(&id, || unreachable!());
            assert!(is_valid(made.as_escaped()), "{id:?}");
            assert_eq!(made, of_call(&id, || unreachable!()), "the same each time");
        }
        assert_eq!(of_call(&Text::default(), || Text::escaped("call_0")).as_escaped(), "call_0");
    }

    #[test]
    fn answers_have_ids_that_begin_as_anthropics_do() {
        let of = |id: &str| of_answer(Some(&Text::escaped(id))).as_escaped().to_owned();
        assert_eq!(of("msg_bdrk_1"), "msg_bdrk_1");
        assert_eq!(of("chatcmpl-1"), "msg_chatcmpl-1");
        assert!(of("a/b").starts_with("msg_") && of("a/b") != of("a/c"));
        assert!(of_answer(None).as_escaped().starts_with("msg_"));
    }

    #[test]
    fn a_result_has_the_id_of_its_call_even_where_ids_are_repeated() {
        let mut ids = CallIds::default();
        let first = ids.call("call_0", 0);
        assert_eq!(ids.result("call_0"), Some(&*first));
        let second = ids.call("call_0", 1);
        assert_ne!(first, second);
        assert_eq!(ids.result("call_0"), Some(&*second));
        let long = "x".repeat(64);
        let (one, other) = (ids.call(&long, 2), ids.call(&long, 3));
        assert!(one != other && is_valid(&other));
        let odd = ids.call("call:1", 4);
        assert!(is_valid(&odd) && ids.result("call:1") == Some(&*odd) && ids.result("none").is_none());
    }
}
