//! The authority of a grid: the key that signs its certificates, and the key that signs its tokens.
//!
//! Both are made once, in a directory that only their owner can read. A process that can read it can act as any member
//! of the grid. The certificate of the authority is written last: if it is missing, nothing was signed yet. Issued
//! certificates are recorded in the ledger, not here. Each open token is a file, so that one can be made while a
//! coordinator runs.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pasetors::keys::{AsymmetricKeyPair, AsymmetricPublicKey, AsymmetricSecretKey, Generate as _};
use pasetors::version4::V4;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use time::OffsetDateTime;

use crate::facts::{Facts, key_name};
use crate::files::{
    PUBLIC_FILE, make_private_directory, publish, publish_secret, read_if_there, read_secret_if_there,
};
use crate::token::{self, JoinToken, KeyHash, TokenError, TokenKey};
use crate::tokens::Tokens;
use crate::who::{Identity, Role};

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca-key.pem";
const TOKEN_KEY: &str = "token-key";
const LOCK: &str = "lock";
/// The ledger, beside the keys.
pub(crate) const LEDGER: &str = "ledger.jsonl";

const AUTHORITY_VALIDITY_SECONDS: i64 = 10 * 365 * 24 * 60 * 60;
/// Maximum number of seconds by which the validity of a certificate begins before it is issued, for slow clocks.
const CLOCK_SKEW_SECONDS: i64 = 300;
const SERIAL_BYTES: usize = 16;

/// Why the authority cannot be used. Its text is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The operating system reports an error.
    #[error("cannot {action} {}: {error}; the coordinator's user must own this directory", path.display())]
    Io {
        /// The operation that failed.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// A part of the authority is missing or cannot be read.
    #[error(
        "{}: {problem}; put the directory back from a backup, or remove it to begin a new authority, after which every Star \
         and operator must join again", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// A library reports an error.
    #[error("no certificate can be made: {0}")]
    Signing(String),
}

/// See the module.
pub struct Authority {
    directory: PathBuf,
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    key_hash: KeyHash,
    token_key: TokenKey,
    /// Verifies tokens of earlier versions.
    token_public: AsymmetricPublicKey<V4>,
    tokens: Tokens,
}

impl std::fmt::Debug for Authority {
    /// Never shows the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// A certificate and its facts.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    pub(crate) pem: String,
    pub(crate) facts: Facts,
    /// The name of its key.
    pub(crate) key: String,
}

/// A request for a certificate. Its signature was checked, so the sender has the key.
#[derive(Debug)]
pub(crate) struct Request {
    public_key: rcgen::PublicKey,
}

impl Request {
    /// Reads a request. Only its key is used; all other fields are ignored.
    pub(crate) fn read(pem: &str) -> Result<Self, String> {
        let request = CertificateSigningRequestParams::from_pem(pem).map_err(|error| error.to_string())?;
        Ok(Self { public_key: request.public_key })
    }

    /// The name of its key.
    pub(crate) fn key(&self) -> String {
        key_name(self.public_key.der_bytes())
    }
}

