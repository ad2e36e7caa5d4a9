//! One event of the stream: what it is about, where a reader goes on who has seen it, and its bytes, made once for all.

use bytes::Bytes;
use orbit_proto::{json, v1};
use prost::Message;
use serde_json::{Value, json};

/// What a frame is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// A Star as it is now, or that one is gone.
    Stars,
    /// A job as it is now, or that one is gone.
    Jobs,
    /// A bulletin that is new or has changed.
    Bulletins,
    /// A provenance event.
    Provenance,
    /// Counts of everything, and the throughput.
    Summary,
}

impl Topic {
    /// Every topic with its name in a query.
    pub(super) const ALL: [(&'static str, Self); 5] = [
        ("stars", Self::Stars),
        ("jobs", Self::Jobs),
        ("bulletins", Self::Bulletins),
        ("provenance", Self::Provenance),
        ("summary", Self::Summary),
    ];
}

/// How far a reader has come in what has numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cursor {
    /// The last bulletin.
    pub(super) bulletin: u64,
    /// The last event.
    pub(super) event: u64,
}

/// One event of the stream, as it goes over the wire.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// What it is about.
    pub(super) topic: Topic,
    /// All of it.
    pub(super) bytes: Bytes,
}

impl Frame {
    /// A frame; `at` is where a reader goes on who has seen it.
    pub(super) fn new(topic: Topic, event: &str, at: Cursor, data: &Value) -> Self {
        // JSON has no raw line breaks, so it is one line of data.
        let text = format!("id: {}-{}\nevent: {event}\ndata: {data}\n\n", at.bulletin, at.event);
        Self { topic, bytes: text.into() }
    }

    /// A frame that carries a message of this full name.
    pub(super) fn of(topic: Topic, event: &str, at: Cursor, name: &str, message: &impl Message) -> Self {
        Self::new(topic, event, at, &json::of_message(name, message))
    }

    /// A bulletin as it is.
    pub(super) fn bulletin(bulletin: &v1::Bulletin, at: Cursor) -> Self {
        Self::of(Topic::Bulletins, "bulletin", at, "orbit.v1.Bulletin", bulletin)
    }

    /// A provenance event.
    pub(super) fn event(event: &v1::ProvenanceEvent, at: Cursor) -> Self {
        Self::of(Topic::Provenance, "provenance", at, "orbit.v1.ProvenanceEvent", event)
    }

    /// Says that events up to a number were left out; `/api/provenance` has them.
    pub(super) fn gap(after: u64, until: u64, at: Cursor) -> Self {
        let data = json!({ "afterEventId": after.to_string(), "untilEventId": until.to_string() });
        Self::new(Topic::Provenance, "gap", at, &data)
    }
}
