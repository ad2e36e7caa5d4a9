//! The life of the items of one assignment at their destination, without I/O: what is pulled, what must be durable before
//! what, and what is reported when.
//!
//! ```text
//!  planned ──► unchanged ── doubts settled ──────────────────────────────────────────────► skipped
//!     ├──────► in the way, unreadable, ... ──────────────────────────────────────────────► failed
//!     └──────► pulled ──► changed while it was read: pulled once more, then accepted
//!                ├──────► broken, refused, ... ───────────────────────────────────────────► failed
//!                └──────► written ──► a round:
//!     files:  content synced ──► renamed ──► directories synced ──────────────────────────► stored
//!     vault:  committed ──────────────────────────────────────────────────────────────────► stored
//! ```
//!
//! Rules:
//! - Stored means durable: an item is reported after everything that it needs to survive a power loss is on the disk.
//! - One round runs at a time. It begins when enough is written, or when the pull has ended. What fails in a round is
//!   removed before it is reported.
//! - A file that changes while it is read is pulled once more, at the end, unless the source is gone.
//! - Directories of plain files come after everything else, because an entry that is put into a directory changes its time.
//! - Every item gets exactly one outcome, and none after the assignment was cancelled.
//!
//! The sinks for files and for vaults and the simulation drive this machine. How content is requested, received, verified
//! and written is theirs.

mod messages;

use std::sync::Arc;
use std::time::Duration;

use orbit_shared::entry::EntryKind;
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::session::{AssignedItem, Assignment, ItemOutcome, ItemResult};

use crate::failures::is_of_change;

pub use messages::{Effect, Event, Failed, Planned, RoundLimits, Target, WrittenItem};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is known of it, or it waits to be pulled once more.
    Open,
    Pulled,
    Written,
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Planning,
    Settling,
    Pulling,
    /// The pull has ended, and the rest of its items is made durable.
    Flushing,
    Directories,
    /// Cancelled: a round that has begun is finished, and nothing is reported.
    Ending,
    Over,
}

/// See the module.
#[derive(Debug)]
pub struct PullCore<W> {
    target: Target,
    limits: RoundLimits,
    assignment: Arc<Assignment>,
    phase: Phase,
    states: Vec<State>,
    /// Whether files are accepted although they change while they are read.
    accepts_changes: bool,
    is_broken: bool,
    /// Items that must be pulled: those of the plan, and then those that changed while they were read.
    wanted: Vec<usize>,
    ready: Vec<W>,
    ready_bytes: u64,
    /// Number of effects of the current round that were not answered.
    unanswered: usize,
    /// Whether the last round of this pull has begun.
    is_flushed: bool,
    outcomes: Vec<ItemOutcome>,
}

impl<W: WrittenItem> PullCore<W> {
    /// An assignment of which nothing is known.
    pub fn new(target: Target, limits: RoundLimits, assignment: Arc<Assignment>) -> Self {
        Self {
            target,
            limits,
            phase: Phase::Planning,
            states: vec![State::Open; assignment.items.len()],
            accepts_changes: false,
            is_broken: false,
            wanted: Vec::new(),
            ready: Vec::new(),
            ready_bytes: 0,
            unanswered: 0,
            is_flushed: false,
            outcomes: Vec::new(),
            assignment,
        }
    }

    /// Takes what happened.
    pub fn step(&mut self, event: Event<W>, effects: &mut Vec<Effect<W>>) {
        let first = effects.len();
        self.take(event, effects);
        let is_cancelled = self.phase == Phase::Ending;
        self.advance(effects);
        let outcomes = std::mem::take(&mut self.outcomes);
        if !outcomes.is_empty() && !is_cancelled {
            effects.insert(first, Effect::Report(outcomes));
        }
    }

