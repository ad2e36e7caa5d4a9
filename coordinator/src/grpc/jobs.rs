//! JobService.

use std::time::Duration;

use orbit_proto::convert::timestamp_to_wire;
use orbit_proto::v1;
use orbit_proto::v1::job_service_server::JobService;
use orbit_shared::trace_context::{TRACEPARENT, TraceContext};
use orbit_shared::words::{ItemId, JobId, StarId};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::fields::{all, each, few};
use super::once::{check_id, name, once};
use super::reader::Watched;
use super::status::{refused, store_failed};
use super::watch::{Pace, Round, Watch, watch};
use super::{Faces, convert, globs, job_spec, page, plans};
use crate::core::{Answer, Command, JobSpec, Refusal};
use crate::store::StoredItem;

/// The pace of a watch over one job, but for its end, which is told at once.
const WATCH_PACE: Duration = Duration::from_millis(200);
/// A watch looks again after this time although nothing happened, since rates fall with time alone.
const WATCH_REFRESH: Duration = Duration::from_secs(2);
/// States that a list may be filtered by.
const STATES_MAX: usize = 16;
const JOBS_LIST: &str = "jobs";
const ITEMS_LIST: &str = "items";

impl Faces {
    async fn one_job(&self, id: JobId) -> Result<v1::Job, Refusal> {
        let view = self.inbox.view(move |core, now| core.job(id, now)).await?;
        view.map(convert::job).ok_or_else(|| no_job(id))
    }

    pub(super) async fn job_command(&self, command: Command) -> Result<v1::Job, Refusal> {
        match self.inbox.command(command).await? {
            Answer::Job(id) => self.one_job(id).await,
            Answer::Star(_) | Answer::Schedule(_) | Answer::Count(_) | Answer::Done => Err(no_job(JobId(0))),
        }
    }

    /// Checks a specification whole and creates its job.
    pub(super) async fn create_job_as(
        &self,
        spec: Option<v1::JobSpec>,
        request_id: String,
        caller: Option<TraceContext>,
    ) -> Result<v1::Job, Refusal> {
        let mut violations = Vec::new();
        let spec = job_spec::read(spec, &mut violations);
        let Some(spec) = spec else {
            violations.extend(check_id(&request_id).err());
            return Err(Refusal::Invalid(violations));
        };
        globs::check(&spec, &mut violations).await;
        let spec = JobSpec { caller, ..spec };
        self.job_command(Command::CreateJob { spec: Box::new(spec), request_id, violations }).await
    }

    async fn stored_item(&self, id: ItemId) -> Result<Option<StoredItem>, Status> {
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || store.item(id)).await;
        read.map_err(|_| refused(stopping()))?.map_err(|error| store_failed(&error))
    }
}

/// The caller's span. A header that cannot be read is ignored, as the recommendation says.
pub(super) fn caller(metadata: &MetadataMap) -> Option<TraceContext> {
    TraceContext::parse(metadata.get(TRACEPARENT)?.to_str().ok()?).ok()
}

fn stopping() -> Refusal {
    Refusal::Unavailable { problem: "the coordinator is stopping".to_owned() }
}

fn no_job(id: JobId) -> Refusal {
    Refusal::NotFound { what: format!("job {id}; ListJobs shows those there are") }
}

impl Watched for v1::WatchJobResponse {
    const RESUMED_BY: Option<&'static str> = None;

    fn position(&self) -> u64 {
        0
    }
}

#[tonic::async_trait]
impl JobService for Faces {
    async fn create_job(
        &self,
        request: Request<v1::CreateJobRequest>,
    ) -> Result<Response<v1::CreateJobResponse>, Status> {
        let caller = caller(request.metadata());
        let request = request.into_inner();
        let job = self.create_job_as(request.spec, request.request_id, caller).await?;
        Ok(Response::new(v1::CreateJobResponse { job: Some(job) }))
    }

