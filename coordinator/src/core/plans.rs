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
use orbit_shared::vault_call::{Progress, VaultReply};
use orbit_shared::words::{JobId, Layout, StarId};

use super::event::{Action, Answer, ReplyId, SessionId};
use super::job_record::{JobSpec, Location};
use super::mounts::SkippedMounts;
use super::refusal::{Refusal, Violation};
use super::sweeps::SweepName;
use super::vaults::{Purpose, not_connected};
use super::{Core, Turn};

/// Plans that are made at a time.
const PLANS_MAX: usize = 16;
/// A plan of which nothing came for so long is given up.
const PLAN_PATIENCE: Duration = Duration::from_secs(30);
/// Paths that are named as examples.
const EXAMPLES_MAX: usize = 10;

/// What a job would find and do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Planned {
    /// Entries of the source.
    pub entries: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Entries that cannot be moved, and why, for the first few.
    pub uncarried: u64,
    /// The first few of those, in words.
    pub uncarried_examples: Vec<String>,
    /// What would be done for each destination.
    pub places: Vec<PlannedPlace>,
    /// Mount points that are not entered, because the job stays in one file system.
    pub skipped_mounts: SkippedMounts,
}

/// What a job would do for one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedPlace {
    /// The place.
    pub place: Location,
    /// Items that would be moved.
    pub moved: u64,
    /// Bytes of their files: as many cross the network at most.
    pub moved_bytes: u64,
    /// Items that are there already, unchanged.
    pub unchanged: u64,
    /// Bytes of their files.
    pub unchanged_bytes: u64,
    /// Whether the destination has said for every entry what it has. Otherwise what it did not say counts as moved.
    pub is_compared: bool,
    /// The first few paths that would be moved.
    pub examples: Vec<String>,
    /// Bytes that may be written there now, if that is known.
    pub available_bytes: Option<u64>,
    /// Bytes a second that the Star moved lately when it moved something.
    pub bytes_per_second: Option<u64>,
    /// What would hold the job up there now.
    pub held: Option<String>,
    /// What a mirror would delete there, if the destination has said that.
    pub deletion: Option<SweepInfo>,
}

/// A plan that is being made, by its scan's number.
#[derive(Debug)]
pub(super) struct Plan {
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

impl Core {
    /// Begins a plan; it is answered when the source is listed and compared.
    pub(super) fn plan_asked(
        &mut self,
        turn: &mut Turn,
        reply: ReplyId,
        spec: JobSpec,
        violations: Vec<Violation>,
    ) {
        if let Err(refusal) = self.begin_plan(turn, reply, spec, violations) {
            turn.actions.push(Action::Reply { reply, answer: Err(refusal) });
        }
    }

    fn begin_plan(
        &mut self,
        turn: &mut Turn,
        reply: ReplyId,
        spec: JobSpec,
        mut violations: Vec<Violation>,
    ) -> Result<(), Refusal> {
        self.validate_spec(&spec, "", &mut violations);
        if !violations.is_empty() {
            return Err(Refusal::Invalid(violations));
        }
        if self.plans.len() >= PLANS_MAX {
            let problem = format!("{PLANS_MAX} plans are being made already");
            return Err(Refusal::Full { problem, retry_after: PLAN_PATIENCE / 10 });
        }
        let name = spec.source.star_id.clone();
        let places = spec.destinations.iter().map(|place| self.planned_place(&spec, place)).collect();
        let Some(star) = self.stars.get_mut(&name) else { return Err(super::stars::no_star(&name)) };
        let Some(session) = star.session else { return Err(not_connected(&name)) };
        if star.scans >= SCANS_PER_STAR_MAX {
            let problem = format!("{name} lists {SCANS_PER_STAR_MAX} trees already; wait for one of them");
            return Err(Refusal::Full { problem, retry_after: PLAN_PATIENCE / 10 });
        }
        star.scans += 1;
        let scan = self.counters.scan;
        self.counters.scan += 1;
        self.is_counters_dirty = true;
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
        self.plans.insert(scan, plan);
        turn.actions.push(Action::Send { session, message: CoordinatorMessage::StartScan(request) });
        Ok(())
    }

    fn planned_place(&self, spec: &JobSpec, place: &Location) -> PlannedPlace {
        let star = self.stars.get(&place.star_id);
        let gates = [
            super::gate::star_gate(&spec.source.star_id, "the source", self.stars.get(&spec.source.star_id)),
            super::gate::star_gate(&place.star_id, "the destination", star),
            star.and_then(|star| super::gate::destination_gate(&place.star_id, star)),
        ];
        PlannedPlace {
            place: place.clone(),
            moved: 0,
            moved_bytes: 0,
            unchanged: 0,
            unchanged_bytes: 0,
            is_compared: true,
            examples: Vec::new(),
            available_bytes: star.and_then(|star| super::space::room_of(star, &place.path)),
            bytes_per_second: star.and_then(|star| {
                let rates = star.samples.iter().map(|timed| timed.sample.throughput_bytes_per_sec);
                rates.max().filter(|rate| *rate > 0)
            }),
            held: gates.into_iter().flatten().next().map(|held| held.explanation),
            deletion: None,
        }
    }

