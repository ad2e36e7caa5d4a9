//! Data is moved from Star to Star over TLS, and no other process gets any.

use orbit_identity::network::{Connect as _, Tcp};
use orbit_identity::{Dialing, Expected};
use orbit_proto::v1;
use orbit_tests::client::Client;
use orbit_tests::deadline::within;
use orbit_tests::grid::Grid;
use orbit_tests::secured::SecuredGrid;
use orbit_tests::tree::{differences, plant_odd_tree};
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn a_tree_arrives_as_it_was_over_tls_alone() {
    let mut grid = SecuredGrid::start(&[]).await;
    let source = grid.add_star("Star_1.source").await;
    grid.add_star("star-2").await;
    plant_odd_tree(&grid.root("Star_1.source").join("tree"), 11);
    let operator = grid.join("operator", "ann").await;
    let client = grid.client(&operator);
    grid.wait_ready(&client, "Star_1.source").await;
    grid.wait_ready(&client, "star-2").await;
    let job = client.create(grid.copy_spec("tree", "Star_1.source", "star-2")).await;
    let job = client.wait_end(job).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    let found = differences(&grid.root("Star_1.source").join("tree"), &grid.root("star-2").join("tree"));
    assert!(found.is_empty(), "{}", found.join("\n"));

    // The source serves no client without TLS, or with TLS and without a certificate.
    let endpoint = Endpoint::from_shared(format!("http://{source}")).unwrap();
    let plain =
        Tcp::default().connect(endpoint, Expected::Star(None)).await.expect("the port takes connections");
    let mut health = HealthClient::new(plain);
    let asked = within("a plain call", health.check(HealthCheckRequest::default())).await;
    let refused = asked.expect_err("a Star with an identity speaks TLS only");
    assert!(format!("{refused:?}").contains("TLS only"), "{refused:?}");
    let dialing = Dialing::of_directory(&grid.data_directory().join("identity"), 0).unwrap();
    let endpoint = Endpoint::from_shared(format!("https://{source}")).unwrap();
    let channel = dialing.expect("there is an authority").connect_lazily(&endpoint, Expected::Star(None));
    let mut health = HealthClient::new(channel);
    let asked = within("a call without a certificate", health.check(HealthCheckRequest::default())).await;
    asked.expect_err("a Star requires a certificate of every client");
    // A client that expects another Star gets no connection.
    let another = Expected::Star(Some("star-2".parse().unwrap()));
    let error = operator.dialing().connect(&endpoint, another).await.expect_err("it is Star_1.source");
    assert!(format!("{error:?}").contains("Star_1.source"), "{error:?}");
}

#[tokio::test]
async fn a_client_without_tls_is_told_that_it_needs_it() {
    let grid = SecuredGrid::start(&[]).await;
    let client = Client::new(grid.address());
    let status = within("a plain call", client.jobs().list_jobs(v1::ListJobsRequest::default())).await;
    let status = status.expect_err("the coordinator speaks TLS only");
    assert!(format!("{status:?}").contains("TLS only"), "{status:?}");
    let mut command = tokio::process::Command::new(orbit_tests::programs::program("orbit-star"));
    let url = format!("http://{}", grid.address());
    command.args(["--star-id", "plain", "--coordinator", &url, "--listen", "127.0.0.1:0", "--root", "/tmp"]);
    command.arg("--vault").arg(grid.vault("plain"));
    let (code, said) = grid.failing("plain", command).await;
    assert!(code.is_some_and(|code| code != 0) && said.contains("TLS only"), "{code:?} {said}");
    let mut command = tokio::process::Command::new(orbit_tests::programs::program("orbit"));
    command.args(["job", "ls", "--coordinator", &url]);
    let output = within("orbit", command.output()).await.expect("orbit starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("TLS only"), "{said}");
}

#[tokio::test]
async fn a_star_with_an_identity_says_that_a_coordinator_has_none() {
    let plain = Grid::start(&[]).await;
    let secured = SecuredGrid::start(&[]).await;
    let token = secured.token(&["--ttl", "2s"]).await;
    let mut command = tokio::process::Command::new(orbit_tests::programs::program("orbit-star"));
    let url = format!("https://{}", plain.address());
    command.args(["--star-id", "lost", "--coordinator", &url, "--listen", "127.0.0.1:0", "--root", "/tmp"]);
    command.arg("--vault").arg(secured.vault("lost")).args(["--join", &token]);
    let (code, said) = secured.failing("lost", command).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("does not speak TLS") || said.contains("started without"), "{said}");
}
