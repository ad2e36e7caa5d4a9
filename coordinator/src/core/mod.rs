//! The coordinator's mind: pure, single-threaded, and the only owner of every decision.
//!
//! [`Core::step`] takes what happened and says what is to be made durable and then done; [`Core::finish_turn`] ends a
//! turn of several steps by dispatching and by gathering the records that changed. No clock, no randomness and no I/O
//! is reached from here: one driver feeds it, and a simulation can do so as well.
//!
//! It has rooms. Each part (`answers`, `board`, `calls`, `jobs`, `letters`, `plans`, `schedules`, `stars`) owns its fields and
//! checks itself in production. What a part has to say to operators goes to the turn, and the board takes it up. What it has to
//! tell others is a `fact::Fact`, and is taken to them here. A part that decides by what another one knows is given that to read
//! (`seen::Seen`). Only this file, `commands.rs`, `sessions.rs` and `views.rs` know more than one part.
//!
//! Invariants, asserted by [`Core::check`] in every test and simulation:
//! - an item that has not ended is in exactly one place: a lane (or only the store's queue), the penalties, or one
//!   live assignment;
//! - a Star's guard holds exactly what its live assignments hold;
//! - a Star that is not scheduled, alive and uncordoned is given nothing.

mod answers;
mod board;
mod calls;
mod change;
mod commands;
mod event;
mod fact;
mod held;
mod history;
mod jobs;
mod letters;
pub mod limits;
mod notices;
mod plans;
mod rate;
mod records;
mod refusal;
mod saying;
mod schedules;
mod seen;
mod sessions;
mod stars;
#[cfg(test)]
mod tests;
mod turn;
mod validate;
mod views;

use std::time::Duration;

use orbit_shared::backpressure::BackpressureConfig;
use orbit_shared::bulletin::Severity;
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::session::StarMessage;
use orbit_shared::time::{Monotonic, Now};
use orbit_shared::vault_call::VaultCall;
use uuid::Uuid;

pub use change::{
    AssignmentRecord, Change, Counters, DeadItem, ItemEnd, ItemEndRecord, PenalizedRecord, QueueKey,
    Recovered,
};
pub use event::{Action, Answer, CloseReason, Command, Event, ReplyId, SessionId};
pub use held::{Gate, Held};
pub use history::HistoryLimits;
pub use jobs::{ItemPlace, ItemView, JobView, PenaltyView, Totals};
pub use notices::{ACTOR, COORDINATOR, ItemNote, Noted, Way, display_location};
pub use rate::{BandwidthWindow, DAY_MINUTES};
pub use records::{
    AnswerRecord, Answered, JobEnd, JobRecord, JobSpec, JobState, Location, MirrorPolicy, Planned,
    PlannedPlace, RequestName, ScanRecord, ScheduleEdit, ScheduleRecord, ScheduleTimes, SnapshotRecord,
    StarRecord, SweepRecord, Tally,
};
pub use refusal::{Refusal, Violation};
pub use stars::{Liveness, Star, TimedSample};
pub use turn::Turn;

use answers::Answers;
use board::Board;
use calls::Calls;
use fact::Fact;
use jobs::Jobs;
use letters::Letters;
use plans::Plans;
use schedules::Schedules;
use seen::Seen;
use stars::Stars;

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
    /// As they are in the store.
    counters_kept: Counters,
    answers: Answers,
    board: Board,
    calls: Calls,
    jobs: Jobs,
    letters: Letters,
    plans: Plans,
    schedules: Schedules,
    stars: Stars,
    looks: history::Looks,
    /// When it asked to be woken.
    wake_at: Option<Monotonic>,
    /// Reports and batches that came too late to count.
    late_count: u64,
    /// What is wrong with the store, once it is lost.
    store_problem: Option<String>,
}

impl Core {
    /// A core that goes on where the store stands. Stars that held something have one lease to come back.
    pub fn recover(turn: &mut Turn, config: CoreConfig, recovered: Recovered) -> Self {
        let (counters, lease) = (recovered.counters, config.lease);
        let grid = recovered.grid.unwrap_or_else(|| {
            turn.changes.push(Change::PutGrid(config.fresh_grid));
            config.fresh_grid
        });
        let mut stars = Stars::recover(recovered.stars, lease, turn.now);
        let mut jobs = Jobs::recover(turn, config.seed, recovered.jobs);
        jobs.note_resumed(turn);
        for star in jobs.recover_items(turn, &stars, recovered.penalties, recovered.assignments) {
            stars.await_return(&star);
        }
        Self {
            config,
            grid,
            counters,
            counters_kept: counters,
            answers: Answers::recover(recovered.answers),
            board: Board::recover(recovered.bulletins, counters.bulletin),
            calls: Calls::recover(recovered.snapshots, lease),
            jobs,
            letters: Letters::recover(recovered.dead_letters, counters.dead_letter),
            plans: Plans::default(),
            schedules: Schedules::recover(recovered.schedules),
            stars,
            looks: history::Looks::default(),
            wake_at: None,
            late_count: 0,
            store_problem: None,
        }
    }

