//! `orbit schedule edit`: reads a schedule, puts what the flags say in place of what it has, and sends it back whole, with the
//! revision that it was made from.

use orbit_proto::v1::{
    Compare, GetScheduleRequest, JobSpec, Layout, Mode, Schedule, ScheduleTimes, UpdateScheduleRequest,
};

use super::settings::changes;
use crate::args::{Clearable, EditScheduleArgs, SelectionArgs};
use crate::client::{Client, request_id};
use crate::commands::job::listed;
use crate::errors::CliError;
use crate::output::{Output, human, table};

pub(super) async fn run(args: EditScheduleArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let request = GetScheduleRequest { schedule_id: args.schedule_id };
    let read = client.schedules().get_schedule(request).await?.into_inner();
    let before = read.schedule.unwrap_or_default();
    let request = UpdateScheduleRequest {
        schedule_id: args.schedule_id,
        times: times_of(&args).or_else(|| before.times.clone()),
        spec: Some(edited(before.spec.clone().unwrap_or_default(), args, output)?),
        expected_revision: before.revision,
        request_id: request_id(),
    };
    let answer = client.schedules().update_schedule(request).await?.into_inner();
    output.answer(&answer, |answer| told(&before, &answer.schedule.clone().unwrap_or_default()))
}

/// Other times, if the flags give any.
fn times_of(args: &EditScheduleArgs) -> Option<ScheduleTimes> {
    let is_given = args.every.is_some() || !args.at.is_empty();
    is_given.then(|| ScheduleTimes { interval: args.every, daily_times: args.at.clone() })
}

/// A specification with what the flags say instead of what it had.
fn edited(mut spec: JobSpec, args: EditScheduleArgs, output: Output) -> Result<JobSpec, CliError> {
    args.clear.iter().for_each(|&flag| clear(&mut spec, flag));
    spec.source = args.from.or(spec.source);
    replace_list(&mut spec.destinations, args.to);
    replace(&mut spec.layout, args.layout);
    replace_list(&mut spec.tags, args.tag);
    if args.mirror {
        spec.mode = Mode::Mirror.into();
    }
    if args.max_delete.is_some() {
        spec.mirror.get_or_insert_default().max_delete_percent = args.max_delete;
    }
    if let Some(name) = args.trash {
        spec.mirror.get_or_insert_default().trash_directory = name;
    }
    replace(&mut spec.dead_letter_max, args.dead_letter_max);
    select(&mut spec, args.selection, output)?;
    Ok(spec)
}

/// What to move and how.
fn select(spec: &mut JobSpec, selection: SelectionArgs, output: Output) -> Result<(), CliError> {
    let SelectionArgs {
        include,
        exclude,
        files_from,
        checksum,
        one_file_system,
        min_size,
        max_size,
        max_age,
        min_age,
        bwlimit,
        bwlimit_at,
        prioritizer,
        max_penalties,
        initial_delay,
        max_delay,
        backoff_factor,
    } = selection;
    replace_list(&mut spec.include, include);
    replace_list(&mut spec.exclude, exclude);
    if let Some(list) = files_from {
        spec.paths = listed(&list, &spec.source.clone().unwrap_or_default(), (None, output))?;
    }
    if checksum {
        spec.compare = Compare::Content.into();
    }
    spec.one_file_system |= one_file_system;
    replace(&mut spec.min_size_bytes, min_size);
    spec.max_size_bytes = max_size.or(spec.max_size_bytes);
    spec.min_modify_time = max_age.or(spec.min_modify_time);
    spec.max_modify_time = min_age.or(spec.max_modify_time);
    replace(&mut spec.max_bytes_per_second, bwlimit);
    replace_list(&mut spec.bandwidth_windows, bwlimit_at);
    replace_list(&mut spec.prioritizers, prioritizer);
    let penalty = spec.penalty.get_or_insert_default();
    penalty.max_penalties = max_penalties.or(penalty.max_penalties);
    penalty.initial_delay = initial_delay.or(penalty.initial_delay);
    penalty.max_delay = max_delay.or(penalty.max_delay);
    replace(&mut penalty.backoff_factor, backoff_factor);
    Ok(())
}

