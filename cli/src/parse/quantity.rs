//! Rates, sizes, durations and times as they are written on a command line.

use orbit_shared::quantity::age;
pub(crate) use orbit_shared::quantity::{duration, size};
use orbit_shared::time::WallTime;
use prost_types::Timestamp;

/// Parses a rate in bytes a second: a size, with or without `/s`; `off` or `0` for no limit.
pub(crate) fn rate(text: &str) -> Result<i64, String> {
    if text == "off" {
        return Ok(0);
    }
    let per_second = text.strip_suffix("/s").or_else(|| text.strip_suffix("ps")).unwrap_or(text);
    let bytes = size(per_second)
        .map_err(|_| format!("{text:?} is not a rate; write for example 10M, 1.5GiB/s, 800kB/s, or off"))?;
    match i64::try_from(bytes) {
        // Rounding must not turn a very small limit into none.
        Ok(0) if !per_second.chars().all(|character| !('1'..='9').contains(&character)) => Ok(1),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(format!("{text:?} is too much")),
    }
}

/// As [`duration`], for the wire.
pub(crate) fn wire_duration(text: &str) -> Result<prost_types::Duration, String> {
    prost_types::Duration::try_from(duration(text)?).map_err(|_| format!("{text:?} is too long"))
}

/// Parses a time: RFC 3339, or how long ago as a duration.
pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    time_at(text, wall_now())
}

#[expect(
    clippy::disallowed_methods,
    reason = "an operator's `2h` counts from now; the shell of the program reads the clock"
)]
fn wall_now() -> WallTime {
    WallTime::from(std::time::SystemTime::now())
}

fn time_at(text: &str, now: WallTime) -> Result<Timestamp, String> {
    let is_number = text.parse::<f64>().is_ok();
    if is_number {
        age(text)?;
    }
    if let Ok(ago) = age(text) {
        let nanos = now.as_nanos() - i128::try_from(ago.as_nanos()).unwrap_or(i128::MAX);
        let seconds = i64::try_from(nanos.div_euclid(1_000_000_000))
            .map_err(|_| format!("{text:?} is too long ago"))?;
        let nanos = i32::try_from(nanos.rem_euclid(1_000_000_000)).expect("a remainder of a second fits");
        return Ok(Timestamp { seconds, nanos });
    }
    text.parse().map_err(|_| {
        format!("{text:?} is not a time; write for example 2026-02-03T04:05:06Z, or 2h for two hours ago")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_in_binary_and_decimal_units() {
        let cases = [
            ("1000", 1000),
            ("10M", 10 << 20),
            ("1.5GiB/s", 3 << 29),
            ("512k", 512 << 10),
            ("20MB/s", 20_000_000),
            ("800kB/s", 800_000),
            ("2 MiB/s", 2 << 20),
            ("1B/s", 1),
            ("0", 0),
            ("off", 0),
            ("0.1", 1),
        ];
        for (text, bytes) in cases {
            assert_eq!(rate(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_rate_is_refused_with_examples() {
        for text in ["", "M", "-1", "10X", "1.2.3M", "10M/h", "1e99", "99999999T", "inf", "NaN"] {
            assert!(rate(text).is_err_and(|problem| problem.contains("10M")), "{text}");
        }
    }

    #[test]
    fn times_are_absolute_or_ago() {
        let now = WallTime { seconds: 10_000, nanos: 5 };
        assert_eq!(time_at("1h", now), Ok(Timestamp { seconds: 6400, nanos: 5 }));
        assert_eq!(time_at("1970-01-01T00:01:00Z", now), Ok(Timestamp { seconds: 60, nanos: 0 }));
        assert!(time_at("yesterday", now).is_err());
        let problem = time_at("3", now).unwrap_err();
        assert!(problem.contains("3d") && problem.contains("no unit"), "{problem}");
    }
}
