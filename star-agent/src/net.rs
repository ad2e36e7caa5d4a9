//! The network that a Star lives in: TCP, with [TLS](crate::tls) on it for a Star that has an identity, unless whoever starts the Star brings another one, as a simulation does.
//!
//! What is spoken on it, and with which settings, is `grpc`'s business. A listener serves and a connection is a channel,
//! so that the streams themselves are never behind a pointer.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;

use futures::future::BoxFuture;
use orbit_identity::Expected;
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;
use tonic::transport::{self, Channel, Endpoint};
use tracing::warn;

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

/// The system's network.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Network for Tcp {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }

    fn connect(&self, endpoint: Endpoint, _: Expected) -> BoxFuture<'_, Result<Channel, transport::Error>> {
        Box::pin(async move { endpoint.connect().await })
    }
}

impl Listener for TcpListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }

    fn serve(
        self: Box<Self>,
        router: Router,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), transport::Error>> {
        // Small messages go out at once; `serve_with_incoming` sets nothing on the sockets that it is given.
        let incoming = TcpListenerStream::new(*self).map(|accepted| {
            accepted.inspect(|socket| {
                if let Err(error) = socket.set_nodelay(true) {
                    warn!("a connection stays slow: {error}");
                }
            })
        });
        Box::pin(router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()))
    }
}
