//! VaultService: snapshots from the catalogue, everything else from the vault in question.

use orbit_proto::convert::timestamp_to_wire;
use orbit_proto::v1;
use orbit_proto::v1::vault_service_server::VaultService;
use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::entry::{EntryKind, display_path, is_confined};
use orbit_shared::vault_call::limits::TAGS_MAX;
use orbit_shared::vault_call::{SnapshotEntry, VaultCall, VaultReply};
use orbit_shared::words::{JobId, SnapshotId, StarId};
use tonic::{Request, Response, Status};

use super::fields::{all, few};
use super::jobs::caller;
use super::once::name;
use super::status::refused;
use super::{Faces, convert, page};
use crate::core::{Core, Refusal, SnapshotRecord, Violation};

const SNAPSHOTS_LIST: &str = "snapshots";
const ENTRIES_LIST: &str = "snapshot-entries";
const CONTAINERS_LIST: &str = "containers";
const LOCATIONS_LIST: &str = "locations";
/// Vaults that are asked at a time for a chunk.
const LOCATED_AT_ONCE: usize = 16;

/// Which snapshots are looked at.
#[derive(Debug, Default, Clone)]
pub(super) struct SnapshotFilter {
    pub(super) star: Option<StarId>,
    pub(super) job: Option<JobId>,
    pub(super) source_star: Option<StarId>,
    pub(super) source_path: Option<Vec<u8>>,
    pub(super) tags: Vec<String>,
}

impl SnapshotFilter {
    pub(super) fn is_match(&self, record: &SnapshotRecord) -> bool {
        let info = &record.info;
        self.star.as_ref().is_none_or(|star| record.star == *star)
            && self.job.is_none_or(|job| info.job == job)
            && self.source_star.as_ref().is_none_or(|star| info.source_star == *star)
            && self.source_path.as_ref().is_none_or(|path| info.source_path == *path)
            && self.tags.iter().all(|tag| info.tags.contains(tag))
    }
}

/// The path of a filter, where empty means any.
pub(super) fn path_filter(path: String) -> Option<Vec<u8>> {
    (!path.is_empty()).then(|| path.into_bytes())
}

/// A snapshot's name from a request.
pub(super) fn snapshot_id(text: &str) -> Result<SnapshotId, Violation> {
    text.parse().map_err(|error: orbit_shared::words::SnapshotIdError| {
        Violation::new("snapshot_id", format!("is {text:?}; {error}"))
    })
}

fn chunk_hash(text: &str) -> Result<ChunkHash, Violation> {
    text.parse().map_err(|error: orbit_shared::chunk_hash::ChunkHashError| {
        Violation::new("chunk_hash", error.to_string())
    })
}

/// The field of a restore from which a field of its job was made.
fn field_of_restore(field: &str) -> String {
    let of_restore = [
        ("spec.destinations[0]", "destination"),
        ("spec.destinations", "destination"),
        ("spec.source.snapshot_id", "snapshot_id"),
        ("spec.source.path", "path"),
        ("spec.", ""),
    ];
    let made = of_restore.iter().find_map(|(ours, theirs)| Some((theirs, field.strip_prefix(ours)?)));
    made.map_or_else(|| field.to_owned(), |(theirs, rest)| format!("{theirs}{rest}"))
}

/// A path in a snapshot's tree, with a slash before it or without.
fn tree_path(path: &str, raw_path: &[u8]) -> Result<Vec<u8>, Violation> {
    let path = if raw_path.is_empty() { path.as_bytes() } else { raw_path };
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let path = path.strip_suffix(b"/").unwrap_or(path);
    if is_confined(path) {
        return Ok(path.to_vec());
    }
    let problem =
        format!("is {:?}; `.`, `..`, empty parts and NUL are not allowed in it", display_path(path));
    Err(Violation::new("path", problem))
}

