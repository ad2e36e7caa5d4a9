//! Addresses to listen on, as settings give them: an IP address and port, or the path of a Unix socket.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Prefix of the path of a Unix socket, in settings and in addresses of coordinators.
pub const UNIX_SCHEME: &str = "unix:";

/// One value of a setting that says where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix(UNIX_SCHEME) {
            Some(path) => socket_path(path).map(Self::Unix),
            None => listen_address(text).map(Self::Tcp),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX_SCHEME}{}", path.display()),
        }
    }
}

/// Where a server listens: on one address, one Unix socket, or one of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen(Vec<ListenAddress>);

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self(vec![ListenAddress::Tcp(address)])
    }
}

impl From<Vec<ListenAddress>> for Listen {
    fn from(given: Vec<ListenAddress>) -> Self {
        Self(given)
    }
}

impl Listen {
    /// The IP address and port, if there is one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.iter().find_map(|one| match one {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        })
    }

    /// The path of the Unix socket, if there is one.
    pub fn socket(&self) -> Option<&Path> {
        self.0.iter().find_map(|one| match one {
            ListenAddress::Tcp(_) => None,
            ListenAddress::Unix(path) => Some(path.as_path()),
        })
    }

    /// Checks that there is at least one address and at most one of each kind.
    ///
    /// # Errors
    /// A sentence that names the setting and the values.
    pub fn check(&self, flag: &str) -> Result<(), String> {
        let taken = usize::from(self.address().is_some()) + usize::from(self.socket().is_some());
        if taken > 0 && taken == self.0.len() {
            return Ok(());
        }
        let given: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        Err(format!("{flag} {}: give one address, one {UNIX_SCHEME}/PATH, or one of each", given.join(",")))
    }
}

/// Reads the path of a Unix socket.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub(crate) fn socket_path(path: &str) -> Result<PathBuf, String> {
    // `unix:///run/x` is another way to write `unix:/run/x`.
    let path = path.strip_prefix("//").unwrap_or(path);
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(format!(
            "{UNIX_SCHEME}{path} is not the absolute path of a socket; write for example \
             unix:/run/orbit-grid/coordinator.sock"
        ));
    }
    if path.len() > SOCKET_PATH_BYTES_MAX {
        return Err(format!(
            "{UNIX_SCHEME}{path} has {} bytes; the system allows {SOCKET_PATH_BYTES_MAX} in the path of a socket",
            path.len()
        ));
    }
    Ok(PathBuf::from(path))
}

/// Maximum length of a path in `struct sockaddr_un`, in bytes, without the zero at its end.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Reads an address to listen on: an IP address or a name, and a port. A name is resolved; if it has several addresses,
/// an IPv4 one is preferred.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    let Some(Ok(_)) = port else {
        return Err(format!(
            "{text:?} is not an address; write for example 127.0.0.1:7100, [::1]:7100, localhost:7100 or unix:/PATH"
        ));
    };
    let resolved = text.to_socket_addrs().map_err(|error| format!("{text:?} cannot be resolved: {error}"))?;
    let mut all: Vec<SocketAddr> = resolved.collect();
    all.sort_by_key(SocketAddr::is_ipv6);
    all.first().copied().ok_or_else(|| format!("{text:?} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_to_listen_on_can_be_a_name() {
        for text in ["127.0.0.1:7100", "localhost:7100"] {
            let address = listen_address(text).unwrap();
            assert!(address.ip().is_loopback() && address.port() == 7100, "{address}");
        }
        assert!(listen_address("[::1]:0").is_ok_and(|address| address.is_ipv6()));
        for text in ["", "7100", "localhost", "localhost:", "127.0.0.1:70000"] {
            assert!(
                listen_address(text).is_err_and(|problem| problem.contains("localhost:7100")),
                "{text:?}"
            );
        }
    }

    #[test]
    fn an_address_to_listen_on_can_be_a_socket() {
        for text in ["unix:/run/x.sock", "unix:///run/x.sock"] {
            let socket = ListenAddress::Unix(PathBuf::from("/run/x.sock"));
            assert_eq!(text.parse(), Ok(socket.clone()));
            assert_eq!(socket.to_string(), "unix:/run/x.sock");
        }
        for text in ["unix:", "unix:x.sock", "unix:/run/", &format!("unix:/{}", "x".repeat(107))] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_server_listens_at_one_address_of_each_kind() {
        let listen = |given: &[&str]| Listen(given.iter().map(|one| one.parse().unwrap()).collect());
        let both = listen(&["unix:/run/x.sock", "127.0.0.1:1"]);
        assert_eq!(both.check("--listen"), Ok(()));
        assert_eq!(both.socket(), Some(Path::new("/run/x.sock")));
        assert_eq!(both.address(), Some("127.0.0.1:1".parse().unwrap()));
        for given in [&[][..], &["127.0.0.1:1", "127.0.0.1:2"], &["unix:/a", "127.0.0.1:1", "unix:/b"]] {
            let problem = listen(given).check("--listen").unwrap_err();
            assert!(problem.starts_with("--listen") && problem.contains("one of each"), "{problem}");
        }
    }
}
