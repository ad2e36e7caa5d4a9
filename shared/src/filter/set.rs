//! Globs in order: the last one that matches a path decides.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::glob::{Glob, Pattern};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct GlobSet {
    globs: Vec<One>,
    /// Globs that match a single path, by path.
    exact: BTreeMap<Vec<u8>, Vec<usize>>,
    /// Globs that match a single name at any depth, by name.
    names: BTreeMap<Vec<u8>, Vec<usize>>,
    /// All other globs, which are tried one by one.
    general: Vec<(usize, Pattern)>,
}

#[derive(Debug)]
struct One {
    glob: Glob,
    /// Whether it has matched something.
    has_matched: AtomicBool,
}

impl GlobSet {
    pub(super) fn new(globs: Vec<Glob>) -> Self {
        let mut set = Self::default();
        for (index, glob) in globs.into_iter().enumerate() {
            for pattern in &glob.patterns {
                if let Some(path) = pattern.exact_path() {
                    set.exact.entry(path).or_default().push(index);
                } else if let Some(name) = pattern.exact_name() {
                    set.names.entry(name).or_default().push(index);
                } else {
                    set.general.push((index, pattern.clone()));
                }
            }
            set.globs.push(One { glob, has_matched: AtomicBool::new(false) });
        }
        set
    }

    /// Whether the last glob that matches a path is not a negated one.
    pub(super) fn is_match(&self, path: &[u8], is_directory: bool) -> bool {
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        let looked_up = self.exact.get(path).into_iter().chain(self.names.get(name)).flatten();
        let mut last: Option<usize> = None;
        for &index in looked_up {
            last = last.max(self.note(index, is_directory));
        }
        for (index, pattern) in self.general.iter().rev() {
            let one = &self.globs[*index];
            // A glob that is overruled by a later one must still be recorded as one that has matched.
            let is_of_interest =
                last.is_none_or(|last| *index > last) || !one.has_matched.load(Ordering::Relaxed);
            if is_of_interest && pattern.matches(path) {
                last = last.max(self.note(*index, is_directory));
            }
        }
        last.is_some_and(|index| !self.globs[index].glob.is_negated)
    }

    /// Records that a glob matches by name. Returns it if it also matches by kind.
    fn note(&self, index: usize, is_directory: bool) -> Option<usize> {
        let one = &self.globs[index];
        if one.glob.is_directory_only && !is_directory {
            return None;
        }
        one.has_matched.store(true, Ordering::Relaxed);
        Some(index)
    }

    /// Whether something below a directory could match.
    pub(super) fn may_match_below(&self, directory: &[u8]) -> bool {
        let mut patterns =
            self.globs.iter().filter(|one| !one.glob.is_negated).flat_map(|one| &one.glob.patterns);
        patterns.any(|pattern| pattern.may_match_below(directory))
    }

    /// Which globs have matched so far, by index.
    pub(super) fn matched(&self) -> impl Iterator<Item = usize> {
        let globs = self.globs.iter().enumerate();
        globs.filter(|(_, one)| one.has_matched.load(Ordering::Relaxed)).map(|(index, _)| index)
    }
}
