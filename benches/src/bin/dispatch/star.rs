//! A Star without disks: lists a tree that does not exist, and reports every item as stored at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use orbit_identity::network::Tcp;
use orbit_shared::comparison::Unchanged;
use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::session::{CoordinatorMessage, Heartbeat, Hello, Root, StarMessage, limits};
use orbit_shared::vault_call::{VaultCall, VaultReply};
use orbit_shared::words::StarId;
use orbit_star::core::Event;
use orbit_star::grpc::session::{Session, endpoint};
use tokio::sync::mpsc;
use uuid::Uuid;

use orbit_benches::tree::{Scan, all_stored};

/// The root of the simulated Stars.
pub(crate) const ROOT: &str = "/";
/// Maximum number of waiting messages of the coordinator.
const INBOX_MAX: usize = 1024;

/// A session with the coordinator.
pub(crate) struct SimulatedStar {
    session: Session,
    inbox: mpsc::Receiver<Event>,
    lifecycle: LifecycleState,
    /// Number of files in the tree that it lists.
    entries: u64,
    scan: Option<Scan>,
    reports: u64,
}

impl SimulatedStar {
    /// Begins to connect.
    pub(crate) fn connect(address: &str, number: u64, entries: u64) -> Self {
        let hello = Hello {
            star_id: StarId::new(name(number)).expect("a name"),
            identity: Uuid::from_u128(u128::from(number) + 1),
            instance: Uuid::from_u128(u128::from(number) + 1),
            data_address: "127.0.0.1:1".to_owned(),
            roots: vec![Root { path: ROOT.as_bytes().to_vec(), is_read_only: false }],
            labels: BTreeMap::new(),
            version: "simulated".to_owned(),
            held: Vec::new(),
            lifecycle: LifecycleState::Registered,
            begun: None,
            grid: None,
            semantic_rules: Vec::new(),
        };
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        let endpoint = endpoint(&format!("http://{address}")).expect("an address");
        let session = Session::open(Arc::new(Tcp::default()), endpoint, 1, hello, sender);
        Self { session, inbox, lifecycle: LifecycleState::Registered, entries, scan: None, reports: 0 }
    }

    /// Runs until the session ends.
    pub(crate) async fn run(mut self) {
        let mut heartbeats = tokio::time::interval(Duration::from_secs(3600));
        loop {
            let message = tokio::select! {
                event = self.inbox.recv() => match event {
                    Some(Event::FromCoordinator { message, .. }) => message,
                    _ => return,
                },
                _ = heartbeats.tick() => {
                    self.say(StarMessage::Heartbeat(self.heartbeat()));
                    continue;
                }
            };
            match message {
                CoordinatorMessage::Welcome { heartbeat_interval, .. } => {
                    heartbeats = tokio::time::interval(heartbeat_interval);
                }
                CoordinatorMessage::SetLifecycle { state, reason } => {
                    self.lifecycle = state;
                    self.say(StarMessage::LifecycleChanged { state, reason });
                }
                CoordinatorMessage::StartScan(request) => {
                    self.scan = Some(Scan::new(request.scan, self.entries));
                    self.list(limits::SCAN_BATCHES_UNACKED_MAX as u64);
                }
                CoordinatorMessage::ScanAcknowledged { number, .. } => {
                    self.list(number + limits::SCAN_BATCHES_UNACKED_MAX as u64);
                }
                CoordinatorMessage::Assign(assignment) => {
                    self.reports += 1;
                    let sequences = assignment.items.iter().map(|item| item.sequence);
                    let report = all_stored(self.reports, assignment.id, sequences);
                    self.say(StarMessage::Report(report));
                }
                CoordinatorMessage::Compare { request, .. } => {
                    let unchanged = Unchanged::default();
                    self.say(StarMessage::Compared { request, unchanged });
                }
                CoordinatorMessage::CallVault { request, call } => {
                    // An empty vault.
                    let reply = match call {
                        VaultCall::ListSnapshots { .. } => {
                            VaultReply::Snapshots { snapshots: Vec::new(), stages: Vec::new(), is_end: true }
                        }
                        _ => VaultReply::Damaged(Vec::new()),
                    };
                    self.say(StarMessage::VaultAnswered { request, answer: Ok(reply) });
                }
                CoordinatorMessage::VerificationKeys(_)
                | CoordinatorMessage::Withdraw { .. }
                | CoordinatorMessage::JobEnded { .. }
                | CoordinatorMessage::CancelScan { .. }
                | CoordinatorMessage::ReportsAcknowledged { .. } => {}
            }
        }
    }

    /// Sends batches up to a number.
    fn list(&mut self, up_to: u64) {
        let Some(scan) = &mut self.scan else { return };
        let mut batches = Vec::new();
        while scan.number() < up_to
            && let Some(batch) = scan.batch()
        {
            batches.push(batch);
        }
        batches.into_iter().for_each(|batch| self.say(StarMessage::ScanBatch(batch)));
    }

    fn say(&self, message: StarMessage) {
        assert!(self.session.send(message), "the coordinator does not read");
    }

    fn heartbeat(&self) -> Heartbeat {
        Heartbeat {
            lifecycle: self.lifecycle,
            active_tasks: 0,
            served_pulls: 0,
            sample: None,
            advisories: Vec::new(),
            progress: Vec::new(),
            root_space: Vec::new(),
            vault_bytes: None,
            vault_sample: None,
        }
    }
}

/// The name of a Star.
pub(crate) fn name(number: u64) -> String {
    format!("star-{number}")
}
