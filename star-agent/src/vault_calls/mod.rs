//! Answers the coordinator's calls to this Star's vault.
//!
//! Every call runs on its own blocking thread; the protocol limits their number. Collections and scrubs go on between
//! calls: a call begins one or joins it, and returns its progress.

mod heal;
mod keeper;
mod sentinel;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::entry::EntryKind;
use orbit_shared::vault_call::limits::{
    AFFECTED_MAX, CALL_PATIENCE, DAMAGED_MAX, ORIGINS_MAX, PAGE_BYTES_MAX, PAGE_MAX, STAGES_MAX,
};
use orbit_shared::vault_call::{
    ChunkOrigin, ChunkPlace, CollectionInfo, ContainerInfo, DamagedInfo, Renames, ScrubInfo, SealRequest,
    SnapshotEntry, SnapshotInfo, VaultCall, VaultFailure, VaultProblem, VaultReply,
};
use orbit_shared::words::{JobId, SnapshotId, StarId};

pub(crate) use self::keeper::Keeper;
pub(crate) use self::sentinel::Sentinel;
use crate::packed::{
    Affected, PackedError, PackedStore, SnapshotMeta, SnapshotRecord, SourceName, StageId, TreeEntry,
};
use crate::vault_calls::upkeep::Upkeep;
use orbit_identity::network::Network;
use orbit_program::clock;

/// How long trees are read to find out what damaged chunks affect. The chunks themselves are named in any case.
const AFFECTED_PATIENCE: Duration = Duration::from_secs(10);

const _: () = assert!(AFFECTED_PATIENCE.as_secs() * 2 < CALL_PATIENCE.as_secs());

/// See the module.
#[derive(Debug)]
pub struct VaultCalls {
    star_id: StarId,
    store: Arc<PackedStore>,
    network: Arc<dyn Network>,
    collecting: Arc<Upkeep<(bool, bool), CollectionInfo>>,
    scrubbing: Arc<Upkeep<(u64, bool), ScrubInfo>>,
}

impl VaultCalls {
    /// Answers for one vault. `network` is used to reach other vaults, from which this one is healed.
    pub fn new(star_id: StarId, store: Arc<PackedStore>, network: Arc<dyn Network>) -> Arc<Self> {
        let (collecting, scrubbing) = (Arc::default(), Arc::default());
        Arc::new(Self { star_id, store, network, collecting, scrubbing })
    }

    /// The packed store of the vault.
    pub fn store(&self) -> Arc<PackedStore> {
        Arc::clone(&self.store)
    }

    /// Executes a call.
    pub async fn answer(self: Arc<Self>, call: VaultCall) -> Result<VaultReply, VaultProblem> {
        if let VaultCall::Heal(request) = call {
            return heal::heal(self, request).await;
        }
        let answering = tokio::task::spawn_blocking(move || self.answer_now(call));
        answering.await.unwrap_or_else(|error| {
            let message = format!("the call ended abnormally, which is a defect of this Star: {error}");
            Err(VaultProblem { failure: VaultFailure::Failed, message })
        })
    }

    /// Removes what is stored of a job that has ended without a snapshot. Blocks.
    pub fn abandon_job(&self, job: JobId) {
        for stage in self.store.stages().into_iter().filter(|stage| stage.job == job) {
            if let Err(error) = self.store.abandon(stage) {
                tracing::warn!(job = job.0, %error, "what is stored of a job that has ended stays until the next start");
            }
        }
    }

