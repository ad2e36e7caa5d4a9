//! A source Star on loopback, a sink, and trees to move between them.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of it")]
#![allow(clippy::unwrap_used, reason = "this is test code, outside of a test function")]

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use orbit_identity::network::Tcp;
use orbit_shared::capability::{Capability, CapabilitySigner, ReadFilter};
use orbit_shared::entry::Entry;
use orbit_shared::session::{
    AssignedItem, Assignment, Failure, ItemOutcome, ItemResult, Root, ScanBatch, ScanRequest, limits,
};
use orbit_shared::words::{AssignmentId, JobId, Layout, StarId};
use orbit_star::checkpoints::Checkpoints;
use orbit_star::in_force::InForce;
use orbit_star::meters::Meters;
use orbit_star::roots::Roots;
use orbit_star::sink::Sink;
use orbit_star::source::{TransferServer, tune};
use orbit_telemetry::Spans;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub const JOB: JobId = JobId(7);
pub const IDENTITY: Uuid = Uuid::from_u128(0x0123_4567_89ab_cdef_0000_0000_0000_0000);

pub fn star(name: &str) -> StarId {
    StarId::new(name).unwrap()
}

pub fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

/// Pseudo-random bytes that are the same in every run.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

pub fn roots(path: &Path, is_read_only: bool) -> Arc<Roots> {
    Arc::new(Roots::open(&[Root { path: bytes(path), is_read_only }]).unwrap())
}

/// A source that serves `from`, a sink that writes below `to`, and the two directories.
pub struct Pair {
    pub source: tempfile::TempDir,
    pub destination: tempfile::TempDir,
    pub vault: tempfile::TempDir,
    pub checkpoints: Checkpoints,
    pub sink: Arc<Sink>,
    pub source_meters: Arc<Meters>,
    pub sink_meters: Arc<Meters>,
    pub address: String,
    pub signer: CapabilitySigner,
    pub keys: watch::Sender<InForce>,
    pub shutdown: CancellationToken,
}

impl Pair {
    pub async fn new() -> Self {
        let (source, destination) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Self::between(source, destination, false).await
    }

    pub async fn between(
        source: tempfile::TempDir,
        destination: tempfile::TempDir,
        is_read_only: bool,
    ) -> Self {
        let signer = CapabilitySigner::generate().unwrap();
        let (keys, receiver) = watch::channel(InForce::of_keys(vec![signer.verification_key()]));
        let (source_meters, sink_meters) = (Arc::new(Meters::default()), Arc::new(Meters::default()));
        let shutdown = CancellationToken::new();
        let served = roots(source.path(), true);
        let meters = Arc::clone(&source_meters);
        let server = TransferServer::new(star("source"), served, receiver, meters, shutdown.clone());
        let address = serve(server.into_service()).await;
        let written = roots(destination.path(), is_read_only);
        let vault = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(vault.path()).unwrap();
        let meters = Arc::clone(&sink_meters);
        let network = Arc::new(Tcp::default());
        let sink = Sink::new(
            star("destination"),
            IDENTITY,
            written,
            meters,
            checkpoints.clone(),
            network,
            Spans::default(),
        );
        Self {
            source,
            destination,
            vault,
            checkpoints,
            sink,
            source_meters,
            sink_meters,
            address,
            signer,
            keys,
            shutdown,
        }
    }

    pub fn from(&self) -> PathBuf {
        self.source.path().to_owned()
    }

    pub fn to(&self) -> PathBuf {
        self.destination.path().to_owned()
    }

    pub fn token(&self, path: &Path) -> String {
        self.token_with(path, None)
    }

    pub fn token_with(&self, path: &Path, filter: Option<ReadFilter>) -> String {
        let capability = Capability {
            job: JOB,
            source_star: star("source"),
            source_path: bytes(path),
            destination_star: star("destination"),
            snapshot: None,
            is_for_chunks: false,
            max_bytes_per_second: 0,
            filter,
        };
        self.signer.sign(&capability).unwrap()
    }

    pub fn assignment(&self, from: &Path, to: &Path, entries: Vec<Entry>) -> Assignment {
        let item = |(sequence, entry)| AssignedItem { sequence: sequence as u64, entry };
        Assignment {
            id: AssignmentId(1),
            job: JOB,
            destination: 0,
            source_star: star("source"),
            source_address: self.address.clone(),
            source_path: bytes(from),
            destination_path: bytes(to),
            token: self.token(from),
            items: entries.into_iter().enumerate().map(item).collect(),
            is_check_only: false,
            layout: Layout::Files,
            source_snapshot: None,
            keeps_directory_times: false,
            compares_content: false,
            trace: None,
        }
    }

    /// Scans `from` and copies all of it to `to`. Returns the outcomes by path.
    pub async fn copy(&self, from: &Path, to: &Path) -> BTreeMap<Vec<u8>, ItemResult> {
        let entries = scan(roots(&self.from(), true), from).await.0;
        self.execute(self.assignment(from, to, entries)).await
    }

    pub async fn execute(&self, assignment: Assignment) -> BTreeMap<Vec<u8>, ItemResult> {
        execute(&self.sink, assignment).await
    }
}

pub async fn serve<S>(service: S) -> String
where
    S: tower::Service<
            http::Request<tonic::body::Body>,
            Response = http::Response<tonic::body::Body>,
            Error = std::convert::Infallible,
        > + tonic::server::NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tune(tonic::transport::Server::builder()).add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

