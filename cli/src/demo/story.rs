//! The steps of the demo.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use orbit_proto::v1::{
    CreateJobRequest, DrainStarRequest, EntryKind, ExplainItemRequest, GetJobRequest, GetJobResponse,
    GetStarRequest, Item, ItemState, Job, JobState, ListItemsRequest, ScheduleStarRequest,
    SetGuardLimitsRequest, Star,
};
use tokio::time::{Instant, sleep};

use super::tree::TreeSize;
use super::{DESTINATIONS, SOURCE, narrate};
use crate::args::{MirrorArgs, SelectionArgs};
use crate::client::{Client, request_id};
use crate::commands::{Places, job, note_dead_letters, star_line};
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::{Output, human};
use crate::parse::location::location;
use crate::progress::describe;

/// Slow enough to watch, fast enough not to bore.
const BYTES_PER_SECOND: i64 = 6 << 20;
const GUARD_ITEMS: i64 = 64;
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const LINE_INTERVAL: Duration = Duration::from_millis(500);
/// No step takes nearly as long on a machine that works.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
const JOB_TIMEOUT: Duration = Duration::from_secs(180);

/// A demo on its way.
#[derive(Debug)]
pub(super) struct Story {
    client: Client,
    output: Output,
    last_line: Option<Instant>,
}

impl Story {
    pub(super) fn new(client: Client, output: Output) -> Self {
        Self { client, output, last_line: None }
    }

    /// Tells it all. The job's outcome is the demo's.
    pub(super) async fn tell(mut self, root: &Path, size: TreeSize) -> Result<Outcome, CliError> {
        let tree = format!("{} files, {}", size.files, human::bytes(size.bytes));
        self.say(&format!(
            "A coordinator and three Stars run in this process. {SOURCE} exports a tree of {tree}."
        ))?;
        let job_id = self.create_job(root).await?;
        let is_moving = |job: &Job| job.progress.is_some_and(|progress| progress.items_stored >= 40);
        Box::pin(self.watch(job_id, STEP_TIMEOUT, is_moving)).await?;
        self.set_guard().await?;
        self.drain(job_id).await?;
        self.take_back().await?;
        let ended = Box::pin(self.watch(job_id, JOB_TIMEOUT, |job| Outcome::of(job).is_some())).await?;
        note_dead_letters(&ended, Places::OnStars, &self.client, self.output).await?;
        let outcome = Outcome::of(&ended).unwrap_or(Outcome::Failed);
        let answer = GetJobResponse { job: Some(ended) };
        self.output.answer(&answer, |answer| answer.job.as_ref().map(job::summary).unwrap_or_default())?;
        Ok(outcome)
    }

    fn say(&self, text: &str) -> Result<(), CliError> {
        narrate(self.output, text)
    }

    async fn create_job(&self, root: &Path) -> Result<u64, CliError> {
        let place = |name: &str| location(name.to_owned(), root.join(name).as_os_str().as_bytes());
        let selection = SelectionArgs { bwlimit: Some(BYTES_PER_SECOND), ..SelectionArgs::default() };
        let spec = job::spec(
            place(SOURCE),
            DESTINATIONS.map(place).to_vec(),
            selection,
            MirrorArgs::default(),
            (None, self.output),
        )?;
        let request = CreateJobRequest { spec: Some(spec), request_id: request_id() };
        let created = self.client.jobs().create_job(request).await?.into_inner();
        let job_id = created.job.map(|job| job.job_id).unwrap_or_default();
        self.say(&format!(
            "Job {job_id} copies it to {}, at most {} so that there is something to see.",
            DESTINATIONS.join(" and "),
            human::rate(BYTES_PER_SECOND.unsigned_abs())
        ))?;
        Ok(job_id)
    }

    async fn set_guard(&self) -> Result<(), CliError> {
        let request = SetGuardLimitsRequest {
            star_id: DESTINATIONS[0].to_owned(),
            max_object_count: Some(GUARD_ITEMS),
            request_id: request_id(),
            ..SetGuardLimitsRequest::default()
        };
        let guard =
            self.client.guards().set_guard_limits(request).await?.into_inner().guard.unwrap_or_default();
        self.say(&format!(
            "The guard of {} now admits {} items at once; it holds {}.",
            guard.star_id, guard.max_object_count, guard.object_count
        ))
    }

