//! Opens connections without TLS: by TCP, or by a Unix socket.
//!
//! Every user of a machine can listen on its loopback address, also on the port of a server that is not running. So a
//! connection within this machine is used only if the kernel says that its other end belongs to a trusted user (see
//! [`LocalUsers::trust`]). Nothing is sent before that.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{self, Channel, Endpoint};
use tower::{Service as _, ServiceExt as _};

use crate::address::{UNIX_SCHEME, socket_path};
use crate::local_users::{LocalUsers, Stranger};
use crate::plain_stream::PlainStream;

/// Idle time before TCP keepalive probes, which detect a peer that vanished without closing the connection.
const TCP_KEEPALIVE: Duration = Duration::from_secs(10);
const UNIX: &str = "unix";
/// The host in addresses of Unix sockets, and in the requests that are sent there.
const HOST: &str = "localhost";

/// An endpoint for an address such as `http://HOST:PORT`, `https://HOST:PORT` or `unix:/PATH`; `None` if it is not an
/// address.
pub fn endpoint(address: &str) -> Option<Endpoint> {
    let Some(path) = address.strip_prefix(UNIX_SCHEME) else {
        let endpoint = Endpoint::from_shared(address.to_owned()).ok()?;
        let uri = endpoint.uri();
        let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
        return (is_known && uri.host().is_some_and(|host| !host.is_empty())).then_some(endpoint);
    };
    let path = socket_path(path).ok()?;
    let uri = format!("{UNIX}://{HOST}{}", escaped(path.to_str()?));
    let origin = Uri::try_from(format!("http://{HOST}")).ok()?;
    Some(Endpoint::from(Uri::try_from(uri).ok()?).origin(origin))
}

/// The address of an endpoint, as it is written in settings.
pub fn shown(uri: &Uri) -> String {
    match unix_path(uri) {
        Some(path) => format!("{UNIX_SCHEME}{}", path.display()),
        None => uri.to_string(),
    }
}

fn unix_path(uri: &Uri) -> Option<PathBuf> {
    (uri.scheme_str() == Some(UNIX)).then(|| PathBuf::from(unescaped(uri.path())))
}

fn escaped(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    path.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn unescaped(path: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(path.len()), path.as_bytes());
    while let Some((&first, behind)) = rest.split_first() {
        let escape = (first == b'%')
            .then(|| behind.get(..2))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(escape.unwrap_or(first));
        rest = if escape.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Connects without TLS.
#[derive(Debug, Clone, Default)]
pub struct PlainDialing {
    users: Arc<LocalUsers>,
}

impl PlainDialing {
    /// Trusts these users of this machine.
    pub fn new(users: Arc<LocalUsers>) -> Self {
        Self { users }
    }

    /// Whether an endpoint is one that is never reached over TLS.
    pub fn is_local(endpoint: &Endpoint) -> bool {
        unix_path(endpoint.uri()).is_some()
    }

    /// Connects, with the settings of the endpoint.
    ///
    /// # Errors
    /// No server answers, or it runs as a user that is not trusted.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, transport::Error> {
        let (users, timeout) = (Arc::clone(&self.users), endpoint.get_connect_timeout());
        let connector = tower::service_fn(move |uri| open(uri, Arc::clone(&users), timeout));
        endpoint.connect_with_connector(connector).await
    }

    /// As [`Self::connect`], but the connection is made at the first use.
    pub fn connect_lazily(&self, endpoint: &Endpoint) -> Channel {
        let (users, timeout) = (Arc::clone(&self.users), endpoint.get_connect_timeout());
        let connector = tower::service_fn(move |uri| open(uri, Arc::clone(&users), timeout));
        endpoint.connect_with_connector_lazy(connector)
    }
}

async fn open(
    uri: Uri,
    users: Arc<LocalUsers>,
    timeout: Option<Duration>,
) -> Result<TokioIo<PlainStream>, io::Error> {
    let address = shown(&uri);
    let stream = match unix_path(&uri) {
        Some(path) => PlainStream::Unix(by_socket(&path).await?),
        None => PlainStream::Tcp(by_port(uri, timeout).await?),
    };
    match users.trust(&stream).await {
        Ok(()) => Ok(TokioIo::new(stream)),
        Err(Stranger::Unknown) if stream.is_ended() => {
            let text = format!("{address} ended the connection at once; it may have too many, so try again");
            Err(io::Error::new(io::ErrorKind::ConnectionReset, text))
        }
        Err(stranger) => {
            let why = users.distrust(&address, stranger);
            Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
        }
    }
}

async fn by_socket(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path).await.map_err(|error| {
        let text = match error.kind() {
            io::ErrorKind::NotFound => {
                "there is no such socket; is the server started with --listen unix:PATH?"
            }
            io::ErrorKind::ConnectionRefused => "no process listens at this socket",
            _ => return error,
        };
        io::Error::new(error.kind(), text)
    })
}

async fn by_port(uri: Uri, timeout: Option<Duration>) -> io::Result<tokio::net::TcpStream> {
    let mut connector = HttpConnector::new();
    // The timeout is divided among the addresses of a name, so that a dead one does not use up the time of the others.
    connector.set_connect_timeout(timeout);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(TCP_KEEPALIVE));
    let ready = connector.ready().await.map_err(io::Error::other)?;
    Ok(ready.call(uri).await.map_err(io::Error::other)?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_it_was_given() {
        for address in ["unix:/run/orbit-grid/coordinator.sock", "unix:/run/a b/ü%41.sock"] {
            let endpoint = endpoint(address).unwrap();
            assert!(PlainDialing::is_local(&endpoint));
            assert_eq!(shown(endpoint.uri()), address);
        }
        let tcp = endpoint("http://127.0.0.1:7100").unwrap();
        assert!(!PlainDialing::is_local(&tcp));
        assert_eq!(shown(tcp.uri()), "http://127.0.0.1:7100/");
        for bad in ["unix:", "unix:x", "ftp://a:1", "http://", "", "http://a b"] {
            assert!(endpoint(bad).is_none(), "{bad}");
        }
    }
}
