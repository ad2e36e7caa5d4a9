//! How everything else reaches the driver: events, commands and questions go through one bounded queue.

use orbit_shared::bulletin::SharedBulletinBoard;
use orbit_shared::capability::Capability;
use orbit_shared::session::{CoordinatorMessage, Hello};
use orbit_shared::time::Now;
use orbit_shared::vault_call::{VaultCall, VaultReply};
use orbit_shared::words::{JobId, SnapshotId, StarId};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::actor::Actor;
use crate::core::limits::{INBOX_MAX, SESSION_OUTBOX_MAX};
use crate::core::{
    Answer, CloseReason, Command, Core, Event, JobSpec, Planned, Refusal, SessionId, Violation,
};

/// How many ends of jobs are kept for those who wait for one and have not looked yet.
const ENDS_MAX: usize = 64;

/// What leaves on a session.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A message. Most are small, and the largest should not make every place in a queue as large.
    Message(Box<CoordinatorMessage>),
    /// The end.
    Close(CloseReason),
}

pub(super) type View = Box<dyn FnOnce(&Core, Now) + Send>;

pub(super) enum Request {
    Event(Event),
    OpenSession {
        session: SessionId,
        hello: Hello,
        outbox: mpsc::Sender<Outgoing>,
    },
    Command {
        command: Command,
        actor: Option<String>,
        answer: oneshot::Sender<Result<Answer, Refusal>>,
    },
    Plan {
        spec: Box<JobSpec>,
        violations: Vec<Violation>,
        answer: oneshot::Sender<Result<Box<Planned>, Refusal>>,
    },
    Vault {
        star: StarId,
        call: VaultCall,
        answer: oneshot::Sender<Result<Box<VaultReply>, Refusal>>,
    },
    TurnKey {
        revoked: Option<StarId>,
        answer: oneshot::Sender<()>,
    },
    ReadGrant {
        snapshot: SnapshotId,
        answer: oneshot::Sender<Result<ReadGrant, Refusal>>,
    },
    View(View),
}

/// The right to read a snapshot's tree from its Star.
#[derive(Debug)]
pub(crate) struct ReadGrant {
    /// The Star's data plane, `host:port`.
    pub(crate) address: String,
    /// What is granted.
    pub(crate) capability: Capability,
    /// The same, signed.
    pub(crate) token: String,
}

/// How everything else reaches the driver.
#[derive(Clone)]
pub(crate) struct Inbox {
    requests: mpsc::Sender<Request>,
    turns: watch::Receiver<u64>,
    ends: broadcast::WeakSender<JobId>,
    board: SharedBulletinBoard,
}

impl Inbox {
    /// An inbox, what comes out of it, and what tells it that a turn has ended, and a job.
    pub(super) fn new(
        board: SharedBulletinBoard,
    ) -> (Self, mpsc::Receiver<Request>, watch::Sender<u64>, broadcast::Sender<JobId>) {
        let (sender, requests) = mpsc::channel(INBOX_MAX);
        let (turns, turn) = watch::channel(0);
        let (ends, _) = broadcast::channel(ENDS_MAX);
        (Self { requests: sender, turns: turn, ends: ends.downgrade(), board }, requests, turns, ends)
    }

    /// Announces a session. What is to be said on it arrives in the returned channel; when that closes, the Star was
    /// too slow to read.
    pub(crate) async fn open_session(
        &self,
        session: SessionId,
        hello: Hello,
    ) -> Result<mpsc::Receiver<Outgoing>, Refusal> {
        let (outbox, outgoing) = mpsc::channel(SESSION_OUTBOX_MAX);
        self.send(Request::OpenSession { session, hello, outbox }).await?;
        Ok(outgoing)
    }

    /// Hands an event to the core.
    pub(crate) async fn event(&self, event: Event) -> Result<(), Refusal> {
        self.send(Request::Event(event)).await
    }

    /// Executes a command; answered once its outcome is durable.
    pub(crate) async fn command(&self, command: Command) -> Result<Answer, Refusal> {
        let (answer, answered) = oneshot::channel();
        let actor = Actor::current().map(|actor| actor.name);
        self.send(Request::Command { command, actor, answer }).await?;
        answered.await.map_err(|_| stopping())?
    }