/// A snapshot.
pub(super) fn snapshot(record: SnapshotRecord) -> v1::Snapshot {
    let info = record.info;
    let source = crate::core::Location { star_id: info.source_star, path: info.source_path };
    v1::Snapshot {
        snapshot_id: info.id.to_string(),
        star_id: record.star.to_string(),
        job_id: info.job.0,
        destination: info.destination,
        source: Some(convert::location(source)),
        create_time: Some(timestamp_to_wire(info.create_time)),
        tags: info.tags,
        is_partial: info.is_partial,
        entry_count: info.entry_count,
        file_count: info.file_count,
        total_bytes: info.total_bytes,
        added_bytes: info.added_bytes,
        changed_while_read_count: info.changed_count,
        origin_star_id: record.origin.map(|star| star.to_string()).unwrap_or_default(),
        tree_hash: info.tree_hash.map(|hash| hash.to_string()).unwrap_or_default(),
    }
}

fn snapshot_entry(listed: SnapshotEntry) -> v1::SnapshotEntry {
    let entry = listed.entry;
    let (link_target, is_file) = match &entry.kind {
        EntryKind::Symlink { target } => (display_path(target), false),
        EntryKind::File { .. } => (String::new(), true),
        EntryKind::Directory
        | EntryKind::Fifo
        | EntryKind::Socket
        | EntryKind::CharacterDevice
        | EntryKind::BlockDevice
        | EntryKind::Unreadable { .. } => (String::new(), false),
    };
    let content_hash = if is_file { listed.content_hash.to_vec() } else { Vec::new() };
    v1::SnapshotEntry {
        path: display_path(&entry.path),
        kind: convert::entry_kind(&entry.kind).into(),
        size_bytes: entry.size(),
        mode: entry.mode,
        modify_time: Some(timestamp_to_wire(entry.modified)),
        link_target,
        chunk_count: listed.chunk_count,
        content_hash: content_hash.into(),
        raw_path: entry.path.into(),
    }
}

/// A vault that answers something else than was asked is a vault that did not answer.
fn unexpected(star: &StarId) -> Status {
    let problem = format!("the vault of {star} answered something else; is its version another?");
    refused(Refusal::Unavailable { problem })
}

impl Faces {
    /// Snapshots that match, newest first.
    pub(super) async fn snapshots_like(&self, filter: SnapshotFilter) -> Result<Vec<SnapshotRecord>, Status> {
        let look = move |core: &Core, _| {
            let records = core.snapshots().into_iter().filter(|record| filter.is_match(record));
            records.cloned().collect::<Vec<_>>()
        };
        self.inbox.view(look).await.map_err(refused)
    }

    async fn one_snapshot(&self, id: SnapshotId) -> Result<SnapshotRecord, Status> {
        let found = self.inbox.view(move |core, _| core.snapshot(id).cloned()).await.map_err(refused)?;
        found.ok_or_else(|| {
            let what = format!("snapshot {id}; ListSnapshots shows those there are");
            refused(Refusal::NotFound { what })
        })
    }

    /// Deletes one snapshot in its vault, and then in the catalogue.
    pub(super) async fn delete_one(&self, record: &SnapshotRecord) -> Result<(), Refusal> {
        let call = VaultCall::DeleteSnapshot(record.info.id);
        self.inbox.ask_vault(record.star.clone(), call).await.map(drop)
    }

    /// Brings back a deleted snapshot in the vault of a Star, or in the first connected vault that has it.
    async fn undelete_one(&self, id: SnapshotId, star: Option<StarId>) -> Result<SnapshotRecord, Status> {
        let known = self.inbox.view(move |core, _| core.snapshot(id).cloned()).await.map_err(refused)?;
        if let Some(known) = known {
            let problem = format!("snapshot {id} is not deleted: the vault of {} has it", known.star);
            return Err(refused(Refusal::WrongState { problem }));
        }
        let stars = match star {
            Some(star) => vec![star],
            None => self.inbox.view(|core, _| core.connected_stars()).await.map_err(refused)?,
        };
        // What a vault says of a snapshot that it has says more than that others have none.
        let mut refusal = None;
        for star in stars {
            match self.inbox.ask_vault(star.clone(), VaultCall::UndeleteSnapshot(id)).await {
                Ok(VaultReply::Sealed(info, _)) => return Ok(SnapshotRecord { star, info, origin: None }),
                Ok(_) => return Err(unexpected(&star)),
                Err(Refusal::NotFound { what }) if !what.contains("collected") => {}
                Err(other) => refusal = refusal.or(Some(other)),
            }
        }
        let what = || format!("deleted snapshot {id} in a vault that can be asked");
        Err(refused(refusal.unwrap_or_else(|| Refusal::NotFound { what: what() })))
    }
}

