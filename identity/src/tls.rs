//! Configurations of rustls: TLS 1.3 with ring, one authority, HTTP/2, and no session resumption.
//!
//! A resumed connection would reuse the certificate of the earlier one, even if that has expired. The cost of a full
//! handshake is negligible beside the data that a connection carries here.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};

use crate::dial::Expected;
use crate::token::Trust;
use crate::verify::{Anchor, ServerVerifier};

const HTTP2: &[u8] = b"h2";

/// Why no configuration can be made.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up: {0}")]
pub struct TlsError(String);

/// Whether clients must have a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// A connection without one is refused.
    Must,
    /// A connection without one is accepted; its client is not identified.
    May,
}

/// The certificate that is presented to the other side. It can be replaced at any time; connections that are made later
/// present the new one.
#[derive(Debug)]
pub struct Presented(RwLock<Arc<CertifiedKey>>);

impl Presented {
    /// A certificate and its key, both as PEM.
    ///
    /// # Errors
    /// They are damaged, or do not belong together.
    pub fn new(certificate: &str, key: &str) -> Result<Self, TlsError> {
        Ok(Self(RwLock::new(Arc::new(certified(certificate, key)?))))
    }

    /// From now on presents the certificate of `other`.
    pub fn present(&self, other: &Self) {
        let new = other.get();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    fn get(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }
}

impl ResolvesClientCert for Presented {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn certified(certificate: &str, key: &str) -> Result<CertifiedKey, TlsError> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError(format!("the certificate is damaged: {error}")))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| TlsError(format!("the key is damaged: {error}")))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(refused)
}

/// The one cryptographic library in use.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

pub(crate) fn roots(authority: &CertificateDer<'_>) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).map_err(refused)?;
    Ok(Arc::new(roots))
}

/// The configuration of a server.
///
/// # Errors
/// The authority's certificate is damaged.
pub fn server(
    presented: Arc<Presented>,
    authority: &CertificateDer<'_>,
    clients: Clients,
) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(authority)?, provider());
    let verifier = match clients {
        Clients::Must => verifier,
        Clients::May => verifier.allow_unauthenticated(),
    };
    let verifier = verifier.build().map_err(|error| TlsError(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(refused)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(presented);
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The configuration of a client.
///
/// # Errors
/// The authority's certificate is damaged.
pub(crate) fn client(
    presented: Option<Arc<Presented>>,
    trust: &Trust,
    expected: Expected,
) -> Result<Arc<ClientConfig>, TlsError> {
    let anchor = match trust {
        Trust::Certificate(authority) => Anchor::Roots(roots(authority)?),
        Trust::Key(hash) => Anchor::Key(*hash),
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(refused)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(anchor, expected)));
    let mut config = match presented {
        Some(presented) => builder.with_client_cert_resolver(presented),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

#[expect(clippy::needless_pass_by_value, reason = "it stands where an error is mapped")]
fn refused(error: rustls::Error) -> TlsError {
    TlsError(error.to_string())
}
