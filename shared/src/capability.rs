//! The right of one Star to pull a tree from another one, signed by the coordinator: a PASETO `v4.public` token.
//!
//! A capability does not expire by wall clock, so the clocks of two machines need not agree. It ends when the key that
//! signed it is rotated out, minutes after it was signed: the coordinator sends every Star the valid keys, and a token
//! under any other key is refused.

use std::fmt;

use pasetors::keys::{AsymmetricKeyPair, AsymmetricPublicKey, AsymmetricSecretKey, Generate};
use pasetors::token::UntrustedToken;
use pasetors::version4::{PublicToken, V4};
use serde::{Deserialize, Serialize};

use crate::words::{JobId, SnapshotId, StarId};

/// Maximum length of a token that is read, in bytes: enough for a path of 4,096 bytes in hexadecimal and Base64.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// The implicit assertion of the signature, so that no other token under this key is accepted as a capability.
const PURPOSE: &[u8] = b"orbit.v1 pull";

/// Which Star may pull what from which Star.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// The job it was made for.
    pub job: JobId,
    /// The Star that serves it; every other Star refuses it.
    pub source_star: StarId,
    /// The tree that may be read, as bytes; hexadecimal inside the token.
    #[serde(with = "hexadecimal")]
    pub source_path: Vec<u8>,
    /// The Star that may pull.
    pub destination_star: StarId,
    /// The snapshot in the source Star's vault whose tree may be read; without it the tree is a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotId>,
    /// Whether chunks may be requested by their hashes, whatever tree they belong to. This is for a vault that is
    /// healed.
    #[serde(default)]
    pub is_for_chunks: bool,
    /// Maximum number of bytes per second for this job and destination, over all of its pulls; 0 for no limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub max_bytes_per_second: u64,
    /// Which files of the tree may be read; without it all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<ReadFilter>,
}

/// Maximum length of the filter in a grant, in bytes of its globs and paths.
pub const FILTER_BYTES_MAX: usize = 2048;

/// Which files of a tree may be read: those that the scan of the job lists, by the same globs and paths. Sizes and ages
/// are not included, since a file can change between the scan and the read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadFilter {
    /// Globs of what may be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Globs of what may not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Paths below the tree's base that may be read, with all below them; hexadecimal inside the token.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "hexadecimal_list")]
    pub paths: Vec<Vec<u8>>,
}

impl ReadFilter {
    /// Whether it excludes nothing.
    pub fn is_empty(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty() && self.paths.is_empty()
    }

    /// Total length of its globs, and of its paths in the token's form, in bytes.
    pub fn len(&self) -> usize {
        let globs: usize = self.include.iter().chain(&self.exclude).map(|glob| glob.len() + 3).sum();
        globs + self.paths.iter().map(|path| path.len() * 2 + 3).sum::<usize>()
    }
}

/// A job without a limit has no such field.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Why a capability could not be made or is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// The system's random source failed.
    #[error("no signing key could be made: the system's random source failed")]
    KeyGeneration,
    /// It could not be signed.
    #[error("the capability could not be signed: {0}")]
    Signing(String),
    /// It is not a token.
    #[error("the capability token is malformed: {0}")]
    Malformed(String),
    /// No valid key signed it.
    #[error(
        "the capability token was not signed by any of the {0} keys in force; it may be older than a key rotation"
    )]
    UnknownSigner(usize),
}

/// Signs capabilities. Held by the coordinator; Stars see only [`CapabilitySigner::verification_key`].
pub struct CapabilitySigner {
    pair: AsymmetricKeyPair<V4>,
}

impl fmt::Debug for CapabilitySigner {
    /// Never shows the secret key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CapabilitySigner").finish_non_exhaustive()
    }
}

impl CapabilitySigner {
    /// A signer with a fresh Ed25519 key.
    pub fn generate() -> Result<Self, CapabilityError> {
        let pair = AsymmetricKeyPair::<V4>::generate().map_err(|_| CapabilityError::KeyGeneration)?;
        Ok(Self { pair })
    }

    /// A signer with a stored key.
    ///
    /// # Errors
    /// It is no such key.
    pub fn from_secret(secret: &[u8]) -> Result<Self, CapabilityError> {
        let malformed = |error: pasetors::errors::Error| CapabilityError::Malformed(error.to_string());
        let secret = AsymmetricSecretKey::<V4>::from(secret).map_err(malformed)?;
        let public = AsymmetricPublicKey::<V4>::try_from(&secret).map_err(malformed)?;
        Ok(Self { pair: AsymmetricKeyPair { public, secret } })
    }

    /// The secret key, to be stored where only the owner can read it.
    pub fn secret(&self) -> Vec<u8> {
        self.pair.secret.as_bytes().to_vec()
    }

    /// The token for `capability`.
    pub fn sign(&self, capability: &Capability) -> Result<String, CapabilityError> {
        let message =
            serde_json::to_vec(capability).map_err(|error| CapabilityError::Signing(error.to_string()))?;
        PublicToken::sign(&self.pair.secret, &message, None, Some(PURPOSE))
            .map_err(|error| CapabilityError::Signing(error.to_string()))
    }

