//! Which entries a job moves, by gitignore-style globs and by a list of paths.
//!
//! - An entry that an exclude glob matches is left out. If it is a directory, so is everything below it, without being
//!   listed. A later glob that starts with `!` cancels an exclusion, as in a `.gitignore`.
//! - With include globs or listed paths, an entry is kept only if one of them matches it or a directory above it, or if
//!   it is a directory above a kept entry. A directory below which nothing could match is not opened. The base itself
//!   is always kept.
//! - Of the kept entries, regular files outside the limits of size and age are left out ([`FileLimits`]).
//!
//! The coordinator refuses a job with globs that cannot be parsed here, and the Star that scans uses the same parser.
//! The Star reports which of them have matched, so that a mistyped one is noticed.

mod glob;
mod set;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use self::glob::Glob;
use self::set::GlobSet;
use crate::entry::{Entry, EntryKind, display_path, is_confined};
use crate::time::WallTime;

/// Maximum length of one glob, in bytes.
pub const GLOB_BYTES_MAX: usize = 4096;

/// Which regular files a job moves, by size and modification time. Both ends of each range are included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLimits {
    /// Minimum size in bytes.
    pub min_size: u64,
    /// Maximum size in bytes; `None` for no limit.
    pub max_size: Option<u64>,
    /// Earliest modification time; `None` for no limit.
    pub modified_after: Option<WallTime>,
    /// Latest modification time; `None` for no limit.
    pub modified_before: Option<WallTime>,
}

impl FileLimits {
    /// Whether an entry is within the limits. An entry that is not a regular file always is.
    pub fn admit(&self, entry: &Entry) -> bool {
        let EntryKind::File { size } = entry.kind else { return true };
        size >= self.min_size
            && self.max_size.is_none_or(|max| size <= max)
            && self.modified_after.is_none_or(|after| entry.modified >= after)
            && self.modified_before.is_none_or(|before| entry.modified <= before)
    }
}

/// The globs, paths and limits of one scan.
#[derive(Debug)]
pub struct Filter {
    include: GlobSet,
    include_count: usize,
    exclude: GlobSet,
    exclude_count: usize,
    /// The listed paths, each with its index in the list and whether it was found.
    paths: BTreeMap<Vec<u8>, (usize, AtomicBool)>,
    limits: FileLimits,
}

impl Filter {
    /// Parses the globs.
    ///
    /// # Errors
    /// A text that says which glob is malformed.
    pub fn new(include: &[String], exclude: &[String], limits: FileLimits) -> Result<Self, String> {
        let parsed = |which: &str, globs: &[String]| {
            parse(globs).map_err(|problem| format!("of the {which} globs, {problem}"))
        };
        Ok(Self {
            include: parsed("include", include)?,
            include_count: include.len(),
            exclude: parsed("exclude", exclude)?,
            exclude_count: exclude.len(),
            paths: BTreeMap::new(),
            limits,
        })
    }

    /// Adds paths below the base, each with everything below it.
    #[must_use]
    pub fn with_paths(self, paths: &[Vec<u8>]) -> Self {
        let places = paths.iter().cloned().zip((0..).map(|index| (index, AtomicBool::new(false))));
        Self { paths: places.collect(), ..self }
    }

    /// Whether a file is kept by its path: no directory above it is excluded, and it or one above it is included.
    pub fn keeps_file(&self, path: &[u8]) -> bool {
        if path.is_empty() {
            return true;
        }
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        let mut is_included = self.is_included(b"", true);
        for directory in ends.map(|end| &path[..end]) {
            if self.is_excluded(directory, true) {
                return false;
            }
            is_included |= self.is_included(directory, true);
        }
        !self.is_excluded(path, false) && (is_included || self.is_included(path, false))
    }

    /// Whether an entry is within the limits of size and age.
    pub fn admits(&self, entry: &Entry) -> bool {
        self.limits.admit(entry)
    }

    /// Whether an entry, with everything below it, is excluded.
    pub fn is_excluded(&self, path: &[u8], is_directory: bool) -> bool {
        self.exclude.is_match(path, is_directory)
    }

    /// Whether an entry is included, with everything below it.
    pub fn is_included(&self, path: &[u8], is_directory: bool) -> bool {
        let is_listed = self.note_path(path);
        let is_matched = self.include_count > 0 && self.include.is_match(path, is_directory);
        is_listed || is_matched || (self.include_count == 0 && self.paths.is_empty())
    }

    /// Records that an entry exists which may be a listed path. Below an included directory, [`Self::is_included`] is
    /// not called.
    pub fn note_path(&self, path: &[u8]) -> bool {
        let Some((_, is_found)) = self.paths.get(path) else { return false };
        is_found.store(true, Ordering::Relaxed);
        true
    }

