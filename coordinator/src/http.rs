//! The HTTP face: health checks for orchestrators, and the bulletin board as JSON.
//!
//! On a port of its own, since gRPC needs keepalive settings that a shared one would lose.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use orbit_proto::json;
use orbit_proto::v1::bulletin_service_server::BulletinService as _;
use orbit_proto::v1::{ListBulletinsRequest, Severity};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::grpc::Faces;

/// Serves until the coordinator stops.
pub(crate) async fn serve(listener: TcpListener, faces: Faces) {
    let stop = faces.stop.clone();
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/api/bulletins", get(bulletins))
        .with_state(faces);
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = serving.await {
        tracing::error!(%error, "serving HTTP has ended");
    }
}

/// Ready is a coordinator whose driver answers.
async fn ready(State(faces): State<Faces>) -> Response {
    match faces.inbox.view(|_, _| ()).await {
        Ok(()) => "ready\n".into_response(),
        Err(refusal) => (StatusCode::SERVICE_UNAVAILABLE, format!("{refusal}\n")).into_response(),
    }
}

async fn bulletins(State(faces): State<Faces>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let request = match read_filter(query) {
        Ok(request) => request,
        Err(problem) => return refused(StatusCode::BAD_REQUEST, &problem),
    };
    match faces.list_bulletins(tonic::Request::new(request)).await {
        Ok(response) => {
            Json(json::of_message("orbit.v1.ListBulletinsResponse", &response.into_inner())).into_response()
        }
        Err(status) => refused(StatusCode::BAD_REQUEST, status.message()),
    }
}

fn refused(code: StatusCode, problem: &str) -> Response {
    let body: Value = json!({ "error": problem });
    (code, Json(body)).into_response()
}

fn read_filter(query: BTreeMap<String, String>) -> Result<ListBulletinsRequest, String> {
    let mut request = ListBulletinsRequest::default();
    for (key, value) in query {
        let number = || value.parse().map_err(|_| format!("{key} is {value:?}, must be a number"));
        match key.as_str() {
            "min_severity" => {
                let name = value.to_uppercase();
                let name = if name.starts_with("SEVERITY_") { name } else { format!("SEVERITY_{name}") };
                let severity = Severity::from_str_name(&name);
                let severity = severity
                    .ok_or_else(|| format!("min_severity is {value:?}, must be info, warning or error"))?;
                request.min_severity = severity.into();
            }
            "star_id" => request.star_id = value,
            "category" => request.category = value,
            "job_id" => request.job_id = Some(number()?),
            "after_id" => request.after_id = number()?,
            "limit" => {
                request.limit =
                    i32::try_from(number()?).map_err(|_| format!("limit {value} is too large"))?;
            }
            _ => {
                return Err(format!(
                    "{key:?} is no filter; there are min_severity, star_id, category, job_id, after_id and limit"
                ));
            }
        }
    }
    Ok(request)
}
