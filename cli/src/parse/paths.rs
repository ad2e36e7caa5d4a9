//! Lists of paths that a job is to move, read from a file.

use std::io::Read as _;
use std::path::Path;

use crate::errors::CliError;

/// Paths of one job. More of them are better named by their directories or by globs.
const PATHS_MAX: usize = 1000;
/// Bytes of a list.
const LIST_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Reads a list, one path below the source a line, and gives a glob for each that matches it and nothing else. Empty lines
/// are passed over.
///
/// # Errors
/// When it cannot be read, names nothing, or too much.
pub(crate) fn globs_of_list(list: &Path) -> Result<Vec<String>, CliError> {
    let shown = list.display();
    let mut text = String::new();
    let read = if list == Path::new("-") {
        std::io::stdin().lock().take(LIST_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(list).and_then(|file| file.take(LIST_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| CliError::Usage(format!("--files-from {shown} cannot be read: {error}")))?;
    let globs: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(glob_of).collect();
    match globs.len() {
        0 => Err(CliError::Usage(format!("--files-from {shown} names nothing, so nothing would be moved"))),
        1..=PATHS_MAX => Ok(globs),
        count => Err(CliError::Usage(format!(
            "--files-from {shown} names {count} paths, at most {PATHS_MAX} are possible: name directories, or use --include"
        ))),
    }
}

/// A glob that matches one path below the source.
fn glob_of(path: &str) -> String {
    let path = path.strip_prefix("./").unwrap_or(path).trim_start_matches('/');
    let mut glob = String::from("/");
    for character in path.chars() {
        if "\\*?[]{}!# ".contains(character) {
            glob.push('\\');
        }
        glob.push(character);
    }
    glob
}

#[cfg(test)]
mod tests {
    use orbit_shared::filter::{FileLimits, Filter};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_path_of_a_list_matches_itself_and_no_other(
            path in "[a-c*?\\[\\]{}!# \\\\.]{0,4}[a-c*?\\[\\]{}!#\\\\]",
            other in "[a-c*?\\[\\]{}!# \\\\.]{0,4}[a-c*?\\[\\]{}!#\\\\]",
        ) {
            let filter = Filter::new(&[glob_of(&path)], &[], FileLimits::default()).unwrap();
            prop_assert!(filter.is_included(path.as_bytes(), false), "{path:?} by {:?}", glob_of(&path));
            prop_assert_eq!(filter.is_included(other.as_bytes(), false), path == other);
        }
    }

    #[test]
    fn a_list_that_is_missing_or_empty_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let list = directory.path().join("list");
        assert!(globs_of_list(&list).is_err());
        std::fs::write(&list, "\n\n").unwrap();
        assert!(globs_of_list(&list).is_err());
        std::fs::write(&list, "a/b c.jpg\n./d\n").unwrap();
        assert_eq!(globs_of_list(&list).unwrap(), ["/a/b\\ c.jpg", "/d"]);
        std::fs::write(&list, "x\n".repeat(1001)).unwrap();
        assert!(globs_of_list(&list).is_err());
    }
}
