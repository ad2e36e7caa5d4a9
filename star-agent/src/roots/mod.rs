//! The exported directories of a Star, the only ones that jobs can use.
//!
//! Every use opens its root by path, so that a job sees the current directory (`exported.rs`).
//!
//! Two rules keep every path inside. From a root down to the base path of a job, `cap-std` resolves paths beneath the
//! root's handle: symbolic links are followed as long as they stay inside the root. Below the base, symbolic links are
//! never followed (`Tree`). So neither `..` nor links nor renames lead outside. Absolute links are refused, even if
//! they point inside.

mod exported;
mod tree;
mod watch;

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, MetadataExt, Permissions, PermissionsExt as _};
use orbit_program::private_files::{is_apart, is_claimed, is_within_apart, usual_directory_mode};
use orbit_shared::entry::display_path;
use orbit_shared::session::Root;
use orbit_shared::words::JobId;

use self::exported::Pins;
pub(crate) use exported::Absence;
pub(crate) use tree::{OWN_DIRECTORY, Tree, grant_owner_access, split_parent};
pub(crate) use watch::RootWatch;

/// The exported directories. None of them is held open.
pub struct Roots {
    exported: Vec<Exported>,
    pins: Pins,
}

struct Exported {
    root: Root,
    components: Vec<Vec<u8>>,
    is_mount_required: bool,
}

/// Why a root cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// Its path does not start with a slash.
    #[error("the root {path} is not an absolute path: write it from / on")]
    NotAbsolute {
        /// The path as given.
        path: String,
    },
    /// Its path leads upwards.
    #[error("the root {path} contains `..`: write the path that it stands for")]
    LeadsUpwards {
        /// The path as given.
        path: String,
    },
    /// It is missing, not a directory, or cannot be opened.
    #[error(
        "the root {path} cannot be opened as a directory ({source}): create it, or leave this --root out"
    )]
    NotADirectory {
        /// The path as given.
        path: String,
        /// The error.
        source: std::io::Error,
    },
}

/// Why a path at this Star cannot be used.
#[derive(Debug)]
pub(crate) enum PathError {
    /// It is not absolute, or contains `..`.
    Malformed { path: Vec<u8> },
    /// No root contains it.
    OutsideRoots { path: Vec<u8>, roots: String },
    /// It is to be written, and its root is exported read-only.
    ReadOnly { path: Vec<u8>, root: Vec<u8> },
    /// A file is to be put where a root is.
    IsRoot { path: Vec<u8> },
    /// It is a directory of the grid itself, or is inside one.
    Own { path: Vec<u8> },
    /// Its root cannot be used now.
    RootAway { root: Vec<u8>, absence: Absence },
    /// The operating system reports an error.
    System { path: Vec<u8>, action: &'static str, error: std::io::Error },
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { path } => {
                write!(f, "{} is not an absolute path without `..`", display_path(path))
            }
            Self::OutsideRoots { path, roots } => {
                write!(f, "{} lies outside the exported roots ({roots})", display_path(path))
            }
            Self::ReadOnly { path, root } => write!(
                f,
                "{} cannot be written: the root {} is exported read-only",
                display_path(path),
                display_path(root)
            ),
            Self::IsRoot { path } => write!(
                f,
                "{} is an exported root: a single file needs a path below it, with the name it shall have",
                display_path(path)
            ),
            Self::Own { path } => write!(
                f,
                "{} belongs to Orbit Grid itself (a vault, a data directory or keys): no job reads or writes it",
                display_path(path)
            ),
            Self::RootAway { root, absence } => write!(f, "the root {} {absence}", display_path(root)),
            Self::System { path, action, error } => {
                let path = display_path(path);
                // The error of cap-std for a link that leads outside, and for every absolute one.
                let is_escape =
                    error.kind() == std::io::ErrorKind::PermissionDenied && error.raw_os_error().is_none();
                if is_escape {
                    return write!(
                        f,
                        "cannot {action} {path}: a symbolic link on the way leads out of the root or is absolute; name the \
                         path that it stands for, or make the link relative"
                    );
                }
                write!(f, "cannot {action} {path}: {error}")
            }
        }
    }
}

