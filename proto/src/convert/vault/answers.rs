//! What vaults answer.

use orbit_shared::sweep::{SWEEP_EXAMPLES_MAX, SweepInfo};
use orbit_shared::vault_call::{
    ChunkOrigin, DamagedInfo, Rename, Renames, VaultFailure, VaultProblem, VaultReply, limits,
};
use orbit_shared::words::JobId;

use super::{
    chunk_hash, converted, hash_to_wire, part_from_wire, part_to_wire, progress_from_wire, progress_to_wire,
    snapshot_id,
};
use crate::convert::entry::confined_path;
use crate::convert::{ConvertError, bounded, count, required, unknown_enum, words};
use crate::v1;
use crate::v1::session_vault_answer::Answer;

fn damaged_to_wire(info: DamagedInfo) -> v1::SessionDamagedChunk {
    let affected = info
        .affected
        .into_iter()
        .map(|(snapshot, path)| v1::SessionAffected { snapshot_id: snapshot.to_string(), path: path.into() });
    let origins = info.origins.into_iter().map(|origin| v1::SessionChunkOrigin {
        snapshot_id: origin.snapshot.to_string(),
        part: Some(part_to_wire(origin.part)),
    });
    v1::SessionDamagedChunk {
        chunk_hash: hash_to_wire(info.hash),
        affected: affected.collect(),
        problem: info.problem,
        is_partial: info.is_partial,
        origins: origins.collect(),
    }
}

fn damaged_from_wire(wire: v1::SessionDamagedChunk) -> Result<DamagedInfo, ConvertError> {
    let affected = bounded("affected", wire.affected, limits::AFFECTED_MAX)?;
    let affected = affected.into_iter().map(|one| {
        let id = snapshot_id("affected.snapshot_id", &one.snapshot_id)?;
        Ok((id, confined_path("affected.path", one.path)?))
    });
    let origins = bounded("origins", wire.origins, limits::ORIGINS_MAX)?;
    let origins = origins.into_iter().map(|one| {
        let snapshot = snapshot_id("origins.snapshot_id", &one.snapshot_id)?;
        Ok(ChunkOrigin { snapshot, part: part_from_wire(required("origins.part", one.part)?)? })
    });
    Ok(DamagedInfo {
        hash: chunk_hash("chunk_hash", &wire.chunk_hash)?,
        problem: words(&wire.problem),
        affected: affected.collect::<Result<_, ConvertError>>()?,
        is_partial: wire.is_partial,
        origins: origins.collect::<Result<_, ConvertError>>()?,
    })
}

fn reply_to_wire(reply: VaultReply) -> Answer {
    match reply {
        VaultReply::Sealed(info, _) => Answer::Sealed(info.into()),
        VaultReply::Done => Answer::Done(v1::SessionVaultDone {}),
        VaultReply::Snapshots { snapshots, stages, is_end } => Answer::Snapshots(v1::SessionSnapshots {
            snapshots: snapshots.into_iter().map(Into::into).collect(),
            stages: stages
                .into_iter()
                .map(|(job, destination)| v1::SessionStage { job_id: job.0, destination })
                .collect(),
            is_end,
        }),
        VaultReply::Entries { entries, is_end } => {
            let entries = entries.into_iter().map(Into::into).collect();
            Answer::Entries(v1::SessionEntries { entries, is_end })
        }
        VaultReply::Containers { containers, is_end } => {
            let containers = containers.into_iter().map(Into::into).collect();
            Answer::Containers(v1::SessionContainers { containers, is_end })
        }
        VaultReply::Located(place) => Answer::Located(v1::SessionLocated { location: place.map(Into::into) }),
        VaultReply::Collection(info) => Answer::Collection(info.into()),
        VaultReply::Scrub(info) => Answer::Scrub(info.into()),
        VaultReply::Damaged(chunks) => {
            let chunks = chunks.into_iter().map(damaged_to_wire).collect();
            Answer::Damaged(v1::SessionDamaged { chunks })
        }
        VaultReply::Swept(info) => Answer::Swept(swept_to_wire(info)),
    }
}

fn swept_to_wire(info: SweepInfo) -> v1::SessionSwept {
    v1::SessionSwept {
        progress: progress_to_wire(info.progress).into(),
        found_count: info.found,
        extra_count: info.extra,
        extra_bytes: info.extra_bytes,
        deleted_count: info.deleted,
        deleted_bytes: info.deleted_bytes,
        failed_count: info.failed,
        is_refused: info.is_refused,
        examples: info.examples.into_iter().map(Into::into).collect(),
        problem: info.problem,
    }
}

fn swept_from_wire(wire: v1::SessionSwept) -> Result<SweepInfo, ConvertError> {
    let examples = bounded("examples", wire.examples, SWEEP_EXAMPLES_MAX)?;
    Ok(SweepInfo {
        progress: progress_from_wire(wire.progress)?,
        found: count(wire.found_count),
        extra: count(wire.extra_count),
        extra_bytes: count(wire.extra_bytes),
        deleted: count(wire.deleted_count),
        deleted_bytes: count(wire.deleted_bytes),
        failed: count(wire.failed_count),
        is_refused: wire.is_refused,
        examples: examples
            .into_iter()
            .map(|path| confined_path("examples", path))
            .collect::<Result<_, _>>()?,
        problem: words(&wire.problem),
    })
}