fn replace<T>(value: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *value = given;
    }
}

fn replace_list<T>(list: &mut Vec<T>, given: Vec<T>) {
    if !given.is_empty() {
        *list = given;
    }
}

/// Takes a value away; where a specification needs one, the coordinator takes its default.
fn clear(spec: &mut JobSpec, flag: Clearable) {
    let mirror = spec.mirror.as_mut();
    let penalty = spec.penalty.get_or_insert_default();
    match flag {
        Clearable::Include => spec.include.clear(),
        Clearable::Exclude => spec.exclude.clear(),
        Clearable::FilesFrom => spec.paths.clear(),
        Clearable::Checksum => spec.compare = Compare::Unspecified.into(),
        Clearable::OneFileSystem => spec.one_file_system = false,
        Clearable::MinSize => spec.min_size_bytes = 0,
        Clearable::MaxSize => spec.max_size_bytes = None,
        Clearable::MaxAge => spec.min_modify_time = None,
        Clearable::MinAge => spec.max_modify_time = None,
        Clearable::Bwlimit => spec.max_bytes_per_second = 0,
        Clearable::BwlimitAt => spec.bandwidth_windows.clear(),
        Clearable::Prioritizer => spec.prioritizers.clear(),
        Clearable::MaxPenalties => penalty.max_penalties = None,
        Clearable::InitialDelay => penalty.initial_delay = None,
        Clearable::MaxDelay => penalty.max_delay = None,
        Clearable::BackoffFactor => penalty.backoff_factor = 0.0,
        Clearable::Layout => spec.layout = Layout::Unspecified.into(),
        Clearable::Tag => spec.tags.clear(),
        Clearable::Mirror => {
            spec.mode = Mode::Copy.into();
            spec.mirror = None;
        }
        Clearable::MaxDelete => mirror.into_iter().for_each(|policy| policy.max_delete_percent = None),
        Clearable::Trash => mirror.into_iter().for_each(|policy| policy.trash_directory.clear()),
        Clearable::DeadLetterMax => spec.dead_letter_max = 0,
    }
}