    /// Whether anything below a directory that is not itself included can be included.
    pub fn may_include_below(&self, directory: &[u8]) -> bool {
        let is_unselective = self.include_count == 0 && self.paths.is_empty();
        is_unselective || self.leads_to_path(directory) || self.include.may_match_below(directory)
    }

    fn leads_to_path(&self, directory: &[u8]) -> bool {
        if directory.is_empty() {
            return !self.paths.is_empty();
        }
        let mut below = directory.to_vec();
        below.push(b'/');
        let mut behind = self.paths.range::<[u8], _>((Bound::Included(below.as_slice()), Bound::Unbounded));
        behind.next().is_some_and(|(path, _)| path.starts_with(&below))
    }

    /// Which of its parts have matched so far, in ascending order: the include globs count from 0; the exclude globs
    /// follow, and then the listed paths.
    pub fn matched(&self) -> Vec<u32> {
        let excluded = self.exclude.matched().map(|index| self.include_count + index);
        let first_path = self.include_count + self.exclude_count;
        let found = self.paths.values().filter(|(_, is_found)| is_found.load(Ordering::Relaxed));
        let mut paths: Vec<usize> = found.map(|(index, _)| first_path + index).collect();
        paths.sort_unstable();
        let all = self.include.matched().chain(excluded).chain(paths);
        all.filter_map(|index| u32::try_from(index).ok()).collect()
    }
}

/// What is wrong with one glob, as text that follows its name.
pub fn glob_problem(glob: &str) -> Option<String> {
    if glob.len() > GLOB_BYTES_MAX {
        return Some(format!("is longer than {GLOB_BYTES_MAX} bytes"));
    }
    Glob::parse(glob).err()
}

/// What is wrong with the globs, if anything is.
pub fn globs_problem(globs: &[String]) -> Option<String> {
    parse(globs).err()
}

/// What is wrong with include globs each of which may be right.
pub fn includes_problem(globs: &[String]) -> Option<String> {
    let is_empty = !globs.is_empty() && globs.iter().all(|glob| glob.starts_with('!'));
    is_empty.then(|| "only take back what others include, so that nothing would be included".to_owned())
}

/// What is wrong with a listed path, as text that follows it.
pub fn path_problem(path: &[u8]) -> Option<String> {
    if path.len() > GLOB_BYTES_MAX {
        return Some(format!("is longer than {GLOB_BYTES_MAX} bytes"));
    }
    (!is_confined(path)).then(|| {
        format!("is {}, must be a path below the source without empty names, . and ..", display_path(path))
    })
}

fn parse(globs: &[String]) -> Result<GlobSet, String> {
    let parsed = globs.iter().map(|glob| match glob_problem(glob) {
        Some(problem) => Err(format!("{glob:?} {problem}")),
        None => Glob::parse(glob).map_err(|problem| format!("{glob:?} {problem}")),
    });
    Ok(GlobSet::new(parsed.collect::<Result<_, _>>()?))
}

/// A glob that matches exactly this name or path. It is anchored if the path starts with a slash.
pub fn literal_glob(path: &[u8]) -> String {
    let mut glob = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            if matches!(character, '*' | '?' | '[' | ']' | '{' | '}' | '\\' | '!') {
                glob.push('\\');
            }
            glob.push(character);
        }
        for byte in chunk.invalid() {
            glob.push_str(&format!("\\x{byte:02x}"));
        }
    }
    glob
}