/// The base path of a job at this Star, resolved and open.
#[derive(Debug)]
pub(crate) struct Place {
    /// The directory; for a single entry, the one above it.
    pub(crate) tree: Tree,
    /// The entry's name when the base path is not a directory.
    pub(crate) single: Option<Vec<u8>>,
    /// The base path as it was given, for messages.
    pub(crate) path: Vec<u8>,
    /// Whether directories down to it had to be created, so that their own entries are not durable yet.
    pub(crate) is_created: bool,
}

impl Roots {
    /// Exports these directories, each of which must exist.
    ///
    /// # Errors
    /// See [`RootsError`].
    pub fn open(roots: &[Root]) -> Result<Self, RootsError> {
        Self::with_mounts(roots, &[])
    }

    /// As [`Self::open`]. Roots whose paths are in `mounted` are used only while a file system is mounted on them, and
    /// need not exist yet.
    ///
    /// # Errors
    /// See [`RootsError`].
    pub fn with_mounts(roots: &[Root], mounted: &[Vec<u8>]) -> Result<Self, RootsError> {
        let exported = roots.iter().map(|root| export(root, mounted.contains(&root.path)));
        Ok(Self { exported: exported.collect::<Result<_, _>>()?, pins: Pins::default() })
    }

    /// Opens an existing path for reading, for a job. `is_begun` says that it is the job's first operation.
    pub(crate) fn open_source(&self, path: &[u8], job: JobId, is_begun: bool) -> Result<Place, PathError> {
        let (root, relative) = self.locate(path)?;
        let base = root.open()?;
        let system = |action| move |error| PathError::System { path: path.to_vec(), action, error };
        let is_directory = base.metadata(&relative).map_err(system("find"))?.is_dir();
        let (dir, single) = if is_directory {
            (base.open_dir(&relative).map_err(system("open"))?, None)
        } else {
            // Resolves links in the parent path but not in the last component, which may be a link itself.
            let resolved = base.canonicalize(&relative).map_err(system("resolve"))?;
            let name = resolved.file_name().map(|name| name.as_bytes().to_vec());
            let parent = base.open_dir(or_dot(resolved.parent())).map_err(system("open the directory of"))?;
            (parent, Some(name.ok_or_else(|| PathError::Malformed { path: path.to_vec() })?))
        };
        root.check_apart(&base, &relative, path)?;
        self.check_pin(&dir, (job, is_begun), path)?;
        Ok(Place { tree: Tree::new(dir), single, path: path.to_vec(), is_created: false })
    }

    /// Opens a path for writing, for a job. With `is_created`, creates missing directories. With `is_single` the path
    /// is that of the one entry to write; otherwise it is the directory for all entries.
    pub(crate) fn open_destination(
        &self,
        path: &[u8],
        job: JobId,
        is_single: bool,
        is_created: bool,
    ) -> Result<Place, PathError> {
        let (root, relative) = self.locate(path)?;
        if root.root.is_read_only {
            return Err(PathError::ReadOnly { path: path.to_vec(), root: root.root.path.clone() });
        }
        let system = |action| move |error| PathError::System { path: path.to_vec(), action, error };
        let (directory, single) = if is_single {
            let name = relative.file_name().map(|name| name.as_bytes().to_vec());
            let name = name.ok_or_else(|| PathError::IsRoot { path: path.to_vec() })?;
            (or_dot(relative.parent()).to_owned(), Some(name))
        } else {
            (relative, None)
        };
        let dir = root.open()?;
        root.check_apart(&dir, &directory, path)?;
        let (opened, is_created) = match dir.open_dir(&directory) {
            Ok(opened) => (opened, false),
            Err(error) if is_created && error.kind() == std::io::ErrorKind::NotFound => {
                create_directories(&dir, &directory).map_err(system("create the directory of"))?;
                (dir.open_dir(&directory).map_err(system("open"))?, true)
            }
            Err(error) => return Err(system("open")(error)),
        };
        self.check_pin(&opened, (job, false), path)?;
        Ok(Place { tree: Tree::new(opened), single, path: path.to_vec(), is_created })
    }

    /// A job must not continue in another file system than the one in which it began.
    fn check_pin(&self, dir: &Dir, (job, is_begun): (JobId, bool), path: &[u8]) -> Result<(), PathError> {
        let away = |absence| PathError::RootAway { root: path.to_vec(), absence };
        let found = exported::file_system(dir).map_err(|errno| away(Absence::Unopened(errno.into())))?;
        self.pins.check(job, path, found, is_begun).map_err(away)
    }

