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

mod absences;
mod answered;
mod assignment;
mod catalogue;
mod change;
mod check;
mod comparing;
mod content_events;
mod dispatch;
mod drain;
mod event;
mod evidence;
mod gate;
mod grants;
mod heals;
mod health;
mod history;
mod in_motion;
mod job;
mod job_record;
mod jobs;
mod lane;
mod last_copies;
mod letters;
pub mod limits;
mod losses;
mod mounts;
mod notices;
mod plans;
mod poison;
mod rate;
mod recover;
mod refusal;
mod removals;
mod rescans;
mod scans;
mod schedule_edits;
mod schedule_runs;
mod schedules;
mod seals;
mod settle;
mod space;
mod stalls;
mod star;
mod star_commands;
mod stars;
mod suspicion;
mod sweep_results;
mod sweeps;
#[cfg(test)]
mod tests;
mod totals;
mod turn;
mod validate;
mod vaults;
mod versions;
mod views;
mod yields;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use orbit_shared::backpressure::BackpressureConfig;
use orbit_shared::bulletin::{BulletinBoard, Severity};
use orbit_shared::dead_letter::DeadLetterQueue;
use orbit_shared::entry::Entry;
use orbit_shared::penalization::StarYield;
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::session::{CoordinatorMessage, StarMessage};
use orbit_shared::time::{Monotonic, Now};
use orbit_shared::words::{AssignmentId, ItemId, JobId, SnapshotId, StarId};
use uuid::Uuid;

pub use answered::{AnswerRecord, Answered, RequestName};
pub use assignment::LiveAssignment;
pub use catalogue::SnapshotRecord;
pub use change::{AssignmentRecord, Change, Counters, ItemEnd, ItemEndRecord, PenalizedRecord, Recovered};
pub use event::{Action, Answer, CloseReason, Command, DeadItem, Event, ReplyId, SessionId};
pub use gate::{Gate, Held};
pub use history::HistoryLimits;
pub use job::Job;
pub use job_record::{JobEnd, JobRecord, JobSpec, JobState, Location, ScanRecord, Tally};
pub use lane::QueueKey;
pub use notices::{ACTOR, COORDINATOR, ItemNote, Noted, Way, display_location};
pub use plans::{Planned, PlannedPlace};
pub use rate::{BandwidthWindow, DAY_MINUTES};
pub use refusal::{Refusal, Violation};
pub use schedule_edits::ScheduleEdit;
pub use schedules::{ScheduleRecord, ScheduleTimes};
pub use star::{Liveness, Star, StarRecord, TimedSample};
pub use sweeps::{MirrorPolicy, SweepRecord};
pub use totals::Totals;
pub use turn::Turn;
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
    /// The name that a grid gets which has none yet; no other grid has it.
    pub fresh_grid: Uuid,
    /// Whether Stars that belong to another grid are taken over instead of refused.
    pub takes_over: bool,
    /// How much of what is over is kept.
    pub history: HistoryLimits,
    /// Items that one job may have.
    pub items_per_job_max: u64,
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
            fresh_grid: Uuid::nil(),
            takes_over: false,
            history: HistoryLimits::default(),
            items_per_job_max: limits::ITEMS_PER_JOB_MAX,
        }
    }
}

/// Everything the coordinator knows and decides.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    /// The name of the grid. Stars keep it too, so that a coordinator with another store is known for what it is.
    grid: Uuid,
    counters: Counters,
    is_counters_dirty: bool,
    jobs: BTreeMap<JobId, Job>,
    /// Forgotten jobs, some of whose items are still in the store.
    forgotten: BTreeMap<JobId, JobRecord>,
    requests: BTreeMap<String, JobId>,
    /// The results of other requests with a name.
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
    /// How many each Star has of them.
    snapshot_counts: BTreeMap<StarId, usize>,
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
    /// When it was last looked for what is too old to be kept.
    history_looked: Option<Now>,
    /// When the next items of an ended job are to be removed, if there are any.
    removal_at: Option<Monotonic>,
    /// When it asked to be woken.
    wake_at: Option<Monotonic>,
    /// Reports and batches that came too late to count.
    late_count: u64,
    /// What was done since the start.
    totals: Totals,
    /// What is wrong with the store, once it is lost.
    store_problem: Option<String>,
}