    /// Asks what a job would do; answered when its source is listed.
    pub(crate) async fn plan(&self, spec: JobSpec, violations: Vec<Violation>) -> Result<Planned, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.send(Request::Plan { spec: Box::new(spec), violations, answer }).await?;
        let planned = answered.await.map_err(|_| stopping())??;
        Ok(*planned)
    }

    /// Asks a vault for something; answered when the vault answers, or cannot.
    pub(crate) async fn ask_vault(&self, star: StarId, call: VaultCall) -> Result<VaultReply, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.send(Request::Vault { star, call, answer }).await?;
        let reply = answered.await.map_err(|_| stopping())??;
        Ok(*reply)
    }

    /// Replaces the key that signs grants, and sends it to every connected Star, with new grants for live work. The session of a revoked
    /// Star ends first, so that its pulls end.
    pub(crate) async fn turn_key(&self, revoked: Option<StarId>) -> Result<(), Refusal> {
        let (answer, answered) = oneshot::channel();
        self.send(Request::TurnKey { revoked, answer }).await?;
        answered.await.map_err(|_| stopping())
    }

    /// Lets an operator's program read a snapshot.
    pub(crate) async fn read_grant(&self, snapshot: SnapshotId) -> Result<ReadGrant, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.send(Request::ReadGrant { snapshot, answer }).await?;
        answered.await.map_err(|_| stopping())?
    }

    /// Looks at the core between two turns.
    pub(crate) async fn view<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core, Now) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        let view: View = Box::new(move |core, now| {
            // A caller that has gone away wants no answer.
            let _ = answer.send(look(core, now));
        });
        self.send(Request::View(view)).await?;
        answered.await.map_err(|_| stopping())
    }

    /// The bulletin board, as of the last turn that is durable.
    pub(crate) fn board(&self) -> &SharedBulletinBoard {
        &self.board
    }

    /// Changes whenever a turn has ended.
    pub(crate) fn turns(&self) -> watch::Receiver<u64> {
        self.turns.clone()
    }

    /// Waits for the end of a job that ends from now on. A waiter that misses too many ends is told that this job may
    /// be among them.
    pub(crate) fn end_of(&self, job: JobId) -> EndOfJob {
        EndOfJob { job, ends: self.ends.upgrade().map(|ends| ends.subscribe()) }
    }

    async fn send(&self, request: Request) -> Result<(), Refusal> {
        self.requests.send(request).await.map_err(|_| stopping())
    }
}

/// The end of a job that someone waits for.
#[derive(Debug)]
pub(crate) struct EndOfJob {
    job: JobId,
    /// Nothing once the driver has stopped.
    ends: Option<broadcast::Receiver<JobId>>,
}

impl EndOfJob {
    /// Waits until the job has ended, durably; for ever if the driver stops before.
    pub(crate) async fn wait(&mut self) {
        while let Some(ends) = &mut self.ends {
            match ends.recv().await {
                Ok(ended) if ended == self.job => return,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => self.ends = None,
            }
        }
        std::future::pending::<()>().await;
    }
}

fn stopping() -> Refusal {
    Refusal::Unavailable { problem: "the coordinator is stopping; try again in a moment".to_owned() }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll(future: impl Future<Output = ()>) -> Poll<()> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn the_end_of_one_job_is_told_to_who_waits_for_it() {
        let (inbox, _requests, _turns, ends) = Inbox::new(SharedBulletinBoard::new(1));
        let mut end = inbox.end_of(JobId(7));
        ends.send(JobId(6)).unwrap();
        assert_eq!(poll(end.wait()), Poll::Pending);
        ends.send(JobId(7)).unwrap();
        assert_eq!(poll(end.wait()), Poll::Ready(()));
        assert_eq!(poll(end.wait()), Poll::Pending, "once");
    }

    #[test]
    fn who_has_missed_ends_looks_for_himself_and_nobody_waits_in_vain_for_a_driver_that_has_stopped() {
        let (inbox, _requests, _turns, ends) = Inbox::new(SharedBulletinBoard::new(1));
        let mut end = inbox.end_of(JobId(7));
        for other in 0..=ENDS_MAX as u64 {
            ends.send(JobId(100 + other)).unwrap();
        }
        assert_eq!(poll(end.wait()), Poll::Ready(()));
        drop(ends);
        assert_eq!(poll(end.wait()), Poll::Pending, "the stream ends by the driver's turns, not by this");
        assert_eq!(poll(inbox.end_of(JobId(7)).wait()), Poll::Pending);
    }
}
