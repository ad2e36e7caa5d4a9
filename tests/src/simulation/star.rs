//! A Star's driver: passes events to the core, executes its effects, and holds what outlives its process: the disk, the
//! identity and the journal.

use std::collections::{BTreeMap, VecDeque};

use orbit_shared::health_monitor::{AdvisoryKind, HealthSample};
use orbit_shared::session::{AdvisoryNotice, Assignment, CoordinatorMessage, Root, StarMessage};
use orbit_shared::time::{Monotonic, Now};
use orbit_shared::words::{AssignmentId, StarId};
use orbit_star::core::{CoreConfig, Effect, Event, Sampled, StarCore, Vitals};
use orbit_star::sink::claims::ClaimSet;
use uuid::Uuid;

use super::World;
use super::agenda::Happening;
use super::coordinator::wall;
use super::disk::Disk;
use super::network::LinkId;
use super::scan::ActiveScan;
use super::tree::SourceTree;
use super::vault::Vault;
use super::work::Running;

/// See the module.
#[derive(Debug)]
pub struct Star {
    /// Its name.
    pub name: StarId,
    /// Its process; `None` while it is down.
    pub core: Option<StarCore>,
    /// Number of the process.
    pub process: u32,
    /// The tree that it can be asked to copy.
    pub tree: SourceTree,
    /// The destination for files.
    pub disk: Disk,
    /// The destination for packed items.
    pub vault: Vault,
    /// The vault's journal.
    pub journal: BTreeMap<AssignmentId, Assignment>,
    /// The grid that it belongs to, according to its vault.
    pub grid: Option<Uuid>,
    /// Its session: the core's number and the link.
    pub link: Option<(u64, LinkId)>,
    /// Running assignments.
    pub running: BTreeMap<AssignmentId, Running>,
    /// Items that are being worked on: one attempt at a time.
    pub claims: ClaimSet,
    /// Running scans.
    pub scans: BTreeMap<u64, ActiveScan>,
    /// Whether the process is stopped.
    pub is_frozen: bool,
    /// The advisory of its health monitor.
    pub advisory: AdvisoryKind,
    /// Events that arrived while it was stopped.
    waiting: VecDeque<Event>,
    started_ms: u64,
    deadline: Option<Monotonic>,
    wish: u64,
    inbox_due_ms: u64,
    /// Whether this process has ever got a welcome.
    was_welcomed: bool,
    /// When it first tried to reconnect after it lost its last session.
    lost_ms: Option<u64>,
}

impl Star {
    /// A machine with a tree and an empty disk.
    pub fn new(index: usize, tree: SourceTree) -> Self {
        Self {
            name: StarId::new(format!("star-{}", index + 1)).expect("a name"),
            core: None,
            process: 0,
            tree,
            disk: Disk::default(),
            vault: Vault::default(),
            journal: BTreeMap::new(),
            grid: None,
            link: None,
            running: BTreeMap::new(),
            claims: ClaimSet::default(),
            scans: BTreeMap::new(),
            is_frozen: false,
            advisory: AdvisoryKind::Healthy,
            waiting: VecDeque::new(),
            started_ms: 0,
            deadline: None,
            wish: 0,
            inbox_due_ms: 0,
            was_welcomed: false,
            lost_ms: None,
        }
    }

    /// Whether it answers other Stars.
    pub fn is_up(&self) -> bool {
        self.core.is_some() && !self.is_frozen
    }

    /// For how long it has been without a session after it had one.
    pub fn lost_for_ms(&self, now_ms: u64) -> Option<u64> {
        self.lost_ms.map(|lost_ms| now_ms - lost_ms)
    }

    fn now(&self, now_ms: u64) -> Now {
        Now { monotonic: Monotonic::from_ms(now_ms - self.started_ms), wall: wall(now_ms, 0) }
    }
}

