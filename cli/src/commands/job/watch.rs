//! Follows a job to its end, through restarts of the coordinator.

use std::ops::ControlFlow;

use orbit_proto::v1::{Job, WatchJobRequest, WatchJobResponse};

use super::view;
use crate::client::Client;
use crate::commands::reconnect::watch;
use crate::commands::{Places, note_dead_letters};
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::progress::Progress;

/// Calls `on_change` with the job as it is and whenever it has changed, and returns it when it has ended.
pub(crate) async fn follow(
    job_id: u64,
    client: &Client,
    output: Output,
    mut on_change: impl FnMut(&Job) -> Result<(), CliError>,
) -> Result<Job, CliError> {
    let open = async || client.jobs().watch_job(WatchJobRequest { job_id }).await;
    watch(output, open, |message: WatchJobResponse| {
        let Some(job) = message.job else { return Ok(ControlFlow::Continue(())) };
        on_change(&job)?;
        Ok(if Outcome::of(&job).is_some() { ControlFlow::Break(job) } else { ControlFlow::Continue(()) })
    })
    .await
}

/// Follows a job with a progress bar or lines; `None` when the operator interrupted the wait.
pub(super) async fn follow_with_progress(
    job_id: u64,
    client: &Client,
    output: Output,
) -> Result<Option<Job>, CliError> {
    let mut progress = Progress::new(output);
    let following = follow(job_id, client, output, |job| {
        progress.show(job);
        Ok(())
    });
    let ended = or_interrupt(following).await;
    progress.finish();
    note_interrupt(&ended, job_id, output);
    ended.transpose()
}

pub(super) async fn run(job_id: u64, client: &Client, output: Output) -> Result<Outcome, CliError> {
    if !output.is_json() {
        let Some(job) = follow_with_progress(job_id, client, output).await? else {
            return Ok(Outcome::Interrupted);
        };
        note_dead_letters(&job, Places::OnStars, client, output).await?;
        output.text(&view::summary(&job))?;
        return Ok(Outcome::of(&job).unwrap_or(Outcome::Failed));
    }
    let following = follow(job_id, client, output, |job| {
        output.answer(&WatchJobResponse { job: Some(job.clone()) }, |_| String::new())
    });
    let ended = or_interrupt(following).await;
    note_interrupt(&ended, job_id, output);
    Ok(match ended.transpose()? {
        Some(job) => Outcome::of(&job).unwrap_or(Outcome::Failed),
        None => Outcome::Interrupted,
    })
}

async fn or_interrupt<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        // Without a handler for the signal the default one ends the process, which is as good.
        Ok(()) = tokio::signal::ctrl_c() => None,
    }
}

fn note_interrupt<T>(ended: &Option<T>, job_id: u64, output: Output) {
    if ended.is_none() {
        output.note(&format!(
            "Job {job_id} goes on. `orbit job watch {job_id}` follows it, `orbit job cancel {job_id}` ends it."
        ));
    }
}
