//! Events about content: chunks that moved, were there already, were checked or were stored, and files that were renamed.
//!
//! Events of chunks are sums over one report of a Star, so that their number follows the number of reports and not that of chunks.
//! A report is about one large file or about up to some hundred small ones. Reports of Stars of earlier versions have bytes and no
//! numbers of chunks; what is 0 has no event.

use orbit_shared::entry::display_path;
use orbit_shared::provenance::{ProvenanceEvent, ProvenanceType};
use orbit_shared::session::ChunkCounts;
use orbit_shared::vault_call::{Rename, Renames, SnapshotInfo};
use orbit_shared::words::{AssignmentId, ItemId, JobId};

use super::Jobs;
use crate::core::notices::display_location;
use crate::core::turn::Turn;

/// What the items of one report have moved.
#[derive(Debug, Default)]
pub(super) struct ContentSums {
    /// The first and the last of the items with content.
    ends: Option<(ItemId, ItemId)>,
    /// Number of these items.
    item_count: u64,
    /// The path of the one that was added first.
    path: Vec<u8>,
    bytes_transferred: u64,
    bytes_deduplicated: u64,
    chunks: ChunkCounts,
    duration_ms: u64,
}

impl ContentSums {
    /// Adds an item that was stored.
    pub(super) fn add(
        &mut self,
        (item, path): (ItemId, &[u8]),
        (bytes_transferred, bytes_deduplicated): (u64, u64),
        chunks: ChunkCounts,
        duration_ms: u64,
    ) {
        if bytes_transferred == 0 && bytes_deduplicated == 0 {
            return;
        }
        self.ends = match self.ends {
            None => {
                self.path = path.to_vec();
                Some((item, item))
            }
            Some((first, last)) => Some((first.min(item), last.max(item))),
        };
        self.item_count += 1;
        // Sums saturate: what a Star says of sizes may be untrue.
        self.bytes_transferred = self.bytes_transferred.saturating_add(bytes_transferred);
        self.bytes_deduplicated = self.bytes_deduplicated.saturating_add(bytes_deduplicated);
        self.chunks.transferred = self.chunks.transferred.saturating_add(chunks.transferred);
        self.chunks.deduplicated = self.chunks.deduplicated.saturating_add(chunks.deduplicated);
        self.chunks.packed = self.chunks.packed.saturating_add(chunks.packed);
        self.chunks.packed_bytes = self.chunks.packed_bytes.saturating_add(chunks.packed_bytes);
        self.duration_ms = self.duration_ms.max(duration_ms);
    }
}

impl Jobs {
    /// Records what the items of a report have moved: at most one event of each type.
    pub(super) fn record_content(&self, turn: &mut Turn, assignment: AssignmentId, sums: &ContentSums) {
        let Some((first, last)) = sums.ends else { return };
        let ContentSums { bytes_transferred, bytes_deduplicated, chunks, .. } = *sums;
        let kinds = [
            (ProvenanceType::ChunkDeduplicated, bytes_deduplicated, chunks.deduplicated),
            (ProvenanceType::ChunkTransferred, bytes_transferred, chunks.transferred),
            // Everything that arrives is compared with its hash before it is written.
            (ProvenanceType::ChunkVerified, bytes_transferred, chunks.transferred),
            (ProvenanceType::ChunkCreated, chunks.packed_bytes, chunks.packed),
            (ProvenanceType::ChunkPacked, chunks.packed_bytes, chunks.packed),
        ];
        for (event_type, bytes, count) in kinds.into_iter().filter(|(_, bytes, _)| *bytes > 0) {
            let path: &[u8] = if first == last { &sums.path } else { b"" };
            let mut event = self.item_event(event_type, first, path);
            if first != last {
                event.item = None;
                event = event
                    .with_context("first_item", first.to_string())
                    .with_context("last_item", last.to_string());
            }
            if count > 0 {
                event = event.with_context("chunks", count.to_string());
            }
            let event = event
                .with_bytes(bytes)
                .with_duration_ms(sums.duration_ms)
                .with_context("files", sums.item_count.to_string())
                .with_context("assignment", assignment.to_string());
            turn.record(event);
        }
    }

    /// Records which files a new snapshot has under other paths than the one before it.
    pub(super) fn record_renames(
        &self,
        turn: &mut Turn,
        (job, destination): (JobId, u32),
        info: &SnapshotInfo,
        renames: &Renames,
    ) {
        let spec = &self.job(job).record.spec;
        let place = &spec.destinations[destination as usize];
        let event = |path: &[u8], bytes| {
            ProvenanceEvent::new(ProvenanceType::FileRenamed, job)
                .with_star(place.star_id.clone())
                .with_source(display_location(&spec.source, path))
                .with_destination(display_location(place, path))
                .with_bytes(bytes)
                .with_context("snapshot", info.id.to_string())
        };
        let named =
            |one: &Rename| event(&one.to, one.bytes).with_context("renamed_from", display_path(&one.from));
        let mut events: Vec<_> = renames.first.iter().map(named).collect();
        let others = renames.count.saturating_sub(renames.first.len() as u64);
        if others > 0 {
            let named_bytes = renames.first.iter().fold(0_u64, |sum, one| sum.saturating_add(one.bytes));
            let rest = event(b"", renames.bytes.saturating_sub(named_bytes));
            events.push(rest.with_context("files", others.to_string()));
        }
        for event in events {
            turn.record(event);
        }
    }
}
