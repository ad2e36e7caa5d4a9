//! BackpressureService.

use orbit_proto::v1;
use orbit_proto::v1::backpressure_service_server::BackpressureService;
use orbit_shared::words::StarId;
use tonic::{Request, Response, Status};

use super::convert::star_id;
use super::fields::all;
use super::once::{name, once};
use super::status::refused;
use super::{Faces, convert, page};
use crate::core::{Command, Refusal, Violation};

const LIST: &str = "guards";

impl Faces {
    async fn guard_command(&self, id: StarId, command: Command) -> Result<v1::Guard, Status> {
        self.inbox.command(command).await?;
        let name = id.clone();
        let found =
            self.inbox.view(move |core, _| core.star(&name).map(|star| convert::guard(core, star))).await;
        found.map_err(refused)?.ok_or_else(|| refused(Refusal::NotFound { what: format!("Star {id}") }))
    }
}

/// A limit that is given must be one.
fn limit(field: &str, given: Option<i64>) -> Result<Option<u64>, Violation> {
    let Some(given) = given else { return Ok(None) };
    let limit = u64::try_from(given).ok().filter(|limit| *limit > 0);
    limit.map(Some).ok_or_else(|| Violation::new(field, format!("is {given}, must be 1 or more")))
}

#[tonic::async_trait]
impl BackpressureService for Faces {
    async fn list_guards(
        &self,
        request: Request<v1::ListGuardsRequest>,
    ) -> Result<Response<v1::ListGuardsResponse>, Status> {
        let request = request.into_inner();
        let (size, after) =
            all((page::page_size("page_size", request.page_size), page::key(LIST, &request.page_token)))?;
        let after = after.unwrap_or_default();
        let found = self.inbox.view(move |core, _| {
            let later = core.stars().filter(|star| star.record.star_id.as_str() > after.as_str());
            page::fill(later.map(|star| convert::guard(core, star)), size)
        });
        let (guards, has_more) = found.await.map_err(refused)?;
        let last = guards.last().filter(|_| has_more).map(|guard| page::token(LIST, &guard.star_id));
        Ok(Response::new(v1::ListGuardsResponse { guards, next_page_token: last.unwrap_or_default() }))
    }

    async fn set_guard_limits(
        &self,
        request: Request<v1::SetGuardLimitsRequest>,
    ) -> Result<Response<v1::SetGuardLimitsResponse>, Status> {
        let request = request.into_inner();
        let (name, max_object_count, max_byte_size, id) = all((
            name("SetGuardLimits", &request.request_id, &request),
            limit("max_object_count", request.max_object_count),
            limit("max_byte_size", request.max_byte_size),
            star_id("star_id", request.star_id),
        ))?;
        let command = Command::SetGuardLimits { star: id.clone(), max_object_count, max_byte_size };
        let guard = self.guard_command(id, once(name, command)).await?;
        Ok(Response::new(v1::SetGuardLimitsResponse { guard: Some(guard) }))
    }

    async fn pause_guard(
        &self,
        request: Request<v1::PauseGuardRequest>,
    ) -> Result<Response<v1::PauseGuardResponse>, Status> {
        let request = request.into_inner();
        let (name, id) =
            all((name("PauseGuard", &request.request_id, &request), star_id("star_id", request.star_id)))?;
        let command = Command::PauseGuard { star: id.clone(), reason: request.reason };
        let guard = self.guard_command(id, once(name, command)).await?;
        Ok(Response::new(v1::PauseGuardResponse { guard: Some(guard) }))
    }

    async fn resume_guard(
        &self,
        request: Request<v1::ResumeGuardRequest>,
    ) -> Result<Response<v1::ResumeGuardResponse>, Status> {
        let request = request.into_inner();
        let (name, id) =
            all((name("ResumeGuard", &request.request_id, &request), star_id("star_id", request.star_id)))?;
        let command = Command::ResumeGuard { star: id.clone() };
        let guard = self.guard_command(id, once(name, command)).await?;
        Ok(Response::new(v1::ResumeGuardResponse { guard: Some(guard) }))
    }
}
