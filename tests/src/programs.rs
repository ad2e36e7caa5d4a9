//! Finds the programs under test, and builds them if they are missing or outdated.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Environment variable with a directory of programs to test instead of those of this build.
const PROGRAMS_VARIABLE: &str = "ORBIT_TEST_PROGRAMS";

/// Path of `orbit`, `orbit-coordinator` or `orbit-star`, as built from this source.
pub fn program(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory =
        DIRECTORY.get_or_init(|| std::env::var_os(PROGRAMS_VARIABLE).map_or_else(build, PathBuf::from));
    let path = directory.join(name);
    assert!(path.is_file(), "{} does not exist", path.display());
    path
}

/// Path of a program of any package, built from this source in release mode, regardless of how this test was built.
pub fn optimised_program(package: &str, name: &str) -> PathBuf {
    let mut cargo = cargo();
    cargo.args(["build", "--release", "--quiet", "--package", package, "--bin", name]);
    let output = cargo.arg("--target-dir").arg(target_directory()).output().expect("cargo starts");
    assert!(output.status.success(), "cargo build failed:\n{}", String::from_utf8_lossy(&output.stderr));
    target_directory().join("release").join(name)
}

/// The directory of this build's profile, such as `target/debug`: a benchmark is in it, a test in its `deps`.
fn profile_directory() -> PathBuf {
    let own = std::env::current_exe().expect("a process knows its program");
    let directory = own.parent().expect("a program lies in a directory");
    match directory.parent() {
        Some(profile) if directory.ends_with("deps") => profile.to_owned(),
        Some(_) | None => directory.to_owned(),
    }
}

/// The target directory, such as `target`.
pub fn target_directory() -> PathBuf {
    profile_directory().parent().expect("a profile's directory lies in the target directory").to_owned()
}

/// Cargo does not build the programs of other packages for `cargo test`, so the first test does.
fn build() -> PathBuf {
    let directory = profile_directory();
    let mut cargo = cargo();
    cargo.args(["build", "--workspace", "--bins", "--quiet"]).arg("--target-dir").arg(target_directory());
    if directory.ends_with("release") {
        cargo.arg("--release");
    }
    let output = cargo.output().expect("cargo starts");
    assert!(output.status.success(), "cargo build failed:\n{}", String::from_utf8_lossy(&output.stderr));
    directory
}

/// Cargo, in this workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    // Cargo sets them for a test. Build scripts that watch them, such as ring's, would run again, and everything that depends on
    // their crates would be compiled again, once in each direction.
    let of_a_package = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_"];
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| of_a_package.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    command
}
