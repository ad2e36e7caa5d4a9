//! Checks every item before anything is requested. Items that this job has already stored, that are unchanged since an
//! earlier snapshot of the same source, or that have no content are not requested.

use std::sync::Arc;

use orbit_shared::entry::{Entry, EntryKind, display_path, join_path};
use orbit_shared::session::{ChunkCounts, Failure};
use rustix::io::Errno;

use super::{Ready, Work, at_vault};
use crate::failures::{at_source, permanent};
use crate::packed::TreeEntry;
use crate::sink::Cancelled;
use crate::sink::pull_core::{Failed, Planned};

/// Plans all items.
pub(super) async fn plan(work: &Arc<Work>) -> Result<Planned<Ready>, Cancelled> {
    let planned = Arc::clone(work);
    let planning = tokio::task::spawn_blocking(move || plan_all(&planned));
    // A planner fails to end only if the process does.
    let plan = planning.await.map_err(|_| Cancelled)?;
    if work.cancel.is_cancelled() { Err(Cancelled) } else { Ok(plan) }
}

fn plan_all(work: &Work) -> Planned<Ready> {
    let items = &work.assignment.items;
    // A chunk whose file is gone must not count as stored, and nothing is put that could not be committed.
    let prepared = work.store.check_presence().and_then(|_| work.store.begin_stage(work.stage));
    if let Err(error) = prepared {
        let failure = at_vault(&error, b"");
        let failed = (0..items.len()).map(|item| Failed { item, failure: failure.clone() });
        return Planned { failed: failed.collect(), ..Planned::default() };
    }
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by(|&a, &b| items[a].entry.path.cmp(&items[b].entry.path));
    let mut plan = Planned::default();
    for index in order {
        if work.cancel.is_cancelled() {
            break;
        }
        match plan_item(work, &items[index].entry) {
            Ok(Step::Skip) => plan.unchanged.push(index),
            Ok(Step::Keep(entry)) => {
                let (bytes_transferred, chunks) = (0, ChunkCounts::default());
                plan.written.push(Ready { item: index, entry, bytes_transferred, chunks, is_changed: false });
            }
            Ok(Step::Fetch) => plan.wanted.push(index),
            Err(failure) => plan.failed.push(Failed { item: index, failure }),
        }
    }
    plan
}

enum Step {
    /// This job has stored it.
    Skip,
    /// Its content is stored.
    Keep(TreeEntry),
    Fetch,
}

fn plan_item(work: &Work, entry: &Entry) -> Result<Step, Failure> {
    let shown = || join_path(&work.assignment.source_path, &entry.path);
    let size = match &entry.kind {
        EntryKind::File { size } => *size,
        EntryKind::Directory | EntryKind::Symlink { .. } => 0,
        EntryKind::Unreadable { errno } => {
            return Err(at_source(Errno::from_raw_os_error(*errno), "list or stat", &shown()));
        }
        kind
        @ (EntryKind::Fifo | EntryKind::Socket | EntryKind::CharacterDevice | EntryKind::BlockDevice) => {
            let (path, kind) = (display_path(&shown()), kind.describe());
            return Err(permanent(format!("{path} is {kind}, which is never copied: exclude it")));
        }
    };
    if size == 0 && !matches!(entry.kind, EntryKind::File { .. }) {
        return Ok(Step::Keep(TreeEntry { entry: entry.clone(), chunks: Vec::new() }));
    }
    let failed = |error| at_vault(&error, &entry.path);
    if work
        .store
        .staged(work.stage, &entry.path)
        .map_err(failed)?
        .is_some_and(|staged| staged.entry == *entry)
    {
        return Ok(Step::Skip);
    }
    // Its mode may have changed without its time. Its content has not.
    let is_same = |known: &TreeEntry| {
        known.entry.modified == entry.modified && known.entry.kind == EntryKind::File { size }
    };
    let earlier = work.store.earlier(work.stage, &work.source, &entry.path).map_err(failed)?;
    Ok(match earlier.filter(is_same) {
        Some(known) => Step::Keep(TreeEntry { entry: entry.clone(), chunks: known.chunks }),
        None => Step::Fetch,
    })
}
