//! Tokens of earlier versions: a PASETO `v4.public` that carries the authority's whole certificate. None are made any
//! more. They are read and verified until the last one has expired, at most 30 days after an update.

use pasetors::keys::AsymmetricPublicKey;
use pasetors::token::UntrustedToken;
use pasetors::version4::{PublicToken, V4};
use serde::{Deserialize, Serialize};

use super::{Invitation, JoinToken, PREFIX, TokenError, Trust, certificate_of, malformed};
use crate::who::{Identity, Name, Role};

/// The prefix that PASETO prescribes.
const HEADER: &str = "v4.public.";
/// The implicit assertion, which the signature covers as well.
pub(crate) const PURPOSE: &[u8] = b"orbit.v1 join";
const BYTES_MAX: usize = 8 * 1024;
/// Minimum length of such a token, in bytes. The signature alone is longer than a token of the current version.
const BYTES_MIN: usize = 128;

/// The content of such a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LongToken {
    id: String,
    role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<Name>,
    created_at_ms: i64,
    expires_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made_by: Option<Identity>,
    /// The authority's certificate, DER in Base64.
    authority: String,
}

impl LongToken {
    pub(super) fn invitation(self) -> Result<Invitation, TokenError> {
        let trust = Trust::Certificate(certificate_of(&self.authority)?);
        let has_name = self.name.is_some();
        Ok(Invitation { role: self.role, name: self.name, has_name, expires_at: self.expires_at, trust })
    }
}

impl From<LongToken> for JoinToken {
    fn from(token: LongToken) -> Self {
        let LongToken { id, role, name, created_at_ms, expires_at, made_by, authority: _ } = token;
        Self { id, role, name, created_at_ms, expires_at, made_by }
    }
}

/// Reads a token without checking it; `None` for one that cannot be of an earlier version.
pub(super) fn read(text: &str) -> Result<Option<LongToken>, TokenError> {
    let Some(untrusted) = untrusted(text)? else { return Ok(None) };
    serde_json::from_slice(untrusted.untrusted_payload()).map(Some).map_err(malformed)
}

/// Reads a token that this key signed; `None` for one that cannot be of an earlier version.
pub(crate) fn verify(text: &str, key: &AsymmetricPublicKey<V4>) -> Result<Option<JoinToken>, TokenError> {
    let Some(untrusted) = untrusted(text)? else { return Ok(None) };
    let trusted =
        PublicToken::verify(key, &untrusted, None, Some(PURPOSE)).map_err(|_| TokenError::Foreign)?;
    let token: LongToken = serde_json::from_str(trusted.payload()).map_err(malformed)?;
    Ok(Some(token.into()))
}

fn untrusted(text: &str) -> Result<Option<UntrustedToken<pasetors::Public, V4>>, TokenError> {
    let text = text.trim();
    if text.len() > BYTES_MAX {
        return Err(malformed(format!("it has {} bytes", text.len())));
    }
    let Some(body) = text.strip_prefix(PREFIX).filter(|body| body.len() >= BYTES_MIN) else {
        return Ok(None);
    };
    UntrustedToken::try_from(&format!("{HEADER}{body}")).map(Some).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use pasetors::keys::AsymmetricKeyPair;
    use pasetors::keys::Generate as _;

    use super::*;

    #[test]
    fn a_token_of_an_earlier_version_is_read_and_verified() {
        let keys = AsymmetricKeyPair::<V4>::generate().unwrap();
        let token = LongToken {
            id: "5a".repeat(16),
            role: Role::Star,
            name: Some("alpha".parse().unwrap()),
            created_at_ms: 10,
            expires_at: 20,
            made_by: None,
            authority: STANDARD.encode(b"a certificate"),
        };
        let message = serde_json::to_vec(&token).unwrap();
        let signed = PublicToken::sign(&keys.secret, &message, None, Some(PURPOSE)).unwrap();
        let line = format!("{PREFIX}{}", signed.strip_prefix(HEADER).unwrap());
        let invitation = Invitation::read(&line).unwrap();
        assert_eq!(invitation.trust, Trust::Certificate(b"a certificate".to_vec().into()));
        assert_eq!(invitation.name, token.name);
        assert_eq!(verify(&line, &keys.public).unwrap(), Some(token.into()));
        let other = AsymmetricKeyPair::<V4>::generate().unwrap();
        assert_eq!(verify(&line, &other.public), Err(TokenError::Foreign));
    }
}
