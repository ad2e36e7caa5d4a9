//! BulletinService.

use std::time::Duration;

use orbit_proto::v1;
use orbit_proto::v1::bulletin_service_server::BulletinService;
use orbit_shared::bulletin::{BulletinBoard, BulletinFilter};
use tonic::{Request, Response, Status};

use super::fields::all;
use super::once::{name, once};
use super::penalties::count;
use super::reader::Watched;
use super::status::Lost;
use super::watch::{Pace, Round, Watch, watch};
use super::{Faces, convert, page};
use crate::core::{Command, Violation};

const WATCH_PACE: Duration = Duration::from_millis(200);
const WATCH_BATCH: usize = 256;
const ACKNOWLEDGE_MAX: usize = 1000;

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn acknowledged(ids: Vec<u64>) -> Result<Vec<u64>, Violation> {
    if (1..=ACKNOWLEDGE_MAX).contains(&ids.len()) {
        return Ok(ids);
    }
    let problem = format!("names {} bulletins, must name 1 to {ACKNOWLEDGE_MAX}", ids.len());
    Err(Violation::new("bulletin_ids", problem))
}

impl Watched for v1::WatchBulletinsResponse {
    const RESUMED_BY: Option<&'static str> = Some("after_id");

    fn position(&self) -> u64 {
        self.bulletin.as_ref().map_or(0, |bulletin| bulletin.bulletin_id)
    }
}

/// Where a watch is on the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// It has seen everything up to this number.
    after: u64,
    /// So many later ones were removed before it began, and are not missed. `None` before the first look of a watch
    /// that wants whatever is kept.
    missing: Option<u64>,
    /// The last that it sent, or that it was asked to start after.
    sent: u64,
}

impl Place {
    fn start(after: u64) -> Self {
        Self { after, missing: (after > 0).then_some(0), sent: after }
    }

    /// What follows on the board. Bulletins do not leave it in the order of their numbers, so it is counted how many of
    /// the later ones are gone.
    fn look(
        self,
        board: &BulletinBoard,
        filter: BulletinFilter,
    ) -> Result<(Round<v1::WatchBulletinsResponse>, Self), Status> {
        let newest = board.next_id() - 1;
        let filter = BulletinFilter { after_id: Some(self.after), ..filter };
        let lost = || {
            let next = BulletinFilter { after_id: Some(self.sent), ..BulletinFilter::default() };
            let oldest = board.query(&next, 1).first().map_or(newest + 1, |bulletin| bulletin.id);
            Lost { what: "bulletin", field: "after_id", position: self.sent, oldest, newest, resume_at: 0 }
        };
        if self.after > newest {
            return Err(lost().unknown());
        }
        if self.missing.is_some_and(|missing| board.missing_after(self.after) > missing) {
            return Err(lost().gone());
        }
        let found = board.query(&filter, WATCH_BATCH);
        let is_more = found.len() == WATCH_BATCH;
        let sent = found.last().map_or(self.sent, |last| last.id);
        let after = if is_more { sent } else { newest };
        let next = Self { after, missing: Some(board.missing_after(after)), sent };
        let found = found.into_iter().map(convert::bulletin);
        let items = found.map(|bulletin| v1::WatchBulletinsResponse { bulletin: Some(bulletin) }).collect();
        Ok((if is_more { Round::More(items) } else { Round::Continue(items) }, next))
    }
}

#[tonic::async_trait]
impl BulletinService for Faces {
    async fn list_bulletins(
        &self,
        request: Request<v1::ListBulletinsRequest>,
    ) -> Result<Response<v1::ListBulletinsResponse>, Status> {
        let request = request.into_inner();
        let (limit, min_severity, since) = all((
            page::page_size("limit", request.limit),
            convert::severity_filter(request.min_severity),
            convert::time_filter("since", request.since),
        ))?;
        let filter = BulletinFilter {
            min_severity,
            source: some(request.star_id),
            category: some(request.category),
            job_id: convert::job_filter(request.job_id),
            after_id: (request.after_id > 0).then_some(request.after_id),
            since,
            ..BulletinFilter::default()
        };
        let found = self.inbox.board().query(&filter, limit);
        let bulletins = found.iter().map(convert::bulletin).collect();
        Ok(Response::new(v1::ListBulletinsResponse { bulletins }))
    }

    type WatchBulletinsStream = Watch<v1::WatchBulletinsResponse>;

    async fn watch_bulletins(
        &self,
        request: Request<v1::WatchBulletinsRequest>,
    ) -> Result<Response<Self::WatchBulletinsStream>, Status> {
        let request = request.into_inner();
        let filter = BulletinFilter {
            min_severity: convert::severity_filter(request.min_severity)?,
            source: some(request.star_id),
            category: some(request.category),
            job_id: convert::job_filter(request.job_id),
            ..BulletinFilter::default()
        };
        let look = move |faces: Faces, place: Place| {
            let filter = filter.clone();
            async move { faces.inbox.board().look(|board| place.look(board, filter)) }
        };
        let place = Place::start(request.after_id);
        Ok(Response::new(watch(self, Pace::at_most_every(WATCH_PACE), request.after_id, place, look)))
    }

