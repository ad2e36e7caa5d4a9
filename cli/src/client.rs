//! The connection to a coordinator, and a client for each of its services.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use orbit_identity::network::Network;
use orbit_identity::{Credentials, Dialing, Expected, LocalUsers, PlainDialing, UNIX_SCHEME};
use orbit_proto::v1::backpressure_service_client::BackpressureServiceClient;
use orbit_proto::v1::backup_service_client::BackupServiceClient;
use orbit_proto::v1::bulletin_service_client::BulletinServiceClient;
use orbit_proto::v1::dead_letter_service_client::DeadLetterServiceClient;
use orbit_proto::v1::health_service_client::HealthServiceClient;
use orbit_proto::v1::identity_service_client::IdentityServiceClient;
use orbit_proto::v1::job_service_client::JobServiceClient;
use orbit_proto::v1::penalty_service_client::PenaltyServiceClient;
use orbit_proto::v1::provenance_service_client::ProvenanceServiceClient;
use orbit_proto::v1::schedule_service_client::ScheduleServiceClient;
use orbit_proto::v1::star_service_client::StarServiceClient;
use orbit_proto::v1::vault_service_client::VaultServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::health_client::HealthClient;

use crate::errors::CliError;
use crate::grid::Grid;

pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For an answer to begin. A watch may then last as long as it likes.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A full page of 1000 dead letters with two long paths each is far below this.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A connection that reconnects by itself.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    channel: Channel,
    /// For answers that take as long as they take; connected when it is used.
    patient: Channel,
    /// Who it is, where TLS is spoken.
    credentials: Option<Arc<Credentials>>,
    /// The directory of the identity for Stars, where that is another one.
    identity: Option<PathBuf>,
    /// The users of this machine whose servers are trusted without TLS.
    users: Arc<LocalUsers>,
}

/// An address without a scheme is meant as plain HTTP.
pub(crate) fn normalize_url(url: &str) -> String {
    let has_scheme = url.contains("://") || url.starts_with(UNIX_SCHEME);
    if has_scheme { url.to_owned() } else { format!("http://{url}") }
}

impl Client {
    /// Connects, so that a coordinator that is not there is noticed before anything is asked.
    pub(crate) async fn connect(url: &str, users: Arc<LocalUsers>) -> Result<Self, CliError> {
        let endpoint = endpoint(url)?;
        // What is not encrypted must not look as if it were.
        if endpoint.uri().scheme_str() == Some("https") {
            return Err(bad_url(url));
        }
        let dialing = PlainDialing::new(Arc::clone(&users));
        let patient = dialing.connect_lazily(&endpoint);
        let channel = dialing.connect(&endpoint.timeout(ANSWER_TIMEOUT)).await;
        let channel = channel.map_err(|error| CliError::unreachable(&error))?;
        Ok(Self { channel, patient, credentials: None, identity: None, users })
    }

    /// Connects to the coordinator of a grid in this process.
    pub(crate) async fn within(grid: &Grid) -> Result<Self, CliError> {
        let endpoint = endpoint(&grid.url())?;
        let connect = |endpoint| async {
            grid.network().channel(endpoint).await.map_err(|error| CliError::unreachable(&error))
        };
        let patient = connect(endpoint.clone()).await?;
        let channel = connect(endpoint.timeout(ANSWER_TIMEOUT)).await?;
        Ok(Self { channel, patient, credentials: None, identity: None, users: Arc::default() })
    }

    /// The same over TLS, as somebody, whose certificate is renewed first if it is time to.
    pub(crate) async fn connect_as(url: &str, credentials: Arc<Credentials>) -> Result<Self, CliError> {
        let endpoint = endpoint(url)?;
        let dialing = credentials.dialing();
        let patient = dialing.connect_lazily(&endpoint, Expected::Coordinator);
        let channel = dialing.connect(&endpoint.clone().timeout(ANSWER_TIMEOUT), Expected::Coordinator).await;
        let channel = channel.map_err(|error| CliError::unreachable(&error))?;
        if let Err(error) = orbit_identity::renew_if_due(&endpoint, &credentials).await {
            // What was asked for may still succeed, or says better why not.
            tracing::warn!("the certificate could not be renewed: {error}");
        }
        Ok(Self { channel, patient, credentials: Some(credentials), identity: None, users: Arc::default() })
    }

