//! Paths below the base of a job: component by component, never through a symbolic link.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cap_std::fs::Dir;
use orbit_program::private_files::{is_apart, is_claimed};
use orbit_shared::entry::is_confined;
use rustix::fd::{AsFd, AsRawFd as _, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::limits::DIRECTORY_HANDLES_MAX;

/// The error of opening a directory or file of the grid itself. The operating system does not return it for a directory
/// that can be opened.
pub(crate) const OWN_DIRECTORY: Errno = Errno::PERM;

/// A directory below which paths are resolved without following links. Handles of directories are kept for reuse.
#[derive(Debug)]
pub(crate) struct Tree {
    base: Arc<OwnedFd>,
    kept: Mutex<Kept>,
    created: AtomicU64,
}

/// Handles by path. The oldest are closed first.
#[derive(Debug, Default)]
struct Kept {
    handles: BTreeMap<Vec<u8>, Arc<OwnedFd>>,
    ages: VecDeque<Vec<u8>>,
}

impl Tree {
    pub(crate) fn new(base: Dir) -> Self {
        let path_only: OwnedFd = base.into_std_file().into();
        // The handle of cap-std can only resolve paths. Listing and syncing need more, if that is allowed.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let base = rustix::fs::openat(&path_only, ".", flags, Mode::empty()).unwrap_or(path_only);
        Self { base: Arc::new(base), kept: Mutex::default(), created: AtomicU64::new(0) }
    }

    /// Opens the directory at `path`, or the base if it is empty. The handle may be good for resolving paths only, if
    /// the directory can be passed but not listed.
    pub(crate) fn open_dir(&self, path: &[u8]) -> Result<Arc<OwnedFd>, Errno> {
        self.walk(path, |parent, name| match open_directory(parent, name, OFlags::RDONLY) {
            Err(Errno::ACCESS) => open_directory(parent, name, OFlags::PATH),
            other => other,
        })
    }

    /// Opens the directory at `path` for writing below it. Creates missing directories with access for the owner only;
    /// their own items set their modes.
    pub(crate) fn create_dir(&self, path: &[u8]) -> Result<Arc<OwnedFd>, Errno> {
        self.walk(path, |parent, name| match open_directory(parent, name, OFlags::RDONLY) {
            Err(Errno::NOENT) => match make_directory(parent, name) {
                Ok(()) => {
                    self.created.fetch_add(1, Ordering::Relaxed);
                    open_directory(parent, name, OFlags::RDONLY)
                }
                Err(Errno::EXIST) => open_directory(parent, name, OFlags::RDONLY),
                Err(errno) => Err(errno),
            },
            Err(Errno::ACCESS) => {
                let handle = open_directory(parent, name, OFlags::PATH)?;
                grant_owner_access(&handle)?;
                open_directory(parent, name, OFlags::RDONLY)
            }
            other => other,
        })
    }

    /// Number of directories that were created below the base through this handle.
    pub(crate) fn created(&self) -> u64 {
        self.created.load(Ordering::Relaxed)
    }

    /// The parent directory of `path`, and its last component. The path must not be empty.
    pub(crate) fn open_parent<'path>(&self, path: &'path [u8]) -> Result<(Arc<OwnedFd>, &'path [u8]), Errno> {
        let (parent, name) = split_parent(path);
        apart_from_own(self.open_dir(parent)?, checked(name)?)
    }

    /// As [`Self::open_parent`], and creates missing parents.
    pub(crate) fn create_parent<'path>(
        &self,
        path: &'path [u8],
    ) -> Result<(Arc<OwnedFd>, &'path [u8]), Errno> {
        let (parent, name) = split_parent(path);
        apart_from_own(self.create_dir(parent)?, checked(name)?)
    }

    fn walk(
        &self,
        path: &[u8],
        open: impl Fn(&OwnedFd, &[u8]) -> Result<OwnedFd, Errno>,
    ) -> Result<Arc<OwnedFd>, Errno> {
        if !is_confined(path) {
            return Err(Errno::INVAL);
        }
        let (mut handle, mut done) = self.nearest(path);
        while done < path.len() {
            let start = if done == 0 { 0 } else { done + 1 };
            let length = path[start..].iter().position(|&byte| byte == b'/');
            done = length.map_or(path.len(), |length| start + length);
            handle = Arc::new(open(&handle, &path[start..done])?);
            if is_apart(&*handle) {
                return Err(OWN_DIRECTORY);
            }
            self.keep(&path[..done], &handle);
        }
        Ok(handle)
    }

    /// The deepest open directory on the way to `path`, and the length of the path to it.
    fn nearest(&self, path: &[u8]) -> (Arc<OwnedFd>, usize) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut end = path.len();
        while end > 0 {
            if let Some(handle) = kept.handles.get(&path[..end]) {
                return (Arc::clone(handle), end);
            }
            end = path[..end].iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        }
        (Arc::clone(&self.base), 0)
    }

    fn keep(&self, path: &[u8], handle: &Arc<OwnedFd>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.handles.insert(path.to_vec(), Arc::clone(handle)).is_none() {
            kept.ages.push_back(path.to_vec());
        }
        while kept.ages.len() > DIRECTORY_HANDLES_MAX {
            if let Some(oldest) = kept.ages.pop_front() {
                kept.handles.remove(&oldest);
            }
        }
    }
}

