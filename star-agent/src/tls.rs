//! How a Star joins a grid with TLS, and the network of one that has joined.
//!
//! After that all connections of the Star use TLS, in both directions, and are between members of the same grid. A Star
//! without an identity does not use TLS at all. The two cannot be mixed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use orbit_identity::network::{MemberTls, Network, Tcp};
use orbit_identity::{
    Credentials, CredentialsError, EnrollError, Invitation, LocalUsers, NewKey, Role, TokenError, now,
};
use orbit_shared::words::StarId;
use tonic::transport::Endpoint;
use tracing::{info, warn};

use crate::config::{JoinFrom, StarOptions};

/// The directory of the identity within the vault.
pub(crate) const CREDENTIALS_DIRECTORY: &str = "credentials";
/// Pause between attempts to join while no coordinator can be reached.
const JOIN_RETRY: Duration = Duration::from_secs(2);

/// Why a Star has no identity. Its text is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is neither an identity nor a token.
    #[error(
        "--coordinator {coordinator}: this Star has no identity in {} yet; make a join token with `orbit-coordinator token \
         create --data-dir DIR` on the coordinator's machine, or `orbit token create`, and start the Star with --join TOKEN",
        directory.display()
    )]
    None {
        /// Where the identity would be.
        directory: PathBuf,
        /// The coordinator that requires it.
        coordinator: String,
    },
    /// The certificate has expired.
    #[error(
        "the certificate in {} has expired; make a new join token with `orbit-coordinator token create --data-dir DIR \
         --name {star}` on the coordinator's machine, and start the Star with --join TOKEN", directory.display()
    )]
    Expired {
        /// Where it is.
        directory: PathBuf,
        /// The Star that it belongs to.
        star: StarId,
    },
    /// The identity belongs to another member.
    #[error(
        "the identity in {} is that of {found}, and this Star is to be {star}; give it a vault of its own, or start it with \
         the name that it joined under", directory.display()
    )]
    SomebodyElse {
        /// Where it is.
        directory: PathBuf,
        /// The member that it belongs to.
        found: String,
        /// The Star that was to use it.
        star: StarId,
    },
    /// A Star with an identity was given an address without TLS.
    #[error(
        "--coordinator {coordinator}: this Star has an identity in {}, with which it speaks TLS only; write https://, or \
         remove that directory to run it without TLS", directory.display()
    )]
    Unused {
        /// Where it is.
        directory: PathBuf,
        /// The address.
        coordinator: String,
    },
    /// The file with the token cannot be read.
    #[error("--join-file {}: {error}; put the line that `orbit-coordinator token create` prints there", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// The token is not valid.
    #[error("--join: {0}")]
    Token(#[from] TokenError),
    /// The token is for another role or name.
    #[error(
        "--join: the join token is one for {0}s, and this is a Star; make one with `orbit-coordinator token create`"
    )]
    WrongRole(Role),
    /// The token expired while no coordinator could be reached.
    #[error("--join: {0}; the join token has expired meanwhile, make a new one when the coordinator runs")]
    TooLate(EnrollError),
    /// The coordinator refuses.
    #[error("--join: {0}")]
    Refused(EnrollError),
    /// The credentials in the vault cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

/// The identity of a Star with TLS, which joins first if it has none; `None` for a Star without TLS.
pub(crate) async fn enter(
    options: &StarOptions,
    vault: &Path,
    coordinators: &[Endpoint],
) -> Result<Option<Arc<Credentials>>, IdentityError> {
    let directory = vault.join(CREDENTIALS_DIRECTORY);
    let held = Credentials::load(&directory)?;
    let coordinator = options.coordinators.join(",");
    if !options.is_secured() {
        return match held {
            Some(_) => Err(IdentityError::Unused { directory, coordinator }),
            None => Ok(None),
        };
    }
    let star = options.star_id.clone();
    let is_expired = match held {
        Some(held) => {
            let facts = held.facts();
            if facts.identity.role != Role::Star || facts.identity.name != star {
                return Err(IdentityError::SomebodyElse {
                    directory,
                    found: facts.identity.to_string(),
                    star,
                });
            }
            if facts.not_after > now() {
                return Ok(Some(Arc::new(held)));
            }
            true
        }
        None => false,
    };
    let Some(from) = &options.join else {
        return Err(match is_expired {
            true => IdentityError::Expired { directory, star },
            false => IdentityError::None { directory, coordinator },
        });
    };
    let token = token(from)?;
    let joined = join(&directory, &token, &star, coordinators).await?;
    info!(star = star.as_str(), serial = joined.facts().serial, "has joined the grid");
    Ok(Some(Arc::new(joined)))
}

fn token(from: &JoinFrom) -> Result<String, IdentityError> {
    match from {
        JoinFrom::Token(token) => Ok(token.clone()),
        JoinFrom::File(path) => {
            std::fs::read_to_string(path).map_err(|error| IdentityError::File { path: path.clone(), error })
        }
    }
}

/// Joins at the first coordinator that answers. Waits for one as long as the token is valid.
async fn join(
    directory: &Path,
    token: &str,
    star: &StarId,
    coordinators: &[Endpoint],
) -> Result<Credentials, IdentityError> {
    let Invitation { role, expires_at, .. } = Invitation::read(token)?;
    if role != Role::Star {
        return Err(IdentityError::WrongRole(role));
    }
    loop {
        let mut last = None;
        for endpoint in coordinators {
            let key = NewKey::prepare(directory)?;
            match orbit_identity::join(endpoint, token, key, Some(star)).await {
                Ok(joined) => return Ok(joined),
                Err(error @ EnrollError::Unreachable { .. }) => last = Some(error),
                Err(error) => return Err(IdentityError::Refused(error)),
            }
        }
        let Some(error) = last else { continue };
        if expires_at <= now() {
            return Err(IdentityError::TooLate(error));
        }
        warn!(star = star.as_str(), "cannot join yet: {error}; trying again in {JOIN_RETRY:?}");
        tokio::time::sleep(JOIN_RETRY).await;
    }
}

/// The network of a Star with an identity, or of one without, which trusts these users of this machine.
pub fn network(credentials: Option<Arc<Credentials>>, users: Arc<LocalUsers>) -> Arc<dyn Network> {
    match credentials {
        Some(credentials) => Arc::new(MemberTls { credentials }),
        None => Arc::new(Tcp { users }),
    }
}
