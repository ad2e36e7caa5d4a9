//! StarService.

use std::collections::BTreeMap;
use std::time::Duration;

use orbit_proto::convert::duration_from_wire;
use orbit_proto::v1;
use orbit_proto::v1::star_service_server::StarService;
use orbit_shared::words::StarId;
use prost::Message;
use tonic::{Request, Response, Status};

use super::convert::star_id;
use super::fields::all;
use super::once::{name, once};
use super::reader::Watched;
use super::status::refused;
use super::watch::{Pace, Round, Watch, watch};
use super::{Faces, convert, page};
use crate::core::{Command, Refusal, RequestName, Violation};

const WATCH_PACE: Duration = Duration::from_millis(500);
const LIST: &str = "stars";

impl Faces {
    async fn one_star(&self, id: StarId) -> Result<v1::Star, Status> {
        let name = id.clone();
        let found = self
            .inbox
            .view(move |core, now| core.star(&name).map(|star| convert::star(core, now, star)))
            .await
            .map_err(refused)?;
        found.ok_or_else(|| {
            refused(Refusal::NotFound { what: format!("Star {id}; ListStars shows those there are") })
        })
    }

    /// What the grid cannot restore without a Star.
    async fn last_copy_warning(&self, id: StarId) -> Result<Vec<String>, Status> {
        let found = self.inbox.view(move |core, _| core.last_copy_warning(&id));
        Ok(found.await.map_err(refused)?.into_iter().collect())
    }

    async fn star_command(&self, id: StarId, command: Command) -> Result<v1::Star, Status> {
        self.inbox.command(command).await?;
        self.one_star(id).await
    }
}

/// The name of a request and the Star that it is about.
fn named(
    method: &str,
    request_id: &str,
    request: &impl Message,
    star: &str,
) -> Result<(Option<RequestName>, StarId), Refusal> {
    all((name(method, request_id, request), star_id("star_id", star.to_owned())))
}

impl Watched for v1::WatchStarsResponse {
    const RESUMED_BY: Option<&'static str> = None;

    fn position(&self) -> u64 {
        0
    }
}

#[tonic::async_trait]
impl StarService for Faces {
    async fn register_star(
        &self,
        request: Request<v1::RegisterStarRequest>,
    ) -> Result<Response<v1::RegisterStarResponse>, Status> {
        let request = request.into_inner();
        let (name, id) = named("RegisterStar", &request.request_id, &request, &request.star_id)?;
        let command = Command::RegisterStar { star: id.clone() };
        let star = self.star_command(id, once(name, command)).await?;
        Ok(Response::new(v1::RegisterStarResponse { star: Some(star) }))
    }

    async fn list_stars(
        &self,
        request: Request<v1::ListStarsRequest>,
    ) -> Result<Response<v1::ListStarsResponse>, Status> {
        let request = request.into_inner();
        let (size, after) =
            all((page::page_size("page_size", request.page_size), page::key(LIST, &request.page_token)))?;
        let after = after.unwrap_or_default();
        let found = self.inbox.view(move |core, now| {
            let later = core.stars().filter(|star| star.record.star_id.as_str() > after.as_str());
            page::fill(later.map(|star| convert::star(core, now, star)), size)
        });
        let (stars, has_more) = found.await.map_err(refused)?;
        let last = stars.last().filter(|_| has_more).map(|star| page::token(LIST, &star.star_id));
        Ok(Response::new(v1::ListStarsResponse { stars, next_page_token: last.unwrap_or_default() }))
    }

    async fn get_star(
        &self,
        request: Request<v1::GetStarRequest>,
    ) -> Result<Response<v1::GetStarResponse>, Status> {
        let star = self.one_star(star_id("star_id", request.into_inner().star_id)?).await?;
        Ok(Response::new(v1::GetStarResponse { star: Some(star) }))
    }

    type WatchStarsStream = Watch<v1::WatchStarsResponse>;

