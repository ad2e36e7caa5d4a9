//! `orbit snapshot diff`: both trees are read side by side, in the order that they have in common.

use std::cmp::Ordering;

use orbit_proto::v1::SnapshotEntry;
use serde_json::json;

use super::name::whole;
use super::tree::Tree;
use crate::client::Client;
use crate::errors::CliError;
use crate::output::{Output, human};

/// How an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Added,
    Removed,
    Content,
    Metadata,
}

impl Change {
    fn sign(self) -> char {
        match self {
            Self::Added => '+',
            Self::Removed => '-',
            Self::Content => 'M',
            Self::Metadata => 'm',
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Content => "content",
            Self::Metadata => "metadata",
        }
    }
}

pub(super) async fn run(old: &str, new: &str, client: &Client, output: Output) -> Result<(), CliError> {
    let (old, new) = (whole(old, client, output).await?, whole(new, client, output).await?);
    let (mut olds, mut news) = (Tree::new(old, client), Tree::new(new, client));
    let (mut old, mut new) = (olds.next().await?, news.next().await?);
    let mut count: u64 = 0;
    while old.is_some() || new.is_some() {
        let order = order(old.as_ref(), new.as_ref());
        let change = match (order, &old, &new) {
            (Ordering::Less, Some(old), _) => Some((Change::Removed, old)),
            (Ordering::Greater, _, Some(new)) => Some((Change::Added, new)),
            (Ordering::Equal, Some(old), Some(new)) => difference(old, new).map(|change| (change, new)),
            (Ordering::Less | Ordering::Greater | Ordering::Equal, _, _) => None,
        };
        if let Some((change, entry)) = change {
            count += 1;
            say(change, entry, output)?;
        }
        if order != Ordering::Greater {
            old = olds.next().await?;
        }
        if order != Ordering::Less {
            new = news.next().await?;
        }
    }
    if count == 0 && !output.is_json() {
        output.note("The two are the same.");
    }
    Ok(())
}

fn say(change: Change, entry: &SnapshotEntry, output: Output) -> Result<(), CliError> {
    let path = if entry.path.is_empty() { "." } else { &entry.path };
    if output.is_json() {
        return output.line(&json!({ "change": change.word(), "path": path }).to_string());
    }
    output.text(&format!("{} {}", change.sign(), human::plain(path)))
}

/// Which of two entries comes first; an absent one comes last.
fn order(old: Option<&SnapshotEntry>, new: Option<&SnapshotEntry>) -> Ordering {
    match (old, new) {
        (Some(old), Some(new)) => old.raw_path.cmp(&new.raw_path),
        (Some(_), None) => Ordering::Less,
        (None, _) => Ordering::Greater,
    }
}

fn difference(old: &SnapshotEntry, new: &SnapshotEntry) -> Option<Change> {
    let content = |entry: &SnapshotEntry| {
        (entry.kind, entry.size_bytes, entry.content_hash.clone(), entry.link_target.clone())
    };
    if content(old) != content(new) {
        return Some(Change::Content);
    }
    (old.mode != new.mode || old.modify_time != new.modify_time).then_some(Change::Metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str) -> SnapshotEntry {
        SnapshotEntry { raw_path: path.as_bytes().to_vec().into(), ..SnapshotEntry::default() }
    }

    #[test]
    fn what_comes_first_is_missing_in_the_other() {
        assert_eq!(order(Some(&entry("a")), Some(&entry("b"))), Ordering::Less);
        assert_eq!(order(None, Some(&entry("b"))), Ordering::Greater);
        assert_eq!(order(Some(&entry("b")), None), Ordering::Less);
    }

    #[test]
    fn content_goes_before_metadata() {
        let old = entry("a");
        assert_eq!(difference(&old, &old), None);
        let mode = SnapshotEntry { mode: 0o600, ..old.clone() };
        assert_eq!(difference(&old, &mode), Some(Change::Metadata));
        let both = SnapshotEntry { size_bytes: 1, ..mode };
        assert_eq!(difference(&old, &both), Some(Change::Content));
    }
}
