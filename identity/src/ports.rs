//! Where one server accepts gRPC: a port, a Unix socket, or both, with the same services on both.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _, ready};
use tokio_util::sync::CancellationToken;
use tonic::transport;
use tonic::transport::server::Router;

use crate::address::Listen;
use crate::local_users::LocalUsers;
use crate::network::{Bind, Port, serve_plain};
use crate::unix_socket::{BindError, UnixSocket};

/// Why a server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum PortsError {
    /// The address cannot be bound.
    #[error("{flag} {address}: {error}; choose another port, or port 0 for any free one")]
    Address {
        /// The setting that gives it.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        error: io::Error,
    },
    /// The Unix socket cannot be made.
    #[error("{flag} unix:{}: {error}", path.display())]
    Socket {
        /// The setting that gives it.
        flag: &'static str,
        /// Its path.
        path: PathBuf,
        /// The reason.
        error: BindError,
    },
}

/// The setting of every server that says where it listens.
const LISTEN: &str = "--listen";

/// The sockets of a server. They accept connections from [`Ports::bind`] on and are served by [`Ports::serve`].
pub struct Ports {
    tcp: Option<(SocketAddr, Box<dyn Port>)>,
    socket: Option<(UnixSocket, Arc<LocalUsers>)>,
}

impl Ports {
    /// Binds the addresses. A Unix socket serves these users of this machine.
    ///
    /// # Errors
    /// One of them cannot be bound. Then none is.
    pub async fn bind<N: Bind + ?Sized>(
        network: &N,
        listen: &Listen,
        users: &Arc<LocalUsers>,
    ) -> Result<Self, PortsError> {
        let mut ports = Self { tcp: None, socket: None };
        if let Some(address) = listen.address() {
            let failed = |error| PortsError::Address { flag: LISTEN, address, error };
            let port = network.bind(address).await.map_err(failed)?;
            ports.tcp = Some((port.local_addr().map_err(failed)?, port));
        }
        if let Some(path) = listen.socket() {
            ports.socket = Some((bind_socket(LISTEN, path)?, Arc::clone(users)));
        }
        Ok(ports)
    }

    /// The address and port, if there is one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(|(address, _)| *address)
    }

    /// The address for others on this machine or beyond: the port, or the Unix socket if there is no port.
    pub fn reachable_at(&self) -> String {
        match (self.address(), &self.socket) {
            (Some(address), _) => address.to_string(),
            (None, Some((socket, _))) => socket.to_string(),
            (None, None) => String::new(),
        }
    }

    /// Serves until `stop`, then waits for the calls in progress. Both sockets end before it returns.
    pub fn serve(
        self,
        router: Router,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), transport::Error>> {
        let locally = match self.socket {
            Some((socket, users)) => serve_plain(socket.into(), users, router.clone(), stop.clone()),
            None => ready(Ok(())).boxed(),
        };
        let everywhere = match self.tcp {
            Some((_, port)) => port.serve(router, stop),
            None => ready(Ok(())).boxed(),
        };
        Box::pin(async move {
            let (locally, everywhere) = futures::future::join(locally, everywhere).await;
            locally.and(everywhere)
        })
    }
}

/// Makes a Unix socket at a path that a setting gives.
///
/// # Errors
/// As the socket's.
pub fn bind_socket(flag: &'static str, path: &Path) -> Result<UnixSocket, PortsError> {
    UnixSocket::bind(path).map_err(|error| PortsError::Socket { flag, path: path.to_owned(), error })
}
