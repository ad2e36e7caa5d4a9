//! Which entries a job wants, by gitignore-style globs.
//!
//! - An entry that an exclude glob matches is left out; if it is a directory, everything below it too, unseen. A later
//!   glob that starts with `!` takes an exclusion back, as in a `.gitignore`.
//! - With include globs, an entry is kept when one of them matches it or a directory above it, and nothing else is,
//!   except the directories above what is kept. A directory that neither matches nor leads to anything kept is
//!   left out. The base itself never is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// The globs of one scan, compiled.
#[derive(Debug)]
pub(super) struct Filter {
    include: Option<Gitignore>,
    exclude: Gitignore,
}

impl Filter {
    /// Compiles the globs; a malformed one is an error in words.
    pub(super) fn new(include: &[String], exclude: &[String]) -> Result<Self, String> {
        let include = if include.is_empty() { None } else { Some(compile("include", include)?) };
        Ok(Self { include, exclude: compile("exclude", exclude)? })
    }

    /// Whether an entry, and all below it, is left out.
    pub(super) fn is_excluded(&self, path: &[u8], is_directory: bool) -> bool {
        is_match(&self.exclude, path, is_directory)
    }

    /// Whether an entry is kept for its own sake; what is below it then is, too.
    pub(super) fn is_included(&self, path: &[u8], is_directory: bool) -> bool {
        self.include.as_ref().is_none_or(|include| is_match(include, path, is_directory))
    }
}

fn is_match(globs: &Gitignore, path: &[u8], is_directory: bool) -> bool {
    match globs.matched(Path::new(OsStr::from_bytes(path)), is_directory) {
        Match::Ignore(_) => true,
        Match::None | Match::Whitelist(_) => false,
    }
}

fn compile(which: &str, globs: &[String]) -> Result<Gitignore, String> {
    let mut builder = GitignoreBuilder::new("");
    // Whoever forgets a bracket wants to hear of it.
    builder.allow_unclosed_class(false);
    for glob in globs {
        builder
            .add_line(None, glob)
            .map_err(|error| format!("the {which} glob {glob:?} is malformed: {error}"))?;
    }
    builder.build().map_err(|error| format!("the {which} globs are malformed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(globs: &[&str]) -> Vec<String> {
        globs.iter().map(|&glob| glob.to_owned()).collect()
    }

    #[test]
    fn excludes_match_like_a_gitignore() {
        let filter = Filter::new(&[], &globs(&["*.tmp", "/build/", "!keep.tmp"])).unwrap();
        assert!(filter.is_excluded(b"a/b.tmp", false) && !filter.is_excluded(b"a/keep.tmp", false));
        assert!(filter.is_excluded(b"build", true) && !filter.is_excluded(b"build", false));
        assert!(!filter.is_excluded(b"src/build", true));
        assert!(filter.is_excluded(b"\xff.tmp", false));
    }

    #[test]
    fn without_include_globs_everything_is_included() {
        assert!(Filter::new(&[], &[]).unwrap().is_included(b"x", false));
        let filter = Filter::new(&globs(&["*.jpg"]), &[]).unwrap();
        assert!(filter.is_included(b"a/b.jpg", false) && !filter.is_included(b"a/b.png", false));
    }

    #[test]
    fn a_malformed_glob_is_named() {
        let error = Filter::new(&globs(&["a[b"]), &[]).map(|_| ()).unwrap_err();
        assert!(error.contains("a[b") && error.contains("include"), "{error}");
    }
}
