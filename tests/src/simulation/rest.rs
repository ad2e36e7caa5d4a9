//! Rest: after everything was repaired, every job ends within a limited time. Then each destination equals its source,
//! except for dead letters, and nothing is left over.

use orbit_coordinator::core::{Command, ItemEnd, JobState, Liveness};
use orbit_shared::dead_letter::DeadLetterFilter;
use orbit_shared::entry::join_path;
use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::words::{ItemId, Layout};

use super::World;
use super::destination::is_temporary;
use super::tree::version_of;

/// Time after the repair within which everything must be at rest.
const REST_WITHIN_MS: u64 = 600_000;

impl World {
    /// Whether the run is over. Panics if that takes too long.
    pub(super) fn is_over(&mut self) -> bool {
        let unrest = self.unrest();
        let Some(unrest) = unrest else {
            self.check_rest();
            return !self.redrive();
        };
        let limit_ms = self.scenario.healing_ms + REST_WITHIN_MS * 2;
        assert!(self.now_ms < limit_ms, "everything comes to rest: {unrest}");
        false
    }

    /// What is not at rest yet.
    fn unrest(&self) -> Option<String> {
        let Some(core) = self.coordinator.core() else { return Some("the coordinator is down".to_owned()) };
        if !self.coordinator.turns.as_ref().is_some_and(orbit_coordinator::turns::Turns::is_idle) {
            return Some("the coordinator is in a turn".to_owned());
        }
        for wish in &self.operator.wishes {
            let Some(job) = wish.job else { return Some(format!("{} was not created", wish.request)) };
            let view = core.job(job, self.coordinator_now()).expect("a job is remembered");
            if !view.record.state().is_end() {
                return Some(format!(
                    "job {job} is {:?}: {}; {:?}, {} in flight, {} penalized, scan {:?}",
                    view.record.state(),
                    view.reason,
                    view.tally,
                    view.in_flight,
                    view.penalized,
                    view.record.scan
                ));
            }
        }
        for star in &self.stars {
            let Some(own) = &star.core else { return Some(format!("{} is down", star.name)) };
            if own.held().next().is_some() || !star.running.is_empty() {
                let held: Vec<_> = own.held().collect();
                return Some(format!("{} holds {held:?} and works on {:?}", star.name, star.running.keys()));
            }
            if !star.scans.is_empty() {
                return Some(format!("{} scans", star.name));
            }
            let known = core.star(&star.name);
            let is_fit = known.is_some_and(|known| {
                known.state() == LifecycleState::Scheduled && known.liveness == Liveness::Alive
            });
            if !is_fit || own.lifecycle() != LifecycleState::Scheduled {
                return Some(format!("{} is not in service: {:?}", star.name, own.lifecycle()));
            }
        }
        self.unrest_of_vaults()
    }

    fn check_rest(&self) {
        self.check_snapshots();
        self.check_guards_are_at_zero();
        self.check_no_temporaries();
        self.check_stored_is_durable();
        self.check_jobs_are_done();
        self.check_destinations();
        self.check_completions();
        for &job in self.coordinator.store.jobs.keys() {
            self.coordinator.store.check_every_item_in_one_place(job);
        }
    }

    fn check_guards_are_at_zero(&self) {
        let Some(core) = self.coordinator.core() else { return };
        for star in core.stars() {
            let state = star.guard.state();
            let held = (state.object_count, state.byte_size);
            assert_eq!(held, (0, 0), "guards are at zero at rest: {}", star.record.star_id);
        }
        let left = &self.coordinator.store.assignments;
        assert!(left.is_empty(), "no assignment is left at rest: {left:?}");
    }

    fn check_no_temporaries(&self) {
        for star in &self.stars {
            let left: Vec<String> = star
                .disk
                .paths()
                .filter(|path| is_temporary(path))
                .map(|path| String::from_utf8_lossy(path).into_owned())
                .collect();
            assert!(left.is_empty(), "no temporaries are left at {}: {left:?}", star.name);
            assert!(
                star.journal.is_empty(),
                "the journal of {} is empty: {:?}",
                star.name,
                star.journal.keys()
            );
        }
    }

    /// The state of an ended job fits the results of its items.
    fn check_jobs_are_done(&self) {
        for job in self.coordinator.store.jobs.values() {
            let tally = job.tally();
            match job.state() {
                JobState::Completed => assert_eq!(tally.dead + tally.open(), 0, "completed: {tally:?}"),
                JobState::PartiallyCompleted => {
                    assert!(tally.dead > 0 && tally.open() == 0, "partially completed: {tally:?}");
                }
                JobState::Cancelled => {}
                JobState::Failed | JobState::Scanning | JobState::Running | JobState::Paused => {
                    panic!("job {} is {:?} at rest", job.id, job.state());
                }
            }
        }
    }

