//! The HTTP face: the API as JSON, what changes as a stream of events, metrics, health checks, and the console.
//!
//! On a port of its own, since gRPC needs keepalive settings that a shared one would lose. Nothing is decided here: a
//! route is an RPC ([`routes`]) that is called within the process by its descriptor ([`call`]), so that filters, checks
//! and refusals are those of gRPC, and what is added there is here by itself.

mod call;
mod console;
mod events;
mod fence;
mod frame;
mod hub;
mod link;
mod listen;
mod metrics;
mod openapi;
mod problem;
mod query;
mod routes;
mod shares;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, RawQuery, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use orbit_identity::{Listener, LocalUsers, PlainPeer, Role};
use orbit_proto::json;
use prost_reflect::DynamicMessage;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::actor::Actor;
use crate::core::{Refusal, Violation};
use crate::grpc::status::refused;
use crate::grpc::{self, Faces, ServeError};
use call::Rpc;
use fence::Fence;
use hub::Hub;
use link::Link;
use routes::{ROUTES, Verb};
use shares::AllShares;

/// Size of a request's body.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// What is read of a body that is too large.
const BODY_BYTES_DROPPED_MAX: usize = 16 * 1024 * 1024;

/// What every handler needs.
#[derive(Clone)]
struct Http {
    faces: Faces,
    services: Routes,
    hub: Hub,
    shares: AllShares,
    /// What a client of this port may do; the console greys out the rest.
    role: Role,
}

/// Who may ask over HTTP, and what for.
pub(crate) struct Asked<'a> {
    /// Names under which this server may be asked.
    pub(crate) hosts: &'a [String],
    /// The role of every client.
    pub(crate) role: Role,
    /// The users of this machine that are served.
    pub(crate) users: Arc<LocalUsers>,
}

/// What is served over HTTP. A clone is the same.
#[derive(Clone)]
pub(crate) struct Face {
    router: Router,
    users: Arc<LocalUsers>,
    stop: CancellationToken,
}

impl Face {
    /// Serves on one port or Unix socket until the coordinator stops.
    pub(crate) async fn serve(self, listener: Listener) {
        listen::serve(listener, self.router, self.users, self.stop).await;
    }

    /// Puts together what is served.
    pub(crate) async fn new(
        faces: Faces,
        Asked { hosts, role, users }: Asked<'_>,
    ) -> Result<Self, ServeError> {
        let stop = faces.stop.clone();
        let mut services = grpc::routes(&faces).await?;
        if role != Role::Operator {
            services = grpc::access::by_role(services, role);
        }
        let hub = Hub::start(faces.clone(), faces.meters.clone());
        let http = Http { faces, services, hub, shares: AllShares::new(), role };
        let router = router(http, Fence::new(hosts));
        Ok(Self { router, users, stop })
    }
}

fn router(http: Http, fence: Fence) -> Router {
    let mut router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics::page))
        .route("/api/events", get(events::stream))
        .route("/api/throughput", get(throughput))
        .route(
            "/api/openapi.json",
            get(async || ([(header::CONTENT_TYPE, "application/json")], openapi::text())),
        );
    for route in ROUTES {
        router = router.route(route.path, handler(route));
    }
    for (path, asset) in console::assets() {
        router = router.route(path, get(async move |request: Request| asset.serve(request.headers())));
    }
    router
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(http.role, on_behalf))
        .layer(from_fn_with_state(fence, fence::stand))
        .layer(from_fn_with_state(http.faces.meters.clone(), metrics::count))
        .with_state(http)
}

/// Makes the changes of a request on behalf of its sender.
async fn on_behalf(State(role): State<Role>, request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let peer = request.extensions().get::<PlainPeer>().copied();
    Actor::plain(peer, role).await.act(next.run(request)).await
}

/// The handler of one route.
fn handler(route: &'static routes::Route) -> MethodRouter<Http> {
    let rpc = Rpc::of(route);
    match route.verb {
        Verb::Get => get(
            async move |State(http): State<Http>, path: Path, RawQuery(query): RawQuery, request: Request| {
                let path = match fields(path) {
                    Ok(path) => path,
                    Err(refusal) => return *refusal,
                };
                let asked = query::from_query(&rpc.input(), &path, &pairs(query.as_deref()));
                answer(&rpc, http, Link::of(&request), asked).await
            },
        ),
        Verb::Post => post(
            async move |State(http): State<Http>, path: Path, RawQuery(query): RawQuery, request: Request| {
                let link = Link::of(&request);
                let arriving = link.as_ref().map(Link::waiting);
                let body = content(request.into_body()).await;
                drop(arriving);
                let (path, body) = match (fields(path), body) {
                    (Ok(path), Ok(body)) => (path, body),
                    (Err(refusal), _) | (_, Err(refusal)) => return *refusal,
                };
                let mut asked = query::from_body(&rpc.input(), &path, &body);
                if query.is_some_and(|query| !query.is_empty()) {
                    let problem = "a request that changes something has its fields in its body";
                    asked = Err(vec![Violation::new("query", problem)]);
                }
                answer(&rpc, http, link, asked).await
            },
        ),
    }
}

