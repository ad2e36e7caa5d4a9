//! `orbit-star vault ...`: maintenance of a vault whose Star is stopped.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use uuid::Uuid;

use crate::packed::{Opened, PackedConfig, PackedError, PackedStore, ScrubOptions};
use crate::vault::{PACKED, Vault, VaultError};

/// Looks after a vault whose Star is stopped.
#[derive(Debug, Parser)]
#[command(name = "orbit-star vault", bin_name = "orbit-star vault", version)]
pub struct VaultFlags {
    /// What to do.
    #[command(subcommand)]
    pub command: VaultCommand,
}

/// The operations on a vault.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum VaultCommand {
    /// Read everything that is stored and say what is damaged; exits with 1 if anything is
    Check {
        /// The vault's directory
        #[arg(long, value_name = "DIR", env = "ORBIT_VAULT")]
        vault: PathBuf,
    },
    /// Build the index of chunks again from the containers and snapshots
    Rebuild {
        /// The vault's directory
        #[arg(long, value_name = "DIR", env = "ORBIT_VAULT")]
        vault: PathBuf,
    },
}

/// Why the operation failed.
#[derive(Debug, thiserror::Error)]
pub enum VaultToolError {
    /// It cannot be opened, or its Star runs.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// There is no vault.
    #[error("--vault {}: there is no vault with packed data in this directory", .0.display())]
    NoVault(PathBuf),
    /// The store reports an error.
    #[error(transparent)]
    Packed(#[from] PackedError),
    /// The output cannot be written.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
}

impl VaultCommand {
    /// Runs the operation and writes the result. Returns whether the vault is undamaged.
    ///
    /// # Errors
    /// See [`VaultToolError`].
    pub fn run(&self, output: &mut dyn Write) -> Result<bool, VaultToolError> {
        let (Self::Check { vault } | Self::Rebuild { vault }) = self;
        let packed = vault.join(PACKED);
        if !packed.is_dir() {
            return Err(VaultToolError::NoVault(vault.clone()));
        }
        // Held to the end: the Star must not run meanwhile.
        let _lock = Vault::open(vault, Uuid::new_v4())?;
        let config = PackedConfig::default();
        match self {
            Self::Rebuild { .. } => {
                let store = PackedStore::rebuild(&packed, config)?;
                let totals = store.totals()?;
                writeln!(
                    output,
                    "rebuilt: {} chunks in {} containers, {} snapshots",
                    totals.chunk_count, totals.container_count, totals.snapshot_count
                )?;
                tell_opened(store.opened(), output)
            }
            Self::Check { .. } => check(&*PackedStore::open(&packed, config)?, output),
        }
    }
}

fn check(store: &PackedStore, output: &mut dyn Write) -> Result<bool, VaultToolError> {
    let is_well = tell_opened(store.opened(), output)?;
    let options = ScrubOptions { everything: true, ..ScrubOptions::default() };
    let report = store.scrub(&options, &|_| {}, &|| false)?;
    let damaged = store.damaged();
    let hashes = damaged.iter().map(|chunk| chunk.hash).collect();
    let (affected, _) = store.affected(&hashes, usize::MAX, &|| false)?;
    for chunk in damaged {
        writeln!(output, "damaged: chunk {}: {}", chunk.hash, chunk.problem)?;
        for affected in affected.get(&chunk.hash).into_iter().flatten() {
            let path = orbit_shared::entry::display_path(&affected.path);
            let what = if affected.part.is_none() { "what stands from there on:" } else { "file" };
            writeln!(output, "  snapshot {}: {what} {path}", affected.snapshot)?;
        }
    }
    for container in &report.damaged_containers {
        writeln!(output, "damaged: the list of container {container}; the next collection rewrites it")?;
    }
    for file in &report.damaged_files {
        let is_repaired = report.repaired_files.contains(file);
        writeln!(output, "damaged: {file}{}", if is_repaired { " (repaired)" } else { "" })?;
    }
    if report.damaged_garbage > 0 {
        writeln!(output, "damaged: {} bytes that are not needed", report.damaged_garbage)?;
    }
    writeln!(output, "checked: {} chunks, {} bytes", report.chunks_checked, report.bytes_checked)?;
    Ok(is_well && report.is_clean())
}

fn tell_opened(opened: &Opened, output: &mut dyn Write) -> Result<bool, VaultToolError> {
    for finding in opened.findings() {
        writeln!(output, "{finding}")?;
    }
    Ok(opened.is_whole())
}

#[cfg(test)]
mod tests {
    use orbit_shared::chunk_hash::ChunkHash;
    use orbit_shared::words::JobId;

    use super::*;
    use crate::packed::StageId;

    fn run(command: &VaultCommand) -> (bool, String) {
        let mut output = Vec::new();
        let is_well = command.run(&mut output).unwrap();
        (is_well, String::from_utf8(output).unwrap())
    }

    #[test]
    fn a_vault_is_checked_and_its_index_rebuilt() {
        let dir = tempfile::tempdir().unwrap();
        let vault = dir.path().to_owned();
        let missing = VaultCommand::Check { vault: vault.clone() }.run(&mut Vec::new()).unwrap_err();
        assert!(missing.to_string().contains("no vault with packed data"), "{missing}");
        let store = PackedStore::open(&vault.join(PACKED), PackedConfig::default()).unwrap();
        let stage = StageId { job: JobId(1), destination: 0 };
        store.put(stage, ChunkHash::of(b"x"), b"x").unwrap();
        store.commit(stage, &[]).unwrap();
        drop(store);
        let (is_well, said) = run(&VaultCommand::Rebuild { vault: vault.clone() });
        assert!(is_well && said.contains("rebuilt: 1 chunks in 1 containers"), "{said}");
        let (is_well, said) = run(&VaultCommand::Check { vault: vault.clone() });
        assert!(is_well && said.contains("checked: 1 chunks, 1 bytes"), "{said}");

        let held = Vault::open(&vault, Uuid::from_u128(1)).unwrap();
        let refused = VaultCommand::Check { vault }.run(&mut Vec::new()).unwrap_err();
        assert!(matches!(refused, VaultToolError::Vault(VaultError::InUse { .. })));
        drop(held);
    }

    #[test]
    fn the_flags_are_well_formed() {
        <VaultFlags as clap::CommandFactory>::command().debug_assert();
        let flags = VaultFlags::try_parse_from(["orbit-star vault", "rebuild", "--vault", "/v"]).unwrap();
        assert_eq!(flags.command, VaultCommand::Rebuild { vault: "/v".into() });
    }
}
