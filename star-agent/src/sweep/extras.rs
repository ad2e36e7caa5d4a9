//! The list of entries to delete, in an unnamed file that is removed with the process. It is written in the order of
//! the walk, and read backwards.
//!
//! A record has a kind (one byte), size (8 bytes), seconds (8) and nanoseconds (4) of the modification time, the path,
//! and the length of the path (4), all little-endian. The file does not outlive the sweep, so the format has no
//! version.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::time::WallTime;
use rustix::fs::FileType;

/// Size of the fields of a record before its path, in bytes. The constant below is that of the field after the path.
const HEAD_BYTES: usize = 1 + 8 + 8 + 4;
const TAIL_BYTES: usize = 4;
/// Number of bytes that are read at a time.
const BLOCK_BYTES: u64 = 256 * 1024;

/// An entry that the source does not have, as it was listed at the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extra {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) size: u64,
    pub(super) modified: WallTime,
}

/// The kind of an entry, as far as deleting it is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    /// A symbolic link, or a special file.
    Other,
}

impl Extra {
    /// The kind of an entry that the walk found; `None` if it has no `stat`.
    pub(super) fn of(entry: &Entry) -> Option<Self> {
        let kind = match entry.kind {
            EntryKind::File { .. } => Kind::File,
            EntryKind::Directory => Kind::Directory,
            EntryKind::Symlink { .. }
            | EntryKind::Fifo
            | EntryKind::Socket
            | EntryKind::CharacterDevice
            | EntryKind::BlockDevice => Kind::Other,
            EntryKind::Unreadable { .. } => return None,
        };
        Some(Self { path: entry.path.clone(), kind, size: entry.size(), modified: entry.modified })
    }
}

impl Kind {
    /// The kind that `stat` shows.
    pub(super) fn from_mode(mode: u32) -> Self {
        match FileType::from_raw_mode(mode) {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            _ => Self::Other,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Extras {
    file: BufWriter<File>,
    /// Bytes of the records that were not taken yet. The last of them are in `block`.
    unread: u64,
    block: Vec<u8>,
}

impl Extras {
    /// An empty list, on the disk of `directory`.
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let file = BufWriter::new(tempfile::tempfile_in(directory)?);
        Ok(Self { file, unread: 0, block: Vec::new() })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unread == 0
    }

    /// Adds an entry.
    pub(super) fn push(&mut self, extra: &Extra) -> io::Result<()> {
        let length = u32::try_from(extra.path.len()).map_err(io::Error::other)?;
        let mut head = [0; HEAD_BYTES];
        head[0] = match extra.kind {
            Kind::File => 0,
            Kind::Directory => 1,
            Kind::Other => 2,
        };
        head[1..9].copy_from_slice(&extra.size.to_le_bytes());
        head[9..17].copy_from_slice(&extra.modified.seconds.to_le_bytes());
        head[17..21].copy_from_slice(&extra.modified.nanos.to_le_bytes());
        self.file.write_all(&head)?;
        self.file.write_all(&extra.path)?;
        self.file.write_all(&length.to_le_bytes())?;
        self.unread += (HEAD_BYTES + extra.path.len() + TAIL_BYTES) as u64;
        Ok(())
    }

    /// Takes up to `count_max` entries from the end, the last one first. Returns none when the list is empty.
    pub(super) fn take_last(&mut self, count_max: usize) -> io::Result<Vec<Extra>> {
        let mut taken = Vec::new();
        while taken.len() < count_max && self.unread > 0 {
            let tail = self.last_bytes(TAIL_BYTES)?;
            let length = u32::from_le_bytes(tail.try_into().map_err(io::Error::other)?) as usize;
            let record_bytes = HEAD_BYTES + length + TAIL_BYTES;
            let record = self.last_bytes(record_bytes)?;
            taken.push(decode(&record[..record_bytes - TAIL_BYTES])?);
            self.unread -= record_bytes as u64;
            self.block.truncate(self.block.len() - record_bytes);
        }
        Ok(taken)
    }

    /// The last bytes of the records that were not taken.
    fn last_bytes(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.block.len() < count {
            let wanted = (count as u64).max(BLOCK_BYTES).min(self.unread);
            self.file.flush()?;
            let file = self.file.get_mut();
            file.seek(SeekFrom::Start(self.unread - wanted))?;
            self.block.resize(wanted as usize, 0);
            file.read_exact(&mut self.block)?;
        }
        let start = self.block.len().checked_sub(count);
        start.map(|start| &self.block[start..]).ok_or_else(|| io::Error::other("it is shorter than it was"))
    }
}

fn decode(record: &[u8]) -> io::Result<Extra> {
    let short = || io::Error::other("it is not as it was written");
    let (head, path) = record.split_first_chunk::<HEAD_BYTES>().ok_or_else(short)?;
    let field = |from: usize| <[u8; 8]>::try_from(&head[from..from + 8]).map_err(io::Error::other);
    let nanos = <[u8; 4]>::try_from(&head[17..21]).map_err(io::Error::other)?;
    Ok(Extra {
        path: path.to_vec(),
        kind: match head[0] {
            0 => Kind::File,
            1 => Kind::Directory,
            2 => Kind::Other,
            _ => return Err(short()),
        },
        size: u64::from_le_bytes(field(1)?),
        modified: WallTime { seconds: i64::from_le_bytes(field(9)?), nanos: u32::from_le_bytes(nanos) },
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn extras() -> impl Strategy<Value = Extra> {
        let kinds = prop_oneof![Just(Kind::File), Just(Kind::Directory), Just(Kind::Other)];
        (vec(any::<u8>(), 0..4096), kinds, any::<(u64, i64, u32)>()).prop_map(
            |(path, kind, (size, seconds, nanos))| {
                let modified = WallTime { seconds, nanos };
                Extra { path, kind, size, modified }
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_put_in_comes_out_backwards(all in vec(extras(), 0..300), step in 1..50_usize) {
            let directory = tempfile::tempdir().unwrap();
            let mut list = Extras::new(directory.path()).unwrap();
            for extra in &all {
                list.push(extra).unwrap();
            }
            prop_assert_eq!(list.is_empty(), all.is_empty());
            let mut out = Vec::new();
            loop {
                let taken = list.take_last(step).unwrap();
                prop_assert!(taken.len() <= step);
                if taken.is_empty() {
                    break;
                }
                out.extend(taken);
            }
            out.reverse();
            prop_assert_eq!(out, all);
            prop_assert!(list.is_empty());
        }
    }
}
