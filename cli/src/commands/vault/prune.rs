//! `orbit snapshot prune`.

use std::io::{self, IsTerminal as _};

use orbit_proto::v1::{
    PruneSnapshotsRequest, PruneSnapshotsResponse, RetentionDecision, RetentionPolicy, Snapshot,
};

use crate::args::PruneArgs;
use crate::client::{Client, request_id};
use crate::commands::pages::Pages;
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::table::Table;
use crate::output::{Output, human};
use crate::parse::location;

pub(super) async fn run(args: PruneArgs, client: &Client, output: Output) -> Result<Outcome, CliError> {
    let source = args.filter.source.unwrap_or_default();
    let request = PruneSnapshotsRequest {
        policy: Some(RetentionPolicy {
            keep_last: args.keep_last,
            keep_hourly: args.keep_hourly,
            keep_daily: args.keep_daily,
            keep_weekly: args.keep_weekly,
            keep_monthly: args.keep_monthly,
            keep_yearly: args.keep_yearly,
            keep_tags: args.keep_tag,
        }),
        star_id: args.filter.star,
        source_star_id: source.star_id,
        source_path: source.path,
        tags: args.filter.tag,
        plan_only: args.dry_run,
        request_id: request_id(),
        ..PruneSnapshotsRequest::default()
    };
    if !args.dry_run && !args.yes && !is_wanted(&request, client, output).await? {
        output.note("Nothing was deleted.");
        return Ok(Outcome::Cancelled);
    }
    let mut pages = Pages::new(0);
    let mut has_failed = false;
    while let Some(page) = next_page(&pages, &request, client).await? {
        let has_headings = pages.took(page.decisions.len(), &page.next_page_token);
        output.answer(&page, |page| render(&page.decisions, has_headings))?;
        has_failed |= page.decisions.iter().any(|decision| !decision.problem.is_empty());
    }
    pages.note_end(&output, "There are no such snapshots.");
    Ok(if has_failed { Outcome::Failed } else { Outcome::Completed })
}

/// The next page of decisions. The first one is where everything is deleted.
async fn next_page(
    pages: &Pages,
    request: &PruneSnapshotsRequest,
    client: &Client,
) -> Result<Option<PruneSnapshotsResponse>, CliError> {
    let Some((page_size, page_token)) = pages.next() else { return Ok(None) };
    let request = PruneSnapshotsRequest { page_size, page_token, ..request.clone() };
    Ok(Some(client.vaults().prune_snapshots(request).await?.into_inner()))
}

/// Asks at a terminal, with what would go; a script must say that it means it.
async fn is_wanted(
    request: &PruneSnapshotsRequest,
    client: &Client,
    output: Output,
) -> Result<bool, CliError> {
    if !io::stdin().is_terminal() || output.is_json() {
        let problem = "prune deletes snapshots, and there is no terminal to ask; give --yes to delete, or --dry-run to see \
                       what would go";
        return Err(CliError::Usage(problem.to_owned()));
    }
    let plan = PruneSnapshotsRequest { plan_only: true, request_id: String::new(), ..request.clone() };
    let mut pages = Pages::new(0);
    let (mut expired, mut all) = (0, 0);
    while let Some(page) = next_page(&pages, &plan, client).await? {
        let has_headings = pages.took(page.decisions.len(), &page.next_page_token);
        (expired, all) = (page.expired_count, page.expired_count + page.kept_count);
        if expired == 0 {
            return Ok(true);
        }
        output.note(&render(&page.decisions, has_headings));
    }
    output.note(&format!("Delete {expired} of these {all} snapshots? [y/N]"));
    let mut line = String::new();
    io::stdin()
        .read_line(&mut line)
        .map_err(|error| CliError::Failed(format!("cannot read the answer: {error}")))?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

fn render(decisions: &[RetentionDecision], has_headings: bool) -> String {
    let mut table = Table::new(&["SNAPSHOT", "VAULT", "CREATED", "SOURCE", "DECISION", "REASON"]);
    let partial = |snapshot: &Snapshot| if snapshot.is_partial { " (partial)" } else { "" };
    for decision in decisions {
        let snapshot = decision.snapshot.clone().unwrap_or_default();
        let word = match (decision.is_kept, decision.is_deleted) {
            (true, _) => "keep",
            (false, true) => "deleted",
            (false, false) => "delete",
        };
        let reason = match decision.problem.as_str() {
            "" => decision.reason.clone(),
            problem => format!("{}; not deleted: {problem}", decision.reason),
        };
        table.row([
            snapshot.snapshot_id.clone(),
            snapshot.star_id.clone(),
            human::time(snapshot.create_time.as_ref()),
            format!(
                "{}{}",
                snapshot.source.as_ref().map(location::display).unwrap_or_default(),
                partial(&snapshot)
            ),
            word.to_owned(),
            reason,
        ]);
    }
    table.render(has_headings)
}
