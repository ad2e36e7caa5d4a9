//! Owns the core: passes it the events from one bounded inbox, and executes its effects.
//!
//! The driver never waits for a peer or a disk: sessions, work, scans, samples and the journal run in their own tasks
//! and report into the inbox. Those tasks may wait for the driver. The driver waits for them only when it exits.

mod slots;
#[cfg(test)]
mod tests;
mod work;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use orbit_shared::comparison::Comparison;
use orbit_shared::session::{Assignment, Hello, Keys, RenewedGrant, ScanRequest, limits};
use orbit_shared::vault_call::VaultCall;
use orbit_shared::words::{AssignmentId, Layout, StarId};
use orbit_telemetry::{Kind, Spans};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Endpoint;
use tracing::{info, warn};

use crate::core::{Effect, Event, SessionEnd, StarCore, Vitals};
use crate::grpc::session::Session;
use crate::health::{HealthProbe, Reserved};
use crate::in_force::InForce;
use crate::plane::DataPlane;
use crate::vault::Vault;
use orbit_identity::network::Network;
use orbit_program::clock::Clock;
use slots::Slots;
use work::Work;

/// Maximum number of events in the inbox. Beyond it senders wait.
pub const INBOX_MAX: usize = 256;
/// Maximum number of groups of outcomes of one assignment that wait for the inbox.
const OUTCOMES_READY_MAX: usize = 4;
/// Maximum number of events taken in one turn before deadlines are checked again.
const EVENTS_PER_TURN_MAX: usize = 64;
/// How long a Star that exits waits until its last messages are sent.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a Star that exits waits for its work to clean up.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(5);

/// How a Star ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitReport {
    /// The exit code of the process, if this Star is all that it runs.
    pub code: u8,
    /// The reason, as text.
    pub reason: String,
}

/// What the driver needs from outside.
pub(crate) struct Surroundings {
    pub(crate) star: StarId,
    pub(crate) clock: Clock,
    pub(crate) plane: Arc<dyn DataPlane>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) coordinators: Vec<Endpoint>,
    pub(crate) keys: watch::Sender<InForce>,
    pub(crate) spans: Spans,
}

/// See the module.
pub(crate) struct Driver {
    core: StarCore,
    world: Surroundings,
    probe: Arc<Probe>,
    inbox: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    session: Option<Session>,
    running: BTreeMap<AssignmentId, Running>,
    scans: BTreeMap<u64, RunningScan>,
    slots: Arc<Slots>,
    tracker: TaskTracker,
    exit: Option<ExitReport>,
}

/// The probe, and whether it is running: a hanging file system must not block more and more threads.
struct Probe {
    probe: std::sync::Mutex<HealthProbe>,
    is_busy: AtomicBool,
}

struct Running {
    /// Total size of its files in bytes.
    size: u64,
    /// Whether they go into the vault.
    is_packed: bool,
    progress: Arc<AtomicU64>,
    cancel: CancellationToken,
    /// Cancelled when every outcome is safe at the coordinator.
    safe: CancellationToken,
    /// Whether its job has ended; set before `cancel`.
    is_over: Arc<AtomicBool>,
    /// A grant that is newer than the one in the assignment, until its work begins.
    token: Arc<Mutex<Option<String>>>,
}

struct RunningScan {
    credits: Arc<Semaphore>,
    cancel: CancellationToken,
}

impl Driver {
    /// Makes a driver, and the sender of its inbox.
    pub(crate) fn new(
        core: StarCore,
        world: Surroundings,
        probe: HealthProbe,
    ) -> (Self, mpsc::Sender<Event>) {
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        let probe = Arc::new(Probe { probe: std::sync::Mutex::new(probe), is_busy: AtomicBool::new(false) });
        let driver = Self {
            core,
            world,
            probe,
            inbox,
            sender: sender.clone(),
            session: None,
            running: BTreeMap::new(),
            scans: BTreeMap::new(),
            slots: Arc::default(),
            tracker: TaskTracker::new(),
            exit: None,
        };
        (driver, sender)
    }

