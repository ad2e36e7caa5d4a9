//! Accepts connections and serves HTTP on them. Accepting waits for no connection: those that wait for their peer hold
//! places (see [`super::link`]), and requests in progress have shares (see [`super::shares`]).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use orbit_identity::{Accepted, Accepting, Listener, LocalUsers, PlainPeer, PlainStream, Reserve, Stranger};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use super::link::{AnswerBody, Link, LinkStream, Places};
use super::problem::refuse;

/// How long a request's head may take, and a connection may rest between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long answers in progress may take to end after the coordinator was told to stop.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Serves until `stop`.
pub(super) async fn serve(
    listener: Listener,
    router: Router,
    users: Arc<LocalUsers>,
    stop: CancellationToken,
) {
    let places = Places::new();
    let mut accepting = Accepting::new(listener, places.resting.clone(), Reserve::Stars);
    let connections = TaskTracker::new();
    while let Some(accepted) = stop.run_until_cancelled(accepting.next()).await {
        let Accepted { stream, peer, origin } = accepted;
        let link = Link::new(origin, places.clone());
        let (router, users, stop) = (router.clone(), Arc::clone(&users), stop.clone());
        connections.spawn(async move {
            let (router, user) = match link.cut().run_until_cancelled(users.admit(&stream)).await {
                None => return,
                Some(Ok(user)) => (router, user),
                Some(Err(stranger)) => {
                    match stranger {
                        Stranger::User(_) => {
                            tracing::warn!(
                                "an HTTP connection of {stranger} was refused: --local-users does not name it"
                            );
                        }
                        // Nearly always one that was closed again at once.
                        Stranger::Unknown => {
                            tracing::debug!("an HTTP connection of {stranger} was refused");
                        }
                    }
                    (refusing(users.refusal(stranger)), None)
                }
            };
            // Without it small answers are late, and no more.
            let _ = stream.set_nodelay();
            let peer = user.map(PlainPeer::User).or(peer.map(PlainPeer::Address));
            converse(stream, (link, peer), router, stop).await;
        });
    }
    connections.close();
    connections.wait().await;
}

/// Answers every request of a user who is not served.
fn refusing(why: String) -> Router {
    Router::new().fallback(async move || {
        let advice = "ask as the coordinator's own user, or start it with --local-users";
        refuse(StatusCode::FORBIDDEN, "LOCAL_USER_REFUSED", &why, advice)
    })
}

async fn converse(
    stream: PlainStream,
    (link, peer): (Link, Option<PlainPeer>),
    router: Router,
    stop: CancellationToken,
) {
    let of_requests = link.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let link = of_requests.clone();
        link.work();
        request.extensions_mut().insert(link.clone());
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        let mut router = router.clone();
        async move {
            let answer = answer(&mut router, request.map(Body::new)).await;
            Ok::<_, Infallible>(answer.map(|body| AnswerBody::new(body, link)))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(LinkStream::new(stream, link.clone())), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A peer that goes away, or speaks something else, is no trouble of ours.
        _ = connection.as_mut() => {}
        () = link.cut().cancelled() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(STOP_GRACE, connection).await;
        }
    }
}

async fn answer(router: &mut Router, request: Request<Body>) -> Response {
    match router.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
