//! The coordinator's mind: pure, single-threaded, and the only owner of every decision.
//!
//! [`Core::step`] takes what happened and says what is to be made durable and then done; [`Core::finish_turn`] ends a
//! turn of several steps by dispatching and by gathering the records that changed. No clock, no randomness and no I/O
//! is reached from here: one driver feeds it, and a simulation can do so as well.
//!
//! Invariants, asserted by [`Core::check`] in every test and simulation:
//! - an item that has not ended is in exactly one place: a lane (or only the store's queue), the penalties, or one
//!   live assignment;
//! - a Star's guard holds exactly what its live assignments hold;
//! - a Star that is not scheduled, alive and uncordoned is given nothing.

mod answered;
mod catalogue;
mod change;
mod check;
mod comparing;
mod dispatch;
mod drain;
mod event;
mod gate;
mod heals;
mod health;
mod job;
mod jobs;
mod lane;
pub mod limits;
mod losses;
mod notices;
mod plans;
mod poison;
mod rate;
mod recover;
mod refusal;
mod scans;
mod schedules;
mod seals;
mod settle;
mod space;
mod stalls;
mod star;
mod star_commands;
mod stars;
mod sweeps;
#[cfg(test)]
mod tests;
mod totals;
mod validate;
mod vaults;
mod views;
mod yields;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use orbit_shared::backpressure::BackpressureConfig;
use orbit_shared::bulletin::BulletinBoard;
use orbit_shared::dead_letter::DeadLetterQueue;
use orbit_shared::entry::Entry;
use orbit_shared::penalization::StarYield;
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::session::{CoordinatorMessage, StarMessage};
use orbit_shared::time::{Monotonic, Now};
use orbit_shared::words::{AssignmentId, ItemId, JobId, SnapshotId, StarId};

pub use answered::{AnswerRecord, Answered, RequestName};
pub use catalogue::SnapshotRecord;
pub use change::{AssignmentRecord, Change, Counters, ItemEnd, ItemEndRecord, PenalizedRecord, Recovered};
pub use dispatch::LiveAssignment;
pub use event::{Action, Answer, CloseReason, Command, DeadItem, Event, ReplyId, SessionId};
pub use gate::{Gate, Held};
pub use job::{Job, JobEnd, JobRecord, JobSpec, JobState, Location, ScanRecord, Tally};
pub use lane::QueueKey;
pub use notices::{COORDINATOR, ItemNote, Noted, Way, display_location};
pub use plans::{Planned, PlannedPlace};
pub use rate::{BandwidthWindow, DAY_MINUTES};
pub use refusal::{Refusal, Violation};
pub use schedules::{ScheduleRecord, ScheduleTimes};
pub use star::{Liveness, Star, StarRecord, TimedSample};
pub use sweeps::{MirrorPolicy, SweepRecord};
pub use totals::Totals;
pub use views::{ItemPlace, ItemView, JobView, PenaltyView};
pub use yields::YieldPlace;

use answered::Answers;
use catalogue::Catalogued;
use heals::Healing;
use plans::Plan;
use schedules::Schedules;
use vaults::Ask;

/// How the core behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct CoreConfig {
    /// How long a silent Star keeps what it holds.
    pub lease: Duration,
    /// How often a Star is to send a heartbeat; well below the lease.
    pub heartbeat_interval: Duration,
    /// After how long without progress an assignment or a scan is reported.
    pub stall_after: Duration,
    /// Whether a Star waits for ScheduleStar after it has registered.
    pub is_manual_schedule: bool,
    /// Limits of the guard of a Star that is new to the grid.
    pub guard: BackpressureConfig,
    /// Seeds the jitter of penalties.
    pub seed: u64,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            heartbeat_interval: Duration::from_secs(1),
            stall_after: Duration::from_secs(60),
            is_manual_schedule: false,
            guard: BackpressureConfig::default(),
            seed: 0,
        }
    }
}

/// What a turn came to. The changes and events are made durable first; only then are the actions executed, in order.
#[derive(Debug, Default)]
pub struct Effects {
    /// What the store must hold.
    pub changes: Vec<Change>,
    /// What the provenance log must hold; the event numbers are given by the log.
    pub provenance: Vec<Noted>,
    /// What to do then.
    pub actions: Vec<Action>,
}

