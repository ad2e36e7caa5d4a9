//! What `orbit copy SRC DST` means in terms of paths, and what it refuses before anything is written.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use crate::errors::CliError;

/// Why a copy makes no sense. Its text is one sentence.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CopyRefusal {
    #[error(
        "{place} names another machine or a Star, and `orbit copy` copies on this machine; between Stars it is `orbit job create {place} \
         STAR:/path`, and `orbit star ls` lists the Stars"
    )]
    Remote { place: String },
    #[error("{source_path}: {problem}")]
    SourceUnusable { source_path: String, problem: String },
    #[error("{source_path} is neither a file nor a directory; orbit copies files and trees")]
    SourceSpecial { source_path: String },
    #[error("{source_path} and {destination} are the same")]
    Same { source_path: String, destination: String },
    #[error("{destination} lies inside {source_path}; a tree cannot be copied into itself")]
    DestinationInside { source_path: String, destination: String },
    #[error(
        "{source_path} lies inside {destination} and has an entry {entry}, so the copy would overwrite what it reads"
    )]
    SourceOverwritten { source_path: String, destination: String, entry: String },
    #[error(
        "{destination} is above {source_path}, and --mirror would delete what is copied; name another place"
    )]
    MirrorAboveSource { source_path: String, destination: String },
    #[error("{destination} is a file, but {source_path} is a directory; name a directory to copy into")]
    DestinationIsFile { source_path: String, destination: String },
    #[error("{destination} is a directory, but {source_path} is a file; remove it or name another place")]
    DestinationIsDirectory { source_path: String, destination: String },
    #[error("{destination}: {problem}")]
    DestinationUnusable { destination: String, problem: String },
}

impl From<CopyRefusal> for CliError {
    fn from(refusal: CopyRefusal) -> Self {
        Self::Usage(refusal.to_string())
    }
}

/// Whether a path is written as a place elsewhere, and is none here: a colon before the first slash, as in `host:/data`.
fn is_remote(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    let before = bytes.split(|&byte| byte == b'/').next().unwrap_or_default();
    before.contains(&b':') && !before.starts_with(b":") && fs::symlink_metadata(path).is_err()
}

/// A copy's places, absolute and without symbolic links on the way to them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CopyPaths {
    source: PathBuf,
    source_root: PathBuf,
    destination: PathBuf,
    destination_root: PathBuf,
}

impl CopyPaths {
    /// Applies the rules. Nothing is written.
    pub(crate) fn resolve(source: &Path, destination: &Path) -> Result<Self, CopyRefusal> {
        if let Some(place) = [source, destination].into_iter().find(|place| is_remote(place)) {
            return Err(CopyRefusal::Remote { place: shown(place) });
        }
        let unusable = |error: io::Error| CopyRefusal::SourceUnusable {
            source_path: shown(source),
            problem: describe(&error),
        };
        let canonical = fs::canonicalize(source).map_err(unusable)?;
        let kind = fs::metadata(&canonical).map_err(unusable)?;
        if kind.is_dir() {
            Self::of_tree(canonical, source, destination)
        } else if kind.is_file() {
            Self::of_file(canonical, source, destination)
        } else {
            Err(CopyRefusal::SourceSpecial { source_path: shown(source) })
        }
    }

    fn of_tree(canonical: PathBuf, source: &Path, destination: &Path) -> Result<Self, CopyRefusal> {
        let target = canonicalize_missing(destination)?;
        let (source_path, shown_destination) = (shown(source), shown(destination));
        if target == canonical {
            return Err(CopyRefusal::Same { source_path, destination: shown_destination });
        }
        if target.starts_with(&canonical) {
            return Err(CopyRefusal::DestinationInside { source_path, destination: shown_destination });
        }
        if fs::metadata(&target).is_ok_and(|target| !target.is_dir()) {
            return Err(CopyRefusal::DestinationIsFile { source_path, destination: shown_destination });
        }
        // Copying /a/b to /a writes /a/b only if the tree has an entry b.
        let way_down = canonical.strip_prefix(&target).ok().and_then(|way| way.components().next());
        if let Some(entry) = way_down
            && fs::symlink_metadata(canonical.join(entry)).is_ok()
        {
            let entry = shown(Path::new(entry.as_os_str()));
            return Err(CopyRefusal::SourceOverwritten {
                source_path,
                destination: shown_destination,
                entry,
            });
        }
        Ok(Self {
            source_root: canonical.clone(),
            source: canonical,
            destination_root: target.clone(),
            destination: target,
        })
    }

