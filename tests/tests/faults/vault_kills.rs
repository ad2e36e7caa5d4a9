//! Kills of a process that uses a vault, at successive system calls: while it writes, seals, begins containers,
//! deletes, collects and compacts. Everything that it had acknowledged is there afterwards, and nothing is damaged.

use std::process::Stdio;

use orbit_tests::strace::Strace;
use orbit_tests::vault::Acknowledged;
use tokio::process::Command;
use tokio::task::JoinSet;

/// Environment variable with the number of points of each call at which it is killed.
const POINTS_VARIABLE: &str = "ORBIT_TEST_VAULT_KILL_POINTS";
const POINTS: usize = 60;
/// The calls that change the vault.
const CALLS: [&str; 7] = ["fdatasync", "fsync", "pwrite64", "rename", "unlink", "ftruncate", "fallocate"];
const AT_ONCE: usize = 4;

/// A directory in memory, if there is one: a kill is no power cut.
fn quick_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

/// Runs the driver until it ends, and checks what it leaves. Returns whether it was killed.
async fn killed_at(calls: String, fault: String) -> bool {
    let dir = quick_dir();
    let mut command = Command::new(env!("CARGO_BIN_EXE_orbit-vault-driver"));
    command.arg(dir.path());
    let mut wrapped = Strace::injecting(&calls, &fault).wrap(&command);
    wrapped.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = wrapped.output().await.expect("the driver runs under strace");
    let acknowledged = Acknowledged::read(&String::from_utf8_lossy(&output.stdout));
    let is_killed = !output.status.success();
    assert!(is_killed || acknowledged.is_done, "{calls} {fault}: {output:?}");
    let what = format!("{calls} {fault}");
    tokio::task::spawn_blocking(move || acknowledged.assert_kept(dir.path(), &what))
        .await
        .expect("all is kept");
    is_killed
}

/// Runs every fault, some at the same time. Returns how many occurred.
async fn run(faults: Vec<(String, String)>) -> usize {
    let (mut running, mut met) = (JoinSet::new(), 0);
    let mut faults = faults.into_iter();
    loop {
        while running.len() < AT_ONCE
            && let Some((calls, fault)) = faults.next()
        {
            running.spawn(killed_at(calls, fault));
        }
        match running.join_next().await {
            Some(was_met) => met += usize::from(was_met.expect("all is kept")),
            None => return met,
        }
    }
}

fn points() -> usize {
    std::env::var(POINTS_VARIABLE).map_or(POINTS, |text| text.parse().expect("a number of points"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_keeps_what_it_acknowledged_wherever_it_is_killed() {
    let mut faults = Vec::new();
    for calls in CALLS {
        faults.extend((1..=points()).map(|number| (calls.to_owned(), format!("signal=KILL:when={number}"))));
    }
    let met = run(faults).await;
    assert!(met >= points() * 3, "only {met} points were reached, so this proves little");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_keeps_what_it_acknowledged_whatever_disk_error_occurs() {
    let mut faults = Vec::new();
    for (calls, error) in [
        ("fdatasync", "EIO"),
        ("fsync", "EIO"),
        ("pwrite64", "ENOSPC"),
        ("pwrite64", "EIO"),
        ("rename", "EIO"),
        ("fallocate", "ENOSPC"),
    ] {
        let step = 3;
        let numbers = (1..=points() / 2).map(|number| number * step);
        faults.extend(numbers.map(|number| (calls.to_owned(), format!("error={error}:when={number}"))));
    }
    let met = run(faults).await;
    assert!(met >= points() / 2, "only {met} faults were met, so this proves little");
}
