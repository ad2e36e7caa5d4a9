//! Everything that `orbit schedule edit` can change, by the names of its flags and in their spelling, exactly: two values that
//! differ are never shown alike.

use orbit_proto::v1::{BandwidthWindow, Compare, JobSpec, Layout, Mode, Schedule, ScheduleTimes};
use orbit_shared::entry::display_path;
use prost_types::{Duration, Timestamp};

use crate::parse::location;
use crate::vocabulary::Vocabulary;

/// What differs between two states of a schedule: the name of the flag, and `old -> new`.
pub(super) fn changes(before: &Schedule, after: &Schedule) -> Vec<(&'static str, String)> {
    let pairs = settings(before).into_iter().zip(settings(after));
    let differing = pairs.filter(|((_, old), (_, new))| old != new);
    differing.map(|((name, old), (_, new))| (name, format!("{} -> {}", shown(&old), shown(&new)))).collect()
}

fn shown(value: &str) -> &str {
    if value.is_empty() { "none" } else { value }
}

/// One value, in quotes if it could be taken for another one, for several, or for none.
fn one(value: &str) -> String {
    let is_taken_for_more = |c: char| c == '"' || c.is_whitespace() || c.is_control();
    match value {
        "" | "none" | "->" => format!("{value:?}"),
        _ if value.contains(is_taken_for_more) => format!("{value:?}"),
        _ => value.to_owned(),
    }
}

fn list(values: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    values.into_iter().map(|value| one(value.as_ref())).collect::<Vec<_>>().join(" ")
}

/// All settings, always in the same order; empty for none.
fn settings(schedule: &Schedule) -> Vec<(&'static str, String)> {
    let spec = schedule.spec.clone().unwrap_or_default();
    let from = list(spec.source.as_ref().map(location::display));
    let to = list(spec.destinations.iter().map(location::display));
    let mut all = vec![
        ("times", schedule.times.as_ref().map(times).unwrap_or_default()),
        ("from", from),
        ("to", to),
        ("layout", if spec.layout() == Layout::Packed { "packed" } else { "files" }.to_owned()),
        ("tag", list(&spec.tags)),
    ];
    all.extend(mirror(&spec));
    all.extend(selection(&spec));
    all.extend(penalty(&spec));
    all
}