    fn of_file(canonical: PathBuf, source: &Path, destination: &Path) -> Result<Self, CopyRefusal> {
        let means_directory = destination.as_os_str().as_bytes().ends_with(b"/")
            || fs::metadata(destination).is_ok_and(|destination| destination.is_dir());
        let name = source.file_name().or_else(|| canonical.file_name());
        let target = match name {
            Some(name) if means_directory => destination.join(name),
            Some(_) | None => destination.to_owned(),
        };
        let unusable = |problem: &str| CopyRefusal::DestinationUnusable {
            destination: shown(&target),
            problem: problem.to_owned(),
        };
        let name = target.file_name().ok_or_else(|| unusable("does not name a file"))?.to_owned();
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => canonicalize_missing(parent)?,
            Some(_) | None => canonicalize_missing(Path::new("."))?,
        };
        if fs::metadata(&parent).is_ok_and(|parent| !parent.is_dir()) {
            return Err(unusable("the directory above it is a file"));
        }
        let root = canonical.parent().ok_or_else(|| unusable("has no directory above it"))?.to_owned();
        let placed = parent.join(&name);
        if fs::canonicalize(&placed).is_ok_and(|placed| placed == canonical) {
            return Err(CopyRefusal::Same { source_path: shown(source), destination: shown(&target) });
        }
        if fs::metadata(&placed).is_ok_and(|placed| placed.is_dir()) {
            return Err(CopyRefusal::DestinationIsDirectory {
                source_path: shown(source),
                destination: shown(&target),
            });
        }
        Ok(Self { source: canonical, source_root: root, destination: placed, destination_root: parent })
    }

    /// Refuses a mirror that would delete its own source.
    pub(crate) fn check_mirror(&self) -> Result<(), CopyRefusal> {
        if self.source.starts_with(&self.destination) {
            return Err(CopyRefusal::MirrorAboveSource {
                source_path: shown(&self.source),
                destination: shown(&self.destination),
            });
        }
        Ok(())
    }

    /// The file or directory that is read.
    pub(crate) fn source(&self) -> &Path {
        &self.source
    }

    /// The directory that the source Star exports.
    pub(crate) fn source_root(&self) -> &Path {
        &self.source_root
    }

    /// What corresponds to the source.
    pub(crate) fn destination(&self) -> &Path {
        &self.destination
    }

    /// The directory that the destination Star exports.
    pub(crate) fn destination_root(&self) -> &Path {
        &self.destination_root
    }

    /// Makes the directory that the destination Star exports, with those above it, and checks that it can be written.
    pub(crate) fn make_destination(&self) -> Result<(), CopyRefusal> {
        let unusable = |error: io::Error| CopyRefusal::DestinationUnusable {
            destination: shown(&self.destination_root),
            problem: describe(&error),
        };
        fs::create_dir_all(&self.destination_root).map_err(unusable)?;
        // Asked, not tried: a file made there would change the directory's modification time.
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        rustix::fs::access(&self.destination_root, access).map_err(|error| unusable(error.into()))
    }
}

/// The canonical form of a path of which the end may be missing.
fn canonicalize_missing(path: &Path) -> Result<PathBuf, CopyRefusal> {
    let unusable = |error: &io::Error| CopyRefusal::DestinationUnusable {
        destination: shown(path),
        problem: describe(error),
    };
    let absolute = std::path::absolute(path).map_err(|error| unusable(&error))?;
    let mut existing = absolute.as_path();
    let mut missing: Vec<&OsStr> = Vec::new();
    loop {
        match fs::canonicalize(existing) {
            Ok(mut canonical) => {
                for name in missing.iter().rev() {
                    canonical.push(name);
                }
                return Ok(canonical);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A link to nothing exists, although what it names does not.
                if fs::symlink_metadata(existing).is_ok() {
                    let problem = format!("{} is a symbolic link to nothing", shown(existing));
                    return Err(CopyRefusal::DestinationUnusable { destination: shown(path), problem });
                }
                match existing.components().next_back() {
                    Some(Component::Normal(name)) => missing.push(name),
                    // `..` below a directory that does not exist leads nowhere.
                    Some(
                        Component::ParentDir | Component::CurDir | Component::RootDir | Component::Prefix(_),
                    )
                    | None => {
                        return Err(unusable(&error));
                    }
                }
                existing = existing.parent().ok_or_else(|| unusable(&error))?;
            }
            Err(error) => return Err(unusable(&error)),
        }
    }
}

fn shown(path: &Path) -> String {
    orbit_shared::entry::display_path(path.as_os_str().as_bytes())
}

