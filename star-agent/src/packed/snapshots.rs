//! Makes snapshots from stages, and reads them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLockReadGuard};
use std::thread::ScopedJoinHandle;

use orbit_shared::chunk_hash::ChunkHash;

use super::error::{PackedError, Result};
use super::records::{self, Shelf};
use super::sort::Sorter;
use super::stage::Stage;
use super::tree::{Built, Node, NodeSource, Step, TreeBuilder, resolve, walk};
use super::types::{ChunkRef, SnapshotId, SnapshotMeta, SnapshotRecord, SourceName, StageId, TreeEntry};
use super::universe::Children;
use super::{PackedStore, SNAPSHOTS, STAGES};

/// A part of a tree that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeGap {
    /// The first path in it; empty for the whole tree.
    pub first_path: Vec<u8>,
    /// Number of entries in it; 0 if that is not known.
    pub entry_count: u64,
    /// The chunk.
    pub hash: ChunkHash,
    /// The error.
    pub problem: String,
}

/// Some entries of a snapshot.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct EntryPage {
    /// The entries, in the order of their paths.
    pub entries: Vec<TreeEntry>,
    /// The parts of the tree in this range that cannot be read.
    pub gaps: Vec<TreeGap>,
}

/// Maximum number of attempts to build a tree, if content of the vault is lost meanwhile.
const BUILDS_MAX: usize = 4;
/// Minimum number of chunks missing in the universe for which a thread writes them into it during the build.
const FLUSHED_BESIDE_MIN: usize = 4096;

#[derive(Debug, Default, Clone, Copy)]
struct Totals {
    files: u64,
    bytes: u64,
}

impl NodeSource for PackedStore {
    fn node(&self, hash: &ChunkHash) -> Result<Arc<Node>> {
        self.nodes.node(hash, || self.read_chunk(hash))
    }
}

