//! The coordinator's side: which identities are admitted, by which token and until when, and which are revoked.
//!
//! Every decision is in the ledger before it is answered. Calls block on the disk.

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

/// Maximum validity of a token.
const TOKEN_VALIDITY_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Minimum and maximum validity of a certificate.
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

/// Why a request is refused. Its text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The token is not one of this grid.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token has expired.
    #[error("the join token has expired; make a new one with `orbit-coordinator token create`")]
    TokenExpired,
    /// The token is not kept any more.
    #[error(
        "the join token was cancelled, or has ended; make a new one with `orbit token create` or `orbit-coordinator token create`"
    )]
    TokenEnded,
    /// No open token has this number.
    #[error("unknown join token {0:?}; `orbit token ls` lists the open ones")]
    UnknownToken(String),
    /// A used token cannot be cancelled.
    #[error("join token {id} was used by {by} already; `orbit identity revoke {role} {name}` puts it out", role = .by.role, name = .by.name)]
    TokenSpent {
        /// The token.
        id: String,
        /// Who used it.
        by: Identity,
    },
    /// The token was used with another key.
    #[error(
        "the join token was used already, each lets one machine in; make a new one with `orbit-coordinator token create`"
    )]
    TokenUsed,
    /// The operator who made the token was revoked afterwards.
    #[error(
        "{0}, who made this join token, was revoked; make a new one with `orbit-coordinator token create`"
    )]
    TokenMakerRevoked(Identity),
    /// The name was revoked after the token was made.
    #[error(
        "{0} was revoked after this join token was made; make a new one with `orbit-coordinator token create`"
    )]
    TokenRevoked(Identity),
    /// A role or a validity that no token may have.
    #[error("{0}")]
    Invalid(&'static str),
    /// The token is good for another name.
    #[error(
        "the join token is good for {token} only, not for {asked}; join as {token}, or make another one with --name {asked}"
    )]
    WrongName {
        /// The name in the token.
        token: Name,
        /// The name that was asked for.
        asked: Name,
    },
    /// Neither the token nor the request has a name.
    #[error("neither the join token nor the request has a name; give one")]
    NoName,
    /// The name belongs to another holder.
    #[error("there is a {0} with a valid certificate already; choose another name, or let it be replaced: revoke it first, or make the join token with --name {name}", name = .0.name)]
    NameTaken(Identity),
    /// What was sent is not a request for a certificate.
    #[error("this is no request for a certificate: {0}")]
    Request(String),
    /// The certificate was revoked.
    #[error("{0} was revoked; join again with a new join token if that was a mistake")]
    Revoked(Identity),
    /// The certificate has expired.
    #[error("the certificate of {0} has expired; join again with a new join token")]
    Expired(Identity),
    /// The certificate is not in the ledger.
    #[error(
        "the certificate of {0} is not in the coordinator's ledger, so it could not be revoked; join again with a new join token"
    )]
    NotInLedger(Identity),
    /// A renewal came with another key.
    #[error(
        "a renewal keeps its key, and this request of {0} has another one; join again with a new join token"
    )]
    OtherKey(Identity),
    /// No identity of that name was ever admitted.
    #[error("there is no {0}; `orbit identity ls` shows who there is")]
    Unknown(Identity),
    /// The decision could not be written to the ledger, so it has no effect.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The certificate could not be signed.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// A request to join.
#[derive(Debug, Clone)]
pub struct Joining {
    /// The token.
    pub token: String,
    /// The request for a certificate, as PEM.
    pub request: String,
    /// The name that is asked for.
    pub name: Option<Name>,
}

/// An identity that was admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The identity.
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
    /// Locked while a decision is made and written, so that each decision sees the one before.
    ledger: Mutex<Ledger>,
    book: Shelf,
    validity: Duration,
    /// Tokens by identity. Cancelling one ends the connections of that identity.
    connections: Mutex<BTreeMap<Identity, CancellationToken>>,
    /// The coordinator's own certificate, which is not in the ledger.
    own: Mutex<Option<Facts>>,
}

