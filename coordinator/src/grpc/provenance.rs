//! ProvenanceService.

use std::time::Duration;

use orbit_proto::v1;
use orbit_proto::v1::provenance_service_server::ProvenanceService;
use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::provenance::{Bounds, ProvenanceFilter};
use tonic::{Request, Response, Status};

use super::fields::all;
use super::reader::Watched;
use super::status::{Lost, internal, refused};
use super::watch::{Pace, Round, Watch, watch};
use super::{Faces, convert, page};
use crate::core::{Refusal, Violation};
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

/// The text of a filter, where empty means any.
fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Bounds that some number can be within.
fn bounds(
    (min_field, min): (&str, Option<u64>),
    (max_field, max): (&str, Option<u64>),
) -> Result<Bounds, Violation> {
    match (min, max) {
        (Some(min), Some(max)) if min > max => {
            Err(Violation::new(min_field, format!("is {min}, which is more than {max} in {max_field}")))
        }
        (min, max) => Ok(Bounds { min, max }),
    }
}

impl Watched for v1::WatchEventsResponse {
    const RESUMED_BY: Option<&'static str> = Some("after_event_id");

    fn position(&self) -> u64 {
        self.event.as_ref().map_or(0, |event| event.event_id)
    }
}

/// Where a watch is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// It has looked at everything up to this number.
    after: u64,
    /// The last that it sent, or that it was asked to start after.
    sent: u64,
}

impl Place {
    /// Sends what was found behind this place when `newest` was the last event.
    fn go_on(self, newest: u64, found: EventPage) -> Result<(Round<v1::WatchEventsResponse>, Self), Status> {
        let oldest = found.first_id.unwrap_or(newest + 1);
        let (what, field, resume_at) = ("event", "after_event_id", oldest - 1);
        let lost = Lost { what, field, position: self.sent, oldest, newest, resume_at };
        if self.after > newest {
            return Err(Lost { resume_at: 0, ..lost }.unknown());
        }
        // The log is full of consecutive numbers, so another one than the next says that its oldest files are gone.
        if oldest > self.after + 1 {
            return Err(lost.gone());
        }
        let is_more = found.resume_after.is_some();
        let sent = found.events.last().map_or(self.sent, |event| event.event_id);
        let after = found.resume_after.unwrap_or(newest.max(sent)).max(self.after);
        let events = found.events.into_iter().map(convert::event);
        let items = events.map(|event| v1::WatchEventsResponse { event: Some(event) }).collect();
        Ok((if is_more { Round::More(items) } else { Round::Continue(items) }, Self { after, sent }))
    }
}

#[tonic::async_trait]
impl ProvenanceService for Faces {
    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let request = request.into_inner();
        let hash = (!request.chunk_hash.is_empty()).then(|| request.chunk_hash.parse::<ChunkHash>());
        let hash = hash.transpose().map_err(|error| Violation::new("chunk_hash", error.to_string()));
        let (size, after, item, chunk_hash, star_id, event_type, from, until, bytes, duration_ms) = all((
            page::page_size("page_size", request.page_size),
            page::parsed_key(LIST, &request.page_token),
            convert::item_filter(&request.item_key),
            hash,
            convert::star_filter(request.star_id),
            convert::provenance_filter(request.r#type),
            convert::time_filter("since", request.since),
            convert::time_filter("until", request.until),
            bounds(("min_bytes", request.min_bytes), ("max_bytes", request.max_bytes)),
            bounds(
                ("min_duration_ms", request.min_duration_ms),
                ("max_duration_ms", request.max_duration_ms),
            ),
        ))?;
        // One event has one number, so the log is read from there and no further.
        let before = request.event_id.map(|event_id| event_id.saturating_sub(1));
        let size = if request.event_id.is_some() { 1 } else { size };
        let filter = ProvenanceFilter {
            job_id: convert::job_filter(request.job_id),
            item,
            chunk_hash,
            star_id,
            event_types: event_type.into_iter().collect(),
            from,
            until,
            after_event_id: before.max(after),
            event_id: request.event_id,
            source: some(request.source),
            destination: some(request.destination),
            bytes,
            duration_ms,
            error: some(request.error),
            has_error: request.has_error,
        };
        let found = self.events(filter, size).await?;
        let (events, is_cut) = page::fill(found.events.into_iter().map(convert::event), size);
        let cut_after = events.last().filter(|_| is_cut).map(|event| event.event_id);
        let next = cut_after.or(found.resume_after).filter(|_| request.event_id.is_none());
        let next = next.map(|last| page::token(LIST, &last.to_string()));
        Ok(Response::new(v1::ListEventsResponse { events, next_page_token: next.unwrap_or_default() }))
    }

