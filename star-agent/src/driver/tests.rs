//! Tests of the driver with a coordinator on a real connection and a fake data plane.

use std::pin::Pin;
use std::sync::Mutex;

use futures::future::BoxFuture;
use orbit_proto::v1::session_service_server::{SessionService, SessionServiceServer};
use orbit_proto::v1::{ConnectRequest, ConnectResponse};
use orbit_shared::comparison::Unchanged;
use orbit_shared::health_monitor::HealthConfig;
use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::session::{CoordinatorMessage, ItemOutcome, ItemResult, Keys, ScanBatch, StarMessage};
use orbit_shared::vault_call::{VaultCall, VaultFailure, VaultProblem, VaultReply};
use orbit_shared::words::SnapshotId;
use orbit_shared::words::{Epoch, JobId};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::*;
use crate::core::{test_assignment, test_config};
use crate::grpc::session::endpoint;
use crate::plane::PlaneCounts;

/// One session from the view of the coordinator.
struct Seen {
    from_star: mpsc::Receiver<StarMessage>,
    to_star: mpsc::Sender<Result<ConnectResponse, Status>>,
}

/// The grid of the coordinator.
const GRID: Uuid = Uuid::from_u128(77);

impl Seen {
    async fn say(&self, message: CoordinatorMessage) {
        self.to_star.send(Ok(message.into())).await.unwrap();
    }

    /// The next message that is not a heartbeat.
    async fn hear(&mut self) -> StarMessage {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(10), self.from_star.recv()).await;
            match message.expect("the Star says something in time").expect("the session is open") {
                StarMessage::Heartbeat(_) => {}
                other => return other,
            }
        }
    }

    async fn welcome(&mut self, kept: Vec<AssignmentId>) -> Hello {
        let StarMessage::Hello(hello) = self.hear().await else { panic!("a session starts with a hello") };
        let interval = Duration::from_millis(50);
        let lease = Duration::from_secs(10);
        self.say(CoordinatorMessage::Welcome {
            epoch: Epoch(1),
            heartbeat_interval: interval,
            lease,
            kept,
            grid: Some(GRID),
        })
        .await;
        hello
    }

    async fn set(&mut self, state: LifecycleState) {
        self.say(CoordinatorMessage::SetLifecycle { state, reason: "ordered".to_owned() }).await;
        let changed = StarMessage::LifecycleChanged { state, reason: "ordered".to_owned() };
        assert_eq!(self.hear().await, changed);
    }
}

struct Coordinator {
    sessions: mpsc::Sender<Seen>,
}

#[tonic::async_trait]
impl SessionService for Coordinator {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<ConnectResponse, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (to_star, responses) = mpsc::channel(16);
        let (sender, from_star) = mpsc::channel(1024);
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if sender.send(StarMessage::try_from(request).unwrap()).await.is_err() {
                    return;
                }
            }
        });
        self.sessions.send(Seen { from_star, to_star }).await.unwrap();
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }
}

/// A fake data plane: ends every item at once, or waits until it is cancelled.
#[derive(Default)]
struct FakePlane {
    is_stuck: bool,
    cleaned: Mutex<Vec<AssignmentId>>,
    ended: Mutex<Vec<JobId>>,
}

