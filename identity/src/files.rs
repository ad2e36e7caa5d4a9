//! Files that are there whole or not at all, also after a power cut, and that only their owner may read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Nobody but the owner.
const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_DIRECTORY: u32 = 0o700;
/// For what everybody may know.
pub(crate) const PUBLIC_FILE: u32 = 0o644;
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Makes a directory that only its owner may enter, with what is missing above it.
pub(crate) fn make_private_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(PRIVATE_DIRECTORY).create(directory)?;
    match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        Some(_) | None => Ok(()),
    }
}

/// Writes a secret.
pub(crate) fn publish_secret(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    publish(directory, name, bytes, PRIVATE_FILE)
}

/// Writes a file in place of what has its name.
pub(crate) fn publish(directory: &Path, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = directory.join(format!("{name}{TEMPORARY_SUFFIX}"));
    let write = || {
        // One that was left keeps the permissions that it was made with.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, directory.join(name))
    };
    if let Err(error) = write() {
        // On a full disk it must not stay and take space; it may not even be there.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(directory)?.sync_all()
}

/// Opens a file of the owner's alone, made if it is missing, to be written at its end.
pub(crate) fn open_private_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).mode(PRIVATE_FILE).open(path)
}

/// The content of a file, if there is one.
pub(crate) fn read_if_there(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_its_owners_alone_whatever_was_left_there() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("new/identity");
        make_private_directory(&place).unwrap();
        fs::write(place.join("key.pem.tmp"), "left by a kill, readable by all").unwrap();
        publish_secret(&place, "key.pem", b"secret").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&place.join("key.pem")) & 0o077, 0);
        assert_eq!(mode(&place) & 0o077, 0);
        assert_eq!(fs::read(place.join("key.pem")).unwrap(), b"secret");
        assert!(!place.join("key.pem.tmp").exists());
    }
}
