//! The turn machine, between the core and whatever executes its actions: no action of a turn is executed before the
//! changes of the turn are durable.
//!
//! ```text
//!           step, look           end: changes       committed
//! open ───────────────► open ───────────────► committing ───────────► open: actions are due
//!   ▲                     │ end: no changes       │  step: the next turn, unless the turn is still
//!   └── actions are due ──┘                       └─ lose_store ─► lost: nothing is due any more
//! ```
//!
//! While a commit runs, events of the next turn are stepped, so that its commit contains more: group commit without a
//! timer. A turn is *still* if it reads windows from the store or if a view waits for its end: both must see the core
//! exactly as the store has it, so the core does not go on while such a turn is committed.
//!
//! The driver and the simulation both use this machine. How a commit is made, when the clock is read, and where actions
//! go is theirs.

use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::time::{Monotonic, Now};

use crate::core::limits::TURN_EVENTS_MAX;
use crate::core::{Action, Change, Core, CoreConfig, Event, Noted, Recovered, Turn};

/// What a turn must make durable: the events in the log first, then the changes with the number of the last event.
#[derive(Debug)]
pub struct Commit {
    /// Changes of the store.
    pub changes: Vec<Change>,
    /// Events of the provenance log.
    pub notes: Vec<Noted>,
}

/// Whether a commit is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Committing {
        /// Whether the core must not go on before it is committed.
        is_still: bool,
    },
    /// The store is lost.
    Lost,
}

/// See the module. `V` is a view: something that looks at the core between two turns.
#[derive(Debug)]
pub struct Turns<V> {
    core: Core,
    phase: Phase,
    /// The turn that is gathered.
    turn: Turn,
    /// Number of its events and views so far.
    gathered: usize,
    /// Views that wait for its end.
    views: Vec<V>,
    /// Actions of the turn that is committed.
    held: Vec<Action>,
    /// Views that wait for the end of the turn that is committed.
    held_views: Vec<V>,
    /// Actions of turns that are durable.
    due: Vec<Action>,
    /// Number of windows that were requested and not loaded.
    windows: usize,
}

/// The last event that the provenance log may have at a start; `None` if it may keep all. Later ones belong to turns that
/// were not committed.
pub fn last_committed_event(recovered: &Recovered) -> Option<u64> {
    if is_planted(Bug::LogNotCutBack) { None } else { recovered.last_event }
}

impl<V> Turns<V> {
    /// Begins with the content of the store. What the core changes at once belongs to the first turn.
    pub fn recover(config: CoreConfig, recovered: Recovered, now: Now) -> Self {
        let mut turn = Turn::new(now);
        let core = Core::recover(&mut turn, config, recovered);
        Self {
            core,
            phase: Phase::Open,
            turn,
            gathered: 0,
            views: Vec::new(),
            held: Vec::new(),
            held_views: Vec::new(),
            due: Vec::new(),
            windows: 0,
        }
    }

    /// The core. It may be ahead of the store: only a view, a session that ends, and the exceptions to "write before you
    /// tell" may show what it has.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// When the core must be stepped, if nothing happens before.
    pub fn next_deadline(&mut self, now: Now) -> Option<Monotonic> {
        self.core.next_deadline(now)
    }

