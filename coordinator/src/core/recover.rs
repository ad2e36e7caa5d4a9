//! Making a core, from nothing or from what another left in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use orbit_shared::bulletin::BulletinBoard;
use orbit_shared::dead_letter::DeadLetterQueue;
use orbit_shared::entry::Entry;
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::time::{Monotonic, Now};
use orbit_shared::words::ItemId;

use super::answered::Answers;
use super::assignment::{InFlight, guard_charge};
use super::change::{AssignmentRecord, Recovered};
use super::job::Job;
use super::lane::Queued;
use super::limits::{BULLETINS_MAX, DEAD_LETTERS_MAX};
use super::star::{Liveness, Star};
use super::{Core, CoreConfig, Turn};

impl Core {
    /// A core that goes on where the store stands. Stars that held something have one lease to come back.
    pub fn recover(turn: &mut Turn, config: CoreConfig, recovered: Recovered) -> Self {
        let counters = recovered.counters;
        let mut dead_letters = DeadLetterQueue::new(DEAD_LETTERS_MAX).with_next_id(counters.dead_letter);
        let mut dead_entries = BTreeMap::new();
        for dead in recovered.dead_letters {
            dead_entries.insert(dead.letter.dead_letter_id, dead.entry);
            dead_letters.restore(dead.letter, dead.is_retrying);
        }
        let seed = config.seed;
        let (forgotten, jobs): (Vec<_>, Vec<_>) =
            recovered.jobs.into_iter().partition(|record| record.is_forgotten);
        let jobs = jobs.into_iter();
        let jobs: BTreeMap<_, _> =
            jobs.map(|record| (record.id, Job::new(record, turn.now.monotonic, seed))).collect();
        let requests = jobs.values().filter(|job| !job.record.request_id.is_empty());
        let grid = recovered.grid.unwrap_or_else(|| {
            turn.changes.push(super::Change::PutGrid(config.fresh_grid));
            config.fresh_grid
        });
        let mut core = Self {
            grid,
            requests: requests.map(|job| (job.record.request_id.clone(), job.record.id)).collect(),
            jobs,
            forgotten: forgotten.into_iter().map(|record| (record.id, record)).collect(),
            answers: Answers::recover(recovered.answers),
            stars: recovered
                .stars
                .into_iter()
                .map(|record| (record.star_id.clone(), Star::new(record, turn.now)))
                .collect(),
            board: BulletinBoard::restore(BULLETINS_MAX, recovered.bulletins, counters.bulletin),
            config,
            counters,
            is_counters_dirty: false,
            sessions: BTreeMap::new(),
            assignments: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            dead_letters,
            dead_entries,
            yields: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            snapshot_counts: BTreeMap::new(),
            schedules: recovered.schedules.into_iter().map(|record| (record.id, record)).collect(),
            asks: BTreeMap::new(),
            next_ask: 0,
            heals: BTreeMap::new(),
            unhealed: BTreeSet::new(),
            history_looked: None,
            wake_at: None,
            // Whether there is anything left to remove is seen then.
            removal_at: Some(Monotonic::ZERO),
            plans: BTreeMap::new(),
            late_count: 0,
            totals: super::Totals::default(),
            store_problem: None,
        };
        core.recover_snapshots(recovered.snapshots);
        for (item, penalized) in recovered.penalties {
            let Some(live) = core.jobs.get_mut(&item.job).and_then(|job| job.live.as_mut()) else { continue };
            if is_planted(Bug::PenaltyForgottenAtRestart) {
                continue;
            }
            live.penalties.restore(turn.now, item, penalized.record);
            let queued = Queued::new(item.sequence, Arc::new(penalized.entry), turn.now.monotonic);
            let queued = Queued { is_penalty: true, ..queued };
            live.penalized.insert(item, queued);
        }
        for (record, entries) in recovered.assignments {
            core.recover_assignment(turn, &record, entries);
        }
        core.queue_refunded(turn.now);
        core
    }

    /// Queues the items that nobody works on and whose last penalty was taken back: no wait of theirs will ever end.
    fn queue_refunded(&mut self, now: Now) {
        for live in self.jobs.values_mut().filter_map(|job| job.live.as_mut()) {
            let (ready, waiting): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut live.penalized)
                .into_iter()
                .partition(|(item, _)| live.penalties.is_eligible(now, item));
            live.penalized = waiting;
            for (item, queued) in ready {
                live.wait(item, queued);
            }
        }
    }

    /// Takes over an assignment whose Star may still work on it. All of it stays the Star's, also beyond a limit that was
    /// lowered since and although its guard is paused: it was admitted once, and an item must not wait and be worked on.
    fn recover_assignment(&mut self, turn: &mut Turn, record: &AssignmentRecord, entries: Vec<Entry>) {
        let star = self.stars.get(&record.star).map(|star| (star.guard.clone(), star.on_way.clone()));
        let live = self.jobs.get_mut(&record.job).and_then(|job| job.live.as_mut());
        let (Some((guard, on_way)), Some(live)) = (star, live) else {
            turn.changes.push(super::Change::RemoveAssignment(record.id));
            return;
        };
        let mut batch = Vec::new();
        for (&sequence, entry) in record.sequences.iter().zip(entries) {
            let item = ItemId { job: record.job, destination: record.destination, sequence };
            let is_penalty = live.penalized.remove(&item).is_some();
            let entry = Arc::new(entry);
            let queued = Queued { is_penalty, ..Queued::new(sequence, entry, turn.now.monotonic) };
            let size = queued.entry.size();
            let permit = guard.take_over(1, guard_charge(size));
            self.in_flight.insert(item, record.id);
            batch.push(InFlight { queued, permit, carried: on_way.carry(size) });
        }
        self.begin_assignment(turn.now, record, batch);
        if let Some(star) = self.stars.get_mut(&record.star) {
            star.liveness = Liveness::Suspect;
        }
    }
}
