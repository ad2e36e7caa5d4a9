//! The connection of one assignment to its source: the pull while there is one, its fetches, and the failures of files
//! if it cannot be opened or breaks off. The destinations for files and for vaults both use it; they decide what to
//! request and what to do with the answers.

use std::collections::BTreeMap;

use orbit_shared::session::{Assignment, Failure};
use orbit_shared::words::StarId;

use super::fetching::Fetching;
use crate::failures::{permanent, source_unavailable, source_unreachable};
use crate::grpc::transfer_client::{Connections, Pull, PullError};
use crate::limits::{FETCHES_PER_REQUEST_MAX, STALL_TIMEOUT};
use crate::transfer::{Fetch, Open, Parcel};

/// See the module.
#[derive(Default)]
pub(super) struct Line {
    pull: Option<Pull>,
    /// Fetches that have not ended.
    fetches: BTreeMap<u64, Fetching>,
    last_fetch: u64,
    to_send: Vec<Fetch>,
}

impl Line {
    /// Opens the pull.
    pub(super) async fn open(
        &mut self,
        connections: &Connections,
        star_id: &StarId,
        assignment: &Assignment,
    ) -> Result<(), PullError> {
        let open = Open {
            token: assignment.token.clone(),
            job: assignment.job,
            source_path: assignment.source_path.clone(),
            destination_star: star_id.clone(),
            snapshot: assignment.source_snapshot,
        };
        let opening = connections.pull(&assignment.source_address, open, assignment.trace);
        self.pull = Some(opening.await?);
        Ok(())
    }

    /// Whether the source can be asked.
    pub(super) fn is_open(&self) -> bool {
        self.pull.is_some()
    }

    /// Whether all fetches have ended.
    pub(super) fn is_answered(&self) -> bool {
        self.fetches.is_empty()
    }

    /// Requests parts of a file, with the next [`Line::send`]. The fetch gets its number here.
    pub(super) fn ask_for(&mut self, file: usize, mut fetch: Fetch) {
        self.last_fetch += 1;
        fetch.id = self.last_fetch;
        self.fetches.insert(fetch.id, Fetching::new(file, &fetch.ranges, fetch.is_hashes_only));
        self.to_send.push(fetch);
    }

    /// Sends the queued fetches.
    pub(super) async fn send(&mut self) -> Result<(), PullError> {
        let mut fetches = std::mem::take(&mut self.to_send);
        while !fetches.is_empty() {
            let rest = fetches.split_off(fetches.len().min(FETCHES_PER_REQUEST_MAX));
            let Some(pull) = &mut self.pull else { return Ok(()) };
            tokio::time::timeout(STALL_TIMEOUT, pull.fetch(fetches)).await.map_err(|_| stalled())??;
            fetches = rest;
        }
        Ok(())
    }

    /// The next message of the source. Without a pull this never completes.
    pub(super) async fn next_parcel(&mut self) -> Result<Parcel, PullError> {
        let Some(pull) = &mut self.pull else { return std::future::pending().await };
        match tokio::time::timeout(STALL_TIMEOUT, pull.next()).await {
            Ok(Ok(Some(parcel))) => Ok(parcel),
            Ok(Ok(None)) => {
                Err(PullError::Unavailable("the source ended it before it had answered".to_owned()))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(stalled()),
        }
    }

    /// The number of content bytes of each frame of a message. The whole message is checked before any of it is used.
    pub(super) fn lengths(&self, parcel: &Parcel) -> Result<Vec<u64>, PullError> {
        let mut lengths = Vec::with_capacity(parcel.frames.len());
        for frame in &parcel.frames {
            let broken = || PullError::Unavailable("the source answered an unknown fetch".to_owned());
            let fetching = self.fetches.get(&frame.fetch).ok_or_else(broken)?;
            lengths.push(if fetching.is_hashes_only { 0 } else { frame.length() });
        }
        let (received, announced) = (parcel.payload.len() as u64, lengths.iter().sum::<u64>());
        if announced == received {
            return Ok(lengths);
        }
        let text = format!("the source announced {announced} bytes and sent {received}");
        Err(PullError::Unavailable(text))
    }

    /// A fetch that has not ended.
    pub(super) fn fetch_mut(&mut self, id: u64) -> Option<&mut Fetching> {
        self.fetches.get_mut(&id)
    }

    /// A fetch has ended.
    pub(super) fn end_fetch(&mut self, id: u64) -> Option<Fetching> {
        self.fetches.remove(&id)
    }

    /// There will be no more fetches.
    pub(super) fn finish(&mut self) {
        if let Some(pull) = &mut self.pull {
            pull.finish();
        }
    }

    /// Gives up the pull and all its fetches. Returns the files of these fetches, once for each fetch.
    pub(super) fn close(&mut self) -> Vec<usize> {
        self.pull = None;
        self.to_send.clear();
        std::mem::take(&mut self.fetches).into_values().map(|fetching| fetching.file).collect()
    }
}

fn source(assignment: &Assignment) -> String {
    format!("Star {} at {}", assignment.source_star, assignment.source_address)
}

/// The failure of the files if the pull could not be opened.
pub(super) fn unopened(assignment: &Assignment, error: &PullError) -> Failure {
    let at = source(assignment);
    source_unreachable(match error {
        PullError::Incompatible(text) => format!("{at} cannot serve this Star: {text}"),
        PullError::Unavailable(text) => format!("cannot pull from {at}: {text}"),
    })
}

/// The failure of the files if the pull broke off. One of them may be the cause.
pub(super) fn broken_by(assignment: &Assignment, error: &PullError) -> Failure {
    let at = source(assignment);
    match error {
        PullError::Incompatible(text) => permanent(format!("{at} cannot serve this Star: {text}")),
        PullError::Unavailable(text) => source_unavailable(format!("the pull from {at} failed: {text}")),
    }
}

fn stalled() -> PullError {
    PullError::Unavailable(format!("nothing moved for {} s", STALL_TIMEOUT.as_secs()))
}
