//! Starts a coordinator inside a process, and stops it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use orbit_identity::network::{Bind, Tcp};
use orbit_identity::{Listen, Listener, LocalUsers, Ports, PortsError, RegistryError, Role, bind_socket};
use orbit_program::private_files::{mark, tighten};
use orbit_shared::capability::CapabilityError;
use orbit_telemetry::Spans;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::backup::{PROVENANCE_DIRECTORY, STORE_FILE};
use crate::config::HttpRole;
use crate::core::CoreConfig;
use crate::driver::{Driver, DriverError, GrantKeys, verification};
use crate::grpc::{self, Faces, ServeError};
use crate::http;
use crate::keep::Backups;
use crate::meters::Meters;
use crate::provenance_log::{BYTES_MAX_DEFAULT, ProvenanceLog, ProvenanceLogError};
use crate::store::{EmbeddedStore, Guarded, StoreError};
use crate::tls::{self, TlsOptions};

/// How long calls in progress may take to end after the coordinator was told to stop.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Everything that a coordinator needs to start.
#[derive(Debug, Clone)]
pub struct CoordinatorOptions {
    /// Where to serve gRPC; port 0 picks a free one.
    pub listen: Listen,
    /// Where to serve HTTP, if at all; port 0 picks a free one.
    pub http_listen: Option<Listen>,
    /// Names under which HTTP may be asked, beside addresses and names without a dot.
    pub http_hosts: Vec<String>,
    /// Where the store and the provenance log are kept.
    pub data_dir: PathBuf,
    /// Where backups go; `backups` in the data directory unless it says otherwise.
    pub backup_dir: Option<PathBuf>,
    /// Backups that are kept there; 0 keeps all.
    pub backup_count_max: usize,
    /// Bytes of provenance events that are kept.
    pub event_bytes_max: u64,
    /// How the core behaves.
    pub core: CoreConfig,
    /// How it speaks TLS over gRPC, if it does.
    pub tls: Option<TlsOptions>,
    /// The role of all callers over HTTP; by default operator, and viewer with TLS.
    pub http_role: Option<HttpRole>,
    /// Whether it may listen beyond this machine without encryption.
    pub is_plaintext_allowed: bool,
    /// The users of this machine that are served over HTTP and at Unix sockets.
    pub local_users: Arc<LocalUsers>,
    /// What gRPC is served on.
    pub network: Arc<dyn Bind>,
    /// Where spans of jobs and assignments go, if anywhere.
    pub spans: Spans,
}

impl CoordinatorOptions {
    /// The least that a coordinator needs: gRPC on a free port of the loopback address, no HTTP.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
            http_listen: None,
            http_hosts: Vec::new(),
            data_dir,
            backup_dir: None,
            backup_count_max: 0,
            event_bytes_max: BYTES_MAX_DEFAULT,
            core: CoreConfig::default(),
            tls: None,
            http_role: None,
            is_plaintext_allowed: false,
            local_users: Arc::default(),
            network: Arc::new(Tcp::default()),
            spans: Spans::default(),
        }
    }
}

impl CoordinatorOptions {
    /// The role of all callers over HTTP.
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
    /// It cannot listen.
    #[error(transparent)]
    Ports(#[from] PortsError),
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
    local_addr: Option<SocketAddr>,
    socket: Option<PathBuf>,
    http_addr: Option<SocketAddr>,
    http_socket: Option<PathBuf>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    http: Vec<JoinHandle<()>>,
    driver: JoinHandle<Result<(), DriverError>>,
    driver_stop: CancellationToken,
}

impl CoordinatorHandle {
    /// The address where it serves gRPC, if there is one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    /// The Unix socket where it serves gRPC, if there is one.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// The address where it serves HTTP, if there is one.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// The Unix socket where it serves HTTP, if there is one.
    pub fn http_socket(&self) -> Option<&Path> {
        self.http_socket.as_deref()
    }

