//! Plans: what a job would do, without doing it. The source is listed and the destinations say what they have, as for a
//! job; nothing is queued, stored or sent. A plan is in memory only, and ends when its Star or its coordinator does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use orbit_shared::comparison::Unchanged;
use orbit_shared::entry::{Entry, EntryKind, display_path, join_path};
use orbit_shared::session::limits::{SCAN_BATCHES_UNACKED_MAX, SCANS_PER_STAR_MAX};
use orbit_shared::session::{CoordinatorMessage, ScanBatch, ScanRequest};
use orbit_shared::sweep::SweepInfo;
use orbit_shared::time::{Monotonic, Now};
use orbit_shared::vault_call::{Progress, VaultProblem, VaultReply};
use orbit_shared::words::{JobId, Layout, StarId};

use super::calls::{Purpose, SweepName, not_connected};
use super::event::{Action, ReplyId, SessionId};
use super::records::{JobSpec, Location, Planned, PlannedPlace};
use super::refusal::Refusal;
use super::seen::Seen;
use super::stars::{Stars, destination_gate, star_gate};
use super::turn::Turn;

/// Plans that are made at a time.
const PLANS_MAX: usize = 16;
/// A plan of which nothing came for so long is given up.
const PLAN_PATIENCE: Duration = Duration::from_secs(30);
/// Paths that are named as examples.
const EXAMPLES_MAX: usize = 10;

/// A plan that is being made, by its scan's number.
#[derive(Debug)]
struct Plan {
    reply: ReplyId,
    spec: JobSpec,
    session: SessionId,
    last_batch: u64,
    is_listed: bool,
    /// Batches that are not acknowledged, and how many answers about each are still to come.
    open: BTreeMap<u64, usize>,
    /// Questions that have no answer, by their number.
    asked: BTreeMap<u64, Question>,
    /// For a mirror, how far each destination is with saying what would be deleted there.
    sweeps: Vec<Swept>,
    planned: Planned,
    until: Monotonic,
}

/// How far a destination is with saying what a mirror would delete there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Swept {
    ToBeAsked,
    Awaited,
    /// It has said it, or will not.
    Done,
}

#[derive(Debug)]
struct Question {
    destination: usize,
    batch: u64,
    entries: Vec<Arc<Entry>>,
}

/// Plans that are being made, by the numbers of their scans.
#[derive(Debug, Default)]
pub(super) struct Plans {
    by_scan: BTreeMap<u64, Plan>,
}

impl Plans {
    /// Begins a plan of a specification that was checked; it is answered when the source is listed and compared. `scans` is
    /// how many trees the source lists for jobs, `rooms` what room the destinations have.
    pub(super) fn begin(
        &mut self,
        turn: &mut Seen<'_>,
        reply: ReplyId,
        spec: JobSpec,
        (scans, rooms): (usize, Vec<Option<u64>>),
    ) -> Result<(), Refusal> {
        if self.by_scan.len() >= PLANS_MAX {
            let problem = format!("{PLANS_MAX} plans are being made already");
            return Err(Refusal::Full { problem, retry_after: PLAN_PATIENCE / 10 });
        }
        let name = spec.source.star_id.clone();
        let places = spec.destinations.iter().zip(rooms);
        let places = places.map(|(place, room)| planned_place(turn.stars, &spec, place, room)).collect();
        let session = turn.stars.known(&name)?.session.ok_or_else(|| not_connected(&name))?;
        if scans + self.scans_on(&name) >= SCANS_PER_STAR_MAX {
            let problem = format!("{name} lists {SCANS_PER_STAR_MAX} trees already; wait for one of them");
            return Err(Refusal::Full { problem, retry_after: PLAN_PATIENCE / 10 });
        }
        let scan = turn.counters.scan;
        turn.counters.scan += 1;
        let request = ScanRequest {
            scan,
            // No job has this number.
            job: JobId(0),
            path: spec.source.path.clone(),
            include: spec.include.clone(),
            exclude: spec.all_excluded(),
            paths: spec.listed_paths(),
            resume_after: None,
            snapshot: spec.snapshot,
            limits: spec.limits,
            is_one_file_system: spec.is_one_file_system,
            trace: None,
        };
        let first = if spec.mirror.is_some() { Swept::ToBeAsked } else { Swept::Done };
        let plan = Plan {
            reply,
            sweeps: vec![first; spec.destinations.len()],
            spec,
            session,
            last_batch: 0,
            is_listed: false,
            open: BTreeMap::new(),
            asked: BTreeMap::new(),
            planned: Planned { places, ..Planned::default() },
            until: turn.now.monotonic + PLAN_PATIENCE,
        };
        self.by_scan.insert(scan, plan);
        turn.actions.push(Action::Send { session, message: CoordinatorMessage::StartScan(request) });
        self.check();
        Ok(())
    }

