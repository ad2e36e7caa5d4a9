//! Starts a coordinator inside a process, and stops it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use orbit_identity::{RegistryError, Role};
use orbit_shared::capability::{CapabilityError, CapabilitySigner};
use orbit_telemetry::Spans;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::backup::{PROVENANCE_DIRECTORY, STORE_FILE};
use crate::config::HttpRole;
use crate::core::CoreConfig;
use crate::driver::{Driver, DriverError};
use crate::grpc::{self, Faces, ServeError};
use crate::http;
use crate::meters::Meters;
use crate::net::{Network, Tcp};
use crate::provenance_log::{ProvenanceLog, ProvenanceLogError};
use crate::store::{EmbeddedStore, StoreError};
use crate::tls::{self, TlsOptions};

/// How long calls in progress may take to end after the coordinator was told to stop.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Everything that a coordinator needs to start.
#[derive(Debug, Clone)]
pub struct CoordinatorOptions {
    /// Where to serve gRPC; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where to serve HTTP, if at all; port 0 picks a free one.
    pub http_listen: Option<SocketAddr>,
    /// Names under which HTTP may be asked, beside addresses and names without a dot.
    pub http_hosts: Vec<String>,
    /// Where the store and the provenance log are kept.
    pub data_dir: PathBuf,
    /// Where backups go; `backups` in the data directory unless it says otherwise.
    pub backup_dir: Option<PathBuf>,
    /// How the core behaves.
    pub core: CoreConfig,
    /// How it speaks TLS over gRPC, if it does.
    pub tls: Option<TlsOptions>,
    /// What whoever asks over HTTP may do; unless it says so an operator's, and with TLS a viewer's.
    pub http_role: Option<HttpRole>,
    /// Whether it may listen beyond this machine without encryption.
    pub is_plaintext_allowed: bool,
    /// What gRPC is served on.
    pub network: Arc<dyn Network>,
    /// Where spans of jobs and assignments go, if anywhere.
    pub spans: Spans,
}

impl CoordinatorOptions {
    /// The least that a coordinator needs: gRPC on a free port of the loopback address, no HTTP.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            http_listen: None,
            http_hosts: Vec::new(),
            data_dir,
            backup_dir: None,
            core: CoreConfig::default(),
            tls: None,
            http_role: None,
            is_plaintext_allowed: false,
            network: Arc::new(Tcp),
            spans: Spans::default(),
        }
    }
}

impl CoordinatorOptions {
    /// What whoever asks over HTTP may do.
    fn http_role(&self) -> Role {
        match (self.http_role, &self.tls) {
            (Some(HttpRole::Operator), _) | (None, None) => Role::Operator,
            (Some(HttpRole::Viewer), _) | (None, Some(_)) => Role::Viewer,
        }
    }
}

