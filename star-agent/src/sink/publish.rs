//! Executes the effects that make written items durable and visible: syncs content, renames, syncs directories. Which
//! follows which is decided by [`crate::sink::pull_core`].
//!
//! Syncing every small file would cost a hundred times more than the file. A few files are synced one by one. For many,
//! their file system is synced once, which serves every assignment that asked before the sync began.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use orbit_shared::session::Failure;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use tokio::task::JoinSet;

use crate::failures::at_destination;
use crate::limits::{SEGMENT_BYTES, SYNC_EACH_MAX};
use crate::roots::split_parent;
use crate::sink::delivery::Destination;
use crate::sink::directories;
use crate::sink::plan::directory_in_the_way;
use crate::sink::pull_core::{Effect, Event, Failed};
use crate::sink::work::{Work, Written};
use crate::sink::write::remove;

impl Destination for Arc<Work> {
    type Written = Written;

    fn begin(&self, effect: Effect<Written>, jobs: &mut JoinSet<Event<Written>>) {
        let work = Arc::clone(self);
        match effect {
            Effect::SettleDoubts(items) => jobs.spawn(settle_doubts(work, items)),
            Effect::SyncContent(written) => jobs.spawn(sync_content(work, written)),
            Effect::Rename(written) => jobs.spawn(rename(work, written)),
            Effect::SyncDirectories(renamed) => jobs.spawn(sync_directories(work, renamed)),
            Effect::Discard(failed) => jobs.spawn_blocking(move || {
                failed.iter().for_each(|failed| remove(&work, failed.item));
                Event::Discarded(failed)
            }),
            Effect::MakeDirectories(items) => {
                jobs.spawn_blocking(move || directories::make_all(&work, items))
            }
            Effect::SyncMade { made, unchanged } => jobs.spawn(directories::sync_made(work, made, unchanged)),
            Effect::Commit { .. }
            | Effect::Pull { .. }
            | Effect::Report(_)
            | Effect::Clean
            | Effect::Finish => unreachable!("files are synced and renamed"),
        };
    }
}

/// Runs blocking work. A panic goes on in the caller.
pub(super) async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(run).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The process ends.
            Err(_) => std::future::pending().await,
        },
    }
}

async fn settle_doubts(work: Arc<Work>, items: Vec<usize>) -> Event<Written> {
    match work.syncers.settle_doubts().await {
        Ok(()) => Event::DoubtsSettled { durable: items, failed: Vec::new() },
        Err(errno) => {
            let failed = items.into_iter().map(|item| failed(&work, item, errno, "sync")).collect();
            Event::DoubtsSettled { durable: Vec::new(), failed }
        }
    }
}

async fn sync_content(work: Arc<Work>, written: Vec<Written>) -> Event<Written> {
    let mut synced = Vec::with_capacity(written.len());
    let mut all_failed = Vec::new();
    for (device, group) in by_device(written) {
        let (result, group) = sync_group(&work, device, group).await;
        match result {
            Ok(()) => synced.extend(group),
            Err(errno) => {
                if group.iter().any(|written| !written.is_temporary) {
                    work.syncers.doubt(device);
                }
                all_failed.extend(group.iter().map(|written| failed(&work, written.item, errno, "sync")));
            }
        }
    }
    Event::ContentSynced { synced, failed: all_failed }
}

async fn rename(work: Arc<Work>, written: Vec<Written>) -> Event<Written> {
    let publishing = work.syncers.publishing().read_owned().await;
    *work.publishing.lock().unwrap_or_else(PoisonError::into_inner) = Some(publishing);
    let renaming = Arc::clone(&work);
    let (renamed, failed) = blocking(move || rename_all(&renaming, written)).await;
    if renamed.is_empty() {
        work.end_publication();
    }
    Event::Renamed { renamed, failed }
}

async fn sync_directories(work: Arc<Work>, renamed: Vec<Written>) -> Event<Written> {
    let result = sync_names(&work, &renamed).await;
    let elapsed = work.started.elapsed();
    let Err(errno) = result else {
        work.end_publication();
        return Event::Durable { durable: renamed, failed: Vec::new(), elapsed };
    };
    // The next attempt finds them in place.
    renamed.iter().for_each(|written| work.syncers.doubt(written.device));
    work.end_publication();
    let failed =
        renamed.iter().map(|written| failed(&work, written.item, errno, "sync the directory of")).collect();
    Event::Durable { durable: Vec::new(), failed, elapsed }
}

fn by_device(written: Vec<Written>) -> BTreeMap<u64, Vec<Written>> {
    let mut groups: BTreeMap<u64, Vec<Written>> = BTreeMap::new();
    for item in written {
        groups.entry(item.device).or_default().push(item);
    }
    groups
}

async fn sync_group(work: &Arc<Work>, device: u64, group: Vec<Written>) -> (Result<(), Errno>, Vec<Written>) {
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
        (Err(Errno::ACCESS | Errno::PERM), group) => (work.syncers.sync(device).await, group),
        done => done,
    }
}

fn rename_all(work: &Work, written: Vec<Written>) -> (Vec<Written>, Vec<Failed>) {
    let mut renamed = Vec::with_capacity(written.len());
    let mut failed = Vec::new();
    for item in written {
        match rename_one(work, &item) {
            Ok(()) => {
                if item.size > SEGMENT_BYTES {
                    work.checkpoints.remove(work.item_id(item.item));
                }
                renamed.push(item);
            }
            Err(failure) => failed.push(Failed { item: item.item, failure }),
        }
    }
    if let Err(error) = work.keeps_times.restore() {
        tracing::warn!(%error, "a directory that is written to has lost its modification time");
    }
    (renamed, failed)
}

fn rename_one(work: &Work, written: &Written) -> Result<(), Failure> {
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
async fn sync_names(work: &Arc<Work>, published: &[Written]) -> Result<(), Errno> {
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
    blocking(each).await
}

fn failed(work: &Work, item: usize, errno: Errno, action: &str) -> Failed {
    Failed { item, failure: at_destination(errno, action, &work.target_path(item)) }
}
