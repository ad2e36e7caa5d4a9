//! Where the grid of one copy keeps its state: a temporary directory that is gone afterwards, or one that is given.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use orbit_shared::entry::display_path;
use orbit_shared::filter::literal_glob;
use tempfile::TempDir;

use super::DESTINATION_STAR;
use super::paths::CopyPaths;
use crate::errors::CliError;

/// How the names of temporary state directories begin.
const PREFIX: &str = "orbit-copy-";

/// The state directory of one copy.
#[derive(Debug)]
pub(super) struct StateDir {
    path: PathBuf,
    /// Removes the directory when it is dropped.
    _temporary: Option<TempDir>,
    exclude: Option<String>,
}

impl StateDir {
    /// Opens the given directory, which is made if it is missing, or makes a temporary one.
    pub(super) fn open(given: Option<&Path>, paths: &CopyPaths) -> Result<Self, CliError> {
        let (path, temporary) = match given {
            Some(given) => (make(given)?, None),
            None => {
                clean_after_the_dead(&std::env::temp_dir());
                let temporary = tempfile::Builder::new().prefix(PREFIX).tempdir().map_err(|error| {
                    CliError::Failed(format!(
                        "cannot make a temporary directory: {error}; name one with --state-dir"
                    ))
                })?;
                let path = fs::canonicalize(temporary.path())
                    .map_err(|error| CliError::Failed(format!("{}: {error}", temporary.path().display())))?;
                (path, Some(temporary))
            }
        };
        let inside = path.strip_prefix(paths.source()).ok().filter(|_| paths.source() == paths.source_root());
        let exclude = match inside {
            None => None,
            // It changes while it is read; and nobody who copies all of /tmp means it.
            Some(inside) if temporary.is_some() => Some(anchored_glob(inside)),
            Some(_) => {
                return Err(CliError::Usage(format!(
                    "--state-dir {} lies inside the source; name a directory outside of it",
                    display_path(path.as_os_str().as_bytes())
                )));
            }
        };
        Ok(Self { path, _temporary: temporary, exclude })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the scan has to leave out when the directory lies inside the source.
    pub(super) fn exclude(&self) -> Option<&str> {
        self.exclude.as_deref()
    }
}

/// Removes what copies have left that were killed: their temporaries at their destinations, and their state. Those of other users, and
/// of copies that go on, are left alone.
fn clean_after_the_dead(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let of_copies = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()));
    for path in of_copies.map(|entry| entry.path()) {
        let user = rustix::process::geteuid().as_raw();
        let is_ours = path.symlink_metadata().is_ok_and(|found| found.is_dir() && found.uid() == user);
        if is_ours && orbit_star::leftovers::clean_after(&path.join(DESTINATION_STAR)) {
            // What cannot be removed is found by the next copy.
            let _ = fs::remove_dir_all(&path);
        }
    }
}

fn make(given: &Path) -> Result<PathBuf, CliError> {
    let failed = |error: std::io::Error| {
        CliError::Usage(format!("--state-dir {}: {error}", display_path(given.as_os_str().as_bytes())))
    };
    fs::create_dir_all(given).map_err(failed)?;
    // Found out now, in one sentence, instead of by the first of the servers that wants to write.
    tempfile::tempfile_in(given).map_err(failed)?;
    fs::canonicalize(given).map_err(failed)
}

/// A glob that matches exactly this path below the source.
fn anchored_glob(path: &Path) -> String {
    format!("/{}", literal_glob(path.as_os_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(root: &Path) -> CopyPaths {
        fs::create_dir_all(root.join("src")).unwrap();
        CopyPaths::resolve(&root.join("src"), &root.join("dst")).unwrap()
    }

    #[test]
    fn a_temporary_directory_is_removed_and_a_given_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let temporary = StateDir::open(None, &paths).unwrap();
        let path = temporary.path().to_owned();
        assert!(path.is_dir());
        drop(temporary);
        assert!(!path.exists());

        let given = dir.path().join("state/deep");
        drop(StateDir::open(Some(&given), &paths).unwrap());
        assert!(given.is_dir());
        assert_eq!(fs::read_dir(&given).unwrap().count(), 0, "the probe is gone");
    }

    #[test]
    fn a_given_directory_must_be_usable_and_outside_the_source() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let refusal = StateDir::open(Some(&dir.path().join("src/state")), &paths).unwrap_err();
        assert!(matches!(refusal, CliError::Usage(text) if text.contains("inside the source")));
        fs::write(dir.path().join("file"), "").unwrap();
        let refusal = StateDir::open(Some(&dir.path().join("file/state")), &paths).unwrap_err();
        assert!(matches!(refusal, CliError::Usage(text) if text.starts_with("--state-dir")));
    }

    #[test]
    fn a_glob_matches_its_path_literally() {
        assert_eq!(anchored_glob(Path::new("a b/c[1]*")), "/a b/c\\[1\\]\\*");
    }
}
