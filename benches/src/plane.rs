//! The data plane alone: pulls the large files of a served tree through the service that Stars use among each other;
//! what arrives is decoded and dropped. Reading, cutting, hashing, HTTP/2 and the loopback interface are included;
//! verifying, writing and the coordinator are not.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use orbit_identity::{Expected, Listening};
use orbit_shared::capability::{Capability, CapabilitySigner};
use orbit_shared::session::Root;
use orbit_shared::words::{JobId, StarId};
use orbit_star::grpc::pull_stream::PullStream;
use orbit_star::grpc::transfer::{decode_parcel, encode_fetches, encode_open};
use orbit_star::in_force::InForce;
use orbit_star::limits::{
    CONNECTION_WINDOW_BYTES, HTTP2_FRAME_BYTES, SEGMENT_BYTES, STREAM_WINDOW_BYTES,
    STREAMS_PER_CONNECTION_MAX,
};
use orbit_star::meters::Meters;
use orbit_star::roots::Roots;
use orbit_star::source::{TransferServer, tune};
use orbit_star::transfer::{Fetch, FrameEnd, Open, Range};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};

use crate::measure::now;
use crate::secured::Secured;

const JOB: JobId = JobId(1);
const SOURCE: &str = "source";
const SINK: &str = "sink";

type Problem = Box<dyn std::error::Error + Send + Sync>;

/// A served tree, and the capability to pull from it.
struct Served {
    address: String,
    token: String,
    path: Vec<u8>,
    shutdown: CancellationToken,
}

/// Pulls every file in `tree`, which has no directories, concurrently, and returns the time; over TLS if `is_secured`.
pub(crate) fn measure(tree: &Path, is_secured: bool) -> Result<Duration, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(pull_all(tree, is_secured)).map_err(|error| format!("data plane: {error}"))
}

async fn pull_all(tree: &Path, is_secured: bool) -> Result<Duration, Problem> {
    let secured = if is_secured { Some(Secured::new(SOURCE, SINK)?) } else { None };
    let mut files: Vec<(PathBuf, u64)> = Vec::new();
    for entry in std::fs::read_dir(tree)? {
        let entry = entry?;
        files.push((entry.file_name().into(), entry.metadata()?.len()));
    }
    let served = serve(tree, secured.as_ref()).await?;
    let start = now();
    let (mut pulls, mut channel) = (JoinSet::new(), None);
    for (index, (name, size)) in files.into_iter().enumerate() {
        if index % STREAMS_PER_CONNECTION_MAX == 0 {
            channel = Some(connect(&served.address, secured.as_ref()).await?);
        }
        let Some(channel) = channel.clone() else { continue };
        let open = Open {
            token: served.token.clone(),
            job: JOB,
            source_path: served.path.clone(),
            destination_star: star(SINK)?,
            snapshot: None,
        };
        pulls.spawn(pull(channel, open, name.as_os_str().as_bytes().to_vec(), size));
    }
    while let Some(pulled) = pulls.join_next().await {
        pulled??;
    }
    let taken = start.elapsed();
    served.shutdown.cancel();
    Ok(taken)
}

/// Serves a tree as a Star does.
async fn serve(tree: &Path, secured: Option<&Secured>) -> Result<Served, Problem> {
    let path = tree.as_os_str().as_bytes().to_vec();
    let roots = Arc::new(Roots::open(&[Root { path: path.clone(), is_read_only: true }])?);
    let signer = CapabilitySigner::generate()?;
    let (_, keys) = watch::channel(InForce::of_keys(vec![signer.verification_key()]));
    let shutdown = CancellationToken::new();
    let meters = Arc::new(Meters::default());
    let server = TransferServer::new(star(SOURCE)?, roots, keys, meters, shutdown.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let router = tune(Server::builder()).add_service(server.into_service());
    let stopped = shutdown.clone().cancelled_owned();
    match secured {
        None => {
            let incoming = TcpListenerStream::new(listener);
            tokio::spawn(router.serve_with_incoming_shutdown(incoming, stopped));
        }
        Some(secured) => {
            let incoming = Listening::new(listener, secured.source.server()?, None);
            tokio::spawn(router.serve_with_incoming_shutdown(incoming, stopped));
        }
    }
    let capability = Capability {
        job: JOB,
        source_star: star(SOURCE)?,
        source_path: path.clone(),
        destination_star: star(SINK)?,
        snapshot: None,
        is_for_chunks: false,
        max_bytes_per_second: 0,
        filter: None,
    };
    Ok(Served { address, token: signer.sign(&capability)?, path, shutdown })
}

/// A connection like that of a destination.
async fn connect(address: &str, secured: Option<&Secured>) -> Result<Channel, Problem> {
    let scheme = if secured.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))?
        .max_frame_size(HTTP2_FRAME_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .tcp_nodelay(true);
    Ok(match secured {
        None => endpoint.connect().await?,
        Some(secured) => {
            secured.sink.dialing().connect(&endpoint, Expected::Star(Some(star(SOURCE)?))).await?
        }
    })
}

/// Pulls one file in segments and drops its content.
async fn pull(channel: Channel, open: Open, path: Vec<u8>, size: u64) -> Result<(), Problem> {
    let fetches: Vec<Fetch> = (0..size.div_ceil(SEGMENT_BYTES))
        .map(|id| Fetch {
            id,
            path: path.clone(),
            ranges: vec![Range { offset: id * SEGMENT_BYTES, length: SEGMENT_BYTES }],
            is_hashes_only: false,
            is_cut_by_content: false,
            is_look_only: false,
            accepts_changes: false,
            as_of: None,
            is_one_file_system: false,
        })
        .collect();
    // There is room for both requests.
    let (requests, waiting) = mpsc::channel(2);
    requests.send(encode_open(open)).await?;
    requests.send(encode_fetches(fetches)).await?;
    drop(requests);
    let mut responses = PullStream::open(channel, waiting, None).await?;
    let mut received = 0;
    while let Some(response) = responses.message().await? {
        let parcel = decode_parcel(response).map_err(|malformed| malformed.0)?;
        for frame in &parcel.frames {
            if let FrameEnd::Failed(failure) = &frame.end {
                return Err(format!("a fetch failed: {failure:?}").into());
            }
        }
        received += parcel.payload.len() as u64;
    }
    if received == size { Ok(()) } else { Err(format!("{received} bytes of {size} arrived").into()) }
}

fn star(name: &str) -> Result<StarId, Problem> {
    StarId::new(name).map_err(|error| error.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_arrives_and_is_dropped() {
        let tree = tempfile::tempdir().unwrap();
        for (name, size) in [("empty", 0), ("small", 1000), ("large", SEGMENT_BYTES as usize + 5)] {
            std::fs::write(tree.path().join(name), vec![7; size]).unwrap();
        }
        measure(tree.path(), false).unwrap();
        measure(tree.path(), true).unwrap();
        std::fs::create_dir(tree.path().join("directory")).unwrap();
        assert!(measure(tree.path(), false).is_err());
    }
}
