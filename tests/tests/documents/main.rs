//! Checks the documents against the source: paths exist, links have targets, commands are valid.

mod builds;
mod calls;
mod commands;
mod shell;
mod snippets;
mod sources;
mod structure;
mod words;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Directories beside those of the members: text in backquotes that begins with a directory names a path.
const DIRECTORIES: [&str; 4] = ["docs", "examples", "packaging", "scripts"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// The Rust sources in a directory and below.
fn sources_in(directory: &Path) -> Vec<PathBuf> {
    let (mut directories, mut sources) = (vec![directory.to_owned()], Vec::new());
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("the workspace can be read") {
            let path = entry.expect("the workspace can be read").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(path);
            }
        }
    }
    sources
}

fn documents() -> Vec<(PathBuf, String)> {
    let directories = [root(), root().join("docs"), root().join("examples")];
    let entries =
        directories.iter().flat_map(|path| std::fs::read_dir(path).expect("the workspace can be read"));
    let paths = entries.map(|entry| entry.expect("the workspace can be read").path());
    let documents = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    documents.map(|path| (path.clone(), std::fs::read_to_string(path).expect("documents are text"))).collect()
}

/// The text between `open` and the next `close` on one line.
fn between<'a>(text: &'a str, open: &'a str, close: char) -> impl Iterator<Item = &'a str> {
    text.lines().flat_map(move |line| {
        line.split(open).skip(1).filter_map(move |rest| rest.split_once(close).map(|(inner, _)| inner))
    })
}

#[test]
fn links_in_documents_have_targets() {
    let mut broken = Vec::new();
    for (document, text) in documents() {
        let directory = document.parent().expect("a document lies in a directory");
        for link in between(&text, "](", ')') {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !directory.join(target).exists() {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn paths_in_documents_exist() {
    let mut missing = BTreeSet::new();
    let members = structure::members();
    for (document, text) in documents() {
        // Every second piece between backquotes is code.
        for code in text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)) {
            let path = code.split([' ', ':', '#']).next().unwrap_or_default();
            let Some((first, _)) = path.split_once('/') else { continue };
            let is_pattern = path.contains(['*', '{', '<', '$', '…']);
            let is_directory = members.iter().any(|member| member == first) || DIRECTORIES.contains(&first);
            if is_directory && !is_pattern && !root().join(path).exists() {
                missing.insert(format!("{}: {path}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The one command for a newcomer is the one that continuous integration runs.
#[test]
fn the_readme_names_the_test_command_that_ci_runs() {
    let ci = std::fs::read_to_string(root().join(".ci/run")).expect(".ci/run can be read");
    assert!(ci.contains("exec scripts/test"));
    assert!(text_of("README.md").contains("scripts/test"), "the README does not say how to run the tests");
}

#[test]
fn scripts_are_bash_that_parses() {
    for script in ["scripts/test", "scripts/base-image", "scripts/image", "scripts/deb", ".ci/run"] {
        let status = std::process::Command::new("bash").arg("-n").arg(root().join(script)).status();
        assert!(status.expect("bash starts").success(), "{script}");
    }
}

/// The guide lists every setting, with its default, and no others.
#[test]
fn the_operators_guide_has_every_setting() {
    let text = std::fs::read_to_string(root().join("docs/operating.md")).expect("the guide is there");
    let programs = [
        (
            "orbit-coordinator",
            <orbit_coordinator::config::CoordinatorFlags as clap::CommandFactory>::command(),
        ),
        ("orbit-star", <orbit_star::StarFlags as clap::CommandFactory>::command()),
    ];
    for (name, command) in programs {
        let heading = format!("## Settings of `{name}`");
        let (_, section) = text.split_once(&heading).unwrap_or_else(|| panic!("there is no {heading:?}"));
        let section = section.split("\n## ").next().unwrap_or_default();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `--")?.split_once('`'));
        let mut rows: std::collections::BTreeMap<&str, &str> = rows.collect();
        for argument in command.get_arguments() {
            let Some(flag) = argument.get_long().filter(|flag| !["help", "version"].contains(flag)) else {
                continue;
            };
            let row =
                rows.remove(flag).unwrap_or_else(|| panic!("{name}: --{flag} is not in docs/operating.md"));
            for default in argument.get_default_values().iter().filter_map(|default| default.to_str()) {
                let is_shown = default == "false" || row.contains(&format!("`{default}`"));
                assert!(is_shown, "{name}: --{flag} has the default {default}, and the guide says {row}");
            }
        }
        assert!(rows.is_empty(), "{name} has no such settings: {rows:?}");
    }
}

/// Every metric of the dashboard and of the alert rules is in `docs/metrics.md`, which a test compares with `/metrics`.
#[test]
fn every_metric_of_the_dashboard_and_the_alerts_is_documented() {
    let dashboard = text_of("packaging/grafana/orbit-grid.json");
    let parsed: serde_json::Value = serde_json::from_str(&dashboard).expect("a dashboard is JSON");
    assert_eq!(parsed["uid"], "orbit-grid");
    assert_metrics_are_documented("the dashboard", &dashboard);
    assert_metrics_are_documented("the alert rules", &text_of("packaging/prometheus/orbit-grid.rules.yml"));
}

fn text_of(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn assert_metrics_are_documented(what: &str, text: &str) {
    let documented: BTreeSet<String> =
        between(&text_of("docs/metrics.md"), "`orbit_", '`').map(|name| format!("orbit_{name}")).collect();
    let mut asked = BTreeSet::new();
    for start in text.match_indices("orbit_").map(|(start, _)| start) {
        let name = text[start..].split(|c: char| !c.is_ascii_lowercase() && c != '_').next();
        let name = name.unwrap_or_default();
        // The suffixes of a histogram.
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        asked.insert(base.unwrap_or(name).to_owned());
    }
    assert!(asked.len() > 10, "{asked:?}");
    let unknown: Vec<_> = asked.difference(&documented).collect();
    assert!(unknown.is_empty(), "{what}: no coordinator serves {unknown:?}");
}

/// Prometheus accepts the alert rules, and the page lists each with its severity.
#[test]
fn the_alert_rules_are_valid_and_listed() {
    let path = root().join("packaging/prometheus/orbit-grid.rules.yml");
    let checked = std::process::Command::new("promtool").args(["check", "rules"]).arg(&path).output();
    let checked = checked.expect("promtool (Debian package prometheus) starts");
    let said = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}");
    let (rules, page) = (text_of("packaging/prometheus/orbit-grid.rules.yml"), text_of("docs/metrics.md"));
    let mut alerts = 0;
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap_or_default();
        let severity =
            between(rule, "{severity: ", '}').next().unwrap_or_else(|| panic!("{name}: no severity"));
        assert!(
            page.contains(&format!("| {name} | {severity} |")),
            "docs/metrics.md lacks {name}, {severity}"
        );
        alerts += 1;
    }
    assert_eq!(alerts, page.matches("\n| Orbit").count(), "docs/metrics.md lists an alert that is not there");
}

/// The notices and the bill of materials list the crates that are linked now.
#[test]
fn the_notices_of_third_party_crates_are_up_to_date() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let written = std::process::Command::new(root().join("scripts/notices")).arg(directory.path()).output();
    let written = written.expect("scripts/notices starts (Debian package python3)");
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    for name in ["THIRD-PARTY-NOTICES.txt", "sbom.cdx.json"] {
        let now = std::fs::read_to_string(directory.path().join(name)).expect("it was written");
        let is_same = now == text_of(&format!("packaging/third-party/{name}"));
        assert!(is_same, "packaging/third-party/{name} is not that of Cargo.lock; run scripts/notices");
    }
}
