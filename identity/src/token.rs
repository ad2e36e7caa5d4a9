//! Join tokens. A machine joins a grid with one, and each can be used once.
//!
//! A token is a prefix and 59 bytes in Base64: the role of the holder, the end of its validity, a number, a secret that
//! is derived from the number and the authority's token key, and the BLAKE3 hash of the authority's public key, by
//! which the holder recognizes the coordinator. The rest (a name, who made it) is in a file beside the authority's
//! keys, see [`tokens`](crate::tokens). So open tokens can be listed and cancelled, and neither a file nor the store
//! contains one.
//!
//! Tokens of earlier versions, which carry a whole certificate and a signature, are accepted until they expire
//! ([`long`]).

pub(crate) mod long;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::who::{Identity, Name, Role};

pub(crate) const PREFIX: &str = "orbit-join-";
/// Key derivation context, which separates keys for tokens from every other use of the authority's token key.
const KEY_CONTEXT: &str = "orbit.v1 2026-11-30 join token";
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 16;
const KEY_HASH_BYTES: usize = 32;
/// Length of a token in bytes: role and flag, end of validity, id, secret, hash of the authority's key.
const BYTES: usize = 1 + 4 + ID_BYTES + SECRET_BYTES + KEY_HASH_BYTES;
/// Flag in the first byte of a token that is valid for one name only.
const HAS_NAME: u8 = 0x80;
/// The format version, in the first byte.
const VERSION: u8 = 0x10;

/// The hash of an authority's public key.
pub(crate) type KeyHash = [u8; KEY_HASH_BYTES];

/// A token as the coordinator keeps it, without the secret. It admits no machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Its number, in hexadecimal.
    pub id: String,
    /// The role that the holder gets; never coordinator.
    pub role: Role,
    /// The name that the holder gets; absent: the holder can choose a free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// Until when it may be used, in seconds since 1970.
    pub expires_at: i64,
    /// The operator who made it; absent: it was made on the coordinator's machine. It becomes invalid when that
    /// operator is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<Identity>,
}

/// A token as its holder reads it. The holder cannot verify it and trusts its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The role that the holder gets.
    pub role: Role,
    /// The name that it is valid for, if the token contains it.
    pub name: Option<Name>,
    /// Whether it is valid for one name only. The token need not contain that name.
    pub has_name: bool,
    /// Until when it may be used, in seconds since 1970.
    pub expires_at: i64,
    /// How the holder recognizes the coordinator.
    pub(crate) trust: Trust,
}

/// How a peer is recognized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trust {
    /// By the certificate of the authority that signed the peer's certificate.
    Certificate(CertificateDer<'static>),
    /// By the hash of the authority's public key. The peer sends the authority's certificate.
    Key(KeyHash),
}

/// Why a token is refused. Its text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not a token.
    #[error("this is not a join token ({0}); copy the whole line that begins with {PREFIX}")]
    Malformed(String),
    /// Another authority made it, or it was altered.
    #[error(
        "the join token is not of this grid, or was changed; make one here with `orbit-coordinator token create`"
    )]
    Foreign,
    /// The files of tokens cannot be used.
    #[error("the join tokens cannot be read or written: {0}")]
    Files(String),
}

/// The key from which secrets of tokens are derived.
pub(crate) struct TokenKey([u8; 32]);

impl TokenKey {
    /// Derived from the secret bytes of the authority's token key.
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(blake3::derive_key(KEY_CONTEXT, secret))
    }

    fn secret(&self, id: &str) -> [u8; SECRET_BYTES] {
        let hash = blake3::keyed_hash(&self.0, id.as_bytes());
        let mut secret = [0; SECRET_BYTES];
        secret.copy_from_slice(&hash.as_bytes()[..SECRET_BYTES]);
        secret
    }
}

impl JoinToken {
    /// A token with a new random number.
    pub(crate) fn new(role: Role, name: Option<Name>, (created_at_ms, expires_at): (i64, i64)) -> Self {
        let id = crate::facts::hexadecimal(&rand::random::<[u8; ID_BYTES]>());
        Self { id, role, name, created_at_ms, expires_at, made_by: None }
    }

