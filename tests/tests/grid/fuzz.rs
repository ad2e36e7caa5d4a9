//! Every call handles any message: it succeeds or is refused with a text, and the coordinator continues.

use std::time::Duration;

use orbit_proto::v1;
use orbit_tests::deadline::within;
use orbit_tests::fuzz::Fuzz;
use orbit_tests::grid::Grid;
use orbit_tests::random::Random;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// Environment variable with the number of messages for each call; more make the test slower and find more.
const ROUNDS_VARIABLE: &str = "ORBIT_TEST_FUZZ_ROUNDS";
/// A stream without a message for this long is left.
const STREAM_PATIENCE: Duration = Duration::from_millis(300);
/// Maximum memory of the coordinator during the test, in KiB.
const MEMORY_KIB_MAX: u64 = 256 * 1024;

/// A codec for raw bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        use prost::bytes::BufMut as _;
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        use prost::bytes::Buf as _;
        buffer.advance(buffer.remaining());
        Ok(Some(()))
    }
}

async fn channel(grid: &Grid) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", grid.address())).expect("a URL");
    endpoint.connect().await.expect("the coordinator is there")
}

/// Calls a method with some messages, all of them on one stream, and reads the answers for a short time.
async fn call(channel: Channel, path: &str, messages: Vec<Vec<u8>>) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = path.parse().expect("a path");
    let mut answers =
        grpc.streaming(Request::new(tokio_stream::iter(messages)), path, Raw).await?.into_inner();
    while let Ok(answer) = tokio::time::timeout(STREAM_PATIENCE, answers.message()).await {
        if answer?.is_none() {
            break;
        }
    }
    Ok(())
}

/// A refusal must name the cause, and must never be an internal error of the coordinator.
fn assert_civil(path: &str, status: &Status) {
    let is_own_fault =
        matches!(status.code(), Code::Internal | Code::Unknown | Code::DataLoss | Code::Unavailable);
    assert!(!is_own_fault, "{path}: {status:?}");
    assert!(!status.message().is_empty(), "{path}: {status:?}");
}

fn rounds() -> usize {
    std::env::var(ROUNDS_VARIABLE).map_or(12, |text| text.parse().expect("a number of messages"))
}

#[tokio::test]
async fn no_message_of_any_call_crashes_the_coordinator() {
    let mut grid = Grid::start(&["star-1", "star-2"]).await;
    let mut fuzz = Fuzz::new(Random::announced("messages"));
    let methods: Vec<_> =
        fuzz.pool().services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
    let mut calls = 0;
    for method in methods {
        let service = method.parent_service().full_name().to_owned();
        // Stars serve the data plane.
        if service.ends_with("TransferService") {
            continue;
        }
        let path = format!("/{service}/{}", method.name());
        for _ in 0..rounds() {
            // Each on its own connection, since the answer of a session can be its end.
            let count = if method.is_client_streaming() { 5 } else { 1 };
            let messages = (0..count).map(|_| fuzz.message(&method.input())).collect();
            let answered = within(&path, call(channel(&grid).await, &path, messages)).await;
            calls += 1;
            if let Err(status) = answered {
                assert_civil(&path, &status);
            }
        }
    }
    assert!(calls > 30 * rounds(), "only {calls} calls were made");
    assert!(grid.coordinator().is_running());
    let memory = grid.coordinator().memory_peak_kib();
    assert!(memory < MEMORY_KIB_MAX, "the coordinator took {memory} KiB");
    let stars = grid.client().stars().list_stars(v1::ListStarsRequest::default()).await;
    stars.expect("the coordinator still answers");
}
