//! The session as the core sees it: when to connect, when to send a heartbeat, when the lease is over.

use std::time::Duration;

use orbit_shared::time::{Monotonic, Now};

/// The shortest wait before another attempt, before jitter.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// The longest one.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// How long an attempt may take until its welcome.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);

const _: () = assert!(BACKOFF_MIN.as_millis() < BACKOFF_MAX.as_millis());

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is open; the time says when to try again.
    Waiting { retry_at: Monotonic },
    /// An attempt is under way; the time says when it has failed.
    Greeting { welcome_by: Monotonic },
    /// The coordinator has said welcome.
    Welcomed { heartbeat_at: Monotonic, interval: Duration },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    state: State,
    /// Numbers the attempts; what an older one still says is not heard.
    session: u64,
    /// Failed attempts since the last welcome.
    attempts: u32,
    coordinator_count: usize,
    /// As the last welcome said; zero before the first.
    lease: Duration,
    /// When the work is somebody else's, while no session is open.
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

    /// Whether what comes from this session still counts.
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

    /// Starts an attempt; answers its number and which address to use.
    pub(super) fn connect(&mut self, now: Now) -> (u64, usize) {
        assert!(self.session().is_none(), "one session at a time: {self:?}");
        self.session += 1;
        self.state = State::Greeting { welcome_by: now.monotonic + WELCOME_TIMEOUT };
        // The same address first after a session that was good, then around.
        (self.session, self.attempts as usize % self.coordinator_count)
    }

    pub(super) fn welcome(&mut self, now: Now, interval: Duration, lease: Duration) {
        assert!(!self.is_welcomed(), "a session is welcomed once: {self:?}");
        // A peer's zero must not become a loop.
        let interval = interval.max(Duration::from_millis(10));
        self.attempts = 0;
        self.lease = lease;
        self.lease_end = None;
        self.state = State::Welcomed { heartbeat_at: now.monotonic, interval };
    }

    /// The session is gone; answers how long to wait.
    pub(super) fn lose(&mut self, now: Now) -> Duration {
        if self.is_welcomed() {
            self.lease_end = Some(now.monotonic + self.lease);
        }
        let delay = self.backoff();
        self.attempts = self.attempts.saturating_add(1);
        self.state = State::Waiting { retry_at: now.monotonic + delay };
        delay
    }

    /// Whether the lease has ended with this moment; true once.
    pub(super) fn end_lease(&mut self, now: Now) -> bool {
        let is_over = self.lease_end.is_some_and(|end| end <= now.monotonic);
        if is_over {
            self.lease_end = None;
        }
        is_over
    }

    /// Whether to send a heartbeat; if so, the next one is scheduled.
    pub(super) fn is_heartbeat_due(&mut self, now: Now) -> bool {
        match &mut self.state {
            State::Welcomed { heartbeat_at, interval } if *heartbeat_at <= now.monotonic => {
                *heartbeat_at = now.monotonic + *interval;
                true
            }
            State::Welcomed { .. } | State::Waiting { .. } | State::Greeting { .. } => false,
        }
    }

    /// The attempt that was not answered in time.
    pub(super) fn overdue_welcome(&self, now: Now) -> Option<u64> {
        match self.state {
            State::Greeting { welcome_by } if welcome_by <= now.monotonic => Some(self.session),
            State::Greeting { .. } | State::Waiting { .. } | State::Welcomed { .. } => None,
        }
    }

    pub(super) fn is_retry_due(&self, now: Now) -> bool {
        matches!(self.state, State::Waiting { retry_at } if retry_at <= now.monotonic)
    }

    /// Doubles with every failure; half of it is random, so that a thousand Stars do not come back at once.
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