    /// The public key: the 32 bytes that [`verify`] takes.
    pub fn verification_key(&self) -> Vec<u8> {
        self.pair.public.as_bytes().to_vec()
    }
}

/// Reads a token that one of `keys` signed. The caller checks whether it fits the request.
pub fn verify(token: &str, keys: &[Vec<u8>]) -> Result<Capability, CapabilityError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(CapabilityError::Malformed(format!("it has {} bytes", token.len())));
    }
    let untrusted = UntrustedToken::<pasetors::Public, V4>::try_from(token)
        .map_err(|error| CapabilityError::Malformed(error.to_string()))?;
    let trusted = keys
        .iter()
        .filter_map(|key| AsymmetricPublicKey::<V4>::from(key).ok())
        .find_map(|key| PublicToken::verify(&key, &untrusted, None, Some(PURPOSE)).ok())
        .ok_or(CapabilityError::UnknownSigner(keys.len()))?;
    serde_json::from_str(trusted.payload()).map_err(|error| CapabilityError::Malformed(error.to_string()))
}

/// The source Star in a token, without verification. Only a Star that got the token from the coordinator may trust it.
pub fn source_of(token: &str) -> Option<StarId> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let untrusted = UntrustedToken::<pasetors::Public, V4>::try_from(token).ok()?;
    let capability: Capability = serde_json::from_slice(untrusted.untrusted_payload()).ok()?;
    Some(capability.source_star)
}

/// Several of them.
mod hexadecimal_list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Bytes(#[serde(with = "super::hexadecimal")] Vec<u8>);

    pub(super) fn serialize<S: Serializer>(list: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(list.iter().map(|bytes| Bytes(bytes.clone())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
        Ok(Vec::<Bytes>::deserialize(deserializer)?.into_iter().map(|Bytes(bytes)| bytes).collect())
    }
}

/// Bytes as hexadecimal text, since JSON has no byte strings.
mod hexadecimal {
    use std::fmt::Write as _;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if !text.is_ascii() || text.len() % 2 != 0 {
            return Err(D::Error::custom("bytes are written as pairs of hexadecimal digits"));
        }
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).map_err(D::Error::custom))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capability() -> Capability {
        Capability {
            job: JobId(7),
            source_star: StarId::new("star-1").unwrap(),
            source_path: b"/data/\xff photos".to_vec(),
            destination_star: StarId::new("star-2").unwrap(),
            snapshot: None,
            is_for_chunks: false,
            max_bytes_per_second: 0,
            filter: Some(ReadFilter {
                exclude: vec!["*.key".to_owned()],
                paths: vec![b"a\xff".to_vec()],
                ..ReadFilter::default()
            }),
        }
    }

    #[test]
    fn a_signed_capability_is_read_back_whole() {
        let signer = CapabilitySigner::generate().unwrap();
        let token = signer.sign(&capability()).unwrap();
        assert!(token.starts_with("v4.public."), "{token}");
        assert_eq!(verify(&token, &[signer.verification_key()]), Ok(capability()));
    }

    #[test]
    fn a_token_says_which_star_it_is_for() {
        let token = CapabilitySigner::generate().unwrap().sign(&capability()).unwrap();
        assert_eq!(source_of(&token), Some(capability().source_star));
        assert_eq!(source_of("no token"), None);
    }

    #[test]
    fn any_key_in_force_verifies_and_a_rotated_one_does_not() {
        let (old, new) = (CapabilitySigner::generate().unwrap(), CapabilitySigner::generate().unwrap());
        let token = old.sign(&capability()).unwrap();
        assert_eq!(verify(&token, &[new.verification_key(), old.verification_key()]), Ok(capability()));
        assert_eq!(verify(&token, &[new.verification_key()]), Err(CapabilityError::UnknownSigner(1)));
        assert_eq!(verify(&token, &[]), Err(CapabilityError::UnknownSigner(0)));
    }

    #[test]
    fn a_token_with_any_byte_changed_is_refused() {
        let signer = CapabilitySigner::generate().unwrap();
        let keys = [signer.verification_key()];
        let token = signer.sign(&capability()).unwrap();
        for at in 0..token.len() {
            let mut tampered = token.clone().into_bytes();
            tampered[at] = if tampered[at] == b'A' { b'B' } else { b'A' };
            assert!(verify(&String::from_utf8(tampered).unwrap(), &keys).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_capability_for_one_star_does_not_name_another() {
        let signer = CapabilitySigner::generate().unwrap();
        let read = verify(&signer.sign(&capability()).unwrap(), &[signer.verification_key()]).unwrap();
        assert_ne!(read.source_star, StarId::new("star-3").unwrap());
        assert_eq!(read.source_star, capability().source_star);
    }

    #[test]
    fn a_text_that_is_no_token_is_malformed_and_bad_keys_are_ignored() {
        let signer = CapabilitySigner::generate().unwrap();
        let keys = [vec![1, 2, 3], signer.verification_key()];
        for text in ["", "v4.public.", "v4.local.AAAA", "not a token", &"x".repeat(TOKEN_BYTES_MAX + 1)] {
            assert!(matches!(verify(text, &keys), Err(CapabilityError::Malformed(_))), "{text:.20}");
        }
        assert_eq!(verify(&signer.sign(&capability()).unwrap(), &keys), Ok(capability()));
    }
}
