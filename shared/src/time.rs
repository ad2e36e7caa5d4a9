//! Time in the pure parts of the grid: an argument, never read from a clock.
//!
//! Two clocks that must not be mixed have two types. [`Monotonic`] orders events and measures durations in one process.
//! [`WallTime`] is for people and for records; no decision depends on the agreement of two machines' wall clocks.

use std::fmt;
use std::ops::Add;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A point on one process's monotonic clock: the time since that process started its clock.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Monotonic(Duration);

impl Monotonic {
    /// The moment the clock started.
    pub const ZERO: Self = Self(Duration::ZERO);
    /// A moment that is never reached.
    pub const NEVER: Self = Self(Duration::MAX);

    /// The point `elapsed` after the clock started.
    pub const fn from_elapsed(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// The point `ms` milliseconds after the clock started.
    pub const fn from_ms(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// Time since the clock started.
    pub const fn elapsed(self) -> Duration {
        self.0
    }

    /// Time since `earlier`; zero if that is in the future.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Monotonic {
    type Output = Self;

    /// Saturates at [`Monotonic::NEVER`].
    fn add(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(delay))
    }
}

/// A point in wall clock time with nanosecond resolution, as seconds and nanoseconds since the Unix epoch.
///
/// Nanoseconds count forward from `seconds`, also before 1970, exactly as in `struct timespec` and protobuf's
/// `Timestamp`. Files can have times far outside the range of `SystemTime` arithmetic.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WallTime {
    /// Whole seconds since 1970-01-01T00:00:00Z; negative before it.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

impl WallTime {
    /// The start of 1970 in UTC.
    pub const UNIX_EPOCH: Self = Self { seconds: 0, nanos: 0 };

    /// A time from its parts, or `None` when `nanos` is a second or more.
    pub const fn new(seconds: i64, nanos: u32) -> Option<Self> {
        if nanos < 1_000_000_000 { Some(Self { seconds, nanos }) } else { None }
    }

    /// The point `ms` milliseconds after the epoch.
    pub const fn from_unix_ms(ms: u64) -> Self {
        Self { seconds: (ms / 1000) as i64, nanos: (ms % 1000) as u32 * 1_000_000 }
    }

    /// Time since `earlier`; zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        let nanos = self.as_nanos() - earlier.as_nanos();
        u64::try_from(nanos.max(0)).map_or(Duration::MAX, Duration::from_nanos)
    }

    /// Nanoseconds since the epoch, negative before it. Every `WallTime` fits.
    pub const fn as_nanos(self) -> i128 {
        self.seconds as i128 * 1_000_000_000 + self.nanos as i128
    }
}

impl fmt::Display for WallTime {
    /// The time in UTC to the second, as `2026-11-30T17:02:37Z`. The day is computed as in "chrono-Compatible Low-Level
    /// Date Algorithms" by Howard Hinnant.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.seconds.div_euclid(86_400), self.seconds.rem_euclid(86_400));
        let shifted = days.saturating_add(719_468);
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

impl From<SystemTime> for WallTime {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self {
                seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                nanos: after.subsec_nanos(),
            },
            Err(error) => {
                let before = error.duration();
                let seconds = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                match before.subsec_nanos() {
                    0 => Self { seconds, nanos: 0 },
                    nanos => Self { seconds: seconds.saturating_sub(1), nanos: 1_000_000_000 - nanos },
                }
            }
        }
    }
}

impl Add<Duration> for WallTime {
    type Output = Self;

    /// Saturates at the end of representable time.
    fn add(self, delay: Duration) -> Self {
        let nanos = self.nanos + delay.subsec_nanos();
        let carry = i64::from(nanos >= 1_000_000_000);
        let seconds = i64::try_from(delay.as_secs()).unwrap_or(i64::MAX);
        Self {
            seconds: self.seconds.saturating_add(seconds).saturating_add(carry),
            nanos: nanos % 1_000_000_000,
        }
    }
}

/// Both clocks, read at the same moment by the driver and passed to a core.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For every decision.
    pub monotonic: Monotonic,
    /// For every record.
    pub wall: WallTime,
}

impl Now {
    /// The time `ms` after both clocks' zero, for tests and simulations.
    pub const fn from_ms(ms: u64) -> Self {
        Self { monotonic: Monotonic::from_ms(ms), wall: WallTime::from_unix_ms(ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_in_utc() {
        let shown = |seconds| WallTime { seconds, nanos: 5 }.to_string();
        assert_eq!(shown(0), "1970-01-01T00:00:00Z");
        assert_eq!(shown(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(shown(1_796_058_157), "2026-11-30T17:02:37Z");
        assert_eq!(shown(-1), "1969-12-31T23:59:59Z");
        assert_eq!(shown(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn monotonic_arithmetic_saturates_at_both_ends() {
        assert_eq!(Monotonic::NEVER + Duration::from_secs(1), Monotonic::NEVER);
        assert_eq!(Monotonic::ZERO.since(Monotonic::from_ms(5)), Duration::ZERO);
        assert_eq!(Monotonic::from_ms(7).since(Monotonic::from_ms(5)), Duration::from_millis(2));
    }

    #[test]
    fn wall_time_before_1970_counts_nanoseconds_forward() {
        let time = WallTime::from(UNIX_EPOCH - Duration::from_millis(1));
        assert_eq!(time, WallTime { seconds: -1, nanos: 999_000_000 });
        assert_eq!(time + Duration::from_millis(1), WallTime::UNIX_EPOCH);
    }

    #[test]
    fn wall_time_orders_like_its_nanoseconds() {
        let early = WallTime { seconds: 5, nanos: 999_999_999 };
        let late = WallTime { seconds: 6, nanos: 0 };
        assert!(early < late && early.as_nanos() < late.as_nanos());
        assert_eq!(late.since(early), Duration::from_nanos(1));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
