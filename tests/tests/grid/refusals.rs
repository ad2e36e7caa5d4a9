//! Invalid requests are refused completely: every bad field is named, and nothing is changed.

use orbit_proto::v1;
use orbit_tests::client::{bad_fields, reason};
use orbit_tests::grid::Grid;
use orbit_tests::grpcurl::Grpcurl;
use serde_json::json;
use tonic::{Code, Status};

async fn refuse(grid: &Grid, spec: v1::JobSpec) -> Status {
    let request = v1::CreateJobRequest { spec: Some(spec.clone()), ..v1::CreateJobRequest::default() };
    let refused = grid.client().jobs().create_job(request).await;
    let status = refused.expect_err(&format!("this must be refused: {spec:?}"));
    assert!(!reason(&status).is_empty());
    let jobs =
        grid.client().jobs().list_jobs(v1::ListJobsRequest::default()).await.expect("jobs can be listed");
    assert!(jobs.into_inner().jobs.is_empty(), "a refused request left a job");
    status
}

/// Invalid specifications, each with the one field that must be named.
#[tokio::test]
async fn each_bad_field_of_a_job_is_named() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let good = || grid.copy_spec("tree", "star-1", &["star-2"]);
    let destination = |star: &str, path: &str| v1::Location {
        star_id: star.to_owned(),
        path: path.to_owned(),
        ..v1::Location::default()
    };
    let root = grid.root("star-2").to_str().expect("text").to_owned();
    let with_destination = |place: v1::Location| v1::JobSpec { destinations: vec![place], ..good() };
    let penalty = |penalty: v1::PenaltyPolicy| v1::JobSpec { penalty: Some(penalty), ..good() };
    let second = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let malformed = Some(prost_types::Timestamp { seconds: 0, nanos: -1 });
    let window = |start: &str, end: &str, max_bytes_per_second| v1::JobSpec {
        bandwidth_windows: vec![v1::BandwidthWindow {
            start: start.to_owned(),
            end: end.to_owned(),
            max_bytes_per_second,
        }],
        ..good()
    };
    let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    let cases: Vec<(&str, v1::JobSpec)> = vec![
        ("spec.source", v1::JobSpec { source: None, ..good() }),
        ("spec.source.star_id", v1::JobSpec { source: Some(destination("nobody", &root)), ..good() }),
        ("spec.destinations", v1::JobSpec { destinations: vec![], ..good() }),
        ("spec.destinations[0].star_id", with_destination(destination("nobody", &root))),
        ("spec.destinations[0].star_id", with_destination(destination("not a name", &root))),
        ("spec.destinations[0].path", with_destination(destination("star-2", "/etc"))),
        ("spec.destinations[0].path", with_destination(destination("star-2", "relative/path"))),
        ("spec.destinations[0].path", with_destination(destination("star-2", ""))),
        ("spec.destinations[0].path", with_destination(destination("star-2", &format!("{root}/../other")))),
        ("spec.destinations[0].path", with_destination(destination("star-2", &format!("{root}-beside")))),
        ("spec.max_bytes_per_second", v1::JobSpec { max_bytes_per_second: -1, ..good() }),
        ("spec.dead_letter_max", v1::JobSpec { dead_letter_max: -1, ..good() }),
        ("spec.prioritizers[0]", v1::JobSpec { prioritizers: vec![99], ..good() }),
        ("spec.prioritizers[0]", v1::JobSpec { prioritizers: vec![0], ..good() }),
        ("spec.layout", v1::JobSpec { layout: 77, ..good() }),
        ("spec.mode", v1::JobSpec { mode: 77, ..good() }),
        ("spec.max_size_bytes", v1::JobSpec { min_size_bytes: 9, max_size_bytes: Some(8), ..good() }),
        (
            "spec.max_modify_time",
            v1::JobSpec { min_modify_time: second(9), max_modify_time: second(8), ..good() },
        ),
        ("spec.min_modify_time", v1::JobSpec { min_modify_time: malformed, ..good() }),
        ("spec.bandwidth_windows[0].start", window("24:00", "06:00", 1)),
        ("spec.bandwidth_windows[0].end", window("08:00", "6:00", 1)),
        ("spec.bandwidth_windows[0].max_bytes_per_second", window("08:00", "09:00", -1)),
        ("spec.include[0]", v1::JobSpec { include: vec!["a{b".to_owned()], ..good() }),
        (
            "spec.penalty",
            penalty(v1::PenaltyPolicy { initial_delay: negative, ..v1::PenaltyPolicy::default() }),
        ),
        (
            "spec.penalty",
            penalty(v1::PenaltyPolicy { backoff_factor: f64::NAN, ..v1::PenaltyPolicy::default() }),
        ),
        ("spec.penalty", penalty(v1::PenaltyPolicy { backoff_factor: -2.0, ..v1::PenaltyPolicy::default() })),
    ];
    for (field, spec) in cases {
        let shown = format!("{spec:?}");
        let fields = bad_fields(&refuse(&grid, spec).await);
        assert!(fields.iter().any(|named| named.starts_with(field)), "{field} is not in {fields:?}: {shown}");
    }
}