/// Why a coordinator cannot start. Its text is one sentence that names the flag.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is out of its bounds.
    #[error("{0}")]
    Options(String),
    /// The data directory cannot be used.
    #[error("--data-dir {}: {error}; choose a directory that this user can write", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The provenance log cannot be opened.
    #[error(transparent)]
    Provenance(#[from] ProvenanceLogError),
    /// What the store holds cannot be taken up.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// A port cannot be had.
    #[error("{flag} {address}: {error}; choose another port, or port 0 for any free one")]
    Listen {
        /// The flag.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// What is served cannot be put together.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The authority of the grid cannot be used.
    #[error("--tls: {0}")]
    Identity(#[from] RegistryError),
    /// No key for capability tokens can be made.
    #[error(transparent)]
    Capability(#[from] CapabilityError),
}

/// A coordinator that runs in this process.
#[derive(Debug)]
pub struct CoordinatorHandle {
    local_addr: SocketAddr,
    http_addr: Option<SocketAddr>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    http: Option<JoinHandle<()>>,
    driver: JoinHandle<Result<(), DriverError>>,
    driver_stop: CancellationToken,
}

impl CoordinatorHandle {
    /// Where it serves gRPC.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where it serves HTTP, if it does.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// Waits until the coordinator ends by itself, which it does only when it cannot make a change durable.
    pub async fn failed(&mut self) -> Option<DriverError> {
        match (&mut self.driver).await {
            Ok(result) => result.err(),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Ends streams, lets calls in progress finish, commits, and closes the store.
    pub async fn stop(self) -> Result<(), DriverError> {
        self.stop.cancel();
        let abort = self.serving.abort_handle();
        if tokio::time::timeout(STOP_GRACE, self.serving).await.is_err() {
            tracing::warn!("calls in progress did not end in {STOP_GRACE:?} and are cut off");
            abort.abort();
        }
        if let Some(http) = self.http {
            http.abort();
        }
        self.driver_stop.cancel();
        if self.driver.is_finished() {
            return Ok(());
        }
        match self.driver.await {
            Ok(result) => result,
            Err(error) if error.is_cancelled() => Ok(()),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// Starts a coordinator: recovers what its data directory holds, then serves.
pub async fn start(options: CoordinatorOptions) -> Result<CoordinatorHandle, StartError> {
    check(&options)?;
    let data_dir = options.data_dir.clone();
    let failed = |error| StartError::DataDir { path: data_dir.clone(), error };
    std::fs::create_dir_all(&options.data_dir).map_err(failed)?;
    let (stop, driver_stop) = (CancellationToken::new(), CancellationToken::new());
    let http_role = options.http_role();
    let (network, identities) = match options.tls {
        None => (options.network, None),
        Some(tls) => {
            let (tls, own) = tls::open(&options.data_dir, options.listen.ip(), tls)?;
            tokio::spawn(own.keep_renewed(stop.clone()));
            let registry = Arc::clone(&tls.registry);
            (Arc::new(tls) as Arc<dyn Network>, Some(registry))
        }
    };
    if identities.is_none() && !options.listen.ip().is_loopback() {
        tracing::warn!(
            "nothing that is said on {} is encrypted, and whoever reaches it may do everything; --tls changes that",
            options.listen
        );
    }
    let taken = network.listen(options.listen).await;
    let listener = taken.map_err(refused("--listen", options.listen))?;
    let http_listener = match options.http_listen {
        Some(address) => {
            let taken = TcpListener::bind(address).await;
            Some(taken.map_err(refused("--http-listen", address))?)
        }
        None => None,
    };
    let store = Arc::new(EmbeddedStore::open(&options.data_dir.join(STORE_FILE))?);
    let provenance = Arc::new(ProvenanceLog::open(&options.data_dir.join(PROVENANCE_DIRECTORY))?);
    let signer = CapabilitySigner::generate()?;
    let meters = Arc::new(Meters::new());
    let recovered = Driver::recover(
        options.core,
        store.clone(),
        provenance.clone(),
        signer,
        meters.clone(),
        options.spans,
    );
    let (driver, inbox) = recovered?;
    let backups = options.backup_dir.unwrap_or_else(|| options.data_dir.join("backups"));
    let backups = backups.into();
    let faces = Faces { inbox, store, provenance, backups, meters, identities, stop: stop.clone() };
    let local_addr = listener.local_addr().unwrap_or(options.listen);
    let http_addr = http_listener
        .as_ref()
        .zip(options.http_listen)
        .map(|(socket, asked)| socket.local_addr().unwrap_or(asked));
    let driver = tokio::spawn(driver.run(driver_stop.clone()));
    let http = match http_listener {
        Some(listener) => {
            let serving = http::serve(listener, faces.clone(), &options.http_hosts, http_role).await?;
            Some(tokio::spawn(serving))
        }
        None => None,
    };
    let serving = tokio::spawn(async move {
        if let Err(error) = grpc::serve(listener, faces).await {
            tracing::error!(%error, "serving has ended");
        }
    });
    Ok(CoordinatorHandle { local_addr, http_addr, stop, serving, http, driver, driver_stop })
}

fn check(options: &CoordinatorOptions) -> Result<(), StartError> {
    let is_exposed = |address: SocketAddr| !address.ip().is_loopback() && !options.is_plaintext_allowed;
    if options.tls.is_none() && is_exposed(options.listen) {
        return Err(StartError::Options(format!(
            "--listen {} can be reached by other machines, and nothing that is said there is encrypted; add --tls (or --insecure-plaintext on a network that you trust)",
            options.listen
        )));
    }
    if let Some(address) = options.http_listen.filter(|&address| is_exposed(address)) {
        return Err(StartError::Options(format!(
            "--http-listen {address} can be reached by other machines, and the console and the API are not encrypted; listen on 127.0.0.1 and put a proxy with TLS before it, or add --insecure-plaintext on a network that you trust"
        )));
    }
    if options.core.heartbeat_interval.is_zero() || options.core.lease < options.core.heartbeat_interval * 3 {
        return Err(StartError::Options(format!(
            "--lease {:?} must be at least three times --heartbeat-interval {:?}, which must not be 0",
            options.core.lease, options.core.heartbeat_interval
        )));
    }
    Ok(())
}

fn refused(flag: &'static str, address: SocketAddr) -> impl FnOnce(std::io::Error) -> StartError {
    move |error| StartError::Listen { flag, address, error }
}
