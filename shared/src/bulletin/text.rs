//! Cuts text from elsewhere to a maximum length, with a mark that the reader sees.

/// The mark at the end of a text that was cut.
const CUT_MARK: &str = "… [cut]";

/// `text`, or as much of its beginning as fits into `bytes_max` bytes together with a mark that the rest is missing.
///
/// The cut is at a character boundary. If the mark alone is longer than `bytes_max`, it is returned all the same, since
/// a text that ends for no visible reason is worse than one that is a few bytes too long.
pub fn truncate_visibly(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut end = bytes_max.saturating_sub(CUT_MARK.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{CUT_MARK}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_within_its_bound_is_untouched() {
        assert_eq!(truncate_visibly("disk full", 9), "disk full");
    }

    #[test]
    fn a_cut_text_fits_its_bound_and_says_so() {
        let text = truncate_visibly(&"x".repeat(100), 20);
        assert_eq!(text.len(), 20);
        assert!(text.ends_with(CUT_MARK));
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        for bytes_max in CUT_MARK.len()..40 {
            let text = truncate_visibly(&"é€😀".repeat(10), bytes_max);
            assert!(text.len() <= bytes_max, "{bytes_max}: {text}");
        }
    }
}
