//! Backups: a consistent copy of the data directory, made while the coordinator works.
//!
//! The store is copied out of one read transaction, so it shows one moment between two commits; the provenance log is
//! copied after it and is cut back to that moment by the coordinator that starts on the copy. A backup has its name only when all of
//! it is durable. Where backups go from there is for others.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use orbit_program::private_files::mark;

use crate::keep::Backups;
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
        mark(directory).map_err(failed("mark", directory))?;
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

/// Complete backups in a directory with the times at which they were made, oldest first.
pub(crate) fn list(directory: &Path) -> io::Result<Vec<(SystemTime, PathBuf)>> {
    let mut backups = Vec::new();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(backups),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let is_complete = !path.as_os_str().as_encoded_bytes().ends_with(UNFINISHED_SUFFIX.as_bytes());
        // Other things that a person put there are not backups.
        if is_complete && let Ok(store) = fs::metadata(path.join(STORE_FILE)) {
            backups.push((store.modified()?, path));
        }
    }
    backups.sort();
    Ok(backups)
}

/// Removes the oldest backups beyond the number that is kept. One that cannot be removed is a warning in the log: the new
/// backup is good.
pub(crate) fn remove_surplus(backups: &Backups) {
    if backups.count_max == 0 {
        return;
    }
    let removed = list(&backups.directory).and_then(|listed| {
        let surplus = listed.len().saturating_sub(backups.count_max);
        for (_, path) in listed.into_iter().take(surplus) {
            tracing::info!(path = %path.display(), "removing the oldest backup: --keep-backups {}", backups.count_max);
            // Under a name that is not taken for a backup, should the process be killed halfway.
            let mut going = path.clone().into_os_string();
            going.push(UNFINISHED_SUFFIX);
            fs::rename(&path, &going)?;
            fs::remove_dir_all(going)?;
        }
        Ok(())
    });
    if let Err(error) = removed {
        tracing::warn!(directory = %backups.directory.display(), %error, "the oldest backups cannot be removed");
    }
}

fn sync(path: &Path) -> Result<(), BackupError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed("sync", path))
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> BackupError {
    let path = path.to_path_buf();
    move |error| BackupError::Io { action, path: path.clone(), error }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_oldest_backups_go_and_what_else_is_there_stays() {
        let place = tempfile::tempdir().expect("a directory");
        let path = |name: &str| place.path().join(name);
        for (age, name) in ["newest", "middle", "oldest"].into_iter().enumerate() {
            fs::create_dir(path(name)).expect("makes");
            let store = File::create(path(name).join(STORE_FILE)).expect("makes");
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age as u64);
            store.set_modified(time).expect("sets");
        }
        fs::create_dir(path("of-a-person")).expect("makes");
        fs::create_dir(path("made-now.unfinished")).expect("makes");
        File::create(path("made-now.unfinished").join(STORE_FILE)).expect("makes");
        let mut backups = Backups { directory: place.path().to_owned(), count_max: 0 };
        remove_surplus(&backups);
        assert_eq!(list(place.path()).expect("lists").len(), 3, "0 keeps all");
        backups.count_max = 2;
        remove_surplus(&backups);
        let listed = list(place.path()).expect("lists");
        let kept: Vec<_> = listed.into_iter().map(|(_, path)| path).collect();
        assert_eq!(kept, [path("middle"), path("newest")]);
        assert!(path("of-a-person").exists() && path("made-now.unfinished").exists());
        assert!(!path("oldest").exists() && !path("oldest.unfinished").exists());
    }
}
