//! What is said to vaults and by vaults: the things that both directions name.

mod answers;
mod calls;

use bytes::Bytes;
use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::vault_call::{
    ChunkPlace, CollectionInfo, ContainerInfo, FilePart, Progress, ScrubInfo, SealRequest, SnapshotEntry,
    SnapshotInfo, limits,
};
use orbit_shared::words::{JobId, Layout, SnapshotId, StarId};

pub(super) use self::answers::{vault_answer_from_wire, vault_answer_to_wire};
pub(super) use self::calls::{vault_call_from_wire, vault_call_to_wire};
use super::entry::{absolute_path, confined_path};
use super::{
    ConvertError, bounded, count, required, timestamp_from_wire, timestamp_to_wire, unknown_enum, words,
};
use crate::v1;

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

fn part_to_wire(part: FilePart) -> v1::SessionFilePart {
    v1::SessionFilePart {
        path: part.path.into(),
        offset: part.offset,
        length: part.length,
        size_bytes: part.size,
        modify_time: Some(timestamp_to_wire(part.modified)),
    }
}

fn part_from_wire(wire: v1::SessionFilePart) -> Result<FilePart, ConvertError> {
    Ok(FilePart {
        path: confined_path("part.path", wire.path)?,
        offset: wire.offset,
        length: wire.length,
        size: wire.size_bytes,
        modified: timestamp_from_wire("part.modify_time", &required("part.modify_time", wire.modify_time)?)?,
    })
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
            changed_while_read_count: info.changed_count,
            tree_hash: info.tree_hash.map(hash_to_wire).unwrap_or_default(),
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
            entry_count: count(wire.entry_count),
            file_count: count(wire.file_count),
            total_bytes: count(wire.total_bytes),
            added_bytes: count(wire.added_bytes),
            changed_count: count(wire.changed_while_read_count),
            tree_hash: match wire.tree_hash.is_empty() {
                true => None,
                false => Some(chunk_hash("tree_hash", &wire.tree_hash)?),
            },
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
            changed_while_read_count: seal.changed_count,
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
            entry_count: count(wire.entry_count),
            changed_count: count(wire.changed_while_read_count),
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
            size_bytes: count(wire.size_bytes),
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
            stored_bytes: count(wire.stored_bytes),
            raw_bytes: count(wire.raw_bytes),
            reference_count: count(wire.reference_count),
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
            dead_chunks: count(wire.dead_chunks),
            dead_bytes: count(wire.dead_bytes),
            waiting_chunks: count(wire.waiting_chunks),
            waiting_bytes: count(wire.waiting_bytes),
            removed_containers: count(wire.removed_containers),
            moved_bytes: count(wire.moved_bytes),
            freed_bytes: count(wire.freed_bytes),
            problem: words(&wire.problem),
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
            checked_chunks: count(wire.checked_chunks),
            checked_bytes: count(wire.checked_bytes),
            damaged_chunks: count(wire.damaged_chunks),
            problem: words(&wire.problem),
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
            chunk_count: count(wire.chunk_count),
            content_hash: *content_hash.as_bytes(),
        })
    }
}

fn converted<W, T: TryFrom<W, Error = ConvertError>>(list: Vec<W>) -> Result<Vec<T>, ConvertError> {
    list.into_iter().map(TryInto::try_into).collect()
}
