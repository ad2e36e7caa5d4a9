//! What must not happen: partial files, paths that lead outside, wrong content, service without a capability.

#![allow(clippy::unwrap_used, reason = "this is test code, also outside of test functions")]

mod support;

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use orbit_proto::v1 as wire;
use orbit_proto::v1::transfer_service_server::{TransferService, TransferServiceServer};
use orbit_shared::capability::CapabilitySigner;
use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::session::{FailureCause, Fault, ItemResult};
use orbit_shared::time::WallTime;
use orbit_shared::words::JobId;
use orbit_star::in_force::InForce;
use support::{Pair, failure, noise, temporaries};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

fn file(path: &str, size: u64) -> Entry {
    Entry {
        path: path.as_bytes().to_vec(),
        kind: EntryKind::File { size },
        mode: 0o644,
        modified: WallTime { seconds: 1, nanos: 2 },
        rank: 0,
    }
}

/// A source that answers every fetch with `answer`, whatever was requested.
struct FakeSource {
    answer: fn(&wire::PullFetch) -> wire::PullResponse,
}

#[tonic::async_trait]
impl TransferService for FakeSource {
    type PullStream = Pin<Box<dyn Stream<Item = Result<wire::PullResponse, Status>> + Send>>;

    async fn pull(
        &self,
        request: Request<Streaming<wire::PullRequest>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let answer = self.answer;
        let answers = request.into_inner().flat_map(move |request| {
            let fetches = match request.unwrap().request {
                Some(wire::pull_request::Request::Fetches(fetches)) => fetches.fetches,
                Some(wire::pull_request::Request::Open(_)) | None => vec![],
            };
            futures::stream::iter(fetches.into_iter().map(move |fetch| Ok(answer(&fetch))))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

fn response(fetch: &wire::PullFetch, hashed: &[u8], sent: &'static [u8], size: u64) -> wire::PullResponse {
    let version = wire::FileVersion { size_bytes: size, mode: 0o644, ..Default::default() };
    let frame = wire::PullFrame {
        fetch_id: fetch.fetch_id,
        version: Some(version),
        hashes: Bytes::copy_from_slice(blake3::hash(hashed).as_bytes()),
        chunk_lengths: vec![sent.len() as u32],
        is_end: true,
        ..Default::default()
    };
    wire::PullResponse { frames: vec![frame], payload: Bytes::from_static(sent) }
}

async fn pull_from_fake(
    answer: fn(&wire::PullFetch) -> wire::PullResponse,
    path: &str,
) -> (Pair, ItemResult) {
    let mut pair = Pair::new().await;
    pair.address = support::serve(TransferServiceServer::new(FakeSource { answer })).await;
    let assignment = pair.assignment(&pair.from(), &pair.to(), vec![file(path, 5)]);
    let result = pair.execute(assignment).await.remove(path.as_bytes()).unwrap();
    (pair, result)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_does_not_match_its_hash_is_never_published() {
    let (pair, result) = pull_from_fake(|fetch| response(fetch, b"hello", b"hellO", 5), "a").await;
    assert_eq!(failure(&result).cause, FailureCause::ChecksumMismatch);
    assert!(!pair.to().join("a").exists());
    assert!(temporaries(&pair.to()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_ends_too_early_or_late_is_never_published() {
    let (pair, result) = pull_from_fake(|fetch| response(fetch, b"hello", b"hello", 9), "a").await;
    assert!(failure(&result).message.contains("too early"), "{result:?}");
    assert!(!pair.to().join("a").exists());
    let (pair, result) = pull_from_fake(|fetch| response(fetch, b"hello", b"hello", 3), "a").await;
    assert_eq!(failure(&result).cause, FailureCause::Transient);
    assert!(!pair.to().join("a").exists() && temporaries(&pair.to()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_the_protocol_fails_the_files_and_blames_the_source() {
    fn surplus(fetch: &wire::PullFetch) -> wire::PullResponse {
        let mut answer = response(fetch, b"hello", b"hello", 5);
        answer.payload = Bytes::from_static(b"hello and more");
        answer
    }
    let (_, result) = pull_from_fake(surplus, "a").await;
    assert_eq!((failure(&result).cause, failure(&result).fault), (FailureCause::Transient, Fault::Source));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_leads_out_of_the_destination() {
    let pair = Pair::new().await;
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("victim"), b"safe").unwrap();
    std::fs::write(pair.from().join("victim"), b"evil!").unwrap();
    std::fs::create_dir(pair.from().join("dir")).unwrap();
    std::fs::write(pair.from().join("dir/victim"), b"evil!").unwrap();
    symlink(outside.path(), pair.to().join("dir")).unwrap();
    symlink(outside.path().join("victim"), pair.to().join("victim")).unwrap();
    let entries =
        vec![file("dir/victim", 5), file("../victim", 5), file("/tmp/victim", 5), file("victim", 5)];
    let results = pair.execute(pair.assignment(&pair.from(), &pair.to(), entries)).await;
    for path in [&b"../victim"[..], b"/tmp/victim"] {
        assert_eq!(failure(&results[path]).cause, FailureCause::DestinationError, "{:?}", results[path]);
    }
    assert_eq!(failure(&results[&b"dir/victim"[..]]).cause, FailureCause::InTheWay);
    assert!(failure(&results[&b"dir/victim"[..]]).message.contains("move it away"));
    // A link in the place of a file is replaced, not followed.
    assert!(matches!(results[&b"victim"[..]], ItemResult::Stored { .. }));
    assert_eq!(std::fs::read(pair.to().join("victim")).unwrap(), b"evil!");
    assert_eq!(std::fs::read(outside.path().join("victim")).unwrap(), b"safe");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_takes_the_place_of_a_directory_at_the_source_is_not_followed() {
    let pair = Pair::new().await;
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), b"12345").unwrap();
    symlink(outside.path(), pair.from().join("dir")).unwrap();
    let assignment = pair.assignment(&pair.from(), &pair.to(), vec![file("dir/secret", 5)]);
    let results = pair.execute(assignment).await;
    assert!(!failure(&results[&b"dir/secret"[..]]).cause.is_retryable());
    assert!(!pair.to().join("dir/secret").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_root_is_never_written() {
    let (source, destination) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pair = Pair::between(source, destination, true).await;
    std::fs::write(pair.from().join("a"), b"a").unwrap();
    let results = pair.copy(&pair.from(), &pair.to()).await;
    for result in results.values() {
        assert_eq!(failure(result).cause, FailureCause::Permanent);
        assert!(failure(result).message.contains("read-only"), "{result:?}");
    }
    assert_eq!(std::fs::read_dir(pair.to()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_with_content_is_not_replaced_by_a_file_nor_a_file_by_a_directory() {
    let pair = Pair::new().await;
    std::fs::write(pair.from().join("a"), b"file").unwrap();
    std::fs::write(pair.from().join("c"), b"file").unwrap();
    std::fs::create_dir(pair.from().join("b")).unwrap();
    std::fs::create_dir(pair.to().join("a")).unwrap();
    std::fs::write(pair.to().join("a/kept"), b"kept").unwrap();
    std::fs::create_dir(pair.to().join("c")).unwrap();
    std::fs::write(pair.to().join("b"), b"kept").unwrap();
    let results = pair.copy(&pair.from(), &pair.to()).await;
    for path in [&b"a"[..], b"b"] {
        assert_eq!(failure(&results[path]).cause, FailureCause::InTheWay);
        assert!(failure(&results[path]).message.contains("move it away"), "{:?}", results[path]);
    }
    assert_eq!(std::fs::read(pair.to().join("a/kept")).unwrap(), b"kept");
    // An empty directory is replaced by a file.
    assert_eq!(std::fs::read(pair.to().join("c")).unwrap(), b"file");
    assert!(temporaries(&pair.to()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_serves_nothing_without_a_token_for_exactly_that() {
    let pair = Pair::new().await;
    std::fs::write(pair.from().join("a"), b"a").unwrap();
    let refused = async |change: &dyn Fn(&mut orbit_shared::session::Assignment)| {
        let mut assignment = pair.assignment(&pair.from(), &pair.to(), vec![file("a", 1)]);
        change(&mut assignment);
        failure(&pair.execute(assignment).await[&b"a"[..]]).message.clone()
    };
    let message = refused(&|assignment| assignment.token = "nonsense".to_owned()).await;
    assert!(message.contains("malformed"), "{message}");
    let message = refused(&|assignment| assignment.job = JobId(8)).await;
    assert!(message.contains("job 7, not for job 8"), "{message}");
    let message = refused(&|assignment| assignment.source_path.extend_from_slice(b"/a")).await;
    assert!(message.contains("the capability is for"), "{message}");
    // The key is rotated out, so what it signed becomes invalid.
    let next = CapabilitySigner::generate().unwrap();
    pair.keys.send(InForce::of_keys(vec![next.verification_key()])).unwrap();
    let message = refused(&|_| ()).await;
    assert!(message.contains("not signed by any"), "{message}");
    assert!(!pair.to().join("a").exists());
    assert_eq!(pair.source_meters.bytes_moved(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_with_the_longest_paths_breaks_no_connection() {
    let pair = Pair::new().await;
    let mut assignment = pair.assignment(&pair.from(), &pair.to(), vec![file("a", 1)]);
    assignment.source_path.extend_from_slice("/\u{20ac}".repeat(1000).as_bytes());
    let message = failure(&pair.execute(assignment).await[&b"a"[..]]).message.clone();
    assert!(message.contains("the capability is for") && message.contains("[cut]"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_another_star_is_refused() {
    let pair = Pair::new().await;
    let capability = orbit_shared::capability::Capability {
        job: support::JOB,
        source_star: support::star("another"),
        source_path: support::bytes(&pair.from()),
        destination_star: support::star("destination"),
        snapshot: None,
        is_for_chunks: false,
        max_bytes_per_second: 0,
        filter: None,
    };
    let mut assignment = pair.assignment(&pair.from(), &pair.to(), vec![file("a", 1)]);
    assignment.token = pair.signer.sign(&capability).unwrap();
    let results = pair.execute(assignment).await;
    assert!(failure(&results[&b"a"[..]]).message.contains("is for Star another; this is Star source"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_assignment_leaves_no_temporaries_and_reports_nothing_more() {
    let pair = Pair::new().await;
    for index in 0..8 {
        std::fs::write(pair.from().join(index.to_string()), noise(40_000_000, index)).unwrap();
    }
    let entries = (0..8).map(|index| file(&index.to_string(), 40_000_000)).collect();
    let assignment = pair.assignment(&pair.from(), &pair.to(), entries);
    let (outcomes, mut received) = mpsc::channel(16);
    let (progress, cancel) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let (sink, seen, stop) = (Arc::clone(&pair.sink), Arc::clone(&progress), cancel.clone());
    let task = tokio::spawn(async move { sink.execute(assignment, outcomes, progress, cancel).await });
    while seen.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
    assert!(temporaries(&pair.to()).is_empty());
    let mut told = 0;
    while let Some(batch) = received.recv().await {
        told += batch.len();
    }
    assert!(told < 8, "cancelled in the middle");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_left_is_removed_by_name() {
    let pair = Pair::new().await;
    std::fs::create_dir(pair.to().join("sub")).unwrap();
    let assignment = pair.assignment(&pair.from(), &pair.to(), vec![file("a", 1), file("sub/b", 1)]);
    let left = [".orbit-tmp-0123456789abcdef-7-0-0", "sub/.orbit-tmp-0123456789abcdef-7-0-1"];
    let foreign = ".orbit-tmp-ffffffffffffffff-7-0-0";
    for name in left.iter().chain([&foreign]) {
        std::fs::write(pair.to().join(name), b"half").unwrap();
    }
    pair.sink.clean_temporaries(&assignment);
    assert!(left.iter().all(|name| !pair.to().join(name).exists()));
    assert!(pair.to().join(foreign).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_at_each_attempt_is_published_and_always_reported_as_changed() {
    let pair = Pair::new().await;
    let path = pair.from().join("busy");
    // Every version is one byte value throughout, so any mixture shows.
    std::fs::write(&path, vec![0_u8; 60_000_000]).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (writer_stop, writer_path) = (Arc::clone(&stop), path.clone());
    let writer = std::thread::spawn(move || {
        use std::os::unix::fs::FileExt as _;
        let file = std::fs::File::options().write(true).open(writer_path).unwrap();
        let mut value = 1_u8;
        while !writer_stop.load(Ordering::Relaxed) {
            for part in 0..60 {
                file.write_all_at(&vec![value; 1_000_000], part * 1_000_000).unwrap();
            }
            value = value.wrapping_add(1);
        }
    });
    let entry = file("busy", 60_000_000);
    let results = pair.execute(pair.assignment(&pair.from(), &pair.to(), vec![entry])).await;
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    let copied = std::fs::read(pair.to().join("busy")).unwrap();
    let is_mixture = copied.iter().any(|byte| *byte != copied[0]);
    let ItemResult::Stored { is_changed, .. } = results[&b"busy"[..]] else { panic!("{results:?}") };
    assert!(is_changed || !is_mixture, "a mixture counts as a version of the file");
    assert!(copied.len() == 60_000_000 && temporaries(&pair.to()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_stops_fails_what_is_missing_and_keeps_what_came() {
    let pair = Pair::new().await;
    std::fs::write(pair.from().join("a"), b"a").unwrap();
    pair.shutdown.cancel();
    let results = pair.copy(&pair.from(), &pair.to()).await;
    let failure = failure(&results[&b"a"[..]]);
    assert_eq!((failure.cause, failure.fault), (FailureCause::Transient, Fault::Source));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_cuts_chunks_differently_is_refused_with_a_reason() {
    let pair = Pair::new().await;
    let open = wire::PullOpen {
        token: pair.token(&pair.from()),
        job_id: support::JOB.0,
        source_path: support::bytes(&pair.from()).into(),
        destination_star_id: "destination".to_owned(),
        chunker: Some(wire::ChunkerParameters { max_chunk_bytes: 1, ..Default::default() }),
        snapshot_id: String::new(),
    };
    let open = wire::PullRequest { request: Some(wire::pull_request::Request::Open(open)) };
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", pair.address)).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let mut client = wire::transfer_service_client::TransferServiceClient::new(channel);
    let status = client.pull(futures::stream::iter([open])).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    assert!(status.message().contains("same version"), "{status:?}");
    let status = client.pull(futures::stream::iter([wire::PullRequest::default()])).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_reads_no_file_that_its_job_leaves_out() {
    let pair = Pair::new().await;
    std::fs::create_dir(pair.from().join("private")).unwrap();
    std::fs::create_dir(pair.to().join("private")).unwrap();
    for name in ["a", "b.key", "private/c"] {
        std::fs::write(pair.from().join(name), "x").unwrap();
    }
    let mut assignment =
        pair.assignment(&pair.from(), &pair.to(), vec![file("a", 1), file("b.key", 1), file("private/c", 1)]);
    let filter = orbit_shared::capability::ReadFilter {
        exclude: vec!["*.key".to_owned(), "private/".to_owned()],
        ..Default::default()
    };
    assignment.token = pair.token_with(&pair.from(), Some(filter));
    let results = pair.execute(assignment).await;
    assert!(pair.to().join("a").exists(), "{results:?}");
    for name in ["b.key", "private/c"] {
        let message = &failure(&results[name.as_bytes()]).message;
        assert!(message.contains("is not part of the job"), "{message}");
        assert!(!pair.to().join(name).exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_another_name_outside_of_the_destination_keeps_its_mode_and_time_there() {
    let pair = Pair::new().await;
    for name in ["small", "large"] {
        let length = if name == "small" { 5000 } else { 3 << 20 };
        let (from, to) = (pair.from().join(name), pair.to().join(name));
        std::fs::write(&from, noise(length, 7)).unwrap();
        std::fs::set_permissions(&from, std::fs::Permissions::from_mode(0o666)).unwrap();
        let outside = pair.vault.path().join(name);
        std::fs::write(&outside, noise(length, 7)).unwrap();
        std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::hard_link(&outside, &to).unwrap();
    }
    let results = pair.copy(&pair.from(), &pair.to()).await;
    for name in ["small", "large"] {
        assert!(matches!(results[name.as_bytes()], ItemResult::Stored { .. }), "{results:?}");
        let mode = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(pair.vault.path().join(name)), 0o600);
        assert_eq!(mode(pair.to().join(name)), 0o666);
        let content = |path: std::path::PathBuf| std::fs::read(path).unwrap();
        assert!(content(pair.from().join(name)) == content(pair.to().join(name)));
    }
}
