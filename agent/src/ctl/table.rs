//! Tables of text.

use super::screen::{Colour, Screen};

/// A table: a title, columns, and rows of cells.
pub(super) struct Table {
    title: String,
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

/// A column.
pub(super) struct Column {
    head: &'static str,
    align: Align,
}

enum Align {
    Left,
    Right,
    /// Left, with this room at most: a longer cell is shown whole, and the rest of its row goes on in the next line.
    Room(usize),
}

/// Text on the left.
pub(super) const fn text(head: &'static str) -> Column {
    Column { head, align: Align::Left }
}

/// Numbers on the right.
pub(super) const fn number(head: &'static str) -> Column {
    Column { head, align: Align::Right }
}

/// Text that is mostly no longer than this.
pub(super) const fn room(head: &'static str, width: usize) -> Column {
    Column { head, align: Align::Room(width) }
}

/// A cell.
#[derive(Clone)]
pub(super) struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), colour: None }
    }
}

impl Cell {
    /// A cell in a colour.
    pub(super) fn coloured(text: impl Into<String>, colour: Option<Colour>) -> Self {
        Self { text: text.into(), colour }
    }
}

impl Table {
    /// An empty table.
    pub(super) fn new(title: impl Into<String>, columns: impl Into<Vec<Column>>) -> Self {
        Self { title: title.into(), columns: columns.into(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
    }

    /// The table as text; nothing when it has no rows.
    pub(super) fn render(&self, screen: &Screen) -> String {
        self.rendered(screen, true)
    }

    /// The same without the names of its columns.
    pub(super) fn render_without_head(&self, screen: &Screen) -> String {
        self.rendered(screen, false)
    }

    fn rendered(&self, screen: &Screen, with_head: bool) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let widths: Vec<usize> = (0..self.columns.len()).map(|column| self.width(column)).collect();
        let mut out = String::new();
        if !self.title.is_empty() {
            out = screen.paint(&self.title, Some(Colour::Bold)) + "\n";
        }
        let head: Vec<Cell> = self.columns.iter().map(|column| column.head.into()).collect();
        if with_head {
            self.line(&mut out, &head, &widths, screen);
        }
        self.rows.iter().for_each(|row| self.line(&mut out, row, &widths, screen));
        out
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count());
        let head = self.columns[column].head.len();
        let widest = cells.max().unwrap_or_default().max(head);
        match self.columns[column].align {
            Align::Room(width) => widest.min(width).max(head),
            Align::Left | Align::Right => widest,
        }
    }

    fn line(&self, out: &mut String, cells: &[Cell], widths: &[usize], screen: &Screen) {
        let mut start = 0;
        let mut line = Line::default();
        for ((column, cell), width) in self.columns.iter().zip(cells).zip(widths) {
            if start > 0 && line.columns >= start {
                line.finish(out);
            }
            line.pad_to(start);
            let length = cell.text.chars().count();
            if matches!(column.align, Align::Right) {
                line.pad_to(start + width.saturating_sub(length));
            }
            let last = start + width > screen.width && length > 0;
            let texts = if last {
                wrap(&cell.text, screen.width.saturating_sub(start))
            } else {
                vec![cell.text.clone()]
            };
            for (number, text) in texts.iter().enumerate() {
                if number > 0 {
                    line.finish(out);
                    line.pad_to(start);
                }
                line.push(text, cell.colour, screen);
            }
            start += width + 2;
        }
        line.finish(out);
    }
}

/// A line in the making, with its visible length.
#[derive(Default)]
struct Line {
    text: String,
    columns: usize,
}

impl Line {
    fn pad_to(&mut self, column: usize) {
        let missing = column.saturating_sub(self.columns);
        self.text.extend(std::iter::repeat_n(' ', missing));
        self.columns += missing;
    }

    fn push(&mut self, text: &str, colour: Option<Colour>, screen: &Screen) {
        self.columns += text.chars().count();
        self.text += &screen.paint(text, colour);
    }

    fn finish(&mut self, out: &mut String) {
        *out += std::mem::take(self).text.trim_end();
        out.push('\n');
    }
}

/// Breaks a text at spaces; a word that is too long stays whole.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width.max(20) => {
                *line = format!("{line} {word}");
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
