//! Starts a Star inside a process, and serves its port.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use orbit_identity::{Ports, PortsError, keep_renewed};
use orbit_program::private_files::{claim, is_apart, is_within_apart};
use orbit_shared::entry::display_path;
use orbit_shared::session::limits;
use orbit_shared::words::AssignmentId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;
use tracing::{info, warn};
use uuid::Uuid;

use crate::assembly::assemble;
use crate::config::{JoinFrom, OptionsError, StarOptions};
use crate::core::{CoreConfig, Event, StarCore};
use crate::driver::{Driver, ExitReport, Surroundings};
use crate::grpc::session::{AddressError, endpoint};
use crate::health::HealthProbe;
use crate::in_force::InForce;
use crate::packed::PackedError;
use crate::plane::DataPlane;
use crate::roots::RootsError;
use crate::scan::RulesError;
use crate::tls::{self, IdentityError};
use crate::vault::{Vault, VaultError};
use orbit_program::clock::Clock;

/// How long open streams can go on after the Star has left, before they are cut.
const SERVE_GRACE: Duration = Duration::from_secs(2);

/// Why a Star cannot start. Its text is one sentence that names the flag.
#[derive(Debug, thiserror::Error)]
pub enum StarError {
    /// The options contradict each other.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// A coordinator's address is malformed.
    #[error(transparent)]
    Coordinator(#[from] AddressError),
    /// It has no identity for TLS.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The vault cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Its packed store cannot be used.
    #[error("--vault {}: what is packed in it cannot be opened: {error}; {}", path.display(), advice(error))]
    Packed {
        /// The vault.
        path: PathBuf,
        /// The error.
        error: PackedError,
    },
    /// A root cannot be opened.
    #[error("--root: {0}")]
    Roots(#[from] RootsError),
    /// The operator's rules for the priority of files cannot be used.
    #[error(transparent)]
    Rules(RulesError),
    /// It cannot listen.
    #[error(transparent)]
    Ports(#[from] PortsError),
    /// The descriptors of the API are damaged, which is a defect of the build.
    #[error("the reflection service cannot be made: {0}")]
    Reflection(String),
}

/// What helps when a packed store cannot be opened. A damaged index has already been rebuilt by then.
fn advice(error: &PackedError) -> &'static str {
    match error {
        error if error.is_full() => "make room on the disk and start the Star again",
        PackedError::UniverseInUse => "stop whatever else has opened it and start the Star again",
        PackedError::Universe { .. } | PackedError::UniverseFailed { .. } => {
            "building the index again has failed too, so look for errors of the disk in the system's log; the containers and \
             snapshots are as they were, and `orbit-star vault rebuild` tries once more"
        }
        _ => {
            "the Star's user must be able to read and write everything in there, and the disk must be well; then \
             `orbit-star vault check` says what is damaged"
        }
    }
}

/// A Star that runs in this process. Dropping it does not end the Star.
#[derive(Debug)]
pub struct StarHandle {
    /// The address on which it listens, with the actual port, if there is one.
    pub local_addr: Option<SocketAddr>,
    /// The Unix socket on which it listens, if there is one.
    pub socket: Option<PathBuf>,
    inbox: mpsc::Sender<Event>,
    stop: CancellationToken,
    task: JoinHandle<ExitReport>,
}

impl StarHandle {
    /// Asks the Star to finish its work and leave, as a first SIGTERM does. A second call makes it leave at once.
    pub async fn drain(&self) {
        self.drainer().drain().await;
    }

    /// A handle that can ask the Star to leave while another task waits for it.
    pub fn drainer(&self) -> Drainer {
        Drainer { inbox: self.inbox.clone() }
    }

    /// Makes the Star leave at once. The coordinator gets its work back when the lease ends.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until the Star has left.
    pub async fn wait(&mut self) -> ExitReport {
        match (&mut self.task).await {
            Ok(report) => report,
            Err(error) => {
                ExitReport { code: 70, reason: format!("the Star's driver ended abnormally: {error}") }
            }
        }
    }
}

/// Can ask one Star to leave.
#[derive(Debug, Clone)]
pub struct Drainer {
    inbox: mpsc::Sender<Event>,
}

impl Drainer {
    /// As [`StarHandle::drain`].
    pub async fn drain(&self) {
        // If the Star has left already, nothing needs to be done.
        let _ = self.inbox.send(Event::SignalReceived).await;
    }
}

/// Starts a Star. It runs until the coordinator, its handle, or `shutdown` makes it leave.
///
/// # Errors
/// See [`StarError`]. Then nothing runs, and no resource is held.
///
/// The future is boxed so that the code of a Star is compiled here, once, and not in each program that starts one.
pub fn start(
    options: StarOptions,
    shutdown: CancellationToken,
) -> BoxFuture<'static, Result<StarHandle, StarError>> {
    Box::pin(start_here(options, shutdown))
}

async fn start_here(mut options: StarOptions, shutdown: CancellationToken) -> Result<StarHandle, StarError> {
    options.check()?;
    let coordinators = options.coordinators.iter().map(|address| endpoint(address));
    let coordinators = coordinators.collect::<Result<Vec<_>, _>>()?;
    let vault = Arc::new(Vault::open(&options.vault, Uuid::new_v4())?);
    claim(vault.path());
    if let Some(JoinFrom::File(path)) = &options.join {
        claim(path);
    }
    name_own_directories(&options);
    let credentials = tls::enter(&options, vault.path(), &coordinators).await?;
    if let Some(address) = options.listen.address().filter(|address| !address.ip().is_loopback())
        && credentials.is_none()
    {
        warn!(
            "nothing that other Stars get from {address} is encrypted; https:// for the coordinator changes that"
        );
    }
    if credentials.is_some() {
        options.network = tls::network(credentials.clone(), Arc::clone(&options.local_users));
    }
    let ports = Ports::bind(&*options.network, &options.listen, &options.local_users).await?;
    let (local_addr, socket) = (ports.address(), options.listen.socket().map(Path::to_owned));

    let (keys, keys_seen) = watch::channel(InForce::default());
    let serving = CancellationToken::new();
    let parts = assemble(&options, &vault, keys_seen, &serving).await?;
    // With the directories that were just made.
    claim(vault.path());
    if let Some(credentials) = credentials {
        let renewing = keep_renewed(credentials, coordinators.clone(), serving.clone());
        tokio::spawn(renewing);
    }
    let begun = clean_leftovers(&vault, Arc::clone(&parts.plane)).await;
    tokio::spawn(serving.clone().run_until_cancelled_owned(clean_ended_again(Arc::clone(&parts.plane))));

    let clock = Clock::start();
    let core = StarCore::new(
        core_config(&options, &vault, ports.reachable_at(), begun, parts.semantic_rules),
        clock.now(),
    );
    let probe = HealthProbe::new(&options.roots, options.health.clone())
        .with_store(parts.store)
        .with_meters(parts.meters)
        .watching(parts.roots);
    let network = options.network;
    let spans = options.spans;
    let star = options.star_id;
    let world = Surroundings { star, clock, plane: parts.plane, vault, network, coordinators, keys, spans };
    let (driver, inbox) = Driver::new(core, world, probe);
    let stop = shutdown.child_token();
    let (watched, stopping) = (inbox.clone(), serving.child_token());
    let scrubbing = parts.sentinel.map(|it| tokio::spawn(it.run(watched.clone(), stopping.clone())));
    let keeping = parts.keeper.map(|it| tokio::spawn(it.run(watched, stopping)));
    let upkeep = scrubbing.into_iter().chain(keeping).collect();
    let task = tokio::spawn(run(driver, parts.router, ports, (serving, upkeep), stop.clone()));
    Ok(StarHandle { local_addr, socket, inbox, stop, task })
}

/// Runs the driver to its end, and serves until then.
async fn run(
    driver: Driver,
    router: Router,
    ports: Ports,
    (serving, upkeep): (CancellationToken, Vec<JoinHandle<()>>),
    stop: CancellationToken,
) -> ExitReport {
    let server = tokio::spawn(ports.serve(router, serving.clone()));
    let report = driver.run(stop).await;
    serving.cancel();
    let aborting = server.abort_handle();
    match tokio::time::timeout(SERVE_GRACE, server).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => warn!("the port was not served to the end: {error}"),
        Ok(Err(error)) => warn!("serving ended abnormally: {error}"),
        Err(_) => aborting.abort(),
    }
    // After this, the caller that waits for this Star may open the vault.
    if tokio::time::timeout(SERVE_GRACE, futures::future::join_all(upkeep)).await.is_err() {
        warn!("the rolling check of the vault, or a collection, did not stop in time");
    }
    report
}

