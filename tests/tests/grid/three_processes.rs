//! A coordinator and three Stars as separate processes, controlled by grpcurl alone.

use orbit_tests::grid::Grid;
use orbit_tests::grpcurl::{GRPCURL_VERSION, Grpcurl};
use orbit_tests::tree::{differences, plant_odd_tree};
use prost::Message as _;
use prost_types::FileDescriptorProto;
use serde_json::{Value, json};

const SERVICES: [&str; 11] = [
    "orbit.v1.JobService",
    "orbit.v1.StarService",
    "orbit.v1.BackpressureService",
    "orbit.v1.PenaltyService",
    "orbit.v1.DeadLetterService",
    "orbit.v1.BulletinService",
    "orbit.v1.ProvenanceService",
    "orbit.v1.HealthService",
    "orbit.v1.SessionService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
];

#[tokio::test]
async fn a_job_made_with_grpcurl_reaches_two_stars_at_once() {
    let grid = Grid::start(&["star-1", "star-2", "star-3"]).await;
    plant_odd_tree(&grid.root("star-1").join("tree"), 7);
    let grpcurl = Grpcurl::new(grid.address());
    let location = |star: &str| json!({ "star_id": star, "path": grid.root(star).join("tree") });
    let request = json!({
        "spec": { "source": location("star-1"), "destinations": [location("star-2"), location("star-3")] },
        "request_id": "the-only-one",
    });
    let created = grpcurl.call("JobService/CreateJob", &request).await.expect("a job is created");
    let job_id = created[0]["job"]["jobId"].clone();
    assert_eq!(job_id, json!("1"), "{created:?}");
    let again = grpcurl.call("JobService/CreateJob", &request).await.expect("the same request is no error");
    assert_eq!(again[0]["job"]["jobId"], job_id, "the same request id names the same job");

    let watched =
        grpcurl.call("JobService/WatchJob", &json!({ "job_id": job_id })).await.expect("a watch ends");
    let job = &watched.last().expect("a watch shows the job")["job"];
    assert_eq!(job["state"], "JOB_STATE_COMPLETED", "{job:#}");
    let count =
        |name: &str| job["progress"][name].as_str().map_or(0, |text| text.parse::<u64>().expect("a number"));
    assert_eq!(count("itemsTotal"), count("itemsStored") + count("itemsSkipped"), "{job:#}");
    assert!(count("bytesTransferred") > 0 && job["endTime"].is_string(), "{job:#}");
    for star in ["star-2", "star-3"] {
        let found = differences(&grid.root("star-1").join("tree"), &grid.root(star).join("tree"));
        assert!(found.is_empty(), "{star}:\n{}", found.join("\n"));
    }
}

#[tokio::test]
async fn every_service_is_listed_and_described() {
    let grid = Grid::start(&["star-1"]).await;
    let grpcurl = Grpcurl::new(grid.address());
    let listed = grpcurl.services().await.expect("services are listed");
    for service in SERVICES {
        assert!(listed.iter().any(|name| name == service), "{service} is not in {listed:?}");
    }
    let jobs = grpcurl.describe("orbit.v1.JobService").await.expect("a service is described");
    assert!(jobs.contains("rpc WatchJob"), "{jobs}");
    let health = grpcurl.describe("grpc.health.v1.Health").await.expect("health is described");
    assert!(health.contains("Check"), "{health}");
}

/// The comments that grpcurl prints above each element come from the descriptors of reflection, in both of its
/// versions.
#[tokio::test]
async fn reflection_carries_the_comments() {
    let grid = Grid::start(&["star-1"]).await;
    let star = grid.client().star("star-1").await.data_address;
    let symbols = [
        (grid.address(), "orbit.v1.JobService", "WatchJob sends the job as it is"),
        (grid.address(), "orbit.v1.StarService", "DrainStar sends a Star no new work"),
        (grid.address(), "orbit.v1.JobProgress", "Items written, synced and published."),
        (grid.address(), "orbit.v1.FailureReason", "The source entry disappeared."),
        (&star, "orbit.v1.TransferService", "TransferService"),
    ];
    for (address, symbol, comment) in symbols {
        for file in [file_by_v1(address, symbol).await, file_by_v1alpha(address, symbol).await] {
            let locations = file.source_code_info.iter().flat_map(|info| &info.location);
            let comments: Vec<&str> =
                locations.filter_map(|location| location.leading_comments.as_deref()).collect();
            assert!(comments.iter().any(|text| text.contains(comment)), "{comment:?} is not with {symbol}");
        }
    }
}

macro_rules! file_by_symbol {
    ($name:ident, $version:ident) => {
        async fn $name(address: &str, symbol: &str) -> FileDescriptorProto {
            use tonic_reflection::pb::$version as pb;
            let request = pb::ServerReflectionRequest {
                message_request: Some(pb::server_reflection_request::MessageRequest::FileContainingSymbol(
                    symbol.to_owned(),
                )),
                ..pb::ServerReflectionRequest::default()
            };
            let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"));
            let channel = endpoint.expect("an address makes a URL").connect_lazy();
            let mut client = pb::server_reflection_client::ServerReflectionClient::new(channel);
            let answered = client.server_reflection_info(tokio_stream::once(request)).await;
            let mut answers = answered.expect("reflection is served").into_inner();
            let answer = answers.message().await.expect("reflection answers").expect("reflection answers");
            match answer.message_response {
                Some(pb::server_reflection_response::MessageResponse::FileDescriptorResponse(files)) => {
                    let first = files.file_descriptor_proto.first().expect("a file contains the symbol");
                    FileDescriptorProto::decode(first.as_slice()).expect("a descriptor decodes")
                }
                other => panic!("{symbol}: {other:?}"),
            }
        }
    };
}

file_by_symbol!(file_by_v1, v1);
file_by_symbol!(file_by_v1alpha, v1alpha);

#[tokio::test]
async fn a_star_shows_its_services_on_its_own_port() {
    let grid = Grid::start(&["star-1"]).await;
    let star = grid.client().star("star-1").await;
    let listed = Grpcurl::new(&star.data_address).services().await.expect("services are listed");
    for service in
        ["orbit.v1.TransferService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]
    {
        assert!(listed.iter().any(|name| name == service), "{service} is not in {listed:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_a_sentence_in_grpcurl() {
    let grid = Grid::start(&[]).await;
    let refused = Grpcurl::new(grid.address()).call("JobService/GetJob", &json!({ "job_id": "99" })).await;
    let message = refused.map(|answer| Value::from(answer).to_string()).expect_err("there is no job 99");
    assert!(message.contains("NotFound") || message.contains("NOT_FOUND"), "{message}");
    assert!(message.contains("no job 99"), "{message}");
}

/// Tests build on demand what the test command builds before them.
#[test]
fn the_test_command_builds_the_same_grpcurl() {
    let script = include_str!("../../../scripts/test");
    assert!(script.contains(&format!("grpcurl_version={GRPCURL_VERSION}\n")));
}
