//! Tells a client why it is refused before anything is served. A client that only sees its connection end cannot say
//! why.
//!
//! For a short time, each of its calls gets the same refusal. The requests are not read.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::plain_stream::PlainStream;

/// First byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;
const TLS_ONLY: &str =
    "this port speaks TLS only: write https:// and use an identity of this grid, which a join token gives";
/// First bytes of every HTTP/2 connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Pause before a preface that has arrived in part is checked again.
const PREFACE_PAUSE: Duration = Duration::from_millis(10);
/// How long a peer may take to receive the refusal.
const PATIENCE: Duration = Duration::from_secs(5);
const STREAMS_MAX: u32 = 8;
const HEADERS_BYTES_MAX: u32 = 16 * 1024;

/// Whether a connection begins with a TLS handshake. One that ends at once does not.
pub(crate) async fn is_tls(stream: &PlainStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 1 && first[0] == HANDSHAKE)
}

/// Waits until HTTP/2 begins, or something else that the server is to refuse.
pub(crate) async fn preface(stream: &PlainStream) -> io::Result<()> {
    let mut first = [0; PREFACE.len()];
    loop {
        let read = stream.peek(&mut first).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if read == PREFACE.len() || first[..read] != PREFACE[..read] {
            return Ok(());
        }
        // Peeked bytes stay readable, so there is no event to wait for.
        tokio::time::sleep(PREFACE_PAUSE).await;
    }
}

/// Tells a peer without TLS that this port requires TLS.
pub(crate) async fn explain(stream: PlainStream) {
    refuse_all(stream, "TLS_ONLY", TLS_ONLY).await;
}

/// Tells a user of this machine that the server serves others.
pub(crate) async fn turn_away(stream: PlainStream, why: &str) {
    refuse_all(stream, "LOCAL_USER_REFUSED", why).await;
}

/// Refuses every call until the peer disconnects or its time is over.
async fn refuse_all(stream: PlainStream, reason: &'static str, message: &str) {
    let status = refusal(reason, message);
    let service = service_fn(move |_| {
        let answer = status.clone().into_http::<Body>();
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // A peer that speaks another protocol gets no answer.
    let _ = tokio::time::timeout(PATIENCE, connection).await;
}

fn refusal(reason: &'static str, message: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "orbit.v1", []);
    Status::with_error_details(Code::PermissionDenied, message, details)
}
