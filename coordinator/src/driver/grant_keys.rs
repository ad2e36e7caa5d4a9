//! The keys that sign what one Star may read from another.
//!
//! A grant has no time of its own, since no two clocks agree: it ends when its key does. The key is replaced every five minutes, and
//! the one before it counts for five more; what is live gets new grants each time. At a revocation, and when an operator asks for it, the key is
//! replaced and none before it counts. The key is kept in the data directory, so that a coordinator that starts again ends no pull.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use orbit_shared::capability::{Capability, CapabilityError, CapabilitySigner};
use orbit_shared::time::Monotonic;

/// How long one key signs.
const KEY_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// The file in the data directory.
const KEY_FILE: &str = "grant-key";

/// See the module.
pub(crate) struct GrantKeys {
    signer: CapabilitySigner,
    /// Where the key is kept.
    path: PathBuf,
    /// The key before, as Stars know it.
    previous: Option<Vec<u8>>,
    since: Monotonic,
}

impl GrantKeys {
    /// The key that is kept in a data directory, made if there is none that can be read.
    ///
    /// # Errors
    /// No key can be made.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, CapabilityError> {
        let path = data_dir.join(KEY_FILE);
        let kept = fs::read(&path).ok().and_then(|secret| CapabilitySigner::from_secret(&secret).ok());
        let is_kept = kept.is_some();
        let signer = kept.map_or_else(CapabilitySigner::generate, Ok)?;
        let keys = Self { signer, path, previous: None, since: Monotonic::default() };
        if !is_kept {
            keys.keep();
        }
        Ok(keys)
    }

    /// Keeps the key. One that cannot be kept ends with this process, and so must the one before it.
    fn keep(&self) {
        if let Err(error) = self.write() {
            tracing::warn!(path = %self.path.display(), %error, "the key that signs grants cannot be kept");
            let _ = fs::remove_file(&self.path);
        }
    }

    fn write(&self) -> io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        // One that was left keeps the permissions that it was made with.
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(&self.signer.secret())?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)
    }

    pub(super) fn sign(&self, capability: &Capability) -> Result<String, CapabilityError> {
        self.signer.sign(capability)
    }

    /// The keys by which grants count.
    pub(super) fn in_force(&self) -> Vec<Vec<u8>> {
        std::iter::once(self.signer.verification_key()).chain(self.previous.clone()).collect()
    }

    /// Replaces the key when it has signed for long enough. Returns whether it did.
    pub(super) fn turn_if_due(&mut self, now: Monotonic) -> bool {
        if now.since(self.since) < KEY_LIFETIME {
            return false;
        }
        let before = self.signer.verification_key();
        let is_turned = self.renew(now);
        if is_turned {
            self.previous = Some(before);
        }
        is_turned
    }

    /// Replaces the key at once; no grant that was given before counts any more.
    pub(super) fn replace(&mut self, now: Monotonic) {
        if self.renew(now) {
            self.previous = None;
        }
    }

    fn renew(&mut self, now: Monotonic) -> bool {
        match CapabilitySigner::generate() {
            Ok(signer) => {
                self.signer = signer;
                self.since = now;
                self.keep();
                true
            }
            Err(error) => {
                tracing::error!(%error, "the key that signs grants cannot be replaced");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use orbit_shared::capability::verify;
    use orbit_shared::words::{JobId, StarId};

    use super::*;

    fn capability() -> Capability {
        Capability {
            job: JobId(1),
            source_star: StarId::new("star-1").unwrap(),
            source_path: b"/data".to_vec(),
            destination_star: StarId::new("star-2").unwrap(),
            snapshot: None,
            is_for_chunks: false,
            max_bytes_per_second: 0,
            filter: None,
        }
    }

    #[test]
    fn a_grant_outlives_one_turn_of_the_key_by_time_and_none_at_a_revocation() {
        let directory = tempfile::tempdir().unwrap();
        let start = Monotonic::default();
        let mut keys = GrantKeys::open(directory.path()).unwrap();
        let grant = keys.sign(&capability()).unwrap();
        let counts = |keys: &GrantKeys, grant: &str| verify(grant, &keys.in_force()).is_ok();
        assert!(!keys.turn_if_due(start + KEY_LIFETIME / 2) && counts(&keys, &grant));
        assert!(keys.turn_if_due(start + KEY_LIFETIME) && counts(&keys, &grant));
        let second = keys.sign(&capability()).unwrap();
        assert!(keys.turn_if_due(start + KEY_LIFETIME * 2));
        assert!(!counts(&keys, &grant) && counts(&keys, &second));
        let third = keys.sign(&capability()).unwrap();
        keys.replace(start + KEY_LIFETIME * 2);
        assert!(!counts(&keys, &second) && !counts(&keys, &third));
        let fourth = keys.sign(&capability()).unwrap();
        assert!(counts(&keys, &fourth));
        let again = GrantKeys::open(directory.path()).unwrap();
        assert!(counts(&again, &fourth) && !counts(&again, &third), "it is kept for the next start");
    }
}
