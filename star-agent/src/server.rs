//! Starts a Star inside a process, and serves its port.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use orbit_identity::keep_renewed;
use orbit_shared::health_monitor::HealthConfig;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;
use tracing::{info, warn};
use uuid::Uuid;

use crate::assembly::assemble;
use crate::clock::Clock;
use crate::config::{OptionsError, StarOptions};
use crate::core::{CoreConfig, Event, StarCore};
use crate::driver::{Driver, ExitReport, Surroundings};
use crate::grpc::session::{AddressError, endpoint};
use crate::health::HealthProbe;
use crate::net::Listener;
use crate::packed::PackedError;
use crate::plane::DataPlane;
use crate::roots::RootsError;
use crate::tls::{self, IdentityError};
use crate::vault::{Vault, VaultError};

/// How long open streams may go on after the Star has left, before they are cut.
const SERVE_GRACE: Duration = Duration::from_secs(2);

/// How often the health monitor judges.
const HEALTH_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// How long a trend of the disk must last before anybody is told.
const HEALTH_TREND_SPAN: Duration = Duration::from_secs(60);

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
        /// Why not.
        error: PackedError,
    },
    /// A root cannot be opened.
    #[error("--root: {0}")]
    Roots(#[from] RootsError),
    /// The port cannot be had.
    #[error("--listen {listen}: {error}; choose another port, or port 0 for any free one")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// The descriptors of the API are damaged; a defect of the build.
    #[error("the reflection service cannot be made: {0}")]
    Reflection(String),
}

/// What helps when a packed store cannot be opened. An index that is damaged has been built again already by then.
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
    /// Where it listens, with the port that it got.
    pub local_addr: SocketAddr,
    inbox: mpsc::Sender<Event>,
    stop: CancellationToken,
    task: JoinHandle<ExitReport>,
}

impl StarHandle {
    /// Asks the Star to finish its work and leave, as a first SIGTERM does; a second call makes it leave at once.
    pub async fn drain(&self) {
        self.drainer().drain().await;
    }

    /// What asks the Star to leave while somebody else waits for it.
    pub fn drainer(&self) -> Drainer {
        Drainer { inbox: self.inbox.clone() }
    }

