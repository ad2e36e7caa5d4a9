//! `orbit events`: everything that happens, as it comes: bulletins, and the events of jobs and Stars.

use std::ops::ControlFlow;

use orbit_proto::v1::{
    ListBulletinsRequest, WatchBulletinsRequest, WatchBulletinsResponse, WatchEventsRequest,
    WatchEventsResponse,
};

use super::reconnect::Position;
use super::{bulletins, provenance, reconnect};
use crate::args::EventsArgs;
use crate::client::Client;
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::Output;

pub(super) async fn run(args: EventsArgs, client: &Client, output: Output) -> Result<Outcome, CliError> {
    tokio::try_join!(follow_bulletins(&args, client, output), follow_events(&args, client, output))?;
    Ok(Outcome::Completed)
}

/// Bulletins from now on.
async fn follow_bulletins(args: &EventsArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let newest = ListBulletinsRequest { limit: 1, ..ListBulletinsRequest::default() };
    let newest = client.bulletins().list_bulletins(newest).await?.into_inner().bulletins;
    let position = Position::new("bulletins", newest.first().map_or(0, |bulletin| bulletin.bulletin_id));
    let open = async || {
        let request = WatchBulletinsRequest {
            star_id: args.star.clone(),
            job_id: args.job,
            after_id: position.after(),
            ..WatchBulletinsRequest::default()
        };
        client.bulletins().watch_bulletins(request).await
    };
    reconnect::follow(output, Some(&position), open, |message: WatchBulletinsResponse| {
        if message.bulletin.as_ref().is_some_and(|bulletin| position.take(bulletin.bulletin_id)) {
            let line = |message: &WatchBulletinsResponse| message.bulletin.as_ref().map(bulletins::line);
            output.answer(&message, |message| line(message).unwrap_or_default())?;
        }
        Ok(ControlFlow::Continue(()))
    })
    .await
}

/// Events from now on; those of single items only where they were asked for.
async fn follow_events(args: &EventsArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let position = Position::new("events", 0);
    let open = async || {
        let request = WatchEventsRequest {
            job_id: args.job,
            star_id: args.star.clone(),
            after_event_id: position.after(),
            ..WatchEventsRequest::default()
        };
        client.provenance().watch_events(request).await
    };
    reconnect::follow(output, Some(&position), open, |message: WatchEventsResponse| {
        let Some(event) = &message.event else { return Ok(ControlFlow::Continue(())) };
        if position.take(event.event_id) && (args.items || event.item_key.is_empty()) {
            output.answer(&message, provenance::shown)?;
        }
        Ok(ControlFlow::Continue(()))
    })
    .await
}
