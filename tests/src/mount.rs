//! Mounts for tests: a small file system that can be filled up, one that folds case, and a file that cannot be
//! replaced. They need root.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A tmpfs. Dropping it unmounts it, even when a test fails.
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
        // Lazily, since a process that is being killed may still have a file open on it. A failure has no reader.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).output();
    }
}

/// An exFAT, which treats README and readme as one name. Dropping it unmounts it.
#[derive(Debug)]
pub struct FoldingDisk {
    path: PathBuf,
}

impl FoldingDisk {
    /// Makes one in the file `image` and mounts it on a directory, which is made; `None` if that is not possible
    /// (Debian packages exfat-fuse and exfatprogs).
    pub fn mount(path: &Path, image: &Path) -> Option<Self> {
        std::fs::create_dir_all(path).expect("the directory to mount on can be made");
        let file = std::fs::File::create(image).expect("an image can be made");
        file.set_len(256 << 20).expect("an image without content takes no room");
        let is_done = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let is_mounted = is_done(Command::new("mkfs.exfat").arg(image))
            && is_done(Command::new("mount").args(["-t", "exfat-fuse", "-o", "loop"]).args([image, path]));
        is_mounted.then(|| Self { path: path.to_owned() })
    }
}

impl Drop for FoldingDisk {
    fn drop(&mut self) {
        // Lazily, since a process that is being killed may still have a file open on it. A failure has no reader.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).output();
    }
}

/// A file that is a mount point, so that no file can be renamed over it. Dropping this unmounts it.
#[derive(Debug)]
pub struct PinnedFile {
    path: PathBuf,
}

impl PinnedFile {
    /// Mounts an existing file on itself.
    pub fn mount(path: &Path) -> Self {
        let output = Command::new("mount").arg("--bind").args([path, path]).output();
        let output = output.expect("the program mount is there (Debian package mount)");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "cannot mount {} on itself, which needs root: {said}",
            path.display()
        );
        Self { path: path.to_owned() }
    }
}

impl Drop for PinnedFile {
    fn drop(&mut self) {
        // A failure has no reader here; the directory that cannot be removed afterwards shows it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).output();
    }
}

/// A bind mount. Dropping it unmounts it.
#[derive(Debug)]
pub struct BoundMount {
    path: PathBuf,
}

impl BoundMount {
    /// Shows a directory or file at another path as well, which is made.
    pub fn mount(from: &Path, path: &Path) -> Self {
        let made =
            if from.is_dir() { std::fs::create_dir(path) } else { std::fs::File::create(path).map(drop) };
        made.expect("the place to mount at can be made");
        let output = Command::new("mount").arg("--bind").args([from, path]).output();
        let output = output.expect("the program mount is there (Debian package mount)");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cannot mount {}, which needs root: {said}", path.display());
        Self { path: path.to_owned() }
    }
}

impl Drop for BoundMount {
    fn drop(&mut self) {
        // A failure has no reader here; the directory that cannot be removed afterwards shows it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).output();
    }
}
