//! The one place of this crate that reads a clock. Certificates and tokens expire by wall clock, in seconds since 1970.

use std::time::UNIX_EPOCH;

/// The current time, in seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "what is signed here ends by wall clock; deciders are given the result"
)]
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The current time in milliseconds, so that a token made right after a revocation differs from one made before it.
#[expect(clippy::disallowed_methods, reason = "as above")]
pub fn now_in_milliseconds() -> i64 {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
