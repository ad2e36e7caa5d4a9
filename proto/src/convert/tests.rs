//! What is said arrives as it was said; what no honest peer says is refused, and nothing panics.

mod vault;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use orbit_shared::bulletin::Severity;
use orbit_shared::comparison::{Comparison, Unchanged};
use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::filter::FileLimits;
use orbit_shared::health_monitor::HealthSample;
use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::session::{
    AdvisoryKind, AdvisoryNotice, AssignedItem, Assignment, ChunkCounts, CoordinatorMessage, Failure,
    FailureCause, Fault, Heartbeat, Hello, ItemOutcome, ItemResult, Keys, LivePull, Notice, RenewedGrant,
    Report, Root, RootSpace, ScanBatch, ScanRequest, StarMessage, limits,
};
use orbit_shared::time::WallTime;
use orbit_shared::trace_context::TraceContext;
use orbit_shared::words::{AssignmentId, Epoch, JobId, Layout, SnapshotId, StarId};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use prost::Message as _;
use uuid::Uuid;

use super::ConvertError;
use crate::v1;

/// Numbers that an honest peer may say of anything.
fn counts() -> impl Strategy<Value = u64> {
    0..=limits::BYTES_MAX
}

fn many_counts<const N: usize>() -> impl Strategy<Value = [u64; N]> {
    any::<[u64; N]>().prop_map(|numbers| numbers.map(|number| number / 2))
}

fn lifecycles() -> impl Strategy<Value = LifecycleState> {
    prop_oneof![
        Just(LifecycleState::Registered),
        Just(LifecycleState::Scheduled),
        Just(LifecycleState::Draining),
        Just(LifecycleState::Shutdown),
    ]
}

fn components() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..12).prop_map(|mut bytes| {
        bytes.iter_mut().filter(|byte| matches!(**byte, 0 | b'/')).for_each(|byte| *byte = b'x');
        if bytes == b"." || bytes == b".." { b"dots".to_vec() } else { bytes }
    })
}

fn relative_paths() -> impl Strategy<Value = Vec<u8>> {
    vec(components(), 0..4).prop_map(|parts| parts.join(&b'/'))
}

fn absolute_paths() -> impl Strategy<Value = Vec<u8>> {
    relative_paths().prop_map(|path| [b"/".as_slice(), &path].concat())
}

fn durations() -> impl Strategy<Value = Duration> {
    (0..300_000_000_000_u64, 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

fn star_ids() -> impl Strategy<Value = StarId> {
    (0..100_u32).prop_map(|number| StarId::new(format!("star-{number}")).unwrap())
}

fn kinds() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        counts().prop_map(|size| EntryKind::File { size }),
        components().prop_map(|target| EntryKind::Symlink { target }),
        any::<i32>().prop_map(|errno| EntryKind::Unreadable { errno }),
        Just(EntryKind::Directory),
        Just(EntryKind::Fifo),
        Just(EntryKind::Socket),
        Just(EntryKind::CharacterDevice),
        Just(EntryKind::BlockDevice),
    ]
}

fn entries() -> impl Strategy<Value = Entry> {
    (relative_paths(), kinds(), 0..=0o7777_u32, any::<i64>(), 0..1_000_000_000_u32, any::<u8>()).prop_map(
        |(path, kind, mode, seconds, nanos, rank)| Entry {
            path,
            kind,
            mode,
            modified: WallTime { seconds, nanos },
            rank,
        },
    )
}

fn wall_times() -> impl Strategy<Value = WallTime> {
    (any::<i64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| WallTime { seconds, nanos })
}

fn failures() -> impl Strategy<Value = Failure> {
    let causes = prop_oneof![
        Just(FailureCause::Transient),
        Just(FailureCause::Permanent),
        Just(FailureCause::ChecksumMismatch),
        Just(FailureCause::SourceMissing),
        Just(FailureCause::DestinationError),
        Just(FailureCause::DataCorruption),
        Just(FailureCause::InTheWay),
    ];
    let faults =
        prop_oneof![Just(Fault::Item), Just(Fault::Source), Just(Fault::Destination), Just(Fault::Link)];
    (causes, faults, any::<String>()).prop_map(|(cause, fault, message)| Failure { cause, fault, message })
}

