//! Whatever may be asked of a vault, and whatever it may answer.

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::sweep::{SweepInfo, SweepRequest};
use orbit_shared::vault_call::{
    ChunkOrigin, ChunkPlace, CollectionInfo, ContainerInfo, DamagedInfo, FilePart, HealOrigin, HealRequest,
    Progress, Rename, Renames, ScrubInfo, SealRequest, SnapshotEntry, SnapshotInfo, VaultCall, VaultFailure,
    VaultProblem, VaultReply,
};
use orbit_shared::words::{JobId, SnapshotId};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{absolute_paths, counts, entries, many_counts, relative_paths, scans, star_ids, wall_times};

fn hashes() -> impl Strategy<Value = ChunkHash> {
    any::<[u8; 32]>().prop_map(ChunkHash)
}

fn ids() -> impl Strategy<Value = SnapshotId> {
    any::<[u8; 16]>().prop_map(SnapshotId)
}

fn snapshots() -> impl Strategy<Value = SnapshotInfo> {
    let source = (star_ids(), absolute_paths(), wall_times(), vec("[a-z]{1,8}", 0..4));
    (ids(), any::<(u64, u32, bool)>(), source, many_counts::<5>(), option::of(hashes())).prop_map(
        |(
            id,
            (job, destination, is_partial),
            (source_star, source_path, create_time, tags),
            counts,
            tree_hash,
        )| {
            let [entry_count, file_count, total_bytes, added_bytes, changed_count] = counts;
            SnapshotInfo {
                id,
                job: JobId(job),
                destination,
                source_star,
                source_path,
                create_time,
                tags,
                is_partial,
                entry_count,
                file_count,
                total_bytes,
                added_bytes,
                changed_count,
                tree_hash,
            }
        },
    )
}

fn renames() -> impl Strategy<Value = Renames> {
    let one = (relative_paths(), relative_paths(), counts()).prop_map(|(from, to, bytes)| Rename {
        from,
        to,
        bytes,
    });
    (vec(one, 0..4), 1..9_u64, counts()).prop_map(|(first, count, bytes)| Renames { first, count, bytes })
}

fn seals() -> impl Strategy<Value = SealRequest> {
    snapshots().prop_map(|info| SealRequest {
        job: info.job,
        destination: info.destination,
        source_star: info.source_star,
        source_path: info.source_path,
        create_time: info.create_time,
        tags: info.tags,
        is_partial: info.is_partial,
        entry_count: info.entry_count,
        changed_count: info.changed_count,
    })
}

fn parts() -> impl Strategy<Value = FilePart> {
    (relative_paths(), (counts(), any::<u32>(), counts()), wall_times()).prop_map(
        |(path, (offset, length, size), modified)| FilePart { path, offset, length, size, modified },
    )
}

pub(super) fn calls() -> impl Strategy<Value = VaultCall> {
    let lists = (ids(), relative_paths(), option::of(relative_paths()), 1..1000_usize).prop_map(
        |(snapshot, path, after, count_max)| VaultCall::ListEntries { snapshot, path, after, count_max },
    );
    let origins =
        (absolute_paths(), parts()).prop_map(|(source_path, part)| HealOrigin { source_path, part });
    let heals = (hashes(), star_ids(), any::<String>(), any::<String>(), option::of(origins)).prop_map(
        |(hash, source_star, source_address, token, origin)| {
            VaultCall::Heal(HealRequest { hash, source_star, source_address, token, origin })
        },
    );
    prop_oneof![
        seals().prop_map(VaultCall::Seal),
        any::<(u64, u32)>()
            .prop_map(|(job, destination)| VaultCall::Abandon { job: JobId(job), destination }),
        option::of(ids()).prop_map(|after| VaultCall::ListSnapshots { after }),
        prop_oneof![ids().prop_map(VaultCall::DeleteSnapshot), ids().prop_map(VaultCall::UndeleteSnapshot)],
        lists,
        (option::of("[0-9a-f]{1,9}"), 1..1000_usize)
            .prop_map(|(after, count_max)| VaultCall::ListContainers { after, count_max }),
        hashes().prop_map(VaultCall::LocateChunk),
        any::<(bool, bool)>()
            .prop_map(|(is_plan, ignores_undo_window)| VaultCall::Collect { is_plan, ignores_undo_window }),
        any::<(u64, bool)>().prop_map(|(bytes_per_second, is_everything)| VaultCall::Scrub {
            bytes_per_second,
            is_everything
        }),
        option::of(hashes()).prop_map(|after| VaultCall::ListDamaged { after }),
        heals,
        sweeps().prop_map(|sweep| VaultCall::Sweep(Box::new(sweep))),
    ]
}

fn sweeps() -> impl Strategy<Value = SweepRequest> {
    let source = (star_ids(), absolute_paths(), any::<String>(), any::<String>());
    (
        scans(),
        source,
        (any::<u32>(), counts(), any::<bool>(), any::<u32>()),
        option::of("[a-z.]{3,9}"),
        vec(relative_paths(), 0..3),
    )
        .prop_map(
            |(scan, (source_star, source_path, source_address, token), numbers, trash, skipped_mounts)| {
                let (destination, operation, is_plan, max_delete_percent) = numbers;
                SweepRequest {
                    scan,
                    destination,
                    operation,
                    is_plan,
                    trash: trash.filter(|name| name != ".."),
                    max_delete_percent,
                    source_star,
                    source_address,
                    source_path,
                    token,
                    skipped_mounts,
                }
            },
        )
}

