//! `orbit demo`: a coordinator and three Stars at work in this process, narrated.
//!
//! One job moves a generated tree from the first Star to the two others. While it moves, a guard is set, one Star is
//! drained, an item that waits for it is explained, and the Star is taken back. The trees are compared at the end. Every
//! step waits for what it shows, with a deadline, so the demo always ends.

mod story;
mod tree;

use std::path::Path;

use tempfile::TempDir;

use self::story::Story;
use crate::args::DemoArgs;
use crate::client::Client;
use crate::copy::{await_stars, star_id};
use crate::errors::CliError;
use crate::grid::Grid;
use crate::outcome::Outcome;
use crate::output::Output;

const SOURCE: &str = "star-1";
const DESTINATIONS: [&str; 2] = ["star-2", "star-3"];
const CLOSING: &str = "\
What you saw, with the commands for a grid of your own (add --coordinator URL; grpcurl speaks to the same services):

  orbit job create star-1:/data star-2:/data star-3:/data --bwlimit 8M --wait
      grpcurl -plaintext -d '{\"spec\": {...}}' 127.0.0.1:7100 orbit.v1.JobService/CreateJob
  orbit job watch 1
      grpcurl -plaintext -d '{\"job_id\": 1}' 127.0.0.1:7100 orbit.v1.JobService/WatchJob
  orbit guard set star-2 --max-objects 64
      grpcurl -plaintext -d '{\"star_id\": \"star-2\", \"max_object_count\": 64}' 127.0.0.1:7100 \\
        orbit.v1.BackpressureService/SetGuardLimits
  orbit star drain star-3 --wait
      grpcurl -plaintext -d '{\"star_id\": \"star-3\"}' 127.0.0.1:7100 orbit.v1.StarService/DrainStar
  orbit job explain 1/1/0
      grpcurl -plaintext -d '{\"item_key\": \"1/1/0\"}' 127.0.0.1:7100 orbit.v1.JobService/ExplainItem
  orbit star schedule star-3
      grpcurl -plaintext -d '{\"star_id\": \"star-3\"}' 127.0.0.1:7100 orbit.v1.StarService/ScheduleStar
  orbit status
  orbit provenance --job 1 --type file-completed --limit 3";

pub(crate) async fn run(args: DemoArgs, output: Output) -> Result<Outcome, CliError> {
    orbit_program::private_files::keep_private();
    let dir = tempfile::Builder::new()
        .prefix("orbit-demo-")
        .tempdir()
        .map_err(|error| CliError::Failed(format!("cannot make a temporary directory: {error}")))?;
    let root = std::fs::canonicalize(dir.path()).map_err(|error| failed(dir.path(), &error))?;
    let shown = tokio::select! {
        shown = Box::pin(show(&root, output)) => shown,
        // The directory is removed below in either case.
        Ok(()) = tokio::signal::ctrl_c() => Ok(Outcome::Cancelled),
    };
    keep_or_remove(dir, args.keep, output)?;
    shown
}

fn keep_or_remove(dir: TempDir, is_kept: bool, output: Output) -> Result<(), CliError> {
    if is_kept {
        let path = dir.keep();
        output.note(&format!("Kept in {}.", path.display()));
        return Ok(());
    }
    let path = dir.path().to_owned();
    dir.close().map_err(|error| failed(&path, &error))
}

async fn show(root: &Path, output: Output) -> Result<Outcome, CliError> {
    let mut places = Vec::new();
    for name in [SOURCE].into_iter().chain(DESTINATIONS) {
        let place = root.join(name);
        std::fs::create_dir(&place).map_err(|error| failed(&place, &error))?;
        places.push(place);
    }
    let size = tree::generate(&places[0]).map_err(|error| failed(&places[0], &error))?;

    let mut grid = Box::pin(Grid::start(&root.join("state"))).await?;
    let told = Box::pin(tell(&mut grid, root, size, output)).await;
    let stopped = grid.stop().await;
    let mut outcome = told?;
    stopped?;
    for copy in &places[1..] {
        match tree::compare(&places[0], copy).map_err(|error| failed(copy, &error))? {
            Ok(same) => narrate(
                output,
                &format!("{} holds the same {} files, byte for byte.", copy.display(), same.files),
            )?,
            Err(difference) => {
                output.note(&difference);
                outcome = Outcome::Failed;
            }
        }
    }
    if outcome == Outcome::Completed {
        narrate(output, "")?;
        narrate(output, CLOSING)?;
    }
    Ok(outcome)
}

async fn tell(
    grid: &mut Grid,
    root: &Path,
    size: tree::TreeSize,
    output: Output,
) -> Result<Outcome, CliError> {
    let client = Client::within(grid).await?;
    let mut names = vec![SOURCE];
    names.extend(DESTINATIONS);
    for name in &names {
        grid.add_star(star_id(name)?, &root.join(name), *name == SOURCE).await?;
    }
    await_stars(&client, &names).await?;
    Box::pin(Story::new(client, output).tell(root, size)).await
}

/// With `--json` only the answers of the coordinator go to standard output.
fn narrate(output: Output, text: &str) -> Result<(), CliError> {
    if output.is_json() {
        output.note(text);
        return Ok(());
    }
    output.text(text)
}

fn failed(path: &Path, error: &std::io::Error) -> CliError {
    CliError::Failed(format!("{}: {error}", path.display()))
}
