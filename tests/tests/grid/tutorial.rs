//! The tutorial is correct: every command of `docs/tutorial.md` is run in order in a shell, including servers, and
//! prints the output in the text.
//!
//! Differences between runs are compared by these rules only:
//!
//! - `...` matches anything; white space counts as one space.
//! - A time of day, a duration in seconds or minutes, and a rate each match any other.
//! - A number in front of a time of day (that of a bulletin) matches any other.
//! - A snapshot's name matches the name that is first printed in its place, and from then on only that name, also if
//!   only its first eight digits are written.
//! - A port in the output of a server matches its actual port; `/tmp/tutorial` is a directory of the test.
//! - Progress lines (of a job, a collection, a drain), which a slow machine prints, are ignored.
//! - A command that changes nothing is repeated until it prints the expected output.

use std::path::Path;

use orbit_tests::deadline::{PATIENCE, within};
use orbit_tests::grpcurl;
use orbit_tests::process::Process;
use orbit_tests::programs::program;
use orbit_tests::recipes::{Recipe, fits, recipes};
use regex::Regex;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Duration, Instant};

/// The directory in the text.
const DIRECTORY: &str = "/tmp/tutorial";
/// Number of digits of a snapshot's name in commands.
const PREFIX_DIGITS: usize = 8;
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A reader who follows the text.
struct Reader {
    directory: TempDir,
    /// Names in the text and their actual values. The first match is used.
    meanings: Vec<(String, String)>,
    servers: Vec<Process>,
    path: String,
    /// The coordinator's address.
    coordinator: String,
    varying: Varying,
}