/// The parent of a path, and its last component.
pub(crate) fn split_parent(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// Gives the owner of a directory all permissions, so that this process can write below a directory that it owns.
pub(crate) fn grant_owner_access(directory: &OwnedFd) -> Result<(), Errno> {
    let stat = rustix::fs::fstat(directory)?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(Errno::ACCESS);
    }
    let mode = Mode::from_raw_mode((stat.st_mode & 0o7777) | 0o700);
    // Through /proc, since a handle for resolving paths only does not support fchmod.
    let path = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
    rustix::fs::chmodat(rustix::fs::CWD, path, mode, rustix::fs::AtFlags::empty())
}

/// Checks that a name is a single component, which the calls below rely on.
fn checked(name: &[u8]) -> Result<&[u8], Errno> {
    if !name.is_empty() && is_confined(name) && !name.contains(&b'/') { Ok(name) } else { Err(Errno::INVAL) }
}

/// Refuses the name of something that belongs to the grid itself, such as the Star's settings file.
fn apart_from_own(parent: Arc<OwnedFd>, name: &[u8]) -> Result<(Arc<OwnedFd>, &[u8]), Errno> {
    let found = rustix::fs::statat(&*parent, name, AtFlags::SYMLINK_NOFOLLOW);
    match found.is_ok_and(|stat| is_claimed(stat.st_dev, stat.st_ino)) {
        true => Err(OWN_DIRECTORY),
        false => Ok((parent, name)),
    }
}

fn open_directory(parent: &OwnedFd, name: &[u8], access: OFlags) -> Result<OwnedFd, Errno> {
    let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, checked(name)?, flags, Mode::empty())
}

fn make_directory(parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Err(Errno::ACCESS) => {
            grant_owner_access(parent)?;
            rustix::fs::mkdirat(parent, name, Mode::RWXU)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use cap_std::ambient_authority;

    use super::*;

    fn tree(path: &std::path::Path) -> Tree {
        Tree::new(Dir::open_ambient_dir(path, ambient_authority()).unwrap())
    }

    #[test]
    fn no_link_below_the_base_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", directory.path().join("link")).unwrap();
        let tree = tree(directory.path());
        assert!(tree.open_dir(b"real").is_ok());
        for result in [tree.open_dir(b"link"), tree.create_dir(b"link"), tree.create_dir(b"link/below")] {
            assert!(matches!(result, Err(Errno::LOOP | Errno::NOTDIR)), "{result:?}");
        }
    }

    #[test]
    fn paths_that_could_escape_are_invalid() {
        let directory = tempfile::tempdir().unwrap();
        let tree = tree(directory.path());
        for path in [&b".."[..], b"a/../..", b"/etc", b"a//b", b"."] {
            assert_eq!(tree.create_dir(path).unwrap_err(), Errno::INVAL);
        }
        assert_eq!(tree.open_parent(b"..").unwrap_err(), Errno::INVAL);
    }

    #[test]
    fn a_path_near_the_maximum_length_is_walked_with_few_handles() {
        let directory = tempfile::tempdir().unwrap();
        let tree = tree(directory.path());
        let path = b"d/".repeat(2000);
        let path = &path[..path.len() - 1];
        tree.create_dir(path).unwrap();
        assert!(tree.kept.lock().unwrap().handles.len() <= DIRECTORY_HANDLES_MAX);
        assert!(tree.open_dir(path).is_ok());
    }
}
