//! Spans: what a program did for a trace, from when to when.
//!
//! One for a job, a scan, an assignment, a pull: never one for an item, so that their number stays far below that of the
//! files. Where none are wanted, [`Spans`] is empty and costs a branch; the context still travels, so that a program
//! without a collector does not break the trace of one that has it.

use std::sync::Arc;
use std::time::SystemTime;

use orbit_shared::trace_context::TraceContext;

use crate::export::Exporting;

/// Which side of a call a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Neither.
    Internal,
    /// It asks.
    Client,
    /// It answers.
    Server,
}

/// A fact about a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// Words.
    Text(String),
    /// A number; what is above `i64::MAX` is shown as that.
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

/// A span that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedSpan {
    /// What was done; one of few words.
    pub name: &'static str,
    /// Which side of a call it is.
    pub kind: Kind,
    /// Itself.
    pub context: TraceContext,
    /// Identifier of the span that it is part of; `None` for the first one of a trace.
    pub parent: Option<u64>,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// What it was about.
    pub fields: Vec<(&'static str, Field)>,
    /// What went wrong, if something did.
    pub problem: Option<String>,
}

/// Where spans go. Clones are the same place.
#[derive(Debug, Clone, Default)]
pub struct Spans(Option<Arc<Exporting>>);

impl Spans {
    /// Spans that go to a collector.
    pub fn to(exporting: Exporting) -> Self {
        Self(Some(Arc::new(exporting)))
    }

    /// Whether they go anywhere.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Hands over a span whose identifier and times were known elsewhere. Never waits. A trace that whoever began it does
    /// not want recorded is not.
    pub fn record(&self, span: EndedSpan) {
        if let Some(exporting) = self.0.as_ref().filter(|_| span.context.is_sampled()) {
            exporting.record(span);
        }
    }

    /// Begins a span below `parent`; it ends when it is dropped. Without a parent there is no trace, and no span.
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

    /// Sends what has not been sent and stops. Waits for a collector that does not answer for a few seconds at most.
    pub async fn close(&self) {
        let Some(exporting) = self.0.clone() else { return };
        // The exporter waits with a thread, which must not be one that its connection needs.
        let closing = tokio::task::spawn_blocking(move || exporting.close());
        if closing.await.is_err() {
            tracing::warn!("the last spans could not be sent");
        }
    }
}

/// A span that goes on. It ends when it is dropped.
#[derive(Debug)]
pub struct Span(Inner);

#[derive(Debug)]
enum Inner {
    Untraced,
    Passing(TraceContext),
    Recording(Box<(Spans, EndedSpan)>),
}

impl Span {
    /// The parent of what is done within it.
    pub fn context(&self) -> Option<TraceContext> {
        match &self.0 {
            Inner::Untraced => None,
            Inner::Passing(parent) => Some(*parent),
            Inner::Recording(recording) => Some(recording.1.context),
        }
    }

    /// Adds a fact. What it is made of is only looked at when it is wanted.
    pub fn note(&mut self, key: &'static str, field: impl Into<Field>) {
        if let Inner::Recording(recording) = &mut self.0 {
            recording.1.fields.push((key, field.into()));
        }
    }

    /// Says what went wrong.
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
    fn where_no_spans_are_wanted_the_context_still_passes() {
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