    /// Whether it is of an earlier version, for which no file is kept.
    pub(crate) fn is_long(&self) -> bool {
        self.id.len() != ID_BYTES * 2
    }

    /// All of its content except the secret. It admits no machine.
    pub fn without_secret(&self) -> String {
        serde_json::json!(self).to_string()
    }

    pub(crate) fn of_text(text: &str) -> Result<Self, TokenError> {
        serde_json::from_str(text).map_err(malformed)
    }

    /// The line that a joining machine needs.
    pub(crate) fn line(&self, key: &TokenKey, authority: &KeyHash) -> Result<String, TokenError> {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.push(VERSION | role_number(self.role)? | if self.name.is_some() { HAS_NAME } else { 0 });
        bytes.extend(u32::try_from(self.expires_at).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(id_bytes(&self.id).ok_or_else(|| malformed("its number is damaged"))?);
        bytes.extend(key.secret(&self.id));
        bytes.extend(authority);
        assert_eq!(bytes.len(), BYTES, "every part of a token has a fixed length");
        Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }
}

impl Invitation {
    /// Reads a token.
    ///
    /// # Errors
    /// The text is not a token.
    pub fn read(text: &str) -> Result<Self, TokenError> {
        if let Some(token) = long::read(text)? {
            return token.invitation();
        }
        let bytes = bytes_of(text)?;
        let (first, rest) = (bytes[0], &bytes[1..]);
        let mut end = [0; 4];
        end.copy_from_slice(&rest[..4]);
        let mut hash = [0; KEY_HASH_BYTES];
        hash.copy_from_slice(&rest[4 + ID_BYTES + SECRET_BYTES..]);
        Ok(Self {
            role: role_of(first & !HAS_NAME & !VERSION)?,
            name: None,
            has_name: first & HAS_NAME != 0,
            expires_at: u32::from_be_bytes(end).into(),
            trust: Trust::Key(hash),
        })
    }
}

impl Invitation {
    /// Whether the token is of the grid whose authority's certificate is in the directory of an identity; `None` if
    /// there is no certificate.
    pub fn is_of_authority_in(&self, directory: &std::path::Path) -> Option<bool> {
        let pem = std::fs::read_to_string(directory.join(crate::credentials::AUTHORITY)).ok()?;
        let kept = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        Some(match &self.trust {
            Trust::Certificate(authority) => *authority == kept,
            Trust::Key(hash) => key_hash(&kept).as_ref() == Some(hash),
        })
    }

    /// The authority's certificate, which is trusted from now on. A coordinator has sent it as PEM.
    ///
    /// # Errors
    /// What was sent is not the certificate of the authority that the token names.
    pub(crate) fn authority(&self, sent: &str) -> Result<CertificateDer<'static>, TokenError> {
        let hash = match &self.trust {
            Trust::Certificate(authority) => return Ok(authority.clone()),
            Trust::Key(hash) => hash,
        };
        let sent = CertificateDer::from_pem_slice(sent.as_bytes()).map_err(malformed)?.into_owned();
        if key_hash(&sent).as_ref() == Some(hash) { Ok(sent) } else { Err(TokenError::Foreign) }
    }
}

/// The number of the token in a line.
pub(crate) fn id_of(text: &str) -> Result<String, TokenError> {
    let bytes = bytes_of(text)?;
    Ok(crate::facts::hexadecimal(&bytes[5..5 + ID_BYTES]))
}

/// Whether the secret in a line fits its number.
pub(crate) fn is_genuine(text: &str, key: &TokenKey) -> Result<bool, TokenError> {
    let bytes = bytes_of(text)?;
    let told = &bytes[5 + ID_BYTES..5 + ID_BYTES + SECRET_BYTES];
    let secret = key.secret(&id_of(text)?);
    // Compares all bytes, so that the time of an answer does not depend on how many are right.
    Ok(told.iter().zip(secret).fold(0, |difference, (told, known)| difference | (told ^ known)) == 0)
}

/// The hash of the public key of a certificate.
pub(crate) fn key_hash(certificate: &[u8]) -> Option<KeyHash> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(*blake3::hash(parsed.public_key().raw).as_bytes())
}

