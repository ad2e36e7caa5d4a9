//! Lists one directory in the order of its names, in parts with a maximum size, however large the directory is.
//!
//! A directory with more names than can be held at a time is listed again for each further part: the smallest names
//! after the last one are kept, and the others skipped. For directories with millions of names this costs time, but no
//! memory.

use std::collections::BinaryHeap;

use orbit_program::private_files::is_claimed;
use orbit_shared::entry::{EntryKind, display_path, is_passing_errno, is_temporary_name};
use orbit_shared::time::WallTime;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::limits::{LISTED_BLOCK_MAX, LISTED_NAMES_MAX};
use crate::roots::Place;
use crate::transfer::modified_time;

/// An entry with its `stat`.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: Vec<u8>,
    pub(super) kind: EntryKind,
    pub(super) mode: u32,
    pub(super) modified: WallTime,
    /// Its device; 0 if `stat` failed.
    pub(super) device: u64,
}

impl Found {
    /// The error of `stat`, if it may be temporary.
    fn passing_error(&self) -> Option<Errno> {
        match self.kind {
            EntryKind::Unreadable { errno } if is_passing_errno(errno) => {
                Some(Errno::from_raw_os_error(errno))
            }
            _ => None,
        }
    }
}

/// A directory that the walk is listing.
#[derive(Debug)]
pub(super) struct Listing {
    /// Path below the base.
    pub(super) path: Vec<u8>,
    /// Names without `stat` yet, the next one last.
    names: Vec<Vec<u8>>,
    /// Names up to this one were listed.
    after: Option<Vec<u8>>,
    /// Whether there may be names after those in `names`.
    has_more: bool,
    /// Whether an entry with a temporary error is given up. Otherwise the listing fails, and can be continued there.
    pub(super) gives_up_single: bool,
}

impl Listing {
    /// A listing that begins after the name `after`, or at the name `from`, if either is given.
    pub(super) fn new(path: Vec<u8>, after: Option<Vec<u8>>) -> Self {
        Self { path, names: Vec::new(), after, has_more: true, gives_up_single: false }
    }

    /// Whether all names were examined.
    pub(super) fn is_done(&self) -> bool {
        self.names.is_empty() && !self.has_more
    }

    /// Examines the next names. The result is empty only when the listing is done. Blocks.
    pub(super) fn next_block(&mut self, place: &Place) -> Result<Vec<Found>, Errno> {
        let mut found = Vec::new();
        while found.is_empty() && !self.is_done() {
            let directory = place.tree.open_dir(&self.path)?;
            if self.names.is_empty() {
                self.list(&directory)?;
            }
            let rest = self.names.len().saturating_sub(LISTED_BLOCK_MAX);
            let block = self.names.split_off(rest);
            found.extend(block.iter().rev().filter_map(|name| look(&directory, name.clone())));
            if let Some(errno) = found.iter().find_map(Found::passing_error).filter(|_| !self.gives_up_single)
            {
                self.names.extend(block);
                return Err(errno);
            }
        }
        Ok(found)
    }

    /// Reads the names after `after`, as many as can be held.
    fn list(&mut self, directory: &OwnedFd) -> Result<(), Errno> {
        let mut smallest = BinaryHeap::new();
        let mut has_more = false;
        // Opened again, since a handle that permits search but not read returns a clear error here.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        for entry in Dir::new(rustix::fs::openat(directory, c".", flags, Mode::empty())?)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let is_passed = self.after.as_deref().is_some_and(|after| name <= after);
            if is_passed || name == b"." || name == b".." || is_temporary_name(name) {
                continue;
            }
            if smallest.len() == LISTED_NAMES_MAX {
                has_more = true;
                if smallest.peek().is_some_and(|largest: &Vec<u8>| largest.as_slice() <= name) {
                    continue;
                }
                smallest.pop();
            }
            smallest.push(name.to_vec());
        }
        // Set only now, since a directory that could not be read to its end may have more names.
        self.has_more = has_more;
        self.names = smallest.into_sorted_vec();
        if let Some(last) = self.names.last() {
            self.after = Some(last.clone());
        }
        self.names.reverse();
        Ok(())
    }
}

/// Examines one name; `None` if it no longer exists.
fn look(directory: &OwnedFd, name: Vec<u8>) -> Option<Found> {
    match rustix::fs::statat(directory, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if is_claimed(stat.st_dev, stat.st_ino) => {
            tracing::info!("{} belongs to Orbit Grid itself and is left out of the job", display_path(&name));
            None
        }
        Ok(stat) => found(directory, name, &stat),
        Err(Errno::NOENT) => None,
        Err(errno) => Some(unreadable(name, errno)),
    }
}

/// The base itself, if it is a single entry.
pub(super) fn look_at_single(place: &Place, name: &[u8]) -> Result<Option<Found>, Errno> {
    Ok(look(&*place.tree.open_dir(b"")?, name.to_vec()))
}

/// The base itself, if it is a directory.
pub(super) fn look_at_base(place: &Place) -> Result<Found, Errno> {
    let stat = rustix::fs::fstat(&*place.tree.open_dir(b"")?)?;
    Ok(Found {
        name: Vec::new(),
        kind: EntryKind::Directory,
        mode: stat.st_mode & 0o7777,
        modified: modified_time(&stat),
        device: stat.st_dev,
    })
}

fn found(directory: &OwnedFd, name: Vec<u8>, stat: &Stat) -> Option<Found> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::File { size: u64::try_from(stat.st_size).unwrap_or(0) },
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => match rustix::fs::readlinkat(directory, name.as_slice(), Vec::new()) {
            Ok(target) => EntryKind::Symlink { target: target.into_bytes() },
            Err(Errno::NOENT) => return None,
            Err(errno) => return Some(unreadable(name, errno)),
        },
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        FileType::CharacterDevice => EntryKind::CharacterDevice,
        FileType::BlockDevice => EntryKind::BlockDevice,
        FileType::Unknown => return Some(unreadable(name, Errno::NOTSUP)),
    };
    let modified = modified_time(stat);
    Some(Found { name, kind, mode: stat.st_mode & 0o7777, modified, device: stat.st_dev })
}

fn unreadable(name: Vec<u8>, errno: Errno) -> Found {
    Found {
        name,
        kind: EntryKind::Unreadable { errno: errno.raw_os_error() },
        mode: 0,
        modified: WallTime::UNIX_EPOCH,
        device: 0,
    }
}
