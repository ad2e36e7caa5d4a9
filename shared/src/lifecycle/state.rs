//! The states of a Star's lifecycle, and the transitions between them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::WallTime;
use crate::words::StarId;

/// Maximum length of an event's reason, in bytes. A longer one is cut with a mark.
pub const REASON_BYTES_MAX: usize = 1024;

/// The state of a Star in its lifecycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LifecycleState {
    /// Known, and not given work yet.
    Registered,
    /// Given work.
    Scheduled,
    /// Finishes its work and gets no more.
    Draining,
    /// Gone for good.
    Shutdown,
}

impl LifecycleState {
    /// All states, in order.
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

    /// Whether a Star in this state can be given work.
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
    /// The Star.
    pub star_id: StarId,
    /// The state before.
    pub from: LifecycleState,
    /// The state after.
    pub to: LifecycleState,
    /// When.
    pub at: WallTime,
    /// The reason as text; may be empty.
    pub reason: String,
    /// Tasks that were unfinished when the Star shut down; 0 for every other change.
    pub abandoned_tasks: u64,
}

/// A transition that the lifecycle does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a Star does not go from {from} to {to}")]
pub struct TransitionRefused {
    /// The current state.
    pub from: LifecycleState,
    /// The requested state.
    pub to: LifecycleState,
}

/// Whether a Star can go from one state to another.
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