    /// How many scans a Star runs for plans.
    pub(super) fn scans_on(&self, star: &StarId) -> usize {
        self.by_scan.values().filter(|plan| plan.spec.source.star_id == *star).count()
    }

    /// How many scans each Star runs for plans.
    pub(super) fn scans(&self) -> BTreeMap<StarId, usize> {
        let mut scans = BTreeMap::new();
        for plan in self.by_scan.values() {
            *scans.entry(plan.spec.source.star_id.clone()).or_default() += 1;
        }
        scans
    }

    /// Panics if an invariant does not hold.
    pub(super) fn check(&self) {
        assert!(self.by_scan.len() <= PLANS_MAX, "{} plans are made at once", self.by_scan.len());
        for (scan, plan) in &self.by_scan {
            let open: usize = plan.open.values().sum();
            assert_eq!(open, plan.asked.len(), "questions of plan {scan} without an answer: {:?}", plan.open);
        }
    }

    /// Takes a batch of a plan's scan; whether it was one.
    pub(super) fn batch_received(
        &mut self,
        turn: &mut Seen<'_>,
        session: SessionId,
        batch: &ScanBatch,
    ) -> Taken {
        let Some(plan) = self.by_scan.get_mut(&batch.scan).filter(|plan| plan.session == session) else {
            return Taken::No;
        };
        if batch.number != plan.last_batch + 1 {
            return Taken::No;
        }
        if plan.open.len() >= SCAN_BATCHES_UNACKED_MAX {
            return Taken::Violation("more batches of a scan than may be unacknowledged".to_owned());
        }
        if let Some(failure) = &batch.failure {
            let problem = format!("the source cannot be listed: {}", failure.message);
            let refusal = if failure.cause.is_retryable() {
                Refusal::Unavailable { problem }
            } else {
                Refusal::WrongState { problem }
            };
            self.end(turn, batch.scan, Err(refusal));
            return Taken::Yes;
        }
        plan.last_batch = batch.number;
        plan.is_listed = batch.is_last;
        plan.until = turn.now.monotonic + PLAN_PATIENCE;
        let entries: Vec<_> = batch.entries.iter().cloned().map(Arc::new).collect();
        plan.planned.note_listed(&plan.spec, &entries);
        plan.planned.skipped_mounts.note(&batch.skipped_mounts);
        let places = plan.spec.destinations.clone();
        let is_comparable = plan.spec.layout == Layout::Files && !entries.is_empty();
        let mut asked = Vec::new();
        for (destination, place) in places.iter().enumerate() {
            let question = Question { destination, batch: batch.number, entries: entries.clone() };
            match turn.asks.may_compare(turn.stars, place).filter(|_| is_comparable) {
                Some(session) => {
                    let purpose = Purpose::PlanComparison { scan: batch.scan };
                    let request = turn.asks.send_comparison(turn.turn, session, place, &entries, purpose);
                    asked.push((request, question));
                }
                None => {
                    if let Some(plan) = self.by_scan.get_mut(&batch.scan) {
                        plan.planned.note_answer(&question, None);
                    }
                }
            }
        }
        if let Some(plan) = self.by_scan.get_mut(&batch.scan) {
            plan.open.insert(batch.number, asked.len());
            plan.asked.extend(asked);
        }
        self.acknowledge(turn, batch.scan);
        Taken::Yes
    }

    /// Something came of a plan.
    fn note_progress(&mut self, now: Now, scan: u64) {
        if let Some(plan) = self.by_scan.get_mut(&scan) {
            plan.until = now.monotonic + PLAN_PATIENCE;
        }
    }

    /// What a destination says of a plan's batch, or that it will say nothing.
    pub(super) fn compared(
        &mut self,
        turn: &mut Turn,
        scan: u64,
        request: u64,
        unchanged: Option<&Unchanged>,
    ) {
        if unchanged.is_some() {
            self.note_progress(turn.now, scan);
        }
        let Some(plan) = self.by_scan.get_mut(&scan) else { return };
        let Some(question) = plan.asked.remove(&request) else { return };
        plan.planned.note_answer(&question, unchanged);
        if let Some(left) = plan.open.get_mut(&question.batch) {
            *left -= 1;
        }
        self.acknowledge(turn, scan);
    }

