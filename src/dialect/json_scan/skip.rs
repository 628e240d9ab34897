//! Where a value ends: what a scan does with all that nobody looks into.

use memchr::memchr2;

use super::Malformed;

pub(super) fn skip_whitespace(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// The end of the string whose opening quote is at `at`.
pub(super) fn skip_string(text: &[u8], at: usize) -> Result<usize, Malformed> {
    string_end(text, at).map(|(end, _)| end)
}

/// The end of the string whose opening quote is at `at`, and whether there are escapes in it.
#[inline]
pub(super) fn string_end(text: &[u8], at: usize) -> Result<(usize, bool), Malformed> {
    // Most strings are keys and words: setting out to find their end costs more than finding it, word by word.
    const WORDS: usize = 4;
    let (mut from, mut escaped) = (at + 1, false);
    for _ in 0..WORDS {
        let Some(word) = text.get(from..).and_then(<[u8]>::first_chunk) else { break };
        match first_marked(quotes_and_escapes(u64::from_le_bytes(*word))) {
            None => from += word.len(),
            Some(found) if word[found] == b'"' => return Ok((from + found + 1, escaped)),
            Some(found) => (from, escaped) = (from + found + 2, true),
        }
    }
    loop {
        let rest = text.get(from..).unwrap_or_default();
        match memchr2(b'"', b'\\', rest) {
            Some(found) if rest[found] == b'"' => return Ok((from + found + 1, escaped)),
            Some(found) => (from, escaped) = (from + found + 2, true),
            None => return Err(Malformed { at: text.len() }),
        }
    }
}

/// The end of the string whose opening quote is at `at`, if it is short, ASCII and has no escapes, as nearly all names are.
#[inline]
pub(super) fn plain_string_end(text: &[u8], at: usize) -> Option<usize> {
    const WORDS: usize = 3;
    let words = text.get(at + 1..)?.chunks_exact(8).take(WORDS);
    for (place, word) in words.enumerate() {
        let word = u64::from_le_bytes(word.try_into().ok()?);
        if let Some(found) = first_marked(quotes_and_escapes(word) | (word & HIGH_BITS)) {
            let end = at + 1 + place * 8 + found;
            return (text[end] == b'"').then_some(end + 1);
        }
    }
    None
}

const ONES: u64 = u64::from_le_bytes([1; 8]);
const HIGH_BITS: u64 = ONES << 7;

/// Marks, by its high bit, the first of eight bytes that is a quote or a backslash; perhaps others behind it.
#[inline]
fn quotes_and_escapes(word: u64) -> u64 {
    // A byte's high bit is set where the byte is zero; below the first of them, that is exact.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH_BITS;
    zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')))
}

/// The place of the first of eight bytes that is marked by its high bit.
#[inline]
fn first_marked(marks: u64) -> Option<usize> {
    (marks != 0).then(|| marks.trailing_zeros() as usize / 8)
}

/// The end of the value that begins at `at`.
pub(super) fn skip_value(text: &[u8], at: usize) -> Result<usize, Malformed> {
    match text.get(at) {
        Some(b'"') => skip_string(text, at),
        Some(b'{' | b'[') => skip_container(text, at),
        Some(b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
            let rest = &text[at..];
            Ok(at + rest.iter().position(|byte| !SCALAR[usize::from(*byte)]).unwrap_or(rest.len()))
        }
        _ => Err(Malformed { at: at.min(text.len()) }),
    }
}

fn skip_container(text: &[u8], mut at: usize) -> Result<usize, Malformed> {
    /// How deep brackets are held against each other; deeper ones are only counted.
    const CHECKED: u32 = u64::BITS;
    let (mut depth, mut deepest, mut objects) = (0_u32, 0, 0_u64);
    while let Some(found) = text[at..].iter().position(|byte| STRUCTURAL[usize::from(*byte)]) {
        at += found;
        match text[at] {
            b'"' => {
                at = skip_string(text, at)?;
                continue;
            }
            open @ (b'{' | b'[') => {
                depth = depth.checked_add(1).ok_or(Malformed { at })?;
                deepest = deepest.max(depth);
                objects = objects << 1 | u64::from(open == b'{');
            }
            close => {
                if deepest <= CHECKED && (objects & 1 == 1) != (close == b'}') {
                    return Err(Malformed { at });
                }
                depth -= 1; // the text begins with an opening bracket, and ends when all are closed
                objects >>= 1;
            }
        }
        at += 1;
        if depth == 0 {
            return Ok(at);
        }
    }
    Err(Malformed { at: text.len() })
}

/// The bytes by which containers and strings begin and end.
static STRUCTURAL: [bool; 256] = table(b"{}[]\"");

/// The bytes of numbers, `true`, `false` and `null`.
static SCALAR: [bool; 256] = table(b"0123456789+-.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

const fn table(bytes: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut index = 0;
    while index < bytes.len() {
        table[bytes[index] as usize] = true;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_every_length_and_escape_end_where_they_end() {
        for length in 0..80 {
            for escape in 0..length {
                let mut string = vec![b'x'; length];
                string[escape] = b'\\';
                let text = [b"\"", &string[..], b"\"\"}"].concat();
                let expected = if escape + 1 == length { length + 3 } else { length + 2 };
                assert_eq!(skip_string(&text, 0), Ok(expected), "{length}, {escape}");
                assert!(skip_string(&text[..length + 1], 0).is_err());
            }
        }
    }
}
