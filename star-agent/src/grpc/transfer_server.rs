//! The serving side of `TransferService`: checks the peer and its capability, then passes the pull to
//! [`source`](crate::source).

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::{Stream, StreamExt as _};
use http::header::{CONTENT_TYPE, HeaderValue};
use orbit_identity::{Peer, Role};
use orbit_proto::v1 as wire;
use orbit_shared::bulletin::truncate_visibly;
use orbit_shared::capability::Capability;
use orbit_shared::entry::display_path;
use orbit_shared::filter::{FileLimits, Filter};
use orbit_shared::trace_context::{TRACEPARENT, TraceContext};
use orbit_shared::words::StarId;
use orbit_telemetry::{Kind, Span, Spans};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codec::BufferSettings;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstDecoder;
use tower::Service;

use crate::grpc::pull_body::PullBody;
use crate::grpc::refusal::{STATUS_TEXT_BYTES_MAX, bad_fields, refused, refused_for_now};
use crate::grpc::transfer::{PULL_PATH, chunker_parameters, decode_fetches, decode_open};
use crate::in_force::InForce;
use crate::limits::{
    CONNECT_TIMEOUT, CONNECTION_WINDOW_BYTES, HTTP2_FRAME_BYTES, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT,
    MESSAGE_BYTES_MAX, PACED_READ_JOBS_MAX, PARCELS_READY_MAX, READ_JOBS_MAX, SERVED_STREAM_WINDOW_BYTES,
    SERVED_STREAMS_PER_CONNECTION_MAX,
};
use crate::meters::{Meters, ServedPull};
use crate::packed::PackedStore;
use crate::roots::{PathError, Roots};
use crate::source::buffers::SharedBuffers;
use crate::source::origin::{Origin, SnapshotTree};
use crate::source::pace::{Pace, Paces};
use crate::source::serve::{End, Serving, serve};
use crate::source::slots::{PullSlot, PullSlots};
use crate::transfer::{Open, Parcel};

/// The parts of a pull that was accepted.
struct Accepted {
    slot: PullSlot,
    origin: Origin,
    pace: Option<Arc<Pace>>,
    grant: Grant,
}

/// Serves file content below this Star's roots to holders of a capability for it.
#[derive(Debug)]
pub struct TransferServer {
    star_id: StarId,
    roots: Arc<Roots>,
    keys: watch::Receiver<InForce>,
    meters: Arc<Meters>,
    jobs: Arc<Semaphore>,
    /// The places for pulls of jobs with a bandwidth limit.
    paced_jobs: Arc<Semaphore>,
    buffers: SharedBuffers,
    shutdown: CancellationToken,
    vault: Option<Arc<PackedStore>>,
    paces: Paces,
    slots: PullSlots,
    spans: Spans,
}

impl TransferServer {
    /// A server for `roots`. `keys` are the public keys that sign capabilities; `shutdown` ends running pulls.
    pub fn new(
        star_id: StarId,
        roots: Arc<Roots>,
        keys: watch::Receiver<InForce>,
        meters: Arc<Meters>,
        shutdown: CancellationToken,
    ) -> Self {
        let jobs = Arc::new(Semaphore::new(READ_JOBS_MAX));
        let paced_jobs = Arc::new(Semaphore::new(PACED_READ_JOBS_MAX));
        let buffers = SharedBuffers::default();
        let (paces, slots, spans) = (Paces::default(), PullSlots::default(), Spans::default());
        let vault = None;
        Self { star_id, roots, keys, meters, jobs, paced_jobs, buffers, shutdown, vault, paces, slots, spans }
    }

    /// Also serves snapshots and chunks of a vault.
    #[must_use]
    pub fn with_vault(self, vault: Arc<PackedStore>) -> Self {
        Self { vault: Some(vault), ..self }
    }

    /// Sends a span for each served pull.
    #[must_use]
    pub fn with_spans(self, spans: Spans) -> Self {
        Self { spans, ..self }
    }

    /// The service, for a server that [`tune`] has set up.
    pub fn into_service(self) -> PullService {
        PullService { server: Arc::new(self) }
    }