    /// Waits until the coordinator ends by itself, which it does only when it cannot make a change durable.
    pub async fn failed(&mut self) -> Option<DriverError> {
        match (&mut self.driver).await {
            Ok(result) => result.err(),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Ends streams, lets calls in progress finish, commits, and closes the store.
    pub fn stop(self) -> BoxFuture<'static, Result<(), DriverError>> {
        Box::pin(self.stop_here())
    }

    async fn stop_here(self) -> Result<(), DriverError> {
        self.stop.cancel();
        let abort = self.serving.abort_handle();
        if tokio::time::timeout(STOP_GRACE, self.serving).await.is_err() {
            tracing::warn!("calls in progress did not end in {STOP_GRACE:?} and are cut off");
            abort.abort();
        }
        for http in self.http {
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
///
/// The future is boxed so that the code of the coordinator is compiled here, once, and not in each program that starts one.
///
/// # Errors
/// See [`StartError`]. Then nothing runs.
pub fn start(options: CoordinatorOptions) -> BoxFuture<'static, Result<CoordinatorHandle, StartError>> {
    Box::pin(start_here(options))
}

async fn start_here(options: CoordinatorOptions) -> Result<CoordinatorHandle, StartError> {
    check(&options)?;
    let data_dir = options.data_dir.clone();
    let failed = |error| StartError::DataDir { path: data_dir.clone(), error };
    std::fs::create_dir_all(&options.data_dir).map_err(failed)?;
    keep_to_owner(&options.data_dir);
    mark(&options.data_dir).map_err(failed)?;
    if let Some(backups) = options.backup_dir.as_deref().filter(|directory| directory.is_dir()) {
        keep_to_owner(backups);
    }
    let (stop, driver_stop) = (CancellationToken::new(), CancellationToken::new());
    let http_role = options.http_role();
    let (network, identities) = match options.tls {
        None => (options.network, None),
        Some(tls) => {
            let (tls, own) =
                tls::open(&options.data_dir, options.listen.address().map(|address| address.ip()), tls)?;
            tokio::spawn(own.keep_renewed(stop.clone()));
            let registry = Arc::clone(&tls.registry);
            (Arc::new(tls) as Arc<dyn Bind>, Some(registry))
        }
    };
    if let Some(address) = options.listen.address().filter(|address| !address.ip().is_loopback())
        && identities.is_none()
    {
        tracing::warn!(
            "connections to {address} are not encrypted, and every machine that can connect has all rights; use --tls to change that"
        );
    }
    let ports = Ports::bind(&*network, &options.listen, &options.local_users).await?;
    let http_listeners = bind_http(options.http_listen.as_ref()).await?;
    let store = Arc::new(Guarded(EmbeddedStore::open(&options.data_dir.join(STORE_FILE))?));
    let provenance =
        Arc::new(ProvenanceLog::open(&options.data_dir.join(PROVENANCE_DIRECTORY), options.event_bytes_max)?);
    let keys = GrantKeys::open(&options.data_dir)?;
    let meters = Arc::new(Meters::new());
    let core = CoreConfig { fresh_grid: Uuid::new_v4(), ..options.core };
    let recovered =
        Driver::recover(core, store.clone(), provenance.clone(), keys, meters.clone(), options.spans);
    let (driver, inbox) = recovered?;
    verification::start(store.clone(), inbox.clone(), stop.clone());
    let directory = options.backup_dir.unwrap_or_else(|| options.data_dir.join("backups"));
    let backups = Arc::new(Backups { directory, count_max: options.backup_count_max });
    let faces = Faces { inbox, store, provenance, backups, meters, identities, stop: stop.clone() };
    let (local_addr, http_addr) = (ports.address(), address_of(&http_listeners));
    let socket = options.listen.socket().map(Path::to_owned);
    let http_socket = options.http_listen.as_ref().and_then(Listen::socket).map(Path::to_owned);
    let driver = tokio::spawn(driver.run(driver_stop.clone()));
    let mut http = Vec::new();
    if !http_listeners.is_empty() {
        let users = Arc::clone(&options.local_users);
        let asked = http::Asked { hosts: &options.http_hosts, role: http_role, users };
        let face = http::Face::new(faces.clone(), asked).await?;
        http.extend(http_listeners.into_iter().map(|listener| tokio::spawn(face.clone().serve(listener))));
    }
    let serving = tokio::spawn(async move {
        if let Err(error) = grpc::serve(ports, faces).await {
            tracing::error!(%error, "serving has ended");
        }
    });
    Ok(CoordinatorHandle {
        local_addr,
        socket,
        http_addr,
        http_socket,
        stop,
        serving,
        http,
        driver,
        driver_stop,
    })
}

/// Binds what HTTP is served on.
async fn bind_http(listen: Option<&Listen>) -> Result<Vec<Listener>, StartError> {
    const FLAG: &str = "--http-listen";
    let mut listeners = Vec::new();
    if let Some(address) = listen.and_then(Listen::address) {
        let failed = |error| PortsError::Address { flag: FLAG, address, error };
        listeners.push(TcpListener::bind(address).await.map_err(failed)?.into());
    }
    if let Some(path) = listen.and_then(Listen::socket) {
        listeners.push(bind_socket(FLAG, path)?.into());
    }
    Ok(listeners)
}

fn address_of(listeners: &[Listener]) -> Option<SocketAddr> {
    listeners.iter().find_map(|listener| match listener {
        Listener::Tcp(listener) => listener.local_addr().ok(),
        Listener::Unix(_) => None,
    })
}

/// Takes the rights of others from what an earlier version or a hand made. Keys are judged when they are read.
fn keep_to_owner(directory: &Path) {
    match tighten(directory, tls::IDENTITY_DIRECTORY) {
        Ok(0) => {}
        Ok(count) => tracing::warn!(
            "{}: {count} files and directories could be used by other users and are its owner's alone now",
            directory.display()
        ),
        Err(error) => tracing::warn!(
            "{}: other users may be able to read it, and that cannot be changed: {error}",
            directory.display()
        ),
    }
}

fn check(options: &CoordinatorOptions) -> Result<(), StartError> {
    options.listen.check("--listen").map_err(StartError::Options)?;
    let exposed = |listen: &Listen| {
        let address = listen.address()?;
        (!address.ip().is_loopback() && !options.is_plaintext_allowed).then_some(address)
    };
    if options.tls.is_none()
        && let Some(address) = exposed(&options.listen)
    {
        return Err(StartError::Options(format!(
            "--listen {address} can be reached by other machines, and nothing that is said there is encrypted; add --tls (or --insecure-plaintext on a network that you trust)"
        )));
    }
    if let Some(http) = &options.http_listen {
        http.check("--http-listen").map_err(StartError::Options)?;
        if let Some(address) = exposed(http) {
            return Err(StartError::Options(format!(
                "--http-listen {address} can be reached by other machines, and the console and the API are not encrypted; listen on 127.0.0.1 and put a proxy with TLS before it, or add --insecure-plaintext on a network that you trust"
            )));
        }
    }
    options.local_users.resolve().map_err(|error| StartError::Options(error.to_string()))?;
    if options.core.heartbeat_interval.is_zero() || options.core.lease < options.core.heartbeat_interval * 3 {
        return Err(StartError::Options(format!(
            "--lease {:?} must be at least three times --heartbeat-interval {:?}, which must not be 0",
            options.core.lease, options.core.heartbeat_interval
        )));
    }
    Ok(())
}
