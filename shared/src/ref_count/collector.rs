//! The collector: from "this chunk has no references" to "its bytes can be deleted", with nothing lost on the way.
//!
//! ```text
//!                confirm_wal_synced        collect, after the undo window
//!   ── mark ──▶ Pending ─────────▶ Ready ─────────────────▶ Deleting ── acknowledge ──▶ forgotten
//!                  │                 │  ◀── deletion_failed ──┤
//!                  └── on_referenced ┴──▶ forgotten           └── on_stored_again, keep ──▶ forgotten
//! ```
//!
//! A mark has a token. Confirming means "the index is durable with the removal that preceded *this* mark". If the chunk
//! was referenced and marked again meanwhile, a confirmation in flight does not count for the new mark.
//!
//! The marks last as long as one collection. What must survive a restart, the time of a chunk's mark, is in the index.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::References;
use crate::chunk_hash::ChunkHash;
use crate::time::Monotonic;

/// The settings of the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GcConfig {
    /// Minimum time for which a chunk is kept after its mark, so that a deleted snapshot can be undeleted.
    pub undo_window: Duration,
}

impl Default for GcConfig {
    /// One day.
    fn default() -> Self {
        Self { undo_window: Duration::from_secs(24 * 60 * 60) }
    }
}

/// Distinguishes a mark of a chunk from earlier ones. Never reused by one collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkToken(u64);

/// Permission to delete one chunk. It must be answered with [`GarbageCollector::acknowledge`],
/// [`GarbageCollector::keep`] or [`GarbageCollector::deletion_failed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a ticket that is not answered keeps its chunk from ever being collected"]
pub struct CollectTicket {
    /// Which chunk.
    pub hash: ChunkHash,
    /// Under which mark.
    pub token: MarkToken,
}

/// The result for a mark whose chunk is referenced again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancellation {
    /// There was no mark.
    NotMarked,
    /// The mark is removed and the chunk stays.
    Cancelled,
    /// Too late: a ticket is issued, and the chunk must be stored again once the deletion has been answered.
    BeingDeleted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Pending,
    Ready,
    Deleting,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    token: MarkToken,
    collectable_at: Monotonic,
    phase: Phase,
}

/// Leads unreferenced chunks to their deletion.
#[derive(Debug, Clone, Default)]
pub struct GarbageCollector {
    config: GcConfig,
    marks: BTreeMap<ChunkHash, Mark>,
    /// The marks that are Ready, by the end of their undo window and then by age.
    ready: BTreeSet<(Monotonic, MarkToken, ChunkHash)>,
    next_token: u64,
    total_collected: u64,
}

