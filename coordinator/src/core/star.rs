//! A Star as the coordinator knows it: who it is, what it is for, whether it is heard, and what it may hold.
//!
//! Three axes that must not be mixed: the lifecycle (the state that the Star was set to), liveness (whether it is heard)
//! and the cordon (whether an operator wants it used).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use orbit_shared::backpressure::{BackpressureConfig, BackpressureGuard, PauseReason};
use orbit_shared::health_monitor::HealthSample;
use orbit_shared::lifecycle::{LifecycleEvent, LifecycleState, StarLifecycle};
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::session::{AdvisoryNotice, Hello, Root, RootSpace};
use orbit_shared::time::{Monotonic, Now, WallTime};
use orbit_shared::words::{AssignmentId, Epoch, ItemId, StarId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::event::SessionId;
use super::limits::STAR_HISTORY_MAX;
use super::poison::{HeldAtEnd, Trial};
use super::space::OnWay;

/// The durable part of a Star.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StarRecord {
    /// Its name.
    pub star_id: StarId,
    /// Who it is; `None` until it has connected for the first time.
    pub identity: Option<Uuid>,
    /// Its process, as of the last hello.
    pub instance: Option<Uuid>,
    /// Counts its sessions.
    pub epoch: Epoch,
    /// Where other Stars reach it.
    pub data_address: String,
    /// What it exports.
    pub roots: Vec<Root>,
    /// Labels it was started with.
    pub labels: BTreeMap<String, String>,
    /// Whether an operator keeps work away from it.
    pub is_cordoned: bool,
    /// Where its lifecycle stands.
    pub state: LifecycleState,
    /// Its last transitions, oldest first, over all its processes.
    pub history: VecDeque<LifecycleEvent>,
    /// What it may hold.
    pub guard: BackpressureConfig,
    /// Why an operator has paused its guard, if one has.
    pub guard_pause: Option<String>,
    /// The operator's rules for the priority of files on it, one per line.
    #[serde(default)]
    pub semantic_rules: Vec<String>,
}

impl StarRecord {
    /// A Star that was named and has not connected yet.
    pub fn new(star_id: StarId, guard: BackpressureConfig) -> Self {
        Self {
            star_id,
            identity: None,
            instance: None,
            epoch: Epoch(0),
            data_address: String::new(),
            roots: Vec::new(),
            labels: BTreeMap::new(),
            is_cordoned: false,
            state: LifecycleState::Registered,
            history: VecDeque::new(),
            guard,
            guard_pause: None,
            semantic_rules: Vec::new(),
        }
    }

    /// Takes over what a hello says.
    pub fn update(&mut self, hello: Hello) {
        self.identity = Some(hello.identity);
        self.instance = Some(hello.instance);
        self.data_address = hello.data_address;
        self.roots = hello.roots;
        self.labels = hello.labels;
        self.semantic_rules = hello.semantic_rules;
        self.epoch = Epoch(self.epoch.0 + 1);
    }