#[tonic::async_trait]
impl VaultService for Faces {
    async fn list_snapshots(
        &self,
        request: Request<v1::ListSnapshotsRequest>,
    ) -> Result<Response<v1::ListSnapshotsResponse>, Status> {
        let request = request.into_inner();
        let (size, after, star, source_star) = all((
            page::page_size("page_size", request.page_size),
            page::parsed_key::<SnapshotId>(SNAPSHOTS_LIST, &request.page_token),
            convert::star_filter(request.star_id),
            convert::named_star_filter("source_star_id", request.source_star_id),
        ))?;
        let filter = SnapshotFilter {
            star,
            job: convert::job_filter(request.job_id),
            source_star,
            source_path: path_filter(request.source_path),
            tags: few("tags", request.tags, TAGS_MAX)?,
        };
        let found = self.inbox.view(move |core, _| {
            let records = core.snapshots();
            let is_last = |record: &&SnapshotRecord| Some(record.info.id) == after;
            // If it was deleted since the previous page, the list begins again.
            let start = records.iter().position(is_last).map_or(0, |index| index + 1);
            let wanted = records[start..].iter().filter(|record| filter.is_match(record));
            page::fill(wanted.map(|&record| snapshot(record.clone())), size)
        });
        let (snapshots, has_more) = found.await.map_err(refused)?;
        let last = snapshots.last().filter(|_| has_more).map(|snapshot| snapshot.snapshot_id.clone());
        Ok(Response::new(v1::ListSnapshotsResponse {
            snapshots,
            next_page_token: last.map(|key| page::token(SNAPSHOTS_LIST, &key)).unwrap_or_default(),
        }))
    }

    async fn get_snapshot(
        &self,
        request: Request<v1::GetSnapshotRequest>,
    ) -> Result<Response<v1::GetSnapshotResponse>, Status> {
        let record = self.one_snapshot(snapshot_id(&request.into_inner().snapshot_id)?).await?;
        Ok(Response::new(v1::GetSnapshotResponse { snapshot: Some(snapshot(record)) }))
    }

    async fn delete_snapshot(
        &self,
        request: Request<v1::DeleteSnapshotRequest>,
    ) -> Result<Response<v1::DeleteSnapshotResponse>, Status> {
        let request = request.into_inner();
        let (name, id) =
            all((name("DeleteSnapshot", &request.request_id, &request), snapshot_id(&request.snapshot_id)))?;
        if let Some(told) = self.told(name.as_ref()).await? {
            return Ok(Response::new(told));
        }
        let record = self.one_snapshot(id).await?;
        self.delete_one(&record).await?;
        let answer = v1::DeleteSnapshotResponse { snapshot: Some(snapshot(record)) };
        self.tell(name, &answer).await?;
        Ok(Response::new(answer))
    }

    async fn undelete_snapshot(
        &self,
        request: Request<v1::UndeleteSnapshotRequest>,
    ) -> Result<Response<v1::UndeleteSnapshotResponse>, Status> {
        let request = request.into_inner();
        let (name, id, star) = all((
            name("UndeleteSnapshot", &request.request_id, &request),
            snapshot_id(&request.snapshot_id),
            convert::star_filter(request.star_id),
        ))?;
        if let Some(told) = self.told(name.as_ref()).await? {
            return Ok(Response::new(told));
        }
        let record = self.undelete_one(id, star).await?;
        let answer = v1::UndeleteSnapshotResponse { snapshot: Some(snapshot(record)) };
        self.tell(name, &answer).await?;
        Ok(Response::new(answer))
    }

