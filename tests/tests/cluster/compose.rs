//! One cluster, used as described in `docs/cluster.md`, and then broken in every way that an engine offers.

use std::path::Path;

use orbit_proto::v1;
use orbit_tests::client::Client;
use orbit_tests::cluster::{Cluster, STARS};
use orbit_tests::grid::is_ready;
use orbit_tests::grpcurl::Grpcurl;
use orbit_tests::settled::{assert_holds_nothing, patient};
use orbit_tests::tree::{differences, plant_files};
use serde_json::json;

use crate::planted::assert_image_is_fit_to_ship;

const FILES: usize = 320;
const FILE_BYTES: usize = 64 << 10;
/// Slow enough that the job to two Stars, 40 MiB, is still running when the last operation is done.
const BYTES_PER_SECOND: i64 = 1 << 20;

fn is_lost(star: &v1::Star) -> bool {
    star.liveness() == v1::Liveness::Lost
}

fn place(star: &str, path: &str) -> v1::Location {
    v1::Location { star_id: star.to_owned(), path: path.to_owned(), ..v1::Location::default() }
}

/// The job has not ended, so the next operation comes in its middle.
async fn assert_goes_on(client: &Client, job_id: u64, then: &str) {
    let job = client.job(job_id).await;
    assert!(job.end_time.is_none(), "job {job_id} ended before {then}: {job:?}");
}

/// Waits until more items are stored than at the time of the call.
async fn comes_on(client: &Client, job_id: u64) {
    let stored = |job: &v1::Job| job.progress.as_ref().expect("a job shows its progress").items_stored;
    let before = stored(&client.job(job_id).await);
    client.wait_job(job_id, "further on", |job| stored(job) > before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_completes_whatever_is_done_to_the_containers() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = directory.path().join("source");
    plant_files(&source.join("few"), 20, 5000, 1);
    plant_files(&source.join("many"), FILES, FILE_BYTES, 2);
    let cluster = Cluster::start(&source).await;
    let client = cluster.client();

    assert_image_is_fit_to_ship(&cluster);
    containers_have_no_rights_and_are_healthy(&cluster).await;
    the_documented_command_runs_a_job(&cluster, &source).await;
    the_published_ports_answer(&cluster).await;

    let spec = v1::JobSpec {
        source: Some(place("star-1", "/source/many")),
        destinations: ["star-2", "star-3"].map(|star| place(star, "/data/many")).to_vec(),
        max_bytes_per_second: BYTES_PER_SECOND,
        penalty: Some(patient()),
        ..v1::JobSpec::default()
    };
    let job_id = client.create(spec).await;
    comes_on(&client, job_id).await;
    break_everything(&cluster, &client, job_id).await;

    let job = client.wait_end(job_id).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}\n{:#?}", client.dead_letters_of(job_id).await);
    let progress = job.progress.expect("a job shows its progress");
    assert_eq!(progress.items_total, progress.items_stored + progress.items_skipped, "{progress:?}");
    for star in ["star-2", "star-3"] {
        let found = differences(&source.join("many"), &cluster.volume(&format!("{star}-data")).join("many"));
        assert!(found.is_empty(), "{star}:\n{}", found.join("\n"));
    }
    for star in STARS {
        assert_holds_nothing(&client, star, &cluster.volume(&format!("{star}-vault"))).await;
    }
    stopping_drains(&cluster).await;
}

/// A Star is killed, another one is frozen, a third one is cut off, and the coordinator is killed and restarted, one
/// after the other. Each time the grid must notice it, and make progress afterwards.
async fn break_everything(cluster: &Cluster, client: &Client, job_id: u64) {
    assert_goes_on(client, job_id, "star-2 was killed").await;
    let before = client.star("star-2").await;
    cluster.crash("star-2").await;
    client
        .wait_star("star-2", "is another process", |star| {
            star.instance_id != before.instance_id && is_ready(star)
        })
        .await;
    comes_on(client, job_id).await;

    assert_goes_on(client, job_id, "star-3 was frozen").await;
    cluster.set_paused("star-3", true);
    client.wait_star("star-3", "is lost", is_lost).await;
    cluster.set_paused("star-3", false);
    client.wait_star("star-3", "is back", is_ready).await;

    assert_goes_on(client, job_id, "star-1 was cut off").await;
    cluster.set_connected("star-1", false);
    client.wait_star("star-1", "is lost", is_lost).await;
    cluster.set_connected("star-1", true);
    client.wait_star("star-1", "is back", is_ready).await;
    comes_on(client, job_id).await;

    assert_goes_on(client, job_id, "the coordinator was killed").await;
    cluster.crash("coordinator").await;
    for star in STARS {
        client.wait_star(star, "is back after the crash", is_ready).await;
    }
    comes_on(client, job_id).await;

    assert_goes_on(client, job_id, "the coordinator was restarted").await;
    cluster.compose(&["restart", "coordinator"]).await;
    for star in STARS {
        client.wait_star(star, "is back after the restart", is_ready).await;
    }
    assert_goes_on(client, job_id, "it could come on after the restart").await;
}

async fn containers_have_no_rights_and_are_healthy(cluster: &Cluster) {
    for service in STARS.iter().chain(&["coordinator"]) {
        orbit_tests::deadline::eventually(&format!("{service} to be healthy"), async || {
            (cluster.inspect(service, "{{.State.Health.Status}}") == "healthy").then_some(())
        })
        .await;
        assert_eq!(cluster.inspect(service, "{{.Config.User}}"), "orbit", "{service}");
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", cluster.inspect(service, "{{.State.Pid}}")))
                .expect("a running container has a process on this machine");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{name} is not in {status}")).trim().to_owned()
        };
        assert_eq!(field("Uid:"), "7100\t7100\t7100\t7100", "{service}");
        assert_eq!(field("CapEff:"), "0000000000000000", "{service}");
        assert_eq!(field("NoNewPrivs:"), "1", "{service}");
        assert_eq!(cluster.inspect(service, "{{.HostConfig.ReadonlyRootfs}}"), "true", "{service}");
        assert_eq!(
            cluster.inspect(service, "{{.HostConfig.Memory}}"),
            (1_u64 << 30).to_string(),
            "{service}"
        );
    }
}

