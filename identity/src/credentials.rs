//! What a member that has joined keeps: a key that never leaves this directory, a certificate for it, and the
//! certificate of the authority, the only one that it trusts.
//!
//! The key is written first and the certificate last. A join that was interrupted goes on with the same key, for which
//! its token is still accepted. A renewal replaces the certificate only.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::dial::Dialing;
use crate::facts::Facts;
use crate::files::{
    PUBLIC_FILE, make_private_directory, publish, publish_secret, read_if_there, read_secret_if_there,
};
use crate::tls::{self, Clients, Presented, TlsError};

pub(crate) const AUTHORITY: &str = "ca.pem";
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// Why an identity cannot be used. Its text is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The operating system reports an error.
    #[error("cannot {action} {}: {error}; this user must own the directory", path.display())]
    Io {
        /// The operation that failed.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// A file cannot be read.
    #[error("{}: {problem}; remove its directory and join again with a new join token", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// TLS cannot be set up with it.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A key that has no certificate yet.
#[derive(Debug)]
pub struct NewKey {
    directory: PathBuf,
    key: KeyPair,
}

impl NewKey {
    /// Opens the key in a directory, and makes one if there is none.
    ///
    /// # Errors
    /// See [`CredentialsError`].
    pub fn prepare(directory: &Path) -> Result<Self, CredentialsError> {
        let path = directory.join(KEY);
        make_private_directory(directory).map_err(failed("make", directory))?;
        let key = match read_secret_if_there(&path).map_err(failed("read", &path))? {
            Some(pem) => KeyPair::from_pem(&pem).map_err(|error| damaged(&path, error))?,
            None => {
                let key = KeyPair::generate().map_err(|error| damaged(&path, error))?;
                publish_secret(directory, KEY, key.serialize_pem().as_bytes())
                    .map_err(failed("write", &path))?;
                key
            }
        };
        Ok(Self { directory: directory.to_owned(), key })
    }

    /// A request for a certificate, as PEM.
    ///
    /// # Errors
    /// A library reports an error.
    pub fn request(&self) -> Result<String, CredentialsError> {
        request(&self.key, &self.directory)
    }

    /// Stores the certificate, and the authority that is trusted from now on.
    ///
    /// # Errors
    /// The certificate is not for this key, or cannot be written.
    pub fn complete(
        self,
        certificate: &str,
        authority: &CertificateDer<'_>,
    ) -> Result<Credentials, CredentialsError> {
        let path = self.directory.join(CERTIFICATE);
        Presented::new(certificate, &self.key.serialize_pem()).map_err(|error| damaged(&path, error))?;
        let encoded = authority_pem(authority);
        publish(&self.directory, AUTHORITY, encoded.as_bytes(), PUBLIC_FILE)
            .and_then(|()| publish(&self.directory, CERTIFICATE, certificate.as_bytes(), PUBLIC_FILE))
            .map_err(failed("write in", &self.directory))?;
        let there = Credentials::load(&self.directory)?;
        there.ok_or_else(|| damaged(&path, "it is not there although it was written"))
    }
}

/// See the module.
pub struct Credentials {
    directory: PathBuf,
    authority: CertificateDer<'static>,
    key: KeyPair,
    facts: RwLock<Facts>,
    presented: Arc<Presented>,
}

impl std::fmt::Debug for Credentials {
    /// Never shows the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("directory", &self.directory)
            .field("facts", &self.facts())
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Loads the credentials in a directory; `None` if no member has joined there.
    ///
    /// # Errors
    /// See [`CredentialsError`].
    pub fn load(directory: &Path) -> Result<Option<Self>, CredentialsError> {
        let path = directory.join(CERTIFICATE);
        let Some(certificate) = read_if_there(&path).map_err(failed("read", &path))? else {
            return Ok(None);
        };
        let read = |name: &str| {
            let path = directory.join(name);
            let read = if name == KEY { read_secret_if_there } else { read_if_there };
            let text = read(&path).map_err(failed("use", &path))?;
            text.ok_or_else(|| damaged(&path, "it is missing"))
        };
        let (key, authority) = (read(KEY)?, read(AUTHORITY)?);
        let facts = read_facts(&certificate).map_err(|problem| damaged(&path, problem))?;
        let presented = Presented::new(&certificate, &key).map_err(|error| damaged(&path, error))?;
        let authority = CertificateDer::from_pem_slice(authority.as_bytes())
            .map_err(|error| damaged(&directory.join(AUTHORITY), error))?;
        let key = KeyPair::from_pem(&key).map_err(|error| damaged(&directory.join(KEY), error))?;
        Ok(Some(Self {
            directory: directory.to_owned(),
            authority,
            key,
            facts: RwLock::new(facts),
            presented: Arc::new(presented),
        }))
    }

    /// The directory of the credentials.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The facts of the current certificate.
    pub fn facts(&self) -> Facts {
        self.facts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connects with the certificate.
    pub fn dialing(&self) -> Dialing {
        Dialing::presenting(self.authority.clone(), Arc::clone(&self.presented))
    }

    /// Connects to the same grid without a certificate.
    pub fn dialing_as_nobody(&self) -> Dialing {
        Dialing::as_nobody(self.authority.clone())
    }

    /// Serves members of the same grid, with the certificate.
    ///
    /// # Errors
    /// The authority's certificate is damaged.
    pub fn server(&self) -> Result<Arc<ServerConfig>, TlsError> {
        tls::server(Arc::clone(&self.presented), &self.authority, Clients::Must)
    }

    /// A request for a new certificate for the same key, as PEM.
    ///
    /// # Errors
    /// A library reports an error.
    pub fn request(&self) -> Result<String, CredentialsError> {
        request(&self.key, &self.directory)
    }

    /// Stores a new certificate. Connections that are made from now on present it.
    ///
    /// # Errors
    /// The certificate is for another key or another identity, or cannot be written.
    pub fn take(&self, certificate: &str) -> Result<(), CredentialsError> {
        let path = self.directory.join(CERTIFICATE);
        let facts = read_facts(certificate).map_err(|problem| damaged(&path, problem))?;
        if facts.identity != self.facts().identity {
            return Err(damaged(&path, format!("the new certificate is that of {}", facts.identity)));
        }
        let presented =
            Presented::new(certificate, &self.key.serialize_pem()).map_err(|error| damaged(&path, error))?;
        publish(&self.directory, CERTIFICATE, certificate.as_bytes(), PUBLIC_FILE)
            .map_err(failed("write", &path))?;
        self.presented.present(&presented);
        *self.facts.write().unwrap_or_else(PoisonError::into_inner) = facts;
        Ok(())
    }
}

impl Dialing {
    /// Connects to the grid whose authority is in a directory: with the certificate if there is a valid one, otherwise
    /// without. `None` if there is no authority.
    ///
    /// # Errors
    /// The files in the directory are damaged.
    pub fn of_directory(directory: &Path, now: i64) -> Result<Option<Self>, CredentialsError> {
        if let Some(held) = Credentials::load(directory)? {
            let is_valid = held.facts().not_after > now;
            return Ok(Some(if is_valid { held.dialing() } else { held.dialing_as_nobody() }));
        }
        let path = directory.join(AUTHORITY);
        let Some(pem) = read_if_there(&path).map_err(failed("read", &path))? else { return Ok(None) };
        let authority =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| damaged(&path, error))?;
        Ok(Some(Self::as_nobody(authority)))
    }
}

fn read_facts(certificate: &str) -> Result<Facts, String> {
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|error| error.to_string())?;
    Facts::of(&der).map_err(|error| error.to_string())
}

fn request(key: &KeyPair, directory: &Path) -> Result<String, CredentialsError> {
    let made = CertificateParams::default().serialize_request(key).and_then(|request| request.pem());
    made.map_err(|error| damaged(&directory.join(KEY), error))
}

/// A certificate as PEM, with the line length that other programs expect.
fn authority_pem(der: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        (0..text.len()).step_by(64).filter_map(|at| text.get(at..text.len().min(at + 64))).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CredentialsError {
    let path = path.to_owned();
    move |error| CredentialsError::Io { action, path, error }
}

fn damaged(path: &Path, problem: impl std::fmt::Display) -> CredentialsError {
    CredentialsError::Damaged { path: path.to_owned(), problem: problem.to_string() }
}