    /// Takes what happened.
    pub fn step(&mut self, turn: &mut Turn, event: Event) {
        match event {
            Event::SessionOpened { session, hello } => self.session_opened(turn, session, &hello),
            Event::MessageReceived { session, message } => self.message_received(turn, session, message),
            Event::SessionClosed { session } => self.session_closed(turn, session),
            Event::ProtocolViolated { session, problem } => self.violated(turn, session, problem),
            Event::SessionSlowed { session } => self.stars.session_slowed(turn, session),
            Event::CommandReceived { reply, command, actor } => {
                turn.actor = actor;
                let answer = self.execute(turn, command);
                turn.actor = None;
                turn.actions.push(Action::Reply { reply, answer });
            }
            Event::WindowLoaded { job, destination, items, is_end } => {
                self.jobs.window_loaded(turn.now, (job, destination), items, is_end);
            }
            Event::PlanAsked { reply, spec, violations } => {
                if let Err(refusal) = self.begin_plan(turn, reply, *spec, violations) {
                    turn.actions.push(Action::ReplyPlan { reply, answer: Err(refusal) });
                }
            }
            Event::VaultAsked { reply, star, call } => {
                let reader = match &call {
                    VaultCall::DeleteSnapshot(id) => self.jobs.reader_of(*id),
                    _ => None,
                };
                self.calls.vault_asked(turn, &self.stars, (reply, reader), &star, call);
            }
            Event::StoreDamaged { problem } => {
                turn.post((Severity::Error, COORDINATOR, "store"), None, &problem);
            }
            Event::DeadlineReached => {}
        }
        self.end_step(turn);
    }

    /// Ends a turn: lets time have its effects, dispatches, and gathers the records that changed.
    pub fn finish_turn(&mut self, turn: &mut Turn) {
        self.forgive_own_silence(turn.now);
        self.expire_stars(turn);
        self.on_jobs(turn, Jobs::end_stalls);
        self.calls.expire(turn);
        self.on_plans(turn, Plans::expire);
        self.tell_facts(turn);
        self.on_jobs(turn, Jobs::take_listed);
        self.tell_facts(turn);
        self.calls.go_on_healing(turn, &self.stars);
        self.jobs.release_penalties(turn.now);
        self.on_jobs(turn, Jobs::ask_for_seals);
        self.on_jobs(turn, Jobs::tell_absences);
        self.on_jobs(turn, Jobs::ask_for_sweeps);
        self.on_plans(turn, Plans::finish);
        self.on_jobs(turn, Jobs::end_finished);
        self.tell_facts(turn);
        self.run_due_schedules(turn);
        let planned = self.plans.scans();
        self.on_jobs(turn, |jobs, turn| jobs.start_scans(turn, &planned));
        self.on_jobs(turn, Jobs::follow_bandwidth_windows);
        self.on_jobs(turn, Jobs::dispatch);
        self.jobs.load_windows(turn);
        self.end_drained_stars(turn);
        if self.looks.is_due(turn.now) {
            self.on_jobs(turn, Jobs::forget_aged_jobs);
            history::forget_old(turn, &self.config.history);
        }
        self.jobs.remove_items(turn);
        self.end_step(turn);
        self.gather_records(turn);
    }

    /// When the core wants to be woken, if nothing happens before.
    pub fn next_deadline(&mut self, now: Now) -> Option<Monotonic> {
        let all = [
            self.stars.next_deadline(),
            self.jobs.next_deadline(&self.stars, &self.config, now.monotonic),
            self.calls.next_deadline(),
            self.plans.next_deadline(),
            self.schedules.next_deadline(now),
            self.looks.next_deadline(),
        ];
        self.wake_at = all.into_iter().flatten().min();
        self.wake_at
    }