/// The commands that the head of `docker-compose.yml` and `docs/cluster.md` give to an operator.
async fn the_documented_command_runs_a_job(cluster: &Cluster, source: &Path) {
    let arguments = ["exec", "-T", "coordinator", "orbit", "job", "create"];
    let places = ["star-1:/source/few", "star-2:/data/few", "star-3:/data/few", "--wait"];
    cluster.compose(&[&arguments[..], &places[..]].concat()).await;
    for star in ["star-2", "star-3"] {
        let found = differences(&source.join("few"), &cluster.volume(&format!("{star}-data")).join("few"));
        assert!(found.is_empty(), "{star}:\n{}", found.join("\n"));
    }
}

/// The coordinator's ports are open on this machine's loopback address and nowhere else.
async fn the_published_ports_answer(cluster: &Cluster) {
    let answers = Grpcurl::new(&cluster.address()).call("StarService/ListStars", &json!({})).await;
    let answers = answers.unwrap_or_else(|problem| panic!("{problem}"));
    let names: Vec<_> =
        answers[0]["stars"].as_array().expect("Stars").iter().map(|star| &star["starId"]).collect();
    assert_eq!(names, STARS.map(|star| json!(star)).iter().collect::<Vec<_>>());
    let addresses = cluster.inspect("coordinator", "{{json .HostConfig.PortBindings}}");
    let bindings: serde_json::Value = serde_json::from_str(&addresses).expect("docker prints JSON");
    for binding in
        bindings.as_object().expect("ports").values().flat_map(|list| list.as_array().expect("a list"))
    {
        assert_eq!(binding["HostIp"], "127.0.0.1", "{addresses}");
    }
    for star in STARS {
        assert_eq!(cluster.inspect(star, "{{json .HostConfig.PortBindings}}").trim(), "{}", "{star}");
    }
    let http = tokio::net::TcpStream::connect(cluster.http_address()).await;
    http.expect("the web server's port is published");
}

/// The stop timeout of the compose file lets a Star drain: it exits by itself, with 0, and logs that.
async fn stopping_drains(cluster: &Cluster) {
    cluster.compose(&["stop", "star-3"]).await;
    assert_eq!(cluster.inspect("star-3", "{{.State.ExitCode}}"), "0");
    let log = cluster.compose(&["logs", "--no-color", "star-3"]).await;
    assert!(log.contains("asked to stop; draining"), "{log}");
}