/// An answer as it goes to the coordinator.
pub(in crate::convert) fn vault_answer_to_wire(
    request_id: u64,
    answer: Result<VaultReply, VaultProblem>,
) -> v1::SessionVaultAnswer {
    let renames = match &answer {
        Ok(VaultReply::Sealed(_, renames)) if renames.count > 0 => Some(renames_to_wire(renames)),
        Ok(_) | Err(_) => None,
    };
    let answer = match answer {
        Ok(reply) => reply_to_wire(reply),
        Err(problem) => {
            let failure = match problem.failure {
                VaultFailure::NotFound => v1::VaultFailure::NotFound,
                VaultFailure::Busy => v1::VaultFailure::Busy,
                VaultFailure::Full => v1::VaultFailure::Full,
                VaultFailure::Damaged => v1::VaultFailure::Damaged,
                VaultFailure::Failed => v1::VaultFailure::Failed,
            };
            Answer::Problem(v1::SessionVaultProblem { failure: failure.into(), message: problem.message })
        }
    };
    v1::SessionVaultAnswer { request_id, answer: Some(answer), renames }
}

fn renames_to_wire(renames: &Renames) -> v1::SessionRenames {
    let rename = |one: &Rename| v1::SessionRename {
        from_path: one.from.clone().into(),
        to_path: one.to.clone().into(),
        size_bytes: one.bytes,
    };
    v1::SessionRenames {
        first: renames.first.iter().map(rename).collect(),
        count: renames.count,
        size_bytes: renames.bytes,
    }
}

fn renames_from_wire(wire: v1::SessionRenames) -> Result<Renames, ConvertError> {
    let first = bounded("renames.first", wire.first, limits::RENAMES_MAX)?;
    let rename = |one: v1::SessionRename| {
        Ok(Rename {
            from: confined_path("renames.from_path", one.from_path)?,
            to: confined_path("renames.to_path", one.to_path)?,
            bytes: count(one.size_bytes),
        })
    };
    Ok(Renames {
        first: first.into_iter().map(rename).collect::<Result<_, ConvertError>>()?,
        count: count(wire.count),
        bytes: count(wire.size_bytes),
    })
}

/// An answer as it comes from a Star.
pub(in crate::convert) fn vault_answer_from_wire(
    wire: v1::SessionVaultAnswer,
) -> Result<(u64, Result<VaultReply, VaultProblem>), ConvertError> {
    let reply = match required("answer", wire.answer)? {
        Answer::Problem(problem) => {
            let failure = match v1::VaultFailure::try_from(problem.failure) {
                Ok(v1::VaultFailure::NotFound) => VaultFailure::NotFound,
                Ok(v1::VaultFailure::Busy) => VaultFailure::Busy,
                Ok(v1::VaultFailure::Full) => VaultFailure::Full,
                Ok(v1::VaultFailure::Damaged) => VaultFailure::Damaged,
                Ok(v1::VaultFailure::Failed) => VaultFailure::Failed,
                Ok(v1::VaultFailure::Unspecified) | Err(_) => {
                    return Err(unknown_enum("problem.failure", problem.failure));
                }
            };
            return Ok((wire.request_id, Err(VaultProblem { failure, message: words(&problem.message) })));
        }
        Answer::Sealed(info) => {
            let renames = wire.renames.map(renames_from_wire).transpose()?;
            VaultReply::Sealed(info.try_into()?, renames.unwrap_or_default())
        }
        Answer::Done(v1::SessionVaultDone {}) => VaultReply::Done,
        Answer::Snapshots(page) => VaultReply::Snapshots {
            snapshots: converted(bounded("snapshots", page.snapshots, limits::PAGE_MAX)?)?,
            stages: bounded("stages", page.stages, limits::STAGES_MAX)?
                .into_iter()
                .map(|stage| (JobId(stage.job_id), stage.destination))
                .collect(),
            is_end: page.is_end,
        },
        Answer::Entries(page) => VaultReply::Entries {
            entries: converted(bounded("entries", page.entries, limits::PAGE_MAX)?)?,
            is_end: page.is_end,
        },
        Answer::Containers(page) => VaultReply::Containers {
            containers: converted(bounded("containers", page.containers, limits::PAGE_MAX)?)?,
            is_end: page.is_end,
        },
        Answer::Located(located) => VaultReply::Located(located.location.map(Into::into)),
        Answer::Collection(info) => VaultReply::Collection(info.try_into()?),
        Answer::Scrub(info) => VaultReply::Scrub(info.try_into()?),
        Answer::Damaged(damaged) => VaultReply::Damaged(
            bounded("chunks", damaged.chunks, limits::DAMAGED_MAX)?
                .into_iter()
                .map(damaged_from_wire)
                .collect::<Result<_, _>>()?,
        ),
        Answer::Swept(info) => VaultReply::Swept(swept_from_wire(info)?),
    };
    Ok((wire.request_id, Ok(reply)))
}
