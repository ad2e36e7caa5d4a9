//! `orbit job`.

mod create;
mod items;
mod plan;
mod view;
mod watch;

use orbit_proto::v1::{
    CancelJobRequest, GetJobRequest, Job, ListJobsRequest, PauseJobRequest, ResumeJobRequest,
};

pub(super) use self::create::{listed, spec_of};
pub(crate) use self::create::{spec, wait_for};
pub(crate) use self::view::{kind, places, spec_pairs, summary, table};
pub(crate) use self::watch::follow;
use crate::args::{CancelJobsArgs, JobCommand, JobIdArgs, ListJobsArgs, PauseJobArgs};
use crate::client::{Client, request_id};
use crate::commands::pages::Pages;
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::Output;

pub(crate) async fn run(command: JobCommand, client: &Client, output: Output) -> Result<Outcome, CliError> {
    match command {
        JobCommand::Create(args) => return Box::pin(create::run(*args, client, output)).await,
        JobCommand::Plan(args) => plan::run(*args, client, output).await?,
        JobCommand::Watch(args) => return watch::run(args.job_id, client, output).await,
        JobCommand::Ls(args) => list(args, client, output).await?,
        JobCommand::Show(args) => show(&args, client, output).await?,
        JobCommand::Pause(args) => pause(args, client, output).await?,
        JobCommand::Resume(args) => resume(&args, client, output).await?,
        JobCommand::Cancel(args) => cancel(args, client, output).await?,
        JobCommand::Items(args) => items::list(args, client, output).await?,
        JobCommand::Explain(args) => items::explain(args.item_key, client, output).await?,
    }
    Ok(Outcome::Completed)
}

async fn list(args: ListJobsArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let mut pages = Pages::new(args.limit);
    while let Some((page_size, page_token)) = pages.next() {
        let request = ListJobsRequest { page_size, page_token, states: args.state.clone() };
        let page = client.jobs().list_jobs(request).await?.into_inner();
        let has_headings = pages.took(page.jobs.len(), &page.next_page_token);
        output.answer(&page, |page| table(&page.jobs, has_headings))?;
    }
    pages.note_end(&output, "There are no jobs.");
    Ok(())
}

async fn show(args: &JobIdArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let answer = client.jobs().get_job(GetJobRequest { job_id: args.job_id }).await?.into_inner();
    output.answer(&answer, |answer| answer.job.as_ref().map(view::details).unwrap_or_default())
}

async fn pause(args: PauseJobArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let request = PauseJobRequest { job_id: args.job_id, reason: args.reason, request_id: request_id() };
    let answer = client.jobs().pause_job(request).await?.into_inner();
    output.answer(&answer, |answer| state_line(answer.job.as_ref()))
}

async fn resume(args: &JobIdArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let request = ResumeJobRequest { job_id: args.job_id, request_id: request_id() };
    let answer = client.jobs().resume_job(request).await?.into_inner();
    output.answer(&answer, |answer| state_line(answer.job.as_ref()))
}

/// Cancels each job; one that cannot be cancelled keeps none of the others from it.
async fn cancel(args: CancelJobsArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let mut failed = None;
    for job_id in args.job_ids {
        let request = CancelJobRequest { job_id, reason: args.reason.clone(), request_id: request_id() };
        match client.jobs().cancel_job(request).await {
            Ok(answer) => {
                output.answer(&answer.into_inner(), |answer| state_line(answer.job.as_ref()))?;
            }
            Err(status) => {
                if let Some(earlier) = failed.replace(status) {
                    output.note(earlier.message());
                }
            }
        }
    }
    failed.map_or(Ok(()), |status| Err(status.into()))
}

fn state_line(job: Option<&Job>) -> String {
    job.map(view::state_line).unwrap_or_default()
}
