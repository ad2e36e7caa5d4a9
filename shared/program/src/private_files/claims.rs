//! What a process claims for itself, by device and inode: its settings file, its token, the directories of its vault.
//!
//! A claim is of a path, and of what lies there. A file that an editor replaced by another one is claimed again within
//! [`LOOK_AGAIN`]; the one that was there before stays claimed, since it may have other names. Each is held open, so that its
//! inode is given to no other file as long as the process lives. The directories in a claimed one are listed each
//! [`LIST_AGAIN`]; what could not be listed stays claimed as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};

/// Maximum depth of directories that are visited; ours are far less deep.
const DEPTH_MAX: usize = 16;
/// Interval after which the claimed paths are checked again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Interval after which the directories in a claimed one are listed again. A vault can have very many files.
const LIST_AGAIN: Duration = Duration::from_secs(60);
/// Maximum number of descriptors that are kept open for claims. What is found at a path beyond that is claimed while it is there.
const HELD_MAX: usize = 64;

static CLAIMS: RwLock<Claims> = RwLock::new(Claims::new());

/// Device and inode.
type Identity = (u64, u64);

struct Claims {
    paths: BTreeSet<PathBuf>,
    /// What was found at the paths, now and before.
    held: BTreeMap<Identity, OwnedFd>,
    /// The directories in those at the paths.
    below: BTreeMap<PathBuf, Below>,
    /// All that is claimed, as of `looked_at`.
    identities: BTreeSet<Identity>,
    looked_at: Option<Instant>,
}

/// The directories in a claimed one.
struct Below {
    /// The claimed one.
    top: Identity,
    directories: BTreeSet<Identity>,
    listed_at: Instant,
}

/// Claims a file, or a directory with all directories in it, for this process, if its jobs are [kept
/// apart](super::keep_apart) from that. If it does not exist, it is claimed once it does.
pub fn claim(path: &Path) {
    if !super::is_keeping_apart() {
        return;
    }
    let mut claims = CLAIMS.write().unwrap_or_else(PoisonError::into_inner);
    claims.paths.insert(path.to_owned());
    claims.below.remove(path);
    claims.look_again(now());
}

/// Whether this device and inode belong to something that this process [claims](claim).
pub fn is_claimed(device: u64, inode: u64) -> bool {
    let claims = CLAIMS.read().unwrap_or_else(PoisonError::into_inner);
    if claims.paths.is_empty() {
        return false;
    }
    let is_fresh = |at: Instant| at.elapsed() < LOOK_AGAIN;
    if claims.looked_at.is_some_and(is_fresh) {
        return claims.identities.contains(&(device, inode));
    }
    drop(claims);
    let mut claims = CLAIMS.write().unwrap_or_else(PoisonError::into_inner);
    claims.look_again(now());
    claims.identities.contains(&(device, inode))
}

#[expect(clippy::disallowed_methods, reason = "it looks at files, as an I/O shell does")]
fn now() -> Instant {
    Instant::now()
}

impl Claims {
    const fn new() -> Self {
        Self {
            paths: BTreeSet::new(),
            held: BTreeMap::new(),
            below: BTreeMap::new(),
            identities: BTreeSet::new(),
            looked_at: None,
        }
    }

    fn look_again(&mut self, now: Instant) {
        let mut found = BTreeSet::new();
        for path in &self.paths {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let Ok(handle) = rustix::fs::openat(CWD, path, flags, Mode::empty()) else { continue };
            let Ok(stat) = rustix::fs::fstat(&handle) else { continue };
            let top = identity(&stat);
            found.insert(top);
            if FileType::from_raw_mode(stat.st_mode).is_dir() {
                list_below(&mut self.below, path, top, now);
            }
            if self.held.len() < HELD_MAX {
                self.held.entry(top).or_insert(handle);
            }
        }
        found.extend(self.held.keys());
        found.extend(self.below.values().flat_map(|below| &below.directories));
        self.identities = found;
        self.looked_at = Some(now);
    }
}

/// Lists the directories in a claimed one, unless that was done a short time ago.
fn list_below(all: &mut BTreeMap<PathBuf, Below>, path: &Path, top: Identity, now: Instant) {
    let known = all.get(path).filter(|below| below.top == top);
    if known.is_some_and(|below| now.duration_since(below.listed_at) < LIST_AGAIN) {
        return;
    }
    let mut directories = BTreeSet::new();
    if look_below(path, 0, &mut directories).is_err()
        && let Some(known) = known
    {
        directories.extend(&known.directories);
    }
    all.insert(path.to_owned(), Below { top, directories, listed_at: now });
}

/// Adds the directories in a directory. Fails if not all of them could be listed.
fn look_below(directory: &Path, depth: usize, found: &mut BTreeSet<Identity>) -> io::Result<()> {
    if depth >= DEPTH_MAX {
        return Ok(());
    }
    let mut result = Ok(());
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        // One that is gone by now claims nothing.
        if let Ok(stat) = rustix::fs::lstat(entry.path()) {
            found.insert(identity(&stat));
            result = result.and(look_below(&entry.path(), depth + 1, found));
        }
    }
    result
}

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn has(claims: &Claims, path: &Path) -> bool {
        let found = fs::metadata(path).unwrap();
        claims.identities.contains(&(found.dev(), found.ino()))
    }

    fn claims_of(path: &Path) -> Claims {
        let mut claims = Claims::new();
        claims.paths.insert(path.to_owned());
        claims.look_again(now());
        claims
    }

    #[test]
    fn a_file_that_replaces_a_claimed_one_is_claimed_and_the_old_one_stays_claimed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("settings"), b"old").unwrap();
        fs::hard_link(at("settings"), at("link")).unwrap();
        let mut claims = claims_of(&at("settings"));
        assert!(has(&claims, &at("link")));
        fs::write(at("new"), b"new").unwrap();
        fs::rename(at("new"), at("settings")).unwrap();
        assert!(!has(&claims, &at("settings")));
        claims.look_again(now());
        assert!(has(&claims, &at("settings")) && has(&claims, &at("link")));
    }

    #[test]
    fn the_inode_of_a_removed_claimed_file_is_not_reused() {
        let directory = tempfile::tempdir().unwrap();
        let token = directory.path().join("token");
        fs::write(&token, b"secret").unwrap();
        let mut claims = claims_of(&token);
        fs::remove_file(&token).unwrap();
        for number in 0..200 {
            let path = directory.path().join(number.to_string());
            fs::write(&path, b"").unwrap();
            claims.look_again(now());
            assert!(!has(&claims, &path), "{number}");
        }
    }

    #[test]
    fn a_directory_is_claimed_with_its_subdirectories() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("vault/packed/containers");
        fs::create_dir_all(&inner).unwrap();
        let mut claims = claims_of(&directory.path().join("vault"));
        assert!(has(&claims, &inner) && !has(&claims, directory.path()));
        // A directory that is there no more claims nothing: its inode may be of another one by now.
        let found = fs::metadata(&inner).unwrap();
        fs::remove_dir(&inner).unwrap();
        claims.look_again(now() + LIST_AGAIN);
        assert!(!claims.identities.contains(&(found.dev(), found.ino())));
    }
}
