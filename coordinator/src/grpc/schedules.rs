//! ScheduleService.

use orbit_proto::convert::{duration_from_wire, duration_to_wire, timestamp_to_wire};
use orbit_proto::v1;
use orbit_proto::v1::schedule_service_server::ScheduleService;
use tonic::{Request, Response, Status};

use super::fields::all;
use super::once::{name, once};
use super::status::{internal, refused};
use super::{Faces, globs, job_spec, page};
use crate::core::limits::DAILY_TIMES_MAX;
use crate::core::{Answer, Command, Refusal, ScheduleEdit, ScheduleRecord, ScheduleTimes, Violation};

const LIST: &str = "schedules";

impl Faces {
    async fn one_schedule(&self, id: u64) -> Result<v1::Schedule, Status> {
        let found = self.inbox.view(move |core, _| core.schedule_record(id).map(to_wire)).await;
        found.and_then(|found| found).map_err(refused)
    }

    async fn schedule_command(&self, command: Command) -> Result<v1::Schedule, Status> {
        match self.inbox.command(command).await? {
            Answer::Schedule(id) => self.one_schedule(id).await,
            _ => Err(internal(
                "UNEXPECTED_ANSWER",
                "the core answers a schedule's command with something else",
            )),
        }
    }
}

#[tonic::async_trait]
impl ScheduleService for Faces {
    async fn create_schedule(
        &self,
        request: Request<v1::CreateScheduleRequest>,
    ) -> Result<Response<v1::CreateScheduleResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Vec::new();
        let times = read_times(request.times, &mut violations);
        let spec = job_spec::read(request.spec, &mut violations);
        let (Some(spec), Some(times)) = (spec, times) else {
            return Err(refused(Refusal::Invalid(violations)));
        };
        globs::check(&spec, &mut violations).await;
        let (spec, request_id) = (Box::new(spec), request.request_id);
        let command = Command::CreateSchedule { spec, times, request_id, violations };
        let schedule = Some(self.schedule_command(command).await?);
        Ok(Response::new(v1::CreateScheduleResponse { schedule }))
    }

    async fn get_schedule(
        &self,
        request: Request<v1::GetScheduleRequest>,
    ) -> Result<Response<v1::GetScheduleResponse>, Status> {
        let schedule = Some(self.one_schedule(request.into_inner().schedule_id).await?);
        Ok(Response::new(v1::GetScheduleResponse { schedule }))
    }

    async fn list_schedules(
        &self,
        request: Request<v1::ListSchedulesRequest>,
    ) -> Result<Response<v1::ListSchedulesResponse>, Status> {
        let request = request.into_inner();
        let (size, after) = all((
            page::page_size("page_size", request.page_size),
            page::parsed_key::<u64>(LIST, &request.page_token),
        ))?;
        let after = after.unwrap_or(0);
        let found = self.inbox.view(move |core, _| page::fill(core.schedules(after).map(to_wire), size));
        let (schedules, has_more) = found.await.map_err(refused)?;
        let last = schedules.last().filter(|_| has_more);
        let next_page_token = last.map(|last| page::token(LIST, &last.schedule_id.to_string()));
        let next_page_token = next_page_token.unwrap_or_default();
        Ok(Response::new(v1::ListSchedulesResponse { schedules, next_page_token }))
    }

    async fn pause_schedule(
        &self,
        request: Request<v1::PauseScheduleRequest>,
    ) -> Result<Response<v1::PauseScheduleResponse>, Status> {
        let request = request.into_inner();
        let name = name("PauseSchedule", &request.request_id, &request)?;
        let command = Command::PauseSchedule { schedule: request.schedule_id, reason: request.reason };
        let schedule = Some(self.schedule_command(once(name, command)).await?);
        Ok(Response::new(v1::PauseScheduleResponse { schedule }))
    }

    async fn resume_schedule(
        &self,
        request: Request<v1::ResumeScheduleRequest>,
    ) -> Result<Response<v1::ResumeScheduleResponse>, Status> {
        let request = request.into_inner();
        let name = name("ResumeSchedule", &request.request_id, &request)?;
        let command = Command::ResumeSchedule { schedule: request.schedule_id };
        let schedule = Some(self.schedule_command(once(name, command)).await?);
        Ok(Response::new(v1::ResumeScheduleResponse { schedule }))
    }

    async fn run_schedule(
        &self,
        request: Request<v1::RunScheduleRequest>,
    ) -> Result<Response<v1::RunScheduleResponse>, Status> {
        let v1::RunScheduleRequest { schedule_id: schedule, request_id } = request.into_inner();
        let job = Some(self.job_command(Command::RunSchedule { schedule, request_id }).await?);
        Ok(Response::new(v1::RunScheduleResponse { job }))
    }

    async fn update_schedule(
        &self,
        request: Request<v1::UpdateScheduleRequest>,
    ) -> Result<Response<v1::UpdateScheduleResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Vec::new();
        let name = name("UpdateSchedule", &request.request_id, &request).unwrap_or_else(|violation| {
            violations.push(violation);
            None
        });
        if request.expected_revision == 0 {
            let problem = "is missing; give the revision that GetSchedule showed";
            violations.push(Violation::new("expected_revision", problem));
        }
        let times = read_times(request.times, &mut violations);
        let spec = job_spec::read(request.spec, &mut violations);
        let (Some(spec), Some(times)) = (spec, times) else {
            return Err(refused(Refusal::Invalid(violations)));
        };
        globs::check(&spec, &mut violations).await;
        let (schedule, expected_revision) = (request.schedule_id, request.expected_revision);
        let edit = ScheduleEdit { schedule, spec, times, expected_revision, violations };
        let command = Command::UpdateSchedule(Box::new(edit));
        let schedule = Some(self.schedule_command(once(name, command)).await?);
        Ok(Response::new(v1::UpdateScheduleResponse { schedule }))
    }

    async fn delete_schedule(
        &self,
        request: Request<v1::DeleteScheduleRequest>,
    ) -> Result<Response<v1::DeleteScheduleResponse>, Status> {
        let request = request.into_inner();
        let name = name("DeleteSchedule", &request.request_id, &request)?;
        let command = Command::DeleteSchedule { schedule: request.schedule_id };
        self.inbox.command(once(name, command)).await?;
        Ok(Response::new(v1::DeleteScheduleResponse {}))
    }
}

