//! Gates: the conditions that must hold before an item is dispatched, and the words that say which one does not.

use orbit_shared::time::Monotonic;

/// A condition that an item must pass before it is dispatched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// The job runs.
    JobState,
    /// Both Stars are scheduled.
    Lifecycle,
    /// Both Stars are heard.
    Liveness,
    /// The destination is not cordoned.
    Cordon,
    /// The destination's guard admits more.
    Guard,
    /// Neither the destination's root nor the way there fails as a whole.
    Yield,
    /// The item waits out no penalty.
    Penalty,
    /// The job's bandwidth limit leaves something.
    Bandwidth,
    /// Nothing goes before it.
    Order,
}

/// What holds an item or a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// By which gate.
    pub gate: Gate,
    /// The same in a sentence.
    pub explanation: String,
    /// When it opens, where that is a matter of time alone.
    pub opens_at: Option<Monotonic>,
}

impl Held {
    pub(super) fn new(gate: Gate, explanation: impl Into<String>) -> Self {
        Self { gate, explanation: explanation.into(), opens_at: None }
    }
}
