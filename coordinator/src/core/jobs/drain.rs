//! What an operator sees of a draining Star: what it still works on and until when, and what would leave with it.

use std::collections::BTreeMap;

use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::time::Now;
use orbit_shared::words::{JobId, StarId};

use super::Jobs;
use super::job::estimate;
use crate::core::stars::Star;

/// What of one job a Star holds.
#[derive(Default)]
struct Held {
    assignments: usize,
    items: usize,
    bytes_left: u64,
}

impl Jobs {
    /// How many assignments a Star holds.
    pub(in crate::core) fn held_count(&self, star: &StarId) -> usize {
        self.hands.of(star).assignments.len()
    }

    /// What keeps a draining Star from being drained: what, how much, and until when as far as that is known.
    pub(in crate::core) fn drain_blockers(&self, star: &Star, now: Now) -> Vec<String> {
        if star.state() != LifecycleState::Draining {
            return Vec::new();
        }
        let mut jobs: BTreeMap<JobId, Held> = BTreeMap::new();
        for assignment in
            self.hands.of(&star.record.star_id).assignments.iter().filter_map(|id| self.assignments.get(id))
        {
            let held = jobs.entry(assignment.job).or_default();
            let bytes: u64 = assignment.items.values().map(|flight| flight.permit.byte_size()).sum();
            held.assignments += 1;
            held.items += assignment.items.len();
            held.bytes_left += bytes.saturating_sub(assignment.bytes_moved);
        }
        let mut blockers: Vec<String> =
            jobs.into_iter().map(|(job, held)| self.blocker(job, &held, now)).collect();
        if star.serves_pulls() {
            let pulls = plural(star.served_pulls as usize, "stream");
            blockers.push(format!("other Stars still pull from it on {pulls}"));
        }
        blockers
    }

    fn blocker(&self, job: JobId, held: &Held, now: Now) -> String {
        let live = self.jobs.get(&job).and_then(|job| job.live.as_ref());
        let rate = live.map_or(0, |live| live.rate.bytes_per_second(now.monotonic));
        let mut text = format!(
            "it still works on {} of job {job}: {}, {} bytes to go",
            plural(held.assignments, "assignment"),
            plural(held.items, "item"),
            held.bytes_left
        );
        if let Some(left) = estimate(held.bytes_left, rate).filter(|_| held.bytes_left > 0) {
            text.push_str(&format!(", about {} s at the present rate", left.as_secs().max(1)));
        }
        text
    }

    /// What a draining Star would take away: sources of jobs that have not ended. Nobody else in this grid has what they
    /// have not copied yet.
    pub(in crate::core) fn drain_warnings(&self, star: &Star) -> Vec<String> {
        if star.state() != LifecycleState::Draining {
            return Vec::new();
        }
        let name = &star.record.star_id;
        let reads_from_it = self.open_jobs().filter(|job| job.record.spec.source.star_id == *name);
        let warnings = reads_from_it.map(|job| {
            let (id, open) = (job.record.id, job.record.tally().open());
            let more =
                if job.record.scan.is_done { "" } else { " so far, and the source is not listed to its end" };
            format!(
                "job {id} reads from it: {}{more} have no other copy that this grid knows of",
                plural(usize::try_from(open).unwrap_or(usize::MAX), "item")
            )
        });
        warnings.collect()
    }
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
