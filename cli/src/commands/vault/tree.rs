//! `orbit snapshot show`, and reading a snapshot's tree page by page.

use orbit_proto::v1::{
    EntryKind, GetSnapshotRequest, ListSnapshotEntriesRequest, ListSnapshotEntriesResponse, Snapshot,
    SnapshotEntry,
};

use super::meant_path;
use super::name::named;
use crate::client::Client;
use crate::commands::pages::Pages;
use crate::errors::CliError;
use crate::output::table::{self, Table};
use crate::output::tone;
use crate::output::{Output, human};
use crate::parse::location;
use crate::vocabulary::Vocabulary;

pub(super) async fn show(
    snapshot: &str,
    path: &[u8],
    limit: u64,
    client: &Client,
    output: Output,
) -> Result<(), CliError> {
    let named = named(snapshot, client, output).await?;
    let path = named.below(path);
    let snapshot_id = named.id;
    if path.is_empty() {
        let request = GetSnapshotRequest { snapshot_id: snapshot_id.clone() };
        let answer = client.vaults().get_snapshot(request).await?.into_inner();
        output.answer(&answer, |answer| {
            let details = answer.snapshot.as_ref().map(details).unwrap_or_default();
            format!("{details}\n")
        })?;
    }
    let path = meant_path(&snapshot_id, &path, client).await?;
    let mut pages = Pages::new(limit);
    while let Some((page_size, page_token)) = pages.next() {
        let request = ListSnapshotEntriesRequest {
            snapshot_id: snapshot_id.clone(),
            path: String::new(),
            raw_path: path.clone().into(),
            page_size,
            page_token,
        };
        let page = client.vaults().list_snapshot_entries(request).await?.into_inner();
        let has_headings = pages.took(page.entries.len(), &page.next_page_token);
        output.answer(&page, |page| entries(&page.entries, has_headings))?;
    }
    pages.note_end(&output, "There is no such path in it.");
    Ok(())
}

fn details(snapshot: &Snapshot) -> String {
    let pairs = [
        ("snapshot", snapshot.snapshot_id.clone()),
        ("vault", snapshot.star_id.clone()),
        ("source", snapshot.source.as_ref().map(location::display).unwrap_or_default()),
        ("created", human::time(snapshot.create_time.as_ref())),
        ("job", snapshot.job_id.to_string()),
        ("tags", snapshot.tags.join(", ")),
        ("entries", human::count(snapshot.entry_count)),
        ("files", human::count(snapshot.file_count)),
        ("size", human::bytes(snapshot.total_bytes)),
        ("new in the vault", human::bytes(snapshot.added_bytes)),
        ("partial", human::flag(snapshot.is_partial)),
        (
            "in motion",
            match snapshot.changed_while_read_count {
                0 => String::new(),
                count => human::changed_while_read(count),
            },
        ),
        ("origin", snapshot.origin_star_id.clone()),
    ];
    table::details(&pairs, &[("partial", tone::of_obstacle(snapshot.is_partial))])
}

fn entries(entries: &[SnapshotEntry], has_headings: bool) -> String {
    let mut table = Table::new(&["MODE", "KIND", ">SIZE", "MODIFIED", "PATH"]);
    let kinds = Vocabulary::of("EntryKind");
    for entry in entries {
        let arrow = match entry.kind() {
            EntryKind::Symlink => format!(" -> {}", entry.link_target),
            _ => String::new(),
        };
        let path = if entry.path.is_empty() { "." } else { &entry.path };
        table.row([
            format!("{:04o}", entry.mode),
            kinds.word(entry.kind),
            human::bytes(entry.size_bytes),
            human::time(entry.modify_time.as_ref()),
            format!("{path}{arrow}"),
        ]);
    }
    table.render(has_headings)
}

/// All entries of a tree, in its order, a page at a time.
pub(super) struct Tree<'client> {
    client: &'client Client,
    snapshot_id: String,
    entries: std::vec::IntoIter<SnapshotEntry>,
    /// `None` after the last page.
    next: Option<String>,
}

impl<'client> Tree<'client> {
    pub(super) fn new(snapshot_id: String, client: &'client Client) -> Self {
        Self { client, snapshot_id, entries: Vec::new().into_iter(), next: Some(String::new()) }
    }

    pub(super) async fn next(&mut self) -> Result<Option<SnapshotEntry>, CliError> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Ok(Some(entry));
            }
            let Some(page_token) = self.next.take() else { return Ok(None) };
            let request = ListSnapshotEntriesRequest {
                snapshot_id: self.snapshot_id.clone(),
                path: String::new(),
                raw_path: Default::default(),
                page_size: 1000,
                page_token,
            };
            let page = self.client.vaults().list_snapshot_entries(request).await?.into_inner();
            let ListSnapshotEntriesResponse { entries, next_page_token } = page;
            self.entries = entries.into_iter();
            self.next = (!next_page_token.is_empty()).then_some(next_page_token);
        }
    }
}
