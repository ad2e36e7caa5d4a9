//! turmoil's network behind the product's network interface: listeners and connections in a simulated host.
//!
//! The settings of connections are those of the product; only the transport of bytes is different.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream;
use hyper_util::rt::TokioIo;
use orbit_identity::network::{Bind, Connect, Port};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use tonic::codegen::http::Uri;
use tonic::transport::server::{Connected, Router};
use tonic::transport::{self, Channel, Endpoint};
use tower::service_fn;

/// The network of the simulation that runs on this thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Simulated;

/// A connection within it.
struct Stream(turmoil::net::TcpStream);

struct Listener(turmoil::net::TcpListener);

type Serving = BoxFuture<'static, Result<(), transport::Error>>;

impl Bind for Simulated {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Port>>> {
        Box::pin(async move {
            let listener = turmoil::net::TcpListener::bind(address).await?;
            Ok(Box::new(Listener(listener)) as Box<dyn Port>)
        })
    }
}

impl Connect for Simulated {
    fn connect(
        &self,
        endpoint: Endpoint,
        _: orbit_identity::Expected,
    ) -> BoxFuture<'_, Result<Channel, transport::Error>> {
        Box::pin(async move { endpoint.connect_with_connector(service_fn(connect)).await })
    }
}

impl Port for Listener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn serve(self: Box<Self>, router: Router, stop: CancellationToken) -> Serving {
        serve(self.0, router, stop)
    }
}

impl Simulated {
    /// A channel that connects with the first call, and again whenever the connection is lost.
    pub(crate) fn lazy_channel(endpoint: &Endpoint) -> Channel {
        endpoint.connect_with_connector_lazy(service_fn(connect))
    }
}

async fn connect(uri: Uri) -> io::Result<TokioIo<Stream>> {
    let host = uri.host().expect("an address has a host");
    let port = uri.port_u16().expect("an address has a port");
    let stream = turmoil::net::TcpStream::connect((host, port)).await?;
    Ok(TokioIo::new(Stream(stream)))
}

fn serve(listener: turmoil::net::TcpListener, router: Router, stop: CancellationToken) -> Serving {
    let incoming = stream::unfold(listener, async |listener| {
        let accepted = listener.accept().await;
        Some((accepted.map(|(stream, _)| Stream(stream)), listener))
    });
    Box::pin(router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()))
}

impl Connected for Stream {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
