//! Rates, sizes, durations and times as they are written on a command line.

use std::time::Duration;

use orbit_shared::time::WallTime;
use prost_types::Timestamp;

/// Parses a size: a number with `K`, `M`, `G`, `T` (or `KiB`, ...) for powers of 1024, `kB`, `MB`, ... for powers of 1000,
/// nothing or `B` for bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let refused = || format!("{text:?} is no size; write for example 512K, 10M, 1.5GiB or 20MB");
    let unit_at =
        text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.parse().map_err(|_| refused())?;
    let factor: f64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "ki" | "kib" => 1024.0,
        "m" | "mi" | "mib" => 1024.0 * 1024.0,
        "g" | "gi" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "t" | "ti" | "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        _ => return Err(refused()),
    };
    let bytes = number * factor;
    // Far below the end of exact integers in a float would be pedantry; beyond i64 the wire cannot carry it.
    if bytes < i64::MAX as f64 { Ok(bytes.round() as u64) } else { Err(refused()) }
}

/// Parses a rate in bytes a second: a size, with or without `/s`; `off` or `0` for no limit.
pub(crate) fn rate(text: &str) -> Result<i64, String> {
    if text == "off" {
        return Ok(0);
    }
    let per_second = text.strip_suffix("/s").or_else(|| text.strip_suffix("ps")).unwrap_or(text);
    let bytes = size(per_second)
        .map_err(|_| format!("{text:?} is no rate; write for example 10M, 1.5GiB/s, 800kB/s, or off"))?;
    match i64::try_from(bytes) {
        // Rounding must not turn a very small limit into none.
        Ok(0) if !per_second.chars().all(|character| !('1'..='9').contains(&character)) => Ok(1),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(format!("{text:?} is too much")),
    }
}

/// Parses a duration: a number with `ms`, `s`, `m`, `h` or `d`; seconds without a unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text:?} is no duration; write for example 500ms, 30s, 5m, 2h or 7d");
    let unit_at =
        text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.parse().map_err(|_| refused())?;
    let seconds = match unit.trim_start() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(refused()),
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|_| refused())
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
    if let Ok(ago) = duration(text) {
        let nanos = now.as_nanos() - i128::try_from(ago.as_nanos()).unwrap_or(i128::MAX);
        let seconds = i64::try_from(nanos.div_euclid(1_000_000_000))
            .map_err(|_| format!("{text:?} is too long ago"))?;
        let nanos = i32::try_from(nanos.rem_euclid(1_000_000_000)).expect("a remainder of a second fits");
        return Ok(Timestamp { seconds, nanos });
    }
    text.parse().map_err(|_| {
        format!("{text:?} is no time; write for example 2026-02-03T04:05:06Z, or 2h for two hours ago")
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
    fn durations_are_seconds_unless_they_say_otherwise() {
        let cases = [("250ms", 250), ("30", 30_000), ("1.5s", 1500), ("5m", 300_000), ("2h", 7_200_000)];
        for (text, ms) in cases {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1s", "5 weeks", "1e400"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_absolute_or_ago() {
        let now = WallTime { seconds: 10_000, nanos: 5 };
        assert_eq!(time_at("1h", now), Ok(Timestamp { seconds: 6400, nanos: 5 }));
        assert_eq!(time_at("1970-01-01T00:01:00Z", now), Ok(Timestamp { seconds: 60, nanos: 0 }));
        assert!(time_at("yesterday", now).is_err());
    }
}
