//! `orbit snapshot`, `orbit gc` and `orbit scrub`.

mod cat;
mod diff;
mod name;
mod prune;
mod restore;
mod tree;
mod upkeep;

use orbit_proto::v1::{
    DeleteSnapshotRequest, ListSnapshotEntriesRequest, ListSnapshotsRequest, Snapshot,
    UndeleteSnapshotRequest,
};
use orbit_shared::entry::undisplay_path;

use crate::args::{SnapshotCommand, SnapshotFilter};
use crate::client::{Client, request_id};
use crate::commands::pages::Pages;
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::table::Table;
use crate::output::{Output, human};
use crate::parse::location;

pub(super) use self::upkeep::{collect, scrub};

/// Digits of a snapshot's whole name.
const ID_DIGITS: usize = 32;

pub(super) async fn run(
    command: SnapshotCommand,
    client: &Client,
    output: Output,
) -> Result<Outcome, CliError> {
    match command {
        SnapshotCommand::Ls { filter, limit } => list(filter, limit, client, output).await?,
        SnapshotCommand::Show { snapshot, path, limit } => {
            tree::show(&snapshot, &path, limit, client, output).await?;
        }
        SnapshotCommand::Restore(args) => return restore::run(*args, client, output).await,
        SnapshotCommand::Rm { snapshots } => remove(&snapshots, client, output).await?,
        SnapshotCommand::Undelete { snapshots, star } => undelete(snapshots, &star, client, output).await?,
        SnapshotCommand::Diff { old, new } => diff::run(&old, &new, client, output).await?,
        SnapshotCommand::Cat { snapshot, path } => {
            cat::run(&snapshot, path.as_deref().unwrap_or_default(), client, output).await?;
        }
        SnapshotCommand::Prune(args) => return prune::run(args, client, output).await,
    }
    Ok(Outcome::Completed)
}

fn list_request(filter: &SnapshotFilter, page_size: i32, page_token: String) -> ListSnapshotsRequest {
    let source = filter.source.clone().unwrap_or_default();
    ListSnapshotsRequest {
        page_size,
        page_token,
        star_id: filter.star.clone(),
        job_id: None,
        source_star_id: source.star_id,
        source_path: source.path,
        tags: filter.tag.clone(),
    }
}

async fn list(filter: SnapshotFilter, limit: u64, client: &Client, output: Output) -> Result<(), CliError> {
    let mut pages = Pages::new(limit);
    while let Some((page_size, page_token)) = pages.next() {
        let request = list_request(&filter, page_size, page_token);
        let page = client.vaults().list_snapshots(request).await?.into_inner();
        let has_headings = pages.took(page.snapshots.len(), &page.next_page_token);
        output.answer(&page, |page| table(&page.snapshots, has_headings))?;
    }
    pages.note_end(&output, "There are no snapshots.");
    Ok(())
}

fn table(snapshots: &[Snapshot], has_headings: bool) -> String {
    let mut table =
        Table::new(&["SNAPSHOT", "VAULT", "CREATED", ">ENTRIES", ">SIZE", ">NEW", "SOURCE", "TAGS"]);
    for snapshot in snapshots {
        let partial = if snapshot.is_partial { " (partial)" } else { "" };
        let changed = match snapshot.changed_while_read_count {
            0 => String::new(),
            count => format!(" ({} changed while read)", human::count(count)),
        };
        table.row([
            snapshot.snapshot_id.clone(),
            snapshot.star_id.clone(),
            human::time(snapshot.create_time.as_ref()),
            human::count(snapshot.entry_count),
            human::bytes(snapshot.total_bytes),
            human::bytes(snapshot.added_bytes),
            format!(
                "{}{partial}{changed}",
                snapshot.source.as_ref().map(location::display).unwrap_or_default()
            ),
            snapshot.tags.join(","),
        ]);
    }
    table.render(has_headings)
}

/// The path in a snapshot's tree that is meant: as it is written, or, if there is none of that name, the one that is shown so.
pub(super) async fn meant_path(snapshot_id: &str, path: &[u8], client: &Client) -> Result<Vec<u8>, CliError> {
    let Some(plain) = undisplay_path(path) else { return Ok(path.to_vec()) };
    let request = ListSnapshotEntriesRequest {
        snapshot_id: snapshot_id.to_owned(),
        raw_path: path.to_vec().into(),
        page_size: 1,
        ..ListSnapshotEntriesRequest::default()
    };
    let found = client.vaults().list_snapshot_entries(request).await?.into_inner();
    Ok(if found.entries.is_empty() { plain } else { path.to_vec() })
}

async fn remove(snapshots: &[String], client: &Client, output: Output) -> Result<(), CliError> {
    for text in snapshots {
        let request = DeleteSnapshotRequest {
            snapshot_id: name::whole(text, client, output).await?,
            request_id: request_id(),
        };
        let answer = client.vaults().delete_snapshot(request).await?.into_inner();
        output.answer(&answer, |answer| {
            let id = answer.snapshot.as_ref().map(|snapshot| snapshot.snapshot_id.as_str());
            let id = id.unwrap_or_default();
            format!("snapshot {id} is forgotten; `orbit snapshot undelete {id}` brings it back for a day")
        })?;
    }
    Ok(())
}

async fn undelete(
    snapshots: Vec<String>,
    star_id: &str,
    client: &Client,
    output: Output,
) -> Result<(), CliError> {
    for snapshot_id in snapshots {
        let request =
            UndeleteSnapshotRequest { snapshot_id, star_id: star_id.to_owned(), request_id: request_id() };
        let answer = client.vaults().undelete_snapshot(request).await?.into_inner();
        output.answer(&answer, |answer| {
            let back = answer.snapshot.as_ref();
            let (id, star) =
                back.map(|back| (back.snapshot_id.as_str(), back.star_id.as_str())).unwrap_or_default();
            format!("snapshot {id} is in the vault of {star} again")
        })?;
    }
    Ok(())
}
