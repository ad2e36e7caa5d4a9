//! Reads the universe, as of one commit. Every call is one of the engine, and is made where a panic is caught.

use std::ops::Bound;

use orbit_shared::chunk_hash::ChunkHash;
use redb::{Database, ReadOnlyTable, ReadableDatabase as _};

use super::row::{NODE_BYTES, ROW_BYTES, Row};
use super::{CHUNKS, Hash, NODES};
use crate::packed::error::{PackedError, Result};

/// The tables that are read most often.
#[derive(Debug)]
pub(super) struct View {
    pub(super) chunks: ReadOnlyTable<&'static Hash, &'static [u8; ROW_BYTES]>,
    pub(super) nodes: ReadOnlyTable<&'static Hash, &'static [u8; NODE_BYTES]>,
}

impl View {
    /// A view of the newest commit.
    pub(super) fn of(database: &Database) -> Result<Self> {
        let transaction = database.begin_read().map_err(PackedError::universe)?;
        let chunks = transaction.open_table(CHUNKS).map_err(PackedError::universe)?;
        let nodes = transaction.open_table(NODES).map_err(PackedError::universe)?;
        Ok(Self { chunks, nodes })
    }

    pub(super) fn row(&self, hash: &ChunkHash) -> Result<Option<Row>> {
        let value = self.chunks.get(hash.as_bytes()).map_err(PackedError::universe)?;
        value.map(|value| Row::decode(hash, value.value())).transpose()
    }

    /// Rows that damage above them has hidden or doubled are out of order, and must not be taken for all rows: a chunk
    /// without a row is garbage.
    pub(super) fn rows_after(
        &self,
        after: Option<&ChunkHash>,
        limit: usize,
    ) -> Result<Vec<(ChunkHash, Row)>> {
        let mut before = after.copied();
        let start = after.map_or(Bound::Unbounded, |hash| Bound::Excluded(hash.as_bytes()));
        let range = self.chunks.range::<&Hash>((start, Bound::Unbounded));
        let mut rows = Vec::with_capacity(limit.min(4096));
        for item in range.map_err(PackedError::universe)?.take(limit) {
            let (key, value) = item.map_err(PackedError::universe)?;
            let hash = ChunkHash(*key.value());
            if before.replace(hash).is_some_and(|before| before >= hash) {
                return Err(PackedError::bad_universe("its rows are out of order"));
            }
            rows.push((hash, Row::decode(&hash, value.value())?));
        }
        Ok(rows)
    }

    /// As [`View::rows_after`], and each is also found by its hash.
    pub(super) fn checked_rows_after(
        &self,
        after: Option<&ChunkHash>,
        limit: usize,
    ) -> Result<Vec<(ChunkHash, Row)>> {
        let rows = self.rows_after(after, limit)?;
        for (hash, row) in &rows {
            if self.row(hash)?.as_ref() != Some(row) {
                return Err(PackedError::bad_universe("a row is not found by its hash"));
            }
        }
        Ok(rows)
    }
}
