//! `orbit penalties`.

use orbit_proto::v1::{ClearPenaltiesRequest, ListPenaltiesRequest, Penalty};

use crate::args::{PenaltyCommand, PenaltyFilter};
use crate::client::{Client, request_id};
use crate::commands::pages::Pages;
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::table::Table;
use crate::output::{Output, human};

pub(super) async fn run(
    command: PenaltyCommand,
    client: &Client,
    output: Output,
) -> Result<Outcome, CliError> {
    match command {
        PenaltyCommand::Ls { job, limit } => list(job, limit, client, output).await?,
        PenaltyCommand::Clear(filter) => clear(&filter, client, output).await?,
    }
    Ok(Outcome::Completed)
}

async fn list(job_id: Option<u64>, limit: u64, client: &Client, output: Output) -> Result<(), CliError> {
    let mut pages = Pages::new(limit);
    while let Some((page_size, page_token)) = pages.next() {
        let request = ListPenaltiesRequest { job_id, page_size, page_token };
        let page = client.penalties().list_penalties(request).await?.into_inner();
        let has_headings = pages.took(page.penalties.len(), &page.next_page_token);
        output.answer(&page, |page| render(&page.penalties, has_headings))?;
    }
    pages.note_end(&output, "No item is penalized.");
    Ok(())
}

fn render(penalties: &[Penalty], has_headings: bool) -> String {
    let mut table = Table::new(&["ITEM", ">FAILURES", "RETRY", "LAST ERROR"]);
    for penalty in penalties {
        table.row([
            penalty.item_key.clone(),
            penalty.penalty_count.to_string(),
            human::time(penalty.retry_time.as_ref()),
            penalty.last_error.clone(),
        ]);
    }
    table.render(has_headings)
}

async fn clear(filter: &PenaltyFilter, client: &Client, output: Output) -> Result<(), CliError> {
    let request = ClearPenaltiesRequest {
        job_id: filter.job,
        item_key: filter.item.map(|item| item.to_string()).unwrap_or_default(),
        request_id: request_id(),
    };
    let answer = client.penalties().clear_penalties(request).await?.into_inner();
    output.answer(&answer, |answer| format!("{} forgiven", human::count_of(answer.cleared_count, "item")))
}