fn swept() -> impl Strategy<Value = SweepInfo> {
    let counts = (many_counts::<6>(), any::<bool>());
    (progresses(), counts, vec(relative_paths(), 0..4), any::<String>()).prop_map(
        |(progress, (counts, is_refused), examples, problem)| {
            let [found, extra, extra_bytes, deleted, deleted_bytes, failed] = counts;
            SweepInfo {
                progress,
                found,
                extra,
                extra_bytes,
                deleted,
                deleted_bytes,
                failed,
                is_refused,
                examples,
                problem,
            }
        },
    )
}

fn progresses() -> impl Strategy<Value = Progress> {
    prop_oneof![Just(Progress::Running), Just(Progress::Done), Just(Progress::Failed)]
}

fn collections() -> impl Strategy<Value = CollectionInfo> {
    (progresses(), any::<bool>(), many_counts::<7>(), any::<String>()).prop_map(
        |(progress, is_plan, counts, problem)| CollectionInfo {
            progress,
            is_plan,
            dead_chunks: counts[0],
            dead_bytes: counts[1],
            waiting_chunks: counts[2],
            waiting_bytes: counts[3],
            removed_containers: counts[4],
            moved_bytes: counts[5],
            freed_bytes: counts[6],
            problem,
        },
    )
}

fn scrubs() -> impl Strategy<Value = ScrubInfo> {
    (progresses(), many_counts::<3>(), any::<String>()).prop_map(|(progress, counts, problem)| ScrubInfo {
        progress,
        checked_chunks: counts[0],
        checked_bytes: counts[1],
        damaged_chunks: counts[2],
        problem,
    })
}

fn places() -> impl Strategy<Value = ChunkPlace> {
    (any::<String>(), many_counts::<4>(), any::<bool>()).prop_map(|(container, counts, is_damaged)| {
        let [offset, stored_bytes, raw_bytes, reference_count] = counts;
        ChunkPlace { container, offset, stored_bytes, raw_bytes, reference_count, is_damaged }
    })
}

fn replies() -> impl Strategy<Value = VaultReply> {
    let stages = vec(any::<(u64, u32)>().prop_map(|(job, destination)| (JobId(job), destination)), 0..4);
    let listed = (entries(), counts(), any::<[u8; 32]>())
        .prop_map(|(entry, chunk_count, content_hash)| SnapshotEntry { entry, chunk_count, content_hash });
    let containers = ((any::<String>(), counts(), any::<bool>(), any::<bool>()), option::of(wall_times()))
        .prop_map(|((id, size_bytes, is_sealed, is_damaged), check_time)| ContainerInfo {
            id,
            size_bytes,
            is_sealed,
            is_damaged,
            check_time,
        });
    let origins = (ids(), parts()).prop_map(|(snapshot, part)| ChunkOrigin { snapshot, part });
    let affected = (vec((ids(), relative_paths()), 0..4), any::<bool>());
    let damaged = (hashes(), any::<String>(), affected, vec(origins, 0..4)).prop_map(
        |(hash, problem, (affected, is_partial), origins)| DamagedInfo {
            hash,
            problem,
            affected,
            is_partial,
            origins,
        },
    );
    prop_oneof![
        (snapshots(), prop_oneof![Just(Renames::default()), renames()])
            .prop_map(|(info, renames)| VaultReply::Sealed(info, renames)),
        Just(VaultReply::Done),
        (vec(snapshots(), 0..4), stages, any::<bool>())
            .prop_map(|(snapshots, stages, is_end)| VaultReply::Snapshots { snapshots, stages, is_end }),
        (vec(listed, 0..4), any::<bool>())
            .prop_map(|(entries, is_end)| VaultReply::Entries { entries, is_end }),
        (vec(containers, 0..4), any::<bool>())
            .prop_map(|(containers, is_end)| VaultReply::Containers { containers, is_end }),
        option::of(places()).prop_map(VaultReply::Located),
        collections().prop_map(VaultReply::Collection),
        scrubs().prop_map(VaultReply::Scrub),
        vec(damaged, 0..4).prop_map(VaultReply::Damaged),
        swept().prop_map(VaultReply::Swept),
    ]
}

pub(super) fn answers() -> impl Strategy<Value = Result<VaultReply, VaultProblem>> {
    let failures = prop_oneof![
        Just(VaultFailure::NotFound),
        Just(VaultFailure::Busy),
        Just(VaultFailure::Full),
        Just(VaultFailure::Damaged),
        Just(VaultFailure::Failed),
    ];
    let problems =
        (failures, any::<String>()).prop_map(|(failure, message)| Err(VaultProblem { failure, message }));
    prop_oneof![replies().prop_map(Ok), problems]
}
