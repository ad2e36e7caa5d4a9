//! A model of the provenance log: events are appended with their turn, visible once it is committed, and truncated to
//! the last committed one by the next start.

use std::collections::BTreeMap;

use orbit_shared::provenance::{ProvenanceEvent, ProvenanceType};
use orbit_shared::words::ItemId;

/// See the module.
#[derive(Debug, Default)]
pub struct LogModel {
    events: Vec<ProvenanceEvent>,
}

impl LogModel {
    /// Appends events. Returns the number of the last one.
    pub fn append(&mut self, events: Vec<ProvenanceEvent>) -> u64 {
        for event in events {
            let number = self.events.len() as u64 + 1;
            self.events.push(event.with_event_id(number));
        }
        self.events.len() as u64
    }

    /// A start: events that were not committed are removed.
    pub fn recover(&mut self, committed: Option<u64>) {
        if let Some(committed) = committed {
            assert!(self.events.len() as u64 >= committed, "the log has all that was committed");
            self.events.truncate(committed as usize);
        }
    }

    /// How often each item was completed.
    pub fn completions(&self) -> BTreeMap<ItemId, u64> {
        let mut counts = BTreeMap::new();
        for event in self.events.iter().filter(|event| event.event_type == ProvenanceType::FileCompleted) {
            if let Some(item) = event.item {
                *counts.entry(item).or_default() += 1;
            }
        }
        counts
    }
}