    /// The deepest root that contains `path`, and the rest of the path below it (`.` for the root itself).
    fn locate(&self, path: &[u8]) -> Result<(&Exported, PathBuf), PathError> {
        let components = components(path).ok_or_else(|| PathError::Malformed { path: path.to_vec() })?;
        let above = self.exported.iter().filter(|root| components.starts_with(&root.components));
        let root = above
            .max_by_key(|root| root.components.len())
            .ok_or_else(|| PathError::OutsideRoots { path: path.to_vec(), roots: self.describe() })?;
        let mut relative = PathBuf::new();
        relative.extend(components[root.components.len()..].iter().map(|part| OsStr::from_bytes(part)));
        Ok((root, if relative.as_os_str().is_empty() { PathBuf::from(".") } else { relative }))
    }

    fn describe(&self) -> String {
        let list: Vec<String> = self.exported.iter().map(|root| display_path(&root.root.path)).collect();
        if list.is_empty() { "there are none".to_owned() } else { list.join(", ") }
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list: Vec<&Root> = self.exported.iter().map(|root| &root.root).collect();
        f.debug_struct("Roots").field("list", &list).finish_non_exhaustive()
    }
}

impl Exported {
    fn open(&self) -> Result<Dir, PathError> {
        let away = |absence| PathError::RootAway { root: self.root.path.clone(), absence };
        exported::open(&self.root.path, self.is_mount_required).map_err(away)
    }

    /// Refuses a path that leads into a directory of the grid itself, at any level and by any link, above the root too,
    /// or to a file of it.
    fn check_apart(&self, base: &Dir, relative: &Path, path: &[u8]) -> Result<(), PathError> {
        let own = || PathError::Own { path: path.to_vec() };
        if is_within_apart(Path::new(OsStr::from_bytes(&self.root.path))) {
            return Err(own());
        }
        // If the path does not exist, its nearest existing directory counts.
        let existing = relative.ancestors().find_map(|above| base.canonicalize(or_dot(Some(above))).ok());
        let resolved = existing.unwrap_or_default();
        let is_own =
            |stat: cap_std::fs::Metadata| is_claimed(MetadataExt::dev(&stat), MetadataExt::ino(&stat));
        if base.symlink_metadata(or_dot(Some(&resolved))).is_ok_and(is_own) {
            return Err(own());
        }
        for above in resolved.ancestors() {
            if base.open_dir(or_dot(Some(above))).is_ok_and(|directory| is_apart(&directory)) {
                return Err(own());
            }
        }
        Ok(())
    }
}

fn export(root: &Root, is_mount_required: bool) -> Result<Exported, RootsError> {
    let path = display_path(&root.path);
    if root.path.first() != Some(&b'/') {
        return Err(RootsError::NotAbsolute { path });
    }
    let Some(components) = components(&root.path) else {
        return Err(RootsError::LeadsUpwards { path });
    };
    match exported::open(&root.path, is_mount_required) {
        Err(Absence::Unopened(source)) if !is_mount_required => {
            return Err(RootsError::NotADirectory { path, source });
        }
        // cap-std opens /proc when it first resolves a path, keeps the handle, and panics at an unexpected error. This
        // makes it happen now instead of in the middle of a job.
        Ok(opened) => drop(opened.canonicalize(".")),
        // A disk that is connected later is used then.
        Err(_) => {}
    }
    Ok(Exported { root: root.clone(), components, is_mount_required })
}

/// The components of an absolute path; `None` if it is relative or contains `..` or NUL.
fn components(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    if path.first() != Some(&b'/') || path.contains(&0) {
        return None;
    }
    let parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.map(|part| (part != b"..").then(|| part.to_vec())).collect()
}