impl DataPlane for FakePlane {
    fn execute(
        &self,
        assignment: Assignment,
        outcomes: mpsc::Sender<Vec<ItemOutcome>>,
        progress: Arc<AtomicU64>,
        cancel: CancellationToken,
    ) -> BoxFuture<'static, ()> {
        let is_stuck = self.is_stuck;
        Box::pin(async move {
            progress.store(7, Ordering::Relaxed);
            if is_stuck {
                return cancel.cancelled().await;
            }
            for item in assignment.items {
                let outcome = ItemOutcome { sequence: item.sequence, result: ItemResult::Skipped };
                outcomes.send(vec![outcome]).await.unwrap();
            }
        })
    }

    fn scan(
        &self,
        request: ScanRequest,
        batches: mpsc::Sender<ScanBatch>,
        credits: Arc<Semaphore>,
        _cancel: CancellationToken,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            for number in 1..=20 {
                credits.acquire().await.unwrap().forget();
                let (entries, is_last) = (Vec::new(), number == 20);
                let batch = ScanBatch {
                    scan: request.scan,
                    number,
                    entries,
                    is_last,
                    failure: None,
                    matched: Vec::new(),
                    skipped_mounts: Vec::new(),
                };
                if batches.send(batch).await.is_err() {
                    return;
                }
            }
        })
    }

    fn clean_temporaries(&self, assignment: &Assignment) -> bool {
        self.cleaned.lock().unwrap().push(assignment.id);
        true
    }

    fn end_job(&self, job: JobId) {
        self.ended.lock().unwrap().push(job);
    }

    fn clean_ended(&self) {}

    fn compare(&self, comparison: Comparison) -> BoxFuture<'static, Unchanged> {
        let mut unchanged = Unchanged::default();
        (0..comparison.entries.len()).for_each(|index| unchanged.insert(index));
        Box::pin(async move { unchanged })
    }

    fn call_vault(&self, call: VaultCall) -> BoxFuture<'static, Result<VaultReply, VaultProblem>> {
        Box::pin(async move {
            match call {
                VaultCall::DeleteSnapshot(_) => Ok(VaultReply::Done),
                other => {
                    let message = format!("{other:?} is not for this fake");
                    Err(VaultProblem { failure: VaultFailure::Failed, message })
                }
            }
        })
    }

    fn counts(&self) -> PlaneCounts {
        PlaneCounts { served_pulls: 2, ..PlaneCounts::default() }
    }
}

struct Stage {
    sessions: mpsc::Receiver<Seen>,
    inbox: mpsc::Sender<Event>,
    plane: Arc<FakePlane>,
    keys: watch::Receiver<InForce>,
    driver: JoinHandle<ExitReport>,
    directory: tempfile::TempDir,
}

impl Stage {
    async fn new(plane: FakePlane) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (sender, sessions) = mpsc::channel(16);
        let service = SessionServiceServer::new(Coordinator { sessions: sender });
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

        let directory = tempfile::tempdir().unwrap();
        let vault = Arc::new(Vault::open(directory.path(), Uuid::from_u128(1)).unwrap());
        let plane = Arc::new(plane);
        let (keys_sender, keys) = watch::channel(InForce::default());
        let clock = Clock::start();
        let core = StarCore::new(test_config(), clock.now());
        let world = Surroundings {
            star: orbit_shared::words::StarId::new("star-1").unwrap(),
            clock,
            plane: Arc::clone(&plane) as Arc<dyn DataPlane>,
            vault,
            network: Arc::new(orbit_identity::network::Tcp::default()),
            // No process listens on the first of the three: the driver must go on to the next by itself.
            coordinators: ["http://127.0.0.1:1", &address, &address].map(|it| endpoint(it).unwrap()).to_vec(),
            keys: keys_sender,
            spans: orbit_telemetry::Spans::default(),
        };
        let (driver, inbox) = Driver::new(core, world, HealthProbe::new(&[], HealthConfig::default()));
        let driver = tokio::spawn(driver.run(CancellationToken::new()));
        Self { sessions, inbox, plane, keys, driver, directory }
    }

    async fn session(&mut self) -> Seen {
        let session = tokio::time::timeout(Duration::from_secs(10), self.sessions.recv()).await;
        session.expect("the Star connects in time").unwrap()
    }

    async fn working(&mut self) -> Seen {
        let mut session = self.session().await;
        session.welcome(Vec::new()).await;
        session.set(LifecycleState::Scheduled).await;
        session
    }

    /// Number of assignments in the journal. Unlike a start, this does not touch a record that is being written.
    fn journalled(&self) -> usize {
        let names = std::fs::read_dir(self.directory.path().join("assignments")).unwrap();
        names
            .filter(|name| name.as_ref().unwrap().path().extension().is_some_and(|end| end == "json"))
            .count()
    }

    async fn exit(&mut self) -> ExitReport {
        tokio::time::timeout(Duration::from_secs(10), &mut self.driver)
            .await
            .expect("it leaves in time")
            .unwrap()
    }
}

