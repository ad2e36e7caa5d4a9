//! The one place where programs read clocks. Cores and patterns get the time as an argument.
//!
//! The monotonic clock is that of the runtime, which is the system's unless a simulation controls it.

use std::time::SystemTime;

use orbit_shared::time::{Monotonic, Now, WallTime};
use tokio::time::Instant;

/// Both clocks. The monotonic time is counted from the creation of this value, so no global state is needed.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started_at: Instant,
}

impl Clock {
    /// A clock whose monotonic time is zero now.
    pub fn start() -> Self {
        Self { started_at: Instant::now() }
    }

    /// The current time on both clocks.
    pub fn now(&self) -> Now {
        Now { monotonic: Monotonic::from_elapsed(self.started_at.elapsed()), wall: wall() }
    }

    /// The instant of a monotonic time, for a timer. `None` if it is too far away to be represented.
    pub fn instant(&self, at: Monotonic) -> Option<Instant> {
        self.started_at.checked_add(at.elapsed())
    }
}

/// The current time on the monotonic clock, for durations and timeouts.
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock time, for records.
#[expect(clippy::disallowed_methods, reason = "shells read the clock here; cores get time passed in")]
pub fn wall() -> WallTime {
    WallTime::from(SystemTime::now())
}