/// Logs at the start if a root contains the vault. Other directories of the grid are recognized by their marker.
fn name_own_directories(options: &StarOptions) {
    let Ok(vault) = options.vault.canonicalize() else { return };
    for root in &options.roots {
        let path = Path::new(OsStr::from_bytes(&root.path));
        if std::fs::File::open(path).is_ok_and(is_apart) || is_within_apart(path) {
            warn!(
                "--root {} is, or lies in, a directory of Orbit Grid itself: no job reads or writes there",
                path.display()
            );
        } else if path.canonicalize().is_ok_and(|root| vault.starts_with(root)) {
            warn!(
                "--root {} contains the vault {}: no job reads or writes what is in there",
                path.display(),
                vault.display()
            );
        }
    }
}

fn core_config(
    options: &StarOptions,
    vault: &Vault,
    data_address: String,
    begun: Vec<AssignmentId>,
    semantic_rules: Vec<String>,
) -> CoreConfig {
    CoreConfig {
        star_id: options.star_id.clone(),
        identity: vault.identity(),
        instance: Uuid::new_v4(),
        data_address: options.advertise.clone().unwrap_or(data_address),
        roots: options.roots.clone(),
        labels: options.labels.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        coordinator_count: options.coordinators.len(),
        drain_timeout: options.drain_timeout,
        seed: rand::random(),
        begun,
        grid: vault.grid(),
        semantic_rules,
    }
}

