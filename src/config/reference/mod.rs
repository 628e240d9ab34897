//! Every key of a configuration file: what it may be, its default and what it does, in one table.
//!
//! `docs/config.md` and `docs/config.schema.json` are made from it, and the reader is tested against it.

mod keys;
mod markdown;
mod schema;
#[cfg(test)]
mod tests;

/// The JSON Schema (2020-12) of a configuration file, for editors: `#:schema` in its first line names it to those that use
/// Taplo.
#[must_use]
pub fn json_schema() -> String {
    schema::written()
}

/// Every key of a configuration file with its default, in Markdown.
#[must_use]
pub fn reference() -> String {
    markdown::written()
}

/// A table of the file.
struct Section {
    /// Where it stands, as the file writes it.
    path: &'static str,
    about: &'static str,
    /// In groups, for some are shared with other tables.
    groups: &'static [&'static [Key]],
    /// Of which exactly one must be there.
    one_of: &'static [&'static str],
}

impl Section {
    fn keys(&self) -> impl Iterator<Item = &'static Key> {
        self.groups.iter().flat_map(|group| group.iter())
    }
}

/// A key of a table.
struct Key {
    name: &'static str,
    kind: Kind,
    presence: Presence,
    about: &'static str,
}

enum Presence {
    /// It must be there.
    Required,
    /// What it is without being written, as TOML.
    Default(&'static str),
    /// It may be left out, and then this is so.
    Optional(&'static str),
}

/// What a value must be.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// An address and port.
    Address,
    Url,
    /// A URL, or where one comes from.
    UrlOr(&'static Section),
    /// The name of a file.
    File,
    Size,
    /// Longer than none.
    Duration,
    DurationOrNone,
    /// A duration, or the word.
    DurationOr(&'static str),
    /// At least 1.
    Count,
    CountOrNone,
    /// A number that is not negative.
    Amount,
    /// 0 to 1.
    Share,
    /// Above 0, to 1.
    PositiveShare,
    Flag,
    /// One of these.
    Choice(fn() -> Vec<&'static str>),
    Texts,
    /// A list of some of these.
    Choices(fn() -> Vec<&'static str>),
    Table(&'static Section),
    Tables(&'static Section),
    /// One table, or a list of them.
    OneOrMore(&'static Section),
    /// Tables by names of the user's.
    Named(&'static Section),
}

impl Kind {
    /// What it is called where people read of it.
    fn describe(self) -> String {
        let quoted = |names: Vec<&str>| names.iter().map(|name| format!("`\"{name}\"`")).collect::<Vec<_>>().join(", ");
        match self {
            Kind::Text => "text".into(),
            Kind::Address => "address and port".into(),
            Kind::Url => "URL".into(),
            Kind::File => "name of a file".into(),
            Kind::Size => "size".into(),
            Kind::Duration => "duration".into(),
            Kind::DurationOrNone => "duration, or `\"0s\"`".into(),
            Kind::DurationOr(word) => format!("duration, or `\"{word}\"`"),
            Kind::Count => "whole number, at least 1".into(),
            Kind::CountOrNone => "whole number".into(),
            Kind::Amount => "number, at least 0".into(),
            Kind::Share => "number from 0 to 1".into(),
            Kind::PositiveShare => "number above 0, at most 1".into(),
            Kind::Flag => "`true` or `false`".into(),
            Kind::Choice(names) => format!("one of {}", quoted(names())),
            Kind::Texts => "list of texts".into(),
            Kind::Choices(names) => format!("list of some of {}", quoted(names())),
            Kind::Table(section) => format!("table: {}", link(section)),
            Kind::Tables(section) => format!("list of tables: {}", link(section)),
            Kind::UrlOr(section) => format!("URL, or table: {}", link(section)),
            Kind::OneOrMore(section) => format!("table, or list of tables: {}", link(section)),
            Kind::Named(section) => format!("tables by name: {}", link(section)),
        }
    }

    fn section(self) -> Option<&'static Section> {
        match self {
            Kind::Table(section) | Kind::Tables(section) | Kind::OneOrMore(section) => Some(section),
            Kind::Named(section) | Kind::UrlOr(section) => Some(section),
            _ => None,
        }
    }
}

fn link(section: &Section) -> String {
    let anchor: String =
        section.path.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ' ' | '-')).collect();
    format!("[`{}`](#{})", section.path, anchor.to_lowercase().replace(' ', "-"))
}

/// All tables, each once, those that stand in others behind them.
fn sections() -> Vec<&'static Section> {
    let mut all: Vec<&'static Section> = vec![&keys::ROOT];
    let mut next = 0;
    while let Some(section) = all.get(next).copied() {
        for inner in section.keys().filter_map(|key| key.kind.section()) {
            if !all.iter().any(|known| std::ptr::eq(*known, inner)) {
                all.push(inner);
            }
        }
        next += 1;
    }
    all
}
