//! Invariants after every step of a run. Each check is a function with its own name and message; it panics in a run
//! that violates it.
//!
//! They look from outside: at the content of the store, the disks and the links, not at the state of a core. The driver
//! also asserts [`orbit_coordinator::core::Core::check`].

use std::collections::{BTreeMap, BTreeSet};

use orbit_coordinator::core::limits::{HEALTH_SAMPLES_MAX, STAR_HISTORY_MAX};
use orbit_coordinator::core::{Action, Change, Event, ItemEnd, JobState, Liveness, Tally};
use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::provenance::{ProvenanceEvent, ProvenanceType};
use orbit_shared::session::{Assignment, CoordinatorMessage, Fault, Hello, ItemResult, StarMessage, limits};
use orbit_shared::words::{AssignmentId, ItemId, JobId, Layout, StarId};

use super::World;
use super::tree::version_of;
use super::vault::promise_of;

/// The state of a job: its tally and the number of its penalized items.
type Count = (JobId, Tally, u64);

/// The state of the jobs, and the reason why an event must not change it.
#[derive(Debug, Default)]
pub struct Before {
    /// The state, if the event is too late to count.
    late: Option<(String, Vec<Count>)>,
    /// Items that failed through no fault of their own.
    innocent: Vec<ItemId>,
    /// Number of changes in the turn before the event.
    changes: usize,
}

/// Events of a turn that its changes do not show.
#[derive(Debug, Default)]
pub struct TurnNotes {
    /// Assignments with a report.
    reported: BTreeSet<AssignmentId>,
    /// Stars that said hello.
    greeted: BTreeSet<StarId>,
}

impl Before {
    /// Records the state of a world before an event.
    pub fn of(world: &mut World, event: &Event) -> Self {
        let changes = world.coordinator.gathered_changes().len();
        let (session, message) = match event {
            Event::MessageReceived { session, message } => (*session, message),
            Event::SessionOpened { hello, .. } => {
                world.turn_notes.greeted.insert(hello.star_id.clone());
                return Self { changes, ..Self::default() };
            }
            Event::SessionClosed { .. }
            | Event::ProtocolViolated { .. }
            | Event::SessionSlowed { .. }
            | Event::CommandReceived { .. }
            | Event::WindowLoaded { .. }
            | Event::PlanAsked { .. }
            | Event::VaultAsked { .. }
            | Event::StoreDamaged { .. }
            | Event::DeadlineReached => return Self { changes, ..Self::default() },
        };
        let speaker = world.speaker(session);
        let is_current = speaker.as_ref().is_some_and(|name| {
            let core = world.coordinator.core();
            core.and_then(|core| core.star(name)).is_some_and(|star| star.session == Some(session))
        });
        let mut before = Self { changes, ..Self::default() };
        let why = match message {
            StarMessage::Report(report) => {
                world.turn_notes.reported.insert(report.assignment);
                before.innocent = world.innocent_items(report);
                let is_live = world.is_assigned_to(report.assignment, speaker.as_ref());
                (!is_current || !is_live).then(|| {
                    format!("report {} of assignment {} by {speaker:?}", report.number, report.assignment)
                })
            }
            StarMessage::ScanBatch(batch) => {
                (!is_current).then(|| format!("batch {} of scan {} by {speaker:?}", batch.number, batch.scan))
            }
            StarMessage::Hello(_)
            | StarMessage::Heartbeat(_)
            | StarMessage::LifecycleChanged { .. }
            | StarMessage::Compared { .. }
            | StarMessage::VaultAnswered { .. }
            | StarMessage::DamageFound { .. }
            | StarMessage::Noticed(_)
            | StarMessage::DrainRequested { .. } => None,
        };
        before.late = why.map(|why| (why, world.counts()));
        before
    }
}

impl World {
    fn speaker(&self, session: orbit_coordinator::core::SessionId) -> Option<StarId> {
        self.coordinator.speaker(session).map(|star| self.stars[star].name.clone())
    }

