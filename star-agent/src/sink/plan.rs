//! Checks the target of every item before anything is requested. Items that are already there are skipped, symbolic
//! links are made, and for files it is decided whether an older version can be used as a basis.

use std::ops::Range;
use std::sync::Arc;

use orbit_shared::entry::{Entry, EntryKind, display_path};
use orbit_shared::session::{ChunkCounts, Failure};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, FileType, Stat};
use rustix::io::Errno;
use tokio::task::JoinSet;

use crate::failures::{at_destination, at_source, in_the_way, no_room, permanent};
use crate::limits::{CHUNK_MIN_BYTES, SEGMENT_BYTES};
use crate::roots::{OWN_DIRECTORY, grant_owner_access};
use crate::sink::Cancelled;
use crate::sink::grain::Grains;
use crate::sink::pull_core::{Failed, Planned};
use crate::sink::resume::{self, Resumed};
use crate::sink::work::{FILE_MODE_MASK, Work, Written, modified_at};

/// Number of threads that check targets at a time.
const PLANNERS: usize = 2;

/// What was found of the items that are not directories.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) planned: Planned<Written>,
    /// How those are to be pulled that must be.
    pub(super) fetches: Vec<Wanted>,
}

impl Plan {
    fn fail(&mut self, item: usize, failure: Failure) {
        self.planned.failed.push(Failed { item, failure });
    }

    /// For an assignment that only checks: items that would have to be fetched fail for lack of space.
    fn refuse_what_is_missing(&mut self, work: &Work) {
        for wanted in std::mem::take(&mut self.fetches) {
            let size = work.item(wanted.item).entry.size();
            self.fail(wanted.item, no_room(format!("there is no room for its {size} bytes")));
        }
    }
}

/// A file that must be fetched from the source.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Index into the assignment's items.
    pub(super) item: usize,
    /// Whether the target is an older version, which may have some of the chunks.
    pub(super) has_basis: bool,
    /// What an earlier attempt has written.
    pub(super) resumed: Option<Resumed>,
}

/// Plans all items in order of paths, so that neighbours in a directory are written together.
pub(super) async fn plan(work: &Arc<Work>) -> Result<Plan, Cancelled> {
    let items = &work.assignment.items;
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by(|&a, &b| items[a].entry.path.cmp(&items[b].entry.path));
    order.retain(|&index| items[index].entry.kind != EntryKind::Directory);
    let order = Arc::new(order);
    let share = order.len().div_ceil(PLANNERS).max(1);
    let mut planning: JoinSet<Plan> = JoinSet::new();
    for start in (0..order.len()).step_by(share) {
        let (work, order) = (Arc::clone(work), Arc::clone(&order));
        let part = start..(start + share).min(order.len());
        planning.spawn_blocking(move || plan_part(&work, &order, part));
    }
    let mut whole = Plan::default();
    while let Some(part) = planning.join_next().await {
        // A planner fails to end only if the process does.
        let part = part.map_err(|_| Cancelled)?;
        whole.planned.failed.extend(part.planned.failed);
        whole.planned.unchanged.extend(part.planned.unchanged);
        whole.planned.written.extend(part.planned.written);
        whole.fetches.extend(part.fetches);
    }
    if work.assignment.is_check_only {
        whole.refuse_what_is_missing(work);
    }
    whole.planned.wanted = whole.fetches.iter().map(|wanted| wanted.item).collect();
    if work.cancel.is_cancelled() { Err(Cancelled) } else { Ok(whole) }
}

fn plan_part(work: &Work, order: &[usize], part: Range<usize>) -> Plan {
    let mut plan = Plan::default();
    for &index in &order[part] {
        if work.cancel.is_cancelled() {
            break;
        }
        match plan_item(work, index) {
            Ok(Step::Skip) => plan.planned.unchanged.push(index),
            Ok(Step::Publish(written)) => plan.planned.written.push(written),
            Ok(Step::Fetch(wanted)) => plan.fetches.push(wanted),
            Err(failure) => plan.fail(index, failure),
        }
    }
    plan
}

enum Step {
    Skip,
    Publish(Written),
    Fetch(Wanted),
}

fn plan_item(work: &Work, index: usize) -> Result<Step, Failure> {
    let entry = &work.item(index).entry;
    if entry.kind.is_carried() {
        work.check_spelling(index)?;
    }
    match &entry.kind {
        EntryKind::File { size } => plan_file(work, index, *size),
        EntryKind::Symlink { target } => plan_symlink(work, index, target),
        EntryKind::Directory => Ok(Step::Skip),
        EntryKind::Unreadable { errno } => {
            let errno = Errno::from_raw_os_error(*errno);
            Err(at_source(errno, "list or stat", &source_path(work, index)))
        }
        kind
        @ (EntryKind::Fifo | EntryKind::Socket | EntryKind::CharacterDevice | EntryKind::BlockDevice) => {
            let path = display_path(&source_path(work, index));
            Err(permanent(format!("{path} is {}, which is never copied: exclude it", kind.describe())))
        }
    }
}

fn source_path(work: &Work, index: usize) -> Vec<u8> {
    orbit_shared::entry::join_path(&work.assignment.source_path, &work.item(index).entry.path)
}

