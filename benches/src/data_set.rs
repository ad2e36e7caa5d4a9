//! Data sets that are the same on every machine: made from a seed, with nothing in them that depends on time.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use clap::ValueEnum;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

const S_FILES: f64 = 50_000.0;
const S_SIZE_MIN: f64 = 1024.0;
const S_SIZE_MAX: f64 = 16_384.0;
const S_SIZE_MEDIAN: f64 = 4096.0;
const S_SIZE_SIGMA: f64 = 0.7;
const FILES_PER_DIRECTORY: u64 = 250;
const DIRECTORIES_PER_DIRECTORY: u64 = 20;
const L_FILES: u64 = 4;
const L_MEBIBYTES: f64 = 512.0;
/// When everything was modified: 14 November 2023.
const MODIFIED_SECONDS: i64 = 1_700_000_000;
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
}

/// How large a generated set is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

impl DataSet {
    /// Makes the set below `root`.
    pub(crate) fn generate(self, root: &Path, scale: f64) -> io::Result<Size> {
        let size = match self {
            Self::S => generate_small(root, (S_FILES * scale).max(1.0) as u64),
            Self::L => generate_large(root, (L_MEBIBYTES * scale).max(1.0) as u64),
        }?;
        age(root)?;
        Ok(size)
    }
}

fn generate_small(root: &Path, files: u64) -> io::Result<Size> {
    let mut random = Random(0x5eed_0001);
    let text = random.text(TEXT_BYTES);
    let mut bytes = 0;
    for index in 0..files {
        let leaf = index / FILES_PER_DIRECTORY;
        let (upper, lower) = (leaf / DIRECTORIES_PER_DIRECTORY, leaf % DIRECTORIES_PER_DIRECTORY);
        let directory = root.join(format!("d{upper:02}/e{lower:02}"));
        if index % FILES_PER_DIRECTORY == 0 {
            std::fs::create_dir_all(&directory)?;
        }
        let size =
            (S_SIZE_MEDIAN * (S_SIZE_SIGMA * random.normal()).exp()).clamp(S_SIZE_MIN, S_SIZE_MAX) as usize;
        let content = if index % 2 == 0 {
            let start = random.below((TEXT_BYTES - size) as u64) as usize;
            // The first line makes every file one of its own.
            let mut content = format!("// file {index:08} {:016x}\n", random.next()).into_bytes();
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
        let mut random = Random(0x5eed_1000 + index);
        let mut file =
            BufWriter::with_capacity(MEBIBYTE, File::create(root.join(format!("big{index}.bin")))?);
        for _ in 0..mebibytes {
            file.write_all(&random.bytes(MEBIBYTE))?;
        }
        file.flush()?;
    }
    Ok(Size { files: L_FILES, bytes: L_FILES * mebibytes * MEBIBYTE as u64 })
}

/// Dates everything back. Trees of this very second are no fair input: rsync looks at seconds only, takes a directory that
/// it has just made for unchanged, and leaves its time wrong.
fn age(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            age(&entry?.path())?;
        }
    }
    let time = Timespec { tv_sec: MODIFIED_SECONDS, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// SplitMix64 by Sebastiano Vigna.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Above 0 and at most 1.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Normally distributed, by Box and Muller.
    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }

    /// Lines that look like source code: words of a small vocabulary, common ones often.
    fn text(&mut self, count: usize) -> Vec<u8> {
        let words: Vec<String> = (0..4000)
            .map(|_| (0..2 + self.below(10)).map(|_| char::from(b'a' + self.below(26) as u8)).collect())
            .collect();
        let mut text = String::with_capacity(count + 256);
        while text.len() < count {
            text.push_str(&"    ".repeat(self.below(5) as usize));
            for _ in 0..1 + self.below(9) {
                let rank = (-400.0 * self.unit().ln()) as usize;
                text.push_str(&words[rank.min(words.len() - 1)]);
                text.push(' ');
            }
            text.push_str(["{\n", "}\n", ";\n", ",\n", "\n"][self.below(5) as usize]);
        }
        text.truncate(count);
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_have_the_sizes_that_are_promised() {
        let directory = tempfile::tempdir().unwrap();
        let size = DataSet::S.generate(directory.path(), 0.02).unwrap();
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
        for directory in [&one, &two] {
            DataSet::L.generate(directory.path(), 0.002).unwrap();
        }
        let read = |directory: &tempfile::TempDir| std::fs::read(directory.path().join("big3.bin")).unwrap();
        assert!(read(&one) == read(&two) && read(&one).len() == MEBIBYTE);
    }
}
