//! VaultService: a snapshot is listed, read, restored, scrubbed, pruned and deleted.

use orbit_shared::chunk_hash::ChunkHash;
use serde_json::{Value, json};

use crate::World;
use crate::jobs::{self, spec};

/// The content of a file that is a single chunk.
const ONE_CHUNK: &[u8] = b"small enough that it is never cut";

pub(crate) async fn call_all(world: &mut World) {
    std::fs::write(world.grid.root("star-1").join("whole/one-chunk"), ONE_CHUNK).expect("writes a file");
    // star-3 will be removed with its content.
    let packed = json!({
        "source": spec(world, "whole")["source"],
        "destinations": [{ "star_id": "star-2" }, { "star_id": "star-3" }],
        "layout": "LAYOUT_PACKED",
        "tags": ["kept"],
    });
    let (job, ended) = jobs::run(world, packed).await;
    assert_eq!(ended["state"], "JOB_STATE_COMPLETED", "{ended:#}");
    world.coordinator.good("StarService/RegisterStar", json!({ "star_id": "away" })).await;
    let snapshot = look(world, job).await;
    read(world, &snapshot).await;
    chunks(world).await;
    work(world).await;
    restore(world, &snapshot).await;
    forget(world, job, &snapshot).await;
}

async fn look(world: &mut World, job: u64) -> Value {
    let book = &mut world.coordinator;
    let request = json!({ "job_id": job, "star_id": "star-2", "tags": ["kept"] });
    let listed = book.good("VaultService/ListSnapshots", request).await;
    let snapshots = listed["snapshots"].as_array().expect("snapshots");
    assert_eq!((snapshots.len(), &snapshots[0]["jobId"]), (1, &json!(job.to_string())), "{listed:#}");
    let bad = json!({ "page_size": -1, "page_token": "x", "star_id": "not a name", "source_star_id": "a b" });
    let fields = ["page_size", "page_token", "star_id", "source_star_id"];
    book.bad("VaultService/ListSnapshots", bad, &fields).await;
    book.has_no_wrong_state("VaultService/ListSnapshots", "the catalogue is there while Stars are away");

    let id = snapshots[0]["snapshotId"].clone();
    let got = book.good("VaultService/GetSnapshot", json!({ "snapshot_id": id })).await;
    assert_eq!(got["snapshot"], snapshots[0]);
    for method in ["GetSnapshot", "ListSnapshotEntries", "GetReadGrant", "RestoreSnapshot", "DeleteSnapshot"]
    {
        let method = format!("VaultService/{method}");
        book.bad(&method, json!({ "snapshot_id": "x" }), &["snapshot_id"]).await;
        book.unknown(&method, json!({ "snapshot_id": "0".repeat(32) })).await;
    }
    book.has_no_wrong_state("VaultService/GetSnapshot", "it reads the catalogue");
    id
}

async fn read(world: &mut World, snapshot: &Value) {
    let book = &mut world.coordinator;
    let request = json!({ "snapshot_id": snapshot, "path": "one-chunk" });
    let listed = book.good("VaultService/ListSnapshotEntries", request).await;
    let entries = listed["entries"].as_array().expect("entries");
    let size = json!(ONE_CHUNK.len().to_string());
    assert_eq!(
        (entries.len(), &entries[0]["path"], &entries[0]["sizeBytes"]),
        (1, &json!("one-chunk"), &size)
    );
    let bad = json!({ "snapshot_id": "x", "path": "../out", "page_size": -1, "page_token": "x" });
    let fields = ["snapshot_id", "path", "page_size", "page_token"];
    book.bad("VaultService/ListSnapshotEntries", bad, &fields).await;

    let granted = book.good("VaultService/GetReadGrant", json!({ "snapshot_id": snapshot })).await;
    assert!(granted["token"].as_str().is_some_and(|token| token.starts_with("v4.public.")), "{granted:#}");
    assert!(granted["dataAddress"].as_str().is_some_and(|address| address.contains(':')), "{granted:#}");
}