    fn answer_now(&self, call: VaultCall) -> Result<VaultReply, VaultProblem> {
        match call {
            VaultCall::Seal(request) => self.seal(request),
            VaultCall::Abandon { job, destination } => {
                let abandoned = self.store.abandon(StageId { job, destination });
                abandoned.map(|()| VaultReply::Done).map_err(|error| problem(&error))
            }
            VaultCall::ListSnapshots { after } => Ok(self.list_snapshots(after)),
            VaultCall::DeleteSnapshot(id) => match self.store.delete_snapshot(&id) {
                Ok(()) | Err(PackedError::UnknownSnapshot(_)) => Ok(VaultReply::Done),
                Err(error) => Err(problem(&error)),
            },
            VaultCall::UndeleteSnapshot(id) => match self.store.undelete_snapshot(&id) {
                Ok(record) => Ok(VaultReply::Sealed(snapshot_info(record), Renames::default())),
                Err(PackedError::UnknownChunk { .. }) => {
                    let message = format!(
                        "deleted snapshot {id} with all of its content: a part was already collected"
                    );
                    Err(VaultProblem { failure: VaultFailure::NotFound, message })
                }
                Err(error) => Err(problem(&error)),
            },
            VaultCall::ListEntries { snapshot, path, after, count_max } => {
                self.list_entries(snapshot, &path, after, count_max)
            }
            VaultCall::ListContainers { after, count_max } => {
                self.list_containers(after.as_deref(), count_max)
            }
            VaultCall::LocateChunk(hash) => self.locate(&hash),
            VaultCall::Collect { is_plan, ignores_undo_window } => {
                upkeep::collect(&self.collecting, &self.store, is_plan, ignores_undo_window)
                    .map(VaultReply::Collection)
            }
            VaultCall::Scrub { bytes_per_second, is_everything } => {
                upkeep::scrub(&self.scrubbing, &self.store, bytes_per_second, is_everything)
                    .map(VaultReply::Scrub)
            }
            VaultCall::ListDamaged { after } => self.list_damaged(after),
            // These are handled elsewhere.
            VaultCall::Heal(_) | VaultCall::Sweep(_) => {
                let message = "this call is not about a vault".to_owned();
                Err(VaultProblem { failure: VaultFailure::Failed, message })
            }
        }
    }

    fn seal(&self, request: SealRequest) -> Result<VaultReply, VaultProblem> {
        let stage = StageId { job: request.job, destination: request.destination };
        let meta = SnapshotMeta {
            source: SourceName { star: request.source_star, path: request.source_path },
            created: request.create_time,
            tags: request.tags,
            is_partial: request.is_partial,
            expected_entries: Some(request.entry_count),
            changed_count: request.changed_count,
        };
        match self.store.seal(stage, &meta) {
            Ok(record) => {
                let renames = self.store.renames(&record);
                Ok(VaultReply::Sealed(snapshot_info(record), renames))
            }
            Err(error) => Err(problem(&error)),
        }
    }

    fn list_snapshots(&self, after: Option<SnapshotId>) -> VaultReply {
        let records = self.store.snapshots().into_iter();
        let mut records: Vec<_> =
            records.filter(|record| after.is_none_or(|after| record.id > after)).collect();
        let is_end = records.len() <= PAGE_MAX;
        records.truncate(PAGE_MAX);
        let stages = self.store.stages().into_iter().take(STAGES_MAX).filter(|_| is_end);
        VaultReply::Snapshots {
            snapshots: records.into_iter().map(snapshot_info).collect(),
            stages: stages.map(|stage| (stage.job, stage.destination)).collect(),
            is_end,
        }
    }