    /// Accepts a pull.
    async fn pull(
        &self,
        mut requests: Streaming<wire::PullRequest>,
        (caller, peer): (Option<TraceContext>, Option<Peer>),
    ) -> Result<(impl Stream<Item = Result<Parcel, Status>> + Send + use<>, Option<Arc<Pace>>), Status> {
        let mut span = self.spans.begin("serve", Kind::Server, caller);
        let ended = self.shutdown.child_token();
        let accepted = self.accept(&mut requests, (peer.as_ref(), &ended), &mut span).await;
        let Accepted { slot, origin, pace, grant } =
            accepted.inspect_err(|status| span.fail(status.message()))?;
        let pull = self.meters.begin_pull();
        tokio::spawn(end_with_grant(grant, self.keys.clone(), ended.clone()));
        let serving = Serving {
            origin: Arc::new(origin),
            meters: Arc::clone(&self.meters),
            jobs: Arc::clone(if pace.is_some() { &self.paced_jobs } else { &self.jobs }),
            buffers: self.buffers.hold(),
            shutdown: ended.clone(),
            slot,
        };
        let (parcels, ready) = mpsc::channel::<Parcel>(PARCELS_READY_MAX);
        // A single slot, filled at most once: the error of the pull, which is sent after the last parcel.
        let (refusals, refusal) = mpsc::channel::<Status>(1);
        let running = run((pull, span), serving, requests, parcels, refusals);
        tokio::spawn(async move {
            let _ended = ended.drop_guard();
            running.await;
        });
        Ok((ReceiverStream::new(ready).map(Ok).chain(ReceiverStream::new(refusal).map(Err)), pace))
    }

    /// Reads and checks the first request. An error can contain paths of any length.
    async fn accept(
        &self,
        requests: &mut Streaming<wire::PullRequest>,
        (peer, ended): (Option<&Peer>, &CancellationToken),
        span: &mut Span,
    ) -> Result<Accepted, Status> {
        let first = tokio::time::timeout(CONNECT_TIMEOUT, requests.message()).await.map_err(|_| {
            refused(Code::DeadlineExceeded, "NO_OPEN", "the first request of a pull did not come")
        })??;
        let Some(wire::pull_request::Request::Open(open)) = first.and_then(|first| first.request) else {
            return Err(bad_fields(vec![("open", "must be in the first request of a pull".to_owned())]));
        };
        if open.chunker.as_ref() != Some(&chunker_parameters()) {
            let text = format!(
                "Star {} cuts chunks with {:?} and the destination with {:?}: run the same version on both",
                self.star_id,
                chunker_parameters(),
                open.chunker
            );
            return Err(refused(Code::FailedPrecondition, "OTHER_CHUNKER", &text));
        }
        let open = decode_open(open).map_err(bad_fields)?;
        span.note("orbit.job", open.job.0);
        span.note("orbit.destination", open.destination_star.as_str());
        let granted = self.authorize(&open)?;
        let token = open.token.clone();
        check_peer(peer, &open)?;
        let slot = self.slots.enter(&granted.destination_star, ended.clone()).map_err(|full| {
            let text = format!("Star {} {full}", self.star_id);
            refused_for_now(Code::ResourceExhausted, "FULL", &text, CONNECT_TIMEOUT)
        })?;
        let pace = self.paces.of(granted.job, &granted.destination_star, granted.max_bytes_per_second);
        let origin = self.origin(open, &granted).await?;
        Ok(Accepted { slot, origin, pace, grant: Grant { token, granted } })
    }

