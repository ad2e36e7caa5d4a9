//! Programs that store every version of a tree in a repository of their own format: restic and borg. To verify them,
//! the last version is restored; that is measured too.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Session;
use super::command::run_one;
use super::local::date_as;
use crate::measure::{Cost, Meter, sync};

/// Which program.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Restic,
    Borg,
}

/// A repository that was just made.
#[derive(Debug)]
pub(super) struct Repository {
    kind: Kind,
    directory: PathBuf,
    repository: PathBuf,
    /// The directory of the program's state about the repository.
    state: PathBuf,
    /// The directory into which a version is restored.
    place: PathBuf,
    sent: u32,
}

impl Repository {
    pub(super) fn begin(kind: Kind, directory: &Path) -> Result<Self, String> {
        let new = Self {
            kind,
            directory: directory.to_owned(),
            repository: directory.join("repository"),
            state: directory.join("state"),
            place: directory.join("copy"),
            sent: 0,
        };
        let mut command = new.command();
        match kind {
            Kind::Restic => command.arg("init"),
            // restic has no option to disable encryption.
            Kind::Borg => command.args(["init", "--encryption", "none"]).arg(&new.repository),
        };
        run_one(&mut Meter::start(), "init", command, &[], directory)?;
        Ok(new)
    }

    fn role(&self) -> &'static str {
        match self.kind {
            Kind::Restic => "restic",
            Kind::Borg => "borg",
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.role());
        match self.kind {
            Kind::Restic => command
                .env("RESTIC_PASSWORD", "compare")
                .env("RESTIC_REPOSITORY", &self.repository)
                .env("RESTIC_CACHE_DIR", &self.state),
            Kind::Borg => command
                .env("BORG_BASE_DIR", &self.state)
                .env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes"),
        };
        command
    }

    fn archive(&self) -> String {
        format!("{}::{}", self.repository.display(), self.sent)
    }

    fn measure(&self, command: Command, result: &Path) -> Result<Cost, String> {
        sync(&self.directory).map_err(|error| error.to_string())?;
        let mut meter = Meter::start();
        let done = run_one(&mut meter, self.role(), command, &[], &self.directory)?;
        Ok(meter.finish(done.wall, done.synced, result))
    }
}

impl Session for Repository {
    fn send(&mut self, tree: &Path) -> Result<Cost, String> {
        self.sent += 1;
        let mut command = self.command();
        match self.kind {
            Kind::Restic => command.args(["backup", "."]),
            Kind::Borg => command.arg("create").arg(self.archive()).arg("."),
        };
        command.current_dir(tree);
        self.measure(command, &self.repository)
    }

    fn place(&self) -> &Path {
        &self.place
    }

    fn restore(&mut self) -> Result<Option<Cost>, String> {
        self.place = self.directory.join(format!("copy-{}", self.sent));
        std::fs::create_dir(&self.place).map_err(|error| format!("{}: {error}", self.place.display()))?;
        let mut command = self.command();
        match self.kind {
            Kind::Restic => command.args(["restore", "latest", "--target"]).arg(&self.place),
            Kind::Borg => command.arg("extract").arg(self.archive()).current_dir(&self.place),
        };
        self.measure(command, &self.place).map(Some)
    }

    fn is_repository(&self) -> bool {
        true
    }

    /// The top of the tree is the program's working directory, whose times it does not restore.
    fn settle(&self, tree: &Path) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("{}: {error}", self.place.display());
        let permissions = tree.metadata().map_err(failed)?.permissions();
        std::fs::set_permissions(&self.place, permissions).map_err(failed)?;
        date_as(tree, &self.place).map_err(failed)
    }
}
