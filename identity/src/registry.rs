//! The coordinator's side: who is let in, by which token, until when, and who was put out.
//!
//! Everything that matters is in the ledger before it is answered. Calls block on the disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::authority::{Authority, AuthorityError, Issued, LEDGER, Request, default_hosts};
use crate::facts::Facts;
use crate::ledger::{Certificate, Entry, Ledger, LedgerError, Shelf};
use crate::tls::Presented;
use crate::token::{JoinToken, TokenError};
use crate::who::{Identity, Name, Role};

/// How long a token may be good for.
const TOKEN_VALIDITY_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How short and how long a certificate may be good for.
const VALIDITY: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(365 * 24 * 60 * 60);

/// Why there is no registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The keys cannot be used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A setting is out of its bounds.
    #[error("a certificate may be valid for 5s to 8760h, {0:?} is not between")]
    Validity(Duration),
}

/// Why somebody is refused. Its text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The token is none of this grid.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token came too late.
    #[error("the join token has expired; make a new one with `orbit-coordinator token create`")]
    TokenExpired,
    /// The token was used by somebody else.
    #[error(
        "the join token was used already, each lets one machine in; make a new one with `orbit-coordinator token create`"
    )]
    TokenUsed,
    /// The name was revoked after the token was made.
    #[error(
        "{0} was revoked after this join token was made; make a new one with `orbit-coordinator token create`"
    )]
    TokenRevoked(Identity),
    /// A role or a time that no token may have.
    #[error("{0}")]
    Invalid(&'static str),
    /// The token is good for another name.
    #[error(
        "the join token is good for {token} only, not for {asked}; join as {token}, or make another one with --name {asked}"
    )]
    WrongName {
        /// Whose it is.
        token: Name,
        /// Who asked.
        asked: Name,
    },
    /// Neither says a name.
    #[error("neither the join token nor whoever joins says a name; say one")]
    NoName,
    /// Somebody else has it.
    #[error("there is a {0} with a valid certificate already; choose another name, or let it be replaced: revoke it first, or make the join token with --name {name}", name = .0.name)]
    NameTaken(Identity),
    /// What was sent is no request for a certificate.
    #[error("this is no request for a certificate: {0}")]
    Request(String),
    /// The certificate counts no more.
    #[error("{0} was revoked; join again with a new join token if that was a mistake")]
    Revoked(Identity),
    /// The certificate is too old.
    #[error("the certificate of {0} has expired; join again with a new join token")]
    Expired(Identity),
    /// Nobody of that name was ever let in.
    #[error("there is no {0}; `orbit identity ls` shows who there is")]
    Unknown(Identity),
    /// What was decided could not be written down, so it does not count.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The certificate could not be signed.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// Somebody who wants to join.
#[derive(Debug, Clone)]
pub struct Joining {
    /// The token.
    pub token: String,
    /// The request for a certificate, as PEM.
    pub request: String,
    /// The name that is wished for.
    pub name: Option<Name>,
}

/// Somebody who was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Who.
    pub identity: Identity,
    /// When the newest certificate was issued, in seconds since 1970.
    pub issued_at: i64,
    /// Until when it is valid, in seconds since 1970.
    pub not_after: i64,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// Whether it was revoked.
    pub is_revoked: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Registry {
    authority: Authority,
    /// Held while something is decided and written, so that each decision sees the one before.
    ledger: Mutex<Ledger>,
    book: Shelf,
    validity: Duration,
    /// Cancelled, the connections of somebody end.
    connections: Mutex<BTreeMap<Identity, CancellationToken>>,
}