    /// Opens the file or vault that the capability is for.
    async fn origin(&self, open: Open, granted: &Capability) -> Result<Origin, Status> {
        let filter = filter(granted)?;
        if granted.is_for_chunks || granted.snapshot.is_some() {
            let no_vault = || {
                let text = format!("Star {} has no vault", self.star_id);
                refused(Code::FailedPrecondition, "NO_VAULT", &text)
            };
            let vault = Arc::clone(self.vault.as_ref().ok_or_else(no_vault)?);
            return Ok(match granted.snapshot {
                Some(id) => Origin::snapshot(SnapshotTree::new(vault, id, &open.source_path), filter),
                None => Origin::chunks(vault),
            });
        }
        let roots = Arc::clone(&self.roots);
        let place =
            tokio::task::spawn_blocking(move || roots.open_source(&open.source_path, open.job, false))
                .await
                .map_err(|_| refused(Code::Internal, "INTERNAL", "opening the source path did not end"))?
                .map_err(|error| match error {
                    PathError::RootAway { .. } => {
                        refused_for_now(Code::Unavailable, "ROOT_AWAY", &error.to_string(), CONNECT_TIMEOUT)
                    }
                    _ => refused(Code::NotFound, "NOT_FOUND", &error.to_string()),
                })?;
        Ok(Origin::directory(place, filter))
    }

    /// Checks that a key in force has signed the capability, for exactly this pull.
    fn authorize(&self, open: &Open) -> Result<Capability, Status> {
        let granted = self
            .keys
            .borrow()
            .verify(&open.token)
            .map_err(|error| refused(Code::Unauthenticated, "TOKEN_INVALID", &error.to_string()))?;
        let refuse = |text: String| Err(refused(Code::PermissionDenied, "TOKEN_FOR_OTHER", &text));
        if granted.source_star != self.star_id {
            return refuse(format!(
                "the capability is for Star {}; this is Star {}",
                granted.source_star, self.star_id
            ));
        }
        if granted.source_path != open.source_path {
            return refuse(format!(
                "the capability is for {}, not for {}",
                display_path(&granted.source_path),
                display_path(&open.source_path)
            ));
        }
        if granted.snapshot != open.snapshot {
            return refuse("the capability is for another snapshot, or for none".to_owned());
        }
        if granted.job != open.job {
            return refuse(format!("the capability is for job {}, not for job {}", granted.job, open.job));
        }
        if granted.destination_star != open.destination_star {
            return refuse(format!(
                "the capability is for destination {}, not for {}",
                granted.destination_star, open.destination_star
            ));
        }
        Ok(granted)
    }
}

/// The filter in a capability: which part of its tree it covers.
fn filter(granted: &Capability) -> Result<Option<Filter>, Status> {
    let Some(named) = &granted.filter else { return Ok(None) };
    let filter = Filter::new(&named.include, &named.exclude, FileLimits::default());
    let filter = filter.map_err(|problem| {
        refused(Code::PermissionDenied, "TOKEN_INVALID", &format!("the filter of the capability: {problem}"))
    })?;
    Ok(Some(filter.with_paths(&named.paths)))
}

/// Checks that the peer's certificate is that of the Star that the capability is for, so that a stolen capability is
/// useless. Without TLS there are no certificates. Operators may read what was granted to them, under the name in the
/// capability.
fn check_peer(peer: Option<&Peer>, open: &Open) -> Result<(), Status> {
    let Some(peer) = peer else { return Ok(()) };
    let identity = peer.facts.as_ref().map(|facts| &facts.identity);
    let is_allowed = identity.is_some_and(|identity| match identity.role {
        Role::Star => identity.name == open.destination_star,
        Role::Operator => true,
        Role::Viewer | Role::Coordinator => false,
    });
    if is_allowed {
        return Ok(());
    }
    let who = identity.map_or_else(|| "a peer without a certificate".to_owned(), ToString::to_string);
    let text = format!("the capability is for Star {}, and {who} asks", open.destination_star);
    Err(refused(Code::PermissionDenied, "TOKEN_FOR_OTHER", &text))
}

/// Cuts the text of a decoder, which can have any length and is sent in the headers of HTTP/2.
fn within_headers(status: Status) -> Status {
    if status.message().len() <= STATUS_TEXT_BYTES_MAX {
        return status;
    }
    Status::new(status.code(), truncate_visibly(status.message(), STATUS_TEXT_BYTES_MAX))
}

/// `orbit.v1.TransferService` without a generated server, which would copy every byte of content into a buffer of its
/// codec.
#[derive(Debug, Clone)]
pub struct PullService {
    server: Arc<TransferServer>,
}

impl NamedService for PullService {
    const NAME: &'static str = "orbit.v1.TransferService";
}

