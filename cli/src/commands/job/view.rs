//! Jobs as text.

use orbit_proto::v1::{BandwidthWindow, Job, JobProgress, JobSpec, JobState, Layout, MirrorPolicy};

use crate::output::human;
use crate::output::table::{self, Table};
use crate::output::tone;
use crate::parse::location;
use crate::vocabulary::{Vocabulary, word};

/// A line for each job.
pub(crate) fn table(jobs: &[Job], has_headings: bool) -> String {
    let headings =
        ["JOB", "STATE", ">ITEMS", ">DONE", ">DEAD", ">MOVED", ">RATE", "CREATED", "KIND", "FROM", "TO"];
    let mut table = Table::new(&headings).gives_way(&["CREATED", "RATE", "ITEMS", "MOVED", "KIND", "DONE"]);
    let states = Vocabulary::of("JobState");
    for job in jobs {
        let progress = job.progress.unwrap_or_default();
        let (source, destinations) = places(job.spec.as_ref());
        let rate = if progress.bytes_per_second == 0 {
            String::new()
        } else {
            human::rate(progress.bytes_per_second)
        };
        let row = table.row([
            job.job_id.to_string(),
            states.word(job.state),
            human::count(progress.items_total),
            human::count(progress.items_stored + progress.items_skipped),
            human::count(progress.items_dead),
            human::bytes(progress.bytes_transferred),
            rate,
            human::time(job.create_time.as_ref()),
            job.spec.as_ref().map(kind).unwrap_or_default(),
            source,
            destinations,
        ]);
        row.tone("STATE", tone::of_job(job)).tone("DEAD", tone::of_losses(progress.items_dead));
    }
    table.render(has_headings)
}

/// What a job does with its tree, in as few words as a column has: a copy, a mirror, a vault or a restore, and its tags.
pub(crate) fn kind(spec: &JobSpec) -> String {
    let is_restore = spec.source.as_ref().is_some_and(|source| !source.snapshot_id.is_empty());
    let what = match (is_restore, spec.layout(), spec.mirror.is_some()) {
        (true, _, _) => "restore",
        (false, Layout::Packed, _) => "packed",
        (false, Layout::Files | Layout::Unspecified, true) => "mirror",
        (false, Layout::Files | Layout::Unspecified, false) => "copy",
    };
    let tags = spec.tags.iter().map(|tag| format!(" #{tag}"));
    std::iter::once(what.to_owned()).chain(tags).collect()
}

/// Everything about one job.
pub(super) fn details(job: &Job) -> String {
    let progress = job.progress.unwrap_or_default();
    let (source, destinations) = places(job.spec.as_ref());
    let remaining = human::wire_duration(progress.estimated_remaining.as_ref());
    let mut pairs = vec![
        ("job", job.job_id.to_string()),
        ("state", word("JobState", job.state)),
        ("reason", job.state_reason.clone()),
        ("from", source),
        ("to", destinations),
        ("created", human::time(job.create_time.as_ref())),
        ("created by", human::plain(&job.created_by)),
        ("ended", human::time(job.end_time.as_ref())),
        ("items", items_line(&progress)),
        ("bytes", bytes_line(&progress)),
        (
            "deleted",
            Some(progress.entries_deleted).filter(|&count| count > 0).map(human::count).unwrap_or_default(),
        ),
        ("in motion", changed_line(&progress)),
        ("not entered", human::skipped_mounts(job.skipped_mounts, &job.skipped_mount_examples)),
        ("rate", human::rate(progress.bytes_per_second)),
        ("remaining", remaining.map(human::duration).unwrap_or_default()),
    ];
    if let Some(spec) = &job.spec {
        pairs.extend(spec_pairs(spec));
    }
    table::details(&pairs, &[("state", tone::of_job(job))])
}

pub(crate) fn spec_pairs(spec: &JobSpec) -> Vec<(&'static str, String)> {
    let prioritizers = Vocabulary::of("Prioritizer");
    let order: Vec<String> =
        spec.prioritizers.iter().map(|&criterion| prioritizers.word(criterion)).collect();
    let limit = u64::try_from(spec.max_bytes_per_second).unwrap_or_default();
    vec![
        ("kind", kind(spec)),
        ("mirror", spec.mirror.as_ref().map(mirror_line).unwrap_or_default()),
        ("include", spec.include.join(" ")),
        ("exclude", spec.exclude.join(" ")),
        ("files", limits_line(spec)),
        ("file systems", if spec.one_file_system { "the source's only" } else { "" }.to_owned()),
        ("bandwidth", windows_line(spec)),
        ("order", order.join(", ")),
        ("bandwidth limit", if limit == 0 { String::new() } else { human::rate(limit) }),
    ]
}

