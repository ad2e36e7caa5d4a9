//! The collector: from "this chunk has no references" to "its bytes can be deleted", with nothing lost on the way.
//!
//! ```text
//!                confirm_wal_synced        collect, after the undo window
//!   ── mark ──▶ Pending ─────────▶ Ready ─────────────────▶ Deleting ── acknowledge ──▶ forgotten
//!                  │                 │  ◀── deletion_failed ──┘
//!                  └── on_referenced ┴──▶ forgotten
//! ```
//!
//! A mark has a token. Confirming means "the removal that followed *this* mark is durable in the index". If the chunk
//! was referenced and marked again meanwhile, a confirmation in flight does not count for the new mark.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::References;
use crate::chunk_hash::ChunkHash;
use crate::time::Monotonic;

/// The settings of the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
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

/// Distinguishes a mark of a chunk from earlier ones. Never reused by one collector, even after a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MarkToken(u64);

/// Permission to delete one chunk. It must be answered with [`GarbageCollector::acknowledge`] or
/// [`GarbageCollector::deletion_failed`].
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

/// The stored form of a mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkSnapshot {
    /// The chunk.
    pub hash: ChunkHash,
    /// Its mark.
    pub token: MarkToken,
    /// Whether the removal was durable. A chunk whose deletion had begun is stored like this, and is deleted again.
    pub is_wal_synced: bool,
    /// The rest of the undo window. A reading of the clock would mean nothing to the next process.
    pub undo_remaining: Duration,
}

/// The state of a collector that must survive a restart.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcSnapshot {
    /// The number of the next token.
    pub next_token: u64,
    /// Number of chunks collected so far.
    pub total_collected: u64,
    /// Every mark, in the order of hashes.
    pub marks: Vec<MarkSnapshot>,
}

/// Leads unreferenced chunks to their deletion.
#[derive(Debug, Clone, Default)]
pub struct GarbageCollector {
    config: GcConfig,
    marks: BTreeMap<ChunkHash, Mark>,
    /// The marks that are Ready, by the end of their undo window and then by age.
    ready: BTreeSet<(Monotonic, MarkToken, ChunkHash)>,
    deleting_count: usize,
    next_token: u64,
    total_collected: u64,
}

impl GarbageCollector {
    /// A collector without marks.
    pub fn new(config: GcConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// A collector in the state of the snapshot, except that chunks whose deletion had begun are Ready again.
    pub fn restore(config: GcConfig, now: Monotonic, snapshot: &GcSnapshot) -> Self {
        let mut collector = Self::new(config);
        collector.total_collected = snapshot.total_collected;
        collector.next_token = snapshot.next_token;
        for stored in &snapshot.marks {
            // A damaged counter must not issue a token twice.
            collector.next_token = collector.next_token.max(stored.token.0.saturating_add(1));
            let phase = if stored.is_wal_synced { Phase::Ready } else { Phase::Pending };
            let mark = Mark { token: stored.token, collectable_at: now + stored.undo_remaining, phase };
            collector.insert(stored.hash, mark);
        }
        collector
    }

    /// The state for [`GarbageCollector::restore`].
    pub fn snapshot(&self, now: Monotonic) -> GcSnapshot {
        let stored = |(hash, mark): (&ChunkHash, &Mark)| MarkSnapshot {
            hash: *hash,
            token: mark.token,
            is_wal_synced: mark.phase != Phase::Pending,
            undo_remaining: mark.collectable_at.since(now),
        };
        GcSnapshot {
            next_token: self.next_token,
            total_collected: self.total_collected,
            marks: self.marks.iter().map(stored).collect(),
        }
    }

    /// Marks a chunk that has lost its last reference and returns the mark's token. A chunk that is already marked
    /// keeps its mark, its token and its undo window.
    pub fn mark_reclaimable(&mut self, now: Monotonic, hash: ChunkHash) -> MarkToken {
        if let Some(mark) = self.marks.get(&hash) {
            return mark.token;
        }
        let token = MarkToken(self.next_token);
        self.next_token += 1;
        let collectable_at = now + self.config.undo_window;
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

    /// The index's removal of the chunk that followed this mark is durable. `false` if that mark no longer exists.
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

    /// What [`GarbageCollector::collect`] would return now, without a change.
    pub fn plan<R: References>(&self, now: Monotonic, refs: &R, count_max: usize) -> Vec<ChunkHash> {
        let due = self.ready.iter().take_while(|(collectable_at, ..)| *collectable_at <= now);
        due.map(|(.., hash)| *hash).filter(|hash| refs.is_reclaimable(hash)).take(count_max).collect()
    }

    /// Permits the deletion of up to `count_max` chunks: marked, confirmed, past their undo window, and at this moment
    /// neither referenced nor pinned. A referenced one loses its mark here, a pinned one waits. Oldest first.
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
        let mut referenced = Vec::new();
        for (collectable_at, token, hash) in &self.ready {
            if tickets.len() == count_max || *collectable_at > due {
                break;
            }
            if refs.count(hash) > 0 {
                referenced.push(*hash);
            } else if !refs.is_pinned(hash) {
                tickets.push(CollectTicket { hash: *hash, token: *token });
            }
        }
        for hash in &referenced {
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

    /// The chunk could not be deleted and is Ready again. `false` for a ticket that was not issued.
    pub fn deletion_failed(&mut self, ticket: &CollectTicket) -> bool {
        let is_out = self.is_out(ticket);
        if is_out {
            self.set_phase(&ticket.hash, Phase::Ready);
        }
        is_out
    }

    /// Marks that wait for their confirmation.
    pub fn pending_count(&self) -> usize {
        self.marks.len() - self.ready.len() - self.deleting_count
    }

    /// Confirmed marks, within or past their undo window.
    pub fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// Number of tickets that have not been answered.
    pub fn deleting_count(&self) -> usize {
        self.deleting_count
    }

    /// Number of acknowledged deletions.
    pub fn total_collected(&self) -> u64 {
        self.total_collected
    }

    /// Whether the chunk is marked and the removal that followed is durable.
    pub fn is_wal_synced(&self, hash: &ChunkHash) -> bool {
        self.marks.get(hash).is_some_and(|mark| mark.phase != Phase::Pending)
    }

    /// The token of the chunk's mark.
    pub fn mark_token(&self, hash: &ChunkHash) -> Option<MarkToken> {
        self.marks.get(hash).map(|mark| mark.token)
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
        match mark.phase {
            Phase::Pending => {}
            Phase::Ready => {
                self.ready.insert((mark.collectable_at, mark.token, hash));
            }
            Phase::Deleting => self.deleting_count += 1,
        }
        let before = self.marks.insert(hash, mark);
        assert!(before.is_none(), "chunk {hash} has one mark at a time");
    }

    fn take(&mut self, hash: &ChunkHash) -> Option<Mark> {
        let mark = self.marks.remove(hash)?;
        match mark.phase {
            Phase::Pending => {}
            Phase::Ready => {
                let was_ready = self.ready.remove(&(mark.collectable_at, mark.token, *hash));
                assert!(was_ready, "chunk {hash} is ready and indexed so");
            }
            Phase::Deleting => self.deleting_count -= 1,
        }
        Some(mark)
    }
}
