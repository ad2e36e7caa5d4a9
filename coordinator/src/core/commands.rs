//! What operators ask for, where it concerns more than one part.

use orbit_shared::bulletin::Severity;
use orbit_shared::dead_letter::DeadLetterFilter;
use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::provenance::ProvenanceType;
use orbit_shared::words::{JobId, StarId};

use super::calls::{REMOVED, resolve_last_copies};
use super::jobs::refuse_unfiltered;
use super::limits::REQUEST_ID_BYTES_MAX;
use super::schedules::{Run, check_times};
use super::validate::Known;
use super::{
    Answer, Answered, COORDINATOR, Command, Core, JobSpec, Refusal, ReplyId, RequestName, ScheduleEdit,
    ScheduleRecord, ScheduleTimes, Turn, Violation,
};

impl Core {
    /// Executes a command.
    pub(super) fn execute(&mut self, turn: &mut Turn, command: Command) -> Result<Answer, Refusal> {
        match command {
            Command::CreateJob { spec, request_id, violations } => {
                self.create_job(turn, *spec, request_id, violations).map(Answer::Job)
            }
            Command::CreateSchedule { spec, times, request_id, violations } => {
                self.create_schedule(turn, (*spec, times), request_id, violations)
            }
            Command::PauseSchedule { schedule, reason } => {
                self.schedules.pause(turn, schedule, &reason).map(Answer::Schedule)
            }
            Command::ResumeSchedule { schedule } => {
                self.schedules.resume(turn, schedule).map(Answer::Schedule)
            }
            Command::RunSchedule { schedule, request_id } => {
                self.run_schedule(turn, schedule, request_id).map(Answer::Job)
            }
            Command::UpdateSchedule(edit) => self.update_schedule(turn, *edit),
            Command::DeleteSchedule { schedule } => {
                self.schedules.delete(turn, schedule).map(|()| Answer::Done)
            }
            Command::PauseJob { job, reason } => {
                self.on_jobs(turn, |jobs, turn| jobs.pause(turn, job, &reason)).map(Answer::Job)
            }
            Command::ResumeJob { job } => {
                self.on_jobs(turn, |jobs, turn| jobs.resume(turn, job)).map(Answer::Job)
            }
            Command::CancelJob { job, reason } => {
                self.on_jobs(turn, |jobs, turn| jobs.cancel(turn, job, &reason)).map(Answer::Job)
            }
            Command::RegisterStar { star } => {
                self.stars.register(turn, &star, self.config.guard).map(|()| Answer::Star(star))
            }
            Command::ScheduleStar { star, reason } => {
                let was_draining = self.stars.known(&star)?.state() == LifecycleState::Draining;
                self.stars.put_to_work(turn, &star, &reason)?;
                if was_draining {
                    resolve_last_copies(turn, &star);
                }
                Ok(Answer::Star(star))
            }
            Command::DrainStar { star, reason, deadline } => {
                if self.stars.may_drain(&star)? {
                    let by_whom = turn.done_by_actor("drained");
                    let reason = if reason.is_empty() { by_whom } else { reason };
                    self.drain(turn, &star, &reason, deadline);
                }
                Ok(Answer::Star(star))
            }
            Command::ShutdownStar { star, reason, force } => self.shutdown_star(turn, star, &reason, force),
            Command::CordonStar { star, is_cordoned } => {
                self.stars.cordon(&star, is_cordoned).map(|()| Answer::Star(star))
            }
            Command::RemoveStar { star } => self.remove_star(turn, &star),
            Command::SetGuardLimits { star, max_object_count, max_byte_size } => {
                let limits = self.stars.set_guard_limits(&star, max_object_count, max_byte_size);
                limits.map(|()| Answer::Star(star))
            }
            Command::PauseGuard { star, reason } => {
                self.stars.pause_guard(turn, &star, reason).map(|()| Answer::Star(star))
            }
            Command::ResumeGuard { star } => self.stars.resume_guard(&star).map(|()| Answer::Star(star)),
            Command::ClearPenalties { job, item } => {
                self.jobs.clear_penalties(turn, job, item).map(Answer::Count)
            }
            Command::RetryDeadLetters(filter) => {
                self.on_jobs(turn, |jobs, turn| jobs.retry_dead_letters(turn, &filter)).map(Answer::Count)
            }
            Command::DiscardDeadLetters(filter) => self.discard_dead_letters(turn, &filter),
            Command::AcknowledgeBulletins(ids) => Ok(Answer::Count(self.board.acknowledge(turn, &ids))),
            Command::Once { request, command } => self.execute_once(turn, request, *command),
            Command::Remember { request, told } => {
                self.answers.remember(turn, request, Answered::Told(told));
                Ok(Answer::Done)
            }
        }
    }

