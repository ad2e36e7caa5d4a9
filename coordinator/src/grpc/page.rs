//! Pages: bounds in rows and in bytes, and tokens that name where the next page starts.
//!
//! A token is the last key of the page before, in hexadecimal behind the name of its list, so that a token of one list
//! is refused by another.

use prost::Message;

use crate::core::Violation;

const PAGE_SIZE_DEFAULT: usize = 50;
const PAGE_SIZE_MAX: i32 = 1000;

/// Encoded bytes of one page. A row that is larger is a page by itself.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// The rows of one page, made one by one, and whether there are more.
pub(super) fn fill<T: Message>(rows: impl IntoIterator<Item = T>, size: usize) -> (Vec<T>, bool) {
    fill_by(rows, size, Message::encoded_len)
}

/// The same for rows of which this says how many bytes they have.
pub(super) fn fill_by<T>(
    rows: impl IntoIterator<Item = T>,
    size: usize,
    weigh: impl Fn(&T) -> usize,
) -> (Vec<T>, bool) {
    let (mut page, mut bytes) = (Vec::new(), 0_usize);
    for row in rows {
        bytes = bytes.saturating_add(weigh(&row));
        if page.len() == size || (bytes > PAGE_BYTES_MAX && !page.is_empty()) {
            return (page, true);
        }
        page.push(row);
    }
    (page, false)
}

/// The number of rows that a request asks for.
pub(super) fn page_size(field: &str, asked: i32) -> Result<usize, Violation> {
    match asked {
        0 => Ok(PAGE_SIZE_DEFAULT),
        1..=PAGE_SIZE_MAX => Ok(usize::try_from(asked).unwrap_or(PAGE_SIZE_DEFAULT)),
        _ => Err(Violation::new(field, format!("is {asked}, must be 0 (for 50) to {PAGE_SIZE_MAX}"))),
    }
}

/// The token for the page after a key.
pub(super) fn token(list: &str, key: &str) -> String {
    bytes_token(list, key.as_bytes())
}

/// The key in a token; `None` for the first page.
pub(super) fn key(list: &str, token: &str) -> Result<Option<String>, Violation> {
    let Some(bytes) = bytes(list, token)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|_| bad())
}

fn bad() -> Violation {
    Violation::new("page_token", "is not a next_page_token of this list; leave it empty for the first page")
}

/// The same, of a key that need not be text.
pub(super) fn bytes(list: &str, token: &str) -> Result<Option<Vec<u8>>, Violation> {
    if token.is_empty() {
        return Ok(None);
    }
    let digits = token.strip_prefix(list).and_then(|rest| rest.strip_prefix('-')).ok_or_else(bad)?;
    if digits.len() % 2 != 0 || !digits.is_ascii() {
        return Err(bad());
    }
    let byte = |index: usize| u8::from_str_radix(&digits[index..index + 2], 16);
    let bytes: Result<Vec<u8>, _> = (0..digits.len()).step_by(2).map(byte).collect();
    bytes.map(Some).map_err(|_| bad())
}

/// The token for the page after a key that need not be text.
pub(super) fn bytes_token(list: &str, key: &[u8]) -> String {
    let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{list}-{digits}")
}

/// The key in a token, parsed.
pub(super) fn parsed_key<T: std::str::FromStr>(list: &str, token: &str) -> Result<Option<T>, Violation> {
    let Some(text) = key(list, token)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_its_key_back_to_its_own_list_only() {
        let made = token("stars", "star-1");
        assert_eq!(key("stars", &made).expect("its own"), Some("star-1".to_owned()));
        assert!(key("jobs", &made).is_err());
        assert_eq!(key("jobs", "").expect("the first page"), None);
    }

    #[test]
    fn a_hostile_token_is_refused() {
        for token in ["x", "stars", "stars-", "stars-1", "stars-zz", "stars-é", "stars-ff", "stars-+1"] {
            let parsed = parsed_key::<u64>("stars", token);
            assert!(parsed.is_err(), "{token:?} gave {parsed:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_token_or_is_refused(text in "(stars-)?([0-9a-f+é]{0,24}|\\PC{0,12})", made_of in "\\PC{0,40}") {
            // The refusal names the field.
            if let Err(violation) = parsed_key::<u64>("stars", &text) {
                proptest::prop_assert_eq!(violation.field, "page_token");
            }
            let _ = parsed_key::<orbit_shared::words::ItemId>("stars", &text);
            let read = key("stars", &token("stars", &made_of));
            proptest::prop_assert_eq!(read.unwrap(), Some(made_of));
        }
    }

    #[test]
    fn a_page_has_at_most_so_many_rows_and_bytes() {
        let rows = |count: usize, bytes: usize| (0..count).map(move |_| "x".repeat(bytes));
        let counts = |(page, has_more): (Vec<String>, bool)| (page.len(), has_more);
        assert_eq!(counts(fill(rows(3, 10), 3)), (3, false));
        assert_eq!(counts(fill(rows(4, 10), 3)), (3, true));
        assert_eq!(counts(fill(rows(1000, 100_000), 1000)), (10, true));
        assert_eq!(counts(fill(rows(2, 2 * PAGE_BYTES_MAX), 10)), (1, true), "a page is never empty");
    }

    #[test]
    fn page_sizes_have_bounds() {
        assert_eq!(page_size("page_size", 0).expect("default"), 50);
        assert_eq!(page_size("page_size", 1000).expect("max"), 1000);
        assert!(page_size("page_size", 1001).is_err() && page_size("page_size", -1).is_err());
    }
}
