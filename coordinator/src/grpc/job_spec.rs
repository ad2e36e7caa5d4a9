//! Specifications of jobs: read from the wire with defaults filled in, and written to it.
//!
//! Only what cannot be said in the core's words is refused here; whether it makes sense for this grid, the core checks.

use orbit_proto::convert::{duration_from_wire, duration_to_wire, timestamp_from_wire, timestamp_to_wire};
use orbit_proto::v1;
use orbit_shared::filter::FileLimits;
use orbit_shared::penalization::PenaltyConfig;
use orbit_shared::prioritizer::PrioritizerKind;
use orbit_shared::time::WallTime;
use orbit_shared::vault_call::limits::TAGS_MAX;
use orbit_shared::words::{Layout, SnapshotId, StarId};

use super::convert::location;
use crate::core::limits::{
    BANDWIDTH_WINDOWS_MAX, DEAD_LETTERS_PER_JOB_MAX, DESTINATIONS_MAX, GLOBS_MAX, PRIORITIZERS_MAX,
};
use crate::core::{BandwidthWindow, DAY_MINUTES, JobSpec, Location, MirrorPolicy, Violation};

/// As an operator sees it.
pub(super) fn to_wire(spec: JobSpec) -> v1::JobSpec {
    let snapshot_id = spec.snapshot.map(|id| id.to_string()).unwrap_or_default();
    v1::JobSpec {
        source: Some(v1::Location { snapshot_id, ..location(spec.source) }),
        destinations: spec.destinations.into_iter().map(location).collect(),
        layout: match spec.layout {
            Layout::Files => v1::Layout::Files.into(),
            Layout::Packed => v1::Layout::Packed.into(),
        },
        mode: if spec.mirror.is_some() { v1::Mode::Mirror } else { v1::Mode::Copy }.into(),
        include: spec.include,
        exclude: spec.exclude,
        paths: spec.paths.into_iter().map(|path| path.into_vec().into()).collect(),
        compare: if spec.compares_content { v1::Compare::Content } else { v1::Compare::Metadata }.into(),
        prioritizers: spec.prioritizers.into_iter().map(|kind| prioritizer(kind).into()).collect(),
        penalty: Some(v1::PenaltyPolicy {
            initial_delay: Some(duration_to_wire(spec.penalty.initial_delay)),
            max_delay: Some(duration_to_wire(spec.penalty.max_delay)),
            backoff_factor: spec.penalty.backoff_factor,
            max_penalties: Some(spec.penalty.max_penalties),
        }),
        max_bytes_per_second: i64::try_from(spec.max_bytes_per_second).unwrap_or(i64::MAX),
        dead_letter_max: i64::try_from(spec.dead_letter_max).unwrap_or(i64::MAX),
        tags: spec.tags,
        min_size_bytes: spec.limits.min_size,
        max_size_bytes: spec.limits.max_size,
        min_modify_time: spec.limits.modified_after.map(timestamp_to_wire),
        max_modify_time: spec.limits.modified_before.map(timestamp_to_wire),
        one_file_system: spec.is_one_file_system,
        bandwidth_windows: spec.bandwidth_windows.into_iter().map(window).collect(),
        mirror: spec.mirror.map(|mirror| v1::MirrorPolicy {
            max_delete_percent: Some(mirror.max_delete_percent),
            trash_directory: mirror.trash.unwrap_or_default(),
        }),
    }
}

fn window(window: BandwidthWindow) -> v1::BandwidthWindow {
    v1::BandwidthWindow {
        start: clock_text(window.start_minute),
        end: clock_text(window.end_minute),
        max_bytes_per_second: i64::try_from(window.max_bytes_per_second).unwrap_or(i64::MAX),
    }
}

fn prioritizer(kind: PrioritizerKind) -> v1::Prioritizer {
    match kind {
        PrioritizerKind::Semantic => v1::Prioritizer::Semantic,
        PrioritizerKind::SmallestFirst => v1::Prioritizer::SmallestFirst,
        PrioritizerKind::LargestFirst => v1::Prioritizer::LargestFirst,
        PrioritizerKind::OldestFirst => v1::Prioritizer::OldestFirst,
        PrioritizerKind::NewestFirst => v1::Prioritizer::NewestFirst,
        PrioritizerKind::FewestRetries => v1::Prioritizer::FewestRetries,
    }
}