/// The system's sentence without its number.
fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        _dir: tempfile::TempDir,
        root: PathBuf,
    }

    /// `src/{a,sub/b}`, `file`, `dst/`, `other`.
    fn place() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(root.join("src/sub")).unwrap();
        fs::create_dir_all(root.join("dst")).unwrap();
        for file in ["src/a", "src/sub/b", "file", "other"] {
            fs::write(root.join(file), "x").unwrap();
        }
        Place { _dir: dir, root }
    }

    impl Place {
        fn resolve(&self, source: &str, destination: &str) -> Result<CopyPaths, CopyRefusal> {
            CopyPaths::resolve(&self.root.join(source), &self.root.join(destination))
        }

        fn refusal(&self, source: &str, destination: &str) -> String {
            self.resolve(source, destination).unwrap_err().to_string()
        }

        fn destination(&self, source: &str, destination: &str) -> PathBuf {
            let paths = self.resolve(source, destination).unwrap();
            paths.destination().strip_prefix(&self.root).unwrap().to_owned()
        }
    }

    #[test]
    fn a_directory_becomes_an_image_of_the_source() {
        let place = place();
        for (destination, expected) in
            [("dst", "dst"), ("dst/", "dst"), ("new/deep", "new/deep"), ("srcx", "srcx")]
        {
            assert_eq!(place.destination("src", destination), Path::new(expected));
        }
        let paths = place.resolve("src/", "new/deep").unwrap();
        assert_eq!((paths.source(), paths.source_root()), (place.root.join("src").as_path(), paths.source()));
        paths.make_destination().unwrap();
        assert!(place.root.join("new/deep").is_dir());
        assert_eq!(fs::read_dir(place.root.join("new/deep")).unwrap().count(), 0);
    }

    #[test]
    fn a_file_goes_to_the_path_or_into_the_directory() {
        let place = place();
        let cases = [
            ("new", "new"),
            ("other", "other"),
            ("dst", "dst/file"),
            ("dst/", "dst/file"),
            ("new/", "new/file"),
            ("dst/copy", "dst/copy"),
            ("new/copy", "new/copy"),
        ];
        for (destination, expected) in cases {
            assert_eq!(place.destination("file", destination), Path::new(expected), "{destination}");
        }
        let paths = place.resolve("file", "new/copy").unwrap();
        assert_eq!(paths.source_root(), place.root);
        assert_eq!(paths.destination_root(), place.root.join("new"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_is_written() {
        let place = place();
        assert!(place.refusal("missing", "dst").contains("missing: no such file or directory"));
        assert!(place.refusal("src", "src").contains("are the same"));
        assert!(place.refusal("src", "dst/../src").contains("are the same"));
        assert!(place.refusal("src", "src/sub").contains("inside"));
        assert!(place.refusal("src", "src/new/deep").contains("inside"));
        assert!(place.refusal("src", "file").contains("is a file, but"));
        assert!(place.refusal("src", "file/x").contains("not a directory"));
        assert!(place.refusal("file", "file").contains("are the same"));
        assert!(place.refusal("file", ".").contains("are the same"));
        assert!(place.refusal("src", "nowhere/../../x").contains("no such file"));
        fs::create_dir(place.root.join("dst/file")).unwrap();
        assert!(place.refusal("file", "dst").contains("is a directory, but"));
        assert!(!place.root.join("src/new").exists());
    }

    #[test]
    fn symbolic_links_do_not_hide_that_places_are_the_same() {
        let place = place();
        std::os::unix::fs::symlink(place.root.join("src"), place.root.join("link")).unwrap();
        std::os::unix::fs::symlink("nothing", place.root.join("dangling")).unwrap();
        assert!(place.refusal("src", "link").contains("are the same"));
        assert!(place.refusal("src", "link/sub").contains("inside"));
        assert!(place.refusal("dangling", "dst").contains("no such file"));
        assert!(place.refusal("src", "dangling").contains("a symbolic link to nothing"));
    }

    #[test]
    fn a_tree_below_its_destination_may_not_overwrite_itself() {
        let place = place();
        let above = place.resolve("src", ".").unwrap();
        assert!(above.check_mirror().unwrap_err().to_string().contains("would delete what is copied"));
        assert!(place.resolve("src", "dst").unwrap().check_mirror().is_ok());
        fs::create_dir(place.root.join("src/src")).unwrap();
        assert!(place.refusal("src", ".").contains("would overwrite what it reads"));
    }

    #[test]
    fn names_that_are_not_text_are_carried_and_shown() {
        let place = place();
        let name = OsStr::from_bytes(b"a\xff");
        fs::write(place.root.join(name), "x").unwrap();
        let paths = CopyPaths::resolve(&place.root.join(name), &place.root.join("dst")).unwrap();
        assert_eq!(paths.destination(), place.root.join("dst").join(name));
        let refusal =
            CopyPaths::resolve(&place.root.join(OsStr::from_bytes(b"b\xff")), &place.root).unwrap_err();
        assert!(refusal.to_string().contains("b\\xff"));
    }
}