impl PackedStore {
    pub(super) fn shelf(&self) -> RwLockReadGuard<'_, Shelf> {
        self.snapshots.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change_shelf(&self, change: impl FnOnce(&mut Shelf)) {
        change(&mut self.snapshots.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The children of a node, for a change of the universe, which must not be read from here.
    pub(super) fn children(&self, hash: &ChunkHash) -> Result<Option<Children>> {
        match self.node(hash) {
            Ok(node) => Ok(Some(node.children())),
            Err(PackedError::DamagedChunk { .. } | PackedError::UnknownChunk { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The stage's entry with this path, if all of its content is stored.
    ///
    /// # Errors
    /// The stage cannot be read.
    pub fn staged(&self, stage: StageId, path: &[u8]) -> Result<Option<TreeEntry>> {
        let Some(log) = self.stage(stage) else { return Ok(None) };
        match log.find(path)? {
            Some(entry) if self.lacks(stage, &entry)?.is_none() => Ok(Some(entry)),
            Some(_) | None => Ok(None),
        }
    }

    /// Whether all content of an entry is stored. Stored chunks are kept for the stage.
    pub fn has_all_of(&self, stage: StageId, entry: &TreeEntry) -> bool {
        matches!(self.lacks(stage, entry), Ok(None))
    }

    /// The first chunk of the entry that is not stored. Stored chunks are kept for the stage.
    pub(super) fn lacks(&self, stage: StageId, entry: &TreeEntry) -> Result<Option<ChunkHash>> {
        let hashes: Vec<_> = entry.chunks.iter().map(|chunk| chunk.hash).collect();
        let known = self.contains(stage, &hashes)?;
        Ok(known.iter().position(|is_known| !is_known).map(|index| hashes[index]))
    }

    /// The entry with this path in the newest snapshot of the same source, if all of its content is still stored. The
    /// content is kept for the stage, so an unchanged file can be committed again without being read.
    ///
    /// # Errors
    /// The universe cannot be read, or the disk reports an error. Damaged content counts as not stored.
    pub fn earlier(&self, stage: StageId, source: &SourceName, path: &[u8]) -> Result<Option<TreeEntry>> {
        let Some(root) = self.shelf().newest_of(source).map(|record| record.root) else { return Ok(None) };
        match self.find_entry(&root, path) {
            Ok(Some(entry)) if self.lacks(stage, &entry)?.is_none() => Ok(Some(entry)),
            Ok(_) | Err(PackedError::DamagedChunk { .. } | PackedError::UnknownChunk { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a stage a snapshot, durably. A repeated call returns the same record. A job without entries makes an empty
    /// snapshot.
    ///
    /// # Errors
    /// The stage has fewer entries than it should; content of an entry is lost, and must be stored again; or the disk
    /// is full or reports an error. Then the stage is unchanged.
    pub fn seal(&self, stage: StageId, meta: &SnapshotMeta) -> Result<SnapshotRecord> {
        let _one_at_a_time = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = |record: &&SnapshotRecord| record.stage == stage && record.created == meta.created;
        if self.stage(stage).is_none()
            && let Some(record) = self.shelf().records().values().find(before)
        {
            return Ok(record.clone());
        }
        self.refuse_read_only()?;
        let log = self.open_stage(stage)?;
        let (built, totals) = self.build_whole_tree(&log, meta)?;
        let record = SnapshotRecord {
            id: SnapshotId(log.uuid),
            stage,
            source: meta.source.clone(),
            created: meta.created,
            sealed: (self.config.now)(),
            tags: meta.tags.clone(),
            is_partial: meta.is_partial,
            entry_count: built.entry_count,
            file_count: totals.files,
            total_bytes: totals.bytes,
            new_bytes: self.memory().new_bytes(stage),
            root: built.root,
            changed_count: meta.changed_count,
        };
        let now = self.now_seconds();
        self.flush_and(Some(&mut |tables| {
            tables.own(&record.id, Some(&record.root.hash), now, &|hash| self.children(hash))
        }))?;
        self.write_spare(&record.id, &record.root)?;
        records::write(&self.dir.join(SNAPSHOTS), &record)?;
        self.change_shelf(|shelf| shelf.insert(record.clone()));
        self.drop_stage(&log)?;
        Ok(record)
    }

    /// Builds the tree, durably, and checks the presence of the containers before and after that.
    fn build_whole_tree(&self, log: &Stage, meta: &SnapshotMeta) -> Result<(Built, Totals)> {
        for _ in 0..BUILDS_MAX {
            self.check_presence()?;
            let losses = self.memory().losses();
            let built = self.build_tree_and_flush(log, meta)?;
            self.make_durable()?;
            self.pass_window("built");
            self.check_presence()?;
            if self.memory().losses() == losses {
                return Ok(built);
            }
        }
        Err(PackedError::io(&self.dir, "store the tree in")(std::io::Error::other(
            "chunks are lost again and again while it is being stored",
        )))
    }

    /// Builds the tree. If many chunks are missing in the universe, they are written into it meanwhile.
    fn build_tree_and_flush(&self, log: &Stage, meta: &SnapshotMeta) -> Result<(Built, Totals)> {
        if self.memory().recent.len() < FLUSHED_BESIDE_MIN {
            return self.build_tree(log, meta);
        }
        std::thread::scope(|scope| {
            let flushing = std::thread::Builder::new().spawn_scoped(scope, || self.flush());
            let built = self.build_tree(log, meta);
            match flushing.map(ScopedJoinHandle::join) {
                Ok(Ok(flushed)) => flushed.and(built),
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                // If no thread can be started, they are written with the snapshot.
                Err(_) => built,
            }
        })
    }

    fn build_tree(&self, log: &Stage, meta: &SnapshotMeta) -> Result<(Built, Totals)> {
        let mut sorter = Sorter::new(&self.dir.join(STAGES), self.config.sort_bytes);
        log.entries(|entry| sorter.push(entry))?;
        // All chunks of an entry were stored when it was committed, and stay unless chunks are lost.
        let must_check = self.has_lost_chunks();
        let put = |bytes: &[u8]| {
            let hash = ChunkHash::of(bytes);
            self.put(log.id, hash, bytes)?;
            // A node is far smaller than the maximum size of a chunk.
            Ok(ChunkRef { hash, length: bytes.len() as u32 })
        };
        let mut builder = TreeBuilder::new(put);
        let mut totals = Totals::default();
        let found = sorter.finish(|entry| {
            if let orbit_shared::entry::EntryKind::File { size } = entry.entry.kind {
                totals.files += 1;
                totals.bytes = totals.bytes.saturating_add(size);
            }
            if must_check && let Some(hash) = self.lacks(log.id, &entry)? {
                return Err(PackedError::MissingChunk { path: entry.entry.path, hash });
            }
            builder.push(&entry)
        })?;
        // There may be more: entries that an attempt stored whose report was lost, and that a later attempt gave up.
        if let Some(expected) = meta.expected_entries.filter(|expected| *expected > found) {
            return Err(PackedError::StageIncomplete { stage: log.id, expected, found });
        }
        Ok((builder.finish()?, totals))
    }

    /// Whether any stored chunk may be lost.
    fn has_lost_chunks(&self) -> bool {
        let memory = self.memory();
        self.opened.chunks_lost + self.opened.entries_lost + memory.losses() > 0
            || !self.opened.missing_containers.is_empty()
            || !memory.damaged.is_empty()
            || self.has_trouble()
    }

    /// From now on the snapshot is counted for this root, or for none.
    pub(super) fn own(&self, id: &SnapshotId, root: Option<&ChunkHash>) -> Result<()> {
        let now = self.now_seconds();
        self.universe.write(|tables| tables.own(id, root, now, &|hash| self.children(hash)))
    }

    /// The stage is no longer needed.
    fn drop_stage(&self, log: &Stage) -> Result<()> {
        self.stages.write().unwrap_or_else(PoisonError::into_inner).remove(&log.id);
        log.remove()?;
        self.memory().unpin_all(log.id);
        Ok(())
    }

    /// Removes a stage; what only it needed is collected. It is no error if the stage does not exist.
    ///
    /// # Errors
    /// The disk reports an error.
    pub fn abandon(&self, stage: StageId) -> Result<()> {
        let _one_at_a_time = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        match self.stage(stage) {
            Some(log) => {
                self.drop_stage(&log)?;
                self.deletions.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            None => {
                self.memory().unpin_all(stage);
                Ok(())
            }
        }
    }

    /// The stages that have not become snapshots.
    pub fn stages(&self) -> Vec<StageId> {
        self.stages.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// All snapshots, by id.
    pub fn snapshots(&self) -> Vec<SnapshotRecord> {
        self.shelf().records().values().cloned().collect()
    }

    /// One snapshot.
    pub fn snapshot(&self, id: &SnapshotId) -> Option<SnapshotRecord> {
        self.shelf().records().get(id).cloned()
    }

    /// Up to `limit` entries of a snapshot whose paths begin with `prefix` and come after `after`, in order of paths,
    /// and the parts of that range that cannot be read.
    ///
    /// # Errors
    /// There is no such snapshot, or the disk reports an error.
    pub fn page(
        &self,
        id: &SnapshotId,
        after: Option<&[u8]>,
        prefix: &[u8],
        limit: usize,
    ) -> Result<EntryPage> {
        let page = self.read_page(id, after, prefix, limit)?;
        if page.gaps.is_empty() || !self.mend_tree(id)? {
            return Ok(page);
        }
        self.read_page(id, after, prefix, limit)
    }

    fn read_page(
        &self,
        id: &SnapshotId,
        after: Option<&[u8]>,
        prefix: &[u8],
        limit: usize,
    ) -> Result<EntryPage> {
        let root = self.snapshot(id).ok_or(PackedError::UnknownSnapshot(*id))?.root;
        // The smallest path after `after`.
        let behind = after.map(|after| [after, &[0]].concat()).unwrap_or_default();
        let from = behind.max(prefix.to_vec());
        let mut page = EntryPage::default();
        walk(self, &root, &from, &mut |step| {
            match step {
                Step::Entry(entry, _) if !entry.entry.path.starts_with(prefix) => return Ok(false),
                Step::Entry(_, _) if page.entries.len() == limit => return Ok(false),
                Step::Entry(entry, is_listed) => {
                    // Only lists of chunks can be missing here.
                    let first_path = if is_listed { entry.entry.path.clone() } else { Vec::new() };
                    match resolve(self, entry, is_listed) {
                        Ok(entry) => page.entries.push(entry),
                        Err(error) => {
                            self.note_if_unknown(id, &error);
                            page.gaps.push(gap(first_path, 1, error)?);
                        }
                    }
                }
                Step::Gap(child, error) => {
                    self.note_if_unknown(id, &error);
                    if !child.first_path.is_empty()
                        && child.first_path.as_slice() > from.as_slice()
                        && !child.first_path.starts_with(prefix)
                    {
                        return Ok(false);
                    }
                    page.gaps.push(gap(child.first_path.clone(), child.entry_count, error)?);
                }
            }
            Ok(true)
        })?;
        if !page.gaps.is_empty() {
            self.record_damaged();
        }
        Ok(page)
    }

    /// As [`PackedStore::page`], but a part that cannot be read is an error.
    ///
    /// # Errors
    /// There is no such snapshot, or part of it cannot be read.
    pub fn entries(
        &self,
        id: &SnapshotId,
        after: Option<&[u8]>,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<TreeEntry>> {
        let page = self.page(id, after, prefix, limit)?;
        match page.gaps.into_iter().next() {
            None => Ok(page.entries),
            Some(gap) => Err(PackedError::DamagedChunk { hash: gap.hash, problem: gap.problem }),
        }
    }

    /// The entry of a snapshot with this path.
    ///
    /// # Errors
    /// There is no such snapshot, or the part of it with this path cannot be read.
    pub fn entry(&self, id: &SnapshotId, path: &[u8]) -> Result<Option<TreeEntry>> {
        let root = self.snapshot(id).ok_or(PackedError::UnknownSnapshot(*id))?.root;
        let found = match self.find_entry(&root, path) {
            Err(PackedError::DamagedChunk { .. } | PackedError::UnknownChunk { .. })
                if self.mend_tree(id)? =>
            {
                self.find_entry(&root, path)
            }
            found => found,
        };
        found.inspect_err(|error| self.note_if_unknown(id, error))
    }

    /// As [`PackedStore::read`], for a chunk of a snapshot.
    ///
    /// # Errors
    /// It is damaged or missing.
    pub fn read_of(&self, id: &SnapshotId, hash: &ChunkHash) -> Result<Vec<u8>> {
        self.read(hash).inspect_err(|error| self.note_if_unknown(id, error))
    }

    /// The universe should have all nodes of a snapshot. If it lacks one, it is damaged, and is rebuilt at the next
    /// start.
    fn note_if_unknown(&self, id: &SnapshotId, error: &PackedError) {
        if matches!(error, PackedError::UnknownChunk { .. }) && self.snapshot(id).is_some() {
            self.universe.note_damage("it does not know a chunk of a snapshot");
        }
    }

    fn find_entry(&self, root: &ChunkRef, path: &[u8]) -> Result<Option<TreeEntry>> {
        let mut found = None;
        walk(self, root, path, &mut |step| match step {
            Step::Entry(entry, is_listed) => {
                if entry.entry.path == path {
                    found = Some(resolve(self, entry, is_listed)?);
                }
                Ok(false)
            }
            Step::Gap(_, error) => Err(error),
        })?;
        Ok(found)
    }
}

/// The part of a tree that cannot be read. An error of another kind is passed on.
fn gap(first_path: Vec<u8>, entry_count: u64, error: PackedError) -> Result<TreeGap> {
    match error {
        PackedError::DamagedChunk { hash, problem } => Ok(TreeGap { first_path, entry_count, hash, problem }),
        PackedError::UnknownChunk { hash } => {
            Ok(TreeGap { first_path, entry_count, hash, problem: "it is not stored".to_owned() })
        }
        error => Err(error),
    }
}
