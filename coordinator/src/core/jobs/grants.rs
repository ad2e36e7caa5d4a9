//! What Stars may read from each other now, by the assignments and sweeps that are live. Grants are short; these are renewed when the key
//! that signs them is replaced, and pulls that run under an ended grant go on only while they are here.

use std::collections::BTreeSet;

use orbit_shared::capability::Capability;
use orbit_shared::session::LivePull;
use orbit_shared::words::{AssignmentId, StarId};

use super::Jobs;
use super::job::Job;
use crate::core::stars::Stars;

/// Running pulls that one message names. Those beyond it break off and are tried again.
const LIVE_PULLS_MAX: usize = orbit_shared::session::limits::LIVE_PULLS_MAX;

impl Job {
    /// What a destination of it may read.
    pub(super) fn grant(&self, destination: u32) -> Option<Capability> {
        let spec = &self.record.spec;
        let place = spec.destinations.get(destination as usize)?;
        let open = self.record.tallies.iter().filter(|tally| tally.open() > 0).count() as u64;
        let rate = self.live.as_ref().map_or(0, |live| live.budget.bytes_per_second());
        Some(Capability {
            job: self.record.id,
            source_star: spec.source.star_id.clone(),
            source_path: spec.source.path.clone(),
            destination_star: place.star_id.clone(),
            snapshot: spec.snapshot,
            is_for_chunks: false,
            // The destinations that still want something share the job's limit.
            max_bytes_per_second: if rate == 0 { 0 } else { (rate / open.max(1)).max(1) },
            filter: spec.read_filter(),
        })
    }
}

impl Jobs {
    /// What each assignment that a Star holds needs a grant for.
    pub(in crate::core) fn grants_of(&self, star: &StarId) -> Vec<(AssignmentId, Capability)> {
        let held = self.hands.of(star).assignments.iter();
        let grants = held.map(|id| {
            let assignment = &self.assignments[id];
            let grant = self.job(assignment.job).grant(assignment.destination);
            (*id, grant.expect("an assignment goes to a destination of its job"))
        });
        grants.collect()
    }

    /// The pulls that may run from a Star: those of live assignments and sweeps whose Stars have a session themselves. A Star
    /// that was put out has none.
    pub(in crate::core) fn live_pulls_from(&self, stars: &Stars, source: &StarId) -> Vec<LivePull> {
        let assignments = self.assignments.values().filter(|assignment| assignment.source == *source);
        let mut live: BTreeSet<LivePull> = assignments
            .map(|assignment| LivePull { job: assignment.job, destination: assignment.star.clone() })
            .collect();
        for job in self.open_jobs().filter(|job| job.record.spec.source.star_id == *source) {
            let sweeps = job.live.iter().flat_map(|live| live.sweeps.keys());
            live.extend(sweeps.map(|destination| {
                let place = &job.record.spec.destinations[*destination as usize];
                LivePull { job: job.record.id, destination: place.star_id.clone() }
            }));
        }
        let is_there = |pull: &LivePull| stars.session_of(&pull.destination).is_some();
        live.into_iter().filter(is_there).take(LIVE_PULLS_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use orbit_shared::capability::FILTER_BYTES_MAX;

    use crate::core::tests::spec_of_globs;

    #[test]
    fn a_grant_names_what_may_not_be_read_also_when_there_is_no_room_for_the_rest() {
        let many: Vec<String> = (0..200).map(|index| format!("/included/{index}")).collect();
        let small = spec_of_globs(vec!["/a".to_owned()], vec!["*.key".to_owned()]).read_filter().unwrap();
        assert_eq!((small.include.len(), small.exclude.len()), (1, 1));
        let large = spec_of_globs(many.clone(), vec!["*.key".to_owned()]).read_filter().unwrap();
        assert_eq!((large.include.len(), &large.exclude[..]), (0, &["*.key".to_owned()][..]));
        assert!(large.len() <= FILTER_BYTES_MAX);
        let other = spec_of_globs(vec!["/a".to_owned()], many).read_filter().unwrap();
        assert_eq!((other.include.len(), other.exclude.len()), (1, 0));
        assert_eq!(spec_of_globs(Vec::new(), Vec::new()).read_filter(), None);
    }
}
