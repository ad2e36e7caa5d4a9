//! Typed clients of a coordinator, and functions that wait for its state.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use orbit_proto::v1;
use orbit_proto::v1::backpressure_service_client::BackpressureServiceClient;
use orbit_proto::v1::bulletin_service_client::BulletinServiceClient;
use orbit_proto::v1::dead_letter_service_client::DeadLetterServiceClient;
use orbit_proto::v1::job_service_client::JobServiceClient;
use orbit_proto::v1::provenance_service_client::ProvenanceServiceClient;
use orbit_proto::v1::schedule_service_client::ScheduleServiceClient;
use orbit_proto::v1::star_service_client::StarServiceClient;
use orbit_proto::v1::vault_service_client::VaultServiceClient;
use rustix::thread::LinkNameSpaceType;
use tonic::codegen::http;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::deadline::{eventually, within};

/// Maximum size of a page.
const PAGE_MAX: i32 = 1000;

/// One connection to a coordinator.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// Connects with the first call, and again whenever the connection is lost.
    pub fn new(address: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address makes a URL");
        Self { channel: endpoint.connect_lazy() }
    }

    /// As [`Self::new`], over the caller's channel.
    pub fn over(channel: Channel) -> Self {
        Self { channel }
    }

    /// As [`Self::new`], from within a network namespace.
    pub fn within_namespace(address: &str, namespace: &Path) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address makes a URL");
        let address: SocketAddr = address.parse().expect("a grid's address is a number and a port");
        let namespace = namespace.to_owned();
        let connector = tower::service_fn(move |_: http::Uri| {
            let namespace = namespace.clone();
            async move { connect_within(namespace, address).await.map(TokioIo::new) }
        });
        Self { channel: endpoint.connect_with_connector_lazy(connector) }
    }

    /// JobService.
    pub fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel.clone())
    }

    /// ScheduleService.
    pub fn schedules(&self) -> ScheduleServiceClient<Channel> {
        ScheduleServiceClient::new(self.channel.clone())
    }

    /// StarService.
    pub fn stars(&self) -> StarServiceClient<Channel> {
        StarServiceClient::new(self.channel.clone())
    }

    /// BackpressureService.
    pub fn guards(&self) -> BackpressureServiceClient<Channel> {
        BackpressureServiceClient::new(self.channel.clone())
    }

    /// DeadLetterService.
    pub fn dead_letters(&self) -> DeadLetterServiceClient<Channel> {
        DeadLetterServiceClient::new(self.channel.clone())
    }

    /// BulletinService.
    pub fn bulletins(&self) -> BulletinServiceClient<Channel> {
        BulletinServiceClient::new(self.channel.clone())
    }

    /// ProvenanceService.
    pub fn provenance(&self) -> ProvenanceServiceClient<Channel> {
        ProvenanceServiceClient::new(self.channel.clone())
    }

    /// VaultService.
    pub fn vaults(&self) -> VaultServiceClient<Channel> {
        VaultServiceClient::new(self.channel.clone())
    }

    /// The snapshots that are known, newest first.
    pub async fn all_snapshots(&self) -> Vec<v1::Snapshot> {
        let request = v1::ListSnapshotsRequest { page_size: PAGE_MAX, ..v1::ListSnapshotsRequest::default() };
        let listed = within("ListSnapshots", self.vaults().list_snapshots(request)).await;
        listed.unwrap_or_else(|status| panic!("ListSnapshots: {status}")).into_inner().snapshots
    }

    /// Restores a snapshot and waits for the end of its job.
    pub async fn restore(&self, request: v1::RestoreSnapshotRequest) -> v1::Job {
        let made = within("RestoreSnapshot", self.vaults().restore_snapshot(request)).await;
        let made = made.unwrap_or_else(|status| panic!("RestoreSnapshot: {status}")).into_inner();
        self.wait_end(made.job.expect("a restore is a job").job_id).await
    }

    /// Creates a job and returns its number.
    pub async fn create(&self, spec: v1::JobSpec) -> u64 {
        let request = v1::CreateJobRequest { spec: Some(spec), ..v1::CreateJobRequest::default() };
        let created = within("a job to be created", self.jobs().create_job(request)).await;
        let response = created.unwrap_or_else(|status| panic!("CreateJob: {status}"));
        response.into_inner().job.expect("a created job is shown").job_id
    }

    /// Creates a job although the coordinator may die before, while or after it does. `request_id` ensures that only
    /// one job is made.
    pub async fn create_surely(&self, spec: v1::JobSpec, request_id: &str) -> u64 {
        let request = v1::CreateJobRequest { spec: Some(spec), request_id: request_id.to_owned() };
        eventually("a job to be created", async || match self.jobs().create_job(request.clone()).await {
            Ok(response) => Some(response.into_inner().job.expect("a created job is shown").job_id),
            Err(status) if status.code() == Code::InvalidArgument => panic!("CreateJob: {status}"),
            Err(_) => None,
        })
        .await
    }

    /// All jobs.
    pub async fn all_jobs(&self) -> Vec<v1::Job> {
        let request = v1::ListJobsRequest { page_size: PAGE_MAX, ..v1::ListJobsRequest::default() };
        let listed = within("ListJobs", self.jobs().list_jobs(request)).await;
        listed.unwrap_or_else(|status| panic!("ListJobs: {status}")).into_inner().jobs
    }

    /// A job as it is now.
    pub async fn job(&self, job_id: u64) -> v1::Job {
        let got = within("GetJob", self.jobs().get_job(v1::GetJobRequest { job_id })).await;
        got.unwrap_or_else(|status| panic!("GetJob: {status}")).into_inner().job.expect("a job is shown")
    }

    /// Whether a job has ended; retries while the coordinator cannot answer.
    pub async fn has_ended(&self, job_id: u64) -> bool {
        let got = eventually("GetJob", async || {
            self.jobs().get_job(v1::GetJobRequest { job_id }).await.ok().map(tonic::Response::into_inner)
        })
        .await;
        got.job.is_some_and(|job| job.end_time.is_some())
    }

    /// Watches a job until a condition is met. A watch that is cut off is begun again.
    pub async fn wait_job(&self, job_id: u64, what: &str, is_so: impl Fn(&v1::Job) -> bool) -> v1::Job {
        let last = std::cell::RefCell::new(None);
        let watch = async {
            loop {
                let Ok(response) = self.jobs().watch_job(v1::WatchJobRequest { job_id }).await else {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                };
                let mut stream = response.into_inner();
                while let Ok(Some(message)) = stream.message().await {
                    let job = message.job.expect("a watched job is shown");
                    if is_so(&job) {
                        return job;
                    }
                    let is_end = job.end_time.is_some();
                    last.replace(Some(job));
                    assert!(!is_end, "job {job_id} ended before it was {what}: {:?}", last.borrow());
                }
            }
        };
        match tokio::time::timeout(crate::deadline::PATIENCE, watch).await {
            Ok(job) => job,
            Err(_) => panic!("waited for job {job_id} to be {what}; last seen: {:#?}", last.borrow()),
        }
    }

    /// Watches a job until its end.
    pub async fn wait_end(&self, job_id: u64) -> v1::Job {
        self.wait_job(job_id, "at its end", |job| job.end_time.is_some()).await
    }

    /// A Star as it is now.
    pub async fn star(&self, star_id: &str) -> v1::Star {
        let request = v1::GetStarRequest { star_id: star_id.to_owned() };
        let got = within("GetStar", self.stars().get_star(request)).await;
        got.unwrap_or_else(|status| panic!("GetStar: {status}")).into_inner().star.expect("a Star is shown")
    }

    /// Watches a Star until a condition is met.
    pub async fn wait_star(&self, star_id: &str, what: &str, is_so: impl Fn(&v1::Star) -> bool) -> v1::Star {
        within(&format!("{star_id}: {what}"), async {
            loop {
                let Ok(response) = self.stars().watch_stars(v1::WatchStarsRequest {}).await else {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                };
                let mut stream = response.into_inner();
                while let Ok(Some(message)) = stream.message().await {
                    let star = message.star.expect("a watched Star is shown");
                    if star.star_id == star_id && is_so(&star) {
                        return star;
                    }
                }
            }
        })
        .await
    }

    /// A Star's guard as it is now.
    pub async fn guard(&self, star_id: &str) -> v1::Guard {
        let request = v1::ListGuardsRequest { page_size: PAGE_MAX, ..v1::ListGuardsRequest::default() };
        let listed = within("ListGuards", self.guards().list_guards(request)).await;
        let guards = listed.unwrap_or_else(|status| panic!("ListGuards: {status}")).into_inner().guards;
        let guard = guards.into_iter().find(|guard| guard.star_id == star_id);
        guard.unwrap_or_else(|| panic!("{star_id} has no guard"))
    }

    /// Limits the number of items that a Star can hold at once.
    pub async fn limit_guard(&self, star_id: &str, max_object_count: i64) {
        let request = v1::SetGuardLimitsRequest {
            star_id: star_id.to_owned(),
            max_object_count: Some(max_object_count),
            ..v1::SetGuardLimitsRequest::default()
        };
        let set = within("SetGuardLimits", self.guards().set_guard_limits(request)).await;
        set.unwrap_or_else(|status| panic!("SetGuardLimits: {status}"));
    }

    /// Pauses a Star's guard.
    pub async fn pause_guard(&self, star_id: &str, reason: &str) {
        let request = v1::PauseGuardRequest {
            star_id: star_id.to_owned(),
            reason: reason.to_owned(),
            ..v1::PauseGuardRequest::default()
        };
        let paused = within("PauseGuard", self.guards().pause_guard(request)).await;
        paused.unwrap_or_else(|status| panic!("PauseGuard: {status}"));
    }

    /// Resumes a Star's guard.
    pub async fn resume_guard(&self, star_id: &str) {
        let request =
            v1::ResumeGuardRequest { star_id: star_id.to_owned(), ..v1::ResumeGuardRequest::default() };
        let resumed = within("ResumeGuard", self.guards().resume_guard(request)).await;
        resumed.unwrap_or_else(|status| panic!("ResumeGuard: {status}"));
    }

    /// The dead letters of a job.
    pub async fn dead_letters_of(&self, job_id: u64) -> Vec<v1::DeadLetter> {
        let request = v1::ListDeadLettersRequest {
            job_id: Some(job_id),
            page_size: PAGE_MAX,
            ..v1::ListDeadLettersRequest::default()
        };
        let listed = within("ListDeadLetters", self.dead_letters().list_dead_letters(request)).await;
        listed.unwrap_or_else(|status| panic!("ListDeadLetters: {status}")).into_inner().dead_letters
    }

    /// The bulletins that match, oldest first.
    pub async fn bulletins_like(&self, request: v1::ListBulletinsRequest) -> Vec<v1::Bulletin> {
        let request = v1::ListBulletinsRequest { limit: PAGE_MAX, ..request };
        let listed = within("ListBulletins", self.bulletins().list_bulletins(request)).await;
        let mut found =
            listed.unwrap_or_else(|status| panic!("ListBulletins: {status}")).into_inner().bulletins;
        found.sort_by_key(|bulletin| bulletin.bulletin_id);
        found
    }

    /// All items of a job, page after page.
    pub async fn all_items(&self, job_id: u64) -> Vec<v1::Item> {
        let mut request =
            v1::ListItemsRequest { job_id, page_size: PAGE_MAX, ..v1::ListItemsRequest::default() };
        let mut found = Vec::new();
        loop {
            let listed = within("ListItems", self.jobs().list_items(request.clone())).await;
            let page = listed.unwrap_or_else(|status| panic!("ListItems: {status}")).into_inner();
            found.extend(page.items);
            if page.next_page_token.is_empty() {
                return found;
            }
            request.page_token = page.next_page_token;
        }
    }

    /// All events of a type in a job, page after page.
    pub async fn events_of(&self, job_id: u64, kind: v1::ProvenanceType) -> Vec<v1::ProvenanceEvent> {
        let mut request = v1::ListEventsRequest {
            job_id: Some(job_id),
            page_size: PAGE_MAX,
            ..v1::ListEventsRequest::default()
        };
        request.set_type(kind);
        let mut found = Vec::new();
        loop {
            let listed = within("ListEvents", self.provenance().list_events(request.clone())).await;
            let page = listed.unwrap_or_else(|status| panic!("ListEvents: {status}")).into_inner();
            found.extend(page.events);
            if page.next_page_token.is_empty() {
                return found;
            }
            request.page_token = page.next_page_token;
        }
    }
}

/// A connection that belongs to a network namespace. A separate thread enters the namespace, since a thread cannot
/// leave it.
async fn connect_within(namespace: PathBuf, address: SocketAddr) -> io::Result<tokio::net::TcpStream> {
    let (sender, connected) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let connect = || {
            let handle = File::open(&namespace)?;
            let kind = LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(handle.as_fd(), Some(kind))?;
            let stream = std::net::TcpStream::connect(address)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        // The caller may have given up.
        let _ = sender.send(connect());
    });
    let stream: io::Result<std::net::TcpStream> = connected.await.map_err(io::Error::other)?;
    tokio::net::TcpStream::from_std(stream?)
}

/// The fields that an INVALID_ARGUMENT names, in order.
pub fn bad_fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let details = status.get_details_bad_request().unwrap_or_else(|| panic!("no BadRequest in {status}"));
    details.field_violations.into_iter().map(|violation| violation.field).collect()
}

/// The machine-readable reason of an error, which every error has.
pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status}"));
    assert_eq!(info.domain, "orbit.v1", "{status}");
    info.reason
}
