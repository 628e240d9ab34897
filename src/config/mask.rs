//! A configuration's text as it may be shown: with everything in it masked that is, or may be, a secret.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// What stands in the place of each byte of a secret.
const MASK: u8 = b'*';
/// How keys begin that are known by that.
const BEGINNINGS: &[&str] = &["sk-", "sk_", "pk-", "AIza", "gsk_", "xai-", "hf_", "nvapi-", "csk-", "eyJ"];

/// The text with its secrets masked, and every other byte where it was. Of a text that is not TOML (`None`) it cannot be
/// known which they are: there every value is masked.
pub(super) fn masked(text: &str, table: Option<&DeTable<'_>>) -> String {
    let mut secrets = Vec::new();
    match table {
        Some(table) => table.iter().for_each(|(name, value)| collect(name.get_ref(), value, false, &mut secrets)),
        None => guess(text, &mut secrets),
    }
    remarkable(text, &mut secrets);
    let mut bytes = text.as_bytes().to_vec();
    for byte in secrets.into_iter().filter(|span| span.end <= text.len()).flatten() {
        // What has a place in TOML's grammar keeps it, so that one finds the mistake.
        if !matches!(bytes[byte], b'"' | b'\'' | b'\n' | b'\r' | b' ' | b'[' | b']' | b'{' | b'}' | b',' | b'=' | b'#')
        {
            bytes[byte] = MASK;
        }
    }
    // Whole characters were masked: spans begin and end between them.
    String::from_utf8(bytes).unwrap_or_default()
}

/// Collects the values of keys that hold secrets.
fn collect(name: &str, value: &Spanned<DeValue<'_>>, inherited: bool, secrets: &mut Vec<Range<usize>>) {
    // A password may stand before the host.
    let has_user = value.get_ref().as_str().is_some_and(|text| text.contains("://") && text.contains('@'));
    let is_secret = (inherited || has_user || holds_secrets(name)) && !is_harmless(name, value.get_ref());
    match value.get_ref() {
        DeValue::Table(table) => {
            table.iter().for_each(|(name, value)| collect(name.get_ref(), value, is_secret, secrets));
        }
        DeValue::Array(array) => array.iter().for_each(|value| collect(name, value, is_secret, secrets)),
        _ if is_secret => secrets.push(value.span()),
        _ => {}
    }
}

/// Whether what stands under that name may be a secret, however it is misspelt.
fn holds_secrets(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_token = name.contains("token") && !name.contains("tokens");
    let holds = ["key", "secret", "password", "value", "authorization"].iter().any(|part| name.contains(part));
    (holds || is_token) && name != "key_header" && !name.contains("keep")
}

/// What says where a secret comes from, and is none.
fn is_harmless(name: &str, value: &DeValue<'_>) -> bool {
    match (name, value.as_str()) {
        ("env", Some(text)) => {
            text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        }
        ("refresh" | "file", _) => true,
        _ => false,
    }
}

/// Everything behind the first `=` of a line, and every line that has none and is no table's head: it may be a part of a list,
/// or of a text of several lines.
fn guess(text: &str, secrets: &mut Vec<Range<usize>>) {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        let trimmed = line.trim();
        let is_head = trimmed.starts_with('[') && trimmed.ends_with(']') && !trimmed.contains(['=', ',', '{']);
        match line.find('=') {
            Some(at) => secrets.push(start + at..end),
            None if is_head => {}
            None => secrets.push(start..end),
        }
        start = end;
    }
}

/// Everything that looks like a key, wherever it stands: in a comment, say.
fn remarkable(text: &str, secrets: &mut Vec<Range<usize>>) {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut start = 0;
    for word in text.split_inclusive(|c: char| !is_part(c)) {
        let bare = word.trim_end_matches(|c: char| !is_part(c));
        if bare.len() >= 12 && BEGINNINGS.iter().any(|beginning| bare.starts_with(beginning)) {
            secrets.push(start..start + bare.len());
        }
        start += word.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(text: &str) -> String {
        let (table, errors) = DeTable::parse_recoverable(text);
        masked(text, errors.is_empty().then_some(table.get_ref()))
    }

    #[test]
    fn secrets_are_masked_where_they_stand_and_where_they_should_not() {
        for (text, expected) in [
            ("api_key = { value = 'geheim' }", "api_key = { value = '******' }"),
            ("api_key = 'geheim' # x", "api_key = '******' # x"),
            ("apikey = [{ valeu = 'geheim' }]", "apikey = [{ valeu = '******' }]"),
            ("api_key = { env = 'OPENAI_API_KEY' }", "api_key = { env = 'OPENAI_API_KEY' }"),
            ("api_key = { env = 'geheim-1' }", "api_key = { env = '********' }"),
            (
                "api_key = { file = 'k', command = ['a', 'geheim'] }",
                "api_key = { file = 'k', command = ['*', '******'] }",
            ),
            ("api_key = 123456", "api_key = ******"),
            ("key_header = 'x-api-key'\ntokens_per_minute = 7", "key_header = 'x-api-key'\ntokens_per_minute = 7"),
            ("base_url = 'sk-abcdefghijklm' # AIzaSyAbcdefgh.", "base_url = '****************' # ***************"),
            ("api_key = \"\"\"ge\nheim\u{e4}\"\"\"", "api_key = \"\"\"**\n******\"\"\""),
            ("listen = '127.0.0.1:1'", "listen = '127.0.0.1:1'"),
        ] {
            assert_eq!(mask(text), expected, "{text}");
        }
    }

    #[test]
    fn of_what_is_not_toml_every_value_is_masked() {
        let text = "[providers.p]\napi_key = { value = 'geheim }\nx = [\n  \"geheim\",\n";
        assert_eq!(mask(text), "[providers.p]\napi_key = { ***** = '****** }\nx = [\n  \"******\",\n");
    }
}
