//! HealthService: what the Stars' health monitors say.

use orbit_proto::v1;
use orbit_proto::v1::health_service_server::HealthService;
use tonic::{Request, Response, Status};

use super::convert::star_id;
use super::fields::all;
use super::status::refused;
use super::{Faces, convert, page};
use crate::core::Refusal;

/// The name of this list in page tokens.
const LIST: &str = "advisories";

#[tonic::async_trait]
impl HealthService for Faces {
    async fn list_advisories(
        &self,
        request: Request<v1::ListAdvisoriesRequest>,
    ) -> Result<Response<v1::ListAdvisoriesResponse>, Status> {
        let request = request.into_inner();
        let (size, after, only) = all((
            page::page_size("page_size", request.page_size),
            page::key(LIST, &request.page_token),
            convert::star_filter(request.star_id),
        ))?;
        let found = self.inbox.view(move |core, _| {
            let is_wanted = |name: &str| only.as_ref().is_none_or(|only| only.as_str() == name);
            let is_later = |name: &str| after.as_ref().is_none_or(|after| name > after.as_str());
            let stars = core.stars().filter(|star| is_wanted(star.record.star_id.as_str()));
            let later = stars.filter(|star| is_later(star.record.star_id.as_str()));
            let sampled = later.filter(|star| !star.samples.is_empty());
            let advisories = sampled.map(|star| v1::StarAdvisories {
                star_id: star.record.star_id.to_string(),
                advisories: star.advisories.iter().cloned().map(v1::Advisory::from).collect(),
            });
            page::fill(advisories, size)
        });
        let (stars, has_more) = found.await.map_err(refused)?;
        let last = stars.last().filter(|_| has_more).map(|star| page::token(LIST, &star.star_id));
        Ok(Response::new(v1::ListAdvisoriesResponse { stars, next_page_token: last.unwrap_or_default() }))
    }

    async fn get_health_history(
        &self,
        request: Request<v1::GetHealthHistoryRequest>,
    ) -> Result<Response<v1::GetHealthHistoryResponse>, Status> {
        let id = star_id("star_id", request.into_inner().star_id)?;
        let name = id.clone();
        let found = self.inbox.view(move |core, _| {
            core.star(&name).map(|star| star.samples.iter().map(convert::timed_sample).collect())
        });
        let samples = found.await.map_err(refused)?;
        let no_star =
            || refused(Refusal::NotFound { what: format!("Star {id}; ListStars shows those there are") });
        Ok(Response::new(v1::GetHealthHistoryResponse { samples: samples.ok_or_else(no_star)? }))
    }
}
