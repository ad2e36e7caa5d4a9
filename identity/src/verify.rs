//! Checks that a server has the expected identity: by the identity in its certificate, not by its address.
//!
//! Addresses of machines change. The authority gives the role of coordinator to the coordinator only, and a Star's name
//! to that Star only, so a server with that certificate has their key. Everything else, the chain, the validity and the
//! signatures, is checked as for any server.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};

use crate::dial::Expected;
use crate::facts::Facts;
use crate::tls::provider;
use crate::token::{KeyHash, key_hash};
use crate::who::{Identity, Role};

/// A genuine certificate of another identity.
#[derive(Debug, thiserror::Error)]
#[error("the certificate is that of {found}, and {expected} is expected there")]
struct SomebodyElse {
    found: Identity,
    expected: Expected,
}

/// Which authority must have signed the server's certificate.
#[derive(Debug)]
pub(crate) enum Anchor {
    /// One of these.
    Roots(Arc<RootCertStore>),
    /// The authority with this key. The server sends its certificate after its own.
    Key(KeyHash),
}

#[derive(Debug)]
pub(crate) struct ServerVerifier {
    anchor: Anchor,
    provider: Arc<CryptoProvider>,
    expected: Expected,
}

impl ServerVerifier {
    pub(crate) fn new(anchor: Anchor, expected: Expected) -> Self {
        Self { anchor, provider: provider(), expected }
    }

    fn roots(&self, sent: &[CertificateDer<'_>]) -> Result<Arc<RootCertStore>, Error> {
        let hash = match &self.anchor {
            Anchor::Roots(roots) => return Ok(Arc::clone(roots)),
            Anchor::Key(hash) => hash,
        };
        let authority = sent.iter().find(|sent| key_hash(sent).as_ref() == Some(hash));
        let authority = authority.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        Ok(Arc::new(roots))
    }

    fn judge(&self, der: &CertificateDer<'_>) -> Result<(), Error> {
        let other = |error| Error::InvalidCertificate(CertificateError::Other(OtherError(error)));
        let found = Facts::of(der).map_err(|error| other(Arc::new(error)))?.identity;
        let is_expected = match &self.expected {
            Expected::Anybody => true,
            Expected::Coordinator => found.role == Role::Coordinator,
            Expected::Star(None) => found.role == Role::Star,
            Expected::Star(Some(name)) => found.role == Role::Star && found.name == *name,
        };
        if is_expected {
            return Ok(());
        }
        Err(other(Arc::new(SomebodyElse { found, expected: self.expected.clone() })))
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let roots = self.roots(intermediates)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, now, algorithms)?;
        self.judge(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
