//! Where the rest of an answer joins what the client has of it.
//!
//! A target that is asked to go on with what another one began may do so. Or it begins anew; or says the last words
//! again, or "Sure, here is the rest"; or tells it all in other words. What it sends is held back until it is clear
//! which: text is never doubled and never contradicted, and what stays in doubt is not passed on.

mod resemblance;

use resemblance::{is_preface, repeats_itself, retells, same_but_for_case};

/// How much of a repetition makes it more than a coincidence, in bytes.
const TELLING: usize = 24;
/// How much is held back before it is taken for the rest, in bytes: about a dozen words.
const LOOK_AHEAD: usize = 80;
/// Where an answer may begin anew behind a preface, in bytes.
const PREFACE: usize = 160;

/// What becomes of text that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// It is not clear yet.
    Hold,
    /// That is for the client.
    Release(String),
    /// It does not fit to what the client has, or may not; why.
    Mismatch(&'static str),
}

/// How the target was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To go on writing what the client has.
    Prefill,
    /// In words.
    Instruction,
    /// For all of the answer again.
    Again,
}

/// Joins the rest of an answer to its delivered beginning.
#[derive(Debug)]
pub(super) struct Seam {
    asked: Asked,
    delivered: String,
    held: String,
    joined: bool,
    began_anew: bool,
}

impl Seam {
    pub(super) fn new(asked: Asked, delivered: String) -> Self {
        // Where the client has nothing, everything is for it.
        let joined = delivered.is_empty();
        Seam { asked, delivered, held: String::new(), joined, began_anew: false }
    }

    /// What the client has, with all that was released.
    pub(super) fn delivered(&self) -> &str {
        &self.delivered
    }

    /// Whether all of the answer came again.
    pub(super) fn began_anew(&self) -> bool {
        self.began_anew
    }

    /// Takes in the next text.
    pub(super) fn push(&mut self, text: &str) -> Joined {
        if self.joined {
            self.delivered.push_str(text);
            return Joined::Release(text.to_owned());
        }
        self.held.push_str(text);
        self.decide(false)
    }

    /// No more text comes.
    pub(super) fn finish(&mut self) -> Joined {
        if self.joined || (self.held.is_empty() && self.asked != Asked::Again) {
            self.joined = true;
            return Joined::Release(String::new());
        }
        self.decide(true)
    }

    fn decide(&mut self, over: bool) -> Joined {
        match judge(self.asked, &self.delivered, &self.held, over) {
            Judgement::Open => Joined::Hold,
            Judgement::Mismatch(why) => Joined::Mismatch(why),
            Judgement::RestFrom(at) => {
                self.joined = true;
                self.began_anew = at >= self.delivered.len();
                let rest = std::mem::take(&mut self.held).split_off(at);
                self.delivered.push_str(&rest);
                Joined::Release(rest)
            }
        }
    }
}

