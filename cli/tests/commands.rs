//! The commands of an operator, as processes, against a grid in this one.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]
#![expect(clippy::print_stdout, reason = "a test that fails shows what was asked and said")]

use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Output};

use orbit_coordinator::{CoordinatorHandle, CoordinatorOptions};
use orbit_shared::session::Root;
use orbit_shared::words::StarId;
use orbit_star::{StarHandle, StarOptions};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

struct TestGrid {
    coordinator: CoordinatorHandle,
    stars: Vec<StarHandle>,
    dir: tempfile::TempDir,
    url: String,
}

impl TestGrid {
    /// star-1 exports `one/` with a tree in it, star-2 exports `two/`.
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // On a port, as other processes must reach it.
        let options = CoordinatorOptions::new(dir.path().join("coordinator"));
        let coordinator = orbit_coordinator::start(options).await.unwrap();
        let url = format!("http://{}", coordinator.local_addr().unwrap());
        let root = fs::canonicalize(dir.path()).unwrap();
        let mut stars = Vec::new();
        for (name, place) in [("star-1", "one"), ("star-2", "two")] {
            fs::create_dir_all(root.join(place)).unwrap();
            let exported =
                Root { path: root.join(place).as_os_str().as_bytes().to_vec(), is_read_only: false };
            let vault = root.join(format!("vault-{name}"));
            let options = StarOptions::new(StarId::new(name).unwrap(), url.clone(), vec![exported], vault);
            stars.push(orbit_star::start(options, CancellationToken::new()).await.unwrap());
        }
        fs::create_dir(root.join("one/src")).unwrap();
        for index in 0..20 {
            fs::write(root.join(format!("one/src/file-{index}")), vec![index; 10_000]).unwrap();
        }
        let started = Self { coordinator, stars, dir, url };
        started.await_scheduled().await;
        started
    }

    async fn await_scheduled(&self) {
        for _ in 0..200 {
            let stars = self.json(&["star", "ls"]).await;
            let stars = stars["stars"].as_array().unwrap().clone();
            if stars.len() == 2 && stars.iter().all(|star| star["state"] == "STAR_STATE_SCHEDULED") {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("the Stars are not scheduled");
    }

    async fn orbit(&self, args: &[&str]) -> Output {
        let mut command = command(&self.url, args);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// Standard output of a command that must succeed.
    async fn text(&self, args: &[&str]) -> String {
        let output = self.orbit(args).await;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{args:?}\n{out}\n{err}");
        println!("$ orbit {}\n{out}{err}", args.join(" "));
        out.into_owned()
    }

    async fn json(&self, args: &[&str]) -> Value {
        let text = self.text(&[args, &["--json"]].concat()).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    }

    /// What a command prints on a terminal, in this environment.
    async fn on_terminal(&self, args: &[&str], environment: &[(&str, &str)]) -> String {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

        let mut terminal: fs::File = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap().into();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let other_end =
            fs::OpenOptions::new().read(true).write(true).open(OsStr::from_bytes(name.as_bytes())).unwrap();
        let mut command = command(&self.url, args);
        for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
            command.env_remove(variable);
        }
        command.env("TERM", "xterm").envs(environment.iter().copied());
        let mut child = command.stdout(other_end).spawn().unwrap();
        // Dropped here, or the end of the output would never be seen.
        drop(command);
        let reading = tokio::task::spawn_blocking(move || {
            let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
            // A terminal whose other end is closed is an error on Linux, not an end.
            while let Ok(count @ 1..) = terminal.read(&mut piece) {
                bytes.extend_from_slice(&piece[..count]);
            }
            assert!(child.wait().unwrap().success());
            String::from_utf8(bytes).unwrap()
        });
        reading.await.unwrap().replace("\r\n", "\n")
    }

    async fn failure(&self, args: &[&str]) -> (i32, String) {
        let output = self.orbit(args).await;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        println!("$ orbit {}\n{text}", args.join(" "));
        (output.status.code().unwrap(), text)
    }

    fn place(&self, star: &str, path: &str) -> String {
        format!("{star}:{}", fs::canonicalize(self.dir.path()).unwrap().join(path).display())
    }

    async fn stop(self) {
        for star in &self.stars {
            star.stop();
        }
        for mut star in self.stars {
            star.wait().await;
        }
        self.coordinator.stop().await.unwrap();
    }
}

fn command(url: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orbit"));
    command.args(args).env("ORBIT_COORDINATOR", url);
    for variable in ["ORBIT_CONFIG", "ORBIT_JSON", "ORBIT_COLOR"] {
        command.env_remove(variable);
    }
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_created_watched_listed_and_explained() {
    let grid = TestGrid::start().await;
    let (source, destination) = (grid.place("star-1", "one/src"), grid.place("star-2", "two/dst"));
    let created = grid.text(&["job", "create", &source, &destination, "--wait"]).await;
    assert!(created.starts_with("copied 21 items (195.3 KiB moved"), "{created}");
    assert_eq!(fs::read_dir(grid.dir.path().join("two/dst")).unwrap().count(), 20);

    let again = grid.json(&["job", "create", &source, &destination, "--request-id", "same"]).await;
    assert_eq!(again["job"]["jobId"], "2");
    let same = grid.json(&["job", "create", &source, &destination, "--request-id", "same"]).await;
    assert_eq!(same["job"]["jobId"], "2");
    let watched = grid.text(&["job", "watch", "2", "--json"]).await;
    let last: Value = serde_json::from_str(watched.lines().last().unwrap()).unwrap();
    assert_eq!(last["job"]["state"], "JOB_STATE_COMPLETED");
    assert_eq!(last["job"]["progress"]["itemsSkipped"], "21");

    assert!(grid.text(&["job", "ls"]).await.contains("completed"));
    assert!(grid.text(&["job", "show", "1"]).await.contains(&destination));
    let items = grid.text(&["job", "items", "1", "--state", "stored", "--limit", "5"]).await;
    assert_eq!(items.lines().count(), 6, "{items}");
    assert!(grid.text(&["job", "explain", "1/0/3"]).await.contains("stored"));
    assert!(grid.text(&["provenance", "--job", "1"]).await.contains("job-completed"));
    let events = grid.text(&["provenance", "--job", "1", "--type", "file-completed", "--limit", "3"]).await;
    assert_eq!(events.lines().count(), 3, "{events}");
    grid.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stars_and_guards_are_steered() {
    let grid = TestGrid::start().await;
    assert!(grid.text(&["star", "show", "star-1"]).await.contains("registered -> scheduled"));
    assert!(grid.text(&["star", "cordon", "star-2"]).await.contains("cordoned"));
    assert!(!grid.text(&["star", "uncordon", "star-2"]).await.contains("cordoned"));
    assert!(
        grid.text(&["guard", "set", "star-2", "--max-objects", "64", "--max-bytes", "512M"])
            .await
            .contains("512.0 MiB")
    );
    assert!(grid.text(&["guard", "pause", "star-2", "--reason", "disk swap"]).await.contains("disk swap"));
    let guards = grid.json(&["guard", "ls"]).await;
    assert_eq!(guards["guards"][1]["isPaused"], true);
    assert_eq!(guards["guards"][1]["maxObjectCount"], "64");
    grid.text(&["guard", "resume", "star-2"]).await;
    assert!(grid.text(&["star", "drain", "star-2", "--wait", "--reason", "swap"]).await.contains("drained"));
    assert!(grid.text(&["star", "schedule", "star-2"]).await.contains("scheduled"));
    assert!(grid.text(&["star", "ls"]).await.contains("alive"));
    grid.text(&["health"]).await;
    grid.text(&["health", "--history", "star-1"]).await;
    grid.text(&["penalties", "ls"]).await;
    grid.text(&["dead-letters", "ls"]).await;
    let bulletins = grid.json(&["bulletins"]).await;
    let newest = bulletins["bulletins"][0]["bulletinId"].as_str().unwrap().to_owned();
    assert!(grid.text(&["bulletins", "ack", &newest]).await.starts_with("1 bulletin acknowledged"));
    assert!(grid.text(&["bulletins", "--star", "star-2"]).await.contains("draining"));
    let status = grid.text(&["status"]).await;
    for title in ["STARS", "NEWEST JOBS", "GUARDS", "NEWEST WARNINGS"] {
        assert!(status.contains(title), "{status}");
    }
    assert_eq!(grid.json(&["status"]).await["stars"].as_array().unwrap().len(), 2);
    grid.stop().await;
}

/// Each column of a table begins in the same place on every line.
fn assert_lined_up(table: &str) {
    let first = table.lines().next().unwrap();
    let state = first.find("STATE").unwrap();
    for line in table.lines().skip(1) {
        assert!(line[state..].starts_with("scheduled "), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn states_have_colours_on_a_terminal_and_nowhere_else_unless_somebody_says_so() {
    const GREEN: &str = "\x1b[32mscheduled\x1b[0m";
    let grid = TestGrid::start().await;
    let commands: [&[&str]; 5] = [
        &["status"],
        &["star", "ls"],
        &["star", "show", "star-1"],
        &["star", "uncordon", "star-1"],
        &["guard", "ls"],
    ];
    for args in commands {
        let piped = grid.text(args).await;
        assert!(!piped.contains('\x1b'), "{piped}");
        let colored = grid.text(&[args, &["--color", "always"]].concat()).await;
        assert!(colored.contains("\x1b["), "{colored}");
    }
    let plain = grid.text(&["star", "ls"]).await;
    assert_lined_up(&plain);
    let colored = grid.text(&["--color", "always", "star", "ls"]).await;
    assert!(colored.contains(GREEN), "{colored}");
    assert_lined_up(&anstream::adapter::strip_str(&colored).to_string());

    let json = grid.text(&["star", "ls", "--json", "--color", "always"]).await;
    assert!(!json.contains('\x1b'), "a program that reads sees no colours: {json}");

    assert!(grid.on_terminal(&["star", "ls"], &[]).await.contains(GREEN));
    for (environment, is_colored) in [
        (&[("NO_COLOR", "1")][..], false),
        (&[("TERM", "dumb")], false),
        (&[("ORBIT_COLOR", "never")], false),
        (&[("NO_COLOR", "1"), ("ORBIT_COLOR", "always")], true),
        (&[("TERM", "dumb"), ("CLICOLOR_FORCE", "1")], true),
    ] {
        let shown = grid.on_terminal(&["star", "ls"], environment).await;
        assert_eq!(shown.contains(GREEN), is_colored, "{environment:?}: {shown}");
        assert_eq!(shown.contains('\x1b'), is_colored, "{environment:?}: {shown}");
    }
    assert!(!grid.on_terminal(&["star", "ls", "--color", "never"], &[]).await.contains('\x1b'));

    let mut forced = command(&grid.url, &["star", "ls"]);
    forced.env_remove("NO_COLOR").env("CLICOLOR_FORCE", "1");
    let forced = tokio::task::spawn_blocking(move || forced.output().unwrap()).await.unwrap();
    assert!(String::from_utf8_lossy(&forced.stdout).contains(GREEN), "CLICOLOR_FORCE is heard in a pipe");
    grid.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_every_bad_field_and_where_to_look() {
    let grid = TestGrid::start().await;
    let (code, text) =
        grid.failure(&["job", "create", "nobody:/x", "star-2:/nowhere", "--include", "a["]).await;
    assert_eq!(code, 2, "{text}");
    for field in ["SRC: ", "DST: ", "--include: "] {
        assert!(text.contains(field), "{text}");
    }
    let (code, text) = grid.failure(&["job", "show", "99"]).await;
    assert!(code == 1 && text.contains("there is no job 99") && text.contains("orbit job ls"), "{text}");
    let (code, text) = grid.failure(&["star", "shutdown", "star-1"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(!text.contains("Status {") && !text.contains("code:"), "{text}");
    grid.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_retried_and_discarded() {
    let grid = TestGrid::start().await;
    let pipe = grid.dir.path().join("one/src/pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (source, destination) = (grid.place("star-1", "one/src"), grid.place("star-2", "two/dst"));
    let (code, text) = grid.failure(&["job", "create", &source, &destination, "--wait"]).await;
    assert!(code == 3 && text.contains("not copied: star-1:"), "{text}");
    let letters = grid.json(&["dead-letters", "ls", "--job", "1", "--reason", "permanent-error"]).await;
    let id = letters["deadLetters"][0]["deadLetterId"].as_str().unwrap().to_owned();
    assert!(grid.text(&["dead-letters", "show", &id]).await.contains("pipe"));
    let (code, text) = grid.failure(&["dead-letters", "retry", &id, "999"]).await;
    assert!(code == 1 && text.contains("999"), "{text}");
    let (code, text) = grid.failure(&["dead-letters", "retry", &id, "--job", "1"]).await;
    assert!(code == 2 && text.contains("--job"), "{text}");
    // Neither of the two has changed anything.
    for which in [[id.as_str(), &id].as_slice(), &["--job", "1"]] {
        let retry = [&["dead-letters", "retry"][..], which].concat();
        assert!(grid.text(&retry).await.contains("1 item queued again"));
        let (code, _) = grid.failure(&["job", "watch", "1"]).await;
        assert_eq!(code, 3);
    }
    assert!(grid.text(&["dead-letters", "discard", "--job", "1"]).await.contains("1 dead letter discarded"));
    grid.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_ends_a_command_quietly() {
    let grid = TestGrid::start().await;
    let line = format!("{} star watch | head -n 1", env!("CARGO_BIN_EXE_orbit"));
    let mut command = Command::new("bash");
    command.args(["-c", &format!("set -o pipefail; {line}")]).env("ORBIT_COORDINATOR", &grid.url);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panic"));
    grid.stop().await;
}

#[test]
fn help_and_version_name_what_they_should() {
    let text = |args: &[&str]| {
        let output = command("http://127.0.0.1:1", args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(text(&["--version"]).starts_with(concat!("orbit ", env!("CARGO_PKG_VERSION"))));
    let help = text(&["--help"]);
    for word in ["copy", "dead-letters", "ORBIT_COORDINATOR", "Exit codes:", "partially completed"] {
        assert!(help.contains(word), "{help}");
    }
    assert!(text(&["copy", "--help"]).contains("becomes an image of SRC"));
    assert!(
        text(&["--print-config"]).contains("coordinator = \"http://127.0.0.1:1\"  # env ORBIT_COORDINATOR")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_learns_whether_a_coordinator_or_a_star_serves_from_the_exit_code_alone() {
    let grid = TestGrid::start().await;
    assert_eq!(grid.text(&["ping"]).await, format!("{} serves\n", grid.url));
    let stars = grid.json(&["star", "ls"]).await;
    let star = stars["stars"][0]["dataAddress"].as_str().unwrap().to_owned();
    assert_eq!(grid.json(&["ping", &star]).await["status"], "SERVING");
    let url = grid.url.clone();
    grid.stop().await;

    // Probes of containers take 0 for well and 1 for ill; all else means something of its own to them.
    let output = command(&url, &["ping"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("nobody serves at {url}")), "{text}");
}
