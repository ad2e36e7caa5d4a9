//! Opens TLS connections and makes channels from them.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, Error};
use tokio_rustls::TlsConnector;
use tonic::transport::{self, Channel, Endpoint};
use tower::{Service as _, ServiceExt as _};

use crate::dialed::Dialed;
use crate::tls::{self, Presented, TlsError};
use crate::token::{Invitation, Trust};
use crate::who::Name;

/// Idle time before TCP keepalive probes, which detect a peer that vanished without closing the connection.
const TCP_KEEPALIVE: Duration = Duration::from_secs(10);
/// Timeout of the TLS handshake, for a peer that accepts the connection and sends nothing.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Which identity the server must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Any member of the grid.
    Anybody,
    /// The coordinator.
    Coordinator,
    /// This Star, or any Star if the name is not known.
    Star(Option<Name>),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anybody => f.write_str("anybody"),
            Self::Coordinator => f.write_str("the coordinator"),
            Self::Star(None) => f.write_str("a Star"),
            Self::Star(Some(name)) => write!(f, "Star {name}"),
        }
    }
}

/// Connects to members of one grid.
#[derive(Debug, Clone)]
pub struct Dialing {
    trust: Trust,
    presented: Option<Arc<Presented>>,
}

impl Dialing {
    /// Connects without a certificate: enough to join, and to ask whether a coordinator serves.
    pub fn as_nobody(authority: CertificateDer<'static>) -> Self {
        Self { trust: Trust::Certificate(authority), presented: None }
    }

    /// Connects as the holder of a join token, to the coordinator that it names.
    pub(crate) fn invited(invitation: &Invitation) -> Self {
        Self { trust: invitation.trust.clone(), presented: None }
    }

    /// Connects with a certificate.
    pub fn presenting(authority: CertificateDer<'static>, presented: Arc<Presented>) -> Self {
        Self { trust: Trust::Certificate(authority), presented: Some(presented) }
    }

    /// Connects, with the settings of the endpoint, whose address must be `https`.
    ///
    /// # Errors
    /// No server answers, it has another identity, or it refuses this certificate.
    pub async fn connect(
        &self,
        endpoint: &Endpoint,
        expected: Expected,
    ) -> Result<Channel, transport::Error> {
        let config = self.config(expected);
        let connector = tower::service_fn(move |uri| secure(uri, config.clone()));
        endpoint.connect_with_connector(connector).await
    }

    /// As [`Self::connect`], but the connection is made at the first use.
    pub fn connect_lazily(&self, endpoint: &Endpoint, expected: Expected) -> Channel {
        let config = self.config(expected);
        let connector = tower::service_fn(move |uri| secure(uri, config.clone()));
        endpoint.connect_with_connector_lazy(connector)
    }

    fn config(&self, expected: Expected) -> Result<Arc<ClientConfig>, Arc<TlsError>> {
        tls::client(self.presented.clone(), &self.trust, expected).map_err(Arc::new)
    }
}

async fn secure(
    uri: Uri,
    config: Result<Arc<ClientConfig>, Arc<TlsError>>,
) -> Result<TokioIo<Dialed>, io::Error> {
    let config = config.map_err(io::Error::other)?;
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(TCP_KEEPALIVE));
    let ready = connector.ready().await.map_err(io::Error::other)?;
    let stream = ready.call(uri).await.map_err(io::Error::other)?.into_inner();
    let handshake = TlsConnector::from(config).connect(name, stream);
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await.unwrap_or_else(|_| {
        let text = format!("it took the connection and did not speak TLS for {HANDSHAKE_TIMEOUT:?}");
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    });
    stream.map(|stream| TokioIo::new(Dialed(stream))).map_err(|error| explained(&error))
}

/// The error in words that say what to do.
fn explained(error: &io::Error) -> io::Error {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let text = match cause {
        Some(Error::InvalidMessage(_)) => {
            "it does not speak TLS: it was started without, or this is the address of something else".to_owned()
        }
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            "its certificate is of another grid than the one that this machine has joined; check the address, or join \
             again with a join token of that grid"
                .to_owned()
        }
        Some(Error::InvalidCertificate(CertificateError::Other(why))) => why.0.to_string(),
        _ if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it ended the connection instead of speaking TLS; it may have been started without".to_owned()
        }
        _ => error.to_string(),
    };
    io::Error::new(error.kind(), text)
}
