//! Verifies chunks that have arrived, and puts them into the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Buf as _;
use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::entry::{display_path, join_path};
use orbit_shared::session::{Failure, FailureCause, Fault};

use super::{Work, at_vault};
use crate::content::Content;
use crate::transfer::Chunk;

/// A run of chunks of one file.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) file: usize,
    /// Index into the assignment's items.
    pub(super) item: usize,
    pub(super) offset: u64,
    pub(super) chunks: Vec<Chunk>,
    pub(super) content: Content,
}

/// The result for one piece.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) file: usize,
    pub(super) offset: u64,
    pub(super) chunks: Vec<Chunk>,
    /// Number of its chunks that the store did not have, and their bytes.
    pub(super) packed: u64,
    pub(super) packed_bytes: u64,
    pub(super) result: Result<(), Failure>,
}

/// Verifies and stores. Blocks.
pub(super) fn put_all(work: &Arc<Work>, pieces: Vec<Piece>) -> Vec<Put> {
    pieces
        .into_iter()
        .map(|piece| {
            let Piece { file, item, offset, chunks, mut content } = piece;
            let (mut packed, mut packed_bytes) = (0, 0);
            let result = chunks.iter().try_for_each(|chunk| {
                if put(work, item, chunk, &mut content)? {
                    packed += 1;
                    packed_bytes += u64::from(chunk.length);
                }
                Ok(())
            });
            Put { file, offset, chunks, packed, packed_bytes, result }
        })
        .collect()
}

/// Stores one chunk. Returns whether the store did not have it.
fn put(work: &Work, item: usize, chunk: &Chunk, content: &mut Content) -> Result<bool, Failure> {
    let bytes = content.copy_to_bytes(chunk.length as usize);
    let path = &work.assignment.items[item].entry.path;
    if ChunkHash::of(&bytes) != ChunkHash(chunk.hash) {
        let path = display_path(&join_path(&work.assignment.source_path, path));
        return Err(Failure {
            cause: FailureCause::ChecksumMismatch,
            fault: Fault::Item,
            message: format!("{path} arrived with bytes that are not those which were sent"),
        });
    }
    let stored = work.store.put(work.stage, ChunkHash(chunk.hash), &bytes);
    stored.map_err(|error| {
        work.met_full_disk.fetch_or(error.is_full(), Ordering::Relaxed);
        at_vault(&error, path)
    })
}
