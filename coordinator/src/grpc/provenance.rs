//! ProvenanceService.

use std::time::Duration;

use orbit_proto::convert::timestamp_from_wire;
use orbit_proto::v1;
use orbit_proto::v1::provenance_service_server::ProvenanceService;
use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::provenance::ProvenanceFilter;
use tonic::{Request, Response, Status};

use super::status::{internal, refused, unconvertible};
use super::watch::{Round, Watch, watch};
use super::{Faces, convert, page};
use crate::core::Refusal;
use crate::provenance_log::EventPage;

const WATCH_PACE: Duration = Duration::from_millis(200);
const WATCH_BATCH: usize = 256;
const LIST: &str = "events";

impl Faces {
    async fn events(&self, filter: ProvenanceFilter, limit: usize) -> Result<EventPage, Status> {
        let provenance = self.provenance.clone();
        let read = tokio::task::spawn_blocking(move || provenance.query(&filter, limit)).await;
        let stopping = || Refusal::Unavailable { problem: "the coordinator is stopping".to_owned() };
        read.map_err(|_| refused(stopping()))?.map_err(|error| {
            tracing::error!(%error, "the provenance log cannot be read");
            internal("PROVENANCE_FAILED", "the coordinator cannot read its provenance log; see its log")
        })
    }
}

#[tonic::async_trait]
impl ProvenanceService for Faces {
    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let request = request.into_inner();
        let size = page::page_size("page_size", request.page_size)?;
        let hash = (!request.chunk_hash.is_empty()).then(|| request.chunk_hash.parse::<ChunkHash>());
        let hash =
            hash.transpose().map_err(|error| refused(Refusal::invalid("chunk_hash", error.to_string())))?;
        let since = request.since.map(|time| timestamp_from_wire("since", &time));
        let until = request.until.map(|time| timestamp_from_wire("until", &time));
        let filter = ProvenanceFilter {
            job_id: convert::job_filter(request.job_id),
            item: convert::item_filter(&request.item_key)?,
            chunk_hash: hash,
            star_id: convert::star_filter(request.star_id)?,
            event_types: convert::provenance_filter(request.r#type)?.into_iter().collect(),
            from: since.transpose().map_err(unconvertible)?,
            until: until.transpose().map_err(unconvertible)?,
            after_event_id: page::parsed_key(LIST, &request.page_token)?,
        };
        let found = self.events(filter, size).await?;
        let is_wanted = |event: &v1::ProvenanceEvent| {
            (request.source.is_empty() || event.source == request.source)
                && (request.destination.is_empty() || event.destination == request.destination)
        };
        let next = found.resume_after.map(|last| page::token(LIST, &last.to_string()));
        Ok(Response::new(v1::ListEventsResponse {
            events: found.events.into_iter().map(convert::event).filter(is_wanted).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    type WatchEventsStream = Watch<v1::WatchEventsResponse>;

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let request = request.into_inner();
        let filter = ProvenanceFilter {
            job_id: convert::job_filter(request.job_id),
            star_id: convert::star_filter(request.star_id)?,
            event_types: convert::provenance_filter(request.r#type)?.into_iter().collect(),
            ..ProvenanceFilter::default()
        };
        let start = match request.after_event_id {
            0 => self.provenance.last_id(),
            after => after,
        };
        let look = move |faces: Faces, after: u64| {
            let filter = ProvenanceFilter { after_event_id: Some(after), ..filter.clone() };
            async move {
                let last_id = faces.provenance.last_id();
                let found = faces.events(filter, WATCH_BATCH).await?;
                let is_more = found.resume_after.is_some();
                let seen = found.events.last().map_or(last_id, |event| event.event_id.max(last_id));
                let after = found.resume_after.unwrap_or(seen).max(after);
                let items = found
                    .events
                    .into_iter()
                    .map(|event| v1::WatchEventsResponse { event: Some(convert::event(event)) });
                let items = items.collect();
                Ok((if is_more { Round::More(items) } else { Round::Continue(items) }, after))
            }
        };
        Ok(Response::new(watch(self, WATCH_PACE, None, start, look)))
    }
}
