//! Asks the source Star which entries it has not, over the data plane: a fetch that only looks.

use std::collections::BTreeMap;
use std::time::Duration;

use orbit_shared::entry::display_path;
use orbit_shared::session::FailureCause;
use orbit_shared::sweep::SweepRequest;
use orbit_shared::words::StarId;

use crate::grpc::transfer_client::{Connections, Pull, PullError};
use crate::limits::{FETCHES_PER_REQUEST_MAX, STALL_TIMEOUT};
use crate::transfer::{Fetch, FrameEnd, Open};

/// How long answers may take.
const PATIENCE: Duration = STALL_TIMEOUT;

/// The source of a mirror.
pub(super) struct Source {
    connections: Connections,
    address: String,
    shown: String,
    open: Open,
    pull: Option<Pull>,
    next_id: u64,
}

impl Source {
    pub(super) fn new(connections: Connections, star_id: &StarId, request: &SweepRequest) -> Self {
        let open = Open {
            token: request.token.clone(),
            job: request.scan.job,
            source_path: request.source_path.clone(),
            destination_star: star_id.clone(),
            snapshot: None,
        };
        let shown = format!("{}:{}", request.source_star, display_path(&request.source_path));
        let address = request.source_address.clone();
        Self { connections, address, shown, open, pull: None, next_id: 1 }
    }

    /// Whether each of these entries is absent at the source. Fails if that cannot be told of all of them, also because
    /// the source itself is gone: then everything would be.
    pub(super) async fn absent(&mut self, paths: Vec<Vec<u8>>) -> Result<Vec<bool>, String> {
        let mut absent = Vec::with_capacity(paths.len());
        for step in paths.chunks(FETCHES_PER_REQUEST_MAX - 1) {
            let asked = tokio::time::timeout(PATIENCE, self.ask(step)).await;
            let answered = asked.unwrap_or_else(|_| Err("it does not answer".to_owned()));
            absent.extend(answered.map_err(|problem| {
                // The next attempt makes its own.
                self.pull = None;
                format!("{} cannot be asked what it has: {problem}", self.shown)
            })?);
        }
        Ok(absent)
    }

    /// Asks about a step, and about the source itself with it.
    async fn ask(&mut self, paths: &[Vec<u8>]) -> Result<Vec<bool>, String> {
        let first = self.next_id;
        let of_base = std::iter::once(Vec::new());
        let fetches: Vec<Fetch> = of_base
            .chain(paths.iter().cloned())
            .zip(first..)
            .map(|(path, id)| Fetch {
                id,
                path,
                ranges: Vec::new(),
                is_hashes_only: false,
                is_cut_by_content: false,
                is_look_only: true,
            })
            .collect();
        self.next_id += fetches.len() as u64;
        let count = fetches.len();
        let pull = match &mut self.pull {
            Some(pull) => pull,
            none => {
                let pull = self.connections.pull(&self.address, self.open.clone(), None).await;
                none.insert(pull.map_err(words)?)
            }
        };
        pull.fetch(fetches).await.map_err(words)?;
        let mut answers: BTreeMap<u64, bool> = BTreeMap::new();
        while answers.len() < count {
            let parcel = pull.next().await.map_err(words)?;
            let parcel = parcel.ok_or_else(|| "it ended before it had answered".to_owned())?;
            for frame in parcel.frames {
                let is_absent = match frame.end {
                    FrameEnd::Failed(failure) => failure.cause == FailureCause::SourceMissing,
                    FrameEnd::Complete | FrameEnd::More => false,
                };
                if frame.fetch < first || answers.insert(frame.fetch, is_absent).is_some() {
                    return Err("it answers what it was not asked".to_owned());
                }
            }
        }
        if answers.get(&first) != Some(&false) {
            return Err("it is gone itself".to_owned());
        }
        (first + 1..first + count as u64)
            .map(|id| answers.get(&id).copied().ok_or_else(|| "it answers what it was not asked".to_owned()))
            .collect()
    }
}

fn words(error: PullError) -> String {
    match error {
        PullError::Incompatible(text) | PullError::Unavailable(text) => text,
    }
}
