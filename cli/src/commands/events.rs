//! `orbit events`: everything that happens, as it comes: bulletins, and the events of jobs and Stars.

use std::cell::Cell;
use std::ops::ControlFlow;

use orbit_proto::v1::{
    ListBulletinsRequest, WatchBulletinsRequest, WatchBulletinsResponse, WatchEventsRequest,
    WatchEventsResponse,
};

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
    let after_id = Cell::new(newest.first().map_or(0, |bulletin| bulletin.bulletin_id));
    let open = async || {
        let request = WatchBulletinsRequest {
            star_id: args.star.clone(),
            job_id: args.job,
            after_id: after_id.get(),
            ..WatchBulletinsRequest::default()
        };
        client.bulletins().watch_bulletins(request).await
    };
    reconnect::watch(output, open, |message: WatchBulletinsResponse| {
        if let Some(bulletin) = &message.bulletin {
            after_id.set(after_id.get().max(bulletin.bulletin_id));
        }
        output
            .answer(&message, |message| message.bulletin.as_ref().map(bulletins::line).unwrap_or_default())?;
        Ok(ControlFlow::Continue(()))
    })
    .await
}

/// Events from now on; those of single items only where they were asked for.
async fn follow_events(args: &EventsArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let after_event_id = Cell::new(0);
    let open = async || {
        let request = WatchEventsRequest {
            job_id: args.job,
            star_id: args.star.clone(),
            after_event_id: after_event_id.get(),
            ..WatchEventsRequest::default()
        };
        client.provenance().watch_events(request).await
    };
    reconnect::watch(output, open, |message: WatchEventsResponse| {
        let Some(event) = &message.event else { return Ok(ControlFlow::Continue(())) };
        after_event_id.set(after_event_id.get().max(event.event_id));
        if args.items || event.item_key.is_empty() {
            output.answer(&message, provenance::shown)?;
        }
        Ok(ControlFlow::Continue(()))
    })
    .await
}
