//! `orbit copy` as a process, with the whole grid in it: what arrives, what is said, and what it exits with.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn orbit(dir: &Path, args: &[&str]) -> Output {
    command(dir, args).output().unwrap()
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orbit"));
    // What an operator's environment sets must not reach a test.
    command
        .args(args)
        .current_dir(dir)
        .env_remove("ORBIT_CONFIG")
        .env_remove("ORBIT_JSON")
        .env("TMPDIR", dir);
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A directory with `src/`: a file, an empty directory, a deep file with odd permissions, a link.
fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let src = dir.path().join("src");
    fs::create_dir_all(src.join("deep/er")).unwrap();
    fs::create_dir(src.join("empty")).unwrap();
    fs::write(src.join("a"), "alpha").unwrap();
    fs::write(src.join("deep/er/b"), vec![7; 300_000]).unwrap();
    fs::set_permissions(src.join("deep/er/b"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("a", src.join("link")).unwrap();
    dir
}

#[test]
fn a_tree_arrives_and_a_second_copy_finds_nothing_to_do() {
    let dir = tree();
    let first = orbit(dir.path(), &["copy", "src", "dst/new"]);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    assert!(stdout(&first).starts_with("copied 7 items (293.0 KiB moved"), "{}", stdout(&first));
    let copied = dir.path().join("dst/new");
    assert_eq!(fs::read(copied.join("a")).unwrap(), b"alpha");
    assert_eq!(fs::read_link(copied.join("link")).unwrap(), Path::new("a"));
    assert!(copied.join("empty").is_dir());
    let (from, to) = (dir.path().join("src/deep/er/b"), copied.join("deep/er/b"));
    assert_eq!(fs::read(&from).unwrap(), fs::read(&to).unwrap());
    let (from, to) = (fs::metadata(&from).unwrap(), fs::metadata(&to).unwrap());
    assert_eq!((from.mode(), from.mtime(), from.mtime_nsec()), (to.mode(), to.mtime(), to.mtime_nsec()));

    let second = orbit(dir.path(), &["copy", "src", "dst/new"]);
    assert!(
        stdout(&second).starts_with("copied 0 items (0 B moved, 7 skipped unchanged)"),
        "{}",
        stdout(&second)
    );
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the temporary state is gone: {left:?}");
}

#[test]
fn a_file_goes_to_a_path_or_into_a_directory() {
    let dir = tree();
    assert_eq!(orbit(dir.path(), &["copy", "src/a", "new/name"]).status.code(), Some(0));
    assert_eq!(fs::read(dir.path().join("new/name")).unwrap(), b"alpha");
    assert_eq!(orbit(dir.path(), &["copy", "src/a", "new"]).status.code(), Some(0));
    assert_eq!(fs::read(dir.path().join("new/a")).unwrap(), b"alpha");
}

#[test]
fn what_is_missing_is_listed_and_the_rest_arrives() {
    let dir = tree();
    assert!(Command::new("mkfifo").arg(dir.path().join("src/pipe")).status().unwrap().success());
    let output = orbit(dir.path(), &["copy", "src", "dst", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let errors = stderr(&output);
    let lines: Vec<&str> = errors.lines().filter(|line| line.starts_with("not copied: ")).collect();
    assert_eq!(lines.len(), 1, "{errors}");
    assert!(lines[0].contains("src/pipe -> ") && lines[0].contains("permanent-error"), "{errors}");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["job"]["state"], "JOB_STATE_PARTIALLY_COMPLETED");
    assert_eq!(answer["job"]["progress"]["itemsDead"], "1");
    assert_eq!(fs::read(dir.path().join("dst/a")).unwrap(), b"alpha");
}

#[test]
fn globs_select_what_is_copied() {
    let dir = tree();
    let output = orbit(dir.path(), &["copy", "src", "dst", "--exclude", "deep", "--exclude", "link"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(dir.path().join("dst/a").exists());
    assert!(
        !dir.path().join("dst/deep").exists() && fs::symlink_metadata(dir.path().join("dst/link")).is_err()
    );
}

#[test]
fn mistakes_are_said_in_a_sentence_and_change_nothing() {
    let dir = tree();
    let cases = [
        (&["copy", "missing", "dst"][..], "missing: no such file or directory"),
        (&["copy", "src", "src/deep/x"], "inside"),
        (&["copy", "src", "src"], "are the same"),
        (&["copy", "src", "src/a"], "inside"),
        (&["copy", "src", "dst", "--bwlimit", "fast"], "10M"),
        (&["copy", "src", "dst", "--state-dir", "src/a"], "--state-dir"),
    ];
    for (args, expected) in cases {
        let output = orbit(dir.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{args:?}: {}", stderr(&output));
    }
    assert!(!dir.path().join("dst").exists() && !dir.path().join("src/deep/x").exists());
}

#[test]
fn a_copy_of_everything_leaves_its_own_state_out() {
    let dir = tree();
    let target = tempfile::tempdir().unwrap();
    // The temporary state lies below the source, since TMPDIR does.
    let output = orbit(dir.path(), &["copy", ".", &target.path().join("all").to_string_lossy()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let copied: Vec<_> =
        fs::read_dir(target.path().join("all")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(copied, ["src"]);
}

#[test]
fn an_interrupt_cancels_and_a_later_copy_with_the_same_state_completes() {
    let dir = tree();
    fs::write(dir.path().join("src/big"), vec![1; 8 << 20]).unwrap();
    for index in 0..64 {
        let noise: Vec<u8> =
            (0..200_000u32).map(|byte| (byte.wrapping_mul(2_654_435_761 + index) >> 13) as u8).collect();
        fs::write(dir.path().join(format!("src/n{index}")), noise).unwrap();
    }
    let args = ["copy", "src", "dst", "--state-dir", "state", "--bwlimit", "1M"];
    let mut child = command(dir.path(), &args).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // The first line of progress comes after a second, when the job surely runs.
    lines.next().unwrap().unwrap();
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stdout(&output));
    assert!(stdout(&output).starts_with("cancelled: interrupted"), "{}", stdout(&output));

    let again = orbit(dir.path(), &args[..5]);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    assert_eq!(fs::metadata(dir.path().join("dst/big")).unwrap().len(), 8 << 20);
}

#[test]
fn a_killed_copy_is_cleaned_up_by_the_next_one_with_the_same_state() {
    let dir = tree();
    for index in 0..32 {
        fs::write(dir.path().join(format!("src/n{index}")), vec![index as u8; 200_000 + index]).unwrap();
    }
    let args = ["copy", "src", "dst", "--state-dir", "state", "--bwlimit", "1M"];
    let mut child = command(dir.path(), &args).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let again = orbit(dir.path(), &args[..5]);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    assert!(stderr(&again).contains("of an interrupted copy is cancelled"), "{}", stderr(&again));
    for index in 0..32 {
        let copied = fs::read(dir.path().join(format!("dst/n{index}"))).unwrap();
        assert_eq!(copied, vec![index as u8; 200_000 + index]);
    }
}

#[test]
fn no_coordinator_is_exit_code_5_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    // Bound and dropped: nothing listens there now.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = orbit(dir.path(), &["star", "ls", "--coordinator", &address.to_string()]);
    assert_eq!(output.status.code(), Some(5));
    let text = stderr(&output);
    assert!(text.contains(&address.to_string()) && text.contains("orbit-coordinator"), "{text}");
}

#[test]
fn a_mirror_deletes_what_the_source_has_not_within_its_bound() {
    let dir = tree();
    let first = orbit(dir.path(), &["copy", "src", "dst"]);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    fs::write(dir.path().join("dst/deep/more"), "more").unwrap();
    let plain = orbit(dir.path(), &["copy", "src", "dst"]);
    assert_eq!(plain.status.code(), Some(0), "{}", stderr(&plain));
    assert!(dir.path().join("dst/deep/more").exists(), "a copy deletes nothing");
    let refused = orbit(dir.path(), &["copy", "--mirror", "--max-delete", "1", "src", "dst"]);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert!(stdout(&refused).contains("1 of the 7 entries"), "{}", stdout(&refused));
    assert!(dir.path().join("dst/deep/more").exists());
    let mirrored = orbit(dir.path(), &["copy", "--mirror", "--trash", ".old", "src", "dst"]);
    assert_eq!(mirrored.status.code(), Some(0), "{}", stderr(&mirrored));
    assert!(stdout(&mirrored).contains("1 deleted"), "{}", stdout(&mirrored));
    assert!(!dir.path().join("dst/deep/more").exists());
    assert_eq!(fs::read(dir.path().join("dst/.old/job-1/deep/more")).unwrap(), b"more");
}

#[test]
fn every_byte_of_a_glob_counts_and_what_matches_nothing_is_said() {
    let dir = tree();
    for name in ["private ", "private", "lat"] {
        fs::write(dir.path().join("src").join(name), name).unwrap();
    }
    let output =
        orbit(dir.path(), &["copy", "src", "dst", "--exclude", "private ", "--exclude", "nothing-like-this"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(dir.path().join("dst/private").exists() && !dir.path().join("dst/private ").exists());
    assert!(stdout(&output).contains("nothing matched exclude \"nothing-like-this\""), "{}", stdout(&output));
    for glob in ["/", "!", "./foo", "a//b"] {
        let output = orbit(dir.path(), &["copy", "src", "dst", "--exclude", glob]);
        assert_eq!(output.status.code(), Some(2), "{glob}: {}", stderr(&output));
    }
}

#[test]
fn a_list_names_any_bytes_and_a_line_that_is_not_there_is_said() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let dir = tree();
    fs::write(dir.path().join("src").join(OsStr::from_bytes(b"lat\xe9")), "x").unwrap();
    fs::write(dir.path().join("list"), b"lat\xe9\n./deep//er/b\nmissing\n").unwrap();
    let output = orbit(dir.path(), &["copy", "src", "dst", "--files-from", "list"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("src/missing was asked for and is not at the source"),
        "{}",
        stderr(&output)
    );
    assert_eq!(stderr(&output).matches("missing was asked for").count(), 1, "said once: {}", stderr(&output));
    let copied = dir.path().join("dst");
    assert!(copied.join(OsStr::from_bytes(b"lat\xe9")).exists() && copied.join("deep/er/b").exists());
    assert!(!copied.join("a").exists() && !copied.join("empty").exists());
    fs::write(dir.path().join("list"), "a\n../b\n").unwrap();
    let output = orbit(dir.path(), &["copy", "src", "dst", "--files-from", "list"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("line 2: "), "{}", stderr(&output));
}

#[test]
fn a_checksum_finds_what_size_and_time_hide() {
    let dir = tree();
    assert_eq!(orbit(dir.path(), &["copy", "src", "dst"]).status.code(), Some(0));
    let copy = dir.path().join("dst/a");
    fs::write(&copy, "ALPHA").unwrap();
    let time = fs::metadata(dir.path().join("src/a")).unwrap().modified().unwrap();
    fs::File::options().write(true).open(&copy).unwrap().set_modified(time).unwrap();
    let output = orbit(dir.path(), &["copy", "src", "dst"]);
    assert!(stdout(&output).starts_with("copied 0 items"), "{}", stdout(&output));
    let output = orbit(dir.path(), &["copy", "--checksum", "src", "dst"]);
    assert!(stdout(&output).contains("(5 B moved"), "{}", stdout(&output));
    assert_eq!(fs::read(&copy).unwrap(), b"alpha");
}

#[test]
fn a_mirror_converges_and_says_what_it_deleted_whatever_else_failed() {
    let dir = tree();
    for index in 0..20 {
        fs::write(dir.path().join("src").join(format!("f{index}")), "x").unwrap();
    }
    assert_eq!(orbit(dir.path(), &["copy", "src", "dst"]).status.code(), Some(0));
    fs::remove_dir_all(dir.path().join("src/deep")).unwrap();
    symlink("a", dir.path().join("src/deep")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("src/pipe"), rustix::fs::Mode::RWXU).unwrap();
    let output = orbit(dir.path(), &["copy", "--mirror", "src", "dst"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stdout(&output).contains("3 deleted"), "{}", stdout(&output));
    assert_eq!(fs::read_link(dir.path().join("dst/deep")).unwrap(), Path::new("a"));
    let above = orbit(dir.path(), &["copy", "--mirror", "src", "."]);
    assert_eq!(above.status.code(), Some(2));
    assert!(stderr(&above).contains("would delete what is copied"), "{}", stderr(&above));
}

/// Names below a directory that begin like this.
fn named(dir: &Path, prefix: &str) -> Vec<std::ffi::OsString> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with(prefix)).collect()
}

/// Starts a copy of a large file and ends it by a signal as soon as a part of it is there.
fn ended_in_the_middle(dir: &Path, signal: rustix::process::Signal) -> std::process::ExitStatus {
    let big = fs::File::create(dir.join("src/big")).unwrap();
    big.set_len(400 << 20).unwrap();
    // The caller of the tests may ignore the signal, as nohup does, and a program inherits that.
    let mut child = Command::new("env");
    child.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_orbit"), "copy", "src", "dst"]);
    child.current_dir(dir).env_remove("ORBIT_CONFIG").env_remove("ORBIT_JSON").env("TMPDIR", dir);
    let mut child = child.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    while named(&dir.join("dst"), ".orbit-tmp-").is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it has ended before");
        std::thread::yield_now();
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
    child.wait().unwrap()
}

#[test]
fn what_a_killed_copy_left_is_removed_by_the_next_one_and_a_hangup_leaves_nothing() {
    let dir = tree();
    let status = ended_in_the_middle(dir.path(), rustix::process::Signal::HUP);
    assert_eq!(status.code(), Some(4), "{status:?}");
    assert_eq!(named(dir.path(), "orbit-copy-").len(), 0);
    ended_in_the_middle(dir.path(), rustix::process::Signal::KILL);
    assert_eq!(named(dir.path(), "orbit-copy-").len(), 1);
    assert!(!named(&dir.path().join("dst"), ".orbit-tmp-").is_empty());
    fs::remove_file(dir.path().join("src/big")).unwrap();
    fs::write(dir.path().join("src/.orbit-tmp-mine"), "mine").unwrap();
    let next = orbit(dir.path(), &["copy", "src", "dst"]);
    assert_eq!(next.status.code(), Some(0), "{}", stderr(&next));
    assert_eq!(named(dir.path(), "orbit-copy-").len(), 0);
    // A name of the user's that begins like ours is carried.
    assert_eq!(named(&dir.path().join("dst"), ".orbit-tmp-"), [".orbit-tmp-mine"]);
}