/// A glob as text, from the bytes of a command line. Bytes that are not text become `\xNN`.
pub fn glob_from_bytes(bytes: &[u8]) -> String {
    let mut glob = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        glob.push_str(chunk.valid());
        for byte in chunk.invalid() {
            glob.push_str(&format!("\\x{byte:02x}"));
        }
    }
    glob
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn globs(globs: &[&str]) -> Vec<String> {
        globs.iter().map(|&glob| glob.to_owned()).collect()
    }

    #[test]
    fn limits_are_about_regular_files_and_include_their_ends() {
        let file = |size, seconds| Entry {
            path: b"f".to_vec(),
            kind: EntryKind::File { size },
            mode: 0o644,
            modified: WallTime { seconds, nanos: 0 },
            rank: 0,
        };
        let day = |seconds| Some(WallTime { seconds, nanos: 0 });
        let limits = FileLimits {
            min_size: 10,
            max_size: Some(20),
            modified_after: day(100),
            modified_before: day(200),
        };
        for (size, seconds, is_wanted) in [
            (10, 100, true),
            (20, 200, true),
            (9, 150, false),
            (21, 150, false),
            (15, 99, false),
            (15, 201, false),
        ] {
            assert_eq!(limits.admit(&file(size, seconds)), is_wanted, "{size} {seconds}");
        }
        assert!(limits.admit(&Entry { kind: EntryKind::Directory, ..file(0, 0) }));
        assert!(FileLimits::default().admit(&file(0, -5)));
    }

    #[test]
    fn excludes_match_like_a_gitignore() {
        let filter =
            Filter::new(&[], &globs(&["*.tmp", "/build/", "!keep.tmp"]), FileLimits::default()).unwrap();
        assert!(filter.is_excluded(b"a/b.tmp", false) && !filter.is_excluded(b"a/keep.tmp", false));
        assert!(filter.is_excluded(b"build", true) && !filter.is_excluded(b"build", false));
        assert!(!filter.is_excluded(b"src/build", true));
        assert!(filter.is_excluded(b"\xff.tmp", false));
    }

    #[test]
    fn a_file_is_kept_by_the_directories_above_it_too() {
        let filter = |include: &[&str], exclude: &[&str], paths: &[&str]| {
            let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
            Filter::new(&globs(include), &globs(exclude), FileLimits::default()).unwrap().with_paths(&paths)
        };
        let kept = filter(&[], &["secret/", "*.key"], &[]);
        assert!(kept.keeps_file(b"a/b") && kept.keeps_file(b"secret") && kept.keeps_file(b""));
        assert!(!kept.keeps_file(b"a/secret/b/c") && !kept.keeps_file(b"a/x.key"));
        let kept = filter(&["photos/"], &["raw/"], &[]);
        assert!(kept.keeps_file(b"a/photos/b/c") && !kept.keeps_file(b"photos/raw/b"));
        assert!(!kept.keeps_file(b"other/b") && !kept.keeps_file(b"photos"));
        let kept = filter(&[], &[], &["a/b", "c"]);
        assert!(kept.keeps_file(b"a/b") && kept.keeps_file(b"a/b/d") && kept.keeps_file(b"c/x"));
        assert!(!kept.keeps_file(b"a/c") && !kept.keeps_file(b"d"));
    }

    #[test]
    fn without_include_globs_everything_is_included() {
        assert!(Filter::new(&[], &[], FileLimits::default()).unwrap().is_included(b"x", false));
        let filter = Filter::new(&globs(&["*.jpg"]), &[], FileLimits::default()).unwrap();
        assert!(filter.is_included(b"a/b.jpg", false) && !filter.is_included(b"a/b.png", false));
    }

    fn is_match(glob: &str, path: &[u8], is_directory: bool) -> bool {
        Filter::new(&[], &globs(&[glob]), FileLimits::default()).unwrap().is_excluded(path, is_directory)
    }

    #[test]
    fn every_byte_of_a_glob_counts() {
        for (glob, name) in [
            ("private ", &b"private "[..]),
            ("tab\t", b"tab\t"),
            ("Icon\r", b"Icon\r"),
            ("wide\u{3000}", "wide\u{3000}".as_bytes()),
            ("nb\u{a0}", "nb\u{a0}".as_bytes()),
            (" ", b" "),
            ("a\nb", b"a\nb"),
            ("#recycle", b"#recycle"),
            ("lat\\xe9", b"lat\xe9"),
            ("\\!x", b"!x"),
            ("a\\ ", b"a "),
        ] {
            assert!(is_match(glob, name, false), "{glob:?}");
            let trimmed = name.trim_ascii();
            assert!(trimmed == name || !is_match(glob, trimmed, false), "{glob:?}");
        }
        assert_eq!(glob_from_bytes(b"lat\xe9*"), "lat\\xe9*");
        assert!(is_match(&glob_from_bytes(b"lat\xe9*"), b"d/lat\xe9x", false));
        assert!(is_match("\\xff", b"\xff", false) && !is_match("?", b"ab", false));
    }

    #[test]
    fn a_glob_means_what_it_means_in_a_gitignore() {
        for (glob, path, is_directory, is_wanted) in [
            ("foo", "a/foo", false, true),
            ("/foo", "a/foo", false, false),
            ("a/foo", "b/a/foo", false, false),
            ("**/a/foo", "b/a/foo", false, true),
            ("a/**", "a", true, false),
            ("a/**", "a/b/c", false, true),
            ("a/**/b", "a/b", false, true),
            ("a/**/b", "a/x/y/b", false, true),
            ("**", "x/y", false, true),
            ("**a", "x/ba", false, true),
            ("a*b*c", "aXbXbc", false, true),
            ("*.jpg", ".jpg", false, true),
            ("a?c", "aéc", false, true),
            ("a?c", "a/c", false, false),
            ("[!a-c]x", "dx", false, true),
            ("[!a-c]x", "bx", false, false),
            ("[]x]", "]", false, true),
            ("[[:alpha:]]x", "qx", false, true),
            ("[[:alpha:]]x", "1x", false, false),
            ("d/", "d", true, true),
            ("d/", "d", false, false),
            ("{b1}", "b1", false, false),
            ("{b1}", "{b1}", false, true),
            ("*.{jpg,p{n,g}}", "x.pg", false, true),
            ("*.{jpg,png}", "x.gif", false, false),
            ("[{,]", ",", false, true),
        ] {
            assert_eq!(is_match(glob, path.as_bytes(), is_directory), is_wanted, "{glob} {path}");
        }
    }

    #[test]
    fn parts_that_matched_nothing_are_known_and_listed_paths_are_found() {
        let filter =
            Filter::new(&globs(&["*.jpg", "*.gif"]), &globs(&["*.tmp", "x*"]), FileLimits::default())
                .unwrap()
                .with_paths(&[b"a/b".to_vec(), b"missing".to_vec()]);
        for (path, is_directory) in [("a", true), ("a/b", false), ("p.jpg", false), ("xy.tmp", false)] {
            let _ = filter.is_excluded(path.as_bytes(), is_directory)
                || filter.is_included(path.as_bytes(), is_directory);
        }
        assert_eq!(filter.matched(), [0, 2, 3, 4]);
        assert!(filter.may_include_below(b"a") && filter.may_include_below(b""));
        let listed = Filter::new(&globs(&["/d/e/*"]), &[], FileLimits::default()).unwrap();
        let listed = listed.with_paths(&[b"a/b".to_vec()]);
        for (directory, is_wanted) in
            [("a", true), ("a/b", false), ("c", false), ("d", true), ("d/e", true), ("d/f", false)]
        {
            assert_eq!(listed.may_include_below(directory.as_bytes()), is_wanted, "{directory}");
        }
    }

    #[test]
    fn many_wildcards_take_no_time_out_of_proportion() {
        let glob = "*a".repeat(2000);
        let path = b"a".repeat(4000);
        assert!(is_match(&glob, &path, false));
        assert!(!is_match(&format!("{glob}b"), &path, false));
        assert!(glob_problem(&"{a,b}".repeat(20)).is_some());
    }

    #[test]
    fn a_malformed_glob_is_named() {
        let error = Filter::new(&globs(&["a[b"]), &[], FileLimits::default()).map(|_| ()).unwrap_err();
        assert!(error.contains("a[b") && error.contains("include"), "{error}");
    }

    #[test]
    fn a_glob_that_would_silently_do_nothing_is_refused() {
        for glob in [
            "",
            "/",
            "!",
            "!/",
            "a\0",
            "./foo",
            "a/../b",
            "a//b",
            "[z-a]",
            "a[b",
            "a{b",
            "\\",
            "[[:alfa:]]",
            "\\x00",
        ] {
            assert!(glob_problem(glob).is_some(), "{glob:?}");
        }
        assert!(includes_problem(&globs(&["!*.tmp"])).is_some());
        assert!(includes_problem(&globs(&["*.tmp", "!a.tmp"])).is_none() && includes_problem(&[]).is_none());
        let filter = Filter::new(&[], &globs(&["\\#recycle"]), FileLimits::default()).unwrap();
        assert!(filter.is_excluded(b"a/#recycle", true));
    }

    proptest! {
        #[test]
        fn a_literal_glob_matches_its_path_and_no_other(
            path in prop::collection::vec(prop::sample::select(&b"ab*?[]{}!# \\x\xff\xc3\xa9-."[..]), 1..8),
            other in prop::collection::vec(prop::sample::select(&b"ab*?[]{}!# \\x\xff\xc3\xa9-."[..]), 1..8),
        ) {
            prop_assume!(is_confined(&path));
            let glob = format!("/{}", literal_glob(&path));
            prop_assert!(is_match(&glob, &path, false), "{}", glob);
            prop_assert_eq!(is_match(&glob, &other, false), path == other, "{}", glob);
        }

        /// A glob that the coordinator accepts can be parsed by the Star, and no path makes it panic.
        #[test]
        fn globs_of_any_text_are_refused_or_work(
            texts in prop::collection::vec("[ab*?!/\\\\{},^#. \\[\\]-]{0,24}|\\PC{0,12}", 0..6),
            path in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let sound: Vec<String> = texts.into_iter().filter(|glob| glob_problem(glob).is_none()).collect();
            let filter = Filter::new(&sound, &sound, FileLimits::default()).unwrap();
            for is_directory in [false, true] {
                let _ = filter.is_excluded(&path, is_directory) || filter.is_included(&path, is_directory);
            }
        }
    }
}
