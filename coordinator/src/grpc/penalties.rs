//! PenaltyService.

use orbit_proto::v1;
use orbit_proto::v1::penalty_service_server::PenaltyService;
use tonic::{Request, Response, Status};

use super::fields::all;
use super::once::{name, once};
use super::status::refused;
use super::{Faces, convert, page};
use crate::core::{Answer, Command};

const LIST: &str = "penalties";

#[tonic::async_trait]
impl PenaltyService for Faces {
    async fn list_penalties(
        &self,
        request: Request<v1::ListPenaltiesRequest>,
    ) -> Result<Response<v1::ListPenaltiesResponse>, Status> {
        let request = request.into_inner();
        let (size, after) = all((
            page::page_size("page_size", request.page_size),
            page::parsed_key(LIST, &request.page_token),
        ))?;
        let job = convert::job_filter(request.job_id);
        let found = self.inbox.view(move |core, now| {
            page::fill(core.each_penalty(job, after, now).map(convert::penalty), size)
        });
        let (penalties, has_more) = found.await.map_err(refused)?;
        let last = penalties.last().filter(|_| has_more).map(|penalty| page::token(LIST, &penalty.item_key));
        Ok(Response::new(v1::ListPenaltiesResponse { penalties, next_page_token: last.unwrap_or_default() }))
    }

    async fn clear_penalties(
        &self,
        request: Request<v1::ClearPenaltiesRequest>,
    ) -> Result<Response<v1::ClearPenaltiesResponse>, Status> {
        let request = request.into_inner();
        let (name, item) = all((
            name("ClearPenalties", &request.request_id, &request),
            convert::item_filter(&request.item_key),
        ))?;
        let command = Command::ClearPenalties { job: convert::job_filter(request.job_id), item };
        let cleared_count = count(&self.inbox.command(once(name, command)).await?);
        Ok(Response::new(v1::ClearPenaltiesResponse { cleared_count }))
    }
}

/// The number in an answer.
pub(super) fn count(answer: &Answer) -> u64 {
    match answer {
        Answer::Count(count) => *count,
        Answer::Job(_) | Answer::Star(_) | Answer::Schedule(_) | Answer::Done => 0,
    }
}
