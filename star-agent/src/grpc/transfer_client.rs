//! The pulling side of `TransferService`: connections that are kept and shared, and one pull on one of them.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};

use orbit_identity::{Expected, UNIX_SCHEME};
use orbit_proto::v1 as wire;
use orbit_shared::capability;
use orbit_shared::trace_context::TraceContext;
use orbit_telemetry::{Kind, Span, Spans};
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::grpc::pull_stream::PullStream;
use crate::grpc::transfer::{decode_parcel, encode_fetches, encode_open};
use crate::limits::{
    CONNECT_TIMEOUT, CONNECTION_WINDOW_BYTES, CONNECTIONS_PER_SOURCE_MAX, HTTP2_FRAME_BYTES,
    KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, SOURCES_CONNECTED_MAX, STREAM_WINDOW_BYTES,
    STREAMS_PER_CONNECTION_MAX,
};
use crate::transfer::{Fetch, Open, Parcel};
use orbit_identity::network::Network;

/// Maximum number of requests of one pull that wait to be sent.
const REQUESTS_WAITING_MAX: usize = 16;

/// Why a pull could not be opened or broke off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PullError {
    /// The two Stars cannot work together.
    Incompatible(String),
    /// The source refuses this pull, violates the protocol, or cannot be reached.
    Unavailable(String),
}

impl PullError {
    fn text(&self) -> &str {
        match self {
            Self::Incompatible(text) | Self::Unavailable(text) => text,
        }
    }
}

/// Connections to sources, kept for the next pull.
#[derive(Debug)]
pub(crate) struct Connections {
    network: Arc<dyn Network>,
    spans: Spans,
    kept: Mutex<BTreeMap<String, Vec<Connection>>>,
}

#[derive(Debug, Clone)]
struct Connection {
    channel: Channel,
    /// Its strong count minus one is the number of pulls on the connection.
    users: Arc<()>,
}

/// One pull from one source.
pub(crate) struct Pull {
    requests: Option<mpsc::Sender<wire::PullRequest>>,
    responses: PullStream,
    span: Span,
    _user: Arc<()>,
}

impl Connections {
    /// Starts without connections.
    pub(crate) fn new(network: Arc<dyn Network>, spans: Spans) -> Self {
        Self { network, spans, kept: Mutex::default() }
    }

    /// Opens a pull from the Star at `address`, with `trace` as its parent span.
    pub(crate) async fn pull(
        &self,
        address: &str,
        open: Open,
        trace: Option<TraceContext>,
    ) -> Result<Pull, PullError> {
        let mut span = self.spans.begin("pull", Kind::Client, trace);
        span.note("orbit.job", open.job.0);
        span.note("server.address", address);
        match self.open(address, open, span.context()).await {
            Ok((requests, responses, user)) => {
                Ok(Pull { requests: Some(requests), responses, span, _user: user })
            }
            Err(error) => {
                span.fail(error.text());
                Err(error)
            }
        }
    }

    async fn open(
        &self,
        address: &str,
        open: Open,
        trace: Option<TraceContext>,
    ) -> Result<Opened, PullError> {
        // The token comes from the coordinator, and names the source.
        let expected = Expected::Star(capability::source_of(&open.token));
        let connection = self.connection(address, expected).await?;
        let opening = begin(connection, open, trace);
        let result = tokio::time::timeout(CONNECT_TIMEOUT, opening).await.unwrap_or_else(|_| {
            Err(PullError::Unavailable(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())))
        });
        if result.is_err() {
            self.forget(address);
        }
        result
    }

    /// A connection that can take one more pull.
    async fn connection(&self, address: &str, expected: Expected) -> Result<Connection, PullError> {
        if let Some(connection) = self.kept_connection(address) {
            return Ok(connection);
        }
        let channel = connect(&*self.network, address, expected).await?;
        let connection = Connection { channel, users: Arc::new(()) };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= SOURCES_CONNECTED_MAX && !kept.contains_key(address) {
            // Running pulls keep their connection. It is only no longer shared.
            kept.pop_first();
        }
        let connections = kept.entry(address.to_owned()).or_default();
        connections.retain(|connection| Arc::strong_count(&connection.users) > 1);
        if connections.len() < CONNECTIONS_PER_SOURCE_MAX {
            connections.push(connection.clone());
        }
        Ok(connection)
    }

    fn kept_connection(&self, address: &str) -> Option<Connection> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room =
            |connection: &&Connection| Arc::strong_count(&connection.users) <= STREAMS_PER_CONNECTION_MAX;
        kept.get(address)?.iter().find(has_room).cloned()
    }

    /// After a failure the next pull makes a new connection.
    pub(crate) fn forget(&self, address: &str) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
    }
}

