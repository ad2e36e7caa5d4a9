//! The programs on the hosts: the coordinator, the Stars, and an operator who moves a tree and checks the result.

use std::fmt::Write as _;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use orbit_coordinator::CoordinatorOptions;
use orbit_proto::v1;
use orbit_shared::session::Root;
use orbit_shared::words::StarId;
use orbit_star::StarOptions;
use orbit_tests::client::Client;
use orbit_tests::settled::{assert_holds_nothing, assert_settled};
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

use crate::network::Simulated;
use crate::world::Shared;

/// The coordinator's name on the network.
pub(crate) const COORDINATOR: &str = "coordinator";
const COORDINATOR_PORT: u16 = 7100;
const STAR_PORT: u16 = 7200;
/// Maximum number of jobs of one run.
const JOBS_MAX: usize = 6;
/// How often the operator reads the state of the job.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Timeout of an operator's call, after which it is repeated on a new connection.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// A coordinator. It must not fail.
pub(crate) async fn coordinate(core: orbit_coordinator::core::CoreConfig, data: PathBuf) -> turmoil::Result {
    let options = CoordinatorOptions {
        listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, COORDINATOR_PORT)).into(),
        core,
        is_plaintext_allowed: true,
        network: Arc::new(Simulated),
        ..CoordinatorOptions::new(data)
    };
    let mut coordinator = orbit_coordinator::start(options).await?;
    Err(format!("the coordinator ended: {:?}", coordinator.failed().await).into())
}

/// A Star. It must not exit.
pub(crate) async fn shine(name: String, root: PathBuf, vault: PathBuf) -> turmoil::Result {
    let root = Root { path: root.as_os_str().as_bytes().to_vec(), is_read_only: false };
    let options = StarOptions {
        listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, STAR_PORT)).into(),
        advertise: Some(format!("{name}:{STAR_PORT}")),
        is_plaintext_allowed: true,
        network: Arc::new(Simulated),
        ..StarOptions::new(StarId::new(&name)?, url(), vec![root], vault)
    };
    let mut star = orbit_star::start(options, CancellationToken::new()).await?;
    Err(format!("{name} left: {:?}", star.wait().await).into())
}

fn url() -> String {
    format!("http://{COORDINATOR}:{COORDINATOR_PORT}")
}

/// A client with a new connection.
fn client() -> Client {
    let endpoint = Endpoint::from_shared(url()).expect("an address makes a URL");
    let endpoint = endpoint.connect_timeout(CALL_TIMEOUT).timeout(CALL_TIMEOUT);
    Client::over(Simulated::lazy_channel(&endpoint))
}

/// Repeats a call until there is an answer, whatever happens to connections.
async fn surely<T, F: Future<Output = Result<tonic::Response<T>, tonic::Status>>>(
    ask: impl Fn(Client) -> F,
) -> T {
    loop {
        match ask(client()).await {
            Ok(response) => return response.into_inner(),
            Err(status) if status.code() == tonic::Code::InvalidArgument => panic!("{status}"),
            Err(_) => tokio::time::sleep(LOOK_INTERVAL).await,
        }
    }
}

/// Creates jobs until there are no more faults, waits for their ends, and asserts that everything is right.
pub(crate) async fn operate(
    spec: v1::JobSpec,
    vaults: Vec<(String, PathBuf)>,
    shared: Rc<Shared>,
) -> turmoil::Result {
    for (star, _) in &vaults {
        // A job cannot name it before its address is known.
        let request = v1::GetStarRequest { star_id: star.clone() };
        surely(|client| {
            let request = request.clone();
            async move { client.stars().get_star(request).await }
        })
        .await;
    }
    let mut jobs = Vec::new();
    while jobs.len() < JOBS_MAX && (jobs.is_empty() || !shared.is_mended.get()) {
        let mut spec = spec.clone();
        for destination in &mut spec.destinations {
            write!(destination.path, "-{}", jobs.len())?;
        }
        let request_id = format!("job {}", jobs.len());
        let request = v1::CreateJobRequest { spec: Some(spec), request_id };
        let created = surely(|client| {
            let request = request.clone();
            async move { client.jobs().create_job(request).await }
        });
        let job_id = created.await.job.expect("a created job is shown").job_id;
        wait_end(job_id, &shared).await;
        jobs.push(job_id);
    }
    shared.ended_at.set(turmoil::sim_elapsed());
    while !shared.is_mended.get() {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    let client = client();
    for &job_id in &jobs {
        let job = assert_settled(&client, job_id).await;
        assert_every_item_ended(&client, &job).await;
    }
    for (star, vault) in &vaults {
        assert_holds_nothing(&client, star, vault).await;
    }
    assert_eq!(client.all_jobs().await.len(), jobs.len(), "a request that was made again is one job");
    Ok(())
}

async fn wait_end(job_id: u64, shared: &Shared) {
    loop {
        let request = v1::GetJobRequest { job_id };
        let job = surely(|client| async move { client.jobs().get_job(request).await }).await;
        let job = job.job.expect("a job is shown");
        shared.last_seen.replace(format!("{job:?}"));
        if job.end_time.is_some() {
            return;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// The counts of the job are those of its items.
async fn assert_every_item_ended(client: &Client, job: &v1::Job) {
    let items = client.all_items(job.job_id).await;
    let progress = job.progress.as_ref().expect("a job shows its progress");
    assert_eq!(items.len() as u64, progress.items_total, "{progress:?}");
    for item in items {
        let has_ended = matches!(item.state(), v1::ItemState::Stored | v1::ItemState::Skipped);
        assert!(has_ended, "a job that is over has {item:?}");
    }
}
