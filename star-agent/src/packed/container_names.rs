//! The numbers and file names of containers, and their directory.

use std::fs;
use std::io;
use std::path::Path;

use uuid::Uuid;

use super::error::{PackedError, Result};
use super::universe::NOWHERE;

pub(super) const SUFFIX: &str = ".orbitpak";
pub(super) const JOURNAL_SUFFIX: &str = ".orbitpak.journal";

/// The next number on record; 0 if it cannot be read, since it is only one of several lower bounds.
pub(super) fn read_counter(path: &Path) -> Result<u32> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().parse::<u32>().ok().filter(|next| *next < NOWHERE).unwrap_or(0)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => Ok(0),
        Err(error) => Err(PackedError::io(path, "read the next number of a container")(error)),
    }
}

pub(super) fn write_counter(path: &Path, next: u32) -> Result<()> {
    let (dir, name) = (path.parent().unwrap_or(Path::new(".")), path.file_name().unwrap_or_default());
    let written = crate::vault::publish(dir, &name.to_string_lossy(), format!("{next}\n").as_bytes());
    written.map_err(PackedError::io(path, "write the next number of a container"))
}

pub(super) fn new_id(number: u32) -> String {
    format!("{number:010}-{}", Uuid::new_v4().simple())
}

/// The number and id in a container's file name.
pub(super) fn number_of(name: &str) -> Option<(u32, String)> {
    let id = name.strip_suffix(SUFFIX)?;
    let number = id.split('-').next()?.parse::<u32>().ok().filter(|number| *number < NOWHERE - 1)?;
    Some((number, id.to_owned()))
}

/// Makes the names in a directory durable, with fsync.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    let synced = fs::File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(PackedError::io(dir, "sync the directory"))
}