fn changed_line(progress: &JobProgress) -> String {
    match progress.items_changed_while_read {
        0 => String::new(),
        count => human::changed_while_read(count),
    }
}

fn mirror_line(policy: &MirrorPolicy) -> String {
    let bound = format!("at most {} % deleted", policy.max_delete_percent.unwrap_or_default());
    match policy.trash_directory.as_str() {
        "" => bound,
        name => format!("{bound}, moved to {name}"),
    }
}

fn items_line(progress: &JobProgress) -> String {
    let JobProgress {
        items_total,
        items_stored,
        items_skipped,
        items_penalized,
        items_in_flight,
        items_dead,
        ..
    } = *progress;
    let counts = [
        (items_stored, "stored"),
        (items_skipped, "skipped unchanged"),
        (items_in_flight, "in flight"),
        (items_penalized, "penalized"),
        (items_dead, "dead"),
    ];
    let parts: Vec<String> = counts
        .into_iter()
        .filter(|&(number, _)| number > 0)
        .map(|(number, what)| format!("{} {what}", human::count(number)))
        .collect();
    if parts.is_empty() {
        return human::count(items_total);
    }
    format!("{} ({})", human::count(items_total), parts.join(", "))
}

fn bytes_line(progress: &JobProgress) -> String {
    format!(
        "{} of {} stored, {} moved, {} deduplicated",
        human::bytes(progress.bytes_stored),
        human::bytes(progress.bytes_total),
        human::bytes(progress.bytes_transferred),
        human::bytes(progress.bytes_deduplicated)
    )
}

/// Which files a job wants by size and age; nothing when it wants all.
fn limits_line(spec: &JobSpec) -> String {
    let mut parts = Vec::new();
    if spec.min_size_bytes > 0 {
        parts.push(format!("of at least {}", human::bytes(spec.min_size_bytes)));
    }
    if let Some(max) = spec.max_size_bytes {
        parts.push(format!("of at most {}", human::bytes(max)));
    }
    if spec.min_modify_time.is_some() {
        parts.push(format!("modified since {}", human::time(spec.min_modify_time.as_ref())));
    }
    if spec.max_modify_time.is_some() {
        parts.push(format!("not modified since {}", human::time(spec.max_modify_time.as_ref())));
    }
    parts.join(", ")
}

fn windows_line(spec: &JobSpec) -> String {
    let window = |window: &BandwidthWindow| {
        let rate = match u64::try_from(window.max_bytes_per_second) {
            Ok(0) | Err(_) => "off".to_owned(),
            Ok(rate) => human::rate(rate),
        };
        format!("{}-{} UTC: {rate}", window.start, window.end)
    };
    spec.bandwidth_windows.iter().map(window).collect::<Vec<_>>().join(", ")
}

/// The source and the destinations as they are written.
pub(crate) fn places(spec: Option<&JobSpec>) -> (String, String) {
    let Some(spec) = spec else { return (String::new(), String::new()) };
    let source = spec.source.as_ref().map(location::display).unwrap_or_default();
    let destinations: Vec<String> = spec.destinations.iter().map(location::display).collect();
    (source, destinations.join(" "))
}

/// One line about where a job stands.
pub(super) fn state_line(job: &Job) -> String {
    let state = tone::of_job(job).paint(&word("JobState", job.state));
    let reason = human::plain(&job.state_reason);
    if reason.is_empty() {
        format!("job {}: {state}", job.job_id)
    } else {
        format!("job {}: {state}: {reason}", job.job_id)
    }
}

/// What an ended job did, in one line.
pub(crate) fn summary(job: &Job) -> String {
    let progress = job.progress.unwrap_or_default();
    let took = human::between(job.create_time.as_ref(), job.end_time.as_ref());
    let copied = format!("copied {}", human::count_of(progress.items_stored, "item"));
    let moved = moved(&progress, took);
    let within = took.map(|took| format!(" in {}", human::duration(took))).unwrap_or_default();
    let reason = human::plain(&job.state_reason);
    let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    match job.state() {
        JobState::Completed => format!("{copied} ({moved}){within}{}", remarks(job)),
        JobState::PartiallyCompleted => {
            let dead = match progress.items_dead {
                // All is copied, and a mirror could not delete something.
                0 => String::new(),
                dead => format!("; {} could not be copied", human::count_of(dead, "item")),
            };
            format!("{copied} ({moved}){within}{dead}{}", remarks(job))
        }
        JobState::Cancelled => format!("cancelled{because}; {copied} before ({moved})"),
        JobState::Failed => format!("failed{because}; {copied} before ({moved})"),
        JobState::Unspecified | JobState::Scanning | JobState::Running | JobState::Paused => state_line(job),
    }
}