    async fn get_job(
        &self,
        request: Request<v1::GetJobRequest>,
    ) -> Result<Response<v1::GetJobResponse>, Status> {
        let job = self.one_job(JobId(request.into_inner().job_id)).await?;
        Ok(Response::new(v1::GetJobResponse { job: Some(job) }))
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let request = request.into_inner();
        let states = few("states", request.states, STATES_MAX)?.into_iter().enumerate();
        let (size, before, states) = all((
            page::page_size("page_size", request.page_size),
            page::parsed_key::<u64>(JOBS_LIST, &request.page_token),
            each(states.map(|(index, state)| convert::job_state_filter(index, state))),
        ))?;
        let before = before.map(JobId);
        let found = self
            .inbox
            .view(move |core, now| page::fill(core.each_job(before, &states, now).map(convert::job), size));
        let (jobs, has_more) = found.await.map_err(refused)?;
        let last = jobs.last().filter(|_| has_more).map(|job| job.job_id.to_string());
        Ok(Response::new(v1::ListJobsResponse {
            jobs,
            next_page_token: last.map(|key| page::token(JOBS_LIST, &key)).unwrap_or_default(),
        }))
    }

    async fn plan_job(
        &self,
        request: Request<v1::PlanJobRequest>,
    ) -> Result<Response<v1::PlanJobResponse>, Status> {
        let mut violations = Vec::new();
        let spec = job_spec::read(request.into_inner().spec, &mut violations);
        let Some(spec) = spec else { return Err(refused(Refusal::Invalid(violations))) };
        globs::check(&spec, &mut violations).await;
        let planned = self.inbox.plan(spec, violations).await.map_err(refused)?;
        Ok(Response::new(plans::planned(planned)))
    }

    type WatchJobStream = Watch<v1::WatchJobResponse>;

    async fn watch_job(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let id = JobId(request.into_inner().job_id);
        self.one_job(id).await?;
        let look = move |faces: Faces, last: Option<v1::Job>| async move {
            let view = faces.inbox.view(move |core, now| core.job(id, now)).await.map_err(refused)?;
            let view = view.ok_or_else(|| no_job(id))?;
            let is_end = view.record.state().is_end();
            let job = convert::job(view);
            if last.as_ref() == Some(&job) {
                return Ok((Round::Continue(Vec::new()), last));
            }
            let items = vec![v1::WatchJobResponse { job: Some(job.clone()) }];
            let round = if is_end { Round::End(items) } else { Round::Continue(items) };
            Ok((round, Some(job)))
        };
        let pace = Pace { least: WATCH_PACE, refresh: Some(WATCH_REFRESH), until_end_of: Some(id) };
        Ok(Response::new(watch(self, pace, 0, None, look)))
    }

    async fn pause_job(
        &self,
        request: Request<v1::PauseJobRequest>,
    ) -> Result<Response<v1::PauseJobResponse>, Status> {
        let request = request.into_inner();
        let name = name("PauseJob", &request.request_id, &request)?;
        let command = Command::PauseJob { job: JobId(request.job_id), reason: request.reason };
        Ok(Response::new(v1::PauseJobResponse { job: Some(self.job_command(once(name, command)).await?) }))
    }

    async fn resume_job(
        &self,
        request: Request<v1::ResumeJobRequest>,
    ) -> Result<Response<v1::ResumeJobResponse>, Status> {
        let request = request.into_inner();
        let name = name("ResumeJob", &request.request_id, &request)?;
        let command = Command::ResumeJob { job: JobId(request.job_id) };
        Ok(Response::new(v1::ResumeJobResponse { job: Some(self.job_command(once(name, command)).await?) }))
    }

