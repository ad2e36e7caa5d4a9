//! Accepts connections, with and without TLS, and hands them to tonic.
//!
//! Every connection holds a [`Place`] until its peer has identified itself: without TLS until HTTP/2 begins, with TLS
//! until its certificate was checked. Each handshake runs in a task, so a silent peer does not delay others. Without
//! TLS, a connection within this machine is served only if it belongs to one of the [`LocalUsers`]. Requests over TLS
//! have a [`Peer`] in their extensions.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use orbit_program::open_files;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport;
use tonic::transport::server::{Connected, Router};

use crate::accept::{Accepted, Accepting, Listener, Reserve};
use crate::clock::now;
use crate::facts::Facts;
use crate::local_users::{LocalUsers, Stranger};
use crate::plain::{PlainConnection, PlainPeer};
use crate::plain_stream::PlainStream;
use crate::plaintext;
use crate::refusals::Refusals;
use crate::registry::{Registry, Shared};
use crate::silent::{Place, Silent};
use crate::who::Role;

/// Maximum number of connections whose peer has not identified itself.
const SILENT_MAX: usize = 256;
/// Timeout for the first bytes of a peer.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(5);
/// Minimum time for which a peer keeps its place although others from the same origin want it.
const GRACE: Duration = Duration::from_millis(200);
/// Timeout of everything that comes before a connection is served.
const ENTRANCE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of connections that wait to be served.
const READY_MAX: usize = 16;
/// How often the wall clock is compared with the end of a certificate.
const CLOCK_LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// The peer of a connection over TLS.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The facts in its certificate, if it has one.
    pub facts: Option<Arc<Facts>>,
}

/// Connections that are ready to be served.
#[derive(Debug)]
pub struct Listening<C> {
    ready: mpsc::Receiver<C>,
    _accepting: AbortOnDrop,
}

#[derive(Debug)]
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listening<Connection> {
    /// Accepts on a port with TLS. With a registry, connections of a revoked identity end.
    pub fn new(listener: TcpListener, config: Arc<ServerConfig>, registry: Option<Arc<Registry>>) -> Self {
        let acceptor = TlsAcceptor::from(config);
        Self::through(listener.into(), Secured { acceptor, registry })
    }
}

impl Listening<PlainConnection> {
    /// Accepts on a port without TLS, or on a Unix socket.
    pub fn plain(listener: impl Into<Listener>, users: Arc<LocalUsers>) -> Self {
        Self::through(listener.into(), Plain { users, refusals: Arc::default() })
    }
}

impl<C: Send + 'static> Listening<C> {
    fn through(listener: Listener, door: impl Door<Connection = C>) -> Self {
        let (sender, ready) = mpsc::channel(READY_MAX);
        let accepting = tokio::spawn(accept(listener, door, sender));
        Self { ready, _accepting: AbortOnDrop(accepting) }
    }
}

impl<C: Connected + AsyncRead + AsyncWrite + Send + Unpin + 'static> Listening<C> {
    /// Serves the connections until `stop`, then waits for the calls in progress.
    ///
    /// # Errors
    /// The server fails.
    pub async fn serve(self, router: Router, stop: CancellationToken) -> Result<(), transport::Error> {
        router.serve_with_incoming_shutdown(self, stop.cancelled_owned()).await
    }
}

impl<C> Stream for Listening<C> {
    type Item = io::Result<C>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(context).map(|next| next.map(Ok))
    }
}

/// The checks that a connection must pass before it is served.
trait Door: Clone + Send + 'static {
    type Connection: Send + 'static;

    /// Descriptors that accepting a connection leaves to others.
    const RESERVE: Reserve;

    fn pass(
        self,
        accepted: Accepted,
        place: Place,
    ) -> impl Future<Output = io::Result<Self::Connection>> + Send;
}

async fn accept<D: Door>(listener: Listener, door: D, ready: mpsc::Sender<D::Connection>) {
    let silent = Silent::new(open_files::share(SILENT_MAX));
    let mut accepting = Accepting::new(listener, silent.clone(), D::RESERVE);
    loop {
        let accepted = accepting.next().await;
        let origin = accepted.origin;
        let place = silent.enter_in_turn(origin, GRACE).await;
        let lost = place.lost().clone();
        let (door, ready) = (door.clone(), ready.clone());
        tokio::spawn(async move {
            let passing = timeout(ENTRANCE_TIMEOUT, door.pass(accepted, place));
            // If the first bytes have already arrived, the connection is served although another one has taken its
            // place.
            let passed = tokio::select! {
                biased;
                passed = passing => Some(passed),
                () = lost.cancelled() => None,
            };
            match passed {
                // If this fails, serving has ended.
                Some(Ok(Ok(connection))) => drop(ready.send(connection).await),
                Some(Ok(Err(error))) => {
                    tracing::debug!(address = %origin, %error, "a connection was refused");
                }
                Some(Err(_)) => {
                    tracing::debug!(address = %origin, "a connection was not ready in {ENTRANCE_TIMEOUT:?}");
                }
                None => tracing::debug!(address = %origin, "a silent connection was closed for a new one"),
            }
        });
    }
}

