//! The committed counts, and the messages about differences.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Number of instructions per item, by path.
pub(crate) type Counts = BTreeMap<String, u64>;

/// Environment variable with which the test stores its counts instead of comparing them.
pub(crate) const ACCEPT_VARIABLE: &str = "ORBIT_ACCEPT_COUNTS";
const ACCEPT: &str = "ORBIT_ACCEPT_COUNTS=true cargo test -p orbit-tests --test instruction_counts";

/// Maximum difference of a count from the expected one, in percent of that.
const TOLERANCE_PERCENT: u64 = 10;

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/instruction_counts.json")
}

/// The counts of all kinds of machines.
fn read() -> BTreeMap<String, Counts> {
    let text = std::fs::read_to_string(file()).expect("the committed counts can be read");
    serde_json::from_str(&text).expect("the committed counts are JSON")
}

/// The counts of a kind of machine.
pub(crate) fn expected(machine: &str) -> Counts {
    let counts = read().remove(machine);
    counts.unwrap_or_else(|| panic!("nobody has counted on {machine} yet; to keep what it counts: {ACCEPT}"))
}

/// Stores counts as the expected ones of a kind of machine.
pub(crate) fn accept(machine: &str, counts: Counts) {
    let mut all = read();
    all.insert(machine.to_owned(), counts);
    let mut text = serde_json::to_string_pretty(&all).expect("counts are JSON");
    text.push('\n');
    std::fs::write(file(), text).expect("the committed counts can be written");
}

/// One sentence for each path whose count differs from the expected one.
pub(crate) fn compare(counted: &Counts, expected: &Counts) -> Vec<String> {
    let paths = counted.keys().chain(expected.keys()).collect::<std::collections::BTreeSet<_>>();
    paths.into_iter().filter_map(|path| judge(path, counted.get(path), expected.get(path))).collect()
}

fn judge(path: &str, counted: Option<&u64>, expected: Option<&u64>) -> Option<String> {
    let (counted, expected) = match (counted, expected) {
        (Some(&counted), Some(&expected)) => (counted, expected),
        (Some(counted), None) => {
            return Some(format!(
                "{path}: {counted} instructions an item, and no number is expected; {ACCEPT}"
            ));
        }
        (None, _) => return Some(format!("{path}: a number is expected and nothing counts it; {ACCEPT}")),
    };
    let advice = if 100 * counted > (100 + TOLERANCE_PERCENT) * expected {
        "It became dearer. Find out why; if it is worth that, accept the new number"
    } else if 100 * counted < (100 - TOLERANCE_PERCENT) * expected {
        "It became cheaper. Lower the number, so that it stays so"
    } else {
        return None;
    };
    let change = (counted as f64 / expected as f64 - 1.0) * 100.0;
    Some(format!(
        "{path}: {counted} instructions an item ({change:+.1} %), expected {expected} within {TOLERANCE_PERCENT} %. \
         {advice}: {ACCEPT}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(&str, u64)]) -> Counts {
        counts.iter().map(|&(path, count)| (path.to_owned(), count)).collect()
    }

    #[test]
    fn a_count_within_the_tolerance_is_not_reported() {
        let expected = counts(&[("dearer", 1000), ("cheaper", 1000), ("same", 1000)]);
        let counted = counts(&[("dearer", 1100), ("cheaper", 900), ("same", 1000)]);
        assert_eq!(compare(&counted, &expected), Vec::<String>::new());
    }

    #[test]
    fn a_count_beyond_the_tolerance_is_reported_with_numbers_and_advice() {
        let said = compare(&counts(&[("core", 1101)]), &counts(&[("core", 1000)])).concat();
        for part in ["core: 1101 ", "+10.1 %", "expected 1000 within 10 %", "dearer", ACCEPT] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
        let said = compare(&counts(&[("log", 899)]), &counts(&[("log", 1000)])).concat();
        for part in ["log: 899 ", "-10.1 %", "expected 1000 within 10 %", "cheaper", ACCEPT] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
    }

    #[test]
    fn a_path_that_is_only_counted_or_only_expected_is_named() {
        let said = compare(&counts(&[("new", 1)]), &counts(&[("old", 1)]));
        assert_eq!(said.len(), 2);
        assert!(said[0].starts_with("new: ") && said[1].starts_with("old: "), "{said:?}");
    }

    #[test]
    fn the_command_sets_the_variable_that_is_read() {
        assert!(ACCEPT.starts_with(&format!("{ACCEPT_VARIABLE}=")));
    }
}