    async fn cancel_job(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::CancelJobResponse>, Status> {
        let request = request.into_inner();
        let name = name("CancelJob", &request.request_id, &request)?;
        let command = Command::CancelJob { job: JobId(request.job_id), reason: request.reason };
        Ok(Response::new(v1::CancelJobResponse { job: Some(self.job_command(once(name, command)).await?) }))
    }

    async fn list_items(
        &self,
        request: Request<v1::ListItemsRequest>,
    ) -> Result<Response<v1::ListItemsResponse>, Status> {
        let request = request.into_inner();
        let job = JobId(request.job_id);
        let states = few("states", request.states, STATES_MAX)?.into_iter().enumerate();
        let (size, start, states) = all((
            page::page_size("page_size", request.page_size),
            page::parsed_key::<u64>(ITEMS_LIST, &request.page_token),
            each(states.map(|(index, state)| convert::item_state_filter(index, state))),
        ))?;
        let start = start.unwrap_or(0);
        let view = self.inbox.view(move |core, now| core.job(job, now)).await.map_err(refused)?;
        let spec = view.ok_or_else(|| no_job(job))?.record.spec;
        let stars: Vec<StarId> = spec.destinations.into_iter().map(|place| place.star_id).collect();
        let count = u32::try_from(stars.len()).unwrap_or(u32::MAX);
        let limit = (size / stars.len().max(1)).max(1);
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || store.items(job, count, start, limit)).await;
        let rows = read.map_err(|_| refused(stopping()))?.map_err(|error| store_failed(&error))?;
        let is_full = rows.len() == limit;
        // An entry stands on one page with all its destinations.
        let weigh = |row: &(_, Vec<StoredItem>)| row.1.iter().map(convert::item_weight).sum();
        let (rows, is_cut) = page::fill_by(rows, limit, weigh);
        let next = rows.last().and_then(|(_, items)| items.first()).map(|item| item.id.sequence + 1);
        let stored: Vec<StoredItem> = rows.into_iter().flat_map(|(_, items)| items).collect();
        let items = self.inbox.view(move |core, now| {
            let items = stored.iter().map(|stored| {
                let view = core.item(now, stored.id, &stored.entry);
                convert::item(stored, view.as_ref(), &stars[stored.id.destination as usize])
            });
            items.collect::<Vec<_>>()
        });
        let mut items = items.await.map_err(refused)?;
        items.retain(|item| states.is_empty() || states.iter().any(|state| *state == item.state()));
        let token = next.filter(|_| is_full || is_cut).map(|next| page::token(ITEMS_LIST, &next.to_string()));
        Ok(Response::new(v1::ListItemsResponse { items, next_page_token: token.unwrap_or_default() }))
    }

    async fn explain_item(
        &self,
        request: Request<v1::ExplainItemRequest>,
    ) -> Result<Response<v1::ExplainItemResponse>, Status> {
        let id = convert::item_id(&request.into_inner().item_key)?;
        let no_item =
            || refused(Refusal::NotFound { what: format!("item {id}; ListItems shows those there are") });
        let stored = self.stored_item(id).await?.ok_or_else(no_item)?;
        let explained = self.inbox.view(move |core, now| {
            let spec = core.job(id.job, now)?.record.spec;
            let star = spec.destinations.get(id.destination as usize)?.star_id.clone();
            let view = core.item(now, id, &stored.entry);
            let held = view.as_ref().and_then(|view| view.held.clone()).filter(|_| stored.end.is_none());
            let letter = core.dead_letters().entry(id.job, &id.to_string());
            let item = convert::item(&stored, view.as_ref(), &star);
            let state = v1::ItemState::try_from(item.state).unwrap_or_default();
            let explanation = match &held {
                Some(held) => held.explanation.clone(),
                None => explain(state, &star, &convert::shown(&stored.entry)),
            };
            Some(v1::ExplainItemResponse {
                item: Some(item),
                gate: held.as_ref().map_or(v1::Gate::Unspecified, |held| convert::gate(held.gate)).into(),
                explanation,
                earliest_time: held
                    .and_then(|held| held.opens_at)
                    .map(|at| timestamp_to_wire(now.wall + at.since(now.monotonic))),
                dead_letter: letter.map(|letter| convert::dead_letter(letter, Some(&spec.source.star_id))),
            })
        });
        let explained = explained.await.map_err(refused)?.ok_or_else(no_item)?;
        Ok(Response::new(explained))
    }
}

/// Where an item is that nothing holds, in a sentence.
fn explain(state: v1::ItemState, star: &StarId, path: &str) -> String {
    match state {
        v1::ItemState::InFlight => format!("{star} works on {path}"),
        v1::ItemState::Stored => format!("{path} is stored at {star}"),
        v1::ItemState::Skipped => format!("{path} was at {star} already, unchanged"),
        v1::ItemState::Dead => format!("{path} was given up; its dead letter says why"),
        v1::ItemState::Queued | v1::ItemState::Penalized | v1::ItemState::Unspecified => {
            format!("{path} goes to {star} next")
        }
    }
}
