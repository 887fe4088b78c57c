//! Tables for people: columns as wide as what is in them, and on a terminal no wider than that.

use crate::environment::variable;
use std::io::{IsTerminal, stdout};

/// Characters that a column keeps where there is too little room.
const SHORTENED_MIN: usize = 12;
/// Between columns.
const GAP: &str = "  ";

/// How a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// To the left.
    Left,
    /// To the right, as numbers are.
    Right,
    /// To the left, and shortened where the terminal is too narrow.
    Shortened,
}

/// Rows of text in columns.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    columns: [Column; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table with a row of names.
    pub(crate) fn new(columns: [(&str, Column); N]) -> Self {
        Self { columns: columns.map(|(_, column)| column), rows: vec![columns.map(|(name, _)| name.to_owned())] }
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    /// The lines, at most so wide where that can be done.
    pub(crate) fn lines(&self, width: Option<usize>) -> Vec<String> {
        let mut widths: [usize; N] = std::array::from_fn(|column| self.rows.iter().map(|row| length(&row[column])).max().unwrap_or(0));
        if let Some(width) = width {
            self.narrow(&mut widths, width);
        }
        self.rows.iter().map(|row| self.line(row, &widths)).collect()
    }

    /// Takes from the widest of the columns that may be shortened until all fits.
    fn narrow(&self, widths: &mut [usize; N], width: usize) {
        let gaps = GAP.len() * N.saturating_sub(1);
        let mut excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(width);
        while excess > 0 {
            let may_give = |column: &usize| self.columns[*column] == Column::Shortened && widths[*column] > SHORTENED_MIN;
            let Some(widest) = (0..N).filter(may_give).max_by_key(|column| widths[*column]) else { return };
            widths[widest] -= 1;
            excess -= 1;
        }
    }

    fn line(&self, row: &[String; N], widths: &[usize; N]) -> String {
        let mut line = String::new();
        for ((cell, column), width) in row.iter().zip(self.columns).zip(*widths) {
            if !line.is_empty() {
                line.push_str(GAP);
            }
            line += &match column {
                Column::Right => format!("{cell:>width$}"),
                _ => format!("{:<width$}", shortened(cell, width)),
            };
        }
        line.trim_end().to_owned()
    }
}

/// Characters, as far as a terminal is concerned nearly always.
fn length(text: &str) -> usize {
    text.chars().count()
}

/// The text, with what is too much taken from its middle: the ends of paths tell most.
pub(crate) fn shortened(text: &str, width: usize) -> String {
    let length = length(text);
    if length <= width || width < 3 {
        return text.to_owned();
    }
    let head = (width - 2) / 2;
    let tail = width - 2 - head;
    text.chars().take(head).chain("..".chars()).chain(text.chars().skip(length - tail)).collect()
}

/// The width of the terminal that standard output is; `None` where it is none.
pub(crate) fn terminal_width() -> Option<usize> {
    if !stdout().is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|width| *width > 0)
}

/// Whether lines on standard output may have colours: a terminal that wants them (see no-color.org).
pub(crate) fn has_colours() -> bool {
    let is_dumb = variable("TERM").is_some_and(|terminal| terminal == "dumb");
    stdout().is_terminal() && variable("NO_COLOR").is_none() && !is_dumb
}

/// Green, red, yellow: for what came, went, changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    /// It came, or is well.
    Green,
    /// It went, or failed.
    Red,
    /// It changed, or needs a look.
    Yellow,
}

/// The text in a colour, where there are colours.
pub(crate) fn coloured(text: &str, colour: Colour, has_colours: bool) -> String {
    let code = match colour {
        Colour::Green => 32,
        Colour::Red => 31,
        Colour::Yellow => 33,
    };
    if has_colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_fit_where_they_can() {
        let mut table = Table::new([("id", Column::Left), ("size", Column::Right), ("series", Column::Shortened)]);
        table.push(["1".into(), "12 B".into(), "short".into()]);
        table.push(["22".into(), "7 B".into(), "web:/srv/www/very/long/path/indeed".into()]);
        assert_eq!(table.lines(None), ["id  size  series", "1   12 B  short", "22   7 B  web:/srv/www/very/long/path/indeed"]);
        assert_eq!(table.lines(Some(30)), ["id  size  series", "1   12 B  short", "22   7 B  web:/srv/..th/indeed"]);
        assert_eq!(table.lines(Some(5)).last().unwrap().len(), 10 + SHORTENED_MIN, "it is cut no further");
    }

    #[test]
    fn colours_are_for_terminals() {
        assert_eq!(coloured("+", Colour::Green, false), "+");
        assert_eq!(coloured("+", Colour::Green, true), "\u{1b}[32m+\u{1b}[0m");
    }
}