fn to_wire(record: &ScheduleRecord) -> v1::Schedule {
    let reason = record.pause.clone().unwrap_or_else(|| record.problem.clone());
    v1::Schedule {
        schedule_id: record.id,
        spec: Some(job_spec::to_wire(record.spec.clone())),
        times: Some(match &record.times {
            ScheduleTimes::Interval(interval) => {
                v1::ScheduleTimes { interval: Some(duration_to_wire(*interval)), daily_times: Vec::new() }
            }
            ScheduleTimes::Daily(minutes) => {
                let daily_times = minutes.iter().map(|minute| job_spec::clock_text(*minute)).collect();
                v1::ScheduleTimes { interval: None, daily_times }
            }
        }),
        create_time: Some(timestamp_to_wire(record.create_time)),
        next_time: record.pause.is_none().then(|| timestamp_to_wire(record.next_time)),
        last_job_id: record.last_job.map_or(0, |job| job.0),
        is_paused: record.pause.is_some(),
        state_reason: reason,
        last_success_time: record.last_success_time.map(timestamp_to_wire),
        revision: record.revision(),
    }
}

/// Reads the times. What is wrong is added to `violations`; `None` if they say nothing that could be checked further.
fn read_times(times: Option<v1::ScheduleTimes>, violations: &mut Vec<Violation>) -> Option<ScheduleTimes> {
    let times = times.unwrap_or_default();
    if times.daily_times.len() > DAILY_TIMES_MAX {
        let count = times.daily_times.len();
        let problem = format!("has {count} entries, at most {DAILY_TIMES_MAX} are possible");
        violations.push(Violation::new("times.daily_times", problem));
        return None;
    }
    match (times.interval, times.daily_times.as_slice()) {
        (Some(interval), []) => match duration_from_wire("times.interval", &interval) {
            Ok(interval) => Some(ScheduleTimes::Interval(interval)),
            Err(error) => {
                violations.push(Violation::new(error.field, error.problem));
                None
            }
        },
        (None, [_, ..]) => {
            let minutes = times.daily_times.iter().enumerate().map(|(index, text)| {
                let minute = job_spec::clock(text);
                if minute.is_none() {
                    let problem =
                        format!("is {text:?}; write a time of the day in UTC as HH:MM, such as 08:30");
                    violations.push(Violation::new(format!("times.daily_times[{index}]"), problem));
                }
                minute
            });
            // All of them are read, so that each bad one is named.
            let minutes: Vec<_> = minutes.collect();
            minutes.into_iter().collect::<Option<Vec<_>>>().map(ScheduleTimes::Daily)
        }
        (None, []) => {
            violations.push(Violation::new("times", "is missing; give an interval, or times of the day"));
            None
        }
        (Some(_), [_, ..]) => {
            let problem = "has an interval and times of the day; give one of them";
            violations.push(Violation::new("times", problem));
            None
        }
    }
}
