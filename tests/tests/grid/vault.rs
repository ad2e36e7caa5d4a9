//! Trees are stored in vaults and restored.

use std::path::Path;

use orbit_proto::v1;
use orbit_tests::client::{bad_fields, reason};
use orbit_tests::deadline::within;
use orbit_tests::grid::Grid;
use orbit_tests::programs::program;
use orbit_tests::tree::{differences, plant_files, plant_odd_tree};

fn restore(grid: &Grid, snapshot: &v1::Snapshot, star: &str, path: &str) -> v1::RestoreSnapshotRequest {
    v1::RestoreSnapshotRequest {
        snapshot_id: snapshot.snapshot_id.clone(),
        destination: Some(grid.place(star, path)),
        ..v1::RestoreSnapshotRequest::default()
    }
}

async fn pack(grid: &Grid, path: &str, to: &[&str]) -> v1::Job {
    let client = grid.client();
    let id = client.create(grid.packed_spec(path, "star-1", to)).await;
    let job = client.wait_end(id).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    job
}

fn progress(job: &v1::Job) -> v1::JobProgress {
    job.progress.expect("a job has progress")
}

/// Replaces a file's content and changes its time.
fn change(path: &Path, content: &[u8]) {
    std::fs::write(path, content).expect("a file can be written");
}

#[tokio::test]
async fn an_unusual_tree_is_restored_from_a_vault_exactly() {
    let grid = Grid::start(&["star-1", "star-2", "star-3"]).await;
    let (tree, back) = (grid.root("star-1").join("tree"), grid.root("star-3").join("back"));
    plant_odd_tree(&tree, 1);
    let job = pack(&grid, "tree", &["star-2"]).await;
    assert_eq!(job.snapshot_ids.len(), 1, "{job:#?}");
    let client = grid.client();
    let snapshots = client.all_snapshots().await;
    assert_eq!(snapshots.len(), 1, "{snapshots:#?}");
    let snapshot = &snapshots[0];
    assert_eq!((snapshot.star_id.as_str(), &snapshot.snapshot_id), ("star-2", &job.snapshot_ids[0]));
    assert_eq!(snapshot.entry_count, progress(&job).items_total, "{snapshot:#?}");
    let restored = client.restore(restore(&grid, snapshot, "star-3", "back")).await;
    assert_eq!(restored.state(), v1::JobState::Completed, "{restored:#?}");
    let found = differences(&tree, &back);
    assert!(found.is_empty(), "{}", found.join("\n"));
    // The restoring Star's own vault can be the source.
    let here = client.restore(restore(&grid, snapshot, "star-2", "here")).await;
    assert_eq!(here.state(), v1::JobState::Completed, "{here:#?}");
    assert_eq!(differences(&tree, &grid.root("star-2").join("here")), Vec::<String>::new());
}

#[tokio::test]
async fn a_second_version_moves_only_new_chunks_and_both_are_restored() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let tree = grid.root("star-1").join("tree");
    plant_files(&tree, 200, 20_000, 2);
    let big: Vec<u8> =
        (0..3_000_000_u32).flat_map(|number| (number.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    std::fs::write(tree.join("big"), &big).expect("a file can be written");
    let first = pack(&grid, "tree", &["star-2"]).await;
    let total = progress(&first).bytes_total;
    assert_eq!(progress(&first).bytes_transferred, total, "an empty vault has nothing of it");
    let old = grid.root("star-1").join("old");
    copy_tree(&tree, &old);

    // 4,000 bytes inserted in the middle of a large file, one file added, and one removed.
    let changed = [&big[..5_000_000], &[7; 4_000], &big[5_000_000..]].concat();
    change(&tree.join("big"), &changed);
    change(&tree.join("d0000/new"), &[9; 10_000]);
    std::fs::remove_file(tree.join("d0000/f000003")).expect("a file can be removed");
    let second = pack(&grid, "tree", &["star-2"]).await;
    let moved = progress(&second).bytes_transferred;
    assert!(moved < 800_000, "an insertion moves the chunks around it and nothing else, not {moved} bytes");
    assert_eq!(moved + progress(&second).bytes_deduplicated, progress(&second).bytes_total);

    let client = grid.client();
    let snapshots = client.all_snapshots().await;
    assert_eq!(snapshots.len(), 2);
    for (snapshot, to, of) in [(&snapshots[0], "new-back", &tree), (&snapshots[1], "old-back", &old)] {
        let job = client.restore(restore(&grid, snapshot, "star-2", to)).await;
        assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
        let found = differences(of, &grid.root("star-2").join(to));
        assert!(found.is_empty(), "{to}: {}", found.join("\n"));
    }
}

/// With times and modes, by a program of the system.
fn copy_tree(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.expect("cp starts").success());
}

async fn orbit(grid: &Grid, arguments: &[&str]) -> std::process::Output {
    let mut command = tokio::process::Command::new(program("orbit"));
    command.args(arguments).arg("--coordinator").arg(format!("http://{}", grid.address()));
    within("orbit to end", command.kill_on_drop(true).output()).await.expect("orbit starts")
}