/// Stands for the name of a Star that is missing or is none, so that everything else can be checked as well. The violation
/// that goes with it keeps the specification from ever becoming a job.
const UNREADABLE: &str = "unreadable.name.of";

/// Reads a specification, with defaults filled in. What is wrong is added to `violations`; `None` if there is none.
pub(super) fn read(spec: Option<v1::JobSpec>, violations: &mut Vec<Violation>) -> Option<JobSpec> {
    let Some(spec) = spec else {
        violations
            .push(Violation::new("spec", "is missing; give at least spec.source and spec.destinations"));
        return None;
    };
    let mut spec = spec;
    check_counts(&mut spec, violations);
    let (layout, compares_content) = (read_layout(&spec, violations), read_compare(&spec, violations));
    let mirror = read_mirror(&spec, violations);
    let prioritizers = read_prioritizers(&spec, violations);
    let mut add = |field: &str, problem: String| violations.push(Violation::new(field, problem));
    let max_bytes_per_second = u64::try_from(spec.max_bytes_per_second).unwrap_or_else(|_| {
        add(
            "spec.max_bytes_per_second",
            format!("is {}, must be 0 (no limit) or more", spec.max_bytes_per_second),
        );
        0
    });
    let dead_letter_max = match u64::try_from(spec.dead_letter_max) {
        Ok(0) => DEAD_LETTERS_PER_JOB_MAX,
        Ok(max) => max,
        Err(_) => {
            add(
                "spec.dead_letter_max",
                format!("is {}, must be 0 (for the default) or more", spec.dead_letter_max),
            );
            DEAD_LETTERS_PER_JOB_MAX
        }
    };
    let limits = FileLimits {
        min_size: spec.min_size_bytes,
        max_size: spec.max_size_bytes,
        modified_after: read_time("spec.min_modify_time", spec.min_modify_time, violations),
        modified_before: read_time("spec.max_modify_time", spec.max_modify_time, violations),
    };
    let windows = spec.bandwidth_windows.iter().enumerate();
    let bandwidth_windows =
        windows.filter_map(|(index, window)| read_window(index, window, violations)).collect();
    let penalty = read_penalty(spec.penalty.unwrap_or_default(), violations);
    let mut snapshot = None;
    let mut source = spec.source;
    if let Some(place) = source.as_mut().filter(|place| !place.snapshot_id.is_empty()) {
        match place.snapshot_id.parse::<SnapshotId>() {
            Ok(id) => snapshot = Some(id),
            Err(error) => violations.push(Violation::new("spec.source.snapshot_id", error.to_string())),
        }
        if place.path.is_empty() && place.raw_path.is_empty() {
            "/".clone_into(&mut place.path);
        }
    }
    let source = read_location(source, "spec.source", violations);
    let destinations = read_destinations(spec.destinations, violations);
    Some(JobSpec {
        source,
        destinations,
        include: spec.include,
        exclude: spec.exclude,
        paths: spec.paths.into_iter().map(|path| serde_bytes::ByteBuf::from(Vec::from(path))).collect(),
        compares_content,
        is_one_file_system: spec.one_file_system,
        prioritizers,
        penalty,
        max_bytes_per_second,
        dead_letter_max,
        layout,
        snapshot,
        tags: spec.tags,
        limits,
        bandwidth_windows,
        caller: None,
        mirror,
    })
}

fn read_layout(spec: &v1::JobSpec, violations: &mut Vec<Violation>) -> Layout {
    match v1::Layout::try_from(spec.layout) {
        Ok(v1::Layout::Unspecified | v1::Layout::Files) => Layout::Files,
        Ok(v1::Layout::Packed) => Layout::Packed,
        Err(_) => {
            violations.push(Violation::new("spec.layout", format!("{} is no layout", spec.layout)));
            Layout::Files
        }
    }
}

fn read_mirror(spec: &v1::JobSpec, violations: &mut Vec<Violation>) -> Option<MirrorPolicy> {
    match v1::Mode::try_from(spec.mode) {
        Ok(v1::Mode::Mirror) => Some(mirror_policy(spec.mirror.clone().unwrap_or_default())),
        Ok(v1::Mode::Unspecified | v1::Mode::Copy) => {
            if spec.mirror.is_some() {
                violations.push(Violation::new("spec.mirror", "is only for MODE_MIRROR"));
            }
            None
        }
        Err(_) => {
            violations.push(Violation::new("spec.mode", format!("{} is no mode", spec.mode)));
            None
        }
    }
}

