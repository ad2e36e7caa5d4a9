//! `orbit schedule`.

mod edit;
mod settings;

use orbit_proto::v1::{
    CreateScheduleRequest, DeleteScheduleRequest, GetScheduleRequest, ListSchedulesRequest,
    PauseScheduleRequest, ResumeScheduleRequest, RunScheduleRequest, Schedule, ScheduleTimes,
};

use crate::args::{CreateScheduleArgs, PauseScheduleArgs, ScheduleCommand, ScheduleIdArgs};
use crate::client::{Client, request_id};
use crate::commands::job::{kind, places, spec_of, spec_pairs};
use crate::commands::pages::Pages;
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::table::{self, Table};
use crate::output::{Output, human};

pub(super) async fn run(
    command: ScheduleCommand,
    client: &Client,
    output: Output,
) -> Result<Outcome, CliError> {
    match command {
        ScheduleCommand::Create(args) => create(*args, client, output).await?,
        ScheduleCommand::Ls => list(client, output).await?,
        ScheduleCommand::Show(args) => show(&args, client, output).await?,
        ScheduleCommand::Edit(args) => edit::run(*args, client, output).await?,
        ScheduleCommand::Pause(args) => pause(args, client, output).await?,
        ScheduleCommand::Resume(args) => resume(&args, client, output).await?,
        ScheduleCommand::Run(args) => run_now(&args, client, output).await?,
        ScheduleCommand::Rm(args) => remove(&args, client, output).await?,
    }
    Ok(Outcome::Completed)
}

async fn create(args: CreateScheduleArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let request = CreateScheduleRequest {
        spec: Some(spec_of(args.spec, output)?),
        times: Some(ScheduleTimes { interval: args.every, daily_times: args.at }),
        request_id: args.request_id.unwrap_or_else(request_id),
    };
    let answer = client.schedules().create_schedule(request).await?.into_inner();
    output.answer(&answer, |answer| one(answer.schedule.as_ref()))
}

async fn list(client: &Client, output: Output) -> Result<(), CliError> {
    let mut pages = Pages::new(0);
    while let Some((page_size, page_token)) = pages.next() {
        let request = ListSchedulesRequest { page_size, page_token };
        let page = client.schedules().list_schedules(request).await?.into_inner();
        let has_headings = pages.took(page.schedules.len(), &page.next_page_token);
        output.answer(&page, |page| render(&page.schedules, has_headings))?;
    }
    pages.note_end(&output, "There are no schedules; `orbit schedule create` makes one.");
    Ok(())
}

/// A line for each schedule.
fn render(schedules: &[Schedule], has_headings: bool) -> String {
    let headings = ["SCHEDULE", "TIMES", "NEXT", ">LAST JOB", "LAST SUCCESS", "KIND", "FROM", "TO", "STATE"];
    let mut table = Table::new(&headings).gives_way(&["LAST JOB", "LAST SUCCESS", "NEXT", "TIMES"]);
    for schedule in schedules {
        let (source, destinations) = places(schedule.spec.as_ref());
        table.row([
            schedule.schedule_id.to_string(),
            times(schedule.times.as_ref()),
            human::time(schedule.next_time.as_ref()),
            last_job(schedule),
            human::time(schedule.last_success_time.as_ref()),
            schedule.spec.as_ref().map(kind).unwrap_or_default(),
            source,
            destinations,
            state(schedule),
        ]);
    }
    table.render(has_headings)
}

fn last_job(schedule: &Schedule) -> String {
    if schedule.last_job_id == 0 { String::new() } else { schedule.last_job_id.to_string() }
}

/// Nothing for a schedule that was never changed.
fn revision(schedule: &Schedule) -> String {
    if schedule.revision <= 1 { String::new() } else { schedule.revision.to_string() }
}

/// Everything about one schedule.
fn details(schedule: &Schedule) -> String {
    let (source, destinations) = places(schedule.spec.as_ref());
    let mut pairs = vec![
        ("schedule", schedule.schedule_id.to_string()),
        ("times", times(schedule.times.as_ref())),
        ("next", human::time(schedule.next_time.as_ref())),
        ("state", state(schedule)),
        ("last job", last_job(schedule)),
        ("last success", human::time(schedule.last_success_time.as_ref())),
        ("created", human::time(schedule.create_time.as_ref())),
        ("revision", revision(schedule)),
        ("from", source),
        ("to", destinations),
    ];
    pairs.extend(schedule.spec.iter().flat_map(spec_pairs));
    table::details(&pairs, &[])
}