/// The standard output of a command that must succeed.
async fn say(grid: &Grid, arguments: &[&str]) -> String {
    let output = orbit(grid, arguments).await;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {out}{err}");
    out.into_owned()
}

#[tokio::test]
async fn an_operator_lists_compares_reads_restores_prunes_and_collects_snapshots() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let tree = grid.root("star-1").join("tree");
    plant_files(&tree, 20, 9_000, 3);
    let source = format!("star-1:{}", tree.display());
    let create = ["job", "create", &source, "star-2:", "--layout", "packed", "--tag", "first", "--wait"];
    say(&grid, &create).await;
    change(&tree.join("d0000/f000001"), b"other content");
    change(&tree.join("d0000/added"), &[5; 100_000]);
    std::fs::remove_file(tree.join("d0000/f000002")).expect("a file can be removed");
    say(&grid, &["job", "create", &source, "star-2:", "--layout", "packed", "--wait"]).await;
    let snapshots = grid.client().all_snapshots().await;
    let (new, old) = (snapshots[0].snapshot_id.as_str(), snapshots[1].snapshot_id.as_str());

    let listed = say(&grid, &["snapshot", "ls", "--tag", "first"]).await;
    assert!(listed.contains(old) && !listed.contains(new), "{listed}");
    let shown = say(&grid, &["snapshot", "show", &new[..12], "d0000"]).await;
    assert!(shown.contains("d0000/added") && !shown.contains("f000002"), "{shown}");
    let compared = say(&grid, &["snapshot", "diff", old, new]).await;
    for line in ["+ d0000/added", "M d0000/f000001", "- d0000/f000002", "m d0000"] {
        assert!(compared.lines().any(|found| found == line), "{line} in {compared}");
    }
    assert_eq!(say(&grid, &["snapshot", "cat", new, "d0000/f000001"]).await, "other content");
    assert_eq!(orbit(&grid, &["snapshot", "cat", new, "missing"]).await.status.code(), Some(1));

    let part = format!("star-2:{}", grid.root("star-2").join("part").display());
    let restore =
        ["snapshot", "restore", old, &part, "--path", "/d0000", "--include", "f00000[0-3]", "--wait"];
    say(&grid, &restore).await;
    let mut names: Vec<_> = std::fs::read_dir(grid.root("star-2").join("part"))
        .expect("it is there")
        .map(|entry| entry.expect("it can be read").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    assert_eq!(names, ["f000000", "f000001", "f000002", "f000003"]);

    let planned = say(&grid, &["snapshot", "prune", "--keep-last", "1", "--dry-run"]).await;
    assert!(planned.contains("keep") && planned.contains("number 1 of the newest"), "{planned}");
    assert_eq!(grid.client().all_snapshots().await.len(), 2, "a dry run deletes nothing");
    say(&grid, &["snapshot", "prune", "--keep-last", "1", "--yes"]).await;
    let left = grid.client().all_snapshots().await;
    assert_eq!(left.iter().map(|one| one.snapshot_id.as_str()).collect::<Vec<_>>(), [new]);
    let planned = say(&grid, &["gc", "star-2", "--plan", "--json"]).await;
    let planned: serde_json::Value = serde_json::from_str(&planned).expect("JSON");
    assert_ne!(planned["collection"]["waitingChunks"], "0", "{planned}");
    say(&grid, &["gc", "star-2", "--ignore-undo-window"]).await;
    let scrubbed = say(&grid, &["scrub", "star-2", "--all"]).await;
    assert!(scrubbed.contains(", 0 damaged"), "{scrubbed}");
    assert_eq!(say(&grid, &["snapshot", "cat", new, "/d0000/f000001"]).await, "other content");
    say(&grid, &["snapshot", "rm", new]).await;
    assert!(grid.client().all_snapshots().await.is_empty());
}

#[tokio::test]
async fn every_bad_field_about_vaults_is_named() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let mut vaults = grid.client().vaults();
    let spec = grid.packed_spec("tree", "star-1", &["star-2", "star-2"]);
    let request = v1::CreateJobRequest { spec: Some(spec), ..v1::CreateJobRequest::default() };
    let refused = grid.client().jobs().create_job(request).await.expect_err("one vault, twice");
    assert_eq!(bad_fields(&refused), ["spec.destinations[1].path"]);
    let get = v1::GetSnapshotRequest { snapshot_id: "12".to_owned() };
    assert_eq!(bad_fields(&vaults.get_snapshot(get).await.expect_err("no name")), ["snapshot_id"]);
    let get = v1::GetSnapshotRequest { snapshot_id: "0".repeat(32) };
    assert_eq!(reason(&vaults.get_snapshot(get).await.expect_err("no such one")), "NOT_FOUND");
    let locate = v1::LocateChunkRequest { chunk_hash: "xyz".to_owned(), ..v1::LocateChunkRequest::default() };
    assert_eq!(bad_fields(&vaults.locate_chunk(locate).await.expect_err("no hash")), ["chunk_hash"]);
    let prune = v1::PruneSnapshotsRequest::default();
    assert_eq!(bad_fields(&vaults.prune_snapshots(prune).await.expect_err("no rule")), ["policy"]);
    let scrub = v1::ScrubVaultRequest { star_id: "nobody".to_owned(), ..v1::ScrubVaultRequest::default() };
    assert_eq!(reason(&vaults.scrub_vault(scrub).await.expect_err("no such Star")), "NOT_FOUND");
    let list = v1::ListContainersRequest {
        star_id: "star-1".to_owned(),
        page_size: 2000,
        ..v1::ListContainersRequest::default()
    };
    assert_eq!(bad_fields(&vaults.list_containers(list).await.expect_err("too many")), ["page_size"]);
}

