//! The network that a Star lives in: TCP, with [TLS](crate::tls) on it for a Star that has an identity, unless whoever starts the Star brings another one, as a simulation does.
//!
//! What is spoken on it, and with which settings, is `grpc`'s business. A listener serves and a connection is a channel,
//! so that the streams themselves are never behind a pointer.

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

/// How a Star is reached, and reaches others.
pub trait Network: Debug + Send + Sync {
    /// Takes an address; port 0 picks a free one.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;

    /// Connects, with the endpoint's settings. Where everybody has an identity, to nobody but whom is expected there.
    fn connect(
        &self,
        endpoint: Endpoint,
        expected: Expected,
    ) -> BoxFuture<'_, Result<Channel, transport::Error>>;

    /// How addresses of Stars begin here.
    fn scheme(&self) -> &'static str {
        "http"
    }
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
    /// The users of this machine that are served, and that are trusted.
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