    /// Runs the Star until it exits by itself, or `stop` cuts it off.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> ExitReport {
        self.step(Event::Started);
        let report = loop {
            if let Some(report) = self.exit.take() {
                break report;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    break ExitReport { code: 0, reason: "stopped by its owner".to_owned() };
                }
                () = wait_until(self.world.clock, self.core.next_deadline()) => {
                    let vitals = self.vitals();
                    self.step(Event::DeadlineReached(vitals));
                }
                event = self.inbox.recv() => {
                    let event = event.expect("the driver holds a sender of its own inbox");
                    self.turn(event);
                }
            }
        };
        self.leave().await;
        report
    }

    /// Takes the events that are in the inbox, up to a limit.
    fn turn(&mut self, first: Event) {
        self.step(first);
        for _ in 1..EVENTS_PER_TURN_MAX {
            match self.inbox.try_recv() {
                Ok(event) => self.step(event),
                Err(_) => return,
            }
        }
    }

    fn step(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.core.step(self.world.clock.now(), event, &mut effects);
        for effect in effects {
            self.execute(effect);
        }
    }

    fn execute(&mut self, effect: Effect) {
        match effect {
            Effect::Connect { session, coordinator, hello } => self.connect(session, coordinator, *hello),
            Effect::Disconnect { session } => {
                if let Some(open) = self.session.take_if(|open| open.number == session) {
                    open.cut();
                }
            }
            Effect::Send(message) => {
                if self.session.as_ref().is_some_and(|session| !session.send(message)) {
                    self.give_up_session();
                }
            }
            Effect::KeepGrid(grid) => {
                let vault = Arc::clone(&self.world.vault);
                self.tracker.spawn_blocking(move || {
                    if let Err(error) = vault.keep_grid(grid) {
                        warn!(%grid, %error, "cannot store in the vault which grid this Star belongs to");
                    }
                });
            }
            Effect::StartAssignment(assignment) => self.start(assignment),
            Effect::StopAssignment(id) => self.stop_assignment(id),
            Effect::AbandonAssignment(id) => {
                if let Some(running) = self.running.get(&id) {
                    running.is_over.store(true, Ordering::Release);
                }
                self.stop_assignment(id);
            }
            Effect::ForgetAssignment(id) => {
                if let Some(running) = self.running.remove(&id) {
                    running.safe.cancel();
                }
            }
            Effect::ForgetJob(job) => {
                let plane = Arc::clone(&self.world.plane);
                // This is not awaited: what it misses is removed later, with the records that no job has used.
                drop(tokio::task::spawn_blocking(move || plane.end_job(job)));
            }
            Effect::StartScan { run, request } => self.start_scan(run, request),
            Effect::StopScan { run } => {
                if let Some(scan) = self.scans.remove(&run) {
                    scan.cancel.cancel();
                }
            }
            Effect::GrantScanCredit { run, count } => {
                if let Some(scan) = self.scans.get(&run) {
                    scan.credits
                        .add_permits(usize::try_from(count).unwrap_or(limits::SCAN_BATCHES_UNACKED_MAX));
                }
            }
            Effect::UpdateKeys(Keys { public, grants, live }) => {
                for RenewedGrant { assignment, token } in grants {
                    if let Some(running) = self.running.get(&assignment) {
                        *running.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
                    }
                }
                self.world.keys.send_replace(InForce { public, live: live.into_iter().collect() });
            }
            Effect::Compare { session, request, comparison } => self.compare(session, request, comparison),
            Effect::CallVault { session, request, call } => self.call_vault(session, request, call),
            Effect::SampleHealth => self.sample_health(),
            Effect::Exit { code, reason } => self.exit = Some(ExitReport { code, reason }),
            Effect::Log { is_warning: true, text } => warn!(star = self.world.star.as_str(), "{text}"),
            Effect::Log { is_warning: false, text } => info!(star = self.world.star.as_str(), "{text}"),
        }
    }

    fn connect(&mut self, session: u64, coordinator: usize, hello: Hello) {
        let endpoint = self.world.coordinators[coordinator].clone();
        info!(
            star = self.world.star.as_str(),
            coordinator = orbit_identity::shown(endpoint.uri()),
            "connecting"
        );
        let network = Arc::clone(&self.world.network);
        self.session = Some(Session::open(network, endpoint, session, hello, self.sender.clone()));
    }

    /// The queue of a session is full or closed. The core is told once, as for any other loss: a session that ended by
    /// itself reports that itself.
    fn give_up_session(&mut self) {
        if let Some(session) = self.session.take() {
            let number = session.number;
            session.cut();
            let sender = self.sender.clone();
            let end = SessionEnd::Lost("the coordinator does not read what this Star sends".to_owned());
            self.tracker.spawn(async move {
                // If the inbox is gone, there is no receiver.
                let _ = sender.send(Event::Disconnected { session: number, end }).await;
            });
        }
    }

    fn start(&mut self, assignment: Assignment) {
        let id = assignment.id;
        let progress = Arc::new(AtomicU64::new(0));
        let (cancel, safe) = (CancellationToken::new(), CancellationToken::new());
        let is_over = Arc::new(AtomicBool::new(false));
        let token = Arc::new(Mutex::new(None));
        let running = Running {
            token: Arc::clone(&token),
            size: assignment.items.iter().map(|item| item.entry.size()).sum(),
            is_packed: assignment.layout == Layout::Packed,
            progress: Arc::clone(&progress),
            cancel: cancel.clone(),
            safe: safe.clone(),
            is_over: Arc::clone(&is_over),
        };
        self.running.insert(id, running);
        let task = Work {
            plane: Arc::clone(&self.world.plane),
            vault: Arc::clone(&self.world.vault),
            slots: Arc::clone(&self.slots),
            inbox: self.sender.clone(),
            progress,
            cancel,
            safe,
            is_over,
            token,
            spans: self.world.spans.clone(),
        };
        self.tracker.spawn(task.run(assignment));
    }

    fn stop_assignment(&mut self, id: AssignmentId) {
        if let Some(running) = self.running.remove(&id) {
            running.cancel.cancel();
        }
    }

    fn start_scan(&mut self, run: u64, request: ScanRequest) {
        let credits = Arc::new(Semaphore::new(limits::SCAN_BATCHES_UNACKED_MAX));
        let cancel = CancellationToken::new();
        self.scans.insert(run, RunningScan { credits: Arc::clone(&credits), cancel: cancel.clone() });
        let (sender, mut batches) = mpsc::channel(1);
        let inbox = self.sender.clone();
        let mut span = self.world.spans.begin("scan", Kind::Internal, request.trace);
        span.note("orbit.job", request.job.0);
        span.note("orbit.scan", request.scan);
        let scanning = self.world.plane.scan(request, sender, credits, cancel.clone());
        self.tracker.spawn(scanning);
        self.tracker.spawn(async move {
            let mut entries = 0;
            while let Some(Some(batch)) = cancel.run_until_cancelled(batches.recv()).await {
                entries += batch.entries.len() as u64;
                if let Some(failure) = &batch.failure {
                    span.fail(failure.message.as_str());
                }
                if inbox.send(Event::ScanBatchProduced { run, batch }).await.is_err() {
                    break;
                }
            }
            span.note("orbit.entries", entries);
        });
    }

    fn compare(&self, session: u64, request: u64, comparison: Comparison) {
        let (comparing, inbox) = (self.world.plane.compare(comparison), self.sender.clone());
        // Not tracked: a file system that hangs must not delay the exit.
        tokio::spawn(async move {
            let unchanged = comparing.await;
            // If the inbox is gone, there is no receiver.
            let _ = inbox.send(Event::Compared { session, request, unchanged }).await;
        });
    }

    fn call_vault(&self, session: u64, request: u64, call: VaultCall) {
        let (answering, inbox) = (self.world.plane.call_vault(call), self.sender.clone());
        // Not tracked: a vault that hangs must not delay the exit, and a seal continues when it is asked for again.
        tokio::spawn(async move {
            let answer = answering.await;
            // If the inbox is gone, there is no receiver.
            let _ = inbox.send(Event::VaultAnswered { session, request, answer }).await;
        });
    }

    fn sample_health(&self) {
        if self.probe.is_busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let (probe, plane) = (Arc::clone(&self.probe), Arc::clone(&self.world.plane));
        let (clock, inbox) = (self.world.clock, self.sender.clone());
        let has_work = !self.running.is_empty();
        let left = |running: &Running| running.size.saturating_sub(running.progress.load(Ordering::Relaxed));
        let left_of = |is_packed| {
            self.running.values().filter(|running| running.is_packed == is_packed).map(left).sum()
        };
        let reserved = Reserved { files_bytes: left_of(false), vault_bytes: left_of(true) };
        // Not tracked: a file system that hangs must not delay the exit.
        tokio::task::spawn_blocking(move || {
            let counts = plane.counts();
            let is_busy = has_work || counts.served_pulls > 0;
            let mut sampler = probe.probe.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let sampled = sampler.sample(clock.now().monotonic, counts, is_busy, reserved);
            drop(sampler);
            probe.is_busy.store(false, Ordering::Release);
            // If the inbox is gone, there is no receiver.
            let _ = inbox.blocking_send(Event::HealthSampled(sampled));
        });
    }

    fn vitals(&self) -> Vitals {
        let progress =
            self.running.iter().map(|(id, running)| (*id, running.progress.load(Ordering::Relaxed)));
        let served_pulls = u32::try_from(self.world.plane.counts().served_pulls).unwrap_or(u32::MAX);
        Vitals { served_pulls, progress: progress.collect() }
    }

    /// Sends the last messages, stops everything, and waits for that with a timeout.
    async fn leave(mut self) {
        for running in self.running.values() {
            running.cancel.cancel();
        }
        for scan in self.scans.values() {
            scan.cancel.cancel();
        }
        if let Some(session) = self.session.take() {
            session.close(LAST_WORDS_TIMEOUT).await;
        }
        self.tracker.close();
        // From here on events are ignored. Tasks that still report must not wait for the inbox.
        self.inbox.close();
        if tokio::time::timeout(CLEANUP_TIMEOUT, self.tracker.wait()).await.is_err() {
            let star = self.world.star.as_str();
            warn!(star, "some work did not end in time; the next start cleans up after it");
        }
    }
}

async fn wait_until(clock: Clock, deadline: Option<orbit_shared::time::Monotonic>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.since(clock.now().monotonic)).await,
        None => std::future::pending().await,
    }
}