async fn show(args: &ScheduleIdArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let request = GetScheduleRequest { schedule_id: args.schedule_id };
    let answer = client.schedules().get_schedule(request).await?.into_inner();
    output.answer(&answer, |answer| answer.schedule.as_ref().map(details).unwrap_or_default())
}

fn times(times: Option<&ScheduleTimes>) -> String {
    let Some(times) = times else { return String::new() };
    match human::wire_duration(times.interval.as_ref()) {
        Some(interval) => format!("every {}", human::duration(interval)),
        None => format!("{} UTC", times.daily_times.join(" ")),
    }
}

fn state(schedule: &Schedule) -> String {
    match (schedule.is_paused, schedule.state_reason.as_str()) {
        (true, reason) => format!("paused: {reason}"),
        (false, reason) => reason.to_owned(),
    }
}

fn one(schedule: Option<&Schedule>) -> String {
    schedule.map(|schedule| render(std::slice::from_ref(schedule), true)).unwrap_or_default()
}

async fn pause(args: PauseScheduleArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let PauseScheduleArgs { schedule_id, reason } = args;
    let request = PauseScheduleRequest { schedule_id, reason, request_id: request_id() };
    let answer = client.schedules().pause_schedule(request).await?.into_inner();
    output.answer(&answer, |answer| one(answer.schedule.as_ref()))
}

async fn resume(args: &ScheduleIdArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let request = ResumeScheduleRequest { schedule_id: args.schedule_id, request_id: request_id() };
    let answer = client.schedules().resume_schedule(request).await?.into_inner();
    output.answer(&answer, |answer| one(answer.schedule.as_ref()))
}

async fn run_now(args: &ScheduleIdArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let request = RunScheduleRequest { schedule_id: args.schedule_id, request_id: request_id() };
    let answer = client.schedules().run_schedule(request).await?.into_inner();
    let job_id = answer.job.as_ref().map(|job| job.job_id).unwrap_or_default();
    output.answer(&answer, |_| format!("job {job_id}\n`orbit job watch {job_id}` follows it."))
}

async fn remove(args: &ScheduleIdArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let schedule_id = args.schedule_id;
    let request = DeleteScheduleRequest { schedule_id, request_id: request_id() };
    let answer = client.schedules().delete_schedule(request).await?.into_inner();
    output.answer(&answer, |_| format!("schedule {schedule_id} is forgotten"))
}

#[cfg(test)]
mod tests {
    use prost_types::Duration;

    use super::*;

    #[test]
    fn a_schedule_shows_its_times_and_why_it_makes_no_jobs() {
        let schedule = Schedule {
            schedule_id: 3,
            times: Some(ScheduleTimes {
                interval: Some(Duration { seconds: 21_600, nanos: 0 }),
                ..Default::default()
            }),
            last_job_id: 7,
            is_paused: true,
            state_reason: "the disk is being swapped".into(),
            ..Schedule::default()
        };
        let text = one(Some(&schedule));
        assert!(text.contains("every 6 h 00 min") && text.contains("paused: the disk"), "{text}");
        let spec = orbit_proto::v1::JobSpec {
            mirror: Some(orbit_proto::v1::MirrorPolicy::default()),
            tags: vec!["daily".into()],
            exclude: vec!["*.tmp".into()],
            ..Default::default()
        };
        let deletes = Schedule { spec: Some(spec), ..schedule };
        assert!(one(Some(&deletes)).contains("mirror #daily"), "{}", one(Some(&deletes)));
        let all = details(&deletes);
        assert!(all.contains("mirror #daily") && all.contains("*.tmp"), "{all}");
        let daily = ScheduleTimes { interval: None, daily_times: vec!["02:00".into(), "14:00".into()] };
        assert_eq!(times(Some(&daily)), "02:00 14:00 UTC");
    }
}
