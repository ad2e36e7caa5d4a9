//! The driver: the one task that owns the core and the only place where decisions meet the world.
//!
//! A turn: take what is in the inbox, step every event, let the core finish the turn, make all changes durable in one
//! commit, and only then execute what the core wants done. While a commit runs, the next turn is gathered and stepped,
//! so that it carries more: group commit without a timer. What is stepped but not committed is told to nobody.

mod commit;
mod inbox;
mod told;

use std::collections::BTreeMap;
use std::sync::Arc;

use orbit_shared::capability::{Capability, CapabilitySigner};
use orbit_shared::session::{Assignment, CoordinatorMessage};
use orbit_shared::words::{JobId, SnapshotId, StarId};
use orbit_telemetry::Spans;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::core::limits::TURN_EVENTS_MAX;
use crate::core::{Action, Answer, Core, CoreConfig, Effects, Event, QueueKey, Refusal, ReplyId, SessionId};
use crate::meters::Meters;
use crate::provenance_log::{ProvenanceLog, ProvenanceLogError};
use crate::store::{Store, StoreError};

use commit::{make_durable, off_thread, timed};
pub(crate) use inbox::{EndOfJob, Inbox, Outgoing, ReadGrant};
use inbox::{Request, View};
use told::Told;
#[cfg(test)]
pub(crate) use told::tests::record as test_job;

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

/// The driver, before it runs.
pub(crate) struct Driver {
    core: Core,
    clock: Clock,
    store: Arc<dyn Store>,
    provenance: Arc<ProvenanceLog>,
    signer: CapabilitySigner,
    meters: Arc<Meters>,
    requests: mpsc::Receiver<Request>,
    turns: watch::Sender<u64>,
    ends: broadcast::Sender<JobId>,
    outboxes: BTreeMap<SessionId, mpsc::Sender<Outgoing>>,
    answers: BTreeMap<ReplyId, oneshot::Sender<Result<Answer, Refusal>>>,
    next_reply: u64,
    effects: Effects,
    told: Told,
}

/// A stretch of a queue to be read.
struct Load {
    job: JobId,
    destination: u32,
    after: QueueKey,
    limit: usize,
}

impl Driver {
    /// Recovers the core from the store.
    pub(crate) fn recover(
        config: CoreConfig,
        store: Arc<dyn Store>,
        provenance: Arc<ProvenanceLog>,
        signer: CapabilitySigner,
        meters: Arc<Meters>,
        spans: Spans,
    ) -> Result<(Self, Inbox), DriverError> {
        let clock = Clock::start();
        let mut effects = Effects::default();
        let recovered = store.recover()?;
        provenance.recover(recovered.last_event)?;
        let told = Told::new(spans, &recovered);
        let core = Core::recover(config, recovered, clock.now(), &mut effects);
        let (inbox, requests, turns, ends) = Inbox::new();
        let driver = Self {
            core,
            clock,
            store,
            provenance,
            signer,
            meters,
            requests,
            turns,
            ends,
            outboxes: BTreeMap::new(),
            answers: BTreeMap::new(),
            next_reply: 0,
            effects,
            told,
        };
        Ok((driver, inbox))
    }

