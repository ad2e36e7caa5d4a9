//! Errors of the packed store.

use std::io;
use std::path::{Path, PathBuf};

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::container::{ContainerError, is_disk_full};
use orbit_shared::entry::display_path;

use super::types::{SnapshotId, StageId};

/// Why an operation of the packed store failed. Each text says where, and what helps.
#[derive(Debug, thiserror::Error)]
pub enum PackedError {
    /// A container or its journal.
    #[error("vault: {0}")]
    Container(#[from] ContainerError),
    /// Another file of the vault.
    #[error("vault: cannot {action} {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operation that failed.
        action: &'static str,
        /// The error.
        source: io::Error,
    },
    /// A file is damaged.
    #[error("vault: {} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The damaged part.
        what: &'static str,
    },
    /// The file system is read-only.
    #[error(
        "vault: {} is on a file system that cannot be written to: what is stored there can be read and restored, nothing can be \
         stored; mount it writable and restart the Star",
        path.display()
    )]
    ReadOnly {
        /// The directory.
        path: PathBuf,
    },
    /// The directory is not the one that was opened.
    #[error(
        "vault: {} is not the directory that this Star has opened: it was replaced, or its file system was unmounted; nothing \
         can be stored until it is back; then restart the Star",
        path.display()
    )]
    Moved {
        /// The directory.
        path: PathBuf,
    },
    /// The universe failed.
    #[error(
        "vault: the index of chunks failed: {problem}; it is rebuilt from the containers at the next start, or now by \
         `orbit-star vault rebuild` while the Star is stopped"
    )]
    Universe {
        /// The error.
        problem: String,
    },
    /// The universe cannot grow.
    #[error(
        "vault: the index of chunks cannot grow, because the disk is full; collect garbage, or make room"
    )]
    UniverseFull,
    /// The disk reports an error. The content of the universe is not affected; the file is opened again.
    #[error(
        "vault: the index of chunks cannot be read or written: {problem}; it is opened again by itself, but look for errors of \
         the disk in the system's log"
    )]
    UniverseFailed {
        /// The error.
        problem: String,
    },
    /// Another process has it open.
    #[error("vault: the index of chunks is in use; a vault has one process, which opens its store once")]
    UniverseInUse,
    /// No such chunk is stored.
    #[error("vault: chunk {hash} is not stored here")]
    UnknownChunk {
        /// Its name.
        hash: ChunkHash,
    },
    /// The chunk is stored and cannot be read.
    #[error("vault: chunk {hash} is damaged ({problem}); a copy from another vault or the source heals it")]
    DamagedChunk {
        /// Its name.
        hash: ChunkHash,
        /// The problem.
        problem: String,
    },
    /// The bytes are not those of the chunk.
    #[error("vault: the bytes given are not those of chunk {hash}")]
    WrongBytes {
        /// Its name.
        hash: ChunkHash,
    },
    /// An entry names a chunk that was neither put nor found.
    #[error("vault: {} needs chunk {hash}, which is not stored; it must be sent again", display_path(path))]
    MissingChunk {
        /// The entry.
        path: Vec<u8>,
        /// The chunk.
        hash: ChunkHash,
    },
    /// There is no such snapshot.
    #[error("vault: there is no snapshot {0}")]
    UnknownSnapshot(SnapshotId),
    /// The stage lacks entries that its snapshot must have.
    #[error(
        "vault: stage {stage} has {found} entries and should have {expected}; those that are missing must be stored again"
    )]
    StageIncomplete {
        /// The stage.
        stage: StageId,
        /// Number of paths that it must have.
        expected: u64,
        /// Number of paths that it has.
        found: u64,
    },
    /// An entry is larger than the maximum of a record.
    #[error("vault: the entry {} is too large to be recorded", display_path(path))]
    EntryTooLarge {
        /// The entry.
        path: Vec<u8>,
    },
    /// There is not enough space to move chunks, so nothing was moved.
    #[error(
        "vault: {needed} bytes must be free to rewrite a container and {available} are; make room on the disk, or delete \
         snapshots so that whole containers go"
    )]
    NoSpace {
        /// Number of bytes that must be free.
        needed: u64,
        /// Number of bytes that are free.
        available: u64,
    },
    /// A part of a tree cannot be read, so it is not known which chunks are needed.
    #[error(
        "vault: {count} tree blocks of snapshots cannot be read, so nothing may be collected; heal them (`orbit scrub`) or \
         delete the snapshots that they belong to"
    )]
    TreeDamaged {
        /// Number of those parts.
        count: u64,
    },
    /// The operation was cancelled.
    #[error("vault: stopped before the end, as asked; it goes on where it was")]
    Cancelled,
}

impl PackedError {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), action, source }
    }

    pub(crate) fn damaged(path: &Path, what: &'static str) -> Self {
        Self::Damaged { path: path.to_owned(), what }
    }

    pub(crate) fn universe(problem: impl Into<redb::Error>) -> Self {
        match problem.into() {
            redb::Error::DatabaseAlreadyOpen => Self::UniverseInUse,
            redb::Error::Io(error) if is_disk_full(&error) => Self::UniverseFull,
            // It was told to read where nothing is.
            redb::Error::Io(error)
                if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput) =>
            {
                Self::bad_universe(error)
            }
            problem @ (redb::Error::Io(_) | redb::Error::PreviousIo) => {
                Self::UniverseFailed { problem: problem.to_string() }
            }
            problem => Self::bad_universe(problem),
        }
    }

    pub(crate) fn bad_universe(problem: impl std::fmt::Display) -> Self {
        Self::Universe { problem: problem.to_string() }
    }

    /// Whether the process's file size limit is reached.
    pub fn is_too_large(&self) -> bool {
        matches!(
            self,
            Self::Io { source, .. } | Self::Container(ContainerError::Io { source, .. })
                if source.kind() == io::ErrorKind::FileTooLarge
        )
    }

    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } | Self::Container(ContainerError::Io { source, .. }) => {
                is_disk_full(source)
            }
            Self::NoSpace { .. } | Self::UniverseFull => true,
            _ => false,
        }
    }
}

/// What the packed store answers with.
pub type Result<T, E = PackedError> = std::result::Result<T, E>;
