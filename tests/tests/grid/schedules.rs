//! Schedules, as operators create them and find them again after a restart.

use orbit_proto::v1;
use orbit_tests::client::bad_fields;
use orbit_tests::deadline::within;
use orbit_tests::grid::Grid;
use orbit_tests::programs::program;
use orbit_tests::tree::{differences, plant_files};
use tokio::process::Command;

async fn orbit(grid: &Grid, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(program("orbit"));
    command.args(arguments).env("ORBIT_COORDINATOR", grid.address()).kill_on_drop(true);
    let output = within("orbit", command.output()).await.expect("orbit starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn a_schedule_makes_its_first_job_at_once_and_outlives_the_coordinator() {
    let mut grid = Grid::start(&["star-1", "star-2"]).await;
    let source = grid.root("star-1").join("tree");
    plant_files(&source, 20, 2_000, 3);
    let from = format!("star-1:{}", source.display());
    let to = format!("star-2:{}/copy", grid.root("star-2").display());
    let (code, text) = orbit(&grid, &["schedule", "create", &from, &to, "--every", "6h", "--mirror"]).await;
    assert!(code == Some(0) && text.contains("every 6 h"), "{code:?} {text}");
    let job = grid.client().wait_end(1).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    let found = differences(&source, &grid.root("star-2").join("copy"));
    assert!(found.is_empty(), "{}", found.join("\n"));

    grid.coordinator().kill().await;
    grid.restart_coordinator().await;
    for star in ["star-1", "star-2"] {
        grid.client().wait_star(star, "is back", |star| star.liveness() == v1::Liveness::Alive).await;
    }
    let (_, text) = orbit(&grid, &["schedule", "ls", "--json"]).await;
    let list: serde_json::Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let schedule = &list["schedules"][0];
    assert_eq!((schedule["scheduleId"].as_str(), schedule["lastJobId"].as_str()), (Some("1"), Some("1")));
    assert_eq!(schedule["spec"]["mode"], "MODE_MIRROR");
    assert_eq!(grid.client().all_jobs().await.len(), 1, "its time has not come");

    let (code, text) = orbit(&grid, &["schedule", "run", "1"]).await;
    assert!(code == Some(0) && text.contains("job 2"), "{text}");
    assert_eq!(grid.client().wait_end(2).await.state(), v1::JobState::Completed);
    let (code, text) = orbit(&grid, &["schedule", "pause", "1", "--reason", "new disks"]).await;
    assert!(code == Some(0) && text.contains("paused: new disks"), "{text}");
    let (code, text) = orbit(&grid, &["schedule", "rm", "1"]).await;
    assert!(code == Some(0) && text.contains("forgotten"), "{text}");
    let (code, text) = orbit(&grid, &["schedule", "resume", "1"]).await;
    assert!(code == Some(1) && text.contains("schedule 1"), "{code:?} {text}");
}

#[tokio::test]
async fn a_schedule_is_changed_from_its_next_job_on_and_no_edit_is_lost() {
    let mut grid = Grid::start(&["star-1", "star-2"]).await;
    let source = grid.root("star-1").join("tree");
    plant_files(&source, 5, 2_000, 3);
    std::fs::write(source.join("new.tmp"), "later jobs leave it out").expect("writes");
    let (from, to) =
        (format!("star-1:{}", source.display()), format!("star-2:{}", grid.root("star-2").display()));
    let (first, second) = (format!("{to}/first"), format!("{to}/second"));
    let create =
        ["schedule", "create", &from, &first, "--every", "6h", "--bwlimit", "100M", "--include", "*"];
    let (code, text) = orbit(&grid, &create).await;
    assert_eq!(code, Some(0), "{text}");
    grid.client().wait_end(1).await;

    let (_, shown) = orbit(&grid, &["schedule", "show", "1", "--json"]).await;
    let before: serde_json::Value = serde_json::from_str(&shown).expect("it is JSON");
    let edit = ["--at", "03:30", "--to", &second, "--exclude", "*.tmp", "--clear", "bwlimit"];
    let (code, text) = orbit(&grid, &[&["schedule", "edit", "1"], &edit[..]].concat()).await;
    assert_eq!(code, Some(0), "{text}");
    for line in [
        "times    every 6h -> 03:30 UTC".to_owned(),
        format!("to       {first} -> {second}"),
        "exclude  none -> *.tmp".to_owned(),
        "bwlimit  100MiB/s -> none".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} is not in:\n{text}");
    }
    assert!(text.lines().any(|line| line.starts_with("next ") && line.ends_with("03:30:00Z")), "{text}");
    assert_eq!(text.lines().count(), 6, "nothing else was changed:\n{text}");

    // Another operator read the schedule before that edit.
    let stale: v1::JobSpec = grid.copy_spec("tree", "star-1", &["star-2"]);
    let request = v1::UpdateScheduleRequest {
        schedule_id: 1,
        spec: Some(stale),
        times: Some(v1::ScheduleTimes { interval: None, daily_times: vec!["04:00".to_owned()] }),
        expected_revision: before["schedule"]["revision"].as_str().expect("a number").parse().expect("one"),
        request_id: String::new(),
    };
    let refused = grid.client().schedules().update_schedule(request).await.expect_err("it is stale");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("has changed the schedule since"), "{refused}");

    grid.coordinator().kill().await;
    grid.restart_coordinator().await;
    for star in ["star-1", "star-2"] {
        grid.client().wait_star(star, "is back", |star| star.liveness() == v1::Liveness::Alive).await;
    }
    let (_, text) = orbit(&grid, &["schedule", "show", "1"]).await;
    assert!(text.contains("03:30 UTC") && text.contains("second") && text.contains("*.tmp"), "{text}");
    let (code, text) = orbit(&grid, &["schedule", "run", "1"]).await;
    assert!(code == Some(0) && text.contains("job 2"), "{text}");
    assert_eq!(grid.client().wait_end(2).await.state(), v1::JobState::Completed);
    let is_there = |copy: &str| grid.root("star-2").join(copy).join("new.tmp").exists();
    assert_eq!((is_there("first"), is_there("second")), (true, false));

    let (code, text) = orbit(&grid, &["schedule", "edit", "1", "--exclude", "*.tmp", "--json"]).await;
    let same: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!((code, same["schedule"]["revision"].as_str()), (Some(0), Some("2")), "{text}");
    let (code, text) = orbit(&grid, &["schedule", "edit", "1", "--to", "nobody:/x", "--every", "1s"]).await;
    assert!(code == Some(2) && text.contains("nobody") && text.contains("--every"), "{code:?} {text}");
    let (code, text) = orbit(&grid, &["schedule", "edit", "9", "--at", "01:00"]).await;
    assert!(code == Some(1) && text.contains("schedule 9"), "{code:?} {text}");
}