fn plan_file(work: &Work, index: usize, size: u64) -> Result<Step, Failure> {
    let fetch = |has_basis| {
        let resumed = if size > SEGMENT_BYTES { Resumed::find(work, index) } else { None };
        Ok(Step::Fetch(Wanted { item: index, has_basis, resumed }))
    };
    let Some((parent, stat)) = look_at_target(work, index)? else { return fetch(false) };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return fetch(false);
    }
    let compares_content = work.assignment.compares_content && size > 0;
    if !compares_content && is_unchanged(&work.grains, &parent, &stat, size, &work.item(index).entry) {
        if size > SEGMENT_BYTES {
            resume::discard(work, index);
        }
        return Ok(Step::Skip);
    }
    // Two small files of different sizes cannot share a chunk, so requesting hashes first would only cost time.
    let target_size = u64::try_from(stat.st_size).unwrap_or(0);
    let has_basis = size > 0 && target_size > 0 && (size == target_size || size > CHUNK_MIN_BYTES as u64);
    fetch(has_basis)
}

/// Whether a target is equal to the file of a source entry, as far as that is known without reading it.
pub(super) fn is_unchanged(
    grains: &Grains,
    parent: &OwnedFd,
    target: &Stat,
    size: u64,
    entry: &Entry,
) -> bool {
    FileType::from_raw_mode(target.st_mode) == FileType::RegularFile
        && u64::try_from(target.st_size).is_ok_and(|target_size| target_size == size)
        && grains.is_same(parent, target, entry.modified, entry.mode & FILE_MODE_MASK)
}

/// Whether a name is a symbolic link to exactly this target.
pub(super) fn is_link_to(parent: &OwnedFd, name: &[u8], target: &[u8]) -> bool {
    rustix::fs::readlinkat(parent, name, Vec::new()).is_ok_and(|present| present.as_bytes() == target)
}

fn plan_symlink(work: &Work, index: usize, target: &[u8]) -> Result<Step, Failure> {
    if let Some((parent, stat)) = look_at_target(work, index)?
        && FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
    {
        let (_, name) = name_of(work, index)?;
        if is_link_to(&parent, name, target) {
            return Ok(Step::Skip);
        }
    }
    make_symlink(work, index, target)
        .map(Step::Publish)
        .map_err(|errno| at_destination(errno, "create the symbolic link", &work.target_path(index)))
}

fn make_symlink(work: &Work, index: usize, target: &[u8]) -> Result<Written, Errno> {
    let (parent, _) = work.create_parent(index)?;
    let temporary = work.temporary_name(index);
    let make = || rustix::fs::symlinkat(target, &parent, &temporary);
    match make() {
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty())?;
            make()?;
        }
        Err(Errno::ACCESS) => {
            grant_owner_access(&parent)?;
            make()?;
        }
        other => other?,
    }
    let times = modified_at(work.item(index).entry.modified);
    rustix::fs::utimensat(&parent, &temporary, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    let device = work.syncers.know(&parent)?;
    Ok(Written {
        item: index,
        is_temporary: true,
        has_content: false,
        device,
        size: 0,
        bytes_transferred: 0,
        bytes_deduplicated: 0,
        chunks: ChunkCounts::default(),
        is_untouched: false,
        is_changed: false,
    })
}

fn name_of(work: &Work, index: usize) -> Result<(Arc<OwnedFd>, &[u8]), Failure> {
    work.parent(index).map_err(|errno| parent_failure(errno, &work.target_path(index)))
}

/// The `stat` of the target, with its parent directory; `None` if there is no target. A directory that is not empty is
/// in the way.
fn look_at_target(work: &Work, index: usize) -> Result<Option<(Arc<OwnedFd>, Stat)>, Failure> {
    let path = work.target_path(index);
    let (parent, name) = match work.parent(index) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(None),
        // Creating the parent directories may help. If not, that reports the error.
        Err(Errno::ACCESS) => work.create_parent(index).map_err(|errno| parent_failure(errno, &path))?,
        Err(errno) => return Err(parent_failure(errno, &path)),
    };
    let stat = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(at_destination(errno, "look at", &path)),
    };
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if is_directory && !is_empty(work, index) {
        return Err(directory_in_the_way(&path));
    }
    Ok(Some((parent, stat)))
}

fn is_empty(work: &Work, index: usize) -> bool {
    let opened = match &work.place.single {
        Some(name) => work.place.tree.open_dir(name),
        None => work.place.tree.open_dir(&work.item(index).entry.path),
    };
    let Ok(mut entries) = opened.and_then(|handle| Dir::read_from(&handle)) else { return false };
    entries.all(|entry| entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b"..")))
}

/// The failure of an item whose place is taken by a directory with content.
pub(super) fn directory_in_the_way(path: &[u8]) -> Failure {
    let path = display_path(path);
    in_the_way(format!(
        "{path} is a directory that is not empty, and a file or link shall go there: move it away"
    ))
}

/// The failure of an item whose parent directories cannot be entered or made.
pub(super) fn parent_failure(errno: Errno, path: &[u8]) -> Failure {
    match errno {
        Errno::LOOP | Errno::NOTDIR => in_the_way(format!(
            "a file or symbolic link stands where {} needs a directory above it: move it away",
            display_path(path)
        )),
        OWN_DIRECTORY => in_the_way(format!(
            "{} cannot be written: it, or a directory above it, belongs to Orbit Grid itself or is immutable; choose another \
             destination, or leave this path out with --exclude",
            display_path(path)
        )),
        _ => at_destination(errno, "enter or create the directory of", path),
    }
}