#[derive(Debug, PartialEq)]
enum Judgement {
    Open,
    /// What stands from there on is for the client.
    RestFrom(usize),
    Mismatch(&'static str),
}

fn judge(asked: Asked, delivered: &str, held: &str, over: bool) -> Judgement {
    use Judgement::{Mismatch, Open, RestFrom};
    let same = common_prefix(delivered, held);
    if asked == Asked::Again {
        return match same {
            same if same == delivered.len() => RestFrom(same),
            same if same == held.len() && !over => Open,
            _ => Mismatch("another answer came where the same one was needed"),
        };
    }
    // It begins anew, or so it seems.
    let repetitive = repeats_itself(delivered);
    if same == delivered.len() {
        return match asked {
            // A text that goes round in circles begins anew all the time.
            Asked::Prefill if repetitive && has_words(delivered) => RestFrom(after_white_space(delivered, held)),
            _ if repetitive || !has_words(delivered) => Mismatch("the rest cannot be told from a new beginning"),
            _ => RestFrom(same),
        };
    }
    if same == held.len() {
        return match over {
            false => Open,
            true if held.len() < TELLING && !has_words(held) => RestFrom(after_white_space(delivered, held)),
            true => Mismatch("the answer began anew and ended too early"),
        };
    }
    let is_unique = |text: &str| delivered.find(text) == delivered.rfind(text);
    if same >= TELLING && is_unique(&delivered[..same]) {
        return Mismatch("the answer began anew and then went another way");
    }
    if let Some(why) = same_but_for_case(delivered, held, TELLING) {
        return Mismatch(why);
    }
    // It may say the last words again, and so far nothing speaks against it.
    if !over && (held.len() < LOOK_AHEAD || (delivered.len() > held.len() && ends_within(delivered, held))) {
        return Open;
    }
    if let Some(overlap) = longest_overlap(delivered, held).filter(|overlap| has_words(overlap)) {
        return match is_unique(overlap) {
            true if !is_telling(delivered, overlap) => {
                Mismatch("the rest cannot be told from half a word that is said again")
            }
            true if may_be_another_word(overlap, &held[overlap.len()..]) => {
                Mismatch("the rest cannot be told from a word that is said again")
            }
            true => RestFrom(overlap.len()),
            // What was said twice in a row may be said a third time.
            false if asked == Asked::Prefill && (repetitive || delivered.ends_with(&overlap.repeat(2))) => {
                RestFrom(after_white_space(delivered, held))
            }
            false => Mismatch("the rest cannot be told from a repetition"),
        };
    }
    if begins_with_its_first_words(delivered, same) {
        return Mismatch("the answer began anew and then went another way");
    }
    if is_preface(delivered, held) || begins_within(delivered, held) {
        return Mismatch("a preface came where the rest was needed");
    }
    if retells(delivered, held) {
        return Mismatch("the answer was begun anew in other words");
    }
    RestFrom(after_white_space(delivered, held))
}

/// How many bytes the two begin with alike, in whole characters.
fn common_prefix(one: &str, other: &str) -> usize {
    one.chars().zip(other.chars()).take_while(|(one, other)| one == other).map(|(char, _)| char.len_utf8()).sum()
}

/// Whether that much of the delivered beginning, said again where the client would read it as one word with its last one, is
/// a new beginning: its first word, or two of them behind a full stop, where a model may forget the blank.
fn begins_with_its_first_words(delivered: &str, same: usize) -> bool {
    let words = delivered[..same].split_inclusive(char::is_whitespace);
    let whole = words.filter(|word| word.ends_with(char::is_whitespace) && !word.trim().is_empty()).count();
    match delivered.chars().next_back() {
        Some(last) if last.is_whitespace() => false,
        Some(last) if last.is_alphanumeric() => whole >= 1,
        _ => whole >= 2,
    }
}

/// Where the held text begins, without white space with which the delivered text already ends: the request leaves it out
/// there, so it comes again.
fn after_white_space(delivered: &str, held: &str) -> usize {
    let ending = &delivered[delivered.trim_end().len()..];
    let beginning = &held[..held.len() - held.trim_start().len()];
    let lengths = (0..=beginning.len()).rev().filter(|length| beginning.is_char_boundary(*length));
    lengths.into_iter().find(|length| ending.ends_with(&beginning[..*length])).unwrap_or(0)
}

/// The longest beginning of the held text with which the delivered text ends.
fn longest_overlap<'h>(delivered: &str, held: &'h str) -> Option<&'h str> {
    let lengths = (1..=held.len().min(delivered.len())).rev().filter(|length| held.is_char_boundary(*length));
    lengths.into_iter().map(|length| &held[..length]).find(|beginning| delivered.ends_with(*beginning))
}

/// Whether the delivered text may go on to end in the held one: all of it stands there.
fn ends_within(delivered: &str, held: &str) -> bool {
    delivered.contains(held)
}

/// Whether an overlap is more than the chance that one word ends as the next begins.
fn is_telling(delivered: &str, overlap: &str) -> bool {
    let before = delivered[..delivered.len() - overlap.len()].chars().next_back();
    let at_a_words_beginning =
        before.is_none_or(|char| !char.is_alphanumeric()) || !overlap.chars().next().is_some_and(char::is_alphanumeric);
    overlap.len() >= TELLING || (at_a_words_beginning && has_words(overlap))
}

/// Whether an overlap may be the beginning of another word: "… a can" and " canned".
fn may_be_another_word(overlap: &str, rest: &str) -> bool {
    overlap.len() < TELLING && overlap.starts_with(char::is_whitespace) && rest.starts_with(char::is_alphanumeric)
}

fn has_words(text: &str) -> bool {
    text.chars().filter(|char| char.is_alphanumeric()).count() >= 3
}

/// Whether, behind a preface, the answer begins anew or says its last words again.
fn begins_within(delivered: &str, held: &str) -> bool {
    let beginning = prefix(delivered, TELLING);
    let ending = suffix(delivered, TELLING);
    let window = prefix(held, PREFACE);
    has_words(beginning) && beginning.len() >= TELLING / 2 && window.contains(beginning)
        || has_words(ending) && ending.len() >= TELLING / 2 && window.contains(ending)
}

/// So many bytes from the beginning, in whole characters.
fn prefix(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// So many bytes before the end, in whole characters.
fn suffix(text: &str, bytes: usize) -> &str {
    let start = (text.len().saturating_sub(bytes)..=text.len()).find(|at| text.is_char_boundary(*at));
    &text[start.unwrap_or(text.len())..]
}

#[cfg(test)]
mod tests;
