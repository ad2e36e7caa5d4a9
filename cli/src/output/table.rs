//! Plain aligned text: no frames, no colours, columns as wide as their widest cell on a terminal.

use unicode_width::UnicodeWidthStr as _;

use crate::output::human;

/// On which side a column's cells are filled up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Words: filled up on the right.
    Left,
    /// Numbers: filled up on the left.
    Right,
}

/// Rows under headings.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings; one that starts with `>` has its column flush right.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        let column = |heading: &&'static str| match heading.strip_prefix('>') {
            Some(heading) => (heading, Side::Right),
            None => (*heading, Side::Left),
        };
        Self { columns: headings.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row. Control characters are escaped: a file name must not steer the terminal.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().map(|cell| human::plain(&cell)).collect();
        assert_eq!(cells.len(), self.columns.len(), "a row has a cell for every heading");
        self.rows.push(cells);
    }

    /// The table as text without a line break at its end; nothing when it has no rows.
    pub(crate) fn render(&self, has_headings: bool) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let headings: Vec<String> = self.columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|index| self.rows.iter().chain([&headings]).map(|row| row[index].width()).max().unwrap_or(0))
            .collect();
        let lines = has_headings.then_some(&headings).into_iter().chain(&self.rows);
        lines.map(|cells| self.render_line(cells, &widths)).collect::<Vec<_>>().join("\n")
    }

    fn render_line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, width), (_, side)) in cells.iter().zip(widths).zip(&self.columns) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            let fill = " ".repeat(width.saturating_sub(cell.width()));
            match side {
                Side::Left => line.extend([cell.as_str(), &fill]),
                Side::Right => line.extend([&fill, cell.as_str()]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Names and values under each other, values flush.
pub(crate) fn details(pairs: &[(&str, String)]) -> String {
    let shown: Vec<_> = pairs.iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = shown.iter().map(|(name, _)| name.width()).max().unwrap_or(0);
    let lines: Vec<String> =
        shown.iter().map(|(name, value)| format!("{name:width$}  {}", human::plain(value))).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn columns_line_up_also_with_wide_characters() {
        let mut table = Table::new(&["NAME", ">SIZE", "NOTE"]);
        table.row(text(&["a", "1", "x"]));
        table.row(text(&["写真", "1,234", ""]));
        table.row(text(&["naïve", "12", "z"]));
        assert_eq!(table.render(true), "NAME    SIZE  NOTE\na          1  x\n写真   1,234\nnaïve     12  z");
        assert!(table.render(false).starts_with("a  "));
    }

    #[test]
    fn a_table_without_rows_is_nothing() {
        assert_eq!(Table::new(&["NAME"]).render(true), "");
    }

    #[test]
    fn a_cell_cannot_steer_the_terminal() {
        let mut table = Table::new(&["NAME"]);
        table.row(text(&["a\x1b[31m\nb"]));
        assert_eq!(table.render(false), "a\\x1b[31m\\x0ab");
    }

    #[test]
    fn details_leave_out_what_is_empty() {
        let pairs = [("state", "running".to_owned()), ("reason", String::new()), ("id", "7".to_owned())];
        assert_eq!(details(&pairs), "state  running\nid     7");
    }
}
