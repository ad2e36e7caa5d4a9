//! Jobs that stay in one file system: mount points are made and not entered, a mirror deletes nothing in them on either
//! side, and each is named.

use std::fs;

use orbit_proto::v1;
use orbit_tests::deadline::within;
use orbit_tests::grid::Grid;
use orbit_tests::mount::SmallDisk;
use orbit_tests::programs::program;
use tokio::process::Command;

const DISK_BYTES: u64 = 1 << 20;

fn spec(grid: &Grid, mode: v1::Mode) -> v1::JobSpec {
    let mirror = v1::MirrorPolicy { max_delete_percent: Some(100), trash_directory: String::new() };
    v1::JobSpec {
        mode: mode.into(),
        mirror: (mode == v1::Mode::Mirror).then_some(mirror),
        one_file_system: true,
        ..grid.copy_spec("tree", "star-1", &["star-2"])
    }
}

async fn run(grid: &Grid, spec: v1::JobSpec) -> v1::Job {
    let client = grid.client();
    client.wait_end(client.create(spec).await).await
}

#[tokio::test]
async fn mount_points_are_made_and_not_entered_and_a_mirror_leaves_them_alone_at_both_ends() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let (source, copy) = (grid.root("star-1").join("tree"), grid.root("star-2").join("tree"));
    fs::create_dir_all(source.join("own/deep")).expect("a directory");
    fs::write(source.join("own/deep/file"), b"moves").expect("a file");
    let _disk = SmallDisk::mount(&source.join("own/disk"), DISK_BYTES);
    fs::create_dir(source.join("own/disk/below")).expect("a directory");
    fs::write(source.join("own/disk/below/file"), b"stays").expect("a file");

    let job = run(&grid, spec(&grid, v1::Mode::Copy)).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    assert_eq!(
        (job.skipped_mounts, job.skipped_mount_examples.as_slice()),
        (1, &["own/disk".to_owned()][..])
    );
    assert!(job.state_reason.contains("1 mount point was not entered: own/disk"), "{}", job.state_reason);
    assert_eq!(fs::read(copy.join("own/deep/file")).expect("it is copied"), b"moves");
    let made = fs::read_dir(copy.join("own/disk")).expect("the mount point is made").count();
    assert_eq!(made, 0, "what is mounted there is not copied");
    let request = v1::ListBulletinsRequest { category: "mounts".to_owned(), ..Default::default() };
    let said = grid.client().bulletins_like(request).await;
    assert!(said.len() == 1 && said[0].message.ends_with("not entered: own/disk"), "{said:#?}");

    // What only the destination has is deleted, but not below a mount point of the source, nor in its own mount points.
    fs::write(copy.join("own/old"), b"goes").expect("a file");
    fs::create_dir_all(copy.join("own/disk/old/deep")).expect("a directory");
    fs::write(copy.join("own/disk/old/deep/file"), b"kept").expect("a file");
    fs::create_dir(copy.join("gone")).expect("a directory");
    let _other = SmallDisk::mount(&copy.join("gone/mounted"), DISK_BYTES);
    fs::write(copy.join("gone/mounted/file"), b"kept").expect("a file");

    let mut jobs = grid.client().jobs();
    let request = v1::PlanJobRequest { spec: Some(spec(&grid, v1::Mode::Mirror)) };
    let plan = within("the plan", jobs.plan_job(request)).await.expect("a plan").into_inner();
    assert_eq!(
        (plan.skipped_mounts, plan.skipped_mount_examples.as_slice()),
        (1, &["own/disk".to_owned()][..])
    );
    let deletion = plan.destinations[0].deletion.clone().expect("what a mirror deletes");
    assert!(
        !deletion.examples.iter().any(|path| path.contains("disk") || path.contains("mounted")),
        "{deletion:?}"
    );
    assert!(deletion.problem.contains("mount point gone/mounted below"), "{deletion:?}");

    let job = run(&grid, spec(&grid, v1::Mode::Mirror)).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    assert!(!copy.join("own/old").exists(), "{job:#?}");
    assert_eq!(fs::read(copy.join("own/disk/old/deep/file")).expect("it stays"), b"kept");
    assert_eq!(fs::read(copy.join("gone/mounted/file")).expect("it stays"), b"kept");
    assert!(job.deletion_problem.contains("gone/mounted"), "{job:#?}");
    let shown = orbit(&grid, &["job", "show", &job.job_id.to_string()]).await;
    assert!(shown.contains("1 mount point (own/disk)") && shown.contains("gone/mounted"), "{shown}");

    // Without it, all of them are entered.
    let all = v1::JobSpec { one_file_system: false, ..spec(&grid, v1::Mode::Copy) };
    let job = run(&grid, all).await;
    assert_eq!((job.state(), job.skipped_mounts), (v1::JobState::Completed, 0), "{job:#?}");
    assert_eq!(fs::read(copy.join("own/disk/below/file")).expect("it is copied"), b"stays");
}

#[tokio::test]
async fn a_mirror_keeps_what_is_below_a_mount_point_that_is_unmounted_before_it_deletes() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let (source, copy) = (grid.root("star-1").join("tree"), grid.root("star-2").join("tree"));
    fs::create_dir_all(&source).expect("a directory");
    fs::write(source.join("slow"), vec![7; 6 << 20]).expect("a file");
    let disk = SmallDisk::mount(&source.join("disk"), DISK_BYTES);
    fs::create_dir_all(copy.join("disk/deep")).expect("a directory");
    fs::write(copy.join("disk/deep/file"), b"kept").expect("a file");
    fs::write(copy.join("old"), b"goes").expect("a file");

    let client = grid.client();
    let spec = v1::JobSpec { max_bytes_per_second: 1 << 20, ..spec(&grid, v1::Mode::Mirror) };
    let id = client.create(spec).await;
    let is_listed = |job: &v1::Job| job.state() == v1::JobState::Running && job.skipped_mounts == 1;
    client.wait_job(id, "the source is listed and its file moves", is_listed).await;
    drop(disk);
    let job = client.wait_job(id, "the mirror ends", |job| job.end_time.is_some()).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    assert!(!copy.join("old").exists(), "{job:#?}");
    assert_eq!(fs::read(copy.join("disk/deep/file")).expect("it stays"), b"kept");
}

async fn orbit(grid: &Grid, arguments: &[&str]) -> String {
    let mut command = Command::new(program("orbit"));
    command.args(arguments).env("ORBIT_COORDINATOR", grid.address()).kill_on_drop(true);
    let output = within("orbit", command.output()).await.expect("orbit starts");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_copy_stays_in_one_file_system_on_request() {
    let directory = tempfile::tempdir().expect("a directory");
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    fs::create_dir(&from).expect("a directory");
    fs::write(from.join("file"), b"moves").expect("a file");
    let _disk = SmallDisk::mount(&from.join("disk"), DISK_BYTES);
    fs::write(from.join("disk/file"), b"stays").expect("a file");
    let mut copy = Command::new(program("orbit"));
    copy.args(["copy", "-x"]).args([&from, &to]).kill_on_drop(true);
    let output = within("orbit copy", copy.output()).await.expect("orbit starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("not entered: 1 mount point (disk)"), "{text}");
    assert!(to.join("file").exists() && to.join("disk").is_dir() && !to.join("disk/file").exists());
}
