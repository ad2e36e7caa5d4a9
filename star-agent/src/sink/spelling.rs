//! Names on file systems that treat several spellings as one name: README and readme, or two Unicode forms of one
//! letter.
//!
//! There one of two entries of a source would overwrite the other. So before an existing file is taken for an entry, or
//! is replaced by it, the directory must list it under exactly that spelling. A probe determines whether a file system
//! is of that kind, once for each, and only if a name exists already. File systems that are known to distinguish all
//! names are only asked for a flag of the directory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use orbit_shared::entry::{TEMPORARY_PREFIX, display_path};
use orbit_shared::session::Failure;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::failures::in_the_way;
use crate::roots::{Tree, split_parent};
use crate::sink::work::modified_at;
use crate::transfer::modified_time;

/// ext4, f2fs, tmpfs and btrfs: a case-insensitive directory has a flag there.
const TELLS_BY_FLAG: [u64; 4] = [0xef53, 0xf2f5_2010, 0x0102_1994, 0x9123_683e];
/// `FS_CASEFOLD_FL`.
const CASEFOLD: u32 = 0x4000_0000;
/// The name of a probe, and two other spellings of it, by case and by Unicode form.
const PROBE: [&str; 3] = ["Probe-\u{e9}", "pROBE-\u{e9}", "Probe-e\u{301}"];

/// What is known of file systems, by device, and the lock for publishing on one that folds names.
#[derive(Debug, Default)]
pub(super) struct Spellings {
    folds: Mutex<BTreeMap<u64, bool>>,
    publishing: Mutex<Published>,
}

