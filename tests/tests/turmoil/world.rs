//! One seed: the coordinator and Stars as they are shipped, a job, and a network and programs that fail.
//!
//! # Time
//! Every host has a runtime whose clock advances only when the simulation moves it, one tick at a time. The disk is the
//! real one, and slow compared with that: if both ran concurrently, leases would end only because of a slow `fsync`.
//! They do not, because tokio stops the clock of a paused runtime while a job of `spawn_blocking` runs on it. So the
//! disk takes no simulated time, however slow it is, and no timeout needs to be longer.
//!
//! The price: a blocking job must never wait for another host, whose clock advances only when this one's tick has
//! ended. The only one that could is a source's reading job, which waits until its receiver accepts more. So trees are
//! smaller than a stream's window, and the buffers of the simulated sockets can hold a whole tree.
//!
//! # What a crash is
//! The host's runtime is dropped with everything in it: tasks end where they wait, sockets close, and running disk jobs
//! finish first, so that every lock is free when the host starts again. Jobs that are interrupted by a kill or by a
//! power loss are tested in `faults` and in the simulation of the cores.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a replayed seed tells what happens, and one that hangs its number"
)]

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::fmt::Debug;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use orbit_proto::v1;
use orbit_shared::backpressure::BackpressureConfig;
use orbit_shared::entry::TEMPORARY_PREFIX;
use orbit_tests::random::Random;
use orbit_tests::settled::patient;
use orbit_tests::tree::{NodeKind, inventory, plant_files, plant_odd_tree};
use tempfile::TempDir;
use turmoil::Sim;

use crate::faults::{Extent, Schedule};
use crate::hosts::{self, COORDINATOR};

/// The step of the simulated time. Delays of messages are multiples of it.
const TICK: Duration = Duration::from_millis(10);
/// A job that has not ended within this time after everything was repaired hangs.
const MENDED_MAX: Duration = Duration::from_secs(300);
/// A seed that takes longer on a real clock hangs. A failing one usually takes seconds, a passing one less.
const REAL_TIME_MAX: Duration = Duration::from_secs(300);
/// Maximum number of segments in a simulated socket: more than all trees have.
const SOCKET_SEGMENTS: usize = 1 << 16;
/// Probability per message that a link with a random fault works again.
const REPAIR_RATE: f64 = 0.02;
/// Name of the source's tree; those at destinations have a number after it.
const TREE: &str = "tree";
/// Minimum free space for which the memory disk is used, in bytes.
const MEMORY_DISK_BYTES_MIN: u64 = 1 << 30;

/// The result of one seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// Simulated time until everything had been checked.
    pub(crate) elapsed: Duration,
    /// Simulated time from the repair of everything to the end of the job.
    pub(crate) mended: Duration,
}

/// The parameters that the seed decides.
struct Plan {
    stars: Vec<String>,
    core: orbit_coordinator::core::CoreConfig,
    spec: v1::JobSpec,
    extent: Extent,
}

/// The state that the operator's host and the run share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// All faults are repaired.
    pub(crate) is_mended: Cell<bool>,
    /// When the last job was first seen to have ended.
    pub(crate) ended_at: Cell<Option<Duration>>,
    /// The last known state of the job, for when it hangs.
    pub(crate) last_seen: RefCell<String>,
}

/// Runs a seed. Panics if something is wrong.
pub(crate) fn run(seed: u64, is_verbose: bool) -> Outcome {
    let _watched = watch(seed);
    let mut random = Random::new(seed);
    let directory = directory();
    let plan = Plan::draw(&mut random, directory.path());
    let log = |sim_elapsed: Duration, text: &str| {
        if is_verbose {
            println!("{:9.3} s: {text}", sim_elapsed.as_secs_f64());
        }
    };
    if is_verbose {
        println!("{:?}\n{:?}\n{:?}", plan.core, plan.extent, plan.spec);
    }
    let source = source(directory.path(), &plan.stars[0]);
    let mut sim = build(seed, &plan, directory.path());
    let shared = Rc::new(Shared::default());
    let vaults = plan.stars.iter().map(|star| (star.clone(), vault(directory.path(), star))).collect();
    sim.client("operator", hosts::operate(plan.spec.clone(), vaults, Rc::clone(&shared)));
    let hosts: Vec<String> = std::iter::once(COORDINATOR.to_owned()).chain(plan.stars.clone()).collect();
    let mut schedule = Schedule::draw(&mut random, &hosts, plan.extent);
    loop {
        let now = sim.elapsed();
        if now < plan.extent.until {
            for host in schedule.advance(&mut sim, |text| log(now, text)) {
                // Nothing runs there now, so its files do not change.
                assert_only_whole_files(&source, &root(directory.path(), &host));
            }
        } else if !shared.is_mended.replace(true) {
            schedule.heal(&mut sim);
            log(now, "everything is mended");
        }
        let is_over = sim.step().unwrap_or_else(|error| {
            panic!("at {:?}: {error}; last seen: {}", sim.elapsed(), shared.last_seen.borrow())
        });
        if is_over {
            break;
        }
        assert!(
            sim.elapsed() < plan.extent.until + MENDED_MAX,
            "the job has not come to rest {MENDED_MAX:?} after everything was mended; last seen: {}",
            shared.last_seen.borrow()
        );
    }
    let ended_at = shared.ended_at.get().expect("an operator that is done has seen the end");
    log(sim.elapsed(), &format!("over; the job had ended at {ended_at:?}"));
    Outcome { elapsed: sim.elapsed(), mended: ended_at.saturating_sub(plan.extent.until) }
}