fn mirror(spec: &JobSpec) -> [(&'static str, String); 3] {
    let policy = spec.mirror.clone().unwrap_or_default();
    let percent = policy.max_delete_percent.map(|percent| percent.to_string());
    [
        ("mirror", yes(spec.mode() == Mode::Mirror)),
        ("max-delete", percent.unwrap_or_default()),
        ("trash", list(Some(policy.trash_directory).filter(|name| !name.is_empty()))),
    ]
}

fn selection(spec: &JobSpec) -> Vec<(&'static str, String)> {
    let prioritizers = Vocabulary::of("Prioritizer");
    let order = spec.prioritizers.iter().map(|&criterion| prioritizers.word(criterion));
    let paths = spec.paths.iter().map(|path| display_path(path));
    let min_size = (spec.min_size_bytes > 0).then_some(spec.min_size_bytes);
    vec![
        ("include", list(&spec.include)),
        ("exclude", list(&spec.exclude)),
        ("files-from", list(paths)),
        ("checksum", yes(spec.compare() == Compare::Content)),
        ("one-file-system", yes(spec.one_file_system)),
        ("min-size", min_size.map(size).unwrap_or_default()),
        ("max-size", spec.max_size_bytes.map(size).unwrap_or_default()),
        ("max-age", spec.min_modify_time.as_ref().map(Timestamp::to_string).unwrap_or_default()),
        ("min-age", spec.max_modify_time.as_ref().map(Timestamp::to_string).unwrap_or_default()),
        ("bwlimit", rate(spec.max_bytes_per_second)),
        ("bwlimit-at", list(spec.bandwidth_windows.iter().map(window))),
        ("prioritizer", list(order)),
        ("dead-letter-max", spec.dead_letter_max.to_string()),
    ]
}

fn penalty(spec: &JobSpec) -> [(&'static str, String); 4] {
    let policy = spec.penalty.unwrap_or_default();
    [
        ("max-penalties", policy.max_penalties.map(|max| max.to_string()).unwrap_or_default()),
        ("initial-delay", policy.initial_delay.as_ref().map(duration).unwrap_or_default()),
        ("max-delay", policy.max_delay.as_ref().map(duration).unwrap_or_default()),
        ("backoff-factor", policy.backoff_factor.to_string()),
    ]
}

fn yes(is_so: bool) -> String {
    if is_so { "yes".to_owned() } else { String::new() }
}

fn times(times: &ScheduleTimes) -> String {
    match &times.interval {
        Some(interval) => format!("every {}", duration(interval)),
        None => format!("{} UTC", times.daily_times.join(" ")),
    }
}

fn window(window: &BandwidthWindow) -> String {
    let rate = match window.max_bytes_per_second {
        0 => "off".to_owned(),
        limit => rate(limit),
    };
    format!("{}-{}={rate}", window.start, window.end)
}

/// Empty for no limit.
fn rate(bytes_per_second: i64) -> String {
    match u64::try_from(bytes_per_second) {
        Ok(0) | Err(_) => String::new(),
        Ok(limit) => format!("{}/s", size(limit)),
    }
}

/// In the largest unit of which it is a whole number: `10MiB`, `1025B`.
fn size(bytes: u64) -> String {
    let units = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

/// In the largest unit of which it is a whole number: `6h`, `90s`.
fn duration(duration: &Duration) -> String {
    let units = [("d", 86_400), ("h", 3600), ("m", 60)];
    let seconds = duration.seconds;
    match units.iter().find(|(_, unit)| duration.nanos == 0 && seconds > 0 && seconds % unit == 0) {
        Some((name, unit)) => format!("{}{name}", seconds / unit),
        None => duration.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use orbit_shared::quantity;

    use super::*;

    #[test]
    fn a_list_is_shown_like_no_other() {
        let excluding = |globs: &[&str]| {
            let exclude = globs.iter().map(|&glob| glob.to_owned()).collect();
            Schedule { spec: Some(JobSpec { exclude, ..JobSpec::default() }), ..Schedule::default() }
        };
        for (before, after, expected) in [
            (&["a", "b"][..], &["a b"][..], r#"a b -> "a b""#),
            (&[], &["none"], r#"none -> "none""#),
            (&["a b"], &[r#""a b""#], r#""a b" -> "\"a b\"""#),
            (&["a"], &["a", ""], r#"a -> a """#),
        ] {
            let changes = changes(&excluding(before), &excluding(after));
            assert_eq!(changes, [("exclude", expected.to_owned())]);
        }
        assert_eq!(list(["*.tmp", "Ä*", "a\\b"]), "*.tmp Ä* a\\b", "what is clear stays as it is");
    }

    #[test]
    fn sizes_and_durations_are_exact_and_can_be_given_to_the_flags() {
        for (bytes, text) in
            [(0, "0B"), (1025, "1025B"), (1 << 20, "1MiB"), (5 << 40, "5TiB"), (3 << 10, "3KiB")]
        {
            assert_eq!((size(bytes).as_str(), quantity::size(text)), (text, Ok(bytes)));
        }
        for (seconds, text) in [(90, "90s"), (120, "2m"), (7200, "2h"), (172_800, "2d"), (86_401, "86401s")] {
            assert_eq!(duration(&Duration { seconds, nanos: 0 }), text);
            assert_eq!(quantity::duration(text).map(|known| known.as_secs()), Ok(seconds.unsigned_abs()));
        }
        assert_eq!(duration(&Duration { seconds: 1, nanos: 500_000_000 }), "1.500s");
    }
}