    /// What specifications are checked against.
    fn known(&self) -> Known<'_> {
        Known { stars: &self.stars, catalogue: self.calls.catalogue() }
    }

    /// Checks a specification whole and starts the job.
    fn create_job(
        &mut self,
        turn: &mut Turn,
        spec: JobSpec,
        request_id: String,
        mut violations: Vec<Violation>,
    ) -> Result<JobId, Refusal> {
        if let Some(id) = self.jobs.made_by(&request_id, &spec, violations.is_empty())? {
            return Ok(id);
        }
        self.known().check(&spec, &request_id, &mut violations);
        if !violations.is_empty() {
            return Err(Refusal::Invalid(violations));
        }
        self.on_jobs(turn, |jobs, turn| jobs.create(turn, spec, request_id))
    }

    /// Checks a specification whole and begins a plan; it is answered when the source is listed and compared.
    pub(super) fn begin_plan(
        &mut self,
        turn: &mut Turn,
        reply: ReplyId,
        spec: JobSpec,
        mut violations: Vec<Violation>,
    ) -> Result<(), Refusal> {
        self.known().check(&spec, "", &mut violations);
        if !violations.is_empty() {
            return Err(Refusal::Invalid(violations));
        }
        let scans = self.jobs.scans_on(&spec.source.star_id);
        let rooms = spec.destinations.iter().map(|place| self.jobs.room_of(&self.stars, place)).collect();
        self.on_plans(turn, |plans, turn| plans.begin(turn, reply, spec, (scans, rooms)))
    }

    /// Forgets dead letters; their items stay counted as dead.
    fn discard_dead_letters(
        &mut self,
        turn: &mut Turn,
        filter: &DeadLetterFilter,
    ) -> Result<Answer, Refusal> {
        refuse_unfiltered(filter)?;
        Ok(Answer::Count(self.letters.discard(turn, filter)))
    }

    /// Ends a Star's process, once it is drained or by force.
    fn shutdown_star(
        &mut self,
        turn: &mut Turn,
        name: StarId,
        reason: &str,
        force: bool,
    ) -> Result<Answer, Refusal> {
        let star = self.stars.known(&name)?;
        if star.state() == LifecycleState::Shutdown {
            return Ok(Answer::Star(name));
        }
        if !force && !self.is_drained(star) {
            let blockers = self.drain_blockers(star, turn.now);
            let problem = if blockers.is_empty() {
                format!("{name} is {}; drain it first, or set force", star.state())
            } else {
                format!("{name} is not drained: {}; wait, or set force", blockers.join("; "))
            };
            return Err(Refusal::WrongState { problem });
        }
        let by_whom = turn.done_by_actor("shut down");
        self.shut_down(turn, &name, if reason.is_empty() { &by_whom } else { reason });
        Ok(Answer::Star(name))
    }

    /// Forgets a Star that is not connected and that no unfinished job needs.
    fn remove_star(&mut self, turn: &mut Turn, name: &StarId) -> Result<Answer, Refusal> {
        if self.stars.known(name)?.session.is_some() {
            return Err(Refusal::WrongState {
                problem: format!("{name} is connected; drain it and shut it down first"),
            });
        }
        if let Some(job) = self.jobs.user_of(name) {
            return Err(Refusal::WrongState {
                problem: format!("job {job} needs {name} and has not ended; cancel it first"),
            });
        }
        let orphans = self.schedules.after(0).filter(|record| record.spec.names(name));
        let orphans: Vec<String> = orphans.map(|record| record.id.to_string()).collect();
        if !orphans.is_empty() {
            let message = format!(
                "{name} was removed, and schedules name it: {}; they make no jobs until a Star of this name registers; delete them if none will",
                orphans.join(", ")
            );
            turn.post((Severity::Warning, COORDINATOR, "schedule"), None, &message);
        }
        self.on_jobs(turn, |jobs, turn| jobs.release_star(turn, name));
        self.jobs.forget_star(name);
        self.calls.catalogue().warn_of_last_copies(turn, &self.stars, name, REMOVED);
        self.stars.remove(turn, name);
        self.calls.forget_star(turn, &self.stars, name);
        turn.record_star(ProvenanceType::StarDeregistered, name);
        Ok(Answer::Done)
    }

    /// Checks a specification whole and keeps it with its times.
    fn create_schedule(
        &mut self,
        turn: &mut Turn,
        (spec, times): (JobSpec, ScheduleTimes),
        request_id: String,
        mut violations: Vec<Violation>,
    ) -> Result<Answer, Refusal> {
        match self.schedules.made_by(&request_id, &spec, &times)? {
            Some(id) if violations.is_empty() => return Ok(Answer::Schedule(id)),
            Some(id) => return Err(Refusal::name_used(&request_id, "schedule", &format!(": schedule {id}"))),
            None => {}
        }
        self.known().check(&spec, &request_id, &mut violations);
        check_times(&times, &mut violations);
        if !violations.is_empty() {
            return Err(Refusal::Invalid(violations));
        }
        let next = &mut self.counters.schedule;
        self.schedules.create(turn, (spec, times), request_id, next).map(Answer::Schedule)
    }

    /// Replaces the specification and the times of a schedule.
    fn update_schedule(&mut self, turn: &mut Turn, mut edit: ScheduleEdit) -> Result<Answer, Refusal> {
        self.schedules.get(edit.schedule)?;
        self.known().check(&edit.spec, "", &mut edit.violations);
        check_times(&edit.times, &mut edit.violations);
        if !edit.violations.is_empty() {
            return Err(Refusal::Invalid(edit.violations));
        }
        self.schedules.update(turn, edit).map(Answer::Schedule)
    }

    /// Makes one job of a schedule now.
    fn run_schedule(&mut self, turn: &mut Turn, id: u64, request_id: String) -> Result<JobId, Refusal> {
        if request_id.len() > REQUEST_ID_BYTES_MAX {
            let problem = format!("is longer than {REQUEST_ID_BYTES_MAX} bytes");
            return Err(Refusal::invalid("request_id", problem));
        }
        if let Some((job, schedule)) = self.jobs.run_by(&request_id) {
            return match schedule == id {
                true => Ok(job),
                false => Err(Refusal::name_used(&request_id, "job", &format!(": job {job}"))),
            };
        }
        let record = self.schedules.get(id)?.clone();
        let job = self.create_job(turn, record.spec.clone(), request_id, Vec::new())?;
        self.jobs.note_run_of(job, id);
        self.schedules.note_run(turn, record, job);
        Ok(job)
    }

    /// Makes the jobs of the schedules whose time has come.
    pub(super) fn run_due_schedules(&mut self, turn: &mut Turn) {
        self.schedules.follow_clock(turn);
        for record in self.schedules.due(turn.now) {
            record.say_missed(turn);
            let run = match record.last_job.filter(|job| self.jobs.is_live(*job)) {
                Some(job) => Run::GoesOn(job),
                None => match self.create_scheduled_job(turn, &record) {
                    Ok(job) => Run::Made(job),
                    Err(refusal) => Run::Refused(refusal.to_string()),
                },
            };
            self.schedules.note_time(turn, record, run);
        }
    }

    /// Makes the job of a time, on the schedule's behalf.
    fn create_scheduled_job(&mut self, turn: &mut Turn, record: &ScheduleRecord) -> Result<JobId, Refusal> {
        turn.actor = Some(format!("schedule:{}", record.id));
        let made = self.create_job(turn, record.spec.clone(), String::new(), Vec::new());
        turn.actor = None;
        made
    }

    /// Executes a command unless it was executed under this name before.
    fn execute_once(
        &mut self,
        turn: &mut Turn,
        request: RequestName,
        command: Command,
    ) -> Result<Answer, Refusal> {
        if let Some(answered) = self.answers.answered(&request)? {
            return Ok(match answered {
                Answered::Job(job) => Answer::Job(*job),
                Answered::Star(star) => Answer::Star(star.clone()),
                Answered::Schedule(schedule) => Answer::Schedule(*schedule),
                Answered::Count(count) => Answer::Count(*count),
                // A told answer belongs to a method that is no command, and no method is both.
                Answered::Done | Answered::Told(_) => Answer::Done,
            });
        }
        let answer = self.execute(turn, command)?;
        let answered = match &answer {
            Answer::Job(job) => Answered::Job(*job),
            Answer::Star(star) => Answered::Star(star.clone()),
            Answer::Schedule(schedule) => Answered::Schedule(*schedule),
            Answer::Count(count) => Answered::Count(*count),
            Answer::Done => Answered::Done,
        };
        self.answers.remember(turn, request, answered);
        Ok(answer)
    }

    /// The store is gone.
    pub fn note_store_lost(&mut self, problem: &str) {
        self.store_problem = Some(problem.to_owned());
    }
}
