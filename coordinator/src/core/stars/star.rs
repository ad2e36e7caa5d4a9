//! A Star as the coordinator knows it: who it is, what it is for, whether it is heard, and what it may hold.
//!
//! Three axes that must not be mixed: the lifecycle (the state that the Star was set to), liveness (whether it is heard)
//! and the cordon (whether an operator wants it used).

use std::collections::VecDeque;
use std::sync::Arc;

use orbit_shared::backpressure::{BackpressureGuard, PauseReason};
use orbit_shared::health_monitor::HealthSample;
use orbit_shared::lifecycle::{LifecycleEvent, LifecycleState, StarLifecycle};
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::session::{AdvisoryNotice, RootSpace};
use orbit_shared::time::{Monotonic, Now, WallTime};

use crate::core::event::SessionId;
use crate::core::limits::STAR_HISTORY_MAX;
use crate::core::records::StarRecord;

/// Whether a Star is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Liveness {
    /// Heartbeats arrive.
    Alive,
    /// They stopped a while ago. It is given nothing new.
    Suspect,
    /// The lease is over; what it held was given back.
    Lost,
}

/// A sample and when it came.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimedSample {
    /// When.
    pub time: WallTime,
    /// What.
    pub sample: HealthSample,
}

/// A Star.
#[derive(Debug)]
pub struct Star {
    /// What survives a restart.
    pub record: StarRecord,
    /// Its lifecycle, mirrored.
    pub lifecycle: StarLifecycle,
    /// Its session, while it has one.
    pub session: Option<SessionId>,
    /// Version of its program, as its last hello said; empty if there was none since this process started.
    pub version: String,
    /// Whether it is heard.
    pub liveness: Liveness,
    /// When it was heard last; the coordinator's start for a Star that has not come back since.
    pub last_heard: Monotonic,
    /// What it may hold, and holds: its guard in the registry.
    pub guard: Arc<BackpressureGuard>,
    /// Pulls it serves to others.
    pub served_pulls: u32,
    /// Its last samples, oldest first.
    pub samples: VecDeque<TimedSample>,
    /// The room below its roots, as its last heartbeat said.
    pub root_space: Vec<RootSpace>,
    /// Bytes of the containers in its vault, as its last heartbeat said.
    pub vault_bytes: Option<u64>,
    /// The disk of its vault, as its last heartbeat said; `None` if nothing can be stored there.
    pub vault_sample: Option<HealthSample>,
    /// What its health monitor says of the last one.
    pub advisories: Vec<AdvisoryNotice>,
    /// Since when its session is open.
    pub session_since: Monotonic,
    /// When its silence is news, as it is watched.
    pub(super) silence_due: Option<Monotonic>,
    /// When its drain should be over; a bulletin says so if it is not.
    pub drain_deadline: Option<Monotonic>,
    /// Whether it asked to be drained because its process was told to stop.
    pub wants_exit: bool,
}

impl Star {
    /// A Star that is not connected.
    pub(super) fn new(record: StarRecord, guard: Arc<BackpressureGuard>, now: Now) -> Self {
        if record.guard_pause.is_some() && !is_planted(Bug::PauseForgottenAtRestart) {
            guard.pause(PauseReason::Operator);
        }
        Self {
            lifecycle: StarLifecycle::resumed(record.star_id.clone(), record.state, now),
            record,
            session: None,
            version: String::new(),
            liveness: Liveness::Lost,
            last_heard: now.monotonic,
            guard,
            served_pulls: 0,
            samples: VecDeque::new(),
            root_space: Vec::new(),
            vault_bytes: None,
            vault_sample: None,
            advisories: Vec::new(),
            session_since: now.monotonic,
            silence_due: None,
            drain_deadline: None,
            wants_exit: false,
        }
    }

    /// Where its lifecycle stands.
    pub fn state(&self) -> LifecycleState {
        self.lifecycle.state()
    }

    /// Begins the life of a new process: whatever the one before had come to, this one is registered.
    pub(super) fn begin_life(&mut self, now: Now, reason: &str) {
        let event = LifecycleEvent {
            star_id: self.record.star_id.clone(),
            from: self.state(),
            to: LifecycleState::Registered,
            at: now.wall,
            reason: reason.to_owned(),
            abandoned_tasks: 0,
        };
        self.lifecycle = StarLifecycle::new(self.record.star_id.clone(), now);
        self.note(event);
        self.wants_exit = false;
        self.drain_deadline = None;
        self.served_pulls = 0;
    }

    /// Moves the lifecycle if it may go there. Returns whether it did.
    pub(super) fn go(&mut self, now: Now, to: LifecycleState, reason: &str) -> bool {
        let moved = match to {
            LifecycleState::Registered => self.lifecycle.register_again(now, reason),
            LifecycleState::Scheduled => self.lifecycle.on_scheduled(now, reason),
            LifecycleState::Draining => self.lifecycle.on_draining(now, None, reason),
            LifecycleState::Shutdown => self.lifecycle.on_shutdown(now, reason),
        };
        moved.is_ok_and(|event| {
            self.note(event);
            true
        })
    }

    fn note(&mut self, event: LifecycleEvent) {
        self.record.state = event.to;
        if self.record.history.len() >= STAR_HISTORY_MAX {
            self.record.history.pop_front();
        }
        self.record.history.push_back(event);
    }

    /// Whether it is draining and has nothing left to do, for itself or for others, if it holds so many assignments.
    pub(in crate::core) fn is_drained(&self, held: usize) -> bool {
        self.state() == LifecycleState::Draining && held == 0 && !self.serves_pulls()
    }

    /// Whether it is given work by its lifecycle.
    pub(in crate::core) fn accepts_work(&self) -> bool {
        self.lifecycle.accepts_work()
    }

    /// Bytes that are available below the root of a path, or on the disk of the vault if the path is empty; `None` if that
    /// is not known.
    pub(in crate::core) fn available(&self, path: &[u8]) -> Option<u64> {
        if path.is_empty() {
            return self.vault_sample.map(|sample| sample.disk_available_bytes);
        }
        let root = self.record.root_of(path)?;
        self.root_space.iter().find(|space| space.path == root.path).map(|space| space.available_bytes)
    }

    /// Whether other Stars read from it now, as far as it is heard.
    pub fn serves_pulls(&self) -> bool {
        self.session.is_some() && self.served_pulls > 0
    }
}
