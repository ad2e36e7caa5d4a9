//! Requests that are small to send and would be expensive to process.

use orbit_proto::v1;
use orbit_tests::grid::Grid;
use tonic::Code;

/// Maximum peak of the coordinator's memory, in KiB; an idle grid needs far less.
const MEMORY_KIB_MAX: u64 = 128 * 1024;

#[tokio::test]
async fn long_lists_and_large_globs_are_refused_by_their_size() {
    let mut grid = Grid::start(&["star-1"]).await;
    let client = grid.client();
    let good = grid.copy_spec("tree", "star-1", &["star-1"]);
    let place = v1::Location { star_id: "star-1".to_owned(), path: "/d".to_owned(), ..Default::default() };
    let places = v1::JobSpec { destinations: vec![place; 30_000], ..good.clone() };
    let globs = |count: usize, bytes: usize| v1::JobSpec {
        exclude: vec![format!("*{}", "?".repeat(bytes - 1)); count],
        ..good.clone()
    };
    for (spec, code, part) in [
        (places, Code::InvalidArgument, "at most 64"),
        (globs(1000, 1000), Code::InvalidArgument, "wildcards"),
        (globs(2000, 100), Code::InvalidArgument, "at most 1000"),
        (globs(1000, 2000), Code::OutOfRange, "has more than 1048576 bytes"),
    ] {
        let plan = v1::PlanJobRequest { spec: Some(spec.clone()) };
        let status = client.jobs().plan_job(plan).await.expect_err("it is too much");
        assert_eq!(status.code(), code, "{status}");
        let create = v1::CreateJobRequest { spec: Some(spec), ..Default::default() };
        let status = client.jobs().create_job(create).await.expect_err("it is too much");
        assert_eq!(status.code(), code, "{status}");
        let said = format!("{status:?}");
        assert!(said.contains(part), "{part}: {said}");
        // Other clients are answered.
        client.star("star-1").await;
    }
    let peak = grid.coordinator().memory_peak_kib();
    assert!(peak < MEMORY_KIB_MAX, "{peak} KiB");
}
