//! Stalls: work that does not come on is reported, and at last taken back and tried again.
//!
//! A Star has several assignments at once, and some of them wait behind others. So an assignment counts as stalled when
//! it had begun and stands still, or when nothing at all comes on that its Star holds; one that stands still far longer
//! counts in any case. Silence of the Star itself is liveness, not a stall.

use std::time::Duration;

use orbit_shared::bulletin::Severity;
use orbit_shared::session::{CoordinatorMessage, Failure, FailureCause, Fault};
use orbit_shared::time::Monotonic;
use orbit_shared::words::{AssignmentId, ItemId, JobId};

use super::Jobs;
use super::assignment::LiveAssignment;
use crate::core::event::Action;
use crate::core::seen::Seen;
use crate::core::stars::{Liveness, Stars};

const CATEGORY: &str = "stall";
/// A stall that has lasted so many times the time after which it is reported is ended.
const PATIENCE: u32 = 5;

impl Jobs {
    /// Reports and ends what stands still.
    pub(in crate::core) fn end_stalls(&mut self, turn: &mut Seen<'_>) {
        let mut reported = Vec::new();
        let mut ended = Vec::new();
        for (&id, live) in &self.assignments {
            let Some(at) = self.stands_still_since((turn.stars, turn.config.stall_after), live) else {
                continue;
            };
            let stood = turn.now.monotonic.since(at);
            if stood >= turn.config.stall_after * PATIENCE {
                ended.push((id, stood));
            } else if stood >= turn.config.stall_after && !live.is_stalled {
                reported.push((id, stood));
            }
        }
        for (id, stood) in reported {
            self.report_stall(turn, id, stood);
        }
        for (id, stood) in ended {
            self.end_stall(turn, id, stood);
        }
        self.end_scan_stalls(turn);
    }

    /// Since when an assignment stands still, as far as that is its own doing; `None` while its Star is not heard.
    fn stands_still_since(
        &self,
        (stars, stall_after): (&Stars, Duration),
        live: &LiveAssignment,
    ) -> Option<Monotonic> {
        let star = stars.get(&live.star).filter(|star| star.liveness == Liveness::Alive)?;
        star.session?;
        // One that waits for its turn stands still no longer than all of its Star's work does, for a while.
        let patience = stall_after * PATIENCE;
        let of_star = if live.has_begun {
            live.progress_at
        } else {
            live.progress_at.max(self.hands.of(&live.star).progress_at)
        };
        Some(of_star.min(live.progress_at + patience))
    }

    fn report_stall(&mut self, turn: &mut Seen<'_>, id: AssignmentId, stood: Duration) {
        let live = self.assignments.get_mut(&id).expect("it was found standing still");
        live.is_stalled = true;
        let (star, job) = (live.star.clone(), live.job);
        let message = format!(
            "{star} has made no progress on {} of job {job} for {} s; if that goes on they are taken back and tried again",
            items(live.items.len()),
            stood.as_secs()
        );
        turn.post((Severity::Warning, star.as_str(), CATEGORY), Some(job), &message);
    }

    /// Takes an assignment back. Its items fail by their destination's fault, so that many of them make it yield.
    fn end_stall(&mut self, turn: &mut Seen<'_>, id: AssignmentId, stood: Duration) {
        let live = self.end_assignment(turn, id);
        let LiveAssignment { star, job, destination, items: flights, .. } = live;
        if let Some(session) = turn.stars.session_of(&star) {
            let message = CoordinatorMessage::Withdraw { assignment: id, is_job_over: false };
            turn.actions.push(Action::Send { session, message });
        }
        let text = format!("{star} made no progress for {} s", stood.as_secs());
        let message = format!("{text} on {} of job {job}: they are taken back", items(flights.len()));
        turn.post((Severity::Error, star.as_str(), CATEGORY), Some(job), &message);
        let failure = Failure { cause: FailureCause::Transient, fault: Fault::Destination, message: text };
        for (sequence, flight) in flights {
            let item = ItemId { job, destination, sequence };
            self.in_flight.remove(&item);
            self.item_failed(turn, item, flight, &failure);
        }
    }

    /// If this process was frozen or starved for so long, nothing has stood still meanwhile.
    pub(in crate::core) fn forgive_standstill(&mut self, stars: &Stars, now: Monotonic, late: Duration) {
        for (name, hand) in self.hands.iter_mut() {
            if stars.session_of(name).is_some() {
                hand.progress_at = (hand.progress_at + late).min(now);
            }
        }
        for assignment in self.assignments.values_mut() {
            assignment.progress_at = (assignment.progress_at + late).min(now);
        }
        for id in self.open_ids() {
            if let Some(scan) = &mut self.live_mut(id).scan {
                scan.progress_at = (scan.progress_at + late).min(now);
            }
        }
    }

    fn end_scan_stalls(&mut self, turn: &mut Seen<'_>) {
        let stall_after = turn.config.stall_after;
        let mut stalled: Vec<(JobId, Duration, bool)> = Vec::new();
        for id in self.open_ids() {
            let Some(scan) = &mut self.live_mut(id).scan else { continue };
            let stood = turn.now.monotonic.since(scan.progress_at);
            let is_over = stood >= stall_after * PATIENCE;
            if is_over || stood >= stall_after && !scan.is_stalled {
                scan.is_stalled = true;
                stalled.push((id, stood, is_over));
            }
        }
        for (job, stood, is_over) in stalled {
            let source = self.job(job).record.spec.source.star_id.clone();
            let what = if is_over {
                self.stop_scan(turn, job);
                "it starts again where it stood"
            } else {
                "see whether a file system hangs there"
            };
            let message = format!(
                "listing the source of job {job} on {source} has not come on for {} s; {what}",
                stood.as_secs()
            );
            turn.post((Severity::Warning, source.as_str(), CATEGORY), Some(job), &message);
        }
    }

    /// When something will have stood still long enough to be reported or ended.
    pub(super) fn next_stall_deadline(&self, (stars, stall_after): (&Stars, Duration)) -> Option<Monotonic> {
        let due = |since: Monotonic, is_reported: bool| {
            since + if is_reported { stall_after * PATIENCE } else { stall_after }
        };
        let assignments = self.assignments.values();
        let work = assignments.filter_map(|live| {
            Some(due(self.stands_still_since((stars, stall_after), live)?, live.is_stalled))
        });
        let scans = self.open_jobs().filter_map(|job| {
            let scan = job.live.as_ref()?.scan.as_ref()?;
            Some(due(scan.progress_at, scan.is_stalled))
        });
        work.chain(scans).min()
    }
}

fn items(count: usize) -> String {
    if count == 1 { "1 item".to_owned() } else { format!("{count} items") }
}
