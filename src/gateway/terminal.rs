//! What commands print for people: tables, and colours where there is a terminal to show them.

use std::io::IsTerminal;

/// Whether what is printed may have colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Paint {
    /// Text and nothing else.
    Plain,
    /// With the escape codes of a terminal.
    Coloured,
}

/// What a word is meant to look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    Strong,
    Faint,
    Good,
    Doubtful,
    Bad,
}

impl Paint {
    /// Colours where standard output is a terminal, unless the environment says [`NO_COLOR`](https://no-color.org).
    #[must_use]
    pub fn of_output() -> Self {
        Self::of(std::io::stdout().is_terminal())
    }

    /// The same of standard error.
    #[must_use]
    pub fn of_errors() -> Self {
        Self::of(std::io::stderr().is_terminal())
    }

    fn of(is_terminal: bool) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if is_terminal && !unwanted { Paint::Coloured } else { Paint::Plain }
    }

    pub(super) fn word(self, look: Look, text: &str) -> String {
        let code = match (self, look) {
            (Paint::Plain, _) | (_, Look::Plain) => return text.to_owned(),
            (_, Look::Strong) => "1",
            (_, Look::Faint) => "2",
            (_, Look::Good) => "32",
            (_, Look::Doubtful) => "33",
            (_, Look::Bad) => "31",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// One cell of a table.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    look: Look,
}

impl Cell {
    pub(super) fn new(look: Look, text: impl Into<String>) -> Self {
        Cell { text: text.into(), look }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell::new(Look::Plain, text)
    }
}

/// On which side of their columns cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Lines of cells in columns, each indented by two, with a head over them.
pub(super) fn table(paint: Paint, columns: &[(&str, Align)], rows: &[Vec<Cell>]) -> String {
    let head = columns.iter().map(|(name, _)| Cell::new(Look::Faint, *name)).collect();
    let rows: Vec<&Vec<Cell>> = std::iter::once(&head).chain(rows).collect();
    let length = |cell: &Cell| cell.text.chars().count();
    let widths: Vec<_> = (0..columns.len())
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(length).max().unwrap_or_default())
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), (_, align)) in row.iter().zip(&widths).zip(columns) {
            let padding = " ".repeat(width - length(cell));
            let word = paint.word(cell.look, &cell.text);
            line.push_str("  ");
            line.push_str(&if *align == Align::Left { word + &padding } else { padding + &word });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_stands_in_them() {
        let rows = [vec!["a".into(), "1".into()], vec![Cell::new(Look::Good, "b\u{e4}\u{e4}"), "1000".into()]];
        let columns = [("x", Align::Left), ("number", Align::Right)];
        let plain = table(Paint::Plain, &columns, &rows);
        assert_eq!(plain, "  x    number\n  a         1\n  b\u{e4}\u{e4}    1000\n");
        let coloured = table(Paint::Coloured, &columns, &rows);
        assert!(coloured.contains("\u{1b}[32mb\u{e4}\u{e4}\u{1b}[0m    1000"), "{coloured:?}");
    }
}
