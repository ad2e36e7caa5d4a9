//! The vault directory: the identity of a Star, a lock that admits one process, and a journal of its work.
//!
//! `identity` is made at the first start. `grid` names the grid whose coordinator accepted the Star. `lock` is held for
//! as long as the process lives. `assignments/` is a journal: one file for each assignment that writes files, from
//! before its work begins until all its outcomes are safe, so that a start after a kill knows where partly written
//! files are. `checkpoints/` has the progress of large files. `packed/` is the [packed store](crate::packed).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use orbit_program::private_files::{mark, tighten};
use orbit_shared::session::Assignment;
use orbit_shared::words::AssignmentId;
use uuid::Uuid;

use crate::checkpoints::Checkpoints;
use crate::tls::CREDENTIALS_DIRECTORY;

/// Why a vault cannot be used. Its text is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Another process has it.
    #[error(
        "--vault {}: another process uses this vault; stop it, or give this Star a vault of its own",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// Its identity is damaged.
    #[error(
        "--vault {}: the file {} does not hold a UUID; restore it from a backup, or remove it to make this a new Star",
        path.display(),
        path.join(IDENTITY).display()
    )]
    BadIdentity {
        /// The directory.
        path: PathBuf,
    },
    /// The id of its grid is damaged.
    #[error(
        "--vault {}: the file {} does not hold a UUID; restore it from a backup, or remove it to let this Star belong to the \
         grid that it connects to",
        path.display(),
        path.join(GRID).display()
    )]
    BadGrid {
        /// The directory.
        path: PathBuf,
    },
    /// The operating system reports an error.
    #[error(
        "--vault {}: cannot {action} {}: {error}; the Star's user must own this directory and its file system must be \
         writable",
        path.display(),
        file.display()
    )]
    Io {
        /// The directory.
        path: PathBuf,
        /// The operation that failed.
        action: &'static str,
        /// The file.
        file: PathBuf,
        /// The error.
        error: io::Error,
    },
}

const IDENTITY: &str = "identity";
/// The file with the id of the grid that this Star belongs to.
const GRID: &str = "grid";
const LOCK: &str = "lock";
const ASSIGNMENTS: &str = "assignments";
const CHECKPOINTS: &str = "checkpoints";
/// The directory of the packed store, see [`packed`](crate::packed).
pub(crate) const PACKED: &str = "packed";
/// Suffix of files that are not complete.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// An open vault. No other process can open it while this exists.
#[derive(Debug)]
pub struct Vault {
    path: PathBuf,
    identity: Uuid,
    grid: Option<Uuid>,
    /// Whether it is read-only.
    is_read_only: bool,
    /// Held, not used: the lock ends when the file is closed.
    _lock: File,
}

/// Whether there is a vault that a Star has used.
pub(crate) fn has_identity(path: &Path) -> bool {
    path.join(IDENTITY).is_file()
}

