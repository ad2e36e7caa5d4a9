//! Example of a client: copies a tree from one Star to others, follows the job, and prints what could not be copied.
//!
//! Usage: `orbit-example http://COORDINATOR:PORT STAR:/PATH STAR:/PATH...`. Exits with 0 if everything was copied, with 3
//! if some items failed, with 1 if the job failed, and with 2 if the arguments are wrong.

use std::io::Write as _;
use std::process::ExitCode;

use orbit_proto::v1;
use orbit_proto::v1::dead_letter_service_client::DeadLetterServiceClient;
use orbit_proto::v1::job_service_client::JobServiceClient;
use tonic::transport::Channel;

const USAGE: &str = "usage: orbit-example http://COORDINATOR:PORT STAR:/SOURCE STAR:/DESTINATION...";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((coordinator, spec)) = parse(&arguments) else {
        say(USAGE);
        return ExitCode::from(2);
    };
    match copy(coordinator.to_owned(), spec).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    // Without a reader, the exit code still says how it ended.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn parse(arguments: &[String]) -> Option<(&str, v1::JobSpec)> {
    let [coordinator, source, destinations @ ..] = arguments else { return None };
    let destinations: Vec<_> = destinations.iter().map(|text| location(text)).collect::<Option<_>>()?;
    let spec = v1::JobSpec { source: Some(location(source)?), destinations, ..v1::JobSpec::default() };
    (!spec.destinations.is_empty()).then_some((coordinator, spec))
}

fn location(text: &str) -> Option<v1::Location> {
    let (star, path) = text.split_once(':')?;
    Some(v1::Location { star_id: star.to_owned(), path: path.to_owned(), ..v1::Location::default() })
}

/// Creates the job, waits for its end, and returns the exit code.
async fn copy(coordinator: String, spec: v1::JobSpec) -> Result<u8, Box<dyn std::error::Error>> {
    let channel = Channel::from_shared(coordinator)?.connect().await?;
    let mut jobs = JobServiceClient::new(channel.clone());
    // The coordinator remembers the name: if the answer is lost, the same request can be sent again and returns this job.
    let request = v1::CreateJobRequest { spec: Some(spec), request_id: uuid::Uuid::new_v4().to_string() };
    let created = jobs.create_job(request).await?.into_inner();
    let job_id = created.job.unwrap_or_default().job_id;
    // The stream begins with the current state and ends with the job.
    let mut changes = jobs.watch_job(v1::WatchJobRequest { job_id }).await?.into_inner();
    let mut last = v1::Job::default();
    while let Some(change) = changes.message().await? {
        last = change.job.unwrap_or_default();
        let progress = last.progress.unwrap_or_default();
        let done = progress.items_stored + progress.items_skipped;
        say(&format!("job {job_id}: {done} of {} items", progress.items_total));
    }
    match last.state() {
        v1::JobState::Completed => Ok(0),
        v1::JobState::PartiallyCompleted => {
            print_dead_letters(channel, job_id).await?;
            Ok(3)
        }
        _ => Err(last.state_reason.into()),
    }
}

/// Prints the items that were given up. A list has pages; the token of each leads to the next.
async fn print_dead_letters(channel: Channel, job_id: u64) -> Result<(), tonic::Status> {
    let mut client = DeadLetterServiceClient::new(channel);
    let mut page_token = String::new();
    loop {
        let request = v1::ListDeadLettersRequest { job_id: Some(job_id), page_token, ..Default::default() };
        let page = client.list_dead_letters(request).await?.into_inner();
        for letter in page.dead_letters {
            say(&format!("{}: {}", letter.source_path, letter.last_error));
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}