    /// Each destination equals its source when it was read.
    fn check_destinations(&self) {
        for job in self.coordinator.store.jobs.values() {
            if !matches!(job.state(), JobState::Completed | JobState::PartiallyCompleted) {
                continue;
            }
            let source =
                self.stars.iter().find(|star| star.name == job.spec.source.star_id).expect("a known Star");
            let entries: Vec<_> =
                self.coordinator.store.entries.range((job.id, 0)..=(job.id, u64::MAX)).collect();
            for path in source.tree.paths() {
                let is_found = entries.iter().any(|(_, entry)| entry.path == *path);
                assert!(
                    is_found,
                    "a scan finds everything: job {} lacks {:?}",
                    job.id,
                    String::from_utf8_lossy(path)
                );
            }
            for (index, place) in job.spec.destinations.iter().enumerate() {
                let star = self.stars.iter().find(|star| star.name == place.star_id).expect("a known Star");
                for &(&(_, sequence), entry) in &entries {
                    let item = ItemId { job: job.id, destination: index as u32, sequence };
                    let end = self.coordinator.store.ends.get(&item).map(|record| record.end);
                    let now = source.tree.node(&entry.path).map_or(u64::MAX, |node| node.version);
                    if job.spec.layout == Layout::Packed {
                        let version = star.vault.version(job.id, index as u32, &entry.path);
                        let is_right =
                            version.is_some_and(|version| (version_of(entry)..=now).contains(&version));
                        let is_dead = end == Some(ItemEnd::Dead);
                        // An item whose result could not be reported may be there nevertheless.
                        assert!(
                            is_right || is_dead,
                            "a snapshot is its source: {item} is {version:?} {end:?}"
                        );
                        continue;
                    }
                    let path = join_path(&place.path, &entry.path);
                    let node = star.disk.node(&path);
                    match end {
                        Some(ItemEnd::Stored | ItemEnd::Skipped) => {
                            let node = node.unwrap_or_else(|| panic!("{item} is stored and not there"));
                            let is_right = if node.is_directory {
                                !node.is_touched() || self.is_anything_redriven
                            } else {
                                (version_of(entry)..=now).contains(&node.version) && node.is_whole
                            };
                            assert!(
                                is_right,
                                "a destination is its source: {item} is {node:?}, source at {now}"
                            );
                        }
                        Some(ItemEnd::Dead) => {}
                        None => panic!("{item} has no end and job {} has", job.id),
                    }
                }
                if job.spec.layout == Layout::Packed {
                    let paths =
                        star.vault.snapshots_of(job.id, index as u32).flat_map(|one| one.entries.keys());
                    for path in paths {
                        let is_known = entries.iter().any(|(_, entry)| entry.path == *path);
                        assert!(
                            is_known,
                            "nothing else is in a snapshot: {:?}",
                            String::from_utf8_lossy(path)
                        );
                    }
                    continue;
                }
                for (path, _) in star.disk.below(&place.path) {
                    let is_known =
                        entries.iter().any(|(_, entry)| join_path(&place.path, &entry.path) == *path);
                    assert!(is_known, "nothing else is there: {:?}", String::from_utf8_lossy(path));
                }
            }
        }
    }

    /// Each stored item was completed once, and no other item was.
    fn check_completions(&self) {
        let completions = self.coordinator.log.completions();
        for (item, count) in &completions {
            assert_eq!(*count, 1, "a completion is logged once: {item}");
            let store = &self.coordinator.store;
            let end = store.ends.get(item).or_else(|| store.ends_removed.get(item)).map(|record| record.end);
            assert_eq!(end, Some(ItemEnd::Stored), "what was completed is stored: {item}");
        }
        let is_stored = |end: &&orbit_coordinator::core::ItemEndRecord| end.end == ItemEnd::Stored;
        let (ends, removed) = (&self.coordinator.store.ends, &self.coordinator.store.ends_removed);
        let stored = ends.values().chain(removed.values()).filter(is_stored).count();
        assert_eq!(stored, completions.len(), "what is stored was completed");
    }

    /// Retries dead letters once; false if there are none, or that was done.
    fn redrive(&mut self) -> bool {
        if self.operator.redrives_left == 0 {
            return false;
        }
        self.operator.redrives_left -= 1;
        let jobs: Vec<_> = self.coordinator.store.jobs.values().filter(|job| job.tally().dead > 0).collect();
        let jobs: Vec<_> = jobs
            .into_iter()
            .filter(|job| job.state() == JobState::PartiallyCompleted && job.spec.layout == Layout::Files)
            .map(|job| job.id)
            .collect();
        self.note(format_args!("dead letters of {jobs:?} are tried again"));
        for &job in &jobs {
            self.ask(Command::RetryDeadLetters(DeadLetterFilter::for_job(job)), None);
        }
        !jobs.is_empty()
    }
}
