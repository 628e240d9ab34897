//! Changes JSON text in places.

use std::ops::Range;

use bytes::Bytes;

/// The text with other text in some places, and every other byte as it was.
pub(crate) fn edited(body: &[u8], mut edits: Vec<(Range<usize>, String)>) -> Bytes {
    // Stable: what goes to the same place keeps its order.
    edits.sort_by_key(|(range, _)| range.start);
    let mut text = Vec::with_capacity(body.len() + edits.iter().map(|(_, new)| new.len()).sum::<usize>());
    let mut copied = 0;
    for (range, new) in edits {
        text.extend_from_slice(&body[copied..range.start]);
        text.extend_from_slice(new.as_bytes());
        copied = range.end;
    }
    text.extend_from_slice(&body[copied..]);
    text.into()
}
