//! What one peer that opens pulls and requests nothing can take from others.
#![allow(clippy::unwrap_used, reason = "this is test code")]

mod support;

use futures::StreamExt as _;
use orbit_proto::v1 as wire;
use orbit_shared::capability::Capability;
use orbit_shared::session::ItemResult;
use orbit_star::grpc::transfer::chunker_parameters;
use orbit_star::limits::{PULLS_SERVED_MAX, PULLS_SERVED_PER_PEER_MAX};
use support::{JOB, Pair, bytes, star};
use tonic::transport::Endpoint;

/// Opens a pull as a Star of this name and keeps it, without requests.
async fn open_idle(pair: &Pair, peer: &str) -> Result<tonic::Streaming<wire::PullResponse>, tonic::Status> {
    let capability = Capability {
        job: JOB,
        source_star: star("source"),
        source_path: bytes(&pair.from()),
        destination_star: star(peer),
        snapshot: None,
        is_for_chunks: false,
        max_bytes_per_second: 0,
        filter: None,
    };
    let open = wire::PullOpen {
        token: pair.signer.sign(&capability).unwrap(),
        job_id: JOB.0,
        source_path: bytes(&pair.from()).into(),
        destination_star_id: peer.to_owned(),
        chunker: Some(chunker_parameters()),
        snapshot_id: String::new(),
    };
    let open = wire::PullRequest { request: Some(wire::pull_request::Request::Open(open)) };
    let channel = Endpoint::from_shared(format!("http://{}", pair.address)).unwrap().connect().await.unwrap();
    let mut client = wire::transfer_service_client::TransferServiceClient::new(channel);
    let requests = futures::stream::iter([open]).chain(futures::stream::pending());
    client.pull(requests).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_opens_every_pull_and_idles_keeps_no_other_out() {
    let pair = Pair::new().await;
    std::fs::write(pair.from().join("file"), b"content").unwrap();
    let mut idle = Vec::new();
    for _ in 0..PULLS_SERVED_MAX {
        idle.push(open_idle(&pair, "greedy").await.expect("its own idle pulls give way"));
    }
    let results = pair.copy(&pair.from(), &pair.to()).await;
    assert!(matches!(results[&b"file"[..]], ItemResult::Stored { .. }), "{results:?}");
    assert!(pair.source_meters.served_pulls() <= PULLS_SERVED_PER_PEER_MAX as u64 + 1);
    // The oldest of its pulls have ended with a reason.
    let ended = idle[0].message().await.expect_err("the place was needed");
    assert_eq!(ended.code(), tonic::Code::Unavailable, "{ended}");
}
