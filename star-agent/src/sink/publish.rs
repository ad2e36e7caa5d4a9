//! Makes written items durable and visible: syncs content, renames, syncs directories, and then reports.
//!
//! Syncing every small file would cost a hundred times more than the file. A few files are synced one by one. For many,
//! their file system is synced once, which serves every assignment that asked before the sync began.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use orbit_shared::session::{Failure, ItemOutcome, ItemResult};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::failures::at_destination;
use crate::limits::{SEGMENT_BYTES, SYNC_EACH_MAX};
use crate::roots::split_parent;
use crate::sink::plan::directory_in_the_way;
use crate::sink::work::{Work, Written};
use crate::sink::write::remove;

/// Syncs and publishes written items, and reports the results.
pub(super) async fn publish(work: Arc<Work>, written: Vec<Written>) -> Vec<ItemOutcome> {
    let mut outcomes = Vec::with_capacity(written.len());
    let mut synced = Vec::with_capacity(written.len());
    for (device, group) in by_device(written) {
        let (result, group) = sync_content(&work, device, group).await;
        match result {
            Ok(()) => synced.extend(group),
            Err(errno) => {
                if group.iter().any(|written| !written.is_temporary) {
                    work.syncers.doubt(device);
                }
                let removing = Arc::clone(&work);
                let failed = move || give_up(&removing, &group, errno);
                outcomes.extend(blocking(failed).await.unwrap_or_default());
            }
        }
    }
    let publishing = work.syncers.publishing();
    let _publishing = publishing.read().await;
    let renaming = Arc::clone(&work);
    let Some((published, failed)) = blocking(move || rename_all(&renaming, synced)).await else {
        return outcomes;
    };
    outcomes.extend(failed);
    let result = sync_directories(&work, &published).await;
    if result.is_err() {
        // The next attempt finds them in place.
        published.iter().for_each(|written| work.syncers.doubt(written.device));
    }
    outcomes.extend(published.iter().map(|written| match result {
        Ok(()) => work.outcome(written.item, stored(&work, written)),
        Err(errno) => failure_of(&work, written.item, errno, "sync the directory of"),
    }));
    outcomes
}

/// Runs blocking work; `None` only if the process ends.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(run).await.ok()
}

fn by_device(written: Vec<Written>) -> BTreeMap<u64, Vec<Written>> {
    let mut groups: BTreeMap<u64, Vec<Written>> = BTreeMap::new();
    for item in written {
        groups.entry(item.device).or_default().push(item);
    }
    groups
}

async fn sync_content(
    work: &Arc<Work>,
    device: u64,
    group: Vec<Written>,
) -> (Result<(), Errno>, Vec<Written>) {
    let content = group.iter().filter(|written| written.has_content).count();
    if content == 0 {
        return (Ok(()), group);
    }
    if content > SYNC_EACH_MAX {
        return (work.syncers.sync(device).await, group);
    }
    let syncing = Arc::clone(work);
    let each = move || {
        let result = group.iter().filter(|written| written.has_content).try_for_each(|written| {
            let (parent, name) = syncing.parent(written.item)?;
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let temporary = syncing.temporary_name(written.item);
            let name = if written.is_temporary { temporary.as_bytes() } else { name };
            rustix::fs::fsync(rustix::fs::openat(&parent, name, flags, Mode::empty())?)
        });
        (result, group)
    };
    match blocking(each).await {
        // Its mode may forbid opening it once more. The file system as a whole can always be synced.
        Some((Err(Errno::ACCESS | Errno::PERM), group)) => (work.syncers.sync(device).await, group),
        Some(done) => done,
        None => (Err(Errno::IO), Vec::new()),
    }
}

fn give_up(work: &Work, group: &[Written], errno: Errno) -> Vec<ItemOutcome> {
    let give_up = |written: &Written| {
        remove(work, written.item);
        failure_of(work, written.item, errno, "sync")
    };
    group.iter().map(give_up).collect()
}

fn rename_all(work: &Work, written: Vec<Written>) -> (Vec<Written>, Vec<ItemOutcome>) {
    let mut published = Vec::with_capacity(written.len());
    let mut failed = Vec::new();
    for item in written {
        match rename(work, &item) {
            Ok(()) => {
                if item.size > SEGMENT_BYTES {
                    work.checkpoints.remove(work.item_id(item.item));
                }
                published.push(item);
            }
            Err(failure) => {
                remove(work, item.item);
                failed.push(work.outcome(item.item, ItemResult::Failed(failure)));
            }
        }
    }
    if let Err(error) = work.keeps_times.restore() {
        tracing::warn!(%error, "a directory that is written to has lost its modification time");
    }
    (published, failed)
}

fn rename(work: &Work, written: &Written) -> Result<(), Failure> {
    if !written.is_temporary {
        return Ok(());
    }
    let path = work.target_path(written.item);
    let failed = |errno| at_destination(errno, "publish", &path);
    let (parent, name) = work.parent(written.item).map_err(failed)?;
    let temporary = work.temporary_name(written.item);
    // Two items of different spellings must not both find that no entry is there.
    let mut turn = work.spellings.folds(&parent).then(|| work.spellings.turn());
    work.check_spelling(written.item)?;
    if let Some(turn) = &mut turn {
        turn.claim(&parent, name, &path)?;
    }
    match rustix::fs::renameat(&parent, &temporary, &parent, name) {
        // An empty directory is replaced.
        Err(Errno::ISDIR) => {
            rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR).map_err(|errno| match errno {
                Errno::NOTEMPTY | Errno::EXIST => directory_in_the_way(&path),
                errno => failed(errno),
            })?;
            rustix::fs::renameat(&parent, &temporary, &parent, name).map_err(failed)
        }
        other => other.map_err(failed),
    }
}

/// Makes renames durable, and the directories that were created for them.
async fn sync_directories(work: &Arc<Work>, published: &[Written]) -> Result<(), Errno> {
    let renamed = || published.iter().filter(|written| written.is_temporary);
    let parents: BTreeSet<Vec<u8>> =
        renamed().map(|written| split_parent(&work.item(written.item).entry.path).0.to_vec()).collect();
    let has_created = work.place.is_created || work.place.tree.created() > 0;
    if parents.len() > SYNC_EACH_MAX || has_created {
        let devices: BTreeSet<u64> = renamed().map(|written| written.device).collect();
        for device in devices {
            work.syncers.sync(device).await?;
        }
        return Ok(());
    }
    let syncing = Arc::clone(work);
    let each = move || {
        parents.iter().try_for_each(|parent| rustix::fs::fsync(&*syncing.place.tree.open_dir(parent)?))
    };
    blocking(each).await.unwrap_or(Err(Errno::IO))
}

fn stored(work: &Work, written: &Written) -> ItemResult {
    if written.is_untouched {
        return ItemResult::Skipped;
    }
    ItemResult::Stored {
        size: written.size,
        bytes_transferred: written.bytes_transferred,
        bytes_deduplicated: written.bytes_deduplicated,
        duration: work.started.elapsed(),
        is_changed: written.is_changed,
        chunks: written.chunks,
    }
}

fn failure_of(work: &Work, item: usize, errno: Errno, action: &str) -> ItemOutcome {
    work.outcome(item, ItemResult::Failed(at_destination(errno, action, &work.target_path(item))))
}