/// The deletion is whole whatever the size of the page, and its decisions are read page by page afterwards.
#[tokio::test]
async fn a_prune_deletes_all_at_once_and_its_decisions_have_pages() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    plant_files(&grid.root("star-1").join("tree"), 3, 100, 5);
    for _ in 0..5 {
        pack(&grid, "tree", &["star-2"]).await;
    }
    let client = grid.client();
    let request = v1::PruneSnapshotsRequest {
        policy: Some(v1::RetentionPolicy { keep_last: 2, ..v1::RetentionPolicy::default() }),
        page_size: 2,
        ..v1::PruneSnapshotsRequest::default()
    };
    let prune = async |request: v1::PruneSnapshotsRequest| {
        client.vaults().prune_snapshots(request).await.map(tonic::Response::into_inner)
    };
    let all_pages = async |mut request: v1::PruneSnapshotsRequest| {
        let mut pages = Vec::new();
        loop {
            let page = prune(request.clone()).await.expect("a page");
            request.page_token.clone_from(&page.next_page_token);
            pages.push(page);
            if request.page_token.is_empty() {
                return pages;
            }
        }
    };
    let names = |pages: &[v1::PruneSnapshotsResponse]| -> Vec<String> {
        let decisions = pages.iter().flat_map(|page| &page.decisions);
        decisions.map(|one| one.snapshot.as_ref().expect("a snapshot").snapshot_id.clone()).collect()
    };
    let listed = |snapshots: Vec<v1::Snapshot>| -> Vec<String> {
        snapshots.into_iter().map(|snapshot| snapshot.snapshot_id).collect()
    };
    let before = listed(client.all_snapshots().await);
    let planned = all_pages(v1::PruneSnapshotsRequest { plan_only: true, ..request.clone() }).await;
    assert_eq!((planned.len(), names(&planned)), (3, before.clone()), "a plan has the same pages");
    assert_eq!(client.all_snapshots().await.len(), 5);

    let first = prune(request.clone()).await.expect("it deletes");
    assert_eq!((first.kept_count, first.expired_count, first.deleted_count), (2, 3, 3), "{first:#?}");
    assert_eq!(listed(client.all_snapshots().await), before[..2], "all of it with the first page");
    // A new snapshot changes nothing about what was decided.
    pack(&grid, "tree", &["star-2"]).await;
    let rest = v1::PruneSnapshotsRequest { page_token: first.next_page_token.clone(), ..request.clone() };
    let rest = all_pages(rest).await;
    assert_eq!(rest.len(), 2, "{rest:#?}");
    assert_eq!([names(std::slice::from_ref(&first)), names(&rest)].concat(), before);
    assert!(rest.iter().flat_map(|page| &page.decisions).all(|one| one.is_deleted), "{rest:#?}");
    assert_eq!(client.all_snapshots().await.len(), 3);

    // The token belongs to this request.
    let mut other =
        v1::PruneSnapshotsRequest { page_token: first.next_page_token.clone(), ..request.clone() };
    other.policy.as_mut().expect("a policy").keep_last = 1;
    assert_eq!(prune(other).await.expect_err("another request").code(), tonic::Code::AlreadyExists);
    let forged = v1::PruneSnapshotsRequest { page_token: "decisions-00".to_owned(), ..request.clone() };
    assert_eq!(bad_fields(&prune(forged).await.expect_err("no token")), ["page_token"]);

    // With a name, a repeated request gets the same first page, and `orbit` reads all pages.
    let named =
        v1::PruneSnapshotsRequest { request_id: "prune-1".to_owned(), page_size: 1, ..request.clone() };
    let one = prune(named.clone()).await.expect("it deletes");
    assert_eq!(prune(named.clone()).await.expect("again"), one);
    let other_size = v1::PruneSnapshotsRequest { page_size: 0, ..named.clone() };
    assert_eq!(prune(other_size).await.expect("as one page").decisions.len(), 3);
    let token = one.next_page_token;
    let next = prune(v1::PruneSnapshotsRequest { page_token: token, ..named }).await.expect("the next page");
    assert_eq!((next.decisions.len(), next.deleted_count), (1, 1), "{next:#?}");
}
