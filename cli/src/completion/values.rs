//! Which values there are, by the name that an argument's value has in the description of the command line.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, Command};
use clap_complete::{ArgValueCompleter, CompletionCandidate};

use super::grid::GridAsked;
use crate::contexts::Contexts;
use crate::output::human;
use crate::parse::location;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Entries of one directory that are offered.
const ENTRIES_MAX: usize = 1000;

/// The description of the command line, with what its values can be. `words` is what was typed so far.
pub(super) fn described(command: Command, words: &[OsString]) -> Command {
    described_below(command, &Arc::new(GridAsked::new(words)))
}

fn described_below(command: Command, grid: &Arc<GridAsked>) -> Command {
    let name = command.get_name().to_owned();
    let command = command.mut_args(|arg| match kind_of(&name, &arg) {
        Some(kind) => {
            let grid = Arc::clone(grid);
            arg.add(ArgValueCompleter::new(move |typed: &OsStr| kind.candidates(&grid, typed)))
        }
        None => arg,
    });
    command.mut_subcommands(|subcommand| described_below(subcommand, grid))
}

/// What a value is the name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Context,
    Star,
    Job,
    Schedule,
    Snapshot,
    /// A path in the snapshot that was named before.
    SnapshotPath,
    /// `STAR:PATH`.
    Place,
}

/// The kind of an argument's value, in a command of this name.
fn kind_of(command: &str, arg: &Arg) -> Option<Kind> {
    let is_context = arg.get_long() == Some("context") || command == "use";
    match arg.get_value_names()?.first()?.as_str() {
        "NAME" if is_context => Some(Kind::Context),
        "STAR" => Some(Kind::Star),
        "JOB" => Some(Kind::Job),
        "SCHEDULE" => Some(Kind::Schedule),
        "SNAPSHOT" | "OLD" | "NEW" => Some(Kind::Snapshot),
        "PATH" => Some(Kind::SnapshotPath),
        "SOURCE" | "PLACE" => Some(Kind::Place),
        // Those of a copy are files of this machine, which clap completes.
        "SRC" | "DST" if command != "copy" => Some(Kind::Place),
        _ => None,
    }
}

impl Kind {
    /// Values of this kind that begin as typed. None if they are not known in time: a name service, a file system or the grid may be
    /// slow, and the user waits.
    fn candidates(self, grid: &Arc<GridAsked>, typed: &OsStr) -> Vec<CompletionCandidate> {
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        let (grid, begun) = (Arc::clone(grid), typed.to_owned());
        std::thread::spawn(move || answer.send(self.values(&grid, &begun)));
        let all = answered.recv_timeout(PATIENCE).unwrap_or_default();
        // Answers are lines of text on a terminal.
        let is_shown = |value: &OsStr| !value.as_bytes().iter().any(u8::is_ascii_control);
        let fits = |(value, _): &Value| value.as_bytes().starts_with(typed.as_bytes()) && is_shown(value);
        let candidate = |(order, (value, help)): (usize, (OsString, String))| {
            let help = Some(human::plain(&help)).filter(|help| !help.is_empty());
            CompletionCandidate::new(value).help(help.map(Into::into)).display_order(Some(order))
        };
        all.into_iter().filter(fits).enumerate().map(candidate).collect()
    }

    /// All values of this kind, or those that may begin as typed. Blocks.
    fn values(self, grid: &GridAsked, typed: &OsStr) -> Vec<Value> {
        match self {
            Self::Context => contexts(),
            Self::Star => grid.stars().into_iter().map(|star| (star.star_id.into(), star.state)).collect(),
            Self::Job => grid.jobs(),
            Self::Schedule => grid.schedules(),
            Self::Snapshot => grid.snapshots(),
            Self::SnapshotPath => grid.snapshot_paths(typed),
            Self::Place => places(grid, typed),
        }
    }
}

/// A value, and what it is.
pub(super) type Value = (OsString, String);

fn contexts() -> Vec<Value> {
    let all = Contexts::open().map(|contexts| contexts.all()).unwrap_or_default();
    all.into_iter().map(|one| (one.name.into(), one.coordinator.unwrap_or_default())).collect()
}

