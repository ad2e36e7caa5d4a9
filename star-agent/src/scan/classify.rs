//! The priority of a listed entry, by the semantic registry. The first bytes of a file are read only if an operator's rule
//! asks for them.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use orbit_shared::semantic::{SEMANTIC_HEADER_BYTES, SemanticRegistry};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::rules::{self, RulesError};

/// Classifies entries with the operator's rules, if there are any, and the built-in ones.
#[derive(Debug, Clone)]
pub struct Classifier(Option<Arc<SemanticRegistry>>);

impl Classifier {
    /// The rules of a file, or the built-in ones alone.
    ///
    /// # Errors
    /// The file cannot be read, or has a bad rule.
    pub fn load(path: Option<&Path>) -> Result<Self, RulesError> {
        let registry = path.map_or_else(|| Ok(SemanticRegistry::built_in()), rules::read)?;
        Ok(Self(Some(Arc::new(registry))))
    }

    /// Gives all entries the same rank, for a scan whose order does not matter.
    pub fn unordered() -> Self {
        Self(None)
    }

    /// The operator's rules, one per line, a bounded number.
    pub fn describe_rules(&self) -> Vec<String> {
        self.0.as_ref().map(|registry| registry.describe_rules()).unwrap_or_default()
    }

    /// The rank of an entry by its path below the base.
    pub(super) fn rank(&self, path: &[u8]) -> u8 {
        self.0.as_ref().map_or(0, |registry| registry.classify(path, None).rank())
    }

    /// Whether a rule asks for the first bytes of a file.
    pub(super) fn asks_for_header(&self, path: &[u8]) -> bool {
        self.0.as_ref().is_some_and(|registry| registry.header_bytes(path) > 0)
    }

    /// The rank of a file, whose first bytes are read from the directory that contains it. If they cannot be read, only
    /// the name counts: the error is found when the file is sent. Blocks.
    pub(super) fn rank_by_header(&self, path: &[u8], directory: impl AsFd, name: &[u8]) -> u8 {
        let Some(registry) = &self.0 else { return 0 };
        let mut header = [0; SEMANTIC_HEADER_BYTES];
        let wanted = &mut header[..registry.header_bytes(path).min(SEMANTIC_HEADER_BYTES)];
        match read_header(directory, name, wanted) {
            Ok(length) => registry.classify(path, Some(&wanted[..length])).rank(),
            Err(_) => self.rank(path),
        }
    }
}

/// Reads the first bytes of a regular file, without a change of its access time where that is permitted.
fn read_header(directory: impl AsFd, name: &[u8], header: &mut [u8]) -> Result<usize, Errno> {
    // A name may have become a FIFO since it was listed; opening it must not wait.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = |flags| rustix::fs::openat(&directory, name, flags, Mode::empty());
    // Only the owner of a file may ask for that.
    let file = match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags)?,
        opened => opened?,
    };
    let mut length = 0;
    while length < header.len() {
        match rustix::io::pread(&file, &mut header[length..], length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_where_a_rule_asks_and_a_missing_file_is_classified_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let rules = dir.path().join("rules.toml");
        std::fs::write(
            &rules,
            "[[rule]]\nglobs = [\"*.dat\"]\nmagic = { hex = \"6f72626974\" }\npriority = \"critical\"\n",
        )
        .unwrap();
        let classifier = Classifier::load(Some(&rules)).unwrap();
        std::fs::write(dir.path().join("a.dat"), b"orbit and more").unwrap();
        std::fs::write(dir.path().join("b.dat"), b"or").unwrap();
        let directory = std::fs::File::open(dir.path()).unwrap();
        let rank = |name: &[u8]| classifier.rank_by_header(name, &directory, name);
        assert_eq!((rank(b"a.dat"), rank(b"b.dat"), rank(b"gone.dat")), (0, 50, 50));
        assert!(classifier.asks_for_header(b"x.dat") && !classifier.asks_for_header(b"x.txt"));
        assert_eq!(classifier.describe_rules(), ["critical: *.dat and begins with bytes 6f72626974"]);
    }
}
