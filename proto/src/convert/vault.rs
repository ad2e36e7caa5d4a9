//! What is said to vaults and by vaults.

use bytes::Bytes;
use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::vault_call::{
    ChunkPlace, CollectionInfo, ContainerInfo, DamagedInfo, HealRequest, Progress, ScrubInfo, SealRequest,
    SnapshotEntry, SnapshotInfo, VaultCall, VaultFailure, VaultProblem, VaultReply, limits,
};
use orbit_shared::words::{JobId, Layout, SnapshotId, StarId};

use super::entry::{absolute_path, confined_path};
use super::{ConvertError, bounded, required, timestamp_from_wire, timestamp_to_wire, unknown_enum};
use crate::v1;
use crate::v1::session_vault_answer::Answer;
use crate::v1::session_vault_call::Call;

pub(super) fn layout_to_wire(layout: Layout) -> v1::Layout {
    match layout {
        Layout::Files => v1::Layout::Files,
        Layout::Packed => v1::Layout::Packed,
    }
}

/// Not given is `Files`, as it was before there was another.
pub(super) fn layout_from_wire(field: &str, value: i32) -> Result<Layout, ConvertError> {
    match v1::Layout::try_from(value) {
        Ok(v1::Layout::Unspecified | v1::Layout::Files) => Ok(Layout::Files),
        Ok(v1::Layout::Packed) => Ok(Layout::Packed),
        Err(_) => Err(unknown_enum(field, value)),
    }
}

pub(super) fn snapshot_id_to_wire(id: Option<SnapshotId>) -> String {
    id.map(|id| id.to_string()).unwrap_or_default()
}

fn snapshot_id(field: &str, text: &str) -> Result<SnapshotId, ConvertError> {
    text.parse().map_err(|error: orbit_shared::words::SnapshotIdError| {
        ConvertError::new(field, format!("is {text:?}; {error}"))
    })
}

/// Where empty means none.
pub(super) fn optional_snapshot_id(field: &str, text: &str) -> Result<Option<SnapshotId>, ConvertError> {
    if text.is_empty() { Ok(None) } else { snapshot_id(field, text).map(Some) }
}

fn chunk_hash(field: &str, bytes: &[u8]) -> Result<ChunkHash, ConvertError> {
    ChunkHash::try_from(bytes).map_err(|error| ConvertError::new(field, error.to_string()))
}

fn star_id(field: &str, text: String) -> Result<StarId, ConvertError> {
    StarId::new(text).map_err(|error| ConvertError::new(field, error.to_string()))
}

fn page_size(field: &str, count: u32) -> Result<usize, ConvertError> {
    match usize::try_from(count) {
        Ok(count @ 1..=limits::PAGE_MAX) => Ok(count),
        Ok(_) | Err(_) => {
            Err(ConvertError::new(field, format!("is {count}, must be 1 to {}", limits::PAGE_MAX)))
        }
    }
}

