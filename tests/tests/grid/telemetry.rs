//! Telemetry of the programs: one trace for each job at an OTLP collector, and log lines for machines.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use orbit_proto::v1;
use orbit_shared::trace_context::{TRACEPARENT, TraceContext};
use orbit_tests::client::Client;
use orbit_tests::deadline::within;
use orbit_tests::grid::{Grid, is_ready};
use orbit_tests::settled::assert_settled;
use orbit_tests::tree::plant_files;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// More files than fit into one assignment, and few enough to be copied at once.
const FILES: usize = 600;

/// An OTLP collector in this process.
struct Collector {
    arrivals: mpsc::Sender<(String, Span)>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            let word = |key: &str| {
                let found = attributes.iter().find(|attribute| attribute.key == key);
                match found.and_then(|attribute| attribute.value.clone()?.value) {
                    Some(Value::StringValue(text)) => text,
                    other => panic!("{key} of a resource is {other:?}"),
                }
            };
            let who = format!("{}/{}", word("service.name"), word("service.instance.id"));
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.arrivals.send((who.clone(), span)).await.expect("the test takes what arrives");
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn collector() -> (String, mpsc::Receiver<(String, Span)>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
    let (arrivals, arrived) = mpsc::channel(4096);
    let server =
        tonic::transport::Server::builder().add_service(TraceServiceServer::new(Collector { arrivals }));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (address, arrived)
}

async fn traced_grid(endpoint: &str) -> Grid {
    let mut grid = Grid::start_with(&[], &["--otlp-endpoint", endpoint]).await;
    for star in ["star-1", "star-2"] {
        let mut command = grid.star_command(star);
        command.args(["--otlp-endpoint", endpoint]);
        grid.launch_star(star, command).await;
        grid.client().wait_star(star, "receives work", is_ready).await;
    }
    grid
}

async fn create_within(client: &Client, spec: v1::JobSpec, caller: &str) -> u64 {
    let request = v1::CreateJobRequest { spec: Some(spec), ..v1::CreateJobRequest::default() };
    let mut request = Request::new(request);
    request.metadata_mut().insert(TRACEPARENT, caller.parse().expect("a header"));
    let created = within("a job to be created", client.jobs().create_job(request)).await;
    created.unwrap_or_else(|status| panic!("{status}")).into_inner().job.expect("a job is shown").job_id
}

/// Takes spans until all of a job have arrived. Each program sends its spans in the order of their ends: the job's span
/// comes after those of all its assignments, and that of an assignment after those of its pulls.
async fn spans_of(arrived: &mut mpsc::Receiver<(String, Span)>, trace_id: &[u8]) -> Vec<(String, Span)> {
    let mut spans: Vec<(String, Span)> = Vec::new();
    within("the spans of a job", async {
        loop {
            let of = |name: &'static str| spans.iter().filter(move |(_, span)| span.name == name);
            let has_part =
                |whole: &Span, part| of(part).any(|(_, span)| span.parent_span_id == whole.span_id);
            let is_complete = of("job").next().is_some()
                && of("scan").next().is_some()
                && of("assignment").all(|(_, assignment)| has_part(assignment, "work"))
                && of("pull").all(|(_, pull)| has_part(pull, "serve"));
            if is_complete {
                return;
            }
            let (who, span) = arrived.recv().await.expect("the collector runs");
            if span.trace_id == trace_id {
                spans.push((who, span));
            }
        }
    })
    .await;
    spans
}

#[tokio::test]
async fn a_job_is_one_trace_through_the_coordinator_and_both_stars() {
    let (endpoint, mut arrived) = collector().await;
    let grid = traced_grid(&endpoint).await;
    let client = grid.client();
    plant_files(&grid.root("star-1").join("tree"), FILES, 2000, 5);
    let caller = TraceContext::root(b"the test that asked");
    let job_id =
        create_within(&client, grid.copy_spec("tree", "star-1", &["star-2"]), &caller.to_string()).await;
    assert_settled(&client, job_id).await;

    let spans = spans_of(&mut arrived, &caller.trace_id().to_be_bytes()).await;
    let of = |name: &str| spans.iter().filter(|(_, span)| span.name == name).collect::<Vec<_>>();
    let by_id: BTreeMap<&[u8], &str> =
        spans.iter().map(|(_, span)| (&span.span_id[..], span.name.as_str())).collect();
    assert_eq!(by_id.len(), spans.len(), "two spans have one identifier");
    let (_, job) = of("job")[0];
    assert_eq!(job.parent_span_id, caller.span_id().to_be_bytes(), "the job is part of what asked for it");
    for (name, who, parent) in [
        ("job", "orbit-coordinator/coordinator", None),
        ("assignment", "orbit-coordinator/coordinator", Some("job")),
        ("scan", "orbit-star/star-1", Some("job")),
        ("work", "orbit-star/star-2", Some("assignment")),
        ("pull", "orbit-star/star-2", Some("work")),
        ("serve", "orbit-star/star-1", Some("pull")),
    ] {
        for (told_by, span) in of(name) {
            assert_eq!(told_by, who, "{name}");
            assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{span:?}");
            let found = by_id.get(&span.parent_span_id[..]).copied();
            assert!(parent.is_none() || found == parent, "{name} is part of {found:?}");
        }
    }
    assert!(of("assignment").len() > 1 && !of("pull").is_empty());
    // The number depends on assignments, not on items.
    assert!(spans.len() < FILES / 10, "{} spans for {FILES} files", spans.len());
}

#[tokio::test]
async fn a_job_without_a_callers_trace_has_its_own_trace() {
    let (endpoint, mut arrived) = collector().await;
    let grid = traced_grid(&endpoint).await;
    let client = grid.client();
    plant_files(&grid.root("star-1").join("tree"), 3, 2000, 5);
    let bad = "00-00000000000000000000000000000000-0000000000000000-01";
    let mut traces = Vec::new();
    for place in ["tree", "tree/d0000"] {
        let job_id = create_within(&client, grid.copy_spec(place, "star-1", &["star-2"]), bad).await;
        assert_settled(&client, job_id).await;
        let job = within("the span of a job", async {
            loop {
                let (_, span) = arrived.recv().await.expect("the collector runs");
                if span.name == "job" {
                    return span;
                }
            }
        })
        .await;
        assert!(job.parent_span_id.is_empty(), "{job:?}");
        traces.push(job.trace_id);
    }
    assert_ne!(traces[0], traces[1]);
}

#[tokio::test]
async fn the_command_line_passes_the_trace_of_its_caller_on() {
    let (endpoint, mut arrived) = collector().await;
    let grid = traced_grid(&endpoint).await;
    plant_files(&grid.root("star-1").join("tree"), 3, 2000, 5);
    let caller = TraceContext::root(b"a script");
    let place = |star: &str| format!("{star}:{}", grid.root(star).join("tree").display());
    let mut command = tokio::process::Command::new(orbit_tests::programs::program("orbit"));
    command.args(["job", "create", &place("star-1"), &place("star-2"), "--wait"]);
    command.args(["--coordinator", &format!("http://{}", grid.address())]);
    command.env("TRACEPARENT", caller.to_string());
    let output = within("orbit job create", command.output()).await.expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let spans = within("the span of the job", async {
        let mut spans = Vec::new();
        while spans.iter().all(|span: &Span| span.name != "job") {
            spans.push(arrived.recv().await.expect("the collector runs").1);
        }
        spans
    })
    .await;
    let job = spans.iter().find(|span| span.name == "job").expect("it was waited for");
    assert_eq!(job.trace_id, caller.trace_id().to_be_bytes());
    assert_eq!(job.parent_span_id, caller.span_id().to_be_bytes());
}

#[tokio::test]
async fn a_missing_collector_delays_nothing_and_is_logged_once() {
    // Bound and dropped: no process listens there now.
    let nobody =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let mut grid = traced_grid(&format!("http://{nobody}")).await;
    let client = grid.client();
    plant_files(&grid.root("star-1").join("tree"), 3, 2000, 5);
    let job_id = client.create(grid.copy_spec("tree", "star-1", &["star-2"])).await;
    assert_settled(&client, job_id).await;
    grid.coordinator().says("spans are lost").await;
    assert_eq!(grid.coordinator().errors().matches("spans are lost").count(), 1);
}

#[tokio::test]
async fn an_invalid_endpoint_is_refused_with_its_flag() {
    for program in ["orbit-coordinator", "orbit-star"] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = tokio::process::Command::new(orbit_tests::programs::program(program));
        command.args(["--otlp-endpoint", "collector:4317", "--listen", "127.0.0.1:0"]);
        if program == "orbit-star" {
            command.args([
                "--star-id",
                "a",
                "--coordinator",
                "http://127.0.0.1:1",
                "--root",
                "/tmp",
                "--vault",
            ]);
        } else {
            command.args(["--http-listen", "127.0.0.1:0", "--data-dir"]);
        }
        let output = within("a refusal", command.arg(directory.path().join("state")).output()).await;
        let output = output.expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("--otlp-endpoint collector:4317"), "{said}");
        assert!(!directory.path().join("state").exists(), "a refused start left something behind");
    }
}