impl Reader {
    fn new(tools: &Path) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let here = directory.path().to_str().expect("the temporary directory has a name of text").to_owned();
        let programs = program("orbit");
        let programs = programs.parent().expect("a program lies in a directory");
        let path = std::env::var("PATH").unwrap_or_default();
        Self {
            directory,
            meanings: vec![(DIRECTORY.to_owned(), here)],
            servers: Vec::new(),
            path: format!("{}:{}:{path}", programs.display(), tools.display()),
            coordinator: String::new(),
            varying: Varying::new(),
        }
    }

    /// The text with the actual values.
    fn here(&self, text: &str) -> String {
        self.meanings.iter().fold(text.to_owned(), |text, (written, meant)| text.replace(written, meant))
    }

    fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("bash");
        shell.args(["-c", command]).current_dir(self.directory.path()).kill_on_drop(true);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("ORBIT_") {
                shell.env_remove(variable);
            }
        }
        shell.env("PATH", &self.path).env("ORBIT_COORDINATOR", format!("http://{}", self.coordinator));
        shell
    }

    async fn follow(&mut self, recipe: &Recipe, last_code: &mut i32) {
        if recipe.command.starts_with("orbit-") {
            self.start_server(recipe).await;
            return;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Each command has its own shell, and `$?` is that of the previous one.
            let command = format!("(exit {last_code}); {}", self.here(&recipe.command));
            let output = within(&recipe.command, self.shell(&command).output()).await.expect("bash starts");
            let code = output.status.code().unwrap_or_default();
            let printed = self.varying.without_progress(&[output.stderr, output.stdout].concat());
            let Err(problem) = self.compare(&recipe.expected, &printed) else {
                *last_code = code;
                return;
            };
            if !only_looks(&recipe.command) || Instant::now() > deadline {
                let (line, command) = (recipe.line, &recipe.command);
                panic!(
                    "docs/tutorial.md:{line}: {command}\n{problem}; it printed, with code {code}:\n{printed}"
                );
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    fn compare(&mut self, expected: &str, printed: &str) -> Result<(), String> {
        let expected = self.here(expected);
        let news = self.varying.names(&expected, printed);
        let renamed = news.iter().fold(expected, |text, (written, meant)| text.replace(written, meant));
        fits(&self.varying.leveled(&renamed), &self.varying.leveled(printed))?;
        for (written, meant) in news {
            let short = (written[..PREFIX_DIGITS].to_owned(), meant[..PREFIX_DIGITS].to_owned());
            self.meanings.extend([(written, meant), short]);
        }
        Ok(())
    }

    /// Starts a server on free ports, and reads them from its output.
    async fn start_server(&mut self, recipe: &Recipe) {
        let name = format!("server-{}", self.servers.len());
        let command = self.varying.with_any_port(&self.here(&recipe.command));
        let mut command = self.shell(&format!("exec {command}"));
        if recipe.command.starts_with("orbit-coordinator") {
            command.env("ORBIT_LISTEN", "127.0.0.1:0").env("ORBIT_HTTP_LISTEN", "127.0.0.1:0");
        } else {
            command.env_remove("ORBIT_COORDINATOR");
        }
        let mut server = Process::spawn(&name, command, self.directory.path());
        for line in recipe.expected.lines() {
            let (what, written) = line.rsplit_once(' ').expect("a server says what is where");
            let meant = server.line_after(&format!("{what} ")).await;
            if self.coordinator.is_empty() {
                self.coordinator.clone_from(&meant);
            }
            self.meanings.push((written.to_owned(), meant));
        }
        self.servers.push(server);
    }
}

/// Whether a command changes nothing, so that it can be repeated.
fn only_looks(command: &str) -> bool {
    let words = ["ls", "show", "explain", "bulletins", "plan"];
    let is_look = command.split_whitespace().any(|word| words.contains(&word));
    (command.starts_with("orbit ") && is_look) || command.contains("JobService/GetJob")
}

/// The patterns of what differs from run to run.
struct Varying {
    time: Regex,
    number_and_time: Regex,
    duration: Regex,
    rate: Regex,
    name: Regex,
    progress: Regex,
    listen: Regex,
}

impl Varying {
    fn new() -> Self {
        let regex = |pattern: &str| Regex::new(pattern).expect("a pattern of this file");
        Self {
            time: regex(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z"),
            number_and_time: regex(r"\d+\s+A-TIME"),
            duration: regex(r"\b\d+ min \d\d s\b|\b\d+(\.\d+)? s\b"),
            rate: regex(r"\b\d+(\.\d+)? ([KMG]i)?B/s"),
            name: regex(r"\b[0-9a-f]{32}\b"),
            progress: regex(
                r"(?m)^(scanning: .*|copying: .*|The collection goes on \.\.\.|\S+: draining, .* waits for .*)\n",
            ),
            listen: regex(r"--listen 127\.0\.0\.1:72\d\d\b"),
        }
    }

    /// The text with those parts made equal.
    fn leveled(&self, text: &str) -> String {
        let text = self.time.replace_all(text, "A-TIME");
        let text = self.number_and_time.replace_all(&text, "N A-TIME");
        let text = self.rate.replace_all(&text, "A-RATE");
        self.duration.replace_all(&text, "A-DURATION").into_owned()
    }

    /// Names in the expected output that are not in the actual one, each with the one in its place.
    fn names(&self, expected: &str, printed: &str) -> Vec<(String, String)> {
        let names = |text: &str| -> Vec<String> {
            self.name.find_iter(text).map(|name| name.as_str().to_owned()).collect()
        };
        let pairs = names(expected).into_iter().zip(names(printed));
        pairs.filter(|(written, _)| !printed.contains(written.as_str())).collect()
    }

    fn without_progress(&self, printed: &[u8]) -> String {
        self.progress.replace_all(&String::from_utf8_lossy(printed), "").into_owned()
    }

    /// A server's command with a free port in the place of one that no server has used yet.
    fn with_any_port(&self, command: &str) -> String {
        self.listen.replace_all(command, "--listen 127.0.0.1:0").into_owned()
    }
}

#[tokio::test]
async fn every_command_of_the_tutorial_prints_what_it_says() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tutorial.md");
    let text = std::fs::read_to_string(document).expect("the tutorial is there");
    let recipes = recipes(&text);
    assert!(recipes.len() >= 35, "only {} commands were found", recipes.len());
    let grpcurl = tokio::task::spawn_blocking(grpcurl::program).await.expect("grpcurl is found");
    let mut reader = Reader::new(grpcurl.parent().expect("a program lies in a directory"));
    let mut last_code = 0;
    for recipe in &recipes {
        reader.follow(recipe, &mut last_code).await;
    }
    // The server that the text ends with a command.
    let star = reader.servers.last_mut().expect("the text starts servers");
    assert!(star.ended().await.success(), "a Star that is shut down exits with 0");
}

#[test]
fn only_varying_parts_are_made_equal() {
    let varying = Varying::new();
    let same = [
        ("in 0.13 s", "in 2 min 05 s"),
        ("51.3 MiB/s)", "113 B/s)"),
        (" 4  2026-11-28 14:40:09Z  x", "17 2027-01-01 00:00:00Z x"),
    ];
    for (one, other) in same {
        let leveled = |text: &str| varying.leveled(text);
        assert_eq!(fits(&leveled(one), &leveled(other)), Ok(()), "{one} {other}");
    }
    for (one, other) in [("11 items", "12 items"), ("6.6 MiB moved", "6.7 MiB moved"), ("job 1", "job 2")] {
        assert_ne!(varying.leveled(one), varying.leveled(other));
    }
    let (old, new) = ("c".repeat(32), "d".repeat(32));
    assert_eq!(varying.names(&format!("a {old}"), &format!("a {new}")), [(old, new.clone())]);
    assert_eq!(varying.names(&format!("a {new}"), &format!("a {new}")), []);
}