impl Vault {
    /// Opens a vault, or makes one with the identity `new_identity`.
    ///
    /// # Errors
    /// Another process has it open, its identity is damaged, or the operating system reports an error.
    pub fn open(path: &Path, new_identity: Uuid) -> Result<Self, VaultError> {
        let failed = |action, file: &Path| {
            let (path, file) = (path.to_owned(), file.to_owned());
            move |error| VaultError::Io { path, action, file, error }
        };
        let assignments = path.join(ASSIGNMENTS);
        fs::create_dir_all(&assignments).map_err(failed("create the directory", &assignments))?;
        let (lock, is_read_only) = lock(path)?;
        if !is_read_only {
            keep_to_owner(path);
            mark(path).map_err(failed("mark", path))?;
        }
        let file = path.join(IDENTITY);
        let identity = match fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().map_err(|_| VaultError::BadIdentity { path: path.to_owned() })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                publish(path, IDENTITY, format!("{new_identity}\n").as_bytes())
                    .map_err(failed("write", &file))?;
                new_identity
            }
            Err(error) => return Err(failed("read", &file)(error)),
        };
        let file = path.join(GRID);
        let grid = match fs::read_to_string(&file) {
            Ok(text) => Some(text.trim().parse().map_err(|_| VaultError::BadGrid { path: path.to_owned() })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("read", &file)(error)),
        };
        Ok(Self { path: path.to_owned(), identity, grid, is_read_only, _lock: lock })
    }

    /// The identity of this Star.
    pub fn identity(&self) -> Uuid {
        self.identity
    }

    /// The grid that this Star belonged to when the vault was opened; `None` if no coordinator has accepted it yet.
    pub fn grid(&self) -> Option<Uuid> {
        self.grid
    }

    /// Stores which grid this Star belongs to. Blocks until that is durable.
    ///
    /// # Errors
    /// The operating system reports an error.
    pub fn keep_grid(&self, grid: Uuid) -> io::Result<()> {
        publish(&self.path, GRID, format!("{grid}\n").as_bytes())
    }

    /// Whether its file system is read-only. Its content can be read.
    pub fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of its packed store.
    pub fn packed_path(&self) -> PathBuf {
        self.path.join(PACKED)
    }

    /// The progress of large files.
    ///
    /// # Errors
    /// The operating system reports an error.
    pub fn checkpoints(&self) -> Result<Checkpoints, VaultError> {
        let file = self.path.join(CHECKPOINTS);
        Checkpoints::open(&file).map_err(|error| VaultError::Io {
            path: self.path.clone(),
            action: "create the directory",
            file,
            error,
        })
    }

    /// Adds an assignment to the journal, before it is worked on. Blocks until that is durable.
    ///
    /// # Errors
    /// The operating system reports an error.
    pub fn record(&self, assignment: &Assignment) -> io::Result<()> {
        let bytes = serde_json::to_vec(assignment).map_err(io::Error::other)?;
        publish(&self.path.join(ASSIGNMENTS), &file_name(assignment.id), &bytes)
    }

    /// Removes an assignment from the journal. It is no error if it is not there.
    ///
    /// # Errors
    /// The operating system reports an error.
    pub fn forget(&self, id: AssignmentId) -> io::Result<()> {
        match fs::remove_file(self.path.join(ASSIGNMENTS).join(file_name(id))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            // The removal is not synced: an entry that reappears costs one more cleaning.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The assignments that an earlier process was working on when it ended. Removes incomplete entries and those
    /// without their final name: the process ended while it wrote them, before their work began.
    ///
    /// # Errors
    /// The operating system reports an error.
    pub fn leftovers(&self) -> io::Result<Vec<Assignment>> {
        let mut leftovers = Vec::new();
        for entry in fs::read_dir(self.path.join(ASSIGNMENTS))? {
            let entry = entry?;
            let path = entry.path();
            let recorded = serde_json::from_slice::<Assignment>(&fs::read(&path)?).ok();
            match recorded.filter(|assignment| *entry.file_name() == *file_name(assignment.id)) {
                Some(assignment) => leftovers.push(assignment),
                None => fs::remove_file(&path)?,
            }
        }
        leftovers.sort_by_key(|assignment| assignment.id);
        Ok(leftovers)
    }
}

fn file_name(id: AssignmentId) -> String {
    format!("{id}.json")
}

/// Removes the permissions of others from what an earlier version or an operator made. Keys are checked when they are
/// read.
fn keep_to_owner(path: &Path) {
    match tighten(path, CREDENTIALS_DIRECTORY) {
        Ok(0) => {}
        Ok(count) => tracing::warn!(
            "--vault {}: {count} files and directories could be used by other users and are its owner's alone now",
            path.display()
        ),
        Err(error) => tracing::warn!(
            "--vault {}: other users may be able to read it, and that cannot be changed: {error}",
            path.display()
        ),
    }
}

/// Locks the vault. Returns whether its file system is read-only.
fn lock(path: &Path) -> Result<(File, bool), VaultError> {
    let file = path.join(LOCK);
    let failed = |error| VaultError::Io { path: path.to_owned(), action: "lock", file: file.clone(), error };
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&file);
    let (lock, is_read_only) = match opened {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            (File::open(&file).map_err(failed)?, true)
        }
        opened => (opened.map_err(failed)?, false),
    };
    match lock.try_lock() {
        Ok(()) => Ok((lock, is_read_only)),
        Err(TryLockError::WouldBlock) => Err(VaultError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Writes a file atomically and durably.
pub(crate) fn publish(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = directory.join(format!("{name}{TEMPORARY_SUFFIX}"));
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, directory.join(name))
    };
    if let Err(error) = write() {
        // On a full disk it must not stay and take space. It may not exist.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::test_assignment as assignment;

    #[test]
    fn a_vault_keeps_its_identity() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/vault");
        assert_eq!(Vault::open(&path, Uuid::from_u128(1)).unwrap().identity(), Uuid::from_u128(1));
        assert_eq!(Vault::open(&path, Uuid::from_u128(2)).unwrap().identity(), Uuid::from_u128(1));
    }

    #[test]
    fn a_vault_keeps_the_grid_that_its_star_belongs_to() {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::open(directory.path(), Uuid::from_u128(1)).unwrap();
        assert_eq!(vault.grid(), None, "as in a vault of an earlier build");
        vault.keep_grid(Uuid::from_u128(7)).unwrap();
        drop(vault);
        let vault = Vault::open(directory.path(), Uuid::from_u128(1)).unwrap();
        assert_eq!(vault.grid(), Some(Uuid::from_u128(7)));
        drop(vault);
        fs::write(directory.path().join(GRID), "not a uuid").unwrap();
        let error = Vault::open(directory.path(), Uuid::from_u128(1)).unwrap_err();
        assert!(matches!(error, VaultError::BadGrid { .. }), "{error}");
    }

    #[test]
    fn a_vault_has_one_process_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = Vault::open(directory.path(), Uuid::from_u128(1)).unwrap();
        let error = Vault::open(directory.path(), Uuid::from_u128(1)).unwrap_err();
        assert!(matches!(error, VaultError::InUse { .. }));
        assert!(error.to_string().contains(directory.path().to_str().unwrap()), "{error}");
        drop(first);
        assert!(Vault::open(directory.path(), Uuid::from_u128(1)).is_ok());
    }

    #[test]
    fn a_damaged_identity_is_not_replaced_silently() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(IDENTITY), "not a uuid").unwrap();
        let error = Vault::open(directory.path(), Uuid::from_u128(1)).unwrap_err();
        assert!(matches!(error, VaultError::BadIdentity { .. }));
    }

    #[test]
    fn a_vault_that_cannot_be_made_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let text = Vault::open(&file.join("vault"), Uuid::from_u128(1)).unwrap_err().to_string();
        assert!(text.starts_with("--vault ") && text.contains("must own this directory"), "{text}");
    }

    #[test]
    fn recorded_assignments_that_were_not_forgotten_are_left_over() {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::open(directory.path(), Uuid::from_u128(1)).unwrap();
        for id in [3, 1, 2] {
            vault.record(&assignment(id, 2)).unwrap();
        }
        vault.forget(AssignmentId(2)).unwrap();
        vault.forget(AssignmentId(99)).unwrap();
        drop(vault);
        let vault = Vault::open(directory.path(), Uuid::from_u128(1)).unwrap();
        assert_eq!(vault.leftovers().unwrap(), [assignment(1, 2), assignment(3, 2)]);
    }

    #[test]
    fn a_record_that_cannot_be_made_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::open(directory.path(), Uuid::from_u128(1)).unwrap();
        // A directory is in the place of the record.
        let place = directory.path().join(ASSIGNMENTS).join("1.json");
        fs::create_dir_all(&place).unwrap();
        assert!(vault.record(&assignment(1, 1)).is_err());
        fs::remove_dir(&place).unwrap();
        assert_eq!(fs::read_dir(directory.path().join(ASSIGNMENTS)).unwrap().count(), 0);
    }

    #[test]
    fn a_record_that_was_cut_short_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::open(directory.path(), Uuid::from_u128(1)).unwrap();
        let journal = directory.path().join(ASSIGNMENTS);
        fs::write(journal.join("7.json.tmp"), "{\"id\":").unwrap();
        // Complete, and killed just before it got its name.
        vault.record(&assignment(8, 1)).unwrap();
        fs::rename(journal.join("8.json"), journal.join("8.json.tmp")).unwrap();
        assert!(vault.leftovers().unwrap().is_empty());
        assert_eq!(fs::read_dir(directory.path().join(ASSIGNMENTS)).unwrap().count(), 0);
    }
}