/// The directory of the last publication, and its names by their case-folded forms. The kernel can go on to report that
/// a name does not exist after another spelling of it was made, so a lookup alone is not enough.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// Device and inode.
    directory: Option<(u64, u64)>,
    names: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Published {
    /// Fails if a directory has another spelling of a name. Otherwise the name counts as one of the directory from now
    /// on.
    pub(super) fn claim(&mut self, directory: &OwnedFd, name: &[u8], shown: &[u8]) -> Result<(), Failure> {
        let key = rustix::fs::fstat(directory).map(|stat| (stat.st_dev, stat.st_ino)).ok();
        if key.is_none() || key != self.directory {
            let names = names(directory).unwrap_or_default();
            self.names = names.into_iter().map(|name| (without_case(&name), name)).collect();
            self.directory = key;
        }
        let folded = without_case(name);
        let other = self.names.get(&folded).filter(|other| *other != name);
        let is_there = |other: &&Vec<u8>| {
            rustix::fs::statat(directory, other.as_slice(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
        };
        if let Some(other) = other.filter(is_there) {
            return Err(collision(shown, other));
        }
        self.names.insert(folded, name.to_vec());
        Ok(())
    }
}

fn without_case(name: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(name) {
        Ok(text) => text.to_lowercase().into_bytes(),
        Err(_) => name.to_ascii_lowercase(),
    }
}

impl Spellings {
    /// Whether a directory treats several spellings as one name.
    pub(super) fn folds(&self, directory: &OwnedFd) -> bool {
        let kind = rustix::fs::fstatfs(directory).map(|stat| stat.f_type.cast_unsigned());
        if kind.is_ok_and(|kind| TELLS_BY_FLAG.contains(&kind)) {
            return rustix::fs::ioctl_getflags(directory).is_ok_and(|flags| flags.bits() & CASEFOLD != 0);
        }
        let Ok(device) = rustix::fs::fstat(directory).map(|stat| stat.st_dev) else { return false };
        let mut known = self.folds.lock().unwrap_or_else(PoisonError::into_inner);
        // If no probe can be made, all names count as distinct.
        *known.entry(device).or_insert_with(|| probe(directory).unwrap_or(false))
    }

    /// The lock to hold from the check of a name until an entry is put there, where names are folded.
    pub(super) fn turn(&self) -> MutexGuard<'_, Published> {
        self.publishing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails if a directory has a name under another spelling only.
    pub(super) fn check(&self, directory: &OwnedFd, name: &[u8], shown: &[u8]) -> Result<(), Failure> {
        let Ok(found) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
        if !self.folds(directory) {
            return Ok(());
        }
        match names(directory) {
            Ok(names) if !names.contains(name) => {
                let stat = |name: &[u8]| rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
                let is_same = |other: &&Vec<u8>| stat(other).is_ok_and(|stat| stat.st_ino == found.st_ino);
                let folded = without_case(name);
                let other = names.iter().find(|other| without_case(other) == folded);
                match other.or_else(|| names.iter().find(is_same)) {
                    Some(other) => Err(collision(shown, other)),
                    None if stat(name).is_ok() => Err(collision(shown, b"another spelling of it")),
                    // It was removed in between.
                    None => Ok(()),
                }
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// As [`Self::check`], for every directory on the way to a path, except for those that were checked before.
    pub(super) fn check_way(
        &self,
        tree: &Tree,
        path: &[u8],
        in_order: &Mutex<BTreeSet<Vec<u8>>>,
        shown: &dyn Fn(&[u8]) -> Vec<u8>,
    ) -> Result<(), Failure> {
        let parent = split_parent(path).0;
        let is_known = |path: &[u8]| in_order.lock().unwrap_or_else(PoisonError::into_inner).contains(path);
        if parent.is_empty() || is_known(parent) {
            return Ok(());
        }
        self.check_way(tree, parent, in_order, shown)?;
        let (above, name) = split_parent(parent);
        let Ok(directory) = tree.open_dir(above) else { return Ok(()) };
        self.check(&directory, name, &shown(parent))?;
        if rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            in_order.lock().unwrap_or_else(PoisonError::into_inner).insert(parent.to_vec());
        }
        Ok(())
    }
}

fn collision(path: &[u8], other: &[u8]) -> Failure {
    in_the_way(format!(
        "{} cannot lie beside {}, which is there already: this file system takes both for one name; rename one of them at the \
         source, or move what is at the destination away",
        display_path(path),
        display_path(other)
    ))
}

/// All names in a directory, as they are listed.
fn names(directory: &OwnedFd) -> Result<BTreeSet<Vec<u8>>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = Dir::new(rustix::fs::openat(directory, c".", flags, Mode::empty())?)?;
    listed.map(|entry| Ok(entry?.file_name().to_bytes().to_vec())).collect()
}

/// Makes a file whose name has other spellings, and looks it up under those. A file system that stores another name
/// than the given one cannot be distinguished from one that folds; its names count as distinct.
fn probe(directory: &OwnedFd) -> Result<bool, Errno> {
    let before = rustix::fs::fstat(directory)?;
    let prefix = String::from_utf8_lossy(TEMPORARY_PREFIX);
    let base = format!("{prefix}{:016x}-0-0-{}", before.st_ino, std::process::id());
    let [name, others @ ..] = PROBE.map(|spelling| format!("{base}{spelling}"));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    drop(rustix::fs::openat(directory, &name, flags, Mode::RUSR | Mode::WUSR)?);
    let is_found = |other: &String| rustix::fs::statat(directory, other, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    let folds = others.iter().any(is_found);
    let is_as_given = names(directory).is_ok_and(|names| names.contains(name.as_bytes()));
    rustix::fs::unlinkat(directory, &name, AtFlags::empty())?;
    rustix::fs::futimens(directory, &modified_at(modified_time(&before)))?;
    Ok(folds && is_as_given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_case_sensitive_file_system_no_names_collide_and_the_probe_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("readme"), "x").unwrap();
        let handle = OwnedFd::from(std::fs::File::open(directory.path()).unwrap());
        let spellings = Spellings::default();
        assert!(!spellings.folds(&handle) && !probe(&handle).unwrap());
        assert!(spellings.check(&handle, b"readme", b"/a/readme").is_ok());
        assert!(spellings.check(&handle, b"README", b"/a/README").is_ok());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
