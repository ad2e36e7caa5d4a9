//! The network of a Star: TCP, with [TLS](crate::tls) if the Star has an identity, or another one that the caller of
//! `start` gives, as a simulation does.
//!
//! The protocols on it and their settings belong to `grpc`. A listener serves and a connection is a channel, so streams
//! are not accessed through a pointer.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use orbit_identity::{Expected, Listening, LocalUsers, PlainDialing};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;
use tonic::transport::{self, Channel, Endpoint};

/// Accepts and makes connections.
pub trait Network: Debug + Send + Sync {
    /// Binds an address; port 0 picks a free port.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;

    /// Connects, with the endpoint's settings. With TLS, only to a server with the expected identity.
    fn connect(
        &self,
        endpoint: Endpoint,
        expected: Expected,
    ) -> BoxFuture<'_, Result<Channel, transport::Error>>;

    /// The scheme of addresses of Stars on this network.
    fn scheme(&self) -> &'static str {
        "http"
    }
}

/// An address that was bound.
pub trait Listener: Send {
    /// The address, with the port that was picked.
    ///
    /// # Errors
    /// The system gives no address.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Serves until `stop`, then waits for the calls in progress.
    fn serve(
        self: Box<Self>,
        router: Router,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), transport::Error>>;
}

/// The system's network, without TLS.
#[derive(Debug, Clone, Default)]
pub struct Tcp {
    /// The users of this machine that are served and trusted.
    pub users: Arc<LocalUsers>,
}

struct PlainListener {
    tcp: TcpListener,
    users: Arc<LocalUsers>,
}

impl Network for Tcp {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let tcp = TcpListener::bind(address).await?;
            Ok(Box::new(PlainListener { tcp, users: Arc::clone(&self.users) }) as Box<dyn Listener>)
        })
    }

    fn connect(&self, endpoint: Endpoint, _: Expected) -> BoxFuture<'_, Result<Channel, transport::Error>> {
        Box::pin(async move { PlainDialing::new(Arc::clone(&self.users)).connect(&endpoint).await })
    }
}

impl Listener for PlainListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    fn serve(
        self: Box<Self>,
        router: Router,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), transport::Error>> {
        Box::pin(Listening::plain(self.tcp, self.users).serve(router, stop))
    }
}