/// Everything the coordinator knows and decides.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    counters: Counters,
    is_counters_dirty: bool,
    jobs: BTreeMap<JobId, Job>,
    requests: BTreeMap<String, JobId>,
    /// What other requests with a name came to.
    answers: Answers,
    stars: BTreeMap<StarId, Star>,
    sessions: BTreeMap<SessionId, StarId>,
    assignments: BTreeMap<AssignmentId, LiveAssignment>,
    in_flight: BTreeMap<ItemId, AssignmentId>,
    dead_letters: DeadLetterQueue,
    dead_entries: BTreeMap<u64, Entry>,
    board: BulletinBoard,
    /// Places that failed lately; those that yield among them.
    yields: BTreeMap<YieldPlace, StarYield<ItemId>>,
    /// The catalogue of snapshots, those of Stars that are away among them.
    snapshots: BTreeMap<SnapshotId, Catalogued>,
    /// What becomes jobs at its times.
    schedules: Schedules,
    /// Calls of vaults that have no answer yet, and the number of the last one.
    asks: BTreeMap<u64, Ask>,
    next_ask: u64,
    /// Plans that are being made, by the number of their scan.
    plans: BTreeMap<u64, Plan>,
    /// Vaults that are being healed.
    heals: BTreeMap<StarId, Healing>,
    /// Vaults with damage that nobody could heal when it was looked for last.
    unhealed: BTreeSet<StarId>,
    /// When it asked to be woken.
    wake_at: Option<Monotonic>,
    /// Reports and batches that came too late to count.
    late_count: u64,
    /// What was done since the start.
    totals: Totals,
}

impl Core {
    /// Takes what happened.
    pub fn step(&mut self, now: Now, event: Event, fx: &mut Effects) {
        match event {
            Event::SessionOpened { session, hello } => self.session_opened(now, session, &hello, fx),
            Event::MessageReceived { session, message } => self.message_received(now, session, message, fx),
            Event::SessionClosed { session } => self.session_closed(now, session, fx),
            Event::CommandReceived { reply, command } => {
                let answer = self.execute(now, command, fx);
                fx.actions.push(Action::Reply { reply, answer });
            }
            Event::WindowLoaded { job, destination, items, is_end } => {
                self.window_loaded(now, (job, destination), items, is_end);
            }
            Event::PlanAsked { reply, spec, violations } => {
                self.plan_asked(now, reply, *spec, violations, fx);
            }
            Event::VaultAsked { reply, star, call } => self.vault_asked(now, reply, &star, call, fx),
            Event::DeadlineReached => {}
        }
    }

    /// Ends a turn: lets time have its effects, dispatches, and gathers the records that changed.
    pub fn finish_turn(&mut self, now: Now, fx: &mut Effects) {
        self.forgive_own_silence(now);
        self.expire_stars(now, fx);
        self.end_stalls(now, fx);
        self.expire_asks(now, fx);
        self.expire_plans(now, fx);
        self.take_listed(now, fx);
        self.go_on_healing(now, fx);
        self.release_penalties(now);
        self.ask_for_seals(now, fx);
        self.ask_for_sweeps(now, fx);
        self.finish_plans(now, fx);
        self.end_finished_jobs(now, fx);
        self.run_due_schedules(now, fx);
        self.start_scans(now, fx);
        self.follow_bandwidth_windows(now);
        self.dispatch(now, fx);
        self.load_windows(fx);
        self.end_drained_stars(now, fx);
        self.gather_records(fx);
    }

    /// When the core wants to be woken, if nothing happens before.
    pub fn next_deadline(&mut self, now: Now) -> Option<Monotonic> {
        let stars = self.next_star_deadline();
        let jobs = self.next_job_deadline(now.monotonic);
        let yields = self.next_yield_deadline(now.monotonic);
        let stalls = self.next_stall_deadline();
        let (asks, seals) = (self.next_ask_deadline(), self.next_seal_deadline(now.monotonic));
        let (sweeps, plans) = (self.next_sweep_deadline(now.monotonic), self.next_plan_deadline());
        let schedules = self.next_schedule_deadline(now);
        self.wake_at =
            [stars, jobs, yields, stalls, asks, seals, sweeps, plans, schedules].into_iter().flatten().min();
        self.wake_at
    }

