//! The durable part of a Star.

use std::collections::{BTreeMap, VecDeque};

use orbit_shared::backpressure::BackpressureConfig;
use orbit_shared::lifecycle::{LifecycleEvent, LifecycleState};
use orbit_shared::session::{Hello, Root};
use orbit_shared::words::{Epoch, StarId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The durable part of a Star.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StarRecord {
    /// Its name.
    pub star_id: StarId,
    /// Who it is; `None` until it has connected for the first time.
    pub identity: Option<Uuid>,
    /// Its process, as of the last hello.
    pub instance: Option<Uuid>,
    /// Counts its sessions.
    pub epoch: Epoch,
    /// Where other Stars reach it.
    pub data_address: String,
    /// What it exports.
    pub roots: Vec<Root>,
    /// Labels it was started with.
    pub labels: BTreeMap<String, String>,
    /// Whether an operator keeps work away from it.
    pub is_cordoned: bool,
    /// Where its lifecycle stands.
    pub state: LifecycleState,
    /// Its last transitions, oldest first, over all its processes.
    pub history: VecDeque<LifecycleEvent>,
    /// What it may hold.
    pub guard: BackpressureConfig,
    /// Why an operator has paused its guard, if one has.
    pub guard_pause: Option<String>,
    /// The operator's rules for the priority of files on it, one per line.
    #[serde(default)]
    pub semantic_rules: Vec<String>,
}

impl StarRecord {
    /// A Star that was named and has not connected yet.
    pub fn new(star_id: StarId, guard: BackpressureConfig) -> Self {
        Self {
            star_id,
            identity: None,
            instance: None,
            epoch: Epoch(0),
            data_address: String::new(),
            roots: Vec::new(),
            labels: BTreeMap::new(),
            is_cordoned: false,
            state: LifecycleState::Registered,
            history: VecDeque::new(),
            guard,
            guard_pause: None,
            semantic_rules: Vec::new(),
        }
    }

    /// Takes over what a hello says.
    pub fn update(&mut self, hello: Hello) {
        self.identity = Some(hello.identity);
        self.instance = Some(hello.instance);
        self.data_address = hello.data_address;
        self.roots = hello.roots;
        self.labels = hello.labels;
        self.semantic_rules = hello.semantic_rules;
        self.epoch = Epoch(self.epoch.0 + 1);
    }

    /// The innermost root that a path lies in.
    pub fn root_of(&self, path: &[u8]) -> Option<&Root> {
        let is_inside = |root: &&Root| {
            let base = root.path.strip_suffix(b"/").unwrap_or(&root.path);
            path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        self.roots.iter().filter(is_inside).max_by_key(|root| root.path.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_belongs_to_the_innermost_root_around_it() {
        let mut record =
            StarRecord::new(StarId::new("star-1").expect("a name"), BackpressureConfig::default());
        record.roots = ["/data", "/data/in", "/"]
            .map(|path| Root { path: path.as_bytes().to_vec(), is_read_only: path == "/data/in" })
            .to_vec();
        let root = |path: &str| record.root_of(path.as_bytes()).map(|root| root.path.clone());
        assert_eq!(root("/data/x"), Some(b"/data".to_vec()));
        assert_eq!(root("/data/in"), Some(b"/data/in".to_vec()));
        assert_eq!(root("/data/inner"), Some(b"/data".to_vec()));
        assert_eq!(root("/etc"), Some(b"/".to_vec()));
        record.roots.pop();
        assert_eq!(record.root_of(b"/etc"), None);
    }
}
