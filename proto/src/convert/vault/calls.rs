//! Calls of vaults.

use bytes::Bytes;
use orbit_shared::entry::is_confined;
use orbit_shared::session::limits;
use orbit_shared::sweep::SweepRequest;
use orbit_shared::vault_call::{HealOrigin, HealRequest, VaultCall};
use orbit_shared::words::JobId;

use super::{
    chunk_hash, count_to_wire, hash_to_wire, optional_snapshot_id, page_size, part_from_wire, part_to_wire,
    snapshot_id, snapshot_id_to_wire, star_id,
};
use crate::convert::entry::{absolute_path, confined_path};
use crate::convert::{ConvertError, bounded, required};
use crate::v1;
use crate::v1::session_vault_call::Call;

/// A call as it goes to a Star.
pub(in crate::convert) fn vault_call_to_wire(request_id: u64, call: VaultCall) -> v1::SessionVaultCall {
    let call = match call {
        VaultCall::Seal(seal) => Call::Seal(seal.into()),
        VaultCall::Abandon { job, destination } => {
            Call::Abandon(v1::SessionStage { job_id: job.0, destination })
        }
        VaultCall::ListSnapshots { after } => {
            Call::ListSnapshots(v1::SessionListSnapshots { after_id: snapshot_id_to_wire(after) })
        }
        VaultCall::DeleteSnapshot(id) => {
            Call::DeleteSnapshot(v1::SessionDeleteSnapshot { snapshot_id: id.to_string() })
        }
        VaultCall::UndeleteSnapshot(id) => {
            Call::UndeleteSnapshot(v1::SessionUndeleteSnapshot { snapshot_id: id.to_string() })
        }
        VaultCall::ListEntries { snapshot, path, after, count_max } => {
            Call::ListEntries(v1::SessionListEntries {
                snapshot_id: snapshot.to_string(),
                path: path.into(),
                after: after.map(Bytes::from),
                count_max: count_to_wire(count_max),
            })
        }
        VaultCall::ListContainers { after, count_max } => Call::ListContainers(v1::SessionListContainers {
            after_id: after.unwrap_or_default(),
            count_max: count_to_wire(count_max),
        }),
        VaultCall::LocateChunk(hash) => {
            Call::LocateChunk(v1::SessionLocateChunk { chunk_hash: hash_to_wire(hash) })
        }
        VaultCall::Collect { is_plan, ignores_undo_window } => {
            Call::Collect(v1::SessionCollect { is_plan, ignores_undo_window })
        }
        VaultCall::Scrub { bytes_per_second, is_everything } => {
            Call::Scrub(v1::SessionScrub { bytes_per_second, is_everything })
        }
        VaultCall::ListDamaged { after } => Call::ListDamaged(v1::SessionListDamaged {
            after_hash: after.map(hash_to_wire).unwrap_or_default(),
        }),
        VaultCall::Heal(heal) => Call::Heal(v1::SessionHeal {
            chunk_hash: hash_to_wire(heal.hash),
            source_star_id: heal.source_star.into(),
            source_address: heal.source_address,
            token: heal.token,
            origin: heal.origin.map(|origin| v1::SessionHealOrigin {
                source_path: origin.source_path.into(),
                part: Some(part_to_wire(origin.part)),
            }),
        }),
        VaultCall::Sweep(sweep) => Call::Sweep(sweep_to_wire(*sweep)),
    };
    v1::SessionVaultCall { request_id, call: Some(call) }
}

