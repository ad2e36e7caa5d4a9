//! Sizes and times in the notation of people: one grammar for every command line, variable and file of the grid's
//! programs.

use std::time::Duration;

/// Parses a size in bytes: a number with `K`, `M`, `G`, `T` (or `KiB`, ...) for powers of 1024, `kB`, `MB`, ... for powers of 1000,
/// nothing or `B` for bytes.
///
/// # Errors
/// A sentence that shows what a size looks like.
pub fn size(text: &str) -> Result<u64, String> {
    let refused = || format!("{text:?} is not a size; write for example 512K, 10M, 1.5GiB or 20MB");
    let (number, unit) = split(text).ok_or_else(refused)?;
    let factor: f64 = match unit.to_ascii_lowercase().as_str() {
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
    // A float is exact enough below that; the wire cannot carry more than an i64.
    if bytes < i64::MAX as f64 { Ok(bytes.round() as u64) } else { Err(refused()) }
}

/// Parses a duration: a number with `ms`, `s`, `m`, `h`, `d` or `w`; seconds without a unit.
///
/// # Errors
/// A sentence that shows what a duration looks like.
pub fn duration(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text:?} is not a duration; write for example 500ms, 30s, 5m, 2h or 7d");
    let (number, unit) = split(text).ok_or_else(refused)?;
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        "w" => 7.0 * 86_400.0,
        _ => return Err(refused()),
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|_| refused())
}

/// Parses an age: a duration that must have a unit, since `3` hardly ever means three seconds.
///
/// # Errors
/// A sentence that shows what an age looks like.
pub fn age(text: &str) -> Result<Duration, String> {
    match split(text) {
        Some((_, "")) => Err(format!("{text:?} has no unit; write {text}d for days, {text}h for hours")),
        Some(_) | None => duration(text),
    }
}

/// A number, and what follows it.
fn split(text: &str) -> Option<(f64, &str)> {
    let unit_at =
        text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_or_decimal() {
        let cases =
            [("4096", 4096), ("512K", 512 << 10), ("4MiB", 4 << 20), ("1.5G", 3 << 29), ("20MB", 20_000_000)];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "-1", "10X", "1.2.3M", "1e99", "99999999T", "inf", "NaN"] {
            assert!(size(text).is_err_and(|problem| problem.contains("10M")), "{text}");
        }
    }

    #[test]
    fn durations_are_seconds_unless_they_have_a_unit() {
        let cases = [
            ("250ms", 250),
            ("30", 30_000),
            ("1.5s", 1500),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
        ];
        for (text, ms) in cases {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1s", "5 weeks", "1e400"] {
            assert!(duration(text).is_err_and(|problem| problem.contains("30s")), "{text}");
        }
    }

    #[test]
    fn an_age_needs_a_unit() {
        assert_eq!(age("3d"), duration("3d"));
        assert_eq!(age("3").unwrap_err(), "\"3\" has no unit; write 3d for days, 3h for hours");
    }
}
