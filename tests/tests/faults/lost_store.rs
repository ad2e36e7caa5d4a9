//! A coordinator whose data directory is deleted while it runs, and one that starts on an empty directory, report that
//! and take over no Stars.

use orbit_proto::v1;
use orbit_tests::deadline::eventually;
use orbit_tests::grid::{Grid, is_ready};
use orbit_tests::http::Http;
use orbit_tests::settled::assert_settled;
use orbit_tests::tree::plant_files;
use tonic::Code;

use super::SHORT_LEASE;

const STARS: [&str; 2] = ["star-1", "star-2"];

async fn errors(grid: &Grid, category: &str) -> Vec<String> {
    let request =
        v1::ListBulletinsRequest { category: category.to_owned(), ..v1::ListBulletinsRequest::default() };
    let found = grid.client().bulletins_like(request).await;
    found.into_iter().map(|bulletin| bulletin.message).collect()
}

#[tokio::test]
async fn a_deleted_data_directory_is_noticed_and_an_empty_one_takes_over_no_star_unless_asked_to() {
    let mut grid = Grid::start_with(&STARS, &SHORT_LEASE).await;
    let client = grid.client();
    plant_files(&grid.root("star-1").join("tree"), 10, 1000, 3);
    let spec = grid.copy_spec("tree", "star-1", &["star-2"]);
    let first = client.create(spec.clone()).await;
    assert_settled(&client, first).await;
    let http = Http::new(grid.http_address());
    assert_eq!(http.get("/readyz").await.status, 200);

    std::fs::remove_dir_all(grid.data_directory()).expect("it can be removed");
    eventually("the coordinator to be not ready", async || {
        let ready = http.get("/readyz").await;
        (ready.status == 503 && ready.text.contains("--data-dir")).then_some(())
    })
    .await;
    let request = v1::CreateJobRequest { spec: Some(spec.clone()), ..v1::CreateJobRequest::default() };
    let refused = client.jobs().create_job(request).await.expect_err("nothing can be promised");
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(refused.message().contains("not where it was opened"), "{refused:?}");
    let said = errors(&grid, "store").await;
    assert!(said.len() == 1 && said[0].contains("--data-dir"), "{said:?}");
    assert_eq!(client.job(first).await.state(), v1::JobState::Completed, "what it knew can be looked at");

    // Restarted on an empty directory, as with a file system that is not mounted.
    grid.coordinator().kill().await;
    grid.restart_coordinator().await;
    eventually("both Stars to be refused", async || {
        let said = errors(&grid, "grid").await;
        (said.len() == STARS.len() && said.iter().all(|text| text.contains("--new-grid"))).then_some(())
    })
    .await;
    let stars = client.stars().list_stars(v1::ListStarsRequest::default()).await.expect("it answers");
    assert!(stars.into_inner().stars.is_empty(), "a Star of another grid was taken over");
    let logged = grid.star("star-2").errors();
    assert!(logged.contains("belongs to grid") && logged.contains("--new-grid"), "{logged}");

    grid.coordinator().kill().await;
    let is_up = grid
        .try_restart_coordinator(|mut command| {
            command.arg("--new-grid");
            command
        })
        .await;
    assert!(is_up, "{}", grid.coordinator().errors());
    for star in STARS {
        client.wait_star(star, "receives work", is_ready).await;
    }
    let second = client.create(spec).await;
    assert_settled(&client, second).await;
    // The Stars belong to that grid now, also after a normal restart.
    grid.coordinator().kill().await;
    grid.restart_coordinator().await;
    for star in STARS {
        client.wait_star(star, "receives work", is_ready).await;
    }
}
