//! Numbers, sizes and times as people read them.

use std::time::Duration;

use orbit_shared::entry::plain_text;
use prost_types::Timestamp;

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// A size in binary units: `56.7 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 1;
    // 1023.95 would be shown as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A rate: `12.3 MiB/s`.
pub(crate) fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", bytes(bytes_per_second))
}

/// A number with its thousands set apart: `1,234`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number and what it counts: `1 item`, `1,234 items`.
pub(crate) fn count_of(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// How many files changed while they were read, and what became of them.
pub(crate) fn changed_while_read(count: u64) -> String {
    match count {
        1 => "1 file changed while it was read and is stored as it was read".to_owned(),
        _ => format!(
            "{} files changed while they were read and are stored as they were read",
            self::count(count)
        ),
    }
}

/// How many mount points were not entered, and the first of them; empty if there are none.
pub(crate) fn skipped_mounts(count: u64, examples: &[String]) -> String {
    let more = if count > examples.len() as u64 { ", ..." } else { "" };
    match count {
        0 => String::new(),
        _ => format!("{} ({}{more})", count_of(count, "mount point"), plain(&examples.join(", "))),
    }
}

/// A duration with as much precision as matters: `0.04 s`, `3.2 s`, `4 min 05 s`, `2 h 07 min`, `3 d 04 h`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.995 {
        return format!("{seconds:.2} s");
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let seconds = seconds.round() as u64;
    match seconds {
        0..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A wire duration; nothing for one that is absent or negative.
pub(crate) fn wire_duration(wire: Option<&prost_types::Duration>) -> Option<Duration> {
    wire.and_then(|wire| Duration::try_from(*wire).ok())
}

/// A time in UTC to the second: `2026-02-03 04:05:06Z`; nothing for one that is absent.
pub(crate) fn time(time: Option<&Timestamp>) -> String {
    let Some(time) = time else { return String::new() };
    Timestamp { seconds: time.seconds, nanos: 0 }.to_string().replacen('T', " ", 1)
}

/// From one time to another; `None` when one is absent or they are the wrong way round.
pub(crate) fn between(start: Option<&Timestamp>, end: Option<&Timestamp>) -> Option<Duration> {
    let nanos = |time: &Timestamp| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let nanos = nanos(end?) - nanos(start?);
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

/// Text without characters that a terminal would act on or hide, whose bytes become `\xNN`.
pub(crate) fn plain(text: &str) -> String {
    plain_text(text)
}

/// `yes` or nothing, for a column that is mostly empty.
pub(crate) fn flag(is_set: bool) -> String {
    if is_set { "yes".to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_change_their_unit_before_they_show_1024() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (59_454_259, "56.7 MiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (size, text) in cases {
            assert_eq!(bytes(size), text);
        }
        assert_eq!(rate(2048), "2.0 KiB/s");
    }

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1234, "1,234"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!((count_of(1, "item"), count_of(0, "item")), ("1 item".into(), "0 items".into()));
    }

    #[test]
    fn durations_show_what_matters() {
        let cases = [
            (42, "0.04 s"),
            (999, "1.0 s"),
            (3_240, "3.2 s"),
            (59_960, "1 min 00 s"),
            (245_000, "4 min 05 s"),
            (7_620_000, "2 h 07 min"),
            (273_600_000, "3 d 04 h"),
        ];
        for (ms, text) in cases {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn times_are_utc_to_the_second() {
        let noon = Timestamp { seconds: 1_770_091_506, nanos: 987_654_321 };
        assert_eq!(time(Some(&noon)), "2026-02-03 04:05:06Z");
        assert_eq!(time(None), "");
        let later = Timestamp { seconds: noon.seconds + 1, nanos: 0 };
        assert_eq!(between(Some(&noon), Some(&later)), Some(Duration::from_nanos(12_345_679)));
        assert_eq!(between(Some(&later), Some(&noon)), None);
    }
}
