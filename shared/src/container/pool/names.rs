//! The numbers and file names of the containers of a pool.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use uuid::Uuid;

use super::{CONTAINER_SUFFIX, ContainerError, NO_CONTAINER};

pub(super) const JOURNAL_SUFFIX: &str = ".orbitpak.journal";
/// What the name of a file ends in while it is being written.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// The next number on record; 0 if it cannot be read, since it is only one of several lower bounds.
pub(super) fn read_counter(path: &Path) -> Result<u32, ContainerError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().parse::<u32>().ok().filter(|next| *next < NO_CONTAINER).unwrap_or(0)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => Ok(0),
        Err(error) => Err(ContainerError::io(path, "read the next number of a container")(error)),
    }
}

/// Records the next number durably.
pub(super) fn write_counter(path: &Path, next: u32) -> Result<(), ContainerError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY_SUFFIX);
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(format!("{next}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    if let Err(error) = write() {
        // On a full disk it must not stay and take space. It may not exist.
        let _ = fs::remove_file(&temporary);
        return Err(ContainerError::io(path, "write the next number of a container")(error));
    }
    super::super::sync_dir(super::super::parent_of(path))
}

pub(super) fn new_id(number: u32) -> String {
    format!("{number:010}-{}", Uuid::new_v4().simple())
}

pub(super) fn file_name(id: &str) -> String {
    format!("{id}.{CONTAINER_SUFFIX}")
}

/// The number and id in a container's file name.
pub(super) fn number_of(name: &str) -> Option<(u32, String)> {
    let id = name.strip_suffix(CONTAINER_SUFFIX)?.strip_suffix('.')?;
    let number = id.split('-').next()?.parse::<u32>().ok().filter(|number| *number < NO_CONTAINER - 1)?;
    Some((number, id.to_owned()))
}