    type WatchEventsStream = Watch<v1::WatchEventsResponse>;

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let request = request.into_inner();
        let (star_id, event_type) =
            all((convert::star_filter(request.star_id), convert::provenance_filter(request.r#type)))?;
        let filter = ProvenanceFilter {
            job_id: convert::job_filter(request.job_id),
            star_id,
            event_types: event_type.into_iter().collect(),
            ..ProvenanceFilter::default()
        };
        let start = match request.after_event_id {
            0 => self.provenance.last_id(),
            after => after,
        };
        let look = move |faces: Faces, place: Place| {
            let filter = ProvenanceFilter { after_event_id: Some(place.after), ..filter.clone() };
            async move {
                let newest = faces.provenance.last_id();
                let found = faces.events(filter, WATCH_BATCH).await?;
                place.go_on(newest, found)
            }
        };
        let place = Place { after: start, sent: start };
        Ok(Response::new(watch(self, Pace::at_most_every(WATCH_PACE), start, place, look)))
    }
}

#[cfg(test)]
mod tests {
    use orbit_shared::provenance::{ProvenanceEvent, ProvenanceType};
    use orbit_shared::words::JobId;
    use tonic_types::StatusExt as _;

    use super::*;

    fn page(ids: std::ops::RangeInclusive<u64>, resume_after: Option<u64>) -> EventPage {
        let first_id = Some(*ids.start()).filter(|_| !ids.is_empty());
        let events = ids.map(|event_id| ProvenanceEvent {
            event_id,
            ..ProvenanceEvent::new(ProvenanceType::FileCompleted, JobId(1))
        });
        EventPage { events: events.collect(), first_id, resume_after }
    }

    fn place(after: u64) -> Place {
        Place { after, sent: after }
    }

    fn reason(status: &Status) -> (String, String) {
        let mut info = status.get_details_error_info().expect("details");
        (info.reason, info.metadata.remove("resume_at").expect("a position"))
    }

    #[test]
    fn a_watch_goes_on_behind_what_it_has_looked_at() {
        let (_, next) = place(3).go_on(9, page(4..=6, Some(6))).expect("follows");
        assert_eq!(next, place(6));
        let none_matches = EventPage { first_id: Some(7), ..EventPage::default() };
        let (_, next) = next.go_on(9, none_matches).expect("follows");
        assert_eq!(next, Place { after: 9, sent: 6 });
        // One more was recorded between the two looks at the log.
        let (_, next) = next.go_on(9, page(10..=10, None)).expect("follows");
        assert_eq!(next, place(10));
        assert!(next.go_on(10, EventPage::default()).is_ok());
    }

    #[test]
    fn removed_files_and_a_lost_end_are_told() {
        let Err(status) = place(3).go_on(9, page(5..=9, None)) else { panic!("4 is gone") };
        assert_eq!(reason(&status), ("POSITION_GONE".to_owned(), "4".to_owned()));
        assert!(place(4).go_on(9, page(5..=9, None)).is_ok(), "as the status says");
        let Err(status) = place(3).go_on(9, EventPage::default()) else { panic!("all are gone") };
        assert_eq!(reason(&status), ("POSITION_GONE".to_owned(), "9".to_owned()));
        let Err(status) = place(10).go_on(9, EventPage::default()) else { panic!("there is no 10") };
        assert_eq!(reason(&status), ("POSITION_UNKNOWN".to_owned(), "0".to_owned()));
    }
}
