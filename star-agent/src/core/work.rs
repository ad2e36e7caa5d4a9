//! Assignments that are held, and the reports of their outcomes until the coordinator has stored them.
//!
//! Outcomes wait with their assignment until a report can be sent. The session protocol limits the number of
//! unacknowledged reports. A report keeps its number and is sent again, in order, after every reconnect.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use orbit_shared::session::{
    Assignment, Failure, FailureCause, Fault, ItemOutcome, ItemResult, Report, StarMessage, limits,
};
use orbit_shared::words::AssignmentId;

use super::Effect;

/// Maximum length of a failure message, in bytes. Longer ones are cut, so that the largest report fits into a session
/// message.
const FAILURE_MESSAGE_BYTES_MAX: usize = 4096;

const _: () = assert!(
    limits::ASSIGNMENT_ITEMS_MAX * (FAILURE_MESSAGE_BYTES_MAX + 64) <= limits::SESSION_MESSAGE_BYTES_MAX
);

#[derive(Debug, Default)]
struct Held {
    /// Indices of items without an outcome.
    remaining: BTreeSet<u64>,
    /// Outcomes that are not in a report yet.
    waiting: Vec<ItemOutcome>,
    /// Number of reports that are not acknowledged.
    unacknowledged: usize,
    /// It was refused and never begun. Only the report of that is pending.
    is_refused: bool,
}

