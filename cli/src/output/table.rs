//! Aligned text: no frames, columns as wide as their widest cell, headings dim, and states in the colour of what they
//! mean. On a terminal that is too narrow, columns give way (`fit.rs`); what goes into a pipe or a file is whole.

use anstyle::Style;
use unicode_width::UnicodeWidthStr as _;

use crate::output::fit::{self, Column};
use crate::output::human;
use crate::output::tone::{self, Tone};

/// Between two columns.
const GAP: &str = "  ";

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
    rows: Vec<Vec<Cell>>,
    /// Headings of the columns that are left out where there is no room, the first one first.
    gives_way: &'static [&'static str],
}

/// Plain text, and what it means.
#[derive(Debug)]
struct Cell {
    text: String,
    tone: Tone,
}

/// A row that was just added.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    columns: &'a [(&'static str, Side)],
    cells: &'a mut [Cell],
}

impl Row<'_> {
    /// Says what the cell under a heading means.
    pub(crate) fn tone(self, heading: &str, tone: Tone) -> Self {
        let index = self.columns.iter().position(|(name, _)| *name == heading);
        self.cells[index.expect("callers name headings of the table")].tone = tone;
        self
    }
}

impl Table {
    /// A table with these headings; one that starts with `>` has its column flush right.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        let column = |heading: &&'static str| match heading.strip_prefix('>') {
            Some(heading) => (heading, Side::Right),
            None => (*heading, Side::Left),
        };
        Self { columns: headings.iter().map(column).collect(), rows: Vec::new(), gives_way: &[] }
    }

    /// Names the columns that are left out on a narrow terminal, the first one first.
    pub(crate) fn gives_way(mut self, headings: &'static [&'static str]) -> Self {
        self.gives_way = headings;
        self
    }

    /// Adds a row. Control characters are escaped: a file name must not steer the terminal.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) -> Row<'_> {
        let cell = |text: String| Cell { text: human::plain(&text), tone: Tone::Plain };
        let cells: Vec<Cell> = cells.into_iter().map(cell).collect();
        assert_eq!(cells.len(), self.columns.len(), "a row has a cell for every heading");
        self.rows.push(cells);
        let cells = self.rows.last_mut().expect("a row was just added");
        Row { columns: &self.columns, cells }
    }

    /// The table as text without a line break at its end; nothing when it has no rows. As wide as it needs to be, unless
    /// standard output is a terminal that is narrower.
    pub(crate) fn render(&self, has_headings: bool) -> String {
        self.render_within(super::terminal_width(), has_headings)
    }

    fn render_within(&self, room: Option<usize>, has_headings: bool) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let columns: Vec<Column> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, (heading, side))| Column {
                width: self
                    .rows
                    .iter()
                    .map(|row| row[index].text.width())
                    .max()
                    .unwrap_or(0)
                    .max(heading.width()),
                is_text: *side == Side::Left,
                gives_way: self.gives_way.iter().position(|name| name == heading),
            })
            .collect();
        let widths = match room {
            Some(room) => fit::widths(&columns, room, GAP.len()),
            None => columns.iter().map(|column| Some(column.width)).collect(),
        };
        let headings =
            self.columns.iter().map(|(heading, _)| ((*heading).to_owned(), tone::HEADING)).collect();
        let headings: Vec<Vec<(String, Style)>> = if has_headings { vec![headings] } else { Vec::new() };
        let rows = self
            .rows
            .iter()
            .map(|row| row.iter().map(|cell| (cell.text.clone(), cell.tone.style())).collect());
        let lines = headings.into_iter().chain(rows);
        lines.map(|cells: Vec<_>| self.render_row(&cells, &widths)).collect::<Vec<_>>().join("\n")
    }

    /// A row: one line, or several if the text of its last column is wrapped.
    fn render_row(&self, cells: &[(String, Style)], widths: &[Option<usize>]) -> String {
        let shown = cells.iter().zip(widths).zip(&self.columns);
        let shown: Vec<_> =
            shown.filter_map(|((cell, width), (_, side))| Some((cell, (*width)?, *side))).collect();
        let mut line = String::new();
        let mut indent = 0;
        let last = shown.len().saturating_sub(1);
        for (index, ((text, style), width, side)) in shown.into_iter().enumerate() {
            if index > 0 {
                line.push_str(GAP);
                indent += GAP.len();
            }
            if index == last && side == Side::Left && text.width() > width {
                let wrapped = fit::wrap(text, width);
                let pieces: Vec<String> = wrapped.iter().map(|piece| tone::paint(*style, piece)).collect();
                line.push_str(&pieces.join(&format!("\n{}", " ".repeat(indent))));
                continue;
            }
            let text = fit::shorten(text, width);
            let fill = " ".repeat(width.saturating_sub(text.width()));
            let text = tone::paint(*style, &text);
            match side {
                Side::Left => line.extend([text.as_str(), &fill]),
                Side::Right => line.extend([&fill, text.as_str()]),
            }
            indent += width;
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Names and values under each other, values flush; `tones` says by name what values mean.
pub(crate) fn details(pairs: &[(&str, String)], tones: &[(&str, Tone)]) -> String {
    let shown: Vec<_> = pairs.iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = shown.iter().map(|(name, _)| name.width()).max().unwrap_or(0);
    let line = |(name, value): &&(&str, String)| {
        let tone = tones.iter().find(|(toned, _)| toned == name).map_or(Tone::Plain, |(_, tone)| *tone);
        let fill = " ".repeat(width - name.width());
        format!("{}{fill}  {}", tone::paint(tone::HEADING, name), tone.paint(&human::plain(value)))
    };
    shown.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    /// What is left where nobody sees colours.
    fn stripped(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn columns_line_up_also_with_wide_characters() {
        let mut table = Table::new(&["NAME", ">SIZE", "NOTE"]);
        table.row(text(&["a", "1", "x"]));
        table.row(text(&["写真", "1,234", ""]));
        table.row(text(&["naïve", "12", "z"]));
        let shown = stripped(&table.render(true));
        assert_eq!(shown, "NAME    SIZE  NOTE\na          1  x\n写真   1,234\nnaïve     12  z");
        assert!(table.render(false).starts_with("a  "));
    }

    #[test]
    fn colours_take_no_room_and_mean_what_the_row_says() {
        let mut table = Table::new(&["NAME", "STATE", ">DEAD"]);
        table.row(text(&["a", "alive", "0"])).tone("STATE", Tone::Good).tone("DEAD", Tone::Plain);
        table.row(text(&["b", "lost", "12"])).tone("STATE", Tone::Bad).tone("DEAD", Tone::Bad);
        table.row(text(&["c", "", "1"])).tone("STATE", Tone::Warning);
        let shown = table.render(true);
        assert_eq!(
            shown,
            "\x1b[2mNAME\x1b[0m  \x1b[2mSTATE\x1b[0m  \x1b[2mDEAD\x1b[0m\n\
             a     \x1b[32malive\x1b[0m     0\n\
             b     \x1b[31mlost\x1b[0m     \x1b[31m12\x1b[0m\n\
             c               1"
        );
        assert_eq!(
            stripped(&shown),
            "NAME  STATE  DEAD\na     alive     0\nb     lost     12\nc               1"
        );
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
        table.row(text(&["c\x1b[0m"])).tone("NAME", Tone::Bad);
        assert!(table.render(false).ends_with("\x1b[31mc\\x1b[0m\x1b[0m"), "{:?}", table.render(false));
    }

    #[test]
    fn details_leave_out_what_is_empty() {
        let pairs = [("state", "lost".to_owned()), ("reason", String::new()), ("id", "7".to_owned())];
        let shown = details(&pairs, &[("state", Tone::Bad)]);
        assert_eq!(shown, "\x1b[2mstate\x1b[0m  \x1b[31mlost\x1b[0m\n\x1b[2mid\x1b[0m     7");
        assert_eq!(stripped(&shown), "state  lost\nid     7");
    }

    #[test]
    fn a_table_fits_a_narrow_terminal() {
        let mut table = Table::new(&["JOB", "STATE", ">ITEMS", "FROM", "TO"]).gives_way(&["ITEMS"]);
        table.row(text(&[
            "7",
            "completed",
            "1,234",
            "star-1:/srv/photos/2026",
            "star-2:/backup star-3:/backup",
        ]));
        let whole = stripped(&table.render_within(Some(80), true));
        assert!(whole.contains("1,234") && whole.lines().count() == 2, "{whole}");
        for room in [70, 60, 54] {
            let shown = stripped(&table.render_within(Some(room), true));
            assert!(shown.lines().all(|line| line.width() <= room), "{room}:\n{shown}");
            assert!(!shown.contains("ITEMS") && shown.contains("completed"), "{room}:\n{shown}");
            assert!(shown.contains("star-2:/backup"), "{room}:\n{shown}");
        }
        assert_eq!(
            stripped(&table.render_within(None, true)),
            stripped(&table.render_within(Some(200), true)),
            "a pipe gets everything"
        );
    }
}
