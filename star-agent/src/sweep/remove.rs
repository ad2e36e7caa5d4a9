//! Deletes entries of a list below the destination, or moves them to its trash.
//!
//! An entry that has changed since it was listed is kept: another process has put something there. Directories in which
//! an entry is deleted keep their times and modes, since the job has given them those of the source. A directory is
//! deleted only if it is empty, since it may contain entries that the job leaves out. Only temporary files of a killed
//! copy are deleted with it.

use std::ffi::CStr;
use std::sync::Arc;
use std::time::Duration;

use orbit_shared::entry::{display_path, is_temporary_name, join_path};
use orbit_shared::sweep::{SweepInfo, SweepRequest};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use super::extras::{Extra, Kind};
use crate::failures::errno_words;
use crate::roots::{Place, Roots, Tree, grant_owner_access, split_parent};
use crate::sink::modified_at;
use crate::transfer::modified_time;
use orbit_program::clock::wall;

/// Number of names that are tried if the name of an entry is taken in the trash.
const TRASH_NAMES_MAX: u32 = 1000;
/// A temporary file that was not written for this long belongs to no running copy.
const ABANDONED_AFTER: Duration = Duration::from_secs(60 * 60);

/// The result of one step.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    deleted: u64,
    deleted_bytes: u64,
    failed: u64,
    problem: String,
}

impl Done {
    /// Adds it to the result of the sweep.
    pub(super) fn add_to(self, info: &mut SweepInfo) {
        info.deleted += self.deleted;
        info.deleted_bytes += self.deleted_bytes;
        info.failed += self.failed;
        if info.problem.is_empty() {
            info.problem = self.problem;
        }
    }

    fn fail(&mut self, problem: impl FnOnce() -> String) {
        self.failed += 1;
        if self.problem.is_empty() {
            self.problem = problem();
        }
    }
}

/// The open destination of a sweep.
pub(super) struct Remover {
    place: Place,
    /// Path of the trash below the destination, if there is one.
    trash: Option<Vec<u8>>,
}

/// The directory in which entries are deleted, with its original mode and times.
struct Parent {
    handle: Arc<OwnedFd>,
    stat: Stat,
    is_opened_up: bool,
}

impl Remover {
    pub(super) fn open(roots: &Roots, request: &SweepRequest) -> Result<Self, String> {
        let job = request.scan.job;
        let place = roots
            .open_destination(&request.scan.path, job, false, false)
            .map_err(|error| error.to_string())?;
        let trash = request.trash.as_ref().map(|name| format!("{name}/job-{job}").into_bytes());
        Ok(Self { place, trash })
    }

    /// Deletes entries in this order, on a blocking thread.
    pub(super) async fn remove(self, extras: Vec<Extra>) -> Result<(Self, Done), String> {
        let removing = tokio::task::spawn_blocking(move || {
            let done = self.remove_now(&extras);
            (self, done)
        });
        removing.await.map_err(|error| format!("deleting did not end: {error}"))
    }

    fn remove_now(&self, extras: &[Extra]) -> Done {
        let mut done = Done::default();
        for siblings in extras.chunk_by(|a, b| split_parent(&a.path).0 == split_parent(&b.path).0) {
            self.remove_siblings(siblings, &mut done);
        }
        done
    }

    /// Deletes entries of one directory, and makes that durable.
    fn remove_siblings(&self, siblings: &[Extra], done: &mut Done) {
        let Some(first) = siblings.first() else { return };
        let path = split_parent(&first.path).0;
        let mut parent = match Parent::open(&self.place.tree, path) {
            Ok(parent) => parent,
            // It was removed with its content.
            Err(Errno::NOENT) => return,
            Err(errno) => return done.fail(|| self.problem("open the directory", path, errno)),
        };
        for extra in siblings {
            match self.remove_one(&mut parent, extra) {
                Ok(true) => {
                    done.deleted += 1;
                    done.deleted_bytes += extra.size;
                }
                Ok(false) => {}
                Err(Failed::Changed) => done.fail(|| {
                    let path = display_path(&join_path(&self.place.path, &extra.path));
                    format!("{path} has changed since it was listed, so it stays")
                }),
                Err(Failed::Trash(errno)) => done.fail(|| {
                    let trash = self.trash.as_deref().unwrap_or_default();
                    let problem = self.problem("move what is to be deleted to the trash", trash, errno);
                    format!("{problem}; see that it is a directory, or choose another name")
                }),
                Err(Failed::System(errno)) => done.fail(|| self.problem("delete", &extra.path, errno)),
            }
        }
        if let Err(errno) = parent.put_back() {
            done.fail(|| self.problem("put the times back of", path, errno));
        }
    }

