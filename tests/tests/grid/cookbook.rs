//! The cookbook is true: every command of `docs/grpcurl.md` runs, in its order, against a grid like the one it speaks of,
//! and prints what stands there.

use std::path::Path;

use orbit_tests::deadline::within;
use orbit_tests::grid::Grid;
use orbit_tests::grpcurl;
use orbit_tests::tree::plant_files;
use tokio::process::Command;

/// What stands for anything.
const ANYTHING: &str = "...";

/// A command and what it is said to print.
struct Recipe {
    line: usize,
    command: String,
    expected: String,
}

/// The commands of a document: in a block of `console`, a line behind `$ `, and below it what it prints.
fn recipes(text: &str) -> Vec<Recipe> {
    let mut recipes: Vec<Recipe> = Vec::new();
    let mut is_console = false;
    for (index, line) in text.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            is_console = language == "console";
        } else if !is_console {
        } else if let Some(command) = line.strip_prefix("$ ") {
            let (line, command) = (index + 1, command.to_owned());
            recipes.push(Recipe { line, command, expected: String::new() });
        } else if let Some(recipe) = recipes.last_mut() {
            recipe.expected.push_str(line);
            recipe.expected.push('\n');
        }
    }
    recipes
}

/// Text with every run of white space as one space, since clients indent as they like.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a text has the parts of a pattern in their order; what stands between them is anything.
fn fits(pattern: &str, text: &str) -> Result<(), String> {
    let text = flat(text);
    let mut rest = text.as_str();
    let pattern = flat(pattern);
    for (index, part) in pattern.split(ANYTHING).map(str::trim).enumerate() {
        let Some(at) = rest.find(part) else { return Err(format!("{part:?} is not where it should be")) };
        if index == 0 && at > 0 {
            return Err(format!("it does not begin with {part:?}"));
        }
        rest = &rest[at + part.len()..];
    }
    let is_open = pattern.ends_with(ANYTHING);
    if is_open || rest.trim().is_empty() { Ok(()) } else { Err(format!("it goes on with {rest:?}")) }
}

#[test]
fn a_pattern_fits_what_it_describes_and_nothing_else() {
    assert_eq!(fits("{\n  \"a\": \"...\",\n...\n}", "{ \"a\": \"7\", \"b\": 1 }"), Ok(()));
    assert!(fits("{ \"a\": 1 }", "{ \"a\": 1, \"b\": 2 }").is_err());
    assert!(fits("b ...", "a b c").is_err());
    assert!(fits("... x ... y", "y x").is_err());
}

#[tokio::test]
async fn every_recipe_of_the_cookbook_works() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/grpcurl.md");
    let text = std::fs::read_to_string(document).expect("the cookbook is there");
    let recipes = recipes(&text);
    assert!(recipes.len() >= 30, "only {} recipes were found", recipes.len());
    let grid = Grid::start(&["star-1", "star-2", "star-3"]).await;
    // Enough that the slow job of the page is still at work when it is paused.
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
            panic!("docs/grpcurl.md:{}: {}\n{problem}; it printed:\n{printed}", recipe.line, recipe.command);
        }
    }
}