    /// Connects over TLS to any server of the grid, with or without an identity.
    pub(crate) async fn connect_to_anybody(url: &str, dialing: &Dialing) -> Result<Self, CliError> {
        let endpoint = endpoint(url)?;
        let patient = dialing.connect_lazily(&endpoint, Expected::Anybody);
        let channel = dialing.connect(&endpoint.timeout(ANSWER_TIMEOUT), Expected::Anybody).await;
        let channel = channel.map_err(|error| CliError::unreachable(&error))?;
        Ok(Self { channel, patient, credentials: None, identity: None, users: Arc::default() })
    }

    /// The same, and Stars are reached over TLS with the identity in a directory, if one is given.
    pub(crate) fn with_identity_for_stars(self, identity: Option<PathBuf>) -> Self {
        Self { identity, ..self }
    }

    /// How Stars are reached.
    pub(crate) fn network(&self) -> Result<Arc<dyn Network>, CliError> {
        let credentials = match &self.identity {
            Some(directory) => Some(crate::identity::credentials(directory, "a Star")?),
            None => self.credentials.clone(),
        };
        Ok(orbit_star::tls::network(credentials, Arc::clone(&self.users)))
    }

    pub(crate) fn identities(&self) -> IdentityServiceClient<Channel> {
        IdentityServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// For what lists whole trees before it answers.
    pub(crate) fn patient_jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.patient.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn schedules(&self) -> ScheduleServiceClient<Channel> {
        ScheduleServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn stars(&self) -> StarServiceClient<Channel> {
        StarServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn guards(&self) -> BackpressureServiceClient<Channel> {
        BackpressureServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn penalties(&self) -> PenaltyServiceClient<Channel> {
        PenaltyServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn bulletins(&self) -> BulletinServiceClient<Channel> {
        BulletinServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn dead_letters(&self) -> DeadLetterServiceClient<Channel> {
        DeadLetterServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn provenance(&self) -> ProvenanceServiceClient<Channel> {
        ProvenanceServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn vaults(&self) -> VaultServiceClient<Channel> {
        VaultServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn backups(&self) -> BackupServiceClient<Channel> {
        BackupServiceClient::new(self.channel.clone())
    }

    /// Asks a server of any kind whether it serves, by the protocol that all of gRPC shares.
    pub(crate) fn serving(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel.clone())
    }

    pub(crate) fn health(&self) -> HealthServiceClient<Channel> {
        HealthServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }
}

fn bad_url(url: &str) -> CliError {
    CliError::Usage(format!(
        "--coordinator {url}: write a URL such as http://127.0.0.1:7100, https://HOST:7100 or unix:/PATH"
    ))
}

fn endpoint(url: &str) -> Result<Endpoint, CliError> {
    let endpoint = orbit_identity::endpoint(url).ok_or_else(|| bad_url(url))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .tcp_nodelay(true))
}

/// A name for a request, so that a request that is sent twice acts once.
pub(crate) fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_scheme_is_plain_http() {
        assert_eq!(normalize_url("127.0.0.1:7100"), "http://127.0.0.1:7100");
        for url in ["https://grid:7100", "unix:/run/orbit-grid/coordinator.sock"] {
            assert_eq!(normalize_url(url), url);
        }
    }

    #[tokio::test]
    async fn a_url_that_is_none_is_a_mistake_of_the_command_line() {
        for url in ["https://grid:7100", "ftp://grid:7100", "http://a b"] {
            let error = Client::connect(url, Arc::default()).await.unwrap_err();
            assert!(matches!(error, CliError::Usage(_)), "{error:?}");
        }
    }

    #[tokio::test]
    async fn nobody_at_the_address_is_unreachable() {
        // Bound and dropped: nothing listens there now.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Client::connect(&format!("http://{address}"), Arc::default()).await.unwrap_err();
        assert_eq!(error.code(), crate::outcome::UNREACHABLE);
        let text = error.render("http://127.0.0.1:9").unwrap();
        assert!(text.contains("http://127.0.0.1:9") && text.contains("--coordinator"), "{text}");
        assert!(!text.contains("Error {") && !text.contains("Os {"), "{text}");
    }
}
