//! Directories of an assignment: makes missing ones, then sets mode and time. They come after all other items, the
//! deepest first, because putting an entry into a directory changes its time.

use std::collections::BTreeSet;
use std::sync::Arc;

use orbit_shared::entry::{EntryKind, display_path};
use orbit_shared::session::{ChunkCounts, Failure, ItemOutcome, ItemResult};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use crate::failures::{at_destination, in_the_way};
use crate::limits::SYNC_EACH_MAX;
use crate::roots::{grant_owner_access, split_parent};
use crate::sink::plan::parent_failure;
use crate::sink::work::{DIRECTORY_MODE_MASK, Work, modified_at};
use crate::sink::{Cancelled, Reporter};
use crate::transfer::modified_time;

/// Does all directories of an assignment.
pub(super) async fn run(work: &Arc<Work>, reporter: &Reporter) -> Result<(), Cancelled> {
    let items = &work.assignment.items;
    let mut order: Vec<usize> =
        (0..items.len()).filter(|&index| items[index].entry.kind == EntryKind::Directory).collect();
    if order.is_empty() {
        return Ok(());
    }
    order.sort_by(|&a, &b| items[b].entry.path.cmp(&items[a].entry.path));
    let making = Arc::clone(work);
    let make_all = move || -> Vec<(usize, Result<Option<u64>, Failure>)> {
        let mut done = Vec::with_capacity(order.len());
        for index in order {
            if making.cancel.is_cancelled() {
                break;
            }
            done.push((index, make(&making, index)));
        }
        done
    };
    let done = tokio::task::spawn_blocking(make_all).await.map_err(|_| Cancelled)?;
    let changed = done.iter().filter_map(|(index, result)| match result {
        Ok(Some(device)) => Some((*index, *device)),
        Ok(None) | Err(_) => None,
    });
    let changed: Vec<(usize, u64)> = changed.collect();
    let devices: Vec<u64> = changed.iter().map(|(_, device)| *device).collect();
    let mut synced = sync(work, changed).await;
    if synced.is_err() {
        // The next attempt finds them as they should be.
        devices.into_iter().for_each(|device| work.syncers.doubt(device));
    } else {
        synced = work.syncers.settle_doubts().await;
    }
    let outcomes = done.into_iter().map(|(index, result)| outcome(work, index, result, synced));
    reporter.send(outcomes.collect()).await
}

fn outcome(
    work: &Work,
    index: usize,
    result: Result<Option<u64>, Failure>,
    synced: Result<(), Errno>,
) -> ItemOutcome {
    let result = match (result, synced) {
        (Err(failure), _) => ItemResult::Failed(failure),
        (Ok(None), Ok(())) => ItemResult::Skipped,
        (Ok(Some(_)), Ok(())) => ItemResult::Stored {
            size: 0,
            bytes_transferred: 0,
            bytes_deduplicated: 0,
            duration: work.started.elapsed(),
            is_changed: false,
            chunks: ChunkCounts::default(),
        },
        (Ok(_), Err(errno)) => ItemResult::Failed(at_destination(errno, "sync", &work.target_path(index))),
    };
    work.outcome(index, result)
}

/// Makes a directory if it is missing, and sets its mode and time. Returns its device, or `None` if nothing was
/// changed.
fn make(work: &Work, index: usize) -> Result<Option<u64>, Failure> {
    let target = work.target_path(index);
    let (handle, is_made) = open_or_make(work, index)?;
    let entry = &work.item(index).entry;
    let mode = entry.mode & DIRECTORY_MODE_MASK;
    let set = || -> Result<Option<u64>, Errno> {
        let stat = rustix::fs::fstat(&*handle)?;
        if !is_made && work.grains.is_same(&handle, &stat, entry.modified, mode) {
            return Ok(None);
        }
        rustix::fs::fchmod(&*handle, Mode::from_raw_mode(mode))?;
        rustix::fs::futimens(&*handle, &modified_at(entry.modified))?;
        work.syncers.know(&handle).map(Some)
    };
    set().map_err(|errno| at_destination(errno, "set the mode and time of", &target))
}

/// The directory, and whether it was made.
fn open_or_make(work: &Work, index: usize) -> Result<(Arc<OwnedFd>, bool), Failure> {
    let tree = &work.place.tree;
    let path = &work.item(index).entry.path;
    let target = work.target_path(index);
    if path.is_empty() {
        let base = tree.open_dir(path).map_err(|errno| at_destination(errno, "open", &target))?;
        return Ok((base, work.place.is_created));
    }
    work.check_spelling(index)?;
    let (parent, name) = tree.create_parent(path).map_err(|errno| parent_failure(errno, &target))?;
    let is_made = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => false,
        Ok(_) => {
            let shown = display_path(&target);
            return Err(in_the_way(format!(
                "{shown} is a file or symbolic link, and a directory shall go there: move it away"
            )));
        }
        Err(Errno::NOENT) => {
            make_quietly(&parent, name).map_err(|errno| at_destination(errno, "create", &target))?;
            true
        }
        Err(errno) => return Err(at_destination(errno, "look at", &target)),
    };
    let handle = tree.create_dir(path).map_err(|errno| at_destination(errno, "open", &target))?;
    Ok((handle, is_made))
}

/// Makes a directory without changing the time of its parent, whose own item may have been done already.
fn make_quietly(parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    let before = rustix::fs::fstat(parent)?;
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Err(Errno::ACCESS) => {
            grant_owner_access(parent)?;
            rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
        }
        other => other?,
    }
    let modified = modified_time(&before);
    rustix::fs::futimens(parent, &modified_at(modified))
}

/// Makes the changed directories and their names durable.
async fn sync(work: &Arc<Work>, changed: Vec<(usize, u64)>) -> Result<(), Errno> {
    if changed.len() > SYNC_EACH_MAX || work.place.is_created || work.place.tree.created() > 0 {
        let devices: BTreeSet<u64> = changed.iter().map(|(_, device)| *device).collect();
        for device in devices {
            work.syncers.sync(device).await?;
        }
        return Ok(());
    }
    let syncing = Arc::clone(work);
    let each = move || {
        changed.iter().try_for_each(|(index, _)| {
            let path = &syncing.item(*index).entry.path;
            rustix::fs::fsync(&*syncing.place.tree.open_dir(path)?)?;
            rustix::fs::fsync(&*syncing.place.tree.open_dir(split_parent(path).0)?)
        })
    };
    tokio::task::spawn_blocking(each).await.unwrap_or(Err(Errno::IO))
}
