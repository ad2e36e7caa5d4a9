//! What a Star exports, and nothing beside it.
//!
//! Two rules keep every path inside. From a root down to the base path of a job, paths resolve with `cap-std` beneath
//! the root's handle: symbolic links are followed as long as they stay inside the root. Below the base no symbolic
//! link is ever followed (`Tree`). So neither `..` nor links nor renames lead out. Absolute links are refused, also
//! those that would point back inside.

mod tree;

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use orbit_shared::entry::display_path;
use orbit_shared::session::Root;

pub(crate) use tree::{Tree, grant_owner_access, split_parent};

/// The exported directories, each held open.
pub struct Roots {
    list: Vec<Root>,
    opened: Vec<OpenRoot>,
}

struct OpenRoot {
    components: Vec<Vec<u8>>,
    dir: Dir,
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
        /// What the system said.
        source: std::io::Error,
    },
}

/// Why a path at this Star cannot be used.
#[derive(Debug)]
pub(crate) enum PathError {
    /// Not absolute, or with `..` in it.
    Malformed { path: Vec<u8> },
    /// No root is above it.
    OutsideRoots { path: Vec<u8>, roots: String },
    /// It shall be written and its root is exported for reading.
    ReadOnly { path: Vec<u8>, root: Vec<u8> },
    /// A file shall be put where a root itself is.
    IsRoot { path: Vec<u8> },
    /// The system refused it.
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
            Self::System { path, action, error } => {
                write!(f, "cannot {action} {}: {error}", display_path(path))
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
    /// The base path as it was asked for, for messages.
    pub(crate) path: Vec<u8>,
    /// Whether directories down to it had to be created, so that their own entries are not durable yet.
    pub(crate) is_created: bool,
}

impl Roots {
    /// Opens every root. Each must be an existing directory.
    pub fn open(roots: &[Root]) -> Result<Self, RootsError> {
        let opened = roots.iter().map(open_root).collect::<Result<_, _>>()?;
        Ok(Self { list: roots.to_vec(), opened })
    }

    /// The roots as they were given.
    pub fn list(&self) -> &[Root] {
        &self.list
    }

    /// Opens an existing path for reading.
    pub(crate) fn open_source(&self, path: &[u8]) -> Result<Place, PathError> {
        let (root, relative) = self.locate(path)?;
        let dir = &self.opened[root].dir;
        let system = |action| move |error| PathError::System { path: path.to_vec(), action, error };
        let is_directory = dir.metadata(&relative).map_err(system("find"))?.is_dir();
        let (dir, single) = if is_directory {
            (dir.open_dir(&relative).map_err(system("open"))?, None)
        } else {
            // Resolves the links above the entry and the entry itself, so that its last component is what it is.
            let resolved = dir.canonicalize(&relative).map_err(system("resolve"))?;
            let name = resolved.file_name().map(|name| name.as_bytes().to_vec());
            let parent = dir.open_dir(or_dot(resolved.parent())).map_err(system("open the directory of"))?;
            (parent, Some(name.ok_or_else(|| PathError::Malformed { path: path.to_vec() })?))
        };
        Ok(Place { tree: Tree::new(dir), single, path: path.to_vec(), is_created: false })
    }

    /// Opens a path for writing and, with `is_created`, creates the directories that are missing. With `is_single` the path is that of the
    /// one entry to write; otherwise it is the directory that entries go below.
    pub(crate) fn open_destination(
        &self,
        path: &[u8],
        is_single: bool,
        is_created: bool,
    ) -> Result<Place, PathError> {
        let (root, relative) = self.locate(path)?;
        if self.list[root].is_read_only {
            return Err(PathError::ReadOnly { path: path.to_vec(), root: self.list[root].path.clone() });
        }
        let system = |action| move |error| PathError::System { path: path.to_vec(), action, error };
        let (directory, single) = if is_single {
            let name = relative.file_name().map(|name| name.as_bytes().to_vec());
            let name = name.ok_or_else(|| PathError::IsRoot { path: path.to_vec() })?;
            (or_dot(relative.parent()).to_owned(), Some(name))
        } else {
            (relative, None)
        };
        let dir = &self.opened[root].dir;
        let (opened, is_created) = match dir.open_dir(&directory) {
            Ok(opened) => (opened, false),
            Err(error) if is_created && error.kind() == std::io::ErrorKind::NotFound => {
                dir.create_dir_all(&directory).map_err(system("create the directory of"))?;
                (dir.open_dir(&directory).map_err(system("open"))?, true)
            }
            Err(error) => return Err(system("open")(error)),
        };
        Ok(Place { tree: Tree::new(opened), single, path: path.to_vec(), is_created })
    }