/// Whether content is compared.
fn read_compare(spec: &v1::JobSpec, violations: &mut Vec<Violation>) -> bool {
    match v1::Compare::try_from(spec.compare) {
        Ok(v1::Compare::Unspecified | v1::Compare::Metadata) => false,
        Ok(v1::Compare::Content) => true,
        Err(_) => {
            let problem = format!("{} is no way to compare", spec.compare);
            violations.push(Violation::new("spec.compare", problem));
            false
        }
    }
}

fn read_prioritizers(spec: &v1::JobSpec, violations: &mut Vec<Violation>) -> Vec<PrioritizerKind> {
    let mut prioritizers = Vec::new();
    for (index, &value) in spec.prioritizers.iter().enumerate() {
        match prioritizer_from_wire(value) {
            Some(kind) => prioritizers.push(kind),
            None => {
                let field = format!("spec.prioritizers[{index}]");
                violations.push(Violation::new(field, format!("{value} is no prioritizer")));
            }
        }
    }
    if prioritizers.is_empty() { PrioritizerKind::DEFAULT_CHAIN.to_vec() } else { prioritizers }
}

fn read_destinations(places: Vec<v1::Location>, violations: &mut Vec<Violation>) -> Vec<Location> {
    let mut destinations = Vec::with_capacity(places.len());
    for (index, place) in places.into_iter().enumerate() {
        let field = format!("spec.destinations[{index}]");
        if !place.snapshot_id.is_empty() {
            violations.push(Violation::new(format!("{field}.snapshot_id"), "is only for a source"));
        }
        destinations.push(read_location(Some(place), &field, violations));
    }
    if destinations.is_empty() && !violations.iter().any(|violation| violation.field == "spec.destinations") {
        violations.push(Violation::new("spec.destinations", "is empty; name at least one place to copy to"));
    }
    destinations
}

/// Counts before anything is read or compared. Of a list that is too long nothing is looked at.
fn check_counts(spec: &mut v1::JobSpec, violations: &mut Vec<Violation>) {
    let mut clear = |field: &str, count: usize, count_max: usize| {
        let is_too_long = count > count_max;
        if is_too_long {
            let problem = format!("has {count} entries, at most {count_max} are possible");
            violations.push(Violation::new(field, problem));
        }
        is_too_long
    };
    if clear("spec.destinations", spec.destinations.len(), DESTINATIONS_MAX) {
        spec.destinations = Vec::new();
    }
    if clear("spec.include", spec.include.len(), GLOBS_MAX) {
        spec.include = Vec::new();
    }
    if clear("spec.exclude", spec.exclude.len(), GLOBS_MAX) {
        spec.exclude = Vec::new();
    }
    if clear("spec.prioritizers", spec.prioritizers.len(), PRIORITIZERS_MAX) {
        spec.prioritizers = Vec::new();
    }
    if clear("spec.tags", spec.tags.len(), TAGS_MAX) {
        spec.tags = Vec::new();
    }
    if clear("spec.bandwidth_windows", spec.bandwidth_windows.len(), BANDWIDTH_WINDOWS_MAX) {
        spec.bandwidth_windows = Vec::new();
    }
}

fn mirror_policy(policy: v1::MirrorPolicy) -> MirrorPolicy {
    MirrorPolicy {
        max_delete_percent: policy.max_delete_percent.unwrap_or(MirrorPolicy::DEFAULT_MAX_DELETE_PERCENT),
        trash: Some(policy.trash_directory).filter(|name| !name.is_empty()),
    }
}

fn read_location(place: Option<v1::Location>, field: &str, violations: &mut Vec<Violation>) -> Location {
    let unreadable = || {
        let digits: String = field.chars().filter(char::is_ascii_digit).collect();
        StarId::new(format!("{UNREADABLE}.{digits}")).expect("letters, digits and dots")
    };
    let Some(place) = place else {
        violations.push(Violation::new(field, "is missing; give its star_id and path"));
        return Location { star_id: unreadable(), path: Vec::new() };
    };
    let path = if place.raw_path.is_empty() { place.path.into_bytes() } else { place.raw_path.to_vec() };
    let star_id = StarId::new(place.star_id).unwrap_or_else(|error| {
        violations.push(Violation::new(format!("{field}.star_id"), error.to_string()));
        unreadable()
    });
    Location { star_id, path }
}