    /// The innermost root that a path lies in.
    pub fn root_of(&self, path: &[u8]) -> Option<&Root> {
        let is_inside = |root: &&Root| {
            let base = root.path.strip_suffix(b"/").unwrap_or(&root.path);
            path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        self.roots.iter().filter(is_inside).max_by_key(|root| root.path.len())
    }
}

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
    /// What it may hold, and holds.
    pub guard: Arc<BackpressureGuard>,
    /// What it holds.
    pub assignments: BTreeSet<AssignmentId>,
    /// Pulls it serves to others.
    pub served_pulls: u32,
    /// Its last samples, oldest first.
    pub samples: VecDeque<TimedSample>,
    /// Bytes that it has stored since the last sample, which does not show them yet.
    pub bytes_since_sample: u64,
    /// The room below its roots, as its last heartbeat said.
    pub root_space: Vec<RootSpace>,
    /// Bytes of the containers in its vault, as its last heartbeat said.
    pub vault_bytes: Option<u64>,
    /// The disk of its vault, as its last heartbeat said; `None` if nothing can be stored there.
    pub vault_sample: Option<HealthSample>,
    /// What its health monitor says of the last one.
    pub advisories: Vec<AdvisoryNotice>,
    /// When any of what it holds last came on.
    pub progress_at: Monotonic,
    /// What it held, or was read from it, when its last session ended; if its process died, they are under suspicion.
    pub held_at_end: HeldAtEnd,
    /// When its process died lately, oldest first, with the item that was all it had in its hands, if there was one.
    pub deaths: VecDeque<(Monotonic, Option<ItemId>)>,
    /// Since when its session is open.
    pub session_since: Monotonic,
    /// The one item that it works on alone.
    pub trial: Option<Trial>,
    /// Live assignments that are read from it.
    pub reads: usize,
    /// When it last stored something for a job.
    pub wrote_at: Option<Monotonic>,
    /// Bytes of all that is on its way to it, whole files counted: what its disks must have room for.
    pub on_way: OnWay,
    /// Scans that run on it.
    pub scans: usize,
    /// When its drain should be over; a bulletin says so if it is not.
    pub drain_deadline: Option<Monotonic>,
    /// Whether it asked to be drained because its process was told to stop.
    pub wants_exit: bool,
    /// Whether the record differs from what the store has.
    pub is_dirty: bool,
}

impl Star {
    /// A Star that is not connected.
    pub fn new(record: StarRecord, now: Now) -> Self {
        let guard = Arc::new(BackpressureGuard::new(record.star_id.as_str(), record.guard));
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
            assignments: BTreeSet::new(),
            served_pulls: 0,
            samples: VecDeque::new(),
            bytes_since_sample: 0,
            root_space: Vec::new(),
            vault_bytes: None,
            vault_sample: None,
            advisories: Vec::new(),
            progress_at: now.monotonic,
            held_at_end: HeldAtEnd::default(),
            deaths: VecDeque::new(),
            session_since: now.monotonic,
            trial: None,
            reads: 0,
            wrote_at: None,
            on_way: OnWay::default(),
            scans: 0,
            drain_deadline: None,
            wants_exit: false,
            is_dirty: false,
        }
    }

    /// Where its lifecycle stands.
    pub fn state(&self) -> LifecycleState {
        self.lifecycle.state()
    }

    /// Begins the life of a new process: whatever the one before had come to, this one is registered.
    pub fn begin_life(&mut self, now: Now, reason: &str) {
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
    pub fn go(&mut self, now: Now, to: LifecycleState, reason: &str) -> bool {
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
        self.is_dirty = true;
    }

    /// Whether it is draining and has nothing left to do, for itself or for others.
    pub fn is_drained(&self) -> bool {
        self.state() == LifecycleState::Draining && self.assignments.is_empty() && !self.serves_pulls()
    }

    /// Whether other Stars read from it now, as far as it is heard.
    pub fn serves_pulls(&self) -> bool {
        self.session.is_some() && self.served_pulls > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_belongs_to_the_innermost_root_around_it() {
        let mut record =
            StarRecord::new(StarId::new("star-1").expect("a name"), BackpressureConfig::default());
        record.roots = ["/data", "/data/in", "/"]
            .map(|path| Root { path: path.as_bytes().to_vec(), is_read_only: path == "/data/in" })
            .to_vec();
        let root = |path: &str| record.root_of(path.as_bytes()).map(|root| root.path.clone());
        assert_eq!(root("/data/x"), Some(b"/data".to_vec()));
        assert_eq!(root("/data/in"), Some(b"/data/in".to_vec()));
        assert_eq!(root("/data/inner"), Some(b"/data".to_vec()));
        assert_eq!(root("/etc"), Some(b"/".to_vec()));
        record.roots.pop();
        assert_eq!(record.root_of(b"/etc"), None);
    }
}
