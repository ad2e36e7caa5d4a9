//! Container packing: many chunks in one `.orbitpak` file, so that a vault does not need a file for each.
//!
//! A container is a header of 16 bytes and then chunks, byte behind byte; `(container_id, offset, length)` finds one.
//! While it is open for appending, a **journal** beside it names the chunks that are durable; when it is **sealed**, an
//! index with its own checksum is appended and the journal is removed. Either way a lost Universe can be rebuilt from
//! the containers alone.
//!
//! A chunk lies there as it is or compressed with zstd, which its entry tells by two lengths: stored and raw. Its hash
//! is always that of the raw bytes.
//!
//! What a crash leaves behind is found and cut when a container is opened again, and every read is checked against the
//! chunk's hash. Nothing is ever deleted inside a container: its chunks are copied elsewhere and the file is removed.
//!
//! One process may write to a directory of containers at a time; keeping others out is its owner's business.

mod codec;
mod format;
mod journal;
mod pool;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::codec::{Encoder, Stored, decompress};
pub use self::format::{
    CHUNK_BYTES_MAX, CONTAINER_ENTRY_COUNT_MAX, CONTAINER_HEADER_BYTES, CONTAINER_MAGIC, CONTAINER_VERSION,
};
pub use self::pool::{CONTAINER_READERS_MAX, ContainerPool, ContainerPoolStats, DamagedContainer};
pub use self::reader::ContainerReader;
pub use self::writer::{ContainerWriter, PendingSync, Recovery};
use crate::chunk_hash::ChunkHash;

/// How many bytes of chunks go into a container before the pool begins another: 4 GiB.
pub const CONTAINER_BYTES_MAX_DEFAULT: u64 = 4 * 1024 * 1024 * 1024;

const CONTAINER_SUFFIX: &str = "orbitpak";
const CONTAINER_ID_BYTES_MAX: usize = 128;

/// Where a chunk lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PackedChunkRef {
    /// Which container: its file name without `.orbitpak`.
    pub container_id: String,
    /// Position of the chunk's first byte in the file; the first chunk of a container is at 16.
    pub offset: u64,
    /// How many bytes of the file it takes.
    pub length: u32,
}

/// One chunk as a container lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerEntry {
    /// Its name.
    pub hash: ChunkHash,
    /// Position of its first byte in the file.
    pub offset: u64,
    /// How many bytes of the file it takes.
    pub length: u32,
    /// How many bytes it has; more than `length` if it is compressed.
    pub raw_length: u32,
}

impl ContainerEntry {
    /// The position behind its last byte. Entries are checked on reading, so this does not overflow.
    fn end(&self) -> u64 {
        self.offset + u64::from(self.length)
    }
}

/// What can go wrong with a container.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The file system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What it answered.
        source: io::Error,
    },
    /// The file's name is not that of a container.
    #[error("{}: a container is named ID.orbitpak, where ID is of a-z A-Z 0-9 - _", path.display())]
    BadName {
        /// The name.
        path: PathBuf,
    },
    /// The file does not begin like a container.
    #[error("{}: not a container", path.display())]
    BadMagic {
        /// Which file.
        path: PathBuf,
    },
    /// A later version wrote the file.
    #[error("{}: container version {version} is not supported, only {CONTAINER_VERSION}", path.display())]
    UnsupportedVersion {
        /// Which file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Part of the file is not as it was written.
    #[error("{}: damaged: {what}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which part.
        what: &'static str,
    },
    /// Nothing can be appended to a sealed container.
    #[error("{}: the container is sealed", path.display())]
    Sealed {
        /// Which file.
        path: PathBuf,
    },
    /// An earlier sync failed, after which nobody can say what is durable. Open it again.
    #[error("{}: an earlier sync failed; the container must be opened again", path.display())]
    SyncFailed {
        /// Which file.
        path: PathBuf,
    },
    /// No container can hold the chunk.
    #[error("a chunk of {length} bytes does not fit into a container of {max_bytes}")]
    ChunkTooLarge {
        /// Its length.
        length: u64,
        /// The most that would fit.
        max_bytes: u64,
    },
    /// This container cannot hold the chunk, an empty one could.
    #[error("{}: full", path.display())]
    Full {
        /// Which file.
        path: PathBuf,
    },
    /// The reference points into the header, behind the end, or into another container.
    #[error("{}: no chunk at {chunk_ref:?}", path.display())]
    OutOfBounds {
        /// Which file.
        path: PathBuf,
        /// The reference.
        chunk_ref: PackedChunkRef,
    },
    /// The bytes are not those of the chunk.
    #[error("{}: the bytes at {chunk_ref:?} are not those of chunk {expected}", path.display())]
    HashMismatch {
        /// Which file.
        path: PathBuf,
        /// Where.
        chunk_ref: PackedChunkRef,
        /// Which chunk should be there.
        expected: ChunkHash,
    },
}

impl ContainerError {
    fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), action, source }
    }

    fn damaged(path: &Path, what: &'static str) -> Self {
        Self::Damaged { path: path.to_owned(), what }
    }
}

fn is_container_id(id: &str) -> bool {
    (1..=CONTAINER_ID_BYTES_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// The id in a container's path.
fn id_of_path(path: &Path) -> Result<String, ContainerError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let id = name.and_then(|name| name.strip_suffix(CONTAINER_SUFFIX)).and_then(|id| id.strip_suffix('.'));
    match id.filter(|id| is_container_id(id)) {
        Some(id) => Ok(id.to_owned()),
        None => Err(ContainerError::BadName { path: path.to_owned() }),
    }
}

/// The journal beside a container.
fn journal_path(container: &Path) -> PathBuf {
    let mut path = container.as_os_str().to_owned();
    path.push(".journal");
    path.into()
}

/// Makes the names in a directory durable.
fn sync_dir(dir: &Path) -> Result<(), ContainerError> {
    let opened = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
    opened.map_err(ContainerError::io(dir, "sync the directory"))
}

/// Takes space on the disk for `bytes` bytes of a file from `offset`, also behind its end, which stays where it is. A file
/// system that cannot do that finds out by writing.
///
/// # Errors
///
/// The disk is full, or refuses.
pub fn reserve_space(file: &std::fs::File, offset: u64, bytes: u64) -> io::Result<()> {
    let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
    let take = || rustix::fs::fallocate(file, flags, offset, bytes.max(1));
    match rustix::io::retry_on_intr(take) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether an error says that a disk is full, or that a quota is used up.
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The directory of a container's path; that of a bare file name is the current one.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}
