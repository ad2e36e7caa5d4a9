//! Entries of a source tree.

use bytes::Bytes;
use orbit_shared::entry::{Entry, EntryKind, is_confined};
use orbit_shared::session::limits;

use super::{ConvertError, file_size, required, timestamp_from_wire, timestamp_to_wire, unknown_enum};
use crate::v1;
use crate::v1::tree_entry::Kind;

/// All permission bits that there are.
const MODE_MAX: u32 = 0o7777;

impl From<Entry> for v1::TreeEntry {
    fn from(entry: Entry) -> Self {
        Self {
            path: entry.path.into(),
            mode: entry.mode,
            modify_time: Some(timestamp_to_wire(entry.modified)),
            rank: u32::from(entry.rank),
            kind: Some(entry.kind.into()),
        }
    }
}

impl From<EntryKind> for Kind {
    fn from(kind: EntryKind) -> Self {
        let special = |special: v1::SpecialKind| Self::Special(special.into());
        match kind {
            EntryKind::File { size } => Self::File(v1::FileKind { size_bytes: size }),
            EntryKind::Symlink { target } => Self::Symlink(v1::SymlinkKind { target: target.into() }),
            EntryKind::Unreadable { errno } => Self::Unreadable(v1::UnreadableKind { errno }),
            EntryKind::Directory => special(v1::SpecialKind::Directory),
            EntryKind::Fifo => special(v1::SpecialKind::Fifo),
            EntryKind::Socket => special(v1::SpecialKind::Socket),
            EntryKind::CharacterDevice => special(v1::SpecialKind::CharacterDevice),
            EntryKind::BlockDevice => special(v1::SpecialKind::BlockDevice),
        }
    }
}

impl TryFrom<v1::TreeEntry> for Entry {
    type Error = ConvertError;

    fn try_from(wire: v1::TreeEntry) -> Result<Self, ConvertError> {
        if wire.mode > MODE_MAX {
            return Err(ConvertError::new("mode", format!("{:o} has more than permission bits", wire.mode)));
        }
        Ok(Self {
            path: confined_path("path", wire.path)?,
            kind: required("kind", wire.kind)?.try_into()?,
            mode: wire.mode,
            modified: timestamp_from_wire("modify_time", &required("modify_time", wire.modify_time)?)?,
            rank: u8::try_from(wire.rank).map_err(|_| ConvertError::new("rank", "is above 255"))?,
        })
    }
}

impl TryFrom<Kind> for EntryKind {
    type Error = ConvertError;

    fn try_from(kind: Kind) -> Result<Self, ConvertError> {
        Ok(match kind {
            Kind::File(file) => Self::File { size: file_size("file.size_bytes", file.size_bytes)? },
            Kind::Symlink(symlink) => Self::Symlink { target: link_target(symlink.target)? },
            Kind::Unreadable(unreadable) => Self::Unreadable { errno: unreadable.errno },
            Kind::Special(value) => match v1::SpecialKind::try_from(value) {
                Ok(v1::SpecialKind::Directory) => Self::Directory,
                Ok(v1::SpecialKind::Fifo) => Self::Fifo,
                Ok(v1::SpecialKind::Socket) => Self::Socket,
                Ok(v1::SpecialKind::CharacterDevice) => Self::CharacterDevice,
                Ok(v1::SpecialKind::BlockDevice) => Self::BlockDevice,
                Ok(v1::SpecialKind::Unspecified) | Err(_) => return Err(unknown_enum("special", value)),
            },
        })
    }
}

fn within(field: &str, path: &[u8], bytes_max: usize) -> Result<(), ConvertError> {
    if path.len() <= bytes_max {
        return Ok(());
    }
    Err(ConvertError::new(field, format!("has {} bytes, at most {bytes_max} are allowed", path.len())))
}

/// A path that stays below whatever it is joined to.
pub(super) fn confined_path(field: &str, path: Bytes) -> Result<Vec<u8>, ConvertError> {
    within(field, &path, limits::ENTRY_PATH_BYTES_MAX)?;
    if is_confined(&path) {
        Ok(path.into())
    } else {
        Err(ConvertError::new(field, "is not a path below the source path"))
    }
}

/// An absolute path without a `.` or `..` in it.
pub(super) fn absolute_path(field: &str, path: Bytes) -> Result<Vec<u8>, ConvertError> {
    within(field, &path, limits::ENTRY_PATH_BYTES_MAX)?;
    let is_plain =
        path.split(|&byte| byte == b'/').all(|part| part != b"." && part != b".." && !part.contains(&0));
    if path.starts_with(b"/") && is_plain {
        Ok(path.into())
    } else {
        Err(ConvertError::new(field, "is not an absolute path without . and .."))
    }
}

/// Links point anywhere and are never followed; only what no system call could take is refused.
fn link_target(target: Bytes) -> Result<Vec<u8>, ConvertError> {
    within("symlink.target", &target, limits::LINK_TARGET_BYTES_MAX)?;
    if target.is_empty() || target.contains(&0) {
        return Err(ConvertError::new("symlink.target", "is empty or contains a NUL"));
    }
    Ok(target.into())
}