impl Registry {
    /// Opens the registry in a directory, and makes one if there is none.
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
        Ok(Self { authority, ledger, book, validity, connections: Mutex::default(), own: Mutex::default() })
    }

    /// The authority.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A certificate for the coordinator itself, for the address that it listens on and for further names and
    /// addresses.
    ///
    /// # Errors
    /// A host is neither a name nor an address.
    pub fn own(
        &self,
        listen: Option<std::net::IpAddr>,
        host_name: Option<&str>,
        hosts: &[String],
        now: i64,
    ) -> Result<(Presented, Facts), AuthorityError> {
        let mut all = default_hosts(listen, host_name);
        all.extend(hosts.iter().cloned());
        let name = Name::new("coordinator").map_err(|error| AuthorityError::Signing(error.to_string()))?;
        let identity = Identity::new(Role::Coordinator, name);
        let (issued, key) = self.authority.issue_own(&identity, &all, self.validity, now)?;
        // A joining machine knows only the hash of the authority's key, so the authority's certificate is sent as well.
        let chain = format!("{}{}", issued.pem, self.authority.pem());
        let presented = Presented::new(&chain, &key.serialize_pem());
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = Some(issued.facts.clone());
        Ok((presented.map_err(|error| AuthorityError::Signing(error.to_string()))?, issued.facts))
    }

    /// Issues a certificate to the holder of a token.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn join(&self, joining: &Joining, now: i64) -> Result<String, Refused> {
        let token = self.authority.token_of(&joining.token)?.ok_or(Refused::TokenEnded)?;
        if token.role == Role::Coordinator {
            return Err(Refused::Invalid("a join token cannot have the role of coordinator"));
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
        let spent_by = Some(identity.clone());
        let used = Entry::TokenUsed { id: token.id, key, expires_at: token.expires_at, spent_by };
        let issued = self.authority.issue(&identity, &request, self.validity, now)?;
        ledger.write(&[used, entry(&issued, now)])?;
        tracing::info!(identity = %identity, serial = issued.facts.serial, "has joined");
        Ok(issued.pem)
    }

    /// Checks that a token admits the holder of a key under an identity.
    fn admit(&self, token: &JoinToken, identity: &Identity, key: &str, now: i64) -> Result<(), Refused> {
        // The token may have been cancelled since it was read.
        if !token.is_long() && self.authority.kept_token(&token.id)?.is_none() {
            return Err(Refused::TokenEnded);
        }
        let book = self.book.read();
        if book.user_of(&token.id).is_some_and(|spent| !book.is_spent_by(spent, identity, key)) {
            return Err(Refused::TokenUsed);
        }
        if let Some(maker) = &token.made_by
            && book.revoked_at_ms(maker).is_some_and(|at| token.created_at_ms <= at)
        {
            return Err(Refused::TokenMakerRevoked(maker.clone()));
        }
        if book.revoked_at_ms(identity).is_some_and(|at| token.created_at_ms <= at) {
            return Err(Refused::TokenRevoked(identity.clone()));
        }
        let has_another_key = |certificate: &Certificate| {
            !certificate.is_revoked && certificate.not_after > now && certificate.key != key
        };
        // A token without a name must not let a new holder take the name of an existing identity.
        if token.name.is_none() && book.of(identity).iter().any(has_another_key) {
            return Err(Refused::NameTaken(identity.clone()));
        }
        Ok(())
    }

    /// Issues a new certificate to the holder of one.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn renew(&self, holder: &Facts, request: &str, now: i64) -> Result<String, Refused> {
        let request = Request::read(request).map_err(Refused::Request)?;
        let mut ledger = self.ledger();
        self.check(holder, now)?;
        let key = request.key();
        let has_key = |held: &Certificate| held.serial == holder.serial && held.key == key;
        if !self.book.read().of(&holder.identity).iter().any(has_key) {
            return Err(Refused::OtherKey(holder.identity.clone()));
        }
        let issued = self.authority.issue(&holder.identity, &request, self.validity, now)?;
        ledger.write(&[entry(&issued, now)])?;
        tracing::info!(identity = %holder.identity, serial = issued.facts.serial, "renewed a certificate");
        Ok(issued.pem)
    }

    /// Checks that a certificate is still valid.
    ///
    /// # Errors
    /// It was revoked, or has expired since the connection was made.
    pub fn check(&self, holder: &Facts, now: i64) -> Result<(), Refused> {
        let book = self.book.read();
        if book.is_revoked(holder) {
            return Err(Refused::Revoked(holder.identity.clone()));
        }
        if holder.not_after <= now {
            return Err(Refused::Expired(holder.identity.clone()));
        }
        if !book.is_known(holder) {
            return Err(Refused::NotInLedger(holder.identity.clone()));
        }
        Ok(())
    }

    /// The facts of the coordinator's own certificate, once it has one.
    pub fn own_facts(&self) -> Option<Facts> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All identities that were admitted.
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

    /// The open tokens, by number: those that admit a machine if they are used now.
    ///
    /// # Errors
    /// Their files cannot be read.
    pub fn tokens(&self, now: i64) -> Result<Vec<JoinToken>, Refused> {
        let mut kept = self.authority.kept_tokens()?;
        let book = self.book.read();
        let is_revoked = |identity: &Identity, token: &JoinToken| {
            book.revoked_at_ms(identity).is_some_and(|at| token.created_at_ms <= at)
        };
        kept.retain(|token| {
            let named = token.name.clone().map(|name| Identity::new(token.role, name));
            token.expires_at > now
                && book.user_of(&token.id).is_none()
                && !token.made_by.iter().chain(&named).any(|identity| is_revoked(identity, token))
        });
        Ok(kept)
    }

    /// Cancels an open token.
    ///
    /// # Errors
    /// There is none with this number, or it was used.
    pub fn revoke_token(&self, id: &str) -> Result<(), Refused> {
        // Locked, so that no machine joins with it meanwhile.
        let _ledger = self.ledger();
        let spender = self.book.read().user_of(id).and_then(|spent| spent.identity.clone());
        if let Some(by) = spender {
            return Err(Refused::TokenSpent { id: id.to_owned(), by });
        }
        if !self.authority.remove_token(id)? {
            return Err(Refused::UnknownToken(id.to_owned()));
        }
        tracing::warn!(token = id, "a join token was cancelled");
        Ok(())
    }

    /// Revokes an identity. Returns the number of certificates that became invalid.
    ///
    /// # Errors
    /// No identity of that name was admitted, or the ledger could not be written.
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

    /// A token that is cancelled when the identity is revoked.
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
    /// Makes a token with which one machine joins. It needs no coordinator, so it can be made while one runs.
    ///
    /// # Errors
    /// No token may have that role or validity.
    pub fn create_token(
        &self,
        role: Role,
        name: Option<Name>,
        ttl: Duration,
        now_ms: i64,
    ) -> Result<(String, JoinToken), Refused> {
        self.create_token_by(None, role, name, (ttl, now_ms))
    }

    /// As [`Self::create_token`], for an operator. The token becomes invalid when the operator is revoked.
    ///
    /// # Errors
    /// No token may have that role or validity.
    pub fn create_token_by(
        &self,
        made_by: Option<Identity>,
        role: Role,
        name: Option<Name>,
        (ttl, now_ms): (Duration, i64),
    ) -> Result<(String, JoinToken), Refused> {
        if role == Role::Coordinator {
            return Err(Refused::Invalid(
                "a join token cannot have the role of coordinator; a role is star, operator or viewer",
            ));
        }
        if ttl.as_secs() == 0 || ttl > TOKEN_VALIDITY_MAX {
            return Err(Refused::Invalid("a join token is good for 1s to 720h"));
        }
        let expires_at = (now_ms / 1000).saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
        let mut token = JoinToken::new(role, name, (now_ms, expires_at));
        token.made_by = made_by;
        self.keep_token(&token)?;
        Ok((self.line(&token)?, token))
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

/// A registry that connections share.
pub(crate) type Shared = Arc<Registry>;

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
