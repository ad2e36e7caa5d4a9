//! Does the work of one hot path for a number of items, and as little else as possible. A test runs it under callgrind
//! and compares the number of instructions with the earlier one, which is more exact than a time on a shared machine.

use std::hint::black_box;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use orbit_benches::core_alone::move_items;
use orbit_benches::tree::{self, Scan, all_stored};
use orbit_coordinator::core::Noted;
use orbit_coordinator::provenance_log::ProvenanceLog;
use orbit_coordinator::store::{EmbeddedStore, Store as _};
use orbit_proto::v1::{ConnectRequest, ConnectResponse};
use orbit_shared::prioritizer::{ComposablePrioritizer, Priority, TransferItem};
use orbit_shared::session::{AssignedItem, Assignment, CoordinatorMessage, StarMessage};
use orbit_shared::words::{AssignmentId, JobId, StarId};
use orbit_star::chunker;
use prost::Message;

/// The coordinator's allocator: its instructions are part of each path.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Size of one item of `content`, in bytes.
const CONTENT_BYTES: usize = 64 * 1024;

/// Walks one hot path.
#[derive(Debug, Parser)]
#[command(name = "hot_paths")]
struct Arguments {
    /// Which
    #[arg(long)]
    path: Path,
    /// How many items walk it
    #[arg(long)]
    items: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Path {
    /// The coordinator's core plans, dispatches and settles
    Core,
    /// The embedded store commits what changes
    Store,
    /// The provenance log appends the events
    Log,
    /// A source cuts and hashes content, 64 KiB for each item
    Content,
    /// A batch of a scan, an assignment and a report become bytes and messages again
    Messages,
    /// Keys of the default chain of prioritizers
    Keys,
}

/// Only this function is counted: callgrind gets its name. It must not be inlined, and no other function's name may
/// contain its name.
#[inline(never)]
fn hot_path_counted<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

fn main() -> ExitCode {
    let Arguments { path, items } = Arguments::parse();
    match path {
        Path::Core => core(items),
        Path::Store => store(items),
        Path::Log => log(items),
        Path::Content => content(items),
        Path::Messages => messages(items),
        Path::Keys => keys(items),
    }
    ExitCode::SUCCESS
}

fn core(items: u64) {
    move_items(items, |core, message| hot_path_counted(|| drop(core.say(message))));
}

fn store(items: u64) {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let store = EmbeddedStore::open(&directory.path().join("store")).expect("a new store");
    move_items(items, |core, message| {
        let changes = core.say(message).changes;
        hot_path_counted(|| store.commit(&changes)).expect("the disk takes the changes");
    });
}

fn log(items: u64) {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let log = ProvenanceLog::open(directory.path(), u64::MAX).expect("a new log");
    move_items(items, |core, message| {
        let events = core.say(message).notes;
        hot_path_counted(|| log.append(events.into_iter().map(Noted::into_event)))
            .expect("the disk takes the events");
    });
}

fn content(items: u64) {
    let length = usize::try_from(items).expect("a number of items") * CONTENT_BYTES;
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    let named = hot_path_counted(|| {
        let cuts = chunker::cut(&bytes, true);
        cuts.iter().map(|range| u64::from(black_box(chunker::name(&bytes, range)).length)).sum::<u64>()
    });
    assert_eq!(named, length as u64, "every byte belongs to a chunk");
}

fn messages(items: u64) {
    let mut scan = Scan::new(1, items);
    while let Some(batch) = scan.batch() {
        let assignment = assign(batch.number, &batch.entries);
        let sequences = assignment.items.iter().map(|item| item.sequence);
        let report = all_stored(batch.number, assignment.id, sequences);
        for said in [StarMessage::ScanBatch(batch), StarMessage::Report(report)] {
            let heard = hot_path_counted(|| {
                let bytes = ConnectRequest::from(said).encode_to_vec();
                let wire = ConnectRequest::decode(&bytes[..]).expect("what was encoded");
                StarMessage::try_from(wire)
            });
            assert!(heard.is_ok(), "{heard:?}");
        }
        let heard = hot_path_counted(|| {
            let bytes = ConnectResponse::from(CoordinatorMessage::Assign(assignment)).encode_to_vec();
            let wire = ConnectResponse::decode(&bytes[..]).expect("what was encoded");
            CoordinatorMessage::try_from(wire)
        });
        assert!(heard.is_ok(), "{heard:?}");
    }
}

fn assign(number: u64, entries: &[orbit_shared::entry::Entry]) -> Assignment {
    let items = (0..).zip(entries).map(|(sequence, entry)| AssignedItem { sequence, entry: entry.clone() });
    Assignment {
        id: AssignmentId(number),
        job: JobId(1),
        destination: 0,
        source_star: StarId::new("star-1").expect("a name"),
        source_address: "127.0.0.1:1".to_owned(),
        source_path: b"/source".to_vec(),
        destination_path: b"/destination".to_vec(),
        token: "token".to_owned(),
        items: items.collect(),
        is_check_only: false,
        layout: orbit_shared::words::Layout::Files,
        source_snapshot: None,
        keeps_directory_times: false,
        compares_content: false,
        trace: None,
    }
}

fn keys(items: u64) {
    let chain = ComposablePrioritizer::default_chain();
    for sequence in 0..items {
        let entry = tree::entry(sequence);
        let mut item = TransferItem::new(entry.path, Priority::Normal, tree::FILE_BYTES, entry.modified);
        item.sequence = sequence;
        hot_path_counted(|| drop(black_box(chain.key(&item))));
    }
}