impl World {
    /// Starts a Star's process. Removes partly written files of an earlier one first.
    pub(super) fn start_star(&mut self, index: usize) {
        if self.stars[index].core.is_some() {
            return;
        }
        let (lease_seed, now_ms) = (self.chance.draw(), self.now_ms);
        let star = &mut self.stars[index];
        star.process += 1;
        star.started_ms = now_ms;
        star.deadline = None;
        star.was_welcomed = false;
        star.lost_ms = None;
        let mut begun = Vec::new();
        for (id, assignment) in std::mem::take(&mut star.journal) {
            begun.push(id);
            star.remove_temporaries(&assignment);
        }
        let config = CoreConfig {
            star_id: star.name.clone(),
            identity: Uuid::from_u128(100 + index as u128),
            instance: Uuid::from_u128(u128::from(star.process) * 1_000 + index as u128),
            data_address: format!("{}:7200", star.name),
            roots: vec![Root { path: b"/data".to_vec(), is_read_only: false }],
            labels: BTreeMap::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            coordinator_count: 1,
            drain_timeout: std::time::Duration::from_secs(5),
            seed: lease_seed,
            begun,
            grid: star.grid,
            semantic_rules: Vec::new(),
        };
        star.core = Some(StarCore::new(config, star.now(now_ms)));
        let process = star.process;
        self.note(format_args!("star-{} process {process} starts", index + 1));
        self.step_star(index, Event::Started);
    }

    /// A Star's process is killed.
    pub(super) fn kill_star(&mut self, index: usize, is_power_lost: bool) {
        if self.stars[index].core.is_none() {
            return;
        }
        self.note(format_args!("star-{} is killed, power lost: {is_power_lost}", index + 1));
        self.end_star(index);
        if is_power_lost {
            self.stars[index].disk.lose_power(&mut self.chance);
            self.check_stored_is_durable();
        }
        for link in self.network.links_of(index) {
            self.cut_link(link, true, false);
        }
        self.restart_star_later(index);
    }

    fn end_star(&mut self, index: usize) {
        let star = &mut self.stars[index];
        star.core = None;
        star.link = None;
        star.running.clear();
        star.claims = ClaimSet::default();
        star.scans.clear();
        star.waiting.clear();
        star.is_frozen = false;
    }

    fn restart_star_later(&mut self, index: usize) {
        let down_ms = self.chance.between(10, 5_000);
        self.agenda.add(self.now_ms + down_ms, Happening::StarStart { star: index });
    }

    /// A stopped process continues.
    pub(super) fn thaw(&mut self, index: usize) {
        if !std::mem::take(&mut self.stars[index].is_frozen) {
            return;
        }
        self.note(format_args!("star-{} goes on", index + 1));
        let waiting = std::mem::take(&mut self.stars[index].waiting);
        self.star_wakes(index);
        for event in waiting {
            self.step_star(index, event);
        }
    }

    /// An event for a Star's inbox, which takes a moment.
    pub(super) fn post_to_star(&mut self, index: usize, process: u32, event: Event) {
        let delay_ms = self.chance.below(2);
        let star = &mut self.stars[index];
        star.inbox_due_ms = star.inbox_due_ms.max(self.now_ms + delay_ms);
        let happening = Happening::StarInbox { star: index, process, event: Box::new(event) };
        self.agenda.add(star.inbox_due_ms, happening);
    }

    /// A Star's core takes an event of one of its processes.
    pub(super) fn hear_star_inbox(&mut self, index: usize, process: u32, event: Event) {
        if self.stars[index].process == process {
            self.step_star(index, event);
        }
    }

    /// A deadline of a Star's core has come.
    pub(super) fn star_deadline(&mut self, index: usize, process: u32, wish: u64) {
        let star = &mut self.stars[index];
        if star.process != process || star.wish != wish {
            return;
        }
        star.deadline = None;
        self.star_wakes(index);
    }

