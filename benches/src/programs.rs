//! Finds the programs: those of Orbit Grid are built if they are missing, those of others are Debian packages.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Programs of Orbit Grid, and the packages that they are built from.
const OWN: [(&str, &str); 3] =
    [("orbit", "orbit-cli"), ("orbit-coordinator", "orbit-coordinator"), ("orbit-star", "orbit-star")];

/// The programs of Orbit Grid, in one directory.
#[derive(Debug, Clone)]
pub(crate) struct Programs(PathBuf);

impl Programs {
    /// Those in a directory, or those of this build.
    pub(crate) fn find(given: Option<PathBuf>) -> Result<Self, String> {
        let programs = Self(given.map_or_else(build, Ok)?);
        match OWN.iter().map(|(name, _)| programs.path(name)).find(|path| !path.is_file()) {
            Some(missing) => Err(format!("{}: no such file", missing.display())),
            None => Ok(programs),
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.0
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.path(name));
        // A setting for the operator's own grid must not affect the measured one.
        for (variable, _) in std::env::vars_os() {
            if variable.to_str().is_some_and(|variable| variable.starts_with("ORBIT_")) {
                command.env_remove(variable);
            }
        }
        command
    }
}

/// Builds with the settings of this program, and into the same directory.
fn build() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let homeless = "this program lies in no target directory; name the programs' with --programs";
    let mut directory = own.parent().ok_or(homeless)?;
    if directory.ends_with("deps") {
        directory = directory.parent().ok_or(homeless)?;
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet", "--bins"]);
    cargo.args(OWN.iter().flat_map(|(_, package)| ["-p", package]));
    if directory.ends_with("release") {
        cargo.arg("--release");
    }
    cargo.arg("--target-dir").arg(directory.parent().ok_or(homeless)?);
    let built = cargo.status().map_err(|error| error.to_string())?;
    if built.success() { Ok(directory.to_owned()) } else { Err("Orbit Grid cannot be built".to_owned()) }
}

/// Looks for programs of others, given with their packages, and installs the packages if that is requested.
pub(crate) fn require(programs: &[(&str, &'static str)], may_install: bool) -> Result<(), String> {
    let mut missing: Vec<&str> =
        programs.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !may_install {
        return Err(format!(
            "these Debian packages are missing: {packages}; install them with --install (as root) or with: \
             apt-get install {packages}; or leave programs out with --peers"
        ));
    }
    run("apt-get", &["update", "-q"])?;
    let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
    arguments.extend(missing);
    run("apt-get", &arguments)
}

/// Whether a program is in the path.
pub(crate) fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new(program);
    // Standard output has the result only.
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let status = command.status().map_err(|error| format!("{program}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program} {} failed: {status}", arguments.join(" "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_by_its_package() {
        assert_eq!(require(&[("cp", "coreutils")], false), Ok(()));
        let problem = require(&[("cp", "coreutils"), ("no-such-program", "its-package")], false);
        let problem = problem.unwrap_err();
        assert!(problem.contains("apt-get install its-package"), "{problem}");
        assert!(!problem.contains("coreutils"));
    }
}
