//! Accepts connections of one port, even when the process has reached its limit on open files.
//!
//! Each port leaves some descriptors to more important uses: HTTP leaves the most, and gRPC leaves a few to the
//! process's own files. The kernel gives a new descriptor the lowest free number, so that number shows how many are
//! left. If too few are left, the oldest silent connection of the port is closed. If there is none, the port waits.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _};
use std::time::Duration;

use orbit_program::open_files;
use rustix::io::Errno;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::plain_stream::PlainStream;
use crate::silent::{Origin, Silent};
use crate::unix_socket::UnixSocket;

/// Pause before the next attempt when no connection could be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long to wait for a connection that was told to close, so that its descriptor becomes free.
const SHED_PAUSE: Duration = Duration::from_millis(5);
/// Advice that follows a message about too few descriptors.
const RAISE_LIMIT: &str = "; raise the limit on open files";
/// Minimum time between two warnings of one port.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Descriptors that a port leaves unused for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// For the process's own files.
    Own,
    /// For the process's own files and for connections of Stars.
    Stars,
}

impl Reserve {
    /// Number of reserved descriptors if at most `limit` can be open.
    fn count(self, limit: u64) -> u64 {
        match self {
            Self::Own => (limit / 32).clamp(1, 16),
            Self::Stars => (limit / 8).clamp(4, 96),
        }
    }

    /// Whether this new descriptor is one of the reserved ones.
    pub fn is_touched_by(self, descriptor: impl AsFd) -> bool {
        let limit = open_files::limit();
        let number = u64::try_from(descriptor.as_fd().as_raw_fd()).unwrap_or(0);
        number >= limit.saturating_sub(self.count(limit))
    }
}

/// The socket that accepts connections.
#[derive(Debug)]
pub enum Listener {
    /// A port.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixSocket),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<UnixSocket> for Listener {
    fn from(socket: UnixSocket) -> Self {
        Self::Unix(socket)
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str("a port"),
            },
            Self::Unix(socket) => socket.fmt(f),
        }
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok(Accepted {
                    stream: PlainStream::Tcp(stream),
                    peer: Some(address),
                    origin: address.ip().into(),
                })
            }
            Self::Unix(socket) => {
                let (stream, uid) = socket.accept().await?;
                Ok(Accepted { stream: PlainStream::Unix(stream), peer: None, origin: Origin::User(uid) })
            }
        }
    }
}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Accepted {
    /// Its bytes.
    pub stream: PlainStream,
    /// The address of the other end; none for a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Whose share of the places for silent connections it counts against.
    pub origin: Origin,
}

/// A port that accepts connections.
#[derive(Debug)]
pub struct Accepting {
    listener: Listener,
    silent: Silent,
    reserve: Reserve,
    warned: Option<Instant>,
}

impl Accepting {
    /// Accepts from a listener. `silent` has the places of its connections that have sent nothing yet.
    pub fn new(listener: Listener, silent: Silent, reserve: Reserve) -> Self {
        Self { listener, silent, reserve, warned: None }
    }

    /// The next connection.
    pub async fn next(&mut self) -> Accepted {
        loop {
            match self.listener.accept().await {
                Ok(accepted) if !self.reserve.is_touched_by(&accepted.stream) => return accepted,
                // The new connection may be an important one, so the oldest silent one is closed for it.
                Ok(accepted) if self.silent.shed() => return accepted,
                Ok(refused) => {
                    drop(refused);
                    self.wait("nearly all files that this process may have open are in use", RAISE_LIMIT)
                        .await;
                }
                Err(error) if is_of_peer(&error) => {}
                Err(error) if is_full(&error) && self.silent.shed() => {
                    tokio::time::sleep(SHED_PAUSE).await;
                }
                Err(error) => self.wait(&error.to_string(), advice(&error)).await,
            }
        }
    }

    async fn wait(&mut self, why: &str, advice: &str) {
        if self.warned.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL) {
            self.warned = Some(Instant::now());
            tracing::warn!("{} cannot accept a connection: {why}{advice}", self.listener);
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Whether the error is about one connection, which ended before it was accepted.
fn is_of_peer(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

/// Whether this process, or the system, has too many files open.
fn is_full(error: &io::Error) -> bool {
    error
        .raw_os_error()
        .is_some_and(|number| [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error).contains(&number))
}

/// Advice that fits an error; empty if there is none.
fn advice(error: &io::Error) -> &'static str {
    if is_full(error) { RAISE_LIMIT } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_descriptors_are_missing_is_it_advised_to_raise_their_limit() {
        let advised = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
            .map(|errno| !advice(&io::Error::from_raw_os_error(errno.raw_os_error())).is_empty());
        assert_eq!(advised, [true, true, false, false]);
    }

    #[test]
    fn more_is_left_to_stars_than_to_own_files_alone() {
        for limit in [64, 256, 1024, 16_384, u64::MAX] {
            let (own, stars) = (Reserve::Own.count(limit), Reserve::Stars.count(limit));
            assert!(0 < own && own < stars && stars <= limit / 8, "{limit}");
        }
    }

    #[tokio::test]
    async fn a_low_descriptor_touches_no_reserve() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        assert!(!Reserve::Own.is_touched_by(&listener) && !Reserve::Stars.is_touched_by(&listener));
    }
}
