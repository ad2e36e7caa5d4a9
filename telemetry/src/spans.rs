//! Spans: an operation of a program as part of a trace, with start and end.
//!
//! There is one for a job, a scan, an assignment or a pull, never one for an item, so that their number stays far below
//! that of the files. If none are wanted, [`Spans`] is empty and costs one branch. The context is still passed on, so
//! that a program without a collector does not break the trace of one that has it.

use std::sync::Arc;
use std::time::SystemTime;

use orbit_shared::trace_context::TraceContext;

use crate::export::Exporting;

/// The side of a call that a span describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Not a call.
    Internal,
    /// The caller.
    Client,
    /// The server.
    Server,
}

/// An attribute of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// Text.
    Text(String),
    /// A number. Values above `i64::MAX` are shown as that.
    Number(i64),
}

impl From<u64> for Field {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<String> for Field {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Field {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedSpan {
    /// The operation, in a few words from a fixed set.
    pub name: &'static str,
    /// The side of a call.
    pub kind: Kind,
    /// Its trace and its own identifier.
    pub context: TraceContext,
    /// Identifier of the span that it is part of; `None` for the root of a trace.
    pub parent: Option<u64>,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// Its attributes.
    pub fields: Vec<(&'static str, Field)>,
    /// The error, if it failed.
    pub problem: Option<String>,
}

/// The destination of spans. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Spans(Option<Arc<Exporting>>);

impl Spans {
    /// Spans that go to a collector.
    pub fn to(exporting: Exporting) -> Self {
        Self(Some(Arc::new(exporting)))
    }

    /// Whether spans are sent anywhere.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Hands over a span whose identifier and times are given. Never waits. Drops a span of a trace that is not to be
    /// recorded.
    pub fn record(&self, span: EndedSpan) {
        if let Some(exporting) = self.0.as_ref().filter(|_| span.context.is_sampled()) {
            exporting.record(span);
        }
    }

    /// Begins a span below `parent`; it ends when it is dropped. Without a parent there is no trace and no span.
    pub fn begin(&self, name: &'static str, kind: Kind, parent: Option<TraceContext>) -> Span {
        let Some(parent) = parent else { return Span(Inner::Untraced) };
        if !self.is_on() || !parent.is_sampled() {
            return Span(Inner::Passing(parent));
        }
        let span = EndedSpan {
            name,
            kind,
            context: parent.with_span(rand::random()),
            parent: Some(parent.span_id()),
            start: now(),
            end: SystemTime::UNIX_EPOCH,
            fields: Vec::new(),
            problem: None,
        };
        Span(Inner::Recording(Box::new((self.clone(), span))))
    }

    /// Sends the remaining spans and stops. Waits at most a few seconds for a collector that does not answer.
    pub async fn close(&self) {
        let Some(exporting) = self.0.clone() else { return };
        // The exporter blocks a thread, which must not be one that its connection needs.
        let closing = tokio::task::spawn_blocking(move || exporting.close());
        if closing.await.is_err() {
            tracing::warn!("the last spans could not be sent");
        }
    }
}

/// A span that has not ended. It ends when it is dropped.
#[derive(Debug)]
pub struct Span(Inner);

#[derive(Debug)]
enum Inner {
    Untraced,
    Passing(TraceContext),
    Recording(Box<(Spans, EndedSpan)>),
}

impl Span {
    /// The context for operations within it.
    pub fn context(&self) -> Option<TraceContext> {
        match &self.0 {
            Inner::Untraced => None,
            Inner::Passing(parent) => Some(*parent),
            Inner::Recording(recording) => Some(recording.1.context),
        }
    }

    /// Adds an attribute. Its value is computed only if spans are wanted.
    pub fn note(&mut self, key: &'static str, field: impl Into<Field>) {
        if let Inner::Recording(recording) = &mut self.0 {
            recording.1.fields.push((key, field.into()));
        }
    }

    /// Records an error.
    pub fn fail(&mut self, problem: impl Into<String>) {
        if let Inner::Recording(recording) = &mut self.0 {
            recording.1.problem = Some(problem.into());
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Inner::Recording(recording) = std::mem::replace(&mut self.0, Inner::Untraced) {
            let (spans, span) = *recording;
            spans.record(EndedSpan { end: now(), ..span });
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a span is made in a shell, and its times are for people")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_is_passed_on_although_no_spans_are_wanted() {
        let parent = TraceContext::root(b"job");
        let mut span = Spans::default().begin("pull", Kind::Client, Some(parent));
        span.note("star", "a");
        span.fail("it broke");
        assert_eq!(span.context(), Some(parent));
        assert_eq!(Spans::default().begin("pull", Kind::Client, None).context(), None);
    }

    #[test]
    fn a_number_that_is_too_large_is_shown_as_the_largest() {
        assert_eq!(Field::from(u64::MAX), Field::Number(i64::MAX));
    }
}