fn build(seed: u64, plan: &Plan, directory: &Path) -> Sim<'static> {
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(TICK)
        .simulation_duration(plan.extent.until + MENDED_MAX * 2)
        .max_message_latency(plan.extent.delay)
        .repair_rate(REPAIR_RATE)
        .tcp_capacity(SOCKET_SEGMENTS)
        .enable_random_order()
        .build();
    let (core, data) = (plan.core.clone(), directory.join(COORDINATOR));
    sim.host(COORDINATOR, move || hosts::coordinate(core.clone(), data.clone()));
    for star in &plan.stars {
        let (name, root, vault) = (star.clone(), root(directory, star), vault(directory, star));
        std::fs::create_dir_all(&root).expect("a temporary directory is writable");
        sim.host(star.as_str(), move || hosts::shine(name.clone(), root.clone(), vault.clone()));
    }
    sim
}

impl Plan {
    fn draw(random: &mut Random, directory: &Path) -> Self {
        let stars: Vec<String> = (1..=2 + random.below(2)).map(|number| format!("star-{number}")).collect();
        let source = source(directory, &stars[0]);
        let is_odd = random.below(5) == 0;
        if is_odd {
            plant_odd_tree(&source, random.number());
        } else {
            // More than one batch of a scan, or only one.
            let (count, size) = [(20, 9_000), (40, 9_000), (250, 1_000)][random.below(3) as usize];
            plant_files(&source.join("small"), count, size, random.number());
            plant_files(
                &source.join("large"),
                2,
                1_500_000 + random.below(1 << 20) as usize,
                random.number(),
            );
        }
        let lease = [6, 15][random.below(2) as usize];
        let guard = match random.below(3) {
            0 => BackpressureConfig::default(),
            _ => {
                BackpressureConfig { max_object_count: 1 + random.below(8), ..BackpressureConfig::default() }
            }
        };
        // So that a job lasts about as long as the faults: simulated time costs little. A bandwidth limit cannot be
        // used for that: a limited source waits on a thread, which stops the simulated time.
        let guard = match random.below(3) {
            0 => guard,
            count => BackpressureConfig { max_object_count: count, ..guard },
        };
        let core = orbit_coordinator::core::CoreConfig {
            lease: Duration::from_secs(lease),
            heartbeat_interval: Duration::from_secs(1),
            guard,
            seed: random.number(),
            ..orbit_coordinator::core::CoreConfig::default()
        };
        let place = |star: &String| v1::Location {
            star_id: star.clone(),
            path: root(directory, star).join(TREE).to_str().expect("temporary paths are text").to_owned(),
            ..v1::Location::default()
        };
        let spec = v1::JobSpec {
            source: Some(place(&stars[0])),
            destinations: stars[1..].iter().map(place).collect(),
            penalty: Some(patient()),
            ..v1::JobSpec::default()
        };
        let faults_max = [20, 60][random.below(2) as usize];
        let extent = Extent {
            until: Duration::from_secs(15 + random.below(40)),
            count: 4 + random.below(faults_max),
            delay: Duration::from_millis([15, 60, 250][random.below(3) as usize]),
        };
        Self { stars, core, spec, extent }
    }
}

/// Ends the process unless the returned value is dropped in time. A blocking job that waits for another host stops the
/// simulated time, and with it everything that could notice.
fn watch(seed: u64) -> SyncSender<()> {
    let (watched, over) = sync_channel(0);
    std::thread::spawn(move || {
        if over.recv_timeout(REAL_TIME_MAX) == Err(RecvTimeoutError::Timeout) {
            eprintln!("seed {seed} hangs: its simulated time stands still, or runs far too slowly");
            std::process::abort();
        }
    });
    watched
}

/// A reader at a destination sees a file either complete or not at all, whatever happened to the Star that wrote it.
fn assert_only_whole_files(source: &Path, root: &Path) {
    if source.starts_with(root) || !root.exists() {
        return;
    }
    let wanted = inventory(source);
    for tree in std::fs::read_dir(root).expect("a root can be read") {
        let tree = tree.expect("a root can be read").path();
        for (path, node) in inventory(&tree) {
            let path = Path::new(OsStr::from_bytes(&path));
            let name = path.file_name().unwrap_or_default().as_bytes();
            if !matches!(node.kind, NodeKind::File(_)) || name.starts_with(TEMPORARY_PREFIX) {
                continue;
            }
            assert_eq!(
                Some(&node),
                wanted.get(path.as_os_str().as_bytes()),
                "{} in {tree:?}",
                path.display()
            );
            let read = |base: &Path| std::fs::read(base.join(path)).expect("a file can be read");
            assert!(read(source) == read(&tree), "{} in {tree:?} has other bytes", path.display());
        }
    }
}

fn source(directory: &Path, star: &str) -> PathBuf {
    root(directory, star).join(TREE)
}

fn root(directory: &Path, star: &str) -> PathBuf {
    directory.join(star).join("data")
}

fn vault(directory: &Path, star: &str) -> PathBuf {
    directory.join(star).join("vault")
}

/// In memory if possible: the disk is not under test, and `syncfs` also waits for the writes of others.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let has_room = rustix::fs::statvfs(memory)
        .is_ok_and(|space| space.f_bavail.saturating_mul(space.f_frsize) >= MEMORY_DISK_BYTES_MIN);
    let mut builder = tempfile::Builder::new();
    builder.prefix("orbit-turmoil-");
    let made = if has_room { builder.tempdir_in(memory) } else { builder.tempdir() };
    made.expect("the temporary directory is writable")
}
