//! `orbit dead-letters`, and the list of what is missing after a job.

use std::collections::BTreeSet;

use orbit_proto::v1::{
    DeadLetter, DiscardDeadLettersRequest, DiscardDeadLettersResponse, FailureReason, GetDeadLetterRequest,
    Job, ListDeadLettersRequest, RetryDeadLettersRequest, RetryDeadLettersResponse,
};

use crate::args::{DeadLetterCommand, DeadLetterFilter};
use crate::client::{Client, request_id};
use crate::commands::pages::Pages;
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::table::{self, Table};
use crate::output::tone::Tone;
use crate::output::{Output, human};
use crate::vocabulary::{Vocabulary, word};

pub(super) async fn run(
    command: DeadLetterCommand,
    client: &Client,
    output: Output,
) -> Result<Outcome, CliError> {
    match command {
        DeadLetterCommand::Ls { filter, limit } => list(filter, limit, client, output).await?,
        DeadLetterCommand::Show { id } => show(id, client, output).await?,
        DeadLetterCommand::Retry { ids, filter } => retry(&ids, &filter, client, output).await?,
        DeadLetterCommand::Discard { ids, filter } => discard(&ids, &filter, client, output).await?,
    }
    Ok(Outcome::Completed)
}

fn list_request(filter: &DeadLetterFilter, page_size: i32, page_token: String) -> ListDeadLettersRequest {
    ListDeadLettersRequest {
        job_id: filter.job,
        failure_reason: filter.reason.unwrap_or_default(),
        star_id: filter.star.clone().unwrap_or_default(),
        item_key: filter.item.map(|item| item.to_string()).unwrap_or_default(),
        page_size,
        page_token,
    }
}

async fn list(filter: DeadLetterFilter, limit: u64, client: &Client, output: Output) -> Result<(), CliError> {
    let mut pages = Pages::new(limit);
    while let Some((page_size, page_token)) = pages.next() {
        let request = list_request(&filter, page_size, page_token);
        let page = client.dead_letters().list_dead_letters(request).await?.into_inner();
        let has_headings = pages.took(page.dead_letters.len(), &page.next_page_token);
        output.answer(&page, |page| render(&page.dead_letters, has_headings))?;
    }
    pages.note_end(&output, "There are no dead letters.");
    Ok(())
}

fn render(letters: &[DeadLetter], has_headings: bool) -> String {
    let mut table =
        Table::new(&["ID", "ITEM", "REASON", ">ATTEMPTS", "LAST FAILURE", "SOURCE", "DESTINATION", "ERROR"]);
    let reasons = Vocabulary::of("FailureReason");
    for letter in letters {
        let row = table.row([
            letter.dead_letter_id.to_string(),
            letter.item_key.clone(),
            reasons.word(letter.failure_reason),
            letter.attempts.to_string(),
            human::time(letter.last_fail_time.as_ref()),
            letter.source_path.clone(),
            letter.dest_path.clone(),
            letter.last_error.clone(),
        ]);
        row.tone("REASON", Tone::Bad);
    }
    table.render(has_headings)
}

async fn show(dead_letter_id: u64, client: &Client, output: Output) -> Result<(), CliError> {
    let request = GetDeadLetterRequest { dead_letter_id };
    let answer = client.dead_letters().get_dead_letter(request).await?.into_inner();
    output.answer(&answer, |answer| answer.dead_letter.as_ref().map(details).unwrap_or_default())
}

fn details(letter: &DeadLetter) -> String {
    let pairs = [
        ("dead letter", letter.dead_letter_id.to_string()),
        ("item", letter.item_key.clone()),
        ("reason", word("FailureReason", letter.failure_reason)),
        ("attempts", letter.attempts.to_string()),
        ("retried", human::count_of(u64::from(letter.redrive_count), "time")),
        ("first failure", human::time(letter.first_fail_time.as_ref())),
        ("last failure", human::time(letter.last_fail_time.as_ref())),
        ("source", letter.source_path.clone()),
        ("destination", letter.dest_path.clone()),
        ("error", letter.last_error.clone()),
    ];
    table::details(&pairs, &[("reason", Tone::Bad)])
}

