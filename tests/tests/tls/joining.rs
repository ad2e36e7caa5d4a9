//! Which tokens admit a machine, and revocation.

use orbit_identity::EnrollError;
use orbit_proto::v1;
use orbit_proto::v1::identity_service_client::IdentityServiceClient;
use orbit_tests::client::reason;
use orbit_tests::deadline::{eventually, within};
use orbit_tests::secured::SecuredGrid;

fn why(error: &EnrollError) -> String {
    match error {
        EnrollError::Refused { status, .. } => reason(status),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_token_counts_once_also_after_a_kill() {
    let mut grid = SecuredGrid::start(&[]).await;
    let token = grid.token(&["--role", "viewer"]).await;
    grid.join_with(&token, "ann").await.expect("the first one gets in");
    let again = grid.join_with(&token, "bob").await.expect_err("it was used");
    assert_eq!(why(&again), "TOKEN_USED", "{again}");
    grid.kill_and_restart_coordinator().await;
    let again = grid.join_with(&token, "bob").await.expect_err("it was used before the kill");
    assert_eq!(why(&again), "TOKEN_USED", "{again}");
    grid.join("viewer", "bob").await;
}

#[tokio::test]
async fn tokens_that_are_old_foreign_or_for_others_are_refused() {
    let (grid, other) = (SecuredGrid::start(&[]).await, SecuredGrid::start(&[]).await);
    let brief = grid.token(&["--role", "operator", "--ttl", "1s"]).await;
    let expired = eventually("the token to expire", async || {
        match grid.join_with(&brief, &format!("n{}", uuid::Uuid::new_v4().simple())).await {
            Err(error) if why(&error) == "TOKEN_EXPIRED" => Some(error),
            // It may be used once before that.
            Ok(_) | Err(_) => None,
        }
    });
    assert!(expired.await.to_string().contains("token create"));
    // A token of another grid pins another authority, so this coordinator is not trusted.
    let foreign = other.token(&["--role", "operator"]).await;
    let error = grid.join_with(&foreign, "ann").await.expect_err("it is of another grid");
    assert!(
        matches!(&error, EnrollError::Unreachable { problem, .. } if problem.contains("another grid")),
        "{error}"
    );
    let named = grid.token(&["--role", "operator", "--name", "ann"]).await;
    let error = grid.join_with(&named, "bob").await.expect_err("it is for ann");
    assert!(error.to_string().contains("ann"), "{error}");
    grid.join_with(&named, "ann").await.expect("it is for ann");
    let taken = grid.token(&["--role", "operator"]).await;
    let error = grid.join_with(&taken, "ann").await.expect_err("there is an ann");
    assert_eq!(why(&error), "NAME_TAKEN", "{error}");
}

#[tokio::test]
async fn a_certificate_of_another_grid_is_refused() {
    let (grid, other) = (SecuredGrid::start(&[]).await, SecuredGrid::start(&[]).await);
    let stranger = other.join("operator", "ann").await;
    // It trusts its own grid only.
    let error = stranger.dialing().connect(&grid.endpoint(), orbit_identity::Expected::Coordinator).await;
    assert!(format!("{:?}", error.expect_err("another authority")).contains("another grid"));
    // Even if it trusts this grid, this grid does not trust it.
    let ours = grid.data_directory().join("identity/ca.pem");
    std::fs::copy(ours, stranger.directory().join("ca.pem")).unwrap();
    let stranger = orbit_identity::Credentials::load(stranger.directory()).unwrap().expect("it is there");
    let asked = grid.client(&stranger);
    let listed = within("a call", asked.jobs().list_jobs(v1::ListJobsRequest::default())).await;
    listed.expect_err("the certificate is of another authority");
}

#[tokio::test]
async fn a_revoked_star_is_cut_off_and_stays_out() {
    let mut grid = SecuredGrid::start(&[]).await;
    grid.add_star("star-1").await;
    let operator = grid.join("operator", "ann").await;
    let client = grid.client(&operator);
    grid.wait_ready(&client, "star-1").await;
    let mut identities = IdentityServiceClient::new(grid.channel(&operator));
    let request = v1::RevokeIdentityRequest {
        role: v1::Role::Star.into(),
        name: "star-1".to_owned(),
        request_id: "revoke".to_owned(),
    };
    let revoked = identities.revoke_identity(request.clone()).await.expect("it is revoked").into_inner();
    assert_eq!(revoked.revoked_count, 1);
    let again = identities.revoke_identity(request).await.expect("the same request").into_inner();
    assert_eq!(again.revoked_count, 1);
    let status = grid.star("star-1").ended().await;
    assert!(!status.success());
    let said = grid.star("star-1").errors();
    assert!(said.contains("was revoked"), "{said}");
    grid.kill_and_restart_coordinator().await;
    let (code, said) = grid.failing("star-1", grid.star_command("star-1", &[])).await;
    assert!(code.is_some_and(|code| code != 0) && said.contains("was revoked"), "{code:?} {said}");
    // With a new token it can join again, with its old vault.
    std::fs::remove_dir_all(grid.vault("star-1").join("credentials")).unwrap();
    grid.add_star("star-1").await;
    grid.wait_ready(&client, "star-1").await;
}

#[tokio::test]
async fn a_revoked_operator_loses_its_watches() {
    let grid = SecuredGrid::start(&[]).await;
    let (ann, bob) = (grid.join("operator", "ann").await, grid.join("operator", "bob").await);
    let client = grid.client(&bob);
    let watching = client.stars().watch_stars(v1::WatchStarsRequest::default()).await;
    let mut watched = watching.expect("bob is an operator").into_inner();
    let mut identities = IdentityServiceClient::new(grid.channel(&ann));
    let revoke = |name: &str| v1::RevokeIdentityRequest {
        role: v1::Role::Operator.into(),
        name: name.to_owned(),
        request_id: String::new(),
    };
    let himself = identities.revoke_identity(revoke("ann")).await.expect_err("nobody puts out himself");
    assert_eq!(himself.code(), tonic::Code::FailedPrecondition, "{himself}");
    identities.revoke_identity(revoke("bob")).await.expect("bob is put out");
    let end = within("the end of the watch", async {
        loop {
            match watched.message().await {
                Ok(Some(_)) => {}
                other => return other,
            }
        }
    });
    end.await.expect_err("the connection is cut");
    let refused = client.jobs().list_jobs(v1::ListJobsRequest::default()).await.expect_err("bob is out");
    assert_eq!(reason(&refused), "IDENTITY_REVOKED", "{refused}");
    let listed = identities.list_identities(v1::ListIdentitiesRequest::default()).await.unwrap().into_inner();
    let states: Vec<_> = listed.identities.iter().map(|one| (one.name.as_str(), one.is_revoked)).collect();
    assert_eq!(states, [("ann", false), ("bob", true)]);
}

#[tokio::test]
async fn a_star_that_was_away_for_too_long_joins_again() {
    let mut grid = SecuredGrid::start(&["--certificate-validity", "5s"]).await;
    grid.add_star("star-1").await;
    grid.star("star-1").kill().await;
    let directory = grid.vault("star-1").join("credentials");
    let facts = orbit_identity::Credentials::load(&directory).unwrap().expect("it has joined").facts();
    eventually("its certificate to end", async || (orbit_identity::now() > facts.not_after).then_some(()))
        .await;
    let (code, said) = grid.failing("star-1", grid.star_command("star-1", &[])).await;
    assert!(code.is_some_and(|code| code != 0) && said.contains("has expired"), "{code:?} {said}");
    grid.add_star("star-1").await;
    let operator = grid.join("operator", "ann").await;
    grid.wait_ready(&grid.client(&operator), "star-1").await;
}

#[tokio::test]
async fn a_star_without_an_identity_says_which_command_gives_one() {
    let grid = SecuredGrid::start(&[]).await;
    let (code, said) = grid.failing("star-1", grid.star_command("star-1", &[])).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("token create") && said.contains("--join TOKEN"), "{said}");
    let token = grid.token(&["--role", "operator"]).await;
    let (code, said) = grid.failing("star-1", grid.star_command("star-1", &["--join", &token])).await;
    assert!(code == Some(1) && said.contains("one for operators"), "{code:?} {said}");
}