/// What an operator should know beside how the items fared.
fn remarks(job: &Job) -> String {
    let mut remarks = String::new();
    if !job.deletion_problem.is_empty() {
        remarks.push_str(&format!("; not all was deleted: {}", human::plain(&job.deletion_problem)));
    }
    if let changed @ 1.. = job.progress.unwrap_or_default().items_changed_while_read {
        remarks.push_str(&format!("; {}", human::changed_while_read(changed)));
    }
    let mounts = human::skipped_mounts(job.skipped_mounts, &job.skipped_mount_examples);
    if !mounts.is_empty() {
        remarks.push_str(&format!("; not entered: {mounts}"));
    }
    if !job.unmatched_globs.is_empty() {
        remarks.push_str(&format!("; nothing matched {}", human::plain(&job.unmatched_globs.join(", "))));
    }
    remarks
}

fn moved(progress: &JobProgress, took: Option<std::time::Duration>) -> String {
    let mut parts = vec![format!("{} moved", human::bytes(progress.bytes_transferred))];
    if progress.bytes_deduplicated > 0 {
        parts.push(format!("{} deduplicated", human::bytes(progress.bytes_deduplicated)));
    }
    if progress.items_skipped > 0 {
        parts.push(format!("{} skipped unchanged", human::count(progress.items_skipped)));
    }
    if progress.entries_deleted > 0 {
        parts.push(format!("{} deleted", human::count(progress.entries_deleted)));
    }
    let seconds = took.map(|took| took.as_secs_f64()).filter(|&seconds| seconds > 0.0);
    if let (Some(seconds), 1..) = (seconds, progress.bytes_transferred) {
        parts.push(human::rate((progress.bytes_transferred as f64 / seconds) as u64));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use orbit_proto::v1::Location;
    use prost_types::Timestamp;

    use super::*;

    fn job(state: JobState) -> Job {
        Job {
            job_id: 7,
            state: state.into(),
            create_time: Some(Timestamp { seconds: 100, nanos: 0 }),
            end_time: Some(Timestamp { seconds: 103, nanos: 200_000_000 }),
            progress: Some(JobProgress {
                items_total: 1248,
                items_stored: 1234,
                items_skipped: 12,
                items_dead: 2,
                bytes_transferred: 59_454_259,
                ..JobProgress::default()
            }),
            ..Job::default()
        }
    }

    #[test]
    fn a_summary_says_how_much_and_how_long() {
        let text = summary(&job(JobState::Completed));
        assert_eq!(text, "copied 1,234 items (56.7 MiB moved, 12 skipped unchanged, 17.7 MiB/s) in 3.2 s");
        assert!(
            summary(&job(JobState::PartiallyCompleted)).ends_with("in 3.2 s; 2 items could not be copied")
        );
        let mut changed = job(JobState::Completed);
        changed.progress =
            changed.progress.map(|progress| JobProgress { items_changed_while_read: 2, ..progress });
        let text = summary(&changed);
        assert!(
            text.ends_with("; 2 files changed while they were read and are stored as they were read"),
            "{text}"
        );
        let cancelled = Job { state_reason: "Ctrl-C".into(), ..job(JobState::Cancelled) };
        assert!(summary(&cancelled).starts_with("cancelled: Ctrl-C; copied 1,234 items before"));
    }

    #[test]
    fn a_job_without_anything_can_be_shown() {
        assert!(details(&Job::default()).contains("unspecified"));
        let shown = table(&[Job::default()], true);
        assert!(anstream::adapter::strip_str(&shown).to_string().starts_with("JOB  STATE"), "{shown}");
    }

    #[test]
    fn a_job_shows_its_places_and_counts() {
        let place = |star: &str, path: &str| Location {
            star_id: star.into(),
            path: path.into(),
            ..Location::default()
        };
        let spec = JobSpec {
            source: Some(place("a", "/s")),
            destinations: vec![place("b", "/d"), place("c", "/d")],
            max_bytes_per_second: 10 << 20,
            min_size_bytes: 2048,
            bandwidth_windows: vec![BandwidthWindow {
                start: "22:00".into(),
                end: "06:00".into(),
                max_bytes_per_second: 0,
            }],
            ..JobSpec::default()
        };
        let text = details(&Job { spec: Some(spec), ..job(JobState::Completed) });
        assert!(text.contains("b:/d c:/d") && text.contains("10.0 MiB/s"), "{text}");
        assert!(text.contains("of at least 2.0 KiB") && text.contains("22:00-06:00 UTC: off"), "{text}");
        assert!(text.contains("1,248 (1,234 stored, 12 skipped unchanged, 2 dead)"), "{text}");
    }
}
