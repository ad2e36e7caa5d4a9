//! The network under gRPC: TCP, with or without TLS, or another one that the caller of a server gives, as a simulation
//! does.
//!
//! The protocols on it and their settings belong to the servers. A port serves and a connection is a channel, so streams
//! are not accessed through a pointer, and the code of the HTTP/2 server is compiled here, once.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;
use tonic::transport::{self, Channel, Endpoint};

use crate::credentials::Credentials;
use crate::dial::Expected;
use crate::listen::Listening;
use crate::local_users::LocalUsers;
use crate::plain_dial::PlainDialing;
use crate::registry::Registry;

/// Takes ports.
pub trait Bind: Debug + Send + Sync {
    /// Binds an address; port 0 picks a free port.
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Port>>>;
}

/// An address that was bound.
pub trait Port: Send {
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

/// Makes connections.
pub trait Connect: Debug + Send + Sync {
    /// Connects, with the endpoint's settings. With TLS, only to a server with the expected identity.
    fn connect(
        &self,
        endpoint: Endpoint,
        expected: Expected,
    ) -> BoxFuture<'_, Result<Channel, transport::Error>>;

    /// The scheme of addresses on this network.
    fn scheme(&self) -> &'static str {
        "http"
    }
}

/// Takes ports and makes connections, as a Star does.
pub trait Network: Bind + Connect {}

impl<N: Bind + Connect> Network for N {}

/// The system's network, without TLS.
#[derive(Debug, Clone, Default)]
pub struct Tcp {
    /// The users of this machine that are served and trusted.
    pub users: Arc<LocalUsers>,
}

/// The system's network with TLS, for a member with an identity.
#[derive(Debug, Clone)]
pub struct MemberTls {
    /// The identity.
    pub credentials: Arc<Credentials>,
}

/// The system's network with TLS, for the authority of the grid.
#[derive(Debug, Clone)]
pub struct AuthorityTls {
    /// Its certificate, and the clients that it accepts.
    pub config: Arc<ServerConfig>,
    /// Connections of an identity end when it is revoked here.
    pub registry: Arc<Registry>,
}

struct PlainPort {
    tcp: TcpListener,
    users: Arc<LocalUsers>,
}

struct TlsPort {
    tcp: TcpListener,
    config: Arc<ServerConfig>,
    registry: Option<Arc<Registry>>,
}

impl Bind for Tcp {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Port>>> {
        Box::pin(async move {
            let tcp = TcpListener::bind(address).await?;
            Ok(Box::new(PlainPort { tcp, users: Arc::clone(&self.users) }) as Box<dyn Port>)
        })
    }
}

impl Connect for Tcp {
    fn connect(&self, endpoint: Endpoint, _: Expected) -> BoxFuture<'_, Result<Channel, transport::Error>> {
        Box::pin(async move { PlainDialing::new(Arc::clone(&self.users)).connect(&endpoint).await })
    }
}

impl Bind for MemberTls {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Port>>> {
        Box::pin(async move {
            let config = self.credentials.server().map_err(io::Error::other)?;
            let tcp = TcpListener::bind(address).await?;
            Ok(Box::new(TlsPort { tcp, config, registry: None }) as Box<dyn Port>)
        })
    }
}

impl Connect for MemberTls {
    fn connect(
        &self,
        endpoint: Endpoint,
        expected: Expected,
    ) -> BoxFuture<'_, Result<Channel, transport::Error>> {
        let dialing = self.credentials.dialing();
        Box::pin(async move { dialing.connect(&endpoint, expected).await })
    }

    fn scheme(&self) -> &'static str {
        "https"
    }
}

impl Bind for AuthorityTls {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Port>>> {
        Box::pin(async move {
            let tcp = TcpListener::bind(address).await?;
            let (config, registry) = (Arc::clone(&self.config), Some(Arc::clone(&self.registry)));
            Ok(Box::new(TlsPort { tcp, config, registry }) as Box<dyn Port>)
        })
    }
}

impl Port for PlainPort {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    fn serve(
        self: Box<Self>,
        router: Router,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), transport::Error>> {
        serve_plain(self.tcp.into(), self.users, router, stop)
    }
}

impl Port for TlsPort {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    fn serve(
        self: Box<Self>,
        router: Router,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), transport::Error>> {
        Box::pin(Listening::new(self.tcp, self.config, self.registry).serve(router, stop))
    }
}

/// Serves a port without TLS, or a Unix socket.
pub(crate) fn serve_plain(
    listener: crate::accept::Listener,
    users: Arc<LocalUsers>,
    router: Router,
    stop: CancellationToken,
) -> BoxFuture<'static, Result<(), transport::Error>> {
    Box::pin(Listening::plain(listener, users).serve(router, stop))
}
