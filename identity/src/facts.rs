//! The facts in a certificate of a grid, read back from it.

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::who::Identity;

/// The facts in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The identity of its holder.
    pub identity: Identity,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// Start of its validity, in seconds since 1970.
    pub not_before: i64,
    /// End of its validity, in seconds since 1970.
    pub not_after: i64,
}

/// Why a certificate names no member of a grid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate is none of a grid: {0}")]
pub struct NotOfAGrid(pub String);

impl Facts {
    /// Reads a certificate. Does not check who signed it.
    ///
    /// # Errors
    /// The certificate is damaged, or does not name exactly one identity.
    pub fn of(der: &[u8]) -> Result<Self, NotOfAGrid> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|error| NotOfAGrid(error.to_string()))?;
        if !rest.is_empty() {
            return Err(NotOfAGrid("something follows after its end".to_owned()));
        }
        let names = certificate.subject_alternative_name().map_err(|error| NotOfAGrid(error.to_string()))?;
        let mut uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(uri);
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return Err(NotOfAGrid("it does not name exactly one identity".to_owned()));
        };
        let identity = uri.parse().map_err(|error: crate::IdentityError| NotOfAGrid(error.to_string()))?;
        let validity = certificate.validity();
        Ok(Self {
            identity,
            serial: hexadecimal(certificate.raw_serial()),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// When it is to be renewed: after two thirds of its validity.
    pub fn renewal_at(&self) -> i64 {
        self.not_before + (self.not_after - self.not_before) / 3 * 2
    }
}

fn uri<'a>(name: &'a GeneralName<'_>) -> Option<&'a str> {
    match name {
        GeneralName::URI(uri) => Some(uri),
        _ => None,
    }
}

/// Bytes as text.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name of a public key, which is the same for the same key.
pub(crate) fn key_name(public_key: &[u8]) -> String {
    orbit_shared::chunk_hash::ChunkHash::of(public_key).to_string()
}