pub async fn execute(sink: &Arc<Sink>, assignment: Assignment) -> BTreeMap<Vec<u8>, ItemResult> {
    let items = assignment.items.clone();
    let (outcomes, mut received) = mpsc::channel::<Vec<ItemOutcome>>(4);
    let running = Arc::clone(sink);
    let progress = Arc::new(AtomicU64::new(0));
    let task = tokio::spawn(async move {
        running.execute(assignment, outcomes, progress, CancellationToken::new()).await;
    });
    let mut results = BTreeMap::new();
    while let Some(batch) = received.recv().await {
        for outcome in batch {
            let item = items.iter().find(|item| item.sequence == outcome.sequence).unwrap();
            let twice = results.insert(item.entry.path.clone(), outcome.result);
            assert!(twice.is_none(), "{:?} has two outcomes", item.entry.path);
        }
    }
    task.await.unwrap();
    assert_eq!(results.len(), items.len(), "every item has an outcome");
    results
}

pub fn request(path: &Path) -> ScanRequest {
    ScanRequest {
        scan: 1,
        job: JOB,
        path: bytes(path),
        include: vec![],
        exclude: vec![],
        paths: Vec::new(),
        resume_after: None,
        snapshot: None,
        limits: Default::default(),
        is_one_file_system: false,
        trace: None,
    }
}

pub async fn scan(roots: Arc<Roots>, path: &Path) -> (Vec<Entry>, Option<Failure>) {
    scan_with(roots, request(path)).await
}

pub async fn scan_with(roots: Arc<Roots>, request: ScanRequest) -> (Vec<Entry>, Option<Failure>) {
    let (out, mut batches) = mpsc::channel::<ScanBatch>(limits::SCAN_BATCHES_UNACKED_MAX);
    let credits = Arc::new(Semaphore::new(limits::SCAN_BATCHES_UNACKED_MAX));
    let classifier = orbit_star::scan::Classifier::load(None).expect("the built-in rules are valid");
    let cancel = CancellationToken::new();
    let task =
        tokio::spawn(orbit_star::scan::run(request, roots, classifier, out, Arc::clone(&credits), cancel));
    let (mut entries, mut failure, mut number, mut is_last) = (Vec::new(), None, 0, false);
    while let Some(batch) = batches.recv().await {
        assert!(!is_last, "a batch after the last");
        number += 1;
        assert_eq!(batch.number, number);
        credits.add_permits(1);
        assert!(batch.entries.len() <= limits::SCAN_BATCH_ENTRIES_MAX);
        entries.extend(batch.entries);
        failure = failure.or(batch.failure);
        is_last = batch.is_last;
    }
    task.await.unwrap();
    assert!(is_last, "the scan has a last batch");
    (entries, failure)
}

/// Everything that a copy must preserve: kind, content, mode and time, by relative path.
pub fn snapshot(base: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut stack = vec![PathBuf::new()];
    while let Some(relative) = stack.pop() {
        let path = base.join(&relative);
        let data = std::fs::symlink_metadata(&path).unwrap();
        let mode = data.permissions().mode();
        let about = if data.is_symlink() {
            format!("link {:?} {}.{}", std::fs::read_link(&path).unwrap(), data.mtime(), data.mtime_nsec())
        } else if data.is_dir() {
            for entry in std::fs::read_dir(&path).unwrap() {
                stack.push(relative.join(entry.unwrap().file_name()));
            }
            format!("directory {mode:o} {}.{}", data.mtime(), data.mtime_nsec())
        } else {
            let hash = blake3::hash(&std::fs::read(&path).unwrap());
            format!("file {mode:o} {}.{} {} {hash}", data.mtime(), data.mtime_nsec(), data.len())
        };
        found.insert(relative, about);
    }
    found
}

/// Names of temporaries anywhere below `base`.
pub fn temporaries(base: &Path) -> Vec<PathBuf> {
    snapshot(base).into_keys().filter(|path| path.to_string_lossy().contains(".orbit-tmp-")).collect()
}

pub fn set_modified(path: &Path, seconds: i64, nanos: i64) {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

pub fn transferred(result: &ItemResult) -> u64 {
    match result {
        ItemResult::Stored { bytes_transferred, .. } => *bytes_transferred,
        ItemResult::Skipped => 0,
        ItemResult::Failed(failure) => panic!("{failure:?}"),
    }
}

pub fn failure(result: &ItemResult) -> &Failure {
    match result {
        ItemResult::Failed(failure) => failure,
        ItemResult::Stored { .. } | ItemResult::Skipped => panic!("{result:?} is no failure"),
    }
}

/// A small file system of some kind, unmounted when this is dropped.
pub struct Mounted {
    pub path: PathBuf,
}

impl Mounted {
    /// Makes one in a file with a command, and mounts it on a directory; `None` if that is not possible, because the
    /// kernel does not support the kind or this is not root.
    pub fn mount(path: &Path, image: &Path, make: &[&str], options: &[&str]) -> Option<Self> {
        std::fs::File::create(image).unwrap().set_len(1 << 30).unwrap();
        let (shown, image) = (path.to_str()?, image.to_str()?);
        let run = |command: &[&str], last: &[&str]| {
            let output = std::process::Command::new(command[0]).args(&command[1..]).args(last).output();
            output.is_ok_and(|output| output.status.success())
        };
        let is_mounted = run(make, &[image]) && run(&[&["mount"], options].concat(), &[image, shown]);
        is_mounted.then(|| Self { path: path.to_owned() })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a failure would have no reader here.
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.path).output();
    }
}