    /// Whether every item has its outcome, or the assignment was cancelled and everything has ended.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    fn take(&mut self, event: Event<W>, effects: &mut Vec<Effect<W>>) {
        match event {
            Event::Planned(planned) => self.planned(planned, effects),
            Event::DoubtsSettled { durable, failed } => {
                self.answered();
                durable.into_iter().for_each(|item| self.end(item, ItemResult::Skipped));
                failed.into_iter().for_each(|failed| self.end_failed(failed));
                self.pass(Phase::Settling, Phase::Flushing);
                self.begin_pull(false, effects);
            }
            Event::ItemWritten(written) => {
                self.change(written.item(), State::Pulled, State::Written);
                self.add_ready(written);
            }
            Event::ItemFailed(failed) => self.item_failed(failed),
            Event::PullBroken => self.is_broken = true,
            Event::PullEnded => self.pass(Phase::Pulling, Phase::Flushing),
            Event::ContentSynced { synced, failed } => {
                self.answered();
                self.discard(failed, effects);
                self.go_on(synced, Effect::Rename, effects);
            }
            Event::Renamed { renamed, failed } => {
                self.answered();
                self.discard(failed, effects);
                if is_planted(Bug::DirectoryNotSynced) {
                    return renamed.iter().for_each(|written| self.end_written(written, Duration::ZERO));
                }
                self.go_on(renamed, Effect::SyncDirectories, effects);
            }
            Event::Discarded(failed) => {
                self.answered();
                failed.into_iter().for_each(|failed| self.end_failed(failed));
            }
            Event::Durable { durable, failed, elapsed } => {
                self.answered();
                durable.iter().for_each(|written| self.end_written(written, elapsed));
                failed.into_iter().for_each(|failed| self.end_failed(failed));
            }
            Event::DirectoriesMade { made, unchanged, failed } => {
                self.answered();
                failed.into_iter().for_each(|failed| self.end_failed(failed));
                self.unanswered += 1;
                effects.push(Effect::SyncMade { made, unchanged });
            }
            Event::MadeSynced { durable, unchanged, failed, elapsed } => {
                self.answered();
                durable.iter().for_each(|written| self.end(written.item(), written.result(elapsed)));
                unchanged.into_iter().for_each(|item| self.end(item, ItemResult::Skipped));
                failed.into_iter().for_each(|failed| self.end_failed(failed));
                self.pass(Phase::Directories, Phase::Flushing);
            }
            Event::Cancelled => {
                if self.phase != Phase::Over {
                    self.phase = Phase::Ending;
                }
            }
        }
    }

    /// Does what follows, if nothing is waited for.
    fn advance(&mut self, effects: &mut Vec<Effect<W>>) {
        if self.unanswered > 0 {
            return;
        }
        match self.phase {
            Phase::Planning | Phase::Settling | Phase::Directories | Phase::Over => {}
            Phase::Pulling => {
                if self.ready.len() >= self.limits.items || self.ready_bytes >= self.limits.bytes {
                    self.begin_round(effects);
                }
            }
            Phase::Flushing => self.flush(effects),
            Phase::Ending => {
                self.phase = Phase::Over;
                // A vault keeps what is stored: the next attempt uses it, and it goes with its stage.
                if self.target == Target::Files {
                    effects.push(Effect::Clean);
                }
            }
        }
    }

    fn flush(&mut self, effects: &mut Vec<Effect<W>>) {
        // The last round of a vault also gives up what no item needs on a full disk, so it takes place without items too.
        if !self.ready.is_empty() || self.target == Target::Vault && !self.is_flushed {
            self.is_flushed = true;
            return self.begin_round(effects);
        }
        if !self.wanted.is_empty() {
            return self.begin_pull(true, effects);
        }
        let directories = self.open_directories();
        if !directories.is_empty() {
            self.phase = Phase::Directories;
            self.unanswered += 1;
            return effects.push(Effect::MakeDirectories(directories));
        }
        let left: Vec<usize> =
            (0..self.states.len()).filter(|&item| self.states[item] != State::Ended).collect();
        assert!(left.is_empty(), "every item has its outcome: {left:?} of assignment {}", self.assignment.id);
        self.phase = Phase::Over;
        effects.push(Effect::Finish);
    }

    fn open_directories(&self) -> Vec<usize> {
        let items = self.assignment.items.iter().zip(&self.states).enumerate();
        let is_open = |(index, (item, state)): (usize, (&AssignedItem, &State))| {
            (item.entry.kind == EntryKind::Directory && *state == State::Open).then_some(index)
        };
        items.filter_map(is_open).collect()
    }

    fn planned(&mut self, planned: Planned<W>, effects: &mut Vec<Effect<W>>) {
        let Planned { failed, unchanged, written, wanted } = planned;
        failed.into_iter().for_each(|failed| self.end_failed(failed));
        for written in written {
            self.change(written.item(), State::Open, State::Written);
            self.add_ready(written);
        }
        self.wanted = wanted;
        // What a vault has of a stage is durable.
        let is_durable = self.target == Target::Vault || is_planted(Bug::SkipNotSynced);
        if !is_durable && !unchanged.is_empty() {
            self.pass(Phase::Planning, Phase::Settling);
            self.unanswered += 1;
            return effects.push(Effect::SettleDoubts(unchanged));
        }
        unchanged.into_iter().for_each(|item| self.end(item, ItemResult::Skipped));
        self.pass(Phase::Planning, Phase::Flushing);
        self.begin_pull(false, effects);
    }

    /// Begins to pull what is wanted, if that is anything.
    fn begin_pull(&mut self, accepts_changes: bool, effects: &mut Vec<Effect<W>>) {
        let items = std::mem::take(&mut self.wanted);
        if items.is_empty() || self.phase == Phase::Ending {
            return;
        }
        items.iter().for_each(|&item| self.change(item, State::Open, State::Pulled));
        self.phase = Phase::Pulling;
        self.accepts_changes = accepts_changes;
        self.is_flushed = false;
        effects.push(Effect::Pull { items, accepts_changes });
    }

    fn item_failed(&mut self, failed: Failed) {
        if is_of_change(&failed.failure) && !self.accepts_changes && !self.is_broken {
            self.change(failed.item, State::Pulled, State::Open);
            return self.wanted.push(failed.item);
        }
        self.end_failed(failed);
    }

    fn add_ready(&mut self, written: W) {
        self.ready_bytes += written.bytes();
        self.ready.push(written);
    }

    fn begin_round(&mut self, effects: &mut Vec<Effect<W>>) {
        self.ready_bytes = 0;
        self.unanswered += 1;
        let items = std::mem::take(&mut self.ready);
        effects.push(match self.target {
            Target::Files if is_planted(Bug::ContentNotSynced) => Effect::Rename(items),
            Target::Files => Effect::SyncContent(items),
            Target::Vault => Effect::Commit { items, is_last: self.phase == Phase::Flushing },
        });
    }

    fn discard(&mut self, failed: Vec<Failed>, effects: &mut Vec<Effect<W>>) {
        if !failed.is_empty() {
            self.unanswered += 1;
            effects.push(Effect::Discard(failed));
        }
    }

    /// The next step of a round.
    fn go_on(&mut self, items: Vec<W>, next: fn(Vec<W>) -> Effect<W>, effects: &mut Vec<Effect<W>>) {
        if !items.is_empty() {
            self.unanswered += 1;
            effects.push(next(items));
        }
    }

    fn answered(&mut self) {
        assert!(self.unanswered > 0, "an answer has a question: {:?}", self.phase);
        self.unanswered -= 1;
    }

    fn end_written(&mut self, written: &W, elapsed: Duration) {
        let (item, state) = (written.item(), self.states[written.item()]);
        assert_eq!(state, State::Written, "item {item} of assignment {} is stored", self.assignment.id);
        self.end(item, written.result(elapsed));
    }

    fn end_failed(&mut self, failed: Failed) {
        self.end(failed.item, ItemResult::Failed(failed.failure));
    }

    fn end(&mut self, item: usize, result: ItemResult) {
        let before = std::mem::replace(&mut self.states[item], State::Ended);
        assert_ne!(before, State::Ended, "item {item} of assignment {} ends once", self.assignment.id);
        let sequence = self.assignment.items[item].sequence;
        self.outcomes.push(ItemOutcome { sequence, result });
    }

    fn change(&mut self, item: usize, from: State, to: State) {
        let state = self.states[item];
        assert_eq!(state, from, "item {item} of assignment {} becomes {to:?}", self.assignment.id);
        self.states[item] = to;
    }

    /// Changes the phase, unless the assignment was cancelled.
    fn pass(&mut self, from: Phase, to: Phase) {
        if self.phase != Phase::Ending {
            assert_eq!(self.phase, from, "assignment {} comes to {to:?}", self.assignment.id);
            self.phase = to;
        }
    }
}

#[cfg(test)]
mod tests;
