//! `orbit provenance`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use orbit_proto::v1::{ListEventsRequest, ProvenanceEvent, WatchEventsRequest, WatchEventsResponse};

use crate::args::ProvenanceArgs;
use crate::client::Client;
use crate::commands::pages::Pages;
use crate::commands::reconnect::{self, Position};
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::{Output, human};
use crate::vocabulary::Vocabulary;

pub(super) async fn run(args: ProvenanceArgs, client: &Client, output: Output) -> Result<Outcome, CliError> {
    if args.follow {
        follow(args, client, output).await?;
    } else {
        list(args, client, output).await?;
    }
    Ok(Outcome::Completed)
}

async fn list(args: ProvenanceArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let mut pages = Pages::new(args.limit);
    while let Some((page_size, page_token)) = pages.next() {
        let request = ListEventsRequest {
            r#type: args.kind.unwrap_or_default(),
            job_id: args.job,
            star_id: args.star.clone(),
            chunk_hash: args.chunk.clone(),
            item_key: args.item.map(|item| item.to_string()).unwrap_or_default(),
            since: args.since,
            until: args.until,
            source: args.source.clone(),
            destination: args.destination.clone(),
            page_size,
            page_token,
            event_id: args.event,
            min_bytes: args.min_bytes,
            max_bytes: args.max_bytes,
            min_duration_ms: args.min_duration.map(milliseconds),
            max_duration_ms: args.max_duration.map(milliseconds),
            error: args.error.clone(),
            has_error: args.has_error,
        };
        let page = client.provenance().list_events(request).await?.into_inner();
        pages.took(page.events.len(), &page.next_page_token);
        output.answer(&page, |page| render(&page.events))?;
    }
    pages.note_end(&output, "There are no such events.");
    Ok(())
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn render(events: &[ProvenanceEvent]) -> String {
    let types = Vocabulary::of("ProvenanceType");
    events.iter().map(|event| line(event, &types)).collect::<Vec<_>>().join("\n")
}

/// Most events have few of the fields, so a line names those that are there.
fn line(event: &ProvenanceEvent, types: &Vocabulary) -> String {
    let number = |value: u64| if value == 0 { String::new() } else { value.to_string() };
    let size = if event.bytes == 0 { String::new() } else { human::bytes(event.bytes) };
    let took = if event.duration_ms == 0 { String::new() } else { format!("{} ms", event.duration_ms) };
    let fields = [
        ("job", if event.item_key.is_empty() { number(event.job_id) } else { String::new() }),
        ("item", event.item_key.clone()),
        ("star", event.star_id.clone()),
        ("chunk", event.chunk_hash.clone()),
        ("from", event.source.clone()),
        ("to", event.destination.clone()),
        ("size", size),
        ("took", took),
        ("error", event.error.clone()),
        ("by", event.actor.clone()),
    ];
    let mut text =
        format!("{} {} {}", event.event_id, human::time(event.time.as_ref()), types.word(event.r#type));
    for (name, value) in fields {
        if !value.is_empty() {
            text.extend([" ", name, "=", &human::plain(&value)]);
        }
    }
    // In the order of the names, so that equal events are equal lines.
    for (name, value) in event.context.iter().collect::<BTreeMap<_, _>>() {
        text.extend([" ", &human::plain(name), "=", &human::plain(value)]);
    }
    text
}

async fn follow(args: ProvenanceArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let position = Position::new("events", args.after);
    let open = async || {
        let request = WatchEventsRequest {
            r#type: args.kind.unwrap_or_default(),
            job_id: args.job,
            star_id: args.star.clone(),
            after_event_id: position.after(),
        };
        client.provenance().watch_events(request).await
    };
    reconnect::follow(output, Some(&position), open, |message: WatchEventsResponse| {
        if message.event.as_ref().is_some_and(|event| position.take(event.event_id)) {
            output.answer(&message, shown)?;
        }
        Ok(ControlFlow::Continue(()))
    })
    .await
}

/// One event as it is followed.
pub(super) fn shown(message: &WatchEventsResponse) -> String {
    let types = Vocabulary::of("ProvenanceType");
    message.event.as_ref().map(|event| line(event, &types)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use orbit_proto::v1::ProvenanceType;

    use super::*;

    #[test]
    fn a_line_names_only_the_fields_that_are_there() {
        let event = ProvenanceEvent {
            event_id: 9,
            time: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            r#type: ProvenanceType::FileCompleted.into(),
            job_id: 7,
            item_key: "7/0/42".into(),
            star_id: "star-2".into(),
            bytes: 2048,
            context: [("files", "3"), ("chunks", "9")]
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            ..ProvenanceEvent::default()
        };
        assert_eq!(
            render(&[event]),
            "9 1970-01-01 00:00:00Z file-completed item=7/0/42 star=star-2 size=2.0 KiB chunks=9 files=3"
        );
    }
}