impl Held {
    fn is_done(&self) -> bool {
        self.remaining.is_empty() && self.waiting.is_empty() && self.unacknowledged == 0
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Work {
    held: BTreeMap<AssignmentId, Held>,
    /// Reports that were sent and not acknowledged, oldest first.
    sent: VecDeque<Report>,
    /// Number of the last report.
    last_number: u64,
    /// The assignment that reported last. The next one has its turn, so that a busy assignment does not block others.
    turn: AssignmentId,
}

impl Work {
    pub(super) fn held(&self) -> impl Iterator<Item = AssignmentId> {
        self.held.keys().copied()
    }

    pub(super) fn is_held(&self, id: AssignmentId) -> bool {
        self.held.contains_key(&id)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether any item still has no outcome.
    pub(super) fn is_running(&self) -> bool {
        self.held.values().any(|held| !held.remaining.is_empty())
    }

    /// Number of assignments that were accepted and whose outcomes are not all safe at the coordinator.
    pub(super) fn active(&self) -> u64 {
        self.held.values().filter(|held| !held.is_refused).map(|_| 1).sum()
    }

    pub(super) fn unacknowledged(&self) -> usize {
        self.sent.len()
    }

    pub(super) fn assign(&mut self, assignment: Assignment, accepts_work: bool, effects: &mut Vec<Effect>) {
        if self.is_held(assignment.id) {
            let text = format!("assignment {} is already held", assignment.id);
            return effects.push(Effect::Log { is_warning: true, text });
        }
        let remaining: BTreeSet<u64> = assignment.items.iter().map(|item| item.sequence).collect();
        let running = self.held.values().filter(|held| !held.remaining.is_empty()).count();
        let refusal = if !accepts_work {
            Some("this Star takes no work now")
        } else if running >= limits::ASSIGNMENTS_PER_STAR_MAX {
            Some("this Star works on as many assignments as it may")
        } else {
            None
        };
        let id = assignment.id;
        self.held.insert(id, Held { remaining, is_refused: refusal.is_some(), ..Held::default() });
        match refusal {
            // A refusal is an outcome: the coordinator learns of it and chooses another Star.
            Some(reason) => self.fail_remaining(id, reason),
            None => effects.push(Effect::StartAssignment(assignment)),
        }
    }

    /// Takes outcomes. Those of withdrawn assignments, and second ones of an item, are ignored.
    pub(super) fn record(&mut self, id: AssignmentId, outcomes: Vec<ItemOutcome>) {
        let Some(held) = self.held.get_mut(&id) else { return };
        for mut outcome in outcomes {
            if held.remaining.remove(&outcome.sequence) {
                shorten(&mut outcome);
                held.waiting.push(outcome);
            }
        }
    }

    /// The work has ended: items without an outcome have failed.
    pub(super) fn end(&mut self, id: AssignmentId) {
        let reason = "a part of the Star's program failed while it worked on this item; the Star's log says where (look for \
                      `panicked`), and the item is tried again";
        self.fail_remaining(id, reason);
    }

    fn fail_remaining(&mut self, id: AssignmentId, reason: &str) {
        let Some(held) = self.held.get_mut(&id) else { return };
        for sequence in std::mem::take(&mut held.remaining) {
            let message = reason.to_owned();
            let failure = Failure { cause: FailureCause::Transient, fault: Fault::Destination, message };
            held.waiting.push(ItemOutcome { sequence, result: ItemResult::Failed(failure) });
        }
    }

    /// Makes and sends reports as long as there are outcomes and the limit allows it.
    pub(super) fn deliver(&mut self, effects: &mut Vec<Effect>) {
        while self.sent.len() < limits::REPORTS_UNACKED_MAX {
            let Some(id) = self.next_turn() else { return };
            let held = self.held.get_mut(&id).expect("the turn is one of those held");
            assert!(held.waiting.len() <= limits::ASSIGNMENT_ITEMS_MAX, "one outcome an item: {held:?}");
            let outcomes = std::mem::take(&mut held.waiting);
            held.unacknowledged += 1;
            self.turn = id;
            self.last_number += 1;
            let report = Report { number: self.last_number, assignment: id, outcomes };
            effects.push(Effect::Send(StarMessage::Report(report.clone())));
            self.sent.push_back(report);
        }
    }

    fn next_turn(&self) -> Option<AssignmentId> {
        let after = self.held.range((std::ops::Bound::Excluded(self.turn), std::ops::Bound::Unbounded));
        let around = self.held.range(..=self.turn);
        after.chain(around).find(|(_, held)| !held.waiting.is_empty()).map(|(id, _)| *id)
    }

    pub(super) fn acknowledge(&mut self, number: u64, effects: &mut Vec<Effect>) {
        while self.sent.front().is_some_and(|report| report.number <= number) {
            let report = self.sent.pop_front().expect("there is one at the front");
            let held = self.held.get_mut(&report.assignment).expect("a report's assignment is held");
            assert!(held.unacknowledged > 0, "a report is acknowledged once: {held:?}");
            held.unacknowledged -= 1;
            if held.is_done() {
                self.held.remove(&report.assignment);
                effects.push(Effect::ForgetAssignment(report.assignment));
            }
        }
    }

    pub(super) fn send_again(&self, effects: &mut Vec<Effect>) {
        effects.extend(self.sent.iter().cloned().map(|report| Effect::Send(StarMessage::Report(report))));
    }

    pub(super) fn keep_only(&mut self, kept: &[AssignmentId], effects: &mut Vec<Effect>) {
        let dropped: Vec<AssignmentId> = self.held().filter(|id| !kept.contains(id)).collect();
        for id in dropped {
            self.drop_held(id);
            effects.push(Effect::StopAssignment(id));
        }
    }

    /// The coordinator withdraws an assignment: another attempt will follow, unless its job has ended.
    pub(super) fn withdraw(&mut self, id: AssignmentId, is_job_over: bool, effects: &mut Vec<Effect>) {
        if self.drop_held(id) {
            effects.push(match is_job_over {
                true => Effect::AbandonAssignment(id),
                false => Effect::StopAssignment(id),
            });
        }
    }

    fn drop_held(&mut self, id: AssignmentId) -> bool {
        self.sent.retain(|report| report.assignment != id);
        self.held.remove(&id).is_some()
    }

    pub(super) fn withdraw_all(&mut self, effects: &mut Vec<Effect>) {
        self.keep_only(&[], effects);
        assert!(self.is_idle() && self.sent.is_empty(), "something was left: {self:?}");
    }

    pub(super) fn check(&self) {
        assert!(self.sent.len() <= limits::REPORTS_UNACKED_MAX, "too many reports are out: {self:?}");
        let numbers = self.sent.iter().map(|report| report.number);
        assert!(numbers.is_sorted_by(|early, late| early < late), "reports are out of order: {self:?}");
        let by_assignment: usize = self.held.values().map(|held| held.unacknowledged).sum();
        assert_eq!(by_assignment, self.sent.len(), "every report out belongs to what is held: {self:?}");
        assert!(
            self.sent.iter().all(|report| self.is_held(report.assignment)),
            "a report of no assignment: {self:?}"
        );
        assert!(self.held.values().all(|held| !held.is_done()), "what is done is still held: {self:?}");
        let last = self.sent.back().map_or(0, |report| report.number);
        assert!(last <= self.last_number, "a number was never given out: {self:?}");
    }
}

fn shorten(outcome: &mut ItemOutcome) {
    match &mut outcome.result {
        ItemResult::Failed(failure) if failure.message.len() > FAILURE_MESSAGE_BYTES_MAX => {
            let boundary =
                (0..=FAILURE_MESSAGE_BYTES_MAX).rev().find(|at| failure.message.is_char_boundary(*at));
            failure.message.truncate(boundary.unwrap_or(0));
        }
        ItemResult::Stored { .. } | ItemResult::Skipped | ItemResult::Failed(_) => {}
    }
}
