//! Connections of others over TLS, as tonic serves them.
//!
//! Handshakes run beside the accepting, a bounded number at once and each for a bounded time: whoever connects and says
//! nothing holds up nobody. What a connection was made with is a [`Peer`] in the extensions of its requests.

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::facts::Facts;
use crate::plaintext;
use crate::registry::{Registry, Shared};

const HANDSHAKES_MAX: usize = 256;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that wait to be served.
const READY_MAX: usize = 16;
/// Before the system is asked again that could give no connection, because files ran out for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// From where.
    pub address: SocketAddr,
    /// What its certificate says, if it has one.
    pub facts: Option<Arc<Facts>>,
}

/// Connections that are ready to be served.
#[derive(Debug)]
pub struct Listening {
    ready: mpsc::Receiver<Connection>,
    _accepting: AbortOnDrop,
}

#[derive(Debug)]
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listening {
    /// Accepts on a port. With a registry, connections of whoever is revoked end.
    pub fn new(listener: TcpListener, config: Arc<ServerConfig>, registry: Option<Arc<Registry>>) -> Self {
        let (sender, ready) = mpsc::channel(READY_MAX);
        let accepting = tokio::spawn(accept(listener, TlsAcceptor::from(config), registry, sender));
        Self { ready, _accepting: AbortOnDrop(accepting) }
    }
}

impl Stream for Listening {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(context).map(|next| next.map(Ok))
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    registry: Option<Shared>,
    ready: mpsc::Sender<Connection>,
) {
    let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted; trying again in {ACCEPT_PAUSE:?}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (acceptor, registry, ready) = (acceptor.clone(), registry.clone(), ready.clone());
        tokio::spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, shake(stream, address, acceptor, registry));
            match shaken.await {
                // Nobody serves any more when it is not taken.
                Ok(Ok(connection)) => drop(ready.send(connection).await),
                Ok(Err(error)) => tracing::debug!(%address, %error, "a connection was refused"),
                Err(_) => tracing::debug!(%address, "a connection said nothing for {HANDSHAKE_TIMEOUT:?}"),
            }
            drop(place);
        });
    }
}

async fn shake(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    registry: Option<Shared>,
) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    if !plaintext::is_tls(&stream).await? {
        plaintext::explain(stream).await;
        return Err(io::Error::other("it does not speak TLS"));
    }
    let stream = acceptor.accept(stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let facts = match certificate.map(|der| Facts::of(der)) {
        None => None,
        Some(Ok(facts)) => Some(Arc::new(facts)),
        Some(Err(error)) => return Err(io::Error::other(error)),
    };
    let end = registry.zip(facts.as_deref()).map(|(registry, facts)| registry.end_of(&facts.identity));
    Ok(Connection {
        stream,
        peer: Peer { address, facts },
        end: end.map(|end| Box::pin(CancellationToken::cancelled_owned(end))),
    })
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    /// Ends the connection; none where nobody is put out.
    end: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Connection {
    fn poll_end(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().map(|end| end.as_mut().poll(context)) {
            Some(Poll::Ready(())) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the identity was revoked"))
            }
            Some(Poll::Pending) | None => Ok(()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_end(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
