//! Directories of an assignment: makes missing ones, then sets mode and time. They come after all other items, the
//! deepest first, because putting an entry into a directory changes its time.

use std::collections::BTreeSet;
use std::sync::Arc;

use orbit_shared::entry::display_path;
use orbit_shared::session::{ChunkCounts, Failure};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use crate::failures::{at_destination, in_the_way};
use crate::limits::SYNC_EACH_MAX;
use crate::roots::{grant_owner_access, split_parent};
use crate::sink::plan::parent_failure;
use crate::sink::publish::blocking;
use crate::sink::pull_core::{Event, Failed};
use crate::sink::work::{DIRECTORY_MODE_MASK, Work, Written, modified_at};
use crate::transfer::modified_time;

/// Makes directories, the deepest first. Blocks.
pub(super) fn make_all(work: &Work, mut items: Vec<usize>) -> Event<Written> {
    items.sort_by(|&a, &b| work.item(b).entry.path.cmp(&work.item(a).entry.path));
    let (mut made, mut unchanged, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for item in items {
        if work.cancel.is_cancelled() {
            break;
        }
        match make(work, item) {
            Ok(Some(device)) => made.push(directory(item, device)),
            Ok(None) => unchanged.push(item),
            Err(failure) => failed.push(Failed { item, failure }),
        }
    }
    Event::DirectoriesMade { made, unchanged, failed }
}

/// Makes directories and their names durable, and what was in doubt of those that were as they should be.
pub(super) async fn sync_made(work: Arc<Work>, made: Vec<Written>, unchanged: Vec<usize>) -> Event<Written> {
    let mut synced = sync(&work, &made).await;
    if synced.is_err() {
        // The next attempt finds them as they should be.
        made.iter().for_each(|made| work.syncers.doubt(made.device));
    } else {
        synced = work.syncers.settle_doubts().await;
    }
    let elapsed = work.started.elapsed();
    match synced {
        Ok(()) => Event::MadeSynced { durable: made, unchanged, failed: Vec::new(), elapsed },
        Err(errno) => {
            let all = made.iter().map(|made| made.item).chain(unchanged);
            let failed = all.map(|item| {
                let failure = at_destination(errno, "sync", &work.target_path(item));
                Failed { item, failure }
            });
            let failed = failed.collect();
            Event::MadeSynced { durable: Vec::new(), unchanged: Vec::new(), failed, elapsed }
        }
    }
}

fn directory(item: usize, device: u64) -> Written {
    Written {
        item,
        is_temporary: false,
        has_content: false,
        device,
        size: 0,
        bytes_transferred: 0,
        bytes_deduplicated: 0,
        is_untouched: false,
        is_changed: false,
        chunks: ChunkCounts::default(),
    }
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
async fn sync(work: &Arc<Work>, made: &[Written]) -> Result<(), Errno> {
    if made.len() > SYNC_EACH_MAX || work.place.is_created || work.place.tree.created() > 0 {
        let devices: BTreeSet<u64> = made.iter().map(|made| made.device).collect();
        for device in devices {
            work.syncers.sync(device).await?;
        }
        return Ok(());
    }
    let (syncing, items) = (Arc::clone(work), made.iter().map(|made| made.item).collect::<Vec<_>>());
    let each = move || {
        items.iter().try_for_each(|item| {
            let path = &syncing.item(*item).entry.path;
            rustix::fs::fsync(&*syncing.place.tree.open_dir(path)?)?;
            rustix::fs::fsync(&*syncing.place.tree.open_dir(split_parent(path).0)?)
        })
    };
    blocking(each).await
}
