//! `orbit gc` and `orbit scrub`: asked again until what they begin has ended.

use orbit_proto::v1::{
    CollectGarbageRequest, CollectGarbageResponse, Collection, Progress, Scrub, ScrubVaultRequest,
    ScrubVaultResponse,
};

use crate::args::{GcArgs, ScrubArgs};
use crate::client::{Client, request_id};
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::{Output, human};

pub(crate) async fn collect(args: GcArgs, client: &Client, output: Output) -> Result<Outcome, CliError> {
    let request = CollectGarbageRequest {
        star_id: args.star,
        plan_only: args.plan,
        ignore_undo_window: args.ignore_undo_window,
        request_id: request_id(),
    };
    let answer = loop {
        let answer = client.vaults().collect_garbage(request.clone()).await?.into_inner();
        let collection = answer.collection.clone().unwrap_or_default();
        if collection.progress() != Progress::Running {
            break answer;
        }
        output.note("The collection goes on ...");
    };
    let outcome = outcome(answer.collection.as_ref().map(Collection::progress));
    output.answer(&answer, collected)?;
    Ok(outcome)
}

fn collected(answer: &CollectGarbageResponse) -> String {
    let collection = answer.collection.clone().unwrap_or_default();
    if collection.progress() == Progress::Failed {
        return format!("The collection failed: {}", collection.problem);
    }
    let would = if collection.is_plan { "would be " } else { "" };
    let mut text = format!(
        "{} ({}) that nothing needs; {} of disk {would}freed, {} {would}removed, {} {would}moved.",
        human::count_of(collection.dead_chunks, "chunk"),
        human::bytes(collection.dead_bytes),
        human::bytes(collection.freed_bytes),
        human::count_of(collection.removed_containers, "container"),
        human::bytes(collection.moved_bytes),
    );
    if collection.waiting_chunks > 0 {
        text.push_str(&format!(
            "\n{} ({}) could still be wanted back and stay for a day.",
            human::count_of(collection.waiting_chunks, "more chunk"),
            human::bytes(collection.waiting_bytes)
        ));
    }
    if !collection.problem.is_empty() {
        text.push_str(&format!("\n{}", collection.problem));
    }
    text
}

pub(crate) async fn scrub(args: ScrubArgs, client: &Client, output: Output) -> Result<Outcome, CliError> {
    let request = ScrubVaultRequest {
        star_id: args.star,
        max_bytes_per_second: args.bwlimit.unwrap_or_default(),
        check_all: args.all,
        request_id: request_id(),
    };
    let answer = loop {
        let answer = client.vaults().scrub_vault(request.clone()).await?.into_inner();
        let scrub = answer.scrub.clone().unwrap_or_default();
        if scrub.progress() != Progress::Running {
            break answer;
        }
        output.note(&format!("{} are checked so far ...", human::bytes(scrub.checked_bytes)));
    };
    let scrub = answer.scrub.clone().unwrap_or_default();
    output.answer(&answer, scrubbed)?;
    // What is damaged is what a scrub is asked for; a script must not miss it.
    Ok(if scrub.damaged_chunks > 0 { Outcome::Failed } else { outcome(Some(scrub.progress())) })
}

fn scrubbed(answer: &ScrubVaultResponse) -> String {
    let scrub: Scrub = answer.scrub.clone().unwrap_or_default();
    let mut text = format!(
        "{} ({}) checked, {} damaged.",
        human::count_of(scrub.checked_chunks, "chunk"),
        human::bytes(scrub.checked_bytes),
        human::count(scrub.damaged_chunks)
    );
    if scrub.damaged_chunks > 0 {
        text.push_str(
            "\nThey are healed from other vaults where one has them; `orbit bulletins --category vault` says which, and \
             `orbit dead-letters ls --reason data-corruption` lists what is lost.",
        );
    }
    if !scrub.problem.is_empty() {
        text.push_str(&format!("\n{}", scrub.problem));
    }
    text
}

fn outcome(progress: Option<Progress>) -> Outcome {
    match progress {
        Some(Progress::Done | Progress::Running) => Outcome::Completed,
        Some(Progress::Failed | Progress::Unspecified) | None => Outcome::Failed,
    }
}
