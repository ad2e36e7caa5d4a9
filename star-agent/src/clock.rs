//! The one place where the Star reads clocks. Everything else gets the time passed in.
//!
//! The monotonic one is the runtime's, which is the system's unless a simulation moves it.

use std::time::SystemTime;

use orbit_shared::time::{Monotonic, Now, WallTime};
use tokio::time::Instant;

/// Both clocks, the monotonic one counted from the start of this value, so that nothing global is needed.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock whose monotonic time is zero now.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// The present moment.
    #[expect(clippy::disallowed_methods, reason = "the shell reads the clock; the core gets time passed in")]
    pub fn now(&self) -> Now {
        Now {
            monotonic: Monotonic::from_elapsed(self.started.elapsed()),
            wall: WallTime::from(SystemTime::now()),
        }
    }
}

/// The present moment on the monotonic clock, for durations and time-outs of the data plane.
pub fn now() -> Instant {
    Instant::now()
}

/// The civil time, for records.
#[expect(clippy::disallowed_methods, reason = "the shell reads the clock; the core gets time passed in")]
pub fn wall() -> WallTime {
    WallTime::from(SystemTime::now())
}
