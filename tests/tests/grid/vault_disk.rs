//! The disk of a vault is not that of the roots: it is judged, and its room counts for packed jobs. From when a disk is
//! worth a warning is a setting.

use orbit_proto::v1;
use orbit_proto::v1::AdvisoryType;
use orbit_tests::deadline::{eventually, within};
use orbit_tests::grid::{Grid, is_ready};
use orbit_tests::mount::SmallDisk;
use orbit_tests::tree::plant_files;

const MIB: u64 = 1 << 20;

/// The message of an advisory of this type.
fn advised(star: &v1::Star, kind: AdvisoryType) -> Option<&str> {
    let found = star.advisories.iter().find(|advisory| advisory.r#type() == kind);
    found.map(|advisory| advisory.message.as_str())
}

#[tokio::test]
async fn a_star_whose_vault_is_on_a_full_disk_is_not_healthy() {
    let mut grid = Grid::start(&["star-1"]).await;
    let vault = grid.vault("star-2");
    let _disk = SmallDisk::mount(&vault, 64 * MIB);
    grid.launch_star("star-2", grid.star_command("star-2")).await;
    let client = grid.client();
    client.wait_star("star-2", "receives work", is_ready).await;
    let star = client.wait_star("star-2", "knows its vault's disk", |star| star.vault_health.is_some()).await;
    let (disk, root) = (star.vault_health.expect("known"), star.health.expect("sampled"));
    assert_eq!(disk.disk_total_bytes, 64 * MIB);
    assert!(root.disk_total_bytes > 64 * MIB, "the root is elsewhere: {root:?}");

    plant_files(&grid.root("star-1").join("tree"), 10, 10_000, 1);
    let request = v1::PlanJobRequest { spec: Some(grid.packed_spec("tree", "star-1", &["star-2"])) };
    let plan = within("the plan", client.jobs().plan_job(request)).await.expect("a plan").into_inner();
    let room = plan.destinations[0].available_bytes.expect("the room of the vault's disk");
    assert!((1..=64 * MIB).contains(&room), "{room}");

    std::fs::write(vault.join("ballast"), vec![7; disk.disk_available_bytes as usize - 4096])
        .expect("the disk has room");
    let named = format!("vault {}: disk critical", vault.display());
    let is_told = |star: &v1::Star| {
        advised(star, AdvisoryType::DiskCritical).is_some_and(|message| message.starts_with(&named))
    };
    client.wait_star("star-2", "says that its vault's disk is full", is_told).await;
    let about =
        v1::ListBulletinsRequest { star_id: "star-2".to_owned(), ..v1::ListBulletinsRequest::default() };
    let board = client.bulletins_like(about).await;
    assert!(board.iter().any(|bulletin| bulletin.message.contains(&named)), "{board:#?}");

    std::fs::remove_file(vault.join("ballast")).expect("a file can be removed");
    let is_well = |star: &v1::Star| advised(star, AdvisoryType::DiskCritical).is_none();
    client.wait_star("star-2", "is healthy again", is_well).await;
}

#[tokio::test]
async fn a_disk_with_too_little_space_is_collected_without_a_request() {
    let mut grid = Grid::start(&["star-1"]).await;
    let vault = grid.vault("star-2");
    let _disk = SmallDisk::mount(&vault, 64 * MIB);
    let mut command = grid.star_command("star-2");
    command.args(["--free-bytes-min", "30M", "--disk-critical-percent", "100"]);
    grid.launch_star("star-2", command).await;
    let client = grid.client();
    client.wait_star("star-2", "receives work", is_ready).await;
    plant_files(&grid.root("star-1").join("tree"), 10, 2 << 20, 1);
    let job_id = client.create(grid.packed_spec("tree", "star-1", &["star-2"])).await;
    let job = client.wait_end(job_id).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");

    let about =
        || v1::ListBulletinsRequest { star_id: "star-2".to_owned(), ..v1::ListBulletinsRequest::default() };
    let said = async |text: &str| {
        eventually("a bulletin about the collection", async || {
            let board = client.bulletins_like(about()).await;
            board.into_iter().find(|bulletin| bulletin.message.contains(text))
        })
        .await
    };
    std::fs::write(vault.join("ballast"), vec![7; 15 << 20]).expect("the disk has room");
    let nothing = said("no garbage to collect").await;
    assert_eq!((nothing.severity(), nothing.category.as_str()), (v1::Severity::Warning, "vault"));

    // What was just deleted could be undeleted for a day, but there is no space for that.
    let request = v1::DeleteSnapshotRequest {
        snapshot_id: job.snapshot_ids[0].clone(),
        ..v1::DeleteSnapshotRequest::default()
    };
    within("the deletion", client.vaults().delete_snapshot(request)).await.expect("it can be deleted");
    let freed = said("bytes were freed").await;
    assert_eq!(freed.severity(), v1::Severity::Info, "{freed:#?}");
    let has_space = |star: &v1::Star| {
        star.vault_health.is_some_and(|disk| disk.disk_available_bytes > 30 * MIB)
            && star.vault_bytes.is_some_and(|bytes| bytes < 10 * MIB)
    };
    client.wait_star("star-2", "has space again", has_space).await;
}

#[tokio::test]
async fn a_threshold_is_a_setting_of_the_star() {
    let mut grid = Grid::start(&[]).await;
    let mut command = grid.star_command("star-1");
    command.args(["--disk-warning-free", "1000T", "--disk-critical-percent", "100"]);
    grid.launch_star("star-1", command).await;
    let warns = |star: &v1::Star| advised(star, AdvisoryType::DiskWarning).is_some();
    grid.client().wait_star("star-1", "warns of any disk", warns).await;
}
