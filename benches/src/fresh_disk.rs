//! A new disk for every copy: an ext4 file system in a file, through a loop device.
//!
//! The speed of a file system depends on its history. After tens of thousands of files were removed, or while the
//! blocks of removed files are still being discarded, the same copy takes several times as long, and the next program
//! pays for the one before. On a fresh disk every program has the same empty file system. The blocks of the file are
//! written once at the start, and the loop device bypasses the page cache, so that a sync is a sync of the disk below.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Number of bytes that are written at a time while the file is allocated.
const BLOCK_BYTES: usize = 4 * 1024 * 1024;

/// The disk. Dropping it unmounts it; its file is removed with its directory.
#[derive(Debug)]
pub(crate) struct FreshDisk {
    device: String,
    mounted_at: PathBuf,
    is_mounted: bool,
}

impl FreshDisk {
    /// Makes a disk of this many GiB in a file in `directory`. Root only.
    pub(crate) fn create(directory: &Path, gibibytes: u64) -> Result<Self, String> {
        let file = directory.join("disk.img");
        lay_out(&file, gibibytes << 30).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut attach = Command::new("losetup");
        attach.args(["--direct-io=on", "--find", "--show"]).arg(&file);
        let device = run(attach)?.trim().to_owned();
        let mounted_at = directory.join("disk");
        std::fs::create_dir_all(&mounted_at).map_err(|error| format!("{}: {error}", mounted_at.display()))?;
        Ok(Self { device, mounted_at, is_mounted: false })
    }

    /// Replaces it by a new, empty file system, and returns its directory.
    pub(crate) fn renew(&mut self) -> Result<&Path, String> {
        self.unmount()?;
        let mut make = Command::new("mkfs.ext4");
        // Everything is initialized now: deferred work would be done during a measurement.
        make.args(["-q", "-F", "-i", "8192", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"]);
        run({
            make.arg(&self.device);
            make
        })?;
        let mut mount = Command::new("mount");
        mount.arg(&self.device).arg(&self.mounted_at);
        run(mount)?;
        self.is_mounted = true;
        Ok(&self.mounted_at)
    }

    fn unmount(&mut self) -> Result<(), String> {
        if std::mem::take(&mut self.is_mounted) {
            let mut unmount = Command::new("umount");
            unmount.arg(&self.mounted_at);
            run(unmount)?;
        }
        Ok(())
    }
}

impl Drop for FreshDisk {
    fn drop(&mut self) {
        // What cannot be unmounted now is unmounted with the mount namespace of the comparison.
        let _ = self.unmount();
        let mut detach = Command::new("losetup");
        detach.arg("--detach").arg(&self.device);
        let _ = run(detach);
    }
}

/// Writes every block once, so that no copy pays for their allocation.
fn lay_out(file: &Path, bytes: u64) -> std::io::Result<()> {
    let mut out = std::fs::File::create(file)?;
    let block = vec![0; BLOCK_BYTES];
    for _ in 0..bytes / BLOCK_BYTES as u64 {
        out.write_all(&block)?;
    }
    out.sync_all()
}

fn run(mut command: Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!(
        "{name}: {}; --fresh-disk needs root and loop devices",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}
