//! The network under the gRPC face: TCP, unless whoever starts the coordinator brings another one, as a simulation does.
//!
//! What is spoken on it is `grpc`'s business. A listener serves by itself, so that streams are never behind a pointer.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;

use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
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
        let incoming = TcpListenerStream::new(*self).map(|stream| {
            let stream = stream?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(stream)
        });
        Box::pin(router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()))
    }
}
