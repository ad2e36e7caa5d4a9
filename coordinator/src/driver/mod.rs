//! The driver: the one task that owns the core and the only place where decisions meet the world.
//!
//! It moves requests from the inbox into the turn machine ([`crate::turns`]), commits what a turn made, and executes the
//! actions that are due. What may be executed when is the machine's decision.

mod commit;
mod grant_keys;
mod inbox;
mod lost;
mod told;
pub(crate) mod verification;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use orbit_shared::bulletin::{BulletinBoard, SharedBulletinBoard};
use orbit_shared::capability::Capability;
use orbit_shared::session::{Assignment, CoordinatorMessage, Keys, RenewedGrant};
use orbit_shared::vault_call::VaultReply;
use orbit_shared::words::{JobId, SnapshotId};
use orbit_telemetry::Spans;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::core::limits::{BULLETINS_MAX, TURN_EVENTS_MAX};
use crate::core::{Action, Answer, CoreConfig, Event, Planned, QueueKey, Refusal, ReplyId, SessionId};
use crate::meters::Meters;
use crate::provenance_log::{ProvenanceLog, ProvenanceLogError};
use crate::store::{Store, StoreError};
use crate::turns::{Commit, Turns, last_committed_event};
use orbit_program::clock::Clock;

use commit::{make_durable, off_thread, timed};
pub(crate) use grant_keys::GrantKeys;
pub(crate) use inbox::{EndOfJob, Inbox, Outgoing, ReadGrant};
use inbox::{Request, View};
use told::Told;
#[cfg(test)]
pub(crate) use told::tests::record as test_job;

/// How often an idle coordinator looks whether its store is still there.
const STORE_LOOK: Duration = Duration::from_secs(1);

/// Why the driver had to stop. Nothing was told to anybody that is not durable.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The provenance log failed.
    #[error(transparent)]
    Provenance(#[from] ProvenanceLogError),
}

/// Who waits for what.
type Callers<T> = BTreeMap<ReplyId, oneshot::Sender<Result<T, Refusal>>>;

/// The driver, before it runs.
pub(crate) struct Driver {
    turns: Turns<View>,
    clock: Clock,
    store: Arc<dyn Store>,
    provenance: Arc<ProvenanceLog>,
    keys: GrantKeys,
    meters: Arc<Meters>,
    requests: mpsc::Receiver<Request>,
    /// Number of turns that have ended.
    ended_turns: watch::Sender<u64>,
    ends: broadcast::Sender<JobId>,
    outboxes: BTreeMap<SessionId, mpsc::Sender<Outgoing>>,
    /// Sessions that were welcomed, and may have ended since.
    welcomed: BTreeSet<SessionId>,
    answers: Callers<Answer>,
    plan_answers: Callers<Box<Planned>>,
    vault_answers: Callers<Box<VaultReply>>,
    next_reply: u64,
    told: Told,
}

/// A stretch of a queue to be read.
struct Window {
    job: JobId,
    destination: u32,
    after: QueueKey,
    limit: usize,
}

/// Gives a caller its answer. One that has gone away wants none.
fn give<T>(callers: &mut Callers<T>, reply: ReplyId, answer: Result<T, Refusal>) {
    let caller = callers.remove(&reply);
    let _ = caller.map(|caller| caller.send(answer));
}

impl Driver {
    /// Recovers the core from the store.
    pub(crate) fn recover(
        config: CoreConfig,
        store: Arc<dyn Store>,
        provenance: Arc<ProvenanceLog>,
        keys: GrantKeys,
        meters: Arc<Meters>,
        spans: Spans,
    ) -> Result<(Self, Inbox), DriverError> {
        let clock = Clock::start();
        let recovered = store.recover()?;
        provenance.recover(last_committed_event(&recovered))?;
        let bulletins = recovered.bulletins.iter().cloned();
        let board = BulletinBoard::restore(BULLETINS_MAX, bulletins, recovered.counters.bulletin);
        let board = SharedBulletinBoard::from(board);
        let told = Told::new(spans, &recovered, board.clone());
        let turns = Turns::recover(config, recovered, clock.now());
        let (inbox, requests, ended_turns, ends) = Inbox::new(board);
        let driver = Self {
            turns,
            clock,
            store,
            provenance,
            keys,
            meters,
            requests,
            ended_turns,
            ends,
            outboxes: BTreeMap::new(),
            welcomed: BTreeSet::new(),
            answers: BTreeMap::new(),
            plan_answers: BTreeMap::new(),
            vault_answers: BTreeMap::new(),
            next_reply: 0,
            told,
        };
        Ok((driver, inbox))
    }