#[tokio::test]
async fn log_lines_are_json_objects_with_star_job_and_path_when_asked() {
    let mut grid = Grid::start_with(&[], &["--log-format", "json"]).await;
    for star in ["star-1", "star-2"] {
        let mut command = grid.star_command(star);
        command.args(["--log-format", "json"]);
        grid.launch_star(star, command).await;
        grid.client().wait_star(star, "receives work", is_ready).await;
    }
    let client = grid.client();
    let tree = grid.root("star-1").join("tree");
    plant_files(&tree, 3, 2000, 5);
    // A FIFO cannot be moved: it causes a dead letter, a bulletin, and a job that ends without it.
    rustix::fs::mknodat(rustix::fs::CWD, tree.join("pi\npe"), rustix::fs::FileType::Fifo, 0o644.into(), 0)
        .expect("a pipe can be made");
    let job_id = client.create(grid.copy_spec("tree", "star-1", &["star-2"])).await;
    let job = client.wait_end(job_id).await;
    assert_eq!(job.state(), v1::JobState::PartiallyCompleted, "{job:?}");
    grid.coordinator().says("a job has ended").await;

    let mut lines: Vec<serde_json::Value> = Vec::new();
    for log in [grid.coordinator().errors(), grid.star("star-1").errors(), grid.star("star-2").errors()] {
        for line in log.lines() {
            let parsed = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let serde_json::Value::Object(_) = parsed else { panic!("{line} is no object") };
            lines.push(parsed);
        }
    }
    for line in &lines {
        assert!(
            line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string(),
            "{line}"
        );
    }
    let about = |message: &str| {
        let found =
            lines.iter().find(|line| line["message"].as_str().is_some_and(|text| text.contains(message)));
        found.unwrap_or_else(|| panic!("no line says {message:?}:\n{lines:#?}"))
    };
    let begun = about("a job has begun");
    assert_eq!((&begun["job"], &begun["star"]), (&job_id.into(), &"star-1".into()), "{begun}");
    assert_eq!(begun["path"].as_str(), tree.to_str());
    let ended = about("a job has ended without some items");
    assert_eq!((&ended["level"], &ended["job"], &ended["dead"]), (&"WARN".into(), &job_id.into(), &1.into()));
    let is_about_it = |line: &&serde_json::Value| line["category"].is_string() && line["job"] == job_id;
    let bulletin =
        lines.iter().find(is_about_it).unwrap_or_else(|| panic!("no bulletin about it:\n{lines:#?}"));
    assert!(bulletin["bulletin"].is_u64() && bulletin["star"].is_string(), "{bulletin}");
    assert_eq!(
        about("lifecycle: scheduled")["star"].as_str().map(|star| star.starts_with("star-")),
        Some(true)
    );
}
