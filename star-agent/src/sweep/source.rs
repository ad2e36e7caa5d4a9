//! Asks the source Star which entries it has, over the data plane, with fetches that only look.

use std::collections::BTreeMap;
use std::time::Duration;

use orbit_shared::entry::display_path;
use orbit_shared::session::FailureCause;
use orbit_shared::sweep::SweepRequest;
use orbit_shared::words::StarId;

use crate::grpc::transfer_client::{Connections, Pull, PullError};
use crate::limits::{FETCHES_PER_REQUEST_MAX, STALL_TIMEOUT};
use crate::sweep::extras::Kind;
use crate::transfer::{Fetch, FrameEnd, Looked, Open};

/// Timeout of the answers.
const PATIENCE: Duration = STALL_TIMEOUT;

/// What the source has under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// No entry.
    Absent,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
    /// That could not be determined: then nothing is deleted.
    Unknown,
}

impl Presence {
    /// Whether a destination's entry of this kind is to be deleted: the source has no entry there, or one is a
    /// directory and the other is not, so that this entry is in the way.
    pub(super) fn is_to_go(self, kind: Kind) -> bool {
        match self {
            Self::Absent => true,
            Self::Directory => kind != Kind::Directory,
            Self::Other => kind == Kind::Directory,
            Self::Unknown => false,
        }
    }
}

/// The source of a mirror.
pub(super) struct Source {
    connections: Connections,
    address: String,
    shown: String,
    open: Open,
    is_one_file_system: bool,
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
        let is_one_file_system = request.scan.is_one_file_system;
        Self { connections, address, shown, open, is_one_file_system, pull: None, next_id: 1 }
    }

    /// What the source has under each of these paths. Fails if the source cannot be asked, or if the source path itself
    /// is gone, since everything would be deleted then.
    pub(super) async fn look(&mut self, paths: Vec<Vec<u8>>) -> Result<Vec<Presence>, String> {
        let mut found = Vec::with_capacity(paths.len());
        for step in paths.chunks(FETCHES_PER_REQUEST_MAX - 1) {
            let asked = tokio::time::timeout(PATIENCE, self.ask(step)).await;
            let answered = asked.unwrap_or_else(|_| Err("it does not answer".to_owned()));
            found.extend(answered.map_err(|problem| {
                // The next attempt opens a new one.
                self.pull = None;
                format!("{} cannot be asked what it has: {problem}", self.shown)
            })?);
        }
        Ok(found)
    }

    /// Asks about the entries of a step, and about the source path itself.
    async fn ask(&mut self, paths: &[Vec<u8>]) -> Result<Vec<Presence>, String> {
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
                accepts_changes: false,
                as_of: None,
                is_one_file_system: self.is_one_file_system,
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
        let mut answers: BTreeMap<u64, Presence> = BTreeMap::new();
        while answers.len() < count {
            let parcel = pull.next().await.map_err(words)?;
            let parcel = parcel.ok_or_else(|| "it ended before it had answered".to_owned())?;
            for frame in parcel.frames {
                let presence = match frame.end {
                    FrameEnd::Failed(failure) if failure.cause == FailureCause::SourceMissing => {
                        Presence::Absent
                    }
                    FrameEnd::Failed(_) => Presence::Unknown,
                    FrameEnd::Complete | FrameEnd::Changed | FrameEnd::More => match frame.looked {
                        Some(Looked::Directory) => Presence::Directory,
                        Some(Looked::Other) => Presence::Other,
                        None => Presence::Unknown,
                    },
                };
                if frame.fetch < first || answers.insert(frame.fetch, presence).is_some() {
                    return Err("it answers what it was not asked".to_owned());
                }
            }
        }
        match answers.get(&first) {
            Some(Presence::Directory | Presence::Other) => {}
            Some(Presence::Absent) => return Err("it is gone itself".to_owned()),
            Some(Presence::Unknown) | None => {
                return Err("it cannot say whether it is there itself".to_owned());
            }
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
