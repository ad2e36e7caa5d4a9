//! One entry of a source tree, as a scan finds it and an assignment carries it.
//!
//! Names are bytes: a file system promises nothing else. They become text only where a person reads them, through
//! [`display_path`], which loses nothing.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::time::WallTime;

/// What kind of entry it is, with what belongs to that kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Bytes, when it was scanned.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link, never followed.
    Symlink {
        /// What it points to, verbatim.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// The scan could not stat or list it.
    Unreadable {
        /// The error number of the operating system.
        errno: i32,
    },
}

impl EntryKind {
    /// Whether entries of this kind can be carried to a destination at all.
    pub fn is_carried(&self) -> bool {
        match self {
            Self::File { .. } | Self::Directory | Self::Symlink { .. } => true,
            Self::Fifo
            | Self::Socket
            | Self::CharacterDevice
            | Self::BlockDevice
            | Self::Unreadable { .. } => false,
        }
    }

    /// The kind in words, with its article.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::File { .. } => "a regular file",
            Self::Directory => "a directory",
            Self::Symlink { .. } => "a symbolic link",
            Self::Fifo => "a named pipe (FIFO)",
            Self::Socket => "a socket",
            Self::CharacterDevice => "a character device",
            Self::BlockDevice => "a block device",
            Self::Unreadable { .. } => "an unreadable entry",
        }
    }
}

/// One entry of a source tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Path below the source path: no leading slash, no `.` or `..`. Empty for the source path itself.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    /// Modification time.
    pub modified: WallTime,
    /// Rank of its priority tier in the semantic registry; lower moves first.
    pub rank: u8,
}

impl Entry {
    /// Bytes of content: the size of a regular file, else 0.
    pub fn size(&self) -> u64 {
        match self.kind {
            EntryKind::File { size } => size,
            EntryKind::Directory
            | EntryKind::Symlink { .. }
            | EntryKind::Fifo
            | EntryKind::Socket
            | EntryKind::CharacterDevice
            | EntryKind::BlockDevice
            | EntryKind::Unreadable { .. } => 0,
        }
    }
}

/// Shows a path to a person: UTF-8 as it is, control characters, backslashes and other bytes as `\xNN`.
pub fn display_path(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    push_path(&mut text, path);
    text
}

/// Adds a path to a text, as [`display_path`] shows it.
pub fn push_path(text: &mut String, path: &[u8]) {
    // Almost every path is printable ASCII, and every event shows two.
    if path.iter().all(|&byte| matches!(byte, b' '..=b'~') && byte != b'\\')
        && let Ok(plain) = std::str::from_utf8(path)
    {
        return text.push_str(plain);
    }
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character == '\\' {
                let mut buffer = [0; 4];
                push_escaped(text, character.encode_utf8(&mut buffer).as_bytes());
            } else {
                text.push(character);
            }
        }
        push_escaped(text, chunk.invalid());
    }
}

fn push_escaped(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// Puts a path below a base path.
pub fn join_path(base: &[u8], path: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        return base.to_vec();
    }
    let mut joined = base.to_vec();
    if joined.last() != Some(&b'/') {
        joined.push(b'/');
    }
    joined.extend_from_slice(path);
    joined
}

/// Prefix of the names under which a destination writes before it publishes. A scan never lists such names.
pub const TEMPORARY_PREFIX: &[u8] = b".orbit-tmp-";

/// Whether a path relative to a base stays below it: no empty, `.` or `..` component, no NUL, not absolute.
pub fn is_confined(path: &[u8]) -> bool {
    path.is_empty()
        || path
            .split(|&byte| byte == b'/')
            .all(|part| !part.is_empty() && part != b"." && part != b".." && !part.contains(&0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_displayed_path_keeps_text_and_escapes_the_rest() {
        assert_eq!(display_path("naïve/文".as_bytes()), "naïve/文");
        assert_eq!(display_path(b"a\nb\\c\xff"), "a\\x0ab\\x5cc\\xff");
    }

    #[test]
    fn joining_puts_exactly_one_slash_between() {
        assert_eq!(join_path(b"/data", b"a/b"), b"/data/a/b");
        assert_eq!(join_path(b"/", b"a"), b"/a");
        assert_eq!(join_path(b"/data", b""), b"/data");
    }

    #[test]
    fn paths_that_could_escape_are_not_confined() {
        for good in [&b""[..], b"a", b"a/b", b"..a", b"a/...", b" "] {
            assert!(is_confined(good), "{}", display_path(good));
        }
        for bad in [&b"/a"[..], b"a//b", b"a/", b".", b"a/../b", b"..", b"a\0b", b"./a"] {
            assert!(!is_confined(bad), "{}", display_path(bad));
        }
    }
}