/// Waits for a condition that no message announces.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn an_assignment_is_journalled_worked_on_reported_and_forgotten() {
    let mut stage = Stage::new(FakePlane::default()).await;
    let mut session = stage.working().await;
    session.say(CoordinatorMessage::Assign(test_assignment(5, 3))).await;
    let (mut outcomes, mut last) = (0, 0);
    while outcomes < 3 {
        let StarMessage::Report(report) = session.hear().await else { panic!("only reports are due") };
        outcomes += report.outcomes.len();
        last = report.number;
    }
    assert_eq!(stage.journalled(), 1);
    session.say(CoordinatorMessage::ReportsAcknowledged { number: last }).await;
    eventually("the journal is empty", || stage.journalled() == 0).await;
    assert!(stage.plane.cleaned.lock().unwrap().is_empty());
}

#[tokio::test]
async fn heartbeats_carry_samples_and_progress() {
    let mut stage = Stage::new(FakePlane { is_stuck: true, ..FakePlane::default() }).await;
    let mut session = stage.working().await;
    session.say(CoordinatorMessage::Assign(test_assignment(5, 3))).await;
    loop {
        let message = tokio::time::timeout(Duration::from_secs(10), session.from_star.recv()).await;
        if let Some(StarMessage::Heartbeat(heartbeat)) = message.unwrap()
            && heartbeat.sample.is_some()
            && heartbeat.progress == [(AssignmentId(5), 7)]
        {
            assert_eq!((heartbeat.active_tasks, heartbeat.served_pulls), (1, 2));
            return;
        }
    }
}

#[tokio::test]
async fn a_withdrawn_assignment_is_stopped_cleaned_up_and_forgotten() {
    let mut stage = Stage::new(FakePlane { is_stuck: true, ..FakePlane::default() }).await;
    let session = stage.working().await;
    session.say(CoordinatorMessage::Assign(test_assignment(5, 3))).await;
    eventually("it is journalled", || stage.journalled() == 1).await;
    session.say(CoordinatorMessage::Withdraw { assignment: AssignmentId(5), is_job_over: true }).await;
    eventually("it is cleaned up", || *stage.plane.cleaned.lock().unwrap() == [AssignmentId(5)]).await;
    eventually("it is forgotten", || stage.journalled() == 0).await;
    assert_eq!(stage.plane.ended.lock().unwrap().len(), 1, "only the end of a job withdraws");
    session.say(CoordinatorMessage::JobEnded { job: JobId(9) }).await;
    eventually("what is kept of it goes", || stage.plane.ended.lock().unwrap().contains(&JobId(9))).await;
}

#[tokio::test]
async fn an_assignment_withdrawn_after_its_work_has_ended_is_forgotten_too() {
    let mut stage = Stage::new(FakePlane::default()).await;
    let mut session = stage.working().await;
    session.say(CoordinatorMessage::Assign(test_assignment(5, 3))).await;
    let mut outcomes = 0;
    while outcomes < 3 {
        let StarMessage::Report(report) = session.hear().await else { panic!("only reports are due") };
        outcomes += report.outcomes.len();
    }
    assert_eq!(stage.journalled(), 1);
    // The coordinator never acknowledges: it has given the work to another Star.
    session.say(CoordinatorMessage::Withdraw { assignment: AssignmentId(5), is_job_over: true }).await;
    eventually("it is forgotten", || stage.journalled() == 0).await;
}

#[tokio::test]
async fn a_scan_never_runs_ahead_of_its_acknowledgements() {
    let mut stage = Stage::new(FakePlane::default()).await;
    let mut session = stage.session().await;
    session.welcome(Vec::new()).await;
    let request = ScanRequest {
        scan: 3,
        job: orbit_shared::words::JobId(1),
        path: b"/s".to_vec(),
        include: Vec::new(),
        exclude: Vec::new(),
        paths: Vec::new(),
        resume_after: None,
        snapshot: None,
        limits: Default::default(),
        is_one_file_system: false,
        trace: None,
    };
    session.say(CoordinatorMessage::StartScan(request)).await;
    let mut number = 0;
    while number < 20 {
        let StarMessage::ScanBatch(batch) = session.hear().await else { panic!("only batches are due") };
        number += 1;
        assert_eq!(batch.number, number);
        if number.is_multiple_of(8) || number == 20 {
            let silence = tokio::time::timeout(Duration::from_millis(100), session.hear()).await;
            assert!(silence.is_err(), "a batch came without credit");
            session.say(CoordinatorMessage::ScanAcknowledged { scan: 3, number }).await;
        }
    }
}

