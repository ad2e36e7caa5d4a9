//! Lists the tree of a snapshot for a restore, as a walk lists a directory: with filters, from a path on, and
//! continuing after any entry of an earlier scan. The order is that of the tree.

use std::collections::BTreeSet;
use std::sync::Arc;

use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::filter::Filter;
use orbit_shared::session::{Failure, FailureCause, Fault, ScanRequest};
use orbit_shared::words::SnapshotId;

use crate::failures::permanent;
use crate::packed::{PackedError, PackedStore};
use crate::scan::Classifier;
use crate::scan::batch::{Batches, Interrupted};
use crate::scan::filter_of;
use crate::source::origin::{below, of_vault, tree_path};

/// Number of entries that are read at a time.
const PAGE_ENTRIES: usize = 1024;

/// A walk over one tree.
pub(super) struct SnapshotWalk {
    store: Arc<PackedStore>,
    id: SnapshotId,
    base: Vec<u8>,
    filter: Arc<Filter>,
    classifier: Classifier,
    /// With include globs: the parent directories of the entries that are kept.
    leading: Option<BTreeSet<Vec<u8>>>,
}

impl SnapshotWalk {
    /// Compiles the globs and checks that the tree exists.
    pub(super) async fn prepare(
        request: &ScanRequest,
        id: SnapshotId,
        store: Option<Arc<PackedStore>>,
        classifier: Classifier,
    ) -> Result<Self, Failure> {
        let filter = Arc::new(filter_of(request)?);
        let store = store.ok_or_else(|| permanent("this Star has no vault".to_owned()))?;
        let base = tree_path(&request.path).to_vec();
        let mut walk = Self { store, id, base, filter, classifier, leading: None };
        if walk.page(None).await?.is_empty() {
            let path = orbit_shared::entry::display_path(&walk.base);
            let message = format!("snapshot {id} has no {path:?}");
            return Err(Failure { cause: FailureCause::SourceMissing, fault: Fault::Item, message });
        }
        if !request.include.is_empty() || !request.paths.is_empty() {
            walk.leading = Some(walk.leading_directories().await?);
        }
        Ok(walk)
    }

    /// The parent directories of the entries that are kept.
    async fn leading_directories(&self) -> Result<BTreeSet<Vec<u8>>, Failure> {
        let mut leading = BTreeSet::from([Vec::new()]);
        let mut after = None;
        loop {
            let page = self.page(after).await?;
            let Some(last) = page.last().map(|entry| entry.path.clone()) else { return Ok(leading) };
            for entry in &page {
                let path = self.relative(&entry.path);
                if !self.is_kept(path, entry.kind == EntryKind::Directory) {
                    continue;
                }
                for (index, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
                    leading.insert(path[..index].to_vec());
                }
            }
            after = Some(last);
        }
    }

    /// Emits every entry after `resume_after`, or all. If a part cannot be read, the scan ends with that failure.
    pub(super) async fn run(
        self,
        resume_after: Option<&[u8]>,
        batches: &mut Batches,
    ) -> Result<Option<Failure>, Interrupted> {
        let mut after = resume_after.map(|path| below(&self.base, path));
        batches.watch(&self.filter);
        loop {
            let page = match self.page(after).await {
                Ok(page) => page,
                Err(failure) => return Ok(Some(failure)),
            };
            let Some(last) = page.last().map(|entry| entry.path.clone()) else { return Ok(None) };
            for entry in page {
                let path = self.relative(&entry.path).to_vec();
                let is_directory = entry.kind == EntryKind::Directory;
                let is_leading =
                    is_directory && self.leading.as_ref().is_some_and(|leading| leading.contains(&path));
                let is_wanted = path.is_empty() || is_leading || self.is_kept(&path, is_directory);
                if is_wanted && !self.is_excluded(&path, is_directory) && self.filter.admits(&entry) {
                    let rank = self.classifier.rank(&path);
                    batches.push(Entry { path, rank, ..entry }).await?;
                }
            }
            batches.keep_alive().await?;
            after = Some(last);
        }
    }

    async fn page(&self, after: Option<Vec<u8>>) -> Result<Vec<Entry>, Failure> {
        let (store, id, base) = (Arc::clone(&self.store), self.id, self.base.clone());
        let reading = move || {
            let page = store.entries(&id, after.as_deref(), &base, PAGE_ENTRIES)?;
            Ok::<_, PackedError>(page.into_iter().map(|found| found.entry).collect())
        };
        let read = tokio::task::spawn_blocking(reading).await.map_err(|error| Failure {
            cause: FailureCause::Transient,
            fault: Fault::Source,
            message: format!("reading the snapshot did not end: {error}"),
        })?;
        read.map_err(|error| of_vault(&error, format!("snapshot {}", self.id).as_bytes()))
    }

    /// The path below the base.
    fn relative<'path>(&self, path: &'path [u8]) -> &'path [u8] {
        let rest = path.get(self.base.len()..).unwrap_or_default();
        if self.base.is_empty() { rest } else { rest.strip_prefix(b"/").unwrap_or(rest) }
    }

    /// Whether an entry is kept because it, or a directory above it, matches.
    fn is_kept(&self, path: &[u8], is_directory: bool) -> bool {
        !self.is_excluded(path, is_directory)
            && any_of_path(path, is_directory, |path, is_directory| {
                self.filter.is_included(path, is_directory)
            })
    }

    fn is_excluded(&self, path: &[u8], is_directory: bool) -> bool {
        !path.is_empty()
            && any_of_path(path, is_directory, |path, is_directory| {
                self.filter.is_excluded(path, is_directory)
            })
    }
}

/// Whether a predicate holds for a path or a directory above it.
fn any_of_path(path: &[u8], is_directory: bool, mut holds: impl FnMut(&[u8], bool) -> bool) -> bool {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(index, _)| index);
    let mut above = slashes.map(|index| &path[..index]);
    above.any(|directory| holds(directory, true)) || holds(path, is_directory)
}
