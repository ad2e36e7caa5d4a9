//! A Star's destination: its disk and its vault. Looks at targets, pulls content from the source Star, and executes the
//! effects of the machine of an assignment's items. What follows what is the machine's decision.

use std::collections::VecDeque;
use std::time::Duration;

use orbit_shared::comparison::{Comparison, Unchanged};
use orbit_shared::entry::{Entry, EntryKind, join_path};
use orbit_shared::session::{Assignment, ChunkCounts, Failure, FailureCause, Fault, ItemResult};
use orbit_star::core::Event;
use orbit_star::sink::pull_core::{Effect, Event as PullEvent, Failed, Planned, WrittenItem};

use super::World;
use super::disk::{DiskTrouble, Node, parent_of};
use super::tree::version_of;
use super::vault::is_packed;
use super::work::{Pulling, Running};

/// An item that is written and not durable.
#[derive(Debug)]
pub struct Written {
    index: usize,
    /// Its temporary, if it has one.
    temporary: Option<Vec<u8>>,
    size: u64,
}

impl WrittenItem for Written {
    fn item(&self) -> usize {
        self.index
    }

    fn bytes(&self) -> u64 {
        self.size
    }

    fn result(&self, elapsed: Duration) -> ItemResult {
        ItemResult::Stored {
            size: self.size,
            bytes_transferred: self.size,
            bytes_deduplicated: 0,
            duration: elapsed,
            is_changed: false,
            chunks: ChunkCounts::default(),
        }
    }
}

/// What an item consists of.
#[derive(Debug, Clone, Copy)]
struct Content {
    version: u64,
    size: u64,
}

/// How long an assignment has taken when it reports.
const ELAPSED: Duration = Duration::from_millis(1);

/// The name of an item's temporary: beside its target, and the same for every attempt.
pub(super) fn temporary_of(assignment: &Assignment, index: usize) -> Vec<u8> {
    let target = join_path(&assignment.destination_path, &assignment.items[index].entry.path);
    let mut path = parent_of(&target).to_vec();
    let item = &assignment.items[index];
    path.extend(
        format!("/.orbit-{}-{}-{}", assignment.job, assignment.destination, item.sequence).into_bytes(),
    );
    path
}

/// Whether a path is that of a temporary.
pub fn is_temporary(path: &[u8]) -> bool {
    path.rsplit(|&byte| byte == b'/').next().is_some_and(|name| name.starts_with(b".orbit-"))
}

fn failed(cause: FailureCause, fault: Fault, message: &str) -> Failure {
    Failure { cause, fault, message: message.to_owned() }
}

fn refused(message: &str) -> Failure {
    failed(FailureCause::DestinationError, Fault::Destination, message)
}

fn all_failed(written: &[Written], message: &str) -> Vec<Failed> {
    written.iter().map(|written| Failed { item: written.index, failure: refused(message) }).collect()
}

fn is_directory(kind: &EntryKind) -> bool {
    matches!(kind, EntryKind::Directory)
}

impl World {
    /// Looks at the target of every item. What needs no pull is written at once.
    pub(super) fn plan_items(&mut self, star: usize, running: &mut Running) -> Planned<Written> {
        let assignment = running.assignment.clone();
        let is_packed = is_packed(&assignment);
        let mut planned = Planned::default();
        for (index, item) in assignment.items.iter().enumerate() {
            let entry = &item.entry;
            if is_directory(&entry.kind) && !is_packed {
                continue;
            }
            let is_file = matches!(entry.kind, EntryKind::File { .. });
            if self.is_unchanged(star, &assignment, entry) {
                planned.unchanged.push(index);
            } else if is_file {
                planned.wanted.push(index);
            } else if is_packed {
                running.versions.insert(index, version_of(entry));
                planned.written.push(Written { index, temporary: None, size: 0 });
            } else {
                match self.write(star, running, index, Content { version: version_of(entry), size: 0 }) {
                    Ok(written) => planned.written.push(written),
                    Err(failure) => planned.failed.push(Failed { item: index, failure }),
                }
            }
        }
        planned
    }