/// Places on Stars: the Stars, then the roots of one, and below them what is there if the Star is on this machine.
fn places(grid: &GridAsked, typed: &OsStr) -> Vec<Value> {
    let bytes = typed.as_bytes();
    let Some(colon) = bytes.iter().position(|&byte| byte == b':') else {
        let stars = grid.stars().into_iter();
        return stars.map(|star| (format!("{}:", star.star_id).into(), star.state)).collect();
    };
    let (name, path) = (&bytes[..colon], &bytes[colon + 1..]);
    let Some(star) = grid.stars().into_iter().find(|star| star.star_id.as_bytes() == name) else {
        return Vec::new();
    };
    let on_star = |path: &[u8]| OsStr::from_bytes(&[name, b":", path].concat()).to_owned();
    let is_below = |root: &[u8]| {
        let root = root.strip_suffix(b"/").unwrap_or(root);
        path.strip_prefix(root).is_some_and(|rest| rest.starts_with(b"/"))
    };
    if star.is_local && star.roots.iter().any(|root| is_below(root)) {
        return local_entries(path).into_iter().map(|path| (on_star(&path), String::new())).collect();
    }
    let root = |root: &[u8]| on_star(&[root.strip_suffix(b"/").unwrap_or(root), b"/"].concat());
    star.roots.iter().map(|path| (root(path), String::new())).collect()
}

/// What is in the directory of a path on this machine and begins as the path ends; directories end with a slash.
fn local_entries(path: &[u8]) -> Vec<Vec<u8>> {
    let Some(slash) = path.iter().rposition(|&byte| byte == b'/') else { return Vec::new() };
    let (directory, begun) = path.split_at(slash + 1);
    let listed = std::fs::read_dir(OsStr::from_bytes(directory)).into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<Vec<u8>> = listed
        .filter(|entry| {
            let name = entry.file_name();
            let is_hidden = name.as_bytes().starts_with(b".") && !begun.starts_with(b".");
            name.as_bytes().starts_with(begun) && !is_hidden
        })
        .take(ENTRIES_MAX)
        .map(|entry| {
            let end: &[u8] = if entry.path().is_dir() { b"/" } else { b"" };
            [directory, entry.file_name().as_bytes(), end].concat()
        })
        .collect();
    found.sort();
    found
}

/// A place as it is typed, for what a value is.
pub(super) fn shown(place: Option<&orbit_proto::v1::Location>) -> String {
    place.map(location::display).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Args;

    /// Names of values that are free text, numbers or files, or have a closed vocabulary that clap completes by itself.
    const WITHOUT: &[&str] = &[
        "AGE",
        "BOOL",
        "CATEGORY",
        "COUNT",
        "CRITERION",
        "DIR",
        "DURATION",
        "FACTOR",
        "FILE",
        "FILTER",
        "FLAG",
        "FROM-TO=RATE",
        "GLOB",
        "HASH",
        "HH:MM",
        "ID",
        "ITEM",
        "LAYOUT",
        "NAME",
        "PERCENT",
        "RATE",
        "REASON",
        "ROLE",
        "SEVERITY",
        "SHELL",
        "SIZE",
        "STATE",
        "TEXT",
        "TIME",
        "TOKEN",
        "TYPE",
        "URL",
        "WHEN",
        "COMMAND",
        "USER|@GROUP",
    ];

    fn check(command: &Command) {
        for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
            let names = arg.get_value_names().unwrap_or_default();
            let Some(name) = names.first() else { continue };
            let is_copy = command.get_name() == "copy";
            assert!(
                kind_of(command.get_name(), arg).is_some() || is_copy || WITHOUT.contains(&name.as_str()),
                "{} {name}: say what completes it",
                command.get_name()
            );
        }
        command.get_subcommands().for_each(check);
    }

    #[test]
    fn each_value_has_a_completion_or_a_reason_for_none() {
        check(&Args::command());
    }

    #[test]
    fn local_paths_go_on_with_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("photos")).unwrap();
        std::fs::write(directory.path().join("photo.jpg"), b"").unwrap();
        std::fs::write(directory.path().join(".hidden"), b"").unwrap();
        let base = directory.path().as_os_str().as_bytes();
        let entries = |path: &[u8]| local_entries(&[base, path].concat());
        assert_eq!(entries(b"/ph"), [[base, b"/photo.jpg"].concat(), [base, b"/photos/"].concat()]);
        assert_eq!(entries(b"/").len(), 2);
        assert_eq!(entries(b"/.").len(), 1);
        assert!(entries(b"/no/").is_empty());
    }
}