    /// Runs until it is told to stop or cannot make a change durable.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), DriverError> {
        let mut looks = tokio::time::interval(STORE_LOOK);
        loop {
            // Asked for in every turn: a deadline that is long past tells the core that this process stood still.
            let deadline = self.turns.next_deadline(self.clock.now());
            if self.turns.is_idle() {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    request = self.requests.recv() => match request {
                        Some(request) => self.take(request),
                        None => break,
                    },
                    () = wait_until(self.clock, deadline) => {}
                    _ = looks.tick() => {
                        let store = self.store.clone();
                        if let Err(error) = off_thread(move || store.check()).await {
                            return self.serve_without_store(error, stop).await;
                        }
                        self.turn_keys();
                        continue;
                    }
                }
            } else if stop.is_cancelled() {
                break;
            }
            self.drain_inbox();
            if let Err(error) = self.end_turn().await {
                return self.serve_without_store(error, stop).await;
            }
        }
        tracing::debug!("the driver has stopped; every change that was told is durable");
        Ok(())
    }

    /// Takes what is in the inbox, as far as the turn has room for it.
    fn drain_inbox(&mut self) {
        for _ in 0..TURN_EVENTS_MAX {
            if !self.turns.has_room() {
                break;
            }
            let Ok(request) = self.requests.try_recv() else { break };
            self.take(request);
        }
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Event(event) => self.step(event),
            Request::OpenSession { session, hello, outbox } => {
                self.outboxes.insert(session, outbox);
                self.step(Event::SessionOpened { session, hello });
            }
            Request::Command { command, actor, answer } => {
                let reply = self.new_reply();
                self.answers.insert(reply, answer);
                self.step(Event::CommandReceived { reply, command, actor });
            }
            Request::Plan { spec, violations, answer } => {
                let reply = self.new_reply();
                self.plan_answers.insert(reply, answer);
                self.step(Event::PlanAsked { reply, spec, violations });
            }
            Request::Vault { star, call, answer } => {
                let reply = self.new_reply();
                self.vault_answers.insert(reply, answer);
                self.step(Event::VaultAsked { reply, star, call });
            }
            Request::TurnKey { revoked, answer } => {
                let session = revoked.and_then(|star| self.turns.core().star(&star)?.session);
                if let Some(session) = session {
                    self.step(Event::SessionClosed { session });
                }
                self.keys.replace(self.clock.now().monotonic);
                self.tell_keys();
                // A caller that has gone away wants no answer.
                let _ = answer.send(());
            }
            Request::ReadGrant { snapshot, answer } => {
                // A caller that has gone away wants no answer.
                let _ = answer.send(self.grant(snapshot));
            }
            Request::View(view) => self.turns.look(view),
        }
    }

    fn grant(&self, snapshot: SnapshotId) -> Result<ReadGrant, Refusal> {
        let (address, capability) = self.turns.core().readable_snapshot(snapshot)?;
        let signed = self.keys.sign(&capability);
        let token = signed.map_err(|error| Refusal::Unavailable { problem: error.to_string() })?;
        Ok(ReadGrant { address, capability, token })
    }

    fn new_reply(&mut self) -> ReplyId {
        let reply = ReplyId(self.next_reply);
        self.next_reply += 1;
        reply
    }

    fn step(&mut self, event: Event) {
        if let Event::SessionClosed { session } = &event {
            self.outboxes.remove(session);
        }
        self.turns.step(self.clock.now(), event);
    }

    /// Ends the turn: commits and executes, again for the windows that were requested, and then lets views look.
    async fn end_turn(&mut self) -> Result<(), DriverError> {
        loop {
            if let Some(commit) = self.turns.end(self.clock.now()) {
                let telling = self.told.look(&commit.changes, self.clock.now().wall);
                self.commit(commit).await?;
                self.turns.committed();
                for job in self.told.tell(telling) {
                    // It may have no reader.
                    let _ = self.ends.send(job);
                }
            }
            let mut windows = Vec::new();
            for action in self.turns.take_due() {
                self.execute(action, &mut windows);
            }
            if windows.is_empty() {
                break;
            }
            for window in windows {
                let event = load(self.store.clone(), window).await?;
                self.step(event);
            }
        }
        self.turn_keys();
        self.ended_turns.send_modify(|turn| *turn += 1);
        let now = self.clock.now();
        for view in self.turns.take_views() {
            view(self.turns.core(), now);
        }
        Ok(())
    }

    /// Makes a turn durable, and moves requests into the next one meanwhile, if it has room for them.
    async fn commit(&mut self, commit: Commit) -> Result<(), DriverError> {
        let making = make_durable(self.store.clone(), self.provenance.clone(), commit);
        let mut making = std::pin::pin!(timed(self.meters.clone(), making));
        loop {
            let has_room = self.turns.has_room();
            tokio::select! {
                biased;
                committed = &mut making => return committed,
                Some(request) = self.requests.recv(), if has_room => self.take(request),
            }
        }
    }

    fn execute(&mut self, action: Action, windows: &mut Vec<Window>) {
        match action {
            Action::Send { session, message } => {
                let is_welcome = matches!(message, CoordinatorMessage::Welcome { .. });
                self.send(session, Outgoing::Message(Box::new(message)));
                if is_welcome {
                    self.welcomed.insert(session);
                    self.tell_keys_to(session);
                }
            }
            Action::Assign { session, assignment, grant } => self.assign(session, assignment, &grant),
            Action::SignedCall { session, request, call, capability } => {
                // A Star refuses an empty token, and the call has failed.
                let call = call.with_token(self.keys.sign(&capability).unwrap_or_default());
                let message = CoordinatorMessage::CallVault { request, call };
                self.send(session, Outgoing::Message(Box::new(message)));
            }
            Action::Close { session, reason } => {
                tracing::info!(session = session.0, %reason, "closing a session");
                self.send(session, Outgoing::Close(reason));
                self.outboxes.remove(&session);
            }
            Action::LoadWindow { job, destination, after, limit } => {
                windows.push(Window { job, destination, after, limit });
            }
            Action::ForgetEvents { before } => {
                let provenance = Arc::clone(&self.provenance);
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = provenance.remove_before(before) {
                        tracing::warn!(%error, "old provenance events cannot be removed");
                    }
                });
            }
            Action::Reply { reply, answer } => give(&mut self.answers, reply, answer),
            Action::ReplyPlan { reply, answer } => give(&mut self.plan_answers, reply, answer),
            Action::ReplyVault { reply, answer } => give(&mut self.vault_answers, reply, answer),
        }
    }

    /// Replaces the key that signs grants when it is time to, and renews the grants of what is live.
    fn turn_keys(&mut self) {
        if self.keys.turn_if_due(self.clock.now().monotonic) {
            self.tell_keys();
        }
    }

    fn assign(&mut self, session: SessionId, mut assignment: Assignment, grant: &Capability) {
        self.told.given(&assignment, &grant.destination_star, self.clock.now().wall);
        match self.keys.sign(grant) {
            Ok(token) => assignment.token = token,
            // The source refuses an empty token, so the items fail, wait and are tried again.
            Err(error) => {
                tracing::error!(%error, assignment = assignment.id.0, "cannot sign a capability token");
            }
        }
        self.send(session, Outgoing::Message(Box::new(CoordinatorMessage::Assign(assignment))));
    }

    /// Tells every Star by which keys grants count from now on.
    fn tell_keys(&mut self) {
        self.welcomed.retain(|session| self.outboxes.contains_key(session));
        for session in self.welcomed.clone() {
            self.tell_keys_to(session);
        }
    }

    fn tell_keys_to(&mut self, session: SessionId) {
        let renewed =
            self.turns.core().grants_of(session).into_iter().filter_map(|(assignment, capability)| {
                // An assignment whose grant cannot be renewed goes on with the one that it has.
                Some(RenewedGrant { assignment, token: self.keys.sign(&capability).ok()? })
            });
        let keys = Keys {
            public: self.keys.in_force(),
            grants: renewed.collect(),
            live: self.turns.core().live_pulls_from(session),
        };
        let message = CoordinatorMessage::VerificationKeys(keys);
        self.send(session, Outgoing::Message(Box::new(message)));
    }

    /// Puts a message into a session's outbox. One that is full belongs to a Star that does not read: it is cut off.
    fn send(&mut self, session: SessionId, outgoing: Outgoing) {
        let Some(outbox) = self.outboxes.get(&session) else { return };
        if outbox.try_send(outgoing).is_err() {
            tracing::warn!(
                session = session.0,
                "a Star does not read its session; it is cut off and may come back"
            );
            self.outboxes.remove(&session);
            self.turns.step(self.clock.now(), Event::SessionClosed { session });
        }
    }
}

/// Reads a window from the store.
async fn load(store: Arc<dyn Store>, window: Window) -> Result<Event, DriverError> {
    let Window { job, destination, after, limit } = window;
    let page = off_thread(move || store.queue_page(job, destination, &after, limit)).await?;
    Ok(Event::WindowLoaded { job, destination, items: page.items, is_end: page.is_end })
}

async fn wait_until(clock: Clock, deadline: Option<orbit_shared::time::Monotonic>) {
    match deadline.and_then(|at| clock.instant(at)) {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
