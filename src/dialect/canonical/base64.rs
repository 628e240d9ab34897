//! Base64 as every API takes it.

use super::{Part, Request, Source, Text};

/// Puts the media of a request into the usual alphabet, padded. Google's SDKs write the alphabet that URLs have, which only
/// Google's APIs take.
pub(crate) fn standardise(request: &mut Request<'_>) {
    request.turns.iter_mut().for_each(|turn| in_parts(&mut turn.parts));
}

fn in_parts(parts: &mut [Part<'_>]) {
    for part in parts {
        match part {
            Part::Media(media) => {
                if let Source::Inline { data, .. } = &mut media.source {
                    if let Some(usual) = usual(data.as_escaped()) {
                        *data = Text::escaped(usual);
                    }
                }
            }
            Part::Result(result) => in_parts(&mut result.parts),
            _ => {}
        }
    }
}

/// The same in the usual alphabet, should it be in the other.
fn usual(data: &str) -> Option<String> {
    memchr::memchr2(b'-', b'_', data.as_bytes())?;
    let mut usual = data.replace('-', "+").replace('_', "/");
    // An escape stands for another number of characters than it has; whoever writes them writes padding too.
    if !data.contains('\\') {
        let missing = usual.len().next_multiple_of(4) - usual.len();
        usual.extend(std::iter::repeat_n('=', missing));
    }
    Some(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_of_urls_becomes_the_usual_one() {
        assert_eq!(usual("-_-_"), Some("+/+/".to_owned()));
        assert_eq!(usual("_w"), Some("/w==".to_owned()));
        assert_eq!(usual("a-c="), Some("a+c=".to_owned()));
        assert_eq!(usual("_\\u003d"), Some("/\\u003d".to_owned()));
        assert_eq!(usual("iVBORw0KGgo="), None);
        assert_eq!(usual(""), None);
    }

    #[test]
    fn media_are_found_wherever_they_are() {
        let body = r#"{"contents": [{"role": "user", "parts": [
            {"inlineData": {"mimeType": "image/png", "data": "-_8="}},
            {"functionResponse": {"name": "f", "response": {}, "parts": [
                {"inlineData": {"mimeType": "image/png", "data": "_-8="}}]}}]}]}"#;
        let mut request = crate::dialect::gemini::request::decode::decode(body).unwrap();
        standardise(&mut request);
        let shown = format!("{:?}", request.turns);
        assert!(shown.contains("+/8=") && shown.contains("/+8="), "{shown}");
    }
}
