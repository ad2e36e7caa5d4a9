//! Walks through the pages of a list, up to a limit.

use crate::output::Output;

const PAGE_SIZE_MAX: u64 = 1000;

/// Where a walk stands.
#[derive(Debug)]
pub(crate) struct Pages {
    /// `None`: no limit.
    left: Option<u64>,
    token: String,
    is_first: bool,
    is_done: bool,
    seen: u64,
}

impl Pages {
    /// A walk to at most `limit` elements; 0 for all.
    pub(crate) fn new(limit: u64) -> Self {
        let left = (limit > 0).then_some(limit);
        Self { left, token: String::new(), is_first: true, is_done: false, seen: 0 }
    }

    /// The `page_size` and `page_token` of the next request, or `None` at the end.
    pub(crate) fn next(&self) -> Option<(i32, String)> {
        if self.is_done || self.left == Some(0) {
            return None;
        }
        let size = self.left.unwrap_or(PAGE_SIZE_MAX).min(PAGE_SIZE_MAX);
        Some((i32::try_from(size).expect("a page is at most 1000"), self.token.clone()))
    }

    /// Takes note of a page. Returns whether its table needs headings.
    pub(crate) fn took(&mut self, count: usize, next_page_token: &str) -> bool {
        let count = count as u64;
        self.seen += count;
        self.left = self.left.map(|left| left.saturating_sub(count));
        self.is_done = next_page_token.is_empty();
        next_page_token.clone_into(&mut self.token);
        // A page of a filtered list may be empty and yet not be the last.
        let needs_headings = self.is_first && count > 0;
        self.is_first &= count == 0;
        needs_headings
    }

    /// Says on standard error that there was nothing, or that there is more.
    pub(crate) fn note_end(&self, output: &Output, nothing: &str) {
        if !self.is_done {
            output.note(&format!("There are more than these {}; --limit 0 shows all.", self.seen));
        } else if self.seen == 0 && !output.is_json() {
            output.note(nothing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_ends_with_the_last_page_or_at_its_limit() {
        let mut pages = Pages::new(1500);
        assert_eq!(pages.next(), Some((1000, String::new())));
        assert!(pages.took(1000, "a"));
        assert_eq!(pages.next(), Some((500, "a".to_owned())));
        assert!(!pages.took(500, "b"));
        assert_eq!(pages.next(), None);

        let mut all = Pages::new(0);
        assert!(!all.took(0, "a"), "an empty page is not the last one");
        assert!(all.took(3, ""));
        assert_eq!(all.next(), None);
    }
}
