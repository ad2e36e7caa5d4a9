//! `orbit bulletins`.

use std::ops::ControlFlow;

use orbit_proto::v1::{
    AcknowledgeBulletinsRequest, Bulletin, ListBulletinsRequest, WatchBulletinsRequest,
    WatchBulletinsResponse,
};

use crate::args::{BulletinCommand, BulletinsArgs};
use crate::client::{Client, request_id};
use crate::commands::reconnect::{self, Position};
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::table::Table;
use crate::output::tone;
use crate::output::{Output, human};
use crate::vocabulary::{Vocabulary, word};

pub(super) async fn run(args: BulletinsArgs, client: &Client, output: Output) -> Result<Outcome, CliError> {
    match &args.command {
        Some(BulletinCommand::Ack { ids }) => acknowledge(ids.clone(), client, output).await?,
        None if args.follow => follow(args, client, output).await?,
        None => list(args, client, output).await?,
    }
    Ok(Outcome::Completed)
}

fn list_request(args: &BulletinsArgs) -> ListBulletinsRequest {
    ListBulletinsRequest {
        min_severity: args.min_severity.unwrap_or_default(),
        star_id: args.star.clone(),
        category: args.category.clone(),
        job_id: args.job,
        after_id: args.after,
        since: args.since,
        limit: args.limit,
    }
}

async fn list(args: BulletinsArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let answer = client.bulletins().list_bulletins(list_request(&args)).await?.into_inner();
    if answer.bulletins.is_empty() && !output.is_json() {
        output.note("There are no such bulletins.");
    }
    output.answer(&answer, |answer| render(&answer.bulletins))
}

/// A line for each bulletin.
pub(super) fn render(bulletins: &[Bulletin]) -> String {
    let mut table =
        Table::new(&[">ID", "TIME", "SEVERITY", "STAR", "CATEGORY", ">JOB", ">TIMES", "SEEN", "MESSAGE"])
            .gives_way(&["SEEN", "TIMES", "CATEGORY", "TIME", "JOB"]);
    let severities = Vocabulary::of("Severity");
    for bulletin in bulletins {
        let row = table.row([
            bulletin.bulletin_id.to_string(),
            human::time(bulletin.time.as_ref()),
            severities.word(bulletin.severity),
            bulletin.star_id.clone(),
            bulletin.category.clone(),
            job_number(bulletin.job_id),
            times(bulletin),
            human::flag(bulletin.is_acknowledged),
            bulletin.message.clone(),
        ]);
        row.tone("SEVERITY", tone::of_severity(bulletin.severity()));
    }
    table.render(true)
}

fn job_number(job_id: u64) -> String {
    if job_id == 0 { String::new() } else { job_id.to_string() }
}

fn times(bulletin: &Bulletin) -> String {
    if bulletin.repeat_count == 0 {
        String::new()
    } else {
        human::count(bulletin.repeat_count.saturating_add(1))
    }
}

/// One bulletin as it is followed.
pub(super) fn line(bulletin: &Bulletin) -> String {
    let job = if bulletin.job_id == 0 { String::new() } else { format!(" job {}", bulletin.job_id) };
    format!(
        "{} {} {}{job} [{}] {}",
        human::time(bulletin.time.as_ref()),
        tone::of_severity(bulletin.severity()).paint(&format!("{:7}", word("Severity", bulletin.severity))),
        human::plain(&bulletin.star_id),
        human::plain(&bulletin.category),
        human::plain(&bulletin.message)
    )
}

/// Shows the newest bulletins in the order in which they were posted, then each new one.
async fn follow(args: BulletinsArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let mut after_id = args.after;
    if after_id == 0 {
        let mut newest = client.bulletins().list_bulletins(list_request(&args)).await?.into_inner().bulletins;
        newest.sort_by_key(|bulletin| bulletin.bulletin_id);
        for bulletin in newest {
            after_id = bulletin.bulletin_id;
            show(bulletin, output)?;
        }
    }
    let position = Position::new("bulletins", after_id);
    let open = async || {
        let request = WatchBulletinsRequest {
            min_severity: args.min_severity.unwrap_or_default(),
            star_id: args.star.clone(),
            category: args.category.clone(),
            job_id: args.job,
            after_id: position.after(),
        };
        client.bulletins().watch_bulletins(request).await
    };
    reconnect::follow(output, Some(&position), open, |message: WatchBulletinsResponse| {
        let Some(bulletin) = message.bulletin else { return Ok(ControlFlow::Continue(())) };
        if position.take(bulletin.bulletin_id) {
            show(bulletin, output)?;
        }
        Ok(ControlFlow::Continue(()))
    })
    .await
}

fn show(bulletin: Bulletin, output: Output) -> Result<(), CliError> {
    let message = WatchBulletinsResponse { bulletin: Some(bulletin) };
    output.answer(&message, |message| message.bulletin.as_ref().map(line).unwrap_or_default())
}

async fn acknowledge(bulletin_ids: Vec<u64>, client: &Client, output: Output) -> Result<(), CliError> {
    let request = AcknowledgeBulletinsRequest { bulletin_ids, request_id: request_id() };
    let answer = client.bulletins().acknowledge_bulletins(request).await?.into_inner();
    output.answer(&answer, |answer| {
        format!("{} acknowledged", human::count_of(answer.acknowledged_count, "bulletin"))
    })
}

#[cfg(test)]
mod tests {
    use orbit_proto::v1::Severity;

    use super::*;

    #[test]
    fn a_bulletin_says_when_how_grave_where_and_what() {
        let bulletin = Bulletin {
            bulletin_id: 3,
            severity: Severity::Warning.into(),
            star_id: "star-1".into(),
            category: "disk".into(),
            job_id: 7,
            message: "fills up".into(),
            repeat_count: 2,
            time: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            ..Bulletin::default()
        };
        assert_eq!(
            line(&bulletin),
            "1970-01-01 00:00:00Z \x1b[33mwarning\x1b[0m star-1 job 7 [disk] fills up"
        );
        let text = anstream::adapter::strip_str(&render(&[bulletin])).to_string();
        assert!(text.ends_with("warning   star-1  disk        7      3        fills up"), "{text}");
        assert_eq!(times(&Bulletin { repeat_count: 2, ..Bulletin::default() }), "3");
    }
}
