//! What an attacker with one token, one key or one grant can do after a revocation.

use orbit_identity::Credentials;
use orbit_proto::v1;
use orbit_proto::v1::identity_service_client::IdentityServiceClient;
use orbit_shared::words::JobId;
use orbit_star::reader::{ReadGrant, read_file};
use orbit_tests::client::reason;
use orbit_tests::deadline::{eventually, within};
use orbit_tests::secured::SecuredGrid;
use orbit_tests::tree::plant_files;
use std::sync::Arc;

async fn revoke(grid: &SecuredGrid, by: &Credentials, role: v1::Role, name: &str) {
    let request = v1::RevokeIdentityRequest {
        role: role.into(),
        name: name.to_owned(),
        ..v1::RevokeIdentityRequest::default()
    };
    let mut identities = IdentityServiceClient::new(grid.channel(by));
    within("a revocation", identities.revoke_identity(request)).await.expect("an operator revokes");
}

#[tokio::test]
async fn one_token_makes_one_identity_and_ends_with_the_operator_who_made_it() {
    let grid = SecuredGrid::start(&[]).await;
    let boss = grid.join("operator", "boss").await;
    let mallory = grid.join("operator", "mallory").await;
    let request = v1::CreateTokenRequest { role: v1::Role::Operator.into(), ..Default::default() };
    let mut identities = IdentityServiceClient::new(grid.channel(&mallory));
    let kept = within("a token", identities.create_token(request)).await.expect("an operator makes tokens");
    let kept = kept.into_inner().token;
    revoke(&grid, &boss, v1::Role::Operator, "mallory").await;
    let text = grid.join_with(&kept, "friend").await.expect_err("its maker was revoked").to_string();
    assert!(text.contains("mallory") && text.contains("revoked"), "{text}");
    let text = identities.list_identities(v1::ListIdentitiesRequest::default()).await;
    text.expect_err("who was revoked is not answered");

    let token = grid.token(&[]).await;
    grid.join_with(&token, "star-7").await.expect("the first one joins");
    let text = grid.join_with(&token, "star-8").await.expect_err("the token is spent").to_string();
    assert!(text.contains("used already"), "{text}");
}

#[tokio::test]
async fn a_grant_between_stars_ends_with_a_revocation_and_others_continue() {
    let mut grid = SecuredGrid::start(&[]).await;
    grid.add_star("star-1").await;
    plant_files(&grid.root("star-1").join("tree"), 3, 50_000, 1);
    let boss = grid.join("operator", "boss").await;
    let mallory = Arc::new(grid.join("operator", "mallory").await);
    let client = grid.client(&boss);
    grid.wait_ready(&client, "star-1").await;
    let mut spec = grid.copy_spec("tree", "star-1", "star-1");
    spec.layout = v1::Layout::Packed.into();
    spec.destinations[0].path.clear();
    let job = client.create(spec).await;
    assert_eq!(client.wait_end(job).await.state(), v1::JobState::Completed);
    let snapshot = client.all_snapshots().await.pop().expect("the job made a snapshot").snapshot_id;

    let stolen = grant(&grid, &mallory, &snapshot).await;
    read(stolen.clone(), &mallory).await.expect("an operator reads what was granted");
    revoke(&grid, &boss, v1::Role::Operator, "mallory").await;
    // The Star does not know of the revocation: it was only told that the grant's key is no longer valid.
    let problem = eventually("the grant to end", async || read(stolen.clone(), &mallory).await.err()).await;
    assert!(problem.contains("not signed by any"), "{problem}");
    let asked = grid.client(&mallory).vaults().get_read_grant(v1::GetReadGrantRequest::default()).await;
    let status = asked.expect_err("who was revoked is not answered");
    assert!(["IDENTITY_REVOKED", ""].contains(&reason(&status).as_str()), "{status:?}");

    let boss = Arc::new(boss);
    let fresh = grant(&grid, &boss, &snapshot).await;
    read(fresh, &boss).await.expect("a grant under the new key counts");
}

async fn grant(grid: &SecuredGrid, who: &Credentials, snapshot_id: &str) -> ReadGrant {
    let request = v1::GetReadGrantRequest { snapshot_id: snapshot_id.to_owned() };
    let asked = within("a grant", grid.client(who).vaults().get_read_grant(request)).await;
    let granted = asked.expect("an operator is granted it").into_inner();
    ReadGrant {
        address: granted.data_address,
        token: granted.token,
        job: JobId(granted.job_id),
        source_path: granted.source_path.into_bytes(),
        reader: granted.destination_star_id.parse().expect("a name"),
        snapshot: snapshot_id.parse().expect("a snapshot"),
    }
}

async fn read(grant: ReadGrant, who: &Arc<Credentials>) -> Result<(), String> {
    let network = orbit_star::tls::network(Some(Arc::clone(who)), Arc::default());
    within("a read", read_file(grant, b"d0000/f000001", network, |_| Ok(()))).await
}

/// Number of stored items of a job.
async fn stored(client: &orbit_tests::client::Client, job: u64) -> u64 {
    client.job(job).await.progress.unwrap_or_default().items_stored
}

#[tokio::test]
async fn the_jobs_of_others_go_on_when_a_star_is_revoked_and_its_own_pulls_end() {
    let mut grid = SecuredGrid::start(&[]).await;
    for star in ["star-1", "star-2", "star-3"] {
        grid.add_star(star).await;
    }
    plant_files(&grid.root("star-1").join("tree"), 40, 50_000, 1);
    let boss = grid.join("operator", "boss").await;
    let client = grid.client(&boss);
    let mut jobs = Vec::new();
    for destination in ["star-2", "star-3"] {
        grid.wait_ready(&client, destination).await;
        let mut spec = grid.copy_spec("tree", "star-1", destination);
        // The other one would be complete before the revocation.
        spec.max_bytes_per_second = if destination == "star-2" { 500_000 } else { 50_000 };
        jobs.push(client.create(spec).await);
    }
    for job in &jobs {
        let has_begun = |job: &v1::Job| job.progress.is_some_and(|progress| progress.items_stored > 0);
        client.wait_job(*job, "stores something", has_begun).await;
    }
    revoke(&grid, &boss, v1::Role::Star, "star-3").await;
    let ended = client.wait_end(jobs[0]).await;
    assert_eq!(ended.state(), v1::JobState::Completed, "{ended:?}");
    assert_eq!(ended.created_by, "operator:boss");
    let before = stored(&client, jobs[1]).await;
    assert!(before < 40, "what was revoked stores nothing more: {before}");
}
