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

use super::assignment::LiveAssignment;
use super::event::Action;
use super::star::Liveness;
use super::{Core, Turn};

const CATEGORY: &str = "stall";
/// A stall that has lasted so many times the time after which it is reported is ended.
const PATIENCE: u32 = 5;

impl Core {
    /// Reports and ends what stands still.
    pub(super) fn end_stalls(&mut self, turn: &mut Turn) {
        let mut reported = Vec::new();
        let mut ended = Vec::new();
        for (&id, live) in &self.assignments {
            let Some(at) = self.stands_still_since(live) else { continue };
            let stood = turn.now.monotonic.since(at);
            if stood >= self.config.stall_after * PATIENCE {
                ended.push((id, stood));
            } else if stood >= self.config.stall_after && !live.is_stalled {
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
    fn stands_still_since(&self, live: &LiveAssignment) -> Option<Monotonic> {
        let star = self.stars.get(&live.star).filter(|star| star.liveness == Liveness::Alive)?;
        star.session?;
        // One that waits for its turn stands still no longer than all of its Star's work does, for a while.
        let patience = self.config.stall_after * PATIENCE;
        let of_star = if live.has_begun { live.progress_at } else { live.progress_at.max(star.progress_at) };
        Some(of_star.min(live.progress_at + patience))
    }

    fn report_stall(&mut self, turn: &mut Turn, id: AssignmentId, stood: Duration) {
        let Some(live) = self.assignments.get_mut(&id) else { return };
        live.is_stalled = true;
        let (star, job) = (live.star.clone(), live.job);
        let message = format!(
            "{star} has made no progress on {} of job {job} for {} s; if that goes on they are taken back and tried again",
            items(live.items.len()),
            stood.as_secs()
        );
        self.post(turn, (Severity::Warning, star.as_str(), CATEGORY), Some(job), &message);
    }

    /// Takes an assignment back. Its items fail by their destination's fault, so that many of them make it yield.
    fn end_stall(&mut self, turn: &mut Turn, id: AssignmentId, stood: Duration) {
        let Some(live) = self.end_assignment(turn, id) else { return };
        let LiveAssignment { star, job, destination, items: flights, .. } = live;
        if let Some(session) = self.stars.get(&star).and_then(|star| star.session) {
            let message = CoordinatorMessage::Withdraw { assignment: id, is_job_over: false };
            turn.actions.push(Action::Send { session, message });
        }
        let text = format!("{star} made no progress for {} s", stood.as_secs());
        let message = format!("{text} on {} of job {job}: they are taken back", items(flights.len()));
        self.post(turn, (Severity::Error, star.as_str(), CATEGORY), Some(job), &message);
        let failure = Failure { cause: FailureCause::Transient, fault: Fault::Destination, message: text };
        for (sequence, flight) in flights {
            let item = ItemId { job, destination, sequence };
            self.in_flight.remove(&item);
            self.item_failed(turn, item, flight, &failure);
        }
    }

    fn end_scan_stalls(&mut self, turn: &mut Turn) {
        let stall_after = self.config.stall_after;
        let mut stalled: Vec<(JobId, Duration, bool)> = Vec::new();
        for job in self.jobs.values_mut() {
            let Some(scan) = job.live.as_mut().and_then(|live| live.scan.as_mut()) else { continue };
            let stood = turn.now.monotonic.since(scan.progress_at);
            let is_over = stood >= stall_after * PATIENCE;
            if is_over || stood >= stall_after && !scan.is_stalled {
                scan.is_stalled = true;
                stalled.push((job.record.id, stood, is_over));
            }
        }
        for (job, stood, is_over) in stalled {
            let Some(source) = self.jobs.get(&job).map(|job| job.record.spec.source.star_id.clone()) else {
                continue;
            };
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
            self.post(turn, (Severity::Warning, source.as_str(), CATEGORY), Some(job), &message);
        }
    }

    /// When something will have stood still long enough to be reported or ended.
    pub(super) fn next_stall_deadline(&self) -> Option<Monotonic> {
        let due = |since: Monotonic, is_reported: bool| {
            let stall_after = self.config.stall_after;
            since + if is_reported { stall_after * PATIENCE } else { stall_after }
        };
        let assignments = self.assignments.values();
        let work = assignments.filter_map(|live| Some(due(self.stands_still_since(live)?, live.is_stalled)));
        let scans = self.jobs.values().filter_map(|job| {
            let scan = job.live.as_ref()?.scan.as_ref()?;
            Some(due(scan.progress_at, scan.is_stalled))
        });
        work.chain(scans).min()
    }
}

fn items(count: usize) -> String {
    if count == 1 { "1 item".to_owned() } else { format!("{count} items") }
}
