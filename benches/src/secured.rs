//! What a measurement of TLS needs: a grid's authority, and two Stars that have joined, in a temporary directory.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use orbit_identity::tls::{Clients, server};
use orbit_identity::{Credentials, Joining, NewKey, Registry, Role, now, now_in_milliseconds};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

const VALIDITY: Duration = Duration::from_secs(60 * 60);

type Problem = Box<dyn std::error::Error + Send + Sync>;

/// A grid of two Stars.
pub(crate) struct Secured {
    registry: Registry,
    pub(crate) source: Credentials,
    pub(crate) sink: Credentials,
    _directory: tempfile::TempDir,
}

impl Secured {
    /// Makes it, with these names.
    pub(crate) fn new(source: &str, sink: &str) -> Result<Self, Problem> {
        let directory = tempfile::tempdir()?;
        let registry = Registry::open(&directory.path().join("authority"), VALIDITY, now())?;
        let (source, sink) =
            (join(&registry, directory.path(), source)?, join(&registry, directory.path(), sink)?);
        Ok(Self { registry, source, sink, _directory: directory })
    }

    /// The two ends of a connection without gRPC, with the same settings.
    pub(crate) fn raw(&self) -> Result<(ServerConnection, ClientConnection), Problem> {
        let authority = self.registry.authority().certificate();
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let (presented, _) = self.registry.own(Some(loopback), None, &[], now())?;
        let serving: Arc<ServerConfig> = server(Arc::new(presented), authority, Clients::May)?;
        let connecting = Arc::new(trusting(authority)?);
        let name = ServerName::from(loopback);
        Ok((ServerConnection::new(serving)?, ClientConnection::new(connecting, name)?))
    }
}

fn trusting(authority: &CertificateDer<'static>) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn join(registry: &Registry, directory: &Path, name: &str) -> Result<Credentials, Problem> {
    let (token, _) = registry.authority().create_token(
        Role::Star,
        Some(name.parse()?),
        VALIDITY,
        now_in_milliseconds(),
    )?;
    let key = NewKey::prepare(&directory.join(name))?;
    let joining = Joining { token, request: key.request()?, name: None };
    let certificate = registry.join(&joining, now())?;
    Ok(key.complete(&certificate, registry.authority().certificate())?)
}
