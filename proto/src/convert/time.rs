//! Durations and times.

use std::time::Duration;

use orbit_shared::time::WallTime;

use super::ConvertError;

/// The longest duration that protobuf allows, about 10,000 years.
const DURATION_SECONDS_MAX: u64 = 315_576_000_000;
const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// A duration for the wire; one longer than protobuf allows becomes the longest that it does.
pub fn duration_to_wire(duration: Duration) -> prost_types::Duration {
    let capped = duration.min(Duration::from_secs(DURATION_SECONDS_MAX));
    prost_types::Duration {
        seconds: capped.as_secs().cast_signed(),
        nanos: capped.subsec_nanos().cast_signed(),
    }
}

/// A duration from the wire; `field` names it in the error.
///
/// # Errors
/// It is negative, longer than protobuf allows, or its nanoseconds are a second or more.
pub fn duration_from_wire(field: &str, duration: &prost_types::Duration) -> Result<Duration, ConvertError> {
    let problem = |text: &str| ConvertError::new(field, text);
    let seconds = u64::try_from(duration.seconds).map_err(|_| problem("is negative"))?;
    let nanos = u32::try_from(duration.nanos).map_err(|_| problem("is negative"))?;
    if nanos >= NANOS_PER_SECOND {
        return Err(problem("has nanoseconds of a second or more"));
    }
    let value = Duration::new(seconds, nanos);
    if value > Duration::from_secs(DURATION_SECONDS_MAX) { Err(problem("is too long")) } else { Ok(value) }
}

/// A time for the wire.
pub fn timestamp_to_wire(time: WallTime) -> prost_types::Timestamp {
    // A WallTime's nanoseconds are less than a second, so they fit.
    prost_types::Timestamp { seconds: time.seconds, nanos: time.nanos.cast_signed() }
}

/// A time from the wire; `field` names it in the error.
///
/// Seconds are taken as they are: files carry times outside the years 1 to 9999.
///
/// # Errors
/// Its nanoseconds are negative, or a second or more.
pub fn timestamp_from_wire(field: &str, time: &prost_types::Timestamp) -> Result<WallTime, ConvertError> {
    u32::try_from(time.nanos)
        .ok()
        .and_then(|nanos| WallTime::new(time.seconds, nanos))
        .ok_or_else(|| ConvertError::new(field, "has nanoseconds that are not 0 to 999,999,999"))
}
