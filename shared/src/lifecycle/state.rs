//! The states of a Star's life, and which may follow which.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::WallTime;
use crate::words::StarId;

/// The longest reason an event keeps, in bytes; a longer one is cut and says so.
pub const REASON_BYTES_MAX: usize = 1024;

/// Where a Star is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LifecycleState {
    /// Known, and not given work yet.
    Registered,
    /// Given work.
    Scheduled,
    /// Finishes what it has and is given nothing more.
    Draining,
    /// Gone for good.
    Shutdown,
}

impl LifecycleState {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 4] = [Self::Registered, Self::Scheduled, Self::Draining, Self::Shutdown];

    /// The name used on the wire, in files and as a metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Scheduled => "scheduled",
            Self::Draining => "draining",
            Self::Shutdown => "shutdown",
        }
    }

    /// Whether a Star in this state may be given work.
    pub const fn accepts_work(self) -> bool {
        match self {
            Self::Scheduled => true,
            Self::Registered | Self::Draining | Self::Shutdown => false,
        }
    }
}

impl fmt::Display for LifecycleState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One change of state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifecycleEvent {
    /// Whose.
    pub star_id: StarId,
    /// The state before.
    pub from: LifecycleState,
    /// The state since.
    pub to: LifecycleState,
    /// When.
    pub at: WallTime,
    /// Why, for a person; may be empty.
    pub reason: String,
    /// Tasks that were unfinished when the Star shut down; 0 for every other change.
    pub abandoned_tasks: u64,
}

/// A change of state that a life does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a Star does not go from {from} to {to}")]
pub struct TransitionRefused {
    /// The state it is in.
    pub from: LifecycleState,
    /// The state it was to go to.
    pub to: LifecycleState,
}

/// Whether a Star may go from one state to another.
pub const fn check_transition(from: LifecycleState, to: LifecycleState) -> Result<(), TransitionRefused> {
    use LifecycleState::{Draining, Registered, Scheduled, Shutdown};
    match (from, to) {
        (Registered, Scheduled) | (Scheduled, Draining) => Ok(()),
        // By force: nothing has to be finished first.
        (Registered | Scheduled | Draining, Shutdown) => Ok(()),
        // The cancelled drain, and the only way back.
        (Draining, Registered) => Ok(()),
        (Registered, Registered | Draining)
        | (Scheduled, Registered | Scheduled)
        | (Draining, Scheduled | Draining)
        | (Shutdown, Registered | Scheduled | Draining | Shutdown) => Err(TransitionRefused { from, to }),
    }
}