    fn star_wakes(&mut self, index: usize) {
        let star = &self.stars[index];
        if star.is_frozen {
            return;
        }
        let Some(core) = &star.core else { return };
        let now = star.now(self.now_ms);
        if core.next_deadline().is_some_and(|deadline| deadline <= now.monotonic) {
            let vitals = self.vitals(index);
            self.step_star(index, Event::DeadlineReached(vitals));
        } else {
            self.arm_star(index);
        }
    }

    fn vitals(&self, index: usize) -> Vitals {
        let name = &self.stars[index].name;
        let pulls = self.stars.iter().flat_map(|star| star.running.values());
        let served = pulls.filter(|running| running.is_pulling_from(name)).count();
        let progress = self.stars[index].running.iter().map(|(id, running)| (*id, running.bytes_moved()));
        Vitals { served_pulls: served as u32, progress: progress.collect() }
    }

    /// A Star's core takes an event, now or when its process continues.
    pub(super) fn step_star(&mut self, index: usize, event: Event) {
        let now_ms = self.now_ms;
        let star = &mut self.stars[index];
        if star.is_frozen {
            star.waiting.push_back(event);
            return;
        }
        let now = star.now(now_ms);
        let Some(core) = &mut star.core else { return };
        let kept = match &event {
            Event::FromCoordinator { session, message: CoordinatorMessage::Welcome { kept, .. } }
                if star.link.is_some_and(|(number, _)| number == *session) =>
            {
                Some(kept.clone())
            }
            _ => None,
        };
        self.trace.note(now_ms, format_args!("star-{}: {}", index + 1, summary(&event)));
        let mut effects = Vec::new();
        core.step(now, event, &mut effects);
        for effect in effects {
            self.execute_for_star(index, effect);
        }
        if let Some(kept) = kept {
            self.stars[index].lost_ms = None;
            self.stars[index].was_welcomed = true;
            self.check_only_kept_is_held(index, &kept);
        }
        self.check_star(index);
        self.arm_star(index);
    }

    fn arm_star(&mut self, index: usize) {
        let now_ms = self.now_ms;
        let star = &mut self.stars[index];
        let Some(core) = &star.core else { return };
        let deadline = core.next_deadline();
        if deadline == star.deadline {
            return;
        }
        star.deadline = deadline;
        star.wish += 1;
        let Some(deadline) = deadline else { return };
        let in_ms = deadline.since(star.now(now_ms).monotonic).as_nanos().div_ceil(1_000_000);
        let at_ms = now_ms + u64::try_from(in_ms).unwrap_or(u64::MAX / 2).min(u64::MAX / 2);
        let happening = Happening::StarDeadline { star: index, process: star.process, wish: star.wish };
        self.agenda.add(at_ms, happening);
    }

    fn execute_for_star(&mut self, index: usize, effect: Effect) {
        match effect {
            Effect::Connect { session, hello, .. } => {
                self.check_hello(&hello);
                let star = &mut self.stars[index];
                if star.was_welcomed {
                    star.lost_ms.get_or_insert(self.now_ms);
                }
                self.connect(index, session, &StarMessage::Hello(*hello));
            }
            Effect::Disconnect { session } => {
                let open = self.stars[index].link.take_if(|(number, _)| *number == session);
                if let Some((_, link)) = open {
                    self.cut_link(link, true, false);
                }
            }
            Effect::Send(message) => {
                if let Some((_, link)) = self.stars[index].link {
                    self.send_up(link, &message);
                }
            }
            Effect::StartAssignment(assignment) => self.start_work(index, assignment),
            Effect::StopAssignment(id) => self.stop_work(index, id, false),
            Effect::AbandonAssignment(id) => self.stop_work(index, id, true),
            Effect::ForgetAssignment(id) => self.forget_work(index, id),
            Effect::StartScan { run, request } => self.start_scan(index, run, request),
            Effect::StopScan { run } => drop(self.stars[index].scans.remove(&run)),
            Effect::GrantScanCredit { run, count } => self.grant_credit(index, run, count),
            Effect::Compare { session, request, comparison } => {
                self.compare(index, session, request, &comparison);
            }
            Effect::CallVault { session, request, call } => self.call_vault(index, session, request, &call),
            Effect::SampleHealth => self.sample_health(index),
            // Files of the simulation are small: nothing is kept of them for a later attempt.
            Effect::ForgetJob(job) => self.stars[index].vault.abandon_job(job),
            Effect::UpdateKeys(_) => {}
            Effect::KeepGrid(grid) => self.stars[index].grid = Some(grid),
            Effect::Exit { code, reason } => self.leave(index, code, &reason),
            Effect::Log { is_warning, text } => {
                self.note(format_args!(
                    "star-{} {}: {text}",
                    index + 1,
                    if is_warning { "warns" } else { "says" }
                ));
            }
        }
    }

