//! `/metrics`: the metrics are those of `docs/metrics.md`, their labels have fixed values, and their numbers are right.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use orbit_proto::v1;
use orbit_tests::deadline::eventually;
use orbit_tests::grid::{Grid, is_ready};
use orbit_tests::http::Http;
use orbit_tests::tree::plant_files;

/// One line of samples: name, labels and value.
type Samples = BTreeMap<(String, BTreeMap<String, String>), f64>;

struct Metrics {
    /// Kind and help by name.
    families: BTreeMap<String, (String, String)>,
    samples: Samples,
}

impl Metrics {
    async fn read(http: &Http) -> Self {
        let answered = http.get("/metrics").await;
        assert_eq!(answered.status, 200, "{}", answered.text);
        assert!(answered.header("content-type").starts_with("text/plain"), "{:?}", answered.headers);
        Self::parse(&answered.text)
    }

    fn parse(text: &str) -> Self {
        let mut families: BTreeMap<String, (String, String)> = BTreeMap::new();
        let mut samples = Samples::new();
        for line in text.lines() {
            if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
                families.entry(name.to_owned()).or_default().1 = help.to_owned();
            } else if let Some((name, kind)) =
                line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
            {
                families.entry(name.to_owned()).or_default().0 = kind.to_owned();
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let labels = labels.trim_end_matches('}').split("\",").filter(|pair| !pair.is_empty());
                let labels = labels.map(|pair| {
                    let (label, value) = pair.split_once("=\"").expect("a label has a value");
                    (label.to_owned(), value.trim_end_matches('"').to_owned())
                });
                let key = (name.to_owned(), labels.collect());
                let before = samples.insert(key, value.parse().expect("a value is a number"));
                assert!(before.is_none(), "twice: {line}");
            }
        }
        Self { families, samples }
    }

    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned()));
        let key = (name.to_owned(), labels.collect());
        *self.samples.get(&key).unwrap_or_else(|| panic!("no {key:?} in {:#?}", self.samples.keys()))
    }

    /// The family of a sample: a histogram has several names.
    fn family_of<'a>(&'a self, name: &'a str) -> &'a str {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        base.filter(|base| self.families.get(*base).is_some_and(|(kind, _)| kind == "histogram"))
            .unwrap_or(name)
    }
}

/// A grid in which everything that is measured has happened once.
async fn eventful_grid() -> (Grid, Http) {
    let mut grid = Grid::start(&["star-2"]).await;
    grid.launch_star("star-1", grid.powerless_star_command("star-1")).await;
    let client = grid.client();
    client.wait_star("star-1", "receives work", is_ready).await;
    let tree = grid.root("star-1").join("tree");
    plant_files(&tree, 20, 5000, 3);
    std::fs::write(tree.join("secret"), "not to be read").expect("a file can be written");
    std::fs::set_permissions(tree.join("secret"), std::os::unix::fs::PermissionsExt::from_mode(0o000))
        .expect("a mode can be set");
    for _ in 0..2 {
        let job_id = client.create(grid.copy_spec("tree", "star-1", &["star-2"])).await;
        client.wait_end(job_id).await;
    }
    let http = Http::new(grid.http_address());
    // Every Star has sent a health sample, and the samplers have run.
    eventually("health samples", async || {
        let page = Metrics::read(&http).await;
        let of = |star| {
            page.samples.keys().any(|(name, labels)| {
                name == "orbit_star_disk_bytes" && labels.get("star_id").is_some_and(|id| id == star)
            })
        };
        (of("star-1") && of("star-2")).then_some(())
    })
    .await;
    (grid, http)
}

#[tokio::test]
async fn the_served_metrics_are_the_documented_ones() {
    let (grid, http) = eventful_grid().await;
    let page = a_schedule_succeeds(&grid, &http).await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let document = std::fs::read_to_string(path).expect("docs/metrics.md can be read");
    let mut documented = BTreeMap::new();
    for row in document.lines().filter(|line| line.starts_with("| `orbit_")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let labels: BTreeSet<String> = cells[2]
            .split(',')
            .map(|label| label.trim().trim_matches('`').to_owned())
            .filter(|label| !label.is_empty())
            .collect();
        let name = cells[0].trim_matches('`').to_owned();
        documented.insert(name, (cells[1].to_owned(), labels, cells[3].to_owned()));
    }
    // Without TLS there are no certificates; the tests of TLS check this metric.
    assert!(documented.remove("orbit_certificate_end_time_seconds").is_some());
    let mut served = BTreeMap::new();
    for (name, (kind, help)) in &page.families {
        let of_family = page.samples.keys().filter(|(sample, _)| page.family_of(sample) == name);
        let labels = of_family.flat_map(|(_, labels)| labels.keys().cloned()).filter(|label| label != "le");
        served.insert(name.clone(), (kind.clone(), labels.collect::<BTreeSet<_>>(), help.clone()));
    }
    assert_eq!(served, documented, "left: served, right: docs/metrics.md");
    for (name, _) in page.samples.keys() {
        assert!(page.families.contains_key(page.family_of(name)), "{name} has no TYPE");
    }
}

