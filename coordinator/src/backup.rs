//! Backups: a consistent copy of the data directory, made while the coordinator works.
//!
//! The store is copied out of one read transaction, so it shows one moment between two commits; the provenance log is
//! copied after it and is cut back to that moment by whoever starts on the copy. A backup has its name only when all of
//! it is durable. Where backups go from there is for others.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::provenance_log::ProvenanceLogError;
use crate::store::{Store, StoreError};

/// Names in a data directory.
pub(crate) const STORE_FILE: &str = "magnetar.redb";
/// See [`STORE_FILE`].
pub(crate) const PROVENANCE_DIRECTORY: &str = "provenance";

const NAME_BYTES_MAX: usize = 64;
/// Ends the name of a backup that is being made, or that was interrupted.
const UNFINISHED_SUFFIX: &str = ".unfinished";

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    /// The name cannot be used.
    #[error(
        "{name:?} is no name for a backup: use letters, digits, \".\", \"_\" and \"-\", at most {NAME_BYTES_MAX}, and no dot in front"
    )]
    BadName {
        /// What was asked for.
        name: String,
    },
    /// There is one of that name.
    #[error("there is a backup {} already; choose another name", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The store cannot be copied.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log cannot be copied.
    #[error(transparent)]
    Provenance(#[from] ProvenanceLogError),
}

/// A backup that has a place and is not made yet.
#[derive(Debug)]
pub(crate) struct Backup {
    path: PathBuf,
    unfinished: PathBuf,
}

impl Backup {
    /// Whether a backup may have this name.
    pub(crate) fn check_name(name: &str) -> Result<(), BackupError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(is_allowed)
            && !name.starts_with('.')
            && !name.ends_with(UNFINISHED_SUFFIX);
        if is_name { Ok(()) } else { Err(BackupError::BadName { name: name.to_owned() }) }
    }

    /// Takes a place below `directory`.
    pub(crate) fn begin(directory: &Path, name: &str) -> Result<Self, BackupError> {
        Self::check_name(name)?;
        let path = directory.join(name);
        if path.exists() {
            return Err(BackupError::Exists { path });
        }
        fs::create_dir_all(directory).map_err(failed("make", directory))?;
        let unfinished = directory.join(format!("{name}{UNFINISHED_SUFFIX}"));
        match fs::create_dir(&unfinished) {
            // One that was interrupted is worth nothing, and one that is being made keeps its store file open.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(BackupError::Exists { path: unfinished })
            }
            made => made.map_err(failed("make", &unfinished)).map(|()| Self { path, unfinished }),
        }
    }

    /// Where it will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it. Returns its size in bytes. Blocks for as long as copying takes; the coordinator works on meanwhile.
    pub(crate) fn run(&self, store: &dyn Store, provenance: &Path) -> Result<u64, BackupError> {
        let result = self.copy(store, provenance);
        if result.is_err() {
            // What failed says more than that its rest could not be removed.
            let _ = fs::remove_dir_all(&self.unfinished);
        }
        result
    }

    fn copy(&self, store: &dyn Store, provenance: &Path) -> Result<u64, BackupError> {
        let store_file = self.unfinished.join(STORE_FILE);
        store.copy_to(&store_file)?;
        let mut size = fs::metadata(&store_file).map_err(failed("look at", &store_file))?.len();
        let log = self.unfinished.join(PROVENANCE_DIRECTORY);
        fs::create_dir(&log).map_err(failed("make", &log))?;
        for entry in fs::read_dir(provenance).map_err(failed("list", provenance))? {
            let from = entry.map_err(failed("list", provenance))?.path();
            let to = log.join(from.file_name().unwrap_or_default());
            match fs::copy(&from, &to) {
                Ok(bytes) => size += bytes,
                // The oldest file was removed since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed("copy", &from)(error)),
            }
            sync(&to)?;
        }
        sync(&log)?;
        sync(&self.unfinished)?;
        fs::rename(&self.unfinished, &self.path).map_err(failed("rename", &self.unfinished))?;
        sync(self.path.parent().unwrap_or(&self.path))?;
        Ok(size)
    }
}

fn sync(path: &Path) -> Result<(), BackupError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed("sync", path))
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> BackupError {
    let path = path.to_path_buf();
    move |error| BackupError::Io { action, path: path.clone(), error }
}