async fn chunks(world: &mut World) {
    let book = &mut world.coordinator;
    let listed = book.good("VaultService/ListContainers", json!({ "star_id": "star-2" })).await;
    let containers = listed["containers"].as_array().expect("containers");
    assert_eq!((&containers[0]["starId"], &containers[0]["isDamaged"]), (&json!("star-2"), &Value::Null));
    let bad = json!({ "star_id": "not a name", "page_size": -1, "page_token": "x" });
    book.bad("VaultService/ListContainers", bad, &["star_id", "page_size", "page_token"]).await;
    book.unknown("VaultService/ListContainers", json!({ "star_id": "nobody" })).await;

    let hash = ChunkHash::of(ONE_CHUNK).to_string();
    let located = book.good("VaultService/LocateChunk", json!({ "chunk_hash": hash })).await;
    let mut stars: Vec<&Value> =
        located["locations"].as_array().expect("locations").iter().map(|place| &place["starId"]).collect();
    stars.sort_by_key(|star| star.to_string());
    assert_eq!(stars, [&json!("star-2"), &json!("star-3")], "{located:#}");
    let mut paged = json!({ "chunk_hash": hash, "page_size": 1 });
    let first = book.good("VaultService/LocateChunk", paged.clone()).await;
    paged["page_token"] = first["nextPageToken"].clone();
    let second = book.good("VaultService/LocateChunk", paged).await;
    assert!(second["nextPageToken"].is_null(), "{second:#}");
    let pages = [&first["locations"][0], &second["locations"][0]];
    assert_eq!(pages, [&located["locations"][0], &located["locations"][1]], "{first:#} {second:#}");
    let bad = json!({ "chunk_hash": "x", "star_id": "not a name", "page_size": -1, "page_token": "x" });
    let fields = ["chunk_hash", "star_id", "page_size", "page_token"];
    book.bad("VaultService/LocateChunk", bad, &fields).await;
    book.unknown("VaultService/LocateChunk", json!({ "chunk_hash": hash, "star_id": "nobody" })).await;

    let away = json!({ "star_id": "away", "chunk_hash": hash });
    book.wrong_state("VaultService/LocateChunk", away, "is not connected").await;
    let away = json!({ "star_id": "away" });
    book.wrong_state("VaultService/ListContainers", away, "is not connected").await;
}

async fn work(world: &mut World) {
    let book = &mut world.coordinator;
    for (method, part) in [("CollectGarbage", "collection"), ("ScrubVault", "scrub")] {
        let method = format!("VaultService/{method}");
        let request = json!({ "star_id": "star-2", "request_id": "work-1" });
        // A long operation is requested again until it has ended.
        let ended = loop {
            let answer = book.good(&method, request.clone()).await;
            if answer[part]["progress"] != "PROGRESS_RUNNING" {
                break answer;
            }
        };
        assert_eq!(ended[part]["progress"], "PROGRESS_DONE", "{ended:#}");
        book.again(&method, request, &ended, "").await;
        book.unknown(&method, json!({ "star_id": "nobody" })).await;
        book.wrong_state(&method, json!({ "star_id": "away" }), "is not connected").await;
    }
    let bad = json!({ "star_id": "not a name", "request_id": "x".repeat(129) });
    book.bad("VaultService/CollectGarbage", bad, &["star_id", "request_id"]).await;
    let bad = json!({ "star_id": "not a name", "max_bytes_per_second": -1, "request_id": "x".repeat(129) });
    book.bad("VaultService/ScrubVault", bad, &["star_id", "max_bytes_per_second", "request_id"]).await;
}

/// A slow restore reads the snapshot while it is to be deleted.
async fn restore(world: &mut World, snapshot: &Value) {
    let back = world.grid.root("star-1").join("back");
    let request = json!({
        "snapshot_id": snapshot,
        "destination": { "star_id": "star-1", "path": back.to_str() },
        "max_bytes_per_second": 1000,
        "request_id": "restore-1",
    });
    let book = &mut world.coordinator;
    let made = book.good("VaultService/RestoreSnapshot", request.clone()).await;
    assert_eq!(&made["job"]["spec"]["source"]["snapshotId"], snapshot, "{made:#}");
    book.again("VaultService/RestoreSnapshot", request, &made, "/job/jobId").await;
    let bad = json!({ "snapshot_id": "x", "path": "../out" });
    book.bad("VaultService/RestoreSnapshot", bad, &["snapshot_id", "path"]).await;
    let bad = json!({
        "snapshot_id": snapshot,
        "destination": { "star_id": "nobody", "path": "relative" },
        "include": [""],
        "max_bytes_per_second": -1,
        "request_id": "x".repeat(129),
    });
    let fields =
        ["destination.star_id", "destination.path", "include[0]", "max_bytes_per_second", "request_id"];
    book.bad("VaultService/RestoreSnapshot", bad, &fields).await;
    book.bad("VaultService/RestoreSnapshot", json!({ "snapshot_id": snapshot }), &["destination"]).await;
    book.has_no_wrong_state("VaultService/RestoreSnapshot", "the job waits for Stars that are away");
    let delete = json!({ "snapshot_id": snapshot });
    book.wrong_state("VaultService/DeleteSnapshot", delete, "reads from it").await;
    book.good("JobService/CancelJob", json!({ "job_id": made["job"]["jobId"] })).await;
}