/// Creates the directories down to a destination, with the modes that the umask of the caller gives, since no item of
/// the job has their modes.
fn create_directories(dir: &Dir, path: &Path) -> std::io::Result<()> {
    let Some(mode) = usual_directory_mode() else { return dir.create_dir_all(path) };
    let mut made = PathBuf::new();
    for component in path.components() {
        made.push(component);
        match dir.create_dir(&made) {
            Ok(()) => dir.set_permissions(&made, Permissions::from_mode(mode))?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn or_dot(path: Option<&Path>) -> &Path {
    path.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(path: &Path, is_read_only: bool) -> Root {
        Root { path: path.as_os_str().as_bytes().to_vec(), is_read_only }
    }

    fn below(path: &Path, name: &str) -> Vec<u8> {
        path.join(name).as_os_str().as_bytes().to_vec()
    }

    #[test]
    fn a_root_that_is_no_directory_is_refused_with_its_path() {
        let error = Roots::open(&[root(Path::new("/no/such/place"), false)]).unwrap_err().to_string();
        assert!(error.contains("/no/such/place") && error.contains("create it"), "{error}");
        let error = Roots::open(&[root(Path::new("relative"), false)]).unwrap_err().to_string();
        assert!(error.contains("absolute"), "{error}");
        assert!(Roots::open(&[root(Path::new("/tmp/../etc"), false)]).is_err());
    }

    #[test]
    fn paths_outside_the_roots_and_paths_that_lead_upwards_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let roots = Roots::open(&[root(directory.path(), false)]).unwrap();
        assert!(matches!(roots.open_source(b"/etc", JobId(0), false), Err(PathError::OutsideRoots { .. })));
        let upwards = below(directory.path(), "../etc");
        assert!(matches!(roots.open_source(&upwards, JobId(0), false), Err(PathError::Malformed { .. })));
        // A sibling that merely starts with the same letters is outside.
        let mut sibling = directory.path().as_os_str().as_bytes().to_vec();
        sibling.extend_from_slice(b"x");
        assert!(matches!(roots.open_source(&sibling, JobId(0), false), Err(PathError::OutsideRoots { .. })));
    }

    #[test]
    fn links_above_the_base_are_followed_inside_the_root_and_refused_outside() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("real")).unwrap();
        std::fs::write(directory.path().join("real/file"), b"x").unwrap();
        std::os::unix::fs::symlink("real", directory.path().join("inside")).unwrap();
        std::os::unix::fs::symlink("../../../../../../etc", directory.path().join("outside")).unwrap();
        std::os::unix::fs::symlink("/etc", directory.path().join("absolute")).unwrap();
        std::os::unix::fs::symlink("inside/file", directory.path().join("link")).unwrap();
        let roots = Roots::open(&[root(directory.path(), false)]).unwrap();
        assert_eq!(
            roots.open_source(&below(directory.path(), "inside"), JobId(0), false).unwrap().single,
            None
        );
        let single = roots.open_source(&below(directory.path(), "link"), JobId(0), false).unwrap();
        assert_eq!(single.single.as_deref(), Some(&b"file"[..]));
        for name in ["outside", "absolute", "outside/passwd"] {
            assert!(roots.open_source(&below(directory.path(), name), JobId(0), false).is_err(), "{name}");
            assert!(
                roots.open_destination(&below(directory.path(), name), JobId(0), false, true).is_err(),
                "{name}"
            );
        }
    }

    #[test]
    fn writing_to_a_read_only_root_is_refused_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let roots = Roots::open(&[root(directory.path(), true)]).unwrap();
        let error = roots
            .open_destination(&below(directory.path(), "new"), JobId(0), false, true)
            .unwrap_err()
            .to_string();
        assert!(error.contains("read-only") && error.contains("new"), "{error}");
        assert!(!directory.path().join("new").exists());
    }

    #[test]
    fn the_root_directory_can_be_a_root_and_the_deepest_root_counts() {
        let directory = tempfile::tempdir().unwrap();
        let roots = Roots::open(&[root(Path::new("/"), true), root(directory.path(), false)]).unwrap();
        assert_eq!(roots.open_source(b"/", JobId(0), false).unwrap().single, None);
        // The deeper root allows what the one above it refuses.
        assert!(
            roots
                .open_destination(&below(directory.path(), "a/b"), JobId(0), false, true)
                .unwrap()
                .is_created
        );
        assert!(directory.path().join("a/b").is_dir());
        assert!(matches!(
            roots.open_destination(&below(directory.path(), ""), JobId(0), true, true),
            Err(PathError::IsRoot { .. })
        ));
    }
}
