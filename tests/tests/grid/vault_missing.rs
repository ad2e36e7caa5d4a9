//! Files of a vault are lost: the grid reports it, and the next backup is restored exactly although no file of the
//! source has changed.

use orbit_proto::v1;
use orbit_tests::client::Client;
use orbit_tests::deadline::eventually;
use orbit_tests::grid::Grid;
use orbit_tests::tree::{differences, plant_files};

const FILES: usize = 60;
const FILE_BYTES: usize = 5000;

fn remove_containers(grid: &Grid, star: &str) {
    let containers = grid.vault(star).join("packed/containers");
    for entry in std::fs::read_dir(containers).expect("a vault has containers") {
        std::fs::remove_file(entry.expect("an entry").path()).expect("it can be removed");
    }
}

async fn backup(grid: &Grid, client: &Client) -> v1::Job {
    let job = client.create(grid.packed_spec("tree", "star-1", &["star-2"])).await;
    let job = client.wait_end(job).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    job
}

/// The tree can be restored from all snapshots.
async fn assert_all_restore(grid: &Grid, client: &Client, count: usize) {
    let snapshots = client.all_snapshots().await;
    assert_eq!(snapshots.len(), count, "{snapshots:#?}");
    for snapshot in snapshots {
        let place = format!("back-{}", snapshot.snapshot_id);
        let request = v1::RestoreSnapshotRequest {
            snapshot_id: snapshot.snapshot_id,
            destination: Some(grid.place("star-1", &place)),
            ..v1::RestoreSnapshotRequest::default()
        };
        let restored = client.restore(request).await;
        assert_eq!(restored.state(), v1::JobState::Completed, "{restored:#?}");
        let found = differences(&grid.root("star-1").join("tree"), &grid.root("star-1").join(&place));
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

fn lacks_something(star: &v1::Star) -> bool {
    star.advisories.iter().any(|advisory| advisory.r#type() == v1::AdvisoryType::VaultIncomplete)
}

async fn vault_errors(client: &Client) -> Vec<v1::Bulletin> {
    let request = v1::ListBulletinsRequest {
        min_severity: v1::Severity::Error.into(),
        category: "vault".to_owned(),
        star_id: "star-2".to_owned(),
        ..v1::ListBulletinsRequest::default()
    };
    client.bulletins_like(request).await
}

#[tokio::test]
async fn a_removed_container_is_reported_and_the_next_backup_heals() {
    let mut grid = Grid::start(&["star-1", "star-2"]).await;
    let client = grid.client();
    plant_files(&grid.root("star-1").join("tree"), FILES, FILE_BYTES, 33);
    backup(&grid, &client).await;
    for is_running in [true, false] {
        let before = client.all_snapshots().await.len();
        let known = vault_errors(&client).await.len();
        if is_running {
            remove_containers(&grid, "star-2");
        } else {
            grid.star("star-2").kill().await;
            remove_containers(&grid, "star-2");
            grid.add_star("star-2").await;
        }
        let star = client.wait_star("star-2", "says what is missing", lacks_something).await;
        assert!(star.advisories[0].message.contains("is missing"), "{star:#?}");
        let told = vault_errors(&client).await;
        assert!(told.len() > known && told.iter().any(|one| !one.is_acknowledged), "{told:#?}");
        // Chunks that the rolling check has found may have been healed from the source; the others come with the
        // backup.
        backup(&grid, &client).await;
        assert_all_restore(&grid, &client, before + 1).await;
        client.wait_star("star-2", "lacks nothing", |star| !lacks_something(star)).await;
        eventually("the errors to be acknowledged", async || {
            vault_errors(&client).await.iter().all(|one| one.is_acknowledged).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_loss_before_the_seal_fails_the_job_and_not_the_next_one() {
    let grid = Grid::start(&["star-1", "star-2", "star-3"]).await;
    let client = grid.client();
    let (count, length) = (400, 20_000);
    plant_files(&grid.root("star-1").join("tree"), count, length, 34);
    let mut spec = grid.packed_spec("tree", "star-1", &["star-2", "star-3"]);
    spec.max_bytes_per_second = (count * length / 3) as i64;
    let job_id = client.create(spec).await;
    let is_begun = |job: &v1::Job| job.progress.is_some_and(|progress| progress.items_stored > 40);
    client.wait_job(job_id, "in its middle", is_begun).await;
    remove_containers(&grid, "star-2");
    let job = client.wait_end(job_id).await;
    assert_eq!(job.state(), v1::JobState::Failed, "{job:#?}");
    assert!(job.state_reason.contains("is not stored; it must be sent again"), "{}", job.state_reason);
    let snapshots = client.all_snapshots().await;
    assert_eq!(snapshots.iter().map(|one| one.star_id.as_str()).collect::<Vec<_>>(), ["star-3"]);
    backup(&grid, &client).await;
    assert_all_restore(&grid, &client, 2).await;
}
