//! Data sets that are the same on every machine: made from a seed, without anything that depends on time. How often a
//! set is measured, and which programs copy it, is decided elsewhere.

mod random;
mod versions;

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use random::Random;

const S_FILES: f64 = 50_000.0;
const S1M_FILES: f64 = 1_000_000.0;
const S_SIZE_MIN: f64 = 1024.0;
const S_SIZE_MAX: f64 = 16_384.0;
const S_SIZE_MEDIAN: f64 = 4096.0;
const S_SIZE_SIGMA: f64 = 0.7;
const FILES_PER_DIRECTORY: u64 = 250;
const DIRECTORIES_PER_DIRECTORY: u64 = 20;
const L_FILES: u64 = 4;
const L_MEBIBYTES: f64 = 512.0;
/// Modification time of all files: 14 November 2023.
const MODIFIED_SECONDS: i64 = 1_700_000_000;
const MODIFIED_NANOSECONDS: i64 = 123_456_789;
const MEBIBYTE: usize = 1 << 20;
const TEXT_BYTES: usize = 1 << 20;

/// A kind of tree to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub(crate) enum DataSet {
    /// 50,000 small files of log-normal sizes; half of them text, half incompressible.
    S,
    /// 4 large files of incompressible bytes.
    L,
    /// 20 versions of a tree of 100 MiB, each with 2 % of its bytes new.
    D,
    /// A real tree: the Rust toolchain, or the one of --tree.
    M,
    /// As S, with 1,000,000 files.
    S1M,
}

/// The size of a set. For a set with versions: of all that are sent over an older one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Size {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// An existing set: the trees to copy one after the other, and their size.
#[derive(Debug)]
pub(crate) struct Trees {
    pub(crate) versions: Vec<PathBuf>,
    pub(crate) size: Size,
}

/// The parameters of a set.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    /// The share of the full size.
    pub(crate) scale: f64,
    /// Whether a file of D that is equal in the next version keeps its modification time. Otherwise all files of a
    /// version have new times, and only their content shows what differs.
    pub(crate) keeps_times: bool,
    /// The real tree.
    pub(crate) tree: Option<PathBuf>,
}

impl DataSet {
    /// Makes the set below `root`, or finds it.
    pub(crate) fn provide(self, root: &Path, recipe: &Recipe) -> Result<Trees, String> {
        let failed = |error: io::Error| format!("data set {self:?}: {error}");
        let small = |files: f64| generate_small(root, (files * recipe.scale).max(1.0) as u64);
        let size = match self {
            Self::S => small(S_FILES),
            Self::S1M => small(S1M_FILES),
            Self::L => generate_large(root, (L_MEBIBYTES * recipe.scale).max(1.0) as u64),
            Self::D => return versions::generate(root, recipe).map_err(failed),
            Self::M => return real_tree(recipe.tree.as_deref()),
        };
        let size = size.map_err(failed)?;
        age(root, 0).map_err(failed)?;
        Ok(Trees { versions: vec![root.to_owned()], size })
    }
}

fn generate_small(root: &Path, files: u64) -> io::Result<Size> {
    let mut random = Random::new(0x5eed_0001);
    let text = random.text(TEXT_BYTES);
    let mut bytes = 0;
    for index in 0..files {
        let leaf = index / FILES_PER_DIRECTORY;
        let (upper, lower) = (leaf / DIRECTORIES_PER_DIRECTORY, leaf % DIRECTORIES_PER_DIRECTORY);
        let directory = root.join(format!("d{upper:02}/e{lower:02}"));
        if index % FILES_PER_DIRECTORY == 0 {
            std::fs::create_dir_all(&directory)?;
        }
        let size = random.log_normal(S_SIZE_MEDIAN, S_SIZE_SIGMA).clamp(S_SIZE_MIN, S_SIZE_MAX) as usize;
        let content = if index % 2 == 0 {
            let start = random.below(TEXT_BYTES - size);
            // The first line makes every file unique.
            let mut content = format!("// file {index:08} {:016x}\n", random.number()).into_bytes();
            content.extend_from_slice(&text[start..start + size]);
            content.truncate(size);
            content
        } else {
            random.bytes(size)
        };
        std::fs::write(directory.join(format!("f{index:05}")), &content)?;
        bytes += size as u64;
    }
    Ok(Size { files, bytes })
}

