//! Makes trees: the same seed, the same tree.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::random::Random;

/// Length of the path of the deepest file below the tree, in bytes: near `PATH_MAX`, with room for the directory of the
/// copy.
const DEEP_PATH_BYTES: usize = 3500;

/// Makes one entry of every unusual kind that is copied: names that are not UTF-8, paths near the maximum length, empty
/// files and directories, dangling links, links to a directory and upwards, times before 1970, modes without a write
/// bit.
pub fn plant_odd_tree(root: &Path, seed: u64) {
    let mut random = Random::new(seed);
    std::fs::create_dir_all(root).expect("a tree can be planted");
    for (index, size) in
        [0, 1, 4095, 4096, 65_535, 65_536, 65_537, 1 << 20, (5 << 20) + 3].into_iter().enumerate()
    {
        plant_file(&root.join(format!("size-{size}")), &random.bytes(size), 0o644, index as i64 * 1_000_003);
    }
    let names: [&[u8]; 11] = [
        b"new\nline",
        b"not\xff\xfeutf8",
        b" spaces around ",
        b"-dash",
        b"*glob?[x]",
        b"back\\slash",
        "\u{fc}n\u{ef}c\u{f6}d\u{e9}-\u{6587}".as_bytes(),
        b"quote\"'`$(x)",
        b"tab\tand\x01control",
        b"..double-dot",
        &[b'n'; 255],
    ];
    let odd = root.join("names");
    for name in names {
        let bytes = random.bytes(100 + name.len());
        plant_file(&odd.join(OsStr::from_bytes(name)), &bytes, 0o600, 1_234_567_890);
        plant_file(&odd.join("within").join(OsStr::from_bytes(name)).join("file"), &bytes, 0o640, 7);
    }
    for mode in [0o400, 0o444, 0o555, 0o600, 0o644, 0o666, 0o755, 0o777] {
        plant_file(&root.join("modes").join(format!("{mode:o}")), &random.bytes(10), mode, 1_600_000_000);
    }
    for (name, seconds) in [("before-1970", -86_400), ("epoch", 0), ("far", 4_102_444_800)] {
        plant_file(&root.join("times").join(name), name.as_bytes(), 0o644, seconds);
    }
    plant_file(&root.join(deep_path()), b"deep", 0o644, 42);
    plant_links(root);
    std::fs::create_dir_all(root.join("empty/directory/within")).expect("a directory can be made");
    finish_directories(root, &mut random);
}

fn plant_links(root: &Path) {
    let links = root.join("links");
    std::fs::create_dir_all(&links).expect("a directory can be made");
    let targets: [(&str, &[u8]); 6] = [
        ("to-file", b"../size-1"),
        ("to-directory", b"../names"),
        ("dangling", b"/nowhere/at/all"),
        ("upwards", b"../.."),
        ("itself", b"itself"),
        ("no-text", b"\xff\n"),
    ];
    for (name, target) in targets {
        symlink(OsStr::from_bytes(target), links.join(name)).expect("a link can be made");
        set_time(&links.join(name), 1_111_111_111);
    }
    symlink("x".repeat(4000), links.join("long")).expect("a link can be made");
    set_time(&links.join("long"), 1_222_222_222);
}

fn deep_path() -> PathBuf {
    let mut path = OsString::from("deep");
    while path.len() + 201 < DEEP_PATH_BYTES {
        path.push("/");
        path.push("d".repeat(200));
    }
    path.push("/file");
    path.into()
}

/// Makes `count` files of `size` bytes, 250 in a directory, each with different content.
pub fn plant_files(root: &Path, count: usize, size: usize, seed: u64) {
    let mut random = Random::new(seed);
    for index in 0..count {
        let path = root.join(format!("d{:04}", index / 250)).join(format!("f{index:06}"));
        plant_file(&path, &random.bytes(size), 0o644, 1_700_000_000 + index as i64);
    }
}

fn plant_file(path: &Path, bytes: &[u8], mode: u32, seconds: i64) {
    let parent = path.parent().expect("a file lies in a directory");
    std::fs::create_dir_all(parent).unwrap_or_else(|error| panic!("{}: {error}", parent.display()));
    let mut file = File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.write_all(bytes).expect("a file can be written");
    file.set_permissions(Permissions::from_mode(mode)).expect("a mode can be set");
    drop(file);
    set_time(path, seconds);
}

/// Sets modes and times of directories, from the bottom up, since making an entry in one changes its time.
fn finish_directories(directory: &Path, random: &mut Random) {
    let entries = std::fs::read_dir(directory).expect("a planted directory can be read");
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a planted directory can be read").path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.is_dir() && !path.is_symlink()) {
        finish_directories(path, random);
    }
    let mode = [0o755, 0o700, 0o775, 0o711][(random.number() % 4) as usize];
    std::fs::set_permissions(directory, Permissions::from_mode(mode)).expect("a mode can be set");
    set_time(directory, 1_500_000_000 + (random.number() % 100_000_000) as i64);
}

fn set_time(path: &Path, seconds: i64) {
    // A time with a full nanosecond part: a file system that stores only microseconds loses it.
    let time = Timespec { tv_sec: seconds, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("a time can be set");
}