    /// Drains the last Star, and shows what that does to an item that is bound for it.
    async fn drain(&mut self, job_id: u64) -> Result<(), CliError> {
        let star_id = DESTINATIONS[1];
        let request = DrainStarRequest {
            star_id: star_id.to_owned(),
            reason: "the demo".to_owned(),
            request_id: request_id(),
            ..DrainStarRequest::default()
        };
        let star = self.client.stars().drain_star(request).await?.into_inner().star;
        self.say(&format!("Draining {star_id} while the job runs. {}.", star_line(star.as_ref())))?;
        let drained = self.await_star(star_id, |star| star.is_drained).await?;
        self.say(&format!("It ended what it held: {}.", star_line(Some(&drained))))?;
        if let Some(explanation) = self.explain_waiting(job_id, star_id).await? {
            self.say(&explanation)?;
        }
        let job = self.job(job_id).await?;
        if job.state_reason.is_empty() {
            return Ok(());
        }
        self.say(&format!("The job says why it waits: {}", job.state_reason))
    }

    async fn explain_waiting(&self, job_id: u64, star_id: &str) -> Result<Option<String>, CliError> {
        let request = ListItemsRequest {
            job_id,
            states: vec![ItemState::Queued.into()],
            page_size: 1000,
            ..ListItemsRequest::default()
        };
        let is_waiting = |item: &Item| item.star_id == star_id && item.kind() == EntryKind::File;
        let items = self.client.jobs().list_items(request).await?.into_inner().items;
        let Some(item) = items.into_iter().find(is_waiting) else { return Ok(None) };
        let request = ExplainItemRequest { item_key: item.item_key.clone() };
        let answer = self.client.jobs().explain_item(request).await?.into_inner();
        Ok(Some(format!("Why does item {} ({}) not move? {}.", item.item_key, item.path, answer.explanation)))
    }

    async fn take_back(&self) -> Result<(), CliError> {
        let star_id = DESTINATIONS[1];
        let request = ScheduleStarRequest {
            star_id: star_id.to_owned(),
            reason: "the demo".to_owned(),
            request_id: request_id(),
        };
        let star = self.client.stars().schedule_star(request).await?.into_inner().star;
        self.say(&format!("Taken back into service: {}.", star_line(star.as_ref())))
    }

    async fn job(&self, job_id: u64) -> Result<Job, CliError> {
        Ok(self.client.jobs().get_job(GetJobRequest { job_id }).await?.into_inner().job.unwrap_or_default())
    }

    /// Shows the job twice a second until it is as wanted or has ended.
    async fn watch(
        &mut self,
        job_id: u64,
        timeout: Duration,
        is_wanted: impl Fn(&Job) -> bool,
    ) -> Result<Job, CliError> {
        let deadline = Instant::now() + timeout;
        loop {
            let job = self.job(job_id).await?;
            if self.last_line.is_none_or(|at| at.elapsed() >= LINE_INTERVAL)
                && job.state() != JobState::Completed
            {
                self.last_line = Some(Instant::now());
                self.output.note(&format!("  {}", describe(&job)));
            }
            if is_wanted(&job) || Outcome::of(&job).is_some() {
                return Ok(job);
            }
            if Instant::now() > deadline {
                return Err(CliError::Failed(format!("the demo is stuck: {}", describe(&job))));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    async fn await_star(&self, star_id: &str, is_wanted: impl Fn(&Star) -> bool) -> Result<Star, CliError> {
        let deadline = Instant::now() + STEP_TIMEOUT;
        loop {
            let request = GetStarRequest { star_id: star_id.to_owned() };
            let star = self.client.stars().get_star(request).await?.into_inner().star.unwrap_or_default();
            if is_wanted(&star) {
                return Ok(star);
            }
            if Instant::now() > deadline {
                return Err(CliError::Failed(format!("the demo is stuck: {}", star_line(Some(&star)))));
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}