fn generate_large(root: &Path, mebibytes: u64) -> io::Result<Size> {
    std::fs::create_dir_all(root)?;
    for index in 0..L_FILES {
        let mut random = Random::new(0x5eed_1000 + index);
        let mut file =
            BufWriter::with_capacity(MEBIBYTE, File::create(root.join(format!("big{index}.bin")))?);
        for _ in 0..mebibytes {
            file.write_all(&random.bytes(MEBIBYTE))?;
        }
        file.flush()?;
    }
    Ok(Size { files: L_FILES, bytes: L_FILES * mebibytes * MEBIBYTE as u64 })
}

fn real_tree(given: Option<&Path>) -> Result<Trees, String> {
    let tree = match given {
        Some(tree) => tree.to_owned(),
        None => toolchain()?,
    };
    let tree = tree.canonicalize().map_err(|error| format!("--tree {}: {error}", tree.display()))?;
    let size = read_through(&tree).map_err(|error| format!("--tree {}: {error}", tree.display()))?;
    Ok(Trees { versions: vec![tree], size })
}

/// The directory of the Rust toolchain: a real tree that exists wherever this is built.
fn toolchain() -> Result<PathBuf, String> {
    let output = std::process::Command::new("rustc").args(["--print", "sysroot"]).output();
    let output =
        output.map_err(|error| format!("rustc --print sysroot: {error}; name a tree with --tree"))?;
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// Reads a tree once, so that it is cached for the first program as for the others.
pub(crate) fn read_through(path: &Path) -> io::Result<Size> {
    let metadata = path.symlink_metadata()?;
    let mut size = Size::default();
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path)? {
            let below = read_through(&entry?.path())?;
            size.files += below.files;
            size.bytes += below.bytes;
        }
    } else if metadata.is_file() {
        size = Size { files: 1, bytes: metadata.len() };
        let (mut file, mut buffer) = (File::open(path)?, vec![0; 1 << 16]);
        while file.read(&mut buffer)? > 0 {}
    }
    Ok(size)
}

/// Sets all times to `later` seconds after a moment long ago. Trees with current times are no fair input: rsync
/// compares whole seconds, takes a directory that it has just made for unchanged, and leaves its time wrong.
fn age(path: &Path, later: i64) -> io::Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            age(&entry?.path(), later)?;
        }
    }
    date(path, later)
}

fn date(path: &Path, later: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: MODIFIED_SECONDS + later, tv_nsec: MODIFIED_NANOSECONDS };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(scale: f64) -> Recipe {
        Recipe { scale, keeps_times: false, tree: None }
    }

    #[test]
    fn small_files_have_the_sizes_that_are_promised() {
        let directory = tempfile::tempdir().unwrap();
        let size = DataSet::S.provide(directory.path(), &recipe(0.02)).unwrap().size;
        assert_eq!(size.files, 1000);
        let mut sizes = Vec::new();
        for leaf in 0..4 {
            for entry in std::fs::read_dir(directory.path().join(format!("d00/e{leaf:02}"))).unwrap() {
                sizes.push(entry.unwrap().metadata().unwrap().len());
            }
        }
        sizes.sort_unstable();
        assert_eq!((sizes.len(), sizes.iter().sum::<u64>()), (1000, size.bytes));
        assert!(sizes[0] >= 1024 && sizes[999] <= 16_384);
        assert!((3700..4500).contains(&sizes[500]), "the median is {}", sizes[500]);
    }

    #[test]
    fn a_set_is_the_same_every_time() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for set in [DataSet::L, DataSet::D] {
            for directory in [&one, &two] {
                set.provide(&directory.path().join(format!("{set:?}")), &recipe(0.002)).unwrap();
            }
        }
        for tree in ["L", "D/v00", "D/v19"] {
            let found = orbit_tests::tree::differences(&one.path().join(tree), &two.path().join(tree));
            assert_eq!(found, Vec::<String>::new());
        }
    }

    #[test]
    fn reading_through_a_tree_counts_it() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("a")).unwrap();
        std::fs::write(directory.path().join("a/b"), [7; 70_000]).unwrap();
        std::os::unix::fs::symlink("nowhere", directory.path().join("c")).unwrap();
        let size = read_through(directory.path()).unwrap();
        assert_eq!((size.files, size.bytes), (1, 70_000));
    }
}