    async fn acknowledge_bulletins(
        &self,
        request: Request<v1::AcknowledgeBulletinsRequest>,
    ) -> Result<Response<v1::AcknowledgeBulletinsResponse>, Status> {
        let request = request.into_inner();
        let (name, ids) = all((
            name("AcknowledgeBulletins", &request.request_id, &request),
            acknowledged(request.bulletin_ids.clone()),
        ))?;
        let answer = self.inbox.command(once(name, Command::AcknowledgeBulletins(ids))).await?;
        Ok(Response::new(v1::AcknowledgeBulletinsResponse { acknowledged_count: count(&answer) }))
    }
}

#[cfg(test)]
mod tests {
    use orbit_shared::bulletin::Severity;
    use orbit_shared::time::Now;
    use tonic::Code;
    use tonic_types::StatusExt as _;

    use super::*;

    fn post(board: &mut BulletinBoard, source: &str, count: usize) {
        for _ in 0..count {
            let message = format!("bulletin {}", board.next_id());
            board.post(Now::default(), Severity::Info, source, "test", None, &message);
        }
    }

    fn ids(round: Round<v1::WatchBulletinsResponse>) -> (Vec<u64>, bool) {
        let (items, is_more) = match round {
            Round::Continue(items) => (items, false),
            Round::More(items) => (items, true),
            Round::End(_) => panic!("the board has no end"),
        };
        (items.iter().map(Watched::position).collect(), is_more)
    }

    fn look(place: &mut Place, board: &BulletinBoard) -> Result<(Vec<u64>, bool), Status> {
        let (round, next) = place.look(board, BulletinFilter::default())?;
        *place = next;
        Ok(ids(round))
    }

    fn numbers(status: &Status) -> (Code, String, [String; 3]) {
        let mut info = status.get_details_error_info().expect("details");
        let names = ["last_position", "oldest_available", "newest_available"];
        let numbers = names.map(|name| info.metadata.remove(name).expect("a number"));
        (status.code(), info.reason, numbers)
    }

    #[test]
    fn a_watch_from_the_oldest_is_not_told_of_what_was_gone_before() {
        let mut board = BulletinBoard::new(4);
        // The loud one makes room, so that holes lie between what is kept.
        for _ in 0..3 {
            post(&mut board, "quiet", 1);
            post(&mut board, "loud", 3);
        }
        let mut place = Place::start(0);
        let (first, is_more) = look(&mut place, &board).expect("nothing is missed");
        assert_eq!((first, is_more), (vec![5, 9, 11, 12], false));
        assert_eq!(look(&mut place, &board).expect("nothing is new"), (vec![], false));
        post(&mut board, "loud", 2);
        assert_eq!(look(&mut place, &board).expect("two are new").0, [13, 14]);
    }

    #[test]
    fn who_is_overtaken_is_told_where_the_gap_is() {
        let mut board = BulletinBoard::new(4);
        post(&mut board, "star-1", 4);
        let mut place = Place::start(0);
        assert_eq!(look(&mut place, &board).expect("all").0, [1, 2, 3, 4]);
        post(&mut board, "star-1", 4);
        assert_eq!(look(&mut { place }, &board).expect("all are kept").0, [5, 6, 7, 8]);
        post(&mut board, "star-1", 1);
        let status = look(&mut place, &board).expect_err("5 is gone");
        let expected = ["4", "6", "9"].map(str::to_owned);
        assert_eq!(numbers(&status), (Code::OutOfRange, "POSITION_GONE".to_owned(), expected));
        // As the status says.
        assert_eq!(look(&mut Place::start(0), &board).expect("all are kept").0, [6, 7, 8, 9]);
        assert!(look(&mut Place::start(4), &board).is_err(), "a reader that comes back is told as well");
    }

    #[test]
    fn what_is_removed_between_two_batches_is_noticed() {
        let mut board = BulletinBoard::new(WATCH_BATCH + 2);
        post(&mut board, "quiet", 1);
        post(&mut board, "loud", WATCH_BATCH + 4);
        let mut place = Place::start(0);
        let (batch, is_more) = look(&mut place, &board).expect("what is kept");
        assert!(is_more && batch.len() == WATCH_BATCH);
        let mut undisturbed = place;
        assert_eq!(look(&mut undisturbed, &board).expect("the rest").0.len(), 2);
        post(&mut board, "loud", WATCH_BATCH + 1);
        let status = look(&mut place, &board).expect_err("some of the rest are gone");
        assert_eq!(numbers(&status).1, "POSITION_GONE");
    }

    #[test]
    fn a_position_of_another_grid_is_refused() {
        let mut board = BulletinBoard::new(4);
        post(&mut board, "star-1", 2);
        let status = look(&mut Place::start(3), &board).expect_err("there is no 3");
        assert_eq!(numbers(&status).1, "POSITION_UNKNOWN");
        assert_eq!(look(&mut Place::start(2), &board).expect("the newest").0, Vec::<u64>::new());
    }
}
