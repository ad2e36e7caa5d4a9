//! Files that are either complete or absent, even after a power cut, and that only their owner can read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use orbit_program::private_files::mark;

/// Mode of a secret: only the owner can read and write.
const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_DIRECTORY: u32 = 0o700;
/// Mode of a file that every user can read.
pub(crate) const PUBLIC_FILE: u32 = 0o644;
/// Mode bits that a secret and its directory must not have: any access of the group or of others.
const OTHERS: u32 = 0o077;
const WRITABLE_BY_OTHERS: u32 = 0o022;
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Makes a directory that only its owner can enter, and its missing parents, and marks it as one of the grid itself.
pub(crate) fn make_private_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return mark(directory);
    }
    DirBuilder::new().recursive(true).mode(PRIVATE_DIRECTORY).create(directory)?;
    mark(directory)?;
    match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        Some(_) | None => Ok(()),
    }
}

/// Writes a secret atomically, in place of the file with its name.
pub(crate) fn publish_secret(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    publish(directory, name, bytes, PRIVATE_FILE)
}

/// Writes a file atomically, in place of the file with its name.
pub(crate) fn publish(directory: &Path, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = directory.join(format!("{name}{TEMPORARY_SUFFIX}"));
    let write = || {
        // A file that was left behind would keep the permissions that it was made with.
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
        // On a full disk it must not stay and take space. It may not exist.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(directory)?.sync_all()
}

/// Opens a file that only the owner can read, to append to it. Makes it if it is missing.
pub(crate) fn open_private_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).mode(PRIVATE_FILE).open(path)
}

/// The content of a secret; `None` if there is no file. A secret that others can read or replace is refused.
pub(crate) fn read_secret_if_there(path: &Path) -> io::Result<Option<String>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    check_secret(path, &file.metadata()?)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Checks that a secret and the directory that names it belong to this user or root, and that no other user can access
/// it.
fn check_secret(path: &Path, found: &fs::Metadata) -> io::Result<()> {
    let refused = |text: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    if found.mode() & OTHERS != 0 {
        let mode = found.mode() & 0o777;
        return refused(format!(
            "others may read it (mode {mode:04o}), so it may be known already: make it its owner's alone with `chmod 600 {0}`, \
             and replace the key if another user of this machine is not trusted",
            path.display()
        ));
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let above = fs::metadata(directory)?;
    let me = rustix::process::geteuid().as_raw();
    let foreign =
        [(path, found.uid()), (directory, above.uid())].into_iter().find(|(_, uid)| ![me, 0].contains(uid));
    if let Some((path, uid)) = foreign {
        return refused(format!(
            "{} belongs to user {uid} and this program runs as user {me}: run it as user {uid}, or give the files to user {me} with \
             `chown`",
            path.display()
        ));
    }
    if above.mode() & WRITABLE_BY_OTHERS != 0 {
        return refused(format!(
            "others may write in its directory: run `chmod 700 {}`, and see that the files in it are the right ones",
            directory.display()
        ));
    }
    Ok(())
}

/// The content of a file; `None` if there is no file.
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
    fn only_the_owner_can_read_a_secret_whatever_was_left_there() {
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

    #[test]
    fn a_secret_that_others_may_read_or_replace_is_refused_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("identity");
        make_private_directory(&place).unwrap();
        publish_secret(&place, "key.pem", b"secret").unwrap();
        let key = place.join("key.pem");
        let change = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            read_secret_if_there(&key).map_err(|error| error.to_string())
        };
        assert_eq!(change(&key, 0o600).unwrap().unwrap(), "secret");
        for mode in [0o644, 0o640, 0o604] {
            let text = change(&key, mode).unwrap_err();
            assert!(text.contains("chmod 600"), "{text}");
        }
        assert!(change(&key, 0o600).is_ok());
        let text = change(&place, 0o777).unwrap_err();
        assert!(text.contains("chmod 700"), "{text}");
        assert!(change(&place, 0o755).is_ok(), "others may see that there is a key");
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&key, Some(65534), None).unwrap();
            let text = read_secret_if_there(&key).unwrap_err().to_string();
            assert!(text.contains("65534"), "{text}");
        }
        assert_eq!(read_secret_if_there(&place.join("missing")).unwrap(), None);
    }
}
