//! `orbit star`.

use std::ops::ControlFlow;
use std::time::Duration;

use orbit_proto::v1::{
    CordonStarRequest, DrainStarRequest, GetStarRequest, GetStarResponse, HealthSample, ListStarsRequest,
    Liveness, RemoveStarRequest, ScheduleStarRequest, ShutdownStarRequest, Star, StarState,
    UncordonStarRequest, WatchStarsRequest, WatchStarsResponse,
};
use tokio::time::sleep;

use crate::args::{DrainArgs, ReasonArgs, ShutdownArgs, StarCommand, StarIdArgs};
use crate::client::{Client, request_id};
use crate::commands::pages::Pages;
use crate::commands::reconnect;
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::table::{self, Table};
use crate::output::tone::{self, Tone};
use crate::output::{Output, human};
use crate::vocabulary::{Vocabulary, word};

const DRAIN_POLL_INTERVAL: Duration = Duration::from_millis(500);

pub(super) async fn run(command: StarCommand, client: &Client, output: Output) -> Result<Outcome, CliError> {
    match command {
        StarCommand::Ls => list(client, output).await?,
        StarCommand::Show(args) => show(args, client, output).await?,
        StarCommand::Watch => watch(client, output).await?,
        StarCommand::Drain(args) => Box::pin(drain(args, client, output)).await?,
        StarCommand::Cordon(args) => cordon(args, client, output).await?,
        StarCommand::Uncordon(args) => uncordon(args, client, output).await?,
        StarCommand::Shutdown(args) => shutdown(args, client, output).await?,
        StarCommand::Schedule(args) => schedule(args, client, output).await?,
        StarCommand::Remove(args) => remove(args, client, output).await?,
    }
    Ok(Outcome::Completed)
}

async fn list(client: &Client, output: Output) -> Result<(), CliError> {
    let mut pages = Pages::new(0);
    while let Some((page_size, page_token)) = pages.next() {
        let page = client.stars().list_stars(ListStarsRequest { page_size, page_token }).await?.into_inner();
        let has_headings = pages.took(page.stars.len(), &page.next_page_token);
        output.answer(&page, |page| render(&page.stars, has_headings))?;
    }
    pages.note_end(
        &output,
        "No Star has registered yet. Start one with `orbit-star --star-id NAME --root DIR`.",
    );
    Ok(())
}

/// A line for each Star.
pub(super) fn render(stars: &[Star], has_headings: bool) -> String {
    let headings =
        ["STAR", "STATE", "LIVENESS", "CORDONED", ">TASKS", ">FREE", ">RATE", "ADDRESS", "VERSION", "ADVICE"];
    let mut table = Table::new(&headings).gives_way(&["VERSION", "ADDRESS", "RATE", "TASKS", "CORDONED"]);
    let states = Vocabulary::of("StarState");
    let liveness = Vocabulary::of("Liveness");
    for star in stars {
        let (free, rate) = match &star.health {
            Some(health) => (free(star, health), human::rate(health.throughput_bytes_per_sec)),
            None => (String::new(), String::new()),
        };
        let state = if star.is_drained { "drained".to_owned() } else { states.word(star.state) };
        let row = table.row([
            star.star_id.clone(),
            state,
            heard(star, &liveness),
            human::flag(star.is_cordoned),
            star.active_tasks.to_string(),
            free,
            rate,
            star.data_address.clone(),
            star.version.clone(),
            advice(star),
        ]);
        row.tone("STATE", tone::of_star(star))
            .tone("LIVENESS", tone::of_liveness(star))
            .tone("CORDONED", tone::of_obstacle(star.is_cordoned))
            .tone("ADVICE", tone_of_advice(star));
    }
    table.render(has_headings)
}

/// What is free on the disk that a Star writes to. One that only reads has none.
fn free(star: &Star, health: &HealthSample) -> String {
    let only_reads = !star.roots.is_empty() && star.roots.iter().all(|root| root.is_read_only);
    if only_reads { "-".to_owned() } else { human::bytes(health.disk_available_bytes) }
}

/// Whether a Star is heard. Of one that was shut down that says nothing.
fn heard(star: &Star, liveness: &Vocabulary) -> String {
    if star.state() == StarState::Shutdown {
        return "-".to_owned();
    }
    match star.liveness() {
        Liveness::Unspecified => "never seen".to_owned(),
        Liveness::Alive | Liveness::Suspect | Liveness::Lost => liveness.word(star.liveness),
    }
}

