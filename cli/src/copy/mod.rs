//! `orbit copy`: one copy with the whole grid in this process.
//!
//! A coordinator and two Stars start, one job moves the tree, and all of it ends with the job. Nothing here copies: the
//! job is an ordinary one, so a copy has the same guarantees and the same report as any job of a grid.

mod paths;
mod standstill;
mod state_dir;

use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use orbit_program::signals::StopSignals;
use orbit_proto::v1::{
    CancelJobRequest, CreateJobRequest, GetJobResponse, Job, JobState, ListJobsRequest, ListStarsRequest,
    Liveness, Star, StarState,
};
use orbit_shared::words::StarId;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use self::paths::CopyPaths;
use self::standstill::Standstill;
use self::state_dir::StateDir;
use crate::args::{CopyArgs, MirrorArgs, SelectionArgs};
use crate::client::{Client, request_id};
use crate::commands::{Places, job, note_dead_letters};
use crate::errors::CliError;
use crate::grid::{Grid, GridError};
use crate::outcome::Outcome;
use crate::output::Output;
use crate::parse::location::location;
use crate::progress::Progress;

const SOURCE_STAR: &str = "source";
const DESTINATION_STAR: &str = "destination";
/// A Star in the same process registers within milliseconds; this long means that it never will.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(20);
const REGISTER_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How often it is looked whether a copy goes on.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const INTERRUPTED_REASON: &str = "interrupted";

impl From<GridError> for CliError {
    fn from(error: GridError) -> Self {
        Self::Failed(error.to_string())
    }
}

pub(crate) async fn run(args: CopyArgs, output: Output) -> Result<Outcome, CliError> {
    let paths = CopyPaths::resolve(&args.source, &args.destination)?;
    if args.mirror.mirror {
        paths.check_mirror()?;
    }
    let state = StateDir::open(args.state_dir.as_deref(), &paths)?;
    let mut selection = args.selection;
    selection.exclude.extend(state.exclude().map(str::to_owned));
    paths.make_destination()?;
    orbit_program::private_files::keep_private();
    // From here on a signal cancels the job instead of tearing the grid down in the middle of a write.
    let interrupts = interrupts()?;

    let mut grid = Box::pin(Grid::start(state.path())).await?;
    let how = How { selection, mirror: args.mirror, waits_for_space: args.wait_for_space };
    let copied = Box::pin(copy(&mut grid, &paths, how, interrupts, output)).await;
    let stopped = grid.stop().await;
    let outcome = copied?;
    stopped?;
    Ok(outcome)
}

/// How the tree is copied.
struct How {
    selection: SelectionArgs,
    mirror: MirrorArgs,
    /// Whether a copy that cannot go on waits for a person.
    waits_for_space: bool,
}

async fn copy(
    grid: &mut Grid,
    paths: &CopyPaths,
    How { selection, mirror, waits_for_space }: How,
    interrupts: mpsc::Receiver<()>,
    output: Output,
) -> Result<Outcome, CliError> {
    let client = Client::within(grid).await?;
    cancel_leftovers(&client, output).await?;
    grid.add_star(star_id(SOURCE_STAR)?, paths.source_root(), true).await?;
    grid.add_star(star_id(DESTINATION_STAR)?, paths.destination_root(), false).await?;
    await_stars(&client, &[SOURCE_STAR, DESTINATION_STAR]).await?;

    let source = location(SOURCE_STAR.to_owned(), paths.source().as_os_str().as_bytes());
    let destination = location(DESTINATION_STAR.to_owned(), paths.destination().as_os_str().as_bytes());
    let spec = job::spec(source, vec![destination], selection, mirror, (Some(paths.source()), output))?;
    let request = CreateJobRequest { spec: Some(spec), request_id: request_id() };
    let created = client.jobs().create_job(request).await?.into_inner();
    let job_id = created.job.map(|job| job.job_id).unwrap_or_default();

    let (ended, is_stuck) = Box::pin(follow(job_id, &client, interrupts, (waits_for_space, output))).await?;
    note_dead_letters(&ended, Places::OnThisMachine, &client, output).await?;
    let outcome = if is_stuck { Outcome::Failed } else { Outcome::of(&ended).unwrap_or(Outcome::Failed) };
    let answer = GetJobResponse { job: Some(ended) };
    match output.answer(&answer, |answer| answer.job.as_ref().map(job::summary).unwrap_or_default()) {
        // The copy is done whether or not somebody still reads about it.
        Ok(()) | Err(CliError::OutputClosed) => Ok(outcome),
        Err(error) => Err(error),
    }
}

