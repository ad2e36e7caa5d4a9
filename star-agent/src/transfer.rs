//! The messages of a pull, as its two ends use them. Their wire format is in `orbit/v1/transfer.proto`; only
//! `grpc::transfer` uses both.

use orbit_shared::session::Failure;
use orbit_shared::time::WallTime;
use orbit_shared::words::{JobId, SnapshotId, StarId};
use rustix::fs::Stat;

use crate::content::Content;

/// The first request of a pull: which Star pulls what, with which token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The token, signed by the coordinator.
    pub token: String,
    /// The job.
    pub job: JobId,
    /// The source path of the job.
    pub source_path: Vec<u8>,
    /// The Star that pulls.
    pub destination_star: StarId,
    /// The snapshot in the source's vault that is read; `None` for a directory.
    pub snapshot: Option<SnapshotId>,
}

/// A part of a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Its first byte.
    pub offset: u64,
    /// Its length. A range beyond the end of the file is cut there.
    pub length: u64,
}

impl Range {
    /// A whole file of any size.
    pub const WHOLE: Self = Self { offset: 0, length: u64::MAX };

    /// The offset after its last byte, at most `size`.
    pub fn end(self, size: u64) -> u64 {
        self.offset.saturating_add(self.length).min(size)
    }
}

/// A request for content of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetch {
    /// Its number on this pull.
    pub id: u64,
    /// Path below the source path.
    pub path: Vec<u8>,
    /// The wanted ranges, ascending, with gaps between them.
    pub ranges: Vec<Range>,
    /// Whether only the names of chunks are wanted. Names that come with their content are not compared, so that
    /// content is cut at any place.
    pub is_hashes_only: bool,
    /// Except if the destination stores the chunks as they come: then content is cut as for names.
    pub is_cut_by_content: bool,
    /// Whether only the existence of an entry of this name is asked for, of whatever kind.
    pub is_look_only: bool,
    /// Whether a file that changes while it is read is accepted, because it did so before.
    pub accepts_changes: bool,
    /// With `accepts_changes`: the version up to whose size the file is wanted, once it is known.
    pub as_of: Option<FileVersion>,
    /// With `is_look_only`: whether an entry on another file system than the source path is not reported.
    pub is_one_file_system: bool,
}

/// One version of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileVersion {
    /// Size in bytes.
    pub size: u64,
    /// Modification time.
    pub modified: WallTime,
    /// Time of the last change to the inode.
    pub changed: WallTime,
    /// Permission bits.
    pub mode: u32,
}

impl From<&Stat> for FileVersion {
    fn from(stat: &Stat) -> Self {
        Self {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: modified_time(stat),
            changed: wall_time(stat.st_ctime, stat.st_ctime_nsec),
            mode: stat.st_mode & 0o7777,
        }
    }
}

/// When the content of a file, or the entries of a directory, last changed.
pub fn modified_time(stat: &Stat) -> WallTime {
    wall_time(stat.st_mtime, stat.st_mtime_nsec)
}

/// A time from the kernel's fields; its nanoseconds are always below a second.
fn wall_time(seconds: i64, nanos: u64) -> WallTime {
    WallTime { seconds, nanos: (nanos % 1_000_000_000) as u32 }
}

/// The name of a chunk: its BLAKE3 hash.
pub type ChunkHash = [u8; 32];

/// A chunk as a frame announces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Its name.
    pub hash: ChunkHash,
    /// Its length in bytes.
    pub length: u32,
}

/// What follows a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameEnd {
    /// More frames of the same fetch.
    More,
    /// Nothing: the fetch is complete.
    Complete,
    /// Nothing: the fetch is complete as far as the file goes, and the file changed while it was read. Only a fetch
    /// that accepts changes ends like this.
    Changed,
    /// Nothing: the fetch failed.
    Failed(Failure),
}

/// The result of a fetch that only looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// Consecutive chunks of one fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The fetch.
    pub fetch: u64,
    /// Set in the first frame of a fetch that does not fail.
    pub version: Option<FileVersion>,
    /// Offset of the first chunk in the file.
    pub offset: u64,
    /// The chunks, in order.
    pub chunks: Vec<Chunk>,
    /// What follows.
    pub end: FrameEnd,
    /// The result, if the fetch only looks.
    pub looked: Option<Looked>,
}

impl Frame {
    /// Total length of its chunks in bytes.
    pub fn length(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.length)).sum()
    }
}

/// One message of a source: frames, and the content of their chunks in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parcel {
    /// The frames.
    pub frames: Vec<Frame>,
    /// The content.
    pub payload: Content,
}
