//! The many spellings of a model's name.

/// A name as it is compared: in lower case, with dashes for dots, without what providers put around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// The whole name, without prefixes.
    pub(super) exact: String,
    /// The same without the date or the number of a snapshot, where there is one.
    pub(super) model: Option<String>,
    /// Whether it is served from one region of a cloud only, which costs more there.
    pub(super) is_regional: bool,
}

impl Name {
    /// Reads a name: `models/gemini-2.5-pro`, `openai/gpt-4o`, `claude-sonnet-4-5-20250929`,
    /// `us.anthropic.claude-sonnet-4-5-20250929-v1:0`; `None` where it says that the model is an other one than usual, such
    /// as `…:free`.
    pub(super) fn parse(name: &str) -> Option<Name> {
        let name = name.trim().to_ascii_lowercase();
        let name = name.rsplit('/').next()?;
        let name = match name.split_once(':') {
            None => name,
            // Bedrock's version of its own: `-v1:0`.
            Some((name, version)) if is_number(version) => name.rsplit_once("-v").filter(|(_, v)| is_number(v))?.0,
            Some(_) => return None,
        };
        let (region, name) = match name.rsplit_once("anthropic.") {
            Some((region, name)) => (region, name),
            None => ("", name),
        };
        let exact = name.replace('.', "-");
        let model = without_snapshot(&exact).map(str::to_owned);
        Some(Name { exact, model, is_regional: !matches!(region, "" | "global.") })
    }

    /// Whether it is that model, or a snapshot of it.
    pub(super) fn is(&self, model: &str) -> bool {
        is_same(&self.exact, model) || self.model.as_deref().is_some_and(|name| is_same(name, model))
    }

    /// Whether it is that model by its whole name.
    pub(super) fn is_exactly(&self, model: &str) -> bool {
        is_same(&self.exact, model)
    }
}

fn is_same(name: &str, model: &str) -> bool {
    let dashed = |byte: u8| if byte == b'.' { b'-' } else { byte };
    name.len() == model.len() && name.bytes().eq(model.bytes().map(dashed))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The name without `-20250929`, `@20250929`, `-2024-08-06` or `-001`; `None` where it ends in none of these.
fn without_snapshot(name: &str) -> Option<&str> {
    let digits = |text: &str, length: usize| text.len() == length && is_number(text);
    if let Some((model, day)) = name.rsplit_once('@') {
        return digits(day, 8).then_some(model);
    }
    let (rest, last) = name.rsplit_once('-')?;
    if digits(last, 8) || (digits(last, 3) && last.starts_with('0')) {
        return Some(rest);
    }
    let (rest, month) = rest.rsplit_once('-')?;
    let (model, year) = rest.rsplit_once('-')?;
    (digits(last, 2) && digits(month, 2) && digits(year, 4) && year.starts_with("20")).then_some(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_however_it_is_spelled() {
        for (spelled, model) in [
            ("gpt-4o", "gpt-4o"),
            ("GPT-4o", "gpt-4o"),
            ("openai/gpt-4o", "gpt-4o"),
            ("gpt-4o-2024-08-06", "gpt-4o"),
            ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
            ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
            ("anthropic/claude-sonnet-4.5", "claude-sonnet-4-5"),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
            ("models/gemini-2.5-pro", "gemini-2.5-pro"),
            ("publishers/google/models/gemini-2.5-flash-001", "gemini-2.5-flash"),
            ("gpt-4.1-mini", "gpt-4.1-mini"),
        ] {
            assert!(Name::parse(spelled).is_some_and(|name| name.is(model)), "{spelled}");
        }
    }

    #[test]
    fn a_name_that_is_only_like_it_is_another() {
        for (spelled, model) in [
            ("gpt-4o-mini", "gpt-4o"),
            ("gpt-4o-audio-preview", "gpt-4o"),
            ("gpt-4o-audio-preview-2024-12-17", "gpt-4o"),
            ("gemini-2.5-flash-image", "gemini-2.5-flash"),
            ("claude-sonnet-4", "claude-sonnet-4-5"),
            ("my-gpt-4o", "gpt-4o"),
            ("gpt-4o:free", "gpt-4o"),
            ("ft:gpt-4o-2024-08-06:me::1", "gpt-4o"),
            ("gpt-4o-123", "gpt-4o"),
            ("", "gpt-4o"),
        ] {
            assert!(!Name::parse(spelled).is_some_and(|name| name.is(model)), "{spelled}");
        }
    }
}