    /// Whether an assignment is live, and held by a Star, according to the store and the changes that are not in it yet.
    fn is_assigned_to(&self, id: AssignmentId, star: Option<&StarId>) -> bool {
        let mut holder = self.coordinator.store.assignments.get(&id).map(|record| &record.star);
        for change in self.coordinator.pending_changes() {
            match change {
                Change::PutAssignment(record) if record.id == id => holder = Some(&record.star),
                Change::RemoveAssignment(removed) if *removed == id => holder = None,
                _ => {}
            }
        }
        holder.is_some() && holder == star
    }

    fn counts(&self) -> Vec<Count> {
        let Some(core) = self.coordinator.core() else { return Vec::new() };
        let jobs = core.each_job(None, &[], self.coordinator_now());
        jobs.map(|job| (job.record.id, job.tally, job.penalized)).collect()
    }

    /// Items whose source failed while it was not connected.
    fn innocent_items(&self, report: &orbit_shared::session::Report) -> Vec<ItemId> {
        let record = self.coordinator.store.assignments.get(&report.assignment);
        let (Some(record), Some(core)) = (record, self.coordinator.core()) else { return Vec::new() };
        let job = self.coordinator.store.jobs.get(&record.job);
        let source = job.and_then(|job| core.star(&job.spec.source.star_id));
        if source.is_some_and(|star| star.session.is_some()) {
            return Vec::new();
        }
        let is_sources_fault = |result: &ItemResult| match result {
            ItemResult::Failed(failure) => failure.fault == Fault::Source,
            ItemResult::Stored { .. } | ItemResult::Skipped => false,
        };
        let guilty = report.outcomes.iter().filter(|outcome| is_sources_fault(&outcome.result));
        guilty
            .map(|outcome| ItemId {
                job: record.job,
                destination: record.destination,
                sequence: outcome.sequence,
            })
            .collect()
    }

    /// After an event: a late message changed nothing, and no item was penalized for another one's fault.
    pub(super) fn check_step(&mut self, before: &Before) {
        if let Some((why, counts)) = &before.late {
            assert_eq!(*counts, self.counts(), "late is refused: {why} had an effect");
        }
        for change in &self.coordinator.gathered_changes()[before.changes..] {
            if let Change::PutPenalty { item, .. } = change {
                assert!(!before.innocent.contains(item), "a source that is away is no fault of {item}");
            }
        }
    }

    /// At the end of a turn with these changes.
    pub(super) fn check_held_actions(&mut self, changes: &[Change]) {
        let notes = std::mem::take(&mut self.turn_notes);
        if let Some(turns) = &self.coordinator.turns {
            let actions = turns.held_actions();
            self.check_actions(actions);
            self.check_withdrawals(&notes, changes, actions);
        }
    }

    /// Before the actions of a turn: work is sent only to Stars that may have it.
    fn check_actions(&self, actions: &[Action]) {
        let Some(core) = self.coordinator.core() else { return };
        for action in actions {
            let Action::Assign { session, assignment, grant } = action else { continue };
            let destination_star = &grant.destination_star;
            check_assignment_is_bounded(assignment);
            for (role, name) in [("destination", destination_star), ("source", &assignment.source_star)] {
                let star = core.star(name).expect("work goes to and from known Stars");
                let is_fit = star.state() == LifecycleState::Scheduled && star.liveness == Liveness::Alive;
                assert!(
                    is_fit,
                    "only the fit work: {role} {name} is {} and {:?}",
                    star.state(),
                    star.liveness
                );
            }
            let star = core.star(destination_star).expect("work goes to a known Star");
            assert_eq!(star.session, Some(*session), "work goes to the session of {destination_star}");
            assert!(!star.record.is_cordoned, "only the fit work: {destination_star} is cordoned");
            assert!(
                star.record.guard_pause.is_none(),
                "only the fit work: {destination_star} has a paused guard"
            );
        }
    }