    async fn restore_snapshot(
        &self,
        request: Request<v1::RestoreSnapshotRequest>,
    ) -> Result<Response<v1::RestoreSnapshotResponse>, Status> {
        let caller = caller(request.metadata());
        let request = request.into_inner();
        let path = tree_path(&request.path, &request.raw_path);
        let (id, path) = all((snapshot_id(&request.snapshot_id), path))?;
        let record = self.one_snapshot(id).await?;
        // What is restored may have been damaged without a trace in its size and time.
        let compare = match request.compare() {
            v1::Compare::Unspecified => v1::Compare::Content.into(),
            v1::Compare::Metadata | v1::Compare::Content => request.compare,
        };
        let source = v1::Location {
            star_id: record.star.to_string(),
            raw_path: [b"/".as_slice(), &path].concat().into(),
            snapshot_id: record.info.id.to_string(),
            ..v1::Location::default()
        };
        let spec = v1::JobSpec {
            source: Some(source),
            destinations: request.destination.into_iter().collect(),
            include: request.include,
            exclude: request.exclude,
            max_bytes_per_second: request.max_bytes_per_second,
            compare,
            ..v1::JobSpec::default()
        };
        let made = self.create_job_as(Some(spec), request.request_id, caller).await;
        let job = made.map_err(|refusal| refusal.with_fields(field_of_restore))?;
        Ok(Response::new(v1::RestoreSnapshotResponse { job: Some(job) }))
    }

    async fn list_snapshot_entries(
        &self,
        request: Request<v1::ListSnapshotEntriesRequest>,
    ) -> Result<Response<v1::ListSnapshotEntriesResponse>, Status> {
        let request = request.into_inner();
        let (id, path, count_max, after) = all((
            snapshot_id(&request.snapshot_id),
            tree_path(&request.path, &request.raw_path),
            page::page_size("page_size", request.page_size),
            page::bytes(ENTRIES_LIST, &request.page_token),
        ))?;
        let record = self.one_snapshot(id).await?;
        let call = VaultCall::ListEntries { snapshot: record.info.id, path, after, count_max };
        let reply = self.inbox.ask_vault(record.star.clone(), call).await.map_err(refused)?;
        let VaultReply::Entries { entries, is_end } = reply else { return Err(unexpected(&record.star)) };
        let (entries, is_cut) = page::fill(entries.into_iter().map(snapshot_entry), count_max);
        let last = entries.last().filter(|_| !is_end || is_cut).map(|last| last.raw_path.clone());
        Ok(Response::new(v1::ListSnapshotEntriesResponse {
            entries,
            next_page_token: last.map(|path| page::bytes_token(ENTRIES_LIST, &path)).unwrap_or_default(),
        }))
    }

    async fn get_read_grant(
        &self,
        request: Request<v1::GetReadGrantRequest>,
    ) -> Result<Response<v1::GetReadGrantResponse>, Status> {
        let id = snapshot_id(&request.into_inner().snapshot_id)?;
        self.one_snapshot(id).await?;
        let grant = self.inbox.read_grant(id).await.map_err(refused)?;
        Ok(Response::new(v1::GetReadGrantResponse {
            data_address: grant.address,
            token: grant.token,
            job_id: grant.capability.job.0,
            source_path: display_path(&grant.capability.source_path),
            destination_star_id: grant.capability.destination_star.to_string(),
        }))
    }

