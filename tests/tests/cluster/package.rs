//! The packages for machines without containers: systemd accepts the units, and the Debian package installs and runs on
//! a machine with nothing but Debian's minimum.

use std::path::{Path, PathBuf};
use std::process::Command;

use orbit_tests::cluster::{assert_engine, base_image, run, workspace};
use orbit_tests::programs::program;
use tempfile::TempDir;

use crate::planted::assert_none_is_planted;

/// The files of the package, with their permissions.
const CONTENTS: [(&str, &str); 21] = [
    ("-rwxr-xr-x", "./usr/bin/orbit"),
    ("-rwxr-xr-x", "./usr/bin/orbit-coordinator"),
    ("-rwxr-xr-x", "./usr/bin/orbit-star"),
    ("-rw-r--r--", "./lib/systemd/system/orbit-coordinator.service"),
    ("-rw-r--r--", "./lib/systemd/system/orbit-star.service"),
    ("-rw-r--r--", "./etc/orbit/coordinator.toml"),
    ("-rw-r--r--", "./etc/orbit/star.toml"),
    ("-rw-r--r--", "./usr/share/doc/orbit-grid/copyright"),
    ("-rw-r--r--", "./usr/share/doc/orbit-grid/README.md"),
    ("-rw-r--r--", "./usr/share/doc/orbit-grid/orbit-grid.rules.yml"),
    ("-rw-r--r--", "./usr/share/doc/orbit-grid/THIRD-PARTY-NOTICES.txt"),
    ("-rw-r--r--", "./usr/share/doc/orbit-grid/sbom.cdx.json"),
    ("-rw-r--r--", "./usr/share/doc/orbit-grid/changelog.gz"),
    ("-rw-r--r--", "./usr/share/man/man1/orbit.1.gz"),
    ("-rw-r--r--", "./usr/share/man/man1/orbit-job.1.gz"),
    ("-rw-r--r--", "./usr/share/man/man8/orbit-coordinator.8.gz"),
    ("-rw-r--r--", "./usr/share/man/man8/orbit-star.8.gz"),
    ("-rw-r--r--", "./usr/share/man/man8/orbit-star-vault.8.gz"),
    ("-rw-r--r--", "./usr/share/bash-completion/completions/orbit"),
    ("-rw-r--r--", "./usr/share/zsh/vendor-completions/_orbit"),
    ("-rw-r--r--", "./usr/share/fish/vendor_completions.d/orbit.fish"),
];
/// Limit for the damage that a unit's program could do if it were taken over, in tenths of the score of
/// `systemd-analyze security`.
const EXPOSURE_MAX: &str = "20";

/// Installs the package like an operator, on a machine without a network, and runs each program as the package does.
/// Checks for what the package must not do are between the commands.
const INSTALL_AND_RUN: &str = r#"
set -eu
dpkg --install /package.deb >/dev/null
test "$(id -un orbit)" = orbit
test "$(id -un orbit-coordinator)" = orbit-coordinator
test "$(id -u orbit)" != "$(id -u orbit-coordinator)"
orbit-coordinator --version
orbit-star --version
orbit --version
orbit-coordinator --config /etc/orbit/coordinator.toml --print-config
orbit-star --config /etc/orbit/star.toml --star-id here --root /usr/share --print-config
orbit copy /usr/share/doc /tmp/copied
diff --recursive --no-dereference /usr/share/doc /tmp/copied
echo '# mine' >>/etc/orbit/star.toml
mkdir -p /var/lib/orbit/star
touch /var/lib/orbit/star/precious
dpkg --install /package.deb >/dev/null
grep --quiet '# mine' /etc/orbit/star.toml
dpkg --purge orbit-grid >/dev/null 2>&1
test ! -e /usr/bin/orbit
test ! -e /etc/orbit/star.toml
test -e /var/lib/orbit/star/precious
echo all is well
"#;

fn built_package(directory: &TempDir) -> PathBuf {
    let programs = program("orbit");
    let programs = programs.parent().expect("a program lies in a directory");
    let mut build = Command::new(workspace().join("scripts/deb"));
    PathBuf::from(run(build.arg(directory.path()).arg(programs)).trim())
}

