//! `orbit job plan`: what a job would do, without doing it.

use orbit_proto::v1::{PlanJobRequest, PlanJobResponse, PlannedDeletion, PlannedDestination};

use super::create::spec_of;
use crate::args::SpecArgs;
use crate::client::Client;
use crate::errors::CliError;
use crate::output::{Output, human};
use crate::parse::location;

pub(super) async fn run(args: SpecArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let request = PlanJobRequest { spec: Some(spec_of(args, output)?) };
    let answer = client.patient_jobs().plan_job(request).await?.into_inner();
    output.answer(&answer, render)
}

fn render(plan: &PlanJobResponse) -> String {
    let mut lines = vec![format!(
        "The source has {} ({}).",
        human::count_of(plan.entries, "item"),
        human::bytes(plan.bytes)
    )];
    if plan.entries_not_carried > 0 {
        let count = human::count_of(plan.entries_not_carried, "item");
        lines.push(format!("{count} cannot be moved and would be dead letters:"));
        lines
            .extend(plan.not_carried_examples.iter().map(|example| format!("    {}", human::plain(example))));
    }
    let mounts = human::skipped_mounts(plan.skipped_mounts, &plan.skipped_mount_examples);
    if !mounts.is_empty() {
        lines.push(format!("Not entered: {mounts}."));
    }
    for place in &plan.destinations {
        lines.push(String::new());
        lines.extend(destination(place));
    }
    lines.push(String::new());
    lines.push("Nothing was written. `orbit job create` with the same words does it.".to_owned());
    lines.join("\n")
}

fn destination(place: &PlannedDestination) -> Vec<String> {
    let name = place.destination.as_ref().map(location::display).unwrap_or_default();
    let mut lines = vec![format!(
        "{}: {} to move, at most {} over the network; {} ({}) there already.",
        human::plain(&name),
        human::count_of(place.items_to_move, "item"),
        human::bytes(place.bytes_to_move),
        human::count(place.items_unchanged),
        human::bytes(place.bytes_unchanged),
    )];
    if !place.is_compared {
        lines.push("    It did not say what it has, so all of it counts as to be moved.".to_owned());
    }
    if let Some(duration) = human::wire_duration(place.estimated_duration.as_ref()) {
        lines.push(format!("    At the rate of its last transfers: {}.", human::duration(duration)));
    }
    if let (Some(now), Some(after)) = (place.available_bytes, place.available_bytes_after) {
        lines.push(match u64::try_from(after) {
            Ok(after) => format!("    Room: {} now, {} after.", human::bytes(now), human::bytes(after)),
            Err(_) => format!(
                "    NOT ENOUGH ROOM: {} now, {} too little.",
                human::bytes(now),
                human::bytes(after.unsigned_abs())
            ),
        });
    }
    lines.extend(place.deletion.iter().flat_map(deletion));
    if !place.held_by.is_empty() {
        lines.push(format!("    It would wait: {}.", human::plain(&place.held_by)));
    }
    lines.extend(place.examples.iter().map(|path| format!("    {}", human::plain(path))));
    let shown = place.examples.len() as u64;
    // Directories are never among the examples, so how many more files there are cannot be told exactly.
    if place.items_to_move > shown && shown > 0 {
        lines.push("    ...".to_owned());
    }
    lines
}

/// What a mirror would delete.
fn deletion(deletion: &PlannedDeletion) -> Vec<String> {
    let mut lines = vec![format!(
        "    {} to delete ({}) of {} there{}",
        human::count(deletion.entries),
        human::bytes(deletion.bytes),
        human::count(deletion.entries_found),
        match (deletion.is_refused, deletion.entries) {
            (true, 0) => ": NOTHING WOULD BE DELETED, and the job would fail:",
            (true, _) =>
                ": MORE THAN --max-delete ALLOWS, so nothing would be deleted and the job would fail:",
            (false, 0) => ".",
            (false, _) => ":",
        }
    )];
    lines.extend(deletion.examples.iter().map(|path| format!("      - {}", human::plain(path))));
    if deletion.entries > deletion.examples.len() as u64 {
        lines.push("      ...".to_owned());
    }
    if !deletion.problem.is_empty() {
        lines.push(format!("    {}.", human::plain(&deletion.problem)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use orbit_proto::v1::Location;

    use super::*;

    #[test]
    fn why_nothing_would_be_deleted_is_said_once() {
        let problem = "the source has 300 mount points".to_owned();
        let refused = PlannedDeletion { is_refused: true, problem, ..PlannedDeletion::default() };
        let expected = [
            "    0 to delete (0 B) of 0 there: NOTHING WOULD BE DELETED, and the job would fail:",
            "    the source has 300 mount points.",
        ];
        assert_eq!(deletion(&refused), expected);
    }

    #[test]
    fn a_plan_says_what_moves_where_and_whether_it_fits() {
        let place = PlannedDestination {
            destination: Some(Location { star_id: "b".into(), path: "/d".into(), ..Location::default() }),
            items_to_move: 3,
            bytes_to_move: 4096,
            items_unchanged: 7,
            bytes_unchanged: 10,
            is_compared: true,
            examples: vec!["x\ny".into()],
            available_bytes: Some(1024),
            available_bytes_after: Some(-3072),
            held_by: "b is cordoned".into(),
            ..PlannedDestination::default()
        };
        let plan = PlanJobResponse {
            entries: 11,
            bytes: 5000,
            entries_not_carried: 1,
            not_carried_examples: vec!["/s/pipe is a FIFO".into()],
            destinations: vec![place],
            skipped_mounts: 2,
            skipped_mount_examples: vec!["mnt".into()],
        };
        let text = render(&plan);
        for part in [
            "The source has 11 items (4.9 KiB).",
            "1 item cannot be moved",
            "/s/pipe is a FIFO",
            "Not entered: 2 mount points (mnt, ...).",
            "b:/d: 3 items to move, at most 4.0 KiB over the network; 7 (10 B) there already.",
            "NOT ENOUGH ROOM: 1.0 KiB now, 3.0 KiB too little.",
            "It would wait: b is cordoned.",
            "x\\x0ay",
            "Nothing was written.",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
