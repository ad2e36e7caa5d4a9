//! A small file system of its own, to be filled up. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A tmpfs. Dropping it unmounts it, also when a test fails.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts a tmpfs of `bytes` on a directory, which is made.
    pub fn mount(path: &Path, bytes: u64) -> Self {
        std::fs::create_dir_all(path).expect("the directory to mount on can be made");
        let size = format!("size={bytes}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "orbit-test"]).arg(path).output();
        let output = mount.expect("the program mount is there (Debian package mount)");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cannot mount a tmpfs, which needs root: {said}");
        Self { path: path.to_owned() }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still have a file open on it. Nobody could be told of a failure.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).output();
    }
}