#[test]
fn the_package_is_complete_and_installs_and_runs_on_a_minimal_debian() {
    assert_engine();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let package = built_package(&directory);
    assert_contents(&package);
    assert_package_is_not_planted(&package);
    let mut container = Command::new("docker");
    container.args(["run", "--rm", "--network", "none", "--volume"]);
    container.arg(format!("{}:/package.deb:ro", package.display()));
    let said = run(container.args([&base_image(), "sh", "-c", INSTALL_AND_RUN]));
    let version = env!("CARGO_PKG_VERSION");
    for part in [
        &format!("orbit-coordinator {version}"),
        &format!("orbit-star {version}"),
        &format!("orbit {version}"),
        r#"data-dir = "/var/lib/orbit/coordinator"  # file /etc/orbit/coordinator.toml"#,
        r#"vault = "/var/lib/orbit/star"  # file /etc/orbit/star.toml"#,
        "all is well",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
}

fn assert_contents(package: &Path) {
    let listed = run(Command::new("dpkg").arg("--contents").arg(package));
    for (mode, path) in CONTENTS {
        let is_there = listed.lines().any(|line| {
            line.starts_with(mode) && line.contains("root/root") && line.ends_with(&format!(" {path}"))
        });
        assert!(is_there, "{mode} root/root {path} is not in:\n{listed}");
    }
    let control = run(Command::new("dpkg").arg("--info").arg(package));
    for part in
        ["Package: orbit-grid", &format!("Version: {}", env!("CARGO_PKG_VERSION")), "Depends: libc6 (>= 2."]
    {
        assert!(control.contains(part), "{part:?} is not in:\n{control}");
    }
}

fn assert_package_is_not_planted(package: &Path) {
    let unpacked = tempfile::tempdir().expect("a temporary directory");
    run(Command::new("dpkg-deb").arg("--extract").arg(package).arg(unpacked.path()));
    assert_none_is_planted(&unpacked.path().join("usr/bin"));
}

#[test]
fn the_units_are_valid_for_systemd_and_restrict_their_programs() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let programs = program("orbit");
    let programs = programs.parent().expect("a program lies in a directory");
    let programs = format!("{}/", programs.to_str().expect("the target directory has a name of text"));
    for unit in ["orbit-coordinator.service", "orbit-star.service"] {
        let source = workspace().join("packaging/systemd").join(unit);
        let text = std::fs::read_to_string(&source).expect("a unit is text");
        let path = directory.path().join(unit);
        // systemd checks that the program exists, and on this machine it is not installed.
        std::fs::write(&path, text.replace("ExecStart=/usr/bin/", &format!("ExecStart={programs}")))
            .expect("a unit can be written");
        let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output();
        let verified = verified.expect("systemd-analyze (Debian package systemd) starts");
        // It reports unknown keys and values, and exits with 0 nevertheless.
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success() && said.trim().is_empty(), "{unit}: {said}");
        let mut security = Command::new("systemd-analyze");
        run(security
            .args(["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE_MAX])
            .arg(&path));
    }
}

/// A Star that is stopped drains first, so the stop timeout must be longer than the drain.
#[test]
fn the_stop_timeout_of_a_star_is_longer_than_its_drain() {
    let read = |path: &str| std::fs::read_to_string(workspace().join(path)).expect("it is text");
    let seconds = |path: &str, key: &str| -> u64 {
        let text = read(path);
        let line = text.lines().map(str::trim).find_map(|line| line.strip_prefix(key));
        let value = line.unwrap_or_else(|| panic!("{key} is not in {path}")).trim().trim_matches('"');
        value
            .trim_end_matches('s')
            .parse()
            .unwrap_or_else(|_| panic!("{key}{value} in {path} is no number of seconds"))
    };
    let grace = seconds("docker-compose.yml", "stop_grace_period: ");
    assert!(grace > seconds("docker-compose.yml", "ORBIT_DRAIN_TIMEOUT: "), "{grace}");
    let timeout = seconds("packaging/systemd/orbit-star.service", "TimeoutStopSec=");
    assert!(timeout > seconds("packaging/etc/star.toml", "drain-timeout = "), "{timeout}");
}
