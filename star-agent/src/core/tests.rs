//! Tests of the core, one situation each: a Star, its clock, and its events.

use std::collections::BTreeMap;
use std::time::Duration;

use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::health_monitor::HealthSample;
use orbit_shared::session::{
    AssignedItem, Assignment, Failure, FailureCause, Fault, ItemOutcome, ItemResult, Keys, Report, RootSpace,
    ScanBatch, ScanRequest, limits,
};
use orbit_shared::time::WallTime;
use orbit_shared::words::{Epoch, JobId, Layout, StarId};
use uuid::Uuid;

use super::*;

mod leaving;
mod session;
mod work;

const INTERVAL: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(10);

pub(crate) fn config() -> CoreConfig {
    CoreConfig {
        star_id: StarId::new("star-1").unwrap(),
        identity: Uuid::from_u128(1),
        instance: Uuid::from_u128(2),
        data_address: "127.0.0.1:7200".to_owned(),
        roots: Vec::new(),
        labels: BTreeMap::new(),
        version: "0".to_owned(),
        coordinator_count: 3,
        drain_timeout: Duration::from_secs(30),
        seed: 7,
        begun: vec![AssignmentId(9)],
        grid: None,
        semantic_rules: Vec::new(),
    }
}

pub(crate) fn assignment(id: u64, item_count: u64) -> Assignment {
    let entry = Entry {
        path: b"a".to_vec(),
        kind: EntryKind::File { size: 1 },
        mode: 0o644,
        modified: WallTime::UNIX_EPOCH,
        rank: 50,
    };
    Assignment {
        id: AssignmentId(id),
        job: JobId(1),
        destination: 0,
        source_star: StarId::new("star-2").unwrap(),
        source_address: String::new(),
        source_path: b"/s".to_vec(),
        destination_path: b"/d".to_vec(),
        token: String::new(),
        items: (0..item_count).map(|sequence| AssignedItem { sequence, entry: entry.clone() }).collect(),
        is_check_only: false,
        layout: Layout::Files,
        source_snapshot: None,
        keeps_directory_times: false,
        compares_content: false,
        trace: None,
    }
}

pub(super) fn skipped(sequence: u64) -> ItemOutcome {
    ItemOutcome { sequence, result: ItemResult::Skipped }
}

/// A Star and its clock.
struct Bench {
    core: StarCore,
    at_ms: u64,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self { core: StarCore::new(config(), Now::from_ms(0)), at_ms: 0 };
        assert!(matches!(
            bench.step(Event::Started)[..],
            [Effect::Connect { session: 1, coordinator: 0, .. }]
        ));
        bench
    }

    fn welcomed() -> Self {
        let mut bench = Self::new();
        bench.hear(1, welcome(&[]));
        bench.wait();
        bench
    }

    fn working() -> Self {
        let mut bench = Self::welcomed();
        bench.hear(1, lifecycle(LifecycleState::Scheduled));
        bench
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.core.step(Now::from_ms(self.at_ms), event, &mut effects);
        effects
    }

    fn hear(&mut self, session: u64, message: CoordinatorMessage) -> Vec<Effect> {
        self.step(Event::FromCoordinator { session, message })
    }

    /// Advances to the next deadline.
    fn wait(&mut self) -> Vec<Effect> {
        let deadline = self.core.next_deadline().unwrap().elapsed();
        self.at_ms = self.at_ms.max(u64::try_from(deadline.as_nanos().div_ceil(1_000_000)).unwrap());
        self.step(Event::DeadlineReached(Vitals::default()))
    }

    fn lose(&mut self, session: u64) -> Vec<Effect> {
        self.step(Event::Disconnected { session, end: SessionEnd::Lost("gone".to_owned()) })
    }

    fn produce(&mut self, id: u64, sequences: std::ops::Range<u64>) -> Vec<Effect> {
        let outcomes = sequences.map(skipped).collect();
        self.step(Event::OutcomesProduced { assignment: AssignmentId(id), outcomes })
    }

    fn held(&self) -> Vec<u64> {
        self.core.held().map(|id| id.0).collect()
    }
}

fn welcome(kept: &[u64]) -> CoordinatorMessage {
    CoordinatorMessage::Welcome {
        epoch: Epoch(1),
        heartbeat_interval: INTERVAL,
        lease: LEASE,
        kept: kept.iter().copied().map(AssignmentId).collect(),
        grid: None,
    }
}

fn lifecycle(state: LifecycleState) -> CoordinatorMessage {
    CoordinatorMessage::SetLifecycle { state, reason: "ordered".to_owned() }
}

fn acknowledge(number: u64) -> CoordinatorMessage {
    CoordinatorMessage::ReportsAcknowledged { number }
}

fn assign(id: u64, item_count: u64) -> CoordinatorMessage {
    CoordinatorMessage::Assign(assignment(id, item_count))
}

fn scan(id: u64) -> CoordinatorMessage {
    CoordinatorMessage::StartScan(ScanRequest {
        scan: id,
        job: JobId(1),
        path: b"/s".to_vec(),
        include: Vec::new(),
        exclude: Vec::new(),
        paths: Vec::new(),
        resume_after: None,
        snapshot: None,
        limits: Default::default(),
        is_one_file_system: false,
        trace: None,
    })
}

fn reports(effects: &[Effect]) -> Vec<&Report> {
    let report = |effect| match effect {
        &Effect::Send(StarMessage::Report(ref report)) => Some(report),
        _ => None,
    };
    effects.iter().filter_map(report).collect()
}

fn heartbeats(effects: &[Effect]) -> Vec<&Heartbeat> {
    let heartbeat = |effect| match effect {
        &Effect::Send(StarMessage::Heartbeat(ref heartbeat)) => Some(heartbeat),
        _ => None,
    };
    effects.iter().filter_map(heartbeat).collect()
}

fn exit_code(effects: &[Effect]) -> Option<u8> {
    match effects.last() {
        Some(Effect::Exit { code, .. }) => Some(*code),
        _ => None,
    }
}
