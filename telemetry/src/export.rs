//! Sends spans to a collector: OTLP over gRPC, in batches, from a bounded queue.
//!
//! The traced code never waits for a collector: when the queue is full, spans are dropped. A failure of the collector
//! is logged once, and its recovery once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanExporter, SpanLinks, SpanProcessor as _,
};

use crate::spans::{EndedSpan, Field, Kind};

/// Maximum number of spans in the queue. Further ones are dropped.
const QUEUE_MAX: usize = 4096;
/// Maximum number of spans in one request.
const BATCH_MAX: usize = 512;
/// How long a span can wait for others to fill a batch.
const BATCH_DELAY: Duration = Duration::from_secs(1);
/// Timeout of a request to the collector.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the end of a program waits for the last spans to be sent.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// The process that the spans come from.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The program.
    pub service: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The instance: a Star's name.
    pub instance: String,
}

/// Why no spans can be sent.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The address is not usable.
    #[error(
        "--otlp-endpoint {endpoint}: {problem}; write the gRPC address of an OTLP collector, such as http://127.0.0.1:4317"
    )]
    Endpoint {
        /// The address.
        endpoint: String,
        /// The problem.
        problem: String,
    },
}

/// A running exporter.
#[derive(Debug)]
pub struct Exporting {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

impl Exporting {
    /// Sends spans to the collector at `endpoint`, `http://HOST:PORT`. Must be called within a Tokio runtime, on which
    /// the connection runs. Does not check whether a collector is there: it may start later than this process.
    ///
    /// # Errors
    /// The address is not valid.
    pub fn start(endpoint: &str, identity: Identity) -> Result<Self, ExportError> {
        let wrong = |problem: String| ExportError::Endpoint { endpoint: endpoint.to_owned(), problem };
        if !endpoint.starts_with("http://") {
            return Err(wrong("only http:// is spoken".to_owned()));
        }
        let exporter =
            OtlpExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(ANSWER_TIMEOUT);
        let exporter = exporter.build().map_err(|error| wrong(error.to_string()))?;
        let exporter =
            Telling { exporter, endpoint: endpoint.to_owned(), is_failing: AtomicBool::new(false) };
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_MAX)
            .with_max_export_batch_size(BATCH_MAX)
            .with_scheduled_delay(BATCH_DELAY)
            .build();
        let mut processor = BatchSpanProcessor::new(exporter, config);
        let attributes = [
            KeyValue::new("service.name", identity.service),
            KeyValue::new("service.version", identity.version),
            KeyValue::new("service.instance.id", identity.instance),
        ];
        processor.set_resource(&Resource::builder_empty().with_attributes(attributes).build());
        let scope = InstrumentationScope::builder("orbit").with_version(identity.version).build();
        Ok(Self { processor, scope })
    }

    /// Puts a span into the queue, or drops it when that is full.
    pub(crate) fn record(&self, span: EndedSpan) {
        let context = |span_id| {
            let trace_id = TraceId::from_bytes(span.context.trace_id().to_be_bytes());
            let span_id = SpanId::from_bytes(u64::to_be_bytes(span_id));
            SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, false, TraceState::default())
        };
        let attribute = |(key, field)| match field {
            Field::Text(text) => KeyValue::new(key, text),
            Field::Number(number) => KeyValue::new(key, Value::I64(number)),
        };
        let span_context = context(span.context.span_id());
        self.processor.on_end(SpanData {
            span_context,
            parent_span_id: span.parent.map_or(SpanId::INVALID, |id| SpanId::from_bytes(id.to_be_bytes())),
            parent_span_is_remote: span.kind == Kind::Server,
            span_kind: match span.kind {
                Kind::Internal => SpanKind::Internal,
                Kind::Client => SpanKind::Client,
                Kind::Server => SpanKind::Server,
            },
            name: span.name.into(),
            start_time: span.start,
            // The clock may have been set back between start and end.
            end_time: span.end.max(span.start),
            attributes: span.fields.into_iter().map(attribute).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: span.problem.map_or(Status::Ok, Status::error),
            instrumentation_scope: self.scope.clone(),
        });
    }

    /// Sends the spans in the queue, and stops. Blocks.
    pub(crate) fn close(&self) {
        if let Err(error) = self.processor.shutdown_with_timeout(CLOSE_TIMEOUT) {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}

/// An exporter that logs when the collector fails, and when it works again.
#[derive(Debug)]
struct Telling {
    exporter: OtlpExporter,
    endpoint: String,
    is_failing: AtomicBool,
}

impl SpanExporter for Telling {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let result = self.exporter.export(batch).await;
        let was_failing = self.is_failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !was_failing => {
                let endpoint = &self.endpoint;
                tracing::warn!(
                    endpoint,
                    spans = count,
                    "spans are lost: the collector does not take them: {error}"
                );
            }
            Ok(()) if was_failing => {
                tracing::info!(endpoint = self.endpoint, "the collector takes spans again");
            }
            Ok(()) | Err(_) => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
