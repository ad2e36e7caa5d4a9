//! `orbit copy`: the whole grid in one process.

use std::path::Path;
use std::process::Output;

use orbit_tests::deadline::within;
use orbit_tests::programs::program;
use orbit_tests::tree::{differences, plant_files, plant_odd_tree};
use regex::Regex;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

async fn orbit(arguments: &[&str], paths: &[&Path]) -> Output {
    let mut command = Command::new(program("orbit"));
    command.args(arguments).args(paths).env_remove("ORBIT_COORDINATOR").kill_on_drop(true);
    within("orbit to end", command.output()).await.expect("orbit starts")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn temporary() -> TempDir {
    tempfile::tempdir().expect("the temporary directory is writable")
}

/// The progress in the last JSON value of the output.
fn progress(output: &Output) -> Value {
    fn find(value: &Value) -> Option<&Value> {
        match value {
            Value::Object(fields) if fields.contains_key("itemsTotal") => Some(value),
            Value::Object(fields) => fields.values().find_map(find),
            Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        }
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let values: Vec<Value> =
        values.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{error}: {text}"));
    values.iter().rev().find_map(find).cloned().unwrap_or_else(|| panic!("no progress in {text}"))
}

fn count(progress: &Value, name: &str) -> u64 {
    progress[name].as_str().map_or(0, |text| text.parse().expect("a number"))
}

#[tokio::test]
async fn an_odd_tree_arrives_as_it_was_and_a_second_copy_moves_nothing() {
    let directory = temporary();
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    plant_odd_tree(&from, 1);
    let first = orbit(&["copy", "--json"], &[&from, &to]).await;
    assert_eq!(first.status.code(), Some(0), "{}", said(&first));
    let found = differences(&from, &to);
    assert!(found.is_empty(), "{}", found.join("\n"));
    let moved = progress(&first);
    assert!(count(&moved, "bytesTransferred") > 0, "{moved}");

    let second = orbit(&["copy", "--json"], &[&from, &to]).await;
    assert_eq!(second.status.code(), Some(0), "{}", said(&second));
    let again = progress(&second);
    assert!(count(&again, "bytesTransferred") * 100 < count(&moved, "bytesTransferred"), "{again}");
    assert_eq!(count(&again, "itemsTotal"), count(&moved, "itemsTotal"), "{again}");
    assert!(count(&again, "itemsSkipped") > 0, "{again}");
    assert_eq!(differences(&from, &to), Vec::<String>::new());

    let told = orbit(&["copy"], &[&from, &to]).await;
    assert!(said(&told).contains("skipped"), "a person is told how much was skipped: {}", said(&told));
}

#[tokio::test]
async fn a_changed_file_is_all_that_a_second_copy_moves() {
    let directory = temporary();
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    plant_files(&from, 100, 30_000, 2);
    assert_eq!(orbit(&["copy"], &[&from, &to]).await.status.code(), Some(0));
    std::fs::write(from.join("d0000/f000007"), vec![9; 40_000]).expect("a file can be written");
    std::fs::write(to.join("only-here"), "stays").expect("a file can be written");
    let second = orbit(&["copy", "--json"], &[&from, &to]).await;
    assert_eq!(second.status.code(), Some(0), "{}", said(&second));
    assert!(count(&progress(&second), "bytesTransferred") <= 40_000, "{}", said(&second));
    let found: Vec<String> =
        differences(&from, &to).into_iter().filter(|line| !line.starts_with(':')).collect();
    assert_eq!(found, ["only-here: is too much"], "a copy deletes nothing");
}

#[tokio::test]
async fn a_single_file_can_be_copied() {
    let directory = temporary();
    let (from, to) = (directory.path().join("one"), directory.path().join("two"));
    std::fs::write(&from, "content").expect("a file can be written");
    let output = orbit(&["copy"], &[&from, &to]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(differences(&from, &to), Vec::<String>::new());
}

#[tokio::test]
async fn entries_that_cannot_be_copied_are_listed_and_the_exit_code_is_3() {
    let directory = temporary();
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    plant_files(&from, 3, 1000, 3);
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, from.join("pipe"), rustix::fs::FileType::Fifo, mode, 0)
        .expect("a FIFO can be made");
    let output = orbit(&["copy"], &[&from, &to]).await;
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("pipe") && errors.contains("FIFO"), "{errors}");
    assert!(to.join("d0000/f000002").is_file() && !to.join("pipe").exists());
}

#[tokio::test]
async fn a_source_that_does_not_exist_is_a_usage_error() {
    let directory = temporary();
    let (from, to) = (directory.path().join("missing"), directory.path().join("to"));
    let output = orbit(&["copy"], &[&from, &to]).await;
    assert!(matches!(output.status.code(), Some(1 | 2)), "{}", said(&output));
    assert!(said(&output).contains("missing"), "{}", said(&output));
    assert!(!to.exists());
    assert_eq!(orbit(&["copy"], &[&from]).await.status.code(), Some(2));
}

#[tokio::test]
async fn a_tree_is_not_copied_into_itself() {
    let directory = temporary();
    plant_files(directory.path(), 3, 1000, 3);
    let output = orbit(&["copy"], &[directory.path(), &directory.path().join("d0000/copy")]).await;
    assert!(matches!(output.status.code(), Some(1 | 2)), "{}", said(&output));
    assert!(!directory.path().join("d0000/copy").exists(), "{}", said(&output));
}

#[tokio::test]
async fn an_unreachable_coordinator_is_exit_code_5() {
    let output = orbit(&["status", "--coordinator", "http://127.0.0.1:1"], &[]).await;
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
}

/// A line with every number as `N` and every unit of bytes as `U`.
fn leveled(line: &str) -> String {
    let number = Regex::new(r"\d[\d,.]*").expect("a pattern");
    let unit = Regex::new(r"\b([KMGT]i)?B\b").expect("a pattern");
    unit.replace_all(&number.replace_all(line, "N"), "U").into_owned()
}

#[tokio::test]
async fn the_output_of_a_copy_is_that_in_the_documents() {
    let document = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
        std::fs::read_to_string(path).expect("the document is there")
    };
    let lines = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.starts_with("copied ")).map(leveled).collect()
    };
    let directory = temporary();
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    plant_files(&from, 300, 200_000, 1);
    let mut printed = Vec::new();
    for _ in 0..2 {
        let output = orbit(&["copy"], &[&from, &to]).await;
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        printed.extend(lines(&String::from_utf8_lossy(&output.stdout)));
    }
    assert_eq!(lines(&document("README.md")), printed);
    assert_eq!(lines(&document("docs/cluster.md")), printed[..1]);
}