/// How often it is checked whether jobs that ended without this Star have left files.
const CLEANING_INTERVAL: Duration = Duration::from_secs(3600);

/// A Star does not learn of every end of a job, so files that no job has used are removed after some time.
async fn clean_ended_again(plane: Arc<dyn DataPlane>) {
    let mut ticks = tokio::time::interval(CLEANING_INTERVAL);
    loop {
        ticks.tick().await;
        let plane = Arc::clone(&plane);
        if tokio::task::spawn_blocking(move || plane.clean_ended()).await.is_err() {
            warn!("cleaning up after jobs that ended without this Star ended abnormally");
        }
    }
}

/// An earlier process may have been killed while it worked: removes its partly written files. Returns the assignments
/// that it had begun.
async fn clean_leftovers(vault: &Arc<Vault>, plane: Arc<dyn DataPlane>) -> Vec<AssignmentId> {
    let vault = Arc::clone(vault);
    let begun = Arc::new(std::sync::Mutex::new(Vec::new()));
    let found = Arc::clone(&begun);
    let cleaning = tokio::task::spawn_blocking(move || {
        let leftovers = vault.leftovers()?;
        let ids = leftovers.iter().map(|assignment| assignment.id).take(limits::HELD_MAX).collect();
        *found.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = ids;
        for assignment in leftovers {
            let (id, job) = (assignment.id.0, assignment.job.0);
            info!(assignment = id, job, "cleaning up after work that an earlier process left");
            if plane.clean_temporaries(&assignment) {
                vault.forget(assignment.id)?;
            } else {
                let path = display_path(&assignment.destination_path);
                warn!(
                    job,
                    "the root of {path} is away; what was left below it is looked for at the next start"
                );
            }
        }
        Ok::<_, std::io::Error>(())
    });
    match cleaning.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!("what an earlier process left is not all cleaned up: {error}"),
        Err(error) => warn!("cleaning up after an earlier process ended abnormally: {error}"),
    }
    std::mem::take(&mut *begun.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}