/// A call as it comes from the coordinator.
pub(in crate::convert) fn vault_call_from_wire(
    wire: v1::SessionVaultCall,
) -> Result<(u64, VaultCall), ConvertError> {
    let call = match required("call", wire.call)? {
        Call::Seal(seal) => VaultCall::Seal(seal.try_into()?),
        Call::Abandon(stage) => {
            VaultCall::Abandon { job: JobId(stage.job_id), destination: stage.destination }
        }
        Call::ListSnapshots(list) => {
            VaultCall::ListSnapshots { after: optional_snapshot_id("after_id", &list.after_id)? }
        }
        Call::DeleteSnapshot(delete) => {
            VaultCall::DeleteSnapshot(snapshot_id("snapshot_id", &delete.snapshot_id)?)
        }
        Call::UndeleteSnapshot(undelete) => {
            VaultCall::UndeleteSnapshot(snapshot_id("snapshot_id", &undelete.snapshot_id)?)
        }
        Call::ListEntries(list) => VaultCall::ListEntries {
            snapshot: snapshot_id("snapshot_id", &list.snapshot_id)?,
            path: confined_path("path", list.path)?,
            after: list.after.map(|path| confined_path("after", path)).transpose()?,
            count_max: page_size("count_max", list.count_max)?,
        },
        Call::ListContainers(list) => VaultCall::ListContainers {
            after: (!list.after_id.is_empty()).then_some(list.after_id),
            count_max: page_size("count_max", list.count_max)?,
        },
        Call::LocateChunk(locate) => VaultCall::LocateChunk(chunk_hash("chunk_hash", &locate.chunk_hash)?),
        Call::Collect(collect) => {
            VaultCall::Collect { is_plan: collect.is_plan, ignores_undo_window: collect.ignores_undo_window }
        }
        Call::Scrub(scrub) => {
            VaultCall::Scrub { bytes_per_second: scrub.bytes_per_second, is_everything: scrub.is_everything }
        }
        Call::ListDamaged(list) => VaultCall::ListDamaged {
            after: match list.after_hash.as_ref() {
                [] => None,
                hash => Some(chunk_hash("after_hash", hash)?),
            },
        },
        Call::Heal(heal) => VaultCall::Heal(HealRequest {
            hash: chunk_hash("chunk_hash", &heal.chunk_hash)?,
            source_star: star_id("source_star_id", heal.source_star_id)?,
            source_address: heal.source_address,
            token: heal.token,
            origin: heal.origin.map(origin_from_wire).transpose()?,
        }),
        Call::Sweep(sweep) => VaultCall::Sweep(Box::new(sweep_from_wire(sweep)?)),
    };
    Ok((wire.request_id, call))
}

fn origin_from_wire(wire: v1::SessionHealOrigin) -> Result<HealOrigin, ConvertError> {
    Ok(HealOrigin {
        source_path: absolute_path("origin.source_path", wire.source_path)?,
        part: part_from_wire(required("origin.part", wire.part)?)?,
    })
}

fn sweep_to_wire(sweep: SweepRequest) -> v1::SessionSweep {
    v1::SessionSweep {
        scan: Some(sweep.scan.into()),
        destination: sweep.destination,
        operation: sweep.operation,
        is_plan: sweep.is_plan,
        trash_directory: sweep.trash.unwrap_or_default(),
        max_delete_percent: sweep.max_delete_percent,
        source_star_id: sweep.source_star.into(),
        source_address: sweep.source_address,
        source_path: sweep.source_path.into(),
        token: sweep.token,
        skipped_mounts: sweep.skipped_mounts.into_iter().map(Into::into).collect(),
    }
}

fn sweep_from_wire(wire: v1::SessionSweep) -> Result<SweepRequest, ConvertError> {
    let trash = Some(wire.trash_directory).filter(|name| !name.is_empty());
    if trash.as_deref().is_some_and(|name| name.contains('/') || !is_confined(name.as_bytes())) {
        return Err(ConvertError::new("trash_directory", "is no single name"));
    }
    Ok(SweepRequest {
        scan: required("scan", wire.scan)?.try_into().map_err(|error: ConvertError| error.within("scan"))?,
        destination: wire.destination,
        operation: wire.operation,
        is_plan: wire.is_plan,
        trash,
        max_delete_percent: wire.max_delete_percent,
        source_star: star_id("source_star_id", wire.source_star_id)?,
        source_address: wire.source_address,
        source_path: absolute_path("source_path", wire.source_path)?,
        token: wire.token,
        skipped_mounts: bounded("skipped_mounts", wire.skipped_mounts, limits::SKIPPED_MOUNTS_KEPT_MAX)?
            .into_iter()
            .map(|path| confined_path("skipped_mounts", path))
            .collect::<Result<_, _>>()?,
    })
}
