//! Which entries a job wants, by gitignore-style globs.
//!
//! - An entry that an exclude glob matches is left out; if it is a directory, everything below it too, unseen. A later
//!   glob that starts with `!` takes an exclusion back, as in a `.gitignore`.
//! - With include globs, an entry is kept when one of them matches it or a directory above it, and nothing else is,
//!   except the directories above what is kept. A directory that neither matches nor leads to anything kept is
//!   left out. The base itself never is.
//!
//! - Of what is kept so, regular files outside the limits of size and age are left out ([`FileLimits`]).
//!
//! The coordinator refuses a job whose globs do not compile here, and the Star that scans compiles the same globs.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use serde::{Deserialize, Serialize};

use crate::entry::{Entry, EntryKind};
use crate::time::WallTime;

/// Bytes of one glob.
pub const GLOB_BYTES_MAX: usize = 4096;

/// Which regular files a job wants, by size and modification time. Both ends of each range belong to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLimits {
    /// Bytes of the smallest.
    pub min_size: u64,
    /// Bytes of the largest; `None` for no limit.
    pub max_size: Option<u64>,
    /// The oldest; `None` for no limit.
    pub modified_after: Option<WallTime>,
    /// The newest; `None` for no limit.
    pub modified_before: Option<WallTime>,
}

impl FileLimits {
    /// Whether an entry is wanted; whatever is no regular file always is.
    pub fn admit(&self, entry: &Entry) -> bool {
        let EntryKind::File { size } = entry.kind else { return true };
        size >= self.min_size
            && self.max_size.is_none_or(|max| size <= max)
            && self.modified_after.is_none_or(|after| entry.modified >= after)
            && self.modified_before.is_none_or(|before| entry.modified <= before)
    }
}

/// What one scan wants: its globs, compiled, and its limits.
#[derive(Debug)]
pub struct Filter {
    include: Option<Gitignore>,
    exclude: Gitignore,
    limits: FileLimits,
}

impl Filter {
    /// Compiles the globs.
    ///
    /// # Errors
    /// Says in words which glob is malformed, or that all of them together are too much.
    pub fn new(include: &[String], exclude: &[String], limits: FileLimits) -> Result<Self, String> {
        let compiled = |which: &str, globs: &[String]| {
            compile(globs).map_err(|problem| format!("of the {which} globs, {problem}"))
        };
        let include = if include.is_empty() { None } else { Some(compiled("include", include)?) };
        Ok(Self { include, exclude: compiled("exclude", exclude)?, limits })
    }

    /// Whether an entry is within the limits of size and age.
    pub fn admits(&self, entry: &Entry) -> bool {
        self.limits.admit(entry)
    }

    /// Whether an entry, and all below it, is left out.
    pub fn is_excluded(&self, path: &[u8], is_directory: bool) -> bool {
        is_match(&self.exclude, path, is_directory)
    }

    /// Whether an entry is kept for its own sake; what is below it then is, too.
    pub fn is_included(&self, path: &[u8], is_directory: bool) -> bool {
        self.include.as_ref().is_none_or(|include| is_match(include, path, is_directory))
    }
}

fn is_match(globs: &Gitignore, path: &[u8], is_directory: bool) -> bool {
    match globs.matched(Path::new(OsStr::from_bytes(path)), is_directory) {
        Match::Ignore(_) => true,
        Match::None | Match::Whitelist(_) => false,
    }
}

/// What is wrong with one glob, in words that go behind its name.
pub fn glob_problem(glob: &str) -> Option<String> {
    let mut builder = builder();
    if glob.len() > GLOB_BYTES_MAX {
        return Some(format!("is longer than {GLOB_BYTES_MAX} bytes"));
    }
    if glob.contains(['\0', '\n']) {
        return Some("contains a NUL or a line break".to_owned());
    }
    if glob.trim().is_empty() {
        return Some("is empty and would match nothing".to_owned());
    }
    // A line of a `.gitignore` would be a comment; here somebody means a name.
    if glob.starts_with('#') {
        return Some(format!("is {glob:?}; write \\{glob} for names that begin with #"));
    }
    builder.add_line(None, glob).err().map(|error| format!("is no gitignore-style glob: {error}"))
}

/// What is wrong with globs that may each be right: together they can be too much to compile.
pub fn globs_problem(globs: &[String]) -> Option<String> {
    compile(globs).err()
}

fn builder() -> GitignoreBuilder {
    let mut builder = GitignoreBuilder::new("");
    // Whoever forgets a bracket wants to hear of it.
    builder.allow_unclosed_class(false);
    builder
}

fn compile(globs: &[String]) -> Result<Gitignore, String> {
    let mut builder = builder();
    for glob in globs {
        if let Some(problem) = glob_problem(glob) {
            return Err(format!("{glob:?} {problem}"));
        }
        builder.add_line(None, glob).map_err(|error| format!("{glob:?} is malformed: {error}"))?;
    }
    builder.build().map_err(|error| format!("all together cannot be compiled: {error}"))
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
    fn without_include_globs_everything_is_included() {
        assert!(Filter::new(&[], &[], FileLimits::default()).unwrap().is_included(b"x", false));
        let filter = Filter::new(&globs(&["*.jpg"]), &[], FileLimits::default()).unwrap();
        assert!(filter.is_included(b"a/b.jpg", false) && !filter.is_included(b"a/b.png", false));
    }

    #[test]
    fn a_malformed_glob_is_named() {
        let error = Filter::new(&globs(&["a[b"]), &[], FileLimits::default()).map(|_| ()).unwrap_err();
        assert!(error.contains("a[b") && error.contains("include"), "{error}");
    }

    #[test]
    fn a_glob_that_would_silently_do_nothing_is_refused() {
        for glob in ["", "  ", "#recycle", "a\nb", "a\0"] {
            assert!(glob_problem(glob).is_some(), "{glob:?}");
        }
        let filter = Filter::new(&[], &globs(&["\\#recycle"]), FileLimits::default()).unwrap();
        assert!(filter.is_excluded(b"a/#recycle", true));
    }

    proptest! {
        /// What the coordinator has let pass, the Star can compile, and no path makes it panic.
        #[test]
        fn globs_of_any_text_are_refused_or_work(
            texts in prop::collection::vec("[ab*?!/\\\\{},^#. \\[\\]-]{0,24}|\\PC{0,12}", 0..6),
            path in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let sound: Vec<String> = texts.into_iter().filter(|glob| glob_problem(glob).is_none()).collect();
            prop_assert_eq!(globs_problem(&sound), None);
            let filter = Filter::new(&sound, &sound, FileLimits::default()).unwrap();
            for is_directory in [false, true] {
                let _ = filter.is_excluded(&path, is_directory) || filter.is_included(&path, is_directory);
            }
        }
    }
}
