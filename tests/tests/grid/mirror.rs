//! Mirrors: what only a destination has is deleted, and nothing else, and never more than was allowed.

use std::path::Path;

use orbit_proto::v1;
use orbit_tests::deadline::within;
use orbit_tests::grid::{Grid, is_ready};
use orbit_tests::mount::FoldingDisk;
use orbit_tests::programs::program;
use orbit_tests::tree::{differences, plant_files};
use tokio::process::Command;

/// A mirror of `tree` on star-1, on the others.
fn mirror(grid: &Grid, to: &[&str], max_delete_percent: u32, trash: &str) -> v1::JobSpec {
    v1::JobSpec {
        mode: v1::Mode::Mirror.into(),
        mirror: Some(v1::MirrorPolicy {
            max_delete_percent: Some(max_delete_percent),
            trash_directory: trash.to_owned(),
        }),
        ..grid.copy_spec("tree", "star-1", to)
    }
}

async fn run(grid: &Grid, spec: v1::JobSpec) -> v1::Job {
    let client = grid.client();
    client.wait_end(client.create(spec).await).await
}

fn assert_same(source: &Path, destination: &Path) {
    let found = differences(source, destination);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test]
async fn a_mirror_is_what_the_source_is() {
    let grid = Grid::start(&["star-1", "star-2", "star-3"]).await;
    let source = grid.root("star-1").join("tree");
    plant_files(&source, 400, 5_000, 11);
    for star in ["star-2", "star-3"] {
        let old = grid.root(star).join("tree/was here/deep");
        std::fs::create_dir_all(&old).expect("a directory");
        std::fs::write(old.join("file"), b"old").expect("a file");
        std::os::unix::fs::symlink("/nowhere", old.join("link")).expect("a link");
    }
    let job = run(&grid, mirror(&grid, &["star-2", "star-3"], 25, "")).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    assert_eq!(job.progress.expect("progress").entries_deleted, 8);
    for star in ["star-2", "star-3"] {
        assert_same(&source, &grid.root(star).join("tree"));
    }
    let request = v1::ListBulletinsRequest { category: "mirror".to_owned(), ..Default::default() };
    let told = grid.client().bulletins_like(request).await;
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[0].message.contains("4 entries") && told[0].message.contains("were deleted"), "{told:#?}");

    // What was deleted at the source is deleted at the destinations, and nothing else changes.
    let gone: Vec<_> = std::fs::read_dir(&source)
        .expect("the source")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .take(10)
        .collect();
    for path in &gone {
        std::fs::remove_file(path).expect("a file");
    }
    let job = run(&grid, mirror(&grid, &["star-2", "star-3"], 25, "")).await;
    let progress = job.progress.expect("progress");
    assert_eq!((progress.entries_deleted, progress.bytes_transferred), (2 * gone.len() as u64, 0));
    assert_same(&source, &grid.root("star-2").join("tree"));
}

#[tokio::test]
async fn too_much_is_never_deleted_and_a_plan_reports_it_before() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let (source, copy) = (grid.root("star-1").join("tree"), grid.root("star-2").join("tree"));
    plant_files(&source, 30, 2_000, 7);
    run(&grid, mirror(&grid, &["star-2"], 25, "")).await;
    let kept = tempfile::tempdir().expect("a directory");
    let before = kept.path().join("before");
    let copied = Command::new("cp").arg("-a").arg(&copy).arg(&before).status().await.expect("cp starts");
    assert!(copied.success());

    // As if a disk of the source is not mounted.
    std::fs::remove_dir_all(&source).expect("the source goes");
    std::fs::create_dir(&source).expect("an empty directory");
    let from = format!("star-1:{}", source.display());
    let to = format!("star-2:{}", copy.display());
    let mut plan = Command::new(program("orbit"));
    plan.args(["job", "plan", &from, &to, "--mirror"]).env("ORBIT_COORDINATOR", grid.address());
    let output = within("orbit job plan", plan.kill_on_drop(true).output()).await.expect("orbit starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("MORE THAN --max-delete ALLOWS"), "{text}");
    let job = run(&grid, mirror(&grid, &["star-2"], 99, "")).await;
    assert_eq!(job.state(), v1::JobState::Failed, "{job:#?}");
    assert!(job.state_reason.contains("nothing was deleted at star-2:"), "{}", job.state_reason);
    assert!(job.state_reason.contains("max_delete_percent"), "{}", job.state_reason);
    assert_eq!(job.progress.expect("progress").entries_deleted, 0);
    let found: Vec<_> = differences(&before, &copy);
    // The base directory has got the mode and time of the empty source.
    assert!(found.iter().all(|line| !line.contains('/')), "{}", found.join("\n"));

    // An operator can allow it explicitly, and keep the deleted files in a trash.
    let job = run(&grid, mirror(&grid, &["star-2"], 100, ".trash")).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    let left: Vec<_> =
        std::fs::read_dir(&copy).expect("it is there").map(|entry| entry.expect("one").file_name()).collect();
    assert_eq!(left, [".trash"]);
    let trash = copy.join(format!(".trash/job-{}", job.job_id));
    let found = differences(&before, &trash);
    assert!(found.iter().all(|line| !line.contains('/')), "{}", found.join("\n"));
    let again = run(&grid, mirror(&grid, &["star-2"], 0, ".trash")).await;
    assert_eq!(again.state(), v1::JobState::Completed, "the trash counts for nothing: {again:#?}");
}

