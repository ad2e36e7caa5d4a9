//! Files and directories that only their owner can access, whatever the umask of the caller.
//!
//! A program calls [`keep_private`] before it makes any file. Files of an earlier version or of an operator are
//! restricted by [`tighten`] when they are opened. Trees that a job writes get their modes from the job;
//! [`usual_directory_mode`] is for the directories above them.
//!
//! A directory of the grid itself (a vault, a data directory, an identity) has a file named [`MARKER`]. A Star that
//! [keeps apart](keep_apart) such directories neither reads nor writes them for a job, whatever its roots are. It also
//! [claims](claim) what it uses itself, by device and inode, so that it is recognized by another path as well, as
//! through a bind mount of a directory in the vault or of the settings file.

mod claims;

use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

pub use claims::{claim, is_claimed};

/// Mode bits for any access of the group or of others.
const OTHERS: u32 = 0o077;
/// Maximum depth of directories that are visited; ours are far less deep.
const DEPTH_MAX: usize = 16;

/// The file that marks a directory as one of the grid itself.
pub const MARKER: &str = ".orbit-private";
const MARKER_TEXT: &[u8] =
    b"This directory belongs to Orbit Grid itself. Stars neither read nor write it for jobs.\n";

static IS_KEPT_APART: AtomicBool = AtomicBool::new(false);
static FORMER_UMASK: OnceLock<u32> = OnceLock::new();

/// From now on all files of this process are private, unless their mode is set afterwards.
pub fn keep_private() {
    let former = rustix::process::umask(Mode::from_raw_mode(OTHERS));
    // The first umask is the caller's.
    let _ = FORMER_UMASK.set(former.as_raw_mode() & 0o777);
}

/// The mode that the caller's umask gives a new directory, if [`keep_private`] replaced that umask.
pub fn usual_directory_mode() -> Option<u32> {
    FORMER_UMASK.get().map(|umask| 0o777 & !umask)
}

/// Removes the permissions of others from a directory of this process's user and its content. Returns the number of
/// files and directories that had such permissions. Links are not followed. What belongs to another user is not
/// changed, and neither is the entry `except`, which its owner checks.
///
/// # Errors
/// The directory itself cannot be opened or changed. Content that cannot be changed is skipped.
pub fn tighten(directory: &Path, except: &str) -> io::Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(CWD, directory, flags, Mode::empty())?;
    // The directory comes first, so that no other user changes it during the walk.
    let changed = u64::from(close_to_others(&handle)?);
    Ok(changed + tighten_below(&handle, except, 0))
}

fn tighten_below(directory: &OwnedFd, except: &str, depth: usize) -> u64 {
    if depth >= DEPTH_MAX {
        return 0;
    }
    let Ok(listing) = Dir::read_from(directory) else { return 0 };
    let mut changed = 0;
    for entry in listing.flatten() {
        let name = entry.file_name();
        let is_left_alone =
            matches!(name.to_bytes(), b"." | b"..") || (depth == 0 && name.to_bytes() == except.as_bytes());
        if is_left_alone || !may_be_ours(entry.file_type()) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(handle) = rustix::fs::openat(directory, name, flags, Mode::empty()) else { continue };
        changed += u64::from(close_to_others(&handle).unwrap_or(false));
        if rustix::fs::fstat(&handle).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir()) {
            changed += tighten_below(&handle, except, depth + 1);
        }
    }
    changed
}

fn may_be_ours(kind: FileType) -> bool {
    matches!(kind, FileType::RegularFile | FileType::Directory | FileType::Unknown)
}

/// Removes the permissions of others from a file or directory of ours. Returns whether there were any.
fn close_to_others(handle: impl AsFd) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(&handle)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let is_ours = stat.st_uid == rustix::process::geteuid().as_raw() && (kind.is_file() || kind.is_dir());
    if !is_ours || stat.st_mode & OTHERS == 0 {
        return Ok(false);
    }
    rustix::fs::fchmod(&handle, Mode::from_raw_mode(stat.st_mode & 0o7777 & !OTHERS))?;
    Ok(true)
}