    /// No limit of the coordinator is exceeded, and a lost Star holds nothing.
    pub(super) fn check_bounds_of_coordinator(&self) {
        let Some(core) = self.coordinator.core() else { return };
        for star in core.stars() {
            let name = &star.record.star_id;
            let held = core.held_count(star);
            assert!(held <= limits::ASSIGNMENTS_PER_STAR_MAX, "bounded: {name} holds {held} assignments");
            let scans = core.scan_count(star);
            assert!(scans <= limits::SCANS_PER_STAR_MAX, "bounded: {name} runs {scans} scans");
            assert!(star.samples.len() <= HEALTH_SAMPLES_MAX, "bounded: samples of {name}");
            assert!(star.record.history.len() <= STAR_HISTORY_MAX, "bounded: history of {name}");
            assert!(
                star.liveness != Liveness::Lost || held == 0,
                "a lost Star holds nothing: {name} has {held}"
            );
        }
    }

    /// A job that ends withdraws its work from every Star that could still be doing it.
    fn check_withdrawals(&self, notes: &TurnNotes, changes: &[Change], actions: &[Action]) {
        let Some(core) = self.coordinator.core() else { return };
        let ended: BTreeSet<JobId> = changes
            .iter()
            .filter_map(|change| match change {
                Change::PutJob(job) if job.end.is_some() => Some(job.id),
                _ => None,
            })
            .collect();
        for record in self.coordinator.store.assignments.values().filter(|record| ended.contains(&record.job))
        {
            let session = core.star(&record.star).and_then(|star| star.session);
            let Some(session) = session else { continue };
            if notes.reported.contains(&record.id) || notes.greeted.contains(&record.star) {
                continue;
            }
            let was_given_back = changes.contains(&Change::RemoveAssignment(record.id));
            let is_told = actions.iter().any(|action| match action {
                Action::Send {
                    session: of,
                    message: CoordinatorMessage::Withdraw { assignment: id, .. },
                } => *of == session && *id == record.id,
                _ => false,
            });
            let holds = core.star(&record.star).is_some_and(|star| star.state() == LifecycleState::Shutdown);
            assert!(
                is_told || !was_given_back || holds,
                "what a job has no use for is withdrawn: assignment {} of {}",
                record.id,
                record.star
            );
        }
    }

    /// Before a commit: every end has exactly one event, and stored items are durable.
    pub(super) fn check_ends(&self, changes: &[Change], events: &[ProvenanceEvent]) {
        let mut completions: BTreeMap<ItemId, i32> = BTreeMap::new();
        for event in events.iter().filter(|event| event.event_type == ProvenanceType::FileCompleted) {
            let item = event.item.expect("a file event is about an item");
            *completions.entry(item).or_default() -= 1;
        }
        for change in changes {
            let Change::PutEnd { item, record } = change else { continue };
            match record.end {
                ItemEnd::Stored => {
                    *completions.entry(*item).or_default() += 1;
                    self.check_item_is_durable(*item, Some(changes));
                }
                ItemEnd::Skipped => self.check_item_is_durable(*item, Some(changes)),
                ItemEnd::Dead => {}
            }
        }
        for (item, count) in completions {
            assert_eq!(count, 0, "an end and its event go together: {item}");
        }
    }

    /// Every item that counts as stored is at its destination, whatever happens to its machine.
    pub(super) fn check_stored_is_durable(&self) {
        for (item, record) in &self.coordinator.store.ends {
            match record.end {
                ItemEnd::Stored | ItemEnd::Skipped => self.check_item_is_durable(*item, None),
                ItemEnd::Dead => {}
            }
        }
    }