    async fn prune_snapshots(
        &self,
        request: Request<v1::PruneSnapshotsRequest>,
    ) -> Result<Response<v1::PruneSnapshotsResponse>, Status> {
        self.prune_page(&request.into_inner()).await.map(Response::new)
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Result<Response<v1::ListContainersResponse>, Status> {
        let request = request.into_inner();
        let (count_max, after, star) = all((
            page::page_size("page_size", request.page_size),
            page::key(CONTAINERS_LIST, &request.page_token),
            convert::star_id("star_id", request.star_id),
        ))?;
        let call = VaultCall::ListContainers { after, count_max };
        let reply = self.inbox.ask_vault(star.clone(), call).await.map_err(refused)?;
        let VaultReply::Containers { containers, is_end } = reply else { return Err(unexpected(&star)) };
        let containers = containers
            .into_iter()
            .map(|info| v1::Container { star_id: star.to_string(), ..v1::Container::from(info) });
        let (containers, is_cut) = page::fill(containers, count_max);
        let last = containers.last().filter(|_| !is_end || is_cut).map(|last| last.container_id.clone());
        Ok(Response::new(v1::ListContainersResponse {
            containers,
            next_page_token: last.map(|key| page::token(CONTAINERS_LIST, &key)).unwrap_or_default(),
        }))
    }

    async fn locate_chunk(
        &self,
        request: Request<v1::LocateChunkRequest>,
    ) -> Result<Response<v1::LocateChunkResponse>, Status> {
        let request = request.into_inner();
        let (hash, star, size, after) = all((
            chunk_hash(&request.chunk_hash),
            convert::star_filter(request.star_id),
            page::page_size("page_size", request.page_size),
            page::parsed_key::<StarId>(LOCATIONS_LIST, &request.page_token),
        ))?;
        let is_one = star.is_some();
        let mut stars = match star {
            Some(star) => vec![star],
            None => self.inbox.view(|core, _| core.connected_stars()).await.map_err(refused)?,
        };
        stars.retain(|star| after.as_ref().is_none_or(|after| star > after));
        let mut locations: Vec<v1::ChunkLocation> = Vec::new();
        let mut asked_count = 0;
        for group in stars.chunks(LOCATED_AT_ONCE) {
            if locations.len() >= size {
                break;
            }
            asked_count += group.len();
            let asked = group.iter().map(|star| async move {
                (star, self.inbox.ask_vault(star.clone(), VaultCall::LocateChunk(hash)).await)
            });
            for (star, answer) in futures::future::join_all(asked).await {
                match answer {
                    Ok(VaultReply::Located(Some(place))) => locations.push(v1::ChunkLocation {
                        star_id: star.to_string(),
                        ..v1::ChunkLocation::from(place)
                    }),
                    Ok(_) => {}
                    Err(refusal) if is_one => return Err(refused(refusal)),
                    // It left meanwhile; like those that are away it is not among the places.
                    Err(_) => {}
                }
            }
        }
        let is_cut = locations.len() > size;
        locations.truncate(size);
        let last = match (is_cut, asked_count < stars.len()) {
            (true, _) => locations.last().map(|last| last.star_id.clone()),
            (false, true) => stars[..asked_count].last().map(StarId::to_string),
            (false, false) => None,
        };
        let next_page_token = last.map(|key| page::token(LOCATIONS_LIST, &key)).unwrap_or_default();
        Ok(Response::new(v1::LocateChunkResponse { locations, next_page_token }))
    }

    async fn collect_garbage(
        &self,
        request: Request<v1::CollectGarbageRequest>,
    ) -> Result<Response<v1::CollectGarbageResponse>, Status> {
        let request = request.into_inner();
        let (name, star) = all((
            name("CollectGarbage", &request.request_id, &request),
            convert::star_id("star_id", request.star_id),
        ))?;
        if let Some(told) = self.told(name.as_ref()).await? {
            return Ok(Response::new(told));
        }
        let call = VaultCall::Collect {
            is_plan: request.plan_only,
            ignores_undo_window: request.ignore_undo_window,
        };
        let reply = self.inbox.ask_vault(star.clone(), call).await?;
        let VaultReply::Collection(info) = reply else { return Err(unexpected(&star)) };
        let collection = v1::Collection::from(info);
        let is_end = collection.progress() != v1::Progress::Running;
        let answer = v1::CollectGarbageResponse { collection: Some(collection) };
        self.tell(name.filter(|_| is_end), &answer).await?;
        Ok(Response::new(answer))
    }

    async fn scrub_vault(
        &self,
        request: Request<v1::ScrubVaultRequest>,
    ) -> Result<Response<v1::ScrubVaultResponse>, Status> {
        let request = request.into_inner();
        let bytes_per_second = u64::try_from(request.max_bytes_per_second).map_err(|_| {
            let problem = format!("is {}, must be 0 (no limit) or more", request.max_bytes_per_second);
            Violation::new("max_bytes_per_second", problem)
        });
        let (name, star, bytes_per_second) = all((
            name("ScrubVault", &request.request_id, &request),
            convert::star_id("star_id", request.star_id),
            bytes_per_second,
        ))?;
        if let Some(told) = self.told(name.as_ref()).await? {
            return Ok(Response::new(told));
        }
        let call = VaultCall::Scrub { bytes_per_second, is_everything: request.check_all };
        let reply = self.inbox.ask_vault(star.clone(), call).await?;
        let VaultReply::Scrub(info) = reply else { return Err(unexpected(&star)) };
        let scrub = v1::Scrub::from(info);
        let is_end = scrub.progress() != v1::Progress::Running;
        let answer = v1::ScrubVaultResponse { scrub: Some(scrub) };
        self.tell(name.filter(|_| is_end), &answer).await?;
        Ok(Response::new(answer))
    }
}
