//! The core's invariants, as asserts with the state printed. Tests and simulations call this after every turn.

use std::collections::BTreeMap;

use super::Core;

impl Core {
    /// Panics if an invariant does not hold.
    pub fn check(&self) {
        self.check_permits();
        self.check_in_flight();
        self.check_tallies();
        for (session, name) in &self.sessions {
            let star = self.stars.get(name);
            let has = star.is_some_and(|star| star.session == Some(*session));
            assert!(has, "{session:?} of {name} is not the session that {name} has");
        }
    }

    /// The sum of the permits is the sum of the live assignments, Star by Star.
    fn check_permits(&self) {
        let mut held: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
        for assignment in self.assignments.values() {
            let sum = held.entry(assignment.star.as_str()).or_default();
            for flight in assignment.items.values() {
                sum.0 += flight.permit.object_count();
                sum.1 += flight.permit.byte_size();
                sum.2 += flight.carried.bytes();
            }
        }
        for star in self.stars.values() {
            let state = star.guard.state();
            let name = star.record.star_id.as_str();
            let expected = held.get(name).copied().unwrap_or_default();
            assert_eq!(
                (state.object_count, state.byte_size, star.on_way.bytes()),
                expected,
                "guard of {name} against its assignments"
            );
        }
    }

    fn check_in_flight(&self) {
        let mut count = 0;
        for (id, assignment) in &self.assignments {
            assert!(
                self.stars.get(&assignment.star).is_some_and(|star| star.assignments.contains(id)),
                "assignment {id} is unknown to {}",
                assignment.star
            );
            for sequence in assignment.items.keys() {
                let item = orbit_shared::words::ItemId {
                    job: assignment.job,
                    destination: assignment.destination,
                    sequence: *sequence,
                };
                assert_eq!(self.in_flight.get(&item), Some(id), "{item} of assignment {id} is not in flight");
                count += 1;
            }
        }
        assert_eq!(count, self.in_flight.len(), "items in flight that no assignment holds");
        for star in self.stars.values() {
            let of_star = self.assignments.values().filter(|live| live.source == star.record.star_id);
            assert_eq!(star.reads, of_star.count(), "what is read from {}", star.record.star_id);
            for id in &star.assignments {
                assert!(
                    self.assignments.contains_key(id),
                    "{} holds {id}, which is over",
                    star.record.star_id
                );
            }
        }
    }

    fn check_tallies(&self) {
        for job in self.jobs.values() {
            for tally in &job.record.tallies {
                let ended = tally.stored + tally.skipped + tally.dead;
                assert_eq!(tally.total, ended + tally.open(), "tally of job {}: {tally:?}", job.record.id);
            }
            let Some(live) = &job.live else { continue };
            for item in live.penalized.keys() {
                assert!(!self.in_flight.contains_key(item), "{item} is penalized and in flight");
            }
            let in_memory: usize = live.lanes.iter().map(super::lane::Lane::len).sum::<usize>()
                + live.penalized.len()
                + live.parked.len()
                + live.blocked.len();
            let of_job = self.in_flight.keys().filter(|item| item.job == job.record.id).count();
            let known = (in_memory + of_job) as u64;
            let open = job.record.tally().open();
            assert!(known <= open, "job {}: {known} items in memory, {open} open", job.record.id);
            if live.lanes.iter().all(|lane| !lane.has_more_in_store()) {
                assert_eq!(known, open, "job {}: items are nowhere", job.record.id);
            }
        }
    }
}
