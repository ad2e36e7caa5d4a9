//! What this process measures of itself while it runs; `http/metrics` shows it beside the state of the grid.
//!
//! Labels are closed sets: methods of the API, routes of the table, codes.

use std::collections::BTreeMap;

use orbit_proto::json;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts};

/// From a tenth of a millisecond to ten seconds: what a disk or a busy machine may take.
const SECONDS: [f64; 11] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0];

/// The label of what has no name of its own.
pub(crate) const OTHER: &str = "other";

/// The meters of one coordinator.
#[derive(Debug)]
pub(crate) struct Meters {
    /// Making the changes of a turn durable, provenance included.
    pub(crate) commit: Histogram,
    /// From a question to its answer between two turns.
    pub(crate) driver_wait: Histogram,
    /// How much later than asked a timer of the runtime fires.
    pub(crate) runtime_lag: Histogram,
    /// Answered HTTP requests.
    pub(crate) http: IntCounterVec,
    /// Ended gRPC calls by method and code; those that never came have no line.
    pub(crate) grpc: IntCounterVec,
    /// Messages of Stars that had to wait because their session sent too many.
    pub(crate) slowed: IntCounter,
    /// The label of each method by its path.
    methods: BTreeMap<String, String>,
}

impl Meters {
    /// Meters that have counted nothing.
    pub(crate) fn new() -> Self {
        let histogram = |name, help| {
            let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
            Histogram::with_opts(options).expect("the name and the buckets of a histogram are well formed")
        };
        let counters = |name, help, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels);
            made.expect("the name and the labels of a counter are well formed")
        };
        let methods = json::descriptors().services().flat_map(|service| {
            let named = |name: &str| {
                (format!("/{}/{name}", service.full_name()), format!("{}/{name}", service.name()))
            };
            service.methods().map(|method| named(method.name())).collect::<Vec<_>>()
        });
        Self {
            commit: histogram(
                "orbit_store_commit_seconds",
                "Time to make the changes of one turn durable, provenance included.",
            ),
            driver_wait: histogram(
                "orbit_driver_wait_seconds",
                "Time from a question to the driver until its answer, sampled every 2 seconds.",
            ),
            runtime_lag: histogram(
                "orbit_runtime_lag_seconds",
                "How much later than asked a timer of the runtime fires, sampled every 2 seconds.",
            ),
            http: counters(
                "orbit_http_requests_total",
                "HTTP requests that were answered, by method, route and status.",
                &["method", "route", "status"],
            ),
            grpc: counters(
                "orbit_grpc_calls_total",
                "gRPC calls that have ended, by method and code.",
                &["method", "code"],
            ),
            slowed: IntCounter::new(
                "orbit_session_messages_slowed_total",
                "Messages of Stars that had to wait because their session sent more than it may.",
            )
            .expect("the name of a counter is well formed"),
            methods: methods.collect(),
        }
    }

    /// Counts a gRPC call that has ended.
    pub(crate) fn count_call(&self, path: &str, code: tonic::Code) {
        // What is no method of ours may be called anything, and a label may not.
        let method = self.methods.get(path).map_or(OTHER, String::as_str);
        self.grpc.with_label_values(&[method, code_name(code)]).inc();
    }
}

/// The name of a code in gRPC, as `google.rpc.Code` spells it.
pub(crate) fn code_name(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
