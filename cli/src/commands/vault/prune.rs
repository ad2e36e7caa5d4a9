//! `orbit snapshot prune`.

use orbit_proto::v1::{PruneSnapshotsRequest, RetentionDecision, RetentionPolicy};

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
    let answer = client.vaults().prune_snapshots(request).await?.into_inner();
    output.answer(&answer, |answer| render(&answer.decisions))?;
    if answer.decisions.is_empty() && !output.is_json() {
        output.note("There are no such snapshots.");
    }
    let has_failed = answer.decisions.iter().any(|decision| !decision.problem.is_empty());
    Ok(if has_failed { Outcome::Failed } else { Outcome::Completed })
}

fn render(decisions: &[RetentionDecision]) -> String {
    let mut table = Table::new(&["SNAPSHOT", "VAULT", "CREATED", "SOURCE", "DECISION", "REASON"]);
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
            snapshot.source.as_ref().map(location::display).unwrap_or_default(),
            word.to_owned(),
            reason,
        ]);
    }
    table.render(!decisions.is_empty())
}
