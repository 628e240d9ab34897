//! What is wrong with a file: every mistake at once, each with its place.

use std::{fmt, ops::Range, path::Path, sync::Arc};

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

/// One mistake in a configuration file. It never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub(super) file: Arc<Path>,
    /// Line and column, where the mistake has a place in the text.
    pub(super) position: Option<(usize, usize)>,
    /// The bytes of the text that it is about.
    pub(super) span: Option<Range<usize>>,
    pub(super) key: String,
    pub(super) message: String,
    pub(super) suggestion: Option<String>,
}

impl ConfigError {
    /// The file, as it was named.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The line, counted from 1; `None` where the file could not be read at all.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.position.map(|(line, _)| line)
    }

    /// The column in characters, counted from 1; `None` where the file could not be read at all.
    #[must_use]
    pub fn column(&self) -> Option<usize> {
        self.position.map(|(_, column)| column)
    }

    /// The path of the key, as the file writes it: `routes."gpt-4o".targets[1].provider`. Empty where the file as a
    /// whole is meant, as for a mistake in its syntax.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The known name that an unknown one resembles.
    #[must_use]
    pub fn suggestion(&self) -> Option<&str> {
        self.suggestion.as_deref()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some((line, column)) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean `{suggestion}`?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Everything that is wrong with a configuration file, in the order of the file; never empty.
///
/// `Display` gives each mistake its own line; [`report`](Self::report) shows the lines of the file too.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    /// The text of the file, with its secrets masked.
    text: Arc<str>,
}

impl ConfigErrors {
    /// `None` where nothing is wrong. `masked` is the text without its secrets.
    pub(super) fn new(mut errors: Vec<ConfigError>, masked: String) -> Option<Self> {
        errors.sort_by_key(|error| error.position);
        if errors.is_empty() { None } else { Some(ConfigErrors { errors, text: masked.into() }) }
    }

    /// A file of which nothing could be used.
    pub(crate) fn unusable(file: &Path, position: Option<(usize, usize)>, message: String) -> Self {
        let (key, suggestion, span) = Default::default();
        let errors = vec![ConfigError { file: file.into(), position, span, key, message, suggestion }];
        ConfigErrors { errors, text: Arc::default() }
    }

    /// Every mistake with the line of the file that it is in, for people to read in a terminal; in colours, if that terminal
    /// has them. Secrets in those lines are masked.
    #[must_use]
    pub fn report(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut report = String::new();
        for error in &self.errors {
            let path = error.file.display().to_string();
            let key = if error.key.is_empty() { String::new() } else { format!("{}: ", error.key) };
            let title = Level::ERROR.primary_title(format!("{key}{}", error.message));
            let mut group = match (&error.span, error.position) {
                (Some(span), Some(_)) => {
                    let mark = AnnotationKind::Primary.span(first_line(&self.text, span));
                    title.element(Snippet::source(&*self.text).path(path).annotation(mark))
                }
                (_, Some((line, column))) => title.element(Origin::path(path).line(line).char_column(column)),
                (_, None) => title.element(Origin::path(path)),
            };
            if let Some(suggestion) = &error.suggestion {
                group = group.element(Level::HELP.message(format!("did you mean `{suggestion}`?")));
            }
            report.push_str(&renderer.render(&[group]));
            report.push_str("\n\n");
        }
        let (count, file) = (self.errors.len(), self.errors.first().map(|error| error.file.display()));
        let mistakes = if count == 1 { "mistake" } else { "mistakes" };
        // Never empty, so that there is a file.
        report + &file.map(|file| format!("{file} has {count} {mistakes}")).unwrap_or_default()
    }

    /// The mistakes.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.errors.iter()
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Of what is marked, the part in its first line: a table goes on for many.
fn first_line(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = span.start.min(text.len());
    let end = span.end.clamp(start, text.len());
    let marked = text.get(start..end).unwrap_or_default();
    start..start + marked.find(['\r', '\n']).unwrap_or(marked.len())
}

impl fmt::Debug for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConfigErrors").field(&self.errors).finish()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Where a byte of the text stands: line and column, both from 1, the column in characters.
pub(super) fn position(text: &[u8], at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    (line, String::from_utf8_lossy(&before[line_start..]).chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let text = "a = 1\n\u{e4}\u{20ac} = 2\n".as_bytes();
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, 4), (1, 5));
        assert_eq!(position(text, 6), (2, 1));
        assert_eq!(position(text, 12), (2, 4));
        assert_eq!(position(text, 1000), (3, 1));
        assert_eq!(position(b"", 3), (1, 1));
    }

    #[test]
    fn an_error_without_a_place_is_readable() {
        let errors = ConfigErrors::unusable(Path::new("gateway.toml"), None, "cannot be read: not found".into());
        assert_eq!(errors.to_string(), "gateway.toml: cannot be read: not found");
    }
}
