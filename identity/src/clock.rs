//! The one place of this crate that reads a clock. Certificates and tokens end by wall clock, in seconds since 1970.

use std::time::UNIX_EPOCH;

/// The present, in seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "what is signed here ends by wall clock; deciders are given the result"
)]
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The same in milliseconds: a token that is made right after a revocation is told from one that was made before.
#[expect(clippy::disallowed_methods, reason = "as above")]
pub fn now_in_milliseconds() -> i64 {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