fn outcomes() -> impl Strategy<Value = ItemOutcome> {
    let results = prop_oneof![
        (counts(), counts(), counts(), durations(), any::<bool>(), many_counts::<4>()).prop_map(
            |(size, bytes_transferred, bytes_deduplicated, duration, is_changed, chunks)| {
                let [transferred, deduplicated, packed, packed_bytes] = chunks;
                ItemResult::Stored {
                    size,
                    bytes_transferred,
                    bytes_deduplicated,
                    duration,
                    is_changed,
                    chunks: ChunkCounts { transferred, deduplicated, packed, packed_bytes },
                }
            }
        ),
        Just(ItemResult::Skipped),
        failures().prop_map(ItemResult::Failed),
    ];
    (counts(), results).prop_map(|(sequence, result)| ItemOutcome { sequence, result })
}

fn advisories() -> impl Strategy<Value = AdvisoryNotice> {
    let kinds = prop_oneof![
        Just(AdvisoryKind::Healthy),
        Just(AdvisoryKind::DiskCritical),
        Just(AdvisoryKind::DiskWarning),
        Just(AdvisoryKind::DiskExhaustionPredicted),
        Just(AdvisoryKind::ThroughputLow),
        Just(AdvisoryKind::ErrorRateHigh),
    ];
    (kinds, any::<String>(), counts()).prop_map(|(kind, message, seconds)| AdvisoryNotice {
        kind,
        message,
        predicted_seconds: (kind == AdvisoryKind::DiskExhaustionPredicted).then_some(seconds),
    })
}

fn samples() -> impl Strategy<Value = HealthSample> {
    many_counts::<5>().prop_map(|numbers| HealthSample {
        disk_available_bytes: numbers[0],
        disk_total_bytes: numbers[1],
        throughput_bytes_per_sec: numbers[2],
        error_count: numbers[3],
        total_operations: numbers[4],
        ..HealthSample::default()
    })
}

fn keys() -> impl Strategy<Value = Keys> {
    let grants = (assignment_ids(), any::<String>())
        .prop_map(|(assignment, token)| RenewedGrant { assignment, token });
    let live =
        (any::<u64>(), star_ids()).prop_map(|(job, destination)| LivePull { job: JobId(job), destination });
    (vec(vec(any::<u8>(), 0..40), 0..4), vec(grants, 0..4), vec(live, 0..4))
        .prop_map(|(public, grants, live)| Keys { public, grants, live })
}

fn assignment_ids() -> impl Strategy<Value = AssignmentId> {
    counts().prop_map(AssignmentId)
}

fn hellos() -> impl Strategy<Value = Hello> {
    let roots =
        (absolute_paths(), any::<bool>()).prop_map(|(path, is_read_only)| Root { path, is_read_only });
    let who = (star_ids(), any::<u128>(), any::<u128>(), "[a-z.:0-9]{0,20}", any::<String>());
    let labels = btree_map(any::<String>(), any::<String>(), 0..4);
    let begun = proptest::option::of(vec(assignment_ids(), 0..9));
    let past = (vec(assignment_ids(), 0..9), begun, proptest::option::of(any::<u128>()));
    (who, vec(roots, 0..4), labels, past, lifecycles()).prop_map(
        |((star_id, identity, instance, data_address, version), roots, labels, past, lifecycle)| Hello {
            star_id,
            identity: Uuid::from_u128(identity),
            instance: Uuid::from_u128(instance),
            data_address,
            roots,
            labels,
            version,
            held: past.0,
            lifecycle,
            begun: past.1,
            grid: past.2.map(Uuid::from_u128),
            semantic_rules: vec!["critical: *.sql".to_owned()],
        },
    )
}

fn heartbeats() -> impl Strategy<Value = Heartbeat> {
    let progress = vec((assignment_ids(), counts()), 0..9);
    let sample = proptest::option::of(samples());
    let space =
        (absolute_paths(), counts()).prop_map(|(path, available_bytes)| RootSpace { path, available_bytes });
    let counts = any::<[u32; 2]>();
    let vault = (proptest::option::of(self::counts()), proptest::option::of(samples()));
    (lifecycles(), counts, sample, vec(advisories(), 0..6), progress, vec(space, 0..4), vault).prop_map(
        |(lifecycle, [active_tasks, served_pulls], sample, advisories, progress, root_space, vault)| {
            let (vault_bytes, vault_sample) = vault;
            Heartbeat {
                lifecycle,
                active_tasks,
                served_pulls,
                sample,
                advisories,
                progress,
                root_space,
                vault_bytes,
                vault_sample,
            }
        },
    )
}

