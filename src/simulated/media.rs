//! What providers check of media.

/// Whether a text is base64 in the usual alphabet, padded: all that OpenAI and Anthropic take.
pub(super) fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let is_of_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    !body.is_empty() && text.len() % 4 == 0 && text.len() - body.len() <= 2 && body.bytes().all(is_of_alphabet)
}

/// Whether a URL that brings its data along brings such.
pub(super) fn is_sound_url(url: &str) -> bool {
    match url.strip_prefix("data:") {
        Some(rest) => rest.split_once(";base64,").is_some_and(|(kind, data)| kind.contains('/') && is_base64(data)),
        None => url.starts_with("https://") || url.starts_with("http://"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_of_urls_and_missing_padding_are_refused() {
        for sound in ["AAAA", "+/8=", "AA=="] {
            assert!(is_base64(sound), "{sound}");
        }
        for unsound in ["", "====", "AAA", "-_8=", "A===", "AA AA==="] {
            assert!(!is_base64(unsound), "{unsound}");
        }
        assert!(is_sound_url("data:image/png;base64,AAAA") && is_sound_url("https://example.com/a.png"));
        assert!(
            !is_sound_url("data:image/png;base64,-_8=") && !is_sound_url("data:;base64,AAAA") && !is_sound_url("a.png")
        );
    }
}