    fn check_item_is_durable(&self, item: ItemId, changes: Option<&[Change]>) {
        let store = &self.coordinator.store;
        let Some(job) = store.jobs.get(&item.job) else { return };
        let fresh = changes.into_iter().flatten().find_map(|change| match change {
            Change::PutEntry { job, sequence, entry } if (*job, *sequence) == (item.job, item.sequence) => {
                Some(&**entry)
            }
            _ => None,
        });
        let entry =
            fresh.or_else(|| store.entries.get(&(item.job, item.sequence))).expect("an item has an entry");
        let place = &job.spec.destinations[item.destination as usize];
        let star = self.stars.iter().position(|star| star.name == place.star_id).expect("a known Star");
        if job.spec.layout == Layout::Packed {
            let end = changes.into_iter().flatten().find_map(|change| match change {
                Change::PutJob(record) if record.id == item.job => Some(record.end.as_ref()),
                _ => None,
            });
            let end = end.unwrap_or(job.end.as_ref()).map(|end| end.state);
            if !matches!(end, Some(JobState::Cancelled | JobState::Failed)) {
                let promise = promise_of(item.job, item.destination, &entry.path);
                let promised =
                    self.promised.get(&(star, promise)).copied().unwrap_or(0).max(version_of(entry));
                let version = self.stars[star].vault.version(item.job, item.destination, &entry.path);
                let is_there = version.is_some_and(|version| version >= promised);
                assert!(is_there, "stored means durable: {item} is {version:?} and was to be {promised}");
            }
            return;
        }
        let path = orbit_shared::entry::join_path(&place.path, &entry.path);
        let node = self.stars[star].disk.durable_node(&path);
        let Some(node) = node else {
            panic!("stored means durable: {item} at {} {}", place.star_id, String::from_utf8_lossy(&path));
        };
        if node.is_directory {
            return;
        }
        let promised = self.promised.get(&(star, path)).copied().unwrap_or(0).max(version_of(entry));
        assert!(node.version >= promised, "the right version: {item} is {node:?} and was to be {promised}");
    }

    /// Between two turns: store and core agree on what is held, and nothing is left over or missing.
    pub(super) fn check_store(&self) {
        let Some(core) = self.coordinator.core() else { return };
        let store = &self.coordinator.store;
        for star in core.stars() {
            let name = &star.record.star_id;
            let held = store.items_held_by(name);
            let permits = star.guard.state().object_count;
            assert_eq!(permits, held, "permits are what is held: {name}, permits against assigned items");
        }
        for job in core.each_job(None, &[], self.coordinator_now()) {
            let stored = store.jobs.get(&job.record.id).map(|record| record.tally());
            assert_eq!(stored, Some(job.tally), "a view sees what is durable: job {}", job.record.id);
        }
        core.check();
        store.check_dead_letters();
        store.check_nothing_left_over();
    }

    /// An assignment is sent to one Star, once.
    pub(super) fn check_told_once(&mut self, assignment: &Assignment) {
        assert!(self.told.insert(assignment.id), "numbers are given once: assignment {}", assignment.id);
    }

    /// After a welcome a Star holds only what the coordinator keeps.
    pub(super) fn check_only_kept_is_held(&self, star: usize, kept: &[AssignmentId]) {
        let Some(core) = &self.stars[star].core else { return };
        let held: Vec<AssignmentId> = core.held().filter(|id| !kept.contains(id)).collect();
        assert!(held.is_empty(), "what was not kept is dropped: star-{} holds {held:?}", star + 1);
    }

    /// The size of a hello is limited.
    pub(super) fn check_hello(&self, hello: &Hello) {
        assert!(
            hello.held.len() <= limits::HELD_MAX,
            "bounded: a hello names {} assignments",
            hello.held.len()
        );
    }

    /// No limit of a Star is exceeded, and without a lease it holds nothing.
    pub(super) fn check_star(&self, index: usize) {
        let star = &self.stars[index];
        let Some(core) = &star.core else { return };
        let reports = core.unacknowledged();
        assert!(reports <= limits::REPORTS_UNACKED_MAX, "bounded: {reports} reports are out");
        let lease_ms = self.scenario.core.lease.as_millis() as u64;
        let is_lease_over = star.lost_for_ms(self.now_ms).is_some_and(|lost_ms| lost_ms > lease_ms + 1);
        assert!(
            !is_lease_over || core.held().next().is_none(),
            "a lease that is over leaves nothing: star-{} still holds work",
            index + 1
        );
    }
}

fn check_assignment_is_bounded(assignment: &Assignment) {
    let count = assignment.items.len();
    assert!((1..=limits::ASSIGNMENT_ITEMS_MAX).contains(&count), "bounded: an assignment of {count} items");
    let bytes: u64 = assignment.items.iter().map(|item| item.entry.size()).sum();
    assert!(
        assignment.is_check_only || count == 1 || bytes <= limits::ASSIGNMENT_BYTES_MAX,
        "bounded: an assignment of {bytes} bytes"
    );
}
