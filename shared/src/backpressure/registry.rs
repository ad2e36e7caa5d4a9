//! The guards of all destinations.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::words::StarId;

use super::{BackpressureConfig, BackpressureGuard, BackpressureState};

/// One guard for each Star.
///
/// The registry has no lock and belongs to the owner of the decisions about Stars. The guards in it are shared.
#[derive(Debug, Default)]
pub struct BackpressureRegistry {
    guards: BTreeMap<StarId, Arc<BackpressureGuard>>,
}

impl BackpressureRegistry {
    /// A registry without guards.
    pub fn new() -> Self {
        Self::default()
    }

    /// The guard of `star`. If there is none, it is made with `config`.
    ///
    /// An existing guard is returned unchanged, with what is in flight and its own limits: a Star that registers again
    /// is still busy with what it was sent. [`BackpressureGuard::set_limits`] changes the limits.
    pub fn register(&mut self, star: StarId, config: BackpressureConfig) -> Arc<BackpressureGuard> {
        let guard = self.guards.entry(star).or_insert_with_key(|star| {
            let guard = BackpressureGuard::new(star.as_str(), config);
            Arc::new(guard)
        });
        Arc::clone(guard)
    }

    /// The guard of `star`.
    pub fn get(&self, star: &StarId) -> Option<&Arc<BackpressureGuard>> {
        self.guards.get(star)
    }

    /// Removes the guard of `star`. Permits that are still held keep it alive and are given back to it.
    pub fn remove(&mut self, star: &StarId) -> Option<Arc<BackpressureGuard>> {
        self.guards.remove(star)
    }

    /// Stars whose guards admit more, in order of names.
    pub fn available_destinations(&self) -> Vec<&StarId> {
        self.iter().filter(|(_, guard)| guard.can_accept()).map(|(star, _)| star).collect()
    }

    /// Every guard's state, by name.
    pub fn all_states(&self) -> BTreeMap<&StarId, BackpressureState> {
        self.iter().map(|(star, guard)| (star, guard.state())).collect()
    }

    /// Whether any guard admits no more.
    pub fn any_backpressured(&self) -> bool {
        self.guards.values().any(|guard| !guard.can_accept())
    }

    /// Every guard, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&StarId, &Arc<BackpressureGuard>)> {
        self.guards.iter()
    }

    /// Number of guards.
    pub fn len(&self) -> usize {
        self.guards.len()
    }

    /// Whether there are no guards.
    pub fn is_empty(&self) -> bool {
        self.guards.is_empty()
    }
}
