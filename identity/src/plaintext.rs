//! A word to whoever speaks plain gRPC where TLS is spoken: a client that only sees its connection end cannot say why.
//!
//! Each of its calls gets the same refusal, for a short time; nothing that it says is looked at.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The first byte of a handshake of TLS.
const HANDSHAKE: u8 = 0x16;
const MESSAGE: &str =
    "this port speaks TLS only: write https:// and use an identity of this grid, which a join token gives";
/// How long a peer may take to hear it.
const PATIENCE: Duration = Duration::from_secs(5);
const STREAMS_MAX: u32 = 8;
const HEADERS_BYTES_MAX: u32 = 16 * 1024;

/// Whether a connection begins as TLS does. One that ends at once does not.
pub(crate) async fn is_tls(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 1 && first[0] == HANDSHAKE)
}

/// Refuses whatever is asked, until the peer goes away or has had its time.
pub(crate) async fn explain(stream: TcpStream) {
    let service = service_fn(async |_| Ok::<_, Infallible>(refusal().into_http::<Body>()));
    let connection = http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever speaks something else altogether is not answered.
    let _ = tokio::time::timeout(PATIENCE, connection).await;
}

fn refusal() -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info("TLS_ONLY", "orbit.v1", []);
    Status::with_error_details(Code::PermissionDenied, MESSAGE, details)
}