    fn is_unchanged(&self, star: usize, assignment: &Assignment, entry: &Entry) -> bool {
        let (star, version) = (&self.stars[star], version_of(entry));
        if is_packed(assignment) {
            return star.vault.staged(assignment.job, assignment.destination, &entry.path) == Some(version);
        }
        let target = join_path(&assignment.destination_path, &entry.path);
        star.disk.node(&target).is_some_and(|node| {
            node.version == version
                && node.size == entry.size()
                && node.is_directory == is_directory(&entry.kind)
                && node.is_whole
        })
    }

    /// Writes an item: under its temporary name, or into the vault, where it is not durable yet.
    fn write(
        &mut self,
        star: usize,
        running: &mut Running,
        index: usize,
        content: Content,
    ) -> Result<Written, Failure> {
        let Content { version, size } = content;
        if let Some(failure) = self.trouble_of_item() {
            return Err(failure);
        }
        let disk = &mut self.stars[star].disk;
        match disk.trouble {
            Some(DiskTrouble::Full) => return Err(refused("no space left on device")),
            Some(DiskTrouble::WritesFail) => return Err(refused("input/output error")),
            Some(DiskTrouble::SyncsFail) | None => {}
        }
        running.bytes_moved += size;
        running.versions.insert(index, version);
        if is_packed(&running.assignment) {
            return Ok(Written { index, temporary: None, size });
        }
        let temporary = temporary_of(&running.assignment, index);
        disk.make_directories(parent_of(&temporary));
        disk.write(&temporary, version, size);
        Ok(Written { index, temporary: Some(temporary), size })
    }

    /// Pulls the next few items.
    pub(super) fn pull_some(&mut self, star: usize, running: &mut Running) {
        let group_max = if self.scenario.entries_min > 0 { 200 } else { 8 };
        for _ in 0..self.chance.between(1, group_max) {
            let Some(Pulling { items, is_broken }) = &mut running.pulling else { return };
            let Some(index) = items.pop_front() else {
                running.pulling = None;
                return running.take(PullEvent::PullEnded);
            };
            let was_broken = *is_broken;
            let path = running.assignment.items[index].entry.path.clone();
            let found = self.pull(star, &running.assignment, &path);
            let is_away = found.as_ref().is_err_and(|failure| failure.fault == Fault::Source);
            if is_away && !was_broken {
                running.take(PullEvent::PullBroken);
                if let Some(pulling) = &mut running.pulling {
                    pulling.is_broken = true;
                }
            }
            let written = found.and_then(|found| self.write(star, running, index, found));
            running.take(match written {
                Ok(written) => PullEvent::ItemWritten(written),
                Err(failure) => PullEvent::ItemFailed(Failed { item: index, failure }),
            });
        }
    }