    fn message_received(&mut self, turn: &mut Turn, session: SessionId, message: StarMessage) {
        let Some(star) = self.stars.named(session).cloned() else {
            // The session was superseded or closed; whatever it still says is late.
            turn.late += 1;
            return;
        };
        self.stars.heard(turn, &star);
        match message {
            StarMessage::Hello(_) => {
                self.violated(turn, session, "a second hello on one session".to_owned());
            }
            StarMessage::Heartbeat(heartbeat) => self.heartbeat_received(turn, &star, heartbeat),
            StarMessage::Report(report) => {
                self.on_jobs(turn, |jobs, turn| jobs.report_received(turn, session, &star, report));
            }
            StarMessage::ScanBatch(batch) => self.scan_batch_received(turn, session, &star, batch),
            StarMessage::LifecycleChanged { state, reason } => {
                self.stars.lifecycle_reported(turn, &star, state, &reason);
            }
            StarMessage::DrainRequested { reason } => self.drain_requested(turn, &star, &reason),
            StarMessage::Compared { request, unchanged } => {
                self.calls.compared(turn, (session, request), unchanged);
            }
            StarMessage::VaultAnswered { request, answer } => {
                let is_open = |star: &_, job, destination| self.jobs.is_stage_open(star, job, destination);
                self.calls.vault_answered(turn, &self.stars, (session, request), answer, is_open);
            }
            StarMessage::DamageFound { chunks, problem } => {
                self.calls.damage_found(turn, &self.stars, &star, (chunks, &problem));
            }
            StarMessage::Noticed(notice) => {
                let whom = (notice.severity, star.as_str(), notice.category.as_str());
                turn.post(whom, None, &notice.text);
            }
        }
    }

    /// Routes the facts of a turn to the parts that they concern, until there are no more.
    fn tell_facts(&mut self, turn: &mut Turn) {
        while !turn.facts.is_empty() {
            for fact in std::mem::take(&mut turn.facts) {
                self.tell(turn, fact);
            }
        }
    }

    fn tell(&mut self, turn: &mut Turn, fact: Fact) {
        match fact {
            Fact::JobCompleted(job) => self.schedules.note_success(turn, job),
            Fact::DamageSeen(star) => self.calls.look_for_damage(turn, &self.stars, &star),
            Fact::SnapshotMade(star) => self.calls.snapshot_made(turn, &self.stars, &star),
            Fact::Compared { job, destination, request, unchanged } => {
                self.jobs.compared(job, destination, request, unchanged);
            }
            Fact::PlanCompared { scan, request, unchanged } => {
                self.plans.compared(turn, scan, request, unchanged.as_ref());
            }
            Fact::SealAnswered { job, destination, star, answer } => {
                self.on_jobs(turn, |jobs, turn| jobs.seal_answered(turn, (job, destination, &star), answer));
            }
            Fact::SweepAnswered { job, destination, operation, answer } => {
                self.on_jobs(turn, |jobs, turn| {
                    jobs.sweep_answered(turn, (job, destination, operation), answer);
                });
            }
            Fact::PlanSweepAnswered { scan, destination, answer } => {
                self.plans.sweep_answered(turn.now, (scan, destination), answer);
            }
            Fact::ChunkHealed { star, hash, jobs } => self.letters.forget_loss(turn, (&star, &hash), &jobs),
            Fact::ChunkLost(loss) => self.letters.lose(turn, &loss),
            Fact::VaultHealed(star) => self.letters.forget_losses(turn, &star),
        }
    }

    /// Lets the jobs decide, with what they may see of the others.
    fn on_jobs<R>(&mut self, turn: &mut Turn, act: impl FnOnce(&mut Jobs, &mut Seen<'_>) -> R) -> R {
        let Self { config, counters, stars, calls, letters, jobs, .. } = self;
        act(jobs, &mut Seen { turn, config, counters, stars, asks: calls.asks(), letters })
    }

    /// The same for the plans.
    fn on_plans<R>(&mut self, turn: &mut Turn, act: impl FnOnce(&mut Plans, &mut Seen<'_>) -> R) -> R {
        let Self { config, counters, stars, calls, letters, plans, .. } = self;
        act(plans, &mut Seen { turn, config, counters, stars, asks: calls.asks(), letters })
    }

    /// Nothing of a step is left to be told or said.
    fn end_step(&mut self, turn: &mut Turn) {
        self.tell_facts(turn);
        self.board.take_up(turn);
        self.late_count += std::mem::take(&mut turn.late);
    }

    /// Adds every record that differs from what the store has.
    fn gather_records(&mut self, turn: &mut Turn) {
        self.jobs.gather(turn);
        self.stars.gather(turn);
        let counters = Counters {
            dead_letter: self.letters.queue().next_id(),
            bulletin: self.board.shown().next_id(),
            ..self.counters
        };
        if counters != self.counters_kept && !is_planted(Bug::CounterForgotten) {
            self.counters_kept = counters;
            turn.changes.push(Change::PutCounters(counters));
        }
    }

    /// Panics if an invariant does not hold; takes a pass over everything.
    pub fn check(&self) {
        self.answers.check_all();
        self.board.check_all();
        self.calls.check_all();
        self.jobs.check_all(&self.stars);
        self.letters.check_all();
        self.plans.check();
        self.schedules.check_all();
        self.stars.check_all();
    }
}