#[tokio::test]
async fn one_answer_names_every_bad_field() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let bad = v1::JobSpec {
        source: Some(v1::Location {
            star_id: "nobody".to_owned(),
            path: "/x".to_owned(),
            ..v1::Location::default()
        }),
        destinations: vec![grid.place("star-2", "ok"), grid.place("star-2", "../out")],
        prioritizers: vec![1, 99],
        max_bytes_per_second: -5,
        ..v1::JobSpec::default()
    };
    let fields = bad_fields(&refuse(&grid, bad).await);
    for field in [
        "spec.source.star_id",
        "spec.destinations[1].path",
        "spec.prioritizers[1]",
        "spec.max_bytes_per_second",
    ] {
        assert!(fields.iter().any(|named| named == field), "{field} is not in {fields:?}");
    }
}

#[tokio::test]
async fn grpcurl_shows_which_fields_are_bad() {
    let grid = Grid::start(&["star-1"]).await;
    let request = json!({ "spec": { "source": { "star_id": "nobody", "path": "/x" }, "destinations": [] } });
    let refused = Grpcurl::new(grid.address()).call("JobService/CreateJob", &request).await;
    let shown = refused.expect_err("this must be refused");
    for part in ["spec.source.star_id", "spec.destinations", "star-1"] {
        assert!(shown.contains(part), "{part:?} is not in:\n{shown}");
    }
}

#[tokio::test]
async fn a_missing_resource_is_not_found() {
    let grid = Grid::start(&[]).await;
    let client = grid.client();
    let star = client.stars().get_star(v1::GetStarRequest { star_id: "nobody".to_owned() }).await;
    let job = client.jobs().get_job(v1::GetJobRequest { job_id: 42 }).await;
    let letter = client.dead_letters().get_dead_letter(v1::GetDeadLetterRequest { dead_letter_id: 42 }).await;
    let pause = v1::PauseGuardRequest { star_id: "nobody".to_owned(), ..v1::PauseGuardRequest::default() };
    let pause = client.guards().pause_guard(pause).await;
    let refusals = [star.map(drop).err(), job.map(drop).err(), letter.map(drop).err(), pause.map(drop).err()];
    for status in refusals {
        let status = status.expect("there is no such thing");
        assert_eq!(status.code(), Code::NotFound, "{status}");
        assert!(!reason(&status).is_empty());
    }
}

#[tokio::test]
async fn a_page_of_negative_or_absurd_size_is_refused() {
    let grid = Grid::start(&[]).await;
    for page_size in [-1, i32::MIN] {
        let request = v1::ListJobsRequest { page_size, ..v1::ListJobsRequest::default() };
        let status = grid.client().jobs().list_jobs(request).await.expect_err("a negative page");
        assert_eq!(bad_fields(&status), ["page_size"]);
    }
    let request =
        v1::ListJobsRequest { page_token: "not a token".to_owned(), ..v1::ListJobsRequest::default() };
    let status = grid.client().jobs().list_jobs(request).await.expect_err("a token of nobody's");
    assert_eq!(bad_fields(&status), ["page_token"]);
}

#[tokio::test]
async fn guard_limits_below_one_are_refused_and_change_nothing() {
    let grid = Grid::start(&["star-1"]).await;
    let client = grid.client();
    let before = client.guard("star-1").await;
    for (objects, bytes, field) in [
        (Some(-1), None, "max_object_count"),
        (Some(0), None, "max_object_count"),
        (None, Some(-7), "max_byte_size"),
    ] {
        let request = v1::SetGuardLimitsRequest {
            star_id: "star-1".to_owned(),
            max_object_count: objects,
            max_byte_size: bytes,
            ..v1::SetGuardLimitsRequest::default()
        };
        let status = client.guards().set_guard_limits(request).await.expect_err("a limit below one");
        assert_eq!(bad_fields(&status), [field]);
    }
    assert_eq!(client.guard("star-1").await, before);
}