pub(crate) fn star_id(name: &str) -> Result<StarId, CliError> {
    StarId::new(name).map_err(|error| CliError::Failed(error.to_string()))
}

/// A state directory that was used before may hold jobs that a killed process left unfinished. They are ended before
/// any Star could go on with them: what they stored is found again and skipped, and the source is listed afresh.
async fn cancel_leftovers(client: &Client, output: Output) -> Result<(), CliError> {
    let states = [JobState::Scanning, JobState::Running, JobState::Paused].map(i32::from).to_vec();
    loop {
        let request = ListJobsRequest { states: states.clone(), ..ListJobsRequest::default() };
        let leftovers = client.jobs().list_jobs(request).await?.into_inner().jobs;
        if leftovers.is_empty() {
            return Ok(());
        }
        for job in leftovers {
            output.note(&format!(
                "Job {} of an interrupted copy is cancelled; what it copied is kept.",
                job.job_id
            ));
            cancel(client, job.job_id, "left over from an interrupted copy").await?;
        }
    }
}

async fn cancel(client: &Client, job_id: u64, reason: &str) -> Result<(), CliError> {
    let request = CancelJobRequest { job_id, reason: reason.to_owned(), request_id: request_id() };
    client.jobs().cancel_job(request).await?;
    Ok(())
}

/// Waits until these Stars receive work.
pub(crate) async fn await_stars(client: &Client, names: &[&str]) -> Result<(), CliError> {
    let deadline = Instant::now() + REGISTER_TIMEOUT;
    loop {
        let stars = client.stars().list_stars(ListStarsRequest::default()).await?.into_inner().stars;
        let is_ready =
            |star: &Star| star.state() == StarState::Scheduled && star.liveness() == Liveness::Alive;
        let missing =
            names.iter().find(|name| !stars.iter().any(|star| star.star_id == **name && is_ready(star)));
        let Some(missing) = missing else { return Ok(()) };
        if Instant::now() > deadline {
            return Err(CliError::Failed(format!(
                "the Star {missing} in this process did not register in time"
            )));
        }
        sleep(REGISTER_POLL_INTERVAL).await;
    }
}

/// Follows the job to its end with progress. The first signal cancels it, the second one ends the process at once.
/// Also says whether the job was given up because nobody is here to resume it.
async fn follow(
    job_id: u64,
    client: &Client,
    mut interrupts: mpsc::Receiver<()>,
    (waits_for_space, output): (bool, Output),
) -> Result<(Job, bool), CliError> {
    let mut progress = Progress::new(output);
    let notes = progress.notes();
    let (paused, mut pauses) = mpsc::channel(1);
    let (seen, latest) = watch::channel(Job::default());
    let mut standstill = Standstill::new(Instant::now());
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let following = job::follow(job_id, client, output, |job| {
        progress.show(job);
        seen.send_replace(job.clone());
        if job.state() == JobState::Paused {
            // Full means that this was said before.
            let _ = paused.try_send(job.state_reason.clone());
        }
        Ok(())
    });
    let mut following = Box::pin(following);
    let mut is_stuck = false;
    let ended = loop {
        tokio::select! {
            ended = &mut following => break ended,
            Some(()) = interrupts.recv() => {
                notes.note("Cancelling; once more ends at once.");
                cancel(client, job_id, INTERRUPTED_REASON).await?;
            }
            _ = looks.tick(), if !is_stuck && !waits_for_space => {
                let reason = standstill.look(Instant::now(), &latest.borrow());
                if let Some(reason) = reason {
                    is_stuck = true;
                    notes.note(&format!("Giving up, since nothing can move: {reason}. --wait-for-space waits instead."));
                    cancel(client, job_id, &reason).await?;
                }
            }
            // Nobody could resume it: this coordinator is known to this process only.
            Some(reason) = pauses.recv(), if !is_stuck => {
                is_stuck = true;
                notes.note(&format!("Giving up: {reason}"));
                cancel(client, job_id, &reason).await?;
            }
        }
    };
    drop(following);
    progress.finish();
    Ok((ended?, is_stuck))
}

/// One message for the first signal that asks to stop. The second ends the process, whatever it is waiting for.
fn interrupts() -> Result<mpsc::Receiver<()>, CliError> {
    let failed = |error| CliError::Failed(format!("cannot listen for signals: {error}"));
    let mut signals = StopSignals::listen().map_err(failed)?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut is_first = true;
        loop {
            signals.next().await;
            if !is_first {
                std::process::exit(i32::from(Outcome::Cancelled.code()));
            }
            is_first = false;
            // A copy that has just ended has nothing left to cancel.
            let _ = sender.send(()).await;
        }
    });
    Ok(receiver)
}