/// Marks a directory as one of the grid itself.
///
/// # Errors
/// The operating system reports an error.
pub fn mark(directory: &Path) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::openat(CWD, directory.join(MARKER), flags, mode) {
        Ok(file) => io::Write::write_all(&mut std::fs::File::from(file), MARKER_TEXT),
        Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// From now on this process keeps its jobs out of marked directories.
pub fn keep_apart() {
    IS_KEPT_APART.store(true, Ordering::Relaxed);
}

fn is_keeping_apart() -> bool {
    IS_KEPT_APART.load(Ordering::Relaxed)
}

/// Whether jobs of this process must keep out of a directory.
pub fn is_apart(directory: impl AsFd) -> bool {
    if !is_keeping_apart() {
        return false;
    }
    is_marked(&directory)
        || rustix::fs::fstat(&directory).is_ok_and(|stat| is_claimed(stat.st_dev, stat.st_ino))
}

/// Whether a directory is within one that jobs of this process must keep out of, by its path.
pub fn is_within_apart(directory: &Path) -> bool {
    if !is_keeping_apart() {
        return false;
    }
    let resolved = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    resolved.ancestors().any(is_marked_by_an_owner)
}

/// Whether the marker of a parent directory was made by a user who may do so: in a directory that all can write, such
/// as `/tmp`, any user can make a file of that name.
fn is_marked_by_an_owner(directory: &Path) -> bool {
    let Ok(marker) = rustix::fs::lstat(directory.join(MARKER)) else { return false };
    let own = rustix::process::geteuid().as_raw();
    let is_owner = |stat: rustix::fs::Stat| stat.st_uid == marker.st_uid;
    [0, own].contains(&marker.st_uid) || rustix::fs::lstat(directory).is_ok_and(is_owner)
}

fn is_marked(directory: impl AsFd) -> bool {
    rustix::fs::statat(directory, MARKER, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn permissions_of_others_are_removed_and_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (vault, outside) = (directory.path().join("vault"), directory.path().join("outside"));
        fs::create_dir_all(vault.join("packed/containers")).unwrap();
        let file = vault.join("packed/containers/1.orbitpak");
        for path in [&file, &outside] {
            fs::write(path, b"x").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
        }
        for path in ["", "packed", "packed/containers"] {
            fs::set_permissions(vault.join(path), fs::Permissions::from_mode(0o777)).unwrap();
        }
        symlink(&outside, vault.join("link")).unwrap();
        let keys = vault.join("credentials");
        fs::write(&keys, b"x").unwrap();
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(tighten(&vault, "credentials").unwrap(), 4);
        assert_eq!(mode(&keys), 0o644, "the code that reads keys judges them");
        assert_eq!([mode(&vault), mode(&vault.join("packed")), mode(&file)], [0o700, 0o700, 0o600]);
        assert_eq!(mode(&outside), 0o666);
        assert_eq!(tighten(&vault, "credentials").unwrap(), 0, "a second time there is nothing to do");
        assert!(tighten(&directory.path().join("missing"), "").is_err());
    }

    #[test]
    fn a_marker_in_a_parent_directory_counts_if_its_owner_may_make_it() {
        let directory = tempfile::tempdir().unwrap();
        mark(directory.path()).unwrap();
        assert!(is_marked_by_an_owner(directory.path()));
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(directory.path().join(MARKER), Some(65534), None).unwrap();
            assert!(!is_marked_by_an_owner(directory.path()), "anybody could have made it");
            std::os::unix::fs::chown(directory.path(), Some(65534), None).unwrap();
            assert!(is_marked_by_an_owner(directory.path()));
        }
    }

    #[test]
    fn a_marked_directory_is_known_by_its_marker() {
        let directory = tempfile::tempdir().unwrap();
        let handle = fs::File::open(directory.path()).unwrap();
        assert!(!is_marked(&handle));
        mark(directory.path()).unwrap();
        mark(directory.path()).unwrap();
        assert!(is_marked(&handle));
        assert_eq!(mode(&directory.path().join(MARKER)), 0o600);
        assert!(!is_apart(&handle), "only a process that keeps apart what is marked looks for it");
    }
}