/// A schedule stores a tree in a vault. Returns the metrics once they show it.
async fn a_schedule_succeeds(grid: &Grid, http: &Http) -> Metrics {
    plant_files(&grid.root("star-1").join("kept"), 3, 500, 4);
    let interval = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
    let request = v1::CreateScheduleRequest {
        spec: Some(grid.packed_spec("kept", "star-1", &["star-2"])),
        times: Some(v1::ScheduleTimes { interval, daily_times: Vec::new() }),
        ..v1::CreateScheduleRequest::default()
    };
    grid.client().schedules().create_schedule(request).await.expect("makes a schedule");
    let schedule = [("schedule_id", "1")];
    let page = eventually("the schedule's first success and the size of the vault", async || {
        let page = Metrics::read(http).await;
        let has_succeeded = page.value("orbit_schedule_last_success_time_seconds", &schedule) > 0.0;
        // A heartbeat after the last item has the size of the vault.
        let has_vault = || page.value("orbit_vault_bytes", &[("star_id", "star-2")]) > 0.0;
        (has_succeeded && has_vault()).then_some(page)
    })
    .await;
    let now = page.value("orbit_schedule_last_success_time_seconds", &schedule);
    let next = page.value("orbit_schedule_next_time_seconds", &schedule);
    assert!((0.0..=3600.0).contains(&(next - now)), "{now} {next}");
    let made = http.post("/api/backups", &serde_json::json!({})).await;
    assert_eq!(made.status, 200, "{made:?}");
    let page = Metrics::read(http).await;
    assert_eq!(page.value("orbit_backups", &[]), 1.0);
    assert!((now - page.value("orbit_backup_newest_time_seconds", &[])).abs() < 3600.0);
    assert!(page.value("orbit_store_bytes", &[]) > 0.0 && page.value("orbit_event_log_bytes", &[]) > 0.0);
    let star = [("star_id", "star-2")];
    assert_eq!(page.value("orbit_snapshots", &star), 1.0);
    assert!((now - page.value("orbit_snapshot_newest_time_seconds", &star)).abs() < 3600.0);
    page
}

#[tokio::test]
async fn the_numbers_are_right_and_nothing_grows_with_jobs() {
    let (grid, http) = eventful_grid().await;
    let page = Metrics::read(&http).await;
    assert_eq!(page.value("orbit_jobs", &[("state", "partially_completed")]), 2.0);
    assert_eq!(page.value("orbit_jobs", &[("state", "running")]), 0.0);
    let items = |outcome| page.value("orbit_items_total", &[("outcome", outcome)]);
    // 20 files and the directories; the second job finds all of them.
    let directories = items("stored") - 20.0;
    assert!(directories >= 1.0, "{directories}");
    assert!(items("skipped") >= 20.0, "{}", items("skipped"));
    assert_eq!(items("dead"), 2.0);
    assert_eq!(page.value("orbit_dead_letters", &[("reason", "permanent_error")]), 2.0);
    let stored = page.value("orbit_stored_bytes_total", &[]);
    assert!((100_000.0..=250_000.0).contains(&stored), "{stored}");
    assert!(page.value("orbit_transferred_bytes_total", &[]) >= 100_000.0);
    assert_eq!(page.value("orbit_items_queued", &[]), 0.0);
    assert_eq!(page.value("orbit_items_in_flight", &[]), 0.0);
    assert_eq!(page.value("orbit_sessions", &[]), 2.0);
    assert_eq!(page.value("orbit_star_state", &[("star_id", "star-1"), ("state", "scheduled")]), 1.0);
    assert_eq!(page.value("orbit_star_liveness", &[("star_id", "star-1"), ("liveness", "lost")]), 0.0);
    assert_eq!(page.value("orbit_guard_objects", &[("star_id", "star-2")]), 0.0);
    assert!(page.value("orbit_guard_objects_max", &[("star_id", "star-2")]) > 0.0);
    assert!(page.value("orbit_store_commit_seconds_count", &[]) > 3.0);
    assert!(
        page.value("orbit_grpc_calls_total", &[("method", "JobService/CreateJob"), ("code", "OK")]) >= 2.0
    );
    let missing = grid.client().jobs().get_job(v1::GetJobRequest { job_id: 99 }).await;
    missing.expect_err("there is no such job");
    http.get("/api/jobs/99").await;
    http.get("/some/thing/that/is/not/there").await;
    let later = Metrics::read(&http).await;
    assert_eq!(
        later.value("orbit_grpc_calls_total", &[("method", "JobService/GetJob"), ("code", "NOT_FOUND")]),
        1.0
    );
    let route = [("method", "GET"), ("route", "/api/jobs/{job_id}"), ("status", "404")];
    assert_eq!(later.value("orbit_http_requests_total", &route), 1.0);
    assert_eq!(
        later.value("orbit_http_requests_total", &[("method", "GET"), ("route", "other"), ("status", "404")]),
        1.0
    );
    // Another job increases numbers, and adds no line.
    let lines =
        |page: &Metrics| page.samples.keys().filter(|(name, _)| !name.starts_with("orbit_grpc")).count();
    let before = Metrics::read(&http).await;
    let job_id = grid.client().create(grid.copy_spec("tree", "star-1", &["star-2"])).await;
    grid.client().wait_end(job_id).await;
    assert_eq!(lines(&Metrics::read(&http).await), lines(&before));
}
