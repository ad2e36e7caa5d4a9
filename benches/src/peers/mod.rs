//! The compared programs. Each sends one tree after the other to one place, and returns the cost of each. The order,
//! and the use of the costs, are decided elsewhere.

mod command;
mod grid;
mod local;
mod repository;
mod rsync;
mod vault;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use orbit_tests::tree::differences;

use crate::measure::Cost;
use crate::programs::Programs;

pub(crate) use self::grid::{COORDINATOR, DESTINATION, GridSession, SOURCE};

/// A program, or a way to use one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// `orbit copy`: the whole grid in one process.
    Orbit,
    /// A coordinator and two Stars, each a process.
    Grid,
    /// The same, into the vault of the Star that writes.
    Vault,
    /// rsync, pulling from a daemon on this machine.
    Rsync,
    /// rclone, from one local directory to another.
    Rclone,
    /// `cp -a`.
    Cp,
    /// tar at both ends of a TCP connection.
    Tar,
    /// restic, with a repository in a local directory.
    Restic,
    /// borg, with a repository in a local directory.
    Borg,
}

/// A program that sends trees to one place.
pub(crate) trait Session {
    /// Sends a tree over the earlier ones.
    fn send(&mut self, tree: &Path) -> Result<Cost, String>;

    /// Where the trees arrive.
    fn place(&self) -> &Path;

    /// Restores the last tree, if the place stores it in another form. Returns the cost.
    fn restore(&mut self) -> Result<Option<Cost>, String> {
        Ok(None)
    }

    /// Whether the place holds every tree that was sent, and not only the last one.
    fn is_repository(&self) -> bool {
        false
    }

    /// Corrects what the program is known not to copy, so that the rest can be compared.
    fn settle(&self, _tree: &Path) -> Result<(), String> {
        Ok(())
    }

    /// Ends running processes. Files on the disk are left to the owner of the directory.
    fn end(&mut self) {}
}

impl Peer {
    /// Its name in the report: the way it is run.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Orbit => "orbit copy",
            Self::Grid => "orbit grid",
            Self::Vault => "orbit vault",
            Self::Rsync => "rsync daemon",
            Self::Rclone => "rclone copy",
            Self::Cp => "cp -a",
            Self::Tar => "tar over TCP",
            Self::Restic => "restic backup",
            Self::Borg => "borg create",
        }
    }

    /// The name of restoring a tree.
    pub(crate) fn restore_name(self) -> &'static str {
        match self {
            Self::Vault => "vault restore",
            Self::Restic => "restic restore",
            _ => "borg extract",
        }
    }

    /// The program that must be installed, and its Debian package; `None` for our own.
    pub(crate) fn requirement(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Orbit | Self::Grid | Self::Vault => None,
            Self::Rsync => Some(("rsync", "rsync")),
            Self::Rclone => Some(("rclone", "rclone")),
            Self::Cp => Some(("cp", "coreutils")),
            Self::Tar => Some(("tar", "tar")),
            Self::Restic => Some(("restic", "restic")),
            Self::Borg => Some(("borg", "borgbackup")),
        }
    }

    /// Begins to send trees below `root` to a place in `directory`, which is empty.
    pub(crate) fn begin(
        self,
        programs: &Programs,
        root: &Path,
        directory: &Path,
    ) -> Result<Box<dyn Session>, String> {
        let place = directory.join("copy");
        let directory: PathBuf = directory.to_owned();
        Ok(match self {
            Self::Orbit => Box::new(local::OrbitCopy { programs: programs.clone(), place, directory }),
            Self::Grid => Box::new(GridSession::begin(programs, root, &directory)?),
            Self::Vault => Box::new(vault::Vault::begin(programs, root, &directory)?),
            Self::Rsync => Box::new(rsync::Rsync { place, directory }),
            Self::Rclone => Box::new(local::Rclone { place, directory }),
            Self::Cp => Box::new(local::Cp { place, directory }),
            Self::Tar => Box::new(local::Tar { place, directory }),
            Self::Restic => Box::new(repository::Repository::begin(repository::Kind::Restic, &directory)?),
            Self::Borg => Box::new(repository::Repository::begin(repository::Kind::Borg, &directory)?),
        })
    }
}

/// Compares what has arrived with what was sent.
pub(crate) fn check(name: &str, session: &dyn Session, tree: &Path) -> Result<(), String> {
    session.settle(tree)?;
    let found = differences(tree, session.place());
    if found.is_empty() {
        return Ok(());
    }
    Err(format!("{name} made a wrong copy of {}:\n{}", tree.display(), found.join("\n")))
}
