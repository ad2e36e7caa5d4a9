//! Containers: many chunks in one `.orbitpak` file, so that a vault does not need a file for each chunk.
//!
//! A container is a header of 16 bytes, followed by chunks without gaps; `(container_id, offset, length)` locates one.
//! While it is open for appending, a **journal** beside it lists the chunks that are durable. When it is **sealed**, an
//! index with its own checksum is appended and the journal is removed. In both cases a lost Universe can be rebuilt
//! from the containers alone.
//!
//! A chunk is stored unchanged or compressed with zstd. Its entry shows which by two lengths, stored and raw. Its hash
//! is always that of the raw bytes.
//!
//! The remains of a crash are found and cut off when a container is opened again, and every read is checked against the
//! chunk's hash. Nothing is ever deleted inside a container: its chunks are copied elsewhere and the file is removed.
//!
//! Only one process may write to a directory of containers at a time. The owner of the directory must ensure that.

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
pub use self::pool::{
    AppendedChunk, Appender, CONTAINER_READERS_MAX, ContainerPool, FileMark, NO_CONTAINER, PooledContainer,
    Syncing,
};
pub use self::reader::ContainerReader;
pub use self::writer::{ContainerWriter, PendingSync, Recovery};
use crate::chunk_hash::ChunkHash;

/// Default of the size of the chunks in a container, in bytes, after which another one is begun: 4 GiB.
pub const CONTAINER_BYTES_MAX_DEFAULT: u64 = 4 * 1024 * 1024 * 1024;

const CONTAINER_SUFFIX: &str = "orbitpak";
const CONTAINER_ID_BYTES_MAX: usize = 128;

/// The place of a chunk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PackedChunkRef {
    /// The container: its file name without `.orbitpak`.
    pub container_id: String,
    /// Offset of the chunk's first byte in the file. The first chunk of a container is at 16.
    pub offset: u64,
    /// Its length in the file, in bytes.
    pub length: u32,
}

/// A chunk in the list of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerEntry {
    /// Its hash.
    pub hash: ChunkHash,
    /// Offset of its first byte in the file.
    pub offset: u64,
    /// Its length in the file, in bytes.
    pub length: u32,
    /// Its raw length in bytes; more than `length` if it is compressed.
    pub raw_length: u32,
}

impl ContainerEntry {
    /// The offset after its last byte. Entries are checked on reading, so this does not overflow.
    fn end(&self) -> u64 {
        self.offset + u64::from(self.length)
    }
}

/// Errors of a container.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The operating system reports an error.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The operation that failed.
        action: &'static str,
        /// The error.
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
    /// Part of the file is damaged.
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
    /// An earlier sync failed, so it is not known what is durable. Open the container again.
    #[error("{}: an earlier sync failed; the container must be opened again", path.display())]
    SyncFailed {
        /// Which file.
        path: PathBuf,
    },
    /// The chunk is too large for any container.
    #[error("a chunk of {length} bytes does not fit into a container of {max_bytes}")]
    ChunkTooLarge {
        /// Its length.
        length: u64,
        /// The maximum.
        max_bytes: u64,
    },
    /// The chunk does not fit into this container, but into an empty one.
    #[error("{}: full", path.display())]
    Full {
        /// Which file.
        path: PathBuf,
    },
    /// The reference points into the header, beyond the end, or into another container.
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
        /// The reference.
        chunk_ref: PackedChunkRef,
        /// The expected chunk.
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

/// Makes the names in a directory durable, with fsync.
fn sync_dir(dir: &Path) -> Result<(), ContainerError> {
    let opened = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
    opened.map_err(ContainerError::io(dir, "sync the directory"))
}

/// Allocates disk space for `bytes` bytes of a file from `offset` on, also beyond its end, which does not move. If a
/// file system does not support that, a lack of space is found by writing.
///
/// # Errors
///
/// The disk is full, or reports an error.
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
