//! A model of a Star's data plane: claims items, adds them to the journal, checks targets, pulls from the source Star,
//! writes temporaries, syncs, renames, syncs directories, and reports.
//!
//! Each step takes time, and anything can happen between two of them. Withdrawn work stops before its next group but
//! finishes a publication in progress, as the real one does.

use std::collections::{BTreeSet, VecDeque};

use orbit_shared::comparison::{Comparison, Unchanged};
use orbit_shared::entry::{Entry, EntryKind, join_path};
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::session::{Assignment, ChunkCounts, Failure, FailureCause, Fault, ItemOutcome, ItemResult};
use orbit_shared::words::{AssignmentId, ItemId, StarId};
use orbit_star::core::Event;

use super::World;
use super::agenda::Happening;
use super::disk::{DiskTrouble, Node, parent_of};
use super::star::Star;
use super::tree::version_of;
use super::vault::is_packed;

/// The phase of work on an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Claim,
    Take,
    Sync,
    Rename,
    SyncDirectories,
    /// Withdrawn, without claims; its temporaries must still be removed.
    Clean,
}

/// An item that was written and not published.
#[derive(Debug)]
struct Written {
    index: usize,
    temporary: Option<Vec<u8>>,
    version: u64,
    size: u64,
    is_skipped: bool,
}

/// Work on one assignment.
#[derive(Debug)]
pub struct Running {
    assignment: Assignment,
    phase: Phase,
    todo: VecDeque<usize>,
    group: Vec<Written>,
    /// Directories whose names must become durable with the group.
    directories: BTreeSet<Vec<u8>>,
    is_cancelled: bool,
    /// Its job has ended: what is stored of it is removed.
    is_over: bool,
    bytes_moved: u64,
}

impl Running {
    /// Whether it pulls from a Star.
    pub fn is_pulling_from(&self, star: &StarId) -> bool {
        self.assignment.source_star == *star && !self.todo.is_empty() && self.phase != Phase::Claim
    }

    /// Number of bytes moved so far.
    pub fn bytes_moved(&self) -> u64 {
        self.bytes_moved
    }

    fn items(&self) -> impl Iterator<Item = ItemId> {
        items_of(&self.assignment)
    }

    fn target(&self, index: usize) -> Vec<u8> {
        join_path(&self.assignment.destination_path, &self.assignment.items[index].entry.path)
    }
}

fn items_of(assignment: &Assignment) -> impl Iterator<Item = ItemId> {
    let (job, destination) = (assignment.job, assignment.destination);
    assignment.items.iter().map(move |item| ItemId { job, destination, sequence: item.sequence })
}

