//! `orbit snapshot prune`.

use std::io::{self, IsTerminal as _};

use orbit_proto::v1::{PruneSnapshotsRequest, RetentionDecision, RetentionPolicy, Snapshot};

use crate::args::PruneArgs;
use crate::client::{Client, request_id};
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
    };
    if !args.dry_run && !args.yes && !is_wanted(&request, client, output).await? {
        output.note("Nothing was deleted.");
        return Ok(Outcome::Cancelled);
    }
    let answer = client.vaults().prune_snapshots(request).await?.into_inner();
    output.answer(&answer, |answer| render(&answer.decisions))?;
    if answer.decisions.is_empty() && !output.is_json() {
        output.note("There are no such snapshots.");
    }
    let has_failed = answer.decisions.iter().any(|decision| !decision.problem.is_empty());
    Ok(if has_failed { Outcome::Failed } else { Outcome::Completed })
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
    let planned = client.vaults().prune_snapshots(plan).await?.into_inner().decisions;
    let count = planned.iter().filter(|decision| !decision.is_kept).count();
    if count == 0 {
        return Ok(true);
    }
    output.note(&render(&planned));
    output.note(&format!("Delete {count} of these {} snapshots? [y/N]", planned.len()));
    let mut line = String::new();
    io::stdin()
        .read_line(&mut line)
        .map_err(|error| CliError::Failed(format!("cannot read the answer: {error}")))?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

fn render(decisions: &[RetentionDecision]) -> String {
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
    table.render(!decisions.is_empty())
}