    fn list_entries(
        &self,
        snapshot: SnapshotId,
        path: &[u8],
        mut after: Option<Vec<u8>>,
        count_max: usize,
    ) -> Result<VaultReply, VaultProblem> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        // Other paths than those at and below the path may begin with the same bytes; they are skipped.
        loop {
            let page = self
                .store
                .entries(&snapshot, after.as_deref(), path, count_max)
                .map_err(|error| problem(&error))?;
            let Some(last) = page.last().map(|last| last.entry.path.clone()) else {
                return Ok(VaultReply::Entries { entries, is_end: true });
            };
            for found in page.into_iter().filter(|found| is_below(path, &found.entry.path)) {
                bytes += found.entry.path.len();
                if entries.len() == count_max || (bytes > PAGE_BYTES_MAX && !entries.is_empty()) {
                    return Ok(VaultReply::Entries { entries, is_end: false });
                }
                entries.push(snapshot_entry(found));
            }
            after = Some(last);
        }
    }

    fn list_containers(&self, after: Option<&str>, count_max: usize) -> Result<VaultReply, VaultProblem> {
        let mut containers = self.store.containers().map_err(|error| problem(&error))?;
        containers.sort_by(|a, b| a.container_id.cmp(&b.container_id));
        containers.retain(|info| after.is_none_or(|after| info.container_id.as_str() > after));
        let is_end = containers.len() <= count_max;
        containers.truncate(count_max);
        let containers = containers.into_iter().map(|info| ContainerInfo {
            id: info.container_id,
            size_bytes: info.file_bytes,
            is_sealed: info.is_sealed,
            is_damaged: info.is_damaged,
            check_time: info.checked,
        });
        Ok(VaultReply::Containers { containers: containers.collect(), is_end })
    }

    fn list_damaged(&self, after: Option<ChunkHash>) -> Result<VaultReply, VaultProblem> {
        let damaged = self.store.damaged().into_iter();
        let damaged: Vec<_> =
            damaged.filter(|one| after.is_none_or(|after| one.hash > after)).take(DAMAGED_MAX).collect();
        let hashes = damaged.iter().map(|one| one.hash).collect();
        let since = clock::now();
        let is_enough = || since.elapsed() >= AFFECTED_PATIENCE;
        let found = self.store.affected(&hashes, AFFECTED_MAX, &is_enough);
        let (mut affected, is_complete) = found.map_err(|error| problem(&error))?;
        let damaged = damaged.into_iter().map(|one| {
            let hits = affected.remove(&one.hash).unwrap_or_default();
            DamagedInfo {
                hash: one.hash,
                problem: one.problem,
                origins: origins(&hits),
                affected: hits.into_iter().map(|hit| (hit.snapshot, hit.path)).collect(),
                is_partial: !is_complete,
            }
        });
        Ok(VaultReply::Damaged(damaged.collect()))
    }

    fn locate(&self, hash: &ChunkHash) -> Result<VaultReply, VaultProblem> {
        let place = self.store.locate(hash).map_err(|error| problem(&error))?;
        let is_damaged = self.store.damaged().iter().any(|damaged| damaged.hash == *hash);
        Ok(VaultReply::Located(place.map(|place| ChunkPlace {
            container: place.container_id,
            offset: place.offset,
            stored_bytes: place.stored_length.into(),
            raw_bytes: place.length.into(),
            reference_count: place.references.into(),
            is_damaged,
        })))
    }
}

/// The files that a chunk came from, each version once.
fn origins(hits: &[Affected]) -> Vec<ChunkOrigin> {
    let mut origins: Vec<ChunkOrigin> = Vec::new();
    for hit in hits {
        let Some(part) = &hit.part else { continue };
        if origins.len() < ORIGINS_MAX && origins.iter().all(|known| known.part != *part) {
            origins.push(ChunkOrigin { snapshot: hit.snapshot, part: part.clone() });
        }
    }
    origins
}

/// Whether a path is equal to another one or below it.
pub(crate) fn is_below(base: &[u8], path: &[u8]) -> bool {
    base.is_empty() || path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn snapshot_info(record: SnapshotRecord) -> SnapshotInfo {
    SnapshotInfo {
        id: record.id,
        job: record.stage.job,
        destination: record.stage.destination,
        source_star: record.source.star,
        source_path: record.source.path,
        create_time: record.created,
        tags: record.tags,
        is_partial: record.is_partial,
        entry_count: record.entry_count,
        file_count: record.file_count,
        total_bytes: record.total_bytes,
        added_bytes: record.new_bytes,
        changed_count: record.changed_count,
        tree_hash: Some(record.root.hash),
    }
}

fn snapshot_entry(found: TreeEntry) -> SnapshotEntry {
    let mut hasher = blake3::Hasher::new();
    for chunk in &found.chunks {
        hasher.update(chunk.hash.as_bytes()).update(&chunk.length.to_le_bytes());
    }
    let is_file = matches!(found.entry.kind, EntryKind::File { .. });
    SnapshotEntry {
        chunk_count: found.chunks.len() as u64,
        content_hash: if is_file { *hasher.finalize().as_bytes() } else { [0; 32] },
        entry: found.entry,
    }
}

/// Converts an error of the store for the coordinator.
pub(crate) fn problem(error: &PackedError) -> VaultProblem {
    let failure = match error {
        PackedError::UnknownChunk { .. }
        | PackedError::UnknownSnapshot(_)
        | PackedError::StageIncomplete { .. } => VaultFailure::NotFound,
        PackedError::Damaged { .. }
        | PackedError::DamagedChunk { .. }
        | PackedError::MissingChunk { .. }
        | PackedError::TreeDamaged { .. } => VaultFailure::Damaged,
        error if error.is_full() => VaultFailure::Full,
        _ => VaultFailure::Failed,
    };
    VaultProblem { failure, message: error.to_string() }
}