impl Core {
    /// Takes what happened.
    pub fn step(&mut self, turn: &mut Turn, event: Event) {
        match event {
            Event::SessionOpened { session, hello } => self.session_opened(turn, session, &hello),
            Event::MessageReceived { session, message } => self.message_received(turn, session, message),
            Event::SessionClosed { session } => self.session_closed(turn, session),
            Event::ProtocolViolated { session, problem } => self.violated(turn, session, problem),
            Event::SessionSlowed { session } => self.session_slowed(turn, session),
            Event::CommandReceived { reply, command, actor } => {
                turn.actor = actor;
                let answer = self.execute(turn, command);
                turn.actor = None;
                turn.actions.push(Action::Reply { reply, answer });
            }
            Event::WindowLoaded { job, destination, items, is_end } => {
                self.window_loaded(turn.now, (job, destination), items, is_end);
            }
            Event::PlanAsked { reply, spec, violations } => {
                self.plan_asked(turn, reply, *spec, violations);
            }
            Event::VaultAsked { reply, star, call } => self.vault_asked(turn, reply, &star, call),
            Event::StoreDamaged { problem } => {
                self.post(turn, (Severity::Error, COORDINATOR, "store"), None, &problem);
            }
            Event::DeadlineReached => {}
        }
    }

    /// Ends a turn: lets time have its effects, dispatches, and gathers the records that changed.
    pub fn finish_turn(&mut self, turn: &mut Turn) {
        self.forgive_own_silence(turn.now);
        self.expire_stars(turn);
        self.end_stalls(turn);
        self.expire_asks(turn);
        self.expire_plans(turn);
        self.take_listed(turn);
        self.go_on_healing(turn);
        self.release_penalties(turn.now);
        self.ask_for_seals(turn);
        self.tell_absences(turn);
        self.ask_for_sweeps(turn);
        self.finish_plans(turn);
        self.end_finished_jobs(turn);
        self.run_due_schedules(turn);
        self.start_scans(turn);
        self.follow_bandwidth_windows(turn);
        self.dispatch(turn);
        self.load_windows(turn);
        self.end_drained_stars(turn);
        self.forget_old_history(turn);
        self.remove_items(turn);
        self.gather_records(turn);
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
        let suspicion = self.next_suspicion_deadline(now.monotonic);
        let removals = self.next_removal_deadline();
        let (absences, history) = (self.next_absence_deadline(now.monotonic), self.next_history_deadline());
        let all = [
            stars, jobs, yields, stalls, asks, seals, sweeps, plans, schedules, suspicion, absences, history,
            removals,
        ];
        self.wake_at = all.into_iter().flatten().min();
        self.wake_at
    }

    fn message_received(&mut self, turn: &mut Turn, session: SessionId, message: StarMessage) {
        let Some(star) = self.sessions.get(&session).cloned() else {
            // The session was superseded or closed; whatever it still says is late.
            self.late_count += 1;
            return;
        };
        self.star_heard(turn, &star);
        match message {
            StarMessage::Hello(_) => {
                self.violated(turn, session, "a second hello on one session".to_owned());
            }
            StarMessage::Heartbeat(heartbeat) => self.heartbeat_received(turn, &star, heartbeat),
            StarMessage::Report(report) => self.report_received(turn, session, &star, report),
            StarMessage::ScanBatch(batch) => self.scan_batch_received(turn, session, &star, batch),
            StarMessage::LifecycleChanged { state, reason } => {
                self.lifecycle_reported(turn, &star, state, &reason);
            }
            StarMessage::DrainRequested { reason } => self.drain_requested(turn, &star, &reason),
            StarMessage::Compared { request, unchanged } => {
                self.compared(turn, session, request, unchanged);
            }
            StarMessage::VaultAnswered { request, answer } => {
                self.vault_answered(turn, session, request, answer);
            }
            StarMessage::DamageFound { chunks, problem } => {
                self.damage_found(turn, &star, (chunks, &problem));
            }
            StarMessage::Noticed(notice) => {
                let whom = (notice.severity, star.as_str(), notice.category.as_str());
                self.post(turn, whom, None, &notice.text);
            }
        }
    }