#[tokio::test]
async fn with_too_few_open_files_a_program_says_at_once_how_many_it_needs() {
    let directory = temporary();
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    plant_files(&from, 20, 3000, 4);
    for limit in [20, 40, 96] {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={limit}:{limit}")).arg("--").arg(program("orbit"));
        command.arg("copy").args([&from, &to]).env_remove("ORBIT_COORDINATOR").kill_on_drop(true);
        let output = within("orbit to end", command.output()).await.expect("prlimit starts");
        if limit < 96 {
            assert_ne!(output.status.code(), Some(0));
            let said = said(&output);
            assert!(said.contains(&format!("{limit} files")) && said.contains("at least 96"), "{said}");
            assert!(
                std::fs::read_dir(&to).is_ok_and(|mut entries| entries.next().is_none()),
                "nothing was copied"
            );
        } else {
            assert_eq!(output.status.code(), Some(0), "{}", said(&output));
            assert!(differences(&from, &to).is_empty());
        }
    }
    for name in ["orbit-coordinator", "orbit-star"] {
        let mut command = Command::new("prlimit");
        command.arg("--nofile=40:40").arg("--").arg(program(name)).kill_on_drop(true);
        let output = within("it to end", command.output()).await.expect("prlimit starts");
        assert!(
            !output.status.success() && said(&output).contains("at least 96"),
            "{name}: {}",
            said(&output)
        );
    }
}