    /// The longest root above `path`, and the rest of the path below it (`.` for the root itself).
    fn locate(&self, path: &[u8]) -> Result<(usize, PathBuf), PathError> {
        let components = components(path).ok_or_else(|| PathError::Malformed { path: path.to_vec() })?;
        let (root, opened) = self
            .opened
            .iter()
            .enumerate()
            .filter(|(_, root)| components.starts_with(&root.components))
            .max_by_key(|(_, root)| root.components.len())
            .ok_or_else(|| PathError::OutsideRoots { path: path.to_vec(), roots: self.describe() })?;
        let mut relative = PathBuf::new();
        relative.extend(components[opened.components.len()..].iter().map(|part| OsStr::from_bytes(part)));
        Ok((root, if relative.as_os_str().is_empty() { PathBuf::from(".") } else { relative }))
    }

    fn describe(&self) -> String {
        let list: Vec<String> = self.list.iter().map(|root| display_path(&root.path)).collect();
        if list.is_empty() { "there are none".to_owned() } else { list.join(", ") }
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roots").field("list", &self.list).finish_non_exhaustive()
    }
}

fn open_root(root: &Root) -> Result<OpenRoot, RootsError> {
    let path = display_path(&root.path);
    if root.path.first() != Some(&b'/') {
        return Err(RootsError::NotAbsolute { path });
    }
    let Some(components) = components(&root.path) else {
        return Err(RootsError::LeadsUpwards { path });
    };
    let ambient = PathBuf::from(std::ffi::OsString::from_vec(root.path.clone()));
    let dir = Dir::open_ambient_dir(&ambient, ambient_authority())
        .map_err(|source| RootsError::NotADirectory { path, source })?;
    Ok(OpenRoot { components, dir })
}

/// The components of an absolute path; `None` if it is relative or contains `..` or NUL.
fn components(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    if path.first() != Some(&b'/') || path.contains(&0) {
        return None;
    }
    let parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.map(|part| (part != b"..").then(|| part.to_vec())).collect()
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
        assert!(matches!(roots.open_source(b"/etc"), Err(PathError::OutsideRoots { .. })));
        let upwards = below(directory.path(), "../etc");
        assert!(matches!(roots.open_source(&upwards), Err(PathError::Malformed { .. })));
        // A sibling that merely starts with the same letters is outside.
        let mut sibling = directory.path().as_os_str().as_bytes().to_vec();
        sibling.extend_from_slice(b"x");
        assert!(matches!(roots.open_source(&sibling), Err(PathError::OutsideRoots { .. })));
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
        assert_eq!(roots.open_source(&below(directory.path(), "inside")).unwrap().single, None);
        let single = roots.open_source(&below(directory.path(), "link")).unwrap();
        assert_eq!(single.single.as_deref(), Some(&b"file"[..]));
        for name in ["outside", "absolute", "outside/passwd"] {
            assert!(roots.open_source(&below(directory.path(), name)).is_err(), "{name}");
            assert!(roots.open_destination(&below(directory.path(), name), false, true).is_err(), "{name}");
        }
    }

    #[test]
    fn a_read_only_root_refuses_to_be_written_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let roots = Roots::open(&[root(directory.path(), true)]).unwrap();
        let error =
            roots.open_destination(&below(directory.path(), "new"), false, true).unwrap_err().to_string();
        assert!(error.contains("read-only") && error.contains("new"), "{error}");
        assert!(!directory.path().join("new").exists());
    }

    #[test]
    fn the_whole_file_system_can_be_a_root_and_the_deepest_root_counts() {
        let directory = tempfile::tempdir().unwrap();
        let roots = Roots::open(&[root(Path::new("/"), true), root(directory.path(), false)]).unwrap();
        assert_eq!(roots.open_source(b"/").unwrap().single, None);
        // The deeper root allows what the one above it refuses.
        assert!(roots.open_destination(&below(directory.path(), "a/b"), false, true).unwrap().is_created);
        assert!(directory.path().join("a/b").is_dir());
        assert!(matches!(
            roots.open_destination(&below(directory.path(), ""), true, true),
            Err(PathError::IsRoot { .. })
        ));
    }
}