/// What is asked for: one request for a filter, or one for each dead letter that is named. Every number is looked up before
/// anything is changed.
async fn chosen(
    ids: &[u64],
    filter: &DeadLetterFilter,
    client: &Client,
) -> Result<Vec<ListDeadLettersRequest>, CliError> {
    if ids.is_empty() {
        return Ok(vec![list_request(filter, 0, String::new())]);
    }
    let mut items = BTreeSet::new();
    for &dead_letter_id in ids {
        let request = GetDeadLetterRequest { dead_letter_id };
        let answer = client.dead_letters().get_dead_letter(request).await?.into_inner();
        items.insert(answer.dead_letter.unwrap_or_default().item_key);
    }
    let of_item = |item_key| ListDeadLettersRequest { item_key, ..Default::default() };
    Ok(items.into_iter().map(of_item).collect())
}

async fn retry(
    ids: &[u64],
    filter: &DeadLetterFilter,
    client: &Client,
    output: Output,
) -> Result<(), CliError> {
    let mut all = RetryDeadLettersResponse::default();
    for request in chosen(ids, filter, client).await? {
        let ListDeadLettersRequest { job_id, failure_reason, star_id, item_key, .. } = request;
        let request =
            RetryDeadLettersRequest { job_id, failure_reason, star_id, item_key, request_id: request_id() };
        let answer = client.dead_letters().retry_dead_letters(request).await?.into_inner();
        all.retried_count += answer.retried_count;
    }
    output.answer(&all, |all| format!("{} queued again", human::count_of(all.retried_count, "item")))
}

async fn discard(
    ids: &[u64],
    filter: &DeadLetterFilter,
    client: &Client,
    output: Output,
) -> Result<(), CliError> {
    let mut all = DiscardDeadLettersResponse::default();
    for request in chosen(ids, filter, client).await? {
        let ListDeadLettersRequest { job_id, failure_reason, star_id, item_key, .. } = request;
        let request =
            DiscardDeadLettersRequest { job_id, failure_reason, star_id, item_key, request_id: request_id() };
        let answer = client.dead_letters().discard_dead_letters(request).await?.into_inner();
        all.discarded_count += answer.discarded_count;
    }
    output.answer(&all, |all| format!("{} discarded", human::count_of(all.discarded_count, "dead letter")))
}

/// Whether the names of Stars mean anything to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Places {
    /// A grid: `star-1:/data/a`.
    OnStars,
    /// This machine only: `/data/a`.
    OnThisMachine,
}

/// Lists every dead letter of a job on standard error, one on a line.
pub(crate) async fn note_all(
    job: &Job,
    places: Places,
    client: &Client,
    output: Output,
) -> Result<(), CliError> {
    if job.progress.is_none_or(|progress| progress.items_dead == 0) {
        return Ok(());
    }
    let mut pages = Pages::new(0);
    while let Some((page_size, page_token)) = pages.next() {
        let request =
            ListDeadLettersRequest { job_id: Some(job.job_id), page_size, page_token, ..Default::default() };
        let page = client.dead_letters().list_dead_letters(request).await?.into_inner();
        pages.took(page.dead_letters.len(), &page.next_page_token);
        for letter in &page.dead_letters {
            output.note(&line(letter, places));
        }
    }
    Ok(())
}

/// A dead letter on one line: what, why, and the error in full.
fn line(letter: &DeadLetter, places: Places) -> String {
    let reason = match letter.failure_reason() {
        FailureReason::Unspecified => "failed".to_owned(),
        FailureReason::RetriesExhausted
        | FailureReason::PermanentError
        | FailureReason::ChecksumMismatch
        | FailureReason::SourceMissing
        | FailureReason::DestinationError
        | FailureReason::DataCorruption => word("FailureReason", letter.failure_reason),
    };
    let error = human::plain(&letter.last_error);
    let error = if error.is_empty() { String::new() } else { format!(": {error}") };
    let place = |place: &str| {
        let shown = match places {
            Places::OnStars => place,
            Places::OnThisMachine => place.split_once(':').map_or(place, |(_, path)| path),
        };
        human::plain(shown)
    };
    format!("not copied: {} -> {}: {reason}{error}", place(&letter.source_path), place(&letter.dest_path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_item_takes_one_line_with_path_reason_and_error() {
        let letter = DeadLetter {
            source_path: "source:/a/b".into(),
            dest_path: "destination:/c/b".into(),
            failure_reason: FailureReason::PermanentError.into(),
            last_error: "permission\ndenied".into(),
            ..DeadLetter::default()
        };
        assert_eq!(
            line(&letter, Places::OnStars),
            "not copied: source:/a/b -> destination:/c/b: permanent-error: permission\\x0adenied"
        );
        assert!(line(&letter, Places::OnThisMachine).starts_with("not copied: /a/b -> /c/b: "));
    }
}