    /// Executes an effect.
    pub(super) fn execute(&mut self, star: usize, running: &mut Running, effect: Effect<Written>) {
        let disk = &mut self.stars[star].disk;
        let is_failing = disk.trouble == Some(DiskTrouble::SyncsFail);
        match effect {
            Effect::Pull { items, .. } => {
                running.pulling = Some(Pulling { items: VecDeque::from(items), is_broken: false });
            }
            Effect::Report(outcomes) => self.report(star, running, outcomes),
            Effect::Finish => {}
            // Its items are claimed by this attempt.
            Effect::Clean => {
                let assignment = &running.assignment;
                for index in orbit_star::sink::claims::leftovers(assignment, |_| false) {
                    disk.remove(&temporary_of(assignment, index));
                }
            }
            Effect::Discard(failed) => {
                failed.iter().for_each(|failed| disk.remove(&temporary_of(&running.assignment, failed.item)));
                running.take(PullEvent::Discarded(failed));
            }
            Effect::SettleDoubts(items) if is_failing => {
                let failed = |item| Failed { item, failure: refused("cannot sync") };
                let failed = items.into_iter().map(failed).collect();
                running.take(PullEvent::DoubtsSettled { durable: Vec::new(), failed });
            }
            Effect::SettleDoubts(durable) => {
                durable.iter().for_each(|&item| self.sync_whole(star, &running.target(item)));
                running.take(PullEvent::DoubtsSettled { durable, failed: Vec::new() });
            }
            Effect::SyncContent(written) if is_failing => {
                let failed = all_failed(&written, "cannot sync");
                running.take(PullEvent::ContentSynced { synced: Vec::new(), failed });
            }
            Effect::SyncContent(synced) => {
                synced.iter().filter_map(|written| written.temporary.as_ref()).for_each(|temporary| {
                    disk.sync_content(temporary);
                });
                running.take(PullEvent::ContentSynced { synced, failed: Vec::new() });
            }
            Effect::Rename(renamed) => {
                for written in &renamed {
                    let temporary = written.temporary.as_ref().expect("files have temporaries");
                    disk.rename(temporary, &running.target(written.index));
                }
                running.take(PullEvent::Renamed { renamed, failed: Vec::new() });
            }
            Effect::SyncDirectories(renamed) => {
                let failed = if is_failing { all_failed(&renamed, "cannot sync") } else { Vec::new() };
                for written in renamed.iter().filter(|_| !is_failing) {
                    self.sync_names(star, parent_of(&running.target(written.index)));
                }
                let durable = if is_failing { Vec::new() } else { renamed };
                running.take(PullEvent::Durable { durable, failed, elapsed: ELAPSED });
            }
            Effect::Commit { items, .. } => self.commit(star, running, items),
            Effect::MakeDirectories(items) => self.make_directories(star, running, items),
            Effect::SyncMade { made, unchanged } => self.sync_made(star, running, made, unchanged),
        }
    }

    /// Makes an item durable: its content, and the names above it.
    fn sync_whole(&mut self, star: usize, target: &[u8]) {
        self.stars[star].disk.sync_content(target);
        self.sync_names(star, parent_of(target));
    }

    /// Makes the names in a directory durable, and the directory itself.
    fn sync_names(&mut self, star: usize, directory: &[u8]) {
        let mut at = directory;
        while at.starts_with(b"/data") {
            self.stars[star].disk.sync_directory(at);
            at = parent_of(at);
        }
    }

    /// The items are durable in the vault, all of them at once.
    fn commit(&mut self, star: usize, running: &mut Running, items: Vec<Written>) {
        if self.stars[star].disk.trouble.is_some() && !items.is_empty() {
            let failed = all_failed(&items, "cannot commit");
            return running.take(PullEvent::Durable { durable: Vec::new(), failed, elapsed: ELAPSED });
        }
        let assignment = &running.assignment;
        let entry = |written: &Written| {
            let path = assignment.items[written.index].entry.path.clone();
            (path, running.versions[&written.index])
        };
        let entries = items.iter().map(entry).collect();
        self.stars[star].vault.commit(assignment.job, assignment.destination, entries);
        running.take(PullEvent::Durable { durable: items, failed: Vec::new(), elapsed: ELAPSED });
    }

    fn make_directories(&mut self, star: usize, running: &mut Running, mut items: Vec<usize>) {
        items.sort_by_key(|&item| std::cmp::Reverse(running.target(item)));
        let (mut made, mut unchanged, mut all_failed) = (Vec::new(), Vec::new(), Vec::new());
        for index in items {
            let entry = &running.assignment.items[index].entry;
            let version = version_of(entry);
            if self.is_unchanged(star, &running.assignment, entry) {
                unchanged.push(index);
                continue;
            }
            let disk = &mut self.stars[star].disk;
            let failure = match disk.trouble {
                Some(DiskTrouble::Full) => Some(refused("no space left on device")),
                Some(DiskTrouble::WritesFail) => Some(refused("input/output error")),
                Some(DiskTrouble::SyncsFail) | None => self.trouble_of_item(),
            };
            if let Some(failure) = failure {
                all_failed.push(Failed { item: index, failure });
                continue;
            }
            let (disk, target) = (&mut self.stars[star].disk, running.target(index));
            disk.make_directories(&target);
            disk.set_directory(&target, version);
            made.push(Written { index, temporary: None, size: 0 });
        }
        running.take(PullEvent::DirectoriesMade { made, unchanged, failed: all_failed });
    }

