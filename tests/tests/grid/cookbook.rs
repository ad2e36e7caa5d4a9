//! The cookbook and the README are correct: every command with an expected output runs, in order, with a grid like the
//! described one, and prints that output.

use std::path::Path;

use orbit_tests::deadline::within;
use orbit_tests::grid::Grid;
use orbit_tests::grpcurl;
use orbit_tests::recipes::{fits, recipes};
use orbit_tests::tree::plant_files;
use tokio::process::Command;

#[tokio::test]
async fn every_recipe_of_the_cookbook_works() {
    work_through("docs/grpcurl.md", 30).await;
}

#[tokio::test]
async fn the_first_grid_of_the_readme_works() {
    work_through("README.md", 7).await;
}

/// Runs every command of a document, which must have at least `count_min`.
async fn work_through(document: &str, count_min: usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document);
    let text = std::fs::read_to_string(path).expect("the document is there");
    let recipes = recipes(&text);
    assert!(recipes.len() >= count_min, "only {} commands were found in {document}", recipes.len());
    let grid = Grid::start(&["star-1", "star-2", "star-3"]).await;
    // Enough files that the slow job of the page is still running when it is paused.
    plant_files(&grid.root("star-1"), 400, 40_000, 3);
    for star in ["star-1", "star-2", "star-3"] {
        grid.client().wait_star(star, "says how it fares", |star| star.health.is_some()).await;
    }
    let roots = [("/tmp/w/photos", "star-1"), ("/tmp/w/backup-1", "star-2"), ("/tmp/w/backup-2", "star-3")];
    let here = |text: &str| {
        let text = text.replace("127.0.0.1:7100", grid.address());
        roots.iter().fold(text, |text, (path, star)| {
            text.replace(path, grid.root(star).to_str().expect("a path that is text"))
        })
    };
    let program = tokio::task::spawn_blocking(grpcurl::program).await.expect("grpcurl is found");
    let tools = program.parent().expect("a program lies in a directory");
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
    for recipe in recipes {
        let mut command = Command::new("sh");
        command.args(["-c", &here(&recipe.command)]).env("PATH", &path).kill_on_drop(true);
        let output = within(&recipe.command, command.output()).await.expect("sh starts");
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed).into_owned();
        if let Err(problem) = fits(&here(&recipe.expected), &printed) {
            panic!("{document}:{}: {}\n{problem}; it printed:\n{printed}", recipe.line, recipe.command);
        }
    }
}