fn star_messages() -> impl Strategy<Value = StarMessage> {
    let reports = (1..u64::MAX, assignment_ids(), vec(outcomes(), 0..6))
        .prop_map(|(number, assignment, outcomes)| Report { number, assignment, outcomes });
    let failure = proptest::option::of(failures());
    let batches = (counts(), 1..u64::MAX, vec(entries(), 0..6), any::<bool>(), failure).prop_map(
        |(scan, number, entries, is_last, failure)| ScanBatch {
            scan,
            number,
            entries,
            is_last: is_last || failure.is_some(),
            failure,
            matched: vec![0, u32::try_from(number % 1000).unwrap()],
            skipped_mounts: vec![b"mnt/\xff".to_vec(); (number % 3) as usize],
        },
    );
    prop_oneof![
        hellos().prop_map(StarMessage::Hello),
        heartbeats().prop_map(StarMessage::Heartbeat),
        reports.prop_map(StarMessage::Report),
        batches.prop_map(StarMessage::ScanBatch),
        (lifecycles(), any::<String>())
            .prop_map(|(state, reason)| StarMessage::LifecycleChanged { state, reason }),
        any::<String>().prop_map(|reason| StarMessage::DrainRequested { reason }),
        (counts(), vec(any::<u8>(), 0..128)).prop_map(|(request, bytes)| StarMessage::Compared {
            request,
            unchanged: Unchanged::from_bytes(bytes),
        }),
        (counts(), vault::answers())
            .prop_map(|(request, answer)| StarMessage::VaultAnswered { request, answer }),
        (counts(), any::<String>())
            .prop_map(|(chunks, problem)| StarMessage::DamageFound { chunks, problem }),
        (prop::sample::select(&Severity::ALL[..]), any::<(String, String)>()).prop_map(
            |(severity, (category, text))| StarMessage::Noticed(Notice { severity, category, text })
        ),
    ]
}

fn assignments() -> impl Strategy<Value = Assignment> {
    let items = (counts(), entries()).prop_map(|(sequence, entry)| AssignedItem { sequence, entry });
    let paths = (absolute_paths(), prop_oneof![Just(Vec::new()), absolute_paths()]);
    let source = (star_ids(), any::<String>(), any::<String>());
    (many_counts::<2>(), (any::<u32>(), any::<bool>()), source, paths, vec(items, 1..6)).prop_map(
        |([id, job], (destination, is_check_only), (source_star, source_address, token), paths, items)| {
            Assignment {
                id: AssignmentId(id),
                job: JobId(job),
                destination,
                source_star,
                source_address,
                source_path: paths.0,
                destination_path: paths.1,
                token,
                items,
                is_check_only,
                layout: if is_check_only { Layout::Packed } else { Layout::Files },
                source_snapshot: is_check_only.then_some(SnapshotId([7; 16])),
                keeps_directory_times: !is_check_only,
                compares_content: is_check_only,
                trace: TraceContext::new(u128::from(id), job, is_check_only),
            }
        },
    )
}

fn scans() -> impl Strategy<Value = ScanRequest> {
    let globs = || vec(any::<String>(), 0..4);
    (many_counts::<2>(), absolute_paths(), globs(), globs(), proptest::option::of(relative_paths())).prop_map(
        |([scan, job], path, include, exclude, resume_after)| ScanRequest {
            scan,
            job: JobId(job),
            path,
            include,
            exclude,
            resume_after,
            limits: FileLimits {
                min_size: scan / 2,
                max_size: (job % 3 == 0).then_some(job),
                modified_after: (job % 2 == 0).then_some(WallTime { seconds: -7, nanos: 3 }),
                modified_before: (job % 5 == 0).then_some(WallTime { seconds: 9, nanos: 0 }),
            },
            snapshot: (scan % 2 == 1).then_some(SnapshotId([9; 16])),
            trace: TraceContext::new(u128::from(job), scan, scan % 2 == 1),
            paths: vec![b"a/\xff".to_vec(); (scan % 3) as usize],
            is_one_file_system: job % 2 == 1,
        },
    )
}

