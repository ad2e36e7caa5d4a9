//! A token with which one machine joins once: who it may be, until when, and the certificate of the authority, which the
//! machine pins before it says anything.
//!
//! It is a PASETO `v4.public` behind a word of our own. Only the authority can tell whether it is genuine; whoever joins
//! trusts it because it came from somebody who may make one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pasetors::keys::{AsymmetricPublicKey, AsymmetricSecretKey};
use pasetors::token::UntrustedToken;
use pasetors::version4::{PublicToken, V4};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::who::{Name, Role};

const PREFIX: &str = "orbit-join-";
/// What PASETO itself puts in front.
const HEADER: &str = "v4.public.";
/// What else is bound into the signature, so that no other token can pass for one.
const PURPOSE: &[u8] = b"orbit.v1 join";
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Names it, so that it is used once.
    pub id: String,
    /// What whoever joins will be; never a coordinator.
    pub role: Role,
    /// Who it will be; absent: it may choose a name that is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// Until when it may be used, in seconds since 1970.
    pub expires_at: i64,
    /// The authority's certificate, DER in Base64.
    authority: String,
}

/// Why a token is not taken. Its text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token at all.
    #[error("this is no join token ({0}); copy the whole line that begins with {PREFIX}")]
    Malformed(String),
    /// Another authority signed it, or it was changed.
    #[error(
        "the join token is not of this grid, or was changed; make one here with `orbit-coordinator token create`"
    )]
    Foreign,
    /// It could not be signed.
    #[error("the join token could not be signed: {0}")]
    Signing(String),
}

impl JoinToken {
    /// A token that is not signed yet.
    pub fn new(
        role: Role,
        name: Option<Name>,
        (created_at_ms, expires_at): (i64, i64),
        authority: &CertificateDer<'_>,
    ) -> Self {
        let id = crate::facts::hexadecimal(&rand::random::<[u8; 16]>());
        Self { id, role, name, created_at_ms, expires_at, authority: STANDARD.encode(authority) }
    }

    /// All that it says, which lets nobody in.
    pub fn unsigned(&self) -> String {
        serde_json::json!(self).to_string()
    }

    pub(crate) fn of_unsigned(text: &str) -> Result<Self, TokenError> {
        serde_json::from_str(text).map_err(malformed)
    }

    /// The certificate of the authority that is to be trusted.
    ///
    /// # Errors
    /// It is damaged.
    pub fn authority(&self) -> Result<CertificateDer<'static>, TokenError> {
        let der = STANDARD.decode(&self.authority);
        der.map(CertificateDer::from).map_err(|error| TokenError::Malformed(error.to_string()))
    }

    /// What a token says, for whoever was given it and cannot check it.
    ///
    /// # Errors
    /// It is none.
    pub fn read(text: &str) -> Result<Self, TokenError> {
        let untrusted = untrusted(text)?;
        serde_json::from_slice(untrusted.untrusted_payload()).map_err(malformed)
    }

    pub(crate) fn sign(&self, key: &AsymmetricSecretKey<V4>) -> Result<String, TokenError> {
        let signing = |error: &dyn std::fmt::Display| TokenError::Signing(error.to_string());
        let message = serde_json::to_vec(self).map_err(|error| signing(&error))?;
        let signed =
            PublicToken::sign(key, &message, None, Some(PURPOSE)).map_err(|error| signing(&error))?;
        Ok(format!("{PREFIX}{}", signed.strip_prefix(HEADER).unwrap_or(&signed)))
    }

    pub(crate) fn verify(text: &str, key: &AsymmetricPublicKey<V4>) -> Result<Self, TokenError> {
        let untrusted = untrusted(text)?;
        let trusted =
            PublicToken::verify(key, &untrusted, None, Some(PURPOSE)).map_err(|_| TokenError::Foreign)?;
        serde_json::from_str(trusted.payload()).map_err(malformed)
    }
}

fn untrusted(text: &str) -> Result<UntrustedToken<pasetors::Public, V4>, TokenError> {
    let text = text.trim();
    if text.len() > TOKEN_BYTES_MAX {
        return Err(malformed(format!("it has {} bytes", text.len())));
    }
    let body =
        text.strip_prefix(PREFIX).ok_or_else(|| malformed(format!("it does not begin with {PREFIX}")))?;
    let token = format!("{HEADER}{body}");
    UntrustedToken::try_from(&token).map_err(malformed)
}

fn malformed(problem: impl std::fmt::Display) -> TokenError {
    TokenError::Malformed(problem.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Authority;

    fn authority() -> (tempfile::TempDir, Authority) {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open(directory.path(), 1_800_000_000).unwrap();
        (directory, authority)
    }

    fn token(authority: &Authority) -> JoinToken {
        JoinToken::new(Role::Star, Some("alpha".parse().unwrap()), (10, 20), authority.certificate())
    }

    #[test]
    fn a_token_is_one_line_that_brings_the_authority() {
        let (_directory, authority) = authority();
        let text = authority.sign(&token(&authority)).unwrap();
        assert!(text.starts_with("orbit-join-") && !text.contains(char::is_whitespace), "{text}");
        let read = JoinToken::read(&format!("  {text}\n")).unwrap();
        assert_eq!(read.authority().unwrap(), *authority.certificate());
        assert_eq!(authority.verify(&text).unwrap(), read);
    }

    #[test]
    fn a_token_that_was_changed_or_is_of_another_grid_is_refused() {
        let ((_one, one), (_other, other)) = (authority(), authority());
        let text = one.sign(&token(&one)).unwrap();
        assert_eq!(other.verify(&text), Err(TokenError::Foreign));
        for at in (PREFIX.len()..text.len()).step_by(7) {
            let mut tampered = text.clone().into_bytes();
            tampered[at] = if tampered[at] == b'A' { b'B' } else { b'A' };
            assert!(one.verify(&String::from_utf8(tampered).unwrap()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn what_is_kept_of_a_token_is_none_and_becomes_the_same_again() {
        let (_directory, authority) = authority();
        let token = token(&authority);
        assert!(authority.verify(&token.unsigned()).is_err() && JoinToken::read(&token.unsigned()).is_err());
        assert_eq!(authority.sign_again(&token.unsigned()), authority.sign(&token));
        assert!(authority.sign_again("{}").is_err());
    }

    #[test]
    fn what_is_no_token_says_so() {
        let (_directory, authority) = authority();
        for text in ["", "orbit-join-", "v4.public.AAAA", &format!("{PREFIX}{}", "x".repeat(10_000))] {
            let error = authority.verify(text).unwrap_err();
            assert!(matches!(error, TokenError::Malformed(_)), "{text:.20}: {error}");
        }
    }
}