#[tokio::test]
async fn a_vault_answers_under_the_number_of_the_call() {
    let mut stage = Stage::new(FakePlane::default()).await;
    let mut session = stage.session().await;
    session.welcome(Vec::new()).await;
    let calls =
        [(7, VaultCall::DeleteSnapshot(SnapshotId([1; 16]))), (8, VaultCall::ListDamaged { after: None })];
    for (request, call) in calls {
        session.say(CoordinatorMessage::CallVault { request, call }).await;
        let StarMessage::VaultAnswered { request: answered, answer } = session.hear().await else {
            panic!("only answers are due")
        };
        assert_eq!((answered, answer.is_ok()), (request, request == 7), "{answer:?}");
    }
}

#[tokio::test]
async fn work_survives_a_lost_session_and_is_reported_in_a_new_one() {
    let mut stage = Stage::new(FakePlane { is_stuck: true, ..FakePlane::default() }).await;
    let session = stage.working().await;
    session.say(CoordinatorMessage::Assign(test_assignment(5, 3))).await;
    eventually("it is journalled", || stage.journalled() == 1).await;
    session.to_star.send(Err(Status::unavailable("restarting"))).await.unwrap();
    let mut session = stage.session().await;
    let hello = session.welcome(vec![AssignmentId(5)]).await;
    assert_eq!(hello.held, [AssignmentId(5)]);
    assert_eq!(hello.lifecycle, LifecycleState::Scheduled);
    assert!(stage.plane.cleaned.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_refusal_ends_the_star_with_its_reason() {
    for (status, part) in [
        (Status::already_exists("another identity holds star-1"), "another identity holds star-1"),
        (Status::invalid_argument("no such field"), "no such field"),
    ] {
        let mut stage = Stage::new(FakePlane::default()).await;
        let session = stage.session().await;
        session.to_star.send(Err(status)).await.unwrap();
        let report = stage.exit().await;
        assert_eq!(report.code, 1);
        assert!(report.reason.contains(part), "{}", report.reason);
    }
}

#[tokio::test]
async fn a_drain_ends_with_the_coordinators_shutdown_and_the_last_message_arrives() {
    let mut stage = Stage::new(FakePlane::default()).await;
    let mut session = stage.working().await;
    stage.inbox.send(Event::SignalReceived).await.unwrap();
    assert!(matches!(session.hear().await, StarMessage::DrainRequested { .. }));
    session.set(LifecycleState::Draining).await;
    session.set(LifecycleState::Shutdown).await;
    let report = stage.exit().await;
    assert_eq!(report.code, 0, "{}", report.reason);
}

#[tokio::test]
async fn a_second_signal_ends_at_once_and_leaves_no_half_written_file() {
    let mut stage = Stage::new(FakePlane { is_stuck: true, ..FakePlane::default() }).await;
    let session = stage.working().await;
    session.say(CoordinatorMessage::Assign(test_assignment(5, 3))).await;
    eventually("it is journalled", || stage.journalled() == 1).await;
    for _ in 0..2 {
        stage.inbox.send(Event::SignalReceived).await.unwrap();
    }
    assert_eq!(stage.exit().await.code, 143);
    assert_eq!(*stage.plane.cleaned.lock().unwrap(), [AssignmentId(5)]);
    assert_eq!(stage.journalled(), 0);
}

#[tokio::test]
async fn keys_reach_the_check_of_tokens() {
    let mut stage = Stage::new(FakePlane::default()).await;
    let mut session = stage.session().await;
    session.welcome(Vec::new()).await;
    let keys = Keys { public: vec![vec![1, 2]], ..Keys::default() };
    session.say(CoordinatorMessage::VerificationKeys(keys)).await;
    tokio::time::timeout(Duration::from_secs(10), stage.keys.changed()).await.unwrap().unwrap();
    assert_eq!(stage.keys.borrow().public, [vec![1, 2]]);
}