fn coordinator_messages() -> impl Strategy<Value = CoordinatorMessage> {
    let welcomes = (many_counts::<2>(), 1..u32::MAX, any::<u32>(), vec(assignment_ids(), 0..9)).prop_map(
        |([epoch, grid], interval_ms, extra_ms, kept)| CoordinatorMessage::Welcome {
            epoch: Epoch(epoch),
            heartbeat_interval: Duration::from_millis(u64::from(interval_ms)),
            lease: Duration::from_millis(u64::from(interval_ms) + u64::from(extra_ms)),
            kept,
            grid: (grid % 2 == 1).then_some(Uuid::from_u128(u128::from(grid))),
        },
    );
    prop_oneof![
        welcomes,
        keys().prop_map(CoordinatorMessage::VerificationKeys),
        (lifecycles(), any::<String>())
            .prop_map(|(state, reason)| CoordinatorMessage::SetLifecycle { state, reason }),
        assignments().prop_map(CoordinatorMessage::Assign),
        (assignment_ids(), any::<bool>())
            .prop_map(|(assignment, is_job_over)| CoordinatorMessage::Withdraw { assignment, is_job_over }),
        counts().prop_map(|job| CoordinatorMessage::JobEnded { job: JobId(job) }),
        scans().prop_map(CoordinatorMessage::StartScan),
        many_counts::<2>().prop_map(|[scan, number]| CoordinatorMessage::ScanAcknowledged { scan, number }),
        counts().prop_map(|scan| CoordinatorMessage::CancelScan { scan }),
        counts().prop_map(|number| CoordinatorMessage::ReportsAcknowledged { number }),
        (counts(), absolute_paths(), vec(entries().prop_map(Arc::new), 0..4)).prop_map(
            |(request, path, entries)| CoordinatorMessage::Compare {
                request,
                comparison: Comparison { path, entries },
            },
        ),
        (counts(), vault::calls())
            .prop_map(|(request, call)| CoordinatorMessage::CallVault { request, call }),
    ]
}