fn bytes_of(text: &str) -> Result<[u8; BYTES], TokenError> {
    let text = text.trim();
    let body =
        text.strip_prefix(PREFIX).ok_or_else(|| malformed(format!("it does not begin with {PREFIX}")))?;
    let bytes = URL_SAFE_NO_PAD.decode(body).map_err(malformed)?;
    let length = bytes.len();
    let bytes: [u8; BYTES] =
        bytes.try_into().map_err(|_| malformed(format!("it has {length} bytes instead of {BYTES}")))?;
    match bytes[0] & 0x70 {
        VERSION => Ok(bytes),
        _ => Err(malformed("it is of a later version")),
    }
}

fn id_bytes(id: &str) -> Option<Vec<u8>> {
    let is_id = id.len() == ID_BYTES * 2 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bytes = (0..id.len()).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).ok());
    if is_id { bytes.collect() } else { None }
}

fn role_number(role: Role) -> Result<u8, TokenError> {
    match role {
        Role::Star => Ok(1),
        Role::Operator => Ok(2),
        Role::Viewer => Ok(3),
        Role::Coordinator => Err(malformed("a join token cannot have the role of coordinator")),
    }
}

fn role_of(number: u8) -> Result<Role, TokenError> {
    [Role::Star, Role::Operator, Role::Viewer]
        .into_iter()
        .find(|role| role_number(*role) == Ok(number))
        .ok_or_else(|| malformed("it names no role"))
}

fn malformed(problem: impl std::fmt::Display) -> TokenError {
    TokenError::Malformed(problem.to_string())
}

/// A certificate in Base64.
fn certificate_of(text: &str) -> Result<CertificateDer<'static>, TokenError> {
    STANDARD.decode(text).map(CertificateDer::from).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Authority;

    const END: i64 = 1_800_003_600;

    fn authority() -> (tempfile::TempDir, Authority) {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open(directory.path(), 1_800_000_000).unwrap();
        (directory, authority)
    }

    fn token() -> JoinToken {
        JoinToken::new(Role::Operator, Some("alpha".parse().unwrap()), (10, END))
    }

    #[test]
    fn a_token_is_one_short_line_that_names_the_authority() {
        let (_directory, authority) = authority();
        let line = authority.line(&token()).unwrap();
        assert!(line.starts_with("orbit-join-") && line.len() < 100, "{line}");
        let read = Invitation::read(&format!("  {line}\n")).unwrap();
        assert_eq!((read.role, read.has_name, read.expires_at), (Role::Operator, true, END));
        assert_eq!(read.trust, Trust::Key(key_hash(authority.certificate()).unwrap()));
    }

    #[test]
    fn a_token_that_was_changed_or_is_of_another_grid_is_refused() {
        let ((_one, one), (_other, other)) = (authority(), authority());
        let made = token();
        one.keep_token(&made).unwrap();
        let line = one.line(&made).unwrap();
        assert_eq!(one.token_of(&line).unwrap(), Some(made));
        assert!(matches!(other.token_of(&line), Err(TokenError::Foreign)));
        for at in PREFIX.len()..line.len() {
            let mut tampered = line.clone().into_bytes();
            tampered[at] = if tampered[at] == b'A' { b'B' } else { b'A' };
            assert!(one.token_of(&String::from_utf8(tampered).unwrap()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn the_kept_form_of_a_token_is_no_token_and_restores_the_same_token() {
        let (_directory, authority) = authority();
        let token = token();
        let kept = token.without_secret();
        assert!(authority.token_of(&kept).is_err() && Invitation::read(&kept).is_err());
        assert_eq!(authority.line_again(&kept), authority.line(&token));
        assert!(authority.line_again("{}").is_err());
    }

    #[test]
    fn a_text_that_is_no_token_is_refused_as_such() {
        let (_directory, authority) = authority();
        for text in ["", "orbit-join-", "v4.public.AAAA", &format!("{PREFIX}{}", "x".repeat(10_000))] {
            let error = authority.token_of(text).unwrap_err();
            assert!(matches!(error, TokenError::Malformed(_)), "{text:.20}: {error}");
            assert!(Invitation::read(text).is_err(), "{text:.20}");
        }
    }
}
