//! The state machine: the state of one Star, its tasks and its history.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bulletin::truncate_visibly;
use crate::time::{Monotonic, Now};
use crate::words::StarId;

use super::{LifecycleEvent, LifecycleState, REASON_BYTES_MAX, TransitionRefused, check_transition};

/// Maximum number of events that are kept. Older ones are only counted.
pub const EVENTS_MAX: usize = 64;

/// A task was not started, because the Star does not accept work in its state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Star {star_id} is {state} and takes no work")]
pub struct NotAccepting {
    /// The Star.
    pub star_id: StarId,
    /// Its state.
    pub state: LifecycleState,
}

/// What a drain waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainBlockers {
    /// Tasks that are not finished, at least 1.
    pub active_tasks: u64,
    /// How long the drain has lasted.
    pub draining_for: Duration,
    /// Time since its deadline; `None` before it and without one.
    pub overdue_by: Option<Duration>,
}

/// The lifecycle of one Star. The time is an argument.
#[derive(Debug, Clone)]
pub struct StarLifecycle {
    star_id: StarId,
    state: LifecycleState,
    entered_at: Monotonic,
    drain_deadline: Option<Monotonic>,
    active_tasks: u64,
    registrations: u64,
    events: VecDeque<LifecycleEvent>,
    events_dropped: u64,
}

impl StarLifecycle {
    /// A Star that has just registered.
    pub fn new(star_id: StarId, now: Now) -> Self {
        Self::resumed(star_id, LifecycleState::Registered, now)
    }

    /// A Star in the middle of its lifecycle, without tasks or history: the initial state of a coordinator's mirror
    /// after a restart.
    pub fn resumed(star_id: StarId, state: LifecycleState, now: Now) -> Self {
        Self {
            star_id,
            state,
            entered_at: now.monotonic,
            drain_deadline: None,
            active_tasks: 0,
            registrations: 1,
            events: VecDeque::new(),
            events_dropped: 0,
        }
    }

    /// Starts to accept work. Only from Registered.
    pub fn on_scheduled(&mut self, now: Now, reason: &str) -> Result<LifecycleEvent, TransitionRefused> {
        self.go(now, LifecycleState::Scheduled, reason)
    }

    /// Starts to drain. If there is a `deadline`, the drain is overdue from then on. Only from Scheduled.
    pub fn on_draining(
        &mut self,
        now: Now,
        deadline: Option<Monotonic>,
        reason: &str,
    ) -> Result<LifecycleEvent, TransitionRefused> {
        let event = self.go(now, LifecycleState::Draining, reason)?;
        self.drain_deadline = deadline;
        Ok(event)
    }

    /// Ends, from any state but Shutdown, whether or not tasks are unfinished. The event has their number; they no
    /// longer count as active.
    pub fn on_shutdown(&mut self, now: Now, reason: &str) -> Result<LifecycleEvent, TransitionRefused> {
        self.go(now, LifecycleState::Shutdown, reason)
    }

    /// Cancels a drain by registering again. Only from Draining. Unfinished tasks continue.
    pub fn register_again(&mut self, now: Now, reason: &str) -> Result<LifecycleEvent, TransitionRefused> {
        let event = self.go(now, LifecycleState::Registered, reason)?;
        self.registrations = self.registrations.saturating_add(1);
        Ok(event)
    }

    /// Moves a mirror to the state that its Star reports. `None` if it is already in that state.
    ///
    /// A refusal means that the mirror and the Star have diverged, or that the Star violates the protocol. The mirror
    /// is not changed.
    pub fn apply_remote(
        &mut self,
        now: Now,
        state: LifecycleState,
        reason: &str,
    ) -> Result<Option<LifecycleEvent>, TransitionRefused> {
        if state == self.state {
            return Ok(None);
        }
        let event = match state {
            LifecycleState::Registered => self.register_again(now, reason),
            LifecycleState::Scheduled => self.on_scheduled(now, reason),
            LifecycleState::Draining => self.on_draining(now, None, reason),
            LifecycleState::Shutdown => self.on_shutdown(now, reason),
        };
        event.map(Some)
    }

