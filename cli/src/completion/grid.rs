//! Questions to the grid while a command line is completed. Any error is an empty answer: a word that
//! cannot be completed is no error.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use clap::{CommandFactory as _, FromArgMatches as _};
use orbit_program::settings::{Source, parse_layered};
use orbit_proto::v1::{
    EntryKind, ListJobsRequest, ListSchedulesRequest, ListSnapshotEntriesRequest, ListSnapshotsRequest,
    ListStarsRequest, SnapshotEntry,
};

use super::values::{Value, shown};
use crate::args::Args;
use crate::client::Client;
use crate::contexts::Target;
use crate::output::human;
use crate::vocabulary::word;

/// Maximum number of values of one answer: one page of the largest size.
const VALUES_MAX: i32 = 1000;
/// Flags of every command that decide whom to ask.
const TARGET_FLAGS: [&str; 5] = ["--coordinator", "--identity", "--context", "--local-users", "--config"];

/// The grid that the words so far are about.
#[derive(Debug)]
pub(super) struct GridAsked {
    words: Vec<OsString>,
}

/// A Star, as far as completion is concerned.
#[derive(Debug, Clone)]
pub(super) struct StarAsked {
    pub(super) star_id: String,
    /// In words.
    pub(super) state: String,
    pub(super) roots: Vec<Vec<u8>>,
    /// Whether it is on this machine.
    pub(super) is_local: bool,
}

impl GridAsked {
    pub(super) fn new(words: &[OsString]) -> Self {
        Self { words: words.to_vec() }
    }

    pub(super) fn stars(&self) -> Vec<StarAsked> {
        self.ask(async |client| {
            let request = ListStarsRequest { page_size: VALUES_MAX, ..ListStarsRequest::default() };
            let stars = client.stars().list_stars(request).await.ok()?.into_inner().stars;
            let star = |star: orbit_proto::v1::Star| StarAsked {
                state: [word("StarState", star.state), word("Liveness", star.liveness)].join(", "),
                is_local: is_loopback(&star.data_address),
                roots: star.roots.into_iter().map(|root| root.path.into_bytes()).collect(),
                star_id: star.star_id,
            };
            Some(stars.into_iter().map(star).collect())
        })
    }

    pub(super) fn jobs(&self) -> Vec<Value> {
        self.ask(async |client| {
            let request = ListJobsRequest { page_size: VALUES_MAX, ..ListJobsRequest::default() };
            let jobs = client.jobs().list_jobs(request).await.ok()?.into_inner().jobs;
            let job = |job: &orbit_proto::v1::Job| {
                let source = shown(job.spec.as_ref().and_then(|spec| spec.source.as_ref()));
                (job.job_id.to_string().into(), format!("{}, {source}", word("JobState", job.state)))
            };
            Some(jobs.iter().map(job).collect())
        })
    }

    pub(super) fn schedules(&self) -> Vec<Value> {
        self.ask(async |client| {
            let request = ListSchedulesRequest { page_size: VALUES_MAX, ..ListSchedulesRequest::default() };
            let schedules = client.schedules().list_schedules(request).await.ok()?.into_inner().schedules;
            let schedule = |schedule: &orbit_proto::v1::Schedule| {
                let source = shown(schedule.spec.as_ref().and_then(|spec| spec.source.as_ref()));
                (schedule.schedule_id.to_string().into(), source)
            };
            Some(schedules.iter().map(schedule).collect())
        })
    }

    pub(super) fn snapshots(&self) -> Vec<Value> {
        self.ask(async |client| {
            let request = ListSnapshotsRequest { page_size: VALUES_MAX, ..ListSnapshotsRequest::default() };
            let snapshots = client.vaults().list_snapshots(request).await.ok()?.into_inner().snapshots;
            let snapshot = |snapshot: &orbit_proto::v1::Snapshot| {
                let partial = if snapshot.is_partial { ", partial" } else { "" };
                let time = human::time(snapshot.create_time.as_ref());
                let source = shown(snapshot.source.as_ref());
                (snapshot.snapshot_id.clone().into(), format!("{time}, {source}{partial}"))
            };
            let latest =
                (!snapshots.is_empty()).then(|| ("latest".into(), "the newest whole one".to_owned()));
            Some(latest.into_iter().chain(snapshots.iter().map(snapshot)).collect())
        })
    }

