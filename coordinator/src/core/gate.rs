//! Gates: what must hold before an item is dispatched, and the words that say which one does not.
//!
//! Dispatch, a job's state reason and ExplainItem all ask here, so an operator sees the actual decision.

use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::session::AdvisoryKind;
use orbit_shared::session::limits::ASSIGNMENT_BYTES_MAX;
use orbit_shared::time::{Monotonic, Now};
use orbit_shared::words::{JobId, StarId};

use super::star::{Liveness, Star};
use super::{Core, JobState};

/// A condition that an item must pass before it is dispatched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// The job runs.
    JobState,
    /// Both Stars are scheduled.
    Lifecycle,
    /// Both Stars are heard.
    Liveness,
    /// The destination is not cordoned.
    Cordon,
    /// The destination's guard admits more.
    Guard,
    /// Neither the destination's root nor the way there fails as a whole.
    Yield,
    /// The item waits out no penalty.
    Penalty,
    /// The job's bandwidth limit leaves something.
    Bandwidth,
    /// Nothing goes before it.
    Order,
}

/// What holds an item or a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// By which gate.
    pub gate: Gate,
    /// The same in a sentence.
    pub explanation: String,
    /// When it opens, where that is a matter of time alone.
    pub opens_at: Option<Monotonic>,
}

impl Held {
    pub(super) fn new(gate: Gate, explanation: impl Into<String>) -> Self {
        Self { gate, explanation: explanation.into(), opens_at: None }
    }
}

impl Core {
    /// What holds a whole lane, if anything does.
    pub(super) fn lane_gate(&self, now: Now, job_id: JobId, destination: u32) -> Option<Held> {
        if let Some(held) = self.standing_gate(now.monotonic, job_id, destination) {
            return Some(held);
        }
        let live = self.jobs.get(&job_id)?.live.as_ref()?;
        live.budget.opens_at(now.monotonic).map(|opens_at| Held {
            opens_at: Some(opens_at),
            ..Held::new(Gate::Bandwidth, "the job's bandwidth limit is used up for the moment")
        })
    }

    /// As [`Core::lane_gate`], without the bandwidth limit, which opens by itself in a moment.
    pub(super) fn standing_gate(&self, now: Monotonic, job_id: JobId, destination: u32) -> Option<Held> {
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
        let destination_star = self.stars.get(place);
        [(source, "the source", self.stars.get(source)), (place, "the destination", destination_star)]
            .into_iter()
            .find_map(|(name, role, star)| star_gate(name, role, star))
            .or_else(|| destination_star.and_then(|star| destination_gate(place, star)))
            .or_else(|| self.yield_gate(now, job_id, destination))
            .or_else(|| self.space_gate(job_id, destination))
            .or_else(|| self.hands_gate(job_id, source, place))
            .or_else(|| self.share_gate(job_id, destination))
            .or_else(|| self.suspicion_gate(now, job_id, destination))
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
    fn share_gate(&self, job_id: JobId, destination: u32) -> Option<Held> {
        let lane = self.jobs.get(&job_id)?.live.as_ref()?.lanes.get(destination as usize)?;
        let size = lane.item(lane.best_key()?)?.entry.size();
        if size <= ASSIGNMENT_BYTES_MAX || lane.first_up_to(ASSIGNMENT_BYTES_MAX).is_some() {
            return None;
        }
        self.large_gate(job_id, destination)
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

/// What keeps a Star from taking part, if anything does.
pub(super) fn star_gate(name: &StarId, role: &str, star: Option<&Star>) -> Option<Held> {
    let Some(star) = star else {
        return Some(Held::new(Gate::Liveness, format!("{role} {name} is not known")));
    };
    match star.state() {
        LifecycleState::Scheduled => {}
        LifecycleState::Registered => {
            return Some(Held::new(
                Gate::Lifecycle,
                format!("{role} {name} is registered and not scheduled yet"),
            ));
        }
        LifecycleState::Draining if is_planted(Bug::DrainIgnored) => {}
        LifecycleState::Draining => {
            return Some(Held::new(Gate::Lifecycle, format!("{role} {name} is draining")));
        }
        LifecycleState::Shutdown => {
            return Some(Held::new(Gate::Lifecycle, format!("{role} {name} is shut down; start it again")));
        }
    }
    match (star.liveness, star.session) {
        (Liveness::Alive, Some(_)) => None,
        (Liveness::Alive | Liveness::Suspect, _) => {
            Some(Held::new(Gate::Liveness, format!("{role} {name} is not heard at the moment")))
        }
        (Liveness::Lost, _) => Some(Held::new(Gate::Liveness, format!("{role} {name} is lost"))),
    }
}

pub(super) fn destination_gate(name: &StarId, star: &Star) -> Option<Held> {
    // Without its vault a Star can write nothing down, so it stores nothing below its roots either.
    if star.advisories.iter().any(|advisory| advisory.kind == AdvisoryKind::VaultReadOnly) {
        let explanation =
            format!("the vault of {name} cannot be written to; mount it writable and restart its agent");
        return Some(Held::new(Gate::Guard, explanation));
    }
    if star.record.is_cordoned && !is_planted(Bug::CordonIgnored) {
        return Some(Held::new(Gate::Cordon, format!("{name} is cordoned")));
    }
    if star.guard.is_paused() {
        let reason = pause_reason(star);
        return Some(Held::new(Gate::Guard, format!("the guard of {name} is paused: {reason}")));
    }
    if star.guard.can_accept() {
        return None;
    }
    let state = star.guard.state();
    let explanation = format!(
        "the guard of {name} is full: {} of {} items, {} of {} bytes",
        state.object_count, state.max_object_count, state.byte_size, state.max_byte_size
    );
    Some(Held::new(Gate::Guard, explanation))
}

/// Why a guard is paused, in words; empty when it is not.
pub(super) fn pause_reason(star: &Star) -> String {
    let health = || {
        let worst = star.advisories.first();
        worst.map_or_else(|| "its health".to_owned(), |advisory| advisory.message.clone())
    };
    match (star.guard.is_paused(), &star.record.guard_pause) {
        (false, _) => String::new(),
        (true, Some(reason)) => reason.clone(),
        (true, None) => health(),
    }
}
