//! A grid inside this process: a coordinator and Stars that speak gRPC over pipes in memory, as they would over a network
//! between machines. No address is opened, so no other process can take part.
//!
//! The one file that knows how the servers are started. `copy`, `demo` and tests build their grids here.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use orbit_coordinator::{CoordinatorHandle, CoordinatorOptions};
use orbit_program::open_files::TooFewOpenFiles;
use orbit_shared::session::Root;
use orbit_shared::words::StarId;
use orbit_star::{StarHandle, StarOptions};
use tokio_util::sync::CancellationToken;

use crate::in_process::InProcess;

/// Heartbeats carry the progress of large files, and here they cost nothing.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(250);

/// Why a grid cannot be started or ended.
#[derive(Debug, thiserror::Error)]
pub enum GridError {
    /// The process may have too few files open.
    #[error(transparent)]
    OpenFiles(#[from] TooFewOpenFiles),
    /// A directory for its state cannot be made.
    #[error("cannot make the state directory {}: {error}", path.display())]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The coordinator cannot start.
    #[error("the coordinator in this process cannot start: {0}")]
    Coordinator(String),
    /// A Star cannot start.
    #[error("the Star {star_id} in this process cannot start: {problem}")]
    Star {
        /// Its name.
        star_id: StarId,
        /// What it says.
        problem: String,
    },
    /// The coordinator could not make its last changes durable.
    #[error("the coordinator in this process did not end well: {0}")]
    Stop(String),
}

/// A coordinator and the Stars that were added to it. Dropping it does not end them; [`Grid::stop`] does.
#[derive(Debug)]
pub struct Grid {
    coordinator: CoordinatorHandle,
    stars: Vec<StarHandle>,
    state_dir: PathBuf,
    network: InProcess,
}

impl Grid {
    /// Starts a coordinator that keeps its state below `state_dir`.
    ///
    /// # Errors
    /// When the directory cannot be made or used, for example because another process holds it.
    pub async fn start(state_dir: &Path) -> Result<Self, GridError> {
        orbit_program::open_files::raise_limit()?;
        orbit_program::memory::disable_huge_pages();
        orbit_program::signals::survive_file_size_limit();
        let data_dir = state_dir.join("coordinator");
        make_dir(&data_dir)?;
        let mut options = CoordinatorOptions::new(data_dir);
        // The whole grid is this process: there is no other coordinator that its Star could belong to.
        options.core.takes_over = true;
        options.core.heartbeat_interval = HEARTBEAT_INTERVAL;
        let network = InProcess::default();
        options.network = Arc::new(network.clone());
        let coordinator = orbit_coordinator::start(options)
            .await
            .map_err(|error| GridError::Coordinator(error.to_string()))?;
        Ok(Self { coordinator, stars: Vec::new(), state_dir: state_dir.to_owned(), network })
    }

    /// The coordinator's address within this grid's network.
    pub fn url(&self) -> String {
        match self.coordinator.local_addr() {
            Some(address) => format!("http://{address}"),
            // Not reached: the network within this process gives each listener an address.
            None => String::new(),
        }
    }

    /// The network of this grid, which is the only way to it.
    pub fn network(&self) -> &InProcess {
        &self.network
    }

    /// Starts a Star that exports one directory, `root`, which must be absolute.
    ///
    /// # Errors
    /// When the root or the Star's vault cannot be used.
    pub async fn add_star(
        &mut self,
        star_id: StarId,
        root: &Path,
        is_read_only: bool,
    ) -> Result<(), GridError> {
        let vault = self.state_dir.join(star_id.as_str());
        make_dir(&vault)?;
        let root = Root { path: root.as_os_str().as_bytes().to_vec(), is_read_only };
        let mut options = StarOptions::new(star_id.clone(), self.url(), vec![root], vault);
        options.network = Arc::new(self.network.clone());
        let star = orbit_star::start(options, CancellationToken::new())
            .await
            .map_err(|error| GridError::Star { star_id, problem: error.to_string() })?;
        self.stars.push(star);
        Ok(())
    }

    /// Ends the Stars at once, then the coordinator in good order.
    ///
    /// # Errors
    /// When the coordinator could not make its last changes durable.
    pub async fn stop(self) -> Result<(), GridError> {
        for star in &self.stars {
            star.stop();
        }
        for mut star in self.stars {
            star.wait().await;
        }
        self.coordinator.stop().await.map_err(|error| GridError::Stop(error.to_string()))
    }
}

fn make_dir(path: &Path) -> Result<(), GridError> {
    std::fs::create_dir_all(path).map_err(|error| GridError::StateDir { path: path.to_owned(), error })
}