    fn message_received(&mut self, now: Now, session: SessionId, message: StarMessage, fx: &mut Effects) {
        let Some(star) = self.sessions.get(&session).cloned() else {
            // The session was superseded or closed; whatever it still says is late.
            self.late_count += 1;
            return;
        };
        self.star_heard(now, &star, fx);
        match message {
            StarMessage::Hello(_) => self.close_session(
                session,
                CloseReason::ProtocolViolated { problem: "a second hello on one session".to_owned() },
                fx,
            ),
            StarMessage::Heartbeat(heartbeat) => self.heartbeat_received(now, &star, heartbeat, fx),
            StarMessage::Report(report) => self.report_received(now, session, &star, report, fx),
            StarMessage::ScanBatch(batch) => self.scan_batch_received(now, session, &star, batch, fx),
            StarMessage::LifecycleChanged { state, reason } => {
                self.lifecycle_reported(now, &star, state, &reason, fx);
            }
            StarMessage::DrainRequested { reason } => self.drain_requested(now, &star, &reason, fx),
            StarMessage::Compared { request, unchanged } => {
                self.compared(now, session, request, unchanged, fx);
            }
            StarMessage::VaultAnswered { request, answer } => {
                self.vault_answered(now, session, request, answer, fx);
            }
            StarMessage::DamageFound { chunks, problem } => {
                self.damage_found(now, &star, (chunks, &problem), fx);
            }
        }
    }

    fn execute(&mut self, now: Now, command: Command, fx: &mut Effects) -> Result<Answer, Refusal> {
        match command {
            Command::CreateJob { spec, request_id, violations } => {
                self.create_job(now, *spec, request_id, violations, fx)
            }
            Command::CreateSchedule { spec, times, request_id, violations } => {
                self.create_schedule(now, (*spec, times), request_id, violations, fx)
            }
            Command::PauseSchedule { schedule, reason } => self.pause_schedule(schedule, &reason, fx),
            Command::ResumeSchedule { schedule } => self.resume_schedule(now, schedule, fx),
            Command::RunSchedule { schedule, request_id } => self.run_schedule(now, schedule, request_id, fx),
            Command::DeleteSchedule { schedule } => self.delete_schedule(schedule, fx),
            Command::PauseJob { job, reason } => self.pause_job(job, &reason, fx),
            Command::ResumeJob { job } => self.resume_job(now, job, fx),
            Command::CancelJob { job, reason } => self.cancel_job(now, job, &reason, fx),
            Command::RegisterStar { star } => self.register_star(now, star, fx),
            Command::ScheduleStar { star, reason } => self.schedule_star(now, &star, &reason, fx),
            Command::DrainStar { star, reason, deadline } => {
                self.drain_star(now, &star, &reason, deadline, fx)
            }
            Command::ShutdownStar { star, reason, force } => {
                self.shutdown_star(now, &star, &reason, force, fx)
            }
            Command::CordonStar { star, is_cordoned } => self.cordon_star(&star, is_cordoned),
            Command::RemoveStar { star } => self.remove_star(now, &star, fx),
            Command::SetGuardLimits { star, max_object_count, max_byte_size } => {
                self.set_guard_limits(&star, max_object_count, max_byte_size)
            }
            Command::PauseGuard { star, reason } => self.pause_guard(&star, reason),
            Command::ResumeGuard { star } => self.resume_guard(&star),
            Command::ClearPenalties { job, item } => self.clear_penalties(now, job, item, fx),
            Command::RetryDeadLetters(filter) => self.retry_dead_letters(now, &filter, fx),
            Command::DiscardDeadLetters(filter) => self.discard_dead_letters(&filter, fx),
            Command::AcknowledgeBulletins(ids) => self.acknowledge_bulletins(&ids, fx),
            Command::Once { request, command } => self.execute_once(now, request, *command, fx),
            Command::Remember { request, told } => {
                self.remember(request, Answered::Told(told), fx);
                Ok(Answer::Done)
            }
        }
    }

    fn acknowledge_bulletins(&mut self, ids: &[u64], fx: &mut Effects) -> Result<Answer, Refusal> {
        let acknowledged = self.board.acknowledge(ids);
        for &id in &acknowledged {
            if let Some(bulletin) = self.board.bulletin(id) {
                fx.changes.push(Change::PutBulletin(bulletin.clone()));
            }
        }
        Ok(Answer::Count(acknowledged.len() as u64))
    }

    /// Adds every record that differs from what the store has.
    fn gather_records(&mut self, fx: &mut Effects) {
        for job in self.jobs.values_mut().filter(|job| job.is_dirty) {
            job.is_dirty = false;
            fx.changes.push(Change::PutJob(Box::new(job.record.clone())));
        }
        for star in self.stars.values_mut().filter(|star| star.is_dirty) {
            star.is_dirty = false;
            fx.changes.push(Change::PutStar(Box::new(star.record.clone())));
        }
        let counters = Counters {
            dead_letter: self.dead_letters.next_id(),
            bulletin: self.board.next_id(),
            ..self.counters
        };
        let is_changed = self.is_counters_dirty || counters != self.counters;
        if is_changed && !is_planted(Bug::CounterForgotten) {
            self.is_counters_dirty = false;
            self.counters = counters;
            fx.changes.push(Change::PutCounters(counters));
        }
    }
}