async fn connect(network: &dyn Network, address: &str, expected: Expected) -> Result<Channel, PullError> {
    let url = match address.starts_with(UNIX_SCHEME) {
        // A Unix socket does not show which Star listens there, so any Star could name one of this machine.
        true if network.scheme() == "https" => {
            let text = format!("{address} is a Unix socket, and a grid with TLS uses none between Stars");
            return Err(PullError::Unavailable(text));
        }
        true => address.to_owned(),
        false => format!("{}://{address}", network.scheme()),
    };
    let endpoint = orbit_identity::endpoint(&url)
        .ok_or_else(|| PullError::Unavailable(format!("{address:?} is not an address")))?
        .connect_timeout(CONNECT_TIMEOUT)
        .max_frame_size(HTTP2_FRAME_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(false)
        .tcp_nodelay(true);
    network.connect(endpoint, expected).await.map_err(|error| PullError::Unavailable(chain(&error)))
}

/// An open pull: the sender of its requests, its answers, and its share of the connection.
type Opened = (mpsc::Sender<wire::PullRequest>, PullStream, Arc<()>);

async fn begin(connection: Connection, open: Open, trace: Option<TraceContext>) -> Result<Opened, PullError> {
    let (requests, waiting) = mpsc::channel(REQUESTS_WAITING_MAX);
    // The queue has room for the first one.
    let _ = requests.try_send(encode_open(open));
    let opened = PullStream::open(connection.channel, waiting, trace).await;
    let responses = opened.map_err(|status| refused(&status))?;
    Ok((requests, responses, connection.users))
}

impl Pull {
    /// Asks for content. Waits while too many requests are queued.
    pub(crate) async fn fetch(&mut self, fetches: Vec<Fetch>) -> Result<(), PullError> {
        let ended = || PullError::Unavailable("the pull has ended".to_owned());
        let requests = self.requests.as_ref().ok_or_else(ended)?;
        requests.send(encode_fetches(fetches)).await.map_err(|_| ended())
    }

    /// Ends the requests.
    pub(crate) fn finish(&mut self) {
        self.requests = None;
    }

    /// The next message of the source; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<Parcel>, PullError> {
        let next = self.read().await;
        if let Err(error) = &next {
            self.span.fail(error.text());
        }
        next
    }

    async fn read(&mut self) -> Result<Option<Parcel>, PullError> {
        match self.responses.message().await {
            Ok(Some(response)) => decode_parcel(response)
                .map(Some)
                .map_err(|malformed| PullError::Unavailable(format!("malformed answer: {}", malformed.0))),
            Ok(None) => Ok(None),
            Err(status) => Err(refused(&status)),
        }
    }
}

fn refused(status: &Status) -> PullError {
    let text = match status.source() {
        Some(source) => format!("{}: {}", status.message(), chain(source)),
        None => status.message().to_owned(),
    };
    match status.code() {
        Code::FailedPrecondition => PullError::Incompatible(text),
        // The code of a lost connection says little. All other codes are retried, and count against the source.
        code => PullError::Unavailable(format!("{} ({text})", code.description())),
    }
}

/// An error with all its causes: the outermost one alone says only `transport error`.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}
