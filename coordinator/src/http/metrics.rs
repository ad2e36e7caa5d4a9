//! `/metrics`: the state of the grid and what this process measures of itself, in the text format of Prometheus.
//!
//! The state is read when it is asked for, in one look between two turns; nothing is kept for it. Labels are closed sets,
//! and the names of Stars, of which there are as many as `limits` says; jobs and items are no labels. What each metric
//! means stands in `docs/metrics.md`, which a test compares with what is served.

mod kept;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use orbit_shared::backpressure::BackpressureState;
use orbit_shared::bulletin::BulletinCounts;
use orbit_shared::dead_letter::FailureKind;
use orbit_shared::health_monitor::{AdvisoryKind, HealthSample};
use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::time::Now;
use prometheus::core::Collector as _;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder as _, TextEncoder};

use self::kept::Kept;
use self::upkeep::Upkeep;
use super::Http;
use super::link::Link;
use super::problem::of_status;
use crate::core::{Core, JobState, Liveness, Star, Totals};
use crate::grpc::status::{internal, refused};
use crate::meters::{Meters, OTHER};

/// Counts an HTTP request that was answered.
pub(super) async fn count(State(meters): State<Arc<Meters>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST") => known,
        _ => OTHER,
    }
    .to_owned();
    let response = next.run(request).await;
    let route = route.unwrap_or_else(|| OTHER.to_owned());
    meters.http.with_label_values(&[&*method, &*route, response.status().as_str()]).inc();
    response
}

/// All metrics.
pub(super) async fn page(State(http): State<Http>, request: Request) -> Response {
    let _place = match http.shares.metrics.enter(Link::of(&request).as_ref()) {
        Ok(place) => place,
        Err(refusal) => return *refusal,
    };
    let watching = http.shares.streams.count();
    // Only numbers are copied while the core is looked at; it has other things to do than to wait for text.
    let bulletins = http.faces.inbox.board().counts();
    let seen = match http.faces.inbox.view(move |core, now| Seen::of(core, now, bulletins)).await {
        Ok(seen) => seen,
        Err(refusal) => return of_status(&refused(refusal)),
    };
    let mut page = Page::default();
    page.jobs(&seen);
    page.stars(&seen.stars);
    page.trouble(&seen);
    page.upkeep(&seen.upkeep);
    page.certificates(http.faces.identities.as_ref());
    page.kept(&Kept::read(&http.faces).await);
    page.gauge("orbit_watchers", "Readers of /api/events.", [(vec![], watching as f64)]);
    let mut families = page.families;
    let meters = &http.faces.meters;
    families.extend(meters.http.collect());
    families.extend(meters.grpc.collect());
    families.extend(meters.slowed.collect());
    for histogram in [&meters.commit, &meters.driver_wait, &meters.runtime_lag] {
        families.extend(histogram.collect());
    }
    // What was never counted has no line, and a family without a line has no text.
    families.retain(|family| !family.get_metric().is_empty());
    let mut text = Vec::new();
    match TextEncoder::new().encode(&families, &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            of_status(&internal("METRICS_FAILED", &format!("the metrics cannot be written: {error}")))
        }
    }
}

/// The state of the grid in one look.
struct Seen {
    jobs: BTreeMap<JobState, u64>,
    totals: Totals,
    open: u64,
    in_flight: u64,
    penalized: u64,
    bytes_per_second: u64,
    sessions: u64,
    late: u64,
    stars: Vec<SeenStar>,
    dead_letters: BTreeMap<FailureKind, u64>,
    bulletins: BulletinCounts,
    upkeep: Upkeep,
}

/// A Star in it.
struct SeenStar {
    name: String,
    is_cordoned: bool,
    assignments: usize,
    advisories: Vec<AdvisoryKind>,
    guard: BackpressureState,
    is_paused: bool,
    state: LifecycleState,
    liveness: Liveness,
    sample: Option<HealthSample>,
}

impl Seen {
    fn of(core: &Core, now: Now, bulletins: BulletinCounts) -> Self {
        let mut dead_letters: BTreeMap<_, u64> = FailureKind::ALL.iter().map(|kind| (*kind, 0)).collect();
        for letter in core.dead_letters().entries() {
            *dead_letters.entry(letter.failure_reason.kind()).or_default() += 1;
        }
        Self {
            jobs: core.jobs_by_state(),
            totals: core.totals(),
            open: core.open_count(),
            in_flight: core.in_flight_count() as u64,
            penalized: core.penalized_count() as u64,
            bytes_per_second: core.bytes_per_second(now),
            sessions: core.session_count() as u64,
            late: core.late_count(),
            stars: core.stars().map(|star| SeenStar::of(core, star)).collect(),
            dead_letters,
            bulletins,
            upkeep: Upkeep::of(core),
        }
    }
}