type Path = Result<RawPathParams, RawPathParamsRejection>;

/// The fields that a path names.
fn fields(path: Path) -> Result<Vec<(String, String)>, Box<Response>> {
    let read = path.map_err(|rejection| {
        let advice = "write what is no letter or digit of a name as %XX, in UTF-8";
        let message = rejection.body_text();
        Box::new(problem::refuse(StatusCode::BAD_REQUEST, "PATH_UNREADABLE", &message, advice))
    })?;
    Ok(read.iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect())
}

/// A whole body.
async fn content(body: Body) -> Result<Vec<u8>, Box<Response>> {
    let read = tokio::time::timeout(BODY_TIMEOUT, read_body(body)).await;
    let late = |_| Err((StatusCode::REQUEST_TIMEOUT, format!("the body did not arrive in {BODY_TIMEOUT:?}")));
    read.unwrap_or_else(late).map_err(|(status, message)| {
        let advice = format!("send one JSON object of at most {BODY_BYTES_MAX} bytes");
        Box::new(problem::refuse(status, "BODY_UNREADABLE", &message, &advice))
    })
}

/// Reads a body. If it is too large, a large part of it is read and dropped, so that the client gets the reason of the
/// refusal before the connection closes.
async fn read_body(body: Body) -> Result<Vec<u8>, (StatusCode, String)> {
    let (mut stream, mut bytes, mut read) = (body.into_data_stream(), Vec::new(), 0);
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
        read += piece.len();
        if read <= BODY_BYTES_MAX {
            bytes.extend_from_slice(&piece);
        } else if read > BODY_BYTES_DROPPED_MAX {
            break;
        }
    }
    match read <= BODY_BYTES_MAX {
        true => Ok(bytes),
        false => Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is too large".to_owned())),
    }
}

async fn answer(
    rpc: &Rpc,
    http: Http,
    link: Option<Link>,
    asked: Result<DynamicMessage, Vec<Violation>>,
) -> Response {
    let request = match asked {
        Ok(request) => request,
        Err(violations) => return problem::of_status(&refused(Refusal::Invalid(violations))),
    };
    let _place = match http.shares.calls.enter(link.as_ref()) {
        Ok(place) => place,
        Err(refusal) => return *refusal,
    };
    let answered = rpc.call(http.services, request).await;
    let shown = answered.and_then(|message| {
        json::of_dynamic(&message)
            .map_err(|error| tonic::Status::internal(format!("an answer has no JSON form: {error}")))
    });
    match shown {
        Ok(value) => Json(value).into_response(),
        Err(status) => problem::of_status(&status),
    }
}

/// The parameters of a query, decoded.
fn pairs(query: Option<&str>) -> Vec<(String, String)> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect()
}

/// Ready is a coordinator whose driver answers and has its store.
async fn ready(State(http): State<Http>, request: Request) -> Response {
    let _place = match http.shares.readiness.enter(Link::of(&request).as_ref()) {
        Ok(place) => place,
        Err(refusal) => return *refusal,
    };
    match http.faces.inbox.view(|core, _| core.store_problem().map(str::to_owned)).await {
        Ok(None) => "ready\n".into_response(),
        Ok(Some(problem)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")).into_response(),
        Err(refusal) => (StatusCode::SERVICE_UNAVAILABLE, format!("{refusal}\n")).into_response(),
    }
}

async fn throughput(State(http): State<Http>) -> Response {
    Json(http.hub.throughput()).into_response()
}

async fn nothing_here(request: Request) -> Response {
    let path = request.uri().path();
    let advice = "/api/openapi.json lists every route; the console is at /";
    problem::refuse(StatusCode::NOT_FOUND, "NO_ROUTE", &format!("nothing is served at {path}"), advice)
}

async fn wrong_method(request: Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    let message = format!("{path} does not take {method}");
    let advice = "reading is GET, changing something is POST; /api/openapi.json lists every route";
    problem::refuse(StatusCode::METHOD_NOT_ALLOWED, "WRONG_METHOD", &message, advice)
}
