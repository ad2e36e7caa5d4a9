//! One entry of a source tree, as a scan finds it and an assignment contains it.
//!
//! Names are bytes, since a file system guarantees nothing else. They become text only for display, through
//! [`display_path`], which loses nothing.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::time::WallTime;

/// The kind of an entry, with the details of that kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Size in bytes when it was scanned.
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
    /// Whether entries of this kind can be copied to a destination.
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

    /// The kind as text, with its article.
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
    /// Its kind.
    pub kind: EntryKind,
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    /// Modification time.
    pub modified: WallTime,
    /// Rank of its priority tier in the semantic registry; lower ranks are moved first.
    pub rank: u8,
}

impl Entry {
    /// Size of the content in bytes, for a regular file; 0 for other kinds.
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

/// A path as text: UTF-8 unchanged; control characters, backslashes and other bytes as `\xNN`.
pub fn display_path(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    push_path(&mut text, path);
    text
}

/// Adds a path to a text, as [`display_path`] shows it.
pub fn push_path(text: &mut String, path: &[u8]) {
    // Almost every path is printable ASCII, and every event contains two.
    if path.iter().all(|&byte| matches!(byte, b' '..=b'~') && byte != b'\\')
        && let Ok(plain) = std::str::from_utf8(path)
    {
        return text.push_str(plain);
    }
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_hidden(character) || character == '\\' {
                let mut buffer = [0; 4];
                push_escaped(text, character.encode_utf8(&mut buffer).as_bytes());
            } else {
                text.push(character);
            }
        }
        push_escaped(text, chunk.invalid());
    }
}

/// Whether a character is invisible and changes how others are shown: control characters, and those of Unicode that
/// change the direction of text, join characters, or have no width.
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The mode of an unreadable entry that stands for the rest of a directory that was listed in part.
pub const REST_MODE: u32 = 0o7777;

/// Error numbers of Linux that may be temporary: EINTR, EIO, EAGAIN, ENOMEM, EBUSY, ENFILE, EMFILE, ENETDOWN,
/// ENETUNREACH, ENOTCONN, ETIMEDOUT, EHOSTDOWN, EHOSTUNREACH, ESTALE.
const PASSING_ERRNOS: [i32; 14] = [4, 5, 11, 12, 16, 23, 24, 100, 101, 107, 110, 112, 113, 116];

/// Whether an error of listing or `stat` may be temporary.
pub fn is_passing_errno(errno: i32) -> bool {
    PASSING_ERRNOS.contains(&errno)
}

/// Text without hidden characters, whose bytes become `\xNN`.
pub fn plain_text(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hidden(character) {
            let mut buffer = [0; 4];
            push_escaped(&mut plain, character.encode_utf8(&mut buffer).as_bytes());
        } else {
            plain.push(character);
        }
    }
    plain
}

fn push_escaped(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// The path that [`display_path`] shows as this text: every `\xNN` is the byte NN. `None` if the text has no escape and
/// so is the path itself.
pub fn undisplay_path(shown: &[u8]) -> Option<Vec<u8>> {
    let mut path = Vec::with_capacity(shown.len());
    let mut rest = shown;
    let mut is_escaped = false;
    while let Some((&first, behind)) = rest.split_first() {
        let digits = rest.strip_prefix(b"\\x").and_then(|digits| digits.get(..2));
        let byte = digits
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match byte {
            Some(byte) => {
                path.push(byte);
                rest = &rest[4..];
                is_escaped = true;
            }
            None => {
                path.push(first);
                rest = behind;
            }
        }
    }
    is_escaped.then_some(path)
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

/// Prefix of the names under which a destination writes before it publishes; see [`is_temporary_name`].
pub const TEMPORARY_PREFIX: &[u8] = b".orbit-tmp-";

/// Whether a name is one under which a destination writes before it publishes: the prefix, 16 hexadecimal digits of the
/// Star's identity, and the numbers of job, destination and item, separated by dashes. A scan skips such names, and no
/// others with the same prefix.
pub fn is_temporary_name(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(TEMPORARY_PREFIX) else { return false };
    let parts: Vec<&[u8]> = rest.split(|&byte| byte == b'-').collect();
    let [identity, numbers @ ..] = parts.as_slice() else { return false };
    let is_number = |part: &&[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let is_identity =
        identity.len() == 16 && identity.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_identity && numbers.len() == 3 && numbers.iter().all(is_number)
}

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
    fn what_is_shown_is_taken_back() {
        for path in [&b"lat\xe9"[..], b"a\nb\\c\xff", b"\\xe9"] {
            assert_eq!(undisplay_path(display_path(path).as_bytes()).unwrap(), path);
        }
        for path in ["plain", "na\u{ef}ve", "\\xg1", "\\x1"] {
            assert_eq!(undisplay_path(path.as_bytes()), None);
        }
    }

    #[test]
    fn only_the_whole_form_of_a_temporary_name_is_one() {
        assert!(is_temporary_name(b".orbit-tmp-0123456789abcdef-7-0-12"));
        for name in [
            &b".orbit-tmp-mine"[..],
            b".orbit-tmp-",
            b".orbit-tmp-0123456789abcdef-7-0",
            b".orbit-tmp-0123456789abcdef-7-0-1-2",
            b".orbit-tmp-0123456789ABCDEF-7-0-1",
            b".orbit-tmp-0123456789abcdef-7--1",
            b"x.orbit-tmp-0123456789abcdef-7-0-1",
        ] {
            assert!(!is_temporary_name(name), "{}", display_path(name));
        }
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