    /// Runs until it is told to stop or cannot make a change durable.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), DriverError> {
        let mut views = Vec::new();
        // Of the turn that is being gathered; those that came while the turn before was committed are in it already.
        let mut taken = 0;
        loop {
            // Asked for in every turn: a deadline that is long past tells the core that this process stood still.
            let deadline = self.core.next_deadline(self.clock.now());
            if taken == 0 {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    request = self.requests.recv() => match request {
                        Some(request) => self.take(request, &mut views),
                        None => break,
                    },
                    () = wait_until(self.clock, deadline) => {}
                }
                taken = 1;
            } else if stop.is_cancelled() {
                break;
            }
            for _ in taken..TURN_EVENTS_MAX {
                let Ok(request) = self.requests.try_recv() else { break };
                self.take(request, &mut views);
            }
            taken = self.end_turn(&mut views).await?;
        }
        tracing::debug!("the driver has stopped; every change that was told is durable");
        Ok(())
    }

    fn take(&mut self, request: Request, views: &mut Vec<View>) {
        match request {
            Request::Event(event) => self.step(event),
            Request::OpenSession { session, hello, outbox } => {
                self.outboxes.insert(session, outbox);
                self.step(Event::SessionOpened { session, hello });
            }
            Request::Command { command, answer } => {
                let reply = self.wait_for(answer);
                self.step(Event::CommandReceived { reply, command });
            }
            Request::Plan { spec, violations, answer } => {
                let reply = self.wait_for(answer);
                self.step(Event::PlanAsked { reply, spec, violations });
            }
            Request::Vault { star, call, answer } => {
                let reply = self.wait_for(answer);
                self.step(Event::VaultAsked { reply, star, call });
            }
            Request::ReadGrant { snapshot, answer } => {
                // A caller that has gone away wants no answer.
                let _ = answer.send(self.grant(snapshot));
            }
            Request::View(view) => views.push(view),
        }
    }

    fn grant(&self, snapshot: SnapshotId) -> Result<ReadGrant, Refusal> {
        let (address, capability) = self.core.readable_snapshot(snapshot)?;
        let signed = self.signer.sign(&capability);
        let token = signed.map_err(|error| Refusal::Unavailable { problem: error.to_string() })?;
        Ok(ReadGrant { address, capability, token })
    }

    fn wait_for(&mut self, answer: oneshot::Sender<Result<Answer, Refusal>>) -> ReplyId {
        let reply = ReplyId(self.next_reply);
        self.next_reply += 1;
        self.answers.insert(reply, answer);
        reply
    }

    fn step(&mut self, event: Event) {
        if let Event::SessionClosed { session } = &event {
            self.outboxes.remove(session);
        }
        self.core.step(self.clock.now(), event, &mut self.effects);
    }

    /// Finishes the turn: commits, executes, feeds what the store had to say back until nothing is asked any more, and
    /// then lets `views` look. Gives the number of requests of the next turn that were taken meanwhile, whose views are
    /// in `views`.
    async fn end_turn(&mut self, views: &mut Vec<View>) -> Result<usize, DriverError> {
        let shown = std::mem::take(views);
        let mut taken = 0;
        loop {
            self.core.finish_turn(self.clock.now(), &mut self.effects);
            let Effects { changes, provenance, actions } = std::mem::take(&mut self.effects);
            let telling = self.told.look(&changes, self.clock.now().wall);
            let commit = timed(
                self.meters.clone(),
                !changes.is_empty() || !provenance.is_empty(),
                make_durable(self.store.clone(), self.provenance.clone(), changes, provenance),
            );
            // What is read from the store belongs to the core as it is now, and a view must see nothing that is not
            // durable; in all other cases the core goes on while the disk writes.
            let is_still = !shown.is_empty() || actions.iter().any(is_load);
            if is_still {
                commit.await?;
            } else {
                taken = self.step_beside(commit, views).await?;
            }
            for job in self.told.tell(telling) {
                // Nobody may be waiting for it.
                let _ = self.ends.send(job);
            }
            let mut loads = Vec::new();
            for action in actions {
                self.execute(action, &mut loads);
            }
            if loads.is_empty() {
                break;
            }
            for load in loads {
                let event = self.load(load).await?;
                self.step(event);
            }
        }
        self.turns.send_modify(|turn| *turn += 1);
        let now = self.clock.now();
        shown.into_iter().for_each(|view| view(&self.core, now));
        Ok(taken)
    }

    /// Steps events of the next turn while a commit is under way. Their effects wait for a commit of their own.
    async fn step_beside(
        &mut self,
        commit: impl Future<Output = Result<(), DriverError>>,
        views: &mut Vec<View>,
    ) -> Result<usize, DriverError> {
        let mut commit = std::pin::pin!(commit);
        let mut taken = 0;
        loop {
            tokio::select! {
                biased;
                committed = &mut commit => return committed.map(|()| taken),
                Some(request) = self.requests.recv(), if taken < TURN_EVENTS_MAX => {
                    self.take(request, views);
                    taken += 1;
                }
            }
        }
    }

    async fn load(&self, load: Load) -> Result<Event, DriverError> {
        let store = self.store.clone();
        let Load { job, destination, after, limit } = load;
        let page = off_thread(move || store.queue_page(job, destination, &after, limit)).await?;
        Ok(Event::WindowLoaded { job, destination, items: page.items, is_end: page.is_end })
    }

    fn execute(&mut self, action: Action, loads: &mut Vec<Load>) {
        match action {
            Action::Send { session, message } => {
                let is_welcome = matches!(message, CoordinatorMessage::Welcome { .. });
                self.send(session, Outgoing::Message(Box::new(message)));
                if is_welcome {
                    let keys = vec![self.signer.verification_key()];
                    self.send(
                        session,
                        Outgoing::Message(Box::new(CoordinatorMessage::VerificationKeys(keys))),
                    );
                }
            }
            Action::Assign { session, assignment, destination_star } => {
                self.assign(session, assignment, destination_star);
            }
            Action::SignedCall { session, request, call, capability } => {
                // A Star refuses an empty token, and the call has failed.
                let call = call.with_token(self.signer.sign(&capability).unwrap_or_default());
                let message = CoordinatorMessage::CallVault { request, call };
                self.send(session, Outgoing::Message(Box::new(message)));
            }
            Action::Close { session, reason } => {
                tracing::info!(session = session.0, %reason, "closing a session");
                self.send(session, Outgoing::Close(reason));
                self.outboxes.remove(&session);
            }
            Action::LoadWindow { job, destination, after, limit } => {
                loads.push(Load { job, destination, after, limit });
            }
            Action::Reply { reply, answer } => {
                if let Some(caller) = self.answers.remove(&reply) {
                    // A caller that has gone away wants no answer.
                    let _ = caller.send(answer);
                }
            }
        }
    }

    fn assign(&mut self, session: SessionId, mut assignment: Assignment, destination_star: StarId) {
        self.told.given(&assignment, &destination_star, self.clock.now().wall);
        let capability = Capability {
            job: assignment.job,
            source_star: assignment.source_star.clone(),
            source_path: assignment.source_path.clone(),
            destination_star,
            snapshot: assignment.source_snapshot,
            is_for_chunks: false,
        };
        match self.signer.sign(&capability) {
            Ok(token) => assignment.token = token,
            // The source refuses an empty token, so the items fail, wait and are tried again.
            Err(error) => {
                tracing::error!(%error, assignment = assignment.id.0, "cannot sign a capability token");
            }
        }
        self.send(session, Outgoing::Message(Box::new(CoordinatorMessage::Assign(assignment))));
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
            self.core.step(self.clock.now(), Event::SessionClosed { session }, &mut self.effects);
        }
    }
}

fn is_load(action: &Action) -> bool {
    matches!(action, Action::LoadWindow { .. })
}

async fn wait_until(clock: Clock, deadline: Option<orbit_shared::time::Monotonic>) {
    match deadline.and_then(|at| clock.instant(at)) {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
