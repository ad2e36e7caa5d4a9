//! Snapshots as the catalogue lists them.

use orbit_shared::vault_call::SnapshotInfo;
use orbit_shared::words::StarId;
use serde::{Deserialize, Serialize};

/// A snapshot and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// The Star whose vault has it.
    pub star: StarId,
    /// What the vault says of it.
    pub info: SnapshotInfo,
    /// The Star under which it was known before its vault came back under another name.
    #[serde(default)]
    pub origin: Option<StarId>,
}
