//! Checks from time to time whether the roots are there, and reports one that is gone, has changed or is back.

use orbit_shared::bulletin::Severity;
use orbit_shared::entry::display_path;
use orbit_shared::session::Notice;

use super::Roots;
use super::exported::{self, FileSystem};

/// The state of each root at the last check.
#[derive(Debug, Default)]
pub(crate) struct RootWatch {
    /// In the order of the roots; empty before the first check.
    seen: Vec<Seen>,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    /// Why it cannot be used, as text; `None` if it can.
    absence: Option<String>,
    /// The last file system at the root.
    last: Option<FileSystem>,
}

impl RootWatch {
    /// Checks all roots. Returns what has changed since the last check. Blocks.
    pub(crate) fn look(&mut self, roots: &Roots) -> Vec<Notice> {
        self.seen.resize(roots.exported.len(), Seen::default());
        let mut notices = Vec::new();
        for (root, seen) in roots.exported.iter().zip(&mut self.seen) {
            let path = display_path(&root.root.path);
            let looked = exported::open(&root.root.path, root.is_mount_required).and_then(|dir| {
                exported::file_system(dir).map_err(|errno| exported::Absence::Unopened(errno.into()))
            });
            notices.extend(seen.note(&path, looked).map(|(severity, text)| Notice {
                severity,
                category: "root".to_owned(),
                text,
            }));
        }
        notices
    }
}

impl Seen {
    fn note(
        &mut self,
        path: &str,
        looked: Result<FileSystem, exported::Absence>,
    ) -> Option<(Severity, String)> {
        match looked {
            Err(absence) => {
                let words = absence.to_string();
                let is_new = self.absence.is_none();
                self.absence = Some(words.clone());
                is_new.then(|| {
                    let text = format!(
                        "the root {path} {words}; jobs that need it wait or fail, and it is used again as soon as it is back"
                    );
                    (Severity::Warning, text)
                })
            }
            Ok(found) => {
                let was_away = self.absence.take().is_some();
                let before = self.last.replace(found);
                match before {
                    Some(before) if before != found => Some((
                        Severity::Warning,
                        format!(
                            "the root {path} is another file system than before: a disk was mounted, unmounted or changed; \
                             jobs that begin from now on use it as it is (give the root as {path}:mounted to require a mount)"
                        ),
                    )),
                    Some(_) | None if was_away => Some((Severity::Info, format!("the root {path} is back"))),
                    Some(_) | None => None,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use orbit_shared::session::Root;

    use super::*;

    #[test]
    fn a_root_that_goes_and_comes_back_is_reported_once_each() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root");
        std::fs::create_dir(&path).unwrap();
        let root = Root { path: path.as_os_str().as_bytes().to_vec(), is_read_only: false };
        let roots = Roots::open(&[root]).unwrap();
        let mut watch = RootWatch::default();
        assert!(watch.look(&roots).is_empty());
        std::fs::remove_dir(&path).unwrap();
        let said = watch.look(&roots);
        assert_eq!((said.len(), said[0].severity), (1, Severity::Warning));
        assert!(said[0].text.contains("mount its disk"), "{}", said[0].text);
        assert!(watch.look(&roots).is_empty());
        std::fs::create_dir(&path).unwrap();
        let said = watch.look(&roots);
        assert_eq!((said.len(), said[0].severity), (1, Severity::Info));
        assert!(watch.look(&roots).is_empty());
    }

    #[test]
    fn another_file_system_at_a_root_is_reported() {
        let mut seen = Seen::default();
        let one = exported::file_system(std::fs::File::open("/proc").unwrap()).unwrap();
        let other = exported::file_system(std::fs::File::open("/").unwrap()).unwrap();
        assert_eq!(seen.note("/a", Ok(one)), None);
        let (severity, text) = seen.note("/a", Ok(other)).unwrap();
        assert_eq!(severity, Severity::Warning);
        assert!(text.contains("/a:mounted"), "{text}");
        // The root was away, and another file system came back.
        assert!(seen.note("/a", Err(exported::Absence::NotMounted)).is_some());
        assert_eq!(seen.note("/a", Ok(one)).unwrap().0, Severity::Warning);
    }
}