    /// Whether nothing waits for the end of a turn and no commit is under way.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Open && self.gathered == 0 && self.windows == 0
    }

    /// Whether the turn that is gathered accepts another event or view.
    pub fn has_room(&self) -> bool {
        let is_open = match self.phase {
            Phase::Open => self.windows == 0,
            Phase::Committing { is_still } => !is_still,
            Phase::Lost => false,
        };
        is_open && self.gathered < TURN_EVENTS_MAX
    }

    /// Steps an event of the turn that is gathered.
    pub fn step(&mut self, now: Now, event: Event) {
        let phase = self.phase;
        assert!(
            matches!(phase, Phase::Open | Phase::Committing { is_still: false }),
            "the core goes on only if it may: {phase:?}, {event:?}"
        );
        if let Event::WindowLoaded { .. } = event {
            assert!(
                self.windows > 0 && phase == Phase::Open,
                "a window was requested: {phase:?}, {} are missing, {event:?}",
                self.windows
            );
            self.windows -= 1;
        }
        self.gathered += 1;
        self.core.step(self.turn.at(now), event);
    }

    /// Adds a view to the turn that is gathered.
    pub fn look(&mut self, view: V) {
        self.gathered += 1;
        self.views.push(view);
    }

    /// Ends the turn. Returns what must be made durable; `None` if that is nothing, and then the actions are due.
    pub fn end(&mut self, now: Now) -> Option<Commit> {
        assert_eq!(self.phase, Phase::Open, "one commit at a time");
        assert_eq!(self.windows, 0, "a turn ends when its windows are loaded");
        self.core.finish_turn(self.turn.at(now));
        let Turn { changes, notes, actions, .. } = self.turn.take();
        self.gathered = 0;
        self.held_views.append(&mut self.views);
        self.held = actions;
        if changes.is_empty() && notes.is_empty() {
            self.release();
            return None;
        }
        let has_views = !self.held_views.is_empty() && !is_planted(Bug::ViewOfUncommitted);
        let is_still = has_views || self.held.iter().any(is_window);
        self.phase = Phase::Committing { is_still };
        if is_planted(Bug::ToldBeforeCommit) {
            let (windows, told) = std::mem::take(&mut self.held).into_iter().partition(is_window);
            self.held = windows;
            self.due.extend::<Vec<Action>>(told);
        }
        Some(Commit { changes, notes })
    }

    /// The turn is durable: its actions are due.
    pub fn committed(&mut self) {
        let phase = self.phase;
        assert!(matches!(phase, Phase::Committing { .. }), "a commit is under way: {phase:?}");
        self.phase = Phase::Open;
        self.release();
    }

    fn release(&mut self) {
        self.windows += self.held.iter().filter(|action| is_window(action)).count();
        self.due.append(&mut self.held);
    }

    /// Takes the actions that are due, in order. A window that is among them must be loaded from the store as it is now,
    /// and stepped before the next end of a turn.
    pub fn take_due(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.due)
    }

    /// Takes the views that may look now, because the store has all that the core has. If the core went on while actions
    /// were executed, they wait for the end of the next turn.
    pub fn take_views(&mut self) -> Vec<V> {
        if self.is_idle() || is_planted(Bug::ViewOfUncommitted) {
            return std::mem::take(&mut self.held_views);
        }
        self.views.append(&mut self.held_views);
        Vec::new()
    }

    /// The store is lost: what is not durable never will be, and nothing of it is executed. Returns the views, which may
    /// look at what the core knows.
    pub fn lose_store(&mut self, now: Now, problem: &str) -> Vec<V> {
        self.phase = Phase::Lost;
        self.turn = Turn::new(now);
        self.held.clear();
        self.due.clear();
        self.core.note_store_lost(problem);
        let mut views = std::mem::take(&mut self.held_views);
        views.append(&mut self.views);
        views
    }

    /// The changes of the turn that is gathered, so far.
    pub fn gathered_changes(&self) -> &[Change] {
        &self.turn.changes
    }

    /// The actions of the turn that is committed.
    pub fn held_actions(&self) -> &[Action] {
        &self.held
    }
}

fn is_window(action: &Action) -> bool {
    matches!(action, Action::LoadWindow { .. })
}

#[cfg(test)]
mod tests {
    use orbit_shared::words::JobId;

    use super::*;
    use crate::core::{Command, ReplyId};

    /// With a first turn that has changes: the grid gets its name.
    fn turns() -> Turns<&'static str> {
        Turns::recover(CoreConfig::default(), Recovered::default(), Now::default())
    }

    fn ask(turns: &mut Turns<&'static str>, number: u64) {
        let command = Command::PauseJob { job: JobId(1), reason: String::new() };
        let event = Event::CommandReceived { reply: ReplyId(number), command, actor: None };
        turns.step(Now::default(), event);
    }

    /// Takes the numbers of the answers that are due.
    fn answered(turns: &mut Turns<&'static str>) -> Vec<u64> {
        let number = |action| match action {
            Action::Reply { reply, .. } => Some(reply.0),
            _ => None,
        };
        turns.take_due().into_iter().filter_map(number).collect()
    }

    #[test]
    fn an_answer_waits_for_the_commit_of_its_turn_and_the_next_turn_is_stepped_meanwhile() {
        let mut turns = turns();
        ask(&mut turns, 1);
        assert!(turns.end(Now::default()).is_some() && turns.has_room());
        ask(&mut turns, 2);
        assert!(answered(&mut turns).is_empty(), "nothing is due before the commit");
        turns.committed();
        assert_eq!(answered(&mut turns), [1], "what was stepped beside the commit is not durable");
        assert!(!turns.is_idle());
        assert!(turns.end(Now::default()).is_none(), "a refusal changes nothing");
        assert_eq!(answered(&mut turns), [2]);
        assert!(turns.is_idle());
    }

    #[test]
    fn a_view_keeps_the_core_still_and_waits_for_the_end_of_its_turn() {
        let mut turns = turns();
        turns.look("first");
        assert!(turns.end(Now::default()).is_some() && !turns.has_room());
        turns.committed();
        assert_eq!(turns.take_views(), ["first"]);
        turns.look("second");
        assert!(turns.end(Now::default()).is_none());
        // A session that ended while the actions were executed.
        ask(&mut turns, 1);
        assert!(turns.take_views().is_empty(), "the core has what the store has not");
        assert!(turns.end(Now::default()).is_none());
        assert_eq!(turns.take_views(), ["second"]);
    }

    #[test]
    fn nothing_is_due_once_the_store_is_lost() {
        let mut turns = turns();
        ask(&mut turns, 1);
        turns.end(Now::default());
        ask(&mut turns, 2);
        turns.look("late");
        assert_eq!(turns.lose_store(Now::default(), "it is gone"), ["late"]);
        assert!(answered(&mut turns).is_empty() && !turns.has_room() && !turns.is_idle());
    }

    #[test]
    fn a_turn_has_room_for_a_bounded_number_of_events() {
        let mut turns = turns();
        (0..TURN_EVENTS_MAX as u64).for_each(|number| ask(&mut turns, number));
        assert!(!turns.has_room());
    }
}
