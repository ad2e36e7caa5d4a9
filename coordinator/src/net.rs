//! The network under gRPC: TCP, with or without TLS, or another one that the caller of `start` gives, as a simulation does.
//!
//! What is spoken on it is `grpc`'s business. A listener serves by itself, so that streams are never behind a pointer.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use orbit_identity::{Listening, LocalUsers, Registry};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport;
use tonic::transport::server::Router;

/// Where a coordinator can be reached.
pub trait Network: Debug + Send + Sync {
    /// Takes an address; port 0 picks a free one.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;
}

/// An address that was taken.
pub trait Listener: Send {
    /// The address, with the port that was picked.
    ///
    /// # Errors
    /// The system does not say.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Serves until `stop`, then lets calls in progress end.
    fn serve(
        self: Box<Self>,
        router: Router,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), transport::Error>>;
}

/// The system's network, without TLS.
#[derive(Debug, Clone, Default)]
pub struct Tcp {
    /// The users of this machine that are served.
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

/// The system's network, where everybody speaks TLS.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    /// Whose connections end when somebody is revoked.
    pub(crate) registry: Arc<Registry>,
}

struct TlsListener {
    tcp: TcpListener,
    tls: Tls,
}

impl Network for Tls {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let tcp = TcpListener::bind(address).await?;
            Ok(Box::new(TlsListener { tcp, tls: self.clone() }) as Box<dyn Listener>)
        })
    }
}

impl Listener for TlsListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    fn serve(
        self: Box<Self>,
        router: Router,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), transport::Error>> {
        Box::pin(Listening::new(self.tcp, self.tls.config, Some(self.tls.registry)).serve(router, stop))
    }
}