impl GarbageCollector {
    /// A collector without marks.
    pub fn new(config: GcConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// Marks a chunk without references, which has had none since `since`, and returns the mark's token. A chunk that is
    /// already marked keeps its mark, its token and its undo window.
    pub fn mark_reclaimable(&mut self, since: Monotonic, hash: ChunkHash) -> MarkToken {
        if let Some(mark) = self.marks.get(&hash) {
            return mark.token;
        }
        let token = MarkToken(self.next_token);
        self.next_token += 1;
        let collectable_at = since + self.config.undo_window;
        self.insert(hash, Mark { token, collectable_at, phase: Phase::Pending });
        token
    }

    /// The chunk is referenced again: cancels its mark if it is not too late.
    pub fn on_referenced(&mut self, hash: &ChunkHash) -> Cancellation {
        match self.marks.get(hash).map(|mark| mark.phase) {
            None => Cancellation::NotMarked,
            Some(Phase::Deleting) => Cancellation::BeingDeleted,
            Some(Phase::Pending | Phase::Ready) => {
                self.take(hash);
                Cancellation::Cancelled
            }
        }
    }

    /// The index is durable with all that preceded this mark. `false` if that mark no longer exists.
    pub fn confirm_wal_synced(&mut self, hash: &ChunkHash, token: MarkToken) -> bool {
        let Some(mark) = self.marks.get_mut(hash).filter(|mark| mark.token == token) else {
            return false;
        };
        if mark.phase == Phase::Pending {
            mark.phase = Phase::Ready;
            self.ready.insert((mark.collectable_at, token, *hash));
        }
        true
    }

    /// Permits the deletion of up to `count_max` chunks: marked, confirmed, past their undo window, and at this moment
    /// neither referenced nor pinned. One that is referenced or pinned loses its mark here. Oldest first.
    pub fn collect<R: References>(
        &mut self,
        now: Monotonic,
        refs: &R,
        count_max: usize,
    ) -> Vec<CollectTicket> {
        self.collect_due(now, refs, count_max)
    }

    /// As [`GarbageCollector::collect`], but ignores the undo window: for a disk that is filling up.
    pub fn collect_early<R: References>(&mut self, refs: &R, count_max: usize) -> Vec<CollectTicket> {
        self.collect_due(Monotonic::NEVER, refs, count_max)
    }

    fn collect_due<R: References>(
        &mut self,
        due: Monotonic,
        refs: &R,
        count_max: usize,
    ) -> Vec<CollectTicket> {
        let mut tickets = Vec::new();
        let mut needed = Vec::new();
        for (collectable_at, token, hash) in &self.ready {
            if tickets.len() == count_max || *collectable_at > due {
                break;
            }
            if refs.is_reclaimable(hash) {
                tickets.push(CollectTicket { hash: *hash, token: *token });
            } else {
                needed.push(*hash);
            }
        }
        for hash in &needed {
            self.take(hash);
        }
        for ticket in &tickets {
            self.set_phase(&ticket.hash, Phase::Deleting);
        }
        tickets
    }

    /// The chunk is deleted, durably. `false` for a ticket that was not issued.
    pub fn acknowledge(&mut self, ticket: &CollectTicket) -> bool {
        let is_out = self.is_out(ticket);
        if is_out {
            self.take(&ticket.hash);
            self.total_collected += 1;
        }
        is_out
    }

    /// The chunk is needed again, or was moved, so it was not deleted. `false` for a ticket that was not issued.
    pub fn keep(&mut self, ticket: &CollectTicket) -> bool {
        let is_out = self.is_out(ticket);
        if is_out {
            self.take(&ticket.hash);
        }
        is_out
    }

    /// The chunk is stored again, at another place, which the deletion of the old one does not concern. A ticket that is
    /// out for it is no longer valid.
    pub fn on_stored_again(&mut self, hash: &ChunkHash) {
        self.take(hash);
    }

    /// The chunk could not be deleted and is Ready again. `false` for a ticket that was not issued.
    pub fn deletion_failed(&mut self, ticket: &CollectTicket) -> bool {
        let is_out = self.is_out(ticket);
        if is_out {
            self.set_phase(&ticket.hash, Phase::Ready);
        }
        is_out
    }

    /// Number of marks, in whatever phase.
    pub fn mark_count(&self) -> usize {
        self.marks.len()
    }

    /// Number of acknowledged deletions.
    pub fn total_collected(&self) -> u64 {
        self.total_collected
    }

    /// Whether a ticket for the chunk is out: it counts as not stored.
    pub fn is_deleting(&self, hash: &ChunkHash) -> bool {
        self.marks.get(hash).is_some_and(|mark| mark.phase == Phase::Deleting)
    }

    fn is_out(&self, ticket: &CollectTicket) -> bool {
        let mark = self.marks.get(&ticket.hash);
        mark.is_some_and(|mark| mark.token == ticket.token && mark.phase == Phase::Deleting)
    }

    fn set_phase(&mut self, hash: &ChunkHash, phase: Phase) {
        let mark = self.take(hash).expect("only the phase of a mark is set");
        self.insert(*hash, Mark { phase, ..mark });
    }

    fn insert(&mut self, hash: ChunkHash, mark: Mark) {
        if mark.phase == Phase::Ready {
            self.ready.insert((mark.collectable_at, mark.token, hash));
        }
        let before = self.marks.insert(hash, mark);
        assert!(before.is_none(), "chunk {hash} has one mark at a time");
    }

    fn take(&mut self, hash: &ChunkHash) -> Option<Mark> {
        let mark = self.marks.remove(hash)?;
        if mark.phase == Phase::Ready {
            let was_ready = self.ready.remove(&(mark.collectable_at, mark.token, *hash));
            assert!(was_ready, "chunk {hash} is ready and indexed so");
        }
        Some(mark)
    }
}
