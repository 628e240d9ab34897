//! How texts may be alike without being the same.

/// How a model says that it goes on, before it does. Compared in lower case, at the very beginning.
const PREFACES: &[&str] = &[
    "sure",
    "certainly",
    "of course",
    "okay",
    "ok,",
    "absolutely",
    "here is the rest",
    "here's the rest",
    "here is the continuation",
    "here's the continuation",
    "here is the remaining",
    "here's the remaining",
    "continuing",
    "continuation",
    "to continue",
    "let me continue",
    "i'll continue",
    "i will continue",
    "picking up",
    "resuming",
    "as i was saying",
    "i apologize",
    "i'm sorry",
    "sorry",
    "apologies",
    "it seems",
    "it looks like",
];

/// How many words of a retelling are compared.
const WORDS: usize = 12;
/// With fewer long ones, likeness is chance.
const FEWEST_WORDS: usize = 4;

/// Whether the text opens like a remark about itself, where what came before it would not lead there.
pub(super) fn is_preface(delivered: &str, held: &str) -> bool {
    let opening = held.trim_start().trim_start_matches(['[', '(', '*', '_', '"', '.', '…']).to_lowercase();
    let names_it =
        |preface: &str| opening.strip_prefix(preface).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric));
    let leads_there = delivered.trim_end().ends_with([':', '"', '“', '-', '*', '>']);
    !leads_there && PREFACES.iter().any(|preface| names_it(preface))
}

/// Whether the text begins anew, or says its last words again, in other letters only. Why not to take it then.
pub(super) fn same_but_for_case(delivered: &str, held: &str, telling: usize) -> Option<&'static str> {
    let same = |one: char, other: char| one == other || one.to_lowercase().eq(other.to_lowercase());
    let mut bytes = 0;
    let mut exact = true;
    for (one, other) in delivered.chars().zip(held.chars()) {
        if !same(one, other) {
            break;
        }
        exact &= one == other;
        bytes += one.len_utf8();
    }
    let whole = bytes == delivered.len() && delivered.chars().nth(1).is_some();
    if !exact && (bytes >= telling || whole) {
        return Some("the answer began anew in other letters");
    }
    let tail: String = delivered.chars().rev().take(telling).flat_map(char::to_lowercase).collect();
    let tail: String = tail.chars().rev().collect();
    let beginning: String = held.chars().take(telling).flat_map(char::to_lowercase).collect();
    let is_again = tail.chars().count() >= telling && beginning == tail && !delivered.ends_with(held);
    let is_exact =
        delivered.chars().rev().take(telling).collect::<Vec<_>>().into_iter().rev().eq(held.chars().take(telling));
    (is_again && !is_exact).then_some("the last words came again in other letters")
}

/// Whether a text consists of one piece over and over.
pub(super) fn repeats_itself(text: &str) -> bool {
    // Knuth, Morris and Pratt: the longest proper prefix that is a suffix too.
    let bytes = text.as_bytes();
    let mut border = vec![0; bytes.len()];
    let mut length = 0;
    for at in 1..bytes.len() {
        while length > 0 && bytes[at] != bytes[length] {
            length = border[length - 1];
        }
        if bytes[at] == bytes[length] {
            length += 1;
        }
        border[at] = length;
    }
    // Two rounds of it at the least.
    border.last().is_some_and(|border| *border > 0 && (bytes.len() - border) * 2 <= bytes.len())
}

/// Whether the text tells the delivered beginning again in other words: most of its longer words stand there, and not so
/// many in any other place of it. A list whose entries are all alike is no retelling.
pub(super) fn retells(delivered: &str, held: &str) -> bool {
    let told = words(delivered);
    let again: Vec<_> = words(held).into_iter().take(WORDS).filter(|word| is_long(word)).collect();
    if again.len() < FEWEST_WORDS {
        return false;
    }
    let known =
        |window: &[String]| again.iter().filter(|word| window.contains(word)).count() as f64 / again.len() as f64;
    let window = |start: usize| &told[start..told.len().min(start + WORDS)];
    let elsewhere = (WORDS / 2..told.len().saturating_sub(FEWEST_WORDS)).map(|start| known(window(start)));
    let at_the_beginning = known(window(0));
    at_the_beginning >= 0.6 && at_the_beginning >= elsewhere.fold(0.0, f64::max) + 0.2
}

fn words(text: &str) -> Vec<String> {
    let words = text.split(|char: char| !char.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).take(2_000).collect()
}

/// Short ones stand everywhere.
fn is_long(word: &str) -> bool {
    word.chars().count() >= 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_in_circles_is_told_from_one_that_is_not() {
        for text in ["la la la ", "xx", "abab", "哈哈", "1, 1, 1, "] {
            assert!(repeats_itself(text), "{text}");
        }
        for text in ["", "x", "abc", "the cat and the dog", "la la land", "banana"] {
            assert!(!repeats_itself(text), "{text}");
        }
    }

    #[test]
    fn a_retelling_is_told_from_a_list() {
        let delivered = "The harbour was quiet that morning, and the fishermen mended their nets in silence. Nobody";
        assert!(retells(delivered, "That morning the harbour was quiet and in silence the fishermen mended nets"));
        assert!(!retells(delivered, " spoke until the bell of the church rang across the water at noon, twice"));
        let list = "Item 1: wash the red cup. Item 2: wash the blue cup. Item 3: wash the green cup. ";
        assert!(!retells(list, "Item 4: wash the white cup. Item 5: wash the black cup."));
    }

    #[test]
    fn a_preface_is_told_from_a_sentence() {
        assert!(is_preface("The quick brown", "Sure, continuing: fox"));
        assert!(is_preface("The quick brown", " (continuing from above) fox"));
        assert!(!is_preface("The quick brown", " surely fox"));
        assert!(!is_preface("He said: \"", "Sure, I will come.\""));
    }
}
