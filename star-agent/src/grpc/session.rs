//! One session with a coordinator, on a connection that carries no bulk data.
//!
//! A task reads the coordinator's messages and passes them to the driver's inbox. It waits for nothing else, because
//! unread messages would finally block the whole connection. The Star's messages go through a bounded queue. It is
//! larger than the number of messages that the protocol allows to be unacknowledged, so only a coordinator that stops
//! reading fills it, and that ends the session.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use orbit_identity::Expected;
use orbit_proto::v1::session_service_client::SessionServiceClient;
use orbit_proto::v1::{ConnectRequest, ConnectResponse};
use orbit_shared::session::{CoordinatorMessage, Hello, StarMessage, limits};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};

use crate::core::{Event, SessionEnd};
use orbit_identity::network::Network;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of queued messages to a coordinator that does not read.
const OUTBOUND_MAX: usize = 512;

const _: () = assert!(
    OUTBOUND_MAX
        > 2 * (limits::REPORTS_UNACKED_MAX + limits::SCAN_BATCHES_UNACKED_MAX * limits::SCANS_PER_STAR_MAX)
);

/// Why an address of a coordinator cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "--coordinator {address}: write it as https://HOST:PORT, or for a coordinator without TLS as http://HOST:PORT or unix:/PATH"
)]
pub struct AddressError {
    /// The address as it was given.
    pub address: String,
}

/// An endpoint for a coordinator's address, with the settings of the transport.
///
/// # Errors
/// It is neither `http://HOST:PORT` nor `https://HOST:PORT`.
pub fn endpoint(address: &str) -> Result<Endpoint, AddressError> {
    let refused = || AddressError { address: address.to_owned() };
    let endpoint = orbit_identity::endpoint(address).ok_or_else(refused)?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(KEEPALIVE_INTERVAL))
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// A session that is open or being opened.
#[derive(Debug)]
pub struct Session {
    /// Its number.
    pub number: u64,
    outbound: mpsc::Sender<StarMessage>,
    task: JoinHandle<()>,
    cancel: CancellationToken,
}

impl Session {
    /// Starts to open a session. The result arrives in the inbox.
    pub fn open(
        network: Arc<dyn Network>,
        endpoint: Endpoint,
        number: u64,
        hello: Hello,
        inbox: mpsc::Sender<Event>,
    ) -> Self {
        let (outbound, messages) = mpsc::channel(OUTBOUND_MAX);
        outbound.try_send(StarMessage::Hello(hello)).expect("the queue is new and empty");
        let cancel = CancellationToken::new();
        let running = run(network, endpoint, number, messages, inbox);
        let task = tokio::spawn({
            let cancel = cancel.clone();
            async move {
                cancel.run_until_cancelled(running).await;
            }
        });
        Self { number, outbound, task, cancel }
    }

    /// Queues a message. Returns false if the queue is full because the coordinator does not read, or the session has
    /// ended.
    #[must_use = "a message that was not taken is lost with the session"]
    pub fn send(&self, message: StarMessage) -> bool {
        self.outbound.try_send(message).is_ok()
    }

    /// Ends the session once all queued messages are sent, or after `patience`.
    pub async fn close(self, patience: Duration) {
        let Self { outbound, mut task, cancel, .. } = self;
        drop(outbound);
        if tokio::time::timeout(patience, &mut task).await.is_err() {
            cancel.cancel();
        }
    }

    /// Ends the session at once.
    pub fn cut(self) {
        self.cancel.cancel();
    }
}

async fn run(
    network: Arc<dyn Network>,
    endpoint: Endpoint,
    session: u64,
    messages: mpsc::Receiver<StarMessage>,
    inbox: mpsc::Sender<Event>,
) {
    let address = orbit_identity::shown(endpoint.uri());
    let end = match speak(&*network, endpoint, session, messages, &inbox).await {
        Ok(()) => SessionEnd::Lost(format!("{address} ended the session")),
        Err(status) => judge(&address, &status),
    };
    // Without a driver there is no receiver.
    let _ = inbox.send(Event::Disconnected { session, end }).await;
}

async fn speak(
    network: &dyn Network,
    endpoint: Endpoint,
    session: u64,
    messages: mpsc::Receiver<StarMessage>,
    inbox: &mpsc::Sender<Event>,
) -> Result<(), Status> {
    let channel = network
        .connect(endpoint, Expected::Coordinator)
        .await
        .map_err(|error| Status::unavailable(chain(&error)))?;
    let mut client = SessionServiceClient::new(channel)
        .max_encoding_message_size(limits::SESSION_MESSAGE_BYTES_MAX)
        .max_decoding_message_size(limits::SESSION_MESSAGE_BYTES_MAX);
    let requests = ReceiverStream::new(messages).map(ConnectRequest::from);
    let mut responses: Streaming<ConnectResponse> = client.connect(requests).await?.into_inner();
    while let Some(response) = responses.message().await? {
        let message = CoordinatorMessage::try_from(response).map_err(|error| {
            Status::unavailable(format!("it said something that makes no sense: {error}"))
        })?;
        if inbox.send(Event::FromCoordinator { session, message }).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Decides what a status means for the next attempt. Only a decision of the coordinator itself is final. Everything
/// else, including statuses that a broken transport makes up, is retried.
fn judge(address: &str, status: &Status) -> SessionEnd {
    // For a status of the transport, only its cause says what happened.
    let said = status.source().map_or_else(|| status.message().to_owned(), chain);
    match status.code() {
        Code::AlreadyExists => SessionEnd::Refused(format!(
            "{address} refuses this Star: {said}; give it another --star-id, or have the old one removed (RemoveStar)"
        )),
        Code::Unavailable => SessionEnd::Lost(format!("{address}: {said}")),
        Code::InvalidArgument | Code::PermissionDenied => {
            SessionEnd::Refused(format!("{address} refuses this Star: {said}"))
        }
        Code::Aborted => SessionEnd::Superseded(format!(
            "{address} ended the session because a newer one with this Star's identity has been opened: {said}"
        )),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => SessionEnd::Lost(format!("{address}: {}: {said}", status.code())),
    }
}

/// An error with its causes. The cause of a transport error says what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_addresses_with_a_host_are_taken() {
        assert!(endpoint("http://coordinator:7100").is_ok());
        assert!(endpoint("https://coordinator:7100").is_ok());
        for bad in ["", "coordinator:7100", "https://", "http://", "ftp://a:1", "http://a b"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_the_coordinator_decided_is_final() {
        let aborted = judge("http://c:1", &Status::new(Code::Aborted, "no"));
        assert!(matches!(aborted, SessionEnd::Superseded(_)));
        for code in [Code::AlreadyExists, Code::InvalidArgument, Code::PermissionDenied] {
            let end = judge("http://c:1", &Status::new(code, "no"));
            assert!(matches!(end, SessionEnd::Refused(_)), "{code:?}");
        }
        for code in [Code::Unknown, Code::Cancelled, Code::Unavailable, Code::Internal, Code::Unauthenticated]
        {
            let end = judge("http://c:1", &Status::new(code, "later"));
            assert!(matches!(end, SessionEnd::Lost(_)), "{code:?}");
        }
    }
}
