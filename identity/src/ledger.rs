//! The record of the authority: certificates that were issued, tokens that were used, and identities that were revoked.
//! Each line is one JSON object. It is written and synced before it takes effect.
//!
//! A last line that a kill cut short never took effect, and is cut off. Any other line that cannot be read is damage
//! and an error: if it were a revocation, skipping it would admit a revoked identity.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use serde::{Deserialize, Serialize};

use crate::facts::Facts;
use crate::files::open_private_log;
use crate::who::Identity;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry {
    /// A certificate was signed.
    Issued {
        serial: String,
        #[serde(flatten)]
        identity: Identity,
        /// The name of its key.
        key: String,
        issued_at: i64,
        not_after: i64,
    },
    /// A token was used by the holder of this key, who got this identity. Lines of earlier versions have no identity.
    TokenUsed {
        id: String,
        key: String,
        expires_at: i64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        spent_by: Option<Identity>,
    },
    /// All that was issued to an identity until now is invalid.
    Revoked {
        #[serde(flatten)]
        identity: Identity,
        at_ms: i64,
    },
}

/// Why the ledger cannot be used. Its text is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The operating system reports an error.
    #[error("cannot {action} {}: {error}; the coordinator's user must own this file, and the disk must have room", path.display())]
    Io {
        /// The operation that failed.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// A line cannot be read.
    #[error(
        "{} line {line}: {problem}; put the file back from a backup, and revoke again whom you revoked since, because \
         what stands in it keeps them out", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// The problem.
        problem: String,
    },
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) serial: String,
    pub(crate) key: String,
    pub(crate) issued_at: i64,
    pub(crate) not_after: i64,
    pub(crate) is_revoked: bool,
}

/// The use of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spent {
    /// The name of the key.
    pub(crate) key: String,
    /// The identity that its holder got.
    pub(crate) identity: Option<Identity>,
}

/// The state that the lines describe.
#[derive(Debug, Default)]
pub(crate) struct Book {
    certificates: BTreeMap<Identity, Vec<Certificate>>,
    tokens: BTreeMap<String, Spent>,
    revoked_serials: BTreeSet<String>,
    revoked_at_ms: BTreeMap<Identity, i64>,
}

impl Book {
    fn enter(&mut self, entry: &Entry) {
        match entry {
            Entry::Issued { serial, identity, key, issued_at, not_after } => {
                let certificate = Certificate {
                    serial: serial.clone(),
                    key: key.clone(),
                    issued_at: *issued_at,
                    not_after: *not_after,
                    is_revoked: false,
                };
                self.certificates.entry(identity.clone()).or_default().push(certificate);
            }
            Entry::TokenUsed { id, key, spent_by, .. } => {
                let spent = Spent { key: key.clone(), identity: spent_by.clone() };
                self.tokens.insert(id.clone(), spent);
            }
            Entry::Revoked { identity, at_ms } => {
                self.revoked_at_ms.insert(identity.clone(), *at_ms);
                for certificate in self.certificates.get_mut(identity).into_iter().flatten() {
                    certificate.is_revoked = true;
                    self.revoked_serials.insert(certificate.serial.clone());
                }
            }
        }
    }

    /// Every identity that ever had a certificate, with all of its certificates.
    pub(crate) fn everybody(&self) -> impl Iterator<Item = (&Identity, &[Certificate])> {
        self.certificates.iter().map(|(identity, certificates)| (identity, &certificates[..]))
    }

    /// The certificates of an identity.
    pub(crate) fn of(&self, identity: &Identity) -> &[Certificate] {
        self.certificates.get(identity).map_or(&[], |certificates| certificates)
    }

    /// The use of a token, if it was used.
    pub(crate) fn user_of(&self, token: &str) -> Option<&Spent> {
        self.tokens.get(token)
    }

    /// Whether exactly this certificate was issued to its identity.
    pub(crate) fn is_known(&self, facts: &Facts) -> bool {
        self.of(&facts.identity).iter().any(|certificate| certificate.serial == facts.serial)
    }

    /// Whether a used token admits the same holder again: the same key for the same identity.
    pub(crate) fn is_spent_by(&self, spent: &Spent, identity: &Identity, key: &str) -> bool {
        if spent.key != key {
            return false;
        }
        match &spent.identity {
            Some(spender) => spender == identity,
            // An earlier version did not record the identity. Then no other identity may have the key.
            None => self.everybody().all(|(other, all)| {
                other == identity || all.iter().all(|certificate| certificate.key != key)
            }),
        }
    }

    /// When an identity was last revoked, in milliseconds since 1970.
    pub(crate) fn revoked_at_ms(&self, identity: &Identity) -> Option<i64> {
        self.revoked_at_ms.get(identity).copied()
    }

    /// Whether a certificate was revoked. One that the ledger does not have, because it is older than the ledger, is
    /// judged by its time.
    pub(crate) fn is_revoked(&self, facts: &Facts) -> bool {
        if self.of(&facts.identity).iter().any(|certificate| certificate.serial == facts.serial) {
            return self.revoked_serials.contains(&facts.serial);
        }
        self.revoked_at_ms(&facts.identity).is_some_and(|at| facts.not_before.saturating_mul(1000) <= at)
    }
}

/// The book, which can be read while the ledger waits for the disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shelf(Arc<RwLock<Book>>);

impl Shelf {
    /// The current state.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Book> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, entries: &[Entry]) {
        let mut book = self.0.write().unwrap_or_else(PoisonError::into_inner);
        entries.iter().for_each(|entry| book.enter(entry));
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    file: File,
    book: Shelf,
    /// Length of the complete lines, in bytes. What a failed write left after them is cut off before the next write.
    length: u64,
}