    /// Acknowledges what is compared.
    fn acknowledge(&mut self, turn: &mut Turn, scan: u64) {
        let Some(plan) = self.by_scan.get_mut(&scan) else { return };
        while let Some((&number, 0)) = plan.open.first_key_value() {
            plan.open.remove(&number);
            let message = CoordinatorMessage::ScanAcknowledged { scan, number };
            turn.actions.push(Action::Send { session: plan.session, message });
        }
    }

    /// Goes on with the plans whose trees are compared: asks what a mirror would delete, and answers when that is known.
    pub(super) fn finish(&mut self, turn: &mut Seen<'_>) {
        let is_compared = |plan: &Plan| plan.is_listed && plan.open.is_empty();
        let compared = self.by_scan.iter().filter(|(_, plan)| is_compared(plan));
        let compared: Vec<u64> = compared.map(|(&scan, _)| scan).collect();
        for scan in compared {
            self.ask_for_sweeps(turn, scan);
            let plan = self.by_scan.get_mut(&scan).expect("a plan does not end by being asked about");
            if plan.sweeps.iter().all(|swept| *swept == Swept::Done) {
                let planned = std::mem::take(&mut plan.planned);
                self.end(turn, scan, Ok(Box::new(planned)));
            }
        }
    }

    fn ask_for_sweeps(&mut self, turn: &mut Seen<'_>, scan: u64) {
        let plan = &self.by_scan[&scan];
        let to_be_asked = (0..).zip(&plan.sweeps).filter(|(_, swept)| **swept == Swept::ToBeAsked);
        let to_be_asked: Vec<u32> = to_be_asked.map(|(destination, _)| destination).collect();
        if to_be_asked.is_empty() {
            return;
        }
        let Some(mounts) = plan.planned.skipped_mounts.paths() else {
            let problem = plan.planned.skipped_mounts.sweep_problem();
            return self.refuse_sweeps(scan, &to_be_asked, &problem);
        };
        let spec = plan.spec.clone();
        for destination in to_be_asked {
            let name = SweepName { job: JobId(0), destination, operation: scan, is_plan: true };
            let purpose = Purpose::PlanSweep { scan, destination };
            let of = (&spec, mounts.clone());
            let is_asked = turn.asks.send_sweep(turn.turn, turn.stars, of, name, purpose);
            self.note_sweep(scan, destination, if is_asked { Swept::Awaited } else { Swept::Done });
        }
    }

    /// Nothing would be deleted at these destinations, and the job would fail.
    fn refuse_sweeps(&mut self, scan: u64, destinations: &[u32], problem: &str) {
        let (progress, problem) = (Progress::Done, problem.to_owned());
        let refused = SweepInfo { progress, is_refused: true, problem, ..SweepInfo::BEGUN };
        for &destination in destinations {
            self.note_sweep(scan, destination, Swept::Done);
            let plan = self.by_scan.get_mut(&scan);
            if let Some(place) = plan.and_then(|plan| plan.planned.places.get_mut(destination as usize)) {
                place.deletion = Some(refused.clone());
            }
        }
    }

    fn note_sweep(&mut self, scan: u64, destination: u32, swept: Swept) {
        let plan = self.by_scan.get_mut(&scan);
        if let Some(noted) = plan.and_then(|plan| plan.sweeps.get_mut(destination as usize)) {
            *noted = swept;
        }
    }

    /// A destination says what a mirror would delete there, or that it looks for it still.
    pub(super) fn sweep_answered(
        &mut self,
        now: Now,
        (scan, destination): (u64, u32),
        answer: Option<Result<VaultReply, VaultProblem>>,
    ) {
        // If the plan has ended, the answer is not needed; otherwise it counts as not known.
        let Some(answer) = answer else { return self.note_sweep(scan, destination, Swept::Done) };
        self.note_progress(now, scan);
        let Ok(VaultReply::Swept(info)) = answer else {
            return self.note_sweep(scan, destination, Swept::Done);
        };
        match info.progress {
            Progress::Running => self.note_sweep(scan, destination, Swept::ToBeAsked),
            Progress::Failed => self.note_sweep(scan, destination, Swept::Done),
            Progress::Done => {
                self.note_sweep(scan, destination, Swept::Done);
                let plan = self.by_scan.get_mut(&scan);
                if let Some(place) = plan.and_then(|plan| plan.planned.places.get_mut(destination as usize)) {
                    place.deletion = Some(info);
                }
            }
        }
    }

    fn end(&mut self, turn: &mut Seen<'_>, scan: u64, answer: Result<Box<Planned>, Refusal>) {
        let stars = turn.stars;
        self.end_unless_gone(turn, scan, answer, |plan| {
            stars.session_of(&plan.spec.source.star_id) == Some(plan.session)
        });
    }

