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
    /// Ended gRPC calls by path, `other` for what is no method; codes inside.
    grpc: BTreeMap<String, [IntCounter; CODES]>,
    grpc_vector: IntCounterVec,
}

/// Codes of gRPC, 0 to 16.
const CODES: usize = 17;

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
        let grpc_vector = counters(
            "orbit_grpc_calls_total",
            "gRPC calls that have ended, by method and code.",
            &["method", "code"],
        );
        let methods = json::descriptors().services().flat_map(|service| {
            let methods: Vec<String> = service
                .methods()
                .map(|method| format!("/{}/{}", service.full_name(), method.name()))
                .collect();
            methods
        });
        let grpc = methods.chain([OTHER.to_owned()]).map(|path| {
            let label = path.trim_start_matches("/orbit.v1.").to_owned();
            let codes = std::array::from_fn(|code| {
                let code = tonic::Code::from_i32(i32::try_from(code).unwrap_or_default());
                grpc_vector.with_label_values(&[label.as_str(), code_name(code)])
            });
            (path, codes)
        });
        let grpc = grpc.collect();
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
            grpc,
            grpc_vector,
        }
    }

    /// Counts a gRPC call that has ended.
    pub(crate) fn count_call(&self, path: &str, code: tonic::Code) {
        let codes = self.grpc.get(path).or_else(|| self.grpc.get(OTHER));
        if let Some(counter) = codes.and_then(|codes| codes.get(code as usize)) {
            counter.inc();
        }
    }

    /// The calls that were counted; methods that were never called are left out.
    pub(crate) fn calls(&self) -> &IntCounterVec {
        &self.grpc_vector
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