proptest! {
    #[test]
    fn what_a_star_says_arrives_as_it_was_said(message in star_messages()) {
        let bytes = v1::ConnectRequest::from(message.clone()).encode_to_vec();
        let wire = v1::ConnectRequest::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(StarMessage::try_from(wire), Ok(message));
    }

    #[test]
    fn what_the_coordinator_says_arrives_as_it_was_said(message in coordinator_messages()) {
        let bytes = v1::ConnectResponse::from(message.clone()).encode_to_vec();
        let wire = v1::ConnectResponse::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(CoordinatorMessage::try_from(wire), Ok(message));
    }

    /// Damaged encodings of real messages reach much deeper than random bytes do.
    #[test]
    fn a_damaged_message_is_refused_or_read_but_never_a_panic(
        star in star_messages(),
        coordinator in coordinator_messages(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        noise in vec(any::<u8>(), 0..64),
    ) {
        let star = v1::ConnectRequest::from(star).encode_to_vec();
        let coordinator = v1::ConnectResponse::from(coordinator).encode_to_vec();
        for mut bytes in [star, coordinator, noise] {
            for (place, value) in &damage {
                if !bytes.is_empty() {
                    let place = place.index(bytes.len());
                    bytes[place] = *value;
                }
            }
            let _ = v1::ConnectRequest::decode(bytes.as_slice()).map(StarMessage::try_from);
            let _ = v1::ConnectResponse::decode(bytes.as_slice()).map(CoordinatorMessage::try_from);
        }
    }
}

fn hello() -> v1::SessionHello {
    Hello {
        star_id: StarId::new("star-1").unwrap(),
        identity: Uuid::from_u128(1),
        instance: Uuid::from_u128(2),
        data_address: "127.0.0.1:7200".to_owned(),
        roots: Vec::new(),
        labels: BTreeMap::new(),
        version: "0".to_owned(),
        held: Vec::new(),
        lifecycle: LifecycleState::Registered,
        begun: None,
        grid: None,
        semantic_rules: Vec::new(),
    }
    .into()
}

fn refused_hello(change: impl FnOnce(&mut v1::SessionHello)) -> String {
    let mut wire = hello();
    change(&mut wire);
    let message = Some(v1::connect_request::Message::Hello(wire));
    StarMessage::try_from(v1::ConnectRequest { message }).unwrap_err().field
}

#[test]
fn a_bad_field_of_a_hello_is_named() {
    assert_eq!(refused_hello(|hello| hello.star_id = "no/slash".to_owned()), "hello.star_id");
    assert_eq!(refused_hello(|hello| hello.identity = vec![1; 15].into()), "hello.identity");
    assert_eq!(refused_hello(|hello| hello.instance = vec![1; 17].into()), "hello.instance");
    assert_eq!(refused_hello(|hello| hello.lifecycle = 0), "hello.lifecycle");
    assert_eq!(refused_hello(|hello| hello.lifecycle = 99), "hello.lifecycle");
    assert_eq!(refused_hello(|hello| hello.held = vec![1; limits::HELD_MAX + 1]), "hello.held");
    let root = |path: &'static [u8]| v1::SessionRoot { path: path.into(), is_read_only: false };
    for path in [&b""[..], b"relative", b"/a/../b", b"/a\0"] {
        assert_eq!(refused_hello(|hello| hello.roots = vec![root(path)]), "hello.roots.path");
    }
}

#[test]
fn a_message_without_content_is_refused() {
    let missing = Err(ConvertError::new("message", "is missing"));
    assert_eq!(StarMessage::try_from(v1::ConnectRequest { message: None }), missing);
    let missing = Err(ConvertError::new("message", "is missing"));
    assert_eq!(CoordinatorMessage::try_from(v1::ConnectResponse { message: None }), missing);
}

fn tree_entry(path: &'static [u8]) -> v1::TreeEntry {
    v1::TreeEntry {
        path: path.into(),
        mode: 0o644,
        modify_time: Some(prost_types::Timestamp::default()),
        rank: 50,
        kind: Some(v1::tree_entry::Kind::File(v1::FileKind { size_bytes: 1 })),
    }
}

fn refused_entry(change: impl FnOnce(&mut v1::TreeEntry)) -> String {
    let mut wire = tree_entry(b"a/b");
    change(&mut wire);
    Entry::try_from(wire).unwrap_err().field
}

#[test]
fn an_entry_that_could_escape_or_mislead_is_refused() {
    for path in [&b"/etc/passwd"[..], b"../up", b"a/../../b", b"a//b", b"a/", b"nul\0"] {
        assert_eq!(refused_entry(|entry| entry.path = path.into()), "path");
    }
    assert_eq!(refused_entry(|entry| entry.mode = 0o10000), "mode");
    assert_eq!(refused_entry(|entry| entry.rank = 256), "rank");
    assert_eq!(refused_entry(|entry| entry.kind = None), "kind");
    assert_eq!(refused_entry(|entry| entry.modify_time = None), "modify_time");
    let symlink = |target: &'static [u8]| {
        Some(v1::tree_entry::Kind::Symlink(v1::SymlinkKind { target: target.into() }))
    };
    assert_eq!(refused_entry(|entry| entry.kind = symlink(b"")), "symlink.target");
    assert_eq!(refused_entry(|entry| entry.kind = Some(v1::tree_entry::Kind::Special(0))), "special");
}

#[test]
fn a_list_above_its_bound_is_refused_by_name() {
    let batch = v1::SessionScanBatch {
        scan_id: 1,
        number: 1,
        entries: vec![tree_entry(b"a"); limits::SCAN_BATCH_ENTRIES_MAX + 1],
        is_last: false,
        failure: None,
        matched: Vec::new(),
        skipped_mounts: Vec::new(),
    };
    assert_eq!(ScanBatch::try_from(batch).unwrap_err().field, "entries");
    let item = v1::AssignedItem { sequence: 1, entry: Some(tree_entry(b"a")) };
    let assignment = |items| v1::SessionAssignment {
        source_star_id: "s".to_owned(),
        source_path: b"/s"[..].into(),
        items,
        ..v1::SessionAssignment::default()
    };
    assert_eq!(Assignment::try_from(assignment(Vec::new())).unwrap_err().field, "items");
    let crowd = vec![item.clone(); limits::ASSIGNMENT_ITEMS_MAX + 1];
    assert_eq!(Assignment::try_from(assignment(crowd)).unwrap_err().field, "items");
    assert!(Assignment::try_from(assignment(vec![item])).is_ok());
}

