//! Stored means durable, according to the system calls: for every file the content was synced before the rename, the
//! directory after it, and only then did the Star report it to the coordinator.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use orbit_proto::v1;
use orbit_proto::v1::item_outcome::Result as Outcome;
use orbit_tests::grid::Grid;
use orbit_tests::settled::{assert_settled, patient};
use orbit_tests::strace::{Call, Strace, calls, reports_sent};
use orbit_tests::tree::{plant_files, plant_odd_tree};

/// The calls that make files durable or visible, and those that report.
const CALLS: &str =
    "fsync,fdatasync,syncfs,fchmod,rename,renameat,renameat2,symlinkat,write,writev,sendto,sendmsg";

/// Heartbeats would only make the trace longer; with this lease none is missed.
const QUIET: [&str; 4] = ["--lease", "300s", "--heartbeat-interval", "100s"];

struct Traced {
    grid: Grid,
    path: PathBuf,
}

/// A grid whose star-2 is traced.
async fn traced(change: impl FnOnce(Strace) -> Strace) -> Traced {
    // A first start, so that the identity exists already.
    let mut grid = Grid::start_with(&["star-1", "star-2"], &QUIET).await;
    grid.star("star-2").kill().await;
    let path = grid.directory().join("star-2.trace");
    let command = change(Strace::recording(CALLS, &path)).wrap(&grid.star_command("star-2"));
    grid.launch_star("star-2", command).await;
    grid.client().wait_star("star-2", "receives work", orbit_tests::grid::is_ready).await;
    Traced { grid, path }
}

impl Traced {
    /// Copies `tree`, and checks the order for every file and link.
    async fn assert_order(self) -> Vec<Call> {
        let Self { mut grid, path } = self;
        let client = grid.client();
        let mut spec = grid.copy_spec("tree", "star-1", &["star-2"]);
        spec.penalty = Some(patient());
        let job_id = client.create(spec).await;
        assert_settled(&client, job_id).await;
        let items = client.all_items(job_id).await;
        let address = grid.address().to_owned();
        let base = grid.root("star-2").join("tree");
        // The trace is complete when the program has ended.
        grid.star("star-2").kill().await;
        let text = std::fs::read_to_string(&path).expect("strace has written");
        let calls = calls(&text);
        let reports = reports_sent(&calls, &address);
        let mut count = 0;
        for item in items.iter().filter(|item| item.kind() != v1::EntryKind::Directory) {
            let sequence = item.item_key.rsplit('/').next().and_then(|text| text.parse().ok());
            let reported = reported_present(&reports, sequence.expect("a key ends in a number"));
            let line = reported.expect("every item of a job that has completed was reported");
            assert_durable(&calls, &base.join(OsStr::from_bytes(&item.raw_path)), item.kind(), line);
            count += 1;
        }
        assert!(count > 0, "the job had no item");
        calls
    }
}

/// Where an item was reported as stored, or as already present: after a failed attempt this Star may have written it.
fn reported_present(reports: &[(usize, v1::SessionReport)], sequence: u64) -> Option<usize> {
    let is_present = |outcome: &v1::ItemOutcome| {
        let result = outcome.result.as_ref();
        outcome.sequence == sequence
            && result.is_some_and(|result| matches!(result, Outcome::Stored(_) | Outcome::Skipped(_)))
    };
    reports.iter().find(|(_, report)| report.outcomes.iter().any(is_present)).map(|(line, _)| *line)
}