impl Authority {
    /// Opens the authority in a directory, and makes one if there is none.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub fn open(directory: &Path, now: i64) -> Result<Self, AuthorityError> {
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |error| AuthorityError::Io { action, path, error }
        };
        make_private_directory(directory).map_err(io("make", directory))?;
        // A token may be made while the coordinator starts for the first time; a second authority must not be made
        // then.
        let lock = directory.join(LOCK);
        let held = crate::files::open_private_log(&lock).map_err(io("open", &lock))?;
        File::lock(&held).map_err(io("lock", &lock))?;
        let certificate = directory.join(CERTIFICATE);
        let pem = match read_if_there(&certificate).map_err(io("read", &certificate))? {
            Some(pem) => pem,
            None if directory.join(LEDGER).exists() => {
                return Err(damaged(&certificate, "it is missing, and certificates were given out"));
            }
            None => create(directory, now)?,
        };
        let read = |name: &str| {
            let path = directory.join(name);
            let text = read_secret_if_there(&path).map_err(io("use", &path))?;
            text.map(|text| (path.clone(), text)).ok_or_else(|| damaged(&path, "it is missing"))
        };
        let (key_path, key) = read(KEY)?;
        let key = KeyPair::from_pem(&key).map_err(|error| damaged(&key_path, error))?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| damaged(&certificate, error))?
            .into_owned();
        let has_key = x509_parser::parse_x509_certificate(&der)
            .is_ok_and(|(_, parsed)| parsed.public_key().raw == key.subject_public_key_info());
        if !has_key {
            return Err(damaged(&key_path, "it is not the key of ca.pem beside it"));
        }
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|error| damaged(&certificate, error))?;
        let (token_path, token_key) = read(TOKEN_KEY)?;
        let token_key = STANDARD.decode(token_key.trim()).map_err(|error| damaged(&token_path, error))?;
        let token_secret =
            AsymmetricSecretKey::<V4>::from(&token_key).map_err(|error| damaged(&token_path, error))?;
        let token_public = AsymmetricPublicKey::<V4>::try_from(&token_secret)
            .map_err(|error| damaged(&token_path, error))?;
        let key_hash = token::key_hash(&der).ok_or_else(|| damaged(&certificate, "it cannot be read"))?;
        Ok(Self {
            directory: directory.to_owned(),
            certificate: der,
            pem,
            issuer,
            key_hash,
            token_key: TokenKey::new(&token_key),
            token_public,
            tokens: Tokens::of(directory),
        })
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The certificate of the authority, which a joining machine pins.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The certificate as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The line of a token. It admits one machine, once, while the token is kept.
    ///
    /// # Errors
    /// The token is not one that this program makes.
    pub fn line(&self, token: &JoinToken) -> Result<String, TokenError> {
        token.line(&self.token_key, &self.key_hash)
    }

    /// The line of a token that [`JoinToken::without_secret`] wrote. It is the same line as before, since the secret is
    /// derived from the number.
    ///
    /// # Errors
    /// The text is no such token.
    pub fn line_again(&self, kept: &str) -> Result<String, TokenError> {
        self.line(&JoinToken::of_text(kept)?)
    }

    /// What a line admits; `None` if its token has expired or was cancelled.
    ///
    /// # Errors
    /// It is not a token, or not one of this authority.
    pub fn token_of(&self, text: &str) -> Result<Option<JoinToken>, TokenError> {
        if let Some(token) = token::long::verify(text, &self.token_public)? {
            return Ok(Some(token));
        }
        if !token::is_genuine(text, &self.token_key)? {
            return Err(TokenError::Foreign);
        }
        let Some(token) = self.kept_token(&token::id_of(text)?)? else { return Ok(None) };
        if self.line(&token)? != text.trim() {
            return Err(TokenError::Foreign);
        }
        Ok(Some(token))
    }

    /// The token with a number, if it is kept.
    pub(crate) fn kept_token(&self, id: &str) -> Result<Option<JoinToken>, TokenError> {
        self.tokens.get(id).map_err(|error| TokenError::Files(error.to_string()))
    }

    /// The tokens that are kept, including used ones.
    pub(crate) fn kept_tokens(&self) -> Result<Vec<JoinToken>, TokenError> {
        self.tokens.all().map_err(|error| TokenError::Files(error.to_string()))
    }

    /// Keeps a token, so that its line is accepted.
    pub(crate) fn keep_token(&self, token: &JoinToken) -> Result<(), TokenError> {
        let now = token.created_at_ms / 1000;
        self.tokens.keep(token, now).map_err(|error| TokenError::Files(error.to_string()))
    }

    /// Cancels a token. Returns whether it was kept.
    pub(crate) fn remove_token(&self, id: &str) -> Result<bool, TokenError> {
        self.tokens.remove(id).map_err(|error| TokenError::Files(error.to_string()))
    }

    /// Signs a certificate for the key of a request.
    pub(crate) fn issue(
        &self,
        identity: &Identity,
        request: &Request,
        validity: Duration,
        now: i64,
    ) -> Result<Issued, AuthorityError> {
        self.certify(identity, &request.public_key, &[], validity, now)
    }

    /// A certificate of the coordinator itself. Its key exists in memory only.
    pub(crate) fn issue_own(
        &self,
        identity: &Identity,
        hosts: &[String],
        validity: Duration,
        now: i64,
    ) -> Result<(Issued, KeyPair), AuthorityError> {
        let key = KeyPair::generate().map_err(refused)?;
        Ok((self.certify(identity, &key, hosts, validity, now)?, key))
    }

    fn certify(
        &self,
        identity: &Identity,
        public_key: &impl PublicKeyData,
        hosts: &[String],
        validity: Duration,
        now: i64,
    ) -> Result<Issued, AuthorityError> {
        let mut params = CertificateParams::new(hosts).map_err(refused)?;
        let uri = identity.uri().try_into().map_err(refused)?;
        params.subject_alt_names.push(SanType::URI(uri));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, identity.role.as_str());
        params.distinguished_name.push(DnType::CommonName, identity.name.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match identity.role {
            Role::Coordinator => vec![ExtendedKeyUsagePurpose::ServerAuth],
            // A Star is also a server for other Stars.
            Role::Star => vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth],
            Role::Operator | Role::Viewer => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial());
        let seconds = i64::try_from(validity.as_secs()).unwrap_or(i64::MAX).min(AUTHORITY_VALIDITY_SECONDS);
        params.not_before = instant(now - CLOCK_SKEW_SECONDS.min(seconds / 10))?;
        params.not_after = instant(now.saturating_add(seconds))?;
        let certificate = params.signed_by(public_key, &self.issuer).map_err(refused)?;
        let facts = Facts::of(certificate.der()).map_err(refused)?;
        Ok(Issued { pem: certificate.pem(), facts, key: key_name(public_key.der_bytes()) })
    }
}