    /// Counts a task that begins. Refused unless Scheduled. A Star that is only Registered may not work yet, and a task
    /// that was sent by mistake would delay its drain.
    pub fn task_started(&mut self) -> Result<(), NotAccepting> {
        if !self.accepts_work() {
            return Err(NotAccepting { star_id: self.star_id.clone(), state: self.state });
        }
        self.active_tasks = self.active_tasks.saturating_add(1);
        Ok(())
    }

    /// Counts a task that has ended, in any state. Returns false and changes nothing if no task is active: it never
    /// began here, or was abandoned.
    #[must_use = "a task that ended without having begun is a mistake somewhere"]
    pub fn task_completed(&mut self) -> bool {
        match self.active_tasks.checked_sub(1) {
            Some(left) => {
                self.active_tasks = left;
                true
            }
            None => false,
        }
    }

    /// The current state of the Star.
    pub fn state(&self) -> LifecycleState {
        self.state
    }

    /// Which Star this is.
    pub fn star_id(&self) -> &StarId {
        &self.star_id
    }

    /// Whether the Star can be given work: only while Scheduled.
    pub fn accepts_work(&self) -> bool {
        self.state.accepts_work()
    }

    /// Tasks that have begun and not ended.
    pub fn active_tasks(&self) -> u64 {
        self.active_tasks
    }

    /// Whether a drain is complete.
    pub fn is_drained(&self) -> bool {
        self.state == LifecycleState::Draining && self.active_tasks == 0
    }

    /// Whether a drain still waits at or after its deadline.
    pub fn is_drain_overdue(&self, now: Now) -> bool {
        self.drain_blockers(now).is_some_and(|blockers| blockers.overdue_by.is_some())
    }

    /// What a drain waits for. `None` if it is complete, and if there is no drain.
    pub fn drain_blockers(&self, now: Now) -> Option<DrainBlockers> {
        if self.state != LifecycleState::Draining || self.active_tasks == 0 {
            return None;
        }
        let deadline = self.drain_deadline.filter(|&deadline| deadline <= now.monotonic);
        Some(DrainBlockers {
            active_tasks: self.active_tasks,
            draining_for: self.time_in_state(now),
            overdue_by: deadline.map(|deadline| now.monotonic.since(deadline)),
        })
    }

    /// When the current drain becomes overdue. `None` without a deadline or a drain.
    pub fn drain_deadline(&self) -> Option<Monotonic> {
        self.drain_deadline
    }

    /// How long the Star has been in its state.
    pub fn time_in_state(&self, now: Now) -> Duration {
        now.monotonic.since(self.entered_at)
    }

    /// How often the Star has registered in this lifecycle, at least 1.
    pub fn registrations(&self) -> u64 {
        self.registrations
    }

    /// The changes of state, oldest first; the last [`EVENTS_MAX`] of them.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &LifecycleEvent> + ExactSizeIterator {
        self.events.iter()
    }

    /// Number of changes of state that [`Self::events`] no longer has.
    pub fn events_dropped(&self) -> u64 {
        self.events_dropped
    }

    fn go(
        &mut self,
        now: Now,
        to: LifecycleState,
        reason: &str,
    ) -> Result<LifecycleEvent, TransitionRefused> {
        check_transition(self.state, to)?;
        let abandoned_tasks = match to {
            LifecycleState::Shutdown => std::mem::take(&mut self.active_tasks),
            LifecycleState::Registered | LifecycleState::Scheduled | LifecycleState::Draining => 0,
        };
        let event = LifecycleEvent {
            star_id: self.star_id.clone(),
            from: self.state,
            to,
            at: now.wall,
            reason: truncate_visibly(reason, REASON_BYTES_MAX),
            abandoned_tasks,
        };
        self.state = to;
        self.entered_at = now.monotonic;
        self.drain_deadline = None;
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
            self.events_dropped = self.events_dropped.saturating_add(1);
        }
        self.events.push_back(event.clone());
        Ok(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_tasks_than_32_bits_count_do_not_wrap() {
        let star_id = StarId::new("star-1").unwrap();
        let mut life = StarLifecycle::resumed(star_id, LifecycleState::Scheduled, Now::default());
        life.active_tasks = u64::from(u32::MAX);
        assert_eq!(life.task_started(), Ok(()));
        assert_eq!(life.active_tasks(), u64::from(u32::MAX) + 1);
    }
}
