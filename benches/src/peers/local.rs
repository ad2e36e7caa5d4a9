//! Programs that copy a tree in one run: `orbit copy`, `cp`, `rclone`, and tar at both ends of a connection.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::Session;
use super::command::{run, run_one};
use super::grid::bytes_transferred;
use crate::measure::{Cost, Meter, sync};
use crate::programs::Programs;

/// Syncs the disk, so that unwritten data of an earlier copy does not slow this one.
fn calm(directory: &Path) -> Result<Meter, String> {
    sync(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    Ok(Meter::start())
}

/// The whole grid in one process.
#[derive(Debug)]
pub(super) struct OrbitCopy {
    pub(super) programs: Programs,
    pub(super) place: PathBuf,
    pub(super) directory: PathBuf,
}

impl Session for OrbitCopy {
    fn send(&mut self, tree: &Path) -> Result<Cost, String> {
        let mut command = self.programs.command("orbit");
        command.args(["--json", "copy"]).arg(tree).arg(&self.place);
        let mut meter = calm(&self.directory)?;
        let done = run_one(&mut meter, "copy", command, &[], &self.directory)?;
        let mut cost = meter.finish(done.wall, done.synced, &self.place);
        cost.counted = bytes_transferred(&done.output);
        Ok(cost)
    }

    fn place(&self) -> &Path {
        &self.place
    }
}

/// `cp -a`.
#[derive(Debug)]
pub(super) struct Cp {
    pub(super) place: PathBuf,
    pub(super) directory: PathBuf,
}

impl Session for Cp {
    fn send(&mut self, tree: &Path) -> Result<Cost, String> {
        let mut command = Command::new("cp");
        command.arg("-a").arg(tree.join(".")).arg(&self.place);
        let mut meter = calm(&self.directory)?;
        let done = run_one(&mut meter, "cp", command, &[], &self.directory)?;
        Ok(meter.finish(done.wall, done.synced, &self.place))
    }

    fn place(&self) -> &Path {
        &self.place
    }
}

/// `rclone copy`, with its defaults: 4 concurrent transfers, and a checksum of each copy.
#[derive(Debug)]
pub(super) struct Rclone {
    pub(super) place: PathBuf,
    pub(super) directory: PathBuf,
}

impl Session for Rclone {
    fn send(&mut self, tree: &Path) -> Result<Cost, String> {
        let mut command = Command::new("rclone");
        command.args(["copy", "--links", "--create-empty-src-dirs", "--config", "/dev/null"]);
        command.arg(tree).arg(&self.place);
        let mut meter = calm(&self.directory)?;
        let done = run_one(&mut meter, "rclone", command, &[], &self.directory)?;
        Ok(meter.finish(done.wall, done.synced, &self.place))
    }

    fn place(&self) -> &Path {
        &self.place
    }

    /// It copies neither permission bits nor the times of directories and links.
    fn settle(&self, tree: &Path) -> Result<(), String> {
        settle(tree, &self.place).map_err(|error| format!("{}: {error}", self.place.display()))
    }
}

fn settle(from: &Path, to: &Path) -> std::io::Result<()> {
    let metadata = from.symlink_metadata()?;
    if metadata.is_dir() {
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            settle(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    if !metadata.is_symlink() {
        std::fs::set_permissions(to, metadata.permissions())?;
    }
    if metadata.is_file() {
        return Ok(());
    }
    date_as(from, to)
}

/// Gives a directory or a link the time of another.
pub(super) fn date_as(from: &Path, to: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = from.symlink_metadata()?;
    let time = Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// `tar` that writes into a connection, and `tar` that reads from it. Both have the socket itself as their standard stream,
/// so nothing of the bench stands between them.
#[derive(Debug)]
pub(super) struct Tar {
    pub(super) place: PathBuf,
    pub(super) directory: PathBuf,
}

impl Session for Tar {
    fn send(&mut self, tree: &Path) -> Result<Cost, String> {
        let failed = |error: std::io::Error| format!("tar: {error}");
        std::fs::create_dir_all(&self.place).map_err(failed)?;
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        let sent = TcpStream::connect(listener.local_addr().map_err(failed)?).map_err(failed)?;
        let (received, _) = listener.accept().map_err(failed)?;
        let mut create = Command::new("tar");
        // The POSIX format carries times to the nanosecond.
        create.arg("-C").arg(tree).args(["--format=posix", "-cf", "-", "."]);
        create.stdin(Stdio::null()).stdout(OwnedFd::from(sent));
        let mut extract = Command::new("tar");
        extract.arg("-C").arg(&self.place).args(["-xpBf", "-"]);
        extract.stdin(OwnedFd::from(received));
        let mut meter = calm(&self.directory)?;
        let commands = vec![("tar -c", create, false), ("tar -x", extract, true)];
        let done = run(&mut meter, commands, &[], &self.directory)?;
        Ok(meter.finish(done.wall, done.synced, &self.place))
    }

    fn place(&self) -> &Path {
        &self.place
    }
}
