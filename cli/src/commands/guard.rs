//! `orbit guard`.

use orbit_proto::v1::{
    Guard, ListGuardsRequest, PauseGuardRequest, ResumeGuardRequest, SetGuardLimitsRequest,
};

use crate::args::{GuardCommand, GuardLimitsArgs, ReasonArgs, StarIdArgs};
use crate::client::{Client, request_id};
use crate::commands::pages::Pages;
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::table::Table;
use crate::output::tone::{self, Tone};
use crate::output::{Output, human};

pub(super) async fn run(command: GuardCommand, client: &Client, output: Output) -> Result<Outcome, CliError> {
    match command {
        GuardCommand::Ls => list(client, output).await?,
        GuardCommand::Set(args) => set(args, client, output).await?,
        GuardCommand::Pause(args) => pause(args, client, output).await?,
        GuardCommand::Resume(args) => resume(args, client, output).await?,
    }
    Ok(Outcome::Completed)
}

async fn list(client: &Client, output: Output) -> Result<(), CliError> {
    let mut pages = Pages::new(0);
    while let Some((page_size, page_token)) = pages.next() {
        let page =
            client.guards().list_guards(ListGuardsRequest { page_size, page_token }).await?.into_inner();
        let has_headings = pages.took(page.guards.len(), &page.next_page_token);
        output.answer(&page, |page| render(&page.guards, has_headings))?;
    }
    pages.note_end(&output, "No Star has registered yet, so there are no guards.");
    Ok(())
}

/// A line for each guard.
pub(super) fn render(guards: &[Guard], has_headings: bool) -> String {
    let mut table = Table::new(&["STAR", ">ITEMS", ">MAX", ">BYTES", ">MAX BYTES", "ACCEPTS", "PAUSED"]);
    for guard in guards {
        let row = table.row([
            guard.star_id.clone(),
            human::count(guard.object_count),
            human::count(guard.max_object_count),
            human::bytes(guard.byte_size),
            human::bytes(guard.max_byte_size),
            if guard.is_accepting { "yes".to_owned() } else { "no".to_owned() },
            paused(guard),
        ]);
        row.tone("ACCEPTS", if guard.is_accepting { Tone::Good } else { Tone::Warning })
            .tone("PAUSED", tone::of_obstacle(guard.is_paused));
    }
    table.render(has_headings)
}

fn paused(guard: &Guard) -> String {
    match (guard.is_paused, guard.pause_reason.as_str()) {
        (false, _) => String::new(),
        (true, "") => "yes".to_owned(),
        (true, reason) => reason.to_owned(),
    }
}

fn one(guard: Option<&Guard>) -> String {
    guard.map(|guard| render(std::slice::from_ref(guard), true)).unwrap_or_default()
}

async fn set(args: GuardLimitsArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let request = SetGuardLimitsRequest {
        star_id: args.star_id,
        max_object_count: args.max_objects,
        // The parser lets through only what fits.
        max_byte_size: args.max_bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        request_id: request_id(),
    };
    let answer = client.guards().set_guard_limits(request).await?.into_inner();
    output.answer(&answer, |answer| one(answer.guard.as_ref()))
}

async fn pause(args: ReasonArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let request = PauseGuardRequest { star_id: args.star_id, reason: args.reason, request_id: request_id() };
    let answer = client.guards().pause_guard(request).await?.into_inner();
    output.answer(&answer, |answer| one(answer.guard.as_ref()))
}

async fn resume(args: StarIdArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let request = ResumeGuardRequest { star_id: args.star_id, request_id: request_id() };
    let answer = client.guards().resume_guard(request).await?.into_inner();
    output.answer(&answer, |answer| one(answer.guard.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_shows_its_load_its_limits_and_why_it_is_paused() {
        let guard = Guard {
            star_id: "star-1".into(),
            object_count: 12,
            max_object_count: 10_000,
            max_byte_size: 1 << 30,
            is_paused: true,
            pause_reason: "disk swap".into(),
            ..Guard::default()
        };
        let text = anstream::adapter::strip_str(&one(Some(&guard))).to_string();
        assert!(text.ends_with("star-1     12  10,000    0 B    1.0 GiB  no       disk swap"), "{text}");
    }
}