    /// Takes a batch of a plan's scan; whether it was one.
    pub(super) fn plan_batch_received(
        &mut self,
        turn: &mut Turn,
        session: SessionId,
        batch: &ScanBatch,
    ) -> bool {
        let Some(plan) = self.plans.get_mut(&batch.scan).filter(|plan| plan.session == session) else {
            return false;
        };
        if batch.number != plan.last_batch + 1 {
            return false;
        }
        if plan.open.len() >= SCAN_BATCHES_UNACKED_MAX {
            let problem = "more batches of a scan than may be unacknowledged".to_owned();
            self.violated(turn, session, problem);
            return true;
        }
        if let Some(failure) = &batch.failure {
            let problem = format!("the source cannot be listed: {}", failure.message);
            let refusal = if failure.cause.is_retryable() {
                Refusal::Unavailable { problem }
            } else {
                Refusal::WrongState { problem }
            };
            self.end_plan(turn, batch.scan, Err(refusal));
            return true;
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
            match self.may_compare(place).filter(|_| is_comparable) {
                Some(session) => {
                    let purpose = Purpose::PlanComparison { scan: batch.scan };
                    let request = self.send_comparison(turn, session, place, &entries, purpose);
                    asked.push((request, question));
                }
                None => {
                    if let Some(plan) = self.plans.get_mut(&batch.scan) {
                        plan.planned.note_answer(&question, None);
                    }
                }
            }
        }
        if let Some(plan) = self.plans.get_mut(&batch.scan) {
            plan.open.insert(batch.number, asked.len());
            plan.asked.extend(asked);
        }
        self.acknowledge_plan(turn, batch.scan);
        true
    }

    /// Something came of a plan.
    pub(super) fn note_plan_progress(&mut self, now: Now, scan: u64) {
        if let Some(plan) = self.plans.get_mut(&scan) {
            plan.until = now.monotonic + PLAN_PATIENCE;
        }
    }

    /// What a destination says of a plan's batch, or that it will say nothing.
    pub(super) fn settle_plan_comparison(
        &mut self,
        turn: &mut Turn,
        scan: u64,
        request: u64,
        unchanged: Option<&Unchanged>,
    ) {
        let Some(plan) = self.plans.get_mut(&scan) else { return };
        let Some(question) = plan.asked.remove(&request) else { return };
        plan.planned.note_answer(&question, unchanged);
        if let Some(left) = plan.open.get_mut(&question.batch) {
            *left -= 1;
        }
        self.acknowledge_plan(turn, scan);
    }

    /// Acknowledges what is compared.
    fn acknowledge_plan(&mut self, turn: &mut Turn, scan: u64) {
        let Some(plan) = self.plans.get_mut(&scan) else { return };
        while let Some((&number, 0)) = plan.open.first_key_value() {
            plan.open.remove(&number);
            let message = CoordinatorMessage::ScanAcknowledged { scan, number };
            turn.actions.push(Action::Send { session: plan.session, message });
        }
    }

    /// Goes on with the plans whose trees are compared: asks what a mirror would delete, and answers when that is known.
    pub(super) fn finish_plans(&mut self, turn: &mut Turn) {
        let is_compared = |plan: &Plan| plan.is_listed && plan.open.is_empty();
        let compared = self.plans.iter().filter(|(_, plan)| is_compared(plan));
        let compared: Vec<u64> = compared.map(|(&scan, _)| scan).collect();
        for scan in compared {
            self.ask_for_plan_sweeps(turn, scan);
            let Some(plan) = self.plans.get_mut(&scan) else { continue };
            if plan.sweeps.iter().all(|swept| *swept == Swept::Done) {
                let planned = std::mem::take(&mut plan.planned);
                self.end_plan(turn, scan, Ok(Answer::Plan(Box::new(planned))));
            }
        }
    }