/// Waits for the first bytes of a peer, with a timeout.
async fn first_bytes<T>(reading: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(FIRST_BYTES_TIMEOUT, reading).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("it sent nothing for {FIRST_BYTES_TIMEOUT:?}")))
    })
}

/// A port without TLS.
#[derive(Debug, Clone)]
struct Plain {
    users: Arc<LocalUsers>,
    refusals: Arc<Refusals>,
}

impl Door for Plain {
    type Connection = PlainConnection;

    const RESERVE: Reserve = Reserve::Own;

    async fn pass(self, accepted: Accepted, _place: Place) -> io::Result<PlainConnection> {
        let Accepted { stream, peer, origin } = accepted;
        // Small messages go out at once; `serve_with_incoming` sets nothing on the sockets that it is given.
        stream.set_nodelay()?;
        let admitted = self.users.admit(&stream).await;
        if let Err(stranger) = admitted {
            let why = self.users.refusal(stranger);
            match stranger {
                Stranger::User(user) => self.refusals.note(origin, user),
                // This is nearly always a connection that was closed at once.
                Stranger::Unknown => {
                    tracing::debug!(address = %origin, "a connection of {stranger} was refused");
                }
            }
            plaintext::turn_away(stream, &why).await;
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        first_bytes(plaintext::preface(&stream)).await?;
        let peer = match (admitted.ok().flatten(), peer) {
            (Some(user), _) => PlainPeer::User(user),
            (None, Some(address)) => PlainPeer::Address(address),
            (None, None) => return Err(io::Error::other("a Unix socket has a user at its other end")),
        };
        Ok(PlainConnection::new(stream, peer))
    }
}

/// A port with TLS.
#[derive(Clone)]
struct Secured {
    acceptor: TlsAcceptor,
    registry: Option<Shared>,
}

impl Door for Secured {
    type Connection = Connection;

    const RESERVE: Reserve = Reserve::Own;

    async fn pass(self, accepted: Accepted, place: Place) -> io::Result<Connection> {
        let Accepted { stream, peer: Some(address), origin: _ } = accepted else {
            return Err(io::Error::other("TLS is spoken on ports only"));
        };
        stream.set_nodelay()?;
        if !first_bytes(plaintext::is_tls(&stream)).await? {
            plaintext::explain(stream).await;
            return Err(io::Error::other("it does not speak TLS"));
        }
        let stream = self.acceptor.accept(stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let facts = match certificate.map(|der| Facts::of(der)) {
            None => None,
            Some(Ok(facts)) => Some(Arc::new(facts)),
            Some(Err(error)) => return Err(io::Error::other(error)),
        };
        let is_star = facts.as_deref().is_some_and(|facts| facts.identity.role == Role::Star);
        if !is_star && Reserve::Stars.is_touched_by(stream.get_ref().0) {
            return Err(io::Error::other("the files that are left are kept for Stars"));
        }
        let revoked =
            self.registry.zip(facts.as_deref()).map(|(registry, facts)| registry.end_of(&facts.identity));
        // A peer without a certificate may make few requests, and is disconnected when its place is needed.
        let place = facts.is_none().then_some(place);
        let lost = place.as_ref().map(|place| place.lost().clone());
        let end = end(revoked.or(lost).unwrap_or_default(), facts.as_deref().map(|facts| facts.not_after));
        Ok(Connection { stream, peer: Peer { address, facts }, end: Box::pin(end), _place: place })
    }
}

/// Waits until a connection is to end: its identity was revoked, its place was needed, or its certificate has expired.
/// Timers stop while a machine sleeps, so the wall clock is checked at intervals.
async fn end(cancelled: CancellationToken, not_after: Option<i64>) -> &'static str {
    let expired = async {
        let Some(not_after) = not_after else { return std::future::pending().await };
        loop {
            let left = u64::try_from(not_after.saturating_sub(now())).unwrap_or(0);
            if left == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_secs(left).min(CLOCK_LOOK_INTERVAL)).await;
        }
    };
    tokio::select! {
        () = cancelled.cancelled() => "the identity was revoked, or the place of a connection without one was needed",
        () = expired => "the certificate has expired",
    }
}

type Ending = Pin<Box<dyn Future<Output = &'static str> + Send>>;

/// A connection over TLS.
pub struct Connection {
    stream: TlsStream<PlainStream>,
    peer: Peer,
    /// Completes when the connection is to end, with the reason.
    end: Ending,
    /// A connection without a certificate holds its place as long as it lives.
    _place: Option<Place>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Connection {
    fn poll_end(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(why) => {
                // A future that has completed must not be polled again.
                self.end = Box::pin(std::future::ready(why));
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, why))
            }
            Poll::Pending => Ok(()),
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
