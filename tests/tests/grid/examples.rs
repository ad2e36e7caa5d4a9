//! The programs in `examples/` work against a real grid: they copy a tree, and name what could not be copied.

use std::path::{Path, PathBuf};

use orbit_tests::grid::Grid;
use orbit_tests::programs::program;
use orbit_tests::tree::{differences, plant_files};
use tokio::process::Command;

fn python_example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python/copy_tree.py")
}

async fn run(mut command: Command, arguments: &[&str]) -> (Option<i32>, String) {
    let output = command.args(arguments).output().await.expect("the example starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Runs an example on a tree that it can copy, on one with a FIFO, and with a source that does not exist.
async fn assert_copies(grid: &Grid, name: &str, coordinator: &str, command: impl Fn() -> Command) {
    let (whole, partial) = (format!("{name}-whole"), format!("{name}-partial"));
    let (source, destination) = (grid.root("star-1"), grid.root("star-2"));
    plant_files(&source.join(&whole), 30, 2_000, 5);
    plant_files(&source.join(&partial), 5, 2_000, 5);
    let fifo = source.join(&partial).join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().await.expect("mkfifo starts");
    assert!(made.success());
    let place = |root: &Path, star: &str, tree: &str| format!("{star}:{}", root.join(tree).display());

    let arguments = [place(&source, "star-1", &whole), place(&destination, "star-2", &whole)];
    let (code, said) = run(command(), &[coordinator, &arguments[0], &arguments[1]]).await;
    assert_eq!(code, Some(0), "{name}: {said}");
    assert!(said.contains("of 3"), "{name} shows no progress: {said}");
    assert!(differences(&source.join(&whole), &destination.join(&whole)).is_empty());

    let arguments = [place(&source, "star-1", &partial), place(&destination, "star-2", &partial)];
    let (code, said) = run(command(), &[coordinator, &arguments[0], &arguments[1]]).await;
    assert_eq!(code, Some(3), "{name}: {said}");
    assert!(said.contains("fifo") && said.contains("FIFO"), "{name} does not say what failed: {said}");

    let missing = place(&source, "star-9", &whole);
    let (code, said) = run(command(), &[coordinator, &missing, &arguments[1]]).await;
    assert_eq!(code, Some(1), "{name}: {said}");
    assert!(said.contains("star-9"), "{name} does not repeat the coordinator's text: {said}");
    assert_eq!(run(command(), &[coordinator]).await.0, Some(2), "{name}: an incomplete command line");
}

#[tokio::test]
async fn the_example_clients_copy_a_tree_and_name_what_failed() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let rust = program("orbit-example");
    assert_copies(&grid, "rust", &format!("http://{}", grid.address()), || Command::new(&rust)).await;
    let python = || {
        let mut command = Command::new("python3");
        command.arg(python_example());
        command
    };
    assert_copies(&grid, "python", &format!("http://{}", grid.http_address()), python).await;
}
