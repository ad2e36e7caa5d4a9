//! Cleans up after a Star whose process was killed and that will not start again, such as that of an `orbit copy`.
//!
//! The journal in its vault names the assignments whose files it was writing, and its identity gives the names of its
//! temporaries. If another process uses the vault, the Star is alive and nothing is removed.

use std::path::Path;

use orbit_shared::session::Root;
use orbit_shared::words::Layout;
use uuid::Uuid;

use crate::roots::Roots;
use crate::sink::remove_temporaries;
use crate::vault::{Vault, has_identity};

/// Removes the partly written files that the Star with this vault has left below its destinations. Returns whether the
/// vault is that of a dead Star and all of its files were looked for. Blocks.
pub fn clean_after(vault: &Path) -> bool {
    if !has_identity(vault) {
        return false;
    }
    let Ok(vault) = Vault::open(vault, Uuid::new_v4()) else { return false };
    let Ok(assignments) = vault.leftovers() else { return false };
    let everything = Root { path: b"/".to_vec(), is_read_only: false };
    let Ok(roots) = Roots::open(&[everything]) else { return false };
    assignments
        .iter()
        .filter(|assignment| assignment.layout == Layout::Files)
        .all(|assignment| remove_temporaries(&roots, vault.identity(), assignment))
}
