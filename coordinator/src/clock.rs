//! The coordinator's clocks: the only place that reads them.
//!
//! The monotonic one is the runtime's, which is the system's unless a simulation moves it.

use std::time::SystemTime;

use orbit_shared::time::{Monotonic, Now};
use tokio::time::Instant;

/// Both clocks; the monotonic one starts when this is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started_at: Instant,
}

impl Clock {
    /// Starts the monotonic clock.
    pub(crate) fn start() -> Self {
        Self { started_at: Instant::now() }
    }

    /// Reads both clocks.
    #[expect(clippy::disallowed_methods, reason = "the one place where the coordinator's clocks are read")]
    pub(crate) fn now(&self) -> Now {
        Now { monotonic: Monotonic::from_elapsed(self.started_at.elapsed()), wall: SystemTime::now().into() }
    }

    /// When a point of the monotonic clock is, for a timer.
    pub(crate) fn instant(&self, at: Monotonic) -> Option<Instant> {
        self.started_at.checked_add(at.elapsed())
    }
}
