//! The Star's state machine: the assignments that it holds, the reports that it must deliver, and when it may leave.
//!
//! [`StarCore::step`] takes the time and one event and returns effects, which the driver executes. The core does no
//! I/O, reads no clock and draws no random number, so a run can be replayed from its seed. It does not move data: it
//! starts an assignment, gets its outcomes, and stops or ends it.
//!
//! Work outlives a session: when the session is lost, the work goes on and its outcomes wait. The coordinator decides
//! in its next welcome what is kept. If no welcome comes within the lease, the coordinator has given the work to
//! another Star, and all of it is dropped. Scans do not outlive a session: the coordinator starts them again from the
//! last safe position.

mod event;
mod link;
mod scans;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod work;

use std::collections::VecDeque;
use std::time::Duration;

use orbit_shared::lifecycle::{LifecycleState, StarLifecycle};
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::session::{CoordinatorMessage, Heartbeat, Hello, Notice, StarMessage, limits};
use orbit_shared::time::{Monotonic, Now};
use orbit_shared::words::AssignmentId;
use uuid::Uuid;

pub use self::event::{CoreConfig, Effect, Event, Sampled, SessionEnd, Vitals};
use self::link::Link;
use self::scans::Scans;
#[cfg(test)]
pub(crate) use self::tests::{assignment as test_assignment, config as test_config};
use self::work::Work;

/// Exit code of a Star that the coordinator refuses.
const EXIT_REFUSED: u8 = 1;
/// Two processes with one identity supersede each other in turn. A process that is superseded again within this time is
/// one of them, and exits.
const SUPERSEDED_AGAIN: Duration = Duration::from_secs(10);
/// Exit code of a Star that got a second signal, as if that had killed it.
const EXIT_FORCED: u8 = 143;

/// See the module.
#[derive(Debug)]
pub struct StarCore {
    config: CoreConfig,
    lifecycle: StarLifecycle,
    link: Link,
    work: Work,
    scans: Scans,
    health: Option<Sampled>,
    /// The grid that it belongs to.
    grid: Option<Uuid>,
    /// Messages that were not sent to the operator yet.
    notices: VecDeque<Notice>,
    /// Deadline for leaving although work is left. The first signal sets it.
    stop_by: Option<Monotonic>,
    /// When another session last took over.
    superseded_at: Option<Monotonic>,
    has_exited: bool,
}

impl StarCore {
    /// A Star that has just started and is not connected.
    pub fn new(config: CoreConfig, now: Now) -> Self {
        assert!(config.coordinator_count > 0, "a Star needs an address of a coordinator");
        Self {
            link: Link::new(config.seed, config.coordinator_count),
            lifecycle: StarLifecycle::new(config.star_id.clone(), now),
            work: Work::default(),
            scans: Scans::default(),
            health: None,
            grid: config.grid,
            notices: VecDeque::new(),
            stop_by: None,
            superseded_at: None,
            has_exited: false,
            config,
        }
    }

    /// Its current lifecycle state.
    pub fn lifecycle(&self) -> LifecycleState {
        self.lifecycle.state()
    }

    /// Assignments that it works on or whose outcomes were not delivered.
    pub fn held(&self) -> impl Iterator<Item = AssignmentId> {
        self.work.held()
    }

