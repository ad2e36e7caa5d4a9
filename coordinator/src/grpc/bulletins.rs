//! BulletinService.

use std::time::Duration;

use orbit_proto::convert::timestamp_from_wire;
use orbit_proto::v1;
use orbit_proto::v1::bulletin_service_server::BulletinService;
use orbit_shared::bulletin::BulletinFilter;
use tonic::{Request, Response, Status};

use super::penalties::count;
use super::status::{refused, unconvertible};
use super::watch::{Round, Watch, watch};
use super::{Faces, convert, page};
use crate::core::{Command, Refusal};

const WATCH_PACE: Duration = Duration::from_millis(200);
const WATCH_BATCH: usize = 256;
const ACKNOWLEDGE_MAX: usize = 1000;

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[tonic::async_trait]
impl BulletinService for Faces {
    async fn list_bulletins(
        &self,
        request: Request<v1::ListBulletinsRequest>,
    ) -> Result<Response<v1::ListBulletinsResponse>, Status> {
        let request = request.into_inner();
        let limit = page::page_size("limit", request.limit)?;
        let since = request.since.map(|since| timestamp_from_wire("since", &since));
        let filter = BulletinFilter {
            min_severity: convert::severity_filter(request.min_severity)?,
            source: some(request.star_id),
            category: some(request.category),
            job_id: convert::job_filter(request.job_id),
            after_id: (request.after_id > 0).then_some(request.after_id),
            since: since.transpose().map_err(unconvertible)?,
            ..BulletinFilter::default()
        };
        let found = self.inbox.view(move |core, _| {
            let bulletins = core.board().query(&filter, limit);
            bulletins.into_iter().map(convert::bulletin).collect::<Vec<_>>()
        });
        Ok(Response::new(v1::ListBulletinsResponse { bulletins: found.await.map_err(refused)? }))
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
        let look = move |faces: Faces, after: u64| {
            let filter = BulletinFilter { after_id: Some(after), ..filter.clone() };
            async move {
                let found = faces.inbox.view(move |core, _| {
                    let bulletins = core.board().query(&filter, WATCH_BATCH);
                    bulletins.into_iter().map(convert::bulletin).collect::<Vec<_>>()
                });
                let found = found.await.map_err(refused)?;
                let after = found.last().map_or(after, |last| last.bulletin_id);
                let is_more = found.len() == WATCH_BATCH;
                let items =
                    found.into_iter().map(|bulletin| v1::WatchBulletinsResponse { bulletin: Some(bulletin) });
                let items = items.collect();
                Ok((if is_more { Round::More(items) } else { Round::Continue(items) }, after))
            }
        };
        Ok(Response::new(watch(self, WATCH_PACE, None, request.after_id, look)))
    }

    async fn acknowledge_bulletins(
        &self,
        request: Request<v1::AcknowledgeBulletinsRequest>,
    ) -> Result<Response<v1::AcknowledgeBulletinsResponse>, Status> {
        let ids = request.into_inner().bulletin_ids;
        if ids.is_empty() || ids.len() > ACKNOWLEDGE_MAX {
            let problem = format!("names {} bulletins, must name 1 to {ACKNOWLEDGE_MAX}", ids.len());
            return Err(refused(Refusal::invalid("bulletin_ids", problem)));
        }
        let answer = self.inbox.command(Command::AcknowledgeBulletins(ids)).await.map_err(refused)?;
        Ok(Response::new(v1::AcknowledgeBulletinsResponse { acknowledged_count: count(&answer) }))
    }
}
