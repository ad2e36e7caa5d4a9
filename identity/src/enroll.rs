//! Asks a coordinator for certificates: the first one with a token, each later one with the certificate before it.

use std::sync::Arc;
use std::time::Duration;

use orbit_proto::v1::identity_service_client::IdentityServiceClient;
use orbit_proto::v1::{JoinRequest, RenewRequest};
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use crate::clock::now;
use crate::credentials::{Credentials, CredentialsError, NewKey};
use crate::dial::{Dialing, Expected};
use crate::token::{Invitation, TokenError};
use crate::who::Name;

/// Timeout of a request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum time between two looks at the wall clock, since timers stop while a machine sleeps.
const LOOK_INTERVAL: Duration = Duration::from_secs(300);
/// Pause before the next attempt after a failed renewal, in seconds. A third of a certificate's validity is left for
/// that.
const RETRY_SECONDS: std::ops::RangeInclusive<i64> = 1..=300;

/// Why there is no certificate. Its text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The token is not valid.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The coordinator cannot be reached.
    #[error("{address} cannot be reached: {problem}")]
    Unreachable {
        /// The coordinator.
        address: String,
        /// The error.
        problem: String,
    },
    /// The coordinator refuses.
    #[error("{address} refuses: {}", status.message())]
    Refused {
        /// The coordinator.
        address: String,
        /// Its answer.
        status: Box<Status>,
    },
    /// The certificate cannot be stored.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

/// Joins with a token: the key stays here, the certificate comes from the coordinator, and the authority is the one that
/// the token names.
///
/// # Errors
/// See [`EnrollError`].
pub async fn join(
    endpoint: &Endpoint,
    token: &str,
    key: NewKey,
    name: Option<&Name>,
) -> Result<Credentials, EnrollError> {
    let invitation = Invitation::read(token)?;
    let channel = Dialing::invited(&invitation).connect(endpoint, Expected::Coordinator).await;
    let mut client = IdentityServiceClient::new(channel.map_err(|error| unreachable(endpoint, &error))?);
    let mut request = tonic::Request::new(JoinRequest {
        token: token.trim().to_owned(),
        certificate_request: key.request()?,
        name: name.map(ToString::to_string).unwrap_or_default(),
    });
    request.set_timeout(ANSWER_TIMEOUT);
    let answer = client.join(request).await.map_err(|status| refused(endpoint, status))?.into_inner();
    let authority = invitation.authority(&answer.authority)?;
    Ok(key.complete(&answer.certificate, &authority)?)
}

/// Replaces the current certificate by a new one.
///
/// # Errors
/// See [`EnrollError`].
pub async fn renew(endpoint: &Endpoint, credentials: &Credentials) -> Result<(), EnrollError> {
    let channel = credentials.dialing().connect(endpoint, Expected::Coordinator).await;
    let mut client = IdentityServiceClient::new(channel.map_err(|error| unreachable(endpoint, &error))?);
    let mut request = tonic::Request::new(RenewRequest { certificate_request: credentials.request()? });
    request.set_timeout(ANSWER_TIMEOUT);
    let answer = client.renew(request).await.map_err(|status| refused(endpoint, status))?.into_inner();
    Ok(credentials.take(&answer.certificate)?)
}

/// Renews the certificate if that is due.
///
/// # Errors
/// See [`EnrollError`].
pub async fn renew_if_due(endpoint: &Endpoint, credentials: &Credentials) -> Result<(), EnrollError> {
    match credentials.facts().renewal_at() <= now() {
        true => renew(endpoint, credentials).await,
        false => Ok(()),
    }
}

/// Renews the certificate whenever that is due, at the first coordinator that does it, until `stop`.
pub async fn keep_renewed(
    credentials: Arc<Credentials>,
    coordinators: Vec<Endpoint>,
    stop: CancellationToken,
) {
    let renewing = async {
        let mut due = credentials.facts().renewal_at();
        loop {
            let wait = due - now();
            if wait > 0 {
                let wait = Duration::from_secs(wait.unsigned_abs());
                tokio::time::sleep(wait.min(LOOK_INTERVAL)).await;
                continue;
            }
            due = match renew_anywhere(&credentials, &coordinators).await {
                Ok(()) => {
                    let facts = credentials.facts();
                    tracing::info!(
                        serial = facts.serial,
                        not_after = facts.not_after,
                        "the certificate was renewed"
                    );
                    facts.renewal_at()
                }
                Err(error) => {
                    let facts = credentials.facts();
                    let left = facts.not_after - now();
                    tracing::warn!(
                        "the certificate, which ends in {left} s, could not be renewed yet: {error}"
                    );
                    now() + (left / 10).clamp(*RETRY_SECONDS.start(), *RETRY_SECONDS.end())
                }
            };
        }
    };
    stop.run_until_cancelled(renewing).await;
}

async fn renew_anywhere(credentials: &Credentials, coordinators: &[Endpoint]) -> Result<(), EnrollError> {
    let mut last = EnrollError::Unreachable {
        address: "any coordinator".to_owned(),
        problem: "there is no address".to_owned(),
    };
    for endpoint in coordinators {
        match renew(endpoint, credentials).await {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn unreachable(endpoint: &Endpoint, error: &dyn std::error::Error) -> EnrollError {
    EnrollError::Unreachable { address: endpoint.uri().to_string(), problem: chain(error) }
}

fn refused(endpoint: &Endpoint, status: Status) -> EnrollError {
    let address = endpoint.uri().to_string();
    match status.code() {
        Code::Unavailable => {
            let problem =
                std::error::Error::source(&status).map_or_else(|| status.message().to_owned(), chain);
            EnrollError::Unreachable { address, problem }
        }
        _ => EnrollError::Refused { address, status: Box::new(status) },
    }
}

/// An error with its causes. The cause of a transport error says what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = inner.source();
    }
    text
}