    fn end_unless_gone(
        &mut self,
        turn: &mut Turn,
        scan: u64,
        answer: Result<Box<Planned>, Refusal>,
        is_there: impl Fn(&Plan) -> bool,
    ) {
        let Some(plan) = self.by_scan.remove(&scan) else { return };
        if is_there(&plan) && !plan.is_listed {
            let message = CoordinatorMessage::CancelScan { scan };
            turn.actions.push(Action::Send { session: plan.session, message });
        }
        turn.actions.push(Action::ReplyPlan { reply: plan.reply, answer });
    }

    /// Ends the plans that were made on a session. `is_there` is whether it is still the one of its Star.
    pub(super) fn end_session(&mut self, turn: &mut Turn, session: SessionId, is_there: bool) {
        let of_session = self.by_scan.iter().filter(|(_, plan)| plan.session == session);
        let ended: Vec<(u64, StarId)> =
            of_session.map(|(&scan, plan)| (scan, plan.spec.source.star_id.clone())).collect();
        for (scan, name) in ended {
            let problem = format!("the session of {name} ended while the plan was made; try again");
            self.end_unless_gone(turn, scan, Err(Refusal::Unavailable { problem }), |_| is_there);
        }
    }

    /// Gives up plans of which nothing comes any more.
    pub(super) fn expire(&mut self, turn: &mut Seen<'_>) {
        let over = self.by_scan.iter().filter(|(_, plan)| plan.until <= turn.now.monotonic);
        let over: Vec<(u64, StarId)> =
            over.map(|(&scan, plan)| (scan, plan.spec.source.star_id.clone())).collect();
        for (scan, name) in over {
            let seconds = PLAN_PATIENCE.as_secs();
            let problem = format!("listing the source on {name} has not come on for {seconds} s; try again");
            self.end(turn, scan, Err(Refusal::Unavailable { problem }));
        }
        self.check();
    }

    /// When the next plan is given up.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.by_scan.values().map(|plan| plan.until).min()
    }
}

/// Whether a batch was one of a plan.
#[derive(Debug)]
pub(super) enum Taken {
    /// It was.
    Yes,
    /// It was not.
    No,
    /// It was, and its Star does not keep to the protocol.
    Violation(String),
}

fn planned_place(stars: &Stars, spec: &JobSpec, place: &Location, room: Option<u64>) -> PlannedPlace {
    let star = stars.get(&place.star_id);
    let gates = [
        star_gate(&spec.source.star_id, "the source", stars.get(&spec.source.star_id)),
        star_gate(&place.star_id, "the destination", star),
        star.and_then(|star| destination_gate(&place.star_id, star)),
    ];
    PlannedPlace {
        place: place.clone(),
        moved: 0,
        moved_bytes: 0,
        unchanged: 0,
        unchanged_bytes: 0,
        is_compared: true,
        examples: Vec::new(),
        available_bytes: room,
        bytes_per_second: star.and_then(|star| {
            let rates = star.samples.iter().map(|timed| timed.sample.throughput_bytes_per_sec);
            rates.max().filter(|rate| *rate > 0)
        }),
        held: gates.into_iter().flatten().next().map(|held| held.explanation),
        deletion: None,
    }
}

impl Planned {
    fn note_listed(&mut self, spec: &JobSpec, entries: &[Arc<Entry>]) {
        for entry in entries {
            self.entries += 1;
            self.bytes = self.bytes.saturating_add(entry.size());
            if !entry.kind.is_carried() {
                self.uncarried += 1;
                if self.uncarried_examples.len() < EXAMPLES_MAX {
                    let path = display_path(&join_path(&spec.source.path, &entry.path));
                    self.uncarried_examples.push(format!("{path} is {}", entry.kind.describe()));
                }
            }
        }
    }

    fn note_answer(&mut self, question: &Question, unchanged: Option<&Unchanged>) {
        let place = &mut self.places[question.destination];
        place.is_compared &= unchanged.is_some() || question.entries.is_empty();
        for (index, entry) in question.entries.iter().enumerate() {
            if !entry.kind.is_carried() {
                continue;
            }
            if unchanged.is_some_and(|unchanged| unchanged.contains(index)) {
                place.unchanged += 1;
                place.unchanged_bytes = place.unchanged_bytes.saturating_add(entry.size());
                continue;
            }
            place.moved += 1;
            place.moved_bytes = place.moved_bytes.saturating_add(entry.size());
            // Every directory is looked at again when all else is done, which is no news.
            if entry.kind != EntryKind::Directory && place.examples.len() < EXAMPLES_MAX {
                place.examples.push(display_path(&entry.path));
            }
        }
    }
}