#[tokio::test]
async fn every_bad_field_of_a_schedule_is_named() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let create = |times: Option<v1::ScheduleTimes>, spec: v1::JobSpec| {
        let request = v1::CreateScheduleRequest { spec: Some(spec), times, request_id: String::new() };
        let mut schedules = grid.client().schedules();
        async move { within("the answer", schedules.create_schedule(request)).await }
    };
    let spec = grid.copy_spec("tree", "star-1", &["star-2"]);
    let daily = |times: &[&str]| {
        let daily_times = times.iter().map(|&time| time.to_owned()).collect();
        Some(v1::ScheduleTimes { interval: None, daily_times })
    };
    let refused =
        create(daily(&["25:00", "02:00", "2"]), spec.clone()).await.expect_err("there is no such time");
    assert_eq!(bad_fields(&refused), ["times.daily_times[0]", "times.daily_times[2]"]);
    let refused = create(None, spec.clone()).await.expect_err("no times");
    assert_eq!(bad_fields(&refused), ["times"]);
    let nobody = v1::JobSpec { source: Some(grid.place("nobody", "x")), ..spec.clone() };
    let interval = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let soon = Some(v1::ScheduleTimes { interval, daily_times: Vec::new() });
    let mut fields = bad_fields(&create(soon, nobody).await.expect_err("too often, from nowhere"));
    fields.sort();
    assert_eq!(fields, ["spec.source.star_id", "times.interval"]);

    let made = create(daily(&["02:00"]), spec).await.expect("it makes sense").into_inner();
    let made = made.schedule.expect("a schedule");
    assert!(made.next_time.is_some() && made.last_job_id == 0, "{made:?}");
    assert!(grid.client().all_jobs().await.is_empty(), "its time has not come");
}
