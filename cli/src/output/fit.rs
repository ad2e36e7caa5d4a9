//! Fits the columns of a table into a terminal. Pure: widths in, widths out.
//!
//! First the columns that a table names give way, one after the other. Then the last column is wrapped, if it is text.
//! Then the widest texts are shortened in their middle, where a path says least.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// A wrapped column keeps at least this width, in cells of the terminal.
const WRAPPED_MIN: usize = 24;
/// A shortened text keeps at least this width.
const SHORTENED_MIN: usize = 12;
const ELLIPSIS: &str = "…";

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    /// Cells that its widest text takes.
    pub(super) width: usize,
    /// Whether it holds words, which can be wrapped and shortened.
    pub(super) is_text: bool,
    /// Its place among those that give way; the lowest goes first.
    pub(super) gives_way: Option<usize>,
}

/// Returns the width of each column within `room` cells, with `gap` cells between two; `None` for one that is left out.
/// The last resort is a line that is too long: numbers are never shortened, and texts keep [`SHORTENED_MIN`] cells.
pub(super) fn widths(columns: &[Column], room: usize, gap: usize) -> Vec<Option<usize>> {
    let mut widths: Vec<Option<usize>> = columns.iter().map(|column| Some(column.width)).collect();
    let last = columns.len().saturating_sub(1);
    let is_wrapped = columns.last().is_some_and(|column| column.is_text);
    // What the table needs when its last column is wrapped as far as it may be.
    let needed = |widths: &[Option<usize>]| {
        let of_column = |(index, width): (usize, &Option<usize>)| {
            width.map(|width| if index == last && is_wrapped { width.min(WRAPPED_MIN) } else { width })
        };
        total(widths.iter().enumerate().filter_map(of_column), gap)
    };
    if total(widths.iter().flatten().copied(), gap) <= room {
        return widths;
    }
    let mut ways: Vec<usize> =
        (0..columns.len()).filter(|&index| columns[index].gives_way.is_some()).collect();
    ways.sort_by_key(|&index| columns[index].gives_way);
    for index in ways {
        if needed(&widths) <= room {
            break;
        }
        widths[index] = None;
    }
    while needed(&widths) > room {
        let texts =
            (0..columns.len()).filter(|&index| columns[index].is_text && (index != last || !is_wrapped));
        let widest = texts
            .filter_map(|index| Some((widths[index].filter(|width| *width > SHORTENED_MIN)?, index)))
            .max_by_key(|(width, index)| (*width, std::cmp::Reverse(*index)));
        let Some((width, index)) = widest else { break };
        widths[index] =
            Some((width - (needed(&widths) - room).min(width - SHORTENED_MIN)).max(SHORTENED_MIN));
    }
    if is_wrapped && let Some(width) = widths[last] {
        let others = total(widths[..last].iter().flatten().copied().chain([0]), gap);
        widths[last] = Some(width.min(room.saturating_sub(others).max(WRAPPED_MIN)));
    }
    widths
}

fn total(widths: impl Iterator<Item = usize>, gap: usize) -> usize {
    widths.map(|width| width + gap).sum::<usize>().saturating_sub(gap)
}

/// Shortens a text in its middle to at most `width` cells.
pub(super) fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(ELLIPSIS.width());
    let front = take(text.chars(), kept.div_ceil(2));
    let back: String = take(text.chars().rev(), kept / 2).chars().rev().collect();
    format!("{front}{ELLIPSIS}{back}")
}

/// The first characters that fit into `width` cells.
fn take(characters: impl Iterator<Item = char>, width: usize) -> String {
    let mut used = 0;
    characters
        .take_while(|character| {
            used += character.width().unwrap_or(0);
            used <= width
        })
        .collect()
}

/// Breaks a text into lines of at most `width` cells: at spaces, or within a word that is longer than a line.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut rest = word;
        let line = lines.last_mut().expect("there is a line");
        if !line.is_empty() && line.width() + 1 + rest.width() <= width {
            line.push(' ');
            line.push_str(rest);
            continue;
        }
        if !line.is_empty() {
            lines.push(String::new());
        }
        while rest.width() > width {
            let piece = take(rest.chars(), width);
            // A character that is wider than the line still has to go somewhere.
            let end =
                if piece.is_empty() { rest.chars().next().map_or(0, char::len_utf8) } else { piece.len() };
            let (first, later) = rest.split_at(end);
            lines.last_mut().expect("there is a line").push_str(first);
            lines.push(String::new());
            rest = later;
        }
        lines.last_mut().expect("there is a line").push_str(rest);
    }
    lines.retain(|line| !line.is_empty());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(width: usize, is_text: bool, gives_way: Option<usize>) -> Column {
        Column { width, is_text, gives_way }
    }

    #[test]
    fn columns_give_way_in_their_order_and_only_as_far_as_needed() {
        let columns = [
            column(10, true, None),
            column(8, false, Some(1)),
            column(8, false, Some(0)),
            column(5, false, None),
        ];
        let all = |room| widths(&columns, room, 2);
        assert_eq!(all(37), [Some(10), Some(8), Some(8), Some(5)]);
        assert_eq!(all(36), [Some(10), Some(8), None, Some(5)]);
        assert_eq!(all(26), [Some(10), None, None, Some(5)]);
    }

    #[test]
    fn the_last_text_is_wrapped_before_others_are_shortened() {
        let columns = [column(30, true, None), column(4, false, None), column(100, true, None)];
        assert_eq!(widths(&columns, 80, 2), [Some(30), Some(4), Some(42)]);
        assert_eq!(widths(&columns, 50, 2), [Some(18), Some(4), Some(24)]);
        assert_eq!(widths(&columns, 10, 2), [Some(12), Some(4), Some(24)], "numbers are whole");
    }

    #[test]
    fn texts_are_shortened_in_their_middle_and_wrapped_at_spaces() {
        assert_eq!(shorten("star-1:/srv/photos/2026", 12), "star-1…/2026");
        assert_eq!(shorten("short", 12), "short");
        assert_eq!(shorten("写真写真写真", 5), "写…真");
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a abcdefgh b", 3), ["a", "abc", "def", "gh", "b"]);
        assert_eq!(wrap("写真", 1), ["写", "真"]);
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_is_wrapped_is_lost(text in "[a-z写 ]{0,60}", width in 2_usize..20) {
            let lines = wrap(&text, width);
            proptest::prop_assert!(lines.iter().all(|line| line.width() <= width), "{lines:?}");
            let letters = |text: &str| text.chars().filter(|letter| *letter != ' ').collect::<String>();
            proptest::prop_assert_eq!(letters(&lines.join("")), letters(&text));
        }
    }
}
