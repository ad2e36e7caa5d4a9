//! The facts that parts of the core report to each other, in the past tense. `mod.rs` routes them.

use std::collections::BTreeSet;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::comparison::Unchanged;
use orbit_shared::vault_call::{DamagedInfo, Renames, SnapshotInfo, VaultProblem, VaultReply};
use orbit_shared::words::{JobId, SnapshotId, StarId};

/// See the module.
#[derive(Debug)]
pub(super) enum Fact {
    /// A job is completed, without a dead letter.
    JobCompleted(JobId),
    /// A vault has damage, or may have.
    DamageSeen(StarId),
    /// A vault has made a snapshot; what it stored for that may be what it had lost.
    SnapshotMade(StarId),
    /// A destination says what it has of a batch, or will not say it.
    Compared {
        /// The job.
        job: JobId,
        /// Its destination.
        destination: usize,
        /// The question.
        request: u64,
        /// What it has.
        unchanged: Option<Unchanged>,
    },
    /// The same for a plan.
    PlanCompared {
        /// The plan's scan.
        scan: u64,
        /// The question.
        request: u64,
        /// What it has.
        unchanged: Option<Unchanged>,
    },
    /// A vault has made a snapshot, or has not; `None` if its answer will not come.
    SealAnswered {
        /// The job.
        job: JobId,
        /// Its destination.
        destination: u32,
        /// The Star.
        star: StarId,
        /// What it says: the snapshot, and what was renamed since the one before.
        answer: Option<Result<Box<(SnapshotInfo, Renames)>, VaultProblem>>,
    },
    /// A destination says how far its sweep is; `None` if its answer will not come.
    SweepAnswered {
        /// The job.
        job: JobId,
        /// Its destination.
        destination: u32,
        /// Which sweep.
        operation: u64,
        /// What it says.
        answer: Option<Result<VaultReply, VaultProblem>>,
    },
    /// A destination says what a mirror would delete; `None` if it will not say it.
    PlanSweepAnswered {
        /// The plan's scan.
        scan: u64,
        /// The plan's destination.
        destination: u32,
        /// What it says.
        answer: Option<Result<VaultReply, VaultProblem>>,
    },
    /// A damaged chunk is good again.
    ChunkHealed {
        /// In the vault of this Star.
        star: StarId,
        /// The chunk.
        hash: ChunkHash,
        /// The jobs of the snapshots that have it.
        jobs: BTreeSet<JobId>,
    },
    /// No vault has a chunk any more.
    ChunkLost(Box<Loss>),
    /// Nothing in the vault of a Star is damaged any more.
    VaultHealed(StarId),
}

/// A chunk that no vault has any more.
#[derive(Debug)]
pub(super) struct Loss {
    /// The Star in whose vault it is damaged.
    pub(super) star: StarId,
    /// The chunk.
    pub(super) info: DamagedInfo,
    /// Why files that it came from could not give it.
    pub(super) failures: Vec<String>,
    /// The first snapshot that it hits of those that are known: its job, its number and the path that is hit.
    pub(super) hit: Option<(JobId, SnapshotId, Vec<u8>)>,
}
