//! The calls that each role may make, and those that it may not.

use orbit_identity::{Credentials, Dialing, Expected};
use orbit_proto::v1;
use orbit_proto::v1::identity_service_client::IdentityServiceClient;
use orbit_proto::v1::session_service_client::SessionServiceClient;
use orbit_shared::session::{Hello, StarMessage};
use orbit_tests::client::{Client, reason};
use orbit_tests::deadline::within;
use orbit_tests::http::{Answered, Http};
use orbit_tests::secured::SecuredGrid;
use tonic::{Code, Status};

async fn list(client: &Client) -> Result<(), Status> {
    within("ListJobs", client.jobs().list_jobs(v1::ListJobsRequest::default())).await.map(drop)
}

async fn cancel(client: &Client) -> Result<(), Status> {
    let request = v1::CancelJobRequest { job_id: 1, ..v1::CancelJobRequest::default() };
    within("CancelJob", client.jobs().cancel_job(request)).await.map(drop)
}

fn assert_role_refused(answered: Result<(), Status>) {
    let status = answered.expect_err("the role does not allow it");
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::PermissionDenied, "ROLE_NOT_ALLOWED"),
        "{status}"
    );
}

#[tokio::test]
async fn each_role_may_do_its_own_and_nothing_else() {
    let grid = SecuredGrid::start(&[]).await;
    let operator = grid.client(&grid.join("operator", "ann").await);
    let viewer_identity = grid.join("viewer", "vera").await;
    let viewer = grid.client(&viewer_identity);
    let star = grid.client(&grid.join("star", "star-1").await);
    list(&operator).await.expect("an operator looks");
    assert_eq!(cancel(&operator).await.expect_err("there is no job").code(), Code::NotFound);
    list(&viewer).await.expect("a viewer looks");
    assert_role_refused(cancel(&viewer).await);
    let mut identities = IdentityServiceClient::new(grid.channel(&viewer_identity));
    let token = identities.create_token(v1::CreateTokenRequest { role: 2, ..Default::default() }).await;
    assert_role_refused(token.map(drop));
    assert_role_refused(list(&star).await);
    assert_role_refused(cancel(&star).await);
    assert_role_refused(connect(&grid, &viewer_identity, "vera").await);

    let nobody = Dialing::of_directory(&grid.data_directory().join("identity"), 0).unwrap().unwrap();
    let nobody = nobody.connect_lazily(&grid.endpoint(), Expected::Coordinator);
    let status = list(&Client::over(nobody)).await.expect_err("nobody is not let in");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "NO_IDENTITY"), "{status}");
    assert!(status.message().contains("orbit join"), "{status}");
}

async fn connect(grid: &SecuredGrid, credentials: &Credentials, as_star: &str) -> Result<(), Status> {
    let hello = StarMessage::Hello(Hello {
        star_id: as_star.parse().expect("a Star's name"),
        identity: uuid::Uuid::new_v4(),
        instance: uuid::Uuid::new_v4(),
        data_address: "127.0.0.1:1".to_owned(),
        roots: Vec::new(),
        labels: std::collections::BTreeMap::new(),
        version: "0".to_owned(),
        held: Vec::new(),
        lifecycle: orbit_shared::lifecycle::LifecycleState::Registered,
        begun: None,
        grid: None,
        semantic_rules: Vec::new(),
    });
    let messages = tokio_stream::once(v1::ConnectRequest::from(hello));
    let mut client = SessionServiceClient::new(grid.channel(credentials));
    within("Connect", client.connect(messages)).await.map(drop)
}

#[tokio::test]
async fn a_star_opens_sessions_under_its_own_name_only() {
    let grid = SecuredGrid::start(&[]).await;
    let star = grid.join("star", "star-1").await;
    let status = connect(&grid, &star, "star-2").await.expect_err("it is star-1");
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::PermissionDenied, "STAR_MISMATCH"),
        "{status}"
    );
    connect(&grid, &star, "star-1").await.expect("it is star-1");
}

#[tokio::test]
async fn callers_over_http_are_viewers_unless_configured_otherwise() {
    let (grid, open) =
        (SecuredGrid::start(&[]).await, SecuredGrid::start(&["--http-role", "operator"]).await);
    let post = async |grid: &SecuredGrid| -> Answered {
        Http::new(grid.http_address()).post("/api/jobs/1/cancel", &serde_json::json!({})).await
    };
    let looked = Http::new(grid.http_address()).get("/api/jobs").await;
    assert_eq!(looked.status, 200, "{looked:?}");
    let refused = post(&grid).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    assert_eq!(refused.json()["error"]["reason"], "ROLE_NOT_ALLOWED", "{refused:?}");
    assert_eq!(post(&open).await.status, 404, "there is no job, and it may be cancelled");
}

#[tokio::test]
async fn the_metrics_say_when_each_certificate_ends() {
    let grid = SecuredGrid::start(&[]).await;
    grid.join("star", "star-1").await;
    let page = Http::new(grid.http_address()).get("/metrics").await.text;
    for labels in ["role=\"star\",name=\"star-1\"", "role=\"coordinator\""] {
        let line = page
            .lines()
            .find(|line| line.starts_with("orbit_certificate_end_time_seconds{") && line.contains(labels));
        let line = line.unwrap_or_else(|| panic!("{labels} is not in:\n{page}"));
        let end: f64 = line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number");
        assert!(end > orbit_identity::now() as f64, "{line}");
    }
}