    /// Opens a session; the hello is in flight. Without a coordinator the attempt fails after a moment.
    fn connect(&mut self, index: usize, session: u64, hello: &StarMessage) {
        let process = self.stars[index].process;
        if self.coordinator.turns.is_none() {
            let end = orbit_star::core::SessionEnd::Lost("connection refused".to_owned());
            return self.post_to_star(index, process, Event::Disconnected { session, end });
        }
        let link = self.network.open(index, process, session, self.coordinator.generation);
        self.stars[index].link = Some((session, link));
        self.send_up(link, hello);
    }

    fn sample_health(&mut self, index: usize) {
        let star = &self.stars[index];
        let sample = HealthSample {
            disk_total_bytes: 1 << 50,
            disk_available_bytes: 1 << 49,
            ..HealthSample::default()
        };
        let advisory = AdvisoryNotice {
            kind: star.advisory,
            message: "as simulated".to_owned(),
            predicted_seconds: None,
        };
        let sampled = Sampled {
            sample,
            advisories: vec![advisory],
            root_space: Vec::new(),
            vault_bytes: None,
            vault_sample: None,
            notices: Vec::new(),
        };
        self.post_to_star(index, star.process, Event::HealthSampled(sampled));
    }

    /// A Star exits by itself: its last messages are in flight, and its work cleans up.
    fn leave(&mut self, index: usize, code: u8, reason: &str) {
        self.note(format_args!("star-{} leaves with {code}: {reason}", index + 1));
        // No other Star has its identity or its name, and it follows the protocol.
        assert!(code != 1, "a Star is never refused: star-{} leaves with {code}: {reason}", index + 1);
        let star = &mut self.stars[index];
        star.claims = ClaimSet::default();
        for (_, assignment) in std::mem::take(&mut star.journal) {
            star.remove_temporaries(&assignment);
        }
        let link = star.link;
        self.end_star(index);
        if let Some((_, link)) = link {
            if let Some(open) = self.network.link(link) {
                open.is_star_end_open = false;
            }
            self.end_up_later(link);
        }
        self.restart_star_later(index);
    }
}

/// A short text for an event.
fn summary(event: &Event) -> String {
    match event {
        Event::FromCoordinator { session, message } => match message {
            CoordinatorMessage::Assign(assignment) => {
                let items: Vec<u64> = assignment.items.iter().map(|item| item.sequence).collect();
                format!("[{session}] assignment {} of job {} {items:?}", assignment.id, assignment.job)
            }
            other => format!("[{session}] {other:?}"),
        },
        Event::Disconnected { .. }
        | Event::Started
        | Event::OutcomesProduced { .. }
        | Event::WorkEnded { .. }
        | Event::SignalReceived
        | Event::Compared { .. }
        | Event::VaultAnswered { .. }
        | Event::DamageFound { .. }
        | Event::Noticed(_)
        | Event::DeadlineReached(_) => format!("{event:?}"),
        Event::ScanBatchProduced { run, batch } => format!("scan run {run} batch {}", batch.number),
        Event::HealthSampled(_) => "sampled".to_owned(),
    }
}