    /// Paths in the tree of the snapshot that the words name, in the directory that the typed path leads to.
    pub(super) fn snapshot_paths(&self, typed: &OsStr) -> Vec<Value> {
        let typed = typed.as_bytes();
        let slash = typed.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
        let directory = typed[..slash].to_vec();
        self.ask(async |client| {
            let request = ListSnapshotsRequest { page_size: VALUES_MAX, ..ListSnapshotsRequest::default() };
            let snapshots = client.vaults().list_snapshots(request).await.ok()?.into_inner().snapshots;
            let is_named = |id: &str| {
                let named = |word: &OsString| word.len() >= 2 && id.as_bytes().starts_with(word.as_bytes());
                self.words.iter().any(named)
            };
            let is_latest = self.words.iter().any(|word| word == "latest");
            let named = snapshots.iter().find(|snapshot| is_named(&snapshot.snapshot_id));
            let named =
                named.or_else(|| snapshots.iter().find(|snapshot| is_latest && !snapshot.is_partial))?;
            let path = directory.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
            let path = path.collect::<Vec<_>>().join(&b'/');
            let request = ListSnapshotEntriesRequest {
                snapshot_id: named.snapshot_id.clone(),
                raw_path: path.clone().into(),
                page_size: VALUES_MAX,
                ..ListSnapshotEntriesRequest::default()
            };
            let entries = client.vaults().list_snapshot_entries(request).await.ok()?.into_inner().entries;
            Some(children(&entries, &path, &directory))
        })
    }

    /// The answer of the grid; nothing if there is none. Blocks for as long as it takes.
    fn ask<T>(&self, question: impl AsyncFnOnce(Client) -> Option<Vec<T>>) -> Vec<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return Vec::new() };
        let answer = runtime.block_on(async { question(self.connect().await?).await });
        answer.unwrap_or_default()
    }

    /// Connects as the command would whose words these are.
    async fn connect(&self) -> Option<Client> {
        let words = std::iter::once(OsString::from("orbit")).chain(target_words(&self.words));
        let layered =
            parse_layered(Args::command(), words, |path: &Path| std::fs::read_to_string(path)).ok()?;
        let args = Args::from_arg_matches(&layered.matches).ok()?;
        let coordinator = layered.sources.get("coordinator").unwrap_or(&Source::Unset);
        let target = Target::resolve(&args.global, coordinator).ok()?;
        crate::connect(&target).await.ok()
    }
}

/// Those of the words that decide whom to ask, with their values.
fn target_words(words: &[OsString]) -> Vec<OsString> {
    let mut found = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let has_value = |flag: &&str| {
            word.as_bytes().strip_prefix(flag.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
        };
        if TARGET_FLAGS.iter().any(has_value) {
            found.push(word.clone());
        } else if TARGET_FLAGS.iter().any(|flag| word == flag)
            && let Some(value) = words.next()
        {
            found.extend([word.clone(), value.clone()]);
        }
    }
    found
}

/// The entries that lie in a directory of a snapshot's tree, each as it is typed behind that directory.
fn children(entries: &[SnapshotEntry], path: &[u8], typed: &[u8]) -> Vec<Value> {
    let name = |entry: &SnapshotEntry| {
        let whole = if entry.raw_path.is_empty() { entry.path.as_bytes() } else { &entry.raw_path };
        let below = whole.strip_prefix(path)?;
        let name = if path.is_empty() { below } else { below.strip_prefix(b"/")? };
        let end: &[u8] = if entry.kind() == EntryKind::Directory { b"/" } else { b"" };
        let is_child = !name.is_empty() && !name.contains(&b'/');
        is_child.then(|| OsString::from_vec([typed, name, end].concat()))
    };
    entries.iter().filter_map(name).map(|value| (value, String::new())).collect()
}

/// Whether an address is one of this machine only.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let is_socket = address.starts_with("unix:");
    is_socket
        || host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_decide_whom_to_ask() {
        let words = ["orbit", "--context", "home", "job", "show", "--coordinator=http://x:1", "--star", "a"];
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        assert_eq!(target_words(&words), ["--context", "home", "--coordinator=http://x:1"]);
        // The word under the cursor has no value yet.
        assert!(target_words(&[OsString::from("--context")]).is_empty());
    }

    #[test]
    fn only_loopback_is_this_machine() {
        assert!(is_loopback("127.0.0.1:7200") && is_loopback("[::1]:7200") && is_loopback("localhost:1"));
        assert!(is_loopback("unix:/run/orbit/star"));
        assert!(!is_loopback("10.0.0.1:7200") && !is_loopback("grid:7200") && !is_loopback(""));
    }
}
