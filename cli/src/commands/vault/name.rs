//! What a snapshot is called on a command line: its name, the beginning of it, `latest`, or `latest:PATH`.

use orbit_proto::v1::Snapshot;

use super::{ID_DIGITS, list_request};
use crate::args::SnapshotFilter;
use crate::client::Client;
use crate::commands::pages::Pages;
use crate::errors::CliError;
use crate::output::{Output, human};
use crate::parse::location;

const LATEST: &str = "latest";

/// A snapshot, and the path in its tree that its name leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// The whole name.
    pub(super) id: String,
    /// Empty for the whole tree.
    pub(super) path: String,
}

impl Named {
    /// The path in the tree, with one that was given apart.
    pub(super) fn below(&self, path: &[u8]) -> Vec<u8> {
        let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
        let path = names.join(&b'/');
        match (self.path.is_empty(), path.is_empty()) {
            (true, _) => path,
            (false, true) => self.path.clone().into_bytes(),
            (false, false) => [self.path.as_bytes(), b"/", &path].concat(),
        }
    }
}

/// The snapshot that a name is of. Of `latest` it is said which one that is.
pub(super) async fn named(text: &str, client: &Client, output: Output) -> Result<Named, CliError> {
    let path = match text.strip_prefix(LATEST) {
        Some("") => "",
        Some(rest) if rest.starts_with(':') => &rest[1..],
        Some(_) | None => return Ok(Named { id: resolve(text, client).await?, path: String::new() }),
    };
    let (snapshot, path) = latest(&all(client).await?, path)?;
    let source = snapshot.source.as_ref().map(location::display).unwrap_or_default();
    let partial = if snapshot.is_partial { ", which is partial" } else { "" };
    output.note(&format!(
        "{text} is snapshot {} of {source} in the vault of {}, of {}{partial}.",
        snapshot.snapshot_id,
        snapshot.star_id,
        human::time(snapshot.create_time.as_ref())
    ));
    Ok(Named { id: snapshot.snapshot_id, path })
}

/// A snapshot that is named as a whole.
pub(super) async fn whole(text: &str, client: &Client, output: Output) -> Result<String, CliError> {
    let named = named(text, client, output).await?;
    if named.path.is_empty() {
        return Ok(named.id);
    }
    Err(CliError::Usage(format!(
        "{text}: {:?} is a path in a snapshot; this needs a whole snapshot",
        named.path
    )))
}

/// The newest whole snapshot, or the newest partial one if there is no whole one. A path that begins with a source path, or
/// with `STAR:` and one, chooses among the snapshots of that source; what follows is a path in the tree.
fn latest(snapshots: &[Snapshot], path: &str) -> Result<(Snapshot, String), CliError> {
    let below = |snapshot: &Snapshot| {
        let source = snapshot.source.as_ref()?;
        let path = path.strip_prefix(&format!("{}:", source.star_id)).unwrap_or(path);
        let base = source.path.trim_end_matches('/');
        let rest = path.strip_prefix(base)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| (base.len(), rest.trim_matches('/').to_owned()))
    };
    let is_of_source = path.starts_with('/') || path.contains(":/");
    let matching: Vec<(&Snapshot, (usize, String))> = if is_of_source {
        snapshots.iter().filter_map(|snapshot| Some((snapshot, below(snapshot)?))).collect()
    } else {
        snapshots.iter().map(|snapshot| (snapshot, (0, path.trim_matches('/').to_owned()))).collect()
    };
    let newest = matching.into_iter().max_by_key(|(snapshot, (base, _))| {
        let time = snapshot.create_time.as_ref().map(|time| (time.seconds, time.nanos));
        (!snapshot.is_partial, *base, time)
    });
    let (snapshot, (_, rest)) = newest.ok_or_else(|| {
        let of = if is_of_source { format!(" of {path}") } else { String::new() };
        CliError::Usage(format!("there is no snapshot{of}; `orbit snapshot ls` lists those there are"))
    })?;
    Ok((snapshot.clone(), rest))
}

async fn all(client: &Client) -> Result<Vec<Snapshot>, CliError> {
    let (mut found, mut pages) = (Vec::new(), Pages::new(0));
    while let Some((page_size, page_token)) = pages.next() {
        let request = list_request(&SnapshotFilter::default(), page_size, page_token);
        let page = client.vaults().list_snapshots(request).await?.into_inner();
        pages.took(page.snapshots.len(), &page.next_page_token);
        found.extend(page.snapshots);
    }
    Ok(found)
}

/// The whole name of a snapshot of which the beginning is given.
async fn resolve(text: &str, client: &Client) -> Result<String, CliError> {
    if text.len() == ID_DIGITS {
        return Ok(text.to_owned());
    }
    let mut found: Option<String> = None;
    let names = all(client).await?.into_iter().map(|snapshot| snapshot.snapshot_id);
    for name in names.filter(|name| !text.is_empty() && name.starts_with(text)) {
        if let Some(other) = found.replace(name.clone()) {
            let problem = format!("{text} begins both {other} and {name}; write more of it");
            return Err(CliError::Usage(problem));
        }
    }
    found.ok_or_else(|| {
        CliError::Usage(format!("no snapshot's name begins with {text:?}; `orbit snapshot ls` lists them"))
    })
}

#[cfg(test)]
mod tests {
    use orbit_proto::v1::Location;

    use super::*;

    fn snapshot(id: &str, path: &str, seconds: i64, is_partial: bool) -> Snapshot {
        Snapshot {
            snapshot_id: id.to_owned(),
            source: Some(Location {
                star_id: "star-1".to_owned(),
                path: path.to_owned(),
                ..Location::default()
            }),
            create_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            is_partial,
            ..Snapshot::default()
        }
    }

    #[test]
    fn latest_is_the_newest_whole_snapshot_of_all_or_of_one_source() {
        let all = [
            snapshot("a", "/data", 1, false),
            snapshot("b", "/data", 2, false),
            snapshot("c", "/data", 3, true),
            snapshot("d", "/data/deep", 1, false),
            snapshot("e", "/other", 9, true),
        ];
        let found = |path: &str| {
            let (snapshot, rest) = latest(&all, path).ok()?;
            Some((snapshot.snapshot_id, rest))
        };
        let some = |id: &str, rest: &str| Some((id.to_owned(), rest.to_owned()));
        assert_eq!(found(""), some("b", ""));
        assert_eq!(found("x/y"), some("b", "x/y"), "a path in the tree");
        assert_eq!(found("/data"), some("b", ""));
        assert_eq!(found("star-1:/data/"), some("b", ""));
        assert_eq!(found("/data/sub/file"), some("b", "sub/file"));
        assert_eq!(found("/data/deep/x"), some("d", "x"), "the source that is nearest");
        assert_eq!(found("/other"), some("e", ""), "there is no whole one");
        assert_eq!(found("/dat"), None);
        assert_eq!(found("star-2:/data"), None);
        assert!(latest(&[], "").is_err());
    }

    #[test]
    fn a_path_that_is_given_apart_lies_below_the_one_of_the_name() {
        let named = |path: &str| Named { id: String::new(), path: path.to_owned() };
        assert_eq!(named("").below(b"/a/b"), b"a/b");
        assert_eq!(named("a").below(b"b/"), b"a/b");
        assert_eq!(named("a").below(b""), b"a");
    }
}
