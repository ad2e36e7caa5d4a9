//! HealthService: what the Stars' health monitors say.

use std::fmt;
use std::str::FromStr;

use orbit_proto::v1;
use orbit_proto::v1::health_service_server::HealthService;
use orbit_shared::time::WallTime;
use tonic::{Request, Response, Status};

use super::convert::star_id;
use super::fields::all;
use super::status::refused;
use super::{Faces, convert, page};
use crate::core::Refusal;
use crate::core::limits::HEALTH_SAMPLES_MAX;

/// The names of the lists in page tokens.
const LIST: &str = "advisories";
const HISTORY_LIST: &str = "samples";

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
        let request = request.into_inner();
        // All samples that are kept are one page, unless a caller wants fewer.
        let size = match request.page_size {
            0 => Ok(HEALTH_SAMPLES_MAX),
            asked => page::page_size("page_size", asked),
        };
        let (size, after, id) = all((
            size,
            page::parsed_key::<SampleKey>(HISTORY_LIST, &request.page_token),
            star_id("star_id", request.star_id),
        ))?;
        let name = id.clone();
        let found = self.inbox.view(move |core, _| {
            let star = core.star(&name)?;
            let start = after.map_or(0, |after| after.start(star.samples.iter().map(|timed| timed.time)));
            let (samples, has_more) =
                page::fill(star.samples.iter().skip(start).map(convert::timed_sample), size);
            let times = star.samples.iter().take(start + samples.len()).map(|timed| timed.time);
            let next = SampleKey::of(times).filter(|_| has_more);
            Some((samples, next.map(|key| page::token(HISTORY_LIST, &key.to_string()))))
        });
        let found = found.await.map_err(refused)?;
        let no_star =
            || refused(Refusal::NotFound { what: format!("Star {id}; ListStars shows those there are") });
        let (samples, next) = found.ok_or_else(no_star)?;
        let next_page_token = next.unwrap_or_default();
        Ok(Response::new(v1::GetHealthHistoryResponse { samples, next_page_token }))
    }
}

/// The last sample of a page: its time, and its number among the samples of that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SampleKey {
    time: WallTime,
    number: usize,
}

impl SampleKey {
    /// The key of the last one of some samples.
    fn of(times: impl Iterator<Item = WallTime> + Clone) -> Option<Self> {
        let time = times.clone().last()?;
        Some(Self { time, number: times.filter(|other| *other == time).count() })
    }

    /// The index of the sample that follows, also if the oldest are gone.
    fn start(self, times: impl Iterator<Item = WallTime> + Clone) -> usize {
        match times.clone().position(|time| time == self.time) {
            Some(first) => first + self.number,
            None => times.take_while(|time| *time < self.time).count(),
        }
    }
}

impl fmt::Display for SampleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.time.seconds, self.time.nanos, self.number)
    }
}

impl FromStr for SampleKey {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let parts: Vec<&str> = text.split('.').collect();
        let [seconds, nanos, number] = parts[..] else { return Err(()) };
        let time = WallTime { seconds: seconds.parse().map_err(drop)?, nanos: nanos.parse().map_err(drop)? };
        Ok(Self { time, number: number.parse::<u16>().map_err(drop)?.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_samples_begins_behind_the_one_before_also_if_times_are_equal_or_gone() {
        let time = |seconds| WallTime { seconds, nanos: 0 };
        let times = [3, 5, 5, 5, 9].map(time);
        let key = SampleKey::of(times[..3].iter().copied()).unwrap();
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(key.start(times.iter().copied()), 3);
        assert_eq!(key.start(times[4..].iter().copied()), 0);
        assert_eq!(key.start([3].map(time).into_iter()), 1);
        for bad in ["", "1.2", "1.2.x", "1.2.3.4", "1.2.99999"] {
            assert_eq!(bad.parse::<SampleKey>(), Err(()), "{bad}");
        }
    }
}
