//! A Star started through the library: what it serves, what it refuses, how it stops.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helper functions too")]

use std::path::Path;

use orbit_shared::session::Root;
use orbit_shared::words::StarId;
use orbit_star::{StarError, StarHandle, StarOptions, start};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

const NOBODY: &str = "http://127.0.0.1:1";

fn options(directory: &Path) -> StarOptions {
    let root = directory.join("root");
    std::fs::create_dir_all(&root).unwrap();
    let root = Root { path: root.into_os_string().into_encoded_bytes(), is_read_only: false };
    StarOptions::new(StarId::new("star-1").unwrap(), NOBODY, vec![root], directory.join("vault"))
}

async fn started(options: StarOptions) -> StarHandle {
    start(options, CancellationToken::new()).await.unwrap()
}

async fn refusal(options: StarOptions) -> String {
    start(options, CancellationToken::new()).await.unwrap_err().to_string()
}

async fn channel(handle: &StarHandle) -> Channel {
    let address = format!("http://{}", handle.local_addr.unwrap());
    Channel::from_shared(address).unwrap().connect().await.unwrap()
}

#[tokio::test]
async fn two_stars_run_in_one_process_and_stop_when_asked() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut handles = [started(options(first.path())).await, started(options(second.path())).await];
    assert_ne!(handles[0].local_addr, handles[1].local_addr);
    for handle in &mut handles {
        handle.drain().await;
        let report = handle.wait().await;
        assert_eq!((report.code, report.reason.contains("no coordinator")), (0, true), "{}", report.reason);
    }
    // The vault and the port are free again.
    let mut again = started(options(first.path())).await;
    again.stop();
    assert_eq!(again.wait().await.code, 0);
}

#[tokio::test]
async fn a_cancelled_token_stops_the_star() {
    let directory = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    let mut handle = start(options(directory.path()), shutdown.clone()).await.unwrap();
    shutdown.cancel();
    assert_eq!(handle.wait().await.code, 0);
}

#[tokio::test]
async fn health_and_both_reflections_are_served() {
    use tonic_reflection::pb;
    let directory = tempfile::tempdir().unwrap();
    let handle = started(options(directory.path())).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel(&handle).await);
    let request = tonic_health::pb::HealthCheckRequest { service: "orbit.v1.TransferService".to_owned() };
    assert_eq!(health.check(request).await.unwrap().into_inner().status, 1);

    let mut v1 = pb::v1::server_reflection_client::ServerReflectionClient::new(channel(&handle).await);
    let list = pb::v1::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = pb::v1::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut answers = v1.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = format!("{:?}", answers.next().await.unwrap().unwrap());
    assert!(answer.contains("orbit.v1.TransferService"), "{answer}");

    let mut alpha =
        pb::v1alpha::server_reflection_client::ServerReflectionClient::new(channel(&handle).await);
    let symbol = "google.rpc.BadRequest".to_owned();
    let request = pb::v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(symbol);
    let request =
        pb::v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let mut answers = alpha.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = format!("{:?}", answers.next().await.unwrap().unwrap());
    assert!(answer.contains("FileDescriptorResponse"), "{answer}");
    handle.stop();
}

#[tokio::test]
async fn unusable_options_are_refused_with_the_flag_at_fault() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let running = started(options(first.path())).await;
    assert!(refusal(options(first.path())).await.starts_with("--vault "));
    let taken = StarOptions { listen: running.local_addr.unwrap().into(), ..options(second.path()) };
    assert!(refusal(taken).await.starts_with(&format!("--listen {}", running.local_addr.unwrap())));
    let exposed = StarOptions { listen: vec!["0.0.0.0:0".parse().unwrap()].into(), ..options(second.path()) };
    assert!(refusal(exposed).await.contains("--insecure-plaintext"));
    let tls = StarOptions { coordinators: vec!["https://c:1".to_owned()], ..options(second.path()) };
    assert!(refusal(tls).await.starts_with("--coordinator https://c:1"));
    let missing = Root { path: b"/nonexistent/root".to_vec(), is_read_only: true };
    let missing = StarOptions { roots: vec![missing], ..options(second.path()) };
    let error = start(missing, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, StarError::Roots(_)), "{error}");
    assert!(error.to_string().contains("/nonexistent/root"), "{error}");
    // A start that failed holds no resources.
    started(options(second.path())).await.stop();
}
