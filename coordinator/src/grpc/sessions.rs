//! SessionService: carries what Stars say to the driver, and what the driver says back.
//!
//! The task that reads a session waits for nothing but the driver's bounded inbox. That cannot pile up: a Star says
//! only a bounded number of things before it must hear back.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use orbit_proto::v1::session_service_server::SessionService;
use orbit_proto::v1::{ConnectRequest, ConnectResponse};
use orbit_shared::session::limits::HELLO_BYTES_MAX;
use orbit_shared::session::{CoordinatorMessage, StarMessage};
use prost::Message as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::Faces;
use super::access::Caller;
use super::pace::Pace;
use super::status::{another_star, closed, refused, stopping, unconvertible};
use crate::core::{Event, Refusal, SessionId};
use crate::driver::{Inbox, Outgoing};
use crate::meters::Meters;

/// How long a stream may be open without a hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages between the driver and the connection; small, since the session's outbox is the queue.
const STREAM_BUFFER: usize = 16;

static NEXT_SESSION: AtomicU64 = AtomicU64::new(1);

#[tonic::async_trait]
impl SessionService for Faces {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<ConnectResponse, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let mut incoming = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, incoming.message()).await;
        let no_hello = || refused(Refusal::invalid("hello", "the first message of a session must be hello"));
        let Some(first) = first.map_err(|_| no_hello())?? else { return Err(no_hello()) };
        if first.encoded_len() > HELLO_BYTES_MAX {
            let problem = format!("has more than {HELLO_BYTES_MAX} bytes");
            return Err(refused(Refusal::invalid("hello", &problem)));
        }
        let StarMessage::Hello(hello) = StarMessage::try_from(first).map_err(unconvertible)? else {
            return Err(no_hello());
        };
        if let Some(Caller(holder)) = caller
            && holder.identity.name != hello.star_id
        {
            return Err(another_star(&holder.identity, &hello.star_id));
        }
        let session = SessionId(NEXT_SESSION.fetch_add(1, Ordering::Relaxed));
        let star = hello.star_id.clone();
        tracing::info!(session = session.0, %star, address = %hello.data_address, "a Star has connected");
        let mut outbox = self.inbox.open_session(session, hello).await.map_err(refused)?;
        let (sender, stream) = tokio::sync::mpsc::channel(STREAM_BUFFER);
        let inbox = self.inbox.clone();
        let stop = self.stop.clone();
        let meters = self.meters.clone();
        tokio::spawn(async move {
            let reader = read(session, incoming, inbox.clone(), &meters);
            tokio::pin!(reader);
            loop {
                let outgoing = tokio::select! {
                    outgoing = outbox.recv() => outgoing,
                    () = &mut reader => break,
                    () = stop.cancelled() => {
                        // Whether the Star still listens makes no difference: it reconnects either way.
                        let _ = sender.send(Err(stopping())).await;
                        break;
                    }
                };
                let (message, is_last) = match outgoing {
                    Some(Outgoing::Message(message)) => (Ok(message), false),
                    Some(Outgoing::Close(reason)) => (Err(closed(&reason)), true),
                    None => (Err(cut_off()), true),
                };
                tokio::select! {
                    sent = sender.send(message) => if sent.is_err() || is_last { break },
                    () = &mut reader => break,
                    () = stop.cancelled() => break,
                }
            }
            tracing::info!(session = session.0, %star, "a session has ended");
            // When the driver has stopped, nobody is left to be told.
            let _ = inbox.event(Event::SessionClosed { session }).await;
        });
        // Made into what goes out only now: a place in the channel is as large as what it may hold.
        let responses =
            ReceiverStream::new(stream).map(|message: Result<Box<CoordinatorMessage>, Status>| {
                message.map(|message| ConnectResponse::from(*message))
            });
        Ok(Response::new(Box::pin(responses)))
    }
}

/// Hands on what a Star says until its stream ends or it breaks the protocol.
async fn read(session: SessionId, mut incoming: Streaming<ConnectRequest>, inbox: Inbox, meters: &Meters) {
    let mut pace = Pace::new();
    let mut is_slowed = false;
    loop {
        let message = match incoming.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(status) => {
                tracing::debug!(session = session.0, %status, "a session broke off");
                return;
            }
        };
        let message = match StarMessage::try_from(message) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(session = session.0, %error, "a Star does not keep to the protocol");
                let problem = error.to_string();
                // When the driver has stopped, nobody is left to be told.
                let _ = inbox.event(Event::ProtocolViolated { session, problem }).await;
                return;
            }
        };
        if let Some(wait) = pace.take(&message) {
            meters.slowed.inc();
            if !std::mem::replace(&mut is_slowed, true) {
                tracing::warn!(session = session.0, "a Star sends more than it may and is slowed");
                let _ = inbox.event(Event::SessionSlowed { session }).await;
            }
            tokio::time::sleep(wait).await;
        }
        if inbox.event(Event::MessageReceived { session, message }).await.is_err() {
            return;
        }
    }
}

/// A Star that did not read is to come back, so this must not be one of the statuses that it takes for a refusal.
fn cut_off() -> Status {
    refused(Refusal::Unavailable {
        problem: "the session's messages were not read; connect again".to_owned(),
    })
}