/// What an edit came to: each change in a line, and the next time.
fn told(before: &Schedule, after: &Schedule) -> String {
    let id = after.schedule_id;
    if after.revision == before.revision {
        return format!("schedule {id} stays as it was: no flag changes anything");
    }
    let mut changes = changes(before, after);
    if !after.is_paused {
        changes.push(("next", human::time(after.next_time.as_ref())));
    }
    let text = format!("schedule {id} is changed, from its next job on\n{}", table::details(&changes, &[]));
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use orbit_proto::v1::{Location, MirrorPolicy};
    use prost_types::{Duration, Timestamp};

    use super::*;
    use crate::args::{Args, Command, ScheduleCommand};
    use crate::output::Color;

    fn args(flags: &str) -> EditScheduleArgs {
        let line = format!("orbit schedule edit 1 {flags}");
        let parsed = Args::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{error}"));
        match parsed.command {
            Some(Command::Schedule(ScheduleCommand::Edit(args))) => *args,
            other => panic!("{other:?}"),
        }
    }

    fn edit(spec: &JobSpec, flags: &str) -> JobSpec {
        edited(spec.clone(), args(flags), Output::new(false, Color::Never)).expect("no file is read")
    }

    /// A specification in which every value that can be removed is there.
    fn full() -> JobSpec {
        let flags = "--include *.jpg --exclude *.tmp --checksum -x --min-size 1K --max-size 1M --max-age 2026-01-02T03:04:05Z \
                     --min-age 2026-02-02T03:04:05Z \
                     --bwlimit 10M --bwlimit-at 08:00-18:00=1M --prioritizer newest-first --max-penalties 9 \
                     --initial-delay 2s --max-delay 3m --backoff-factor 1.5 --layout packed --tag daily --mirror \
                     --max-delete 50 --trash .trash --dead-letter-max 7 --from a:/s --to b:/d --to c:/d";
        JobSpec { paths: vec!["a/b".into()], ..edit(&JobSpec::default(), flags) }
    }

    #[test]
    fn what_no_flag_names_stays() {
        assert_eq!(edit(&full(), ""), full());
        let spec = edit(&full(), "--exclude *.bak --exclude *.o --to e:/d --max-delete 5");
        assert_eq!((spec.exclude, spec.destinations.len()), (vec!["*.bak".to_owned(), "*.o".to_owned()], 1));
        let policy = MirrorPolicy { max_delete_percent: Some(5), trash_directory: ".trash".into() };
        assert_eq!((spec.mirror, spec.include), (Some(policy), full().include));
        assert_eq!(times_of(&args("--tag x")), None);
        let daily = ScheduleTimes { interval: None, daily_times: vec!["02:00".into(), "14:00".into()] };
        assert_eq!(times_of(&args("--at 02:00 --at 14:00")), Some(daily));
    }

    #[test]
    fn every_value_that_can_be_removed_is_shown_and_is_gone_once_it_is() {
        use clap::ValueEnum as _;
        let schedule = |spec: JobSpec| Schedule { spec: Some(spec), ..Schedule::default() };
        for flag in Clearable::value_variants() {
            let name = flag.to_possible_value().expect("none is hidden").get_name().to_owned();
            let spec = edit(&full(), &format!("--clear {name}"));
            let changes = changes(&schedule(full()), &schedule(spec.clone()));
            assert!(changes.iter().any(|(label, _)| *label == name), "{name}: {changes:?}");
            let dependent = if name == "mirror" { 3 } else { 1 };
            assert_eq!(changes.len(), dependent, "{name}: {changes:?}");
            assert_eq!(edit(&spec, &format!("--clear {name}")), spec, "{name}");
        }
        let spec = edit(&full(), "--exclude *.bak --clear exclude");
        assert_eq!(spec.exclude, ["*.bak"], "what is given comes after");
    }

    #[test]
    fn an_edit_says_what_was_and_what_is() {
        let place = |star: &str| Location { star_id: star.into(), path: "/d".into(), ..Location::default() };
        let spec = JobSpec { source: Some(place("a")), destinations: vec![place("b")], ..JobSpec::default() };
        let interval = Some(Duration { seconds: 21_600, nanos: 0 });
        let before = Schedule {
            schedule_id: 3,
            spec: Some(spec.clone()),
            times: Some(ScheduleTimes { interval, daily_times: Vec::new() }),
            revision: 1,
            ..Schedule::default()
        };
        let after = Schedule {
            spec: Some(edit(&spec, "--exclude *.tmp --bwlimit 1025 --to b:/d --to c:/e")),
            times: Some(ScheduleTimes { interval: None, daily_times: vec!["02:00".into()] }),
            next_time: Some(Timestamp { seconds: 1_770_084_000, nanos: 0 }),
            revision: 2,
            ..before.clone()
        };
        let text = anstream::adapter::strip_str(&told(&before, &after)).to_string();
        let lines = [
            "schedule 3 is changed, from its next job on",
            "times    every 6h -> 02:00 UTC",
            "to       b:/d -> b:/d c:/e",
            "exclude  none -> *.tmp",
            "bwlimit  none -> 1025B/s",
            "next     2026-02-03 02:00:00Z",
        ];
        assert_eq!(text, lines.join("\n"));
        assert_eq!(told(&after, &after), "schedule 3 stays as it was: no flag changes anything");
        let unseen = told(&after, &Schedule { revision: 3, is_paused: true, ..after.clone() });
        assert_eq!(unseen, "schedule 3 is changed, from its next job on", "the revision says so");
        let paused = told(&before, &Schedule { is_paused: true, ..after });
        assert!(!paused.contains("2026-02-03"), "a paused schedule has no next time: {paused}");
    }
}