    /// Deletes an entry. Returns whether it did: not if it is already gone, or is a directory that is not empty.
    fn remove_one(&self, parent: &mut Parent, extra: &Extra) -> Result<bool, Failed> {
        let name = split_parent(&extra.path).1;
        let stat = match rustix::fs::statat(&parent.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        };
        // Deleting the content of a directory changes its time.
        let is_same_content = extra.kind != Kind::File
            || (u64::try_from(stat.st_size), modified_time(&stat)) == (Ok(extra.size), extra.modified);
        if Kind::from_mode(stat.st_mode) != extra.kind || !is_same_content {
            return Err(Failed::Changed);
        }
        match (extra.kind, &self.trash) {
            (Kind::Directory, trash) => {
                if let Some(trash) = trash {
                    self.keep_directory(&join_path(trash, &extra.path), &stat, extra)
                        .map_err(Failed::Trash)?;
                }
                let remove = |parent: &OwnedFd| rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
                let is_full =
                    |removed: &Result<(), Errno>| matches!(removed, Err(Errno::NOTEMPTY | Errno::EXIST));
                let mut removed = parent.within(remove);
                if is_full(&removed) && remove_abandoned(&parent.handle, name)? > 0 {
                    removed = parent.within(remove);
                }
                match removed {
                    Ok(()) => Ok(true),
                    full if is_full(&full) => Ok(false),
                    Err(errno) => Err(errno.into()),
                }
            }
            (Kind::File | Kind::Other, None) => {
                parent.within(|parent| rustix::fs::unlinkat(parent, name, AtFlags::empty()))?;
                Ok(true)
            }
            (Kind::File | Kind::Other, Some(trash)) => {
                let moved = self.move_to_trash(parent, name, &join_path(trash, &extra.path));
                moved.map(|()| true).map_err(|errno| match errno {
                    Errno::NOTDIR | Errno::LOOP | Errno::EXIST => Failed::Trash(errno),
                    other => Failed::System(other),
                })
            }
        }
    }

    /// Makes a directory in the trash with the listed mode and time of the deleted one.
    fn keep_directory(&self, path: &[u8], stat: &Stat, extra: &Extra) -> Result<(), Errno> {
        let kept = self.place.tree.create_dir(path)?;
        rustix::fs::fchmod(&kept, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        rustix::fs::futimens(&kept, &modified_at(extra.modified))
    }

    fn move_to_trash(&self, parent: &mut Parent, name: &[u8], path: &[u8]) -> Result<(), Errno> {
        let (trash, kept_name) = self.place.tree.create_parent(path)?;
        for number in 0..TRASH_NAMES_MAX {
            let free = match number {
                0 => kept_name.to_vec(),
                number => [kept_name, format!(".~{number}~").as_bytes()].concat(),
            };
            let moved = parent.within(|parent| {
                rustix::fs::renameat_with(parent, name, &trash, free.as_slice(), RenameFlags::NOREPLACE)
            });
            match moved {
                Err(Errno::EXIST) => {}
                other => return other,
            }
        }
        Err(Errno::EXIST)
    }

    fn problem(&self, action: &str, path: &[u8], errno: Errno) -> String {
        let path = display_path(&join_path(&self.place.path, path));
        format!("cannot {action} {path}: {}", errno_words(errno))
    }
}

/// Why an entry is kept.
enum Failed {
    Changed,
    /// It cannot be moved to the trash.
    Trash(Errno),
    System(Errno),
}

impl From<Errno> for Failed {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

/// Removes the temporary files of a killed copy in a directory. Returns their number.
fn remove_abandoned(parent: &OwnedFd, name: &[u8]) -> Result<u64, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let mut abandoned = 0;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if !is_temporary_name(name.to_bytes()) {
            continue;
        }
        let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if Kind::from_mode(stat.st_mode) == Kind::File && is_abandoned(&stat) {
            rustix::fs::unlinkat(&directory, name, AtFlags::empty())?;
            abandoned += 1;
        }
    }
    Ok(abandoned)
}

