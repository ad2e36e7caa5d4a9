//! What a job would do, before it does it; and what a second copy finds unchanged.

use std::time::{Duration, SystemTime};

use orbit_proto::v1;
use orbit_tests::client::bad_fields;
use orbit_tests::deadline::within;
use orbit_tests::grid::Grid;
use orbit_tests::programs::program;
use orbit_tests::tree::{differences, plant_files};
use tokio::process::Command;

async fn plan(grid: &Grid, spec: v1::JobSpec) -> Result<v1::PlanJobResponse, tonic::Status> {
    let request = v1::PlanJobRequest { spec: Some(spec) };
    within("the plan", grid.client().jobs().plan_job(request)).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_plan_predicts_what_a_job_does_and_changes_nothing() {
    let grid = Grid::start(&["star-1", "star-2", "star-3"]).await;
    let source = grid.root("star-1").join("tree");
    plant_files(&source, 300, 20_000, 5);
    rustix::fs::mkfifoat(rustix::fs::CWD, source.join("pipe"), rustix::fs::Mode::RWXU).expect("a FIFO");
    let spec = || grid.copy_spec("tree", "star-1", &["star-2", "star-3"]);
    for star in ["star-2", "star-3"] {
        grid.client().wait_star(star, "says how much room it has", |star| star.health.is_some()).await;
    }
    let before = plan(&grid, spec()).await.expect("a plan");
    assert_eq!(before.entries_not_carried, 1);
    assert!(before.not_carried_examples[0].contains("pipe"), "{before:?}");
    for place in &before.destinations {
        assert!(place.is_compared && place.items_unchanged == 0, "{place:?}");
        assert_eq!(place.items_to_move, before.entries - 1, "{place:?}");
        assert_eq!(place.bytes_to_move, before.bytes);
        assert!(!place.examples.is_empty() && place.held_by.is_empty(), "{place:?}");
        let (now, after) =
            (place.available_bytes.expect("known"), place.available_bytes_after.expect("known"));
        assert_eq!(i64::try_from(now).expect("a disk") - after, i64::try_from(before.bytes).expect("few"));
    }
    assert!(grid.client().all_jobs().await.is_empty(), "a plan is no job");
    assert!(std::fs::read_dir(grid.root("star-2")).expect("the root").next().is_none(), "nothing is written");

    std::fs::remove_file(source.join("pipe")).expect("the FIFO goes");
    let client = grid.client();
    let job = client.wait_end(client.create(spec()).await).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    std::fs::write(source.join("new"), b"something new").expect("a new file");
    let after = plan(&grid, spec()).await.expect("a plan");
    let files = client.all_items(job.job_id).await;
    let files =
        files.iter().filter(|item| item.kind() == v1::EntryKind::File && item.star_id == "star-2").count();
    for place in &after.destinations {
        assert_eq!(place.items_unchanged, files as u64, "{place:?}");
        assert_eq!((place.bytes_to_move, place.examples.as_slice()), (13, &["new".to_owned()][..]));
    }

    // The job does what the plan predicted, and most entries never become items.
    let again = client.wait_end(client.create(spec()).await).await;
    assert_eq!(again.state(), v1::JobState::Completed, "{again:#?}");
    let progress = again.progress.expect("a job shows its progress");
    assert_eq!(progress.bytes_transferred, 26, "{progress:?}");
    assert_eq!(progress.items_total, progress.items_stored + progress.items_skipped + progress.items_dead);
    let begun = client.events_of(again.job_id, v1::ProvenanceType::FileStarted).await.len();
    let directories = after.destinations[0].items_to_move - 1;
    assert_eq!(begun as u64, 2 * (directories + 1), "the new file, and every directory");
    let skipped = client.events_of(again.job_id, v1::ProvenanceType::FileSkipped).await.len();
    assert!(skipped >= 2 * files, "{skipped} of {files}");
    for star in ["star-2", "star-3"] {
        let found = differences(&source, &grid.root(star).join("tree"));
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

#[tokio::test]
async fn a_plan_is_refused_like_a_job_and_reports_what_would_block_it() {
    let mut grid = Grid::start(&["star-1", "star-2"]).await;
    plant_files(&grid.root("star-1").join("tree"), 20, 1_000, 5);
    let spec = grid.copy_spec("tree", "star-1", &["star-2"]);
    let bad = v1::JobSpec { destinations: vec![grid.place("nobody", "x")], ..spec.clone() };
    let refused = plan(&grid, bad).await.expect_err("nobody is there");
    assert!(bad_fields(&refused).contains(&"spec.destinations[0].star_id".to_owned()), "{refused}");
    let missing = grid.copy_spec("no-such-tree", "star-1", &["star-2"]);
    let refused = plan(&grid, missing).await.expect_err("there is no such tree");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("no-such-tree"), "{refused}");

    let cordon = v1::CordonStarRequest { star_id: "star-2".to_owned(), ..v1::CordonStarRequest::default() };
    grid.client().stars().cordon_star(cordon).await.expect("a Star can be cordoned");
    let held = plan(&grid, spec.clone()).await.expect("a plan");
    assert!(held.destinations[0].held_by.contains("cordoned"), "{held:?}");
    assert!(!held.destinations[0].is_compared, "{held:?}");
    assert_eq!(held.destinations[0].items_to_move, held.entries);

    grid.star("star-1").kill().await;
    grid.client().wait_star("star-1", "is away", |star| star.liveness() != v1::Liveness::Alive).await;
    let refused = plan(&grid, spec).await.expect_err("nobody can list it");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("star-1"), "{refused}");
}

#[tokio::test]
async fn orbit_plans_and_chooses_by_size_age_and_list() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let source = grid.root("star-1").join("tree");
    std::fs::create_dir_all(source.join("a b")).expect("a directory");
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for (name, size, is_old) in [("small", 10, false), ("a b/big*", 9000, false), ("aged", 500, true)] {
        std::fs::write(source.join(name), vec![7; size]).expect("a file");
        if is_old {
            let file = std::fs::File::options().append(true).open(source.join(name)).expect("the file");
            file.set_modified(old).expect("its time");
        }
    }
    let list = grid.directory().join("list");
    std::fs::write(&list, "a b/big*\n").expect("a list");
    let list = list.to_str().expect("text");
    let from = format!("star-1:{}", source.display());
    let to = format!("star-2:{}/copy", grid.root("star-2").display());
    for (flags, wanted) in [
        (vec!["--min-size", "1K"], vec!["a b/big*"]),
        (vec!["--max-size", "499"], vec!["small"]),
        (vec!["--max-age", "30d"], vec!["a b/big*", "small"]),
        (vec!["--min-age", "30d"], vec!["aged"]),
        (vec!["--files-from", list], vec!["a b/big*"]),
        (vec!["--bwlimit-at", "00:00-00:00=1M", "--exclude", "aged"], vec!["a b/big*", "small"]),
    ] {
        let mut command = Command::new(program("orbit"));
        command.args(["job", "plan", &from, &to, "--json"]).args(&flags);
        command.env("ORBIT_COORDINATOR", grid.address()).kill_on_drop(true);
        let output = within("orbit job plan", command.output()).await.expect("orbit starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{flags:?}: {}", String::from_utf8_lossy(&output.stderr));
        let plan: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let examples = plan["destinations"][0]["examples"].as_array().cloned().unwrap_or_default();
        let mut examples: Vec<_> = examples.iter().filter_map(|path| path.as_str()).collect();
        examples.sort_unstable();
        assert_eq!(examples, wanted, "{flags:?}");
    }
}