fn assert_durable(calls: &[Call], target: &Path, kind: v1::EntryKind, reported: usize) {
    let shown = target.display();
    let mut renames = calls.iter().filter(|call| call.name.starts_with("renameat") && call.result == Some(0));
    let rename = renames.rfind(|call| call.ended < reported && call.renamed().1 == target);
    let rename = rename.unwrap_or_else(|| panic!("{shown} was reported and never renamed"));
    let (temporary, _) = rename.renamed();
    let is_synced = |path: &Path, from: usize, to: usize| {
        let within = calls.iter().filter(|call| call.begun >= from && call.ended < to);
        let mut syncs = within.filter(|call| call.result == Some(0));
        syncs.any(|call| match call.name.as_str() {
            "fsync" | "fdatasync" => call.path() == path,
            "syncfs" => true,
            _ => false,
        })
    };
    if kind == v1::EntryKind::File {
        // The mode comes after all content. A sync before that may be one of the progress.
        let mut modes = calls.iter().filter(|call| call.name == "fchmod" && call.ended < rename.begun);
        let finished = modes.rfind(|call| call.path() == temporary).map(|call| call.ended);
        let finished = finished.unwrap_or_else(|| panic!("{shown} got no mode"));
        let is_durable = is_synced(&temporary, finished + 1, rename.begun);
        assert!(is_durable, "{shown} was renamed before its content was synced");
    }
    let parent = target.parent().expect("a target lies in a directory");
    assert!(
        is_synced(parent, rename.ended + 1, reported),
        "{shown} was reported before its directory was synced"
    );
}

fn count_of(calls: &[Call], name: &str) -> usize {
    calls.iter().filter(|call| call.name == name).count()
}

#[tokio::test]
async fn many_files_are_synced_at_once_then_renamed_then_their_directories_synced_then_reported() {
    let traced = traced(|strace| strace).await;
    plant_odd_tree(&traced.grid.root("star-1").join("tree"), 5);
    let calls = traced.assert_order().await;
    assert!(count_of(&calls, "syncfs") > 0, "many files take one sync of their file system");
}

/// If a job's directories exist already and there are few files, each is synced separately.
async fn few_files(change: impl FnOnce(Strace) -> Strace) -> Traced {
    let traced = traced(change).await;
    plant_files(&traced.grid.root("star-1").join("tree"), 3, 9000, 6);
    std::fs::create_dir_all(traced.grid.root("star-2").join("tree/d0000")).expect("a directory can be made");
    traced
}

#[tokio::test]
async fn few_files_are_synced_each_then_renamed_then_their_directories_synced_then_reported() {
    let calls = few_files(|strace| strace).await.assert_order().await;
    assert_eq!(count_of(&calls, "syncfs"), 0, "few files are synced by themselves");
}

/// A failed sync must be repeated before the item counts, even if the next attempt finds the file in place.
#[tokio::test]
async fn a_sync_that_failed_is_made_up_for_before_anything_is_reported() {
    for number in 1..=6 {
        let fault = format!("error=EIO:when={number}");
        let calls = few_files(|strace| strace.and_injecting("fsync", &fault)).await.assert_order().await;
        let failed = calls.iter().any(|call| call.name == "fsync" && call.result.is_none());
        assert!(failed || number > 4, "no thread has made {number} syncs");
    }
}

/// The record of a large file's progress must be true after a power cut: its content is synced before.
#[tokio::test]
async fn a_large_file_is_synced_before_it_is_written_down_how_far_it_has_come() {
    let traced = traced(|strace| strace).await;
    let tree = traced.grid.root("star-1").join("tree");
    std::fs::create_dir_all(&tree).expect("a directory can be made");
    let file = std::fs::File::create(tree.join("large")).expect("a file can be made");
    file.set_len(160 << 20).expect("a file can be made longer");
    let packed = traced.grid.vault("star-2").join("packed");
    let checkpoints = traced.grid.vault("star-2").join("checkpoints");
    let calls = traced.assert_order().await;
    let into_checkpoints = |call: &&Call| {
        let target = call.strings().pop().unwrap_or_default();
        call.name == "rename" && Path::new(OsStr::from_bytes(&target)).starts_with(&checkpoints)
    };
    let recorded: Vec<&Call> = calls.iter().filter(into_checkpoints).collect();
    // The vault's chunks have their own syncs.
    let is_of_content = |call: &&Call| {
        call.name == "fdatasync" && call.result == Some(0) && !call.path().starts_with(&packed)
    };
    let synced: Vec<&Call> = calls.iter().filter(is_of_content).collect();
    assert!(recorded.len() > 1, "the file is too small for a checkpoint");
    for (sync, record) in synced.iter().zip(&recorded) {
        let path = sync.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        assert!(name.starts_with(".orbit-tmp-"), "{name} was synced");
        assert!(sync.ended < record.begun, "it was written down before the content was synced");
    }
    assert!(synced.len() >= recorded.len(), "{} syncs, {} records", synced.len(), recorded.len());
}