impl Ledger {
    /// Opens a ledger. It is empty if there is no file.
    pub(crate) fn open(path: &Path) -> Result<Self, LedgerError> {
        let io = |action| move |error| LedgerError::Io { action, path: path.to_owned(), error };
        let is_new = !path.exists();
        let mut file = open_private_log(path).map_err(io("open"))?;
        if is_new {
            let parent = path.parent().unwrap_or(path);
            File::open(parent)
                .and_then(|directory| directory.sync_all())
                .map_err(io("sync the directory of"))?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io("read"))?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        let book = Shelf::default();
        for (index, line) in bytes[..whole].split_inclusive(|&byte| byte == b'\n').enumerate() {
            let entry = serde_json::from_slice(line).map_err(|error| LedgerError::Damaged {
                path: path.to_owned(),
                line: index + 1,
                problem: error.to_string(),
            })?;
            book.enter(&[entry]);
        }
        let length = whole as u64;
        let ledger = Self { path: path.to_owned(), file, book, length };
        if whole < bytes.len() {
            tracing::warn!("{}: the last line was cut short by a kill and is removed", path.display());
            ledger.cut().map_err(io("shorten"))?;
        }
        Ok(ledger)
    }

    fn cut(&self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.file.sync_data()
    }

    /// Appends entries, all or none. They take effect when this returns.
    pub(crate) fn write(&mut self, entries: &[Entry]) -> Result<(), LedgerError> {
        let mut lines = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut lines, entry).map_err(|error| self.failed(error.into()))?;
            lines.push(b'\n');
        }
        let written = self.append(&lines);
        if let Err(error) = written {
            // Half a line in the middle would be damage. If it cannot be cut off now, it is cut off before the next
            // write.
            let _ = self.cut();
            return Err(self.failed(error));
        }
        self.length += lines.len() as u64;
        self.book.enter(entries);
        Ok(())
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.file.seek(io::SeekFrom::End(0))? != self.length {
            self.file.set_len(self.length)?;
        }
        self.file.write_all(lines)?;
        self.file.sync_data()
    }

    fn failed(&self, error: io::Error) -> LedgerError {
        LedgerError::Io { action: "write to", path: self.path.clone(), error }
    }

    /// The state, which follows later entries.
    pub(crate) fn book(&self) -> &Shelf {
        &self.book
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::who::Role;

    fn alpha() -> Identity {
        Identity::new(Role::Star, "alpha".parse().unwrap())
    }

    fn issued(serial: &str) -> Entry {
        let (serial, key) = (serial.to_owned(), "k".to_owned());
        Entry::Issued { serial, identity: alpha(), key, issued_at: 10, not_after: 100 }
    }

    fn facts(serial: &str, not_before: i64) -> Facts {
        Facts { identity: alpha(), serial: serial.to_owned(), not_before, not_after: 100 }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.jsonl");
        let mut ledger = Ledger::open(&path).unwrap();
        let used = Entry::TokenUsed {
            id: "t".to_owned(),
            key: "k".to_owned(),
            expires_at: 50,
            spent_by: Some(alpha()),
        };
        ledger.write(&[used, issued("01")]).unwrap();
        ledger.write(&[Entry::Revoked { identity: alpha(), at_ms: 20_000 }, issued("02")]).unwrap();
        drop(ledger);
        let ledger = Ledger::open(&path).unwrap();
        let book = ledger.book().read();
        let spent = book.user_of("t").unwrap();
        assert_eq!((spent.key.as_str(), &spent.identity), ("k", &Some(alpha())));
        assert_eq!(book.user_of("u"), None);
        assert!(book.is_revoked(&facts("01", 10)) && !book.is_revoked(&facts("02", 10)));
        assert!(book.is_known(&facts("01", 10)) && !book.is_known(&facts("03", 21)));
        // The ledger does not have these.
        assert!(book.is_revoked(&facts("03", 19)) && !book.is_revoked(&facts("03", 21)));
    }

    #[test]
    fn a_line_that_was_cut_short_never_counted_and_the_next_one_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.jsonl");
        Ledger::open(&path).unwrap().write(&[issued("01"), issued("02")]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let second = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        for length in second..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let mut ledger = Ledger::open(&path).unwrap();
            assert_eq!(ledger.book().read().of(&alpha()).len(), 1, "{length}");
            ledger.write(&[issued("03")]).unwrap();
            drop(ledger);
            assert_eq!(Ledger::open(&path).unwrap().book().read().of(&alpha()).len(), 2, "{length}");
        }
    }

    #[test]
    fn any_other_damage_is_an_error_that_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.jsonl");
        Ledger::open(&path).unwrap().write(&[issued("01"), issued("02")]).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[3] = b'?';
        std::fs::write(&path, bytes).unwrap();
        let text = Ledger::open(&path).unwrap_err().to_string();
        assert!(text.contains("line 1") && text.contains("backup"), "{text}");
    }

    #[test]
    fn a_line_of_an_earlier_version_says_who_spent_a_token_by_its_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.jsonl");
        let line = "{\"token_used\":{\"id\":\"t\",\"key\":\"k\",\"expires_at\":50}}\n";
        std::fs::write(&path, line).unwrap();
        let mut ledger = Ledger::open(&path).unwrap();
        ledger.write(&[issued("01")]).unwrap();
        let book = ledger.book().read();
        let spent = book.user_of("t").unwrap();
        let beta = Identity::new(Role::Star, "beta".parse().unwrap());
        assert!(book.is_spent_by(spent, &alpha(), "k"));
        assert!(!book.is_spent_by(spent, &beta, "k"), "its key is that of alpha");
        assert!(!book.is_spent_by(spent, &alpha(), "other"));
    }
}