    fn sync_made(&mut self, star: usize, running: &mut Running, made: Vec<Written>, unchanged: Vec<usize>) {
        let all: Vec<usize> = made.iter().map(|made| made.index).chain(unchanged.iter().copied()).collect();
        if self.stars[star].disk.trouble == Some(DiskTrouble::SyncsFail) {
            let failed = all.into_iter().map(|item| Failed { item, failure: refused("cannot sync") });
            return running.take(PullEvent::MadeSynced {
                durable: Vec::new(),
                unchanged: Vec::new(),
                failed: failed.collect(),
                elapsed: ELAPSED,
            });
        }
        all.into_iter().for_each(|item| self.sync_whole(star, &running.target(item)));
        running.take(PullEvent::MadeSynced {
            durable: made,
            unchanged,
            failed: Vec::new(),
            elapsed: ELAPSED,
        });
    }

    /// Returns which entries of a listing a destination has, complete and durable, if its disk answers in time.
    pub(super) fn compare(&mut self, star: usize, session: u64, request: u64, comparison: &Comparison) {
        let mut unchanged = Unchanged::default();
        for (index, entry) in comparison.entries.iter().enumerate() {
            let target = join_path(&comparison.path, &entry.path);
            let (version, size) = (version_of(entry), entry.size());
            let is_it = |node: &&Node| {
                !node.is_directory && node.version == version && node.size == size && node.is_whole
            };
            let disk = &self.stars[star].disk;
            if disk.node(&target).filter(is_it).and(disk.durable_node(&target).filter(is_it)).is_some() {
                unchanged.insert(index);
                let promised = self.promised.entry((star, target)).or_default();
                *promised = (*promised).max(version);
            }
        }
        let process = self.stars[star].process;
        // Sometimes a file system hangs for longer than the timeout.
        if self.chance.percent(95) {
            self.post_to_star(star, process, Event::Compared { session, request, unchanged });
        }
    }

    fn trouble_of_item(&mut self) -> Option<Failure> {
        if self.is_healing || !self.scenario.troubles.items || !self.chance.percent(12) {
            return None;
        }
        Some(match self.chance.below(6) {
            0 => failed(FailureCause::ChecksumMismatch, Fault::Item, "what arrived was not what was sent"),
            1 => failed(FailureCause::Transient, Fault::Source, "the source refuses"),
            2 => failed(FailureCause::Permanent, Fault::Item, "permission denied"),
            _ => failed(FailureCause::Transient, Fault::Item, "it changed while it was read"),
        })
    }

    /// The current version and size of a path at the source.
    fn pull(&self, star: usize, assignment: &Assignment, path: &[u8]) -> Result<Content, Failure> {
        let away = || failed(FailureCause::Transient, Fault::Source, "the source cannot be reached");
        let source =
            self.stars.iter().position(|other| other.name == assignment.source_star).ok_or_else(away)?;
        if !self.stars[source].is_up() || !self.network.is_connected(star, source) {
            return Err(away());
        }
        let node = self.stars[source].tree.node(path);
        match node {
            Some(node) if matches!(node.kind, EntryKind::File { .. }) => {
                Ok(Content { version: node.version, size: node.size() })
            }
            Some(_) => Err(failed(FailureCause::Permanent, Fault::Item, "it has no content")),
            None => Err(failed(FailureCause::SourceMissing, Fault::Item, "no such file")),
        }
    }
}
