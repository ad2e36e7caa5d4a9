//! Shares of what the port does at a time. Calls of the API, readers of `/api/events`, readiness and metrics each have
//! places of their own, so that none of them shuts out another.
//!
//! When all places of a kind are taken, a request of an address that holds fewer than another ends the oldest of that
//! one; any other request is refused and may be sent again.

use std::net::IpAddr;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use orbit_identity::{Place, Silent};
use tokio_util::sync::CancellationToken;

use super::link::Link;
use super::problem::refuse;

/// Calls of the API in progress.
const CALLS_MAX: usize = 128;
/// Readers of `/api/events`.
pub(super) const STREAMS_MAX: usize = 64;
/// Questions whether the coordinator is ready.
const READINESS_MAX: usize = 64;
/// Pages of metrics that are being made.
const METRICS_MAX: usize = 8;

/// The shares of one kind. A clone is the same shares.
#[derive(Debug, Clone)]
pub(super) struct Shares {
    places: Silent,
    count_max: usize,
    kind: &'static str,
}

impl Shares {
    fn new(count_max: usize, kind: &'static str) -> Self {
        Self { places: Silent::new(count_max), count_max, kind }
    }

    /// A place for what a request on this link asks for.
    pub(super) fn enter(&self, link: Option<&Link>) -> Result<Place, Box<Response>> {
        let place = match link {
            Some(link) => self.places.enter_share(link.origin(), link.cut().clone()),
            // A request that comes on no connection, as in a test of the router.
            None => self.places.enter_share(IpAddr::from([0, 0, 0, 0]), CancellationToken::new()),
        };
        place.ok_or_else(|| Box::new(self.refusal()))
    }

    /// Number of places that are taken.
    pub(super) fn count(&self) -> usize {
        self.places.count()
    }

    fn refusal(&self) -> Response {
        let message = format!("{} {} are in progress, the most there may be", self.count_max, self.kind);
        let advice = "wait a moment, then send the same request again; close consoles that are not looked at";
        let refusal = refuse(StatusCode::SERVICE_UNAVAILABLE, "FULL", &message, advice);
        ([(header::RETRY_AFTER, "1")], refusal).into_response()
    }
}

/// The shares of all kinds.
#[derive(Debug, Clone)]
pub(super) struct AllShares {
    /// Of calls of the API.
    pub(super) calls: Shares,
    /// Of readers of `/api/events`.
    pub(super) streams: Shares,
    /// Of questions whether the coordinator is ready.
    pub(super) readiness: Shares,
    /// Of pages of metrics.
    pub(super) metrics: Shares,
}

impl AllShares {
    pub(super) fn new() -> Self {
        Self {
            calls: Shares::new(CALLS_MAX, "calls"),
            streams: Shares::new(STREAMS_MAX, "streams of /api/events"),
            readiness: Shares::new(READINESS_MAX, "questions for /readyz"),
            metrics: Shares::new(METRICS_MAX, "pages of metrics"),
        }
    }
}