fn advice(star: &Star) -> String {
    if star.state() == StarState::Shutdown {
        return String::new();
    }
    let kinds = Vocabulary::of("AdvisoryType");
    star.advisories.iter().map(|advisory| kinds.word(advisory.r#type)).collect::<Vec<_>>().join(", ")
}

/// The worst of it.
fn tone_of_advice(star: &Star) -> Tone {
    star.advisories.iter().map(|advisory| tone::of_advice(advisory.r#type())).max().unwrap_or_default()
}

/// The content of its vault, and the room on the disk of it.
fn vault(star: &Star) -> String {
    let content = star.vault_bytes.map(human::bytes);
    let room = star.vault_health.map(|disk| {
        let (free, size) = (disk.disk_available_bytes, disk.disk_total_bytes);
        format!("{} of {} free on its disk", human::bytes(free), human::bytes(size))
    });
    content.into_iter().chain(room).collect::<Vec<_>>().join(", ")
}

fn details(star: &Star) -> String {
    let roots: Vec<String> = star
        .roots
        .iter()
        .map(|root| format!("{}{}", root.path, if root.is_read_only { " (read-only)" } else { "" }))
        .collect();
    let mut labels: Vec<String> = star.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.sort();
    let health = star.health.map(|health| {
        let of = if health.disk_total_bytes == 0 {
            String::new()
        } else {
            format!(" of {}", human::bytes(health.disk_total_bytes))
        };
        format!(
            "{}{of} free, {}, {} of {} operations failed",
            human::bytes(health.disk_available_bytes),
            human::rate(health.throughput_bytes_per_sec),
            human::count(health.error_count),
            human::count(health.total_operations)
        )
    });
    let mut pairs = vec![
        ("star", star.star_id.clone()),
        ("state", word("StarState", star.state)),
        ("drained", human::flag(star.is_drained)),
        ("blocked by", star.drain_blockers.join("; ")),
        ("would take away", star.drain_warnings.join("; ")),
        ("yields", star.yields.join("; ")),
        (
            "liveness",
            Some(heard(star, &Vocabulary::of("Liveness"))).filter(|heard| heard != "-").unwrap_or_default(),
        ),
        ("vault", vault(star)),
        ("cordoned", human::flag(star.is_cordoned)),
        ("instance", star.instance_id.clone()),
        ("version", star.version.clone()),
        ("epoch", star.epoch.to_string()),
        ("address", star.data_address.clone()),
        ("roots", roots.join(", ")),
        ("labels", labels.join(", ")),
        ("active tasks", star.active_tasks.to_string()),
        ("health", health.unwrap_or_default()),
    ];
    pairs.extend(star.semantic_rules.iter().map(|rule| ("rule", rule.clone())));
    pairs.extend(star.advisories.iter().map(|advisory| ("advice", advisory.message.clone())));
    let states = Vocabulary::of("StarState");
    pairs.extend(star.history.iter().map(|step| {
        let reason = if step.reason.is_empty() { String::new() } else { format!(": {}", step.reason) };
        let (from, to) = (states.word(step.from), states.word(step.to));
        ("history", format!("{}  {from} -> {to}{reason}", human::time(step.time.as_ref())))
    }));
    let tones = [
        ("state", tone::of_star(star)),
        ("drained", tone::of_obstacle(star.is_drained)),
        ("blocked by", Tone::Warning),
        ("would take away", Tone::Warning),
        ("yields", Tone::Bad),
        ("liveness", tone::of_liveness(star)),
        ("cordoned", tone::of_obstacle(star.is_cordoned)),
        ("advice", tone_of_advice(star)),
    ];
    table::details(&pairs, &tones)
}

/// One line about where a Star stands.
pub(crate) fn state_line(star: Option<&Star>) -> String {
    let Some(star) = star else { return String::new() };
    let state = if star.is_drained { "drained".to_owned() } else { word("StarState", star.state) };
    let state = tone::of_star(star).paint(&state);
    let liveness = tone::of_liveness(star).paint(&heard(star, &Vocabulary::of("Liveness")));
    let cordoned =
        if star.is_cordoned { format!(", {}", Tone::Warning.paint("cordoned")) } else { String::new() };
    let blockers = if star.drain_blockers.is_empty() {
        String::new()
    } else {
        format!(", waits for {}", human::plain(&star.drain_blockers.join("; ")))
    };
    let liveness = if star.state() == StarState::Shutdown { String::new() } else { format!(", {liveness}") };
    format!("{}: {state}{liveness}{cordoned}{blockers}", human::plain(&star.star_id))
}

async fn show(args: StarIdArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let answer = client.stars().get_star(GetStarRequest { star_id: args.star_id }).await?.into_inner();
    output.answer(&answer, |answer| answer.star.as_ref().map(details).unwrap_or_default())
}

async fn watch(client: &Client, output: Output) -> Result<(), CliError> {
    let open = async || client.stars().watch_stars(WatchStarsRequest {}).await;
    reconnect::watch(output, open, |change: WatchStarsResponse| {
        output.answer(&change, |change| state_line(change.star.as_ref()))?;
        Ok(ControlFlow::Continue(()))
    })
    .await
}

async fn drain(args: DrainArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let ReasonArgs { star_id, reason } = args.star;
    let request = DrainStarRequest {
        star_id: star_id.clone(),
        reason,
        deadline: args.deadline,
        request_id: request_id(),
    };
    let answer = client.stars().drain_star(request).await?.into_inner();
    let mut warnings = Vec::new();
    note_warnings(answer.star.as_ref(), &mut warnings, output);
    if !args.wait {
        return output.answer(&answer, |answer| state_line(answer.star.as_ref()));
    }
    let mut blockers = Vec::new();
    loop {
        let request = GetStarRequest { star_id: star_id.clone() };
        let answer: GetStarResponse = client.stars().get_star(request).await?.into_inner();
        let star = answer.star.clone().unwrap_or_default();
        note_warnings(Some(&star), &mut warnings, output);
        if star.is_drained || star.state() == StarState::Shutdown {
            return output.answer(&answer, |answer| state_line(answer.star.as_ref()));
        }
        if star.state() != StarState::Draining {
            return Err(CliError::Failed(format!(
                "{star_id} is no longer draining: it is {}; somebody took it back.",
                word("StarState", star.state)
            )));
        }
        if star.drain_blockers != blockers {
            output.note(&state_line(Some(&star)));
            blockers = star.drain_blockers;
        }
        sleep(DRAIN_POLL_INTERVAL).await;
    }
}

/// Says on standard error what only this Star has, unless it was said before.
fn note_warnings(star: Option<&Star>, before: &mut Vec<String>, output: Output) {
    let Some(star) = star else { return };
    for warning in star.drain_warnings.iter().filter(|warning| !before.contains(warning)) {
        output.note(&human::plain(&format!("warning: {}: {warning}", star.star_id)));
    }
    before.clone_from(&star.drain_warnings);
}

async fn cordon(args: StarIdArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let request = CordonStarRequest { star_id: args.star_id, request_id: request_id() };
    let answer = client.stars().cordon_star(request).await?.into_inner();
    output.answer(&answer, |answer| state_line(answer.star.as_ref()))
}

async fn uncordon(args: StarIdArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let request = UncordonStarRequest { star_id: args.star_id, request_id: request_id() };
    let answer = client.stars().uncordon_star(request).await?.into_inner();
    output.answer(&answer, |answer| state_line(answer.star.as_ref()))
}

async fn shutdown(args: ShutdownArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let ReasonArgs { star_id, reason } = args.star;
    let request = ShutdownStarRequest { star_id, reason, force: args.force, request_id: request_id() };
    let answer = client.stars().shutdown_star(request).await?.into_inner();
    note_warnings(answer.star.as_ref(), &mut Vec::new(), output);
    output.answer(&answer, |answer| state_line(answer.star.as_ref()))
}

async fn schedule(args: ReasonArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let request =
        ScheduleStarRequest { star_id: args.star_id, reason: args.reason, request_id: request_id() };
    let answer = client.stars().schedule_star(request).await?.into_inner();
    output.answer(&answer, |answer| state_line(answer.star.as_ref()))
}

async fn remove(args: StarIdArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let request = RemoveStarRequest { star_id: args.star_id.clone(), request_id: request_id() };
    let answer = client.stars().remove_star(request).await?.into_inner();
    for warning in &answer.warnings {
        output.note(&human::plain(&format!("warning: {warning}")));
    }
    output.answer(&answer, |_| format!("{}: forgotten", args.star_id))
}

#[cfg(test)]
mod tests {
    use orbit_proto::v1::{Root, StarTransition};

    use super::*;

    fn star() -> Star {
        Star {
            star_id: "star-1".into(),
            state: StarState::Draining.into(),
            liveness: Liveness::Alive.into(),
            is_cordoned: true,
            roots: vec![Root { path: "/data".into(), is_read_only: true }],
            drain_blockers: vec!["2 assignments".into()],
            health: Some(HealthSample { disk_available_bytes: 1 << 30, ..HealthSample::default() }),
            history: vec![StarTransition {
                from: StarState::Scheduled.into(),
                to: StarState::Draining.into(),
                reason: "disk swap".into(),
                ..StarTransition::default()
            }],
            ..Star::default()
        }
    }

    #[test]
    fn a_star_is_shown_with_what_keeps_it_from_draining() {
        let line = state_line(Some(&star()));
        assert!(line.starts_with("star-1: \x1b[33mdraining\x1b[0m, \x1b[32malive\x1b[0m, "), "{line:?}");
        let line = anstream::adapter::strip_str(&line).to_string();
        assert_eq!(line, "star-1: draining, alive, cordoned, waits for 2 assignments");
        let text = details(&star());
        assert!(
            text.contains("/data (read-only)") && text.contains("scheduled -> draining: disk swap"),
            "{text}"
        );
    }

    #[test]
    fn a_star_that_was_shut_down_is_not_lost_and_one_that_only_reads_has_nothing_free() {
        let gone = Star {
            state: StarState::Shutdown.into(),
            liveness: Liveness::Lost.into(),
            is_cordoned: false,
            drain_blockers: Vec::new(),
            ..star()
        };
        let line = anstream::adapter::strip_str(&state_line(Some(&gone))).to_string();
        assert_eq!(line, "star-1: shutdown");
        let text = render(&[gone], true);
        assert!(!text.contains("lost") && !text.contains("GiB"), "{text}");
    }

    #[test]
    fn a_star_that_never_connected_can_be_listed() {
        let writes = Star { roots: vec![Root { path: "/data".into(), is_read_only: false }], ..star() };
        let text = render(&[Star { star_id: "new".into(), ..Star::default() }, writes], true);
        assert!(text.lines().nth(1).unwrap().contains("never seen"), "{text}");
        assert!(text.contains("1.0 GiB"), "{text}");
    }
}