    /// Makes the Star leave at once. What it held goes back to the coordinator when its lease ends.
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

/// Asks one Star to leave.
#[derive(Debug, Clone)]
pub struct Drainer {
    inbox: mpsc::Sender<Event>,
}

impl Drainer {
    /// As [`StarHandle::drain`].
    pub async fn drain(&self) {
        // A Star that has left already needs no asking.
        let _ = self.inbox.send(Event::SignalReceived).await;
    }
}

/// Starts a Star. It runs until it is told to leave, by the coordinator, by its handle, or by `shutdown`.
///
/// # Errors
/// See [`StarError`]; nothing runs then, and nothing is held.
pub async fn start(mut options: StarOptions, shutdown: CancellationToken) -> Result<StarHandle, StarError> {
    options.check()?;
    let coordinators = options.coordinators.iter().map(|address| endpoint(address));
    let coordinators = coordinators.collect::<Result<Vec<_>, _>>()?;
    let vault = Arc::new(Vault::open(&options.vault, Uuid::new_v4())?);
    let credentials = tls::enter(&options, vault.path(), &coordinators).await?;
    if credentials.is_none() && !options.listen.ip().is_loopback() {
        warn!(
            "nothing that other Stars get from {} is encrypted; https:// for the coordinator changes that",
            options.listen
        );
    }
    if credentials.is_some() {
        options.network = tls::network(credentials.clone());
    }
    let listen_failed = |error| StarError::Listen { listen: options.listen, error };
    let listener = options.network.listen(options.listen).await.map_err(listen_failed)?;
    let local_addr = listener.local_addr().map_err(listen_failed)?;

    let (keys, keys_seen) = watch::channel(Vec::new());
    let serving = CancellationToken::new();
    let parts = assemble(&options, &vault, keys_seen, &serving).await?;
    if let Some(credentials) = credentials {
        let renewing = keep_renewed(credentials, coordinators.clone(), serving.clone());
        tokio::spawn(renewing);
    }
    clean_leftovers(&vault, Arc::clone(&parts.plane)).await;
    tokio::spawn(serving.clone().run_until_cancelled_owned(clean_ended_again(Arc::clone(&parts.plane))));

    let clock = Clock::start();
    let core = StarCore::new(core_config(&options, &vault, local_addr), clock.now());
    let probe = HealthProbe::new(&options.roots, health_config());
    let network = options.network;
    let spans = options.spans;
    let star = options.star_id;
    let world = Surroundings { star, clock, plane: parts.plane, vault, network, coordinators, keys, spans };
    let (driver, inbox) = Driver::new(core, world, probe);
    let stop = shutdown.child_token();
    let scrubbing =
        parts.sentinel.map(|sentinel| tokio::spawn(sentinel.run(inbox.clone(), serving.child_token())));
    let task = tokio::spawn(run(driver, parts.router, listener, (serving, scrubbing), stop.clone()));
    Ok(StarHandle { local_addr, inbox, stop, task })
}

/// Drives the Star to its end, and serves until then.
async fn run(
    driver: Driver,
    router: Router,
    listener: Box<dyn Listener>,
    (serving, scrubbing): (CancellationToken, Option<JoinHandle<()>>),
    stop: CancellationToken,
) -> ExitReport {
    let server = tokio::spawn(listener.serve(router, serving.clone()));
    let report = driver.run(stop).await;
    serving.cancel();
    let aborting = server.abort_handle();
    match tokio::time::timeout(SERVE_GRACE, server).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => warn!("the port was not served to the end: {error}"),
        Ok(Err(error)) => warn!("serving ended abnormally: {error}"),
        Err(_) => aborting.abort(),
    }
    // Whoever waits for this Star may open the vault next.
    if let Some(scrubbing) = scrubbing
        && tokio::time::timeout(SERVE_GRACE, scrubbing).await.is_err()
    {
        warn!("the rolling check of the vault did not stop in time");
    }
    report
}

/// A disk that a copy fills for a few seconds is no trend, and one sync may stop the bytes for seconds.
fn health_config() -> HealthConfig {
    HealthConfig {
        check_interval: HEALTH_CHECK_INTERVAL,
        prediction_span_min: HEALTH_TREND_SPAN,
        ..HealthConfig::default()
    }
}

fn core_config(options: &StarOptions, vault: &Vault, local_addr: SocketAddr) -> CoreConfig {
    CoreConfig {
        star_id: options.star_id.clone(),
        identity: vault.identity(),
        instance: Uuid::new_v4(),
        data_address: options.advertise.clone().unwrap_or_else(|| local_addr.to_string()),
        roots: options.roots.clone(),
        labels: options.labels.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        coordinator_count: options.coordinators.len(),
        drain_timeout: options.drain_timeout,
        seed: rand::random(),
    }
}

/// How often it is looked for what jobs have left that ended without this Star.
const CLEANING_INTERVAL: Duration = Duration::from_secs(3600);

/// A Star is not told of every end of a job: what nobody comes back to goes in time.
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

/// An earlier process may have been killed in the middle of work: what it left half written goes.
async fn clean_leftovers(vault: &Arc<Vault>, plane: Arc<dyn DataPlane>) {
    let vault = Arc::clone(vault);
    let cleaning = tokio::task::spawn_blocking(move || {
        for assignment in vault.leftovers()? {
            let (id, job) = (assignment.id.0, assignment.job.0);
            info!(assignment = id, job, "cleaning up after work that an earlier process left");
            plane.clean_temporaries(&assignment);
            vault.forget(assignment.id)?;
        }
        Ok::<_, std::io::Error>(())
    });
    match cleaning.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!("what an earlier process left is not all cleaned up: {error}"),
        Err(error) => warn!("cleaning up after an earlier process ended abnormally: {error}"),
    }
}