impl Registry {
    /// The registry in a directory, made if there is none.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn open(directory: &Path, validity: Duration, now: i64) -> Result<Self, RegistryError> {
        if !VALIDITY.contains(&validity) {
            return Err(RegistryError::Validity(validity));
        }
        let authority = Authority::open(directory, now)?;
        let ledger = Ledger::open(&directory.join(LEDGER))?;
        let (book, ledger) = (ledger.book().clone(), Mutex::new(ledger));
        Ok(Self { authority, ledger, book, validity, connections: Mutex::default() })
    }

    /// The keys.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A certificate for the coordinator itself, for what it listens on and further names and addresses.
    ///
    /// # Errors
    /// A host is neither a name nor an address.
    pub fn own(
        &self,
        listen: std::net::IpAddr,
        host_name: Option<&str>,
        hosts: &[String],
        now: i64,
    ) -> Result<(Presented, Facts), AuthorityError> {
        let mut all = default_hosts(listen, host_name);
        all.extend(hosts.iter().cloned());
        let name = Name::new("coordinator").map_err(|error| AuthorityError::Signing(error.to_string()))?;
        let identity = Identity::new(Role::Coordinator, name);
        let (issued, key) = self.authority.issue_own(&identity, &all, self.validity, now)?;
        let presented = Presented::new(&issued.pem, &key.serialize_pem());
        Ok((presented.map_err(|error| AuthorityError::Signing(error.to_string()))?, issued.facts))
    }

    /// A certificate for whoever has a token.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn join(&self, joining: &Joining, now: i64) -> Result<String, Refused> {
        let token = self.authority.verify(&joining.token)?;
        if token.role == Role::Coordinator {
            return Err(Refused::Invalid("nobody joins as a coordinator"));
        }
        if token.expires_at <= now {
            return Err(Refused::TokenExpired);
        }
        let name = match (&token.name, &joining.name) {
            (Some(token), Some(asked)) if token != asked => {
                return Err(Refused::WrongName { token: token.clone(), asked: asked.clone() });
            }
            (Some(name), _) | (None, Some(name)) => name.clone(),
            (None, None) => return Err(Refused::NoName),
        };
        let identity = Identity::new(token.role, name);
        let request = Request::read(&joining.request).map_err(Refused::Request)?;
        let mut ledger = self.ledger();
        let key = request.key();
        self.admit(&token, &identity, &key, now)?;
        let used = Entry::TokenUsed { id: token.id, key, expires_at: token.expires_at };
        let issued = self.authority.issue(&identity, &request, self.validity, now)?;
        ledger.write(&[used, entry(&issued, now)])?;
        tracing::info!(identity = %identity, serial = issued.facts.serial, "has joined");
        Ok(issued.pem)
    }

    /// Whether a token lets the holder of a key in, as somebody.
    fn admit(&self, token: &JoinToken, identity: &Identity, key: &str, now: i64) -> Result<(), Refused> {
        let book = self.book.read();
        if book.user_of(&token.id).is_some_and(|user| user != key) {
            return Err(Refused::TokenUsed);
        }
        if book.revoked_at_ms(identity).is_some_and(|at| token.created_at_ms <= at) {
            return Err(Refused::TokenRevoked(identity.clone()));
        }
        let has_another_key = |certificate: &Certificate| {
            !certificate.is_revoked && certificate.not_after > now && certificate.key != key
        };
        // A token without a name must not let a stranger take the place of somebody who is there.
        if token.name.is_none() && book.of(identity).iter().any(has_another_key) {
            return Err(Refused::NameTaken(identity.clone()));
        }
        Ok(())
    }

    /// A new certificate for whoever has one.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn renew(&self, holder: &Facts, request: &str, now: i64) -> Result<String, Refused> {
        let request = Request::read(request).map_err(Refused::Request)?;
        let mut ledger = self.ledger();
        self.check(holder, now)?;
        let issued = self.authority.issue(&holder.identity, &request, self.validity, now)?;
        ledger.write(&[entry(&issued, now)])?;
        tracing::info!(identity = %holder.identity, serial = issued.facts.serial, "renewed a certificate");
        Ok(issued.pem)
    }

    /// Whether a certificate still counts.
    ///
    /// # Errors
    /// It was revoked, or has expired since the connection was made.
    pub fn check(&self, holder: &Facts, now: i64) -> Result<(), Refused> {
        if self.book.read().is_revoked(holder) {
            return Err(Refused::Revoked(holder.identity.clone()));
        }
        if holder.not_after <= now {
            return Err(Refused::Expired(holder.identity.clone()));
        }
        Ok(())
    }

    /// Everybody who was let in.
    pub fn list(&self) -> Vec<Known> {
        let book = self.book.read();
        let newest = book.everybody().filter_map(|(identity, all)| {
            all.last().map(|certificate| Known {
                identity: identity.clone(),
                issued_at: certificate.issued_at,
                not_after: certificate.not_after,
                serial: certificate.serial.clone(),
                is_revoked: certificate.is_revoked,
            })
        });
        newest.collect()
    }

    /// Puts somebody out. Says how many certificates count no more.
    ///
    /// # Errors
    /// Nobody of that name was let in, or it could not be written down.
    pub fn revoke(&self, identity: &Identity, now_ms: i64) -> Result<u64, Refused> {
        let mut ledger = self.ledger();
        let now = now_ms / 1000;
        let count = match self.book.read().of(identity) {
            [] => return Err(Refused::Unknown(identity.clone())),
            all => all.iter().filter(|held| !held.is_revoked && held.not_after > now).count() as u64,
        };
        ledger.write(&[Entry::Revoked { identity: identity.clone(), at_ms: now_ms }])?;
        drop(ledger);
        if let Some(connections) = self.connections().remove(identity) {
            connections.cancel();
        }
        tracing::warn!(%identity, "revoked");
        Ok(count)
    }

    /// Cancelled when somebody is put out.
    pub(crate) fn end_of(&self, identity: &Identity) -> CancellationToken {
        self.connections().entry(identity.clone()).or_default().clone()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> MutexGuard<'_, BTreeMap<Identity, CancellationToken>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Authority {
    /// A token with which one machine joins. It takes no coordinator, so it can be made beside one that runs.
    ///
    /// # Errors
    /// No token may have that role or time.
    pub fn create_token(
        &self,
        role: Role,
        name: Option<Name>,
        ttl: Duration,
        now_ms: i64,
    ) -> Result<(String, JoinToken), Refused> {
        if role == Role::Coordinator {
            return Err(Refused::Invalid(
                "nobody joins as a coordinator; a role is star, operator or viewer",
            ));
        }
        if ttl.as_secs() == 0 || ttl > TOKEN_VALIDITY_MAX {
            return Err(Refused::Invalid("a join token is good for 1s to 720h"));
        }
        let expires_at = (now_ms / 1000).saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
        let token = JoinToken::new(role, name, (now_ms, expires_at), self.certificate());
        Ok((self.sign(&token)?, token))
    }
}

fn entry(issued: &Issued, now: i64) -> Entry {
    Entry::Issued {
        serial: issued.facts.serial.clone(),
        identity: issued.facts.identity.clone(),
        key: issued.key.clone(),
        issued_at: now,
        not_after: issued.facts.not_after,
    }
}

/// A registry that connections can be made by.
pub(crate) type Shared = Arc<Registry>;

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