#[tokio::test]
async fn entries_outside_the_job_are_kept_and_a_failed_item_keeps_nothing_else() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let (source, copy) = (grid.root("star-1").join("tree"), grid.root("star-2").join("tree"));
    plant_files(&source, 20, 2_000, 7);
    std::fs::create_dir_all(copy.join("gone")).expect("a directory");
    for name in ["gone/notes.keep", "gone/file", "large"] {
        let bytes = if name == "large" { vec![0; 100_000] } else { b"x".to_vec() };
        std::fs::write(copy.join(name), bytes).expect("a file");
    }
    rustix::fs::mkfifoat(rustix::fs::CWD, source.join("pipe"), rustix::fs::Mode::RWXU).expect("a FIFO");
    let spec = || v1::JobSpec {
        exclude: vec!["*.keep".to_owned()],
        max_size_bytes: Some(50_000),
        ..mirror(&grid, &["star-2"], 50, "")
    };
    let job = run(&grid, spec()).await;
    assert_eq!(job.state(), v1::JobState::PartiallyCompleted, "{job:#?}");
    assert!(job.state_reason.contains("1 entries"), "{}", job.state_reason);
    assert!(!copy.join("gone/file").exists());
    assert!(copy.join("gone/notes.keep").exists(), "it is excluded");
    assert!(copy.join("large").exists(), "the job is not about files of that size");
}

#[tokio::test]
async fn a_mirror_converges_when_names_change_their_kind() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let (source, copy) = (grid.root("star-1").join("tree"), grid.root("star-2").join("tree"));
    plant_files(&source, 40, 2_000, 7);
    std::fs::create_dir(source.join("was directory")).expect("a directory");
    std::fs::write(source.join("was directory/in"), b"in").expect("a file");
    std::fs::create_dir(source.join("becomes link")).expect("a directory");
    std::fs::write(source.join("becomes link/in"), b"in").expect("a file");
    std::fs::write(source.join("was file"), b"x").expect("a file");
    std::os::unix::fs::symlink("nowhere", source.join("was link")).expect("a link");
    std::fs::write(source.join("becomes empty"), b"x").expect("a file");
    run(&grid, mirror(&grid, &["star-2"], 25, "")).await;
    assert_same(&source, &copy);

    std::fs::remove_dir_all(source.join("was directory")).expect("it goes");
    std::fs::write(source.join("was directory"), b"a file").expect("a file");
    std::fs::remove_dir_all(source.join("becomes link")).expect("it goes");
    std::os::unix::fs::symlink("was file", source.join("becomes link")).expect("a link");
    for (name, inner) in [("was file", true), ("was link", true), ("becomes empty", false)] {
        std::fs::remove_file(source.join(name)).expect("it goes");
        std::fs::create_dir(source.join(name)).expect("a directory");
        if inner {
            std::fs::write(source.join(name).join("in"), name).expect("a file");
        }
    }
    let job = run(&grid, mirror(&grid, &["star-2"], 25, ".trash")).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    let trash = copy.join(format!(".trash/job-{}", job.job_id));
    assert_eq!(std::fs::read(trash.join("was directory/in")).expect("it is kept"), b"in");
    assert_eq!(std::fs::read(trash.join("was file")).expect("it is kept"), b"x");
    std::fs::remove_dir_all(copy.join(".trash")).expect("the trash goes");
    let job = run(&grid, mirror(&grid, &["star-2"], 0, "")).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    assert_same(&source, &copy);
}

/// The names in a directory, and the content of its files.
fn contents(directory: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry"));
    let mut found: Vec<_> = entries
        .map(|entry| {
            let content = std::fs::read_to_string(entry.path()).expect("a file of text");
            (entry.file_name().to_string_lossy().into_owned(), content)
        })
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn of_two_names_that_collide_at_the_destination_a_mirror_keeps_the_existing_one() {
    let mut grid = Grid::start(&["star-1"]).await;
    let Some(_disk) = FoldingDisk::mount(&grid.root("star-2"), &grid.directory().join("image")) else {
        eprintln!("no file system that folds case can be mounted here: nothing was tried");
        return;
    };
    grid.launch_star("star-2", grid.star_command("star-2")).await;
    grid.client().wait_star("star-2", "receives work", is_ready).await;
    let (source, copy) = (grid.root("star-1").join("tree"), grid.root("star-2").join("tree"));
    std::fs::create_dir_all(&source).expect("a directory");
    for (name, content) in [("README", "upper"), ("readme", "lower"), ("other", "o")] {
        std::fs::write(source.join(name), content).expect("a file");
    }
    let mut kept = Vec::new();
    for round in 0..2 {
        let job = run(&grid, mirror(&grid, &["star-2"], 100, "")).await;
        let progress = job.progress.expect("progress");
        assert_eq!((progress.items_dead, progress.entries_deleted), (1, 0), "{round}: {job:#?}");
        let found = contents(&copy);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|known| contents(&source).contains(known)), "{round}: {found:?}");
        assert!(round == 0 || found == kept, "{found:?} instead of {kept:?}");
        kept = found;
    }
    let loser = if kept.iter().any(|(name, _)| name == "README") { "readme" } else { "README" };
    std::fs::remove_file(source.join(loser)).expect("a file");
    // Once no names collide any more, what only the destination has is deleted.
    std::fs::write(copy.join("extra"), "x").expect("a file");
    let job = run(&grid, mirror(&grid, &["star-2"], 100, "")).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    assert_eq!(job.progress.expect("progress").entries_deleted, 1);
    assert_eq!(contents(&copy), kept);
}
