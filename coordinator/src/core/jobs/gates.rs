//! What holds the items of a lane. Dispatch, a job's state reason and ExplainItem all ask here, so an operator sees the actual
//! decision.

use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::session::limits::ASSIGNMENT_BYTES_MAX;
use orbit_shared::time::{Monotonic, Now};
use orbit_shared::words::{JobId, StarId};

use super::Jobs;
use crate::core::held::{Gate, Held};
use crate::core::records::JobState;
use crate::core::stars::{Stars, destination_gate, star_gate};

impl Jobs {
    /// What holds a whole lane, if anything does.
    pub(super) fn lane_gate(&self, stars: &Stars, now: Now, job_id: JobId, destination: u32) -> Option<Held> {
        if let Some(held) = self.standing_gate(stars, now.monotonic, job_id, destination) {
            return Some(held);
        }
        let live = self.jobs.get(&job_id)?.live.as_ref()?;
        live.budget.opens_at(now.monotonic).map(|opens_at| Held {
            opens_at: Some(opens_at),
            ..Held::new(Gate::Bandwidth, "the job's bandwidth limit is used up for the moment")
        })
    }

    /// As [`Jobs::lane_gate`], without the bandwidth limit, which opens by itself in a moment.
    pub(super) fn standing_gate(
        &self,
        stars: &Stars,
        now: Monotonic,
        job_id: JobId,
        destination: u32,
    ) -> Option<Held> {
        let job = self.jobs.get(&job_id)?;
        let state = job.record.state();
        match state {
            JobState::Scanning | JobState::Running => {}
            JobState::Paused => {
                let reason = job.record.pause.as_deref().unwrap_or("paused");
                return Some(Held::new(Gate::JobState, format!("the job is paused: {reason}")));
            }
            JobState::Completed | JobState::PartiallyCompleted | JobState::Failed | JobState::Cancelled => {
                return Some(Held::new(Gate::JobState, "the job has ended"));
            }
        }
        let source = &job.record.spec.source.star_id;
        let place = &job.record.spec.destinations.get(destination as usize)?.star_id;
        let destination_star = stars.get(place);
        [(source, "the source", stars.get(source)), (place, "the destination", destination_star)]
            .into_iter()
            .find_map(|(name, role, star)| star_gate(name, role, star))
            .or_else(|| destination_star.and_then(|star| destination_gate(place, star)))
            .or_else(|| self.yield_gate(stars, now, job_id, destination))
            .or_else(|| self.space_gate(stars, job_id, destination))
            .or_else(|| self.hands_gate(job_id, source, place))
            .or_else(|| self.share_gate(stars, job_id, destination))
            .or_else(|| self.suspicion_gate(stars, now, job_id, destination))
            .or_else(|| self.order_gate(job_id, destination))
    }

    fn hands_gate(&self, job_id: JobId, source: &StarId, place: &StarId) -> Option<Held> {
        if self.is_at_assignment_limit(place) {
            return Some(Held::new(Gate::Order, format!("{place} works on as many assignments as it may")));
        }
        if self.is_at_source_limit(place, source) {
            let explanation = format!("{place} works on as many assignments from {source} as it may");
            return Some(Held::new(Gate::Order, explanation));
        }
        self.is_at_penalty_limit(job_id)
            .then(|| Held::new(Gate::Penalty, "too many items of the job wait out penalties"))
    }

    /// Large files leave a share to what is small; a lane with nothing small among its next items waits.
    fn share_gate(&self, stars: &Stars, job_id: JobId, destination: u32) -> Option<Held> {
        let lane = self.jobs.get(&job_id)?.live.as_ref()?.lanes.get(destination as usize)?;
        let size = lane.item(lane.best_key()?)?.entry.size();
        if size <= ASSIGNMENT_BYTES_MAX || lane.first_up_to(ASSIGNMENT_BYTES_MAX).is_some() {
            return None;
        }
        self.large_gate(stars, job_id, destination)
    }

    /// Directories wait until everything else of the lane has ended, and go one assignment at a time, deepest first.
    fn order_gate(&self, job_id: JobId, destination: u32) -> Option<Held> {
        let job = self.jobs.get(&job_id)?;
        let lane = job.live.as_ref()?.lanes.get(destination as usize)?;
        if !lane.is_at_directories() || is_planted(Bug::DirectoriesTooEarly) {
            return None;
        }
        if !job.record.scan.is_done {
            return Some(Held::new(Gate::Order, "directories go last, and the source is still being listed"));
        }
        let open = job.record.tallies.get(destination as usize)?.open_files;
        if open > 0 {
            return Some(Held::new(
                Gate::Order,
                format!("directories go last, and {open} other items have not ended"),
            ));
        }
        let is_other_batch = self.assignments.values().any(|assignment| {
            assignment.job == job_id && assignment.destination == destination && assignment.is_directories
        });
        is_other_batch.then(|| Held::new(Gate::Order, "deeper directories go first"))
    }
}
