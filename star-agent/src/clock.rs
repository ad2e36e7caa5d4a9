//! The one place where the Star reads clocks. All other code gets the time as an argument.
//!
//! The monotonic clock is that of the runtime, which is the system's unless a simulation controls it.

use std::time::SystemTime;

use orbit_shared::time::{Monotonic, Now, WallTime};
use tokio::time::Instant;

/// Both clocks. The monotonic time is counted from the creation of this value, so no global state is needed.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock whose monotonic time is zero now.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// The current time on both clocks.
    #[expect(clippy::disallowed_methods, reason = "the shell reads the clock; the core gets time passed in")]
    pub fn now(&self) -> Now {
        Now {
            monotonic: Monotonic::from_elapsed(self.started.elapsed()),
            wall: WallTime::from(SystemTime::now()),
        }
    }
}

/// The current time on the monotonic clock, for durations and timeouts of the data plane.
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock time, for records.
#[expect(clippy::disallowed_methods, reason = "the shell reads the clock; the core gets time passed in")]
pub fn wall() -> WallTime {
    WallTime::from(SystemTime::now())
}