    fn execute(&mut self, turn: &mut Turn, command: Command) -> Result<Answer, Refusal> {
        match command {
            Command::CreateJob { spec, request_id, violations } => {
                self.create_job(turn, *spec, request_id, violations)
            }
            Command::CreateSchedule { spec, times, request_id, violations } => {
                self.create_schedule(turn, (*spec, times), request_id, violations)
            }
            Command::PauseSchedule { schedule, reason } => self.pause_schedule(turn, schedule, &reason),
            Command::ResumeSchedule { schedule } => self.resume_schedule(turn, schedule),
            Command::RunSchedule { schedule, request_id } => self.run_schedule(turn, schedule, request_id),
            Command::UpdateSchedule(edit) => self.update_schedule(turn, *edit),
            Command::DeleteSchedule { schedule } => self.delete_schedule(turn, schedule),
            Command::PauseJob { job, reason } => self.pause_job(turn, job, &reason),
            Command::ResumeJob { job } => self.resume_job(turn, job),
            Command::CancelJob { job, reason } => self.cancel_job(turn, job, &reason),
            Command::RegisterStar { star } => self.register_star(turn, star),
            Command::ScheduleStar { star, reason } => self.schedule_star(turn, &star, &reason),
            Command::DrainStar { star, reason, deadline } => self.drain_star(turn, &star, &reason, deadline),
            Command::ShutdownStar { star, reason, force } => self.shutdown_star(turn, &star, &reason, force),
            Command::CordonStar { star, is_cordoned } => self.cordon_star(&star, is_cordoned),
            Command::RemoveStar { star } => self.remove_star(turn, &star),
            Command::SetGuardLimits { star, max_object_count, max_byte_size } => {
                self.set_guard_limits(&star, max_object_count, max_byte_size)
            }
            Command::PauseGuard { star, reason } => self.pause_guard(turn, &star, reason),
            Command::ResumeGuard { star } => self.resume_guard(&star),
            Command::ClearPenalties { job, item } => self.clear_penalties(turn, job, item),
            Command::RetryDeadLetters(filter) => self.retry_dead_letters(turn, &filter),
            Command::DiscardDeadLetters(filter) => self.discard_dead_letters(turn, &filter),
            Command::AcknowledgeBulletins(ids) => self.acknowledge_bulletins(turn, &ids),
            Command::Once { request, command } => self.execute_once(turn, request, *command),
            Command::Remember { request, told } => {
                self.remember(turn, request, Answered::Told(told));
                Ok(Answer::Done)
            }
        }
    }

    fn acknowledge_bulletins(&mut self, turn: &mut Turn, ids: &[u64]) -> Result<Answer, Refusal> {
        let acknowledged = self.board.acknowledge(ids);
        for &id in &acknowledged {
            if let Some(bulletin) = self.board.bulletin(id) {
                turn.changes.push(Change::PutBulletin(bulletin.clone()));
            }
        }
        Ok(Answer::Count(acknowledged.len() as u64))
    }

    /// Adds every record that differs from what the store has.
    fn gather_records(&mut self, turn: &mut Turn) {
        for job in self.jobs.values_mut().filter(|job| job.is_dirty) {
            job.is_dirty = false;
            turn.changes.push(Change::PutJob(Box::new(job.record.clone())));
        }
        for star in self.stars.values_mut().filter(|star| star.is_dirty) {
            star.is_dirty = false;
            turn.changes.push(Change::PutStar(Box::new(star.record.clone())));
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
            turn.changes.push(Change::PutCounters(counters));
        }
    }
}
