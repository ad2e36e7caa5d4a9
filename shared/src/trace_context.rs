//! The W3C trace context: the trace that an operation belongs to, and the parent span of the next operation.
//!
//! It is data, so cores can carry it: every identifier here is derived from others by BLAKE3, none is random. So a job
//! has the same trace before and after a restart, and the contexts of its assignments can be derived from that of the
//! job. Spans themselves, which need clocks, are made in the drivers (`orbit-telemetry`).

use std::fmt;

use serde::{Deserialize, Serialize};

/// The header, in gRPC's metadata and in HTTP, that carries a trace context.
pub const TRACEPARENT: &str = "traceparent";

/// Length in bytes of the text form of version 00, the only one that is written.
const TEXT_BYTES: usize = 55;

/// A span of a trace, in the form that its children get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TraceContext {
    // Bytes, because a number of this size would align every message that carries a context to 16.
    trace_id: [u8; 16],
    span_id: u64,
    is_sampled: bool,
}

/// The text is not a trace context.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no W3C traceparent, such as 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
pub struct TraceContextError {
    text: String,
}

impl TraceContext {
    /// A context of these parts; `None` if one of the identifiers is zero, which means none.
    pub fn new(trace_id: u128, span_id: u64, is_sampled: bool) -> Option<Self> {
        let is_valid = trace_id != 0 && span_id != 0;
        is_valid.then_some(Self { trace_id: trace_id.to_be_bytes(), span_id, is_sampled })
    }

    /// The root span of a new trace, whose identifiers are derived from a unique name.
    pub fn root(name: &[u8]) -> Self {
        let hash = hash(&[b"orbit trace", name]);
        let (trace, rest) = hash.split_at(16);
        let trace_id = u128::from_be_bytes(trace.try_into().expect("16 bytes were split off"));
        Self { trace_id: trace_id.max(1).to_be_bytes(), span_id: first_id(rest), is_sampled: true }
    }

    /// The child span that is the `number`-th of its kind.
    #[must_use]
    pub fn child(self, kind: &str, number: u64) -> Self {
        let span = self.span_id.to_be_bytes();
        let hash = hash(&[b"orbit span", &self.trace_id, &span, &number.to_be_bytes(), kind.as_bytes()]);
        Self { span_id: first_id(&hash), ..self }
    }

    /// The same trace with the span of this identifier; this span if it is zero.
    #[must_use]
    pub fn with_span(self, span_id: u64) -> Self {
        if span_id == 0 { self } else { Self { span_id, ..self } }
    }

    /// The trace; not zero.
    pub fn trace_id(self) -> u128 {
        u128::from_be_bytes(self.trace_id)
    }

    /// The span; not zero.
    pub fn span_id(self) -> u64 {
        self.span_id
    }

    /// Whether the trace is to be recorded.
    pub fn is_sampled(self) -> bool {
        self.is_sampled
    }

    /// Reads a `traceparent`. Further parts of later versions are ignored, as the recommendation says.
    ///
    /// # Errors
    /// The text is not one. A receiver continues without a context then.
    pub fn parse(text: &str) -> Result<Self, TraceContextError> {
        let wrong = || TraceContextError { text: text.chars().take(2 * TEXT_BYTES).collect() };
        let mut parts = text.splitn(5, '-');
        let mut part = |digits: usize| {
            let is_hex = |part: &&str| {
                part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            };
            parts.next().filter(is_hex).and_then(|part| u128::from_str_radix(part, 16).ok()).ok_or_else(wrong)
        };
        let (version, trace_id, span_id, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        if version == 0xff || (version == 0 && text.len() != TEXT_BYTES) {
            return Err(wrong());
        }
        let span_id = u64::try_from(span_id).map_err(|_| wrong())?;
        Self::new(trace_id, span_id, flags & 1 == 1).ok_or_else(wrong)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id(), self.span_id, u8::from(self.is_sampled))
    }
}

impl From<TraceContext> for String {
    fn from(context: TraceContext) -> Self {
        context.to_string()
    }
}

impl TryFrom<String> for TraceContext {
    type Error = TraceContextError;

    fn try_from(text: String) -> Result<Self, TraceContextError> {
        Self::parse(&text)
    }
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// The first eight bytes as an identifier.
fn first_id(bytes: &[u8]) -> u64 {
    let first = bytes.first_chunk().expect("a hash is longer than an identifier");
    u64::from_be_bytes(*first).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_example_of_the_recommendation_is_read() {
        let context = TraceContext::parse(EXAMPLE).unwrap();
        assert_eq!(context.trace_id(), 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!(context.span_id(), 0xb7ad_6b71_6920_3331);
        assert!(context.is_sampled());
        assert_eq!(context.to_string(), EXAMPLE);
    }

    #[test]
    fn a_later_version_can_have_more_parts_and_the_current_one_cannot() {
        let later = EXAMPLE.replacen("00", "01", 1);
        let expected = TraceContext::parse(EXAMPLE);
        assert_eq!(TraceContext::parse(&later), expected);
        assert_eq!(TraceContext::parse(&format!("{later}-what-else")), expected);
        assert!(TraceContext::parse(&format!("{EXAMPLE}-what-else")).is_err());
        assert!(TraceContext::parse(&EXAMPLE.replacen("00", "ff", 1)).is_err());
    }

    #[test]
    fn a_text_that_is_no_context_is_refused() {
        let zero_trace = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let zero_span = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01";
        let short = &EXAMPLE[..54];
        let upper = EXAMPLE.to_uppercase();
        let signed = EXAMPLE.replacen("-0af", "-+af", 1);
        for bad in ["", "00", "---", zero_trace, zero_span, short, &upper, &signed] {
            assert!(TraceContext::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_same_name_is_the_same_trace_and_another_is_another() {
        let (one, other) = (TraceContext::root(b"job 1"), TraceContext::root(b"job 2"));
        assert_eq!(one, TraceContext::root(b"job 1"));
        assert_ne!(one.trace_id(), other.trace_id());
        let children = [one.child("assignment", 1), one.child("assignment", 2), one.child("scan", 1)];
        for (index, child) in children.iter().enumerate() {
            assert_eq!(child.trace_id(), one.trace_id());
            assert_ne!(child.span_id(), one.span_id());
            assert!(children[index + 1..].iter().all(|sibling| sibling.span_id() != child.span_id()));
        }
    }

    proptest! {
        #[test]
        fn a_context_comes_back_from_its_text(trace in 1_u128.., span in 1_u64.., is_sampled: bool) {
            let context = TraceContext::new(trace, span, is_sampled).unwrap();
            prop_assert_eq!(TraceContext::parse(&context.to_string()), Ok(context));
            prop_assert_eq!(TraceContext::try_from(String::from(context)), Ok(context));
        }

        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,80}") {
            let _ = TraceContext::parse(&text);
        }
    }
}