#[test]
fn names_and_paths_that_are_too_long_and_sizes_that_no_file_has_are_refused() {
    let long = "x".repeat(limits::NAME_BYTES_MAX + 1);
    assert_eq!(refused_hello(|hello| hello.version = long.clone()), "hello.version");
    assert_eq!(refused_hello(|hello| hello.data_address = long.clone()), "hello.data_address");
    let labels = |hello: &mut v1::SessionHello| drop(hello.labels.insert("key".to_owned(), long.clone()));
    assert_eq!(refused_hello(labels), "hello.labels");
    let path = [b"/".as_slice(), &vec![b'x'; limits::ABSOLUTE_PATH_BYTES_MAX]].concat();
    let root = v1::SessionRoot { path: path.into(), is_read_only: false };
    assert_eq!(refused_hello(|hello| hello.roots.push(root.clone())), "hello.roots.path");
    let path = vec![b'x'; limits::ENTRY_PATH_BYTES_MAX + 1];
    assert_eq!(refused_entry(|entry| entry.path = path.clone().into()), "path");
    let file = v1::tree_entry::Kind::File(v1::FileKind { size_bytes: limits::BYTES_MAX + 1 });
    assert_eq!(refused_entry(|entry| entry.kind = Some(file)), "file.size_bytes");
    let stored = v1::ItemStored { size_bytes: u64::MAX, ..v1::ItemStored::default() };
    let stored = v1::item_outcome::Result::Stored(v1::ItemStored {
        duration: Some(prost_types::Duration::default()),
        ..stored
    });
    let refused = ItemOutcome::try_from(v1::ItemOutcome { sequence: 1, result: Some(stored) }).unwrap_err();
    assert_eq!(refused.field, "stored.size_bytes");
}

#[test]
fn long_words_are_cut_and_not_refused() {
    let message = "x".repeat(10 * limits::WORDS_BYTES_MAX);
    let failure = v1::ItemFailure {
        cause: v1::FailureCause::Permanent.into(),
        fault: v1::Fault::Item.into(),
        message: message.clone(),
    };
    let failure = Failure::try_from(failure).unwrap();
    assert!(failure.message.len() <= limits::WORDS_BYTES_MAX && failure.message.starts_with("xxx"));
    let notice =
        v1::SessionNotice { severity: v1::Severity::Info.into(), category: message.clone(), text: message };
    let notice = Notice::try_from(notice).unwrap();
    assert!(
        notice.text.len() <= limits::NOTICE_BYTES_MAX && notice.category.len() <= limits::NOTICE_BYTES_MAX
    );
}

#[test]
fn a_duration_out_of_range_is_refused() {
    use super::{duration_from_wire, duration_to_wire};
    for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000), (315_576_000_001, 0), (i64::MAX, 0)] {
        assert!(
            duration_from_wire("d", &prost_types::Duration { seconds, nanos }).is_err(),
            "{seconds} {nanos}"
        );
    }
    let longest = duration_to_wire(Duration::MAX);
    assert_eq!(duration_from_wire("d", &longest), Ok(Duration::from_secs(315_576_000_000)));
}

#[test]
fn a_lease_shorter_than_a_heartbeat_is_refused() {
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let welcome = |interval, lease| {
        let welcome = v1::SessionWelcome {
            epoch: 1,
            heartbeat_interval: interval,
            lease,
            kept: Vec::new(),
            grid: Bytes::new(),
        };
        let message = Some(v1::connect_response::Message::Welcome(welcome));
        CoordinatorMessage::try_from(v1::ConnectResponse { message }).map_err(|error| error.field)
    };
    assert_eq!(welcome(seconds(0), seconds(9)), Err("welcome.heartbeat_interval".to_owned()));
    assert_eq!(welcome(seconds(5), seconds(4)), Err("welcome.lease".to_owned()));
    assert_eq!(welcome(seconds(5), None), Err("welcome.lease".to_owned()));
    assert!(welcome(seconds(5), seconds(15)).is_ok());
}
