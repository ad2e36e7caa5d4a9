//! Set D: one tree that is edited from day to day. It measures how much of an old version a program finds again.

use std::io;
use std::path::{Path, PathBuf};

use super::random::Random;
use super::{Recipe, Size, Trees, date};

const VERSIONS: i64 = 20;
const BYTES: f64 = 100.0 * 1_048_576.0;
const SIZE_MIN: f64 = 512.0;
const SIZE_MAX: f64 = 1_048_576.0;
/// Median of the sizes, in bytes. With this sigma the mean is near 64 KiB, and 1,600 files make 100 MiB.
const SIZE_MEDIAN: f64 = 40_000.0;
const SIZE_SIGMA: f64 = 1.0;
const DIRECTORIES: usize = 20;
const TEXTS: usize = 8;
const TEXT_BYTES: usize = 1 << 20;
/// Share of a tree's bytes that is new in the next version.
const EDITED: f64 = 0.02;
const RUN_BYTES_MIN: usize = 64;
const RUN_BYTES_MAX: usize = 4096;
const EDITS_PER_FILE_MAX: usize = 4;
const OVERWRITTEN: f64 = 0.6;
const OVERWRITTEN_OR_INSERTED: f64 = 0.85;
const DAY_SECONDS: i64 = 86_400;

/// A file of the tree, and when it was last edited.
struct Edited {
    path: String,
    content: Vec<u8>,
    version: i64,
}

/// Writes all versions below `root`, `v00` first.
pub(super) fn generate(root: &Path, recipe: &Recipe) -> io::Result<Trees> {
    let mut random = Random::new(0x5eed_2000);
    let mut files = first_version(&mut random, (BYTES * recipe.scale) as usize);
    let todo = (files.iter().map(|file| file.content.len()).sum::<usize>() as f64 * EDITED) as usize;
    let mut trees = Trees { versions: Vec::new(), size: Size::default() };
    for version in 0..VERSIONS {
        if version > 0 {
            edit(&mut random, &mut files, version, todo);
            trees.size.files += files.len() as u64;
            trees.size.bytes += files.iter().map(|file| file.content.len() as u64).sum::<u64>();
        }
        let tree = root.join(format!("v{version:02}"));
        write(&tree, &files, version, recipe.keeps_times)?;
        trees.versions.push(tree);
    }
    Ok(trees)
}

fn first_version(random: &mut Random, bytes: usize) -> Vec<Edited> {
    let texts: Vec<Vec<u8>> = (0..TEXTS).map(|_| random.text(TEXT_BYTES)).collect();
    let (mut files, mut sum) = (Vec::new(), 0);
    while sum < bytes.max(1) {
        let size = random.log_normal(SIZE_MEDIAN, SIZE_SIGMA).clamp(SIZE_MIN, SIZE_MAX) as usize;
        let content = if random.unit() < 0.5 {
            random.bytes(size)
        } else {
            let text = &texts[random.below(TEXTS)];
            let start = random.below(text.len());
            [&text[start..], &text[..start]].concat()[..size].to_vec()
        };
        let index = files.len();
        files.push(Edited {
            path: format!("m{:02}/f{index:05}.dat", index % DIRECTORIES),
            content,
            version: 0,
        });
        sum += size;
    }
    files
}

/// Edits random places until `todo` bytes are new.
fn edit(random: &mut Random, files: &mut [Edited], version: i64, todo: usize) {
    let mut done = 0;
    while done < todo {
        let index = random.below(files.len());
        let file = &mut files[index];
        file.version = version;
        for _ in 0..=random.below(EDITS_PER_FILE_MAX) {
            done += edit_once(random, &mut file.content);
            if done >= todo {
                break;
            }
        }
    }
}

/// One edit. Returns how much it counts: a deletion makes few new bytes.
fn edit_once(random: &mut Random, content: &mut Vec<u8>) -> usize {
    let length = RUN_BYTES_MIN + random.below(RUN_BYTES_MAX - RUN_BYTES_MIN + 1);
    let start = random.below(content.len());
    let end = content.len().min(start + length);
    let operation = random.unit();
    if operation < OVERWRITTEN {
        let new = random.bytes(end - start);
        content[start..end].copy_from_slice(&new);
        length
    } else if operation < OVERWRITTEN_OR_INSERTED {
        content.splice(start..start, random.bytes(length));
        length
    } else {
        content.drain(start..end);
        length / 4
    }
}

fn write(tree: &Path, files: &[Edited], version: i64, keeps_times: bool) -> io::Result<()> {
    let directories: Vec<PathBuf> =
        (0..DIRECTORIES.min(files.len())).map(|index| tree.join(format!("m{index:02}"))).collect();
    for directory in &directories {
        std::fs::create_dir_all(directory)?;
    }
    for file in files {
        let path = tree.join(&file.path);
        std::fs::write(&path, &file.content)?;
        date(&path, DAY_SECONDS * if keeps_times { file.version } else { version })?;
    }
    // No file is added or removed, so the directories are those of the first day.
    directories.iter().map(PathBuf::as_path).chain([tree]).try_for_each(|directory| date(directory, 0))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn contents(tree: &Path) -> Vec<(Vec<u8>, i64)> {
        let nodes = orbit_tests::tree::inventory(tree);
        let paths = nodes.keys().map(|path| tree.join(String::from_utf8_lossy(path).as_ref()));
        let files = paths.filter(|path| path.is_file());
        files.map(|path| (std::fs::read(&path).unwrap(), path.metadata().unwrap().mtime())).collect()
    }

    #[test]
    fn a_version_differs_from_the_last_one_in_some_files() {
        let directory = tempfile::tempdir().unwrap();
        let recipe = Recipe { scale: 0.05, keeps_times: true, tree: None };
        let trees = generate(directory.path(), &recipe).unwrap();
        assert_eq!(trees.versions.len(), 20);
        let (old, new) = (contents(&trees.versions[3]), contents(&trees.versions[4]));
        assert_eq!(old.len(), new.len());
        assert_eq!(trees.size.files, 19 * old.len() as u64);
        let changed = old.iter().zip(&new).filter(|(old, new)| old.0 != new.0).count();
        assert!(changed > 0 && changed * 2 < old.len(), "{changed} of {} files changed", old.len());
        // An edit can restore earlier content, so a file may have a new time and its old bytes, never the reverse.
        assert!(old.iter().zip(&new).all(|(old, new)| old.0 == new.0 || old.1 != new.1));
    }

    #[test]
    fn a_rewritten_tree_has_new_times_everywhere() {
        let directory = tempfile::tempdir().unwrap();
        let recipe = Recipe { scale: 0.01, keeps_times: false, tree: None };
        let trees = generate(directory.path(), &recipe).unwrap();
        let (old, new) = (contents(&trees.versions[0]), contents(&trees.versions[1]));
        assert!(old.iter().zip(&new).all(|(old, new)| old.1 != new.1));
    }
}
