//! Checks the structure of the workspace against its rules: which crate may use which, what a core may use, and that
//! `ARCHITECTURE.md` shows every crate and every module.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{root, sources_in, text_of};

/// The crates of this workspace that each crate may use. What tests alone use is not limited.
const ARROWS: [(&str, &[&str]); 12] = [
    ("shared", &[]),
    ("shared/program", &["orbit-shared"]),
    ("proto", &["orbit-shared"]),
    ("telemetry", &["orbit-shared"]),
    ("identity", &["orbit-program", "orbit-proto", "orbit-shared"]),
    ("coordinator", SERVER),
    ("star-agent", SERVER),
    (
        "cli",
        &[
            "orbit-coordinator",
            "orbit-identity",
            "orbit-program",
            "orbit-proto",
            "orbit-shared",
            "orbit-star",
        ],
    ),
    ("tests", EVERYTHING),
    ("tests/features", &[]),
    ("benches", EVERYTHING),
    ("examples/rust", &["orbit-proto"]),
];
const SERVER: &[&str] =
    &["orbit-identity", "orbit-program", "orbit-proto", "orbit-shared", "orbit-telemetry"];
const EVERYTHING: &[&str] = &[
    "orbit-cli",
    "orbit-coordinator",
    "orbit-identity",
    "orbit-program",
    "orbit-proto",
    "orbit-shared",
    "orbit-star",
    "orbit-telemetry",
    "orbit-tests",
];

/// What no decision may depend on, and where such code belongs.
const IMPURE: [&str; 14] = [
    "tokio::",
    "futures::",
    "tonic::",
    "std::fs",
    "std::net",
    "std::env",
    "thread::spawn",
    "thread::sleep",
    "rustix::",
    "rand::",
    "Instant::now",
    "SystemTime::now",
    "HashMap",
    "HashSet",
];
/// The directories and files that are pure.
const PURE: [&str; 6] = [
    "coordinator/src/core",
    "coordinator/src/turns.rs",
    "star-agent/src/core",
    "star-agent/src/sink/pull_core",
    "star-agent/src/sink/pull_core.rs",
    "shared/src",
];
/// The container format is the one pattern that reads and writes files.
const EXCEPTIONS: [&str; 1] = ["shared/src/container"];

/// The directories of the members, as `Cargo.toml` lists them.
pub(super) fn members() -> Vec<String> {
    let manifest = text_of("Cargo.toml");
    let list = manifest.split_once("\nmembers = [").and_then(|(_, rest)| rest.split_once(']'));
    let (list, _) = list.expect("the workspace lists its members");
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The names under `[dependencies]` of a manifest that belong to this workspace.
fn uses(member: &str) -> BTreeSet<String> {
    let manifest = text_of(&format!("{member}/Cargo.toml"));
    let section = manifest.split("\n[").find_map(|section| section.strip_prefix("dependencies]\n"));
    let lines = section.unwrap_or_default().lines();
    let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next());
    names.filter(|name| name.starts_with("orbit-")).map(str::to_owned).collect()
}

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let members = members();
    let listed: BTreeSet<&str> = members.iter().map(String::as_str).collect();
    assert_eq!(listed, allowed.keys().copied().collect(), "ARROWS must list every member, and no other");
    for member in &members {
        let uses = uses(member);
        let more: Vec<_> =
            uses.iter().filter(|name| !allowed[member.as_str()].contains(&name.as_str())).collect();
        assert!(more.is_empty(), "{member} must not depend on {more:?}");
    }
    assert!(uses("cli").contains("orbit-star"), "dependencies are not found any more");
}

/// Whether a file has only tests: its module is compiled for tests alone.
fn is_of_tests(path: &Path) -> bool {
    path.components()
        .any(|part| ["tests", "tests.rs", "simulation.rs"].iter().any(|name| part.as_os_str() == *name))
        || path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"))
        || path.file_stem().is_some_and(|stem| stem == "loom")
}

/// The lines before the tests of a file, without comments.
fn code(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().enumerate().map(|(at, line)| (at + 1, line));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Whether a line contains a word of [`IMPURE`] that is not the end of another name, as `tonic::` is of `Monotonic::`.
fn is_impure(line: &str) -> bool {
    let is_start =
        |at: usize| !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
    IMPURE.iter().any(|word| line.match_indices(word).any(|(at, _)| is_start(at)))
}

fn impure_lines(path: &Path, source: &str) -> Vec<String> {
    let found = code(source).filter(|(_, line)| is_impure(line));
    found.map(|(at, line)| format!("{}:{at}: {}", path.display(), line.trim())).collect()
}

#[test]
fn cores_and_patterns_use_no_clock_no_file_and_no_unordered_map() {
    let mut found = Vec::new();
    let mut count = 0;
    for pure in PURE.map(|name| root().join(name)) {
        let sources = if pure.is_file() { vec![pure] } else { sources_in(&pure) };
        for path in sources {
            let is_exception = EXCEPTIONS.iter().any(|exception| path.starts_with(root().join(exception)));
            if is_exception || is_of_tests(&path) {
                continue;
            }
            count += 1;
            found.extend(impure_lines(&path, &std::fs::read_to_string(&path).expect("a source is text")));
        }
    }
    assert!(count > 80, "{count} sources");
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn impure_code_is_found_and_comments_and_tests_are_not() {
    let source = "// std::fs in a comment, and Monotonic::ZERO in code\nlet zero = Monotonic::ZERO;\nlet now = Instant::now();\n#[cfg(test)]\nmod tests {\nuse std::fs;\n}";
    assert_eq!(impure_lines(Path::new("a.rs"), source), ["a.rs:3: let now = Instant::now();"]);
}

/// The modules that `lib.rs` of a member declares, except those of tests.
fn modules(member: &str) -> BTreeSet<String> {
    let source = text_of(&format!("{member}/src/lib.rs"));
    let names = source.lines().filter_map(|line| {
        let line = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    names.filter(|name| !name.ends_with("tests")).map(str::to_owned).collect()
}

/// The first cells of the table below a heading.
fn rows(text: &str, heading: &str) -> BTreeSet<String> {
    let (_, section) = text.split_once(heading).unwrap_or_else(|| panic!("there is no {heading:?}"));
    let section = section.split("\n#").next().unwrap_or_default();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    cells.flat_map(|(name, _)| name.split("`, `").map(str::to_owned)).collect()
}

#[test]
fn the_code_map_shows_every_crate_and_every_module() {
    let map = text_of("ARCHITECTURE.md");
    let crates: BTreeSet<String> = map
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` (orbit-").map(|(name, _)| name.to_owned()))
        .collect();
    assert_eq!(crates, members().into_iter().collect(), "the crates of the code map");
    for member in ["coordinator", "star-agent"] {
        let listed = rows(&map, &format!("\n### Modules of `{member}`\n"));
        assert_eq!(listed, modules(member), "the modules of {member} in the code map");
    }
}

/// Members lie where the code map says, so each has a manifest.
#[test]
fn every_crate_keeps_the_lints_of_the_workspace() {
    for member in members() {
        let manifest = text_of(&format!("{member}/Cargo.toml"));
        assert!(manifest.contains("[lints]\nworkspace = true"), "{member}");
    }
}

/// The Rust sources of all members.
pub(super) fn sources() -> Vec<PathBuf> {
    members().iter().flat_map(|member| sources_in(&root().join(member).join("src"))).collect()
}
