//! Cleans up after a Star whose process was killed and that will not start again, as that of an `orbit copy`.
//!
//! Its vault's journal names the assignments whose files it was writing, and its identity the names under which it wrote. A vault that
//! another process uses is that of a Star which lives, and nothing is touched.

use std::path::Path;

use orbit_shared::session::Root;
use orbit_shared::words::Layout;
use uuid::Uuid;

use crate::roots::Roots;
use crate::sink::remove_temporaries;
use crate::vault::{Vault, has_identity};

/// Removes what the Star with this vault has left half written below its destinations. Answers whether the vault is that of a dead
/// Star and all of it was looked for. Blocks.
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