    /// Number of reports that were sent and not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.work.unacknowledged()
    }

    /// When to step with [`Event::DeadlineReached`] if no other event comes before; `None` if never.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        if self.has_exited {
            return None;
        }
        [self.link.next_deadline(), self.stop_by].into_iter().flatten().min()
    }

    /// Takes one event and returns its effects.
    pub fn step(&mut self, now: Now, event: Event, effects: &mut Vec<Effect>) {
        if self.has_exited {
            return;
        }
        match event {
            Event::Started => self.connect(now, effects),
            Event::FromCoordinator { session, message } => {
                if self.link.is_current(session) {
                    self.hear(now, message, effects);
                }
            }
            Event::Disconnected { session, end } => {
                if self.link.is_current(session) {
                    self.lose_session(now, end, effects);
                }
            }
            Event::OutcomesProduced { assignment, outcomes } => self.work.record(assignment, outcomes),
            Event::WorkEnded { assignment } => self.work.end(assignment),
            Event::ScanBatchProduced { run, batch } => self.scans.send(run, batch, effects),
            Event::HealthSampled(mut sampled) => {
                self.keep_notices(std::mem::take(&mut sampled.notices));
                let is_first = self.health.replace(sampled).is_none();
                if is_first && self.link.is_welcomed() {
                    // Until the coordinator knows the free space, it may send what does not fit.
                    effects.push(Effect::Send(self.heartbeat(&Vitals::default())));
                }
                self.tell_notices(effects);
            }
            Event::Compared { session, request, unchanged } => {
                if self.link.is_current(session) && self.link.is_welcomed() {
                    effects.push(Effect::Send(StarMessage::Compared { request, unchanged }));
                }
            }
            Event::VaultAnswered { session, request, answer } => {
                // An answer on a session that has ended has no receiver.
                if self.link.is_current(session) && self.link.is_welcomed() {
                    effects.push(Effect::Send(StarMessage::VaultAnswered { request, answer }));
                }
            }
            Event::DamageFound { chunks, problem } => {
                // Without a session it is not lost: the coordinator asks for the damage after the next hello.
                if self.link.is_welcomed() {
                    effects.push(Effect::Send(StarMessage::DamageFound { chunks, problem }));
                }
            }
            Event::Noticed(notice) => {
                self.keep_notices(vec![notice]);
                self.tell_notices(effects);
            }
            Event::SignalReceived => self.stop(now, effects),
            Event::DeadlineReached(vitals) => self.meet_deadlines(now, &vitals, effects),
        }
        self.settle(now, effects);
        self.check();
    }

    /// Possible consequences of any event: reports that can be sent now, and the exit if nothing prevents it any more.
    fn settle(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.has_exited {
            return;
        }
        let was_drained = self.lifecycle.is_drained();
        self.count_tasks();
        if self.link.is_welcomed() {
            self.work.deliver(effects);
            if self.lifecycle.is_drained() && !was_drained {
                // The coordinator must not wait for the next heartbeat to learn that no work is left.
                effects.push(Effect::Send(self.heartbeat(&Vitals::default())));
            }
        } else if self.stop_by.is_some() && !self.work.is_running() && self.link.session().is_none() {
            // While a hello is under way, the coordinator may have given this Star work. The answer is awaited, so that
            // it can be told.
            self.exit(now, 0, "stopped while no coordinator could be reached", effects);
        }
    }

    /// Keeps messages for the operator until they can be sent. If there are too many, the oldest are dropped.
    fn keep_notices(&mut self, notices: Vec<Notice>) {
        self.notices.extend(notices);
        let surplus = self.notices.len().saturating_sub(limits::NOTICES_KEPT_MAX);
        self.notices.drain(..surplus);
    }

    fn tell_notices(&mut self, effects: &mut Vec<Effect>) {
        if self.link.is_welcomed() {
            effects.extend(self.notices.drain(..).map(|notice| Effect::Send(StarMessage::Noticed(notice))));
        }
    }

    /// Updates the lifecycle's number of tasks from the work. Each task that began or ended is counted once.
    fn count_tasks(&mut self) {
        let active = self.work.active();
        while self.lifecycle.active_tasks() < active {
            let started = self.lifecycle.task_started();
            assert!(started.is_ok(), "work began that was not accepted: {started:?}");
        }
        while self.lifecycle.active_tasks() > active {
            let has_ended = self.lifecycle.task_completed();
            assert!(has_ended, "a task ended that had not begun: {self:?}");
        }
    }

    fn hear(&mut self, now: Now, message: CoordinatorMessage, effects: &mut Vec<Effect>) {
        let is_welcome = matches!(message, CoordinatorMessage::Welcome { .. });
        if is_welcome == self.link.is_welcomed() {
            let text = "the coordinator broke the order of a session: connecting again";
            effects.push(Effect::Log { is_warning: true, text: text.to_owned() });
            effects.extend(self.link.session().map(|session| Effect::Disconnect { session }));
            return self.lose_session(now, SessionEnd::Lost(text.to_owned()), effects);
        }
        match message {
            CoordinatorMessage::Welcome { epoch, heartbeat_interval, lease, kept, grid } => {
                self.link.welcome(now, heartbeat_interval, lease);
                self.tell_notices(effects);
                let text = format!("session {epoch} is open");
                effects.push(Effect::Log { is_warning: false, text });
                self.join_grid(grid, effects);
                if let Some(id) = kept.iter().find(|id| !self.work.is_held(**id)) {
                    // The lease ended while the hello was under way. The coordinator would hold that work here for
                    // ever; the next hello corrects that.
                    let text = format!("assignment {id} was given up meanwhile: connecting again");
                    effects.extend(self.link.session().map(|session| Effect::Disconnect { session }));
                    return self.lose_session(now, SessionEnd::Lost(text), effects);
                }
                if !is_planted(Bug::DroppedWorkGoesOn) {
                    self.work.keep_only(&kept, effects);
                }
                if !is_planted(Bug::ReportsNotSentAgain) {
                    self.work.send_again(effects);
                }
                if self.stop_by.is_some() {
                    effects.push(Effect::Send(drain_request()));
                }
            }
            CoordinatorMessage::VerificationKeys(keys) => effects.push(Effect::UpdateKeys(keys)),
            CoordinatorMessage::SetLifecycle { state, reason } => {
                self.set_lifecycle(now, state, &reason, effects);
            }
            CoordinatorMessage::Assign(assignment) => {
                let accepts_work =
                    self.lifecycle.accepts_work() || is_planted(Bug::WorkAcceptedWhileDraining);
                self.work.assign(assignment, accepts_work, effects);
            }
            CoordinatorMessage::Withdraw { assignment, is_job_over } => {
                self.work.withdraw(assignment, is_job_over, effects);
            }
            CoordinatorMessage::JobEnded { job } => effects.push(Effect::ForgetJob(job)),
            CoordinatorMessage::StartScan(request) => self.scans.start(request, effects),
            CoordinatorMessage::ScanAcknowledged { scan, number } => {
                self.scans.acknowledge(scan, number, effects);
            }
            CoordinatorMessage::CancelScan { scan } => self.scans.cancel(scan, effects),
            CoordinatorMessage::ReportsAcknowledged { number } => self.work.acknowledge(number, effects),
            CoordinatorMessage::Compare { request, comparison } => {
                effects.extend(self.link.session().map(|session| Effect::Compare {
                    session,
                    request,
                    comparison,
                }));
            }
            CoordinatorMessage::CallVault { request, call } => {
                effects.extend(self.link.session().map(|session| Effect::CallVault {
                    session,
                    request,
                    call,
                }));
            }
        }
    }

    /// The coordinator has accepted this Star. From now on it belongs to that grid.
    fn join_grid(&mut self, grid: Option<Uuid>, effects: &mut Vec<Effect>) {
        let Some(grid) = grid.filter(|_| grid != self.grid) else { return };
        if let Some(before) = self.grid.replace(grid) {
            let text = format!("this Star belonged to grid {before}; grid {grid} has taken it over");
            effects.push(Effect::Log { is_warning: true, text });
        }
        effects.push(Effect::KeepGrid(grid));
    }

    fn set_lifecycle(&mut self, now: Now, state: LifecycleState, reason: &str, effects: &mut Vec<Effect>) {
        match self.lifecycle.apply_remote(now, state, reason) {
            Ok(None) => return,
            Ok(Some(_)) => {}
            Err(refused) => {
                return effects.push(Effect::Log {
                    is_warning: true,
                    text: format!("the coordinator erred: {refused}"),
                });
            }
        }
        effects.push(Effect::Log { is_warning: false, text: format!("lifecycle: {state}: {reason}") });
        effects.push(Effect::Send(StarMessage::LifecycleChanged { state, reason: reason.to_owned() }));
        match state {
            LifecycleState::Registered | LifecycleState::Scheduled | LifecycleState::Draining => {}
            LifecycleState::Shutdown => {
                self.exit(now, 0, &format!("shut down by the coordinator: {reason}"), effects);
            }
        }
    }

    /// Stops taking work without a coordinator's order, since no coordinator is connected.
    fn drain_alone(&mut self, now: Now) {
        if self.lifecycle.accepts_work() {
            let drained = self.lifecycle.on_draining(now, self.stop_by, "stopped without a coordinator");
            assert!(drained.is_ok(), "what takes work can be drained: {drained:?}");
        }
    }

    fn lose_session(&mut self, now: Now, end: SessionEnd, effects: &mut Vec<Effect>) {
        self.scans.stop_all(effects);
        match end {
            SessionEnd::Lost(why) => {
                let delay = self.link.lose(now);
                let text = format!("no session: {why}; next attempt in {} ms", delay.as_millis());
                effects.push(Effect::Log { is_warning: true, text });
                if self.stop_by.is_some() {
                    self.drain_alone(now);
                }
            }
            SessionEnd::Superseded(why) => {
                let before = self.superseded_at.replace(now.monotonic);
                let is_again = before.is_some_and(|at| now.monotonic.since(at) < SUPERSEDED_AGAIN);
                let end = if is_again { SessionEnd::Refused(why) } else { SessionEnd::Lost(why) };
                self.lose_session(now, end, effects);
            }
            SessionEnd::Refused(why) => {
                self.link.lose(now);
                self.exit(now, EXIT_REFUSED, &why, effects);
            }
        }
    }

    /// The first signal asks for a drain, the second ends the process.
    fn stop(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.stop_by.is_some() {
            return self.exit(now, EXIT_FORCED, "asked to stop a second time", effects);
        }
        self.stop_by = Some(now.monotonic + self.config.drain_timeout);
        if self.link.is_welcomed() {
            // This is sent even before the Star is put to work, since that order may be under way.
            effects.push(Effect::Send(drain_request()));
        } else {
            self.drain_alone(now);
        }
    }

    fn meet_deadlines(&mut self, now: Now, vitals: &Vitals, effects: &mut Vec<Effect>) {
        if self.stop_by.is_some_and(|stop_by| stop_by <= now.monotonic) {
            let count = self.work.held().count();
            let reason = format!("the drain took too long; {count} assignments go back to the coordinator");
            return self.exit(now, 0, &reason, effects);
        }
        if self.link.end_lease(now) && !is_planted(Bug::LeaseIgnored) {
            let text = "no session within the lease: the coordinator has given the work to another Star";
            effects.push(Effect::Log { is_warning: true, text: text.to_owned() });
            let was_idle = self.work.is_idle();
            self.work.withdraw_all(effects);
            if !was_idle && let Some(session) = self.link.session() {
                // The hello under way lists that work as held, and a coordinator that keeps it would wait for it for
                // ever. The next hello corrects that.
                effects.push(Effect::Disconnect { session });
                let why = "the lease ended before the coordinator answered".to_owned();
                self.lose_session(now, SessionEnd::Lost(why), effects);
            }
        }
        if self.link.is_heartbeat_due(now) {
            effects.push(Effect::Send(self.heartbeat(vitals)));
            effects.push(Effect::SampleHealth);
        }
        if let Some(session) = self.link.overdue_welcome(now) {
            effects.push(Effect::Disconnect { session });
            self.lose_session(now, SessionEnd::Lost("the coordinator does not answer".to_owned()), effects);
        }
        if self.link.is_retry_due(now) {
            self.connect(now, effects);
        }
    }

    fn connect(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let (session, coordinator) = self.link.connect(now);
        let hello = Hello {
            star_id: self.config.star_id.clone(),
            identity: self.config.identity,
            instance: self.config.instance,
            data_address: self.config.data_address.clone(),
            roots: self.config.roots.clone(),
            labels: self.config.labels.clone(),
            version: self.config.version.clone(),
            held: self.work.held().collect(),
            lifecycle: self.lifecycle.state(),
            begun: Some(self.config.begun.clone()),
            grid: self.grid,
            semantic_rules: self.config.semantic_rules.clone(),
        };
        effects.push(Effect::Connect { session, coordinator, hello: Box::new(hello) });
    }

    fn heartbeat(&self, vitals: &Vitals) -> StarMessage {
        let health = self.health.clone();
        let vault_bytes = health.as_ref().and_then(|health| health.vault_bytes);
        let vault_sample = health.as_ref().and_then(|health| health.vault_sample);
        let (advisories, root_space) =
            health.map_or_else(Default::default, |health| (health.advisories, health.root_space));
        let progress = vitals.progress.iter().map(|(id, bytes)| (*id, *bytes));
        StarMessage::Heartbeat(Heartbeat {
            lifecycle: self.lifecycle.state(),
            active_tasks: u32::try_from(self.work.held().count()).unwrap_or(u32::MAX),
            served_pulls: vitals.served_pulls,
            sample: self.health.as_ref().map(|health| health.sample),
            advisories,
            progress: progress.filter(|(id, _)| self.work.is_held(*id)).collect(),
            root_space,
            vault_bytes,
            vault_sample,
        })
    }

    fn exit(&mut self, now: Now, code: u8, reason: &str, effects: &mut Vec<Effect>) {
        assert!(!self.has_exited, "a Star exits once: {self:?}");
        let leaves_by_itself = self.lifecycle.on_shutdown(now, reason).is_ok();
        if leaves_by_itself && self.link.is_welcomed() {
            // The coordinator can then give the work to others now instead of when the lease ends.
            let state = LifecycleState::Shutdown;
            effects.push(Effect::Send(StarMessage::LifecycleChanged { state, reason: reason.to_owned() }));
        }
        self.work.withdraw_all(effects);
        self.scans.stop_all(effects);
        self.has_exited = true;
        effects.push(Effect::Exit { code, reason: reason.to_owned() });
    }

    /// Invariants after every step.
    fn check(&self) {
        self.link.check();
        self.work.check();
        self.scans.check();
        assert!(self.scans.is_empty() || self.link.is_welcomed(), "a scan outlived its session: {self:?}");
        assert!(!self.has_exited || self.work.is_idle(), "a Star that has left holds work: {self:?}");
        assert!(self.lifecycle.active_tasks() == self.work.active(), "tasks are miscounted: {self:?}");
        assert!(
            (self.lifecycle.state() == LifecycleState::Shutdown) == self.has_exited,
            "to be shut down and to have left are one: {self:?}"
        );
        assert!(
            self.has_exited || self.next_deadline().is_some(),
            "nothing would ever happen again: {self:?}"
        );
    }
}

fn drain_request() -> StarMessage {
    StarMessage::DrainRequested { reason: "the process was asked to stop".to_owned() }
}