impl Service<http::Request<Body>> for PullService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let server = Arc::clone(&self.server);
        Box::pin(async move {
            if request.uri().path() != PULL_PATH {
                let text = format!("this service has no method {}", request.uri().path());
                return Ok(refused(Code::Unimplemented, "NO_SUCH_METHOD", &text).into_http());
            }
            let caller = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
            let caller = caller.and_then(|text| TraceContext::parse(text).ok());
            let decoder = ProstDecoder::<wire::PullRequest>::new(BufferSettings::default());
            let peer = request.extensions().get::<Peer>().cloned();
            let requests =
                Streaming::new_request(decoder, request.into_body(), None, Some(MESSAGE_BYTES_MAX));
            Ok(match server.pull(requests, (caller, peer)).await {
                Ok((parcels, pace)) => {
                    let mut response = http::Response::new(Body::new(PullBody::new(parcels, pace)));
                    let grpc = HeaderValue::from_static("application/grpc");
                    response.headers_mut().insert(CONTENT_TYPE, grpc);
                    response
                }
                Err(status) => within_headers(status).into_http(),
            })
        })
    }
}

/// The capability that a pull was opened with.
struct Grant {
    token: String,
    granted: Capability,
}

/// Ends a pull when its capability becomes invalid: the keys have changed, none of them signed it, and the coordinator
/// does not list the pull as one that goes on. Returns when the pull has ended.
async fn end_with_grant(grant: Grant, mut keys: watch::Receiver<InForce>, ended: CancellationToken) {
    loop {
        tokio::select! {
            () = ended.cancelled() => return,
            changed = keys.changed() => {
                if changed.is_err() {
                    return;
                }
                if !keys.borrow_and_update().admits_running(&grant.token, &grant.granted) {
                    ended.cancel();
                    return;
                }
            }
        }
    }
}

/// Serves one pull in its own task, which ends when the response stream is dropped.
async fn run(
    (pull, mut span): (ServedPull, Span),
    serving: Serving,
    requests: Streaming<wire::PullRequest>,
    parcels: mpsc::Sender<Parcel>,
    refusals: mpsc::Sender<Status>,
) {
    let bad_requests = refusals.clone();
    let fetches = requests
        .map(|request| match request?.request {
            Some(wire::pull_request::Request::Fetches(fetches)) => {
                decode_fetches(fetches).map_err(|malformed| bad_fields(vec![("fetches", malformed.0)]))
            }
            Some(wire::pull_request::Request::Open(_)) | None => Err(bad_fields(vec![(
                "fetches",
                "must be in every request of a pull but the first".to_owned(),
            )])),
        })
        .scan(bad_requests, |refusals, request| {
            // The first bad request ends the requests and the pull.
            let taken = request.map_err(|status| refusals.try_send(status)).ok();
            async move { taken }
        });
    let end = serve(serving, fetches, parcels).await;
    drop(pull);
    let status = match end {
        End::Complete | End::Gone => return,
        End::Idle => refused(Code::DeadlineExceeded, "IDLE", "the pull asked for nothing for too long"),
        End::Overrun => {
            let text = "the pull has too many fetches without an answer";
            refused(Code::ResourceExhausted, "TOO_MANY_FETCHES", text)
        }
        End::Stopping => refused_for_now(
            Code::Unavailable,
            "UNAVAILABLE",
            "this Star stops, the grant has ended, or another pull needed the place of this idle one",
            CONNECT_TIMEOUT,
        ),
    };
    span.fail(status.message());
    // The slot is full if a bad request was refused before; that error is sent.
    let _ = refusals.try_send(status);
}

/// HTTP/2 settings for bulk data, for the server of a Star's data plane.
///
/// The receive windows of the server are small, because requests are. The large windows are those of the destination,
/// which receives the data. In both directions the windows of all streams together fit into that of the connection, so
/// that one unread stream does not block the others.
pub fn tune(server: Server) -> Server {
    server
        .max_frame_size(HTTP2_FRAME_BYTES)
        .initial_stream_window_size(SERVED_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(SERVED_STREAMS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .tcp_nodelay(true)
}
