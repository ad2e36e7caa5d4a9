//! The session from the view of the core: when to connect, when to send a heartbeat, when the lease ends.

use std::time::Duration;

use orbit_shared::time::{Monotonic, Now};

/// Minimum pause before another attempt, before jitter.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// Maximum pause before another attempt, before jitter.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Timeout of an attempt, until its welcome.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);

const _: () = assert!(BACKOFF_MIN.as_millis() < BACKOFF_MAX.as_millis());

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No session is open. The time is that of the next attempt.
    Waiting { retry_at: Monotonic },
    /// An attempt is under way. The time is that at which it has failed.
    Greeting { welcome_by: Monotonic },
    /// The coordinator has sent its welcome.
    Welcomed { heartbeat_at: Monotonic, interval: Duration },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    state: State,
    /// Number of the last attempt. Messages of an older one are ignored.
    session: u64,
    /// Failed attempts since the last welcome.
    attempts: u32,
    coordinator_count: usize,
    /// The lease in the last welcome; zero before the first.
    lease: Duration,
    /// While no session is open: when the coordinator gives the work to another Star.
    lease_end: Option<Monotonic>,
    random: u64,
}

impl Link {
    pub(super) fn new(seed: u64, coordinator_count: usize) -> Self {
        Self {
            state: State::Waiting { retry_at: Monotonic::ZERO },
            session: 0,
            attempts: 0,
            coordinator_count,
            lease: Duration::ZERO,
            lease_end: None,
            random: seed,
        }
    }

    pub(super) fn is_welcomed(&self) -> bool {
        matches!(self.state, State::Welcomed { .. })
    }

    /// Whether messages of this session still count.
    pub(super) fn is_current(&self, session: u64) -> bool {
        self.session() == Some(session)
    }

    /// The session that is open or being opened.
    pub(super) fn session(&self) -> Option<u64> {
        match self.state {
            State::Waiting { .. } => None,
            State::Greeting { .. } | State::Welcomed { .. } => Some(self.session),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        let by_state = match self.state {
            State::Waiting { retry_at } => retry_at,
            State::Greeting { welcome_by } => welcome_by,
            State::Welcomed { heartbeat_at, .. } => heartbeat_at,
        };
        Some(self.lease_end.map_or(by_state, |end| end.min(by_state)))
    }

    /// Starts an attempt. Returns its number and the index of the address to use.
    pub(super) fn connect(&mut self, now: Now) -> (u64, usize) {
        assert!(self.session().is_none(), "one session at a time: {self:?}");
        self.session += 1;
        self.state = State::Greeting { welcome_by: now.monotonic + WELCOME_TIMEOUT };
        // After a good session the same address comes first, then the others in turn.
        (self.session, self.attempts as usize % self.coordinator_count)
    }

    pub(super) fn welcome(&mut self, now: Now, interval: Duration, lease: Duration) {
        assert!(!self.is_welcomed(), "a session is welcomed once: {self:?}");
        // A zero from the peer must not cause a busy loop.
        let interval = interval.max(Duration::from_millis(10));
        self.attempts = 0;
        self.lease = lease;
        self.lease_end = None;
        self.state = State::Welcomed { heartbeat_at: now.monotonic, interval };
    }

    /// The session has ended. Returns how long to wait.
    pub(super) fn lose(&mut self, now: Now) -> Duration {
        if self.is_welcomed() {
            self.lease_end = Some(now.monotonic + self.lease);
        }
        let delay = self.backoff();
        self.attempts = self.attempts.saturating_add(1);
        self.state = State::Waiting { retry_at: now.monotonic + delay };
        delay
    }

    /// Whether the lease has ended by now; true only once.
    pub(super) fn end_lease(&mut self, now: Now) -> bool {
        let is_over = self.lease_end.is_some_and(|end| end <= now.monotonic);
        if is_over {
            self.lease_end = None;
        }
        is_over
    }

    /// Whether to send a heartbeat now. If so, the next one is scheduled.
    pub(super) fn is_heartbeat_due(&mut self, now: Now) -> bool {
        match &mut self.state {
            State::Welcomed { heartbeat_at, interval } if *heartbeat_at <= now.monotonic => {
                *heartbeat_at = now.monotonic + *interval;
                true
            }
            State::Welcomed { .. } | State::Waiting { .. } | State::Greeting { .. } => false,
        }
    }

    /// The attempt that got no welcome in time.
    pub(super) fn overdue_welcome(&self, now: Now) -> Option<u64> {
        match self.state {
            State::Greeting { welcome_by } if welcome_by <= now.monotonic => Some(self.session),
            State::Greeting { .. } | State::Waiting { .. } | State::Welcomed { .. } => None,
        }
    }

    pub(super) fn is_retry_due(&self, now: Now) -> bool {
        matches!(self.state, State::Waiting { retry_at } if retry_at <= now.monotonic)
    }

    /// Doubles with every failure. Half of it is random, so that a thousand Stars do not reconnect at the same time.
    fn backoff(&mut self) -> Duration {
        let full = BACKOFF_MIN.saturating_mul(1 << self.attempts.min(16)).min(BACKOFF_MAX);
        let half = full / 2;
        let share = self.draw() % 1024;
        let delay = half + half.saturating_mul(u32::try_from(share).unwrap_or(0)) / 1024;
        assert!(delay >= BACKOFF_MIN / 2 && delay <= BACKOFF_MAX, "backoff out of its range: {delay:?}");
        delay
    }

    /// SplitMix64, by Steele, Lea and Flood.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn check(&self) {
        assert!(self.lease_end.is_none() || !self.is_welcomed(), "a lease ends during its session: {self:?}");
        assert!(self.attempts == 0 || !self.is_welcomed(), "a welcome forgets failed attempts: {self:?}");
        assert!(self.session > 0 || self.session().is_none(), "sessions count from 1: {self:?}");
    }
}