async fn forget(world: &mut World, job: u64, snapshot: &Value) {
    let book = &mut world.coordinator;
    let plan = json!({ "policy": { "keep_last": 1 }, "star_id": "star-2", "plan_only": true });
    let planned = book.good("VaultService/PruneSnapshots", plan).await;
    let decisions = planned["decisions"].as_array().expect("decisions");
    let is_it = |decision: &&Value| decision["snapshot"]["snapshotId"] == *snapshot;
    assert_eq!(decisions.iter().find(is_it).map(|decision| &decision["isKept"]), Some(&json!(true)));
    // No snapshot would be left of the tree with a FIFO, whose only one has no tag.
    let nothing_left = json!({ "policy": { "keep_tags": ["kept"] }, "star_id": "star-2" });
    book.bad("VaultService/PruneSnapshots", nothing_left, &["policy"]).await;
    let policy = json!({ "keep_last": 1, "keep_tags": ["kept"] });
    let prune = json!({ "policy": policy, "star_id": "star-2", "request_id": "prune-1" });
    let pruned = book.good("VaultService/PruneSnapshots", prune.clone()).await;
    let deleted = |decision: &&Value| decision["isDeleted"] == true;
    assert_eq!(
        pruned["decisions"].as_array().map(|all| all.iter().filter(deleted).count()),
        Some(0),
        "{pruned:#}"
    );
    book.again("VaultService/PruneSnapshots", prune, &pruned, "").await;
    let bad = json!({ "star_id": "not a name", "source_star_id": "a b", "request_id": "x".repeat(129) });
    let fields = ["policy", "star_id", "source_star_id", "request_id"];
    book.bad("VaultService/PruneSnapshots", bad, &fields).await;
    book.has_no_wrong_state("VaultService/PruneSnapshots", "the decision says why it cannot be deleted now");

    let delete = json!({ "snapshot_id": snapshot, "request_id": "delete-1" });
    let deleted = book.good("VaultService/DeleteSnapshot", delete.clone()).await;
    assert_eq!(deleted["snapshot"]["jobId"], job.to_string(), "{deleted:#}");
    book.unknown("VaultService/GetSnapshot", json!({ "snapshot_id": snapshot })).await;
    book.again("VaultService/DeleteSnapshot", delete, &deleted, "").await;
    book.stolen_name(
        "VaultService/DeleteSnapshot",
        json!({ "snapshot_id": "0".repeat(32), "request_id": "delete-1" }),
    )
    .await;
    bring_back(world, snapshot).await;
}

/// A deleted snapshot comes back, once, and not after a collection has taken its content.
async fn bring_back(world: &mut World, snapshot: &Value) {
    let book = &mut world.coordinator;
    let method = "VaultService/UndeleteSnapshot";
    let undelete = json!({ "snapshot_id": snapshot, "request_id": "undelete-1" });
    let back = book.good(method, undelete.clone()).await;
    assert_eq!((&back["snapshot"]["snapshotId"], &back["snapshot"]["starId"]), (snapshot, &json!("star-2")));
    book.again(method, undelete, &back, "").await;
    book.stolen_name(method, json!({ "snapshot_id": "0".repeat(32), "request_id": "undelete-1" })).await;
    let got = book.good("VaultService/GetSnapshot", json!({ "snapshot_id": snapshot })).await;
    assert_eq!(got["snapshot"], back["snapshot"], "it is in the catalogue again");
    book.wrong_state(method, json!({ "snapshot_id": snapshot }), "is not deleted").await;
    let bad = json!({ "snapshot_id": "x", "star_id": "not a name", "request_id": "x".repeat(129) });
    book.bad(method, bad, &["snapshot_id", "star_id", "request_id"]).await;
    book.unknown(method, json!({ "snapshot_id": "0".repeat(32) })).await;

    book.good("VaultService/DeleteSnapshot", json!({ "snapshot_id": snapshot })).await;
    let collect = json!({ "star_id": "star-2", "ignore_undo_window": true });
    book.good("VaultService/CollectGarbage", collect).await;
    book.unknown(method, json!({ "snapshot_id": snapshot, "star_id": "star-2" })).await;
}

/// Calls for a vault whose Star has left, with a snapshot that is still in the catalogue.
pub(crate) async fn call_absent(world: &mut World, star: &str) {
    let book = &mut world.coordinator;
    let listed = book.good("VaultService/ListSnapshots", json!({ "star_id": star })).await;
    let snapshot = json!({ "snapshot_id": listed["snapshots"][0]["snapshotId"] });
    for method in ["ListSnapshotEntries", "GetReadGrant", "DeleteSnapshot"] {
        book.wrong_state(&format!("VaultService/{method}"), snapshot.clone(), "is not connected").await;
    }
}