    fn ask_for_plan_sweeps(&mut self, turn: &mut Turn, scan: u64) {
        let Some(plan) = self.plans.get(&scan) else { return };
        let to_be_asked = (0..).zip(&plan.sweeps).filter(|(_, swept)| **swept == Swept::ToBeAsked);
        let to_be_asked: Vec<u32> = to_be_asked.map(|(destination, _)| destination).collect();
        if to_be_asked.is_empty() {
            return;
        }
        let Some(mounts) = plan.planned.skipped_mounts.paths() else {
            let problem = plan.planned.skipped_mounts.sweep_problem();
            return self.refuse_plan_sweeps(scan, &to_be_asked, &problem);
        };
        let spec = plan.spec.clone();
        for destination in to_be_asked {
            let name = SweepName { job: JobId(0), destination, operation: scan, is_plan: true };
            let purpose = Purpose::PlanSweep { scan, destination };
            let is_asked = self.send_sweep(turn, (&spec, mounts.clone()), name, purpose);
            self.note_plan_sweep(scan, destination, if is_asked { Swept::Awaited } else { Swept::Done });
        }
    }

    /// Nothing would be deleted at these destinations, and the job would fail.
    fn refuse_plan_sweeps(&mut self, scan: u64, destinations: &[u32], problem: &str) {
        let (progress, problem) = (Progress::Done, problem.to_owned());
        let refused = SweepInfo { progress, is_refused: true, problem, ..SweepInfo::BEGUN };
        for &destination in destinations {
            self.note_plan_sweep(scan, destination, Swept::Done);
            let plan = self.plans.get_mut(&scan);
            if let Some(place) = plan.and_then(|plan| plan.planned.places.get_mut(destination as usize)) {
                place.deletion = Some(refused.clone());
            }
        }
    }

    fn note_plan_sweep(&mut self, scan: u64, destination: u32, swept: Swept) {
        let plan = self.plans.get_mut(&scan);
        if let Some(noted) = plan.and_then(|plan| plan.sweeps.get_mut(destination as usize)) {
            *noted = swept;
        }
    }

    /// A destination says what a mirror would delete there, or that it looks for it still.
    pub(super) fn plan_sweep_answered(
        &mut self,
        now: Now,
        (scan, destination): (u64, u32),
        answer: Option<VaultReply>,
    ) {
        self.note_plan_progress(now, scan);
        let Some(VaultReply::Swept(info)) = answer else { return self.plan_sweep_lost(scan, destination) };
        match info.progress {
            Progress::Running => self.note_plan_sweep(scan, destination, Swept::ToBeAsked),
            Progress::Failed => self.plan_sweep_lost(scan, destination),
            Progress::Done => {
                self.note_plan_sweep(scan, destination, Swept::Done);
                let plan = self.plans.get_mut(&scan);
                if let Some(place) = plan.and_then(|plan| plan.planned.places.get_mut(destination as usize)) {
                    place.deletion = Some(info);
                }
            }
        }
    }

    /// A destination will not say what a mirror would delete there.
    pub(super) fn plan_sweep_lost(&mut self, scan: u64, destination: u32) {
        self.note_plan_sweep(scan, destination, Swept::Done);
    }

    fn end_plan(&mut self, turn: &mut Turn, scan: u64, answer: Result<Answer, Refusal>) {
        let Some(plan) = self.plans.remove(&scan) else { return };
        if let Some(star) = self.stars.get_mut(&plan.spec.source.star_id)
            && star.session == Some(plan.session)
        {
            star.scans = star.scans.saturating_sub(1);
            if !plan.is_listed {
                let message = CoordinatorMessage::CancelScan { scan };
                turn.actions.push(Action::Send { session: plan.session, message });
            }
        }
        turn.actions.push(Action::Reply { reply: plan.reply, answer });
    }

    /// Ends the plans that were made on a session.
    pub(super) fn end_plans_of(&mut self, turn: &mut Turn, session: SessionId) {
        let of_session = self.plans.iter().filter(|(_, plan)| plan.session == session);
        let ended: Vec<(u64, StarId)> =
            of_session.map(|(&scan, plan)| (scan, plan.spec.source.star_id.clone())).collect();
        for (scan, name) in ended {
            let problem = format!("the session of {name} ended while the plan was made; try again");
            self.end_plan(turn, scan, Err(Refusal::Unavailable { problem }));
        }
    }

    /// Gives up plans of which nothing comes any more.
    pub(super) fn expire_plans(&mut self, turn: &mut Turn) {
        let over = self.plans.iter().filter(|(_, plan)| plan.until <= turn.now.monotonic);
        let over: Vec<(u64, StarId)> =
            over.map(|(&scan, plan)| (scan, plan.spec.source.star_id.clone())).collect();
        for (scan, name) in over {
            let seconds = PLAN_PATIENCE.as_secs();
            let problem = format!("listing the source on {name} has not come on for {seconds} s; try again");
            self.end_plan(turn, scan, Err(Refusal::Unavailable { problem }));
        }
    }

    /// When the next plan is given up.
    pub(super) fn next_plan_deadline(&self) -> Option<Monotonic> {
        self.plans.values().map(|plan| plan.until).min()
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
        let Some(place) = self.places.get_mut(question.destination) else { return };
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