impl SeenStar {
    fn of(core: &Core, star: &Star) -> Self {
        let kinds = star.advisories.iter().map(|notice| notice.kind);
        Self {
            name: star.record.star_id.to_string(),
            is_cordoned: star.record.is_cordoned,
            assignments: core.held_count(star),
            advisories: kinds.filter(|kind| *kind != AdvisoryKind::Healthy).collect(),
            guard: star.guard.state(),
            is_paused: star.guard.is_paused(),
            state: star.state(),
            liveness: star.liveness,
            sample: star.samples.back().map(|timed| timed.sample),
        }
    }
}

/// Labels of one sample, and its value.
type Sample<'a> = (Vec<(&'static str, &'a str)>, f64);

#[derive(Default)]
struct Page {
    families: Vec<MetricFamily>,
}

impl Page {
    fn gauge<'a>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Sample<'a>>) {
        self.family(MetricType::GAUGE, name, help, samples);
    }

    fn counter<'a>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Sample<'a>>) {
        self.family(MetricType::COUNTER, name, help, samples);
    }

    fn family<'a>(
        &mut self,
        kind: MetricType,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = Sample<'a>>,
    ) {
        let metrics = samples.into_iter().map(|(labels, value)| {
            let labels = labels.into_iter().map(|(name, value)| {
                let mut pair = LabelPair::default();
                pair.set_name(name.to_owned());
                pair.set_value(value.to_owned());
                pair
            });
            let mut metric = Metric::default();
            metric.set_label(labels.collect());
            if kind == MetricType::COUNTER {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            } else {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            metric
        });
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics.collect());
        self.families.push(family);
    }

    fn jobs(&mut self, seen: &Seen) {
        let jobs =
            seen.jobs.iter().map(|(state, count)| (vec![("state", state_name(*state))], *count as f64));
        self.gauge("orbit_jobs", "Jobs that are remembered, by state.", jobs);
        let totals = seen.totals;
        self.counter(
            "orbit_items_total",
            "Items that were settled since the start, by outcome; penalized counts attempts that failed and are tried again.",
            [
                ("stored", totals.stored),
                ("skipped", totals.skipped),
                ("dead", totals.dead),
                ("penalized", totals.penalized),
            ]
            .map(|(outcome, count)| (vec![("outcome", outcome)], count as f64)),
        );
        for (name, help, bytes) in [
            (
                "orbit_stored_bytes_total",
                "Bytes of files that were stored, or found unchanged, since the start.",
                totals.bytes_stored,
            ),
            (
                "orbit_transferred_bytes_total",
                "Bytes of settled files that crossed from Star to Star since the start.",
                totals.bytes_transferred,
            ),
            (
                "orbit_deduplicated_bytes_total",
                "Bytes of settled files that did not have to cross because the destination had them, since the start.",
                totals.bytes_deduplicated,
            ),
        ] {
            self.counter(name, help, [(vec![], bytes as f64)]);
        }
        let waiting = seen.open.saturating_sub(seen.in_flight + seen.penalized);
        for (name, help, value) in [
            ("orbit_items_queued", "Items that wait for their turn.", waiting),
            ("orbit_items_in_flight", "Items that Stars work on.", seen.in_flight),
            ("orbit_items_penalized", "Items that failed and wait for another attempt.", seen.penalized),
            (
                "orbit_bytes_per_second",
                "Bytes of file content that cross between Stars in a second, over the last ten seconds.",
                seen.bytes_per_second,
            ),
            ("orbit_sessions", "Sessions of Stars that are open.", seen.sessions),
        ] {
            self.gauge(name, help, [(vec![], value as f64)]);
        }
        self.counter(
            "orbit_late_reports_total",
            "Reports and batches of scans that came too late to count and changed nothing, since the start.",
            [(vec![], seen.late as f64)],
        );
    }

    fn stars(&mut self, stars: &[SeenStar]) {
        let each = |read: fn(&SeenStar) -> f64| {
            stars.iter().map(move |star| (vec![("star_id", star.name.as_str())], read(star)))
        };
        for (metric, help, read) in [
            (
                "orbit_star_cordoned",
                "1 for a Star that an operator keeps work away from.",
                (|star| f64::from(star.is_cordoned)) as fn(&SeenStar) -> f64,
            ),
            ("orbit_star_assignments", "Assignments that a Star holds.", |star| star.assignments as f64),
            (
                "orbit_star_advisories",
                "Advisories of a Star's health monitor that hold, healthy apart.",
                |star| star.advisories.len() as f64,
            ),
            ("orbit_guard_objects", "Items that a Star holds.", |star| star.guard.object_count as f64),
            ("orbit_guard_objects_max", "Items that a Star may hold.", |star| {
                star.guard.max_object_count as f64
            }),
            ("orbit_guard_bytes", "Bytes of the items that a Star holds.", |star| {
                star.guard.byte_size as f64
            }),
            ("orbit_guard_bytes_max", "Bytes of the items that a Star may hold.", |star| {
                star.guard.max_byte_size as f64
            }),
            ("orbit_guard_accepting", "1 for a Star that would be sent another item.", |star| {
                f64::from(!star.guard.is_backpressured)
            }),
            (
                "orbit_guard_paused",
                "1 for a Star whose guard is paused, by an operator or by its health.",
                |star| f64::from(star.is_paused),
            ),
        ] {
            self.gauge(metric, help, each(read));
        }
        let states = stars.iter().flat_map(|star| {
            LIFECYCLES.map(|(state, label)| {
                (vec![("star_id", star.name.as_str()), ("state", label)], f64::from(star.state == state))
            })
        });
        self.gauge("orbit_star_state", "1 for the lifecycle state that a Star is in.", states);
        let livenesses = stars.iter().flat_map(|star| {
            LIVENESSES.map(|(liveness, label)| {
                let is_so = f64::from(star.liveness == liveness);
                (vec![("star_id", star.name.as_str()), ("liveness", label)], is_so)
            })
        });
        self.gauge("orbit_star_liveness", "1 for the liveness that a Star is in.", livenesses);
        let advisories = stars.iter().flat_map(|star| {
            let kinds = AdvisoryKind::ALL.iter().filter(|kind| **kind != AdvisoryKind::Healthy);
            kinds.map(move |kind| {
                let holds = f64::from(star.advisories.contains(kind));
                (vec![("star_id", star.name.as_str()), ("type", kind.as_str())], holds)
            })
        });
        self.gauge("orbit_star_advisory", "1 for a type of advisory that holds for a Star.", advisories);
        let sampled = stars.iter().filter_map(|star| Some((star.name.as_str(), star.sample?)));
        self.samples(&sampled.collect::<Vec<_>>());
    }

    /// The last health sample of each Star that has sent one.
    fn samples(&mut self, sampled: &[(&str, HealthSample)]) {
        let each = |read: fn(&HealthSample) -> f64| {
            sampled.iter().map(move |(name, sample)| (vec![("star_id", *name)], read(sample)))
        };
        self.gauge(
            "orbit_star_disk_available_bytes",
            "Bytes that can still be written, on the fullest of a Star's writable roots.",
            each(|sample| sample.disk_available_bytes as f64),
        );
        self.gauge(
            "orbit_star_disk_bytes",
            "Size of that file system; 0 if it is not known.",
            each(|sample| sample.disk_total_bytes as f64),
        );
        self.gauge(
            "orbit_star_throughput_bytes_per_second",
            "File content that a Star moved in a second, sent and received.",
            each(|sample| sample.throughput_bytes_per_sec as f64),
        );
        self.counter(
            "orbit_star_errors_total",
            "Operations of a Star that failed since its process started.",
            each(|sample| sample.error_count as f64),
        );
        self.counter(
            "orbit_star_operations_total",
            "Operations of a Star since its process started.",
            each(|sample| sample.total_operations as f64),
        );
    }

    fn trouble(&mut self, seen: &Seen) {
        let letters =
            seen.dead_letters.iter().map(|(kind, count)| (vec![("reason", kind.as_str())], *count as f64));
        self.gauge("orbit_dead_letters", "Items that were given up and are kept, by reason.", letters);
        let counts = seen.bulletins;
        let bulletins = [("info", counts.info), ("warning", counts.warnings), ("error", counts.errors)];
        self.gauge(
            "orbit_bulletins",
            "Bulletins on the board, by severity.",
            bulletins.map(|(severity, count)| (vec![("severity", severity)], count as f64)),
        );
        self.counter(
            "orbit_bulletins_posted_total",
            "Bulletins that were posted since the start, repeats included.",
            [(vec![], counts.posted as f64)],
        );
    }
}

const LIFECYCLES: [(LifecycleState, &str); 4] = [
    (LifecycleState::Registered, "registered"),
    (LifecycleState::Scheduled, "scheduled"),
    (LifecycleState::Draining, "draining"),
    (LifecycleState::Shutdown, "shutdown"),
];

const LIVENESSES: [(Liveness, &str); 3] =
    [(Liveness::Alive, "alive"), (Liveness::Suspect, "suspect"), (Liveness::Lost, "lost")];

fn state_name(state: JobState) -> &'static str {
    match state {
        JobState::Scanning => "scanning",
        JobState::Running => "running",
        JobState::Paused => "paused",
        JobState::Completed => "completed",
        JobState::PartiallyCompleted => "partially_completed",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
    }
}
