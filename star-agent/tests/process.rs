//! The program as scripts see it.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helper functions too")]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

fn program(directory: &Path) -> Command {
    std::fs::create_dir_all(directory.join("root")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_orbit-star"));
    command
        .env_clear()
        .args(["--star-id", "star-1", "--coordinator", "http://127.0.0.1:1", "--listen", "127.0.0.1:0"])
        .arg("--root")
        .arg(directory.join("root"))
        .arg("--vault")
        .arg(directory.join("vault"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn listening(child: &mut Child) -> SocketAddr {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line.strip_prefix("listening on ").unwrap().trim_end().parse().unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn refused(output: &Output, code: i32, part: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(part), "{text}");
}

#[test]
fn a_star_prints_its_address_and_exits_with_zero_on_sigterm() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = program(directory.path()).spawn().unwrap();
    let address = listening(&mut child);
    assert_ne!(address.port(), 0);
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_identity_outlives_a_kill_and_a_vault_has_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = program(directory.path()).spawn().unwrap();
    listening(&mut child);
    let identity = || std::fs::read_to_string(directory.path().join("vault/identity")).unwrap();
    let before = identity();
    refused(&program(directory.path()).output().unwrap(), 1, "another process uses this vault");
    child.kill().unwrap();
    child.wait().unwrap();
    let mut child = program(directory.path()).spawn().unwrap();
    listening(&mut child);
    assert_eq!(identity(), before);
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn settings_come_in_layers_and_can_be_printed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("star.toml");
    std::fs::write(&file, "drain-timeout = '5s'\nlabel = ['rack=7', 'disk=ssd']\n").unwrap();
    let mut command = program(directory.path());
    command.env("ORBIT_CONFIG", &file).env("ORBIT_DRAIN_TIMEOUT", "9s").arg("--print-config");
    let printed = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(printed.contains("drain-timeout = \"9s\"  # env ORBIT_DRAIN_TIMEOUT\n"), "{printed}");
    let label = format!("label = [\"rack=7\", \"disk=ssd\"]  # file {}\n", file.display());
    assert!(printed.contains(&label), "{printed}");
    assert!(printed.contains("star-id = \"star-1\"  # flag\n"), "{printed}");
    assert!(!directory.path().join("vault").exists(), "printing starts nothing");
}

#[test]
fn mistakes_in_settings_are_named_and_exit_with_two() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("star.toml");
    std::fs::write(&file, "drain_time = '5s'\n").unwrap();
    let output = program(directory.path()).arg("--config").arg(&file).output().unwrap();
    refused(&output, 2, "there is no setting drain_time; did you mean drain-timeout?");
    refused(&program(directory.path()).args(["--label", "novalue"]).output().unwrap(), 2, "KEY=VALUE");
    let output = program(directory.path()).env("ORBIT_DRAIN_TIMEOUT", "soon").output().unwrap();
    refused(&output, 2, "env ORBIT_DRAIN_TIMEOUT: the value \"soon\" of drain-timeout");
}

#[test]
fn a_vault_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("vault"), "a file").unwrap();
    refused(&program(directory.path()).output().unwrap(), 1, "--vault ");
}