    async fn watch_stars(
        &self,
        _request: Request<v1::WatchStarsRequest>,
    ) -> Result<Response<Self::WatchStarsStream>, Status> {
        let look = |faces: Faces, mut last: BTreeMap<String, v1::Star>| async move {
            let stars = faces
                .inbox
                .view(|core, now| core.stars().map(|star| convert::star(core, now, star)).collect::<Vec<_>>())
                .await;
            let mut changed = Vec::new();
            for star in stars.map_err(refused)? {
                if last.get(&star.star_id) != Some(&star) {
                    last.insert(star.star_id.clone(), star.clone());
                    changed.push(v1::WatchStarsResponse { star: Some(star) });
                }
            }
            Ok((Round::Continue(changed), last))
        };
        Ok(Response::new(watch(self, Pace::at_most_every(WATCH_PACE), 0, BTreeMap::new(), look)))
    }

    async fn schedule_star(
        &self,
        request: Request<v1::ScheduleStarRequest>,
    ) -> Result<Response<v1::ScheduleStarResponse>, Status> {
        let request = request.into_inner();
        let (name, id) = named("ScheduleStar", &request.request_id, &request, &request.star_id)?;
        let command = Command::ScheduleStar { star: id.clone(), reason: request.reason };
        let star = self.star_command(id, once(name, command)).await?;
        Ok(Response::new(v1::ScheduleStarResponse { star: Some(star) }))
    }

    async fn drain_star(
        &self,
        request: Request<v1::DrainStarRequest>,
    ) -> Result<Response<v1::DrainStarResponse>, Status> {
        let request = request.into_inner();
        let deadline = request.deadline.map(|deadline| duration_from_wire("deadline", &deadline));
        let deadline = deadline.transpose().map_err(|error| Violation::new(error.field, error.problem));
        let (name, id, deadline) = all((
            name("DrainStar", &request.request_id, &request),
            star_id("star_id", request.star_id),
            deadline,
        ))?;
        let command = Command::DrainStar { star: id.clone(), reason: request.reason, deadline };
        let star = self.star_command(id, once(name, command)).await?;
        Ok(Response::new(v1::DrainStarResponse { star: Some(star) }))
    }

    async fn shutdown_star(
        &self,
        request: Request<v1::ShutdownStarRequest>,
    ) -> Result<Response<v1::ShutdownStarResponse>, Status> {
        let request = request.into_inner();
        let (name, id) = named("ShutdownStar", &request.request_id, &request, &request.star_id)?;
        let (reason, force) = (request.reason, request.force);
        let command = Command::ShutdownStar { star: id.clone(), reason, force };
        let mut star = self.star_command(id.clone(), once(name, command)).await?;
        star.drain_warnings = self.last_copy_warning(id).await?;
        Ok(Response::new(v1::ShutdownStarResponse { star: Some(star) }))
    }

    async fn cordon_star(
        &self,
        request: Request<v1::CordonStarRequest>,
    ) -> Result<Response<v1::CordonStarResponse>, Status> {
        let request = request.into_inner();
        let (name, id) = named("CordonStar", &request.request_id, &request, &request.star_id)?;
        let command = Command::CordonStar { star: id.clone(), is_cordoned: true };
        let star = self.star_command(id, once(name, command)).await?;
        Ok(Response::new(v1::CordonStarResponse { star: Some(star) }))
    }

    async fn uncordon_star(
        &self,
        request: Request<v1::UncordonStarRequest>,
    ) -> Result<Response<v1::UncordonStarResponse>, Status> {
        let request = request.into_inner();
        let (name, id) = named("UncordonStar", &request.request_id, &request, &request.star_id)?;
        let command = Command::CordonStar { star: id.clone(), is_cordoned: false };
        let star = self.star_command(id, once(name, command)).await?;
        Ok(Response::new(v1::UncordonStarResponse { star: Some(star) }))
    }

    async fn remove_star(
        &self,
        request: Request<v1::RemoveStarRequest>,
    ) -> Result<Response<v1::RemoveStarResponse>, Status> {
        let request = request.into_inner();
        let (name, star) = named("RemoveStar", &request.request_id, &request, &request.star_id)?;
        self.inbox.command(once(name, Command::RemoveStar { star: star.clone() })).await?;
        // The catalogue does not list its snapshots any more. The board says what there were, also if this is asked again.
        let found = self.inbox.view(move |core, _| core.removal_warning(&star));
        let warnings = found.await.map_err(refused)?.into_iter().collect();
        Ok(Response::new(v1::RemoveStarResponse { warnings }))
    }
}