fn read_penalty(policy: v1::PenaltyPolicy, violations: &mut Vec<Violation>) -> PenaltyConfig {
    let mut config = PenaltyConfig::default();
    for (field, given, target) in [
        ("spec.penalty.initial_delay", policy.initial_delay, &mut config.initial_delay),
        ("spec.penalty.max_delay", policy.max_delay, &mut config.max_delay),
    ] {
        let Some(given) = given else { continue };
        match duration_from_wire(field, &given) {
            Ok(delay) => *target = delay,
            Err(error) => violations.push(Violation::new(error.field, error.problem)),
        }
    }
    if policy.backoff_factor != 0.0 {
        config.backoff_factor = policy.backoff_factor;
    }
    if let Some(max) = policy.max_penalties {
        config.max_penalties = max;
    }
    config
}

fn prioritizer_from_wire(value: i32) -> Option<PrioritizerKind> {
    match v1::Prioritizer::try_from(value) {
        Ok(v1::Prioritizer::Semantic) => Some(PrioritizerKind::Semantic),
        Ok(v1::Prioritizer::SmallestFirst) => Some(PrioritizerKind::SmallestFirst),
        Ok(v1::Prioritizer::LargestFirst) => Some(PrioritizerKind::LargestFirst),
        Ok(v1::Prioritizer::OldestFirst) => Some(PrioritizerKind::OldestFirst),
        Ok(v1::Prioritizer::NewestFirst) => Some(PrioritizerKind::NewestFirst),
        Ok(v1::Prioritizer::FewestRetries) => Some(PrioritizerKind::FewestRetries),
        Ok(v1::Prioritizer::Unspecified) | Err(_) => None,
    }
}

fn read_time(
    field: &str,
    time: Option<prost_types::Timestamp>,
    violations: &mut Vec<Violation>,
) -> Option<WallTime> {
    match timestamp_from_wire(field, &time?) {
        Ok(time) => Some(time),
        Err(error) => {
            violations.push(Violation::new(error.field, error.problem));
            None
        }
    }
}

fn read_window(
    index: usize,
    window: &v1::BandwidthWindow,
    violations: &mut Vec<Violation>,
) -> Option<BandwidthWindow> {
    let field = format!("spec.bandwidth_windows[{index}]");
    let mut minute = |name: &str, text: &str| {
        let minute = clock(text);
        if minute.is_none() {
            let problem = format!("is {text:?}; write a time of the day in UTC as HH:MM, such as 08:30");
            violations.push(Violation::new(format!("{field}.{name}"), problem));
        }
        minute
    };
    let (start_minute, end_minute) = (minute("start", &window.start), minute("end", &window.end));
    let Ok(max_bytes_per_second) = u64::try_from(window.max_bytes_per_second) else {
        let problem = format!("is {}, must be 0 (no limit) or more", window.max_bytes_per_second);
        violations.push(Violation::new(format!("{field}.max_bytes_per_second"), problem));
        return None;
    };
    Some(BandwidthWindow { start_minute: start_minute?, end_minute: end_minute?, max_bytes_per_second })
}

/// Minutes of the day as `HH:MM`.
pub(super) fn clock_text(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

/// A time of the day in minutes.
pub(super) fn clock(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let is_number = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(hour) || !is_number(minute) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    Some(hour * 60 + minute).filter(|at| minute < 60 && *at < DAY_MINUTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_are_too_long_are_counted_and_not_looked_at() {
        let many = |count: usize| vec!["x".to_owned(); count];
        let spec = v1::JobSpec {
            destinations: vec![v1::Location::default(); 30_000],
            include: many(20_000),
            exclude: many(20_000),
            prioritizers: vec![99; 500_000],
            tags: many(20_000),
            bandwidth_windows: vec![v1::BandwidthWindow::default(); 20_000],
            ..v1::JobSpec::default()
        };
        let mut violations = Vec::new();
        let read = read(Some(spec), &mut violations).expect("the rest can be read");
        let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
        // One for each list, none for what is in it; and the source, which is missing.
        let lists = ["destinations", "include", "exclude", "prioritizers", "tags", "bandwidth_windows"];
        let mut wanted: Vec<String> = lists.iter().map(|list| format!("spec.{list}")).collect();
        wanted.push("spec.source".to_owned());
        assert_eq!(fields, wanted);
        assert!(read.destinations.is_empty() && read.include.is_empty() && read.tags.is_empty());
    }
}