/// Makes both keys and then the certificate.
fn create(directory: &Path, now: i64) -> Result<String, AuthorityError> {
    let key = KeyPair::generate().map_err(refused)?;
    let certificate = root(&key, now)?;
    let tokens = AsymmetricKeyPair::<V4>::generate().map_err(refused)?;
    let token_key = format!("{}\n", STANDARD.encode(tokens.secret.as_bytes()));
    let pem = certificate.pem();
    publish_secret(directory, KEY, key.serialize_pem().as_bytes())
        .and_then(|()| publish_secret(directory, TOKEN_KEY, token_key.as_bytes()))
        .and_then(|()| publish(directory, CERTIFICATE, pem.as_bytes(), PUBLIC_FILE))
        .map_err(|error| AuthorityError::Io { action: "write in", path: directory.to_owned(), error })?;
    Ok(pem)
}

fn root(key: &KeyPair, now: i64) -> Result<Certificate, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Orbit Grid authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial());
    params.not_before = instant(now - CLOCK_SKEW_SECONDS)?;
    params.not_after = instant(now + AUTHORITY_VALIDITY_SECONDS)?;
    params.self_signed(key).map_err(refused)
}

/// A random serial number. It is positive and always has the full length, so its text form is unique.
fn serial() -> SerialNumber {
    let mut bytes: [u8; SERIAL_BYTES] = rand::random();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn instant(seconds: i64) -> Result<OffsetDateTime, AuthorityError> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(refused)
}

fn refused(error: impl std::fmt::Display) -> AuthorityError {
    AuthorityError::Signing(error.to_string())
}

fn damaged(path: &Path, problem: impl std::fmt::Display) -> AuthorityError {
    AuthorityError::Damaged { path: path.to_owned(), problem: problem.to_string() }
}

/// The names and addresses in a coordinator's certificate if the settings give none.
pub(crate) fn default_hosts(listen: Option<IpAddr>, host_name: Option<&str>) -> Vec<String> {
    let mut hosts: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    if let Some(listen) = listen.filter(|listen| !listen.is_unspecified()) {
        hosts.push(listen.to_string());
    }
    hosts.extend(host_name.filter(|name| !name.is_empty()).map(str::to_owned));
    hosts.sort();
    hosts.dedup();
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn an_authority_is_made_once_and_only_its_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("identity");
        let first = Authority::open(&place, NOW).unwrap();
        let second = Authority::open(&place, NOW + 5).unwrap();
        assert_eq!(first.pem(), second.pem());
        for secret in [KEY, TOKEN_KEY] {
            let mode = std::fs::metadata(place.join(secret)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{secret}");
        }
    }

    #[test]
    fn no_new_authority_is_made_when_a_part_is_missing() {
        for gone in [KEY, TOKEN_KEY] {
            let directory = tempfile::tempdir().unwrap();
            Authority::open(directory.path(), NOW).unwrap();
            std::fs::remove_file(directory.path().join(gone)).unwrap();
            let text = Authority::open(directory.path(), NOW).unwrap_err().to_string();
            assert!(text.contains(gone) && text.contains("backup"), "{text}");
        }
        let directory = tempfile::tempdir().unwrap();
        Authority::open(directory.path(), NOW).unwrap();
        std::fs::write(directory.path().join(LEDGER), "").unwrap();
        std::fs::remove_file(directory.path().join(CERTIFICATE)).unwrap();
        assert!(matches!(Authority::open(directory.path(), NOW), Err(AuthorityError::Damaged { .. })));
    }

    #[test]
    fn a_key_of_another_authority_is_noticed() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Authority::open(one.path(), NOW).unwrap();
        Authority::open(other.path(), NOW).unwrap();
        std::fs::copy(one.path().join(KEY), other.path().join(KEY)).unwrap();
        let error = Authority::open(other.path(), NOW).unwrap_err();
        assert!(matches!(error, AuthorityError::Damaged { .. }), "{error}");
    }

    #[test]
    fn a_certificate_names_its_owner_whatever_its_request_asks_for() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open(directory.path(), NOW).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut wish = CertificateParams::new(vec!["evil.example.com".to_owned()]).unwrap();
        wish.subject_alt_names.push(SanType::URI("orbit://operator/me".try_into().unwrap()));
        wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let request = Request::read(&wish.serialize_request(&key).unwrap().pem().unwrap()).unwrap();
        let identity = Identity::new(Role::Star, "Alpha_1.x".parse().unwrap());
        let issued = authority.issue(&identity, &request, Duration::from_secs(3000), NOW).unwrap();
        assert_eq!(issued.facts.identity, identity);
        assert_eq!((issued.facts.not_before, issued.facts.not_after), (NOW - 300, NOW + 3000));
        assert_eq!(issued.facts.renewal_at(), NOW - 300 + 2200);
        let der = CertificateDer::from_pem_slice(issued.pem.as_bytes()).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert!(!parsed.is_ca());
        assert_eq!(parsed.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
    }

    #[test]
    fn a_request_that_was_changed_is_refused() {
        let key = KeyPair::generate().unwrap();
        let pem = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        assert!(Request::read(&pem).is_ok());
        let middle = pem.len() / 2;
        let changed = if &pem[middle..=middle] == "A" { "B" } else { "A" };
        let mut tampered = pem;
        tampered.replace_range(middle..=middle, changed);
        assert!(Request::read(&tampered).is_err());
        assert!(Request::read("no request").is_err());
    }
}