/// Whether a file was not written for a long time.
fn is_abandoned(stat: &Stat) -> bool {
    let written = modified_time(stat);
    wall().since(written) > ABANDONED_AFTER
}

impl Parent {
    fn open(tree: &Tree, path: &[u8]) -> Result<Self, Errno> {
        let handle = tree.open_dir(path)?;
        let stat = rustix::fs::fstat(&*handle)?;
        Ok(Self { handle, stat, is_opened_up: false })
    }

    /// Runs `act` in the directory, which is made writable for that if its mode forbids it.
    fn within(&mut self, act: impl Fn(&OwnedFd) -> Result<(), Errno>) -> Result<(), Errno> {
        match act(&self.handle) {
            Err(Errno::ACCESS) if !self.is_opened_up => {
                grant_owner_access(&self.handle)?;
                self.is_opened_up = true;
                act(&self.handle)
            }
            other => other,
        }
    }

    /// Restores the directory's mode and times, and syncs the deletions.
    fn put_back(self) -> Result<(), Errno> {
        let done = || {
            if self.is_opened_up {
                rustix::fs::fchmod(&*self.handle, Mode::from_raw_mode(self.stat.st_mode & 0o7777))?;
            }
            rustix::fs::futimens(&*self.handle, &modified_at(modified_time(&self.stat)))?;
            rustix::fs::fsync(&*self.handle)
        };
        // A directory that was only passed through cannot have been written to.
        match done() {
            Err(Errno::BADF) => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::time::{Duration, SystemTime};

    use cap_std::ambient_authority;
    use cap_std::fs::Dir;
    use orbit_shared::time::WallTime;

    use super::*;

    struct Target {
        directory: tempfile::TempDir,
    }

    impl Target {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir_all(directory.path().join("old/deep")).unwrap();
            fs::write(directory.path().join("old/deep/file"), b"12345").unwrap();
            symlink("nowhere", directory.path().join("old/link")).unwrap();
            fs::write(directory.path().join("kept"), b"kept").unwrap();
            Self { directory }
        }

        fn path(&self, path: &str) -> std::path::PathBuf {
            self.directory.path().join(path)
        }

        fn extra(&self, path: &str) -> Extra {
            let stat = rustix::fs::lstat(self.path(path)).unwrap();
            Extra {
                path: path.as_bytes().to_vec(),
                kind: Kind::from_mode(stat.st_mode),
                size: if Kind::from_mode(stat.st_mode) == Kind::File { stat.st_size as u64 } else { 0 },
                modified: modified_time(&stat),
            }
        }

        fn remove(&self, trash: Option<&str>, extras: &[Extra]) -> Done {
            let base = Dir::open_ambient_dir(self.directory.path(), ambient_authority()).unwrap();
            let place =
                Place { tree: Tree::new(base), single: None, path: b"/t".to_vec(), is_created: false };
            Remover { place, trash: trash.map(|trash| trash.as_bytes().to_vec()) }.remove_now(extras)
        }

        /// All entries of `old`, the content of a directory before it.
        fn old(&self) -> Vec<Extra> {
            ["old/link", "old/deep/file", "old/deep", "old"].map(|path| self.extra(path)).to_vec()
        }
    }

    fn long_ago() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    #[test]
    fn a_tree_is_deleted_and_its_parent_directory_keeps_its_time() {
        let target = Target::new();
        let all = target.old();
        fs::File::open(target.directory.path()).unwrap().set_modified(long_ago()).unwrap();
        let done = target.remove(None, &all);
        assert_eq!(done, Done { deleted: 4, deleted_bytes: 5, failed: 0, problem: String::new() });
        assert!(!target.path("old").exists() && target.path("kept").exists());
        assert_eq!(fs::metadata(target.directory.path()).unwrap().modified().unwrap(), long_ago());
        // An entry that is already gone is no failure, and is not counted again.
        assert_eq!(target.remove(None, &all), Done::default());
    }

    #[test]
    fn the_trash_has_the_deleted_entries_unchanged() {
        let target = Target::new();
        fs::set_permissions(target.path("old/deep"), fs::Permissions::from_mode(0o750)).unwrap();
        fs::File::open(target.path("old/deep")).unwrap().set_modified(long_ago()).unwrap();
        let all = target.old();
        assert_eq!(target.remove(Some(".trash/job-1"), &all).deleted, 4);
        assert!(!target.path("old").exists());
        let kept = target.path(".trash/job-1/old/deep");
        assert_eq!(fs::read(kept.join("file")).unwrap(), b"12345");
        let metadata = fs::metadata(&kept).unwrap();
        assert_eq!(
            (metadata.permissions().mode() & 0o777, metadata.modified().unwrap()),
            (0o750, long_ago())
        );
        assert!(fs::read_link(target.path(".trash/job-1/old/link")).is_ok());
        // The same name finds its place taken the second time, and overwrites nothing.
        fs::create_dir_all(target.path("old/deep")).unwrap();
        fs::write(target.path("old/deep/file"), b"other").unwrap();
        assert_eq!(target.remove(Some(".trash/job-1"), &[target.extra("old/deep/file")]).deleted, 1);
        assert_eq!(fs::read(kept.join("file")).unwrap(), b"12345");
        assert_eq!(fs::read(kept.join("file.~1~")).unwrap(), b"other");
    }

    #[test]
    fn old_temporaries_of_a_killed_copy_are_deleted_with_their_directory() {
        let target = Target::new();
        let left = target.path("old/.orbit-tmp-0123456789abcdef-1-0-5");
        fs::write(&left, b"half").unwrap();
        let all = target.old();
        target.remove(None, &all);
        assert!(left.exists(), "it may still be written to");
        fs::File::options().write(true).open(&left).unwrap().set_modified(long_ago()).unwrap();
        assert_eq!(target.remove(None, &[target.extra("old")]).deleted, 1);
        assert!(!target.path("old").exists());
    }

    #[test]
    fn a_trash_that_is_a_file_is_named() {
        let target = Target::new();
        fs::write(target.path(".trash"), b"mine").unwrap();
        let done = target.remove(Some(".trash/job-1"), &target.old());
        assert_eq!(done.deleted, 0);
        assert!(
            done.problem.contains("to the trash") && done.problem.contains(".trash/job-1: Not a directory"),
            "{done:?}"
        );
        assert_eq!(fs::read(target.path(".trash")).unwrap(), b"mine");
    }

    #[test]
    fn an_entry_that_changed_since_it_was_listed_is_kept_with_its_directories() {
        let target = Target::new();
        let all = target.old();
        fs::write(target.path("old/deep/file"), b"something new").unwrap();
        let done = target.remove(None, &all);
        assert_eq!((done.deleted, done.failed), (1, 1), "{done:?}");
        assert!(done.problem.contains("/t/old/deep/file has changed"), "{}", done.problem);
        assert_eq!(fs::read(target.path("old/deep/file")).unwrap(), b"something new");
        // An entry whose kind has changed is not the one that was listed.
        let was = Extra { kind: Kind::Directory, ..target.extra("kept") };
        assert_eq!(target.remove(None, &[was]).failed, 1);
        let was = Extra { modified: WallTime::UNIX_EPOCH, ..target.extra("kept") };
        assert_eq!(target.remove(None, &[was]).failed, 1);
        assert!(target.path("kept").exists());
    }

    #[test]
    fn no_link_leads_out_of_the_destination() {
        let target = Target::new();
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(outside.path().join("deep")).unwrap();
        fs::write(outside.path().join("deep/file"), b"12345").unwrap();
        let file = target.extra("old/deep/file");
        fs::remove_dir_all(target.path("old")).unwrap();
        symlink(outside.path(), target.path("old")).unwrap();
        let done = target.remove(None, &[file]);
        assert_eq!((done.deleted, done.failed), (0, 1), "{done:?}");
        assert!(outside.path().join("deep/file").exists());
    }
}