fn count_to_wire(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn hash_to_wire(hash: ChunkHash) -> Bytes {
    Bytes::copy_from_slice(hash.as_bytes())
}

fn tags(tags: Vec<String>) -> Result<Vec<String>, ConvertError> {
    let tags = bounded("tags", tags, limits::TAGS_MAX)?;
    match tags.iter().find(|tag| tag.len() > limits::TAG_BYTES_MAX) {
        Some(_) => Err(ConvertError::new("tags", "one of them is too long")),
        None => Ok(tags),
    }
}

impl From<SnapshotInfo> for v1::SessionSnapshot {
    fn from(info: SnapshotInfo) -> Self {
        Self {
            snapshot_id: info.id.to_string(),
            job_id: info.job.0,
            destination: info.destination,
            source_star_id: info.source_star.into(),
            source_path: info.source_path.into(),
            create_time: Some(timestamp_to_wire(info.create_time)),
            tags: info.tags,
            is_partial: info.is_partial,
            entry_count: info.entry_count,
            file_count: info.file_count,
            total_bytes: info.total_bytes,
            added_bytes: info.added_bytes,
        }
    }
}

impl TryFrom<v1::SessionSnapshot> for SnapshotInfo {
    type Error = ConvertError;

    fn try_from(wire: v1::SessionSnapshot) -> Result<Self, ConvertError> {
        Ok(Self {
            id: snapshot_id("snapshot_id", &wire.snapshot_id)?,
            job: JobId(wire.job_id),
            destination: wire.destination,
            source_star: star_id("source_star_id", wire.source_star_id)?,
            source_path: absolute_path("source_path", wire.source_path)?,
            create_time: timestamp_from_wire("create_time", &required("create_time", wire.create_time)?)?,
            tags: tags(wire.tags)?,
            is_partial: wire.is_partial,
            entry_count: wire.entry_count,
            file_count: wire.file_count,
            total_bytes: wire.total_bytes,
            added_bytes: wire.added_bytes,
        })
    }
}

impl From<SealRequest> for v1::SessionSnapshot {
    fn from(seal: SealRequest) -> Self {
        Self {
            job_id: seal.job.0,
            destination: seal.destination,
            source_star_id: seal.source_star.into(),
            source_path: seal.source_path.into(),
            create_time: Some(timestamp_to_wire(seal.create_time)),
            tags: seal.tags,
            is_partial: seal.is_partial,
            entry_count: seal.entry_count,
            ..Self::default()
        }
    }
}

impl TryFrom<v1::SessionSnapshot> for SealRequest {
    type Error = ConvertError;

    fn try_from(wire: v1::SessionSnapshot) -> Result<Self, ConvertError> {
        Ok(Self {
            job: JobId(wire.job_id),
            destination: wire.destination,
            source_star: star_id("source_star_id", wire.source_star_id)?,
            source_path: absolute_path("source_path", wire.source_path)?,
            create_time: timestamp_from_wire("create_time", &required("create_time", wire.create_time)?)?,
            tags: tags(wire.tags)?,
            is_partial: wire.is_partial,
            entry_count: wire.entry_count,
        })
    }
}

impl From<ContainerInfo> for v1::Container {
    fn from(info: ContainerInfo) -> Self {
        Self {
            star_id: String::new(),
            container_id: info.id,
            size_bytes: info.size_bytes,
            is_sealed: info.is_sealed,
            is_damaged: info.is_damaged,
            check_time: info.check_time.map(timestamp_to_wire),
        }
    }
}

impl TryFrom<v1::Container> for ContainerInfo {
    type Error = ConvertError;

    fn try_from(wire: v1::Container) -> Result<Self, ConvertError> {
        let check_time = wire.check_time.map(|time| timestamp_from_wire("check_time", &time));
        Ok(Self {
            id: wire.container_id,
            size_bytes: wire.size_bytes,
            is_sealed: wire.is_sealed,
            is_damaged: wire.is_damaged,
            check_time: check_time.transpose()?,
        })
    }
}

impl From<ChunkPlace> for v1::ChunkLocation {
    fn from(place: ChunkPlace) -> Self {
        Self {
            star_id: String::new(),
            container_id: place.container,
            offset_bytes: place.offset,
            stored_bytes: place.stored_bytes,
            raw_bytes: place.raw_bytes,
            reference_count: place.reference_count,
            is_damaged: place.is_damaged,
        }
    }
}

impl From<v1::ChunkLocation> for ChunkPlace {
    fn from(wire: v1::ChunkLocation) -> Self {
        Self {
            container: wire.container_id,
            offset: wire.offset_bytes,
            stored_bytes: wire.stored_bytes,
            raw_bytes: wire.raw_bytes,
            reference_count: wire.reference_count,
            is_damaged: wire.is_damaged,
        }
    }
}

fn progress_to_wire(progress: Progress) -> v1::Progress {
    match progress {
        Progress::Running => v1::Progress::Running,
        Progress::Done => v1::Progress::Done,
        Progress::Failed => v1::Progress::Failed,
    }
}

fn progress_from_wire(value: i32) -> Result<Progress, ConvertError> {
    match v1::Progress::try_from(value) {
        Ok(v1::Progress::Running) => Ok(Progress::Running),
        Ok(v1::Progress::Done) => Ok(Progress::Done),
        Ok(v1::Progress::Failed) => Ok(Progress::Failed),
        Ok(v1::Progress::Unspecified) | Err(_) => Err(unknown_enum("progress", value)),
    }
}

impl From<CollectionInfo> for v1::Collection {
    fn from(info: CollectionInfo) -> Self {
        Self {
            progress: progress_to_wire(info.progress).into(),
            is_plan: info.is_plan,
            dead_chunks: info.dead_chunks,
            dead_bytes: info.dead_bytes,
            waiting_chunks: info.waiting_chunks,
            waiting_bytes: info.waiting_bytes,
            removed_containers: info.removed_containers,
            moved_bytes: info.moved_bytes,
            freed_bytes: info.freed_bytes,
            problem: info.problem,
        }
    }
}

impl TryFrom<v1::Collection> for CollectionInfo {
    type Error = ConvertError;

    fn try_from(wire: v1::Collection) -> Result<Self, ConvertError> {
        Ok(Self {
            progress: progress_from_wire(wire.progress)?,
            is_plan: wire.is_plan,
            dead_chunks: wire.dead_chunks,
            dead_bytes: wire.dead_bytes,
            waiting_chunks: wire.waiting_chunks,
            waiting_bytes: wire.waiting_bytes,
            removed_containers: wire.removed_containers,
            moved_bytes: wire.moved_bytes,
            freed_bytes: wire.freed_bytes,
            problem: wire.problem,
        })
    }
}

impl From<ScrubInfo> for v1::Scrub {
    fn from(info: ScrubInfo) -> Self {
        Self {
            progress: progress_to_wire(info.progress).into(),
            checked_chunks: info.checked_chunks,
            checked_bytes: info.checked_bytes,
            damaged_chunks: info.damaged_chunks,
            problem: info.problem,
        }
    }
}

impl TryFrom<v1::Scrub> for ScrubInfo {
    type Error = ConvertError;

    fn try_from(wire: v1::Scrub) -> Result<Self, ConvertError> {
        Ok(Self {
            progress: progress_from_wire(wire.progress)?,
            checked_chunks: wire.checked_chunks,
            checked_bytes: wire.checked_bytes,
            damaged_chunks: wire.damaged_chunks,
            problem: wire.problem,
        })
    }
}

impl From<SnapshotEntry> for v1::SessionSnapshotEntry {
    fn from(entry: SnapshotEntry) -> Self {
        Self {
            entry: Some(entry.entry.into()),
            chunk_count: entry.chunk_count,
            content_hash: Bytes::copy_from_slice(&entry.content_hash),
        }
    }
}

impl TryFrom<v1::SessionSnapshotEntry> for SnapshotEntry {
    type Error = ConvertError;

    fn try_from(wire: v1::SessionSnapshotEntry) -> Result<Self, ConvertError> {
        let content_hash = chunk_hash("content_hash", &wire.content_hash)?;
        Ok(Self {
            entry: required("entry", wire.entry)?.try_into()?,
            chunk_count: wire.chunk_count,
            content_hash: *content_hash.as_bytes(),
        })
    }
}

fn damaged_to_wire(info: DamagedInfo) -> v1::SessionDamagedChunk {
    let affected = info
        .affected
        .into_iter()
        .map(|(snapshot, path)| v1::SessionAffected { snapshot_id: snapshot.to_string(), path: path.into() });
    v1::SessionDamagedChunk {
        chunk_hash: hash_to_wire(info.hash),
        affected: affected.collect(),
        problem: info.problem,
    }
}

fn damaged_from_wire(wire: v1::SessionDamagedChunk) -> Result<DamagedInfo, ConvertError> {
    let affected = bounded("affected", wire.affected, limits::AFFECTED_MAX)?;
    let affected = affected.into_iter().map(|one| {
        let id = snapshot_id("affected.snapshot_id", &one.snapshot_id)?;
        Ok((id, confined_path("affected.path", one.path)?))
    });
    Ok(DamagedInfo {
        hash: chunk_hash("chunk_hash", &wire.chunk_hash)?,
        problem: wire.problem,
        affected: affected.collect::<Result<_, ConvertError>>()?,
    })
}

/// A call as it goes to a Star.
pub(super) fn vault_call_to_wire(request_id: u64, call: VaultCall) -> v1::SessionVaultCall {
    let call = match call {
        VaultCall::Seal(seal) => Call::Seal(seal.into()),
        VaultCall::Abandon { job, destination } => {
            Call::Abandon(v1::SessionStage { job_id: job.0, destination })
        }
        VaultCall::ListSnapshots { after } => {
            Call::ListSnapshots(v1::SessionListSnapshots { after_id: snapshot_id_to_wire(after) })
        }
        VaultCall::DeleteSnapshot(id) => {
            Call::DeleteSnapshot(v1::SessionDeleteSnapshot { snapshot_id: id.to_string() })
        }
        VaultCall::ListEntries { snapshot, path, after, count_max } => {
            Call::ListEntries(v1::SessionListEntries {
                snapshot_id: snapshot.to_string(),
                path: path.into(),
                after: after.map(Bytes::from),
                count_max: count_to_wire(count_max),
            })
        }
        VaultCall::ListContainers { after, count_max } => Call::ListContainers(v1::SessionListContainers {
            after_id: after.unwrap_or_default(),
            count_max: count_to_wire(count_max),
        }),
        VaultCall::LocateChunk(hash) => {
            Call::LocateChunk(v1::SessionLocateChunk { chunk_hash: hash_to_wire(hash) })
        }
        VaultCall::Collect { is_plan, ignores_undo_window } => {
            Call::Collect(v1::SessionCollect { is_plan, ignores_undo_window })
        }
        VaultCall::Scrub { bytes_per_second, is_everything } => {
            Call::Scrub(v1::SessionScrub { bytes_per_second, is_everything })
        }
        VaultCall::ListDamaged => Call::ListDamaged(v1::SessionListDamaged {}),
        VaultCall::Heal(heal) => Call::Heal(v1::SessionHeal {
            chunk_hash: hash_to_wire(heal.hash),
            source_star_id: heal.source_star.into(),
            source_address: heal.source_address,
            token: heal.token,
        }),
    };
    v1::SessionVaultCall { request_id, call: Some(call) }
}

/// A call as it comes from the coordinator.
pub(super) fn vault_call_from_wire(wire: v1::SessionVaultCall) -> Result<(u64, VaultCall), ConvertError> {
    let call = match required("call", wire.call)? {
        Call::Seal(seal) => VaultCall::Seal(seal.try_into()?),
        Call::Abandon(stage) => {
            VaultCall::Abandon { job: JobId(stage.job_id), destination: stage.destination }
        }
        Call::ListSnapshots(list) => {
            VaultCall::ListSnapshots { after: optional_snapshot_id("after_id", &list.after_id)? }
        }
        Call::DeleteSnapshot(delete) => {
            VaultCall::DeleteSnapshot(snapshot_id("snapshot_id", &delete.snapshot_id)?)
        }
        Call::ListEntries(list) => VaultCall::ListEntries {
            snapshot: snapshot_id("snapshot_id", &list.snapshot_id)?,
            path: confined_path("path", list.path)?,
            after: list.after.map(|path| confined_path("after", path)).transpose()?,
            count_max: page_size("count_max", list.count_max)?,
        },
        Call::ListContainers(list) => VaultCall::ListContainers {
            after: (!list.after_id.is_empty()).then_some(list.after_id),
            count_max: page_size("count_max", list.count_max)?,
        },
        Call::LocateChunk(locate) => VaultCall::LocateChunk(chunk_hash("chunk_hash", &locate.chunk_hash)?),
        Call::Collect(collect) => {
            VaultCall::Collect { is_plan: collect.is_plan, ignores_undo_window: collect.ignores_undo_window }
        }
        Call::Scrub(scrub) => {
            VaultCall::Scrub { bytes_per_second: scrub.bytes_per_second, is_everything: scrub.is_everything }
        }
        Call::ListDamaged(v1::SessionListDamaged {}) => VaultCall::ListDamaged,
        Call::Heal(heal) => VaultCall::Heal(HealRequest {
            hash: chunk_hash("chunk_hash", &heal.chunk_hash)?,
            source_star: star_id("source_star_id", heal.source_star_id)?,
            source_address: heal.source_address,
            token: heal.token,
        }),
    };
    Ok((wire.request_id, call))
}

fn reply_to_wire(reply: VaultReply) -> Answer {
    match reply {
        VaultReply::Sealed(info) => Answer::Sealed(info.into()),
        VaultReply::Done => Answer::Done(v1::SessionVaultDone {}),
        VaultReply::Snapshots { snapshots, stages, is_end } => Answer::Snapshots(v1::SessionSnapshots {
            snapshots: snapshots.into_iter().map(Into::into).collect(),
            stages: stages
                .into_iter()
                .map(|(job, destination)| v1::SessionStage { job_id: job.0, destination })
                .collect(),
            is_end,
        }),
        VaultReply::Entries { entries, is_end } => {
            let entries = entries.into_iter().map(Into::into).collect();
            Answer::Entries(v1::SessionEntries { entries, is_end })
        }
        VaultReply::Containers { containers, is_end } => {
            let containers = containers.into_iter().map(Into::into).collect();
            Answer::Containers(v1::SessionContainers { containers, is_end })
        }
        VaultReply::Located(place) => Answer::Located(v1::SessionLocated { location: place.map(Into::into) }),
        VaultReply::Collection(info) => Answer::Collection(info.into()),
        VaultReply::Scrub(info) => Answer::Scrub(info.into()),
        VaultReply::Damaged(chunks) => {
            let chunks = chunks.into_iter().map(damaged_to_wire).collect();
            Answer::Damaged(v1::SessionDamaged { chunks })
        }
    }
}

/// An answer as it goes to the coordinator.
pub(super) fn vault_answer_to_wire(
    request_id: u64,
    answer: Result<VaultReply, VaultProblem>,
) -> v1::SessionVaultAnswer {
    let answer = match answer {
        Ok(reply) => reply_to_wire(reply),
        Err(problem) => {
            let failure = match problem.failure {
                VaultFailure::NotFound => v1::VaultFailure::NotFound,
                VaultFailure::Busy => v1::VaultFailure::Busy,
                VaultFailure::Full => v1::VaultFailure::Full,
                VaultFailure::Damaged => v1::VaultFailure::Damaged,
                VaultFailure::Failed => v1::VaultFailure::Failed,
            };
            Answer::Problem(v1::SessionVaultProblem { failure: failure.into(), message: problem.message })
        }
    };
    v1::SessionVaultAnswer { request_id, answer: Some(answer) }
}

/// An answer as it comes from a Star.
#[expect(clippy::type_complexity, reason = "a request and its answer")]
pub(super) fn vault_answer_from_wire(
    wire: v1::SessionVaultAnswer,
) -> Result<(u64, Result<VaultReply, VaultProblem>), ConvertError> {
    let reply = match required("answer", wire.answer)? {
        Answer::Problem(problem) => {
            let failure = match v1::VaultFailure::try_from(problem.failure) {
                Ok(v1::VaultFailure::NotFound) => VaultFailure::NotFound,
                Ok(v1::VaultFailure::Busy) => VaultFailure::Busy,
                Ok(v1::VaultFailure::Full) => VaultFailure::Full,
                Ok(v1::VaultFailure::Damaged) => VaultFailure::Damaged,
                Ok(v1::VaultFailure::Failed) => VaultFailure::Failed,
                Ok(v1::VaultFailure::Unspecified) | Err(_) => {
                    return Err(unknown_enum("problem.failure", problem.failure));
                }
            };
            return Ok((wire.request_id, Err(VaultProblem { failure, message: problem.message })));
        }
        Answer::Sealed(info) => VaultReply::Sealed(info.try_into()?),
        Answer::Done(v1::SessionVaultDone {}) => VaultReply::Done,
        Answer::Snapshots(page) => VaultReply::Snapshots {
            snapshots: converted(bounded("snapshots", page.snapshots, limits::PAGE_MAX)?)?,
            stages: bounded("stages", page.stages, limits::STAGES_MAX)?
                .into_iter()
                .map(|stage| (JobId(stage.job_id), stage.destination))
                .collect(),
            is_end: page.is_end,
        },
        Answer::Entries(page) => VaultReply::Entries {
            entries: converted(bounded("entries", page.entries, limits::PAGE_MAX)?)?,
            is_end: page.is_end,
        },
        Answer::Containers(page) => VaultReply::Containers {
            containers: converted(bounded("containers", page.containers, limits::PAGE_MAX)?)?,
            is_end: page.is_end,
        },
        Answer::Located(located) => VaultReply::Located(located.location.map(Into::into)),
        Answer::Collection(info) => VaultReply::Collection(info.try_into()?),
        Answer::Scrub(info) => VaultReply::Scrub(info.try_into()?),
        Answer::Damaged(damaged) => VaultReply::Damaged(
            bounded("chunks", damaged.chunks, limits::DAMAGED_MAX)?
                .into_iter()
                .map(damaged_from_wire)
                .collect::<Result<_, _>>()?,
        ),
    };
    Ok((wire.request_id, Ok(reply)))
}

fn converted<W, T: TryFrom<W, Error = ConvertError>>(list: Vec<W>) -> Result<Vec<T>, ConvertError> {
    list.into_iter().map(TryInto::try_into).collect()
}