/// The name of an item's temporary: beside its target, and the same for every attempt.
fn temporary_of(assignment: &Assignment, index: usize) -> Vec<u8> {
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

impl Star {
    /// Removes the partly written files of an assignment. Files of another attempt are kept.
    pub fn remove_temporaries(&mut self, assignment: &Assignment) {
        if is_planted(Bug::TemporariesLeft) {
            return;
        }
        for (index, item) in items_of(assignment).enumerate() {
            if !self.claims.contains(&item) || is_planted(Bug::TemporariesOfOthersRemoved) {
                self.disk.remove(&temporary_of(assignment, index));
            }
        }
    }
}

fn failed(cause: FailureCause, fault: Fault, message: &str) -> ItemResult {
    ItemResult::Failed(Failure { cause, fault, message: message.to_owned() })
}

impl World {
    /// Begins work on an assignment: it is in the journal before anything is written.
    pub(super) fn start_work(&mut self, star: usize, assignment: Assignment) {
        let id = assignment.id;
        let todo = (0..assignment.items.len()).collect();
        let running = Running {
            assignment,
            phase: Phase::Claim,
            todo,
            group: Vec::new(),
            directories: BTreeSet::new(),
            is_cancelled: false,
            is_over: false,
            bytes_moved: 0,
        };
        self.stars[star].running.insert(id, running);
        self.plan_work(star, id);
    }

    /// Withdraws work: it ends before its next group. If its job has ended, what was stored of it is removed.
    pub(super) fn stop_work(&mut self, star: usize, id: AssignmentId, is_over: bool) {
        let owner = &mut self.stars[star];
        if let Some(running) = owner.running.get_mut(&id) {
            running.is_cancelled = true;
            running.is_over |= is_over;
            return;
        }
        if let Some(assignment) = owner.journal.get(&id).filter(|_| is_over) {
            owner.vault.abandon_job(assignment.job);
        }
        self.forget_work(star, id);
    }

    /// Every outcome is safe.
    pub(super) fn forget_work(&mut self, star: usize, id: AssignmentId) {
        self.stars[star].journal.remove(&id);
    }

    fn plan_work(&mut self, star: usize, assignment: AssignmentId) {
        let slow = if self.chance.percent(3) { self.chance.between(0, 4_000) } else { 0 };
        let running = self.stars[star].running.get(&assignment);
        // Cleaning waits for other blocking work.
        let share = if running.is_some_and(|running| running.phase == Phase::Clean) { 4 } else { 1 };
        let at_ms = self.now_ms + self.chance.between(0, share * self.scenario.work_max_ms) + slow;
        let process = self.stars[star].process;
        self.agenda.add(at_ms, Happening::WorkStep { star, process, assignment });
    }

    /// Work advances by one step.
    pub(super) fn work_step(&mut self, star: usize, process: u32, id: AssignmentId) {
        if self.stars[star].process != process {
            return;
        }
        if self.stars[star].is_frozen {
            return self.plan_work(star, id);
        }
        let Some(mut running) = self.stars[star].running.remove(&id) else { return };
        let is_over = match running.phase {
            Phase::Claim => self.claim(star, &mut running),
            Phase::Take => self.take_group(star, &mut running),
            Phase::Sync => self.sync_group(star, &mut running),
            Phase::Rename => self.rename_group(star, &mut running),
            Phase::SyncDirectories => self.sync_directories(star, &mut running),
            Phase::Clean => true,
        };
        if is_over && self.end_work(star, &mut running) {
            self.post_to_star(star, process, Event::WorkEnded { assignment: id });
        } else {
            self.stars[star].running.insert(id, running);
            self.plan_work(star, id);
        }
    }

    fn claim(&mut self, star: usize, running: &mut Running) -> bool {
        if running.is_cancelled {
            return true;
        }
        let star = &mut self.stars[star];
        if running.items().all(|item| !star.claims.contains(&item)) {
            star.claims.extend(items_of(&running.assignment));
            star.journal.insert(running.assignment.id, running.assignment.clone());
            running.phase = Phase::Take;
        }
        false
    }

    /// Releases the claims of withdrawn work, and then cleans up. Returns whether that is complete.
    fn end_work(&mut self, star: usize, running: &mut Running) -> bool {
        let star = &mut self.stars[star];
        match running.phase {
            Phase::Claim | Phase::Clean => {}
            Phase::Take | Phase::Sync | Phase::Rename | Phase::SyncDirectories => {
                for item in running.items() {
                    star.claims.remove(&item);
                }
            }
        }
        if running.is_cancelled && running.phase != Phase::Clean {
            running.phase = Phase::Clean;
            return false;
        }
        if running.is_cancelled {
            star.remove_temporaries(&running.assignment);
            star.journal.remove(&running.assignment.id);
            if running.is_over {
                star.vault.abandon_job(running.assignment.job);
            }
        }
        true
    }

    /// Processes the next few items up to their temporaries.
    fn take_group(&mut self, star: usize, running: &mut Running) -> bool {
        if running.is_cancelled || running.todo.is_empty() {
            return true;
        }
        let mut outcomes = Vec::new();
        let group_max = if self.scenario.entries_min > 0 { 200 } else { 8 };
        for _ in 0..self.chance.between(1, group_max) {
            let Some(index) = running.todo.pop_front() else { break };
            let result = self.take_item(star, running, index);
            let sequence = running.assignment.items[index].sequence;
            outcomes.extend(result.map(|result| ItemOutcome { sequence, result }));
        }
        self.produce(star, running, outcomes);
        running.phase = Phase::Sync;
        false
    }

    /// Processes one item up to its temporary, or returns its result.
    fn take_item(&mut self, star: usize, running: &mut Running, index: usize) -> Option<ItemResult> {
        let entry = running.assignment.items[index].entry.clone();
        if is_packed(&running.assignment) {
            return self.take_packed(star, running, index, &entry);
        }
        let target = running.target(index);
        let version = version_of(&entry);
        let present = self.stars[star].disk.node(&target).copied();
        let is_same = present.is_some_and(|node| {
            node.version == version
                && node.size == entry.size()
                && node.is_directory == is_directory(&entry.kind)
        });
        if is_same && (self.stars[star].disk.node(&target).is_some_and(|node| node.is_whole)) {
            let size = entry.size();
            running.group.push(Written { index, temporary: None, version, size, is_skipped: true });
            running.directories.insert(parent_of(&target).to_vec());
            return None;
        }
        if let Some(result) = self.trouble_of_item(star) {
            return Some(result);
        }
        let disk = &mut self.stars[star].disk;
        match disk.trouble {
            Some(DiskTrouble::Full) => {
                return Some(failed(
                    FailureCause::DestinationError,
                    Fault::Destination,
                    "no space left on device",
                ));
            }
            Some(DiskTrouble::WritesFail) => {
                return Some(failed(
                    FailureCause::DestinationError,
                    Fault::Destination,
                    "input/output error",
                ));
            }
            Some(DiskTrouble::SyncsFail) | None => {}
        }
        if entry.kind == EntryKind::Directory {
            running.directories.extend(disk.make_directories(&target));
            disk.set_directory(&target, version);
            running.directories.insert(parent_of(&target).to_vec());
            running.group.push(Written { index, temporary: None, version, size: 0, is_skipped: false });
            return None;
        }
        let (version, size) = match &entry.kind {
            EntryKind::File { .. } => match self.pull(star, &running.assignment, &entry.path) {
                Ok(found) => found,
                Err(result) => return Some(result),
            },
            _ => (version, 0),
        };
        let disk = &mut self.stars[star].disk;
        let temporary = temporary_of(&running.assignment, index);
        running.directories.extend(disk.make_directories(parent_of(&target)));
        running.directories.insert(parent_of(&target).to_vec());
        disk.write(&temporary, version, size);
        running.bytes_moved += size;
        running.group.push(Written { index, temporary: Some(temporary), version, size, is_skipped: false });
        None
    }

    /// As [`Self::take_item`], for an item that goes into the vault: it is held until its group is committed.
    fn take_packed(
        &mut self,
        star: usize,
        running: &mut Running,
        index: usize,
        entry: &Entry,
    ) -> Option<ItemResult> {
        let (job, destination) = (running.assignment.job, running.assignment.destination);
        let (version, size) = (version_of(entry), entry.size());
        if self.stars[star].vault.staged(job, destination, &entry.path) == Some(version) {
            running.group.push(Written { index, temporary: None, version, size, is_skipped: true });
            return None;
        }
        if let Some(result) = self.trouble_of_item(star) {
            return Some(result);
        }
        let refused = |message| Some(failed(FailureCause::DestinationError, Fault::Destination, message));
        match self.stars[star].disk.trouble {
            Some(DiskTrouble::Full) => return refused("no space left on device"),
            Some(DiskTrouble::WritesFail) => return refused("input/output error"),
            Some(DiskTrouble::SyncsFail) | None => {}
        }
        let (version, size) = match &entry.kind {
            EntryKind::File { .. } => match self.pull(star, &running.assignment, &entry.path) {
                Ok(found) => found,
                Err(result) => return Some(result),
            },
            _ => (version, 0),
        };
        running.bytes_moved += size;
        running.group.push(Written { index, temporary: None, version, size, is_skipped: false });
        None
    }

    /// The group is durable in the vault, all of it at once.
    fn commit_group(&mut self, star: usize, running: &mut Running) {
        let group = std::mem::take(&mut running.group);
        let assignment = &running.assignment;
        let new = group.iter().filter(|written| !written.is_skipped);
        let entries = new.map(|new| (assignment.items[new.index].entry.path.clone(), new.version)).collect();
        self.stars[star].vault.commit(assignment.job, assignment.destination, entries);
        let outcomes = group.iter().map(|written| {
            let what = (written.index, written.version, written.size);
            self.packed_outcome(star, assignment, what, written.is_skipped)
        });
        let outcomes = outcomes.collect();
        self.produce(star, running, outcomes);
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

    fn trouble_of_item(&mut self, _star: usize) -> Option<ItemResult> {
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
    fn pull(&self, star: usize, assignment: &Assignment, path: &[u8]) -> Result<(u64, u64), ItemResult> {
        let away = || failed(FailureCause::Transient, Fault::Source, "the source cannot be reached");
        let source =
            self.stars.iter().position(|other| other.name == assignment.source_star).ok_or_else(away)?;
        if !self.stars[source].is_up() || !self.network.is_connected(star, source) {
            return Err(away());
        }
        let node = self.stars[source].tree.node(path);
        match node {
            Some(node) if matches!(node.kind, EntryKind::File { .. }) => Ok((node.version, node.size())),
            Some(_) => Err(failed(FailureCause::Permanent, Fault::Item, "it has no content")),
            None => Err(failed(FailureCause::SourceMissing, Fault::Item, "no such file")),
        }
    }

    fn sync_group(&mut self, star: usize, running: &mut Running) -> bool {
        let disk = &mut self.stars[star].disk;
        if disk.trouble == Some(DiskTrouble::SyncsFail) {
            let group = std::mem::take(&mut running.group);
            let mut outcomes = Vec::new();
            for written in group {
                if let Some(temporary) = &written.temporary {
                    disk.remove(temporary);
                }
                let result = failed(FailureCause::DestinationError, Fault::Destination, "cannot sync");
                let sequence = running.assignment.items[written.index].sequence;
                outcomes.push(ItemOutcome { sequence, result });
            }
            self.produce(star, running, outcomes);
            running.phase = Phase::Take;
            return false;
        }
        if is_packed(&running.assignment) {
            self.commit_group(star, running);
            running.phase = Phase::Take;
            return false;
        }
        for written in &running.group {
            let is_left_out =
                is_planted(Bug::ContentNotSynced) || written.is_skipped && is_planted(Bug::SkipNotSynced);
            if !is_left_out {
                let target = running.target(written.index);
                disk.sync_content(written.temporary.as_deref().unwrap_or(&target));
            }
        }
        running.phase = Phase::Rename;
        false
    }

    fn rename_group(&mut self, star: usize, running: &mut Running) -> bool {
        for written in &running.group {
            if let Some(temporary) = &written.temporary {
                self.stars[star].disk.rename(temporary, &running.target(written.index));
            }
        }
        running.phase = Phase::SyncDirectories;
        false
    }

    fn sync_directories(&mut self, star: usize, running: &mut Running) -> bool {
        let disk = &mut self.stars[star].disk;
        let group = std::mem::take(&mut running.group);
        let is_all_skipped = group.iter().all(|written| written.is_skipped);
        let is_left_out =
            is_planted(Bug::DirectoryNotSynced) || is_all_skipped && is_planted(Bug::SkipNotSynced);
        for directory in std::mem::take(&mut running.directories) {
            let mut at = directory.as_slice();
            while !is_left_out && at.starts_with(b"/data") {
                disk.sync_directory(at);
                at = parent_of(at);
            }
        }
        let mut outcomes = Vec::new();
        for written in group {
            let item = &running.assignment.items[written.index];
            let target = running.target(written.index);
            let promised = self.promised.entry((star, target)).or_default();
            *promised = (*promised).max(written.version);
            let result = if written.is_skipped {
                ItemResult::Skipped
            } else {
                ItemResult::Stored {
                    size: written.size,
                    bytes_transferred: written.size,
                    bytes_deduplicated: 0,
                    chunks: ChunkCounts::default(),
                    duration: std::time::Duration::from_millis(1),
                    is_changed: false,
                }
            };
            outcomes.push(ItemOutcome { sequence: item.sequence, result });
        }
        self.produce(star, running, outcomes);
        running.phase = Phase::Take;
        false
    }

    fn produce(&mut self, star: usize, running: &Running, outcomes: Vec<ItemOutcome>) {
        if outcomes.is_empty() {
            return;
        }
        let process = self.stars[star].process;
        let assignment = running.assignment.id;
        self.post_to_star(star, process, Event::OutcomesProduced { assignment, outcomes });
    }
}

fn is_directory(kind: &EntryKind) -> bool {
    matches!(kind, EntryKind::Directory)
}
